//! An outer socket with one side's tunnels on it: where the inner packets of a user or a server come
//! from and go to.

use std::cell::RefCell;
use std::future::{Future, poll_fn};
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::pin::pin;
use std::task::{Context, Poll};
use std::time::Instant;

use crate::measure::heap::{self, Part};
use crate::net::timer::Timer;
use crate::net::{DatagramCounters, DatagramSocket, UdpPort, scratch};
use crate::tunnel::{DropCause, Endpoint, Initiator, IpPacket, Protection};

/// An outer socket and the tunnels on it.
pub(super) struct TunnelPort<E> {
    port: UdpPort,
    endpoint: RefCell<E>,
    timer: Timer,
}

impl<E: Endpoint> TunnelPort<E> {
    pub(super) fn new(port: UdpPort, endpoint: E) -> Self {
        Self {
            port,
            endpoint: RefCell::new(endpoint),
            timer: Timer::default(),
        }
    }

    /// The address that the kernel bound.
    pub(super) fn bound(&self) -> SocketAddr {
        self.port.bound()
    }

    /// This side's address inside.
    pub(super) fn inner_address(&self) -> Ipv4Addr {
        self.endpoint.borrow().inner_address()
    }

    /// Sends an IP packet; counts it as dropped if it has no way to go.
    pub(super) fn send(&self, packet: IpPacket<'_>, now: Instant) {
        let _scope = heap::part(Part::Tunnel);
        let mut endpoint = self.endpoint.borrow_mut();
        let sent = endpoint.send(packet, now, &mut scratch::take(), &mut |to, datagram| {
            self.port.send(to, datagram);
        });
        if let Err(cause) = sent {
            endpoint.count_drop(cause);
        }
    }

    /// Passes on the IP packets that arrived, up to a batch, and sends what waited, as
    /// [`DatagramSocket::poll_drive`] does. The endpoint is not borrowed meanwhile, so that `receive`
    /// may send.
    pub(super) fn poll_packets(
        &self,
        cx: &mut Context<'_>,
        receive: &mut dyn FnMut(&[u8]) -> Result<(), DropCause>,
    ) -> Poll<io::Error> {
        self.port.poll_drive(cx, &mut |from, datagram| {
            let mut working_space = scratch::take();
            let packet = {
                let _scope = heap::part(Part::Tunnel);
                self.endpoint.borrow_mut().receive(
                    datagram,
                    from,
                    Instant::now(),
                    &mut working_space,
                    &mut |to, datagram| self.port.send(to, datagram),
                )
            };
            if let Some(packet) = packet
                && let Err(cause) = receive(packet)
            {
                self.endpoint.borrow_mut().count_drop(cause);
            }
        })
    }

    /// Does what is due in the tunnels, and tells when something is due by `deadline`, which is that of
    /// the layer above; the task is woken for what is next.
    pub(super) fn poll_timers(&self, cx: &mut Context<'_>, deadline: Option<Instant>) -> bool {
        while self.timer.poll_due(cx, self.earliest(deadline)) {
            let now = Instant::now();
            let mut endpoint = self.endpoint.borrow_mut();
            if endpoint.deadline().is_some_and(|due| due <= now) {
                let _scope = heap::part(Part::Tunnel);
                endpoint.handle_timeout(now, &mut scratch::take(), &mut |to, datagram| {
                    self.port.send(to, datagram);
                });
            }
            if deadline.is_some_and(|due| due <= now) {
                return true;
            }
        }
        false
    }

    /// Wakes the task if it would sleep through a deadline: its own, or the tunnels'.
    pub(super) fn wake_for(&self, deadline: Option<Instant>) {
        if !self.timer.is_armed_for(self.earliest(deadline)) {
            self.port.wake();
        }
    }

    /// Wakes the task.
    pub(super) fn wake(&self) {
        self.port.wake();
    }

    fn earliest(&self, deadline: Option<Instant>) -> Option<Instant> {
        let tunnels = self.endpoint.borrow().deadline();
        tunnels.into_iter().chain(deadline).min()
    }

    /// Waits for the system to report an error of the outer socket: usually that the server is not there.
    #[cfg(target_os = "linux")]
    pub(super) async fn failed(&self) -> io::Error {
        self.port.failed().await
    }

    /// Drives until something is there; fails when the system says that the server is not.
    pub(super) async fn drive_until<T>(
        &self,
        mut poll: impl FnMut(&mut Context<'_>) -> Poll<io::Result<T>>,
    ) -> io::Result<T> {
        let mut failed = pin!(self.port.failed());
        poll_fn(|cx| match failed.as_mut().poll(cx) {
            Poll::Ready(error) => Poll::Ready(Err(error)),
            Poll::Pending => poll(cx),
        })
        .await
    }

    /// Counts a packet that turned out to be useless further up.
    pub(super) fn count_drop(&self, cause: DropCause) {
        self.endpoint.borrow_mut().count_drop(cause);
    }

    pub(super) fn counters(&self) -> DatagramCounters {
        DatagramCounters {
            tunnel: self.endpoint.borrow().drops(),
            ..self.port.counters()
        }
    }
}

impl<P: Protection> TunnelPort<Initiator<P>> {
    /// Completes the handshake, or waits for ever.
    pub(super) async fn establish(&self) -> io::Result<()> {
        {
            let _scope = heap::part(Part::Tunnel);
            self.endpoint.borrow_mut().initiate(
                Instant::now(),
                &mut scratch::take(),
                &mut |to, datagram| self.port.send(to, datagram),
            );
        }
        self.drive_until(|cx| {
            // Nothing of ours is inside yet.
            if let Poll::Ready(error) = self.poll_packets(cx, &mut |_| Ok(())) {
                return Poll::Ready(Err(error));
            }
            self.poll_timers(cx, None);
            if self.endpoint.borrow().is_established() {
                Poll::Ready(Ok(()))
            } else {
                Poll::Pending
            }
        })
        .await
    }
}
