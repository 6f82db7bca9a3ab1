//! U9 to U16: what a process is given, what it prints, what it uses.

use std::path::Path;
use std::time::Duration;

use crate::support::{Home, Stage, eventually, running};

#[test]
fn u09_a_process_has_its_directory_and_just_these_variables() {
    let home = Home::new(
        "",
        "  /p/{petId}:
    post:
      inject:
        wd: deep
        env: [MYENV=CI, LANG=C]
        cmd: [/usr/bin/env]
        channel: stdin
        encoding: raw
        on-exit: stdout
        headers: [X-Trace, User-Agent]
  /wd:
    get: {inject: {wd: deep, cmd: pwd, on-exit: stdout}}
",
    );
    std::fs::create_dir(home.path("deep")).expect("it is new");
    let deep = std::fs::canonicalize(home.path("deep")).expect("it is there");
    let socket = home.socket();
    let stage = home.start();
    assert_eq!(stage.get("/wd").text().trim(), deep.to_str().expect("it is text"));
    let answer = stage
        .send(
            "POST",
            "/p/a%20b?x=1&y",
            &[("x-trace", "t1"), ("proxy", "http://evil"), ("content-type", "text/plain"), ("x-other", "no")],
            b"",
        )
        .expect(200);
    let mut seen: Vec<String> = answer.text().lines().map(str::to_owned).collect();
    seen.sort();
    let deadline = seen.iter().position(|line| line.starts_with("DEADLINE_MS=")).map(|at| seen.remove(at)).expect("it is there");
    assert!(deadline["DEADLINE_MS=".len()..].parse::<u64>().expect("a number") > 1_700_000_000_000);
    // `env` runs in an environment that has PWD only if a shell has set it.
    let home = std::env::var("HOME").map(|home| format!("HOME={home}")).ok();
    let zone = ["TZ", "TMPDIR"].into_iter().filter_map(|name| Some(format!("{name}={}", std::env::var(name).ok()?)));
    let mut wanted = vec![
        "CONTENT_TYPE=text/plain".to_owned(),
        "HTTP_X_TRACE=t1".to_owned(),
        "LANG=C".to_owned(),
        "MYENV=CI".to_owned(),
        "PARAM_petId=a b".to_owned(),
        "PATH=/usr/local/bin:/usr/bin:/bin".to_owned(),
        "QUERY_STRING=x=1&y".to_owned(),
        format!("REQUEST_ID={}", answer.id()),
        "REQUEST_METHOD=POST".to_owned(),
        "URIPATH=/p/a%20b".to_owned(),
        format!("UROCKET_SOCKET={}", socket.display()),
        "UROCKET_STAGE=1".to_owned(),
    ];
    wanted.extend(home);
    wanted.extend(zone);
    wanted.sort();
    assert_eq!(seen, wanted);
}

#[test]
fn u10_a_nul_is_refused_where_no_variable_can_hold_it() {
    let stage = Home::new("", "  /p/{a}:\n    get: {inject: {cmd: env, on-exit: stdout}}\n").start();
    assert!(stage.get("/p/x%00y").expect(400).json()["detail"].as_str().is_some_and(|detail| detail.contains("NUL")));
    assert!(stage.get("/p/x?q=%00").expect(200).text().contains("QUERY_STRING=q=%00"), "that is three characters");
}

/// Writes its arguments, each closed by NUL, to a file.
fn argv() -> (Stage, std::path::PathBuf) {
    let home = Home::new(
        "max_body: 30000000",
        "  /json:\n    post: {inject: {cmd: ./argv.sh one, channel: cmdline, encoding: json, on-exit: 204}}
  /raw:\n    post: {inject: {cmd: ./argv.sh, encoding: raw, on-exit: 204}}
  /dash:\n    post: {inject: {cmd: ./argv.sh --, encoding: raw, on-exit: 204}}
  /place:\n    post: {inject: {cmd: [./argv.sh, '{{jsonpayload}}', after], encoding: raw, on-exit: 204}}\n",
    );
    let file = home.path("argv");
    home.script("argv.sh", &format!("for a in \"$@\"; do printf '%s\\0' \"$a\"; done > {}", file.display()));
    (home.start(), file)
}

