//! Forwarding a message as it came, but for what a proxy has to change (RFC 3261 §16.6, §16.7): what
//! is not understood goes through untouched, and most of a message is copied in a few pieces.

use std::net::SocketAddr;

use crate::sip::emit::Value;
use crate::sip::framing::HeaderLines;
use crate::sip::header::Header;
use crate::sip::message::{Message, StartLine};
use crate::sip::parse::Elements;
use crate::sip::proxy::route::ROUTES_POPPED_MAX;
use crate::sip::reply::write_received;

/// `Max-Forwards` of a request that came without (RFC 3261 §16.6 step 3).
const MAX_FORWARDS: u32 = 70;

/// Most places in which a request is changed: `Via`, `Max-Forwards`, lines of popped routes, the end of
/// the route.
const EDITS: usize = 2 + ROUTES_POPPED_MAX + 1;

/// What of a request changes on its way.
pub(crate) struct Forwarded<'a> {
    /// The new Request-URI.
    pub(crate) uri: &'a str,
    /// Where the request came from, for the `Via` that it came with.
    pub(crate) source: SocketAddr,
    /// How many elements of `Route` are taken off.
    pub(crate) routes_popped: usize,
    /// One less than what came.
    pub(crate) max_forwards: u32,
    /// Goes to the end of the route, before a strict router (RFC 3261 §16.6 step 6).
    pub(crate) last_route: Option<&'a str>,
}

/// `Max-Forwards` of the request that follows from one with this value; `None` when it must not
/// be forwarded.
pub(crate) fn max_forwards(received: Option<u32>) -> Option<u32> {
    match received {
        Some(hops) => hops.min(255).checked_sub(1),
        None => Some(MAX_FORWARDS),
    }
}

/// A piece of the original that is replaced: from byte, to byte, by what.
type Edit = (usize, usize, Replacement);

#[derive(Clone, Copy, PartialEq, Eq)]
enum Replacement {
    Nothing,
    Source,
    MaxForwards,
    LastRoute,
    OnlyRoute,
}

/// Writes `request`, which lies in `bytes`, as it is forwarded. `head` writes the header lines that
/// go in front of all others: `Via`, `Record-Route`, `Path`.
pub(crate) fn forward(
    out: &mut Vec<u8>,
    bytes: &[u8],
    request: &Message<'_>,
    change: &Forwarded<'_>,
    head: impl FnOnce(&mut Vec<u8>),
) {
    let StartLine::Request {
        method_text, uri, ..
    } = request.start_line()
    else {
        return;
    };
    out.reserve(bytes.len() + 512);
    {
        let mut line = Value::new(out);
        line.text(method_text);
        line.text(" ");
        line.text(change.uri);
        line.text(" SIP/2.0\r\n");
    }
    head(out);
    let mut edits: [Edit; EDITS] = [(usize::MAX, usize::MAX, Replacement::Nothing); EDITS];
    let mut count = 0;
    let mut note = |edit: Edit| {
        if count < EDITS {
            edits[count] = edit;
            count += 1;
        }
    };
    if let Some(via) = first_via(request) {
        let from = offset(bytes, via);
        note((from, from + via.len(), Replacement::Source));
    }
    match request.header(Header::MaxForwards) {
        Some(value) => {
            let from = offset(bytes, value);
            note((from, from + value.len(), Replacement::MaxForwards));
        }
        None => {
            let mut line = Value::new(out);
            line.text("Max-Forwards: ");
            line.decimal(change.max_forwards.into());
            line.text("\r\n");
        }
    }
    let mut left = change.routes_popped;
    let mut lines = request.lines(Header::Route).peekable();
    let mut is_only_route = false;
    while let Some(line) = lines.next() {
        if left == 0 {
            break;
        }
        let (popped, rest) = pop(line, left);
        if popped == 0 {
            // An empty line says nothing, and any number of them is harmless.
            continue;
        }
        left -= popped;
        let value = offset(bytes, line);
        note(match rest {
            Some(rest) => (value, offset(bytes, rest), Replacement::Nothing),
            None if change.last_route.is_some() && lines.peek().is_none() => {
                is_only_route = true;
                (value, value + line.len(), Replacement::OnlyRoute)
            }
            None => {
                let (from, to) = whole_line(bytes, value, value + line.len());
                (from, to, Replacement::Nothing)
            }
        });
    }
    if change.last_route.is_some()
        && !is_only_route
        && let Some(last) = request.lines(Header::Route).last()
    {
        let at = offset(bytes, last) + last.len();
        note((at, at, Replacement::LastRoute));
    }
    edits[..count].sort_unstable_by_key(|edit| (edit.0, edit.1));
    let mut from = offset(bytes, uri) + uri.len();
    // Behind the start line.
    from += memchr::memchr(b'\n', &bytes[from..]).map_or(0, |end| end + 1);
    for &(start, end, replacement) in &edits[..count] {
        out.extend_from_slice(&bytes[from..start.max(from)]);
        match replacement {
            Replacement::Nothing => {}
            Replacement::Source => {
                let via = first_via(request).unwrap_or_default();
                write_received(&mut Value::new(out), via, change.source);
            }
            Replacement::MaxForwards => {
                Value::new(out).decimal(change.max_forwards.into());
            }
            Replacement::LastRoute | Replacement::OnlyRoute => {
                let is_only = replacement == Replacement::OnlyRoute;
                let mut line = Value::new(out);
                line.text(if is_only { "<" } else { ", <" });
                line.text(change.last_route.unwrap_or_default());
                line.text(">");
            }
        }
        from = end.max(from);
    }
    let end = offset_of(bytes, request.body()) + request.body().len();
    out.extend_from_slice(&bytes[from..end]);
}

