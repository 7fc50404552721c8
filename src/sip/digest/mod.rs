//! Digest authentication of RFC 3261 §22, with the algorithms of RFC 8760 and the rules of RFC 7616.
//!
//! This file has what both ends share: it parses challenges and credentials, and writes them. A client
//! keeps a [`Session`], a server [`Nonces`] and a [`Replay`] for each user; who the users are is not
//! known here ([`authenticator`](super::authenticator) knows).
//!
//! Supported is `qop=auth`. What is not is refused, never ignored: `qop=auth-int` (it would protect
//! bodies that the hop protects better), the `-sess` algorithms (a session key serves third-party
//! servers), and `userhash` (nobody here hides a name that `From` tells). `Authentication-Info` is not
//! sent and not read: it would prove to clients that the server knows the password, which certificates
//! and tunnels do here.

mod challenger;
mod nonce;
mod params;
mod replay;
mod session;

use std::hint::black_box;

use md5::Digest as _;
use ring::digest as sha;

use super::emit::Value;
use super::header::Header;
use super::message::Message;
use super::text::Text;
use params::{AuthParams, match_name};

pub use challenger::Challenger;
pub use nonce::{NonceId, NonceState, Nonces};
pub use replay::Replay;
pub use session::Session;

/// A hash in lower-case hexadecimal digits.
pub type HexHash = Text<64>;

/// Hash algorithm of a challenge.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Algorithm {
    /// `MD5`, what an absent algorithm means. Broken, and still the most deployed.
    Md5,
    /// `SHA-256`.
    Sha256,
    /// `SHA-512-256`.
    Sha512_256,
}

impl Algorithm {
    /// The name in challenges and credentials.
    #[must_use]
    pub fn token(self) -> &'static str {
        match self {
            Self::Md5 => "MD5",
            Self::Sha256 => "SHA-256",
            Self::Sha512_256 => "SHA-512-256",
        }
    }

    /// The algorithm of that name.
    #[must_use]
    pub fn from_token(token: &str) -> Option<Self> {
        [Self::Md5, Self::Sha256, Self::Sha512_256]
            .into_iter()
            .find(|algorithm| algorithm.token().eq_ignore_ascii_case(token))
    }

    /// Hash of the parts joined by colons.
    fn hash(self, parts: &[&str]) -> HexHash {
        let colon = |index: usize| if index == 0 { "" } else { ":" };
        let joined = parts.iter().enumerate();
        match self {
            Self::Md5 => {
                let mut context = md5::Md5::new();
                for (index, part) in joined {
                    context.update(colon(index));
                    context.update(part);
                }
                hex(&context.finalize())
            }
            Self::Sha256 | Self::Sha512_256 => {
                let mut context = sha::Context::new(match self {
                    Self::Sha512_256 => &sha::SHA512_256,
                    Self::Sha256 | Self::Md5 => &sha::SHA256,
                });
                for (index, part) in joined {
                    context.update(colon(index).as_bytes());
                    context.update(part.as_bytes());
                }
                hex(context.finish().as_ref())
            }
        }
    }
}

/// Hexadecimal digits of at most 32 bytes.
fn hex(bytes: &[u8]) -> HexHash {
    let mut digits = [0; 64];
    for (pair, byte) in digits.chunks_exact_mut(2).zip(bytes) {
        pair[0] = b"0123456789abcdef"[usize::from(byte >> 4)];
        pair[1] = b"0123456789abcdef"[usize::from(byte & 0xf)];
    }
    let digits = std::str::from_utf8(&digits[..2 * bytes.len()]).expect("digits are ASCII");
    HexHash::from(digits)
}

/// Why a challenge or credentials cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DigestError {
    /// No challenge was there at all.
    #[error("expected a challenge, found none")]
    Absent,
    /// Another authentication scheme.
    #[error("expected the scheme Digest, found another")]
    Scheme,
    /// An algorithm or quality of protection that is not implemented.
    #[error("expected {0}, found another")]
    Unsupported(&'static str),
    /// A parameter that has to be there is not.
    #[error("expected the parameter {0}, found none")]
    Missing(&'static str),
    /// The list of parameters does not follow its grammar.
    #[error("expected name=value parameters, found something else")]
    Malformed,
}

/// A challenge of `WWW-Authenticate` or `Proxy-Authenticate`. Values are without their quotes and
/// otherwise as they were written, which is how they enter the hash.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Challenge<'a> {
    /// What the password is for.
    pub realm: &'a str,
    /// The server's nonce.
    pub nonce: &'a str,
    /// To be returned as it is.
    pub opaque: Option<&'a str>,
    /// How to hash.
    pub algorithm: Algorithm,
    /// Whether `qop=auth` is offered; without, the computation is that of RFC 2069.
    pub qop_auth: bool,
    /// The credentials were right, only the nonce was too old: try again with this one.
    pub stale: bool,
}

