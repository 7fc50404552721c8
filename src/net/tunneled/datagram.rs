//! Datagram sockets inside tunnels.

use std::io;
use std::net::{SocketAddr, SocketAddrV4};
use std::task::{Context, Poll};
use std::time::Instant;

use super::port::TunnelPort;
use crate::net::{DatagramCounters, DatagramSocket, scratch};
use crate::tunnel::{
    DropCause, Endpoint, IP_UDP_HEADER_BYTES, IpPacket, MAX_DATAGRAM_BYTES, SIP_PORT, parse_udp,
    write_udp,
};

/// A datagram socket inside a tunnel, or, on a server, inside all of them.
pub struct TunneledSocket<E> {
    tunnel: TunnelPort<E>,
    inner: SocketAddrV4,
    max_payload_bytes: usize,
}

impl<E: Endpoint> TunneledSocket<E> {
    pub(super) fn new(tunnel: TunnelPort<E>, overhead_bytes: usize) -> Self {
        Self {
            inner: SocketAddrV4::new(tunnel.inner_address(), SIP_PORT),
            tunnel,
            max_payload_bytes: MAX_DATAGRAM_BYTES - overhead_bytes - IP_UDP_HEADER_BYTES,
        }
    }
}

impl<E: Endpoint> DatagramSocket for TunneledSocket<E> {
    fn bound(&self) -> SocketAddr {
        self.tunnel.bound()
    }

    fn local(&self) -> SocketAddr {
        self.inner.into()
    }

    fn max_payload_bytes(&self) -> usize {
        self.max_payload_bytes
    }

    fn send(&self, peer: SocketAddr, payload: &[u8]) {
        assert!(payload.len() <= self.max_payload_bytes, "the caller checks");
        let SocketAddr::V4(peer) = peer else {
            return self.tunnel.count_drop(DropCause::Misrouted);
        };
        let mut packet = scratch::take();
        let packet_bytes = write_udp(&mut packet, self.inner, peer, payload);
        let packet = IpPacket::new(&mut packet, packet_bytes);
        self.tunnel.send(packet, Instant::now());
        self.tunnel.wake_for(None);
    }

    fn poll_drive(
        &self,
        cx: &mut Context<'_>,
        receive: &mut dyn FnMut(SocketAddr, &[u8]),
    ) -> Poll<io::Error> {
        let driven = self.tunnel.poll_packets(cx, &mut |packet| {
            let udp = parse_udp(packet)?;
            if udp.destination != self.inner {
                return Err(DropCause::Misrouted);
            }
            receive(udp.source.into(), udp.payload);
            Ok(())
        });
        self.tunnel.poll_timers(cx, None);
        driven
    }

    fn counters(&self) -> DatagramCounters {
        self.tunnel.counters()
    }
}
