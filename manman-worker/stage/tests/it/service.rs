//! U17 to U19: how many, who may answer, and the life of a stage.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt as _;
use std::process::Command;
use std::time::Duration;

use rustix::process::Signal;

use crate::support::{Home, eventually, exchange, now, running};

fn slow(top: &str, inject: &str) -> Home {
    Home::new(
        top,
        &format!(
            "  /slow:\n    get: {{inject: {{cmd: sleep 0.9375, on-exit: 204, timeout: 20000}}{inject}}}\n  /quick:\n    get: {{inject: {{cmd: 'true', on-exit: 204}}}}\n"
        ),
    )
}

#[test]
fn u17_the_thirty_third_is_told_at_once() {
    let stage = slow("", "").start();
    let address = stage.address;
    std::thread::scope(|scope| {
        let get = move || exchange(std::net::TcpStream::connect(address).expect("the port is open"), "GET", "/slow", &[], b"").status;
        let slow: Vec<_> = (0..32).map(|_| scope.spawn(get)).collect();
        eventually("all run", || if stage.metric("urocket_in_flight") == 32.0 { Ok(()) } else { Err("not yet".into()) });
        stage.get("/_/ready").expect(429);
        let fastest = (0..5).map(|_| {
            let refused = stage.get("/quick").expect(429);
            assert_eq!(refused.header("retry-after"), Some("1"));
            refused.took
        });
        let fastest = fastest.min().expect("there are five");
        assert!(fastest < Duration::from_millis(5), "{fastest:?}");
        for thread in slow {
            assert_eq!(thread.join().expect("no panic"), 204);
        }
    });
    stage.get("/_/ready").expect(204);
    stage.get("/quick").expect(204);
}

#[test]
fn u17_a_route_has_its_own_number_and_who_waits_is_served() {
    let stage = slow("max_inflight: 8", ", max_inflight: 1, queue: 1").start();
    let address = stage.address;
    std::thread::scope(|scope| {
        let get = move || exchange(std::net::TcpStream::connect(address).expect("the port is open"), "GET", "/slow", &[], b"").status;
        let threads: Vec<_> = (0..3).map(|_| scope.spawn(get)).collect();
        stage.get("/quick").expect(204);
        let mut seen: Vec<u16> = threads.into_iter().map(|thread| thread.join().expect("no panic")).collect();
        seen.sort_unstable();
        assert_eq!(seen, [204, 204, 429]);
    });
}

/// What waits is taken off its connection and put back: nothing that was sent with it is lost.
#[test]
fn u17_who_waits_keeps_what_it_sent_and_may_leave() {
    let home = Home::new(
        "max_inflight: 1\nqueue: 10",
        "  /slow:\n    get: {inject: {cmd: sleep 0.5, on-exit: 204, timeout: 20000}, max_inflight: 1, queue: 10}
    post: {inject: {cmd: cat, channel: stdin, encoding: raw, on-exit: stdout, timeout: 20000}, max_inflight: 1, queue: 10}
  /env:\n    get: {inject: {cmd: env, on-exit: stdout, headers: [X-Trace], timeout: 20000}, max_inflight: 1, queue: 10}
  /hold:\n    get: {inject: {cmd: sleep 0.5, on-exit: 204, timeout: 20000}}\n",
    );
    let stage = home.start();
    let open = || TcpStream::connect(stage.address).expect("the port is open");
    let waiting = |count: f64| {
        eventually("they wait", || match stage.metric("urocket_waiting") {
            now if now == count => Ok(()),
            now => Err(now.to_string()),
        });
    };
    let mut first = open();
    first.write_all(b"GET /hold HTTP/1.1\r\nhost: a\r\n\r\n").expect("it is sent");
    eventually("it runs", || if stage.metric("urocket_in_flight") == 1.0 { Ok(()) } else { Err("not yet".into()) });
    // Two in one breath, the second with a body.
    let mut both = open();
    both.write_all(b"GET /env?a=%20b HTTP/1.1\r\nHost: a\r\nX-Trace: one\r\n\r\nPOST /slow HTTP/1.1\r\nhost: a\r\nconnection: close\r\ncontent-length: 4\r\n\r\nbody")
        .expect("it is sent");
    waiting(1.0);
    let leaves = open();
    (&leaves).write_all(b"GET /slow HTTP/1.1\r\nhost: a\r\n\r\n").expect("it is sent");
    waiting(2.0);
    drop(leaves);
    waiting(1.0);
    let mut seen = String::new();
    both.read_to_string(&mut seen).expect("both answers, and the end");
    let (one, two) = seen.split_once("HTTP/1.1 200 OK").expect("an answer").1.split_once("HTTP/1.1 200 OK").expect("another");
    assert!(one.contains("QUERY_STRING=a=%20b") && one.contains("HTTP_X_TRACE=one") && one.contains("x-request-id"), "{seen}");
    assert!(two.ends_with("body"), "{seen}");
    // HTTP/1.0 knows no other request on its connection, waiting or not.
    let mut old = open();
    std::thread::scope(|scope| {
        scope.spawn(|| stage.get("/hold").expect(204));
        eventually("it runs", || if stage.metric("urocket_in_flight") == 1.0 { Ok(()) } else { Err("not yet".into()) });
        old.write_all(b"GET /hold HTTP/1.0\r\n\r\n").expect("it is sent");
        waiting(1.0);
        let mut seen = String::new();
        old.read_to_string(&mut seen).expect("the answer, and the end");
        assert!(seen.starts_with("HTTP/1.0 204"), "{seen}");
    });
}

