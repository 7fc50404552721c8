//! Client flows and [`Server`] joined in virtual time over a link that loses, duplicates and reorders
//! as its script or its seed says.

#![allow(clippy::unwrap_used)]

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::agent::mix;
use super::emit::Value;
use super::*;

type Ms = u64;

/// Where a message goes, how many went that way before, what it is → when it arrives, for each
/// copy.
type Fate = Box<dyn FnMut(Way, &str) -> Vec<Ms>>;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    ToServer,
    ToClient,
}

/// Takes one millisecond and loses nothing.
fn perfect() -> Fate {
    Box::new(|_, _| vec![1])
}

/// As [`perfect`], but loses the first `count` messages whose first line starts so.
fn losing(way: Way, start: &'static str, mut count: u32) -> Fate {
    Box::new(move |to, message| {
        let hit = to == way && count > 0 && message.starts_with(start);
        count -= u32::from(hit);
        if hit { vec![] } else { vec![1] }
    })
}

/// Loses a tenth, doubles a tenth, and delays by up to 200 ms, which reorders.
fn hostile(seed: u64) -> Fate {
    let mut state = seed;
    let mut random = move |below: u64| {
        state = mix(state);
        state % below
    };
    Box::new(move |_, _| match random(10) {
        0 => vec![],
        1 => vec![random(200), random(200)],
        _ => vec![random(200)],
    })
}

trait Client {
    type Event: PartialEq + std::fmt::Debug;
    const NOTHING: Self::Event;
    fn receive(
        &mut self,
        a: &Agent<'_>,
        n: Instant,
        m: &Response<'_>,
        o: &mut Outbox,
    ) -> Self::Event;
    fn timeout(&mut self, a: &Agent<'_>, n: Instant, o: &mut Outbox) -> Self::Event;
    fn deadline(&self) -> Option<Instant>;
}

macro_rules! client {
    ($flow:ident, $event:ident, $response:ident => $seen:expr) => {
        impl Client for $flow {
            type Event = $event;
            const NOTHING: $event = $event::Nothing;
            fn receive(
                &mut self,
                a: &Agent<'_>,
                n: Instant,
                $response: &Response<'_>,
                o: &mut Outbox,
            ) -> $event {
                $flow::receive(self, a, n, $seen, o)
            }
            fn timeout(&mut self, a: &Agent<'_>, n: Instant, o: &mut Outbox) -> $event {
                $flow::timeout(self, a, n, o)
            }
            fn deadline(&self) -> Option<Instant> {
                $flow::deadline(self)
            }
        }
    };
}
client!(Registration, RegistrationEvent, response => &response.whole().unwrap());
client!(Caller, CallEvent, response => response);

struct Sent(Vec<Vec<u8>>);

impl Outbound<u32> for Sent {
    fn send(&mut self, _: &u32, message: &[u8]) -> bool {
        self.0.push(message.to_vec());
        true
    }

    fn peer_of(&self, _: &u32) -> SocketAddr {
        "127.0.0.2:40000".parse().unwrap()
    }
}

struct Pair {
    start: Instant,
    now: Instant,
    accounts: Accounts,
    server: Server<u32>,
    reliability: Reliability,
    fate: Fate,
    link: TimerWheel<(Way, Vec<u8>)>,
    /// When what was sent, by its first word or status.
    log: Vec<(Ms, Way, String)>,
}

const TIMING: Timing = Timing {
    t1: Duration::from_millis(500),
    t2: Duration::from_secs(4),
    t4: Duration::from_secs(5),
};

impl Pair {
    fn new(
        reliability: Reliability,
        fate: Fate,
        configure: impl FnOnce(&mut ServerConfig),
    ) -> Self {
        let start = Instant::now();
        let accounts = Accounts::new("hopbench.test", "secret", 100);
        let address = "127.0.0.1:5060".parse().unwrap();
        let transport = match reliability {
            Reliability::Datagram => "UDP",
            Reliability::Stream => "TCP",
        };
        let interface = Interface::unprotected(transport, address);
        let mut config = ServerConfig::new(accounts.clone(), vec![interface]);
        configure(&mut config);
        Self {
            start,
            now: start,
            accounts,
            server: Server::new(config, [7; 32], start),
            reliability,
            fate,
            link: TimerWheel::new(start),
            log: Vec::new(),
        }
    }

