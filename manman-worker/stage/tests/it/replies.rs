//! U1 to U4 and U8: a request, its id, its answer, and what happens without one.

use std::collections::HashSet;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::sync::Mutex;
use std::time::Duration;

use crate::support::{Home, Stage, eventually, now, running};

/// Answers with what the payload says, as shell: a test's own way to be any script.
const SHELL: &str = "  /sh:
    post:
      inject: {cmd: [sh, -c, '. \"$UROCKET_PAYLOAD\"'], channel: file, encoding: raw, timeout: 3000}
    get:
      inject: {cmd: [sh, -c, 'sleep 400.25'], timeout: 60000}
";

fn shell() -> Stage {
    Home::new("max_inflight: 64", SHELL).start()
}

/// A script that tells its id and waits for the file `go`.
fn parked(stage: &Stage, script: &str) -> (std::thread::JoinHandle<crate::support::Response>, String) {
    let file = stage.home.path("id");
    let _ = std::fs::remove_file(&file);
    let script = format!("echo $REQUEST_ID > {f}.new; mv {f}.new {f}; {script}", f = file.display());
    let address = stage.address;
    let waiting = std::thread::spawn(move || {
        let stream = TcpStream::connect(address).expect("the port is open");
        crate::support::exchange(stream, "POST", "/sh", &[], script.as_bytes())
    });
    let id = eventually("the script runs", || std::fs::read_to_string(&file).map_err(|error| error.to_string()));
    (waiting, id.trim().to_owned())
}

#[test]
fn u01_every_request_has_an_id_of_its_own_and_leaves_nothing() {
    let stage =
        Home::new("max_inflight: 16\nqueue: 2000", "  /a:\n    get:\n      inject: {cmd: 'true', on-exit: 204, timeout: 30000}\n").start();
    let ids = Mutex::new(HashSet::new());
    std::thread::scope(|scope| {
        for _ in 0..50 {
            scope.spawn(|| {
                for _ in 0..20 {
                    let id = stage.get("/a").expect(204).id();
                    assert_eq!(id.as_bytes()[14], b'4', "{id} is random");
                    assert!(ids.lock().expect("no panic").insert(id), "an id came twice");
                }
            });
        }
    });
    assert_eq!(ids.lock().expect("no panic").len(), 1000);
    eventually("the map is empty", || if stage.metric("urocket_in_flight") == 0.0 { Ok(()) } else { Err("it is not".into()) });
    stage.is_empty();
}

#[test]
fn u02_an_answer_is_taken_at_every_address_and_once() {
    let stage = shell();
    let (waiting, id) = parked(&stage, "sleep 60");
    let bytes: Vec<u8> = (0..=255).collect();
    assert_eq!(stage.back("POST", &format!("/uri/{id}"), &[("content-type", "application/x-raw")], &bytes).status, 204);
    let answer = waiting.join().expect("no panic").expect(200);
    assert_eq!((answer.body.as_slice(), answer.header("content-type")), (bytes.as_slice(), Some("application/x-raw")));
    assert_eq!(stage.back("POST", &format!("/uri/{id}"), &[], b"2").status, 409, "a second one");
    for alias in ["POST /urhttp/ID", "PUT /ID", "POST /one/the/ID", "POST http://x/uri/ID", "POST http://uri/ID"] {
        let (waiting, id) = parked(&stage, "sleep 60");
        let (verb, path) = alias.split_once(' ').expect("two words");
        assert_eq!(stage.back(verb, &path.replace("ID", &id), &[], alias.as_bytes()).status, 204, "{alias}");
        assert_eq!(waiting.join().expect("no panic").expect(200).text(), alias);
    }
    let (waiting, id) = parked(&stage, "sleep 60");
    assert_eq!(stage.back("POST", "/any/path", &[("X-Request-Id", &id)], b"by header").status, 204);
    assert_eq!(waiting.join().expect("no panic").text(), "by header");
    assert_eq!(stage.back("POST", "/uri/0b54cd0e-32a5-4a0c-9c4b-0a1ddc9ba5ed", &[], b"").status, 404);
    assert_eq!(stage.back("POST", "/nothing", &[], b"").status, 404);
    assert_eq!(stage.back("GET", &format!("/uri/{id}"), &[], b"").status, 405);
}

