//! The contract of [`Transport`], asserted for every row of the registry.
//!
//! A new carrier is tested by its row in [`EXPECTATIONS`]; nothing else is written for it. Bytes
//! that are no message are sent with [`Flow::send`], which does not look at what it carries, and
//! from raw sockets below the stack.

use std::cell::RefCell;
use std::net::{Ipv4Addr, SocketAddr};
use std::rc::Rc;
use std::sync::OnceLock;
use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::net::{TcpStream, UdpSocket};
use tokio::sync::Notify;

use super::*;
use crate::sip::framing::{FramingError, MAX_MESSAGE_BYTES};

/// What differs between stacks.
struct Expectation {
    stack: &'static str,
    /// The longest message that arrives; a longer one is refused.
    longest_message_bytes: usize,
    /// What a client sees when nobody listens at the target.
    nobody: Nobody,
    /// Whether [`Phases::security_handshake`] is measured.
    handshake: bool,
    /// What a server sees of a peer that vanishes without closing.
    vanished: Option<Vanished>,
    /// The server's address as SIP sees it, where that is another than the one it listens on.
    inner_server: Option<&'static str>,
}

impl Expectation {
    /// The settings that make a difference: what puts no datagrams on the wire has none to batch.
    fn batching(&self) -> &'static [Batching] {
        if self.stack.starts_with("udp") || self.stack.contains('@') {
            &[Batching::Off, Batching::On]
        } else {
            &[Batching::Off]
        }
    }
}

#[derive(Debug, PartialEq)]
enum Nobody {
    /// Connecting fails.
    Refused,
    /// Nothing tells: the flow opens, and what is sent is lost.
    Unnoticed,
}

#[derive(Debug, PartialEq)]
enum Vanished {
    /// TCP closed is all that there is to see.
    Closed,
    /// TLS knows that the goodbye is missing.
    Broken,
}

const EXPECTATIONS: &[Expectation] = &[
    Expectation {
        stack: "udp",
        longest_message_bytes: 65_507,
        nobody: Nobody::Unnoticed,
        handshake: false,
        vanished: None,
        inner_server: None,
    },
    Expectation {
        stack: "tcp",
        longest_message_bytes: MAX_MESSAGE_BYTES,
        nobody: Nobody::Refused,
        handshake: false,
        vanished: Some(Vanished::Closed),
        inner_server: None,
    },
    Expectation {
        stack: "tls",
        longest_message_bytes: MAX_MESSAGE_BYTES,
        nobody: Nobody::Refused,
        handshake: true,
        vanished: Some(Vanished::Broken),
        inner_server: None,
    },
    Expectation {
        stack: "mtls",
        longest_message_bytes: MAX_MESSAGE_BYTES,
        nobody: Nobody::Refused,
        handshake: true,
        vanished: Some(Vanished::Broken),
        inner_server: None,
    },
    Expectation {
        stack: "udp@clear",
        longest_message_bytes: 65_507 - 28 - 8,
        nobody: Nobody::Unnoticed,
        handshake: false,
        vanished: None,
        inner_server: Some("10.0.0.1:5060"),
    },
    Expectation {
        stack: "udp@wireguard",
        longest_message_bytes: 65_507 - 28 - 32,
        nobody: Nobody::Refused,
        handshake: true,
        vanished: None,
        inner_server: Some("10.0.0.1:5060"),
    },
];

const LOOPBACK: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

/// Users that exist; the next number is a stranger's.
const USERS: u32 = 100;

/// Everything that is awaited happens at once or never: this only ends a test that failed.
const PATIENCE: Duration = Duration::from_secs(20);

fn settings() -> &'static Settings {
    static SETTINGS: OnceLock<Settings> = OnceLock::new();
    SETTINGS.get_or_init(|| Settings::generate(USERS).unwrap())
}

fn on_worker(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    tokio::task::LocalSet::new().block_on(&runtime, test);
}