#[test]
fn u18_directories_and_modes_of_the_socket() {
    let stage = slow("", "").start();
    let mode = |path: &std::path::Path| std::fs::metadata(path).expect("it is there").permissions().mode() & 0o7777;
    let socket = stage.home.socket();
    assert_eq!((mode(socket.parent().expect("it has one")), mode(&socket)), (0o700, 0o600));
    drop(stage);
    // A directory that is there is left as it is.
    let home = slow("", "");
    std::fs::create_dir(home.path("run")).expect("it is new");
    std::fs::set_permissions(home.path("run"), std::fs::Permissions::from_mode(0o751)).expect("it is ours");
    let stage = home.start();
    assert_eq!(mode(&stage.home.path("run")), 0o751);
}

#[test]
fn u18_a_live_socket_is_not_taken_and_a_dead_one_is() {
    let mut first = slow("", "").start();
    let second = Home { dir: tempfile::tempdir().expect("a directory") };
    second.file("service.yaml", &format!("port: 0\nsocketpath: {}\npaths: {{}}\n", first.home.socket().display()));
    let refused = second.command(&[]).output().expect("it runs");
    assert!(!refused.status.success() && String::from_utf8_lossy(&refused.stderr).contains("another stage"), "{refused:?}");
    first.get("/quick").expect(204);
    first.back("GET", "/_/health", &[], b"").expect(204);
    // Killed, it leaves its socket behind, and its processes.
    let address = first.address;
    let asking = std::thread::spawn(move || {
        let mut stream = std::net::TcpStream::connect(address).expect("the port is open");
        let _ = std::io::Write::write_all(&mut stream, b"GET /slow HTTP/1.1\r\nhost: a\r\n\r\n");
        let _ = std::io::Read::read_to_end(&mut stream, &mut Vec::new());
    });
    eventually("it runs", || if first.metric("urocket_in_flight") == 1.0 { Ok(()) } else { Err("not yet".into()) });
    first.child.kill().expect("it lives");
    first.child.wait().expect("it is ours");
    asking.join().expect("no panic");
    assert!(first.home.socket().exists());
    let child = second.command(&[]).stdout(std::process::Stdio::null()).spawn().expect("it starts");
    eventually("it serves", || std::os::unix::net::UnixStream::connect(first.home.socket()).map_err(|error| error.to_string()));
    first.child = child;
    // Anything else at that place is not taken away.
    let blocked = slow("", "");
    std::fs::create_dir(blocked.path("run")).expect("it is new");
    blocked.file("run/stage.sock", "a file");
    let refused = blocked.command(&[]).output().expect("it runs");
    assert!(!refused.status.success() && String::from_utf8_lossy(&refused.stderr).contains("is no socket"));
    assert_eq!(std::fs::read_to_string(blocked.socket()).expect("it is there"), "a file");
}

#[test]
fn u18_another_user_may_not_answer_unless_the_file_names_him() {
    if !rustix::process::geteuid().is_root() {
        return eprintln!("only root can be somebody else");
    }
    let other = |stage: &crate::support::Stage| {
        // Even with the doors left open, the kernel's word of who it is counts.
        std::fs::set_permissions(stage.home.dir.path(), std::fs::Permissions::from_mode(0o755)).expect("it is ours");
        std::fs::set_permissions(stage.home.path("run"), std::fs::Permissions::from_mode(0o755)).expect("it is ours");
        let socket = stage.home.socket();
        let ask = || {
            let mut curl = Command::new("setpriv");
            curl.args([
                "--reuid=65534",
                "--clear-groups",
                "curl",
                "-s",
                "-o",
                "/dev/null",
                "-w",
                "%{http_code}",
                "-d",
                "x",
                "--unix-socket",
            ]);
            let output =
                curl.arg(&socket).arg("http://a/uri/0b54cd0e-32a5-4a0c-9c4b-0a1ddc9ba5ed").output().expect("setpriv and curl are there");
            String::from_utf8_lossy(&output.stdout).into_owned()
        };
        let closed = ask();
        std::fs::set_permissions(&socket, std::fs::Permissions::from_mode(0o666)).expect("it is ours");
        (closed, ask())
    };
    assert_eq!(other(&slow("", "").start()), ("000".to_owned(), "403".to_owned()));
    assert_eq!(other(&slow("reply-uid: 65534", "").start()).1, "404");
}

