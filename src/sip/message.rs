//! A SIP message as a view of the bytes that it arrived in (RFC 3261 §7).
//!
//! [`Message::parse`] makes one pass: it splits the start line, remembers where the first header
//! field of each well-known name is, and finds the body. It allocates nothing and interprets no
//! value; [`Message::via`], [`Message::from`], … do that when they are asked, with the grammar of
//! [`parse`].
//!
//! A message that is wrong in a way that deserves an answer still parses. [`Message::check`] says
//! what is wrong with it, and the answer (400, 505) can be formed from what is there.

mod check;

use super::framing::{self, HeaderLines, MAX_HEADERS};
use super::header::{HEADERS, Header, Method};
use super::parse::{self, CSeq, Contact, Elements, NameAddr, Via};
pub use check::Essentials;

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
    /// The first line is neither a request line nor a status line, or is one with white space too
    /// much.
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
    /// A line between start line and body is no `name: value`, or holds a CR or LF on its own.
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
    /// A URI is of another scheme than `sip` and `sips`; a Request-URI is answered with 416.
    #[error("expected a sip or sips URI, found one of another scheme")]
    Scheme,
    /// `CSeq` names another method than the request line.
    #[error("expected the request's method in CSeq, found another")]
    MethodMismatch {
        /// Whether the request line's method is a known one; otherwise 501 says more than 400.
        known: bool,
    },
    /// The datagram ends before the body does (RFC 3261 §18.3).
    #[error("expected a body of {expected} bytes, found {found}")]
    BodyTruncated {
        /// What `Content-Length` says.
        expected: usize,
        /// What is there.
        found: usize,
    },
}

impl ParseError {
    /// Status that answers a request with this fault (RFC 3261 §21.4).
    #[must_use]
    pub fn status(&self) -> u16 {
        match self {
            Self::Version => 505,
            Self::Scheme => 416,
            Self::MethodMismatch { known: false } => 501,
            Self::NotUtf8
            | Self::StartLine
            | Self::NoEnd
            | Self::TooManyHeaders
            | Self::HeaderLine
            | Self::Missing(_)
            | Self::Malformed(_)
            | Self::Repeated(_)
            | Self::Uri
            | Self::MethodMismatch { known: true }
            | Self::BodyTruncated { .. } => 400,
        }
    }
}

/// A SIP message, borrowed from the buffer that it arrived in.
#[derive(Clone, Debug)]
pub struct Message<'a> {
    start: StartLine<'a>,
    headers: &'a str,
    first: [Option<&'a str>; HEADERS],
    /// How many lines there are of each; at most [`MAX_HEADERS`].
    count: [u8; HEADERS],
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
        let (head, body) = split_head(bytes)?;
        let start_bytes = memchr::memchr(b'\r', head.as_bytes()).ok_or(ParseError::StartLine)?;
        let headers = head[start_bytes..].strip_prefix("\r\n");
        let (start, fault) = start_line(&head[..start_bytes])?;
        let mut message = Self {
            start,
            headers: headers.ok_or(ParseError::StartLine)?,
            first: [None; HEADERS],
            count: [0; HEADERS],
            repeated: 0,
            body,
            fault,
        };
        message.scan()?;
        message.bound_body();
        Ok(message)
    }

    /// The pass over the header fields.
    fn scan(&mut self) -> Result<(), ParseError> {
        let mut count = 0;
        let bytes = self.headers.as_bytes();
        let mut lines = HeaderLines::new(bytes);
        loop {
            let start = lines.at();
            let Some(line) = lines.next() else {
                return Ok(());
            };
            count += 1;
            if count > MAX_HEADERS {
                return Err(ParseError::TooManyHeaders);
            }
            let text = &self.headers[start..start + line.bytes.len()];
            let known = Header::of_line(&bytes[start..]);
            let known = known.filter(|(_, colon)| *colon < text.len() && line.is_tidy);
            let (header, value) = match known {
                Some((header, colon)) => (header, parse::trim(&text[colon + 1..])),
                None => {
                    let split = parse::split_header(text).filter(|_| line.is_tidy);
                    let Some((name, value)) = split else {
                        self.fault.get_or_insert(ParseError::HeaderLine);
                        continue;
                    };
                    let Some(header) = Header::from_name(name) else {
                        continue;
                    };
                    (header, value)
                }
            };
            self.count[header as usize] += 1;
            let first = &mut self.first[header as usize];
            if first.is_none() {
                *first = Some(value);
            } else {
                self.repeated |= 1 << header as u32;
            }
        }
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
        let first = self.header(header);
        // Most header fields occur once, and those that do not stand together: no second pass over
        // all of them.
        let further = usize::from(self.count[header as usize]).saturating_sub(1);
        let behind = first.filter(|_| further > 0).map_or("", |first| {
            let offset = first.as_ptr() as usize - self.headers.as_ptr() as usize;
            &self.headers[offset + first.len()..]
        });
        let others = Lines::of(behind)
            .filter_map(|(line, _)| parse::split_header(line))
            .filter(move |(name, _)| Header::from_name(name) == Some(header))
            .map(|(_, value)| value)
            .take(further);
        first.into_iter().chain(others)
    }

    /// Elements of all header fields of that name, with lists on one line taken apart
    /// (RFC 3261 §7.3.1).
    pub fn elements(&self, header: Header) -> impl Iterator<Item = &'a str> + use<'a> {
        self.lines(header).flat_map(Elements::new)
    }

    /// All header fields in order, each with its name as written and its value.
    pub fn headers(&self) -> impl Iterator<Item = (&'a str, &'a str)> + use<'a> {
        Lines::of(self.headers).filter_map(|(line, _)| parse::split_header(line))
    }

    /// All `Via`s, the topmost first: an error stands for an element that is malformed.
    pub fn vias(&self) -> impl Iterator<Item = Result<Via<'a>, ParseError>> + use<'a> {
        self.elements(Header::Via)
            .map(|element| Via::parse(element).ok_or(ParseError::Malformed(Header::Via)))
    }

    /// The addresses of `Route`, `Record-Route` or `Path`, the topmost first, which have to be in
    /// angle brackets (RFC 3261 §20.34): otherwise nobody could tell whose parameter `lr` is.
    pub fn routes(
        &self,
        header: Header,
    ) -> impl Iterator<Item = Result<NameAddr<'a>, ParseError>> + use<'a> {
        self.elements(header).map(move |element| {
            let address = NameAddr::parse(element).filter(|address| address.bracketed);
            address.ok_or(ParseError::Malformed(header))
        })
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
        // Any word, and whatever else is visible: nobody looks into it.
        let visible = value.bytes().all(|byte| byte > b' ' && byte != 0x7f);
        if value.is_empty() || !visible {
            return Err(ParseError::Malformed(Header::CallId));
        }
        Ok(value)
    }

    /// `CSeq`: number (below 2³¹) and method.
    ///
    /// # Errors
    /// When it is missing or malformed.
    pub fn cseq(&self) -> Result<(u32, Method), ParseError> {
        let cseq = self.whole_cseq()?;
        Ok((cseq.number, Method::from_token(cseq.method_text)))
    }

    fn whole_cseq(&self) -> Result<CSeq<'a>, ParseError> {
        let value = self.required(Header::CSeq)?;
        CSeq::parse(value).ok_or(ParseError::Malformed(Header::CSeq))
    }

    /// `Max-Forwards`. A value beyond the legal 255 counts as if there were none, so that the next
    /// proxy sets one that ends (RFC 4475 §3.1.2.4).
    ///
    /// # Errors
    /// When it is no number.
    pub fn max_forwards(&self) -> Result<Option<u8>, ParseError> {
        let hops = self.seconds(Header::MaxForwards)?;
        Ok(hops.and_then(|hops| u8::try_from(hops).ok()))
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
    let end = framing::find_empty_line(bytes).ok_or(ParseError::NoEnd)?;
    let head = std::str::from_utf8(&bytes[..end + 2]).map_err(|_| ParseError::NotUtf8)?;
    Ok((head, &bytes[end + 4..]))
}

