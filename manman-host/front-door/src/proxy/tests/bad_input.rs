use super::*;

/// A waifu that does with a connection whatever `behave` does.
async fn odd_waifu<F>(behave: impl Fn(TcpStream) -> F + Send + Sync + 'static) -> SocketAddr
where
    F: Future<Output = ()> + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(behave(stream));
        }
    });
    address
}

/// Reads a request's head and then says `text`.
async fn say(mut stream: TcpStream, text: &'static str) {
    let mut buffer = vec![0; 64 * 1024];
    let _ = stream.read(&mut buffer).await;
    let _ = stream.write_all(text.as_bytes()).await;
    let _ = stream.shutdown().await;
}

#[tokio::test]
async fn w06_smuggled_requests_do_not_reach_the_waifu() {
    let (door, waifu) = (TestDoor::start().await, TestWaifu::start().await);
    door.hello("x", waifu.address).await;
    let inner = "GET /__internal/a HTTP/1.1\r\nHost: house\r\n\r\n";
    let smuggled = format!("0\r\n\r\n{inner}");
    let length = smuggled.len();
    for head in [
        format!("Content-Length: {length}\r\nTransfer-Encoding: chunked"),
        format!("Transfer-Encoding: chunked\r\nContent-Length: {length}"),
        format!("Content-Length: {length}\r\nContent-Length: 5"),
        "Transfer-Encoding: xchunked".to_owned(),
        "Transfer-Encoding: chunked, identity".to_owned(),
        "Content-Length: +5".to_owned(),
        "Content-Length: 5 5".to_owned(),
    ] {
        door.raw(&format!(
            "POST /x/a HTTP/1.1\r\nHost: house\r\n{head}\r\n\r\n{smuggled}GET /nobody HTTP/1.1\r\nHost: house\r\nConnection: close\r\n\r\n"
        ))
        .await;
    }
    for line in waifu.seen() {
        assert_eq!(line, "POST /a", "no other request than the outer one has come through");
    }
    for (request, status) in [
        ("GET /x/a HTTP/1.1\r\nHost: house\r\nHost: other\r\n\r\n", 400),
        ("GET /x/a HTTP/1.1\r\nConnection: close\r\n\r\n", 400),
        ("GET /x/a HTTP/1.1\r\nHost: a b\r\nConnection: close\r\n\r\n", 400),
        ("GET /x/a HTTP/1.1\r\nHost: user@house\r\nConnection: close\r\n\r\n", 400),
        ("CONNECT house:80 HTTP/1.1\r\nHost: house\r\nConnection: close\r\n\r\n", 404),
        ("OPTIONS * HTTP/1.1\r\nHost: house\r\nConnection: close\r\n\r\n", 404),
        ("GET http://house/x/ok HTTP/1.1\r\nHost: other\r\nConnection: close\r\n\r\n", 200),
    ] {
        let answer = door.raw(request).await;
        assert_eq!(answer.status, status, "{request}{}", answer.head);
    }
    let huge = format!("GET /x/a HTTP/1.1\r\nHost: house\r\nX-Long: {}\r\nConnection: close\r\n\r\n", "y".repeat(100 * 1024));
    // Who still sends may find the connection closed before it has read the answer.
    let answer = door.raw(&huge).await;
    assert!(matches!(answer.status, 431 | 400 | 0) && waifu.seen().last().is_none_or(|last| last == "GET /ok"), "{}", answer.head);
    assert_eq!(door.get("/x/still-there").await.status, 200);
}

#[tokio::test]
async fn w11_a_waifu_that_hangs_is_answered_for_and_harms_no_other() {
    let proxy = ProxyConfig { answer_within: Duration::from_millis(400), body_idle: Duration::from_millis(400), ..ProxyConfig::default() };
    let (door, waifu) = (TestDoor::with(OrchestratorConfig::default(), proxy).await, TestWaifu::start().await);
    door.hello("good", waifu.address).await;
    let hangs = odd_waifu(async |mut stream| {
        let mut sink = Vec::new();
        let _ = stream.read_to_end(&mut sink).await;
    })
    .await;
    door.hello("hangs", hangs).await;
    let (slow, fast) = tokio::join!(door.get("/hangs/"), async {
        let began = crate::clock::instant();
        assert_eq!(door.get("/good/").await.status, 200);
        began.elapsed()
    });
    assert_eq!(slow.status, 504, "{}", slow.head);
    assert!(fast < Duration::from_millis(350), "another waifu waited {fast:?}");
    // It begins, and then says no more.
    let stalls = odd_waifu(async |mut stream| {
        let mut buffer = vec![0; 1024];
        let _ = stream.read(&mut buffer).await;
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nbeginning").await;
        let _ = stream.read(&mut buffer).await;
    })
    .await;
    door.hello("stalls", stalls).await;
    let answer = door.get("/stalls/").await;
    assert_eq!((answer.status, answer.body.as_str()), (200, "beginning"), "the connection ends short of what was promised");
}