fn for_every_stack(test: impl AsyncFn(Hop)) {
    assert_eq!(
        stacks().iter().map(|stack| stack.name).collect::<Vec<_>>(),
        EXPECTATIONS.iter().map(|row| row.stack).collect::<Vec<_>>(),
        "every stack has its expectations"
    );
    for expected in EXPECTATIONS {
        for batching in expected.batching() {
            println!("{} with batching {batching:?}", expected.stack);
            let settings = Settings {
                batching: *batching,
                ..settings().clone()
            };
            on_worker(async { test(Hop::open_with(expected, &settings).await).await });
        }
    }
}

/// What a handler was told, in order.
#[derive(Clone, Debug)]
enum Event {
    Opened(u64),
    Message(Vec<u8>),
    Closed(u64, CloseReason),
    Refused(String),
}

/// Remembers what it is told; as a server it sends every message back.
#[derive(Default)]
struct Recorder {
    echo: bool,
    events: RefCell<Vec<Event>>,
    changed: Notify,
}

impl Recorder {
    fn record(&self, event: Event) {
        self.events.borrow_mut().push(event);
        self.changed.notify_one();
    }

    /// What `find` finds among the events, as soon as it does.
    async fn until<T>(&self, what: &str, find: impl Fn(&[Event]) -> Option<T>) -> T {
        let found = async {
            loop {
                if let Some(found) = find(&self.events.borrow()) {
                    return found;
                }
                self.changed.notified().await;
            }
        };
        match tokio::time::timeout(PATIENCE, found).await {
            Ok(found) => found,
            Err(_) => panic!("expected {what}, found {:?}", self.events.borrow()),
        }
    }

    async fn messages(&self, count: usize) -> Vec<Vec<u8>> {
        self.until(&format!("{count} messages"), |events| {
            let messages = messages(events);
            (messages.len() >= count).then_some(messages)
        })
        .await
    }

    async fn closed(&self, flow: u64) -> CloseReason {
        self.until("a closed flow", |events| {
            events.iter().find_map(|event| match event {
                Event::Closed(id, reason) if *id == flow => Some(reason.clone()),
                _ => None,
            })
        })
        .await
    }

    async fn refused(&self) -> String {
        self.until("a refused peer", |events| {
            events.iter().find_map(|event| match event {
                Event::Refused(reason) => Some(reason.clone()),
                _ => None,
            })
        })
        .await
    }

    fn count(&self, is_one: impl Fn(&Event) -> bool) -> usize {
        self.events
            .borrow()
            .iter()
            .filter(|event| is_one(event))
            .count()
    }
}

fn messages(events: &[Event]) -> Vec<Vec<u8>> {
    let message = |event: &Event| match event {
        Event::Message(bytes) => Some(bytes.clone()),
        _ => None,
    };
    events.iter().filter_map(message).collect()
}

impl Handler for Recorder {
    fn opened(&self, flow: &Flow) {
        self.record(Event::Opened(flow.id()));
    }

    fn message(&self, flow: &Flow, message: &[u8]) {
        if self.echo {
            flow.send(message).unwrap();
        }
        self.record(Event::Message(message.to_vec()));
    }

    fn closed(&self, flow: &Flow, reason: &CloseReason) {
        self.record(Event::Closed(flow.id(), reason.clone()));
    }

    fn refused(&self, _peer: SocketAddr, reason: &TransportError) {
        self.record(Event::Refused(reason.to_string()));
    }
}

/// A listening server of one stack, and what its clients need.
struct Hop {
    stack: &'static Stack,
    expected: &'static Expectation,
    transport: Box<dyn Transport>,
    server: Rc<Recorder>,
    listening: Listening,
}

impl Hop {
    async fn open(expected: &'static Expectation) -> Self {
        Self::open_with(expected, settings()).await
    }

    async fn open_with(expected: &'static Expectation, settings: &Settings) -> Self {
        let stack = find(expected.stack).unwrap();
        let transport = stack.open(settings).unwrap();
        let server = Rc::new(Recorder {
            echo: true,
            ..Recorder::default()
        });
        let listening = transport.listen(LOOPBACK, server.clone()).await.unwrap();
        Self {
            stack,
            expected,
            transport,
            server,
            listening,
        }
    }