/// The start line taken apart, and what is wrong with it if that can still be answered.
fn start_line(line: &str) -> Result<(StartLine<'_>, Option<ParseError>), ParseError> {
    let space = memchr::memchr(b' ', line.as_bytes()).ok_or(ParseError::StartLine)?;
    let (first, rest) = (&line[..space], &line[space + 1..]);
    if names_sip(first) {
        // Without a reason phrase many leave out the space as well.
        let (code, reason) = rest.split_once(' ').unwrap_or((rest, ""));
        let status = parse::decimal::<u16>(code).ok_or(ParseError::StartLine)?;
        if code.len() != 3 || !(100..700).contains(&status) {
            return Err(ParseError::StartLine);
        }
        return Ok((StartLine::Response { status, reason }, fault_of(first)));
    }
    // Behind white space that should not be there the request can still be told, and answered.
    let trimmed = rest.trim();
    let space = memchr::memrchr(b' ', trimmed.as_bytes()).ok_or(ParseError::StartLine)?;
    let (uri, version) = (&trimmed[..space], &trimmed[space + 1..]);
    let is_tidy = rest.len() == uri.len() + 1 + version.len() && !uri.ends_with(' ');
    let method_text = first;
    let is_token = !first.is_empty() && first.bytes().all(framing::is_token_byte);
    if uri.is_empty() || !names_sip(version) || !is_token {
        return Err(ParseError::StartLine);
    }
    let start = StartLine::Request {
        method: Method::from_token(method_text),
        method_text,
        uri: uri.trim_end(),
    };
    let untidy = (!is_tidy).then_some(ParseError::StartLine);
    Ok((start, fault_of(version).or(untidy)))
}

fn names_sip(version: &str) -> bool {
    let name = version.get(..4);
    name.is_some_and(|name| name.eq_ignore_ascii_case("SIP/"))
}

fn fault_of(version: &str) -> Option<ParseError> {
    (!version.eq_ignore_ascii_case("SIP/2.0")).then_some(ParseError::Version)
}

/// Header lines with their folded continuations, without their line ends, and whether they hold no
/// other CR or LF.
struct Lines<'a> {
    text: &'a str,
    lines: HeaderLines<'a>,
}

impl<'a> Lines<'a> {
    fn of(text: &'a str) -> Self {
        Self {
            text,
            lines: HeaderLines::new(text.as_bytes()),
        }
    }
}

impl<'a> Iterator for Lines<'a> {
    type Item = (&'a str, bool);

    fn next(&mut self) -> Option<Self::Item> {
        let start = self.lines.at();
        let line = self.lines.next()?;
        Some((&self.text[start..start + line.bytes.len()], line.is_tidy))
    }
}
