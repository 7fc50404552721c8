//! The server: no messages make it panic or stop it, and whatever it sends parses and passes the check
//! if what it answers did. Messages are separated by 0x1e. A challenge is answered with the right
//! password, so that the registrar is reached.

#![no_main]

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use hopbench::sip::digest::{Challenge, Identity};
use hopbench::sip::emit::Value;
use hopbench::sip::{
    Accounts, Header, Interface, Message, Outbound, Server, ServerConfig, Source, StartLine, Uri,
};
use libfuzzer_sys::fuzz_target;

/// Challenges that are answered for one message.
const ANSWERED_CHALLENGES: usize = 2;

/// Timer steps that are taken after the last message.
const STEPS: usize = 64;

/// Where the messages come from.
const PEER: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(192, 0, 2, 88)), 5060);

struct Sent(Vec<Vec<u8>>);

impl Outbound<u8> for Sent {
    fn send(&mut self, _flow: &u8, message: &[u8]) -> bool {
        self.0.push(message.to_vec());
        true
    }

    fn peer_of(&self, _flow: &u8) -> SocketAddr {
        PEER
    }
}

struct Peer {
    accounts: Accounts,
    server: Server<u8>,
    now: Instant,
}

fuzz_target!(|input: &[u8]| {
    let accounts = Accounts::new("example.com", "secret", 16);
    let address = SocketAddr::from(([192, 0, 2, 1], 5060));
    let interfaces = ["UDP", "TCP"]
        .map(|via| Interface::unprotected(via, address))
        .to_vec();
    let mut config = ServerConfig::new(accounts.clone(), interfaces);
    config.ring = Duration::from_secs(1);
    let now = Instant::now();
    let server = Server::new(config, [7; 32], now);
    let mut peer = Peer {
        accounts,
        server,
        now,
    };
    for (index, message) in input.split(|&byte| byte == 0x1e).enumerate() {
        peer.exchange(message, index);
    }
    for _ in 0..STEPS {
        let Some(deadline) = peer.server.deadline() else {
            return;
        };
        peer.now = deadline;
        let mut sent = Sent(Vec::new());
        peer.server.timeout(deadline, &mut sent);
        for message in sent.0 {
            Message::parse(&message).expect("what is sent can be parsed");
        }
    }
});

impl Peer {
    /// Sends a message, and again with credentials if they are asked for.
    fn exchange(&mut self, message: &[u8], index: usize) {
        let mut message = message.to_vec();
        for _ in 0..=ANSWERED_CHALLENGES {
            let sent = self.send(&message, index);
            check(&message, &sent);
            let Some(answer) = sent.iter().find_map(|sent| self.answered(&message, sent)) else {
                return;
            };
            message = answer;
        }
    }

    /// The only place that knows how a server is called.
    fn send(&mut self, message: &[u8], index: usize) -> Vec<Vec<u8>> {
        self.now += Duration::from_millis(100);
        let interface = index % 2;
        let source = Source {
            flow: &(interface as u8),
            peer: PEER,
            interface,
        };
        let mut sent = Sent(Vec::new());
        self.server.receive(self.now, source, message, &mut sent);
        let source = Source {
            flow: &1,
            peer: PEER,
            interface: 1,
        };
        self.server.refuse_unframed(source, message, &mut sent);
        sent.0
    }

    /// The request once more, with what its challenge asks for and a new branch.
    fn answered(&self, request: &[u8], response: &[u8]) -> Option<Vec<u8>> {
        let response = Message::parse(response)
            .ok()
            .filter(|it| it.status() == Some(401))?;
        let challenge = Challenge::choose(&response, Header::WwwAuthenticate).ok()?;
        let message = Message::parse(request).ok()?;
        let StartLine::Request {
            method_text, uri, ..
        } = message.start_line()
        else {
            return None;
        };
        let user = Uri::parse(message.to().ok()?.uri).ok()?.user?;
        let password = self.accounts.password(self.accounts.index(user)?);
        let identity = Identity {
            username: user,
            password: &password,
            method: method_text,
            uri,
        };
        let line_end = request.windows(2).position(|pair| pair == b"\r\n")?;
        let mut again = request[..line_end + 2].to_vec();
        again.extend_from_slice(b"Via: SIP/2.0/TCP again.example;branch=z9hG4bKagain");
        again.extend_from_slice(b"\r\nAuthorization: ");
        identity.write_credentials(&mut Value::new(&mut again), &challenge, 1, "00");
        again.extend_from_slice(&request[line_end..]);
        Some(again)
    }
}

fn check(request: &[u8], sent: &[Vec<u8>]) {
    let valid = Message::parse(request).is_ok_and(|request| request.check().is_ok());
    for bytes in sent {
        let response = Message::parse(bytes).expect("what is sent can be parsed");
        assert!(response.status().is_some());
        if valid {
            assert_eq!(response.check(), Ok(()));
        }
    }
}
