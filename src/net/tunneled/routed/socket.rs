//! Datagram sockets of the kernel's inside tunnels.

use std::io;
use std::net::SocketAddr;
use std::task::{Context, Poll};

use super::Below;
use crate::net::{DatagramCounters, DatagramSocket, UdpPort};
use crate::tunnel::{IP_UDP_HEADER_BYTES, MAX_DATAGRAM_BYTES, Protection};

/// A UDP socket of the kernel's inside a tunnel or, on a server, inside all of them.
pub struct RoutedSocket<B: Below> {
    socket: UdpPort,
    max_payload_bytes: usize,
    /// Dropped after the socket, whose last datagrams still need it.
    below: B,
}

impl<B: Below> RoutedSocket<B> {
    pub(super) fn new<P: Protection>(socket: UdpPort, below: B) -> Self {
        Self {
            socket,
            // Inside, the kernel makes fragments of what is longer than its device's packets.
            max_payload_bytes: MAX_DATAGRAM_BYTES - P::OVERHEAD_BYTES - IP_UDP_HEADER_BYTES,
            below,
        }
    }
}

impl<B: Below> DatagramSocket for RoutedSocket<B> {
    fn bound(&self) -> SocketAddr {
        self.below.bound()
    }

    fn local(&self) -> SocketAddr {
        self.socket.local()
    }

    fn max_payload_bytes(&self) -> usize {
        self.max_payload_bytes
    }

    fn send(&self, peer: SocketAddr, payload: &[u8]) {
        self.socket.send(peer, payload);
    }

    fn poll_drive(
        &self,
        cx: &mut Context<'_>,
        receive: &mut dyn FnMut(SocketAddr, &[u8]),
    ) -> Poll<io::Error> {
        self.socket.poll_drive(cx, receive)
    }

    fn counters(&self) -> DatagramCounters {
        self.socket.counters().plus(self.below.counters())
    }
}
