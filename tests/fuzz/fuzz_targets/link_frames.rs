#![no_main]
use libfuzzer_sys::fuzz_target;
use manman_common::link::{PollRequest, ToHost, ToWorker, decode_log_chunk, encode_log_chunk, spec_hash};
use manman_common::wire::{Beat, RegisterWorker};
use serde_json::Value;

fn round(text: &str) {
    if let Ok(frame) = serde_json::from_str::<ToHost>(text) {
        let written = serde_json::to_string(&frame).expect("it is written");
        assert_eq!(serde_json::from_str::<ToHost>(&written).expect("and read"), frame);
    }
    if let Ok(frame) = serde_json::from_str::<ToWorker>(text) {
        let written = serde_json::to_string(&frame).expect("it is written");
        assert_eq!(serde_json::from_str::<ToWorker>(&written).expect("and read"), frame);
        if let ToWorker::Specs { specs, .. } = frame {
            for spec in specs {
                let json = serde_json::to_string(&spec).expect("it is written");
                let again = serde_json::from_str(&json).expect("and read");
                assert_eq!(spec_hash(&spec), spec_hash(&again), "a hash is the same on both ends");
            }
        }
    }
    let _ = serde_json::from_str::<PollRequest>(text);
    let _ = serde_json::from_str::<Beat>(text);
    let _ = serde_json::from_str::<RegisterWorker>(text);
}

/// Numbers with a fraction may come back as their neighbour.
fn has_fractions(value: &Value) -> bool {
    match value {
        Value::Number(number) => number.is_f64(),
        Value::Array(all) => all.iter().any(has_fractions),
        Value::Object(all) => all.values().any(has_fractions),
        Value::Null | Value::Bool(_) | Value::String(_) => false,
    }
}

fuzz_target!(|data: &[u8]| {
    match decode_log_chunk(data) {
        Some((stream, chunk)) => assert_eq!(encode_log_chunk(stream, chunk), data),
        None => assert!(data.len() < 8),
    }
    let Ok(text) = std::str::from_utf8(data) else { return };
    if serde_json::from_str::<Value>(text).is_ok_and(|value| !has_fractions(&value)) {
        round(text);
    }
});