    /// Calls `act` as user 42 and sends what it writes.
    fn act<T>(&mut self, act: impl FnOnce(&Agent<'_>, Instant, &mut Outbox) -> T) -> T {
        let mut outbox = Outbox::new();
        let agent = Agent {
            accounts: &self.accounts,
            user: 42,
            transport: if self.reliability == Reliability::Stream {
                "TCP"
            } else {
                "UDP"
            },
            reliability: self.reliability,
            sent_by: "127.0.0.2:40000".parse().unwrap(),
            timing: &TIMING,
            seed: 1,
            epoch: self.start,
            expires_seconds: 600,
            stationery: &Stationery::default(),
        };
        let result = act(&agent, self.now, &mut outbox);
        for message in outbox.iter() {
            self.send(Way::ToServer, message);
        }
        result
    }

    fn send(&mut self, way: Way, message: &[u8]) {
        let length = message.len();
        assert_eq!(
            framing::next(message),
            Ok(framing::Frame::Message { length })
        );
        assert_eq!(Message::parse(message).unwrap().check(), Ok(()));
        let text = std::str::from_utf8(message).unwrap();
        let label = text.strip_prefix("SIP/2.0 ").unwrap_or(text);
        let label = label.split(' ').next().unwrap();
        let at_ms = (self.now - self.start).as_millis() as Ms;
        self.log.push((at_ms, way, label.to_owned()));
        for delay in (self.fate)(way, label) {
            let at = self.now + Duration::from_millis(delay);
            self.link.insert(at, (way, message.to_vec()));
        }
    }

    /// Goes from deadline to deadline until `until`; what the client reported when.
    fn run<C: Client>(&mut self, client: &mut C, until: Ms) -> Vec<(Ms, C::Event)> {
        let until = self.start + Duration::from_millis(until);
        let mut events = Vec::new();
        loop {
            let deadlines = [
                client.deadline(),
                self.server.deadline(),
                self.link.next_deadline(),
            ];
            let next = deadlines.into_iter().flatten().min();
            let Some(next) = next.filter(|&next| next <= until) else {
                self.now = until;
                return events;
            };
            self.now = self.now.max(next);
            let event = self.step(client);
            if event != C::NOTHING {
                events.push(((self.now - self.start).as_millis() as Ms, event));
            }
        }
    }

    fn step<C: Client>(&mut self, client: &mut C) -> C::Event {
        let now = self.now;
        let mut sent = Sent(Vec::new());
        let mut event = C::NOTHING;
        if let Some((way, bytes)) = self.link.pop_due(now) {
            match way {
                Way::ToServer => {
                    let peer = "127.0.0.2:40000".parse().unwrap();
                    let source = Source {
                        flow: &9,
                        peer,
                        interface: 0,
                    };
                    self.server.receive(now, source, &bytes, &mut sent);
                }
                Way::ToClient => {
                    let response = Response::parse(&bytes).unwrap();
                    event = self
                        .act(|agent, now, outbox| client.receive(agent, now, &response, outbox));
                }
            }
        } else if client.deadline().is_some_and(|at| at <= now) {
            event = self.act(|agent, now, outbox| client.timeout(agent, now, outbox));
        } else {
            self.server.timeout(now, &mut sent);
        }
        for message in sent.0 {
            self.send(Way::ToClient, &message);
        }
        event
    }

    fn sent(&self, way: Way) -> Vec<(Ms, &str)> {
        let log = self.log.iter().filter(|(_, to, _)| *to == way);
        log.map(|(at, _, label)| (*at, label.as_str())).collect()
    }

    fn register(&mut self, until: Ms) -> (Registration, Vec<(Ms, RegistrationEvent)>) {
        let mut registration = Registration::new(3);
        self.act(|agent, now, outbox| registration.start(agent, now, outbox));
        let events = self.run(&mut registration, until);
        (registration, events)
    }

    fn call(&mut self, talk_ms: Ms, until: Ms) -> Vec<(Ms, CallEvent)> {
        let mut caller = Caller::new(3, Duration::from_millis(talk_ms));
        self.act(|agent, now, outbox| caller.start(agent, now, outbox));
        self.run(&mut caller, until)
    }
}

const BOTH: [Reliability; 2] = [Reliability::Datagram, Reliability::Stream];
const REGISTERED: RegistrationEvent = RegistrationEvent::Registered {
    expires_seconds: 600,
    flow_timer_seconds: None,
};

#[test]
fn a_registration_takes_four_messages() {
    for reliability in BOTH {
        let mut pair = Pair::new(reliability, perfect(), |_| {});
        let (_, events) = pair.register(100_000);
        let expected = [(2, RegistrationEvent::Challenged), (4, REGISTERED)];
        assert_eq!(events, expected, "{reliability:?}");
        assert_eq!(pair.sent(Way::ToServer), [(0, "REGISTER"), (2, "REGISTER")]);
        assert_eq!(pair.sent(Way::ToClient), [(1, "401"), (3, "200")]);
        let binding = pair
            .server
            .registrar()
            .bindings(42, pair.now)
            .next()
            .unwrap();
        let transport = if reliability == Reliability::Stream {
            ";transport=tcp"
        } else {
            ""
        };
        let expected = format!("sip:u00000042@u00000042.invalid{transport}");
        assert_eq!((binding.contact(), *binding.flow()), (expected.as_str(), 9));
    }
}

#[test]
fn a_call_takes_eight_messages() {
    for reliability in BOTH {
        let mut pair = Pair::new(reliability, perfect(), |_| {});
        let events = pair.call(50, 100_000);
        let expected = [
            (2, CallEvent::Progress { status: 180 }),
            (
                2,
                CallEvent::Answered {
                    is_first_response: false,
                },
            ),
            (52, CallEvent::ByeSent),
            (54, CallEvent::Completed),
        ];
        assert_eq!(events, expected, "{reliability:?}");
        assert_eq!(
            pair.sent(Way::ToServer),
            [(0, "INVITE"), (2, "ACK"), (52, "BYE")]
        );
        assert_eq!(
            pair.sent(Way::ToClient),
            [(1, "100"), (1, "180"), (1, "200"), (53, "200")]
        );
        assert_eq!(pair.server.calls(), 0);
        let counters = pair.server.counters();
        assert_eq!((counters.calls_answered, counters.calls_completed), (1, 1));
        assert_eq!((counters.requests, counters.retransmissions_sent), (2, 0));
        assert_eq!(pair.server.deadline(), None, "everything has ended");
    }
}

#[test]
fn without_talk_ack_and_bye_leave_together() {
    for reliability in BOTH {
        let mut pair = Pair::new(reliability, perfect(), |_| {});
        let events = pair.call(0, 100_000);
        assert_eq!(
            events.last(),
            Some(&(4, CallEvent::Completed)),
            "{reliability:?}"
        );
        assert_eq!(
            pair.sent(Way::ToServer),
            [(0, "INVITE"), (2, "ACK"), (2, "BYE")]
        );
    }
}

/// What is lost how often → when each request and each response is sent, and when the call ends.
#[test]
fn losses_are_repaired_at_the_exact_times() {
    use Way::{ToClient, ToServer};
    type Row<'a> = (
        Way,
        &'static str,
        u32,
        &'a [(Ms, &'a str)],
        &'a [(Ms, &'a str)],
    );
    let table: &[Row<'_>] = &[
        (
            ToServer,
            "INVITE",
            2,
            &[
                (0, "INVITE"),
                (500, "INVITE"),
                (1_500, "INVITE"),
                (1_502, "ACK"),
                (1_502, "BYE"),
            ],
            &[
                (1_501, "100"),
                (1_501, "180"),
                (1_501, "200"),
                (1_503, "200"),
            ],
        ),
        (
            // The client has seen 180 and does not ask again: the server repeats its 200.
            ToClient,
            "200",
            2,
            &[(0, "INVITE"), (1_502, "ACK"), (1_502, "BYE")],
            &[
                (1, "100"),
                (1, "180"),
                (1, "200"),
                (501, "200"),
                (1_501, "200"),
                (1_503, "200"),
            ],
        ),
        (
            ToServer,
            "BYE",
            1,
            &[(0, "INVITE"), (2, "ACK"), (2, "BYE"), (502, "BYE")],
            &[(1, "100"), (1, "180"), (1, "200"), (503, "200")],
        ),
    ];
    for (way, label, count, requests, responses) in table {
        let mut pair = Pair::new(Reliability::Datagram, losing(*way, label, *count), |_| {});
        let events = pair.call(0, 100_000);
        assert_eq!(pair.sent(ToServer), *requests, "{label}");
        assert_eq!(pair.sent(ToClient), *responses, "{label}");
        assert_eq!(events.last().unwrap().1, CallEvent::Completed);
        assert_eq!((pair.server.calls(), pair.server.deadline()), (0, None));
    }
}

