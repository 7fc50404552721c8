//! Streams inside tunnels, and what accepts them.

use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::host::Host;
use super::inner_server;
use crate::net::{DatagramCounters, StreamListener, StreamPeer};
use crate::tunnel::{Gateway, Protection};

/// What a stream needs of the host that it is a connection of. It hides what kind of tunnel that is
/// behind, and which end.
pub(super) trait StreamHost {
    /// As [`AsyncRead::poll_read`].
    fn poll_read(
        &self,
        key: usize,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>>;

    /// As [`AsyncWrite::poll_write_vectored`]. What is taken leaves at once, if the peer has room.
    fn poll_write(
        &self,
        key: usize,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>>;

    /// Says goodbye after what was written.
    fn shut(&self, key: usize, cx: &mut Context<'_>);

    /// Nobody holds the stream any more.
    fn release(self: Rc<Self>, key: usize);
}

/// A TCP connection inside a tunnel. Dropping it is closing it: what was written is still delivered,
/// within the limit for lingering, by a local task.
pub struct TunneledStream {
    host: Rc<dyn StreamHost>,
    key: usize,
}

impl TunneledStream {
    pub(super) fn new(host: Rc<dyn StreamHost>, key: usize) -> Self {
        Self { host, key }
    }
}

impl AsyncRead for TunneledStream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.host.poll_read(self.key, cx, buffer)
    }
}

impl AsyncWrite for TunneledStream {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.host.poll_write(self.key, cx, &[IoSlice::new(bytes)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.host.poll_write(self.key, cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    /// As with the kernel's TCP without Nagle, what was written is on its way.
    fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.host.shut(self.key, cx);
        Poll::Ready(Ok(()))
    }
}

impl Drop for TunneledStream {
    fn drop(&mut self) {
        Rc::clone(&self.host).release(self.key);
    }
}

/// Accepts TCP connections inside all tunnels of a server.
pub struct TunneledListener<P: Protection + 'static> {
    host: Rc<Host<Gateway<P>>>,
}

impl<P: Protection> TunneledListener<P> {
    pub(super) fn new(host: Rc<Host<Gateway<P>>>) -> Self {
        Self { host }
    }
}

impl<P: Protection> StreamListener for TunneledListener<P> {
    type Stream = TunneledStream;

    fn bound(&self) -> SocketAddr {
        self.host.bound()
    }

    fn local_port(&self) -> u16 {
        inner_server().port()
    }

    fn poll_accept(&self, cx: &mut Context<'_>) -> Poll<io::Result<StreamPeer<TunneledStream>>> {
        self.host.poll_accept(cx).map(|accepted| {
            let host: Rc<dyn StreamHost> = Rc::clone(&self.host) as _;
            Ok(StreamPeer {
                stream: TunneledStream::new(host, accepted.key),
                local: inner_server().into(),
                peer: accepted.peer.into(),
                transport_connect: None,
                tunnel_handshake: None,
            })
        })
    }

    fn counters(&self) -> Option<DatagramCounters> {
        Some(self.host.counters())
    }
}

impl<P: Protection + 'static> Drop for TunneledListener<P> {
    fn drop(&mut self) {
        self.host.close();
    }
}
