//! The console as a person meets it: a real browser, a real host, real games.

mod floods;
mod host_away;
mod hostile;
mod newcomer;
mod pages;
mod sign_in;