#[test]
fn a_lost_ack_is_sent_again_for_each_repeated_200() {
    for reliability in BOTH {
        let mut pair = Pair::new(reliability, losing(Way::ToServer, "ACK", 2), |_| {});
        pair.call(5_000, 100_000);
        let acks = [(2, "ACK"), (502, "ACK"), (1_502, "ACK")];
        assert_eq!(pair.sent(Way::ToServer)[1..4], acks, "{reliability:?}");
        assert_eq!(pair.server.counters().retransmissions_sent, 2);
        assert_eq!(pair.server.counters().calls_completed, 1);
    }
}

/// A registration whose responses of one status are lost twice: when its requests left, and what the
/// server counted.
fn register_losing(status: &'static str) -> (Vec<Ms>, ServerCounters) {
    let losses = losing(Way::ToClient, status, 2);
    let mut pair = Pair::new(Reliability::Datagram, losses, |_| {});
    let (_, events) = pair.register(100_000);
    assert_eq!(events.last(), Some(&(1_504, REGISTERED)));
    let sent = pair.sent(Way::ToServer);
    let times = sent.iter().map(|(at, _)| *at).collect();
    (times, *pair.server.counters())
}

#[test]
fn retransmitted_requests_are_answered_by_the_transaction() {
    let (times, counters) = register_losing("200");
    assert_eq!(times, [0, 2, 502, 1_502]);
    let requests = (counters.requests, counters.retransmissions_received);
    assert_eq!(requests, (2, 2));
    assert_eq!((counters.challenges, counters.registrations), (1, 1));
}

