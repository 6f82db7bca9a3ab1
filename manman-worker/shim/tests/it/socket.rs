//! The socket: who is heard, and that nobody can hold the game up.

use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use manman_shim::client::{Client, News, Reply};
use manman_shim::proto::{CLIENTS_MAX, Request, STDIN_MAX, VERSION};
use manman_shim::spec::Stdio;

use crate::support::{Instance, LONG, NONCE, until};

fn cat() -> Instance {
    let instance = Instance::play(|instance| instance.spec("echo ready; exec cat"));
    instance.wait_for_line("ready");
    instance
}

#[test]
fn what_is_typed_is_read_and_what_is_printed_is_announced() {
    let instance = cat();
    assert_eq!(std::fs::metadata(instance.path("run/s")).unwrap().permissions().mode() & 0o777, 0o600);
    let mut client = instance.connect();
    client.tell(&Request::Subscribe { seqs: true, events: false }).unwrap();
    assert_eq!(client.type_in(b"say \xc3\xa4\nand more\n").unwrap(), 16);
    let mut last = 0;
    while last < 4 {
        let Some(News::LastSeq(seq)) = client.news().unwrap() else { panic!("only numbers are asked for") };
        assert!(seq > last, "each is newer than the one before");
        last = seq;
        // What is announced can be read.
        assert!(instance.records().last().unwrap().0 >= seq);
    }
    assert_eq!(instance.lines(), ["ready", "say ä", "and more"]);
    assert_eq!(client.ask(&Request::Note(b"a word\nof the manager's")).unwrap(), Reply::Appended(5));
    assert_eq!(instance.records()[4].2, "a word of the manager's");
    let Reply::Status(status) = client.ask(&Request::Status).unwrap() else { panic!("a status") };
    let status = String::from_utf8(status).unwrap();
    assert!(status.contains("phase=running\n") && status.contains("last_seq=5\n") && status.contains("stdin_open=1\n"), "{status}");
    assert_eq!(client.ask(&Request::Resize { rows: 1, columns: 1 }).unwrap(), Reply::Refused("the game has no terminal".to_owned()));
    client.tell(&Request::CloseStdin).unwrap();
    assert_eq!(instance.ended().code, Some(0));
}

#[test]
fn a_game_that_does_not_read_its_console_holds_nobody_up() {
    let instance = Instance::play(|instance| instance.spec("echo ready; while [ ! -e go ]; do sleep 0.01; done; wc -c"));
    instance.wait_for_line("ready");
    let mut client = instance.connect();
    let line = [b'x'; 8192];
    let mut taken = 0;
    loop {
        let now = client.type_in(&line).unwrap();
        taken += now;
        if now < line.len() {
            break;
        }
    }
    assert!(taken >= STDIN_MAX, "{taken}");
    assert_eq!(client.type_in(b"more").unwrap(), 0);
    std::fs::write(instance.path("data/go"), "").unwrap();
    until("all of it is read", || {
        let Reply::Status(status) = client.ask(&Request::Status).unwrap() else { panic!("a status") };
        String::from_utf8(status).unwrap().contains("stdin_waiting=0\n").then_some(())
    });
    client.tell(&Request::CloseStdin).unwrap();
    instance.ended();
    assert_eq!(instance.lines(), ["ready".to_owned(), taken.to_string()]);
}

#[test]
fn a_terminal_does_not_echo_and_has_a_size() {
    let instance = Instance::play(|instance| {
        let mut spec = instance
            .spec("stty size; read line; echo \"heard $line\"; stty size; tty > /dev/tty; test -t 0 -a -t 1 -a -t 2 && echo terminal");
        spec.stdio = Stdio::Pty { rows: 33, columns: 132 };
        spec
    });
    instance.wait_for_line("33 132");
    let mut client = instance.connect();
    client.tell(&Request::Resize { rows: 50, columns: 200 }).unwrap();
    client.type_in(b"hello\n").unwrap();
    assert_eq!(instance.ended().code, Some(0));
    let lines = instance.lines();
    assert_eq!(lines[..3], ["33 132", "heard hello", "50 200"]);
    assert!(lines[3].starts_with("/dev/pts/"), "{lines:?}");
    assert_eq!(lines[4..], ["terminal"]);
}

