//! Proxies in virtual time: what they pass on, what they refuse, and what gets through two of them
//! over links that lose, duplicate and reorder.

#![allow(clippy::unwrap_used)]

use std::collections::HashSet;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use crate::sip::*;

mod calls;
mod refusals;
mod registrations;
mod remains;
mod workers;

const ALICE: &str = "192.0.2.101:4001";
const BOB: &str = "192.0.2.102:4002";
const PROXY: &str = "192.0.2.1:5060";
const NEXT: &str = "192.0.2.2:5060";
const END: &str = "192.0.2.3:5060";

/// One end of the way between two addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Leg {
    own: SocketAddr,
    peer: SocketAddr,
}

struct Packet {
    from: SocketAddr,
    to: SocketAddr,
    bytes: Vec<u8>,
}

/// When each copy of a packet arrives, in milliseconds.
type Fate = Box<dyn FnMut(&Packet) -> Vec<u64>>;

/// What one server sends.
struct Wire<'a> {
    interfaces: &'a [SocketAddr],
    dead: &'a HashSet<SocketAddr>,
    streams_fail: bool,
    sent: Vec<Packet>,
}

impl Wire<'_> {
    fn put(&mut self, from: SocketAddr, to: SocketAddr, message: &[u8]) -> bool {
        let bytes = message.to_vec();
        self.sent.push(Packet { from, to, bytes });
        !self.dead.contains(&to)
    }
}

impl Outbound<Leg> for Wire<'_> {
    fn send(&mut self, leg: &Leg, message: &[u8]) -> bool {
        self.put(leg.own, leg.peer, message)
    }

    fn peer_of(&self, leg: &Leg) -> SocketAddr {
        leg.peer
    }

    fn send_to(&mut self, hop: NextHop, message: &[u8]) -> bool {
        if self.streams_fail && hop.interface == 1 {
            return false;
        }
        self.put(self.interfaces[hop.interface], hop.address, message)
    }

    fn send_back(&mut self, peer: NextHop, message: &[u8]) -> bool {
        self.send_to(peer, message)
    }
}

/// Servers, the links between them, and everybody else's mail.
struct World {
    start: Instant,
    now: Instant,
    servers: Vec<(Vec<SocketAddr>, Server<Leg>)>,
    link: TimerWheel<Packet>,
    inbox: Vec<(SocketAddr, SocketAddr, String)>,
    dead: HashSet<SocketAddr>,
    /// Whether nobody can be reached by the second interface.
    streams_fail: bool,
    fate: Fate,
}

