//! Proxies in virtual time: what they pass on, what they refuse, and what gets through two of them
//! over links that lose, duplicate and reorder.

#![allow(clippy::unwrap_used)]

use std::collections::HashSet;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::agent::mix;
use super::*;

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
    link: TimerQueue<Packet>,
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
            link: TimerQueue::new(),
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
    let mut writer = emit::response_head(&mut out, &request, status, Some("b"), None);
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

#[test]
fn a_call_passes_with_what_a_proxy_changes_and_nothing_else() {
    for transport in ["UDP", "TCP"] {
        let mut world = World::new(vec![proxy(transport, PROXY, None)]);
        let invite = ringing(&mut world);
        assert!(invite.starts_with(&format!("INVITE sip:u00000002@{BOB} SIP/2.0\r\n")));
        let vias = values(&invite, "Via");
        assert!(vias[0].starts_with(&format!("SIP/2.0/{transport} {PROXY};branch=z9hG4bK")));
        assert_eq!(
            vias[1],
            format!("SIP/2.0/UDP {ALICE};branch=z9hG4bKaINVITE")
        );
        assert_eq!(values(&invite, "Max-Forwards"), ["69"]);
        let routes: Vec<String> = values(&invite, "Record-Route")
            .into_iter()
            .map(Into::into)
            .collect();
        assert_eq!(routes.len(), 2, "one for each user agent's flow: {invite}");

        world.send(BOB, PROXY, &answer(&invite, 200));
        world.run(5);
        let answers = world.mail(ALICE);
        assert_eq!(start_lines(&answers), ["SIP/2.0 200 OK"]);
        assert_eq!(values(&answers[0], "Via"), [vias[1]]);
        assert_eq!(values(&answers[0], "Record-Route"), routes);

        // Alice's route set is the reverse of what was recorded, Bob's is not.
        let dialog = "To: <sip:u00000002@hopbench.test>;tag=b\r\n";
        let to_bob = format!("{dialog}Route: {}, {}\r\n", routes[1], routes[0]);
        let contact = format!("sip:u00000002@{BOB}");
        let ack = request("ACK", &contact, &format!("{to_bob}CSeq: 1 ACK\r\n"));
        world.send(ALICE, PROXY, &ack);
        world.run(6);
        let got = world.mail(BOB);
        assert_eq!(start_lines(&got), [format!("ACK {contact} SIP/2.0")]);
        assert!(values(&got[0], "Route").is_empty() && values(&got[0], "Record-Route").is_empty());
        assert_eq!(world.servers[0].1.counters().forwarded, 2);

        let bye = request(
            "BYE",
            &format!("sip:u00000001@{ALICE}"),
            &format!(
                "Via: SIP/2.0/UDP {BOB};branch=z9hG4bKbye\r\nFrom: <sip:u00000002@hopbench.test>;tag=b\r\n\
             To: <sip:u00000001@hopbench.test>;tag=a\r\nRoute: {}\r\nRoute: {}\r\n",
                routes[0], routes[1]
            ),
        );
        world.send(BOB, PROXY, &bye);
        world.run(7);
        let got = world.mail(ALICE);
        // Over UDP it may come again before the answer does.
        assert_eq!(
            start_lines(&got)[0],
            format!("BYE sip:u00000001@{ALICE} SIP/2.0")
        );
        world.send(ALICE, PROXY, &answer(&got[0], 200));
        world.run(8);
        assert_eq!(start_lines(&world.mail(BOB)), ["SIP/2.0 200 OK"]);

        // Nothing is remembered once the last timer has fired.
        world.run(60);
        let server = &world.servers[0].1;
        assert_eq!(server.forwards(), 0);
        assert_eq!(
            (server.counters().stray_responses, server.counters().ignored),
            (0, 0)
        );
    }
}

