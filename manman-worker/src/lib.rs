pub mod clock;
pub mod driver;
pub mod reconcile;
pub mod config;
pub mod identity;
pub mod machine;
pub mod store;
