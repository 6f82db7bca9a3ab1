//! Answers on their way back: addresses and cookies of the waifu become those of the public side.

use axum::http::{HeaderMap, HeaderName, HeaderValue, header};

use super::Asked;
use crate::orchestrator::Route;

/// Which public path shows which path of the waifu; both are empty or begin with `/`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Mapping {
    pub(super) public: String,
    pub(super) upstream: String,
}

/// What would reach over the waifu's own paths, to the console or to other waifus.
static OVERREACHING: [HeaderName; 3] =
    [HeaderName::from_static("service-worker-allowed"), HeaderName::from_static("clear-site-data"), header::ALT_SVC];

pub(super) fn answer(headers: &mut HeaderMap, mapping: &Mapping, route: &Route, asked: &Asked, own_cookies: &[String]) {
    if headers.keys().any(|name| OVERREACHING.contains(name)) {
        for name in &OVERREACHING {
            headers.remove(name);
        }
    }
    for name in [header::LOCATION, header::CONTENT_LOCATION] {
        rewrite(headers, &name, |value| location(value, mapping, route.authority.as_str(), asked.authority.as_str()));
    }
    if !headers.contains_key(header::SET_COOKIE) {
        return;
    }
    let cookies: Vec<HeaderValue> = headers.get_all(header::SET_COOKIE).iter().cloned().collect();
    headers.remove(header::SET_COOKIE);
    for cookie in cookies {
        let Ok(text) = cookie.to_str() else { continue };
        let name = text.split('=').next().unwrap_or_default().trim();
        if own_cookies.iter().any(|own| own == name) {
            continue;
        }
        if let Ok(changed) = HeaderValue::from_str(&set_cookie(text, mapping, &route.target.host)) {
            headers.append(header::SET_COOKIE, changed);
        }
    }
}

fn rewrite(headers: &mut HeaderMap, name: &HeaderName, change: impl Fn(&str) -> Option<String>) {
    let changed = headers.get(name).and_then(|value| value.to_str().ok()).and_then(change);
    if let Some(value) = changed.and_then(|changed| HeaderValue::from_str(&changed).ok()) {
        headers.insert(name.clone(), value);
    }
}

/// The public form of an address that the waifu names; none where it stays as it is.
fn location(value: &str, mapping: &Mapping, upstream: &str, public: &str) -> Option<String> {
    let path = match value.split_once("://") {
        Some((scheme, rest)) if matches!(scheme, "http" | "https") => own_path(scheme, rest, upstream, public)?,
        Some((scheme, _)) if scheme.bytes().all(|byte| byte.is_ascii_alphanumeric()) => return None,
        _ => match value.strip_prefix("//") {
            Some(rest) => own_path("http", rest, upstream, public)?,
            None if value.starts_with('/') => value,
            None => return None,
        },
    };
    public_path(path, mapping)
}

/// The path of `host/path`, where the host is the waifu's or the one that the client asked.
fn own_path<'a>(scheme: &str, rest: &'a str, upstream: &str, public: &str) -> Option<&'a str> {
    let at = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (host, path) = rest.split_at(at);
    let default = if scheme == "https" { ":443" } else { ":80" };
    let same = |other: &str| {
        host.eq_ignore_ascii_case(other)
            || format!("{host}{default}").eq_ignore_ascii_case(other)
            || other.strip_suffix(default).is_some_and(|other| host.eq_ignore_ascii_case(other))
    };
    if !(same(upstream) || same(public)) {
        return None;
    }
    Some(if path.is_empty() { "/" } else { path })
}

fn public_path(path: &str, mapping: &Mapping) -> Option<String> {
    // A waifu that reads X-Forwarded-Prefix has said it already.
    if !mapping.public.is_empty() && below(path, &mapping.public).is_some() {
        return Some(path.to_owned());
    }
    let rest = below(path, &mapping.upstream)?;
    let slash = if rest.starts_with('/') { "" } else { "/" };
    Some(format!("{}{slash}{rest}", mapping.public))
}

/// What of `path` lies below `prefix`.
fn below<'a>(path: &'a str, prefix: &str) -> Option<&'a str> {
    path.strip_prefix(prefix).filter(|rest| rest.is_empty() || rest.starts_with(['/', '?', '#']))
}

fn set_cookie(text: &str, mapping: &Mapping, upstream_host: &str) -> String {
    let mut parts = Vec::new();
    for part in text.split(';') {
        let (name, value) = part.split_once('=').map_or((part.trim(), ""), |(name, value)| (name.trim(), value.trim()));
        if name.eq_ignore_ascii_case("path") && !parts.is_empty() {
            let path = if value.starts_with('/') { value } else { "/" };
            let path = public_path(path, mapping).unwrap_or_else(|| format!("{}/", mapping.public));
            parts.push(format!(" Path={path}"));
        } else if name.eq_ignore_ascii_case("domain") && value.trim_start_matches('.').eq_ignore_ascii_case(upstream_host) {
            // Nobody outside knows that host; without it the cookie is for the one that was asked.
        } else {
            parts.push(part.to_owned());
        }
    }
    parts.join(";")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn w06_addresses_of_the_waifu_become_public() {
        let named = Mapping { public: "/links".to_owned(), upstream: String::new() };
        let based = Mapping { public: "/links".to_owned(), upstream: "/base".to_owned() };
        let bound = Mapping { public: String::new(), upstream: "/link".to_owned() };
        let go = |value: &str, mapping: &Mapping| location(value, mapping, "10.0.0.5:3000", "house:8080");
        for (value, mapping, wanted) in [
            ("/login", &named, Some("/links/login")),
            ("/", &named, Some("/links/")),
            ("/links/login", &named, Some("/links/login")),
            ("login", &named, None),
            ("../x", &named, None),
            ("http://10.0.0.5:3000/a?b#c", &named, Some("/links/a?b#c")),
            ("https://house:8080/a", &named, Some("/links/a")),
            ("//house:8080/a", &named, Some("/links/a")),
            ("http://10.0.0.5:3000", &named, Some("/links/")),
            ("http://elsewhere/a", &named, None),
            ("http://10.0.0.5:3000@elsewhere/a", &named, None),
            ("/base/x", &based, Some("/links/x")),
            ("/basement", &based, None),
            ("/link/x", &bound, Some("/x")),
            ("/link", &bound, Some("/")),
            ("/other", &bound, None),
        ] {
            assert_eq!(go(value, mapping).as_deref(), wanted, "{value} with {mapping:?}");
        }
    }

    #[test]
    fn w06_cookies_keep_to_their_waifu() {
        let named = Mapping { public: "/links".to_owned(), upstream: String::new() };
        for (cookie, wanted) in [
            ("a=b", "a=b"),
            ("a=b; Path=/; HttpOnly", "a=b; Path=/links/; HttpOnly"),
            ("a=b; path=/x", "a=b; Path=/links/x"),
            ("a=b; Path=/links/x", "a=b; Path=/links/x"),
            ("a=b; Domain=links; Path=/", "a=b; Path=/links/"),
            ("path=/x; Secure", "path=/x; Secure"),
        ] {
            assert_eq!(set_cookie(cookie, &named, "links"), wanted, "{cookie}");
        }
    }
}
