//! State from yesterday, copies, moves and leases (rows 11–13, 19, 20).