#[test]
fn u11_the_payload_is_one_argument_byte_for_byte() {
    let (stage, file) = argv();
    let touched = Path::new("/tmp/urocket-test-p");
    let nasty = format!("$(touch {p}) `touch {p}` '\";\n&& touch {p} | * ~ \\ \t é", p = touched.display());
    let mut bytes = nasty.clone().into_bytes();
    bytes.extend_from_slice(b"\xff\xfe");
    for (path, before, payload, after) in [
        ("/raw", &b""[..], bytes.as_slice(), &b"\0"[..]),
        ("/raw", b"", b"", b"\0"),
        ("/dash", b"--\0", b"-rf /", b"\0"),
        ("/place", b"", b"in the middle", b"\0after\0"),
    ] {
        stage.send("POST", path, &[], payload).expect(204);
        assert_eq!(std::fs::read(&file).expect("it was written"), [before, payload, after].concat(), "{path}");
    }
    let json = serde_json::json!({ "a": nasty, "et": true }).to_string();
    stage.post("/json", &json).expect(204);
    assert_eq!(std::fs::read(&file).expect("it was written"), [b"one\0", json.as_bytes(), b"\0"].concat());
    assert!(!touched.exists(), "a shell has read it");
    assert!(stage.send("POST", "/raw", &[], b"-rf /").expect(400).text().contains("option"));
    stage.send("POST", "/raw", &[], b"a\0b").expect(400);
}

#[test]
fn u11_an_argument_has_its_length_and_a_shell_is_never_given_the_payload() {
    let (stage, file) = argv();
    let longest = vec![b'x'; 131_071];
    stage.send("POST", "/raw", &[], &longest).expect(204);
    assert_eq!(std::fs::read(&file).expect("it was written").len(), longest.len() + 1);
    stage.send("POST", "/raw", &[], &[longest.as_slice(), b"x"].concat()).expect(413);
    for cmd in [
        "[sh, -c, 'echo {{jsonpayload}}']",
        "[bash, -ec, '{{jsonpayload}}']",
        "[echo, 'x={{jsonpayload}}']",
        "'sh -c \"echo {{jsonpayload}}\"'",
    ] {
        let (code, error) = Home::new("", &format!("  /a:\n    post:\n      inject: {{cmd: {cmd}}}\n")).refused(&[]);
        assert_eq!(code, Some(78), "{cmd}: {error}");
        assert!(error.contains("POST /a"), "{error}");
    }
}

#[test]
fn u12_fifty_megabytes_go_through_stdin_and_a_file() {
    let stage = Home::new(
        "",
        "  /stdin:\n    post: {inject: {cmd: cat, channel: stdin, encoding: raw, on-exit: stdout, timeout: 20000}}
  /file:\n    post: {inject: {cmd: [sh, -c, 'stat -c %a \"$UROCKET_PAYLOAD\"; echo \"$UROCKET_PAYLOAD\"; sha256sum < \"$UROCKET_PAYLOAD\"'], channel: file, encoding: raw, on-exit: stdout, timeout: 20000}}
  /unread:\n    post: {inject: {cmd: echo fine, channel: stdin, encoding: raw, on-exit: stdout}}
  /stuck:\n    post: {inject: {cmd: sleep 60, channel: stdin, encoding: raw, timeout: 200}}\n",
    )
    .start();
    let big: Vec<u8> = (0..50_u32 << 20).map(|at| (at ^ (at >> 8)) as u8).collect();
    assert!(stage.send("POST", "/stdin", &[], &big).expect(200).body == big, "it came back as it went");
    let file = stage.send("POST", "/file", &[], b"in a file").expect(200).text();
    let lines: Vec<&str> = file.lines().collect();
    assert_eq!((lines[0], lines[2].split(' ').next()), ("600", Some("085df6feb26770ac8c2486fbc8eabba87ecac97ff1b41a9a1f14aafdc4ac8678")));
    eventually("the file is removed", || if Path::new(lines[1]).exists() { Err(lines[1].to_owned()) } else { Ok(()) });
    assert_eq!(stage.send("POST", "/unread", &[], &big[..10 << 20]).expect(200).text(), "fine\n", "it did not want it");
    let stuck = stage.send("POST", "/stuck", &[], &big[..10 << 20]).expect(504);
    assert!(stuck.took < Duration::from_millis(2000), "{:?}", stuck.took);
    stage.is_empty();
}

