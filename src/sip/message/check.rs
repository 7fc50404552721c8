//! Whether a message is one that may be acted upon, and what was seen meanwhile: nothing is taken apart twice.

use super::{Message, ParseError, StartLine};
use crate::sip::header::{Header, Method};
use crate::sip::parse::{NameAddr, Uri, Via};

/// What every valid message has (RFC 3261 §8.1.1), taken apart.
#[derive(Clone, Copy, Debug)]
pub struct Essentials<'a> {
    /// The topmost `Via`.
    pub via: Via<'a>,
    /// `From`.
    pub from: NameAddr<'a>,
    /// `To`.
    pub to: NameAddr<'a>,
    /// `Call-ID`.
    pub call_id: &'a str,
    /// The number in `CSeq`.
    pub sequence: u32,
    /// The method in `CSeq`, which is that of the request.
    pub method: Method,
    /// The Request-URI; `None` of a response, and where it is of another scheme than `sip` and `sips`.
    pub uri: Option<Uri<'a>>,
}

impl<'a> Message<'a> {
    /// Whether the message is one that RFC 3261 lets us act upon: version, header lines, a Request-URI
    /// without header fields (§19.1.1), mandatory header fields (§8.1.1) each once, and a `CSeq` that
    /// fits. `Max-Forwards` may be absent, as it is in requests of RFC 2543. A Request-URI may be of
    /// any scheme, which a proxy could serve.
    ///
    /// # Errors
    /// The first fault; a request is answered with its [`ParseError::status`].
    pub fn check(&self) -> Result<(), ParseError> {
        self.essentials().map(drop)
    }

    /// What [`Self::check`] looks at.
    ///
    /// # Errors
    /// As with [`Self::check`].
    pub fn essentials(&self) -> Result<Essentials<'a>, ParseError> {
        if let Some(fault) = &self.fault {
            return Err(fault.clone());
        }
        if self.repeated & ONCE_MASK != 0 {
            let repeated = |header: &&Header| self.repeated & (1 << **header as u32) != 0;
            if let Some(&header) = ONCE.iter().find(repeated) {
                return Err(ParseError::Repeated(header));
            }
        }
        let via = self.via()?;
        if !via.is_sip() {
            return Err(ParseError::Malformed(Header::Via));
        }
        let from = self.from()?;
        let to = self.to()?;
        let call_id = self.call_id()?;
        self.max_forwards()?;
        let cseq = self.whole_cseq()?;
        let (method, uri) = match self.start {
            StartLine::Request {
                method,
                method_text,
                uri,
            } => {
                if cseq.method_text != method_text {
                    let known = method != Method::Other;
                    return Err(ParseError::MethodMismatch { known });
                }
                (method, request_uri(uri)?)
            }
            StartLine::Response { .. } => (Method::from_token(cseq.method_text), None),
        };
        Ok(Essentials {
            via,
            from,
            to,
            call_id,
            sequence: cseq.number,
            method,
            uri,
        })
    }
}

fn request_uri(text: &str) -> Result<Option<Uri<'_>>, ParseError> {
    match Uri::parse(text) {
        Ok(uri) if uri.headers.is_some() => Err(ParseError::Uri),
        Ok(uri) => Ok(Some(uri)),
        Err(ParseError::Scheme) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Header fields of which a message has at most one.
const ONCE: [Header; 7] = [
    Header::CallId,
    Header::CSeq,
    Header::From,
    Header::To,
    Header::MaxForwards,
    Header::ContentLength,
    Header::Expires,
];

const ONCE_MASK: u32 = {
    let (mut mask, mut next) = (0, 0);
    while next < ONCE.len() {
        mask |= 1 << ONCE[next] as u32;
        next += 1;
    }
    mask
};
