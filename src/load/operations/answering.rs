//! What the generator's users do who are called – callees of its own, or all of its users: they answer
//! calls that arrive over the hops that they registered on.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::super::outcome::CalleeCounts;
use super::super::worker::{State, Worker};
use crate::sip::{
    Accounts, Interface, Outbound, Reliability, Server, ServerConfig, ServerCounters, Service,
    Source, Timing,
};
use crate::transport::{Flow, Stack};

/// The users of one worker who answer.
pub(in crate::load) struct Answering {
    server: Server<Flow>,
    /// Responses that their flow no longer took.
    unsent: u64,
}

impl Answering {
    /// Users of `accounts` who are reached over `stack`, and ring for so long before they answer.
    pub(in crate::load) fn new(
        stack: &Stack,
        accounts: &Accounts,
        timing: Timing,
        ring: Duration,
    ) -> Self {
        // Known only when a call comes: each of them has a hop of its own.
        let interface = Interface {
            reliability: Reliability::of(stack.is_stream()),
            ..Interface::unprotected(stack.via_transport, ([0, 0, 0, 0], 0).into())
        };
        let config = ServerConfig {
            service: Service::UserAgent,
            timing,
            ring,
            ..ServerConfig::new(accounts.clone(), vec![interface])
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
            // Nobody calls users who do not answer.
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

    /// Carries on what users who are called have to do by `now`.
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
