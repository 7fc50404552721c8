//! How SIP messages cross one hop.
//!
//! A [`Transport`] is a stack (a carrier, optionally over a tunnel) that has been given its
//! credentials. It opens and accepts [`Flow`]s and hands whole SIP messages to a [`Handler`]. It
//! knows SIP only as far as [`crate::sip::framing`] needs to find the end of a message.
//!
//! Everything here lives on one worker: a current-thread Tokio runtime inside a
//! [`tokio::task::LocalSet`]. Nothing is `Send`, nothing is locked, and a handler is called straight
//! from the task that read the message.

use std::fmt;
use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::rc::Rc;
use std::time::Duration;

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
}

/// What receives the messages of flows. Methods take `&self`, since flows share their handler; they
/// may send on any flow, and must not block.
pub trait Handler {
    /// A peer opened `flow` and it can carry messages. Datagram carriers without a session never
    /// call this: each of their messages brings a [`Flow`] that can be answered.
    fn opened(&self, flow: &Flow) {
        let _ = flow;
    }

    /// `message` is one whole SIP message, from start line to the end of its body.
    fn message(&self, flow: &Flow, message: &[u8]);

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

/// Which user a client flow belongs to: the rule-generated account, its tunnel keys and inner
/// address, and the [`Flow::id`] that the handler sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct User(pub u32);

/// A way to send SIP messages to one peer, and the sender of those that arrived. Cheap to clone.
#[derive(Clone)]
pub struct Flow {
    link: Rc<dyn Link>,
    peer: SocketAddr,
}

impl Flow {
    pub(crate) fn new(link: Rc<dyn Link>, peer: SocketAddr) -> Self {
        Self { link, peer }
    }

    /// Queues one whole SIP message. Messages queued during one wake-up leave in one write.
    ///
    /// # Errors
    /// When the flow is closed, or the peer reads so slowly that its queue is full.
    pub fn send(&self, message: &[u8]) -> Result<(), SendError> {
        self.link.send(self.peer, message)
    }

    /// Ends the flow after what is queued has been written. Datagram flows that share a socket are
    /// not affected.
    pub fn close(&self) {
        self.link.close();
    }

    /// The user number on a flow that this side opened; a serial number on one that was accepted;
    /// the listener's number on a shared datagram socket.
    #[must_use]
    pub fn id(&self) -> u64 {
        self.link.id()
    }

    /// Where messages go: inside a tunnel, the inner address.
    #[must_use]
    pub fn peer(&self) -> SocketAddr {
        self.peer
    }

    /// This side's address as SIP sees it (Via, Contact): inside a tunnel, the inner address.
    #[must_use]
    pub fn local(&self) -> SocketAddr {
        self.link.local()
    }
}

impl fmt::Debug for Flow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Flow {} {}→{}", self.id(), self.local(), self.peer)
    }
}

/// The sending half behind a [`Flow`]: one connection, or one datagram socket with many peers.
pub(crate) trait Link {
    fn send(&self, peer: SocketAddr, message: &[u8]) -> Result<(), SendError>;
    fn close(&self);
    fn id(&self) -> u64;
    fn local(&self) -> SocketAddr;
}

/// A flow that this side opened, and what opening it took.
#[derive(Debug)]
pub struct Connected {
    /// The flow, ready to carry messages.
    pub flow: Flow,
    /// How long each phase took.
    pub phases: Phases,
}

/// Durations of the phases of [`Transport::connect`]; `None` where the stack has no such phase.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Phases {
    /// TCP's three-way handshake as the client sees it.
    pub transport_connect: Option<Duration>,
    /// TLS handshake, or the tunnel's, until protected data can be sent.
    pub security_handshake: Option<Duration>,
}

/// A listener at work; dropping it closes the listening socket and every flow accepted by it.
pub struct Listening {
    /// The address that was bound, with the port that the kernel chose if 0 was asked for.
    pub local: SocketAddr,
    pub(crate) _guard: Box<dyn std::any::Any>,
}

/// Why a flow ended.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum CloseReason {
    /// The peer closed it in order.
    Peer,
    /// This side closed it.
    Local,
    /// The connection broke, with the system's words.
    Broken(String),
    /// The peer sent what is not SIP, or more than a message may hold.
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
}
