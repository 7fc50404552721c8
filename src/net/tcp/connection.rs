//! One connection: its socket, who holds it, and when it is over.

use std::io;
use std::time::{Duration, Instant};

use smoltcp::iface::{SocketHandle, SocketSet};
use smoltcp::socket::tcp::{Socket, State};
use smoltcp::time;

use super::segment::Route;

/// How long a peer may leave unanswered what was sent to it, as in Linux (`tcp_retries2`).
const SILENCE_LIMIT: time::Duration = time::Duration::from_secs(924);

/// A connection of one host.
pub(super) struct Connection {
    /// Exactly one socket.
    pub(super) sockets: SocketSet<'static>,
    pub(super) handle: SocketHandle,
    pub(super) route: Route,
    pub(super) owner: Owner,
    /// Its entry in the deadlines of its host.
    pub(super) timer: Option<Instant>,
    /// Whether it ended for want of a sign of life.
    pub(super) timed_out: bool,
}

/// Who holds a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Owner {
    /// Being established at the peer's request.
    Opening,
    /// Waits to be accepted.
    Queue,
    /// A stream that somebody holds.
    Stream,
    /// Dropped by its holder: it has until then to end in order.
    Nobody { until: Instant },
}

impl Connection {
    pub(super) fn socket(&mut self) -> &mut Socket<'static> {
        self.sockets.get_mut(self.handle)
    }

    /// Sets what smoltcp does not do by itself: whom it gives up when.
    pub(super) fn prepare(&mut self, now: Instant, connect_limit: Duration) {
        let owner = self.owner;
        let socket = self.socket();
        let limit = match socket.state() {
            State::SynReceived => Some(connect_limit.into()),
            // smoltcp would give up an idle peer, too.
            _ => (socket.send_queue() > 0).then_some(SILENCE_LIMIT),
        };
        socket.set_timeout(limit);
        if let Some(until) = owner.until()
            && socket.state() != State::Closed
            && (socket.can_recv() || until <= now)
        {
            socket.abort();
        }
    }

    /// Whether nobody will miss it.
    pub(super) fn is_over(&mut self) -> bool {
        let state = self.socket().state();
        match self.owner {
            Owner::Opening => matches!(state, State::Listen | State::Closed),
            Owner::Nobody { .. } => matches!(state, State::TimeWait | State::Closed),
            Owner::Queue | Owner::Stream => false,
        }
    }

    /// Why it has ended out of order.
    pub(super) fn reason(&self) -> io::Error {
        let kind = if self.timed_out {
            io::ErrorKind::TimedOut
        } else {
            io::ErrorKind::ConnectionReset
        };
        kind.into()
    }
}

impl Owner {
    pub(super) fn until(self) -> Option<Instant> {
        match self {
            Self::Nobody { until } => Some(until),
            Self::Opening | Self::Queue | Self::Stream => None,
        }
    }
}
