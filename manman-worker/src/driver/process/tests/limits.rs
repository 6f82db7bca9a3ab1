//! What a game may have, and who it is.

use std::os::unix::fs::MetadataExt;

use manman_common::spec::Limits;

use super::game::{Rig, console};
use crate::driver::Driver;
use crate::driver::process::cgroup::Cgroups;

#[tokio::test]
async fn a_memory_hog_ends_and_says_why() {
    let rig = Rig::new();
    if let Cgroups::None(why) = &rig.driver.0.cgroups {
        eprintln!("skipped: {why}");
        return;
    }
    let mut spec = rig.spec();
    spec.run.limits = Limits { memory_bytes: Some(64 << 20), cpu_millis: Some(900), pids: Some(50) };
    let instance = rig.start(&spec).await;
    let usage = rig.driver.usage(&instance).await.expect("its usage");
    assert!(usage.memory_bytes > 0 && usage.memory_bytes < 64 << 20, "{usage:?}");
    rig.type_in(&instance, "eat").await;
    let exit = rig.exited(&instance).await;
    assert!(exit.oom, "{exit:?}");
    assert_eq!(exit.reason.as_deref(), Some("out of memory"));
    let leaves = rig.run_dir(&instance).about.cgroups;
    rig.driver.remove(&instance).await.expect("it goes");
    assert!(leaves.iter().all(|leaf| !leaf.exists()), "{leaves:?}");
}

#[tokio::test]
async fn each_game_is_a_user_of_its_own() {
    let mut rig = Rig::new();
    if !rustix::process::geteuid().is_root() {
        eprintln!("skipped: without root a game runs as the worker's own user");
        return;
    }
    let (one, two) = (rig.spec(), rig.spec());
    let mut uids = Vec::new();
    for spec in [&one, &two] {
        let instance = rig.start(spec).await;
        rig.type_in(&instance, "own").await;
        let log = rig.printed(spec.id, "uid ").await;
        let data = rig.server_dir(spec.id).join("data");
        let owner = std::fs::metadata(&data).expect("its data").uid();
        assert_ne!(owner, 0);
        assert_eq!(std::fs::metadata(data.join("mine")).expect("its file").uid(), owner);
        let said = format!("uid {owner} of {owner} in /run/manman/{}", spec.id);
        assert!(log.contains(&said), "no `{said}` in {log:?}");
        rig.stop(&instance, &[console("quit", 30)]).await;
        rig.driver.remove(&instance).await.expect("it goes");
        uids.push(owner);
    }
    assert_ne!(uids.first(), uids.last());
    // The same one after the worker's death.
    rig.restart();
    let instance = rig.start(&one).await;
    assert_eq!(rig.run_dir(&instance).about.user, uids.first().copied());
    rig.driver.purge(two.id).await.expect("its data goes");
    assert!(!rig.server_dir(two.id).exists());
    assert!(!std::path::Path::new("/run/manman").join(two.id.to_string()).exists(), "its mount point stays");
    rig.stop(&instance, &[console("quit", 30)]).await;
}
