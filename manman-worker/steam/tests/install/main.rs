//! Installs by the stand-in for SteamCMD (tests/stand-in/steamcmd): what a person would see of them.

mod bring;
mod disk;
mod fail;
mod login;
mod rig;
mod tool;
mod update;
