//! A server's tunnels at work: one outer socket, one gateway, one device and one task for all its users.

use std::cell::{Cell, RefCell};
use std::future::{Future, poll_fn};
use std::net::SocketAddr;
use std::pin::Pin;
use std::rc::{Rc, Weak};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use tokio::sync::oneshot;
use tokio::task::spawn_local;

use super::Below;
use super::device::Device;
use crate::measure::heap::{self, Part};
use crate::net::tunneled::port::TunnelPort;
use crate::net::{DatagramCounters, UdpPort};
use crate::tunnel::{Gateway, Protection};

/// The tunnels, as long as somebody stays or lingers.
pub(super) struct Server<P: Protection> {
    port: TunnelPort<Gateway<P>>,
    device: Device,
    is_listening: Cell<bool>,
    /// When the last connection was let go of that the kernel may still have to bring to its end.
    let_go: Cell<Option<Instant>>,
    stay: RefCell<Weak<Stay<P>>>,
    /// Resolves when nobody stays any more; what the task waits for next.
    left: RefCell<Option<oneshot::Receiver<()>>>,
}

/// Somebody listens in the tunnels. One does at a time.
pub struct Listening<P: Protection>(Rc<Stay<P>>);

/// What keeps a server's tunnels at work: who listens has one, and so has every connection.
pub(super) struct Stay<P: Protection> {
    server: Rc<Server<P>>,
    _until: oneshot::Sender<()>,
}

impl<P: Protection + 'static> Server<P> {
    pub(super) fn new(port: UdpPort, gateway: Gateway<P>, device: Device) -> Rc<Self> {
        Rc::new(Self {
            port: TunnelPort::new(port, gateway),
            device,
            is_listening: Cell::new(false),
            let_go: Cell::new(None),
            stay: RefCell::default(),
            left: RefCell::default(),
        })
    }

    /// Whether it is at this outer address, and its last listener is gone.
    pub(super) fn may_listen_at(&self, address: SocketAddr) -> bool {
        !self.is_listening.get() && self.port.bound() == address
    }

    /// Begins to listen, until what it returns is dropped.
    pub(super) fn listen(self: &Rc<Self>) -> Listening<P> {
        self.is_listening.set(true);
        let mut known = self.stay.borrow_mut();
        let stay = known.upgrade().unwrap_or_else(|| {
            let (until, left) = oneshot::channel();
            *self.left.borrow_mut() = Some(left);
            let stay = Rc::new(Stay {
                server: Rc::clone(self),
                _until: until,
            });
            *known = Rc::downgrade(&stay);
            stay
        });
        Listening(stay)
    }

    /// Spawns the task. It ends when everybody has left and, for `limit` at most, connections have ended,
    /// unless somebody comes back.
    pub(super) fn work_by_task(self: &Rc<Self>, limit: Duration) {
        let server = Rc::clone(self);
        let work = async move {
            loop {
                let left = server.left.take();
                let Some(mut left) = left else {
                    return;
                };
                poll_fn(|cx| {
                    server.poll_drive(cx);
                    Pin::new(&mut left).poll(cx).map(drop)
                })
                .await;
                server.linger(limit).await;
            }
        };
        let _scope = heap::part(Part::Tunnel);
        spawn_local(heap::within(Part::Tunnel, work));
    }

    /// Works on until `limit` after the last connection was let go of.
    async fn linger(&self, limit: Duration) {
        if let Some(let_go) = self.let_go.take() {
            let drive = poll_fn(|cx| {
                self.poll_drive(cx);
                Poll::<()>::Pending
            });
            let deadline = let_go + limit;
            let _ = tokio::time::timeout_at(deadline.into(), drive).await;
        }
        self.device
            .read_all(|packet| self.port.send(packet, Instant::now()));
    }

    fn poll_drive(&self, cx: &mut Context<'_>) {
        // A device fails when it is gone, and the network with it.
        let _ = self
            .device
            .poll_read(cx, |packet| self.port.send(packet, Instant::now()));
        let mut deliver = |packet: &[u8]| self.device.deliver(packet);
        // Nobody is there at the other end of some tunnel: whoever is inside will notice.
        while self.port.poll_packets(cx, &mut deliver).is_ready() {}
        self.port.poll_timers(cx, None);
    }
}

impl<P: Protection> Stay<P> {
    /// A connection is let go of.
    pub(super) fn let_go(&self) {
        self.server.let_go.set(Some(Instant::now()));
    }
}

impl<P: Protection> Listening<P> {
    pub(super) fn device(&self) -> &Device {
        &self.0.server.device
    }

    /// For a connection, which may outlive the listener.
    pub(super) fn stay(&self) -> Rc<Stay<P>> {
        Rc::clone(&self.0)
    }
}

impl<P: Protection> Below for Listening<P> {
    fn bound(&self) -> SocketAddr {
        self.0.server.port.bound()
    }

    fn counters(&self) -> DatagramCounters {
        let Server { port, device, .. } = &*self.0.server;
        let lost = DatagramCounters {
            tunnel: device.drops(),
            ..DatagramCounters::default()
        };
        port.counters().plus(lost)
    }
}

impl<P: Protection> Drop for Listening<P> {
    fn drop(&mut self) {
        self.0.server.is_listening.set(false);
    }
}
