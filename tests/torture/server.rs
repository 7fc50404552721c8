//! A server to send messages to.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use hopbench::sip::{Accounts, Interface, Message, Outbound, Server, ServerConfig, Source};

/// Where the messages come from.
const PEER: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(192, 0, 2, 88)), 5060);

struct Sent(Vec<Vec<u8>>);

impl Outbound<()> for Sent {
    fn send(&mut self, (): &(), message: &[u8]) -> bool {
        self.0.push(message.to_vec());
        true
    }

    fn peer_of(&self, _flow: &()) -> SocketAddr {
        PEER
    }
}

/// A registrar and answering user agent of `example.com`, and who sends to it.
pub(crate) struct Peer {
    pub(crate) accounts: Accounts,
    server: Server<()>,
    now: Instant,
}

impl Peer {
    pub(crate) fn new() -> Self {
        let accounts = Accounts::new("example.com", "secret", 4);
        let address = SocketAddr::from(([192, 0, 2, 77], 5060));
        let config = ServerConfig::new(
            accounts.clone(),
            vec![Interface::unprotected("UDP", address)],
        );
        let now = Instant::now();
        let server = Server::new(config, [7; 32], now);
        Self {
            accounts,
            server,
            now,
        }
    }

    /// Sends a datagram. Returns what the server sends, without what it repeats later.
    pub(crate) fn send(&mut self, message: &[u8]) -> Vec<Vec<u8>> {
        self.now += Duration::from_millis(1);
        let source = Source {
            flow: &(),
            peer: PEER,
            interface: 0,
        };
        let mut sent = Sent(Vec::new());
        self.server.receive(self.now, source, message, &mut sent);
        sent.0
    }
}

pub(crate) fn status(response: &[u8]) -> u16 {
    Message::parse(response).unwrap().status().unwrap()
}

/// The message for the user who answers here, if it is for the user that most messages are for.
pub(crate) fn addressed_to_us(message: &[u8]) -> Vec<u8> {
    let text = |bytes: &[u8]| bytes.iter().copied().map(char::from).collect::<String>();
    let changed = text(message).replacen(
        " sip:user@example.com SIP",
        " sip:answer@example.com SIP",
        1,
    );
    changed.chars().map(|character| character as u8).collect()
}
