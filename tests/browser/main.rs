//! The console as a person meets it: a real browser, a real host, real games.

mod login;
