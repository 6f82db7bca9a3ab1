#![no_main]
use libfuzzer_sys::fuzz_target;
use manman_common::GameId;

fuzz_target!(|text: &str| {
    let Ok(id) = text.parse::<GameId>() else { return };
    let written = id.to_string();
    assert!(!written.contains(|c: char| c.is_control() || c.is_whitespace()), "{written:?}");
    assert_eq!(written.parse::<GameId>().as_ref(), Ok(&id), "{written:?}");
    let json = serde_json::to_string(&id).expect("it is written");
    assert_eq!(serde_json::from_str::<GameId>(&json).expect("and read"), id);
});
