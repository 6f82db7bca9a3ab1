//! From a request to a process: what may become an argument, a variable, a deadline.

use std::time::Duration;

use bytes::Bytes;
use hyper::header::{CONTENT_TYPE, HeaderMap};
use hyper::http::request::Parts;
use hyper::{Method, StatusCode};
use serde::de::IgnoredAny;

use crate::command::ARGUMENT_MAX;
use crate::config::{Channel, Encoding, Mode, Route, Verb};
use crate::engine::{Input, Job};
use crate::problem::Problem;
use crate::template::Params;

/// `X-Timeout` may shorten the route's own, in milliseconds or as `250ms`, `2s`.
pub(super) fn timeout(headers: &HeaderMap, own: Duration) -> Result<Duration, Problem> {
    let Some(wanted) = headers.get("x-timeout") else { return Ok(own) };
    let parsed = wanted.to_str().ok().and_then(|text| {
        let (number, unit) = match text.strip_suffix("ms") {
            Some(number) => (number, 1.0),
            None => text.strip_suffix('s').map_or((text, 1.0), |number| (number, 1000.0)),
        };
        let millis = number.trim().parse::<f64>().ok()? * unit;
        Duration::try_from_secs_f64(millis / 1000.0).ok().filter(|time| !time.is_zero())
    });
    parsed.map(|time| time.min(own)).ok_or_else(|| Problem::bad_request("X-Timeout is a time such as `250` or `2s`"))
}

/// What no process is started with.
pub(super) fn check(route: &Route, payload: &[u8], params: &Params) -> Result<(), Problem> {
    if let Some((name, _)) = params.iter().find(|(_, value)| value.contains('\0')) {
        return Err(Problem::bad_request(format!("the path parameter `{name}` has a NUL, which no variable can hold")));
    }
    if route.encoding == Encoding::Json && !is_bodiless(route.verb, payload) {
        // The bytes are handed on as they came; they are only looked at.
        serde_json::from_slice::<IgnoredAny>(payload).map_err(|error| Problem::bad_request(format!("the body is no JSON: {error}")))?;
    }
    if route.mode == Mode::Pool || route.channel != Channel::Cmdline {
        return Ok(());
    }
    if payload.len() > ARGUMENT_MAX {
        return Err(Problem::new(StatusCode::PAYLOAD_TOO_LARGE, format!("an argument has {ARGUMENT_MAX} bytes at most")));
    }
    if payload.contains(&0) {
        return Err(Problem::bad_request("the body has a NUL, which no argument can hold"));
    }
    if payload.first() == Some(&b'-') && !route.command.ends_options() {
        return Err(Problem::bad_request("a body that begins with `-` would be taken for an option"));
    }
    Ok(())
}

/// A request of a verb that needs no body, and has none.
fn is_bodiless(verb: Verb, payload: &[u8]) -> bool {
    payload.is_empty() && matches!(verb, Verb::Get | Verb::Head | Verb::Delete | Verb::Options | Verb::Trace)
}

/// What a process is told of its request.
pub(super) fn values(route: &Route, head: &Parts, params: &Params) -> Vec<(String, String)> {
    // HEAD is answered by GET's process, which need not know.
    let method = if head.method == Method::HEAD { route.verb.as_str() } else { head.method.as_str() };
    let mut values = vec![
        ("URIPATH".to_owned(), head.uri.path().to_owned()),
        ("REQUEST_METHOD".to_owned(), method.to_owned()),
        ("QUERY_STRING".to_owned(), head.uri.query().unwrap_or_default().to_owned()),
    ];
    let text = |name: &str| head.headers.get(name).map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned());
    values.extend(text(CONTENT_TYPE.as_str()).map(|kind| ("CONTENT_TYPE".to_owned(), kind)));
    for (name, value) in params {
        let name: String = name.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).collect();
        values.push((format!("PARAM_{name}"), value.clone()));
    }
    for name in &route.headers {
        if let Some(value) = text(name) {
            let name: String = name.chars().map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_uppercase() } else { '_' }).collect();
            values.push((format!("HTTP_{name}"), value));
        }
    }
    values
}

pub(super) fn job(route: &Route, label: String, payload: Bytes, values: Vec<(String, String)>, timeout: Duration) -> Job {
    let mut job = Job::new(label, route.command.clone(), route.wd.clone());
    job.env.clone_from(&route.env);
    job.env.extend(values.into_iter().map(|(name, value)| (name.into(), value.into())));
    job.input = match route.channel {
        // Without a body there is no argument, unless the command has a place for it.
        Channel::Cmdline if is_bodiless(route.verb, &payload) && route.command.payload_at.is_none() => Input::None,
        Channel::Cmdline => Input::Argument(payload),
        Channel::Stdin => Input::Stdin(payload),
        Channel::File => Input::File(payload),
    };
    (job.timeout, job.on_exit, job.on_disconnect) = (timeout, route.on_exit, route.on_disconnect);
    job.limits = route.limits.clone();
    job
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_caller_may_only_shorten() {
        let own = Duration::from_secs(1);
        let read = |text: &str| {
            let mut headers = HeaderMap::new();
            headers.insert("x-timeout", text.parse().expect("a header"));
            timeout(&headers, own).ok().map(|time| time.as_millis())
        };
        assert_eq!(
            ["250", "250ms", "0.5s", "9s", "0", "-1", "x", "nan", "1e99s"].map(read),
            [Some(250), Some(250), Some(500), Some(1000), None, None, None, None, None]
        );
        assert_eq!(timeout(&HeaderMap::new(), own).ok(), Some(own));
    }
}
