//! In the steady state a call costs the server no allocation: not over streams, and not over datagrams either, where
//! it keeps responses for as long as requests may come again. In virtual time, so that nothing else happens meanwhile.

#![allow(clippy::unwrap_used)]

use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use hopbench::measure::heap::{self, CountingAllocator};
use hopbench::sip::{
    Accounts, Agent, CallEvent, Caller, Interface, Outbound, Outbox, Reliability, Response, Server,
    ServerConfig, Source, Stationery, Timing,
};

#[global_allocator]
static ALLOCATOR: CountingAllocator = CountingAllocator;

const CLIENT: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 40_000);
const SERVER: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 5_060);
/// Between two calls: 50 a second.
const GAP: Duration = Duration::from_millis(20);
/// As many as four times 32 s bring, for which a transaction lasts at most: by then all buffers have grown.
const CALLS_BEFORE: u32 = 6_400;
/// As many again as one such time brings.
const CALLS_COUNTED: u32 = 1_600;

#[derive(Default)]
struct Replies(Outbox);

impl Outbound<()> for Replies {
    fn send(&mut self, (): &(), message: &[u8]) -> bool {
        self.0.push(message);
        true
    }

    fn peer_of(&self, (): &()) -> SocketAddr {
        CLIENT
    }
}

struct Ends {
    accounts: Accounts,
    timing: Timing,
    stationery: Stationery,
    transport: &'static str,
    server: Server<()>,
    epoch: Instant,
    now: Instant,
    requests: Outbox,
    replies: Replies,
}

impl Ends {
    fn new(transport: &'static str) -> Self {
        let accounts = Accounts::new("hopbench.test", "hopbench", 8);
        let interface = Interface::unprotected(transport, SERVER);
        let config = ServerConfig::new(accounts.clone(), vec![interface]);
        let epoch = Instant::now();
        Self {
            accounts,
            timing: Timing::default(),
            stationery: Stationery::default(),
            transport,
            server: Server::new(config, [7; 32], epoch),
            epoch,
            now: epoch,
            requests: Outbox::new(),
            replies: Replies::default(),
        }
    }

    /// One call, and what time demands.
    fn call(&mut self, key: u32) {
        self.now += GAP;
        self.server.timeout(self.now, &mut self.replies);
        assert!(self.replies.0.is_empty(), "every message was answered");
        let agent = Agent {
            accounts: &self.accounts,
            user: 7,
            transport: self.transport,
            reliability: Reliability::of(self.transport != "UDP"),
            sent_by: CLIENT,
            timing: &self.timing,
            seed: 1,
            epoch: self.epoch,
            expires_seconds: 3_600,
            stationery: &self.stationery,
        };
        let source = Source {
            flow: &(),
            peer: CLIENT,
            interface: 0,
        };
        let mut caller = Caller::new(key, Duration::ZERO);
        let mut last = None;
        caller.start(&agent, self.now, &mut self.requests);
        while !self.requests.is_empty() {
            for request in self.requests.iter() {
                self.server
                    .receive(self.now, source, request, &mut self.replies);
            }
            self.requests.clear();
            for reply in self.replies.0.iter() {
                let response = Response::parse(reply).unwrap();
                let event = caller.receive(&agent, self.now, &response, &mut self.requests);
                last = Some(event);
            }
            self.replies.0.clear();
        }
        assert_eq!(last, Some(CallEvent::Completed));
    }
}

#[test]
fn a_call_allocates_nothing() {
    for transport in ["TCP", "UDP"] {
        let mut ends = Ends::new(transport);
        for key in 0..CALLS_BEFORE {
            ends.call(key);
        }
        let before = heap::thread().unwrap().allocations;
        for key in 0..CALLS_COUNTED {
            ends.call(CALLS_BEFORE + key);
        }
        let allocations = heap::thread().unwrap().allocations - before;
        assert_eq!(allocations, 0, "of {CALLS_COUNTED} calls over {transport}");
        let counters = ends.server.counters();
        assert_eq!(
            counters.calls_completed,
            u64::from(CALLS_BEFORE + CALLS_COUNTED)
        );
    }
}
