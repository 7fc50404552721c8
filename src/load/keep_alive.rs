//! Keeping idle hops alive (RFC 5626 §4.4.1): each user's stream flow is pinged once in an interval, and
//! closed if it did not answer within [`PONG_LIMIT`]. One clock for all of a worker's users, whose turns
//! are spread over the interval: an idle hop has no timer of its own.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::worker::State;
use crate::transport::{Flow, PONG_LIMIT};

/// A worker's rounds.
pub(super) struct KeepAlive {
    interval: Duration,
    /// When the next user has its turn.
    next_at: Instant,
    /// Whose turn it is.
    turn: usize,
    /// Flows that were pinged, and when.
    pinged: VecDeque<(Instant, Flow)>,
    /// Pings since the worker started.
    pings: u64,
}

impl KeepAlive {
    /// Pings each flow once in `interval`, which leaves room for the pong of the last ping before the
    /// next; the first turn is at `start`.
    pub(super) fn new(interval: Duration, start: Instant) -> Self {
        Self {
            interval: interval.max(2 * PONG_LIMIT),
            next_at: start,
            turn: 0,
            pinged: VecDeque::new(),
            pings: 0,
        }
    }

    /// Pings sent so far.
    pub(super) fn pings(&self) -> u64 {
        self.pings
    }

    /// When [`KeepAlive::run`] wants to be called.
    pub(super) fn deadline(&self) -> Instant {
        match self.pinged.front() {
            Some((at, _)) => self.next_at.min(*at + PONG_LIMIT),
            None => self.next_at,
        }
    }

    /// Gives everybody a turn whose time has come, and ends the flows that have not answered.
    fn run(&mut self, flows: usize, flow: impl Fn(usize) -> Option<Flow>, now: Instant) {
        while self
            .pinged
            .front()
            .is_some_and(|(at, _)| *at + PONG_LIMIT <= now)
        {
            if let Some((_, flow)) = self.pinged.pop_front() {
                flow.require_pong();
            }
        }
        let gap = self.interval / u32::try_from(flows.max(1)).unwrap_or(u32::MAX);
        // A worker that slept makes up for one round at the most.
        for _ in 0..flows {
            if self.next_at > now {
                return;
            }
            self.turn = (self.turn + 1) % flows;
            self.next_at += gap;
            if let Some(flow) = flow(self.turn)
                && flow.ping().is_ok()
            {
                self.pinged.push_back((now, flow));
                self.pings += 1;
            }
        }
        self.next_at = self.next_at.max(now + gap);
    }
}

/// Does what is due for the users of `state`.
pub(super) fn keep_alive(state: &mut State, now: Instant) {
    let Some(mut rounds) = state.keep_alive.take() else {
        return;
    };
    let slot = |slot: usize| state.flow(u32::try_from(slot).ok()?);
    rounds.run(state.users.len(), slot, now);
    state.keep_alive = Some(rounds);
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::net::SocketAddr;
    use std::rc::Rc;

    use super::*;
    use crate::transport::{Link, SendError};

    const NOWHERE: SocketAddr =
        SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 5060);

    /// Remembers what it was asked for.
    #[derive(Default)]
    struct Asked(RefCell<Vec<&'static str>>);

    impl Link for Asked {
        fn send(&self, _: SocketAddr, _: &[u8]) -> Result<(), SendError> {
            Ok(())
        }

        fn close(&self) {}

        fn ping(&self) -> Result<(), SendError> {
            self.0.borrow_mut().push("ping");
            Ok(())
        }

        fn require_pong(&self) {
            self.0.borrow_mut().push("pong");
        }

        fn id(&self) -> u64 {
            0
        }

        fn local(&self) -> SocketAddr {
            NOWHERE
        }
    }

    #[test]
    fn everybody_is_pinged_once_in_an_interval_and_asked_for_the_pong_ten_seconds_later() {
        let links: Vec<Rc<Asked>> = (0..4).map(|_| Rc::default()).collect();
        let flow = |slot: usize| Some(Flow::new(links[slot].clone(), NOWHERE));
        let start = Instant::now();
        let at = |seconds: u64| start + Duration::from_secs(seconds);
        let mut rounds = KeepAlive::new(Duration::from_secs(120), start);
        let mut turns = Vec::new();
        while rounds.deadline() < at(135) {
            let now = rounds.deadline();
            let before: usize = links.iter().map(|link| link.0.borrow().len()).sum();
            rounds.run(4, flow, now);
            let after: usize = links.iter().map(|link| link.0.borrow().len()).sum();
            turns.push(((now - start).as_secs(), after - before));
        }
        // Turns are spread, one a gap of 30 s; each pong is asked for at its own time.
        let expected = [0, 10, 30, 40, 60, 70, 90, 100, 120, 130].map(|second| (second, 1));
        assert_eq!(turns, expected);
        for (slot, link) in links.iter().enumerate() {
            let rounds = if slot == 1 { 2 } else { 1 };
            assert_eq!(*link.0.borrow(), ["ping", "pong"].repeat(rounds), "{slot}");
        }
    }

    #[test]
    fn who_slept_makes_up_for_one_round() {
        let link = Rc::new(Asked::default());
        let flow = |_| Some(Flow::new(link.clone(), NOWHERE));
        let start = Instant::now();
        let mut rounds = KeepAlive::new(Duration::from_secs(30), start);
        let late = start + Duration::from_secs(3_600);
        rounds.run(3, flow, late);
        assert_eq!(rounds.pings(), 3);
        assert_eq!(link.0.borrow().len(), 3);
        assert!(rounds.deadline() > late);
        rounds.run(0, flow, late + Duration::from_secs(60));
        assert_eq!(link.0.borrow()[3..], ["pong"; 3]);
    }
}
