//! What each game is started with, word for word, against what is known of the game itself.
//!
//! The right side is written down from two public lists of how people start these servers, not from
//! our definitions: LinuxGSM's `_default.cfg` of the short name in brackets (commit 80350f3), and the
//! AMPTemplates of CubeCoders of the name in brackets (commit 04a8fa8). Where both start a script,
//! the words are those that the script hands to the program.

use super::super::Catalogue;
use super::{catalogue, request, run, with_needed};

struct Golden {
    short: &'static str,
    set: &'static [(&'static str, &'static str)],
    /// Arguments divided by `|`.
    argv: &'static str,
}

const GOLDEN: [Golden; 18] = [
    // LinuxGSM [vh]: -name, -password, -port, -world, -public, -savedir, -saveinterval; AMP [valheim]: -nographics -batchmode.
    Golden {
        short: "valheim",
        set: &[("SERVER_NAME", "My little world; +quit"), ("PASSWORD", "hunter22"), ("WORLD", "Midgard")],
        argv: "./valheim_server.x86_64|-nographics|-batchmode|-name|My little world; +quit|-port|2456|-world|Midgard|-password|hunter22|-savedir|./saves|-public|1|-saveinterval|1800",
    },
    // LinuxGSM [rust]; every option is `+group.name value`.
    Golden {
        short: "rust",
        set: &[("SERVER_NAME", "Naked; and +afraid"), ("SEED", "7"), ("RCON_PASSWORD", "secret12")],
        argv: "./RustDedicated|-batchmode|-nographics|+server.ip|0.0.0.0|+server.port|28015|+server.queryport|28017|+server.identity|main|+server.hostname|Naked; and +afraid|+server.description|A Rust server|+server.level|Procedural Map|+server.seed|7|+server.worldsize|3000|+server.maxplayers|50|+server.saveinterval|300|+rcon.web|1|+rcon.ip|0.0.0.0|+rcon.port|28016|+rcon.password|secret12|+app.port|28082",
    },
    // LinuxGSM [gmod] by srcds_run, AMP [garrys-mod] by srcds_linux itself: -console -usercon -nobreakpad.
    Golden {
        short: "garrysmod",
        set: &[("GAME_MODE", "terrortown"), ("MAP", "ttt_rooftops")],
        argv: "./srcds_linux|-game|garrysmod|-console|-usercon|-nobreakpad|-strictportbind|-ip|0.0.0.0|-port|27015|+clientport|27005|+tv_port|27020|-maxplayers|16|+gamemode|terrortown|+host_workshop_collection|0|-disableluarefresh|+servercfgfile|server.cfg|+map|ttt_rooftops|+sv_setsteamaccount|",
    },
    // LinuxGSM [tf2]; AMP [team-fortress2-64] starts srcds_linux64.
    Golden {
        short: "tf2",
        set: &[("MAX_PLAYERS", "32")],
        argv: "./srcds_linux64|-game|tf|-console|-usercon|-nobreakpad|-strictportbind|-ip|0.0.0.0|-port|27015|+clientport|27005|+tv_port|27020|-maxplayers|32|+servercfgfile|server.cfg|+map|cp_badlands|+sv_setsteamaccount|",
    },
    // LinuxGSM [css]; AMP [counter-strike-source].
    Golden {
        short: "counter-strike-source",
        set: &[("MAP", "de_dust2")],
        argv: "./srcds_linux|-game|cstrike|-console|-usercon|-nobreakpad|-strictportbind|-ip|0.0.0.0|-port|27015|+clientport|27005|+tv_port|27020|-maxplayers|16|+servercfgfile|server.cfg|+map|de_dust2|+sv_setsteamaccount|",
    },
    // LinuxGSM [l4d2], which has no +tv_port; AMP [left-4-dead2].
    Golden {
        short: "left-4-dead-2",
        set: &[],
        argv: "./srcds_linux|-game|left4dead2|-console|-usercon|-nobreakpad|-strictportbind|-ip|0.0.0.0|-port|27015|+clientport|27005|-maxplayers|8|+servercfgfile|server.cfg|+map|c5m1_waterfront",
    },
    // LinuxGSM [hldm] by hlds_run, AMP [half-life] by hlds_linux: `+ip`, but `-port` and `-maxplayers`.
    Golden {
        short: "half-life",
        set: &[("MAP", "crossfire"), ("MAX_PLAYERS", "12")],
        argv: "./hlds_linux|-console|-nobreakpad|-game|valve|-strictportbind|+ip|0.0.0.0|-port|27015|-maxplayers|12|+map|crossfire",
    },
    // LinuxGSM [sven], AMP [sven-co-op] by svends_i686: here `+maxplayers`.
    Golden {
        short: "sven-coop",
        set: &[("MAP", "svencoop1"), ("MAX_PLAYERS", "8")],
        argv: "./svends_i686|-console|-nobreakpad|-game|svencoop|-strictportbind|+ip|0.0.0.0|-port|27015|+maxplayers|8|+map|svencoop1",
    },
    // AMP [counter-strike2]: the program below game/bin, without cs2.sh; LinuxGSM [cs2] for +exec.
    Golden {
        short: "counter-strike-2",
        set: &[("GAME_MODE", "1"), ("MAX_PLAYERS", "10")],
        argv: "./game/bin/linuxsteamrt64/cs2|-dedicated|-usercon|-nobreakpad|-ip|0.0.0.0|-port|27015|-maxplayers|10|+tv_port|27020|+game_type|0|+game_mode|1|+exec|server.cfg|+map|de_dust2|+sv_setsteamaccount|",
    },
    // LinuxGSM [ark], AMP [ark-se]: the map's options are one argument, divided by question marks.
    Golden {
        short: "ark-survival-evolved",
        set: &[("ADMIN_PASSWORD", "secret12")],
        argv: "./ShooterGame/Binaries/Linux/ShooterGameServer|TheIsland?listen?MaxPlayers=20?Port=7777?QueryPort=27015?RCONEnabled=True?RCONPort=27020|-server|-log",
    },
    // LinuxGSM [sdtd]: -quit -batchmode -nographics -dedicated -configfile=….
    Golden {
        short: "seven-days-to-die",
        set: &[],
        argv: "./7DaysToDieServer.x86_64|-logfile|-|-quit|-batchmode|-nographics|-dedicated|-configfile=serverconfig.xml|-UserDataFolder=./userdata",
    },
    // LinuxGSM [pw] for the switches, AMP [palworld] for -players; PalServer.sh hands over `Pal` first.
    Golden {
        short: "palworld",
        set: &[],
        argv: "./Pal/Binaries/Linux/PalServer-Linux-Shipping|Pal|-port=8211|-queryport=27015|-players=16|-useperfthreads|-NoAsyncLoadingThread|-UseMultithreadForDS",
    },
    // LinuxGSM [sf], AMP [satisfactory] for -unattended and the output.
    Golden {
        short: "satisfactory",
        set: &[],
        argv: "./Engine/Binaries/Linux/FactoryServer-Linux-Shipping|FactoryGame|-Port=7777|-ReliablePort=8888|-unattended|-stdout|-FullStdOutLogOutput",
    },
    // LinuxGSM [armar].
    Golden {
        short: "arma-reforger",
        set: &[("MAX_FPS", "90")],
        argv: "./ArmaReforgerServer|-config|./config.json|-profile|./profile|-maxFPS|90|-noThrow",
    },
    // LinuxGSM [mh]: the first word after the program is Mordhau, then the map; AMP [mordhau] for -RconPort.
    Golden {
        short: "mordhau",
        set: &[],
        argv: "./Mordhau/Binaries/Linux/MordhauServer-Linux-Shipping|Mordhau|FFA_ThePit|-Port=7777|-QueryPort=27015|-BeaconPort=15000|-RconPort=7778|-log",
    },
    // LinuxGSM [kf2], AMP [killing-floor-2]: a Linux program below a folder named Win64.
    Golden {
        short: "killing-floor-2",
        set: &[],
        argv: "./Binaries/Win64/KFGameSteamServer.bin.x86_64|KF-BioticsLab?Game=KFGameContent.KFGameInfo_Survival?Difficulty=0?MaxPlayers=6|-Port=7777|-QueryPort=27015|-WebAdminPort=8080",
    },
    // LinuxGSM [dst]: -persistent_storage_root, -conf_dir, -cluster, -shard; the 64 bit program of bin64.
    Golden {
        short: "dont-starve-together",
        set: &[],
        argv: "./dontstarve_dedicated_server_nullrenderer_x64|-persistent_storage_root|../saves|-conf_dir|dst|-cluster|main|-shard|Master",
    },
    // AMP [avorion]: each port by an option of its own; LinuxGSM [av] for --galaxy-name and --datapath.
    Golden {
        short: "avorion",
        set: &[("SERVER_NAME", "Rim"), ("DIFFICULTY", "-1"), ("PUBLIC", "on")],
        argv: "./bin/AvorionServer|--galaxy-name|main|--datapath|./galaxies|--server-name|Rim|--seed|manman|--difficulty|-1|--max-players|10|--public|true|--admin|0|--port|27000|--query-port|27003|--steam-query-port|27020|--steam-master-port|27021",
    },
];

#[test]
fn each_game_starts_as_it_is_documented() {
    let catalogue = catalogue();
    let mut wrong = String::new();
    for golden in GOLDEN {
        let definition = by_short(&catalogue, golden.short);
        let mut wish = request(&definition.game.to_string());
        wish.variables = golden.set.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        match run(&catalogue, &with_needed(wish, definition)) {
            Ok(run) => {
                let argv = run.argv.join("|");
                if argv != golden.argv {
                    wrong += &format!("{}:\n  is {argv}\n  not {}\n", golden.short, golden.argv);
                }
            }
            Err(problem) => wrong += &format!("{}: {problem}\n", golden.short),
        }
    }
    assert!(wrong.is_empty(), "\n{wrong}");
}

fn by_short<'a>(catalogue: &'a Catalogue, short: &str) -> &'a super::super::Definition {
    catalogue.iter().find(|game| game.short == short).unwrap_or_else(|| panic!("there is no `{short}`"))
}
