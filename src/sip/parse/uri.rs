//! `sip:` and `sips:` URIs (RFC 3261 §19.1).

use super::lex::{Cursor, PASSWORD, URI_HEADERS, URI_PARAM, USER, ipv6};
use super::{Params, is_uri};
use crate::sip::message::ParseError;

/// Most parameters of a URI that is compared with another that is written differently: the
/// comparison takes the product of both numbers.
const MAX_COMPARED_PARAMS: usize = 32;

/// A `sip:` or `sips:` URI (RFC 3261 §19.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Uri<'a> {
    /// `sip` or `sips`, as written.
    pub scheme: &'a str,
    /// What names the user, escapes left in.
    pub user: Option<&'a str>,
    /// What follows the user and a colon. Sent in the clear and so of no use (RFC 3261 §19.1.1).
    pub password: Option<&'a str>,
    /// Brackets of an IPv6 address included.
    pub host: &'a str,
    /// `None` for the transport's default.
    pub port: Option<u16>,
    /// Parameters of the URI.
    pub params: Params<'a>,
    /// What follows the `?`, escapes left in.
    pub headers: Option<&'a str>,
}

impl<'a> Uri<'a> {
    /// Parses a URI.
    ///
    /// # Errors
    /// [`ParseError::Uri`] when it is malformed, [`ParseError::Scheme`] when it is of another scheme.
    pub fn parse(text: &'a str) -> Result<Self, ParseError> {
        let colon = text.bytes().position(|byte| byte == b':');
        let (scheme, rest) = text.split_at(colon.ok_or(ParseError::Uri)?);
        if scheme.eq_ignore_ascii_case("sip") || scheme.eq_ignore_ascii_case("sips") {
            Self::behind_scheme(scheme, &rest[1..]).ok_or(ParseError::Uri)
        } else if is_uri(text) {
            Err(ParseError::Scheme)
        } else {
            Err(ParseError::Uri)
        }
    }

    fn behind_scheme(scheme: &'a str, rest: &'a str) -> Option<Self> {
        let mut cursor = Cursor::new(rest);
        let (mut user, mut password) = (None, None);
        // A user may hold `;` and `?`: only the `@` tells where the host starts.
        if memchr::memchr(b'@', rest.as_bytes()).is_some() {
            user = Some(cursor.escaped(USER)?).filter(|user| !user.is_empty());
            user?;
            if cursor.eat(b':') {
                password = Some(cursor.escaped(PASSWORD)?);
            }
            cursor.expect(b'@')?;
        }
        let host = cursor.host()?;
        let port = match cursor.eat(b':') {
            true => Some(cursor.port()?),
            false => None,
        };
        let behind_host = cursor.rest();
        while cursor.eat(b';') {
            let not_empty = |text: &&str| !text.is_empty();
            cursor.escaped(URI_PARAM).filter(not_empty)?;
            if cursor.eat(b'=') {
                cursor.escaped(URI_PARAM).filter(not_empty)?;
            }
        }
        let params = &behind_host[..behind_host.len() - cursor.rest().len()];
        let headers = match cursor.eat(b'?') {
            true => Some(cursor.escaped(URI_HEADERS)?),
            false => None,
        };
        cursor.is_at_end().then_some(Self {
            scheme,
            user,
            password,
            host,
            port,
            params: Params(params),
            headers,
        })
    }

    /// Whether it is a `sips:` URI: no hop towards it may be without protection (RFC 5630).
    #[must_use]
    pub fn is_sips(&self) -> bool {
        self.scheme.len() == 4
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
            && same_host(self.host, other.host)
            && self.port == other.port
            && same_escaped(self.user, other.user)
            && same_escaped(self.password, other.password)
            && self.headers.unwrap_or("") == other.headers.unwrap_or("")
            && few(self.params)
            && few(other.params)
            && params_agree(self.params, other.params)
            && params_agree(other.params, self.params)
    }
}

/// Names compare without case, IPv6 addresses by value.
fn same_host(left: &str, right: &str) -> bool {
    let address = |host: &str| ipv6(host.strip_prefix('[')?.strip_suffix(']')?);
    left.eq_ignore_ascii_case(right)
        || matches!((address(left), address(right)), (Some(left), Some(right)) if left == right)
}

/// Whether each parameter of `left` has the same value in `right`. Absence in `right` matters
/// only for those that change where a request goes.
fn params_agree(left: Params<'_>, right: Params<'_>) -> bool {
    left.iter().all(|(name, value)| match right.find(name) {
        Some(other) => match (value, other) {
            (Some(a), Some(b)) => same_text(a, b, u8::eq_ignore_ascii_case),
            (None, None) => true,
            (Some(_), None) | (None, Some(_)) => false,
        },
        None => !["transport", "user", "ttl", "method", "maddr"]
            .iter()
            .any(|decisive| name.eq_ignore_ascii_case(decisive)),
    })
}

/// Compares case-sensitively with `%HH` escapes decoded.
fn same_escaped(left: Option<&str>, right: Option<&str>) -> bool {
    match (left, right) {
        (Some(left), Some(right)) => same_text(left, right, u8::eq),
        (None, None) => true,
        (Some(_), None) | (None, Some(_)) => false,
    }
}

fn same_text(left: &str, right: &str, same: fn(&u8, &u8) -> bool) -> bool {
    let (mut left, mut right) = (unescaped(left), unescaped(right));
    loop {
        match (left.next(), right.next()) {
            (Some(left), Some(right)) if same(&left, &right) => {}
            (None, None) => return true,
            (Some(_) | None, Some(_) | None) => return false,
        }
    }
}

/// The bytes that a text with `%HH` escapes stands for, decoded once (RFC 3986 §2.4).
pub fn unescaped(text: &str) -> impl Iterator<Item = u8> {
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
