//! What a response says because its request said it (RFC 3261 §8.2.6.2), and its first line.
//!
//! An INVITE has three responses or more that differ in little: what they copy is put together once, as an `Echo`.

use std::net::{IpAddr, SocketAddr};

use super::emit::{Value, Writer};
use super::header::{Header, Method};
use super::message::Message;
use super::parse::Via;

/// The header fields that every response to one request copies: `Via`, `From`, `To`, `Call-ID`, `CSeq`. Its memory
/// is kept from one request to the next.
#[derive(Debug, Default)]
pub(crate) struct Echo {
    text: Vec<u8>,
    /// Behind `Via`, where `Record-Route` goes.
    vias_end: usize,
    /// Behind the value of `To`, where our tag goes.
    to_end: usize,
    has_tag: bool,
}

impl Echo {
    /// Whether there is nothing in it.
    pub(crate) fn is_empty(&self) -> bool {
        self.text.is_empty()
    }

    /// Forgets the request and keeps the memory.
    pub(crate) fn clear(&mut self) {
        self.text.clear();
    }

    /// Copies from `request`, of which `via` is the topmost `Via` and `has_tag` tells whether its `To` has a tag.
    /// `source` is where it came from; it completes that `Via` (RFC 3261 §18.2.1, RFC 3581 §4).
    pub(crate) fn copy(
        &mut self,
        request: &Message<'_>,
        via: Option<&Via<'_>>,
        has_tag: bool,
        source: Option<SocketAddr>,
    ) {
        self.text.clear();
        self.has_tag = has_tag;
        let mut line = Value::new(&mut self.text);
        let mut top = via.zip(source);
        for value in request.lines(Header::Via) {
            line.text("Via: ");
            match top.take() {
                Some((via, source)) => {
                    write_completed(&mut line, via, source);
                    line.text(behind(value, via.text));
                }
                None => line.text(value),
            }
            line.text("\r\n");
        }
        self.vias_end = self.text.len();
        let mut line = Value::new(&mut self.text);
        if let Some(from) = request.header(Header::From) {
            line.text("From: ");
            line.text(from);
            line.text("\r\n");
        }
        if let Some(to) = request.header(Header::To) {
            line.text("To: ");
            line.text(to);
            self.to_end = self.text.len();
            Value::new(&mut self.text).text("\r\n");
        } else {
            self.to_end = self.text.len();
            self.has_tag = true;
        }
        let mut line = Value::new(&mut self.text);
        if let Some(call_id) = request.header(Header::CallId) {
            line.text("Call-ID: ");
            line.text(call_id);
            line.text("\r\n");
        }
        if let Some(cseq) = request.header(Header::CSeq) {
            line.text("CSeq: ");
            line.text(cseq);
            line.text("\r\n");
        }
    }

    /// Starts a response to the request that was copied: `Record-Route` too, where the response can create a dialog
    /// (RFC 3261 §12.1.1). `to_tag` is added unless `To` has a tag already.
    pub(crate) fn begin<'b>(
        &self,
        out: &'b mut Vec<u8>,
        request: &Message<'_>,
        status: u16,
        to_tag: Option<&str>,
    ) -> Writer<'b> {
        write_status_line(out, status);
        let creates_dialog =
            request.method() == Some(Method::Invite) && (101..300).contains(&status);
        let mut from = 0;
        if creates_dialog && request.header(Header::RecordRoute).is_some() {
            from = self.vias_end;
            let mut lines = Value::new(out);
            lines.written(&self.text[..from]);
            for route in request.lines(Header::RecordRoute) {
                lines.text("Record-Route: ");
                lines.text(route);
                lines.text("\r\n");
            }
        }
        let mut lines = Value::new(out);
        match to_tag.filter(|_| !self.has_tag) {
            Some(tag) => {
                lines.written(&self.text[from..self.to_end]);
                lines.text(";tag=");
                lines.text(tag);
                lines.written(&self.text[self.to_end..]);
            }
            None => lines.written(&self.text[from..]),
        }
        Writer::further(out)
    }
}

