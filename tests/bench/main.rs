//! Figures, each beside something real that was measured in the same run.
//!
//! `tests/bench/run` builds the release programs and prints the table; nothing here asserts a time.

mod commands;
mod console;
mod feed;
mod front_door;
mod idle;
mod lines;
mod process;
mod reconcile;
mod registry;
mod stage;
mod stats;
mod throughput;

use manman_e2e::{Home, Result, setup};

#[expect(clippy::print_stdout, reason = "the table is what this program is for")]
/// One row: what was measured, on what, beside what.
pub(crate) fn row(what: &str, figure: &str, beside: &str) {
    println!("{what:<52} {figure:<44} {beside}");
}

fn main() -> Result<()> {
    setup();
    let only: Vec<String> = std::env::args().skip(1).collect();
    let wanted = |name: &str| only.is_empty() || only.iter().any(|filter| name.contains(filter.as_str()));
    row("WHAT", "FIGURE", "BESIDE");
    if wanted("reconcile") {
        reconcile::measure();
    }
    if wanted("registry") {
        registry::renew();
    }
    if wanted("stage") {
        stage::measure()?;
    }
    tokio::runtime::Builder::new_multi_thread().enable_all().build()?.block_on(async {
        if wanted("idle") {
            idle::measure().await?;
        }
        if wanted("front_door") {
            front_door::measure().await?;
        }
        if wanted("registry") {
            registry::weigh().await?;
        }
        if wanted("feed") {
            feed::measure().await?;
        }
        if wanted("console") {
            console::measure().await?;
        }
        if wanted("process") {
            process::measure().await?;
        }
        if ["lines", "commands", "throughput"].iter().any(|name| wanted(name)) {
            let home = Home::up().await?;
            if wanted("lines") {
                lines::measure(&home).await?;
            }
            if wanted("commands") {
                commands::measure(&home).await?;
            }
            if wanted("throughput") {
                throughput::measure(&home).await?;
            }
        }
        Ok(())
    })
}
