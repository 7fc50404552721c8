//! What a tunnel costs for each packet: one SIP message of 700 bytes protected and unprotected
//! again, without sockets. Under it the bare cipher.

use std::hint::black_box;
use std::net::SocketAddrV4;
use std::time::{Duration, Instant};

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use hopbench::tunnel::{
    Clear, IpPacket, PACKET_ROOM_BYTES, Protection, SCRATCH_BYTES, SERVER, SIP_PORT, Tunnel,
    TunnelOptions, Wireguard, WireguardKeys, user_address, write_udp,
};
use ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, Nonce, UnboundKey};

const MESSAGE_BYTES: usize = 700;

fn packet() -> Vec<u8> {
    let mut packet = vec![0; SCRATCH_BYTES];
    let user = SocketAddrV4::new(user_address(0), SIP_PORT);
    let server = SocketAddrV4::new(SERVER, SIP_PORT);
    let bytes = write_udp(&mut packet, user, server, &[b'x'; MESSAGE_BYTES]);
    packet.truncate(bytes);
    packet
}

fn round_trip<P: Protection>(criterion: &mut Criterion, protection: &P) {
    // One reading of the clock for all packets: what is benched takes the time as an argument.
    let now = Instant::now();
    let (mut client, mut server) = (protection.initiator(0, now), protection.responder(0, now));
    let mut scratch = vec![0; SCRATCH_BYTES];
    let mut received = vec![0; SCRATCH_BYTES];
    let mut datagram = Vec::with_capacity(SCRATCH_BYTES);
    establish(&mut client, &mut server, now);

    let packet = packet();
    let mut outgoing = packet.clone();
    outgoing.resize(packet.len() + PACKET_ROOM_BYTES, 0);
    let mut group = criterion.benchmark_group("tunnel");
    group.throughput(Throughput::Bytes(packet.len() as u64));
    group.bench_function(P::NAME, |bencher| {
        bencher.iter(|| {
            let outgoing = IpPacket::new(black_box(&mut outgoing), packet.len());
            client.send(outgoing, now, &mut scratch, &mut |bytes| {
                datagram.clear();
                datagram.extend_from_slice(bytes);
            });
            let arrived = server.receive(&datagram, now, &mut received, &mut |_| {});
            assert_eq!(
                arrived.map(|packet| packet.map(<[u8]>::len)),
                Ok(Some(packet.len()))
            );
        });
    });
    group.finish();
}

/// Passes datagrams to and fro until neither end has anything to say.
fn establish<T: Tunnel>(client: &mut T, server: &mut T, now: Instant) {
    let mut scratch = vec![0; SCRATCH_BYTES];
    let mut flight = Vec::new();
    client.initiate(now, &mut scratch, &mut |bytes| flight.push(bytes.to_vec()));
    let (mut from, mut to) = (client, server);
    while !flight.is_empty() {
        let mut answers = Vec::new();
        for datagram in flight {
            to.receive(&datagram, now, &mut scratch, &mut |bytes| {
                answers.push(bytes.to_vec())
            })
            .expect("an authentic handshake");
        }
        flight = answers;
        std::mem::swap(&mut from, &mut to);
    }
    assert!(from.is_established() && to.is_established());
}

fn tunnels(criterion: &mut Criterion) {
    round_trip(criterion, &Clear);
    let keys = WireguardKeys {
        seed: [7; 32],
        peers: 1,
    };
    round_trip(criterion, &Wireguard::new(keys, &TunnelOptions::default()));
}

/// One seal; opening costs about the same again.
fn cipher_floor(criterion: &mut Criterion) {
    let key = UnboundKey::new(&CHACHA20_POLY1305, &[7; 32]).expect("32 bytes");
    let key = LessSafeKey::new(key);
    let mut packet = packet();
    let mut counter = 0_u64;
    let mut group = criterion.benchmark_group("tunnel");
    group.throughput(Throughput::Bytes(packet.len() as u64));
    group.bench_function("floor: one ChaCha20-Poly1305 seal", |bencher| {
        bencher.iter(|| {
            counter += 1;
            let mut nonce = [0; 12];
            nonce[4..].copy_from_slice(&counter.to_le_bytes());
            let nonce = Nonce::assume_unique_for_key(nonce);
            key.seal_in_place_separate_tag(nonce, Aad::empty(), black_box(&mut packet))
        });
    });
    group.finish();
}

criterion_group! {
    name = benches;
    config = Criterion::default()
        .warm_up_time(Duration::from_millis(500))
        .measurement_time(Duration::from_millis(1_500))
        .sample_size(20);
    targets = tunnels, cipher_floor
}
criterion_main!(benches);
