//! A user's tunnel at work, beside those of the other users on their device.
//!
//! The task of a user takes what comes out of its tunnel to the kernel and serves the tunnel's timers; the
//! task of the device takes what the kernel sends to the tunnel that it is for. A tunnel ends when nobody
//! holds it any more, after its connection has ended in order.

use std::cell::RefCell;
use std::collections::HashMap;
use std::future::{Future, poll_fn};
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::pin::Pin;
use std::rc::{Rc, Weak};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::oneshot;
use tokio::task::{AbortHandle, spawn_local};

use super::Below;
use super::device::Device;
use crate::measure::heap::{self, Part};
use crate::net::tunneled::port::TunnelPort;
use crate::net::{DatagramCounters, MeteredStream, scratch};
use crate::tunnel::{Initiator, IpPacket, Protection};

/// Users' device towards one server.
pub(super) struct UserDevice<P: Protection> {
    device: Device,
    users: RefCell<HashMap<Ipv4Addr, Rc<Port<P>>>>,
    reader: RefCell<Option<AbortHandle>>,
}

/// A user's outer socket, with its tunnel.
type Port<P> = TunnelPort<Initiator<P>>;

impl<P: Protection + 'static> UserDevice<P> {
    /// Users of `device`, which has none yet.
    pub(super) fn new(device: Device) -> Rc<Self> {
        let _scope = heap::part(Part::Tunnel);
        let this = Rc::new(Self {
            device,
            users: RefCell::default(),
            reader: RefCell::default(),
        });
        let reader = spawn_local(read(Rc::downgrade(&this)));
        *this.reader.borrow_mut() = Some(reader.abort_handle());
        this
    }

    pub(super) fn device(&self) -> &Device {
        &self.device
    }

    /// Takes a packet that the kernel has sent to the tunnel of its sender. Who has none is gone.
    fn pass_on(&self, packet: IpPacket<'_>) {
        let sender = source(packet.bytes());
        let port = sender.and_then(|sender| self.users.borrow().get(&sender).cloned());
        if let Some(port) = port {
            port.send(packet, Instant::now());
            port.wake_for(None);
        }
    }

    /// Takes what comes out of a tunnel to the kernel, and serves the tunnel's timers. `Ready` is an error of
    /// the outer socket, which stays usable.
    fn poll_drive(&self, port: &Port<P>, cx: &mut Context<'_>) -> Poll<io::Error> {
        let driven = port.poll_packets(cx, &mut |packet| self.device.deliver(packet));
        port.poll_timers(cx, None);
        driven
    }

    fn remove(&self, user: Ipv4Addr, port: &Rc<Port<P>>) {
        let mut users = self.users.borrow_mut();
        // The user may have come back by another tunnel meanwhile.
        if users.get(&user).is_some_and(|now| Rc::ptr_eq(now, port)) {
            users.remove(&user);
        }
    }
}

impl<P: Protection> Drop for UserDevice<P> {
    fn drop(&mut self) {
        if let Some(reader) = self.reader.take() {
            reader.abort();
        }
    }
}

/// The task of a device.
async fn read<P: Protection + 'static>(device: Weak<UserDevice<P>>) {
    poll_fn(|cx| match device.upgrade() {
        Some(users) => {
            let read = users.device.poll_read(cx, |packet| users.pass_on(packet));
            read.map(drop)
        }
        None => Poll::Ready(()),
    })
    .await;
}

/// What keeps a user's tunnel at work. Dropped alone, the tunnel ends; dropped with a stream, after it.
pub struct Hold<P: Protection + 'static> {
    port: Rc<Port<P>>,
    release: oneshot::Sender<MeteredStream>,
}

impl<P: Protection + 'static> Hold<P> {
    /// Puts the tunnel of `user` to work.
    pub(super) fn take(
        device: &Rc<UserDevice<P>>,
        user: Ipv4Addr,
        port: Port<P>,
        linger: Duration,
    ) -> Self {
        let _scope = heap::part(Part::Tunnel);
        let port = Rc::new(port);
        let mut users = device.users.borrow_mut();
        users.insert(user, Rc::clone(&port));
        drop(users);
        let (release, released) = oneshot::channel();
        let work = Work {
            device: Rc::clone(device),
            user,
            port: Rc::clone(&port),
        };
        spawn_local(heap::within(Part::Tunnel, work.until(released, linger)));
        Self { port, release }
    }

    /// Waits for the system to report an error of the outer socket: usually that the server is not there.
    pub(super) async fn failed(&self) -> io::Error {
        self.port.failed().await
    }

    /// Lets `stream` end in order, and the tunnel after it.
    pub(super) fn release(self, stream: MeteredStream) {
        // The task has gone if the runtime is torn down: then nothing can end in order any more.
        let _ = self.release.send(stream);
    }
}

impl<P: Protection> Below for Hold<P> {
    fn bound(&self) -> SocketAddr {
        self.port.bound()
    }

    fn counters(&self) -> DatagramCounters {
        self.port.counters()
    }
}

/// The task of a user.
struct Work<P: Protection + 'static> {
    device: Rc<UserDevice<P>>,
    user: Ipv4Addr,
    port: Rc<Port<P>>,
}

impl<P: Protection + 'static> Work<P> {
    async fn until(self, mut released: oneshot::Receiver<MeteredStream>, linger: Duration) {
        let stream = poll_fn(|cx| {
            self.poll_drive(cx);
            Pin::new(&mut released).poll(cx)
        })
        .await;
        if let Ok(mut stream) = stream {
            let ending = poll_fn(|cx| {
                poll_goodbye(&mut stream, cx);
                self.poll_drive(cx);
                if stream.has_ended() {
                    Poll::Ready(())
                } else {
                    Poll::Pending
                }
            });
            let _ = tokio::time::timeout(linger, ending).await;
        }
        // What the kernel has sent last, an acknowledgement perhaps.
        let device = &self.device;
        device.device.read_all(|packet| device.pass_on(packet));
        device.remove(self.user, &self.port);
    }

    fn poll_drive(&self, cx: &mut Context<'_>) {
        // Nobody is there: who is inside will notice.
        while self.device.poll_drive(&self.port, cx).is_ready() {}
    }
}

/// Says goodbye, if that was not done, and takes what still comes.
fn poll_goodbye(stream: &mut MeteredStream, cx: &mut Context<'_>) {
    let mut stream = Pin::new(stream);
    let _ = stream.as_mut().poll_shutdown(cx);
    let mut space = scratch::take();
    loop {
        let mut buffer = ReadBuf::new(&mut space);
        match stream.as_mut().poll_read(cx, &mut buffer) {
            Poll::Ready(Ok(())) if !buffer.filled().is_empty() => {}
            // The end, an error, or nothing yet: the state of the connection tells which.
            Poll::Ready(_) | Poll::Pending => return,
        }
    }
}

/// Where an IPv4 packet says that it comes from (RFC 791 §3.1).
fn source(packet: &[u8]) -> Option<Ipv4Addr> {
    let address: [u8; 4] = packet.get(12..16)?.try_into().ok()?;
    (packet[0] >> 4 == 4).then(|| address.into())
}
