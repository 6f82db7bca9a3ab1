use serde_json::json;

use super::*;

fn server(phase: &str, desired: &str, generation: u64, applied: u64) -> ServerView {
    serde_json::from_value(json!({
        "id": "0199f000-0000-7000-8000-000000000001", "name": "oa", "worker_id": "0199f000-0000-7000-8000-000000000002",
        "worker_name": "attic", "game_id": "docker:manman/openarena", "desired": desired, "phase": phase,
        "generation": generation, "applied_generation": applied, "pending_restart": false, "instance": null, "restarts": 0,
        "exit": null, "players": null, "progress": null, "usage": null, "url": null, "conditions": [], "ports": [],
        "variables": {}, "limits": {}, "extra": {}, "created_at": "2026-11-20T12:00:00Z", "updated_at": "2026-11-20T12:00:00Z"
    }))
    .expect("a server")
}

fn is_lost(verdict: &Verdict) -> bool {
    matches!(verdict, Verdict::Lost { .. })
}

#[test]
fn ready_is_the_end_of_a_start() {
    let at = Generation::new(2);
    assert_eq!(judge(&server("Ready", "running", 2, 2), Goal::Ready, at), Verdict::Reached);
    assert_eq!(judge(&server("Starting", "running", 2, 1), Goal::Ready, at), Verdict::Going("starting".into()));
    assert!(is_lost(&judge(&server("Failed", "running", 2, 2), Goal::Ready, at)));
}

#[test]
fn a_failure_of_before_the_wish_is_not_its_answer() {
    assert!(!is_lost(&judge(&server("Failed", "running", 2, 1), Goal::Ready, Generation::new(2))));
}

#[test]
fn the_old_instance_is_no_restart() {
    let mut view = server("Ready", "running", 2, 1);
    let before = Some(InstanceId::from_uuid(view.id.as_uuid()));
    view.instance = before;
    assert!(matches!(judge(&view, Goal::ReadyAgain(before), Generation::new(2)), Verdict::Going(_)));
    view.instance = Some(InstanceId::from_uuid(view.worker_id.as_uuid()));
    assert_eq!(judge(&view, Goal::ReadyAgain(before), Generation::new(2)), Verdict::Reached);
}

#[test]
fn somebody_elses_newer_wish_ends_the_waiting() {
    assert!(is_lost(&judge(&server("Stopping", "stopped", 3, 2), Goal::Ready, Generation::new(2))));
    assert!(is_lost(&judge(&server("Ready", "running", 3, 2), Goal::Stopped, Generation::new(2))));
    // A change of settings is none of ours.
    assert_eq!(judge(&server("Ready", "running", 3, 2), Goal::Ready, Generation::new(2)), Verdict::Reached);
}

#[test]
fn the_reason_of_before_the_wish_is_not_its_answer_and_a_new_one_is() {
    let failed = |since: &str| {
        let mut view = server("Failed", "running", 2, 0);
        let condition = json!([{"type": "InstallFailed", "message": "the disk is full", "since": since}]);
        view.conditions = serde_json::from_value(condition).expect("conditions");
        view
    };
    let before = failed("2026-11-20T12:00:00Z").conditions;
    assert!(still_says(&failed("2026-11-20T12:00:00Z"), &before));
    assert!(!still_says(&failed("2026-11-20T12:00:09Z"), &before));
    assert!(is_lost(&judge(&failed("2026-11-20T12:00:09Z"), Goal::Ready, Generation::new(2))));
    assert!(!still_says(&server("Failed", "running", 2, 0), &[]));
}

#[test]
fn a_failure_says_why_and_what_to_do() {
    let mut view = server("Failed", "running", 1, 1);
    view.conditions = serde_json::from_value(json!([
        {"type": "InstallFailed", "message": "the image `x` is not there", "hint": "check its name", "since": "2026-11-20T12:00:00Z"}
    ]))
    .expect("conditions");
    let Verdict::Lost { message, hint } = judge(&view, Goal::Ready, Generation::new(1)) else { panic!("it failed") };
    assert_eq!(message, "`oa` failed: the image `x` is not there");
    assert_eq!(hint.as_deref(), Some("check its name"));
}

#[test]
fn crashes_are_counted_once_each() {
    let mut crashes = Crashes::default();
    let counts: Vec<u32> = ["Starting", "Crashed", "Backoff", "Backoff", "Starting", "Backoff", "Running"]
        .into_iter()
        .map(|phase| crashes.seen(&server(phase, "running", 1, 1)))
        .collect();
    assert_eq!(counts, [0, 1, 1, 1, 1, 2, 2]);
}
