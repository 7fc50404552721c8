//! What batching saves a server: bursts of SIP messages of 700 bytes from as many peers, each
//! answered by another, with one datagram in each system call and with several.
//!
//! The time is the processor time of the server alone: its turns of the runtime, its system calls,
//! and what the kernel does within them, which on loopback includes the way to the peer. Reading
//! that clock adds a third of a microsecond to each burst.

use std::future::poll_fn;
use std::hint::black_box;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::task::Poll;
use std::time::Duration;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use hopbench::measure::cpu;
use hopbench::net::{
    Batching, DatagramNetwork, DatagramSocket, Kernel, SocketBuffers, UdpPort, WireMeter,
};
use tokio::runtime::Runtime;

const MESSAGE: [u8; 700] = [b'x'; 700];

/// Datagrams that wait when the server gets its turn.
const BURSTS: [usize; 3] = [1, 8, 32];

const LOOPBACK: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

struct Exchange {
    runtime: Runtime,
    server: UdpPort,
    peers: Vec<UdpSocket>,
}

impl Exchange {
    fn new(batching: Batching, burst: usize) -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .expect("a runtime");
        let kernel = Kernel {
            connect_limit: Duration::ZERO,
            share_port: false,
            source: None,
            device: None,
            batching,
            buffers: SocketBuffers::default(),
            meter: WireMeter::default(),
        };
        let server = {
            let _entered = runtime.enter();
            kernel.bind(LOOPBACK).expect("a free port")
        };
        let peer = |_| {
            let peer = UdpSocket::bind(LOOPBACK).expect("a free port");
            peer.connect(server.bound()).expect("it is bound");
            peer
        };
        Self {
            peers: (0..burst).map(peer).collect(),
            runtime,
            server,
        }
    }

    /// The processor time that the server's part in one burst took.
    fn run(&self) -> Duration {
        for peer in &self.peers {
            peer.send(&MESSAGE).expect("the server is there");
        }
        let started_ns = cpu::thread_ns();
        self.runtime.block_on(self.answer());
        let took = Duration::from_nanos(cpu::thread_ns() - started_ns);
        let mut answer = [0; MESSAGE.len()];
        for peer in &self.peers {
            let answer_bytes = peer.recv(&mut answer).expect("an answer that waits");
            assert_eq!(answer_bytes, MESSAGE.len());
        }
        took
    }

    async fn answer(&self) {
        let mut answered = 0;
        poll_fn(|cx| {
            let driven = self.server.poll_drive(cx, &mut |peer, message| {
                self.server.send(peer, black_box(message));
                answered += 1;
            });
            assert!(driven.is_pending(), "a server's socket does not fail");
            if answered < self.peers.len() {
                Poll::Pending
            } else {
                Poll::Ready(())
            }
        })
        .await;
    }
}

fn bursts(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("batching");
    for burst in BURSTS {
        group.throughput(Throughput::Elements(burst as u64));
        for (name, batching) in [("off", Batching::Off), ("on", Batching::On)] {
            let exchange = Exchange::new(batching, burst);
            group.bench_function(BenchmarkId::new(name, burst), |bencher| {
                bencher.iter_custom(|times| (0..times).map(|_| exchange.run()).sum());
            });
            assert_eq!(exchange.server.counters().unsent, 0);
        }
    }
    group.finish();
}

criterion_group! {
    name = benches;
    config = Criterion::default()
        .warm_up_time(Duration::from_millis(500))
        .measurement_time(Duration::from_millis(2_000))
        .sample_size(40);
    targets = bursts
}
criterion_main!(benches);