fn address(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

fn interface(transport: &'static str, own: &str) -> Interface {
    Interface::unprotected(transport, address(own))
}

fn accounts() -> Accounts {
    Accounts::new("hopbench.test", "secret", 100)
}

fn proxy(transport: &'static str, own: &str, next: Option<&str>) -> ServerConfig {
    let route = |next| Route {
        domain: None,
        hop: NextHop {
            interface: 0,
            address: address(next),
        },
    };
    let owned = if next.is_some() {
        Accounts::new("proxy.test", "", 0)
    } else {
        accounts()
    };
    ServerConfig {
        service: Service::Proxy,
        routes: next.map(route).into_iter().collect(),
        ..ServerConfig::new(owned, vec![interface(transport, own)])
    }
}

impl World {
    fn new(configs: Vec<ServerConfig>) -> Self {
        let start = Instant::now();
        let server = |(index, config): (usize, ServerConfig)| {
            let own = config.interfaces.iter().map(|own| own.address);
            (own.collect(), Server::new(config, [index as u8; 32], start))
        };
        Self {
            start,
            now: start,
            servers: configs.into_iter().enumerate().map(server).collect(),
            link: TimerWheel::new(start),
            inbox: Vec::new(),
            dead: HashSet::new(),
            streams_fail: false,
            fate: Box::new(|_| vec![1]),
        }
    }

    fn send(&mut self, from: &str, to: &str, text: &str) {
        let (from, to) = (address(from), address(to));
        let bytes = text.as_bytes().to_vec();
        self.post(Packet { from, to, bytes });
    }

    fn post(&mut self, packet: Packet) {
        for delay in (self.fate)(&packet) {
            let Packet { from, to, bytes } = &packet;
            let (from, to, bytes) = (*from, *to, bytes.clone());
            let at = self.now + Duration::from_millis(delay);
            self.link.insert(at, Packet { from, to, bytes });
        }
    }

    /// Lets time pass until `seconds` after the start.
    fn run(&mut self, seconds: u64) {
        let end = self.start + Duration::from_secs(seconds);
        loop {
            let deadlines = self
                .servers
                .iter()
                .filter_map(|(_, server)| server.deadline());
            let next = deadlines.chain(self.link.next_deadline()).min();
            let Some(at) = next.filter(|at| *at <= end) else {
                self.now = end;
                return;
            };
            self.now = self.now.max(at);
            self.step();
        }
    }

    fn step(&mut self) {
        let now = self.now;
        let mut sent = Vec::new();
        if let Some(packet) = self.link.pop_due(now) {
            let Packet { from, to, bytes } = packet;
            let mut of = self.servers.iter_mut();
            match of.find_map(|(own, server)| {
                let place = own.iter().position(|own| *own == to)?;
                Some((own, server, place))
            }) {
                Some((own, server, interface)) => {
                    let flow = Leg {
                        own: to,
                        peer: from,
                    };
                    let source = Source {
                        flow: &flow,
                        peer: from,
                        interface,
                    };
                    let mut wire = Wire {
                        interfaces: own,
                        dead: &self.dead,
                        streams_fail: self.streams_fail,
                        sent: Vec::new(),
                    };
                    server.receive(now, source, &bytes, &mut wire);
                    sent = wire.sent;
                }
                None => {
                    let text = String::from_utf8(bytes).unwrap();
                    self.inbox.push((from, to, text));
                }
            }
        } else {
            for (own, server) in &mut self.servers {
                let mut wire = Wire {
                    interfaces: own,
                    dead: &self.dead,
                    streams_fail: self.streams_fail,
                    sent: Vec::new(),
                };
                server.timeout(now, &mut wire);
                sent.extend(wire.sent);
            }
        }
        for packet in sent {
            let message = Message::parse(&packet.bytes).unwrap();
            assert_eq!(
                message.check(),
                Ok(()),
                "{}",
                String::from_utf8_lossy(&packet.bytes)
            );
            self.post(packet);
        }
    }

    /// What has arrived at an address that is no server's, taken out.
    fn mail(&mut self, of: &str) -> Vec<String> {
        let of = address(of);
        let all = std::mem::take(&mut self.inbox);
        let (mine, others) = all.into_iter().partition(|(_, to, _)| *to == of);
        self.inbox = others;
        let mine: Vec<(SocketAddr, SocketAddr, String)> = mine;
        mine.into_iter().map(|(_, _, text)| text).collect()
    }

    /// Registers user 2 as Bob at the proxy.
    fn register_bob(&mut self, contact: &str) {
        self.register_bob_at(PROXY, contact, 0);
    }

    fn register_bob_at(&mut self, server: &str, contact: &str, seconds: u64) {
        self.register_bob_from(BOB, server, contact, seconds);
    }

    /// Registers user 2; takes two seconds from `seconds` on.
    fn register_bob_from(&mut self, own: &str, server: &str, contact: &str, seconds: u64) {
        let register = |authorization: &str, cseq: u32| {
            format!(
                "REGISTER sip:hopbench.test SIP/2.0\r\n\
                 Via: SIP/2.0/UDP {own};branch=z9hG4bKr{seconds}{cseq}\r\nMax-Forwards: 70\r\n\
                 From: <sip:u00000002@hopbench.test>;tag=b\r\nTo: <sip:u00000002@hopbench.test>\r\n\
                 Call-ID: {own}\r\nCSeq: {cseq} REGISTER\r\nSupported: path, outbound\r\n\
                 Contact: {contact}\r\nExpires: 600\r\n{authorization}Content-Length: 0\r\n\r\n"
            )
        };
        self.send(own, server, &register("", 1));
        self.run(seconds + 1);
        let challenge = self.mail(own).pop().unwrap();
        let challenge = Message::parse(challenge.as_bytes()).unwrap();
        let challenge = digest::Challenge::choose(&challenge, Header::WwwAuthenticate).unwrap();
        let mut authorization = b"Authorization: ".to_vec();
        let identity = digest::Identity {
            username: "u00000002",
            password: &accounts().password(2),
            method: "REGISTER",
            uri: "sip:hopbench.test",
        };
        let mut line = emit::Value::new(&mut authorization);
        identity.write_credentials(&mut line, &challenge, 1, "c");
        authorization.extend_from_slice(b"\r\n");
        let authorization = String::from_utf8(authorization).unwrap();
        self.send(own, server, &register(&authorization, 2));
        self.run(seconds + 2);
        let answer = self.mail(own).pop().unwrap();
        assert!(answer.starts_with("SIP/2.0 200 "), "{answer}");
    }
}

/// A request of Alice's; `headers` may replace the defaults.
fn request(method: &str, uri: &str, headers: &str) -> String {
    let mut text = format!("{method} {uri} SIP/2.0\r\n");
    for (name, default) in [
        (
            "Via",
            format!("SIP/2.0/UDP {ALICE};branch=z9hG4bKa{method}"),
        ),
        ("Max-Forwards", "70".to_owned()),
        ("From", "<sip:u00000001@hopbench.test>;tag=a".to_owned()),
        ("To", "<sip:u00000002@hopbench.test>".to_owned()),
        ("Call-ID", "call".to_owned()),
        ("CSeq", format!("1 {method}")),
        ("Contact", format!("<sip:u00000001@{ALICE}>")),
    ] {
        if !headers.contains(&format!("{name}:")) {
            text.push_str(&format!("{name}: {default}\r\n"));
        }
    }
    format!("{text}{headers}Content-Length: 0\r\n\r\n")
}

/// A response of Bob's to a request that reached him.
fn answer(request: &str, status: u16) -> String {
    let request = Message::parse(request.as_bytes()).unwrap();
    let mut out = Vec::new();
    let mut writer = reply::response_head(&mut out, &request, status, Some("b"), None);
    writer.header("Contact", &format!("<sip:u00000002@{BOB}>"));
    writer.finish();
    String::from_utf8(out).unwrap()
}

fn start_lines(texts: &[String]) -> Vec<&str> {
    texts
        .iter()
        .map(|text| text.lines().next().unwrap())
        .collect()
}

fn values<'t>(text: &'t str, header: &str) -> Vec<&'t str> {
    let prefix = format!("{header}: ");
    text.lines()
        .filter_map(|line| line.strip_prefix(&prefix))
        .collect()
}

const CALL: &str = "sip:u00000002@hopbench.test";

/// A call from Alice to Bob, ringing: what Bob got.
fn ringing(world: &mut World) -> String {
    world.register_bob(&format!("<sip:u00000002@{BOB}>"));
    world.send(ALICE, PROXY, &request("INVITE", CALL, ""));
    world.run(3);
    assert_eq!(start_lines(&world.mail(ALICE)), ["SIP/2.0 100 Trying"]);
    let invite = world.mail(BOB).pop().unwrap();
    world.send(BOB, PROXY, &answer(&invite, 180));
    world.run(4);
    assert_eq!(start_lines(&world.mail(ALICE)), ["SIP/2.0 180 Ringing"]);
    invite
}
