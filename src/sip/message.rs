//! A SIP message as a view of the bytes that it arrived in (RFC 3261 §7).
//!
//! [`Message::parse`] makes one pass: it splits the start line, remembers where the first header
//! field of each well-known name is, and finds the body. It allocates nothing and interprets no
//! value; [`Message::via`], [`Message::from`], … do that when they are asked, with the grammar of
//! [`parse`].
//!
//! A message that is wrong in a way that deserves an answer still parses. [`Message::check`] says
//! what is wrong with it, and the answer (400, 505) can be formed from what is there.

use super::framing::{self, MAX_HEADERS};
use super::header::{HEADERS, Header, Method};
use super::parse::{self, CSeq, Contact, Elements, NameAddr, Via};

/// First line of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StartLine<'a> {
    /// `INVITE sip:user@example.com SIP/2.0`
    Request {
        /// The method.
        method: Method,
        /// The method as it was written.
        method_text: &'a str,
        /// The Request-URI; [`Uri::parse`](super::Uri::parse) takes it apart.
        uri: &'a str,
    },
    /// `SIP/2.0 200 OK`
    Response {
        /// 100 to 699.
        status: u16,
        /// May be empty.
        reason: &'a str,
    },
}

/// Why bytes are no SIP message, or no valid one.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ParseError {
    /// Start line and header fields are UTF-8 (RFC 3261 §7).
    #[error("expected UTF-8 up to the body, found something else")]
    NotUtf8,
    /// The first line is neither a request line nor a status line.
    #[error("expected a request line or a status line, found neither")]
    StartLine,
    /// The empty line that ends the header fields is missing.
    #[error("expected an empty line behind the header fields, found none")]
    NoEnd,
    /// More header fields than anyone needs.
    #[error("expected at most {MAX_HEADERS} header fields, found more")]
    TooManyHeaders,
    /// Not `SIP/2.0`; answered with 505.
    #[error("expected SIP/2.0, found another version")]
    Version,
    /// A line between start line and body is no `name: value`.
    #[error("expected name and value on each header line, found a line without")]
    HeaderLine,
    /// A header field that every message needs is absent.
    #[error("expected the header field {}, found none", .0.name())]
    Missing(Header),
    /// A header field's value does not follow its grammar.
    #[error("expected a valid {}, found a malformed one", .0.name())]
    Malformed(Header),
    /// A header field that may occur once occurs more often.
    #[error("expected one {}, found several", .0.name())]
    Repeated(Header),
    /// A URI does not follow its grammar.
    #[error("expected a URI, found something else")]
    Uri,
    /// `CSeq` names another method than the request line.
    #[error("expected the request's method in CSeq, found another")]
    MethodMismatch,
    /// The datagram ends before the body does (RFC 3261 §18.3).
    #[error("expected a body of {expected} bytes, found {found}")]
    BodyTruncated {
        /// What `Content-Length` says.
        expected: usize,
        /// What is there.
        found: usize,
    },
}

/// A SIP message, borrowed from the buffer that it arrived in.
#[derive(Clone, Debug)]
pub struct Message<'a> {
    start: StartLine<'a>,
    headers: &'a str,
    first: [Option<&'a str>; HEADERS],
    repeated: u32,
    body: &'a [u8],
    fault: Option<ParseError>,
}

impl<'a> Message<'a> {
    /// Parses one message. What follows the body in a datagram is ignored (RFC 3261 §18.3), as are
    /// empty lines in front.
    ///
    /// # Errors
    /// When nothing is there that could be answered; see [`Message::check`] for the rest.
    pub fn parse(mut bytes: &'a [u8]) -> Result<Self, ParseError> {
        while let [b'\r', b'\n', rest @ ..] = bytes {
            bytes = rest;
        }
        let (head, after) = split_head(bytes)?;
        let start_bytes = memchr::memchr(b'\r', head.as_bytes()).ok_or(ParseError::StartLine)?;
        let (start, version) = start_line(&head[..start_bytes])?;
        let mut message = Self {
            start,
            headers: head.get(start_bytes + 2..).ok_or(ParseError::StartLine)?,
            first: [None; HEADERS],
            repeated: 0,
            body: after,
            fault: None,
        };
        if !version.eq_ignore_ascii_case("SIP/2.0") {
            message.fault = Some(ParseError::Version);
        }
        message.scan()?;
        message.bound_body();
        Ok(message)
    }

