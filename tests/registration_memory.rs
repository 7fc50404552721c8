//! What a registered user costs on the heap of a server: the binding, what is remembered of its
//! nonce, and its timer.

mod live_heap;

use std::net::SocketAddr;
use std::time::Instant;

use hopbench::sip::{
    Accounts, Agent, Interface, Message, Outbound, Outbox, Registration, Reliability, Server,
    ServerConfig, Source, Stationery, Timing,
};
use live_heap::live_bytes;

/// As large as the flows of transports: a counted pointer and an address.
type Flow = (usize, SocketAddr, usize);

struct Sent(Vec<u8>);

impl Outbound<Flow> for Sent {
    fn send(&mut self, _: &Flow, message: &[u8]) -> bool {
        self.0.clear();
        self.0.extend_from_slice(message);
        true
    }

    fn peer_of(&self, flow: &Flow) -> SocketAddr {
        flow.1
    }
}

#[test]
fn a_registered_user_costs_little_on_the_server() {
    /// A hash table of this many entries is exactly full, so that what it costs each is least; half
    /// as many cost as much again.
    const USERS: u32 = 7 << 10;
    /// 362 bytes when this was written, 120 of them the binding's text.
    const LIMIT_BYTES: usize = 380;
    let peer = SocketAddr::from(([127, 0, 0, 1], 5060));
    let start = Instant::now();
    let (timing, stationery) = (Timing::default(), Stationery::default());
    let accounts = Accounts::new("hopbench.test", "secret", USERS);
    let interface = Interface::unprotected("TCP", peer);
    let config = ServerConfig::new(accounts.clone(), vec![interface]);
    let mut server = Server::<Flow>::new(config, [7; 32], start);
    let (mut outbox, mut sent) = (Outbox::new(), Sent(Vec::with_capacity(4_096)));
    let mut register = |server: &mut Server<Flow>, user: u32| {
        let agent = Agent {
            accounts: &accounts,
            user,
            transport: "TCP",
            reliability: Reliability::Stream,
            sent_by: peer,
            timing: &timing,
            seed: 1,
            epoch: start,
            expires_seconds: 600,
            stationery: &stationery,
        };
        let mut registration = Registration::new(user);
        registration.start(&agent, start, &mut outbox);
        for _ in 0..2 {
            let flow = (0, peer, 0);
            let source = Source {
                flow: &flow,
                peer,
                interface: 0,
            };
            let request = outbox.iter().next().expect("a request").to_vec();
            outbox.clear();
            server.receive(start, source, &request, &mut sent);
            let response = Message::parse(&sent.0).expect("a response");
            registration.receive(&agent, start, &response, &mut outbox);
        }
    };
    let before = live_bytes();
    for user in 0..USERS {
        register(&mut server, user);
    }
    let each_bytes = (live_bytes() - before) / USERS as usize;
    assert_eq!(server.registrar().users(), USERS as usize);
    assert!(
        each_bytes <= LIMIT_BYTES,
        "{each_bytes} bytes for each registered user"
    );
}
