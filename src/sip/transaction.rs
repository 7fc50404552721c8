//! Transactions of RFC 3261 §17 with the corrections of RFC 6026, as pure state machines. They
//! hold a state and deadlines, no bytes: who owns one writes the message, and writes or sends it again when told
//! [`Fired::Retransmit`].
//!
//! ```text
//! client  INVITE      A retransmit, B give up, D absorb finals, M absorb 2xx
//!         non-INVITE  E retransmit, F give up, K absorb finals
//! server  INVITE      G retransmit final, H give up on ACK, I absorb ACK, L absorb INVITE after 2xx
//!         non-INVITE  J absorb requests
//! ```
//! Over [`Reliability::Stream`] nothing is retransmitted and D, I, J, K are zero.

use std::time::{Duration, Instant};

use super::header::Method;
use super::timer::Timing;

/// Whether what carries the messages repairs loss itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reliability {
    /// It does not: UDP.
    Datagram,
    /// It does: TCP, TLS.
    Stream,
}

impl Reliability {
    /// That of a stream, or of datagrams.
    #[must_use]
    pub fn of(is_stream: bool) -> Self {
        if is_stream {
            Self::Stream
        } else {
            Self::Datagram
        }
    }
}

/// INVITE transactions have three-way handshakes, all others have not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// INVITE.
    Invite,
    /// Everything but INVITE and ACK.
    NonInvite,
}

impl Kind {
    /// That of a request's transaction.
    #[must_use]
    pub fn of(method: Method) -> Self {
        if method == Method::Invite {
            Self::Invite
        } else {
            Self::NonInvite
        }
    }
}

/// What the owner of a transaction does because a timer fired.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fired {
    /// Nothing; no deadline had come.
    Nothing,
    /// Sends its last message again.
    Retransmit,
    /// Gives up: no final response, or no ACK, came in time. The transaction is terminated.
    TimedOut,
    /// The transaction is terminated in order.
    Terminated,
}

/// What the owner of a client transaction does with a response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnResponse {
    /// Passes it on.
    Deliver,
    /// Sends ACK for a non-2xx final response, and passes it on.
    AcknowledgeAndDeliver,
    /// Sends ACK again: the final response came again.
    Acknowledge,
    /// Nothing.
    Absorb,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ClientState {
    /// Calling, or Trying: no response yet.
    Calling,
    Proceeding,
    /// INVITE only, after 2xx (RFC 6026): Timer M.
    Accepted,
    /// After any other final response: Timer D or K.
    Completed,
    Terminated,
}

/// The client's side of a transaction.
#[derive(Clone, Copy, Debug)]
pub struct ClientTransaction {
    kind: Kind,
    state: ClientState,
    /// Present interval of Timer A or E; zero when nothing is to be retransmitted.
    interval: Duration,
    retransmit_at: Instant,
    /// End of the present state: Timer B or F, then D, K or M. Proceeding INVITEs have none.
    ends_at: Option<Instant>,
}

impl ClientTransaction {
    /// The request was sent at `now`.
    #[must_use]
    pub fn new(kind: Kind, reliability: Reliability, timing: &Timing, now: Instant) -> Self {
        let interval = match reliability {
            Reliability::Datagram => timing.t1,
            Reliability::Stream => Duration::ZERO,
        };
        Self {
            kind,
            state: ClientState::Calling,
            interval,
            retransmit_at: now + interval,
            ends_at: Some(now + timing.timeout()),
        }
    }