impl<'a> Challenge<'a> {
    /// Parses the value of one header field.
    ///
    /// # Errors
    /// When it is malformed, or asks for what is not implemented.
    pub fn parse(value: &'a str) -> Result<Self, DigestError> {
        let (mut realm, mut nonce, mut opaque, mut qop, mut stale) =
            (None, None, None, None, false);
        let mut algorithm = Some(Algorithm::Md5);
        for param in AuthParams::of_digest(value)? {
            let (name, value) = param?;
            match_name(name, |lower| match lower {
                "realm" => realm = Some(value),
                "nonce" => nonce = Some(value),
                "opaque" => opaque = Some(value),
                "algorithm" => algorithm = Algorithm::from_token(value),
                "qop" => qop = Some(value),
                "stale" => stale = value.eq_ignore_ascii_case("true"),
                _ => {}
            });
        }
        let is_auth = |option: &str| option.trim().eq_ignore_ascii_case("auth");
        let qop_auth = qop.is_some_and(|options| options.split(',').any(is_auth));
        if qop.is_some() && !qop_auth {
            return Err(DigestError::Unsupported("qop=auth"));
        }
        Ok(Self {
            realm: realm.ok_or(DigestError::Missing("realm"))?,
            nonce: nonce.ok_or(DigestError::Missing("nonce"))?,
            opaque,
            algorithm: algorithm.ok_or(DigestError::Unsupported("a known algorithm"))?,
            qop_auth,
            stale,
        })
    }

    /// The first challenge of a 401 (or 407, by its header) that can be answered: servers list
    /// them by preference (RFC 8760 §2.4).
    ///
    /// # Errors
    /// Why the first one could not be answered, if none can.
    pub fn choose(message: &Message<'a>, header: Header) -> Result<Self, DigestError> {
        let mut first_error = None;
        for line in message.lines(header) {
            match Self::parse(line) {
                Ok(challenge) => return Ok(challenge),
                Err(error) => first_error = first_error.or(Some(error)),
            }
        }
        Err(first_error.unwrap_or(DigestError::Absent))
    }
}

/// Writes the value of `WWW-Authenticate`.
pub fn write_challenge(
    line: &mut Value<'_>,
    algorithm: Algorithm,
    realm: &str,
    nonce: &str,
    stale: bool,
) {
    line.text("Digest realm=\"");
    line.text(realm);
    line.text("\", nonce=\"");
    line.text(nonce);
    line.text(if stale {
        "\", stale=true, algorithm="
    } else {
        "\", algorithm="
    });
    line.text(algorithm.token());
    line.text(", qop=\"auth\"");
}

/// Who authenticates which request with what: the inputs of a response besides the challenge.
#[derive(Clone, Copy, Debug)]
pub struct Identity<'a> {
    /// User name in the realm.
    pub username: &'a str,
    /// The password, in clear.
    pub password: &'a str,
    /// Method of the request.
    pub method: &'a str,
    /// Request-URI.
    pub uri: &'a str,
}

impl Identity<'_> {
    /// The response to a challenge (RFC 7616 §3.4.1). `qop` holds nonce count and cnonce of
    /// `qop=auth`, `None` computes that of RFC 2069.
    #[must_use]
    pub fn response(
        &self,
        algorithm: Algorithm,
        realm: &str,
        nonce: &str,
        qop: Option<(u32, &str)>,
    ) -> HexHash {
        let secret = algorithm.hash(&[self.username, realm, self.password]);
        let request = algorithm.hash(&[self.method, self.uri]);
        match qop {
            Some((count, cnonce)) => {
                let count = hex(&count.to_be_bytes());
                algorithm.hash(&[&secret, nonce, &count, cnonce, "auth", &request])
            }
            None => algorithm.hash(&[&secret, nonce, &request]),
        }
    }

    /// Writes the value of `Authorization` that answers `challenge`. `nonce_count` starts at 1 for
    /// each nonce and grows with every request.
    pub fn write_credentials(
        &self,
        line: &mut Value<'_>,
        challenge: &Challenge<'_>,
        nonce_count: u32,
        cnonce: &str,
    ) {
        let qop = challenge.qop_auth.then_some((nonce_count, cnonce));
        let response = self.response(challenge.algorithm, challenge.realm, challenge.nonce, qop);
        for (before, value) in [
            ("Digest username=\"", self.username),
            ("\", realm=\"", challenge.realm),
            ("\", nonce=\"", challenge.nonce),
            ("\", uri=\"", self.uri),
            ("\", response=\"", &response),
            ("\", algorithm=", challenge.algorithm.token()),
        ] {
            line.text(before);
            line.text(value);
        }
        if qop.is_some() {
            line.text(", qop=auth, nc=");
            line.hex(nonce_count.into(), 8);
            line.text(", cnonce=\"");
            line.text(cnonce);
            line.text("\"");
        }
        if let Some(opaque) = challenge.opaque {
            line.text(", opaque=\"");
            line.text(opaque);
            line.text("\"");
        }
    }
}

