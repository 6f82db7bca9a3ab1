//! Where a test lets this process be killed; see [`manman_common::failpoint`].

pub use manman_common::failpoint::reach;
