#![no_main]
use libfuzzer_sys::fuzz_target;
use manman_fuzz::stage::file::File;

fuzz_target!(|text: &str| {
    match File::parse(text) {
        Ok(file) => assert!(file.paths.len() <= text.len()),
        Err(error) => assert!(!error.to_string().is_empty(), "somebody has to understand what is wrong"),
    }
});