#[test]
fn u02_curl_as_in_the_users_text_reaches_the_socket() {
    let stage = shell();
    let curl = |url: &str| format!("curl -sf --unix-socket \"$UROCKET_SOCKET\" -d '{{\"a\": 1}}' {url}");
    for url in [
        "http:/uri/$REQUEST_ID",
        "http://localhost/uri/$REQUEST_ID",
        "http://localhost/ -H \"X-Request-Id: $REQUEST_ID\"",
        "http://localhost/",
    ] {
        assert_eq!(stage.post("/sh", curl(url)).expect(200).text(), "{\"a\": 1}", "{url}");
    }
}

#[test]
fn u02_an_answer_that_is_late_hears_it() {
    let stage = Home::new("", "  /s:\n    get:\n      inject: {cmd: sleep 30, timeout: 50}\n").start();
    let id = stage.get("/s").expect(504).id();
    assert_eq!(stage.back("POST", &format!("/uri/{id}"), &[], b"").status, 410);
    stage.is_empty();
    assert_eq!(stage.back("POST", &format!("/uri/{id}"), &[], b"").status, 410, "also when its process has gone");
}

#[test]
fn u03_status_type_and_headers_are_the_scripts() {
    let stage = shell();
    let answer = |extra: &str| {
        stage.post(
            "/sh",
            format!("curl -s -o /dev/null -w '%{{http_code}}' --unix-socket \"$UROCKET_SOCKET\" {extra} http:/uri/$REQUEST_ID"),
        )
    };
    let gone = answer("-H 'X-URocket-Status: 404' -H 'X-URocket-Header-X-Why: none' -H 'X-URocket-Header-Set-Cookie: a=b' -H 'Content-Type: text/plain' -d 'no pet'").expect(404);
    assert_eq!((gone.text().as_str(), gone.header("content-type")), ("no pet", Some("text/plain")));
    assert_eq!((gone.header("x-why"), gone.header("set-cookie")), (Some("none"), Some("a=b")));
    let plain = answer("-H 'Content-Type:' -d '{}'").expect(200);
    assert_eq!(plain.header("content-type"), Some("application/json"));
    let failed = stage.post("/sh", "curl -s --unix-socket \"$UROCKET_SOCKET\" -d 'it broke' http:/uri/$REQUEST_ID/error").expect(502);
    assert_eq!(failed.text(), "it broke");
    // Refused answers are heard by the script, and the caller's answer is the 502 of its end.
    for bad in [
        "-H 'X-URocket-Header-Content-Length: 5'",
        "-H 'X-URocket-Header-Transfer-Encoding: chunked'",
        "-H 'X-URocket-Status: 199'",
        "-H 'X-URocket-Status: 600'",
        "-H 'X-URocket-Header-X-Request-Id: 1'",
    ] {
        let refused = answer(&format!("{bad} -d x")).expect(502);
        assert_eq!(refused.json()["exit"], 0, "{bad}");
        assert!(stage.record(&refused.id())["stdout"] == "400", "{bad}: {}", stage.record(&refused.id()));
    }
}

#[test]
fn u03_no_header_is_smuggled_by_a_line_break() {
    let stage = shell();
    let (waiting, id) = parked(&stage, "sleep 60");
    for value in ["a\rSet-Cookie: b=c", "a\n Set-Cookie: b=c", "a\0b"] {
        let refused = stage.back("POST", &format!("/uri/{id}"), &[("X-URocket-Header-X-A", value)], b"x");
        assert!(refused.status == 400, "{value:?}");
    }
    // A whole line break makes a header of its own, which is the request's and goes no further.
    assert_eq!(stage.back("POST", &format!("/uri/{id}"), &[("X-URocket-Header-X-A", "a\r\nSet-Cookie: b=c")], b"x").status, 204);
    let answer = waiting.join().expect("no panic").expect(200);
    assert_eq!((answer.header("x-a"), answer.header("set-cookie")), (Some("a"), None));
}

