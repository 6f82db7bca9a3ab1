//! A game that swaps a folder of its own for a link while it is backed up, and while it is restored.

use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::fs::{CWD, RenameFlags, renameat_with};

use super::House;

const TRIES: usize = 200;
const SECRET: &str = "of somebody else entirely";

/// Swaps the two for as long as `work` takes, and says how often.
fn while_swapping(a: &Path, b: &Path, work: impl FnOnce()) -> u64 {
    let over = AtomicBool::new(false);
    std::thread::scope(|threads| {
        let game = threads.spawn(|| {
            let mut swaps = 0;
            while !over.load(Ordering::Relaxed) {
                // A restore takes one of them away for a moment.
                swaps += u64::from(renameat_with(CWD, a, CWD, b, RenameFlags::EXCHANGE).is_ok());
            }
            swaps
        });
        let done = std::panic::catch_unwind(std::panic::AssertUnwindSafe(work));
        over.store(true, Ordering::Relaxed);
        let swaps = game.join().unwrap();
        done.unwrap();
        swaps
    })
}

fn house() -> (House, std::path::PathBuf) {
    let house = House::new();
    let elsewhere = house.dir.path().join("elsewhere");
    fs::create_dir_all(elsewhere.join("deep")).unwrap();
    fs::write(elsewhere.join("deep/level.dat"), SECRET).unwrap();
    house.put("world/deep/level.dat", "mine");
    std::os::unix::fs::symlink(&elsewhere, house.root().join("link")).unwrap();
    (house, elsewhere)
}

#[test]
fn a_backup_reads_nothing_through_a_folder_that_became_a_link() {
    let (house, _) = house();
    let mut made = Vec::new();
    let (world, link) = (house.root().join("world"), house.root().join("link"));
    let swaps = while_swapping(&world, &link, || {
        for _ in 0..TRIES {
            made.extend(house.create(&["world/**"]).map(|summary| summary.path));
        }
    });
    assert!(swaps > 100 && made.len() > 5, "{swaps} swaps, {} archives", made.len());
    let into = tempfile::tempdir().unwrap();
    let mut whole = 0;
    for archive in &made {
        let mut request = house.restore_request(archive);
        request.root = into.path().join("data");
        fs::create_dir(&request.root).unwrap();
        crate::restore(&request, |_| {}, &super::NEVER).unwrap();
        let text = fs::read_to_string(request.root.join("world/deep/level.dat"));
        assert!(text.as_ref().map_or(true, |text| text == "mine"), "{text:?}");
        whole += u64::from(text.is_ok());
        fs::remove_dir_all(&request.root).unwrap();
    }
    assert!(whole > 0, "none had the world in it");
}

#[test]
fn a_restore_writes_nothing_through_a_folder_that_became_a_link() {
    let (house, elsewhere) = house();
    // Its unit lies below the folder that is swapped. Each is known by its inode as well, so that it
    // takes two mistakes to be led astray.
    let archive = house.create(&["world/deep/**"]).unwrap().path;
    let (mut done, mut refused) = (0_u64, 0_u64);
    let (world, link) = (house.root().join("world"), house.root().join("link"));
    let swaps = while_swapping(&world, &link, || {
        for _ in 0..TRIES {
            match house.restore(&archive) {
                Ok(_) => done += 1,
                Err(_) => refused += 1,
            }
        }
    });
    assert!(swaps > 100 && done > 0, "{swaps} swaps, {done} done, {refused} refused");
    assert_eq!(fs::read_to_string(elsewhere.join("deep/level.dat")).unwrap(), SECRET);
    assert_eq!(fs::read_dir(&elsewhere).unwrap().count(), 1);
    assert_eq!(fs::read_dir(elsewhere.join("deep")).unwrap().count(), 1);
}
