//! The grammar of header field values (RFC 3261 §25.1): what [`Message`](super::Message) uses to
//! take apart a value that somebody asked for. Everything borrows and nothing allocates; a value
//! that does not follow its grammar is `None`, and the caller knows which header field it was.

use super::framing::is_token_byte;
use super::message::ParseError;

/// Most parameters of a URI that is compared with another that is written differently: the
/// comparison takes the product of both numbers.
const MAX_COMPARED_PARAMS: usize = 32;

/// White space that may surround tokens, with the line ends of folded lines.
const LWS: [char; 4] = [' ', '\t', '\r', '\n'];

/// Strips linear white space.
pub(crate) fn trim(value: &str) -> &str {
    let is_white = |byte: &u8| matches!(byte, b' ' | b'\t' | b'\r' | b'\n');
    let bytes = value.as_bytes();
    let from = bytes.iter().take_while(|byte| is_white(byte)).count();
    let behind = bytes[from..].iter().rev();
    let to = bytes.len() - behind.take_while(|byte| is_white(byte)).count();
    &value[from..to]
}

/// Name and value of a header line, `None` if it has no name.
pub(crate) fn split_header(line: &str) -> Option<(&str, &str)> {
    // Names are short: looking at each byte beats a search for the colon.
    let bytes = line.as_bytes();
    let name_end = bytes.iter().position(|&byte| !is_token_byte(byte))?;
    let colon = match bytes[name_end] {
        b':' => name_end,
        b' ' | b'\t' => name_end + bytes[name_end..].iter().position(|&byte| byte == b':')?,
        _ => return None,
    };
    let between = &bytes[name_end..colon];
    let valid = name_end > 0 && between.iter().all(|&byte| matches!(byte, b' ' | b'\t'));
    valid.then(|| (&line[..name_end], trim(&line[colon + 1..])))
}

/// Decimal digits and nothing else: `str::parse` would take a sign as well.
pub(crate) fn decimal<T: std::str::FromStr>(value: &str) -> Option<T> {
    let digits = value.bytes().all(|byte| byte.is_ascii_digit());
    value.parse().ok().filter(|_| digits)
}

/// `delta-seconds`; too large a value counts as the largest (RFC 3261 §20.19 allows 2³²−1).
pub(crate) fn delta_seconds(value: &str) -> Option<u32> {
    let digits = !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit());
    digits.then(|| value.parse().unwrap_or(u32::MAX))
}

/// Byte offset of the quote that closes the quoted string which `value` starts with.
fn closing_quote(value: &str) -> Option<usize> {
    let bytes = value.as_bytes();
    let mut from = 1;
    loop {
        let at = from + memchr::memchr2(b'"', b'\\', bytes.get(from..)?)?;
        if bytes[at] == b'"' {
            return Some(at);
        }
        from = at + 2;
    }
}

/// Byte offset of the first `separator` that is neither within quotes nor angle brackets.
fn find_bare(value: &str, separator: u8) -> Option<usize> {
    let bytes = value.as_bytes();
    // Quotes and brackets are rare, and without them the first separator is it.
    let first = memchr::memchr(separator, bytes)?;
    if !bytes[..first]
        .iter()
        .any(|&byte| byte == b'"' || byte == b'<')
    {
        return Some(first);
    }
    let mut at = 0;
    let mut bracketed = false;
    while let Some(&byte) = bytes.get(at) {
        match byte {
            b'"' if !bracketed => at += closing_quote(&value[at..])?,
            b'<' => bracketed = true,
            b'>' => bracketed = false,
            _ if byte == separator && !bracketed => return Some(at),
            _ => {}
        }
        at += 1;
    }
    None
}

/// Elements of a comma-separated list, trimmed; empty ones are left out.
#[derive(Clone, Debug)]
pub struct Elements<'a> {
    rest: &'a str,
}

impl<'a> Elements<'a> {
    /// Takes apart the value of one header line.
    #[must_use]
    pub fn new(value: &'a str) -> Self {
        Self { rest: value }
    }
}

impl<'a> Iterator for Elements<'a> {
    type Item = &'a str;

