//! The contract of [`Transport`], asserted for every row of the registry.
//!
//! A new carrier is tested by its row in [`EXPECTATIONS`]; nothing else is written for it. Bytes
//! that are no message are sent with [`Flow::send`], which does not look at what it carries, and
//! from raw sockets below the stack.

mod delivery;
mod ending;
mod refusal;
#[cfg(target_os = "linux")]
mod routed;
mod tunnels;

use std::cell::RefCell;
use std::net::{Ipv4Addr, SocketAddr};
use std::rc::Rc;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};
use tokio::sync::Notify;

use super::*;
use crate::net::StreamNetwork;
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
            &[Batching::Off, Batching::On, Batching::Segments]
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
    Expectation {
        stack: "tcp@clear",
        longest_message_bytes: MAX_MESSAGE_BYTES,
        nobody: Nobody::Refused,
        handshake: false,
        vanished: Some(Vanished::Closed),
        inner_server: Some("10.0.0.1:5060"),
    },
    Expectation {
        stack: "tcp@wireguard",
        longest_message_bytes: MAX_MESSAGE_BYTES,
        nobody: Nobody::Refused,
        handshake: true,
        vanished: Some(Vanished::Closed),
        inner_server: Some("10.0.0.1:5060"),
    },
    Expectation {
        stack: "tls@wireguard",
        longest_message_bytes: MAX_MESSAGE_BYTES,
        nobody: Nobody::Refused,
        handshake: true,
        vanished: Some(Vanished::Broken),
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
    SETTINGS.get_or_init(|| Settings {
        inner_ip: inner_ip(),
        ..Settings::generate(USERS).unwrap()
    })
}

#[cfg(target_os = "linux")]
use routed::inner_ip;

#[cfg(not(target_os = "linux"))]
fn inner_ip() -> InnerIp {
    InnerIp::User
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
    // To those without a tunnel it makes no difference whose IP is inside.
    let is_concerned =
        |row: &&Expectation| inner_ip() == InnerIp::User || row.inner_server.is_some();
    for expected in EXPECTATIONS.iter().filter(is_concerned) {
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

    fn message(&self, flow: &Flow, message: &[u8], _now: Instant) {
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

/// A stream below what secures it.
trait RawStream: AsyncRead + AsyncWrite + Unpin {}

impl<S: AsyncRead + AsyncWrite + Unpin> RawStream for S {}

impl Hop {
    /// A stream of `user` to the server of a stream carrier, as its network has them.
    async fn raw_stream(&self, user: u32) -> Box<dyn RawStream> {
        let target = self.listening.local;
        match self.stack.tunnel {
            None => Box::new(TcpStream::connect(target).await.unwrap()),
            Some("clear") => {
                let network = tunneled::clear(settings());
                Box::new(network.connect(user, target).await.unwrap().stream)
            }
            Some("wireguard") => {
                let network = tunneled::wireguard(settings()).unwrap();
                Box::new(network.connect(user, target).await.unwrap().stream)
            }
            Some(other) => panic!("{other} is not known here"),
        }
    }

    /// Whether what reaches the server first is a datagram.
    fn takes_datagrams(&self) -> bool {
        !self.stack.is_stream() || self.stack.tunnel.is_some()
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
