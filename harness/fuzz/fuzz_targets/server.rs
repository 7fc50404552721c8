//! The server: no messages make it panic or stop it, whatever it sends parses and passes the check if
//! what it answers did, and nothing remains of it that no timer would end. Messages are separated by
//! 0x1e. A first byte that is a control character chooses what the server is. A challenge is answered with
//! the right password, so that the registrar is reached; what is forwarded is answered as well.

#![no_main]

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use hopbench::sip::digest::{Challenge, Identity};
use hopbench::sip::emit::Value;
use hopbench::sip::reply::response_head;
use hopbench::sip::{
    Accounts, Header, Interface, Message, Method, NextHop, Outbound, Route, Server, ServerConfig,
    Service, Source, StartLine, Uri,
};
use libfuzzer_sys::fuzz_target;

/// Challenges that are answered for one message.
const ANSWERED_CHALLENGES: usize = 2;

/// Timer steps that are taken after the last message.
const STEPS: usize = 512;

/// Forwarded requests that are answered for one message.
const ANSWERED_FORWARDS: usize = 16;

/// What they are answered with, in turn; 0 is no answer.
const STATUSES: [u16; 8] = [100, 180, 200, 486, 503, 0, 302, 600];

/// Where the messages come from.
const PEER: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(192, 0, 2, 88)), 5060);

/// Messages and the interfaces that they left by.
struct Sent(Vec<(usize, Vec<u8>)>);

impl Outbound<u8> for Sent {
    fn send(&mut self, flow: &u8, message: &[u8]) -> bool {
        self.0.push((usize::from(*flow), message.to_vec()));
        true
    }

    fn send_to(&mut self, hop: NextHop, message: &[u8]) -> bool {
        self.0.push((hop.interface, message.to_vec()));
        // Some addresses cannot be reached.
        !hop.address.port().is_multiple_of(7)
    }

    fn send_back(&mut self, peer: NextHop, message: &[u8]) -> bool {
        self.send_to(peer, message)
    }

    fn peer_of(&self, _flow: &u8) -> SocketAddr {
        PEER
    }
}

struct Peer {
    accounts: Accounts,
    server: Server<u8>,
    now: Instant,
    /// How many forwarded requests were seen.
    forwarded: usize,
}

/// What a first byte asks for, and whether callers have to prove who they are.
fn service_of(input: &[u8]) -> (Service, bool, &[u8]) {
    match input.split_first() {
        Some((1, rest)) => (Service::Proxy, false, rest),
        Some((2, rest)) => (Service::Proxy, true, rest),
        Some((3, rest)) => (Service::UserAgent, false, rest),
        Some((4, rest)) => (Service::Answer, true, rest),
        Some(_) | None => (Service::Answer, false, input),
    }
}

fuzz_target!(|input: &[u8]| {
    let (service, authenticate_calls, input) = service_of(input);
    let accounts = Accounts::new("example.com", "secret", 16);
    let address = SocketAddr::from(([192, 0, 2, 1], 5060));
    let interfaces = ["UDP", "TCP"]
        .map(|via| Interface::unprotected(via, address))
        .to_vec();
    let mut config = ServerConfig::new(accounts.clone(), interfaces);
    config.ring = Duration::from_secs(1);
    config.service = service;
    config.authenticate_calls = authenticate_calls;
    config.routes = [Some("elsewhere.example"), None]
        .into_iter()
        .enumerate()
        .map(|(interface, domain)| Route {
            domain: domain.map(Into::into),
            hop: NextHop {
                interface,
                address: PEER,
            },
        })
        .collect();
    let now = Instant::now();
    let server = Server::new(config, [7; 32], now);
    let mut peer = Peer {
        accounts,
        server,
        now,
        forwarded: 0,
    };
    for (index, message) in input.split(|&byte| byte == 0x1e).enumerate() {
        peer.exchange(message, index);
    }
    for _ in 0..STEPS {
        let Some(deadline) = peer.server.deadline() else {
            let server = &peer.server;
            assert_eq!((server.forwards(), server.transactions()), (0, 0));
            return;
        };
        peer.now = deadline;
        let mut sent = Sent(Vec::new());
        peer.server.timeout(deadline, &mut sent);
        for (_, message) in sent.0 {
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
            let answer = sent
                .iter()
                .find_map(|(_, sent)| self.answered(&message, sent));
            self.answer_forwarded(sent, is_valid(&message));
            let Some(answer) = answer else {
                return;
            };
            message = answer;
        }
    }

    /// The only place that knows how a server is called.
    fn send(&mut self, message: &[u8], index: usize) -> Vec<(usize, Vec<u8>)> {
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

    /// Answers what was forwarded, and what is forwarded because of that.
    fn answer_forwarded(&mut self, mut sent: Vec<(usize, Vec<u8>)>, is_valid: bool) {
        let mut left = ANSWERED_FORWARDS;
        while let Some((interface, bytes)) = sent.pop() {
            let message = Message::parse(&bytes).expect("what is sent can be parsed");
            if message.method().is_none_or(|method| method == Method::Ack) || left == 0 {
                continue;
            }
            left -= 1;
            self.forwarded += 1;
            let first = STATUSES[self.forwarded % STATUSES.len()];
            let second = STATUSES[self.forwarded / STATUSES.len() % STATUSES.len()];
            for status in [first, second].into_iter().filter(|&status| status > 0) {
                let mut response = Vec::new();
                response_head(&mut response, &message, status, Some("peer"), None).finish();
                let source = Source {
                    flow: &(interface as u8),
                    peer: PEER,
                    interface,
                };
                let mut more = Sent(Vec::new());
                self.server.receive(self.now, source, &response, &mut more);
                for (_, bytes) in &more.0 {
                    let message = Message::parse(bytes).expect("what is sent can be parsed");
                    assert!(!is_valid || message.check().is_ok());
                }
                sent.append(&mut more.0);
            }
            if first == 0 {
                let hop = NextHop {
                    interface,
                    address: PEER,
                };
                let mut more = Sent(Vec::new());
                self.server.unreachable(self.now, hop, &mut more);
                sent.append(&mut more.0);
            }
        }
    }

    /// The request once more, with what its challenge asks for and a new branch.
    fn answered(&self, request: &[u8], response: &[u8]) -> Option<Vec<u8>> {
        let response = Message::parse(response)
            .ok()
            .filter(|it| matches!(it.status(), Some(401 | 407)))?;
        let (challenge, credentials) = match response.status() {
            Some(407) => (Header::ProxyAuthenticate, "Proxy-Authorization"),
            _ => (Header::WwwAuthenticate, "Authorization"),
        };
        let challenge = Challenge::choose(&response, challenge).ok()?;
        let message = Message::parse(request).ok()?;
        let StartLine::Request {
            method_text, uri, ..
        } = message.start_line()
        else {
            return None;
        };
        let user = Uri::parse(message.from().ok()?.uri).ok()?.user?;
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
        again.extend_from_slice(b"\r\n");
        again.extend_from_slice(credentials.as_bytes());
        again.extend_from_slice(b": ");
        identity.write_credentials(&mut Value::new(&mut again), &challenge, 1, "00");
        again.extend_from_slice(&request[line_end..]);
        Some(again)
    }
}

fn is_valid(message: &[u8]) -> bool {
    Message::parse(message).is_ok_and(|message| message.check().is_ok())
}

fn check(message: &[u8], sent: &[(usize, Vec<u8>)]) {
    for (_, bytes) in sent {
        let sent = Message::parse(bytes).expect("what is sent can be parsed");
        if is_valid(message) {
            assert_eq!(sent.check(), Ok(()));
        }
    }
}
