pub mod clock;
pub mod driver;
