//! The wire meter against a capture of the loopback device: every packet and every byte.
//!
//! Capturing takes the privilege `CAP_NET_RAW`. Without it the meter of one side is compared with
//! that of the other, which for TCP are two books that the kernel keeps apart.

#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used)]

use std::cell::Cell;
use std::mem::MaybeUninit;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::{Duration, Instant};

use hopbench::transport::{
    Connected, Flow, Handler, Listening, Settings, Stack, Transport, User, WireCounters, find,
};
use socket2::{Domain, Protocol, Socket, Type};

/// What a capture saw of the packets from and to one port.
struct Capture {
    socket: Socket,
    port: u16,
    seen: WireCounters,
}

impl Capture {
    /// Starts to capture; `None` without the privilege.
    fn start() -> Option<Self> {
        // A tap for one protocol sees what arrives: on the loopback, each packet once.
        let ipv4 = Protocol::from(i32::from(0x0800_u16.to_be()));
        let socket = Socket::new(Domain::PACKET, Type::DGRAM, Some(ipv4)).ok()?;
        socket.set_recv_buffer_size(1 << 20).unwrap();
        socket.set_nonblocking(true).unwrap();
        Some(Self {
            socket,
            port: 0,
            seen: WireCounters::default(),
        })
    }

    fn seen(&mut self) -> WireCounters {
        let mut buffer = [MaybeUninit::<u8>::uninit(); 65_536];
        while let Ok(bytes) = self.socket.recv(&mut buffer) {
            // SAFETY: the kernel has written the first `bytes` bytes.
            let packet = unsafe { std::slice::from_raw_parts(buffer.as_ptr().cast::<u8>(), bytes) };
            let port_at = |at: usize| u16::from_be_bytes([packet[at], packet[at + 1]]);
            if port_at(20) == self.port || port_at(22) == self.port {
                self.seen.bytes += u64::from(port_at(2)); // total length
                self.seen.packets += 1;
            }
        }
        self.seen
    }
}

#[derive(Default)]
struct Answering {
    messages: Cell<usize>,
    is_echo: bool,
}

impl Handler for Answering {
    fn message(&self, flow: &Flow, message: &[u8], _now: Instant) {
        self.messages.set(self.messages.get() + 1);
        if self.is_echo {
            flow.send(message).unwrap();
        }
    }
}

/// Both ends of a stack in this process.
struct Ends {
    server: Box<dyn Transport>,
    client: Box<dyn Transport>,
    listening: Listening,
}

impl Ends {
    async fn open(stack: &Stack, settings: &Settings) -> Self {
        let server = stack.open(settings).unwrap();
        let client = stack.open(settings).unwrap();
        let any_port = SocketAddr::from(([127, 0, 0, 1], 0));
        let echo = Rc::new(Answering {
            is_echo: true,
            ..Answering::default()
        });
        let listening = server.listen(any_port, echo).await.unwrap();
        Self {
            server,
            client,
            listening,
        }
    }

    /// Waits until both meters say the same, and the capture too: the last acknowledgement of a
    /// connection may be delayed.
    async fn agreed(&self, capture: &mut Option<Capture>) -> WireCounters {
        let deadline = Instant::now() + Duration::from_secs(20);
        loop {
            let server = self.server.wire().unwrap();
            let client = self.client.wire().unwrap();
            let seen = capture.as_mut().map_or(server, Capture::seen);
            if server == client && server == seen {
                return server;
            }
            assert!(
                Instant::now() < deadline,
                "the server counts {server:?}, the client {client:?}, the capture {seen:?}"
            );
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

async fn until(condition: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !condition() {
        assert!(Instant::now() < deadline, "it never happened");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

const MESSAGES: usize = 7;

async fn compare(stack: &str) -> WireCounters {
    let stack = find(stack).unwrap();
    let mut capture = Capture::start();
    let settings = Settings::generate(4).unwrap();
    let ends = Ends::open(stack, &settings).await;
    let target = ends.listening.local;
    if let Some(capture) = &mut capture {
        capture.port = target.port();
    }
    let handler = Rc::new(Answering::default());
    let mut flows = Vec::new();
    for user in 0..3 {
        let handler: Rc<dyn Handler> = handler.clone();
        let connected = ends.client.connect(User(user), target, handler).await;
        let Connected { flow, .. } = connected.unwrap();
        flows.push(flow);
    }
    let idle = ends.agreed(&mut capture).await;
    if !stack.is_stream() && stack.tunnel.is_none() {
        assert_eq!(idle, WireCounters::default());
    }
    let body = "x".repeat(900);
    let message = format!("OPTIONS sip:a SIP/2.0\r\nContent-Length: 900\r\n\r\n{body}");
    for flow in &flows {
        for _ in 0..MESSAGES {
            flow.send(message.as_bytes()).unwrap();
        }
    }
    until(|| handler.messages.get() == flows.len() * MESSAGES).await;
    let steady = ends.agreed(&mut capture).await.since(idle);
    let sip_bytes = (2 * flows.len() * MESSAGES * message.len()) as u64;
    assert!(steady.bytes > sip_bytes, "headers are counted");

    // Of the goodbye some packets may be missed, and none is invented.
    flows.pop().unwrap().close();
    tokio::time::sleep(Duration::from_millis(60)).await;
    let server = ends.server.wire().unwrap();
    if let Some(capture) = &mut capture {
        let missed = capture.seen().packets.checked_sub(server.packets);
        assert!(missed.is_some_and(|missed| missed <= 3), "{missed:?}");
    }
    steady
}

/// Runs a comparison on a worker.
fn agrees_with_a_capture(stack: &str) -> WireCounters {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    tokio::task::LocalSet::new().block_on(&runtime, compare(stack))
}

#[test]
fn datagrams() {
    let steady = agrees_with_a_capture("udp");
    let messages = 2 * 3 * MESSAGES as u64;
    assert_eq!(steady.packets, messages);
    // 46 bytes of header and 900 of body behind 20 + 8 bytes of IPv4 and UDP.
    assert_eq!(steady.bytes, messages * (946 + 28));
}

#[test]
fn tunnels() {
    let clear = agrees_with_a_capture("udp@clear");
    let wireguard = agrees_with_a_capture("udp@wireguard");
    assert!(wireguard.bytes > clear.bytes);
}

#[test]
fn streams_in_tunnels() {
    let clear = agrees_with_a_capture("tcp@clear");
    let wireguard = agrees_with_a_capture("tcp@wireguard");
    assert!(wireguard.bytes > clear.bytes);
}

#[test]
fn tcp_connections() {
    agrees_with_a_capture("tcp");
}

#[test]
fn tls_connections() {
    agrees_with_a_capture("tls");
    agrees_with_a_capture("mtls");
}
