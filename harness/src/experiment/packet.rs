//! What protecting a packet costs at least: boringtun alone, without a socket, a table of peers or a
//! message around it. Measured beside each block of a cell over WireGuard, since a machine's speed
//! changes from block to block.

use boringtun::noise::{Tunn, TunnResult};
use boringtun::x25519::{PublicKey, StaticSecret};

use super::pace::{Price, paced_ns, warm_ns};

/// Packets of each round, one right after the other, all of one tunnel.
const PACKETS: u32 = 400;
/// Tunnels that take turns at the pace of the cell, as its users do: each with keys and a window of its own.
const TUNNELS: usize = 64;
/// Bytes that WireGuard adds to an IP packet, padding aside: header and authentication tag.
const WIREGUARD_BYTES: f64 = 32.0;
/// Headers of the datagram around it.
const OUTER_BYTES: f64 = 28.0;
const IPV4_HEADER_BYTES: usize = 20;

/// Processor time of encapsulating and decapsulating one IP packet, if on the wire it has `wire_bytes`
/// with all headers, and there are so many a second.
pub(super) fn bare_protection(wire_bytes: f64, per_second: f64) -> Price {
    let inner_bytes = (wire_bytes - OUTER_BYTES - WIREGUARD_BYTES).round();
    let packet = ip_packet((inner_bytes as usize).clamp(IPV4_HEADER_BYTES, 65_000));
    let mut buffers = Buffers::new();
    let pairs = (0..TUNNELS).map(|_| Pair::handshaken(&mut buffers));
    let mut pairs: Vec<Pair> = pairs.collect();
    let warm_ns = warm_ns(PACKETS, || pairs[0].pass(&packet, &mut buffers));
    let mut turn = 0;
    let paced_ns = paced_ns(per_second, || {
        turn = (turn + 1) % TUNNELS;
        pairs[turn].pass(&packet, &mut buffers)
    });
    Price { warm_ns, paced_ns }
}

/// An IPv4 packet of this length, as far as boringtun looks at it.
fn ip_packet(bytes: usize) -> Vec<u8> {
    let mut packet = vec![0x5a; bytes];
    packet[0] = 0x45;
    let length = u16::try_from(bytes).expect("the length was limited");
    packet[2..4].copy_from_slice(&length.to_be_bytes());
    packet
}

/// Both ends of a tunnel, in memory.
struct Pair {
    sender: Tunn,
    receiver: Tunn,
}

/// Where packets are written: as in a worker, the same for all tunnels.
struct Buffers {
    sealed: Vec<u8>,
    opened: Vec<u8>,
}

impl Buffers {
    fn new() -> Self {
        Self {
            sealed: vec![0; 66_000],
            opened: vec![0; 66_000],
        }
    }
}

impl Pair {
    /// Ready to send packets one way.
    fn handshaken(buffers: &mut Buffers) -> Self {
        let secrets: [StaticSecret; 2] = std::array::from_fn(|_| {
            let bytes: [u8; 32] = rand::random();
            StaticSecret::from(bytes)
        });
        let [first, second] = &secrets;
        let end = |own: &StaticSecret, other: &StaticSecret, index| {
            Tunn::new(own.clone(), PublicKey::from(other), None, None, index, None)
        };
        let mut pair = Self {
            sender: end(first, second, 1),
            receiver: end(second, first, 2),
        };
        let mut to_receiver = network(
            pair.sender
                .format_handshake_initiation(&mut buffers.sealed, false),
        );
        // Initiation, response, and the keep-alive that confirms the keys.
        while let Some(datagram) = to_receiver {
            let answer = network(
                pair.receiver
                    .decapsulate(None, &datagram, &mut buffers.opened),
            );
            to_receiver = answer.and_then(|answer| {
                network(pair.sender.decapsulate(None, &answer, &mut buffers.sealed))
            });
        }
        pair
    }

    /// Seals a packet at one end and opens it at the other. Returns its length.
    fn pass(&mut self, packet: &[u8], buffers: &mut Buffers) -> usize {
        let sealed = self.sender.encapsulate(packet, &mut buffers.sealed);
        let TunnResult::WriteToNetwork(datagram) = sealed else {
            unreachable!("the keys are fresh");
        };
        match self
            .receiver
            .decapsulate(None, datagram, &mut buffers.opened)
        {
            TunnResult::WriteToTunnelV4(packet, _) => packet.len(),
            TunnResult::Done
            | TunnResult::Err(_)
            | TunnResult::WriteToNetwork(_)
            | TunnResult::WriteToTunnelV6(..) => unreachable!("it was sealed a moment ago"),
        }
    }
}

/// The datagram that boringtun wants to send, if it wants to.
fn network(result: TunnResult<'_>) -> Option<Vec<u8>> {
    match result {
        TunnResult::WriteToNetwork(datagram) => Some(datagram.to_vec()),
        TunnResult::Done
        | TunnResult::Err(_)
        | TunnResult::WriteToTunnelV4(..)
        | TunnResult::WriteToTunnelV6(..) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_packet_passes_whole() {
        let mut buffers = Buffers::new();
        let mut pair = Pair::handshaken(&mut buffers);
        for bytes in [IPV4_HEADER_BYTES, 700, 1_300] {
            assert_eq!(pair.pass(&ip_packet(bytes), &mut buffers), bytes);
        }
    }

    #[test]
    fn protecting_a_packet_takes_time() {
        let price = bare_protection(760.0, 10_000.0);
        assert!(price.warm_ns > 0.0 && price.paced_ns > 0.0, "{price:?}");
    }
}