    /// The pass over the header fields.
    fn scan(&mut self) -> Result<(), ParseError> {
        let mut count = 0;
        for line in (Lines { rest: self.headers }) {
            count += 1;
            if count > MAX_HEADERS {
                return Err(ParseError::TooManyHeaders);
            }
            let Some((name, value)) = parse::split_header(line) else {
                self.fault.get_or_insert(ParseError::HeaderLine);
                continue;
            };
            let Some(header) = Header::from_name(name) else {
                continue;
            };
            let first = &mut self.first[header as usize];
            if first.is_none() {
                *first = Some(value);
            } else {
                self.repeated |= 1 << header as u32;
            }
        }
        Ok(())
    }

    fn bound_body(&mut self) {
        let Some(value) = self.header(Header::ContentLength) else {
            return;
        };
        match parse::decimal::<usize>(value) {
            Some(length) if length <= self.body.len() => self.body = &self.body[..length],
            Some(expected) => {
                let found = self.body.len();
                self.fault
                    .get_or_insert(ParseError::BodyTruncated { expected, found });
            }
            None => {
                self.fault
                    .get_or_insert(ParseError::Malformed(Header::ContentLength));
            }
        }
    }

    /// Whether the message is one that RFC 3261 lets us act upon: version, header lines, mandatory
    /// header fields (§8.1.1) each once, and a `CSeq` that fits. `Max-Forwards` may be absent, as it
    /// is in requests of RFC 2543.
    ///
    /// # Errors
    /// The first fault; a request is answered with 400, or 505 for [`ParseError::Version`].
    pub fn check(&self) -> Result<(), ParseError> {
        if let Some(fault) = &self.fault {
            return Err(fault.clone());
        }
        for header in [
            Header::CallId,
            Header::CSeq,
            Header::From,
            Header::To,
            Header::MaxForwards,
            Header::ContentLength,
            Header::Expires,
        ] {
            if self.repeated & (1 << header as u32) != 0 {
                return Err(ParseError::Repeated(header));
            }
        }
        self.via()?;
        self.from()?;
        self.to()?;
        self.call_id()?;
        let cseq =
            CSeq::parse(self.required(Header::CSeq)?).ok_or(ParseError::Malformed(Header::CSeq))?;
        match self.start {
            StartLine::Request { method_text, .. } if cseq.method_text != method_text => {
                Err(ParseError::MethodMismatch)
            }
            StartLine::Request { .. } | StartLine::Response { .. } => Ok(()),
        }
    }

    /// The first line.
    #[must_use]
    pub fn start_line(&self) -> StartLine<'a> {
        self.start
    }

    /// The method of a request, `None` for a response.
    #[must_use]
    pub fn method(&self) -> Option<Method> {
        match self.start {
            StartLine::Request { method, .. } => Some(method),
            StartLine::Response { .. } => None,
        }
    }

    /// The status of a response, `None` for a request.
    #[must_use]
    pub fn status(&self) -> Option<u16> {
        match self.start {
            StartLine::Request { .. } => None,
            StartLine::Response { status, .. } => Some(status),
        }
    }

    /// Value of the first header field of that name, without surrounding white space.
    #[must_use]
    pub fn header(&self, header: Header) -> Option<&'a str> {
        self.first[header as usize]
    }

    /// Values of all header fields of that name, one a line, in order.
    pub fn lines(&self, header: Header) -> impl Iterator<Item = &'a str> + use<'a> {
        // Most header fields occur once: no second pass for them.
        let once = self.repeated & (1 << header as u32) == 0;
        let first = self.header(header).filter(|_| once);
        let all = (!once).then(|| self.headers());
        first.into_iter().chain(
            all.into_iter()
                .flatten()
                .filter(move |(name, _)| Header::from_name(name) == Some(header))
                .map(|(_, value)| value),
        )
    }

    /// Elements of all header fields of that name, with lists on one line taken apart
    /// (RFC 3261 §7.3.1).
    pub fn elements(&self, header: Header) -> impl Iterator<Item = &'a str> + use<'a> {
        self.lines(header).flat_map(Elements::new)
    }

    /// All header fields in order, each with its name as written and its value.
    pub fn headers(&self) -> impl Iterator<Item = (&'a str, &'a str)> + use<'a> {
        Lines { rest: self.headers }.filter_map(parse::split_header)
    }

    /// The topmost `Via`.
    ///
    /// # Errors
    /// When it is missing or malformed, as with the accessors below.
    pub fn via(&self) -> Result<Via<'a>, ParseError> {
        let line = self.required(Header::Via)?;
        let first = Elements::new(line).next().unwrap_or(line);
        Via::parse(first).ok_or(ParseError::Malformed(Header::Via))
    }

    /// `From`.
    ///
    /// # Errors
    /// When it is missing or malformed.
    pub fn from(&self) -> Result<NameAddr<'a>, ParseError> {
        self.name_addr(Header::From)
    }

    /// `To`.
    ///
    /// # Errors
    /// When it is missing or malformed.
    pub fn to(&self) -> Result<NameAddr<'a>, ParseError> {
        self.name_addr(Header::To)
    }

    fn name_addr(&self, header: Header) -> Result<NameAddr<'a>, ParseError> {
        NameAddr::parse(self.required(header)?).ok_or(ParseError::Malformed(header))
    }

    /// `Call-ID`.
    ///
    /// # Errors
    /// When it is missing or malformed.
    pub fn call_id(&self) -> Result<&'a str, ParseError> {
        let value = self.required(Header::CallId)?;
        let spaced = value.bytes().any(|byte| byte.is_ascii_whitespace());
        if value.is_empty() || spaced {
            return Err(ParseError::Malformed(Header::CallId));
        }
        Ok(value)
    }

    /// `CSeq`: number (below 2³¹) and method.
    ///
    /// # Errors
    /// When it is missing or malformed.
    pub fn cseq(&self) -> Result<(u32, Method), ParseError> {
        CSeq::parse(self.required(Header::CSeq)?)
            .map(|cseq| (cseq.number, Method::from_token(cseq.method_text)))
            .ok_or(ParseError::Malformed(Header::CSeq))
    }

    /// All `Contact`s.
    pub fn contacts(&self) -> impl Iterator<Item = Result<Contact<'a>, ParseError>> + use<'a> {
        self.elements(Header::Contact)
            .map(|element| Contact::parse(element).ok_or(ParseError::Malformed(Header::Contact)))
    }

    /// `Expires`, in seconds; values beyond 2³²−1 count as that.
    ///
    /// # Errors
    /// When it is malformed.
    pub fn expires(&self) -> Result<Option<u32>, ParseError> {
        self.seconds(Header::Expires)
    }

    /// A header field of the form `delta-seconds`.
    ///
    /// # Errors
    /// When it is malformed.
    pub fn seconds(&self, header: Header) -> Result<Option<u32>, ParseError> {
        self.header(header)
            .map(|value| parse::delta_seconds(value).ok_or(ParseError::Malformed(header)))
            .transpose()
    }

    /// The body, as long as `Content-Length` says.
    #[must_use]
    pub fn body(&self) -> &'a [u8] {
        self.body
    }

    fn required(&self, header: Header) -> Result<&'a str, ParseError> {
        self.header(header).ok_or(ParseError::Missing(header))
    }
}

