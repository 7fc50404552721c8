//! The TCP host behind one outer socket, and who drives it.
//!
//! A client's host has no task: its stream drives it whenever it is polled, as long as it lives. A
//! server's host has one task. What a stream leaves unsaid when it is dropped, a task says, which for
//! a client is spawned then; it gives up after the limit for lingering.

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::io::{self, IoSlice};
use std::net::{SocketAddr, SocketAddrV4};
use std::pin::Pin;
use std::rc::{Rc, Weak};
use std::task::{Context, Poll};
use std::time::Instant;

use tokio::io::ReadBuf;

use super::port::TunnelPort;
use super::stream::StreamHost;
use crate::measure::heap::{self, Part};
use crate::net::DatagramCounters;
use crate::net::tcp::{Accepted, Tcp};
use crate::tunnel::Endpoint;

/// A TCP host behind tunnels.
pub(super) struct Host<E: Endpoint> {
    tunnel: TunnelPort<E>,
    tcp: RefCell<Tcp>,
    driver: Cell<Driver>,
    /// Itself, while there are connections that nobody holds any more: the task that lets them end
    /// lets go of it.
    lingering: RefCell<Option<Rc<Self>>>,
}

/// Who receives what arrives, and serves the timers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Driver {
    /// The only stream, from within the polls of its holder.
    Stream,
    /// A task, which wakes the holders of streams.
    Task,
    /// Nobody any more: the task was torn down with the runtime.
    Gone,
}

