pub mod clock;
pub mod driver;
pub mod reconcile;
