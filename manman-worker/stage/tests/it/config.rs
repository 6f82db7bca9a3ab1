//! U6 and U7: the file, and a stage that does not start.

use std::net::TcpListener;

use crate::support::Home;

#[test]
fn u06_every_spelling_and_every_key_is_read() {
    let stage = Home::new(
        "servicename: all\nbind: 127.0.0.1\nmax-inflight: 4\nqueue: 2\nstats: false\nmax_body: 1000000\nstrict-peer: true\nreply_uid: 65534\nreply-headers: [server]\ndrain: 2000",
        "  get/pets:
    GET:
      validate-in: false
      validate_out: false
      in:
        wd: /usr
        env: [A=b=c]
        cmd: [sh, -c, 'echo $A $PWD']
        channel: cmdline
        encoding: raw
        timeout: 2000
        on-exit: stdout
        on_disconnect: continue
        limits: {files: 64}
        mode: spawn
        headers: [X-Trace]
      logstdout: header
      out: usocket://uri/{req_id}
      stats: true
      max_inflight: 2
      queue: 1
  /pets/{petId}:
    put:
      validatein: false
      inject: {cmd: [sh, -c, 'echo template $PARAM_petId'], env: {B: c}, on-exit: stdout, encoding: raw}
      logstdout: true
      outtake: usocket://uri/{req_id}
  /pets/mine:
    put:
      inject: {cmd: echo concrete, on-exit: stdout, encoding: raw}
",
    )
    .start();
    let pets = stage.get("/get/pets").expect(200);
    assert_eq!(pets.text(), "b=c /usr\n");
    assert!(pets.header("urocket-stats").is_some());
    assert!(stage.send("PUT", "/pets/mine", &[], b"").expect(200).text().starts_with("concrete"));
    assert_eq!(stage.send("PUT", "/pets/7", &[], b"").expect(200).text(), "template 7\n");
}

#[test]
fn u06_what_is_misspelt_or_missing_is_78_and_says_where() {
    for (top, paths, words) in [
        ("sockpath: /x", "  {}", &["sockpath", "3"][..]),
        ("", "  /a:\n    get:\n      inject: {cmd: 'true'}\n      logstdot: true\n", &["logstdot", "8"]),
        ("", "  /a:\n    get:\n      inject: {cmd: 'true', channel: socket}\n", &["channel", "socket"]),
        ("", "  /a:\n    fetch:\n      inject: {cmd: 'true'}\n", &["fetch", "no verb"]),
        ("", "  /a:\n    get:\n      inject: {cmd: manman-no-such}\n", &["GET /a", "manman-no-such"]),
        ("", "  /a:\n    get:\n      inject: {cmd: 'true', wd: /no/such}\n", &["GET /a", "/no/such"]),
        ("", "  /a:\n    get:\n      inject: {cmd: 'echo \"x'}\n", &["GET /a", "quote"]),
        ("", "  /a:\n    get:\n      inject: {cmd: 'true', timeout: 0}\n", &["GET /a", "timeout"]),
        ("", "  /a:\n    get:\n      inject: {cmd: 'true', encoding: xml}\n", &["xml"]),
        ("", "  /a:\n    get:\n      inject: {cmd: 'true', headers: [Proxy]}\n", &["GET /a", "Proxy"]),
        ("", "  /a:\n    get:\n      validatein: true\n      inject: {cmd: 'true'}\n", &["GET /a", "openapi"]),
        ("", "  /a/{b}:\n    get:\n      inject: {cmd: 'true'}\n  a/{c}:\n    get:\n      inject: {cmd: 'true'}\n", &["/a/{b}", "a/{c}"]),
        ("", "  /_/a:\n    get:\n      inject: {cmd: 'true'}\n", &["/_/"]),
        ("reply-headers: [Content-Length]", "  {}", &["content-length"]),
        ("port: 1\nport: 2", "  {}", &["port"]),
    ] {
        let (code, error) = Home::new(top, paths).refused(&[]);
        assert_eq!(code, Some(78), "{error}");
        assert!(words.iter().all(|word| error.contains(word)), "{words:?} in {error}");
        assert!(error.contains("hint: "), "{error}");
    }
    let home = Home::new("", "  {}");
    std::fs::remove_file(home.path("service.yaml")).expect("it is there");
    assert_eq!(home.refused(&[]).0, Some(78));
}

#[test]
fn u07_another_outtake_is_refused_before_the_port_is_open() {
    for outtake in [
        "http://example.org/{req_id}",
        "usocket://uri/",
        "usocket://uri/x{req_id}",
        "unix://uri/{req_id}",
        "{req_id}",
        "usocket://one/the/uuuid-123123-ggess-2123123",
    ] {
        let port = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a free port").port();
        let home = Home::new("", &format!("  /pets:\n    post:\n      inject: {{cmd: 'true'}}\n      outtake: \"{outtake}\"\n"));
        let (code, error) = home.refused(&["--port", &port.to_string()]);
        assert_eq!(code, Some(78), "{error}");
        assert!(error.contains("POST /pets") && error.contains(outtake), "{error}");
    }
    Home::new("", "  /a:\n    get:\n      inject: {cmd: 'true'}\n      outtake: usocket://a/{req_id}/b\n").start();
}

#[test]
fn check_says_whether_it_would_start_and_does_not() {
    let home = Home::new("", "  /a:\n    get: {inject: {cmd: 'true'}}\n");
    let sound = home.command(&["--check"]).output().expect("it runs");
    assert!(sound.status.success() && String::from_utf8_lossy(&sound.stdout).contains("1 routes"));
    assert!(!home.socket().exists());
    home.write("", "  /a:\n    get: {inject: {cmd: no-such-thing}}\n");
    assert_eq!(home.refused(&["--check"]).0, Some(78));
}