#[test]
fn retransmitted_requests_without_credentials_are_challenged_anew() {
    let (times, counters) = register_losing("401");
    assert_eq!(times, [0, 500, 1_500, 1_502]);
    let requests = (counters.requests, counters.retransmissions_received);
    assert_eq!(requests, (4, 0));
    assert_eq!((counters.challenges, counters.registrations), (3, 1));
}

#[test]
fn a_server_that_is_not_there_ends_in_b_or_f() {
    for reliability in BOTH {
        let nothing: fn() -> Fate = || Box::new(|_, _| vec![]);
        let mut pair = Pair::new(reliability, nothing(), |_| {});
        let (_, events) = pair.register(100_000);
        let failed = RegistrationEvent::Failed(RegistrationFailure::TimedOut);
        assert_eq!(events, [(32_000, failed)]);
        let sent = if reliability == Reliability::Stream {
            1
        } else {
            11
        };
        assert_eq!(pair.log.len(), sent);
        let mut pair = Pair::new(reliability, nothing(), |_| {});
        let events = pair.call(0, 100_000);
        assert_eq!(events, [(32_000, CallEvent::Failed(CallFailure::TimedOut))]);
        let sent = if reliability == Reliability::Stream {
            1
        } else {
            7
        };
        assert_eq!(pair.log.len(), sent);
    }
}

#[test]
fn calls_ring_as_long_as_configured() {
    for reliability in BOTH {
        let ring = |config: &mut ServerConfig| config.ring = Duration::from_secs(3);
        let mut pair = Pair::new(reliability, perfect(), ring);
        let events = pair.call(0, 100_000);
        let times: Vec<Ms> = events.iter().map(|(at, _)| *at).collect();
        assert_eq!(times, [2, 3_002, 3_004], "{events:?}");
        assert_eq!(pair.server.deadline(), None);
    }
}