/// Writes `response`, which lies in `bytes`, without its topmost `Via` (RFC 3261 §16.7 step 3).
/// `false` when no other is left: then nobody is waiting for it.
pub(crate) fn backward(out: &mut Vec<u8>, bytes: &[u8], response: &Message<'_>) -> bool {
    let Some(line) = response.header(Header::Via) else {
        return false;
    };
    if response.elements(Header::Via).nth(1).is_none() {
        return false;
    }
    let value = offset(bytes, line);
    let (from, to) = match pop(line, 1) {
        (_, Some(rest)) => (value, offset(bytes, rest)),
        (_, None) => whole_line(bytes, value, value + line.len()),
    };
    let start = bytes
        .iter()
        .take_while(|&&byte| byte == b'\r' || byte == b'\n');
    let start = start.count();
    let end = offset_of(bytes, response.body()) + response.body().len();
    out.reserve(end - start);
    out.extend_from_slice(&bytes[start..from]);
    out.extend_from_slice(&bytes[to..end]);
    true
}

/// The topmost element of `Via`.
fn first_via<'a>(request: &Message<'a>) -> Option<&'a str> {
    let line = request.header(Header::Via)?;
    Elements::new(line).next()
}

/// Takes up to `count` elements off a list. How many there were, and what is left of it.
fn pop(list: &str, count: usize) -> (usize, Option<&str>) {
    let mut elements = Elements::new(list);
    let popped = elements.by_ref().take(count).count();
    let rest = elements.next().map(|next| {
        let from = next.as_ptr() as usize - list.as_ptr() as usize;
        &list[from..]
    });
    (popped, rest)
}

/// From the first byte of the header line around a value to the first byte of the next one.
fn whole_line(bytes: &[u8], value: usize, end: usize) -> (usize, usize) {
    let mut from = value;
    // A value may begin on a folded line, below its name.
    while let Some(newline) = memchr::memrchr(b'\n', &bytes[..from]) {
        from = newline;
        if !matches!(bytes.get(newline + 1), Some(b' ' | b'\t')) {
            from = newline + 1;
            break;
        }
    }
    let mut lines = HeaderLines::new(&bytes[end..]);
    lines.next();
    (from, end + lines.at())
}

/// Where `part` of `whole` begins.
fn offset(whole: &[u8], part: &str) -> usize {
    offset_of(whole, part.as_bytes())
}

