//! What can go wrong on a hop, in words that say what to do about it.

use std::net::SocketAddr;
use std::time::Duration;

use super::TlsOptionsError;
use crate::net::NetError;

/// Why a flow ended.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CloseReason {
    /// The peer closed it in order.
    #[error("the peer closed it")]
    Peer,
    /// This side closed it.
    #[error("closed by this side")]
    Local,
    /// The connection broke, and why: in the system's words, or explained by the carrier.
    #[error("the connection broke: {0}")]
    Broken(String),
    /// The peer did not answer a [`super::Flow::ping`] in time.
    #[error("the peer did not answer a keep-alive")]
    NoPong,
    /// The peer sent what is not SIP, or more than a message may hold.
    #[error("the peer sent garbage: {0}")]
    Garbage(crate::sip::framing::FramingError),
}

/// Why a message could not be queued.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SendError {
    /// The flow has ended.
    #[error("the flow is closed")]
    Closed,
    /// The peer does not read: its queue of unsent bytes is full.
    #[error("the peer does not read: more than {limit_bytes} bytes wait to be sent to it")]
    Full {
        /// How much may wait.
        limit_bytes: usize,
    },
    /// Datagrams are kept alive by STUN, which hopbench does not speak.
    #[error("a datagram flow has no keep-alive by line ends")]
    NoKeepAlive,
    /// A datagram cannot hold it.
    #[error("the message of {bytes} bytes does not fit a datagram")]
    TooLarge {
        /// Size of the message.
        bytes: usize,
    },
}

/// Why a flow could not be opened, or a listener not started.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TransportError {
    /// The address to listen on could not be bound.
    #[error("cannot listen on {address}: {source}")]
    Bind {
        /// The address asked for.
        address: SocketAddr,
        /// The system's words.
        source: std::io::Error,
    },
    /// The peer could not be reached.
    #[error("cannot connect to {target}: {source}")]
    Connect {
        /// The peer.
        target: SocketAddr,
        /// The system's words.
        source: std::io::Error,
    },
    /// The security handshake failed: untrusted certificate, wrong name, unknown key, …
    #[error("{protocol} handshake with {peer} failed: {reason}")]
    Handshake {
        /// `TLS` or `WireGuard`.
        protocol: &'static str,
        /// The peer.
        peer: SocketAddr,
        /// What went wrong, and what would mend it where that is known.
        reason: String,
    },
    /// The peer did not answer in time.
    #[error("{phase} with {peer} took longer than {limit:?}")]
    TimedOut {
        /// `TCP connect`, `TLS handshake`, `WireGuard handshake`.
        phase: &'static str,
        /// The peer.
        peer: SocketAddr,
        /// The limit.
        limit: Duration,
    },
    /// Keys or certificates are missing or unusable.
    #[error("unusable credentials: {0}")]
    Credentials(String),
    /// TLS cannot be spoken as was asked for.
    #[error(transparent)]
    Options(#[from] TlsOptionsError),
}

impl From<NetError> for TransportError {
    fn from(error: NetError) -> Self {
        match error {
            NetError::Bind { address, source } => Self::Bind { address, source },
            NetError::Connect { target, source } => Self::Connect { target, source },
            NetError::TimedOut { phase, peer, limit } => Self::TimedOut { phase, peer, limit },
        }
    }
}