#[test]
fn refused_calls_are_acknowledged_and_fail() {
    for reliability in BOTH {
        let busy = |config: &mut ServerConfig| config.answer_status = 486;
        let mut pair = Pair::new(reliability, losing(Way::ToServer, "ACK", 1), busy);
        let events = pair.call(0, 100_000);
        let failed = CallEvent::Failed(CallFailure::Rejected { status: 486 });
        assert_eq!(events, [(2, failed)]);
        let datagram = reliability == Reliability::Datagram;
        let acks = if datagram {
            vec![(2, "ACK"), (502, "ACK")]
        } else {
            vec![(2, "ACK")]
        };
        assert_eq!(pair.sent(Way::ToServer)[1..], acks);
        assert_eq!(pair.server.deadline(), None);
    }
}

#[test]
fn a_hostile_network_only_delays() {
    for seed in 0..200 {
        let mut pair = Pair::new(Reliability::Datagram, hostile(seed), |_| {});
        let (_, events) = pair.register(60_000);
        assert_eq!(
            events.last().unwrap().1,
            REGISTERED,
            "seed {seed}: {:?}",
            pair.log
        );
        let mut pair = Pair::new(Reliability::Datagram, hostile(seed), |_| {});
        let events = pair.call(300, 60_000);
        assert_eq!(
            events.last().unwrap().1,
            CallEvent::Completed,
            "seed {seed}: {:?}",
            pair.log
        );
        pair.call(0, 200_000);
        assert_eq!(
            (pair.server.calls(), pair.server.deadline()),
            (0, None),
            "seed {seed}"
        );
    }
}

#[test]
fn refreshing_needs_no_challenge_until_the_nonce_is_stale() {
    let mut pair = Pair::new(Reliability::Stream, perfect(), |_| {});
    let (mut registration, _) = pair.register(10);
    for (until, expected) in [
        (100_000, vec![REGISTERED]),
        (400_000, vec![REGISTERED]),
        // The nonce is older than 300 s now.
        (500_000, vec![RegistrationEvent::Challenged, REGISTERED]),
        (501_000, vec![REGISTERED]),
    ] {
        pair.act(|agent, now, outbox| registration.refresh(agent, now, outbox));
        let events: Vec<_> = pair
            .run(&mut registration, until)
            .into_iter()
            .map(|(_, e)| e)
            .collect();
        assert_eq!(events, expected, "{until}");
    }
    assert_eq!(pair.server.registrar().bindings(42, pair.now).count(), 1);
    pair.act(|agent, now, outbox| registration.unregister(agent, now, outbox));
    let events = pair.run(&mut registration, 502_000);
    assert_eq!(events.last().unwrap().1, RegistrationEvent::Unregistered);
    assert_eq!(pair.server.registrar().bindings(42, pair.now).count(), 0);
    pair.run(&mut registration, 2_000_000);
    assert_eq!(
        (pair.server.registrar().users(), pair.server.deadline()),
        (0, None)
    );
}

#[test]
fn bindings_expire() {
    let mut pair = Pair::new(Reliability::Stream, perfect(), |_| {});
    let (mut registration, _) = pair.register(599_000);
    assert_eq!(pair.server.registrar().bindings(42, pair.now).count(), 1);
    pair.run(&mut registration, 601_000);
    assert_eq!(pair.server.registrar().bindings(42, pair.now).count(), 0);
    assert_eq!(pair.server.registrar().users(), 0);
}

#[test]
fn a_wrong_password_fails_after_one_challenge() {
    for (secret, count) in [("other", 100), ("secret", 42)] {
        let configure = |config: &mut ServerConfig| {
            config.accounts = Accounts::new("hopbench.test", secret, count);
        };
        let mut pair = Pair::new(Reliability::Stream, perfect(), configure);
        let (_, events) = pair.register(100_000);
        let failed = RegistrationEvent::Failed(RegistrationFailure::WrongCredentials);
        assert_eq!(events, [(2, RegistrationEvent::Challenged), (4, failed)]);
        assert_eq!(
            pair.server.registrar().users(),
            0,
            "failures cost no memory"
        );
    }
}