fn offset_of(whole: &[u8], part: &[u8]) -> usize {
    let offset = part.as_ptr() as usize - whole.as_ptr() as usize;
    debug_assert!(offset + part.len() <= whole.len(), "a part of the message");
    offset
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    const REQUEST: &str = "INVITE sip:bob@b.test SIP/2.0\r\n\
        X-First: 1\r\n\
        Via: SIP/2.0/UDP host;rport;branch=z9hG4bK1 , SIP/2.0/TCP older;branch=z9hG4bK0\r\n\
        Max-Forwards: 70\r\n\
        Route: <sip:one;lr>,\r\n <sip:two;lr>\r\n\
        ROUTE :\r\n <sip:three;lr>\r\n\
        Strange-Header:   kept ; as it is\r\n\
        Content-Length: 4\r\n\r\nbodytrailing";

    fn forwarded(text: &str, change: &Forwarded<'_>) -> String {
        let request = Message::parse(text.as_bytes()).unwrap();
        let mut out = Vec::new();
        forward(&mut out, text.as_bytes(), &request, change, |out| {
            out.extend_from_slice(b"Via: new\r\n");
        });
        String::from_utf8(out).unwrap()
    }

    fn change(uri: &str, routes_popped: usize) -> Forwarded<'_> {
        Forwarded {
            uri,
            source: "192.0.2.9:4444".parse().unwrap(),
            routes_popped,
            max_forwards: 69,
            last_route: None,
        }
    }

    #[test]
    fn only_what_must_change_changes() {
        let expected = "INVITE sip:x@y SIP/2.0\r\n\
            Via: new\r\n\
            X-First: 1\r\n\
            Via: SIP/2.0/UDP host;rport=4444;branch=z9hG4bK1;received=192.0.2.9 , \
            SIP/2.0/TCP older;branch=z9hG4bK0\r\n\
            Max-Forwards: 69\r\n\
            Route: <sip:one;lr>,\r\n <sip:two;lr>\r\n\
            ROUTE :\r\n <sip:three;lr>\r\n\
            Strange-Header:   kept ; as it is\r\n\
            Content-Length: 4\r\n\r\nbody";
        assert_eq!(forwarded(REQUEST, &change("sip:x@y", 0)), expected);
    }

    #[test]
    fn routes_are_popped_across_lines() {
        let table = [
            (1, "Route: <sip:two;lr>\r\nROUTE :\r\n <sip:three;lr>\r\n"),
            (2, "ROUTE :\r\n <sip:three;lr>\r\n"),
            (3, ""),
            (9, ""),
        ];
        for (popped, left) in table {
            let text = forwarded(REQUEST, &change("sip:x@y", popped));
            let (_, tail) = text.split_once("Max-Forwards: 69\r\n").unwrap();
            let expected = format!("{left}Strange-Header:   kept ; as it is\r\n");
            assert!(tail.starts_with(&expected), "{popped}: {tail}");
        }
    }

    #[test]
    fn a_strict_router_gets_its_uri_and_the_old_one_last() {
        let change = Forwarded {
            last_route: Some("sip:bob@b.test"),
            ..change("sip:one", 1)
        };
        let text = forwarded(REQUEST, &change);
        assert!(text.starts_with("INVITE sip:one SIP/2.0\r\n"));
        assert!(
            text.contains(
                "Route: <sip:two;lr>\r\nROUTE :\r\n <sip:three;lr>, <sip:bob@b.test>\r\n"
            )
        );
        // It was the only one that was left.
        let change = Forwarded {
            routes_popped: 3,
            ..change
        };
        let text = forwarded(REQUEST, &change);
        let (_, tail) = text.split_once("Max-Forwards: 69\r\n").unwrap();
        assert!(
            tail.starts_with("ROUTE :\r\n <sip:bob@b.test>\r\nStrange-Header:"),
            "{tail}"
        );
    }

    #[test]
    fn as_many_lines_change_as_routes_can_be_popped() {
        let lines = (0..ROUTES_POPPED_MAX).map(|place| format!("Route: <sip:r{place}>\r\n"));
        let lines = "Route:\r\n".repeat(20) + &lines.collect::<String>();
        let text = REQUEST.replace("X-First: 1\r\n", &lines);
        let text = forwarded(&text, &change("sip:x@y", ROUTES_POPPED_MAX));
        assert!(!text.contains("<sip:r"), "{text}");
        assert!(text.contains("Max-Forwards: 69\r\n"), "{text}");
    }

    #[test]
    fn max_forwards_is_added_and_counts_down() {
        let text = REQUEST.replace("Max-Forwards: 70\r\n", "");
        let text = forwarded(&text, &change("sip:x@y", 0));
        assert!(
            text.contains("\r\nVia: new\r\nMax-Forwards: 69\r\n"),
            "{text}"
        );
        for (received, forwarded) in [
            (None, Some(70)),
            (Some(0), None),
            (Some(1), Some(0)),
            (Some(300), Some(254)),
        ] {
            assert_eq!(max_forwards(received), forwarded);
        }
    }

    #[test]
    fn a_response_loses_its_topmost_via() {
        let response = "SIP/2.0 200 OK\r\nVia: one, two\r\nv: three\r\nSubject: x\r\n\r\n";
        for (vias, expected) in [
            (
                "Via: one, two\r\nv: three\r\n",
                Some("Via: two\r\nv: three\r\n"),
            ),
            ("v :\r\n one\r\nVia: two\r\n", Some("Via: two\r\n")),
            ("Via: one\r\n", None),
            ("", None),
        ] {
            let text = response.replace("Via: one, two\r\nv: three\r\n", vias);
            let message = Message::parse(text.as_bytes()).unwrap();
            let mut out = Vec::new();
            assert_eq!(
                backward(&mut out, text.as_bytes(), &message),
                expected.is_some()
            );
            if let Some(expected) = expected {
                let expected = format!("SIP/2.0 200 OK\r\n{expected}Subject: x\r\n\r\n");
                assert_eq!(String::from_utf8(out).unwrap(), expected);
            }
        }
    }
}
