#![no_main]
use libfuzzer_sys::fuzz_target;
use manman_common::logs::{LogRecord, records};

fuzz_target!(|chunk: &[u8]| {
    let found: Vec<LogRecord<'_>> = records(chunk).collect();
    assert!(found.len() <= chunk.split(|byte| *byte == b'\n').count());
    let mut written = Vec::new();
    for record in &found {
        record.write_to(&mut written);
        let line = record.to_line();
        let json = serde_json::to_string(&line).expect("it is written");
        assert_eq!(serde_json::from_str::<manman_common::logs::LogLine>(&json).expect("and read"), line);
    }
    assert_eq!(records(&written).collect::<Vec<_>>(), found, "a record survives its bytes");
});