#[test]
fn what_must_not_be_forwarded_is_refused() {
    let table = [
        ("INVITE", "sip:nobody@hopbench.test", "", "404 Not Found"),
        ("INVITE", CALL, "", "480 Temporarily Unavailable"),
        ("INVITE", "sip:bob@elsewhere.test", "", "404 Not Found"),
        ("MESSAGE", "sip:bob@elsewhere.test", "", "404 Not Found"),
        ("INVITE", "tel:+1", "", "416 Unsupported URI Scheme"),
        (
            "INVITE",
            "sips:u00000002@hopbench.test",
            "",
            "416 Unsupported URI Scheme",
        ),
        (
            "INVITE",
            "sip:192.0.2.9",
            "Max-Forwards: 0\r\n",
            "483 Too Many Hops",
        ),
        (
            "INVITE",
            "sip:192.0.2.9",
            "Proxy-Require: foo\r\n",
            "420 Bad Extension",
        ),
        (
            "INVITE",
            "sip:192.0.2.9",
            "Route: nonsense\r\n",
            "400 Bad Request",
        ),
        ("CANCEL", CALL, "", "481 Call/Transaction Does Not Exist"),
        ("OPTIONS", "sip:hopbench.test", "", "200 OK"),
        (
            "OPTIONS",
            "sip:hopbench.test",
            "Max-Forwards: 0\r\n",
            "483 Too Many Hops",
        ),
    ];
    for (method, uri, headers, status) in table {
        let mut world = World::new(vec![proxy("TCP", PROXY, None)]);
        world.send(ALICE, PROXY, &request(method, uri, headers));
        world.run(1);
        let answers = world.mail(ALICE);
        assert_eq!(
            start_lines(&answers),
            [format!("SIP/2.0 {status}")],
            "{method} {uri} {headers}"
        );
        assert!(world.inbox.is_empty());
        if method == "INVITE" {
            // The ACK of a refusal ends where the refusal came from.
            world.send(
                ALICE,
                PROXY,
                &request(
                    "ACK",
                    uri,
                    &format!("Via: SIP/2.0/UDP {ALICE};branch=z9hG4bKaINVITE\r\n"),
                ),
            );
            world.run(2);
            assert!(world.inbox.is_empty(), "{uri}");
            assert_eq!(world.servers[0].1.counters().forwarded, 0);
        }
    }
}

#[test]
fn a_long_request_leaves_over_a_stream_if_there_is_one() {
    for (pad, has_stream, sides) in [
        (600, true, "UDP"),
        (1_300, true, "TCP"),
        (1_300, false, "UDP"),
    ] {
        let mut config = proxy("UDP", PROXY, Some(NEXT));
        if has_stream {
            config.interfaces.push(interface("TCP", PROXY));
        }
        let mut world = World::new(vec![config]);
        let headers = format!("X: {}\r\n", "x".repeat(pad));
        world.send(
            ALICE,
            PROXY,
            &request("OPTIONS", "sip:elsewhere.test", &headers),
        );
        world.run(0);
        world.run(1);
        let got = world.mail(NEXT);
        let via = values(&got[0], "Via")[0];
        assert!(
            via.starts_with(&format!("SIP/2.0/{sides} ")),
            "{pad}: {via}"
        );
        let is_oversized = pad > 1_000 && !has_stream;
        assert_eq!(
            world.servers[0].1.counters().oversized,
            u64::from(is_oversized)
        );
    }
    // Where nobody takes it over a stream it goes as a datagram after all.
    let mut config = proxy("UDP", PROXY, Some(NEXT));
    config.interfaces.push(interface("TCP", "192.0.2.1:5070"));
    let mut world = World::new(vec![config]);
    world.streams_fail = true;
    let headers = format!("X: {}\r\n", "x".repeat(1_300));
    world.send(
        ALICE,
        PROXY,
        &request("OPTIONS", "sip:elsewhere.test", &headers),
    );
    world.run(1);
    let got = world.mail(NEXT);
    assert!(
        values(&got[0], "Via")[0].starts_with("SIP/2.0/UDP "),
        "{got:?}"
    );
}

#[test]
fn a_loop_is_seen_the_first_time_round() {
    // Each sends everything to the other.
    let mut world = World::new(vec![
        proxy("UDP", PROXY, Some(NEXT)),
        proxy("UDP", NEXT, Some(PROXY)),
    ]);
    world.send(ALICE, PROXY, &request("OPTIONS", "sip:elsewhere.test", ""));
    world.run(1);
    assert_eq!(
        start_lines(&world.mail(ALICE)),
        ["SIP/2.0 482 Loop Detected"]
    );
    let forwarded = world
        .servers
        .iter()
        .map(|(_, server)| server.counters().forwarded);
    assert_eq!(forwarded.collect::<Vec<_>>(), [1, 1]);
}

