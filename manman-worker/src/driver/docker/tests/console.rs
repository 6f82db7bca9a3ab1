use std::time::Duration;

use super::game::{Rig, spec, texts};
use crate::driver::Driver;

#[tokio::test]
async fn lines_arrive_whoever_attached_before() {
    let mut rig = Rig::new();
    let instance = rig.start(&spec()).await;
    for round in 0..3 {
        for line in 0..20 {
            rig.driver.write_line(&instance, &format!("round {round} {line}")).await.expect("it takes a line");
        }
        // The old attachment goes, and the game must not take that for the end of its input.
        rig.restart();
    }
    rig.driver.write_line(&instance, "last").await.expect("it takes a line");
    let lines = texts(&rig.read_until(&instance, None, "said: last").await);
    let said = lines.iter().filter(|line| line.starts_with("said: round")).count();
    assert_eq!(said, 60, "{lines:?}");
    assert!(!lines.contains(&"eof".to_owned()));
    rig.kill(&instance).await;
    let error = tokio::time::timeout(Duration::from_secs(20), rig.driver.write_line(&instance, "x")).await;
    assert!(error.expect("at once").is_err());
}