    fn next(&mut self) -> Option<&'a str> {
        while !self.rest.is_empty() {
            // Lists are rare: look for a comma before looking closely.
            let comma =
                memchr::memchr(b',', self.rest.as_bytes()).and_then(|_| find_bare(self.rest, b','));
            let (element, rest) = match comma {
                Some(at) => (&self.rest[..at], &self.rest[at + 1..]),
                None => (self.rest, ""),
            };
            self.rest = rest;
            let element = trim(element);
            if !element.is_empty() {
                return Some(element);
            }
        }
        None
    }
}

/// Parameters `;name=value;flag` of a header field or URI.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Params<'a>(&'a str);

impl<'a> Params<'a> {
    /// `text` is empty or starts with the first semicolon.
    fn parse(text: &'a str) -> Option<Self> {
        let text = trim(text);
        (text.is_empty() || text.starts_with(';')).then_some(Self(text))
    }

    /// All of them in order: name and, unless it is a flag, value. Quotes are part of a value.
    pub fn iter(self) -> impl Iterator<Item = (&'a str, Option<&'a str>)> {
        let mut rest = self.0;
        std::iter::from_fn(move || {
            rest = rest.strip_prefix(';')?;
            let end = find_bare(rest, b';').unwrap_or(rest.len());
            let (param, after) = rest.split_at(end);
            rest = after;
            Some(match param.split_once('=') {
                Some((name, value)) => (trim(name), Some(trim(value))),
                None => (trim(param), None),
            })
        })
    }

    /// Value of a parameter; names are case-insensitive. `None` if it is absent or a flag.
    #[must_use]
    pub fn value(self, name: &str) -> Option<&'a str> {
        self.find(name).flatten()
    }

    /// Whether a parameter is there, with or without a value.
    #[must_use]
    pub fn has(self, name: &str) -> bool {
        self.find(name).is_some()
    }

    fn find(self, name: &str) -> Option<Option<&'a str>> {
        self.iter()
            .find(|(found, _)| found.eq_ignore_ascii_case(name))
            .map(|(_, value)| value)
    }
}

/// `CSeq` (RFC 3261 §20.16).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct CSeq<'a> {
    pub(crate) number: u32,
    pub(crate) method_text: &'a str,
}

impl<'a> CSeq<'a> {
    pub(crate) fn parse(value: &'a str) -> Option<Self> {
        let (number, method_text) = value.split_once(LWS)?;
        let number = decimal::<u32>(number).filter(|&n| n < 1 << 31)?;
        let method_text = trim(method_text);
        let valid = !method_text.is_empty() && method_text.bytes().all(is_token_byte);
        valid.then_some(Self {
            number,
            method_text,
        })
    }
}

/// One element of `Via` (RFC 3261 §20.42).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Via<'a> {
    /// `UDP`, `TCP`, `TLS`, …, as written.
    pub transport: &'a str,
    /// Host of sent-by; brackets of an IPv6 address included.
    pub host: &'a str,
    /// Port of sent-by, `None` for the transport's default.
    pub port: Option<u16>,
    /// Identifies the transaction (RFC 3261 §17.2.3).
    pub branch: Option<&'a str>,
    /// Where the request really came from (RFC 3261 §18.2.1).
    pub received: Option<&'a str>,
    /// Whether the sender takes requests over this connection too (RFC 5923 §5).
    pub alias: bool,
    /// RFC 3581: `Some(None)` asks for it, `Some(Some(port))` was filled in.
    pub rport: Option<Option<u16>>,
}

impl<'a> Via<'a> {
    /// Parses one element.
    #[must_use]
    pub fn parse(value: &'a str) -> Option<Self> {
        let (protocol, rest) = value.split_once('/')?;
        let (version, rest) = rest.split_once('/')?;
        let known = trim(protocol).eq_ignore_ascii_case("SIP") && trim(version) == "2.0";
        let (transport, rest) = trim(rest).split_once(LWS)?;
        if !known || transport.is_empty() || !transport.bytes().all(is_token_byte) {
            return None;
        }
        let rest = trim(rest);
        let sent_by_end = memchr::memchr(b';', rest.as_bytes()).unwrap_or(rest.len());
        let (host, port) = host_port(trim(&rest[..sent_by_end]))?;
        let mut via = Self {
            transport,
            host,
            port,
            branch: None,
            received: None,
            alias: false,
            rport: None,
        };
        for (name, value) in Params::parse(&rest[sent_by_end..])?.iter() {
            if name.eq_ignore_ascii_case("branch") {
                via.branch = value;
            } else if name.eq_ignore_ascii_case("received") {
                via.received = value;
            } else if name.eq_ignore_ascii_case("alias") {
                via.alias = true;
            } else if name.eq_ignore_ascii_case("rport") {
                via.rport = Some(match value {
                    Some(port) => Some(decimal(port)?),
                    None => None,
                });
            }
        }
        Some(via)
    }
}