#[test]
fn responses_that_nobody_waits_for_go_nowhere() {
    let mut world = World::new(vec![proxy("UDP", PROXY, None)]);
    let invite = ringing(&mut world);
    let good = answer(&invite, 200);
    let branch = values(&invite, "Via")[0].split("branch=").nth(1).unwrap();
    let (slot, nonce) = (&branch[7..15], &branch[15..31]);
    let forgeries = [
        good.replace(nonce, "0123456789abcdef"),
        good.replace(slot, "00000001"),
        good.replace(&branch[31..39], "00000000"),
        good.replace("1 INVITE", "1 OPTIONS"),
        good.replace(branch, "z9hG4bKforeign"),
    ];
    for forgery in &forgeries {
        assert_ne!(forgery, &good);
        world.send(BOB, PROXY, forgery);
    }
    world.run(5);
    assert!(world.mail(ALICE).is_empty());
    let counters = *world.servers[0].1.counters();
    assert_eq!(counters.stray_responses, forgeries.len() as u64);
    // Nothing else was disturbed.
    world.send(BOB, PROXY, &good);
    world.run(6);
    assert_eq!(start_lines(&world.mail(ALICE)), ["SIP/2.0 200 OK"]);
}

#[test]
fn cancel_follows_the_invite_once_that_was_heard_of() {
    let cancel = request(
        "CANCEL",
        CALL,
        &format!("Via: SIP/2.0/UDP {ALICE};branch=z9hG4bKaINVITE\r\n"),
    );
    let mut world = World::new(vec![proxy("UDP", PROXY, None)]);
    world.register_bob(&format!("<sip:u00000002@{BOB}>"));
    world.send(ALICE, PROXY, &request("INVITE", CALL, ""));
    world.send(ALICE, PROXY, &cancel);
    world.run(3);
    assert_eq!(
        start_lines(&world.mail(ALICE)),
        ["SIP/2.0 100 Trying", "SIP/2.0 200 OK"]
    );
    // Bob has said nothing: no CANCEL yet (RFC 3261 §9.1), but the INVITE again.
    let invites = world.mail(BOB);
    assert!(invites.len() > 1 && invites.iter().all(|text| text.starts_with("INVITE ")));
    world.send(BOB, PROXY, &answer(&invites[0], 100));
    world.run(4);
    let got = world.mail(BOB);
    let first = got.iter().find(|text| text.starts_with("CANCEL ")).unwrap();
    assert_eq!(values(first, "Via"), values(&invites[0], "Via")[..1]);
    assert_eq!(values(first, "CSeq"), ["1 CANCEL"]);
    world.send(BOB, PROXY, &answer(first, 200));
    world.send(BOB, PROXY, &answer(&invites[0], 487));
    world.run(5);
    assert_eq!(
        start_lines(&world.mail(ALICE))[..1],
        ["SIP/2.0 487 Request Terminated"]
    );
    let acks = world.mail(BOB);
    assert!(acks.iter().any(|text| text.starts_with("ACK ")), "{acks:?}");
    let counters = world.servers[0].1.counters();
    assert_eq!((counters.calls_cancelled, counters.stray_responses), (1, 0));
}

#[test]
fn who_does_not_answer_is_given_up() {
    for (transport, provisional, last, seconds) in [
        ("UDP", false, "SIP/2.0 408 Request Timeout", 33),
        ("TCP", false, "SIP/2.0 408 Request Timeout", 33),
        // Timer C, then CANCEL, then nothing again.
        ("UDP", true, "SIP/2.0 487 Request Terminated", 181 + 33),
    ] {
        let mut world = World::new(vec![proxy(transport, PROXY, None)]);
        world.register_bob(&format!("<sip:u00000002@{BOB}>"));
        world.send(ALICE, PROXY, &request("INVITE", CALL, ""));
        world.run(3);
        let invite = world.mail(BOB).pop().unwrap();
        if provisional {
            world.send(BOB, PROXY, &answer(&invite, 180));
        }
        world.run(seconds - 2);
        assert!(
            !start_lines(&world.mail(ALICE)).contains(&last),
            "{transport}"
        );
        world.run(seconds + 4);
        assert!(
            start_lines(&world.mail(ALICE)).contains(&last),
            "{transport}"
        );
        let cancels = world
            .mail(BOB)
            .iter()
            .filter(|text| text.starts_with("CANCEL"))
            .count();
        assert_eq!(cancels > 0, provisional, "{transport}");
        world.run(seconds + 80);
        assert_eq!(world.servers[0].1.forwards(), 0);
    }
}

