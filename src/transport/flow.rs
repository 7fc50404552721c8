//! A way to send SIP messages to one peer, whatever carries them.
//!
//! Carriers implement [`Link`]; generator and node see only [`Flow`].

use std::fmt;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use super::SendError;

/// How long a peer may take to answer a ping (RFC 5626 §4.4.1).
pub const PONG_LIMIT: Duration = Duration::from_secs(10);

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

    /// Asks the peer of a stream flow for a sign of life: the client's keep-alive of RFC 5626 §4.4.1.
    ///
    /// An idle flow has no timer. Its owner, who has a clock for all of its flows, calls
    /// [`Self::require_pong`] when [`PONG_LIMIT`] has passed.
    ///
    /// # Errors
    /// As [`Self::send`]; and [`SendError::NoKeepAlive`] on datagram flows, where line ends must not
    /// be used: theirs is STUN (§4.4.2), which hopbench does not speak.
    pub fn ping(&self) -> Result<(), SendError> {
        self.link.ping()
    }

    /// Ends the flow with [`super::CloseReason::NoPong`] if its ping was not answered. What has
    /// arrived is looked at first, and a message that is arriving may end, as the RFC asks; if it has
    /// not at the next call, the flow ends nevertheless. Without a ping before, nothing happens.
    pub fn require_pong(&self) {
        self.link.require_pong();
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

    /// Whether messages on both go the same way: over one connection, or from one socket to one peer.
    /// A user's next flow has the same [`Flow::id`], but is another one.
    #[must_use]
    pub fn is_same_as(&self, other: &Self) -> bool {
        std::ptr::addr_eq(Rc::as_ptr(&self.link), Rc::as_ptr(&other.link))
            && self.peer == other.peer
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
    /// Datagrams are kept alive by other means.
    fn ping(&self) -> Result<(), SendError> {
        Err(SendError::NoKeepAlive)
    }
    fn require_pong(&self) {}
    fn id(&self) -> u64;
    fn local(&self) -> SocketAddr;
}