/// Credentials of `Authorization`. Servers here offer `qop=auth` always and accept nothing less.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Credentials<'a> {
    /// User name as it was claimed.
    pub username: &'a str,
    /// Realm as it was claimed.
    pub realm: &'a str,
    /// The nonce that they answer.
    pub nonce: &'a str,
    /// Request-URI as the client sees it.
    pub uri: &'a str,
    /// The hash.
    pub response: &'a str,
    /// How it was computed.
    pub algorithm: Algorithm,
    /// How often the client has used the nonce, this time included.
    pub nonce_count: u32,
    /// The client's nonce.
    pub cnonce: &'a str,
}

impl<'a> Credentials<'a> {
    /// Parses the value of one header field.
    ///
    /// # Errors
    /// When it is malformed, incomplete, of an unknown algorithm, or hides the user name.
    pub fn parse(value: &'a str) -> Result<Self, DigestError> {
        let (mut username, mut realm, mut nonce, mut uri) = (None, None, None, None);
        let (mut response, mut nc, mut cnonce, mut qop) = (None, None, None, None);
        let mut userhash = false;
        let mut algorithm = Some(Algorithm::Md5);
        for param in AuthParams::of_digest(value)? {
            let (name, value) = param?;
            match_name(name, |lower| match lower {
                "username" => username = Some(value),
                "realm" => realm = Some(value),
                "nonce" => nonce = Some(value),
                "uri" => uri = Some(value),
                "response" => response = Some(value),
                "algorithm" => algorithm = Algorithm::from_token(value),
                "cnonce" => cnonce = Some(value),
                "qop" => qop = Some(value),
                "nc" => nc = Some(value),
                "userhash" => userhash = value.eq_ignore_ascii_case("true"),
                _ => {}
            });
        }
        if userhash {
            return Err(DigestError::Unsupported("userhash=false"));
        }
        if !qop
            .ok_or(DigestError::Missing("qop"))?
            .eq_ignore_ascii_case("auth")
        {
            return Err(DigestError::Unsupported("qop=auth"));
        }
        let nc = nc.ok_or(DigestError::Missing("nc"))?;
        let digits = nc.len() == 8 && nc.bytes().all(|byte| byte.is_ascii_hexdigit());
        let nonce_count = u32::from_str_radix(nc, 16).ok().filter(|_| digits);
        Ok(Self {
            username: username.ok_or(DigestError::Missing("username"))?,
            realm: realm.ok_or(DigestError::Missing("realm"))?,
            nonce: nonce.ok_or(DigestError::Missing("nonce"))?,
            uri: uri.ok_or(DigestError::Missing("uri"))?,
            response: response.ok_or(DigestError::Missing("response"))?,
            algorithm: algorithm.ok_or(DigestError::Unsupported("a known algorithm"))?,
            nonce_count: nonce_count.ok_or(DigestError::Malformed)?,
            cnonce: cnonce.ok_or(DigestError::Missing("cnonce"))?,
        })
    }

    /// Whether the response is the one that `password` yields for this method, compared in a
    /// time that does not depend on where they differ. Nonce and URI are checked elsewhere.
    #[must_use]
    pub fn prove(&self, password: &str, method: &str) -> bool {
        let identity = Identity {
            username: self.username,
            password,
            method,
            uri: self.uri,
        };
        let qop = Some((self.nonce_count, self.cnonce));
        let expected = identity.response(self.algorithm, self.realm, self.nonce, qop);
        same_in_constant_time(expected.as_bytes(), self.response.as_bytes())
    }
}

fn same_in_constant_time(left: &[u8], right: &[u8]) -> bool {
    let pairs = left.iter().zip(right);
    let difference = pairs.fold(0, |seen, (a, b)| black_box(seen | (a ^ b)));
    left.len() == right.len() && difference == 0
}

#[cfg(test)]
mod tests;