    /// A response that belongs to this transaction arrived.
    pub fn on_response(
        &mut self,
        status: u16,
        reliability: Reliability,
        timing: &Timing,
        now: Instant,
    ) -> OnResponse {
        let is_success = (200..300).contains(&status);
        match (self.state, self.kind) {
            (ClientState::Calling | ClientState::Proceeding, kind) => {
                if status < 200 {
                    self.proceed(timing, now);
                    return OnResponse::Deliver;
                }
                self.interval = Duration::ZERO;
                let absorb = |linger| match reliability {
                    Reliability::Datagram => linger,
                    Reliability::Stream => Duration::ZERO,
                };
                let (state, linger, reaction) = match kind {
                    Kind::Invite if is_success => {
                        (ClientState::Accepted, timing.timeout(), OnResponse::Deliver)
                    }
                    Kind::Invite => {
                        let reaction = OnResponse::AcknowledgeAndDeliver;
                        (ClientState::Completed, absorb(timing.timeout()), reaction)
                    }
                    Kind::NonInvite => (
                        ClientState::Completed,
                        absorb(timing.t4),
                        OnResponse::Deliver,
                    ),
                };
                self.state = if linger.is_zero() {
                    ClientState::Terminated
                } else {
                    state
                };
                self.ends_at = (!linger.is_zero()).then(|| now + linger);
                reaction
            }
            (ClientState::Accepted, _) if is_success => OnResponse::Deliver,
            (ClientState::Completed, Kind::Invite) if status >= 300 => OnResponse::Acknowledge,
            (ClientState::Accepted | ClientState::Completed | ClientState::Terminated, _) => {
                OnResponse::Absorb
            }
        }
    }

    /// A provisional response: INVITEs rest, other requests go on at T2 (RFC 3261 §17.1.2.2).
    fn proceed(&mut self, timing: &Timing, now: Instant) {
        self.state = ClientState::Proceeding;
        match self.kind {
            Kind::Invite => {
                self.interval = Duration::ZERO;
                self.ends_at = None;
            }
            Kind::NonInvite => {
                // Timer E keeps running; from its next firing on the interval is T2.
                if !self.interval.is_zero() {
                    self.interval = timing.t2;
                    self.retransmit_at = self.retransmit_at.max(now);
                }
            }
        }
    }

    /// A deadline has come. Called again until it says [`Fired::Nothing`].
    pub fn on_timeout(&mut self, timing: &Timing, now: Instant) -> Fired {
        if self.ends_at.is_some_and(|ends_at| ends_at <= now) {
            self.ends_at = None;
            self.interval = Duration::ZERO;
            let waiting = matches!(self.state, ClientState::Calling | ClientState::Proceeding);
            self.state = ClientState::Terminated;
            return if waiting {
                Fired::TimedOut
            } else {
                Fired::Terminated
            };
        }
        if self.interval.is_zero() || self.retransmit_at > now {
            return Fired::Nothing;
        }
        self.interval = match (self.kind, self.state) {
            (Kind::Invite, _) => self.interval * 2,
            (Kind::NonInvite, ClientState::Calling) => (self.interval * 2).min(timing.t2),
            (Kind::NonInvite, _) => timing.t2,
        };
        self.retransmit_at += self.interval;
        Fired::Retransmit
    }

    /// When [`ClientTransaction::on_timeout`] wants to be called.
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        let retransmit_at = (!self.interval.is_zero()).then_some(self.retransmit_at);
        earliest(retransmit_at, self.ends_at)
    }

    /// Whether nothing at all has come yet.
    #[must_use]
    pub fn is_calling(&self) -> bool {
        self.state == ClientState::Calling
    }

    /// Whether a final response has not come yet.
    #[must_use]
    pub fn is_waiting(&self) -> bool {
        matches!(self.state, ClientState::Calling | ClientState::Proceeding)
    }

    /// Whether nothing more is expected of it.
    #[must_use]
    pub fn is_terminated(&self) -> bool {
        self.state == ClientState::Terminated
    }
}

/// What the owner of a server transaction does with a request that matches it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnRequest {
    /// Sends its last response again, if there is one.
    Retransmit,
    /// Nothing.
    Absorb,
    /// Nothing; the ACK that was awaited is there.
    Acknowledged,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ServerState {
    /// No final response yet.
    Proceeding,
    /// INVITE only, after 2xx (RFC 6026): Timer L.
    Accepted,
    /// After any other final response: Timer H or J.
    Completed,
    /// INVITE only, after ACK: Timer I.
    Confirmed,
    Terminated,
}

/// The server's side of a transaction.
#[derive(Clone, Copy, Debug)]
pub struct ServerTransaction {
    kind: Kind,
    state: ServerState,
    reliability: Reliability,
    /// Present interval of Timer G; zero when nothing is to be retransmitted.
    interval: Duration,
    retransmit_at: Instant,
    /// Timer H, I, J or L.
    ends_at: Option<Instant>,
}