#[test]
fn what_is_kept_for_an_idle_user_is_small() {
    assert!(
        size_of::<Registration>() <= 200,
        "{}",
        size_of::<Registration>()
    );
    assert!(size_of::<Caller>() <= 320, "{}", size_of::<Caller>());
}

/// Sends one request to a fresh server; the statuses of what it answers.
fn answers(pair: &mut Pair, request: &str) -> Vec<String> {
    let mut sent = Sent(Vec::new());
    let source = Source {
        flow: &9,
        peer: "127.0.0.2:40000".parse().unwrap(),
        interface: 0,
    };
    pair.server
        .receive(pair.now, source, request.as_bytes(), &mut sent);
    let status = |bytes: &Vec<u8>| Message::parse(bytes).unwrap().status().unwrap().to_string();
    sent.0.iter().map(status).collect()
}

fn request(method: &str, uri: &str, headers: &str) -> String {
    format!(
        "{method} {uri} SIP/2.0\r\nVia: SIP/2.0/UDP 127.0.0.2;branch=z9hG4bKx\r\nFrom: <sip:a@b>;tag=1\r\n\
         To: <{uri}>\r\nCall-ID: c\r\nCSeq: 1 {method}\r\n{headers}Content-Length: 0\r\n\r\n"
    )
}

#[test]
fn requests_that_cannot_be_served_are_refused() {
    let user = "sip:u00000001@hopbench.test";
    for (method, uri, headers, expected) in [
        ("OPTIONS", user, "", vec!["200"]),
        ("OPTIONS", user, "Require: 100rel\r\n", vec!["420"]),
        ("MESSAGE", user, "", vec!["405"]),
        ("FROBNICATE", user, "", vec!["501"]),
        ("BYE", user, "", vec!["481"]),
        (
            "BYE",
            "sip:u00000001@hopbench.test;tag=0000000000000000",
            "",
            vec!["481"],
        ),
        ("CANCEL", user, "", vec!["481"]),
        ("ACK", user, "", vec![]),
        ("ACK", user, "Call-ID: twice\r\n", vec![]),
        ("INVITE", "sip:nobody@hopbench.test", "", vec!["404"]),
        ("INVITE", "sip:u00000001@elsewhere.test", "", vec!["404"]),
        ("INVITE", "tel:+1", "", vec!["416"]),
        ("INVITE", user, "Call-ID: twice\r\n", vec!["400"]),
        ("REGISTER", "sip:elsewhere.test", "", vec!["404"]),
        ("REGISTER", "sip:hopbench.test", "", vec!["401"]),
        (
            "REGISTER",
            "sip:hopbench.test",
            "Authorization: Digest nonsense\r\n",
            vec!["401"],
        ),
    ] {
        let mut pair = Pair::new(Reliability::Stream, perfect(), |_| {});
        let text = request(method, uri, headers);
        assert_eq!(answers(&mut pair, &text), expected, "{text}");
    }
    let mut pair = Pair::new(Reliability::Stream, perfect(), |_| {});
    let text = request("OPTIONS", user, "").replacen("SIP/2.0", "SIP/7.0", 1);
    assert_eq!(answers(&mut pair, &text), ["505"]);
    assert!(answers(&mut pair, "SIP/2.0 200 OK\r\n\r\n").is_empty());
    assert!(answers(&mut pair, "garbage\r\n\r\n").is_empty());
    assert_eq!(
        (
            pair.server.counters().malformed,
            pair.server.counters().ignored
        ),
        (2, 1)
    );
}