/// `host[:port]`, with white space around the colon as `Via` allows.
fn host_port(text: &str) -> Option<(&str, Option<u16>)> {
    let host_end = if text.starts_with('[') {
        memchr::memchr(b']', text.as_bytes())? + 1
    } else {
        memchr::memchr(b':', text.as_bytes()).unwrap_or(text.len())
    };
    let host = trim(&text[..host_end]);
    let valid = |byte: u8| {
        byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'[' | b']' | b':')
    };
    if host.is_empty() || !host.bytes().all(valid) {
        return None;
    }
    let rest = trim(&text[host_end..]);
    if rest.is_empty() {
        return Some((host, None));
    }
    let port = trim(rest.strip_prefix(':')?);
    Some((host, Some(decimal(port)?)))
}

/// `name-addr` or `addr-spec` with the parameters behind it: `From`, `To`, `Contact`, `Route`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NameAddr<'a> {
    /// Display name without its quotes, escapes left in.
    pub display: Option<&'a str>,
    /// The URI; [`Uri::parse`] takes it apart.
    pub uri: &'a str,
    /// Parameters of the header field, not of the URI.
    pub params: Params<'a>,
}

impl<'a> NameAddr<'a> {
    /// Parses one element.
    #[must_use]
    pub fn parse(value: &'a str) -> Option<Self> {
        let (display, rest) = if value.starts_with('"') {
            let close = closing_quote(value)?;
            let rest = trim(&value[close + 1..]);
            (Some(&value[1..close]), rest.strip_prefix('<')?)
        } else if let Some(open) = memchr::memchr(b'<', value.as_bytes()) {
            let display = trim(&value[..open]);
            let valid = |byte| is_token_byte(byte) || byte.is_ascii_whitespace() || byte >= 0x80;
            if !display.bytes().all(valid) {
                return None;
            }
            (
                Some(display).filter(|text| !text.is_empty()),
                &value[open + 1..],
            )
        } else {
            // Without brackets every parameter belongs to the header field (RFC 3261 §20).
            let end = memchr::memchr(b';', value.as_bytes()).unwrap_or(value.len());
            return Self::checked(None, trim(&value[..end]), &value[end..]);
        };
        let close = memchr::memchr(b'>', rest.as_bytes())?;
        Self::checked(display, &rest[..close], &rest[close + 1..])
    }

    fn checked(display: Option<&'a str>, uri: &'a str, params: &'a str) -> Option<Self> {
        let (scheme, opaque) = uri.split_once(':')?;
        let valid = !scheme.is_empty()
            && !opaque.is_empty()
            && scheme.bytes().all(is_token_byte)
            && !opaque.bytes().any(|byte| byte <= b' ' || byte == b'"');
        let params = Params::parse(params)?;
        valid.then_some(Self {
            display,
            uri,
            params,
        })
    }

    /// The tag, which names one side of a dialog (RFC 3261 §19.3).
    #[must_use]
    pub fn tag(&self) -> Option<&'a str> {
        self.params.value("tag")
    }
}

/// One element of `Contact` (RFC 3261 §20.10).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Contact<'a> {
    /// `*`: all bindings, only to remove them.
    Any,
    /// An address.
    Address(NameAddr<'a>),
}

impl<'a> Contact<'a> {
    /// Parses one element.
    #[must_use]
    pub fn parse(value: &'a str) -> Option<Self> {
        if value == "*" {
            return Some(Self::Any);
        }
        NameAddr::parse(value).map(Self::Address)
    }
}