/// Starts a response to `request` with what every response copies: see `Echo`, which saves work where there are
/// several responses to one request.
pub fn response_head<'b>(
    out: &'b mut Vec<u8>,
    request: &Message<'_>,
    status: u16,
    to_tag: Option<&str>,
    source: Option<SocketAddr>,
) -> Writer<'b> {
    let mut echo = Echo::default();
    let via = request.via().ok();
    let has_tag = request.to().is_ok_and(|to| to.tag().is_some());
    echo.copy(request, via.as_ref(), has_tag, source);
    echo.begin(out, request, status, to_tag)
}

/// What stands behind `part` in `text`, which it is a part of.
fn behind<'a>(text: &'a str, part: &str) -> &'a str {
    &text[part.as_ptr() as usize - text.as_ptr() as usize + part.len()..]
}

/// Writes the topmost element of `Via` as who received it from `source` completes it.
pub(crate) fn write_received(out: &mut Value<'_>, element: &str, source: SocketAddr) {
    match Via::parse(element) {
        Some(via) => write_completed(out, &via, source),
        None => out.text(element),
    }
}

/// With `received` when sent-by is not the source address or `rport` was asked for, and with the value of `rport`
/// (RFC 3261 §18.2.1, RFC 3581 §4). A `received` that the sender wrote itself is not believed.
fn write_completed(out: &mut Value<'_>, via: &Via<'_>, source: SocketAddr) {
    let asks = via.rport == Some(None);
    let ip = source.ip().to_canonical();
    let is_source = || {
        let host = via.host.trim_start_matches('[').trim_end_matches(']');
        host.parse::<IpAddr>().is_ok_and(|host| host == ip)
    };
    let has_received = via.received.is_some();
    if !asks && !has_received && is_source() {
        return out.text(via.text);
    }
    if let Some(place) = via.rport_place().filter(|_| !has_received) {
        let (front, back) = via.text.split_at(place);
        out.text(front);
        out.text("=");
        out.decimal(source.port().into());
        out.text(back);
        out.text(";received=");
        return out.ip(ip);
    }
    let front = &via.text[..via.text.len() - via.params.as_str().len()];
    out.text(front.trim_end());
    for (name, value) in via.params.iter() {
        if asks && name.eq_ignore_ascii_case("rport") {
            // In place: the parameter must not occur twice.
            out.text(";rport=");
            out.decimal(source.port().into());
        } else if !name.eq_ignore_ascii_case("received") {
            out.text(";");
            out.text(name);
            out.text(if value.is_some() { "=" } else { "" });
            out.text(value.unwrap_or_default());
        }
    }
    if asks || !is_source() {
        out.text(";received=");
        out.ip(ip);
    }
}

macro_rules! statuses {
    ($($status:literal $phrase:literal;)*) => {
        /// Reason phrase of a status (RFC 3261 §21); that of its class if the status is not listed.
        #[must_use]
        pub fn reason_phrase(status: u16) -> &'static str {
            match status {
                $($status => $phrase,)*
                _ => match status / 100 {
                    1 => "Progress",
                    2 => "Success",
                    3 => "Redirection",
                    4 => "Request Failure",
                    5 => "Server Failure",
                    _ => "Global Failure",
                },
            }
        }

        /// The whole first line of a response whose status is listed.
        fn status_line(status: u16) -> Option<&'static str> {
            match status {
                $($status => Some(concat!("SIP/2.0 ", $status, " ", $phrase, "\r\n")),)*
                _ => None,
            }
        }
    };
}

statuses! {
    100 "Trying";
    180 "Ringing";
    183 "Session Progress";
    200 "OK";
    202 "Accepted";
    301 "Moved Permanently";
    302 "Moved Temporarily";
    400 "Bad Request";
    401 "Unauthorized";
    403 "Forbidden";
    404 "Not Found";
    405 "Method Not Allowed";
    406 "Not Acceptable";
    407 "Proxy Authentication Required";
    408 "Request Timeout";
    415 "Unsupported Media Type";
    416 "Unsupported URI Scheme";
    420 "Bad Extension";
    421 "Extension Required";
    423 "Interval Too Brief";
    430 "Flow Failed";
    439 "First Hop Lacks Outbound Support";
    480 "Temporarily Unavailable";
    481 "Call/Transaction Does Not Exist";
    482 "Loop Detected";
    483 "Too Many Hops";
    486 "Busy Here";
    487 "Request Terminated";
    488 "Not Acceptable Here";
    500 "Server Internal Error";
    501 "Not Implemented";
    503 "Service Unavailable";
    504 "Server Time-out";
    505 "Version Not Supported";
    513 "Message Too Large";
    600 "Busy Everywhere";
    603 "Decline";
}

