use std::os::unix::fs::MetadataExt;

use manman_common::spec::{FileEntry, FileFormat, FileSpec, FileValue};

use super::game::{Rig, spec, texts};
use crate::clock;
use crate::driver::{Driver, DriverErrorKind};

#[tokio::test]
async fn configuration_files_are_there_for_the_games_user() {
    let rig = Rig::new();
    let mut spec = spec();
    let motto = |words: &str| FileEntry { key: "motto".to_owned(), value: FileValue::Text(format!("motto: {words}")) };
    spec.run.files = vec![FileSpec { path: "kept".to_owned(), format: FileFormat::Line, set: vec![motto("first")], create: true }];
    let first = rig.start(&spec).await;
    rig.driver.write_line(&first, "read").await.expect("it takes a line");
    rig.read_until(&first, None, "motto: first").await;
    rig.kill(&first).await;

    let kept = rig.dir.path().join(spec.id.to_string()).join("data/kept");
    std::fs::write(&kept, "// mine\nmotto: first\n").expect("a person's change");
    spec.run.files[0].set = vec![motto("second")];
    let second = rig.start(&spec).await;
    assert_eq!(std::fs::read_to_string(&kept).expect("the file"), "// mine\nmotto: second\n");
    rig.kill(&second).await;

    spec.run.files[0].set = vec![motto("third\nrcon_password x")];
    let error = rig.driver.start(&spec, clock::new_instance_id()).await.expect_err("a value does not become two lines");
    assert_eq!((error.kind, error.hint.as_deref()), (DriverErrorKind::Final, Some("give the variable another value")));
    assert!(!format!("{error:?}").contains("rcon_password"), "a value may be a secret: {error:?}");
}

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