impl ServerTransaction {
    /// The request arrived at `now`.
    #[must_use]
    pub fn new(kind: Kind, reliability: Reliability, now: Instant) -> Self {
        Self {
            kind,
            state: ServerState::Proceeding,
            reliability,
            interval: Duration::ZERO,
            retransmit_at: now,
            ends_at: None,
        }
    }

    /// The owner sent a response.
    pub fn on_sent(&mut self, status: u16, timing: &Timing, now: Instant) {
        if status < 200 || self.state != ServerState::Proceeding {
            return;
        }
        let datagram = self.reliability == Reliability::Datagram;
        match self.kind {
            Kind::Invite if status < 300 => {
                self.state = ServerState::Accepted;
                self.ends_at = Some(now + timing.timeout());
            }
            Kind::Invite => {
                self.state = ServerState::Completed;
                self.interval = if datagram { timing.t1 } else { Duration::ZERO };
                self.retransmit_at = now + self.interval;
                self.ends_at = Some(now + timing.timeout());
            }
            Kind::NonInvite if datagram => {
                self.state = ServerState::Completed;
                self.ends_at = Some(now + timing.timeout());
            }
            Kind::NonInvite => self.state = ServerState::Terminated,
        }
    }

    /// The request came again.
    #[must_use]
    pub fn on_request(&self) -> OnRequest {
        match self.state {
            ServerState::Proceeding | ServerState::Completed => OnRequest::Retransmit,
            ServerState::Accepted | ServerState::Confirmed | ServerState::Terminated => {
                OnRequest::Absorb
            }
        }
    }

    /// The ACK for a non-2xx final response arrived.
    pub fn on_ack(&mut self, timing: &Timing, now: Instant) -> OnRequest {
        if self.state != ServerState::Completed || self.kind != Kind::Invite {
            return OnRequest::Absorb;
        }
        self.interval = Duration::ZERO;
        match self.reliability {
            Reliability::Datagram => {
                self.state = ServerState::Confirmed;
                self.ends_at = Some(now + timing.t4);
            }
            Reliability::Stream => {
                self.state = ServerState::Terminated;
                self.ends_at = None;
            }
        }
        OnRequest::Acknowledged
    }

    /// A deadline has come. Called again until it says [`Fired::Nothing`].
    pub fn on_timeout(&mut self, timing: &Timing, now: Instant) -> Fired {
        if self.ends_at.is_some_and(|ends_at| ends_at <= now) {
            let unacknowledged = self.kind == Kind::Invite && self.state == ServerState::Completed;
            self.ends_at = None;
            self.interval = Duration::ZERO;
            self.state = ServerState::Terminated;
            return if unacknowledged {
                Fired::TimedOut
            } else {
                Fired::Terminated
            };
        }
        if self.interval.is_zero() || self.retransmit_at > now {
            return Fired::Nothing;
        }
        self.interval = (self.interval * 2).min(timing.t2);
        self.retransmit_at += self.interval;
        Fired::Retransmit
    }

    /// When [`ServerTransaction::on_timeout`] wants to be called.
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        let retransmit_at = (!self.interval.is_zero()).then_some(self.retransmit_at);
        earliest(retransmit_at, self.ends_at)
    }

    /// Whether it is an INVITE's.
    #[must_use]
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// Whether the peer retransmits.
    #[must_use]
    pub fn reliability(&self) -> Reliability {
        self.reliability
    }

    /// Whether a final response has not been sent yet.
    #[must_use]
    pub fn is_proceeding(&self) -> bool {
        self.state == ServerState::Proceeding
    }

    /// Whether a 2xx was sent for its INVITE: the ACK of that belongs to no transaction (RFC 3261
    /// §17.1.1.3), and only that one may go further.
    #[must_use]
    pub fn is_accepted(&self) -> bool {
        self.state == ServerState::Accepted
    }

    /// Whether nothing more is expected of it.
    #[must_use]
    pub fn is_terminated(&self) -> bool {
        self.state == ServerState::Terminated
    }
}

/// The earlier of two deadlines, either of which may be absent.
pub(crate) fn earliest(left: Option<Instant>, right: Option<Instant>) -> Option<Instant> {
    match (left, right) {
        (Some(left), Some(right)) => Some(left.min(right)),
        (Some(only), None) | (None, Some(only)) => Some(only),
        (None, None) => None,
    }
}

#[cfg(test)]
mod tests;
