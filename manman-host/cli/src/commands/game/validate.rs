//! `manman game validate`: definitions against all that a host would refuse, before it does.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use manman_common::GameId;
use manman_host::games::{Fault, LeftOut, definition_files, read_definition};
use serde::Serialize;

use crate::commands::App;
use crate::failure::Failure;
use crate::output;
use crate::style::printable;

/// One problem, as programs read it.
#[derive(Serialize)]
struct Problem {
    file: String,
    line: u64,
    column: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    field: Option<String>,
    why: String,
    /// The line with a caret below the place.
    #[serde(skip)]
    picture: String,
}

impl Problem {
    fn of_file(file: &Path, why: String) -> Self {
        Self { file: file.display().to_string(), line: 1, column: 1, field: None, why, picture: String::new() }
    }

    fn of_fault(file: String, fault: Fault) -> Self {
        let picture = fault.picture();
        let Fault { field, why, line, column, excerpt: _ } = fault;
        Self { file, line, column, field, why, picture }
    }

    fn text(&self) -> String {
        let field = self.field.as_ref().map(|field| format!("`{field}`: ")).unwrap_or_default();
        printable(&format!("{}:{}:{}: {field}{}\n{}", self.file, self.line, self.column, self.why, self.picture)).into_owned()
    }
}

pub(super) fn run(app: &App, paths: &[PathBuf]) -> Result<(), Failure> {
    let mut files = Vec::new();
    for path in paths {
        if path.is_dir() {
            let found = definition_files(path)
                .map_err(|error| Failure::new(format!("could not read the folder `{}`", path.display())).because(&error))?;
            if found.is_empty() {
                return Err(Failure::new(format!("there is no definition in `{}`", path.display())).hint("they end in .yaml"));
            }
            files.extend(found);
        } else {
            files.push(path.clone());
        }
    }
    files.dedup();
    let (problems, bad) = problems(&files);
    if app.output.json {
        app.output.object(&problems)?;
    } else {
        output::text(&problems.iter().map(Problem::text).collect::<Vec<_>>().join("\n"))?;
    }
    let all = files.len();
    match bad {
        0 if app.output.json => Ok(()),
        0 => output::text(&format!("{all} definition{} sound\n", if all == 1 { " is" } else { "s are" })),
        bad => Err(Failure::new(format!("{bad} of {all} definition{} not valid", if all == 1 { " is" } else { "s are" }))),
    }
}

/// What is wrong with the files, and how many of them are bad.
fn problems(files: &[PathBuf]) -> (Vec<Problem>, usize) {
    let mut problems = Vec::new();
    let mut games: BTreeMap<GameId, &Path> = BTreeMap::new();
    let mut bad = 0;
    for file in files {
        let before = problems.len();
        match read_definition(file) {
            Ok(definition) => {
                if let Some(other) = games.insert(definition.game.clone(), file) {
                    problems.push(Problem::of_file(file, format!("`{}` is defined in {} already", definition.game, other.display())));
                }
            }
            Err(LeftOut::Faulty { file, faults }) => {
                problems.extend(faults.0.into_iter().map(|fault| Problem::of_fault(file.clone(), fault)));
            }
            Err(LeftOut::Read(_, error)) => problems.push(Problem::of_file(file, format!("it can not be read: {error}"))),
            Err(why @ (LeftOut::Size(_) | LeftOut::Twice { .. })) => problems.push(Problem::of_file(file, why.to_string())),
        }
        bad += usize::from(problems.len() > before);
    }
    (problems, bad)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_problem_has_file_line_and_column() {
        let folder = tempfile::tempdir().expect("a folder");
        let write = |name: &str, text: &str| {
            let path = folder.path().join(name);
            std::fs::write(&path, text).expect("written");
            path
        };
        let good = write("a.yaml", "game: docker:a\nname: A\n");
        let same = write("b.yaml", "game: docker:a\nname: B\n");
        let bad = write(
            "c.yaml",
            "game: docker:c\nname: C\nports:\n  a: {protocol: udp, default: 1}\n  b: {protocol: udp, default: 1}\nurl: \"{{X}}\"\n",
        );
        let gone = folder.path().join("gone.yaml");
        assert!(problems(std::slice::from_ref(&good)).0.is_empty());
        let (found, files) = problems(&[good, same, bad.clone(), gone]);
        assert_eq!(files, 3);
        let said: Vec<String> = found.iter().map(Problem::text).collect();
        assert!(said[0].contains("b.yaml:1:1: `docker:a` is defined in"), "{}", said[0]);
        assert_eq!(
            said[1],
            format!(
                "{}:5:31: `ports.b.default`: 1 is the port `a` already\n  |\n5 |   b: {{protocol: udp, default: 1}}\n  |                               ^\n",
                bad.display()
            )
        );
        assert!(said[2].contains("c.yaml:6:6: `url`"), "{}", said[2]);
        assert!(said[3].contains("gone.yaml:1:1: it can not be read"), "{}", said[3]);
    }
}
