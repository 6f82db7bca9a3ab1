//! Headers on their way: what is for one hop stays on it, and who asks is said by us alone.

use axum::http::{HeaderMap, HeaderName, HeaderValue, header};
use manman_common::{Kind, Problem};

use super::rewrite::Mapping;
use super::{Asked, ProxyConfig, VIA};

/// For one hop only (RFC 9110, section 7.6.1), `Connection`'s own list aside.
const HOPS: [HeaderName; 8] = [
    header::CONNECTION,
    header::TRANSFER_ENCODING,
    header::TE,
    header::TRAILER,
    header::UPGRADE,
    header::PROXY_AUTHORIZATION,
    header::PROXY_AUTHENTICATE,
    header::EXPECT,
];
const HOPS_BY_NAME: [&str; 3] = ["keep-alive", "proxy-connection", "http2-settings"];

/// What only a proxy says; of a client, all of these are lies. The last ones make some servers read
/// another path than the one that was checked.
const SAID_BY_PROXIES: [&str; 14] = [
    "x-forwarded-for",
    "x-forwarded-proto",
    "x-forwarded-host",
    "x-forwarded-prefix",
    "x-forwarded-port",
    "x-forwarded-server",
    "x-forwarded-scheme",
    "x-forwarded-uri",
    "x-forwarded-path",
    "x-real-ip",
    "x-client-ip",
    "forwarded",
    "x-original-url",
    "x-rewrite-url",
];

/// Removes what is for one hop; `Connection` may name more, but nothing that others rely on.
pub(super) fn strip_hops(headers: &mut HeaderMap) {
    if let Some(listed) = headers.get_all(header::CONNECTION).iter().next() {
        let mut names: Vec<HeaderName> = Vec::new();
        let _ = listed;
        for value in headers.get_all(header::CONNECTION) {
            let text = value.to_str().unwrap_or_default();
            names.extend(text.split(',').filter_map(|name| name.trim().parse().ok()));
        }
        for name in names {
            if !matches!(name, header::HOST | header::CONTENT_LENGTH | header::COOKIE | header::AUTHORIZATION | header::SET_COOKIE) {
                headers.remove(name);
            }
        }
    }
    // A length beside `Transfer-Encoding` is nobody's word.
    if headers.contains_key(header::TRANSFER_ENCODING) {
        headers.remove(header::CONTENT_LENGTH);
    }
    for name in HOPS {
        headers.remove(name);
    }
    for name in HOPS_BY_NAME {
        headers.remove(name);
    }
}

/// Says who asks and for what, instead of whatever the client said of that.
pub(super) fn say_who(headers: &mut HeaderMap, asked: &Asked, mapping: &Mapping) -> Result<(), Problem> {
    for name in SAID_BY_PROXIES {
        headers.remove(name);
    }
    // Some servers read `X_Forwarded_For` as if it were the same.
    let disguised: Vec<HeaderName> = headers
        .keys()
        .filter(|name| name.as_str().contains('_') && SAID_BY_PROXIES.contains(&name.as_str().replace('_', "-").as_str()))
        .cloned()
        .collect();
    for name in disguised {
        headers.remove(name);
    }
    join_cookies(headers);
    let unreadable = |_| Problem::new(Kind::Invalid, "a header is not readable");
    let mut set = |name: &'static str, value: &str| {
        HeaderValue::from_str(value).map(|value| headers.insert(name, value)).map(drop).map_err(unreadable)
    };
    let client = asked.client.to_string();
    let scheme = if asked.https { "https" } else { "http" };
    let host = asked.authority.as_str();
    match &asked.before {
        Some(before) => set("x-forwarded-for", &format!("{before}, {client}"))?,
        None => set("x-forwarded-for", &client)?,
    }
    set("x-forwarded-proto", scheme)?;
    set("x-forwarded-host", host)?;
    set("host", host)?;
    if !mapping.public.is_empty() {
        set("x-forwarded-prefix", &mapping.public)?;
    }
    let node = if asked.client.is_ipv6() { format!("\"[{client}]\"") } else { client };
    set("forwarded", &format!("for={node};host=\"{host}\";proto={scheme}"))?;
    headers.append(header::VIA, HeaderValue::from_static(VIA));
    Ok(())
}

/// Takes out what opens our own doors: no waifu is to have it.
pub(super) fn keep_own(headers: &mut HeaderMap, config: &ProxyConfig) {
    let ours = |value: &HeaderValue| {
        let text = value.to_str().unwrap_or_default();
        let token = text.get(..7).filter(|scheme| scheme.eq_ignore_ascii_case("bearer ")).map(|_| text[7..].trim_start());
        token.is_some_and(|token| config.own_tokens.iter().any(|own| token.starts_with(own.as_str())))
    };
    if headers.get_all(header::AUTHORIZATION).iter().any(ours) {
        headers.remove(header::AUTHORIZATION);
    }
    if config.own_cookies.is_empty() {
        return;
    }
    let Some(cookies) = headers.get(header::COOKIE).and_then(|value| value.to_str().ok()) else { return };
    let is_own = |cookie: &str| {
        let name = cookie.split('=').next().unwrap_or_default().trim();
        config.own_cookies.iter().any(|own| own == name)
    };
    if !cookies.split(';').any(is_own) {
        return;
    }
    let kept: Vec<&str> = cookies.split(';').map(str::trim).filter(|cookie| !is_own(cookie)).collect();
    let kept = (!kept.is_empty()).then(|| HeaderValue::from_str(&kept.join("; ")).ok()).flatten();
    match kept {
        Some(kept) => headers.insert(header::COOKIE, kept),
        None => headers.remove(header::COOKIE),
    };
}

/// HTTP/2 may send them one by one; HTTP/1 knows one line of them.
fn join_cookies(headers: &mut HeaderMap) {
    if headers.get_all(header::COOKIE).iter().nth(1).is_none() {
        return;
    }
    let joined: Vec<&[u8]> = headers.get_all(header::COOKIE).iter().map(HeaderValue::as_bytes).collect();
    if let Ok(joined) = HeaderValue::from_bytes(&joined.join(&b"; "[..])) {
        headers.insert(header::COOKIE, joined);
    }
}

/// How many of our make the request has come through.
pub(super) fn hops(headers: &HeaderMap) -> usize {
    headers.get_all(header::VIA).iter().filter_map(|via| via.to_str().ok()).map(|via| via.matches(VIA).count()).sum()
}
