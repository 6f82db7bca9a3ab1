//! `mode: pool`: processes that stay.

use std::collections::HashSet;

use crate::support::{Home, Stage, eventually, exchange, scripts};

fn pool(more: &str) -> Stage {
    let script = scripts().join("pool.py");
    Home::new(
        "max_inflight: 64",
        &format!(
            "  /p/{{id}}:\n    post: {{inject: {{cmd: {}, mode: pool, workers: 2, timeout: 3000{more}}}, queue: 100}}\n",
            script.display()
        ),
    )
    .start()
}

#[test]
fn one_process_answers_many() {
    let stage = pool("");
    let mut pids = HashSet::new();
    for n in 0..40 {
        let answer = stage.post(&format!("/p/{n}"), n.to_string()).expect(200).json();
        assert_eq!((answer["got"].as_u64(), answer["path"].as_str()), (Some(n), Some(format!("/p/{n}").as_str())));
        pids.insert(answer["pid"].as_u64());
    }
    assert!(pids.len() <= 2, "{pids:?}");
    assert_eq!(stage.metric("urocket_pool_processes"), 2.0);
    let address = stage.address;
    let all: Vec<_> = (0..50)
        .map(|n| {
            std::thread::spawn(move || {
                exchange(
                    std::net::TcpStream::connect(address).expect("open"),
                    "POST",
                    "/p/x",
                    &[("content-type", "application/json")],
                    n.to_string().as_bytes(),
                )
                .json()["got"]
                    == n
            })
        })
        .collect();
    assert!(all.into_iter().all(|thread| thread.join().expect("no panic")), "each got its own answer");
}

#[test]
fn one_that_dies_is_started_anew_and_its_request_hears_it() {
    let home = Home::new("", "  /p:\n    post: {inject: {cmd: ./w.sh, mode: pool, workers: 1, timeout: 700, encoding: raw}}\n");
    home.script(
        "w.sh",
        "curl -s -D head -o body --unix-socket $UROCKET_SOCKET http://a/next
id=$(sed -n 's/^x-request-id: \\([-0-9a-f]*\\).*/\\1/p' head)
case $(cat body) in die) echo dying >&2; exit 7;; hang) touch hung; sleep 600.125;; esac
curl -s --unix-socket $UROCKET_SOCKET -d \"$$\" http://a/uri/$id",
    );
    let stage = home.start();
    let first = stage.post("/p", "x").expect(200).text();
    // It ends after each answer, so the next is another's, found by its process and not by its path.
    let second = eventually("there is another", || match stage.post("/p", "x") {
        answer if answer.status == 200 => Ok(answer.text()),
        answer => Err(answer.text()),
    });
    assert_ne!(first, second);
    let died = eventually("it is told", || match stage.post("/p", "die") {
        answer if answer.status == 502 => Ok(answer.json()),
        answer => Err(answer.text()),
    });
    assert_eq!((&died["exit"], died["stderr_tail"].as_str()), (&7.into(), Some("dying\n")));
    eventually("it hangs and is ended", || match stage.post("/p", "hang") {
        answer if answer.status == 504 && stage.home.path("hung").exists() => Ok(()),
        answer => Err(answer.text()),
    });
    eventually("its whole group has gone", || if crate::support::running("600.125").is_empty() { Ok(()) } else { Err("not yet".into()) });
    eventually("the next one serves", || match stage.post("/p", "x").status {
        200 => Ok(()),
        other => Err(other.to_string()),
    });
}

#[test]
fn a_connection_that_was_given_up_gets_no_request() {
    let home = Home::new("", "  /p:\n    post: {inject: {cmd: ./w.sh, mode: pool, workers: 1, timeout: 3000, encoding: raw}}\n");
    home.script(
        "w.sh",
        "curl -s -o /dev/null --max-time 0.2 --unix-socket $UROCKET_SOCKET http://a/next; touch left
while :; do curl -s -D head -o body --unix-socket $UROCKET_SOCKET http://a/next || exit 1
curl -s --unix-socket $UROCKET_SOCKET --data-binary @body http://a/uri/$(sed -n 's/^x-request-id: \\([-0-9a-f]*\\).*/\\1/p' head); done",
    );
    let stage = home.start();
    eventually("it has given up one", || if stage.home.path("left").exists() { Ok(()) } else { Err("not yet".into()) });
    for n in 0..3 {
        assert_eq!(stage.post("/p", n.to_string()).expect(200).text(), n.to_string());
    }
}

#[test]
fn a_pool_ends_with_its_stage_and_strangers_get_nothing() {
    let mut stage = pool("");
    stage.post("/p/1", "1").expect(200);
    stage.back("GET", "/next", &[], b"").expect(404);
    stage.back("POST", "/next", &[], b"").expect(405);
    stage.signal(rustix::process::Signal::TERM);
    assert!(stage.child.wait().expect("it is ours").success());
    eventually("its processes have gone", || {
        let needle = stage.home.socket();
        let of_it = crate::support::processes().any(|pid| {
            std::fs::read(format!("/proc/{pid}/environ"))
                .is_ok_and(|all| String::from_utf8_lossy(&all).contains(&format!("UROCKET_SOCKET={}", needle.display())))
        });
        if of_it { Err("not yet".into()) } else { Ok(()) }
    });
}
