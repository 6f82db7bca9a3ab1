//! Stories: the whole product with real parts, one file a story.

mod bad_input;
mod curl;
mod first_server;
mod frozen_worker;
mod host_away;
mod killed;
mod lists;
mod rivals;
mod second_machine;
