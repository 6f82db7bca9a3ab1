#![no_main]
use libfuzzer_sys::fuzz_target;

fuzz_target!(|archive: &[u8]| {
    if let Ok(head) = manman_backup::verify_bytes(archive) {
        assert!(!archive.is_empty(), "{head:?}");
    }
});