#[tokio::test]
async fn w11_a_waifu_that_lies_harms_itself_alone() {
    let door = TestDoor::start().await;
    for (name, text, status) in [
        ("too-long", "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nshort", 200),
        ("too-short", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokHTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\npoison", 200),
        ("two-lengths", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 6\r\n\r\nok", 502),
        ("no-http", "SSH-2.0-OpenSSH_9.2\r\n", 502),
        ("nothing", "", 502),
        ("switches", "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n", 502),
    ] {
        door.hello(name, odd_waifu(move |stream| say(stream, text)).await).await;
        for _ in 0..2 {
            let answer = door.get(&format!("/{name}/")).await;
            assert_eq!(answer.status, status, "{name}: {}", answer.head);
            assert!(!answer.body.contains("poison"), "{name}: {}", answer.body);
        }
    }
    let endless_head = odd_waifu(async |mut stream| {
        let mut buffer = vec![0; 1024];
        let _ = stream.read(&mut buffer).await;
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\n").await;
        while stream.write_all(&[b"X-A: ", &[b'y'; 8192][..], b"\r\n"].concat()).await.is_ok() {}
    })
    .await;
    door.hello("endless-head", endless_head).await;
    assert_eq!(door.get("/endless-head/").await.status, 502);
}

#[tokio::test]
async fn w11_requests_under_way_have_a_limit_for_each_waifu() {
    let hangs = odd_waifu(async |mut stream| {
        let mut sink = Vec::new();
        let _ = stream.read_to_end(&mut sink).await;
    })
    .await;
    let (door, waifu) = (TestDoor::start().await, TestWaifu::start().await);
    door.hello("hangs", hangs).await;
    door.hello("good", waifu.address).await;
    let mut held = Vec::new();
    // Connections of a test are files, too; what has no place is answered at once.
    let table = door.orchestrator.table();
    let route = table.by_name("hangs", door.orchestrator.tick()).expect("it is known");
    let all = Arc::clone(&route.in_flight).try_acquire_many_owned(u32::try_from(route.in_flight.available_permits() - 2).expect("few"));
    held.push(all.expect("they are free"));
    let mut clients = Vec::new();
    for _ in 0..2 {
        let mut stream = TcpStream::connect(door.address).await.expect("a connection");
        stream.write_all(b"GET /hangs/ HTTP/1.1\r\nHost: house\r\n\r\n").await.expect("sent");
        clients.push(stream);
    }
    // Before that a question of ours would take a place of theirs.
    eventually("the places are taken", async || {
        let free = route.in_flight.available_permits();
        if free == 0 { Ok(()) } else { Err(free.to_string()) }
    })
    .await;
    let answer = door.get("/hangs/").await;
    assert_eq!(answer.status, 503, "one more is told to come again: {}", answer.head);
    assert!(answer.header("retry-after").is_some(), "{}", answer.head);
    assert_eq!(door.get("/good/").await.status, 200);
    // Who goes away makes room.
    drop(clients);
    eventually("there is room again", async || {
        let free = route.in_flight.available_permits();
        if free >= 2 { Ok(()) } else { Err(free.to_string()) }
    })
    .await;
}

#[tokio::test]
async fn w06_a_client_that_dawdles_is_let_go() {
    let door = TestDoor::start().await;
    let mut stream = TcpStream::connect(door.address).await.expect("a connection");
    stream.write_all(b"GET / HTTP/1.1\r\nHost: house\r\nX-").await.expect("sent");
    let mut text = Vec::new();
    let ended = tokio::time::timeout(Duration::from_secs(15), stream.read_to_end(&mut text)).await;
    assert!(ended.is_ok(), "the connection is still open");
}