#[test]
fn u13_json_is_looked_at_and_raw_is_not() {
    let stage = Home::new(
        "",
        "  /json:\n    post: {inject: {cmd: cat, channel: stdin, encoding: json, on-exit: stdout}}
    get: {inject: {cmd: 'true', on-exit: 204}}
  /raw:\n    post: {inject: {cmd: cat, channel: stdin, encoding: raw, on-exit: stdout}}\n",
    )
    .start();
    for (text, good) in
        [("{\"a\": 1}", true), (" [1, 2]\n", true), ("7", true), ("{\"a\": 1", false), ("", false), ("{} {}", false), ("\u{1}", false)]
    {
        let answer = stage.post("/json", text);
        assert_eq!(answer.status, if good { 200 } else { 400 }, "{text}");
        if good {
            assert_eq!(answer.text(), text, "not one byte is another");
        }
        assert_eq!(stage.post("/raw", text).expect(200).text(), text);
    }
    stage.get("/json").expect(204);
}

#[test]
fn u14_a_flood_does_not_block_and_the_log_has_the_id() {
    let stage = Home::new(
        "",
        "  /flood:
    get:
      logstdout: true
      inject: {cmd: [sh, -c, 'yes errors | head -c 200000 >&2; echo \"to log\"; head -c 20000 /dev/zero | tr \"\\0\" x; curl -s --unix-socket $UROCKET_SOCKET -d ok http:/uri/$REQUEST_ID'], timeout: 5000}
  /asked:
    get:
      logstdout: header
      inject: {cmd: [sh, -c, 'echo spoken'], on-exit: 204}
  /quiet:
    get: {inject: {cmd: [sh, -c, 'echo unspoken'], on-exit: 204}}
",
    )
    .start();
    let flood = stage.get("/flood").expect(200);
    let id = flood.id();
    let line = format!("to log request.id={id}");
    eventually("the line is logged", || if stage.log().contains(&line) { Ok(()) } else { Err("not yet".into()) });
    eventually("the process has gone", || if stage.record(&id)["outcome"] == "answered" { Ok(()) } else { Err("not yet".into()) });
    let record = stage.record(&id);
    assert_eq!(record["stderr"].as_str().map(str::len), Some(64 << 10));
    assert_eq!(record["stderr_dropped"], 200_000 - (64 << 10));
    assert!(record["stdout"].as_str().is_some_and(|text| text.starts_with("to log\n")), "{record}");
    assert_eq!((&record["status"], &record["exit"], &record["label"]), (&200.into(), &0.into(), &"GET /flood".into()));
    // 20,000 bytes without an end of line are two lines.
    assert!(stage.log().lines().filter(|line| line.contains(&format!("request.id={id}")) && line.contains("xxxx")).count() == 2);
    stage.get("/asked").expect(204);
    assert!(!stage.log().contains("spoken"));
    stage.send("GET", "/asked", &[("x-urocket-log", "stdout")], b"").expect(204);
    eventually("the line is logged", || if stage.log().contains(" spoken ") { Ok(()) } else { Err("not yet".into()) });
    let quiet = stage.get("/quiet").id();
    eventually(
        "it is kept though not logged",
        || if stage.record(&quiet)["stdout"] == "unspoken\n" { Ok(()) } else { Err("not yet".into()) },
    );
    assert!(!stage.log().contains("unspoken"));
    stage.get("/_/requests/0b54cd0e-32a5-4a0c-9c4b-0a1ddc9ba5ed").expect(404);
}