#[test]
fn invites_are_answered_in_the_form_that_they_ask_for() {
    let uri = "sip:answer@hopbench.test";
    let long = format!("X: {}\r\n", "x".repeat(8_192));
    let exchange = |headers: &str, body: &str| {
        let mut pair = Pair::new(Reliability::Stream, perfect(), |_| {});
        let text =
            request("INVITE", uri, headers).replace("Content-Length: 0", "Content-Length: 3");
        let mut sent = Sent(Vec::new());
        let source = Source {
            flow: &9,
            peer: "127.0.0.2:40000".parse().unwrap(),
            interface: 0,
        };
        let bytes = [text.as_bytes(), body.as_bytes()].concat();
        pair.server.receive(pair.now, source, &bytes, &mut sent);
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        sent.0.into_iter().map(text).collect::<Vec<_>>()
    };
    for (headers, status) in [
        ("c: Application/SDP ;x=y\r\nTimestamp: 5.4\r\n", "100"),
        ("Content-Type: text/plain\r\n", "415"),
        ("", "415"),
        (&long, "513"),
    ] {
        let answers = exchange(headers, "v=0");
        let start = format!("SIP/2.0 {status} ");
        assert!(answers[0].starts_with(&start), "{headers}: {}", answers[0]);
        assert_eq!(
            answers[0].contains("\r\nTimestamp: 5.4\r\n"),
            status == "100"
        );
        let accept = "\r\nAccept: application/sdp\r\n";
        assert_eq!(answers[0].contains(accept), status == "415");
        if let Some(answer) = answers.get(2) {
            assert!(answer.contains("\r\nAllow: INVITE, "), "{answer}");
        }
    }
}

#[test]
fn calls_to_an_own_address_are_answered() {
    for (own, host, status) in [
        ("127.0.0.1:5060", "127.0.0.1:5060", "200"),
        ("127.0.0.1:5060", "192.0.2.1", "404"),
        ("0.0.0.0:5060", "192.0.2.1:5060", "200"),
        ("0.0.0.0:5060", "elsewhere.test", "404"),
        ("[::]:5060", "[2001:db8::1]:5060", "200"),
        ("[::ffff:192.0.2.1]:5060", "192.0.2.1", "200"),
    ] {
        let mut pair = Pair::new(Reliability::Stream, perfect(), |config| {
            config.interfaces[0].address = own.parse().unwrap();
        });
        let invite = request("INVITE", &format!("sip:answer@{host}"), "");
        let last = answers(&mut pair, &invite).pop();
        assert_eq!(last.as_deref(), Some(status), "{own} {host}");
    }
}

#[test]
fn a_bye_out_of_order_ends_nothing() {
    for reliability in BOTH {
        let mut pair = Pair::new(reliability, perfect(), |_| {});
        let uri = "sip:answer@hopbench.test";
        let of = |method: &str, cseq: u32, tag: &str| {
            let text = request(method, uri, "");
            let text = text.replace("z9hG4bK", &format!("z9hG4bK{cseq}"));
            let text = text.replace(&format!(" 1 {method}"), &format!(" {cseq} {method}"));
            let to = text.lines().find(|line| line.starts_with("To: ")).unwrap();
            let tagged = format!("{to}{tag}");
            text.replace(to, &tagged)
        };
        let mut sent = Sent(Vec::new());
        let source = Source {
            flow: &9,
            peer: "127.0.0.2:40000".parse().unwrap(),
            interface: 0,
        };
        let invite = of("INVITE", 5, "");
        let now = pair.now;
        pair.server
            .receive(now, source, invite.as_bytes(), &mut sent);
        let answer = Message::parse(sent.0.last().unwrap()).unwrap();
        assert_eq!(answer.status(), Some(200));
        let tag = format!(";tag={}", answer.to().unwrap().tag().unwrap());
        assert_eq!(answers(&mut pair, &of("BYE", 4, &tag)), ["500"]);
        assert_eq!(pair.server.calls(), 1);
        assert_eq!(answers(&mut pair, &of("BYE", 6, &tag)), ["200"]);
        assert_eq!(pair.server.calls(), 0);
    }
}

#[test]
fn cancel_ends_a_ringing_call() {
    for reliability in BOTH {
        let ring = |config: &mut ServerConfig| config.ring = Duration::from_secs(3);
        let mut pair = Pair::new(reliability, perfect(), ring);
        let uri = "sip:answer@hopbench.test";
        assert_eq!(
            answers(&mut pair, &request("INVITE", uri, "")),
            ["100", "180"]
        );
        assert_eq!(
            answers(&mut pair, &request("INVITE", uri, "")),
            ["180"],
            "it came again"
        );
        assert_eq!(
            answers(&mut pair, &request("CANCEL", uri, "")),
            ["200", "487"]
        );
        assert_eq!(pair.server.calls(), 0);
        assert_eq!(pair.server.counters().calls_cancelled, 1);
        let again = answers(&mut pair, &request("CANCEL", uri, ""));
        let datagram = reliability == Reliability::Datagram;
        assert_eq!(again, if datagram { ["200"] } else { ["481"] });
    }
}

