//! How SIP messages cross one hop.
//!
//! A [`Transport`] is a stack (a carrier, optionally over a tunnel) that has been given its
//! credentials. It opens and accepts [`Flow`]s and hands whole SIP messages to a [`Handler`]. It
//! knows SIP only as far as [`crate::sip::framing`] needs to find the end of a message.
//!
//! Everything here lives on one worker: a current-thread Tokio runtime inside a
//! [`tokio::task::LocalSet`]. Nothing is `Send`, nothing is locked, and a handler is called straight
//! from the task that read the message.

mod acceptor;
#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod contract;
mod credentials;
mod error;
mod flow;
mod registry;
mod settings;
mod stream;
mod tcp;
mod tls;
mod tunneled;
mod udp;

use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::rc::Rc;
use std::time::{Duration, Instant};

pub use crate::net::{DatagramCounters, WireCounters};
pub use crate::tunnel::Drops;
pub use credentials::{Identity, Role, TestAuthority, Validity, authority_from_pem_file};
pub use error::{CloseReason, SendError, TransportError};
pub(crate) use flow::Link;
pub use flow::{Flow, PONG_LIMIT, User};
pub use registry::{Delivery, Stack, UnknownStack, find, stacks};
pub use settings::{
    Batching, InnerIp, Limits, Settings, SocketBuffers, TlsSettings, TunnelOptions, WireguardKeys,
};
pub use tls::{
    CryptoProvider, KeyExchangeGroup, KeyType, Resumption, TlsOptions, TlsOptionsError, TlsVersion,
};

/// A future that stays on its worker.
pub type LocalBoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + 'a>>;

/// How SIP messages cross one hop. One value serves one worker, as client, as server or as both.
///
/// Contract, asserted for every row of the registry by the contract suite:
/// * messages arrive whole, unaltered and one per [`Handler::message`] call, up to 64 KiB on streams
///   and up to what one datagram carries elsewhere;
/// * what a peer sends can end its own flow, never another one and never the listener;
/// * an idle flow stays usable.
pub trait Transport {
    /// Accepts flows on `address` until the returned [`Listening`] is dropped.
    ///
    /// # Errors
    /// When the address cannot be bound, or the credentials do not suffice for a server.
    fn listen(
        &self,
        address: SocketAddr,
        handler: Rc<dyn Handler>,
    ) -> LocalBoxFuture<'_, Result<Listening, TransportError>>;

    /// Opens a flow for `user` to `target`, ready to carry a SIP message when the future resolves:
    /// connected, secured, peer validated.
    ///
    /// # Errors
    /// When the peer cannot be reached, does not answer in time or cannot be trusted.
    fn connect(
        &self,
        user: User,
        target: SocketAddr,
        handler: Rc<dyn Handler>,
    ) -> LocalBoxFuture<'_, Result<Connected, TransportError>>;

    /// What all its flows have put on the wire and taken from it, whoever opened them; inside a
    /// tunnel, what the tunnel has. Asks the kernel for each open connection.
    ///
    /// `None` where the kernel does not tell.
    fn wire(&self) -> Option<WireCounters>;

    /// What the tunnels of all flows that it opened have dropped, by cause; `None` where there is no
    /// tunnel. What those of a listener have is in [`Listening::counters`].
    fn tunnel_drops(&self) -> Option<Drops>;
}

/// What receives the messages of flows. Methods take `&self`, since flows share their handler; they
/// may send on any flow, and must not block.
pub trait Handler {
    /// A peer opened `flow` and it can carry messages. Datagram carriers without a session never
    /// call this: each of their messages brings a [`Flow`] that can be answered.
    fn opened(&self, flow: &Flow) {
        let _ = flow;
    }

    /// `message` is one whole SIP message, from start line to the end of its body. `now` is when the
    /// bytes were read that completed it: the clock is read once for all that one read brought.
    fn message(&self, flow: &Flow, message: &[u8], now: Instant);

    /// `head` is the head of a message whose end cannot be found: its `Content-Length` is missing,
    /// malformed, contradicts itself, or exceeds what a message may hold. Nothing behind it can be
    /// read, so the flow is about to close; what this sends still leaves (RFC 3261 §18.3).
    fn unframed(&self, flow: &Flow, head: &[u8]) {
        let _ = (flow, head);
    }

    /// `flow` ended; nothing more arrives on it. Called once for each flow of a stream carrier
    /// that was opened or connected, also when this side closed it.
    fn closed(&self, flow: &Flow, reason: &CloseReason) {
        let _ = (flow, reason);
    }

    /// A peer tried to open a flow and failed, for example in the TLS handshake.
    fn refused(&self, peer: SocketAddr, reason: &TransportError) {
        let _ = (peer, reason);
    }
}

/// A flow that this side opened, and what opening it took.
#[derive(Debug)]
pub struct Connected {
    /// The flow, ready to carry messages.
    pub flow: Flow,
    /// What each phase took.
    pub phases: Phases,
}

/// The phases of [`Transport::connect`]; `None` where the stack has no such phase.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Phases {
    /// The tunnel's handshake, until IP packets can be sent protected.
    pub tunnel_handshake: Option<Duration>,
    /// TCP's three-way handshake as the client sees it; over a tunnel, within it.
    pub transport_connect: Option<Duration>,
    /// The handshake that protects what carries SIP: TLS's, or else the tunnel's.
    pub security_handshake: Option<Duration>,
    /// Whether that handshake was a full one. A client that may resume cannot know beforehand that
    /// the server lets it.
    pub handshake_kind: Option<HandshakeKind>,
}

/// How much of a security handshake was done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HandshakeKind {
    /// All of it: identities shown and proved, keys agreed on.
    Full,
    /// An earlier session of the same user was continued; nobody showed a certificate again.
    Resumed,
}

/// A listener at work; dropping it closes the listening socket and every flow accepted by it.
pub struct Listening {
    /// The address that was bound, with the port that the kernel chose if 0 was asked for.
    pub local: SocketAddr,
    is_stream: bool,
    /// The port of [`Flow::local`] on what it accepts.
    inner_port: u16,
    guard: Box<dyn Guard>,
}

impl Listening {
    /// What its datagram socket lost, or the tunnels below its streams did; `None` over the kernel's
    /// streams, which lose nothing unnoticed.
    #[must_use]
    pub fn counters(&self) -> Option<DatagramCounters> {
        self.guard.counters()
    }

    /// Whether its flows are connections.
    #[must_use]
    pub fn is_stream(&self) -> bool {
        self.is_stream
    }

    /// Whether `flow` could have come in here: this side's end of it is where this listens, and not
    /// a port that a connection was opened from.
    #[must_use]
    pub fn is_local_end_of(&self, flow: &Flow) -> bool {
        flow.local().port() == self.inner_port
    }

    /// A flow from its datagram socket to any peer; `None` over a stream, where a flow is a
    /// connection and is opened by [`Transport::connect`].
    #[must_use]
    pub fn flow_to(&self, peer: SocketAddr) -> Option<Flow> {
        self.guard.flow_to(peer)
    }
}

/// What a listener lives in; dropping it closes the listener.
trait Guard {
    fn counters(&self) -> Option<DatagramCounters>;
    fn flow_to(&self, peer: SocketAddr) -> Option<Flow>;
}