#[test]
fn strangers_are_not_heard() {
    let instance = cat();
    let wrong = Client::connect(&instance.run_dir(), "another-nonce", LONG).unwrap_err();
    assert_eq!(wrong.kind(), std::io::ErrorKind::PermissionDenied, "{wrong}");
    // Without a greeting, and with what is no frame: closed without a word.
    let mut bytes = Vec::new();
    Request::Kill.encode(1, &mut bytes);
    for speech in [bytes.as_slice(), b"GET / HTTP/1.1\r\n\r\n", &[0xff; 64]] {
        let mut stream = UnixStream::connect(instance.path("run/s")).unwrap();
        stream.set_read_timeout(Some(LONG)).unwrap();
        stream.write_all(speech).unwrap();
        let mut answer = Vec::new();
        // A reset says the same as an end.
        let _ = stream.read_to_end(&mut answer);
        assert_eq!(answer, b"");
    }
    if rustix::process::geteuid().is_root() {
        // Another user who knows the nonce and whom the files would let in.
        for (name, mode) in [("", 0o755), ("run", 0o755), ("run/s", 0o666)] {
            std::fs::set_permissions(instance.path(name), std::fs::Permissions::from_mode(mode)).unwrap();
        }
        let script = format!(
            "use Socket; $SIG{{PIPE}} = 'IGNORE'; socket(S, AF_UNIX, SOCK_STREAM, 0) or die; connect(S, sockaddr_un('{}')) or die \"connect $!\"; \
             syswrite(S, pack('VCVv', {}, 1, 1, 1) . '{NONCE}'); my $n = sysread(S, my $x, 100); print defined $n ? $n : 'reset'; print $x",
            instance.path("run/s").display(),
            7 + NONCE.len()
        );
        let stranger = |uid: &str| {
            let output =
                std::process::Command::new("setpriv").args(["--reuid", uid, "--clear-groups", "perl", "-e", &script]).output().unwrap();
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
            output.stdout
        };
        assert!(matches!(stranger("12345").as_slice(), b"0" | b"reset"));
        assert!(stranger("0").starts_with(b"11"), "the same words from root are heard");
    }
    let mut client = instance.connect();
    client.type_in(b"on\n").unwrap();
    instance.wait_for_line("on");
}

#[test]
fn a_client_of_a_later_version_is_answered() {
    let instance = cat();
    let mut stream = UnixStream::connect(instance.path("run/s")).unwrap();
    stream.set_read_timeout(Some(LONG)).unwrap();
    let mut bytes = Vec::new();
    Request::Hello { version: 99, nonce: NONCE.as_bytes() }.encode(1, &mut bytes);
    // A kind that this shim does not know, then one that it does, whose body has grown.
    bytes.extend_from_slice(&[9, 0, 0, 0, 120, 2, 0, 0, 0, 1, 2, 3, 4]);
    bytes.extend_from_slice(&[7, 0, 0, 0, 8, 3, 0, 0, 0, 3, 77]);
    stream.write_all(&bytes).unwrap();
    let mut answers = [0; 11 + 9 + 24 + 9];
    let mut got = 0;
    while got < 40 {
        got += stream.read(&mut answers[got..]).unwrap();
    }
    assert_eq!((answers[4], &answers[9..11]), (128, &VERSION.to_le_bytes()[..]));
    assert_eq!((answers[15], answers[16]), (130, 2));
}

#[test]
fn a_worker_that_hangs_on_all_connections_does_not_lock_the_next_one_out() {
    let instance = cat();
    let mut hung: Vec<_> = (0..CLIENTS_MAX).map(|_| instance.connect()).collect();
    for client in &mut hung {
        client.tell(&Request::Subscribe { seqs: true, events: true }).unwrap();
    }
    // Whoever spoke last stays.
    hung[0].tell(&Request::Subscribe { seqs: true, events: true }).unwrap();
    let mut next = instance.connect();
    next.type_in(b"hello\n").unwrap();
    instance.wait_for_line("hello");
    hung[1].set_timeout(Duration::from_secs(5)).unwrap();
    assert_eq!(
        loop {
            match hung[1].news() {
                Ok(_) => {}
                Err(error) => break error.kind(),
            }
        },
        std::io::ErrorKind::UnexpectedEof
    );
    assert!(hung[0].ask(&Request::Status).is_ok());
}

#[test]
fn a_client_that_never_reads_costs_the_game_nothing() {
    let instance = Instance::play(|instance| instance.spec("read line; i=0; while [ $i -lt 20000 ]; do echo $i; i=$((i+1)); done"));
    let mut stream = UnixStream::connect(instance.path("run/s")).unwrap();
    let mut bytes = Vec::new();
    Request::Hello { version: 1, nonce: NONCE.as_bytes() }.encode(1, &mut bytes);
    Request::Subscribe { seqs: true, events: true }.encode(2, &mut bytes);
    stream.write_all(&bytes).unwrap();
    // It asks and asks, until the shim takes no more or hangs up.
    bytes.clear();
    for id in 3..103 {
        Request::Status.encode(id, &mut bytes);
    }
    stream.set_write_timeout(Some(Duration::from_millis(300))).unwrap();
    let mut asked = 0;
    while asked < 200_000 && stream.write_all(&bytes).is_ok() {
        asked += 100;
    }
    assert!(asked < 200_000, "it was dropped");
    instance.connect().type_in(b"go\n").unwrap();
    assert_eq!(instance.ended().code, Some(0));
    assert_eq!(instance.lines().len(), 20_000);
}
