//! Values and definitions that mean harm.

use std::collections::BTreeMap;

use manman_common::spec::FileValue;
use proptest::prelude::*;

use super::super::{Catalogue, Definition};
use crate::domain::variables::check;

use super::{catalogue, request, run, with_needed};

/// All text that a worker gets from a person's values.
fn texts(run: &manman_common::RunSpec) -> Vec<String> {
    let values = run.files.iter().flat_map(|file| file.set.iter()).filter_map(|entry| match &entry.value {
        FileValue::Text(text) => Some(text.clone()),
        FileValue::Truth(_) | FileValue::Integer(_) => None,
    });
    let paths = run.files.iter().map(|file| file.path.clone());
    run.argv.iter().cloned().chain(run.env.values().cloned()).chain(values).chain(paths).collect()
}

const HOSTILE: [&str; 12] = [
    "{{config.token}}",
    "{{RCON_PASSWORD}}",
    "{{ports.game}}{{",
    "a\nb",
    "a\rb",
    "a\0b",
    "\u{1b}[2J",
    "\"; quit; \"",
    "' || reboot",
    "$(reboot)`reboot`",
    "../../../etc/passwd",
    "-dev +exec evil",
];

/// A value with a line break, a zero byte or another control character is refused everywhere. Any
/// other is refused by the variable's own rules, or stands literally where the game takes it: braces
/// are filled in once, in the definition's text, and never in a value. Quotes and the like are the
/// file format's to write down.
#[test]
fn a_hostile_value_is_refused_or_stands_as_it_is() {
    let catalogue = catalogue();
    let mut taken = 0;
    for definition in catalogue.iter() {
        let sound = with_needed(request(&definition.game.to_string()), definition);
        for (name, spec) in &definition.variables {
            for value in HOSTILE {
                let at = format!("{} {name}={value:?}", definition.short);
                if let Err(why) = check(spec, value) {
                    assert!(!spec.secret || !why.contains(value), "{at}: {why}");
                    continue;
                }
                let mut wish = sound.clone();
                wish.variables.insert(name.clone(), value.to_owned());
                match run(&catalogue, &wish) {
                    Err(problem) => {
                        let field = problem.field.unwrap_or_default();
                        assert!(field == format!("variables.{name}") || field == "variables", "{at}: {field}");
                    }
                    Ok(run) => {
                        assert!(!value.chars().any(char::is_control), "{at}");
                        let braces = texts(&run).into_iter().filter(|text| text.contains("{{"));
                        assert!(braces.into_iter().all(|text| text.contains(value)), "{at}");
                        assert!(run.files.iter().all(|file| !file.path.contains("..")), "{at}");
                        taken += 1;
                    }
                }
            }
        }
    }
    // Free texts take some of them, else this test looked at nothing.
    assert!(taken > 100, "{taken}");
}

#[test]
fn free_text_is_literal() {
    let text = "game: steamcmd:4\nname: A\nsteam: {login: anonymous}\nvariables:\n  A: {label: A}\n  B: {label: B, default: \"{{A}}\"}\n\
                start: {argv: [./a, \"{{A}}\", \"x{{B}}\"], expect: [a]}\nfiles:\n  - {path: \"{{A}}/f\", format: line, set: {k: \"k {{B}}\"}}\n";
    let definition = Definition::parse(text).unwrap_or_else(|faults| panic!("{faults}"));
    let resolve = |value: &str| {
        let mut wish = request("steamcmd:4");
        wish.variables.insert("A".to_owned(), value.to_owned());
        let place =
            super::Place { id: manman_common::ServerId::from_uuid(uuid::Uuid::nil()), name: &"oa".parse().expect("a name"), ip: "::1" };
        super::resolve_run(Some(&definition), &wish, place, Vec::new())
    };
    let run = resolve("{{config.token}}").expect("resolves");
    assert_eq!(run.argv, ["./a", "{{config.token}}", "x{{config.token}}"]);
    assert_eq!(run.files[0].path, "{{config.token}}/f");
    for out in ["..", "/etc", "a/../.."] {
        assert_eq!(resolve(out).expect_err("out of the directory").field.as_deref(), Some("variables"), "{out}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    /// Whatever the values are, resolving ends with a spec or a problem.
    #[test]
    fn any_value_ends_well(game in any::<prop::sample::Index>(), values in proptest::collection::vec(".{0,40}|[{}a-zA-Z.]{0,30}|[0-9]{1,6}", 24)) {
        thread_local! { static CATALOGUE: Catalogue = catalogue(); }
        CATALOGUE.with(|catalogue| {
            let games: Vec<&Definition> = catalogue.iter().collect();
            let definition = game.get(&games);
            let mut wish = request(&definition.game.to_string());
            wish.variables = definition.variables.keys().cloned().zip(values).collect::<BTreeMap<_, _>>();
            let problem = run(catalogue, &wish).err();
            prop_assert!(problem.is_none_or(|problem| problem.field.is_some()));
            Ok(())
        })?;
    }

    /// A file with a line lost, doubled, or a piece replaced is a definition or has faults with a place.
    #[test]
    fn any_file_ends_well(
        file in any::<prop::sample::Index>(),
        cuts in proptest::collection::vec((any::<prop::sample::Index>(), 0usize..12, "[-{}\\[\\]:,\"'#&*!|>%@ \n\ta-z0-9.]{0,6}"), 1..6),
    ) {
        thread_local! { static FILES: Vec<(String, String)> = Catalogue::embedded().collect(); }
        let mut text: Vec<char> = FILES.with(|files| file.get(files).1.chars().collect());
        for (at, length, instead) in cuts {
            if text.is_empty() { break }
            let from = at.index(text.len());
            let to = (from + length).min(text.len());
            text.splice(from..to, instead.chars());
        }
        let text: String = text.into_iter().collect();
        if let Err(faults) = Definition::parse(&text) {
            prop_assert!(!faults.0.is_empty());
            for fault in faults.0 {
                prop_assert!(fault.line >= 1 && fault.column >= 1);
                let _ = fault.picture();
            }
        }
    }
}