#[test]
fn a_next_hop_that_is_not_there_is_500_and_a_lost_flow_is_told() {
    let mut world = World::new(vec![proxy("TCP", PROXY, Some(NEXT))]);
    world.dead.insert(address(NEXT));
    world.send(
        ALICE,
        PROXY,
        &request("INVITE", "sip:bob@elsewhere.test", ""),
    );
    world.run(1);
    assert_eq!(
        start_lines(&world.mail(ALICE)),
        ["SIP/2.0 100 Trying", "SIP/2.0 500 Server Internal Error"]
    );
    let mut world = World::new(vec![proxy("TCP", PROXY, None)]);
    world.register_bob(&format!("<sip:u00000002@{BOB}>"));
    world.dead.insert(address(BOB));
    world.send(ALICE, PROXY, &request("INVITE", CALL, ""));
    world.run(3);
    assert_eq!(
        start_lines(&world.mail(ALICE)),
        ["SIP/2.0 100 Trying", "SIP/2.0 480 Temporarily Unavailable"]
    );
    assert_eq!(world.servers[0].1.counters().unreachable, 1);
}

#[test]
fn callers_prove_who_they_are() {
    let mut config = proxy("UDP", PROXY, None);
    config.authenticate_calls = true;
    let mut world = World::new(vec![config]);
    world.register_bob(&format!("<sip:u00000002@{BOB}>"));
    world.send(ALICE, PROXY, &request("INVITE", CALL, ""));
    world.run(3);
    let challenges = world.mail(ALICE);
    assert!(challenges[0].starts_with("SIP/2.0 407 "), "{challenges:?}");
    assert!(world.mail(BOB).is_empty());
    let message = Message::parse(challenges[0].as_bytes()).unwrap();
    let challenge = digest::Challenge::choose(&message, Header::ProxyAuthenticate).unwrap();
    let with = |password: &str| {
        let mut line = b"Proxy-Authorization: ".to_vec();
        let identity = digest::Identity {
            username: "u00000001",
            password,
            method: "INVITE",
            uri: CALL,
        };
        identity.write_credentials(&mut emit::Value::new(&mut line), &challenge, 1, "c");
        let line = String::from_utf8(line).unwrap();
        request(
            "INVITE",
            CALL,
            &format!(
                "{line}\r\nVia: SIP/2.0/UDP {ALICE};branch=z9hG4bK{}\r\nCSeq: 2 INVITE\r\n",
                password.len()
            ),
        )
    };
    world.send(ALICE, PROXY, &with("wrong"));
    world.run(4);
    assert!(world.mail(BOB).is_empty());
    world.send(ALICE, PROXY, &with(&accounts().password(1)));
    world.run(5);
    assert!(world.mail(BOB)[0].starts_with("INVITE "));
}

/// Loses, duplicates and delays; the seed decides.
fn hostile(seed: u64) -> Fate {
    let mut state = seed;
    Box::new(move |_| {
        state = mix(state);
        let delay = |shift: u32| 1 + (state >> shift) % 40;
        match state % 10 {
            0 | 1 => vec![],
            2 => vec![delay(8), delay(16)],
            _ => vec![delay(8)],
        }
    })
}

