//! What tunnels cost, without sockets: protecting a packet and taking it out again, a handshake, and
//! peers that do nothing. Beside ours, in the same run: the control without cryptography, boringtun
//! without what is around it, and the ciphers alone, which are the floor.

use std::hint::black_box;
use std::net::{SocketAddr, SocketAddrV4};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use boringtun::noise::rate_limiter::RateLimiter;
use boringtun::noise::{Tunn, TunnResult};
use boringtun::x25519::{PublicKey, StaticSecret};
use criterion::measurement::WallTime;
use criterion::{
    BatchSize, BenchmarkGroup, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main,
};
use hopbench::tunnel::{
    Clear, Endpoint, Gateway, IP_UDP_HEADER_BYTES, Initiator, IpPacket, PACKET_ROOM_BYTES,
    Protection, SCRATCH_BYTES, SERVER, SIP_PORT, TunnelOptions, Wireguard, WireguardKeys,
    user_address, write_udp,
};
use ring::aead::{
    AES_128_GCM, Aad, Algorithm, CHACHA20_POLY1305, LessSafeKey, Nonce, Tag, UnboundKey,
};

/// A SIP request, and one that about fills a path.
const PACKET_BYTES: [usize; 2] = [700, 1_300];

const IDLE_PEERS: [u32; 3] = [1, 1_000, 10_000];

/// Datagrams that are made before the clock runs: few enough that they stay in the cache, and within
/// the replay window.
const BATCH: BatchSize = BatchSize::NumIterations(64);

fn outer() -> SocketAddr {
    SocketAddr::from(([192, 0, 2, 1], 51_820))
}

fn packet(bytes: usize) -> Vec<u8> {
    let mut packet = vec![0; SCRATCH_BYTES];
    let user = SocketAddrV4::new(user_address(0), SIP_PORT);
    let server = SocketAddrV4::new(SERVER, SIP_PORT);
    let payload = vec![b'x'; bytes - IP_UDP_HEADER_BYTES];
    let written = write_udp(&mut packet, user, server, &payload);
    assert_eq!(written, bytes);
    packet.truncate(written);
    packet
}

fn with_room(mut packet: Vec<u8>) -> Vec<u8> {
    packet.resize(packet.len() + PACKET_ROOM_BYTES, 0);
    packet
}

fn scratch() -> Vec<u8> {
    vec![0; SCRATCH_BYTES]
}

fn wireguard(peers: u32) -> Rc<Wireguard> {
    let keys = WireguardKeys {
        seed: [7; 32],
        peers,
    };
    Rc::new(Wireguard::new(keys, &TunnelOptions::default()))
}

/// A user and the server, with an association.
fn established<P: Protection>(protection: &Rc<P>, now: Instant) -> (Initiator<P>, Gateway<P>) {
    let mut user = Initiator::new(&**protection, 0, outer(), now);
    let mut server = Gateway::new(Rc::clone(protection));
    complete_handshake(&mut user, &mut server, now, &mut scratch());
    (user, server)
}

/// A fresh datagram with `packet`, which has room behind its `bytes`.
fn datagram<P: Protection>(
    user: &mut Initiator<P>,
    packet: &mut [u8],
    bytes: usize,
    now: Instant,
    scratch: &mut [u8],
) -> Vec<u8> {
    let mut datagram = Vec::new();
    let packet = IpPacket::new(packet, bytes);
    user.send(packet, now, scratch, &mut |_, bytes| {
        datagram = bytes.to_vec()
    })
    .expect("a packet for the server");
    datagram
}

/// Passes datagrams to and fro until neither side has anything to say.
fn complete_handshake<P: Protection>(
    user: &mut Initiator<P>,
    server: &mut Gateway<P>,
    now: Instant,
    scratch: &mut [u8],
) {
    let mut to_server = Vec::new();
    let mut to_user = Vec::new();
    user.initiate(now, scratch, &mut |_, bytes| to_server.push(bytes.to_vec()));
    while let Some(datagram) = to_server.pop() {
        server.receive(&datagram, outer(), now, scratch, &mut |_, bytes| {
            to_user.push(bytes.to_vec());
        });
        while let Some(datagram) = to_user.pop() {
            user.receive(&datagram, outer(), now, scratch, &mut |_, bytes| {
                to_server.push(bytes.to_vec());
            });
        }
    }
    assert!(user.is_established());
}

/// boringtun's ends without what is around them.
fn bare_user() -> Tunn {
    let server = PublicKey::from(&bare_secret(1));
    Tunn::new(bare_secret(2), server, None, None, 0, Some(unlimited(2)))
}

fn bare_server() -> Tunn {
    let user = PublicKey::from(&bare_secret(2));
    Tunn::new(bare_secret(1), user, None, None, 0, Some(unlimited(1)))
}