/// A `sip:` or `sips:` URI (RFC 3261 §19.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Uri<'a> {
    /// `sip` or `sips`, as written.
    pub scheme: &'a str,
    /// What precedes the `@`, escapes left in; with a password if there is one.
    pub user: Option<&'a str>,
    /// Brackets of an IPv6 address included.
    pub host: &'a str,
    /// `None` for the transport's default.
    pub port: Option<u16>,
    /// Parameters of the URI.
    pub params: Params<'a>,
    /// What follows the `?`.
    pub headers: Option<&'a str>,
}

impl<'a> Uri<'a> {
    /// Parses a URI.
    ///
    /// # Errors
    /// [`ParseError::Uri`] when it is malformed or of another scheme.
    pub fn parse(text: &'a str) -> Result<Self, ParseError> {
        Self::of(text).ok_or(ParseError::Uri)
    }

    fn of(text: &'a str) -> Option<Self> {
        let (scheme, rest) = text.split_once(':')?;
        if !scheme.eq_ignore_ascii_case("sip") && !scheme.eq_ignore_ascii_case("sips") {
            return None;
        }
        // A user part may hold `;` and `?`, so it is split off first.
        let (user, rest) = match rest.split_once('@') {
            Some(("", _)) => return None,
            Some((user, rest)) => (Some(user), rest),
            None => (None, rest),
        };
        let (rest, headers) = match rest.split_once('?') {
            Some((rest, headers)) => (rest, Some(headers)),
            None => (rest, None),
        };
        let host_end = rest.find(';').unwrap_or(rest.len());
        let (host, port) = host_port(&rest[..host_end])?;
        let params = Params::parse(&rest[host_end..])?;
        Some(Self {
            scheme,
            user,
            host,
            port,
            params,
            headers,
        })
    }

    /// Whether two URIs are equivalent (RFC 3261 §19.1.4). With more than 32 parameters a URI is
    /// equivalent only to itself, so that peers cannot make a comparison last.
    #[must_use]
    pub fn equivalent(&self, other: &Self) -> bool {
        self == other || self.equivalent_in_parts(other)
    }

    fn equivalent_in_parts(&self, other: &Self) -> bool {
        let few = |params: Params<'_>| params.iter().nth(MAX_COMPARED_PARAMS).is_none();
        self.scheme.eq_ignore_ascii_case(other.scheme)
            && self.host.eq_ignore_ascii_case(other.host)
            && self.port == other.port
            && same_escaped(self.user.unwrap_or(""), other.user.unwrap_or(""))
            && self.user.is_some() == other.user.is_some()
            && self.headers.unwrap_or("") == other.headers.unwrap_or("")
            && few(self.params)
            && few(other.params)
            && params_agree(self.params, other.params)
            && params_agree(other.params, self.params)
    }
}

/// Whether each parameter of `left` has the same value in `right`. Absence in `right` matters
/// only for those that change where a request goes.
fn params_agree(left: Params<'_>, right: Params<'_>) -> bool {
    left.iter().all(|(name, value)| match right.find(name) {
        Some(other) => match (value, other) {
            (Some(a), Some(b)) => a.eq_ignore_ascii_case(b),
            (None, None) => true,
            (Some(_), None) | (None, Some(_)) => false,
        },
        None => !["transport", "user", "ttl", "method", "maddr"]
            .iter()
            .any(|decisive| name.eq_ignore_ascii_case(decisive)),
    })
}

/// Compares case-sensitively with `%HH` escapes decoded.
fn same_escaped(left: &str, right: &str) -> bool {
    left == right || unescaped(left).eq(unescaped(right))
}

fn unescaped(text: &str) -> impl Iterator<Item = u8> {
    let mut bytes = text.bytes();
    std::iter::from_fn(move || {
        let byte = bytes.next()?;
        if byte != b'%' {
            return Some(byte);
        }
        let digit = |byte: Option<u8>| char::from(byte?).to_digit(16);
        let mut ahead = bytes.clone();
        match (digit(ahead.next()), digit(ahead.next())) {
            (Some(high), Some(low)) => {
                bytes = ahead;
                u8::try_from(high * 16 + low).ok()
            }
            (Some(_) | None, Some(_) | None) => Some(byte),
        }
    })
}