#[test]
fn u18_with_strict_peer_only_the_requests_own_processes_answer() {
    let stage = Home::new(
        "strict-peer: true",
        "  /own:\n    get: {inject: {cmd: [sh, -c, 'setsid curl -s --unix-socket $UROCKET_SOCKET -d own http:/uri/$REQUEST_ID'], timeout: 3000}}
  /told:\n    get: {inject: {cmd: [sh, -c, 'echo $REQUEST_ID > id; sleep 5'], timeout: 1000}}\n",
    )
    .start();
    assert_eq!(stage.get("/own").expect(200).text(), "own");
    let address = stage.address;
    std::thread::scope(|scope| {
        let waiting = scope.spawn(move || exchange(std::net::TcpStream::connect(address).expect("open"), "GET", "/told", &[], b"").status);
        let id = eventually("the id is told", || match std::fs::read_to_string(stage.home.path("id")) {
            Ok(id) if id.ends_with('\n') => Ok(id.trim().to_owned()),
            other => Err(format!("{other:?}")),
        });
        stage.back("POST", &format!("/uri/{id}"), &[], b"stranger").expect(403);
        assert_eq!(waiting.join().expect("no panic"), 504);
    });
}

#[test]
fn u19_it_tells_of_itself() {
    let stage = slow("", "").start();
    stage.get("/_/health").expect(204);
    stage.get("/_/ready").expect(204);
    stage.get("/_/other").expect(404);
    stage.get("/quick").expect(204);
    // The answer may be a moment ahead of the end of its process.
    eventually("its process has gone", || if stage.metric("urocket_in_flight") == 0.0 { Ok(()) } else { Err("not yet".into()) });
    let text = stage.get("/metrics").expect(200).text();
    for line in [
        "urocket_requests_total{verb=\"GET\",path=\"/quick\",status=\"204\"} 1",
        "urocket_request_seconds_count 1",
        "urocket_in_flight 0",
        "urocket_process_user_seconds_total ",
    ] {
        assert!(text.contains(line), "{line} in {text}");
    }
}

#[test]
fn u19_a_drain_lets_finish_what_is_under_way() {
    let mut stage = slow("", "").start();
    let address = stage.address;
    let began = now();
    std::thread::scope(|scope| {
        let waiting = scope.spawn(move || exchange(std::net::TcpStream::connect(address).expect("open"), "GET", "/slow", &[], b"").status);
        eventually("it runs", || if stage.metric("urocket_in_flight") == 1.0 { Ok(()) } else { Err("not yet".into()) });
        stage.signal(Signal::TERM);
        eventually("the door is shut", || match std::net::TcpStream::connect(address) {
            Err(_) => Ok(()),
            Ok(_) => Err("it is open".into()),
        });
        assert_eq!(waiting.join().expect("no panic"), 204, "it was let finish");
    });
    let status = stage.child.wait().expect("it is ours");
    assert!(status.success() && began.elapsed() < Duration::from_secs(4), "{status} after {:?}", began.elapsed());
    assert!(!stage.home.socket().exists(), "the socket is taken away");
}

#[test]
fn u19_what_does_not_finish_is_ended_with_the_stage() {
    let mut stage =
        Home::new("drain: 200", "  /a:\n    get: {inject: {cmd: [sh, -c, '(setsid sleep 500.125 &); sleep 500.125'], timeout: 600000}}\n")
            .start();
    let address = stage.address;
    std::thread::scope(|scope| {
        let waiting = scope.spawn(move || exchange(std::net::TcpStream::connect(address).expect("open"), "GET", "/a", &[], b"").status);
        eventually("it runs", || if running("500.125").len() >= 2 { Ok(()) } else { Err(format!("{:?}", running("500.125"))) });
        stage.signal(Signal::TERM);
        assert_eq!(waiting.join().expect("no panic"), 503);
    });
    assert!(stage.child.wait().expect("it is ours").success());
    assert!(running("500.125").is_empty() && !stage.home.socket().exists());
}

#[test]
fn u19_sighup_reads_the_file_again_and_keeps_the_old_one_if_it_is_wrong() {
    let stage = slow("", "").start();
    let address = stage.address;
    std::thread::scope(|scope| {
        let waiting = scope.spawn(move || exchange(std::net::TcpStream::connect(address).expect("open"), "GET", "/slow", &[], b"").status);
        eventually("it runs", || if stage.metric("urocket_in_flight") == 1.0 { Ok(()) } else { Err("not yet".into()) });
        stage.home.write("", "  /new:\n    get: {inject: {cmd: 'true', on-exit: 204}}\n");
        stage.signal(Signal::HUP);
        eventually("the new path is served", || match stage.get("/new").status {
            204 => Ok(()),
            other => Err(other.to_string()),
        });
        stage.get("/quick").expect(404);
        assert_eq!(waiting.join().expect("no panic"), 204, "it kept what it began with");
    });
    stage.home.write("", "  /newer:\n    get: {inject: {cmd: no-such-thing}}\n");
    stage.signal(Signal::HUP);
    eventually("it says so", || if stage.log().contains("the old one stays") { Ok(()) } else { Err("not yet".into()) });
    stage.get("/new").expect(204);
}
