//! Who asks for credentials: the names that the same scheme has between user and server and between
//! user and proxy.

use crate::sip::header::Header;

/// Who asks for credentials.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Challenger {
    /// A registrar or user agent server (RFC 3261 §22.2).
    Server,
    /// A proxy (RFC 3261 §22.3).
    Proxy,
}

impl Challenger {
    /// Who sent a response, `None` if it asks for no credentials.
    #[must_use]
    pub fn of_status(status: u16) -> Option<Self> {
        match status {
            401 => Some(Self::Server),
            407 => Some(Self::Proxy),
            _ => None,
        }
    }

    /// Status of the response that asks.
    #[must_use]
    pub fn status(self) -> u16 {
        match self {
            Self::Server => 401,
            Self::Proxy => 407,
        }
    }

    /// The header field that asks.
    #[must_use]
    pub fn challenge_header(self) -> Header {
        match self {
            Self::Server => Header::WwwAuthenticate,
            Self::Proxy => Header::ProxyAuthenticate,
        }
    }

    /// The header field that answers.
    #[must_use]
    pub fn credentials_header(self) -> Header {
        match self {
            Self::Server => Header::Authorization,
            Self::Proxy => Header::ProxyAuthorization,
        }
    }
}
