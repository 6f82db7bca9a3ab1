//! A game that swaps a folder for a link while the worker writes into it (CVE-2024-27102 of a peer).

use std::sync::atomic::{AtomicBool, Ordering};

use rustix::fs::{CWD, RenameFlags, renameat_with};

use super::*;

/// Each outcome has to come this often; which one comes is up to the machine.
const OF_EACH: u64 = 20;
const TRIES: u64 = 2000;
const TRIES_AT_MOST: u64 = 500_000;

#[test]
fn a_folder_that_becomes_a_link_in_between_leads_nowhere() {
    let outer = tempfile::tempdir().unwrap();
    let (data, elsewhere) = (outer.path().join("data"), outer.path().join("elsewhere"));
    std::fs::create_dir_all(data.join("conf/deep")).unwrap();
    std::fs::create_dir_all(elsewhere.join("deep")).unwrap();
    std::fs::write(elsewhere.join("deep/game.cfg"), "rcon none\n").unwrap();
    std::os::unix::fs::symlink(&elsewhere, data.join("link")).unwrap();
    let over = AtomicBool::new(false);
    let (mut swaps, mut written, mut refused) = (0_u64, 0_u64, 0_u64);
    std::thread::scope(|threads| {
        let game = threads.spawn(|| {
            let mut swaps = 0;
            while !over.load(Ordering::Relaxed) {
                renameat_with(CWD, data.join("conf"), CWD, data.join("link"), RenameFlags::EXCHANGE).unwrap();
                swaps += 1;
            }
            swaps
        });
        while written + refused < TRIES || (written.min(refused) < OF_EACH && written + refused < TRIES_AT_MOST) {
            let value = text(&format!("v{}", written + refused));
            let files = [
                file("conf/deep/game.cfg", FileFormat::Line, true, &[("rcon", value)]),
                file("conf/new/x.cfg", FileFormat::Line, true, &[("a", text("b"))]),
            ];
            match write(&data, &files, None) {
                Ok(_) => written += 1,
                Err(_) => refused += 1,
            }
        }
        over.store(true, Ordering::Relaxed);
        swaps = game.join().unwrap();
    });
    assert!(swaps > 100 && written >= OF_EACH && refused >= OF_EACH, "{swaps} swaps, {written} written, {refused} refused");
    assert_eq!(std::fs::read_to_string(elsewhere.join("deep/game.cfg")).unwrap(), "rcon none\n");
    let names: Vec<_> = std::fs::read_dir(&elsewhere).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(names, ["deep"], "nothing was made there");
    assert_eq!(std::fs::read_dir(elsewhere.join("deep")).unwrap().count(), 1);
}
