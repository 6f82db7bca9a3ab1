//! The host and its database: away, restarted, slow (rows 7–10, 17, 18, 22).