fn bare_secret(seed: u8) -> StaticSecret {
    StaticSecret::from([seed; 32])
}

fn unlimited(seed: u8) -> Arc<RateLimiter> {
    let public = PublicKey::from(&bare_secret(seed));
    Arc::new(RateLimiter::new(&public, u64::MAX))
}

fn bare_established() -> (Tunn, Tunn) {
    let (mut user, mut server) = (bare_user(), bare_server());
    bare_handshake(&mut user, &mut server, &mut scratch());
    (user, server)
}

fn written(result: TunnResult<'_>) -> Vec<u8> {
    match result {
        TunnResult::WriteToNetwork(datagram) => datagram.to_vec(),
        other => panic!("expected a datagram, found {other:?}"),
    }
}

fn bare_handshake(user: &mut Tunn, server: &mut Tunn, scratch: &mut [u8]) {
    let initiation = written(user.format_handshake_initiation(scratch, false));
    let response = written(server.decapsulate(None, &initiation, scratch));
    let confirmation = written(user.decapsulate(None, &response, scratch));
    let confirmed = server.decapsulate(None, &confirmation, scratch);
    assert!(matches!(confirmed, TunnResult::Done));
}

fn encapsulate(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("encapsulate");
    for bytes in PACKET_BYTES {
        group.throughput(Throughput::Bytes(bytes as u64));
        encapsulate_by(&mut group, bytes, &Rc::new(Clear));
        encapsulate_by(&mut group, bytes, &wireguard(1));
        let (mut user, _) = bare_established();
        let (packet, mut scratch) = (packet(bytes), scratch());
        group.bench_function(BenchmarkId::new("bare boringtun", bytes), |bencher| {
            bencher.iter(
                || match user.encapsulate(black_box(&packet), &mut scratch) {
                    TunnResult::WriteToNetwork(datagram) => datagram.len(),
                    other => panic!("expected a datagram, found {other:?}"),
                },
            );
        });
        for (name, algorithm) in CIPHERS {
            let mut cipher = Cipher::new(algorithm);
            let mut packet = packet.clone();
            group.bench_function(
                BenchmarkId::new(format!("floor: {name}"), bytes),
                |bencher| {
                    bencher.iter(|| cipher.seal(black_box(&mut packet)));
                },
            );
        }
    }
    group.finish();
}

fn encapsulate_by<P: Protection>(
    group: &mut BenchmarkGroup<'_, WallTime>,
    bytes: usize,
    protection: &Rc<P>,
) {
    let now = Instant::now();
    let (mut user, _) = established(protection, now);
    let (mut packet, mut scratch) = (with_room(packet(bytes)), scratch());
    let sent_bytes = protection.datagram_bytes(bytes);
    group.bench_function(BenchmarkId::new(P::NAME, bytes), |bencher| {
        bencher.iter(|| {
            let packet = IpPacket::new(black_box(&mut packet), bytes);
            user.send(packet, now, &mut scratch, &mut |_, datagram| {
                assert_eq!(datagram.len(), sent_bytes);
            })
        });
    });
}

fn decapsulate(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("decapsulate");
    for bytes in PACKET_BYTES {
        group.throughput(Throughput::Bytes(bytes as u64));
        decapsulate_by(&mut group, bytes, &Rc::new(Clear));
        decapsulate_by(&mut group, bytes, &wireguard(1));
        let (mut user, mut server) = bare_established();
        let packet = packet(bytes);
        let (mut sent, mut received) = (scratch(), scratch());
        group.bench_function(BenchmarkId::new("bare boringtun", bytes), |bencher| {
            bencher.iter_batched_ref(
                || written(user.encapsulate(&packet, &mut sent)),
                |datagram| match server.decapsulate(None, datagram, &mut received) {
                    TunnResult::WriteToTunnelV4(packet, _) => assert_eq!(packet.len(), bytes),
                    other => panic!("expected a packet, found {other:?}"),
                },
                BATCH,
            );
        });
        for (name, algorithm) in CIPHERS {
            let mut cipher = Cipher::new(algorithm);
            let sealed = cipher.seal_whole(packet.clone());
            group.bench_function(
                BenchmarkId::new(format!("floor: {name}"), bytes),
                |bencher| {
                    let fresh = || sealed.clone();
                    bencher.iter_batched_ref(fresh, |sealed| cipher.open(sealed), BATCH);
                },
            );
        }
    }
    group.finish();
}