/// Writes the first line of a response with the usual reason phrase.
pub(crate) fn write_status_line(out: &mut Vec<u8>, status: u16) {
    let mut line = Value::new(out);
    if let Some(known) = status_line(status) {
        return line.text(known);
    }
    line.text("SIP/2.0 ");
    line.decimal(status.into());
    line.text(" ");
    line.text(reason_phrase(status));
    line.text("\r\n");
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn every_status_has_a_line() {
        for status in [100, 180, 200, 407, 481, 299, 699] {
            let mut out = Vec::new();
            write_status_line(&mut out, status);
            let expected = format!("SIP/2.0 {status} {}\r\n", reason_phrase(status));
            assert_eq!(String::from_utf8(out).unwrap(), expected);
        }
    }

    #[test]
    fn what_a_request_lacks_its_responses_lack_as_well() {
        let request =
            "BYE sip:a SIP/2.0\r\nVia: SIP/2.0/TCP a.invalid;branch=z\r\nCSeq: 1 BYE\r\n\r\n";
        let request = Message::parse(request.as_bytes()).unwrap();
        let mut out = Vec::new();
        response_head(&mut out, &request, 400, Some("t"), None).finish();
        let expected = "SIP/2.0 400 Bad Request\r\nVia: SIP/2.0/TCP a.invalid;branch=z\r\nCSeq: 1 BYE\r\n\
                        Content-Length: 0\r\n\r\n";
        assert_eq!(String::from_utf8(out).unwrap(), expected);
    }

    #[test]
    fn responses_complete_the_topmost_via() {
        for (via, expected) in [
            (
                "SIP/2.0/UDP 192.0.2.1:5060;branch=z",
                "SIP/2.0/UDP 192.0.2.1:5060;branch=z",
            ),
            (
                "SIP/2.0/UDP a.invalid;branch=z",
                "SIP/2.0/UDP a.invalid;branch=z;received=192.0.2.1",
            ),
            (
                "SIP/2.0/UDP 192.0.2.1;received=198.51.100.7;branch=z",
                "SIP/2.0/UDP 192.0.2.1;branch=z",
            ),
            (
                "SIP/2.0/UDP 192.0.2.1;rport;branch=z",
                "SIP/2.0/UDP 192.0.2.1;rport=5070;branch=z;received=192.0.2.1",
            ),
            (
                "SIP/2.0/UDP 192.0.2.1;x=\"a;rport\";RPORT ;branch=z",
                "SIP/2.0/UDP 192.0.2.1;x=\"a;rport\";rport=5070;branch=z;received=192.0.2.1",
            ),
            (
                "SIP/2.0/TCP p;branch=y, SIP/2.0/TCP q;branch=z;rport",
                "SIP/2.0/TCP p;branch=y;received=192.0.2.1, SIP/2.0/TCP q;branch=z;rport",
            ),
        ] {
            let request = format!(
                "INVITE sip:a SIP/2.0\r\nv: {via}\r\nVia: second\r\nf: <sip:a>;tag=1\r\n\
                 t: <sip:b>\r\ni: c\r\nCSeq: 1 INVITE\r\nRecord-Route: <sip:p;lr>\r\n\r\n"
            );
            let request = Message::parse(request.as_bytes()).unwrap();
            let mut out = Vec::new();
            let source = Some("192.0.2.1:5070".parse().unwrap());
            response_head(&mut out, &request, 180, Some("t"), source).finish();
            let expected = format!(
                "SIP/2.0 180 Ringing\r\nVia: {expected}\r\nVia: second\r\nRecord-Route: <sip:p;lr>\r\n\
                 From: <sip:a>;tag=1\r\nTo: <sip:b>;tag=t\r\nCall-ID: c\r\nCSeq: 1 INVITE\r\n\
                 Content-Length: 0\r\n\r\n"
            );
            assert_eq!(String::from_utf8(out).unwrap(), expected);
        }
    }
}
