#![no_main]
use libfuzzer_sys::fuzz_target;
use manman_fuzz::games::Definition;

fuzz_target!(|text: &str| {
    match Definition::parse(text) {
        Ok(definition) => {
            assert_eq!(definition.game.to_string().parse().as_ref(), Ok(&definition.game));
        }
        Err(faults) => {
            assert!(!faults.to_string().is_empty(), "somebody has to understand what is wrong");
        }
    }
});