#[test]
fn u04_the_five_hangs_answer_in_time() {
    let stage = Home::new(
        "",
        "  /none:
    get: {inject: {cmd: sleep 100.125, timeout: 300}}
  /deaf:
    get: {inject: {cmd: [sh, -c, 'trap \"\" TERM; sleep 100.125; sleep 100.125'], timeout: 300}}
  /flood:
    get: {inject: {cmd: [sh, -c, 'head -c 200000 /dev/zero >&2; exit 1'], timeout: 300}}
  /gone:
    get: {inject: {cmd: [sh, -c, 'kill -9 $$'], timeout: 300}}
  /unread:
    post: {inject: {cmd: sleep 100.125, channel: stdin, encoding: raw, timeout: 300}}
  /missing:
    get: {inject: {cmd: ./vanishing.sh, timeout: 300}}
",
    );
    let vanishing = home_script(&stage);
    let stage = stage.start();
    std::fs::remove_file(vanishing).expect("it is there");
    let within = Duration::from_millis(350 + 50);
    for (path, status) in [("/none", 504), ("/deaf", 504), ("/flood", 502), ("/gone", 502), ("/missing", 502)] {
        let answer = stage.get(path).expect(status);
        assert!(answer.took < within, "{path} took {:?}", answer.took);
    }
    let unread = stage.send("POST", "/unread", &[], &vec![b'x'; 4 << 20]).expect(504);
    assert!(unread.took < within + Duration::from_millis(100), "{:?}", unread.took);
    assert_eq!(stage.get("/gone").json()["signal"], 9);
    let flood = stage.get("/flood").json();
    assert_eq!((flood["exit"].clone(), flood["stderr_tail"].as_str().map(str::len)), (1.into(), Some(2048)));
    // SIGTERM, two seconds, SIGKILL.
    stage.is_empty();
    assert!(running("100.125").is_empty());
}

fn home_script(home: &Home) -> std::path::PathBuf {
    home.script("vanishing.sh", "true")
}

#[test]
fn u04_an_end_without_answer_means_what_the_file_says() {
    let stage = Home::new(
        "",
        "  /stdout:
    get: {inject: {cmd: [printf, 'Status: 418\\nContent-Type: text/x-tea\\n\\ntea'], on-exit: stdout}}
    post: {inject: {cmd: [sh, -c, 'echo out; exit 3'], on-exit: stdout, encoding: raw}}
  /plain:
    get: {inject: {cmd: echo hello, on-exit: stdout}}
  /empty:
    get: {inject: {cmd: 'true', on-exit: 204}}
  /error:
    get: {inject: {cmd: 'true'}}
",
    )
    .start();
    let tea = stage.get("/stdout").expect(418);
    assert_eq!((tea.text().as_str(), tea.header("content-type")), ("tea", Some("text/x-tea")));
    assert_eq!(stage.get("/plain").expect(200).text(), "hello\n");
    assert_eq!(stage.get("/empty").expect(204).body, b"");
    let failed = stage.post("/stdout", "").expect(502).json();
    assert_eq!((&failed["exit"], &failed["signal"]), (&3.into(), &serde_json::Value::Null));
    assert_eq!(stage.get("/error").expect(502).json()["exit"], 0);
}

#[test]
fn u04_a_caller_may_shorten_the_timeout_and_going_away_ends_the_process() {
    let stage = Home::new(
        "",
        "  /kill:\n    get: {inject: {cmd: sleep 100.375, timeout: 60000}}\n  /go:\n    get: {inject: {cmd: sleep 1.375, timeout: 60000, on-disconnect: continue}}\n",
    )
    .start();
    let short = stage.send("GET", "/kill", &[("x-timeout", "100")], b"").expect(504);
    assert!(short.took < Duration::from_millis(250), "{:?}", short.took);
    stage.send("GET", "/kill", &[("x-timeout", "soon")], b"").expect(400);
    let leave = |path: &str, word: &str| {
        let mut stream = TcpStream::connect(stage.address).expect("the port is open");
        stream.write_all(format!("GET {path} HTTP/1.1\r\nhost: a\r\n\r\n").as_bytes()).expect("it is sent");
        eventually("it runs", || if running(word).is_empty() { Err("not yet".into()) } else { Ok(()) });
        let left = now();
        drop(stream);
        eventually("it ends", || if running(word).is_empty() { Ok(()) } else { Err("not yet".into()) });
        left.elapsed()
    };
    assert!(leave("/kill", "100.375") < Duration::from_secs(1));
    assert!(leave("/go", "1.375") > Duration::from_millis(500), "it was left to finish");
    stage.is_empty();
}

