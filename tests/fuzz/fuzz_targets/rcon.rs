#![no_main]
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: (u16, &[u8])| manman_fuzz::rcon::reply(usize::from(data.0), data.1));