/// Start line and header fields, each with its line end, and what follows the empty line.
fn split_head(bytes: &[u8]) -> Result<(&str, &[u8]), ParseError> {
    let end = memchr::memmem::find(bytes, b"\r\n\r\n").ok_or(ParseError::NoEnd)?;
    let head = std::str::from_utf8(&bytes[..end + 2]).map_err(|_| ParseError::NotUtf8)?;
    Ok((head, &bytes[end + 4..]))
}

/// The start line taken apart, and the version that it names.
fn start_line(line: &str) -> Result<(StartLine<'_>, &str), ParseError> {
    let (first, rest) = line.split_once(' ').ok_or(ParseError::StartLine)?;
    if first
        .get(..4)
        .is_some_and(|name| name.eq_ignore_ascii_case("SIP/"))
    {
        // Without a reason phrase many leave out the space as well.
        let (code, reason) = rest.split_once(' ').unwrap_or((rest, ""));
        let status = code.parse::<u16>().map_err(|_| ParseError::StartLine)?;
        if code.len() != 3 || !(100..700).contains(&status) {
            return Err(ParseError::StartLine);
        }
        return Ok((StartLine::Response { status, reason }, first));
    }
    let (uri, version) = rest.split_once(' ').ok_or(ParseError::StartLine)?;
    let is_sip = version
        .get(..4)
        .is_some_and(|name| name.eq_ignore_ascii_case("SIP/"));
    if uri.is_empty() || !is_sip || version.contains(' ') {
        return Err(ParseError::StartLine);
    }
    if first.is_empty() || !first.bytes().all(framing::is_token_byte) {
        return Err(ParseError::StartLine);
    }
    let start = StartLine::Request {
        method: Method::from_token(first),
        method_text: first,
        uri,
    };
    Ok((start, version))
}

/// Header lines with their folded continuations, without their line ends.
struct Lines<'a> {
    rest: &'a str,
}

impl<'a> Iterator for Lines<'a> {
    type Item = &'a str;

    fn next(&mut self) -> Option<&'a str> {
        if self.rest.is_empty() {
            return None;
        }
        let (length, with_end) = framing::line_length(self.rest.as_bytes());
        let line = &self.rest[..length];
        self.rest = &self.rest[with_end..];
        Some(line)
    }
}
