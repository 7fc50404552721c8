//! What the generator's own callees do: they answer calls that arrive over the hops that they
//! registered on.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::super::outcome::CalleeCounts;
use super::super::plan::Callees;
use super::super::worker::{State, Worker};
use crate::sip::{Interface, Outbound, Server, ServerConfig, ServerCounters, Service, Source};
use crate::transport::Flow;

/// The callees of one worker.
pub(in crate::load) struct Answering {
    server: Server<Flow>,
    /// Responses that their flow no longer took.
    unsent: u64,
}

impl Answering {
    /// Callees that ring for so long before they answer.
    pub(in crate::load) fn new(worker: &Worker, callees: &Callees, ring: Duration) -> Self {
        let transport = worker.stack.via_transport;
        // Known only when a call comes: each callee has a hop of its own.
        let interface = Interface {
            reliability: worker.reliability,
            ..Interface::unprotected(transport, ([0, 0, 0, 0], 0).into())
        };
        let config = ServerConfig {
            service: Service::UserAgent,
            timing: worker.timing,
            ring,
            ..ServerConfig::new(callees.accounts.clone(), vec![interface])
        };
        Self {
            server: Server::new(config, rand::random(), Instant::now()),
            unsent: 0,
        }
    }

    /// When [`Worker::answer_timeouts`] wants to be called.
    pub(in crate::load) fn deadline(&self) -> Option<Instant> {
        self.server.deadline()
    }

    pub(in crate::load) fn counts(&self) -> CalleeCounts {
        let ServerCounters {
            calls_answered,
            calls_completed,
            calls_cancelled,
            calls_abandoned,
            retransmissions_sent,
            malformed,
            rejected,
            ..
        } = *self.server.counters();
        CalleeCounts {
            answered: calls_answered,
            completed: calls_completed,
            cancelled: calls_cancelled,
            abandoned: calls_abandoned,
            retransmissions: retransmissions_sent,
            unexpected: malformed + rejected,
            unsent: self.unsent,
        }
    }
}

impl Worker {
    /// A request arrived.
    pub(super) fn on_request(&self, state: &mut State, flow: &Flow, bytes: &[u8], now: Instant) {
        let Some(Answering { server, unsent }) = &mut state.answering else {
            // Nobody calls users of a generator without callees.
            state.unexpected += 1;
            return;
        };
        server.set_address(0, flow.local());
        let source = Source {
            flow,
            peer: flow.peer(),
            interface: 0,
        };
        server.receive(now, source, bytes, &mut Sender { unsent });
        if let Some(deadline) = server.deadline() {
            self.wake_for(deadline);
        }
    }

    /// Carries on what callees have to do by `now`.
    pub(super) fn answer_timeouts(&self, state: &mut State, now: Instant) {
        if let Some(Answering { server, unsent }) = &mut state.answering
            && server.deadline().is_some_and(|deadline| deadline <= now)
        {
            server.timeout(now, &mut Sender { unsent });
        }
    }
}

struct Sender<'a> {
    unsent: &'a mut u64,
}

impl Outbound<Flow> for Sender<'_> {
    fn send(&mut self, flow: &Flow, message: &[u8]) -> bool {
        let is_sent = flow.send(message).is_ok();
        *self.unsent += u64::from(!is_sent);
        is_sent
    }

    fn peer_of(&self, flow: &Flow) -> SocketAddr {
        flow.peer()
    }
}