    async fn connect(&self, user: u32) -> (Connected, Rc<Recorder>) {
        let client = Rc::new(Recorder::default());
        let connected = self
            .transport
            .connect(User(user), self.listening.local, client.clone())
            .await
            .unwrap();
        (connected, client)
    }

    /// A whole exchange on a new flow: the listener is alive.
    async fn assert_serves(&self, user: u32) {
        let (connected, client) = self.connect(user).await;
        let sent = message(100);
        connected.flow.send(&sent).unwrap();
        assert_eq!(client.messages(1).await, [sent]);
        connected.flow.close();
    }
}

/// A message with a body of `body_bytes`.
fn message(body_bytes: usize) -> Vec<u8> {
    let mut message =
        format!("MESSAGE sip:hopbench.test SIP/2.0\r\nContent-Length: {body_bytes}\r\n\r\n")
            .into_bytes();
    message.extend((0..body_bytes).map(|i| b'a' + (i % 23) as u8));
    message
}

/// A message of `bytes` in all.
fn message_of(bytes: usize) -> Vec<u8> {
    let guess = message(bytes - 100);
    let message = message(bytes - 100 + (bytes - guess.len()));
    assert_eq!(message.len(), bytes);
    message
}

#[test]
fn a_flow_is_established_and_delivers_both_ways() {
    for_every_stack(async |hop| {
        let (connected, client) = hop.connect(7).await;
        let phases = connected.phases;
        assert_eq!(phases.transport_connect.is_some(), hop.stack.is_stream());
        assert_eq!(phases.security_handshake.is_some(), hop.expected.handshake);
        let kind = hop.expected.handshake.then_some(HandshakeKind::Full);
        assert_eq!(phases.handshake_kind, kind);
        let flow = connected.flow;
        assert_eq!(flow.id(), 7);
        let server = hop
            .expected
            .inner_server
            .map(|address| address.parse().unwrap());
        assert_eq!(flow.peer(), server.unwrap_or(hop.listening.local));

        let sent = message(300);
        flow.send(&sent).unwrap();
        assert_eq!(client.messages(1).await, std::slice::from_ref(&sent));
        assert_eq!(hop.server.messages(1).await, [sent]);
        let opened = hop.server.count(|event| matches!(event, Event::Opened(0)));
        assert_eq!(opened, usize::from(hop.stack.is_stream()));
    });
}