#[test]
fn u04_a_thousand_requests_with_random_kills_leave_no_zombie_and_no_orphan() {
    // By the last digits of the id: answers, exits, hangs, double forks, and kills itself.
    let script = "case $REQUEST_ID in
*[0-5]) echo '{}'; exit 0;; *[6-7]) kill -9 $$;; *[89]) sleep 200.5 & exit 1;; *[ab]) (setsid sleep 200.5 &); exit 0;;
*c) (env -i setsid /bin/sleep 200.5 &) ; exit 0;; *) sleep 200.5;; esac";
    let home = Home::new("max_inflight: 8\nqueue: 500", "  /a:\n    get: {inject: {cmd: ./any.sh, on-exit: stdout, timeout: 100}}\n");
    home.script("any.sh", script);
    let stage = home.start();
    let statuses = Mutex::new(HashSet::new());
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                for _ in 0..125 {
                    statuses.lock().expect("no panic").insert(stage.get("/a").status);
                }
            });
        }
    });
    assert_eq!(*statuses.lock().expect("no panic"), HashSet::from([200, 502, 504]));
    stage.is_empty();
    assert!(running("200.5").is_empty(), "{:?}", running("200.5"));
    assert_eq!(stage.metric("urocket_processes_total"), 1000.0);
}

#[test]
fn u08_paths_and_verbs_that_are_not_there() {
    let stage = Home::new(
        "",
        "  /a:\n    get: {inject: {cmd: echo got, on-exit: stdout}}\n    delete: {inject: {cmd: echo gone, on-exit: stdout}}\n  /b:\n    options: {inject: {cmd: echo own, on-exit: stdout}}\n",
    )
    .start();
    for (verb, path, status, allow, body) in [
        ("GET", "/a", 200, None, "got\n"),
        ("GET", "/a?x=1", 200, None, "got\n"),
        ("HEAD", "/a", 200, None, ""),
        ("DELETE", "/a", 200, None, "gone\n"),
        ("OPTIONS", "/a", 204, Some("GET, DELETE, HEAD, OPTIONS"), ""),
        ("OPTIONS", "/b", 200, None, "own\n"),
        ("POST", "/a", 405, Some("GET, DELETE, HEAD, OPTIONS"), "-"),
        ("BREW", "/a", 405, Some("GET, DELETE, HEAD, OPTIONS"), "-"),
        ("HEAD", "/b", 405, Some("OPTIONS"), ""),
        ("GET", "/c", 404, None, "-"),
        ("GET", "/a/", 404, None, "-"),
        ("GET", "//a", 404, None, "-"),
    ] {
        let answer = stage.send(verb, path, &[], b"").expect(status);
        assert_eq!(answer.header("allow"), allow, "{verb} {path}");
        if body != "-" {
            assert_eq!(answer.text(), body, "{verb} {path}");
        }
    }
}

#[test]
fn an_answer_without_a_wait_is_still_heard() {
    // Writes and leaves, without reading what the stage says of it.
    let stage = shell();
    let script = "exec perl -MIO::Socket::UNIX -e '$s = IO::Socket::UNIX->new($ENV{UROCKET_SOCKET}); \
        print $s \"POST /uri/$ENV{REQUEST_ID} HTTP/1.1\\r\\nHost: a\\r\\nContent-Length: 2\\r\\n\\r\\nhi\"; $s->flush; kill 9, $$'";
    for _ in 0..10 {
        assert_eq!(stage.post("/sh", script).expect(200).text(), "hi");
    }
}

#[test]
fn keep_alive_carries_one_request_after_the_other() {
    let stage = Home::new("", "  /a:\n    get: {inject: {cmd: echo hi, on-exit: stdout}}\n").start();
    let mut stream = TcpStream::connect(stage.address).expect("the port is open");
    for _ in 0..3 {
        stream.write_all(b"GET /a HTTP/1.1\r\nhost: a\r\n\r\n").expect("it is sent");
        let mut seen = Vec::new();
        while !seen.ends_with(b"hi\n") {
            let mut byte = [0; 256];
            let length = stream.read(&mut byte).expect("it answers");
            assert!(length > 0, "{}", String::from_utf8_lossy(&seen));
            seen.extend_from_slice(&byte[..length]);
        }
    }
}