#[test]
fn u15_nothing_is_left_of_a_request() {
    let stage = Home::new(
        "",
        "  /background:\n    get: {inject: {cmd: [sh, -c, 'sleep 300.125 & exit'], on-exit: 204}}
  /session:\n    get: {inject: {cmd: [sh, -c, 'setsid sleep 300.125 & exit'], on-exit: 204}}
  /daemon:\n    get: {inject: {cmd: [sh, -c, '(setsid sh -c \"sleep 300.125 & sleep 300.125\" >/dev/null 2>&1 &) ; exit 0'], on-exit: 204}}
  /scrubbed:\n    get: {inject: {cmd: [sh, -c, '(env -i setsid /bin/sleep 300.125 &) ; exit 0'], on-exit: 204}}
  /helper:\n    get: {inject: {cmd: [sh, -c, '(setsid sleep 1 &); sleep 0.5; pgrep -f \"^sleep 1\" >/dev/null && exit 0; exit 1'], on-exit: 204, timeout: 3000}}\n",
    )
    .start();
    for path in ["/background", "/session", "/daemon", "/scrubbed"] {
        stage.get(path).expect(204);
        eventually(path, || if running("300.125").is_empty() { Ok(()) } else { Err(format!("{:?}", running("300.125"))) });
    }
    // A child that has left the group belongs to its request for as long as that lasts.
    stage.get("/helper").expect(204);
    stage.is_empty();
}

/// Starts a process that gets the very pid, and the group of it, in the stage's own number space.
fn takes_over(stage: &Stage, pid: i32, name: &str) {
    let namespace = format!("--pid=/proc/{}/ns/pid_for_children", stage.child.id());
    let start = format!("echo {} > /proc/sys/kernel/ns_last_pid; setsid sleep {name} >/dev/null 2>&1 & echo $!", pid - 1);
    eventually("the pid is free", || {
        let started = std::process::Command::new("nsenter").args([&namespace, "--", "sh", "-c", &start]).output().expect("it runs");
        let got = String::from_utf8_lossy(&started.stdout).trim().to_owned();
        if got == pid.to_string() {
            return Ok(());
        }
        for other in running(name) {
            let other = rustix::process::Pid::from_raw(other.cast_signed()).expect("a pid");
            let _ = rustix::process::kill_process(other, rustix::process::Signal::KILL);
        }
        Err(format!("it got {got} and not {pid}: {}", String::from_utf8_lossy(&started.stderr)))
    });
}

#[test]
fn u15_a_pid_that_was_given_away_again_is_never_hit() {
    let home = Home::new(
        "max_inflight: 8",
        "  /ends:\n    get: {inject: {cmd: [sh, -c, 'echo $$'], on-exit: stdout, timeout: 500}}
  /overdue:\n    get: {inject: {cmd: [sh, -c, 'echo $$ > pid; exec sleep 60'], timeout: 100}}
  /failed:\n    get: {inject: {cmd: [sh, -c, 'echo $$ > pid; kill -9 $$'], timeout: 500}}\n",
    );
    let file = home.path("pid");
    let stage = home.start_in_namespace();
    let written = || std::fs::read_to_string(&file).expect("it was written").trim().parse::<i32>().expect("a pid");
    // Strangers take the pids of processes that ended by themselves, by a signal, and by their timeout:
    // a timer, a second signal or a wait that outlives its process hits one of them.
    let mut strangers = Vec::new();
    for round in 0..4 {
        let ended = stage.get("/ends").expect(200).text().trim().parse().expect("a pid");
        strangers.push((ended, format!("8{round}.125")));
        takes_over(&stage, ended, &strangers[strangers.len() - 1].1);
        for (path, status, name) in [("/failed", 502, "9"), ("/overdue", 504, "7")] {
            stage.get(path).expect(status);
            strangers.push((written(), format!("{name}{round}.125")));
            takes_over(&stage, written(), &strangers[strangers.len() - 1].1);
        }
    }
    // Longer than timeout and grace of every request together.
    let until = crate::support::now() + Duration::from_millis(2700);
    eventually("the timers have run out", || if crate::support::now() > until { Ok(()) } else { Err("not yet".into()) });
    for (pid, name) in strangers {
        assert_eq!(running(&format!("sleep\0{name}")).len(), 1, "the stranger that took pid {pid} was killed");
    }
    assert_eq!(stage.metric("urocket_killed_total"), 4.0, "the other timers were cancelled by the end of their processes");
}