#[test]
fn calls_get_through_two_proxies_whatever_the_network_does() {
    let timing = Timing::default();
    let epoch = Instant::now();
    for seed in 0..40 {
        let mut end = ServerConfig::new(accounts(), vec![interface("UDP", END)]);
        end.ring = Duration::from_millis(300);
        let mut world = World::new(vec![
            proxy("UDP", PROXY, Some(NEXT)),
            proxy("UDP", NEXT, Some(END)),
            end,
        ]);
        world.fate = hostile(mix(seed));
        let accounts = accounts();
        let agent = Agent {
            accounts: &accounts,
            user: 1,
            transport: "UDP",
            reliability: Reliability::Datagram,
            sent_by: address(ALICE),
            timing: &timing,
            seed,
            epoch,
            expires_seconds: 600,
        };
        let mut caller = Caller::new(7, Duration::from_millis(200));
        let mut outbox = Outbox::new();
        caller.start(&agent, world.now, &mut outbox);
        let mut ended = None;
        while ended.is_none() || world.now < world.start + Duration::from_secs(100) {
            for message in outbox.iter() {
                world.post(Packet {
                    from: address(ALICE),
                    to: address(PROXY),
                    bytes: message.to_vec(),
                });
            }
            outbox.clear();
            let deadlines = world
                .servers
                .iter()
                .filter_map(|(_, server)| server.deadline());
            let next = deadlines
                .chain(world.link.next_deadline())
                .chain(caller.deadline())
                .min();
            let Some(at) = next else { break };
            world.now = world.now.max(at);
            if caller.deadline().is_some_and(|at| at <= world.now) {
                let event = caller.timeout(&agent, world.now, &mut outbox);
                ended = ended.or(outcome(event));
                continue;
            }
            world.step();
            for text in world.mail(ALICE) {
                let message = Message::parse(text.as_bytes()).unwrap();
                let event = caller.receive(&agent, world.now, &message, &mut outbox);
                ended = ended.or(outcome(event));
            }
        }
        assert_eq!(ended, Some(Ok(())), "seed {seed}");
        for (_, server) in &world.servers {
            assert_eq!((server.forwards(), server.calls()), (0, 0), "seed {seed}");
        }
        assert_eq!(world.servers[2].1.counters().calls_answered, 1);
    }
}

fn outcome(event: CallEvent) -> Option<Result<(), CallFailure>> {
    match event {
        CallEvent::Completed => Some(Ok(())),
        CallEvent::Failed(failure) => Some(Err(failure)),
        CallEvent::Nothing
        | CallEvent::Challenged
        | CallEvent::HopNeeded
        | CallEvent::Cancelled
        | CallEvent::Progress { .. }
        | CallEvent::Answered { .. }
        | CallEvent::ByeSent => None,
    }
}

/// An edge proxy and the registrar behind it, which is a proxy as well.
fn edge_and_registrar() -> World {
    World::new(vec![
        proxy("UDP", NEXT, Some(PROXY)),
        proxy("UDP", PROXY, None),
    ])
}

#[test]
fn calls_come_back_by_the_path_that_the_registration_took() {
    let mut world = edge_and_registrar();
    // Bob registers through the edge proxy.
    world.register_bob_at(
        NEXT,
        "<sip:bob.invalid>;reg-id=1;+sip.instance=\"<urn:uuid:b>\"",
        0,
    );
    world.send(ALICE, PROXY, &request("INVITE", CALL, ""));
    world.run(5);
    let invite = world.mail(BOB).pop().unwrap();
    assert!(
        invite.starts_with("INVITE sip:bob.invalid SIP/2.0\r\n"),
        "{invite}"
    );
    assert!(values(&invite, "Route").is_empty(), "{invite}");
    assert_eq!(values(&invite, "Via").len(), 3);
    // Alice's flow and the hop between the proxies; that hop and Bob's flow.
    assert_eq!(values(&invite, "Record-Route").len(), 4);
    world.send(BOB, NEXT, &answer(&invite, 200));
    world.run(6);
    assert!(
        world
            .mail(ALICE)
            .iter()
            .any(|text| text.starts_with("SIP/2.0 200 "))
    );
    // Without the flow that the token names, nobody else gets the call (RFC 5626 §5.3.1).
    world.dead.insert(address(BOB));
    let again = request("INVITE", CALL, "Call-ID: again\r\n");
    world.send(ALICE, PROXY, &again.replace("z9hG4bKa", "z9hG4bKagain"));
    world.run(7);
    let last = world.mail(ALICE).pop().unwrap();
    assert!(last.starts_with("SIP/2.0 430 Flow Failed"), "{last}");
}

#[test]
fn targets_are_tried_in_turn_and_the_best_refusal_is_told() {
    const DESK: &str = "192.0.2.103:4003";
    for (first, second, told) in [
        (486, 200, "SIP/2.0 200 "),
        (486, 404, "SIP/2.0 486 "),
        (503, 486, "SIP/2.0 486 "),
        (503, 503, "SIP/2.0 500 "),
        (603, 0, "SIP/2.0 603 "),
    ] {
        let mut world = World::new(vec![proxy("TCP", PROXY, None)]);
        world.register_bob_at(PROXY, &format!("<sip:u00000002@{BOB}>;q=0.9"), 0);
        world.register_bob_from(DESK, PROXY, &format!("<sip:u00000002@{DESK}>;q=0.5"), 2);
        world.send(ALICE, PROXY, &request("INVITE", CALL, ""));
        world.run(5);
        let invite = world.mail(BOB).pop().unwrap();
        assert!(world.mail(DESK).is_empty());
        world.send(BOB, PROXY, &answer(&invite, first));
        world.run(6);
        let ack = world.mail(BOB).pop().unwrap();
        assert!(ack.starts_with("ACK "), "{ack}");
        let desk = world.mail(DESK);
        assert_eq!(desk.len(), usize::from(second > 0), "{first}");
        if let Some(invite) = desk.first() {
            world.send(DESK, PROXY, &answer(invite, second));
        }
        world.run(7);
        let last = world.mail(ALICE).pop().unwrap();
        assert!(last.starts_with(told), "{first} {second}: {last}");
    }
}

