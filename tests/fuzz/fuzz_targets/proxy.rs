#![no_main]
use axum::http::{HeaderMap, HeaderName, HeaderValue};
use libfuzzer_sys::fuzz_target;
use manman_fuzz::path::normalise;
use manman_fuzz::proxy::{Asked, Network, pass};

// The head of a request: first line `<address> <host> <public path> <inner path> <chain>`, then headers.
fuzz_target!(|head: &[u8]| {
    let mut lines = head.split(|byte| *byte == b'\n');
    let first = String::from_utf8_lossy(lines.next().unwrap_or_default()).into_owned();
    let mut words = first.split(' ');
    let mut word = || words.next().filter(|word| !word.is_empty());
    let Some(Ok(client)) = word().map(str::parse) else { return };
    let Some(Ok(authority)) = word().map(str::parse) else { return };
    // As the front door has them: normal, without a slash at the end.
    let base = |text: Option<&str>| {
        let normal = normalise(text?).ok()?.path.trim_end_matches('/').to_owned();
        normal.bytes().all(|byte| byte.is_ascii_graphic()).then_some(normal)
    };
    let (public, upstream) = (base(word()).unwrap_or_default(), base(word()).unwrap_or_default());
    let before = word().filter(|chain| chain.bytes().all(|byte| byte.is_ascii_graphic())).map(str::to_owned);
    if let Some(network) = before.as_deref().and_then(|chain| chain.parse::<Network>().ok()) {
        let _ = network.contains(client);
    }
    let mut headers = HeaderMap::new();
    for line in lines.take(64) {
        let Some(colon) = line.iter().position(|byte| *byte == b':') else { continue };
        let (name, value) = (HeaderName::from_bytes(&line[..colon]), HeaderValue::from_bytes(line[colon + 1..].trim_ascii()));
        if let (Ok(name), Ok(value)) = (name, value) {
            headers.append(name, value);
        }
    }
    pass(headers, &Asked { client, before, https: public.len() % 2 == 1, authority }, &public, &upstream);
});
