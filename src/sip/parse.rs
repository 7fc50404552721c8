//! The grammar of header field values (RFC 3261 §25.1): what [`Message`](super::Message) uses to
//! take apart a value that somebody asked for. Everything borrows and nothing allocates; a value
//! that does not follow its grammar is `None`, and the caller knows which header field it was.
//!
//! Looser than the RFC where deployed peers are, and where nothing becomes ambiguous: empty elements
//! in lists, underscores in host names, `=`, `/` and the like in unquoted parameter values.

mod lex;
mod uri;

use std::borrow::Cow;
use std::net::IpAddr;

use lex::{BARE_URI, Cursor, DISPLAY, KNOWN, TOKEN, URI, VALUE, closing_quote};
pub use uri::{Uri, unescaped};

/// Strips linear white space.
pub(crate) fn trim(value: &str) -> &str {
    let mut rest = value.as_bytes();
    while let [b' ' | b'\t' | b'\r' | b'\n', behind @ ..] = rest {
        rest = behind;
    }
    let from = value.len() - rest.len();
    while let [front @ .., b' ' | b'\t' | b'\r' | b'\n'] = rest {
        rest = front;
    }
    &value[from..from + rest.len()]
}

/// Name and value of a header line, `None` if it has no name.
pub(crate) fn split_header(line: &str) -> Option<(&str, &str)> {
    let bytes = line.as_bytes();
    let name_end = lex::prefix(bytes, TOKEN);
    let colon = match *bytes.get(name_end)? {
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

/// What a quoted string says: without its quotes, if it still has them, and with each quoted pair
/// replaced by the character that it stands for (RFC 3261 §25.1).
#[must_use]
pub fn unquoted(text: &str) -> Cow<'_, str> {
    let within = text
        .strip_prefix('"')
        .and_then(|text| text.strip_suffix('"'));
    let text = within.unwrap_or(text);
    if !text.contains('\\') {
        return Cow::Borrowed(text);
    }
    let mut plain = String::with_capacity(text.len());
    let mut characters = text.chars();
    while let Some(character) = characters.next() {
        let literal = match character {
            '\\' => characters.next(),
            _ => Some(character),
        };
        plain.extend(literal);
    }
    Cow::Owned(plain)
}

/// Byte offset of the first comma that is neither within quotes nor angle brackets.
fn find_comma(value: &str) -> Option<usize> {
    let bytes = value.as_bytes();
    // Lists are rare, and without quotes and brackets the first comma is it.
    let first = memchr::memchr(b',', bytes)?;
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
            b',' if !bracketed => return Some(at),
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
            let (element, rest) = match find_comma(self.rest) {
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

/// Parameters `;name=value;flag` of a header field or URI, found valid.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Params<'a>(&'a str);

impl<'a> Params<'a> {
    /// All that is left of a value, which has to be parameters. Each is shown to `see`.
    fn of_header(
        cursor: &mut Cursor<'a>,
        mut see: impl FnMut(&'a str, Option<&'a str>),
    ) -> Option<Self> {
        cursor.white();
        let params = Self(cursor.rest());
        while cursor.eat(b';') {
            cursor.white();
            let name = cursor.some(TOKEN)?;
            cursor.white();
            if !cursor.eat(b'=') {
                see(name, None);
                continue;
            }
            cursor.white();
            let value = match cursor.peek()? {
                b'"' => cursor.quoted()?,
                _ => cursor.some(VALUE)?,
            };
            cursor.white();
            see(name, Some(value));
        }
        cursor.is_at_end().then_some(params)
    }

    /// All of them as they were written: empty, or from the first semicolon on.
    #[must_use]
    pub fn as_str(self) -> &'a str {
        self.0
    }

    /// All of them in order: name and, unless it is a flag, value. Quotes are part of a value;
    /// [`unquoted`] tells what it says.
    pub fn iter(self) -> impl Iterator<Item = (&'a str, Option<&'a str>)> {
        let mut cursor = Cursor::new(self.0);
        std::iter::from_fn(move || {
            cursor.expect(b';')?;
            cursor.white();
            let name = cursor.run(KNOWN);
            cursor.white();
            if !cursor.eat(b'=') {
                return Some((name, None));
            }
            cursor.white();
            let value = cursor.quoted().unwrap_or_else(|| cursor.value());
            cursor.white();
            Some((name, Some(value)))
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
        let mut cursor = Cursor::new(value);
        let number = cursor.some(lex::DIGIT)?.parse().ok();
        let number = number.filter(|&number| number < 1 << 31)?;
        cursor.white().then_some(())?;
        let method_text = cursor.some(TOKEN)?;
        cursor.is_at_end().then_some(Self {
            number,
            method_text,
        })
    }
}

/// One element of `Via` (RFC 3261 §20.42).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Via<'a> {
    /// All of it, as written.
    pub text: &'a str,
    /// Name of the protocol: `SIP`.
    pub protocol: &'a str,
    /// Its version: `2.0`.
    pub version: &'a str,
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
    /// RFC 3581: `Some(None)` asks for it, `Some(Some(port))` was filled in.
    pub rport: Option<Option<u16>>,
    /// These and all others (`maddr`, `ttl`, `alias`, …).
    pub params: Params<'a>,
    /// The name of the only `rport`.
    rport_name: Option<&'a str>,
}

impl<'a> Via<'a> {
    /// Parses one element.
    #[must_use]
    pub fn parse(value: &'a str) -> Option<Self> {
        let mut cursor = Cursor::new(value);
        let mut part = |last: bool| {
            let part = cursor.some(TOKEN)?;
            let spaced = cursor.white();
            let separated = if last { spaced } else { cursor.eat(b'/') };
            cursor.white();
            separated.then_some(part)
        };
        let (protocol, version, transport) = (part(false)?, part(false)?, part(true)?);
        let host = cursor.host()?;
        cursor.white();
        let mut port = None;
        if cursor.eat(b':') {
            cursor.white();
            port = Some(cursor.port()?);
        }
        let (mut branch, mut received, mut rport) = (None, None, None);
        let mut rport_name = None;
        let params = Params::of_header(&mut cursor, |name, value| {
            if name.eq_ignore_ascii_case("branch") {
                branch = value;
            } else if name.eq_ignore_ascii_case("received") {
                received = value;
            } else if name.eq_ignore_ascii_case("rport") {
                rport_name = Some(name).filter(|_| rport.is_none());
                rport = Some(value);
            }
        })?;
        let rport = match rport {
            Some(Some(value)) => Some(Some(decimal(value)?)),
            Some(None) => Some(None),
            None => None,
        };
        Some(Self {
            text: value,
            protocol,
            version,
            transport,
            host,
            port,
            branch,
            received,
            rport,
            params,
            rport_name,
        })
    }

    /// Where the value of `rport` is to be written, in [`Self::text`], if that is all that has to be done to it: it
    /// was asked for once, in the usual way.
    pub(crate) fn rport_place(&self) -> Option<usize> {
        let name = self.rport_name.filter(|_| self.rport == Some(None))?;
        let end = name.as_ptr() as usize - self.text.as_ptr() as usize + name.len();
        let is_usual = matches!(self.text.as_bytes().get(end), None | Some(b';'));
        (is_usual && name == "rport").then_some(end)
    }

    /// Whether it is of the protocol that RFC 3261 defines.
    #[must_use]
    pub fn is_sip(&self) -> bool {
        self.protocol.eq_ignore_ascii_case("SIP") && self.version == "2.0"
    }

    /// Where `received` says that the request came from. An IPv6 address may be in brackets, as half
    /// of all implementations have it (RFC 5118 §4.5).
    #[must_use]
    pub fn received_ip(&self) -> Option<IpAddr> {
        let text = self.received?;
        let within = text
            .strip_prefix('[')
            .and_then(|text| text.strip_suffix(']'));
        within.unwrap_or(text).parse().ok()
    }
}

/// `name-addr` or `addr-spec` with the parameters behind it: `From`, `To`, `Contact`, `Route`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NameAddr<'a> {
    /// Display name without its quotes, escapes left in; [`unquoted`] tells what it says.
    pub display: Option<&'a str>,
    /// The URI; [`Uri::parse`] takes it apart.
    pub uri: &'a str,
    /// Whether the URI is in angle brackets, as it must be in `Route` and its like.
    pub bracketed: bool,
    /// Parameters of the header field, not of the URI.
    pub params: Params<'a>,
    tag: Option<&'a str>,
}

impl<'a> NameAddr<'a> {
    /// Parses one element.
    #[must_use]
    pub fn parse(value: &'a str) -> Option<Self> {
        let mut cursor = Cursor::new(value);
        let display = if value.starts_with('"') {
            let quoted = cursor.quoted()?;
            cursor.white();
            Some(&quoted[1..quoted.len() - 1])
        } else {
            Some(trim(cursor.run(DISPLAY))).filter(|display| !display.is_empty())
        };
        let bracketed = cursor.eat(b'<');
        let (display, uri) = if bracketed {
            let uri = cursor.run(URI);
            cursor.expect(b'>')?;
            (display, uri)
        } else {
            // Without brackets every parameter belongs to the header field (RFC 3261 §20).
            cursor = Cursor::new(value);
            (None, cursor.run(BARE_URI))
        };
        let mut tag = None;
        let params = Params::of_header(&mut cursor, |name, value| {
            if name.eq_ignore_ascii_case("tag") {
                tag = value;
            }
        })?;
        has_scheme(uri).then_some(Self {
            display,
            uri,
            bracketed,
            params,
            tag,
        })
    }

    /// The tag, which names one side of a dialog (RFC 3261 §19.3).
    #[must_use]
    pub fn tag(&self) -> Option<&'a str> {
        self.tag
    }
}

/// Whether a text is a URI of any scheme, as far as that can be told (RFC 3986 §3).
fn is_uri(text: &str) -> bool {
    has_scheme(text) && text.bytes().all(|byte| lex::is(byte, URI))
}

/// Whether a text starts with a scheme, and something follows it.
fn has_scheme(text: &str) -> bool {
    let is_scheme = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'-' | b'.');
    let bytes = text.as_bytes();
    if let [scheme @ .., _] = bytes.get(..5).unwrap_or_default()
        && scheme.eq_ignore_ascii_case(b"sip:")
    {
        return true;
    }
    let length = bytes.iter().take_while(|&&byte| is_scheme(byte)).count();
    bytes.first().is_some_and(u8::is_ascii_alphabetic)
        && bytes.get(length) == Some(&b':')
        && length + 1 < bytes.len()
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