#[test]
fn sips_never_leaves_unprotected() {
    // The proxy's interfaces towards Bob: protected or not; what Bob registered; what Alice calls.
    let plain = "sip:u00000002@hopbench.test";
    let secure = "sips:u00000002@hopbench.test";
    for (is_protected, contact, called, outcome) in [
        (true, "sips:b@x", secure, "INVITE sips:b@x SIP/2.0"),
        (true, "sip:b@x", secure, "480 380"),
        (true, "sips:b@x", plain, "INVITE sip:b@x SIP/2.0"),
        (false, "sips:b@x", plain, "480 381"),
        (false, "sip:b@x", secure, "480 380"),
        (false, "sips:b@x", secure, "480 380"),
    ] {
        let mut config = proxy("TCP", PROXY, None);
        config.interfaces[0].is_protected = is_protected;
        config.interfaces.push(Interface {
            is_protected: true,
            ..interface("TLS", "192.0.2.1:5061")
        });
        let mut world = World::new(vec![config]);
        world.register_bob_at(PROXY, &format!("<{contact}>"), 0);
        world.send(ALICE, PROXY, &request("INVITE", called, ""));
        world.run(5);
        let place = format!("{is_protected} {contact} {called}");
        match outcome.strip_prefix("480 ") {
            Some(code) => {
                let refusal = world.mail(ALICE).pop().unwrap();
                assert!(refusal.starts_with("SIP/2.0 480 "), "{place}: {refusal}");
                let warning = values(&refusal, "Warning")[0].to_owned();
                assert!(warning.starts_with(code), "{place}: {warning}");
                assert!(world.mail(BOB).is_empty(), "{place}");
            }
            None => assert_eq!(start_lines(&world.mail(BOB)), [outcome], "{place}"),
        }
    }
}

#[test]
fn a_proved_peer_is_reached_over_the_connection_that_it_opened() {
    struct Aliases(Vec<(NextHop, Leg)>);
    impl Outbound<Leg> for Aliases {
        fn send(&mut self, _: &Leg, _: &[u8]) -> bool {
            true
        }
        fn peer_of(&self, leg: &Leg) -> SocketAddr {
            leg.peer
        }
        fn alias(&mut self, address: NextHop, leg: &Leg) {
            self.0.push((address, *leg));
        }
    }
    for (is_mutual, via, expected) in [
        (true, "192.0.2.2:5061;alias", true),
        (true, "192.0.2.2:5061", false),
        (false, "192.0.2.2:5061;alias", false),
        // Nobody takes over the traffic of another address.
        (true, "192.0.2.9:5061;alias", false),
        (true, "peer.test;alias", false),
    ] {
        let mut config = proxy("TLS", PROXY, None);
        config.interfaces[0].is_mutual = is_mutual;
        let now = Instant::now();
        let mut server = Server::new(config, [7; 32], now);
        let via = format!("Via: SIP/2.0/TLS {via};branch=z9hG4bKx\r\n");
        let text = request("OPTIONS", "sip:hopbench.test", &via);
        let peer = address("192.0.2.2:40000");
        let leg = Leg {
            own: address(PROXY),
            peer,
        };
        let source = Source {
            flow: &leg,
            peer,
            interface: 0,
        };
        let mut out = Aliases(Vec::new());
        server.receive(now, source, text.as_bytes(), &mut out);
        let hop = NextHop {
            interface: 0,
            address: address("192.0.2.2:5061"),
        };
        let expected: &[(NextHop, Leg)] = if expected { &[(hop, leg)] } else { &[] };
        assert_eq!(out.0, expected, "{is_mutual} {via}");
    }
}
