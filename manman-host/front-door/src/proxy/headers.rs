//! Headers on their way: what is for one hop stays on it, and who asks is said by us alone.

use axum::http::{HeaderMap, HeaderName, HeaderValue, header};
use manman_common::{Kind, Problem};

use super::rewrite::Mapping;
use super::{Asked, ProxyConfig, VIA};

const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
const PROXY_CONNECTION: HeaderName = HeaderName::from_static("proxy-connection");
const HTTP2_SETTINGS: HeaderName = HeaderName::from_static("http2-settings");

/// For one hop only (RFC 9110, section 7.6.1), `Connection`'s own list aside.
static HOPS: [HeaderName; 11] = [
    header::CONNECTION,
    header::TRANSFER_ENCODING,
    header::TE,
    header::TRAILER,
    header::UPGRADE,
    header::PROXY_AUTHORIZATION,
    header::PROXY_AUTHENTICATE,
    header::EXPECT,
    KEEP_ALIVE,
    PROXY_CONNECTION,
    HTTP2_SETTINGS,
];

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const X_FORWARDED_PREFIX: HeaderName = HeaderName::from_static("x-forwarded-prefix");

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
    // Most requests have none: one look is cheaper than eleven removals.
    if !headers.keys().any(|name| HOPS.contains(name)) {
        return;
    }
    let listed = headers.get_all(header::CONNECTION).iter().filter_map(|value| value.to_str().ok());
    let listed: Vec<HeaderName> = listed.flat_map(|names| names.split(',')).filter_map(|name| name.trim().parse().ok()).collect();
    for name in listed {
        if !matches!(name, header::HOST | header::CONTENT_LENGTH | header::COOKIE | header::AUTHORIZATION | header::SET_COOKIE) {
            headers.remove(name);
        }
    }
    // A length beside `Transfer-Encoding` is nobody's word.
    if headers.contains_key(header::TRANSFER_ENCODING) {
        headers.remove(header::CONTENT_LENGTH);
    }
    for name in &HOPS {
        headers.remove(name);
    }
}

/// Whether it is one that only a proxy says. Some servers read `X_Forwarded_For` as if it were the same.
fn is_said_by_proxies(name: &HeaderName) -> bool {
    let text = name.as_str();
    // All of them begin so; most others do not.
    text.starts_with(['x', 'f'])
        && (SAID_BY_PROXIES.contains(&text) || text.contains('_') && SAID_BY_PROXIES.contains(&text.replace('_', "-").as_str()))
}

/// Says who asks and for what, instead of whatever the client said of that.
pub(super) fn say_who(headers: &mut HeaderMap, asked: &Asked, mapping: &Mapping) -> Result<(), Problem> {
    if headers.keys().any(is_said_by_proxies) {
        let lies: Vec<HeaderName> = headers.keys().filter(|name| is_said_by_proxies(name)).cloned().collect();
        for name in lies {
            headers.remove(name);
        }
    }
    join_cookies(headers);
    let value = |text: String| HeaderValue::try_from(text).map_err(|_| Problem::new(Kind::Invalid, "a header is not readable"));
    let client = asked.client.to_string();
    let scheme = if asked.https { "https" } else { "http" };
    let host = asked.authority.as_str();
    let forwarded = if asked.client.is_ipv6() {
        format!("for=\"[{client}]\";host=\"{host}\";proto={scheme}")
    } else {
        format!("for={client};host=\"{host}\";proto={scheme}")
    };
    headers.insert(header::FORWARDED, value(forwarded)?);
    let chain = match &asked.before {
        Some(before) => format!("{before}, {client}"),
        None => client,
    };
    headers.insert(X_FORWARDED_FOR, value(chain)?);
    headers.insert(X_FORWARDED_PROTO, HeaderValue::from_static(scheme));
    let host = value(host.to_owned())?;
    headers.insert(X_FORWARDED_HOST, host.clone());
    headers.insert(header::HOST, host);
    if !mapping.public.is_empty() {
        headers.insert(X_FORWARDED_PREFIX, value(mapping.public.clone())?);
    }
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
    // As bytes: one cookie that is no ASCII must not carry the others past this.
    let Some(cookies) = headers.get(header::COOKIE).map(HeaderValue::as_bytes) else { return };
    let is_own = |cookie: &&[u8]| {
        let name = cookie.split(|byte| *byte == b'=').next().unwrap_or_default().trim_ascii();
        config.own_cookies.iter().any(|own| own.as_bytes() == name)
    };
    let each = || cookies.split(|byte| *byte == b';');
    if !each().any(|cookie| is_own(&cookie)) {
        return;
    }
    let kept: Vec<&[u8]> = each().map(<[u8]>::trim_ascii).filter(|cookie| !is_own(cookie)).collect();
    let kept = (!kept.is_empty()).then(|| HeaderValue::from_bytes(&kept.join(&b"; "[..])).ok()).flatten();
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_cookie_of_ours_passes_beside_one_that_is_no_ascii() {
        let config = ProxyConfig { own_cookies: vec!["manman".to_owned()], ..ProxyConfig::default() };
        let mut headers = HeaderMap::new();
        headers.insert(header::COOKIE, HeaderValue::from_bytes(b"a=\xc3\xa4; manman=secret; b=2").expect("a header"));
        keep_own(&mut headers, &config);
        assert_eq!(headers[header::COOKIE].as_bytes(), b"a=\xc3\xa4; b=2");
    }
}
