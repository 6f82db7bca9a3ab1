//! SteamCMD itself: fetched, unpacked, tried; from a server of the test's own, as Valve's is out of reach.

use std::path::Path;

use flate2::Compression;
use flate2::write::GzEncoder;
use manman_steam::{Failure, SteamConfig};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::rig::{Rig, VALHEIM, run, stand_in};

/// Answers every request with these bytes.
async fn serve(status: &'static str, body: Vec<u8>, length: Option<u64>) -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("it has one");
    tokio::spawn(async move {
        while let Ok((mut socket, _)) = listener.accept().await {
            let mut request = [0; 2048];
            let _ = socket.read(&mut request).await;
            let length = length.unwrap_or(body.len() as u64);
            let head = format!("HTTP/1.1 {status}\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n");
            let _ = socket.write_all(head.as_bytes()).await;
            let _ = socket.write_all(&body).await;
        }
    });
    format!("http://{address}/steamcmd_linux.tar.gz")
}

fn archive(files: &[(&str, &str)]) -> Vec<u8> {
    let mut builder = tar::Builder::new(GzEncoder::new(Vec::new(), Compression::fast()));
    for (path, content) in files {
        let mut header = tar::Header::new_gnu();
        // The builder itself would refuse a path that leads out.
        header.as_old_mut().name[..path.len()].copy_from_slice(path.as_bytes());
        header.set_size(content.len() as u64);
        header.set_mode(0o755);
        header.set_cksum();
        builder.append(&header, content.as_bytes()).expect("it is packed");
    }
    builder.into_inner().and_then(GzEncoder::finish).expect("it is packed")
}

fn steamcmd() -> Vec<u8> {
    let script = format!("#!/bin/sh\nexec {} \"$@\"\n", stand_in().display());
    archive(&[("steamcmd.sh", &script), ("linux32/steamcmd", &script)])
}

fn fetching(root: &Path, url: String) -> Rig {
    let _ = rustls::crypto::ring::default_provider().install_default();
    Rig::at(root, |config: &mut SteamConfig| {
        config.steamcmd = None;
        config.url = url;
    })
}

#[tokio::test]
async fn it_is_fetched_on_first_use() {
    let root = tempfile::tempdir().expect("a directory");
    let rig = fetching(root.path(), serve("200 OK", steamcmd(), None).await);
    rig.install(&run(VALHEIM), 1).await.expect("it is fetched and used");
    assert!(rig.root.join("steam/cmd/steamcmd.sh").is_file());
    assert!(rig.seen.lock().expect("no panic").iter().any(|progress| progress.step == "fetching SteamCMD"));
    // From then on it is there, whatever the network does.
    let again = fetching(root.path(), "http://127.0.0.1:1/".to_owned());
    again.steam.fetch_tool(|_| {}).await.expect("it is there");
}

#[tokio::test]
async fn what_is_no_steamcmd_is_refused() {
    let script = "#!/bin/sh\necho hello\n";
    for (name, status, body, length, failure) in [
        ("not there", "404 Not Found", Vec::new(), None, Failure::NoConnection),
        ("a page of a hotel", "200 OK", b"<html>please log in</html>".to_vec(), None, Failure::Tool),
        ("nothing", "200 OK", Vec::new(), None, Failure::Tool),
        ("too large", "200 OK", Vec::new(), Some(1 << 40), Failure::Tool),
        ("cut off", "200 OK", steamcmd()[..100].to_vec(), None, Failure::Tool),
        ("not all that was promised", "200 OK", steamcmd()[..100].to_vec(), Some(5000), Failure::NoConnection),
        ("leads out", "200 OK", archive(&[("../evil", "x"), ("steamcmd.sh", script), ("linux32/steamcmd", script)]), None, Failure::Tool),
        ("leads to /", "200 OK", archive(&[("/tmp/evil-manman", "x")]), None, Failure::Tool),
        ("something is missing", "200 OK", archive(&[("steamcmd.sh", script)]), None, Failure::Tool),
        ("does not say its name", "200 OK", archive(&[("steamcmd.sh", script), ("linux32/steamcmd", script)]), None, Failure::Tool),
    ] {
        let root = tempfile::tempdir().expect("a directory");
        let rig = fetching(root.path(), serve(status, body, length).await);
        let error = rig.install(&run(VALHEIM), 1).await.expect_err(name);
        assert_eq!(error.failure, failure, "{name}: {error}");
        assert!(error.hint.is_some(), "{name}");
        assert!(
            !root.path().join("evil").exists() && !root.path().join("steam/evil").exists() && !Path::new("/tmp/evil-manman").exists(),
            "{name}"
        );
        assert!(
            !root.path().join("steam/cmd.part").exists() && !root.path().join("steam/cmd.tar.gz.part").exists(),
            "{name} is cleaned up"
        );
        let good = fetching(root.path(), serve("200 OK", steamcmd(), None).await);
        good.steam.fetch_tool(|_| {}).await.unwrap_or_else(|error| panic!("after {name}: {error}"));
    }
}

#[tokio::test]
async fn one_that_was_named_is_looked_at() {
    let root = tempfile::tempdir().expect("a directory");
    let file = root.path().join("file");
    std::fs::write(&file, "x").expect("it is written");
    for bad in ["/nowhere/steamcmd", root.path().to_str().expect("text"), file.to_str().expect("text")] {
        let rig = Rig::at(root.path(), |config| config.steamcmd = Some(bad.into()));
        assert!(rig.steam.report().is_err_and(|problem| !problem.hint.is_empty() && problem.reason.contains(bad)));
        assert_eq!(rig.install(&run(VALHEIM), 1).await.expect_err(bad).failure, Failure::Tool);
    }
    let rig = Rig::at(root.path(), |_| {});
    assert_eq!(rig.steam.report().expect("it is there"), stand_in().display().to_string());
}

#[tokio::test]
async fn a_missing_loader_is_named_with_its_package() {
    if Path::new("/lib/ld-linux.so.2").exists() || Path::new("/lib/i386-linux-gnu/ld-linux.so.2").exists() {
        eprintln!("skipped: this machine has a 32 bit loader");
        return;
    }
    let root = tempfile::tempdir().expect("a directory");
    std::fs::create_dir(root.path().join("linux32")).expect("it is made");
    std::fs::write(root.path().join("linux32/steamcmd"), b"\x7fELF\x01 and so on").expect("it is written");
    std::fs::copy(stand_in(), root.path().join("steamcmd.sh")).expect("it is copied");
    let rig = Rig::at(root.path(), |config| config.steamcmd = Some(root.path().join("steamcmd.sh")));
    assert!(rig.steam.report().is_err_and(|problem| problem.hint.contains("lib32gcc-s1")));
    let error = rig.install(&run(VALHEIM), 1).await.expect_err("it can not run");
    assert_eq!(error.failure, Failure::Loader32);
    assert!(error.hint.expect("there is one").contains("lib32gcc-s1"));
    let none = Rig::at(root.path(), |config| config.steamcmd = None);
    assert!(none.steam.report().is_err_and(|problem| problem.hint.contains("lib32gcc-s1")));
}
