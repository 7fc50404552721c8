//! What a server is told, and what it tells.

use std::net::SocketAddr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::sip::account::Accounts;
use crate::sip::digest::Algorithm;
use crate::sip::registrar::Lifetimes;
use crate::sip::server::{NextHop, Worker};
use crate::sip::timer::Timing;
use crate::sip::transaction::Reliability;

/// One side of a server: where it listens, and what messages ride on there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Interface {
    /// `UDP`, `TCP` or `TLS`, as `Via` names it.
    pub transport: &'static str,
    /// Own address there, as `Via`, `Contact`, `Record-Route` and session descriptions name it.
    pub address: SocketAddr,
    /// Whether peers retransmit.
    pub reliability: Reliability,
    /// Whether `sips:` may cross it (RFC 5630): TLS, and tunnels where policy says so.
    pub is_protected: bool,
    /// Whether peers prove who they are, so that a connection that one of them opened can carry
    /// requests back to it (RFC 5923).
    pub is_mutual: bool,
    /// Whether only the workers of the same node are there: nothing else is ever sent there.
    pub is_internal: bool,
}

impl Interface {
    /// An unprotected interface over `UDP`, `TCP` or whatever `transport` names.
    #[must_use]
    pub fn unprotected(transport: &'static str, address: SocketAddr) -> Self {
        Self {
            transport,
            address,
            reliability: Reliability::of(transport != "UDP"),
            is_protected: false,
            is_mutual: false,
            is_internal: false,
        }
    }
}

/// What a server is to those who call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Service {
    /// Registrar and answering user agent: calls end here.
    Answer,
    /// Registrar and proxy: calls go on to who registered, or by a route.
    Proxy,
    /// Answering user agent alone: what reaches it is meant for it, since who sent it knew its flow.
    UserAgent,
}

/// Where requests for a domain go, as the DNS would say (RFC 3263).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    /// The domain; `None` for every one.
    pub domain: Option<String>,
    /// The next hop.
    pub hop: NextHop,
}

/// Longest request that leaves as a datagram where the path's MTU is unknown (RFC 3261 §18.1.1).
pub const DATAGRAM_BYTES_MAX: usize = 1_300;

/// What a server serves, and how.
#[derive(Clone, Debug)]
pub struct ServerConfig {
    /// Who may register.
    pub accounts: Accounts,
    /// Where it listens; a [`Source`](super::Source) names one of them by its place.
    pub interfaces: Vec<Interface>,
    /// What it is to those who call.
    pub service: Service,
    /// Where a proxy sends requests for other domains than its own; the first that fits.
    pub routes: Vec<Route>,
    /// A request that is longer leaves over a stream if there is one beside the datagrams, so that no
    /// congestion and no fragmentation harms it (RFC 3261 §18.1.1).
    pub datagram_bytes_max: usize,
    /// Whether callers have to prove who they are: 407 from a proxy, 401 from who answers.
    pub authenticate_calls: bool,
    /// Its place among the workers of its node, if there are several.
    pub worker: Option<Worker>,
    /// Timer values.
    pub timing: Timing,
    /// How long calls ring before they are answered.
    pub ring: Duration,
    /// What INVITE is answered with: 200, or a refusal such as 486.
    pub answer_status: u16,
    /// Calls that are answered and never ended are forgotten after this.
    pub call_life: Duration,
    /// How long a nonce can be used.
    pub nonce_life: Duration,
    /// Offered in challenges, the preferred one first.
    pub algorithms: Vec<Algorithm>,
    /// Of bindings.
    pub lifetimes: Lifetimes,
    /// What `Flow-Timer` tells user agents whose first hop this is (RFC 5626 §4.4). `None` leaves
    /// the interval of their keep-alives to them, since no flow is closed here for its silence.
    pub flow_timer_seconds: Option<u32>,
    /// Most calls that begin in a second; what is beyond is refused with 503. `None` lets all in.
    pub calls_per_second_limit: Option<u32>,
    /// Most calls at a time.
    pub calls_max: usize,
    /// Most server transactions at a time.
    pub transactions_max: usize,
}

impl ServerConfig {
    /// The usual values: RFC timers, no ringing, SHA-256, nonces for 300 s, a million calls.
    #[must_use]
    pub fn new(accounts: Accounts, interfaces: Vec<Interface>) -> Self {
        Self {
            accounts,
            interfaces,
            service: Service::Answer,
            routes: Vec::new(),
            datagram_bytes_max: DATAGRAM_BYTES_MAX,
            authenticate_calls: false,
            worker: None,
            timing: Timing::default(),
            ring: Duration::ZERO,
            answer_status: 200,
            call_life: Duration::from_secs(3_600),
            nonce_life: Duration::from_secs(300),
            algorithms: vec![Algorithm::Sha256],
            lifetimes: Lifetimes::default(),
            flow_timer_seconds: None,
            calls_per_second_limit: None,
            calls_max: 1_000_000,
            transactions_max: 1_000_000,
        }
    }
}

/// What a server has seen and done since it started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServerCounters {
    /// Valid requests, retransmissions not included.
    pub requests: u64,
    /// REGISTERs answered with 200.
    pub registrations: u64,
    /// Requests answered with 401 or 407.
    pub challenges: u64,
    /// Of these, requests that had credentials: wrong ones, or a nonce that was used or too old.
    pub credentials_refused: u64,
    /// Requests that were forwarded, ACKs included.
    pub forwarded: u64,
    /// Of these, those to whose destination there was no way.
    pub unreachable: u64,
    /// Forwarded requests too long for a datagram that left as one for want of a stream.
    pub oversized: u64,
    /// Responses that belong to no forwarded request: dropped (RFC 6026 §7.3).
    pub stray_responses: u64,
    /// INVITEs answered with 200.
    pub calls_answered: u64,
    /// Calls ended by BYE.
    pub calls_completed: u64,
    /// Calls ended by CANCEL.
    pub calls_cancelled: u64,
    /// Calls whose ACK or BYE never came.
    pub calls_abandoned: u64,
    /// Requests that came again.
    pub retransmissions_received: u64,
    /// Responses that were sent again because a timer said so.
    pub retransmissions_sent: u64,
    /// Messages that could not be parsed or broke the rules.
    pub malformed: u64,
    /// Requests refused with any other error than 401 and 407.
    pub rejected: u64,
    /// Of these, requests refused because a bound was reached.
    pub overloads: u64,
    /// Messages without effect: responses, ACKs that belong to nothing, and what comes from outside by
    /// the interface of siblings.
    pub ignored: u64,
}

impl ServerCounters {
    /// The sum of both.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        Self {
            requests: self.requests + other.requests,
            registrations: self.registrations + other.registrations,
            challenges: self.challenges + other.challenges,
            credentials_refused: self.credentials_refused + other.credentials_refused,
            forwarded: self.forwarded + other.forwarded,
            unreachable: self.unreachable + other.unreachable,
            oversized: self.oversized + other.oversized,
            stray_responses: self.stray_responses + other.stray_responses,
            calls_answered: self.calls_answered + other.calls_answered,
            calls_completed: self.calls_completed + other.calls_completed,
            calls_cancelled: self.calls_cancelled + other.calls_cancelled,
            calls_abandoned: self.calls_abandoned + other.calls_abandoned,
            retransmissions_received: self.retransmissions_received
                + other.retransmissions_received,
            retransmissions_sent: self.retransmissions_sent + other.retransmissions_sent,
            malformed: self.malformed + other.malformed,
            rejected: self.rejected + other.rejected,
            overloads: self.overloads + other.overloads,
            ignored: self.ignored + other.ignored,
        }
    }
}
