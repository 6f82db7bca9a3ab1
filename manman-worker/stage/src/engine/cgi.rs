//! `on-exit: stdout`: what a process has printed is the answer, with CGI's headers if it has some.

use bytes::Bytes;
use hyper::header::{HeaderName, HeaderValue};

use super::Reply;

/// Headers that CGI gives a meaning; a first line of any other kind means that there are none.
const FIRST: [&str; 3] = ["content-type", "status", "location"];

pub(crate) fn reply(output: Bytes, allowed: impl Fn(&str) -> bool) -> Result<Reply, String> {
    let mut reply = Reply { status: 200, content_type: None, headers: Vec::new(), body: output.clone(), is_error: false };
    let Some((head, body)) = split(&output) else { return Ok(reply) };
    let Ok(head) = std::str::from_utf8(&output[..head]) else { return Ok(reply) };
    let name_of = |line: &str| line.split_once(':').map(|(name, _)| name.trim().to_ascii_lowercase());
    if !head.lines().next().and_then(name_of).is_some_and(|name| FIRST.contains(&name.as_str())) {
        return Ok(reply);
    }
    reply.body = output.slice(body..);
    for line in head.lines() {
        let (name, value) = line.split_once(':').ok_or_else(|| format!("`{}` is no header", line.escape_debug()))?;
        let (name, value) = (name.trim().to_ascii_lowercase(), value.trim());
        let header = HeaderValue::from_str(value).map_err(|_| format!("the value of `{name}` is none of a header"))?;
        match name.as_str() {
            "status" => {
                let code = value.split(' ').next().and_then(|code| code.parse().ok()).filter(|code| (200..=599).contains(code));
                reply.status = code.ok_or_else(|| format!("`{value}` is no status"))?;
            }
            "content-type" => reply.content_type = Some(header),
            _ if !allowed(&name) => return Err(format!("the header `{name}` is not a script's to set")),
            _ => {
                if name == "location" && reply.status == 200 {
                    reply.status = 302;
                }
                let name = HeaderName::from_bytes(name.as_bytes()).map_err(|_| format!("`{name}` is no name of a header"))?;
                reply.headers.push((name, header));
            }
        }
    }
    Ok(reply)
}

/// Where the head ends and the body begins.
fn split(output: &[u8]) -> Option<(usize, usize)> {
    let find = |needle: &[u8]| output.windows(needle.len()).position(|window| window == needle).map(|at| (at, at + needle.len()));
    match (find(b"\n\n"), find(b"\r\n\r\n")) {
        (Some(a), Some(b)) => Some(if a.0 < b.0 { a } else { b }),
        (a, b) => a.or(b),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_are_taken_if_there_are_some() {
        let with =
            reply(Bytes::from_static(b"Status: 404 Not Found\nContent-Type: text/plain\nX-A: b\n\nno\n\nsuch"), |name| name == "x-a")
                .expect("it is CGI");
        assert_eq!((with.status, &with.body[..], with.headers.len()), (404, &b"no\n\nsuch"[..], 1));
        let without = reply(Bytes::from_static(b"a: b\n\nc"), |_| true).expect("it is text");
        assert_eq!((without.status, &without.body[..]), (200, &b"a: b\n\nc"[..]));
        assert!(reply(Bytes::from_static(b"Status: 200\nContent-Length: 3\n\nc"), |_| false).is_err());
        assert!(reply(Bytes::from_static(b"Status: 99\n\nc"), |_| false).is_err());
    }
}
