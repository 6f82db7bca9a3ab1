use std::net::IpAddr;

use axum::http::HeaderMap;
use axum::http::header::{CONNECTION, FORWARDED, HOST, LOCATION, SET_COOKIE, TRANSFER_ENCODING};
use axum::http::uri::Authority;

use crate::orchestrator::{Route, Target};

pub use trusted::Network;

const VIA: &str = "1.1 manman";

pub struct Asked {
    pub client: IpAddr,
    pub before: Option<String>,
    pub https: bool,
    pub authority: Authority,
}

pub struct ProxyConfig {
    pub own_cookies: Vec<String>,
    pub own_tokens: Vec<String>,
}

/// A request's headers on their way in, and the same as an answer's on their way out.
pub fn pass(mut headers: HeaderMap, asked: &Asked, public: &str, upstream: &str) {
    let config = ProxyConfig { own_cookies: vec!["manman".to_owned()], own_tokens: vec!["mm_".to_owned()] };
    let mapping = rewrite::Mapping { public: public.to_owned(), upstream: upstream.to_owned() };
    let route = Route { authority: Authority::from_static("10.0.0.5:3000"), target: Target { host: "10.0.0.5".to_owned() } };

    let mut answer = headers.clone();
    headers::strip_hops(&mut answer);
    rewrite::answer(&mut answer, &mapping, &route, asked, &config.own_cookies);
    for cookie in answer.get_all(SET_COOKIE) {
        let text = cookie.to_str().expect("what is no text was left out");
        assert_ne!(text.split('=').next().unwrap_or_default().trim(), "manman", "a waifu sets a cookie of ours");
    }
    if let Some(location) = answer.get(LOCATION).and_then(|value| value.to_str().ok())
        && let Some(rest) = location.strip_prefix("http://10.0.0.5:3000")
        && (rest.is_empty() || rest.starts_with(['/', '?', '#']))
    {
        // What lies outside the part that is shown has no address out here.
        let path = if rest.is_empty() { "/" } else { rest };
        let shown = path.strip_prefix(upstream).is_some_and(|rest| rest.is_empty() || rest.starts_with(['/', '?', '#']));
        assert!(!shown, "an inner address reaches the outside: {location}");
    }

    let hops = headers::hops(&headers);
    headers::strip_hops(&mut headers);
    if headers::say_who(&mut headers, asked, &mapping).is_err() {
        return;
    }
    headers::keep_own(&mut headers, &config);
    for gone in [CONNECTION, TRANSFER_ENCODING] {
        assert!(!headers.contains_key(&gone), "{gone} goes one hop only");
    }
    let one = |name: &str| {
        let mut all = headers.get_all(name).iter();
        let first = all.next().and_then(|value| value.to_str().ok()).unwrap_or_default().to_owned();
        assert!(all.next().is_none(), "{name} is there twice");
        first
    };
    let client = asked.client.to_string();
    assert_eq!(one(HOST.as_str()), asked.authority.as_str());
    assert_eq!(one("x-forwarded-host"), asked.authority.as_str());
    let chain = one("x-forwarded-for");
    assert!(chain == client || chain.ends_with(&format!(", {client}")), "{chain} does not end with {client}");
    assert!(one(FORWARDED.as_str()).contains(&client));
    for lie in ["x-real-ip", "x-original-url", "x-rewrite-url", "x_forwarded_for"] {
        assert!(!headers.contains_key(lie), "{lie} comes through");
    }
    for cookies in headers.get_all("cookie") {
        let text = String::from_utf8_lossy(cookies.as_bytes());
        let own = text.split(';').any(|cookie| cookie.split('=').next().unwrap_or_default().trim_ascii() == "manman");
        assert!(!own, "a waifu sees a cookie of ours: {text:?}");
    }
    for authorization in headers.get_all("authorization") {
        let text = authorization.to_str().unwrap_or_default();
        assert!(
            !text
                .split_once(' ')
                .is_some_and(|(scheme, token)| scheme.eq_ignore_ascii_case("bearer") && token.trim_start().starts_with("mm_")),
            "a waifu sees a token of ours"
        );
    }
    assert!(headers::hops(&headers) <= hops + 1);
}