fn decapsulate_by<P: Protection>(
    group: &mut BenchmarkGroup<'_, WallTime>,
    bytes: usize,
    protection: &Rc<P>,
) {
    let now = Instant::now();
    let (mut user, mut server) = established(protection, now);
    let mut packet = with_room(packet(bytes));
    let (mut sent, mut received) = (scratch(), scratch());
    group.bench_function(BenchmarkId::new(P::NAME, bytes), |bencher| {
        bencher.iter_batched_ref(
            || datagram(&mut user, &mut packet, bytes, now, &mut sent),
            |datagram| {
                let arrived = server.receive(datagram, outer(), now, &mut received, &mut |_, _| {});
                assert_eq!(arrived.map(<[u8]>::len), Some(bytes));
            },
            BATCH,
        );
    });
}

/// Both ends of a handshake with a peer that the server knows already, from the initiation to the packet
/// that confirms it. Before the initiator is known, the server multiplies once more than boringtun alone.
fn handshake(criterion: &mut Criterion) {
    let now = Instant::now();
    let mut scratch = scratch();
    let mut group = criterion.benchmark_group("handshake");
    let protection = wireguard(1);
    let (_, mut server) = established(&protection, now);
    group.bench_function("wireguard", |bencher| {
        bencher.iter_batched_ref(
            || Initiator::new(&*protection, 0, outer(), now),
            |user| complete_handshake(user, &mut server, now, &mut scratch),
            BatchSize::SmallInput,
        );
    });
    let mut server = bare_server();
    group.bench_function("bare boringtun", |bencher| {
        bencher.iter_batched_ref(
            bare_user,
            |user| bare_handshake(user, &mut server, &mut scratch),
            BatchSize::SmallInput,
        );
    });
    group.finish();
}

/// A server with peers that do nothing: looking at its timers, and taking a packet of one of them.
/// Neither may depend on how many there are.
fn idle_peers(criterion: &mut Criterion) {
    let now = Instant::now();
    let bytes = PACKET_BYTES[0];
    let mut packet = with_room(packet(bytes));
    let (mut sent, mut received) = (scratch(), scratch());
    let mut group = criterion.benchmark_group("idle peers");
    for peers in IDLE_PEERS {
        let protection = wireguard(peers);
        let (mut user, mut server) = established(&protection, now);
        for idle in 1..peers {
            let mut idle = Initiator::new(&*protection, idle, outer(), now);
            complete_handshake(&mut idle, &mut server, now, &mut sent);
        }
        assert_eq!(server.peers(), peers as usize);
        group.bench_function(BenchmarkId::new("timers", peers), |bencher| {
            bencher.iter(|| {
                server.handle_timeout(black_box(now), &mut received, &mut |_, _| {});
                server.deadline()
            });
        });
        group.bench_function(BenchmarkId::new("packet received", peers), |bencher| {
            bencher.iter_batched_ref(
                || datagram(&mut user, &mut packet, bytes, now, &mut sent),
                |datagram| {
                    let arrived =
                        server.receive(datagram, outer(), now, &mut received, &mut |_, _| {});
                    assert_eq!(arrived.map(<[u8]>::len), Some(bytes));
                },
                BATCH,
            );
        });
    }
    group.finish();
}

const CIPHERS: [(&str, &Algorithm); 2] = [
    ("ChaCha20-Poly1305", &CHACHA20_POLY1305),
    ("AES-128-GCM", &AES_128_GCM),
];

/// What a tunnel cannot do without: ring's cipher and nothing else.
struct Cipher {
    key: LessSafeKey,
    counter: u64,
}

impl Cipher {
    fn new(algorithm: &'static Algorithm) -> Self {
        let key = UnboundKey::new(algorithm, &[7; 32][..algorithm.key_len()]);
        Self {
            key: LessSafeKey::new(key.expect("a key of the algorithm's length")),
            counter: 0,
        }
    }

    fn nonce(counter: u64) -> Nonce {
        let mut nonce = [0; 12];
        nonce[4..].copy_from_slice(&counter.to_le_bytes());
        Nonce::assume_unique_for_key(nonce)
    }

    fn seal(&mut self, packet: &mut [u8]) -> Tag {
        self.counter += 1;
        let nonce = Self::nonce(self.counter);
        self.key
            .seal_in_place_separate_tag(nonce, Aad::empty(), packet)
            .expect("a packet that the cipher can seal")
    }

    /// The packet sealed, and its tag.
    fn seal_whole(&mut self, mut packet: Vec<u8>) -> Vec<u8> {
        let tag = self.seal(&mut packet);
        packet.extend_from_slice(tag.as_ref());
        packet
    }

    /// Opens what was sealed last.
    fn open(&self, sealed: &mut [u8]) -> usize {
        self.key
            .open_in_place(Self::nonce(self.counter), Aad::empty(), sealed)
            .expect("an authentic packet")
            .len()
    }
}

criterion_group! {
    name = benches;
    config = Criterion::default()
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_secs(1))
        .sample_size(20);
    targets = encapsulate, decapsulate, handshake, idle_peers
}
criterion_main!(benches);
