//! A stream that TLS secures, whose polls allocate for the session.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_rustls::TlsStream;

use crate::measure::heap::{self, Part, PartScope};

/// Either end of a secured stream. What the stream below allocates is for whatever that says itself.
///
/// Boxed, as rustls' state is more than a kilobyte: the task of a connection stays as small as that of
/// one without TLS, and is counted apart.
pub(super) struct SessionStream<S>(Box<TlsStream<S>>);

impl<S: Unpin> SessionStream<S> {
    pub(super) fn new(stream: TlsStream<S>) -> Self {
        let _scope = heap::part(Part::TlsSession);
        Self(Box::new(stream))
    }

    /// The stream as tokio-rustls has it.
    #[cfg(test)]
    pub(super) fn into_inner(self) -> TlsStream<S> {
        *self.0
    }

    fn session(self: Pin<&mut Self>) -> (PartScope, Pin<&mut TlsStream<S>>) {
        (
            heap::part(Part::TlsSession),
            Pin::new(&mut *self.get_mut().0),
        )
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for SessionStream<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let (_scope, stream) = self.session();
        stream.poll_read(cx, buffer)
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for SessionStream<S> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let (_scope, stream) = self.session();
        stream.poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let (_scope, stream) = self.session();
        stream.poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.0.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let (_scope, stream) = self.session();
        stream.poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let (_scope, stream) = self.session();
        stream.poll_shutdown(cx)
    }
}
