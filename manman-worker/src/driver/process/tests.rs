//! Real processes behind real shims; only Steam is not asked: its word that the game is there is laid
//! beside the game.

mod adopted;
mod fence;
mod game;
mod life;
mod limits;
mod orphaned;
