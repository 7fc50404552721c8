//! UDP over IPv4 in user space, over a tunnel, over a kernel UDP socket.
//!
//! A user has an outer socket and a tunnel of its own; a server has one outer socket and a
//! [`Gateway`] for all of them.

use std::cell::RefCell;
use std::future::poll_fn;
use std::io;
use std::net::{SocketAddr, SocketAddrV4};
use std::pin::pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use super::timer::Timer;
use super::{
    DatagramCounters, DatagramNetwork, DatagramPeer, DatagramSocket, Kernel, NetError, UdpPort,
    WireMeter, scratch,
};
use crate::tunnel::{
    DropCause, Endpoint, Gateway, IP_UDP_HEADER_BYTES, Initiator, IpPacket, MAX_DATAGRAM_BYTES,
    MAX_USERS, Protection, SERVER, SIP_PORT, parse_udp, write_udp,
};

/// Networking over tunnels of one kind.
pub struct Tunneled<P> {
    kernel: Kernel,
    protection: Rc<P>,
    handshake_limit: Duration,
}

impl<P: Protection> Tunneled<P> {
    /// Tunnels over the kernel's sockets; a handshake may take `handshake_limit`.
    #[must_use]
    pub fn new(kernel: Kernel, protection: P, handshake_limit: Duration) -> Self {
        Self {
            kernel,
            protection: Rc::new(protection),
            handshake_limit,
        }
    }
}

impl<P: Protection + 'static> DatagramNetwork for Tunneled<P> {
    type Server = TunneledSocket<Gateway<P>>;
    type Client = TunneledSocket<Initiator<P>>;

    fn bind(&self, address: SocketAddr) -> Result<Self::Server, NetError> {
        let port = self.kernel.bind_port(address)?;
        let gateway = Gateway::new(Rc::clone(&self.protection));
        Ok(TunneledSocket::new(port, gateway, P::OVERHEAD_BYTES))
    }

    fn meter(&self) -> &WireMeter {
        &self.kernel.meter
    }

    async fn connect(
        &self,
        user: u32,
        target: SocketAddr,
    ) -> Result<DatagramPeer<Self::Client>, NetError> {
        if user >= MAX_USERS {
            let source = io::Error::new(
                io::ErrorKind::AddrNotAvailable,
                format!("user {user} has no inner address: there are {MAX_USERS}"),
            );
            return Err(NetError::Connect { target, source });
        }
        let port = self.kernel.connect_port(target).await?;
        let initiator = Initiator::new(&*self.protection, user, target, Instant::now());
        let socket = TunneledSocket::new(port, initiator, P::OVERHEAD_BYTES);
        // Making the keys ready is configuration; the handshake starts now.
        let started = Instant::now();
        let mut tunnel_handshake = None;
        if let Some(phase) = P::HANDSHAKE {
            tokio::time::timeout(self.handshake_limit, socket.establish())
                .await
                .map_err(|_| NetError::TimedOut {
                    phase,
                    peer: target,
                    limit: self.handshake_limit,
                })?
                .map_err(|source| NetError::Connect { target, source })?;
            tunnel_handshake = Some(started.elapsed());
        }
        Ok(DatagramPeer {
            socket,
            peer: SocketAddrV4::new(SERVER, SIP_PORT).into(),
            tunnel_handshake,
        })
    }
}

/// A UDP socket on the inner port of SIP, at either side of tunnels.
pub struct TunneledSocket<E> {
    port: UdpPort,
    endpoint: RefCell<E>,
    timer: Timer,
    inner: SocketAddrV4,
    max_payload_bytes: usize,
}

impl<E: Endpoint> TunneledSocket<E> {
    fn new(port: UdpPort, endpoint: E, overhead_bytes: usize) -> Self {
        Self {
            port,
            inner: SocketAddrV4::new(endpoint.inner_address(), SIP_PORT),
            endpoint: RefCell::new(endpoint),
            timer: Timer::default(),
            max_payload_bytes: MAX_DATAGRAM_BYTES - overhead_bytes - IP_UDP_HEADER_BYTES,
        }
    }

    fn serve_timers(&self, cx: &mut Context<'_>) {
        let deadline = || self.endpoint.borrow().deadline();
        while self.timer.poll_due(cx, deadline()) {
            self.endpoint.borrow_mut().handle_timeout(
                Instant::now(),
                &mut scratch::take(),
                &mut |to, datagram| self.port.send(to, datagram),
            );
        }
    }

    /// Passes on the payload of a UDP packet for this socket. The endpoint is not borrowed
    /// meanwhile, so that `receive` may send.
    fn deliver(
        &self,
        from: SocketAddr,
        datagram: &[u8],
        receive: &mut dyn FnMut(SocketAddr, &[u8]),
    ) {
        let mut working_space = scratch::take();
        let packet = self.endpoint.borrow_mut().receive(
            datagram,
            from,
            Instant::now(),
            &mut working_space,
            &mut |to, datagram| self.port.send(to, datagram),
        );
        let Some(packet) = packet else { return };
        match parse_udp(packet) {
            Ok(udp) if udp.destination == self.inner => receive(udp.source.into(), udp.payload),
            Ok(_) => self.endpoint.borrow_mut().count_drop(DropCause::Misrouted),
            Err(cause) => self.endpoint.borrow_mut().count_drop(cause),
        }
    }
}

impl<P: Protection> TunneledSocket<Initiator<P>> {
    /// Completes the handshake, or waits for ever; fails when the system says that the server is
    /// not there.
    async fn establish(&self) -> io::Result<()> {
        self.endpoint.borrow_mut().initiate(
            Instant::now(),
            &mut scratch::take(),
            &mut |to, datagram| self.port.send(to, datagram),
        );
        let mut failed = pin!(self.port.failed());
        poll_fn(|cx| {
            if let Poll::Ready(error) = failed.as_mut().poll(cx) {
                return Poll::Ready(Err(error));
            }
            if let Poll::Ready(error) = self.poll_drive(cx, &mut |_, _| {}) {
                return Poll::Ready(Err(error));
            }
            if self.endpoint.borrow().is_established() {
                Poll::Ready(Ok(()))
            } else {
                Poll::Pending
            }
        })
        .await
    }
}

impl<E: Endpoint> DatagramSocket for TunneledSocket<E> {
    fn bound(&self) -> SocketAddr {
        self.port.bound()
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
            return self.endpoint.borrow_mut().count_drop(DropCause::Misrouted);
        };
        let mut packet = scratch::take();
        let packet_bytes = write_udp(&mut packet, self.inner, peer, payload);
        let mut endpoint = self.endpoint.borrow_mut();
        let sent = endpoint.send(
            IpPacket::new(&mut packet, packet_bytes),
            Instant::now(),
            &mut scratch::take(),
            &mut |to, datagram| self.port.send(to, datagram),
        );
        if let Err(cause) = sent {
            endpoint.count_drop(cause);
        }
        if !self.timer.is_armed_for(endpoint.deadline()) {
            self.port.wake();
        }
    }

    fn poll_drive(
        &self,
        cx: &mut Context<'_>,
        receive: &mut dyn FnMut(SocketAddr, &[u8]),
    ) -> Poll<io::Error> {
        let driven = self.port.poll_drive(cx, &mut |from, datagram| {
            self.deliver(from, datagram, receive);
        });
        self.serve_timers(cx);
        driven
    }

    fn counters(&self) -> DatagramCounters {
        DatagramCounters {
            tunnel: self.endpoint.borrow().drops(),
            ..self.port.counters()
        }
    }
}
