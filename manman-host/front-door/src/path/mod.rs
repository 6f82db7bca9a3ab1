//! Paths as they are routed: normalised once, and what is internal stays inside.