#[test]
fn messages_arrive_one_by_one_however_they_were_written() {
    for_every_stack(async |hop| {
        let (connected, client) = hop.connect(0).await;
        let sent: Vec<_> = (0..20).map(|i| message(i * 50)).collect();
        // Queued in one wake-up, so that a stream carries them in one write.
        for message in &sent {
            connected.flow.send(message).unwrap();
        }
        assert_eq!(client.messages(20).await, sent);

        if hop.stack.is_stream() {
            let whole = message(500);
            for part in whole.chunks(60) {
                connected.flow.send(part).unwrap();
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            assert_eq!(client.messages(21).await[20], whole);
        }
    });
}

#[test]
fn keep_alives_are_no_messages() {
    for_every_stack(async |hop| {
        let (connected, client) = hop.connect(0).await;
        let sent = message(10);
        connected.flow.send(b"\r\n\r\n").unwrap();
        connected.flow.send(&sent).unwrap();
        assert_eq!(client.messages(1).await, std::slice::from_ref(&sent));
        assert_eq!(messages(&hop.server.events.borrow()), [sent]);
    });
}

#[test]
fn the_longest_message_arrives_and_a_longer_one_does_not() {
    for_every_stack(async |hop| {
        let longest_bytes = hop.expected.longest_message_bytes;
        let (connected, client) = hop.connect(0).await;
        let longest = message_of(longest_bytes);
        connected.flow.send(&longest).unwrap();
        assert!(client.messages(1).await == [longest]);

        let too_long = connected.flow.send(&message_of(longest_bytes + 1));
        if hop.stack.is_stream() {
            too_long.unwrap();
            let bytes = longest_bytes + 1;
            let garbage = CloseReason::Garbage(FramingError::MessageTooLong { bytes });
            assert_eq!(hop.server.closed(0).await, garbage);
        } else {
            let bytes = longest_bytes + 1;
            assert_eq!(too_long, Err(SendError::TooLarge { bytes }));
        }
    });
}

#[test]
fn garbage_ends_its_own_flow_at_most() {
    for_every_stack(async |hop| {
        let (bystander, bystander_events) = hop.connect(1).await;
        bystander.flow.send(&message(1)).unwrap();
        bystander_events.messages(1).await;

        let (sender, sender_events) = hop.connect(2).await;
        sender.flow.send(&[0xff; 2_000]).unwrap();
        if hop.stack.is_stream() {
            let reason = hop.server.closed(1).await;
            assert!(matches!(reason, CloseReason::Garbage(_)), "{reason:?}");
            // The server may have closed with bytes unread, which TCP tells as a reset.
            let told = sender_events.closed(2).await;
            assert!(!matches!(told, CloseReason::Local), "{told:?}");
            assert_eq!(sender.flow.send(b"x"), Err(SendError::Closed));
        }

        bystander.flow.send(&message(2)).unwrap();
        bystander_events.messages(2).await;
        hop.assert_serves(3).await;
    });
}

#[test]
fn garbage_below_the_stack_does_not_stop_the_listener() {
    for_every_stack(async |hop| {
        let (bystander, bystander_events) = hop.connect(1).await;
        bystander.flow.send(&message(1)).unwrap();
        bystander_events.messages(1).await;

        let target = hop.listening.local;
        if hop.stack.is_stream() {
            let mut raw = TcpStream::connect(target).await.unwrap();
            raw.write_all(&[0xff; 2_000]).await.unwrap();
            if hop.stack.protected {
                let reason = hop.server.refused().await;
                assert!(reason.contains("TLS handshake"), "{reason}");
            } else {
                let reason = hop.server.closed(1).await;
                assert!(matches!(reason, CloseReason::Garbage(_)), "{reason:?}");
            }
        } else {
            let raw = UdpSocket::bind(LOOPBACK).await.unwrap();
            for first in 0..=8 {
                for length in [0, 1, 7, 8, 31, 32, 64, 92, 148, 1_400] {
                    let mut garbage = vec![0xa5; length];
                    let head = [first, 0, 0, 0];
                    let head_bytes = length.min(4);
                    garbage[..head_bytes].copy_from_slice(&head[..head_bytes]);
                    raw.send_to(&garbage, target).await.unwrap();
                }
            }
            // Received in order, so before what the bystander sends next is answered.
        }

        bystander.flow.send(&message(2)).unwrap();
        bystander_events.messages(2).await;
        let dropped = hop.listening.counters().map(|lost| lost.tunnel.total());
        match (hop.stack.is_stream(), hop.stack.tunnel) {
            (true, _) => assert_eq!(dropped, None),
            (false, None) => assert_eq!(dropped, Some(0)),
            (false, Some(_)) => assert_eq!(dropped, Some(90)),
        }
        hop.assert_serves(3).await;
    });
}

#[test]
fn a_peer_that_vanishes_in_a_message_is_noticed() {
    for_every_stack(async |hop| {
        let Some(vanished) = &hop.expected.vanished else {
            return;
        };
        let start = &message(200)[..100];
        let mut raw = TcpStream::connect(hop.listening.local).await.unwrap();
        match vanished {
            Vanished::Closed => {
                raw.write_all(start).await.unwrap();
                drop(raw);
                assert_eq!(hop.server.closed(0).await, CloseReason::Peer);
            }
            Vanished::Broken => {
                let mut stream = tls::raw_client(hop.stack, settings(), raw).await.unwrap();
                stream.write_all(start).await.unwrap();
                stream.flush().await.unwrap();
                drop(stream);
                let reason = hop.server.closed(0).await;
                assert!(matches!(reason, CloseReason::Broken(_)), "{reason:?}");
            }
        }
        assert!(messages(&hop.server.events.borrow()).is_empty());
        hop.assert_serves(1).await;
    });
}

#[test]
fn closing_delivers_what_was_sent_and_tells_both_ends_once() {
    for_every_stack(async |hop| {
        let (connected, client) = hop.connect(5).await;
        let sent = message_of(60_000);
        connected.flow.send(&sent).unwrap();
        connected.flow.close();
        connected.flow.close();
        assert_eq!(connected.flow.send(b"x"), Err(SendError::Closed));
        assert!(hop.server.messages(1).await == [sent]);
        let is_closed = |event: &Event| matches!(event, Event::Closed(..));
        if hop.stack.is_stream() {
            assert_eq!(client.closed(5).await, CloseReason::Local);
            hop.server.closed(0).await;
        }
        hop.assert_serves(6).await;
        assert_eq!(client.count(is_closed), usize::from(hop.stack.is_stream()));
        let of_first = |event: &Event| matches!(event, Event::Closed(0, _));
        assert_eq!(
            hop.server.count(of_first),
            usize::from(hop.stack.is_stream())
        );
    });
}

/// Closes each flow that a message comes on.
#[derive(Default)]
struct HangsUp(Recorder);

impl Handler for HangsUp {
    fn message(&self, flow: &Flow, message: &[u8]) {
        flow.close();
        self.0.message(flow, message);
    }

    fn closed(&self, flow: &Flow, reason: &CloseReason) {
        Handler::closed(&self.0, flow, reason);
    }
}

#[test]
fn a_server_closes_one_flow_and_serves_the_others() {
    for_every_stack(async |mut hop| {
        let server = Rc::new(HangsUp::default());
        hop.listening = hop
            .transport
            .listen(LOOPBACK, server.clone())
            .await
            .unwrap();
        for user in 0..2 {
            let (connected, client) = hop.connect(user).await;
            connected.flow.send(&message(user as usize)).unwrap();
            server.0.messages(user as usize + 1).await;
            if hop.stack.is_stream() {
                assert_eq!(client.closed(user.into()).await, CloseReason::Peer);
                let closed = server.0.closed(user.into()).await;
                assert_eq!(closed, CloseReason::Local);
            }
        }
    });
}

#[test]
fn clients_are_told_when_the_server_goes_and_find_it_when_it_returns() {
    for_every_stack(async |mut hop| {
        let (connected, client) = hop.connect(5).await;
        connected.flow.send(&message(1)).unwrap();
        client.messages(1).await;

        let address = hop.listening.local;
        drop(hop.listening);
        if hop.stack.is_stream() {
            assert_eq!(client.closed(5).await, CloseReason::Peer);
            assert_eq!(hop.server.closed(0).await, CloseReason::Local);
        } else {
            connected.flow.send(&message(1)).unwrap();
        }

        hop.listening = hop
            .transport
            .listen(address, hop.server.clone())
            .await
            .unwrap();
        hop.assert_serves(5).await;
    });
}

#[test]
fn a_user_that_starts_anew_is_served() {
    for_every_stack(async |hop| {
        hop.assert_serves(5).await;
        hop.assert_serves(5).await;
    });
}

#[test]
fn a_user_who_comes_back_resumes_where_the_stack_can() {
    let mut settings = settings().clone();
    settings.tls.as_mut().unwrap().options.resumption = Resumption::Ticket;
    for expected in EXPECTATIONS {
        on_worker(async {
            let hop = Hop::open_with(expected, &settings).await;
            let resumed = match hop.stack.carrier {
                "tls" | "mtls" => HandshakeKind::Resumed,
                _ => HandshakeKind::Full,
            };
            let full = HandshakeKind::Full;
            // The ticket comes with the first message from the server.
            for (user, kind) in [(5, full), (5, resumed), (5, resumed), (6, full)] {
                let (connected, client) = hop.connect(user).await;
                let kind = expected.handshake.then_some(kind);
                let stack = expected.stack;
                assert_eq!(
                    connected.phases.handshake_kind, kind,
                    "{stack}, user {user}"
                );
                connected.flow.send(&message(100)).unwrap();
                client.messages(1).await;
                connected.flow.close();
            }
        });
    }
}

/// Passes bytes to and fro between one client and `server`, until it is told to stop; then it holds
/// both connections and says nothing.
async fn breakable_path(server: SocketAddr) -> (SocketAddr, Rc<Notify>) {
    let listener = tokio::net::TcpListener::bind(LOOPBACK).await.unwrap();
    let address = listener.local_addr().unwrap();
    let broken = Rc::new(Notify::new());
    let stop = Rc::clone(&broken);
    tokio::task::spawn_local(async move {
        let (mut near, _) = listener.accept().await.unwrap();
        let mut far = TcpStream::connect(server).await.unwrap();
        tokio::select! {
            _ = tokio::io::copy_bidirectional(&mut near, &mut far) => {}
            () = stop.notified() => {}
        }
        std::future::pending::<()>().await;
        drop((near, far));
    });
    (address, broken)
}

#[test]
fn an_unanswered_ping_ends_a_flow_and_an_answered_one_does_not() {
    for_every_stack(async |hop| {
        if !hop.stack.is_stream() {
            let (connected, _) = hop.connect(5).await;
            assert_eq!(connected.flow.ping(), Err(SendError::NoKeepAlive));
            connected.flow.require_pong();
            return hop.assert_serves(5).await;
        }
        let (target, broken) = breakable_path(hop.listening.local).await;
        let client = Rc::new(Recorder::default());
        let connected = hop.transport.connect(User(5), target, client.clone());
        let flow = connected.await.unwrap().flow;
        for round in 1..=3 {
            flow.ping().unwrap();
            // Its answer comes behind the pong.
            flow.send(&message(round)).unwrap();
            client.messages(round).await;
            flow.require_pong();
            flow.require_pong();
        }

        broken.notify_one();
        // The path takes it for sure, and passes it on no more.
        tokio::task::yield_now().await;
        flow.ping().unwrap();
        flow.require_pong();
        assert_eq!(client.closed(5).await, CloseReason::NoPong);
        assert_eq!(flow.ping(), Err(SendError::Closed));
        assert_eq!(client.messages(3).await.len(), 3);
        hop.assert_serves(6).await;
    });
}

#[test]
fn an_idle_flow_stays_usable_from_both_ends() {
    for_every_stack(async |hop| {
        let (connected, client) = hop.connect(0).await;
        connected.flow.send(&message(1)).unwrap();
        client.messages(1).await;
        tokio::time::sleep(Duration::from_millis(50)).await;
        connected.flow.send(&message(2)).unwrap();
        assert_eq!(client.messages(2).await, [message(1), message(2)]);
    });
}

#[test]
fn many_flows_do_not_mix() {
    for_every_stack(async |hop| {
        let mut flows = Vec::new();
        for user in 0..USERS {
            flows.push(hop.connect(user).await);
        }
        for (i, (connected, _)) in flows.iter().enumerate() {
            connected.flow.send(&message(i)).unwrap();
        }
        for (i, (_, client)) in flows.iter().enumerate() {
            assert_eq!(client.messages(1).await, [message(i)]);
        }
    });
}

#[test]
fn a_port_in_use_is_an_error() {
    for_every_stack(async |hop| {
        let again = hop
            .transport
            .listen(hop.listening.local, hop.server.clone())
            .await;
        let error = again.err().expect("the port is in use");
        assert!(matches!(error, TransportError::Bind { .. }), "{error}");
        assert!(error.to_string().contains("in use"), "{error}");
        hop.assert_serves(0).await;
    });
}

#[test]
fn nobody_there_is_an_error_where_it_can_be_known() {
    for_every_stack(async |mut hop| {
        let address = hop.listening.local;
        drop(hop.listening);
        let client = Rc::new(Recorder::default());
        let connected = hop
            .transport
            .connect(User(0), address, client.clone())
            .await;
        match hop.expected.nobody {
            Nobody::Refused => {
                let error = connected.expect_err("nobody is there");
                assert!(matches!(error, TransportError::Connect { .. }), "{error}");
            }
            Nobody::Unnoticed => {
                let flow = connected.unwrap().flow;
                flow.send(&message(1)).unwrap();
                tokio::task::yield_now().await;
                flow.send(&message(1)).unwrap();
            }
        }
        hop.listening = hop
            .transport
            .listen(LOOPBACK, hop.server.clone())
            .await
            .unwrap();
        hop.assert_serves(1).await;
    });
}

/// Passes datagrams to and fro between one client and `server`, except for the one at `lost`.
async fn lossy_path(server: SocketAddr, lost: usize) -> SocketAddr {
    let near = UdpSocket::bind(LOOPBACK).await.unwrap();
    let far = UdpSocket::bind(LOOPBACK).await.unwrap();
    far.connect(server).await.unwrap();
    let address = near.local_addr().unwrap();
    tokio::task::spawn_local(async move {
        let (mut up, mut down) = (vec![0; 2_000], vec![0; 2_000]);
        let mut client = None;
        for number in 0.. {
            tokio::select! {
                received = near.recv_from(&mut up) => {
                    let (bytes, from) = received.unwrap();
                    client = Some(from);
                    if number != lost {
                        far.send(&up[..bytes]).await.unwrap();
                    }
                }
                received = far.recv(&mut down) => {
                    let bytes = received.unwrap();
                    if number != lost {
                        near.send_to(&down[..bytes], client.unwrap()).await.unwrap();
                    }
                }
            }
        }
    });
    address
}

/// It takes the five seconds after which WireGuard sends an initiation again.
#[test]
fn any_datagram_of_a_tunnels_handshake_may_be_lost() {
    let expected = EXPECTATIONS.iter().find(|row| row.stack == "udp@wireguard");
    on_worker(async {
        let hop = Hop::open(expected.unwrap()).await;
        // Initiation, response, confirmation.
        let exchange = async |lost: usize| {
            let target = lossy_path(hop.listening.local, lost).await;
            let client = Rc::new(Recorder::default());
            let user = User(lost.try_into().unwrap());
            let connected = hop.transport.connect(user, target, client.clone()).await;
            let connected = connected.unwrap();
            let took = connected.phases.security_handshake.unwrap();
            // Whoever lacks the confirmation takes the first packet for one.
            assert!(lost == 2 || took >= Duration::from_secs(5), "{took:?}");
            connected.flow.send(&message(100)).unwrap();
            assert_eq!(client.messages(1).await, [message(100)]);
        };
        tokio::join!(exchange(0), exchange(1), exchange(2));
    });
}

/// A peer that accepts packets and says nothing.
#[test]
fn a_silent_server_is_given_up_within_the_limit() {
    for expected in EXPECTATIONS.iter().filter(|row| row.handshake) {
        on_worker(async {
            let stack = find(expected.stack).unwrap();
            let limits = Limits {
                handshake: Duration::from_millis(100),
                ..Limits::default()
            };
            let impatient = Settings {
                limits,
                ..settings().clone()
            };
            let tcp = tokio::net::TcpListener::bind(LOOPBACK).await.unwrap();
            let udp = UdpSocket::bind(LOOPBACK).await.unwrap();
            let target = if stack.is_stream() {
                tcp.local_addr()
            } else {
                udp.local_addr()
            };
            let transport = stack.open(&impatient).unwrap();
            let client = Rc::new(Recorder::default());
            let connected = transport.connect(User(0), target.unwrap(), client).await;
            let error = connected.expect_err("nobody answers");
            assert!(matches!(error, TransportError::TimedOut { .. }), "{error}");
        });
    }
}

/// A client whose credentials the server, or who finds that the server's, are wrong.
#[test]
fn wrong_credentials_are_refused() {
    struct Case {
        what: &'static str,
        client: &'static str,
        server: &'static str,
        client_settings: fn(&mut Settings),
        user: u32,
        expected: &'static str,
    }
    fn tls(settings: &mut Settings) -> &mut TlsSettings {
        settings.tls.as_mut().unwrap()
    }
    fn same(_: &mut Settings) {}
    fn wrong_ca(settings: &mut Settings) {
        tls(settings).ca_pem = TestAuthority::generate().unwrap().ca_pem();
    }
    fn wrong_name(settings: &mut Settings) {
        tls(settings).server_name = "another.test".to_owned();
    }
    fn strange_client(settings: &mut Settings) {
        let stranger = TestAuthority::generate().unwrap();
        tls(settings).client = Some(stranger.client("stranger.test").unwrap());
    }
    fn wrong_seed(settings: &mut Settings) {
        settings.wireguard = Some(WireguardKeys::generate(USERS));
        settings.limits.handshake = Duration::from_millis(100);
    }
    fn impatient(settings: &mut Settings) {
        settings.limits.handshake = Duration::from_millis(100);
    }
    let case = |what, client, server, client_settings, user, expected| Case {
        what,
        client,
        server,
        client_settings,
        user,
        expected,
    };
    #[rustfmt::skip]
    let cases = [
        case("wrong CA", "tls", "tls", wrong_ca as fn(&mut Settings), 0, "not signed by a trusted authority"),
        case("wrong CA", "mtls", "mtls", wrong_ca, 0, "not signed by a trusted authority"),
        case("wrong name", "tls", "tls", wrong_name, 0, "for another name"),
        case("wrong name", "mtls", "mtls", wrong_name, 0, "for another name"),
        case("no client certificate", "tls", "mtls", same, 0, "the server requires a client certificate; use mtls (received fatal alert: CertificateRequired)"),
        case("strange client certificate", "mtls", "mtls", strange_client, 0, "the peer does not trust the authority that signed our certificate (received fatal alert: UnknownCA)"),
        case("wrong server key", "udp@wireguard", "udp@wireguard", wrong_seed, 0, "WireGuard handshake"),
        case("unknown user key", "udp@wireguard", "udp@wireguard", impatient, USERS, "WireGuard handshake"),
    ];
    for case in cases {
        on_worker(async {
            let expected = EXPECTATIONS.iter().find(|row| row.stack == case.server);
            let hop = Hop::open(expected.unwrap()).await;
            let mut client_settings = settings().clone();
            (case.client_settings)(&mut client_settings);
            let transport = find(case.client).unwrap().open(&client_settings).unwrap();
            let client = Rc::new(Recorder::default());
            let target = hop.listening.local;
            let connected = transport
                .connect(User(case.user), target, client.clone())
                .await;
            // Over TLS 1.3 a client learns that its certificate is refused after it has connected.
            let reason = match connected {
                Err(error) => error.to_string(),
                Ok(_) => match client.closed(case.user.into()).await {
                    CloseReason::Broken(reason) => reason,
                    other => panic!("{}: expected a broken flow, found {other:?}", case.what),
                },
            };
            assert!(
                reason.contains(case.expected),
                "{} over {}: {reason}",
                case.what,
                case.client
            );
            if hop.stack.is_stream() {
                hop.server.refused().await;
            }
            assert_eq!(
                hop.server.count(|event| matches!(event, Event::Opened(_))),
                0
            );
            hop.assert_serves(1).await;
        });
    }
}

#[test]
fn missing_credentials_are_named() {
    for stack in stacks().iter().filter(|stack| stack.protected) {
        let error = stack
            .open(&Settings::default())
            .err()
            .expect("nothing to open it with");
        assert!(matches!(error, TransportError::Credentials(_)), "{error}");
    }
    on_worker(async {
        let mut without = settings().clone();
        let tls = without.tls.as_mut().unwrap();
        (tls.server, tls.client) = (None, None);
        let transport = find("mtls").unwrap().open(&without).unwrap();
        let handler = Rc::new(Recorder::default());
        let listening = transport.listen(LOOPBACK, handler.clone()).await;
        let error = listening.err().expect("no certificate").to_string();
        assert!(error.contains("a server needs a certificate"), "{error}");
        let hop = Hop::open(&EXPECTATIONS[3]).await;
        let connected = transport
            .connect(User(0), hop.listening.local, handler)
            .await;
        let error = connected.expect_err("no certificate").to_string();
        assert!(error.contains("client needs a certificate"), "{error}");
    });
}