impl<E: Endpoint + 'static> Host<E> {
    pub(super) fn new(tunnel: TunnelPort<E>, tcp: Tcp) -> Rc<Self> {
        Rc::new(Self {
            tunnel,
            tcp: RefCell::new(tcp),
            driver: Cell::new(Driver::Stream),
            lingering: RefCell::new(None),
        })
    }

    /// Spawns the task that drives it as long as it is there.
    pub(super) fn drive_by_task(self: &Rc<Self>) {
        if self.driver.get() == Driver::Stream {
            self.driver.set(Driver::Task);
            tokio::task::spawn_local(Drive(Rc::downgrade(self)));
        }
    }

    /// The address that the kernel bound.
    pub(super) fn bound(&self) -> SocketAddr {
        self.tunnel.bound()
    }

    pub(super) fn counters(&self) -> DatagramCounters {
        self.tunnel.counters()
    }

    /// Begins to accept connections; whether it did not before.
    pub(super) fn listen(&self) -> bool {
        self.tcp.borrow_mut().listen()
    }

    /// Accepts no more connections.
    pub(super) fn close(&self) {
        self.with_tcp(|tcp, now, transmit| tcp.close(now, transmit));
        self.tunnel.wake();
    }

    /// The next connection that is established.
    pub(super) fn poll_accept(&self, cx: &Context<'_>) -> Poll<Accepted> {
        self.tcp.borrow_mut().poll_accept(cx)
    }

    /// Opens the connection of a client.
    pub(super) async fn connect(&self, server: SocketAddrV4, local_port: u16) -> io::Result<usize> {
        let key =
            self.with_tcp(|tcp, now, transmit| tcp.connect(server, local_port, now, transmit));
        self.tunnel
            .drive_until(|cx| {
                if let Poll::Ready(error) = self.poll_drive(cx) {
                    return Poll::Ready(Err(error));
                }
                self.tcp.borrow_mut().poll_connected(key)
            })
            .await?;
        Ok(key)
    }

    /// Takes in what has arrived, and does what is due. `Ready` is an error of the outer socket, which
    /// stays usable.
    fn poll_drive(&self, cx: &mut Context<'_>) -> Poll<io::Error> {
        let driven = self.tunnel.poll_packets(cx, &mut |packet| {
            self.with_tcp(|tcp, now, transmit| tcp.receive(packet, now, transmit))
        });
        self.serve_timers(cx);
        driven
    }

    fn serve_timers(&self, cx: &mut Context<'_>) {
        let deadline = || self.tcp.borrow().deadline();
        while self.tunnel.poll_timers(cx, deadline()) {
            self.with_tcp(|tcp, now, transmit| tcp.handle_timeout(now, transmit));
        }
    }

    /// After a stream has sent something: sees to it that an answer that does not come is noticed.
    fn note_deadline(&self, cx: &mut Context<'_>) {
        match self.driver.get() {
            Driver::Stream => self.serve_timers(cx),
            Driver::Task | Driver::Gone => self.wake_for_deadline(),
        }
    }

    fn wake_for_deadline(&self) {
        let deadline = self.tcp.borrow().deadline();
        self.tunnel.wake_for(deadline);
    }

    fn with_tcp<T>(
        &self,
        act: impl FnOnce(&mut Tcp, Instant, &mut dyn FnMut(crate::tunnel::IpPacket<'_>)) -> T,
    ) -> T {
        let now = Instant::now();
        let _scope = heap::part(Part::InnerStack);
        let mut tcp = self.tcp.borrow_mut();
        act(&mut tcp, now, &mut |packet| self.tunnel.send(packet, now))
    }

    /// Repeats `attempt` after what has arrived was taken in, if that is for the stream to do;
    /// otherwise `wake_later` has the holder woken.
    fn poll_with<T>(
        &self,
        key: usize,
        cx: &mut Context<'_>,
        mut attempt: impl FnMut() -> Poll<io::Result<T>>,
        wake_later: impl FnOnce(&mut Tcp, &Context<'_>),
    ) -> Poll<io::Result<T>> {
        let outcome = attempt();
        if outcome.is_ready() {
            return outcome;
        }
        match self.driver.get() {
            Driver::Stream => match self.poll_drive(cx) {
                Poll::Ready(error) => {
                    // The system says that nobody is there: there is nothing to wait for.
                    self.with_tcp(|tcp, now, transmit| tcp.abort(key, now, transmit));
                    Poll::Ready(Err(error))
                }
                Poll::Pending => attempt(),
            },
            Driver::Task | Driver::Gone => {
                wake_later(&mut self.tcp.borrow_mut(), cx);
                Poll::Pending
            }
        }
    }
}

impl<E: Endpoint + 'static> StreamHost for Host<E> {
    fn poll_read(
        &self,
        key: usize,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.poll_with(
            key,
            cx,
            || self.with_tcp(|tcp, now, transmit| tcp.read(key, buffer, now, transmit)),
            |tcp, cx| tcp.wake_on_read(key, cx.waker()),
        )
    }

    fn poll_write(
        &self,
        key: usize,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = self.poll_with(
            key,
            cx,
            || self.with_tcp(|tcp, now, transmit| tcp.write(key, slices, now, transmit)),
            |tcp, cx| tcp.wake_on_write(key, cx.waker()),
        );
        if written.is_ready() {
            self.note_deadline(cx);
        }
        written
    }

    fn shut(&self, key: usize, cx: &mut Context<'_>) {
        self.with_tcp(|tcp, now, transmit| tcp.shut(key, now, transmit));
        self.note_deadline(cx);
    }

    fn release(self: Rc<Self>, key: usize) {
        self.with_tcp(|tcp, now, transmit| tcp.release(key, now, transmit));
        if self.tcp.borrow().orphans() > 0 && self.driver.get() != Driver::Gone {
            // Before there is a task, which may be torn down at once.
            *self.lingering.borrow_mut() = Some(Rc::clone(&self));
            self.drive_by_task();
            self.wake_for_deadline();
        }
    }
}

impl<E: Endpoint> Drop for Host<E> {
    fn drop(&mut self) {
        // Its task has nothing to drive any more.
        self.tunnel.wake();
    }
}

/// The task that drives a host.
struct Drive<E: Endpoint>(Weak<Host<E>>);

impl<E: Endpoint + 'static> Future for Drive<E> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let Some(host) = self.0.upgrade() else {
            return Poll::Ready(());
        };
        // Nobody is there at the other end of some tunnel: timers will notice.
        while host.poll_drive(cx).is_ready() {}
        if host.tcp.borrow().orphans() == 0 {
            host.lingering.take();
        }
        drop(host);
        if self.0.strong_count() == 0 {
            Poll::Ready(())
        } else {
            Poll::Pending
        }
    }
}

impl<E: Endpoint> Drop for Drive<E> {
    fn drop(&mut self) {
        // When the runtime is torn down, nothing can end in order any more.
        if let Some(host) = self.0.upgrade() {
            host.driver.set(Driver::Gone);
            host.lingering.take();
        }
    }
}
