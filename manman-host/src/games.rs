//! The catalogue of games.

/// The definitions that are known, by game id.
#[derive(Clone, Debug, Default)]
pub struct Catalogue {}
