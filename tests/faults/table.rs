//! What the scenarios left in `target/faults` as one table, `target/faults.md`.

use std::fmt::Write as _;

use manman_e2e::faults::Told;
use manman_e2e::{Context, Result, target};

fn main() -> Result<()> {
    let folder = target().join("faults");
    let mut told = Vec::new();
    for entry in std::fs::read_dir(&folder).with_context(|| format!("read {}", folder.display()))? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "json") {
            let text = std::fs::read_to_string(&path)?;
            told.push(serde_json::from_str::<Told>(&text).with_context(|| format!("read {}", path.display()))?);
        }
    }
    told.sort_by(|a, b| (a.row, &a.name).cmp(&(b.row, &b.name)));
    let held = told.iter().filter(|told| told.outcome == "held").count();
    let seconds: f64 = told.iter().map(|told| told.seconds).sum();
    let mut page = format!("# Faults\n\n{held} of {} held, {seconds:.0} s in all.\n\n", told.len());
    page.push_str("| scenario | what was done | what was seen | outcome |\n|---|---|---|---|\n");
    for told in &told {
        let cell = |text: &str| text.replace('|', "\\|").replace('\n', " ");
        let row = if told.row == 0 { String::new() } else { format!("{} · ", told.row) };
        writeln!(
            page,
            "| {row}{} | {} | {} | {} ({:.0} s) |",
            told.name,
            cell(&told.done),
            told.seen.iter().map(|seen| cell(seen)).collect::<Vec<_>>().join("; "),
            cell(&told.outcome),
            told.seconds
        )?;
    }
    std::fs::write(target().join("faults.md"), &page)?;
    eprintln!("target/faults.md: {held} of {} held", told.len());
    Ok(())
}
