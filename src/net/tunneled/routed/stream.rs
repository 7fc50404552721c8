//! TCP connections of the kernel's inside tunnels, and what accepts them.

use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::Below;
use super::server::{Listening, Stay};
use super::user::Hold;
use crate::net::{DatagramCounters, KernelListener, MeteredStream, StreamListener, StreamPeer};
use crate::tunnel::Protection;

/// A TCP connection of the kernel's inside a tunnel. Dropping it is closing it: what was written is still
/// delivered, within the limit for lingering.
pub struct RoutedStream<P: Protection + 'static> {
    /// There until it is dropped.
    stream: Option<MeteredStream>,
    tunnel: Option<Tunnel<P>>,
}

/// What the tunnel is kept at work by.
enum Tunnel<P: Protection + 'static> {
    OfUser(Hold<P>),
    OfServer(Rc<Stay<P>>),
}

impl<P: Protection> RoutedStream<P> {
    pub(super) fn of_user(stream: MeteredStream, hold: Hold<P>) -> Self {
        Self {
            stream: Some(stream),
            tunnel: Some(Tunnel::OfUser(hold)),
        }
    }

    fn of_server(stream: MeteredStream, stay: Rc<Stay<P>>) -> Self {
        Self {
            stream: Some(stream),
            tunnel: Some(Tunnel::OfServer(stay)),
        }
    }

    fn stream(self: Pin<&mut Self>) -> Pin<&mut MeteredStream> {
        let stream = self.get_mut().stream.as_mut();
        Pin::new(stream.expect("it is there until it is dropped"))
    }
}

impl<P: Protection> Drop for RoutedStream<P> {
    fn drop(&mut self) {
        let stream = self.stream.take().expect("it is dropped once");
        match self.tunnel.take().expect("it is dropped once") {
            Tunnel::OfUser(hold) => hold.release(stream),
            // The kernel closes in the background, as long as there is a tunnel.
            Tunnel::OfServer(stay) => {
                drop(stream);
                stay.let_go();
            }
        }
    }
}

impl<P: Protection> AsyncRead for RoutedStream<P> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.stream().poll_read(cx, buffer)
    }
}

impl<P: Protection> AsyncWrite for RoutedStream<P> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.stream().poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.stream().poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.stream().poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.stream().poll_shutdown(cx)
    }
}

/// Accepts the kernel's TCP connections inside all tunnels of a server.
pub struct RoutedListener<P: Protection> {
    listener: KernelListener,
    listening: Listening<P>,
}

impl<P: Protection> RoutedListener<P> {
    pub(super) fn new(listener: KernelListener, listening: Listening<P>) -> Self {
        Self {
            listener,
            listening,
        }
    }
}

impl<P: Protection + 'static> StreamListener for RoutedListener<P> {
    type Stream = RoutedStream<P>;

    fn bound(&self) -> SocketAddr {
        self.listening.bound()
    }

    fn local_port(&self) -> u16 {
        self.listener.bound().port()
    }

    fn poll_accept(&self, cx: &mut Context<'_>) -> Poll<io::Result<StreamPeer<RoutedStream<P>>>> {
        let accepted = ready!(self.listener.poll_accept(cx))?;
        Poll::Ready(Ok(StreamPeer {
            stream: RoutedStream::of_server(accepted.stream, self.listening.stay()),
            local: accepted.local,
            peer: accepted.peer,
            transport_connect: None,
            tunnel_handshake: None,
        }))
    }

    fn counters(&self) -> Option<DatagramCounters> {
        Some(self.listening.counters())
    }
}
