//! What no caller and no script shall do to a stage.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use crate::support::{Home, eventually, running};

#[test]
fn ten_megabytes_nul_and_quotes_reach_only_who_can_hold_them() {
    let stage = Home::new(
        "max_body: 11000000",
        "  /arg:\n    post: {inject: {cmd: [sh, -c, 'printf %s \"$1\"', sh], encoding: raw, on-exit: stdout}}
  /stdin:\n    post: {inject: {cmd: cat, channel: stdin, encoding: raw, on-exit: stdout, timeout: 10000}}\n",
    )
    .start();
    for nasty in ["'", "\"", "$()", "`id`", "a\nb\r\nc", "\\", "%s%n", "; rm -rf /tmp/x", "é\u{202e}", "!!", "*"] {
        assert_eq!(stage.post("/arg", nasty).expect(200).text(), nasty);
    }
    stage.post("/arg", "a\0b").expect(400);
    stage.post("/arg", "--version").expect(400);
    let big = vec![0_u8; 10 << 20];
    stage.send("POST", "/arg", &[], &big).expect(413);
    assert!(stage.send("POST", "/stdin", &[], &big).expect(200).body == big);
    stage.send("POST", "/stdin", &[], &vec![0; 12_000_000]).expect(413);
}

#[test]
fn a_fork_bomb_stays_in_its_limit_and_ends_with_its_time() {
    if !rustix::process::geteuid().is_root() {
        return eprintln!("a control group needs root or delegation");
    }
    let home = Home::new(
        "",
        "  /bomb:\n    get: {inject: {cmd: ./bomb.sh, timeout: 500, limits: {pids: 40}}}\n  /ok:\n    get: {inject: {cmd: 'true', on-exit: 204}}\n",
    );
    // Each one leaves the group, too.
    home.script("bomb.sh", "while :; do setsid $0 & $0 & sleep 0.01; done");
    let word = home.path("bomb.sh");
    let stage = home.start();
    let answer = stage.get("/bomb");
    // A shell that can not fork any more ends; one that can lives until its time is over.
    assert!([502, 504].contains(&answer.status) && answer.took < Duration::from_millis(1500), "{} after {:?}", answer.status, answer.took);
    stage.get("/ok").expect(204);
    eventually("all of it has gone", || {
        let left = running(word.to_str().expect("it is text")).len();
        if left == 0 { Ok(()) } else { Err(left.to_string()) }
    });
    stage.is_empty();
}

#[test]
fn half_a_request_and_nonsense_do_no_harm() {
    let stage = Home::new("", "  /a:\n    post: {inject: {cmd: cat, channel: stdin, encoding: raw, on-exit: stdout}}\n").start();
    for nonsense in [
        &b"\0\0\0\0\r\n\r\n"[..],
        b"GET\r\n\r\n",
        b"POST /a HTTP/1.1\r\ncontent-length: -1\r\n\r\n",
        b"POST /a HTTP/1.1\r\ncontent-length: 5\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
    ] {
        let mut stream = TcpStream::connect(stage.address).expect("the port is open");
        stream.write_all(nonsense).expect("it is sent");
        stream.shutdown(std::net::Shutdown::Write).expect("it is open");
        let mut all = Vec::new();
        let _ = stream.read_to_end(&mut all);
    }
    let mut half = TcpStream::connect(stage.address).expect("the port is open");
    half.write_all(b"POST /a HTTP/1.1\r\nhost: a\r\ncontent-length: 100\r\n\r\nhalf").expect("it is sent");
    drop(half);
    assert_eq!(stage.post("/a", "fine").expect(200).text(), "fine");
    eventually("nothing is held", || if stage.metric("urocket_in_flight") == 0.0 { Ok(()) } else { Err("it is".into()) });
    stage.get("/_/ready").expect(204);
}

#[test]
fn an_answer_that_is_too_long_is_refused_and_the_next_may_come() {
    let stage = Home::new(
        "max_body: 1000",
        "  /a:\n    get: {inject: {cmd: [sh, -c, 'head -c 2000 /dev/zero | curl -s -o /dev/null -w \"%{http_code}\" --unix-socket $UROCKET_SOCKET --data-binary @- http:/uri/$REQUEST_ID; curl -s --unix-socket $UROCKET_SOCKET -d short http:/uri/$REQUEST_ID'], timeout: 5000}}
  /out:\n    get: {inject: {cmd: head -c 2000 /dev/zero, on-exit: stdout}}\n",
    )
    .start();
    let answer = stage.get("/a").expect(200);
    assert_eq!(answer.text(), "short");
    eventually("the first was refused", || {
        if stage.record(&answer.id())["stdout"] == "413" { Ok(()) } else { Err(stage.record(&answer.id()).to_string()) }
    });
    assert!(stage.get("/out").expect(502).text().contains("too long"));
}
