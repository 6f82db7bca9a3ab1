use std::os::unix::fs::MetadataExt;

use super::game::{Rig, spec, texts};
use crate::driver::Driver;

#[tokio::test]
async fn what_a_volume_keeps_outlives_its_container() {
    let rig = Rig::new();
    let mut spec = spec();
    spec.run.docker.mounts = vec!["/var/saves".to_owned()];
    let first = rig.start(&spec).await;
    rig.driver.write_line(&first, "write treasure").await.expect("it takes a line");
    rig.read_until(&first, None, "written").await;
    rig.kill(&first).await;

    let second = rig.start(&spec).await;
    rig.driver.write_line(&second, "read").await.expect("it takes a line");
    let lines = texts(&rig.read_until(&second, None, "game 640").await);
    assert_eq!(lines.iter().filter(|line| *line == "treasure").count(), 2, "{lines:?}");
    assert!(lines.contains(&"seeded".to_owned()), "what the image had there is there: {lines:?}");
    rig.kill(&second).await;

    let home = rig.dir.path().join(spec.id.to_string());
    assert_eq!(std::fs::read_to_string(home.join("data/kept")).expect("the world"), "treasure\n");
    let volumes: Vec<_> = std::fs::read_dir(home.join("volumes")).expect("volumes").flatten().collect();
    assert_eq!(volumes.len(), 2);
    for volume in volumes {
        assert_eq!(volume.metadata().expect("it is there").uid(), 1234, "{volume:?}");
    }

    let outside = tempfile::tempdir().expect("a directory");
    std::fs::write(outside.path().join("mine"), "keep").expect("a file");
    std::os::unix::fs::symlink(outside.path(), home.join("data/way-out")).expect("a link");
    rig.driver.purge(spec.id).await.expect("it is purged");
    rig.driver.purge(spec.id).await.expect("twice, too");
    assert!(!home.exists());
    assert!(outside.path().join("mine").exists());
}