#[test]
fn beyond_its_bounds_the_server_answers_503() {
    let few = |config: &mut ServerConfig| config.calls_max = 1;
    let mut pair = Pair::new(Reliability::Stream, perfect(), few);
    let uri = "sip:answer@hopbench.test";
    assert_eq!(
        answers(&mut pair, &request("INVITE", uri, "")),
        ["100", "180", "200"]
    );
    let second = request("INVITE", uri, "").replace("Call-ID: c", "Call-ID: d");
    assert_eq!(answers(&mut pair, &second), ["503"]);
    assert_eq!(pair.server.counters().overloads, 1);
}

/// A REGISTER with credentials for what `nonce` and `count` say.
fn authorized(pair: &Pair, nonce: &str, count: u32, to: &str, headers: &str, cseq: u32) -> String {
    let username = pair.accounts.username(42);
    let password = pair.accounts.password(42);
    let identity = digest::Identity {
        username: &username,
        password: &password,
        method: "REGISTER",
        uri: "sip:hopbench.test",
    };
    let challenge = digest::Challenge {
        realm: "hopbench.test",
        nonce,
        opaque: None,
        algorithm: digest::Algorithm::Sha256,
        qop_auth: true,
        stale: false,
    };
    let mut line = Vec::new();
    identity.write_credentials(&mut Value::new(&mut line), &challenge, count, "cnonce");
    let line = String::from_utf8(line).unwrap();
    request(
        "REGISTER",
        "sip:hopbench.test",
        &format!("Authorization: {line}\r\n{headers}"),
    )
    .replace("To: <sip:hopbench.test>", &format!("To: <{to}>"))
    .replace("CSeq: 1", &format!("CSeq: {cseq}"))
}

fn nonce(pair: &mut Pair) -> String {
    let mut sent = Sent(Vec::new());
    let peer = "127.0.0.2:40000".parse().unwrap();
    let source = Source {
        flow: &9,
        peer,
        interface: 0,
    };
    let text = request("REGISTER", "sip:hopbench.test", "");
    pair.server
        .receive(pair.now, source, text.as_bytes(), &mut sent);
    let message = Message::parse(&sent.0[0]).unwrap();
    let challenge = digest::Challenge::choose(&message, Header::WwwAuthenticate).unwrap();
    challenge.nonce.to_owned()
}

proptest::proptest! {
    /// Whatever arrives, the server goes on and what it sends is valid.
    #[test]
    fn damaged_requests_do_no_harm(
        method in "INVITE|ACK|BYE|CANCEL|REGISTER|OPTIONS",
        at in 0..300_usize,
        length in 0..30_usize,
        insert in "[ -~\r\n\"<>;,é]{0,12}",
    ) {
        let ring = |config: &mut ServerConfig| config.ring = Duration::from_secs(3);
        let mut pair = Pair::new(Reliability::Datagram, perfect(), ring);
        let nonce = nonce(&mut pair);
        let contact = "Contact: <sip:a@b>\r\n";
        let text = match method.as_str() {
            "REGISTER" => authorized(&pair, &nonce, 1, "sip:u00000042@hopbench.test", contact, 1),
            _ => request(&method, "sip:answer@hopbench.test", contact),
        };
        let bytes = text.as_bytes();
        let (from, to) = (at.min(bytes.len()), (at + length).min(bytes.len()));
        let damaged = [&bytes[..from], insert.as_bytes(), &bytes[to..]].concat();
        let mut sent = Sent(Vec::new());
        let peer = "127.0.0.2:40000".parse().unwrap();
        let source = Source { flow: &9, peer, interface: 0 };
        pair.server.receive(pair.now, source, &damaged, &mut sent);
        pair.server.receive(pair.now, source, bytes, &mut sent);
        pair.server.timeout(pair.now + Duration::from_secs(100), &mut sent);
        for message in sent.0 {
            proptest::prop_assert!(Message::parse(&message).is_ok());
        }
    }
}