#[test]
fn u16_what_a_process_used_is_told() {
    let stage = Home::new(
        "stats: true",
        "  /busy:\n    get: {inject: {cmd: [sh, -c, 'i=0; while [ $i -lt 200000 ]; do i=$((i+1)); done'], on-exit: 204, timeout: 10000}}
  /slow:\n    get: {inject: {cmd: sleep 30.625, timeout: 30000}}\n",
    )
    .start();
    let stats = stage.get("/busy").expect(204).header("urocket-stats").expect("it is there").to_owned();
    let value =
        |name: &str| stats.split(';').find_map(|pair| pair.strip_prefix(name)?.strip_prefix('=')?.parse::<f64>().ok()).expect("a number");
    assert!(value("utime") > 0.02 && value("wall") >= value("utime") * 0.9 && value("maxrss") > 500_000.0, "{stats}");
    assert!(value("stime") >= 0.0);
    assert!(stage.metric("urocket_process_user_seconds_total") > 0.02);
    let address = stage.address;
    std::thread::scope(|scope| {
        scope.spawn(move || {
            crate::support::exchange(std::net::TcpStream::connect(address).expect("open"), "GET", "/slow", &[("x-timeout", "3s")], b"")
        });
        eventually("it is sampled while it runs", || {
            if stage.metric("urocket_running_rss_bytes") > 0.0 { Ok(()) } else { Err("not yet".into()) }
        });
    });
}

#[test]
fn u16_limits_hold() {
    let stage = Home::new(
        "",
        "  /hog:\n    get: {inject: {cmd: [/usr/bin/python3, -S, -c, 'x = bytearray(300 << 20); print(len(x))'], on-exit: stdout, timeout: 15000, limits: {memory: 64M}}}
  /files:\n    get: {inject: {cmd: [sh, -c, 'ulimit -n'], on-exit: stdout, limits: {files: 33}}}
  /pids:\n    get: {inject: {cmd: [sh, -c, 'for i in 1 2 3 4 5 6 7 8 9 10; do sleep 1 & done; wait'], on-exit: stdout, timeout: 5000, limits: {pids: 5}}}
  /fits:\n    get: {inject: {cmd: [sh, -c, 'echo $0 fits'], on-exit: stdout, limits: {memory: 256M, pids: 50, cpu: 0.5, files: 100}}}\n",
    )
    .start();
    let hog = stage.get("/hog").expect(502);
    // A control group kills it; where none is to be had, its own limit makes it end.
    let problem = hog.json();
    let mut groups = vec![hog.id()];
    let by_group = problem["reason"] == "oom" && problem["signal"] == 9;
    let by_itself = problem["stderr_tail"].as_str().is_some_and(|tail| tail.contains("MemoryError"));
    assert!(by_group || by_itself, "{problem}");
    assert_eq!(stage.get("/files").expect(200).text(), "33\n");
    let fits = stage.get("/fits").expect(200);
    assert_eq!(fits.text(), "sh fits\n");
    groups.push(fits.id());
    if std::fs::metadata("/sys/fs/cgroup").is_ok() && rustix::process::geteuid().is_root() {
        assert!(by_group, "root can have a control group: {problem}");
        let pids = stage.get("/pids").expect(502);
        groups.push(pids.id());
        let pids = pids.json();
        assert!(pids["stderr_tail"].as_str().is_some_and(|tail| tail.contains("ork")), "{pids}");
    }
    stage.is_empty();
    // Others of this machine have groups of their own.
    let groups: Vec<String> = groups.iter().map(|id| format!("manman-stage-{}", id.replace('-', ""))).collect();
    let ours = |path: &std::path::PathBuf| groups.iter().any(|group| path.ends_with(group));
    let left: Vec<_> = walk(Path::new("/sys/fs/cgroup"), 3).into_iter().filter(ours).collect();
    assert!(left.is_empty(), "{left:?}");
}

fn walk(dir: &Path, depth: u32) -> Vec<std::path::PathBuf> {
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten().filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
    entries.flat_map(|entry| [vec![entry.path()], if depth > 0 { walk(&entry.path(), depth - 1) } else { Vec::new() }].concat()).collect()
}
