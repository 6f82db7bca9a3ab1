//! Stories: the whole product with real parts, one file a story.

mod actions;
mod bad_input;
mod console_rcon;
mod curl;
mod first_server;
mod front_door;
mod frozen_worker;
mod games_argv;
mod hardening;
mod host_away;
mod killed;
mod lists;
mod metrics_and_history;
mod process_life;
mod registry;
mod rivals;
mod second_machine;
mod stage_alone;
mod steamcmd_install;
mod zero_config;
