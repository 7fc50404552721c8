//! The stream below TLS, which lets the last flight of a handshake leave together with what follows it.
//!
//! Whoever sends the last flight can go on at once: the client of TLS 1.3 with its first request behind
//! its Finished, a server with its response behind the tickets. Passed on by itself, the flight is a
//! segment more, and often wakes the peer for nothing that it could answer. So what a handshake writes is
//! kept until the handshake must wait for the peer; and what is left when it has ended, until the first
//! flush after it. A driver flushes first thing: if there is nothing to follow, nothing waits for it.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::measure::heap::{self, Part};

/// What may be kept once the handshake has ended.
const LIMIT_BYTES: usize = 16 * 1024;

/// A stream, and what was written but not passed on to it. It holds no buffer but during a handshake.
pub(super) struct Corked<S> {
    stream: S,
    kept: Vec<u8>,
    is_handshaking: bool,
}

impl<S> Corked<S> {
    /// For a handshake that begins.
    pub(super) fn new(stream: S) -> Self {
        Self {
            stream,
            kept: Vec::new(),
            is_handshaking: true,
        }
    }

    /// The handshake has ended: from the next flush on everything passes through.
    pub(super) fn handshake_ended(&mut self) {
        self.is_handshaking = false;
    }
}

impl<S: AsyncWrite + Unpin> Corked<S> {
    /// The handshake has failed: what it had to say of that leaves if there is room for it.
    pub(super) async fn handshake_failed(mut self) {
        std::future::poll_fn(|cx| {
            let _ = self.poll_release(cx);
            Poll::Ready(())
        })
        .await;
    }

    /// Passes on what was kept.
    fn poll_release(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.kept.is_empty() {
            let written = ready!(Pin::new(&mut self.stream).poll_write(cx, &self.kept))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.kept.drain(..written);
        }
        self.kept = Vec::new();
        Poll::Ready(Ok(()))
    }

    /// Whether what is written now has to go behind what is kept.
    fn keeps(&self) -> bool {
        self.is_handshaking || !self.kept.is_empty()
    }

    /// Makes sure that there is room to keep something.
    fn poll_room(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.kept.len() < LIMIT_BYTES {
            return Poll::Ready(Ok(()));
        }
        self.poll_release(cx)
    }

    fn keep(&mut self, bytes: &[u8]) {
        let _scope = heap::part(Part::TlsSession);
        self.kept.extend_from_slice(bytes);
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for Corked<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let corked = self.get_mut();
        if corked.is_handshaking {
            // The peer may have to read that first. If it does not, both directions are waited for.
            let _ = corked.poll_release(cx)?;
        }
        Pin::new(&mut corked.stream).poll_read(cx, buffer)
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Corked<S> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let corked = self.get_mut();
        if !corked.keeps() {
            return Pin::new(&mut corked.stream).poll_write(cx, bytes);
        }
        ready!(corked.poll_room(cx))?;
        corked.keep(bytes);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let corked = self.get_mut();
        if !corked.keeps() {
            return Pin::new(&mut corked.stream).poll_write_vectored(cx, slices);
        }
        ready!(corked.poll_room(cx))?;
        slices.iter().for_each(|slice| corked.keep(slice));
        Poll::Ready(Ok(slices.iter().map(|slice| slice.len()).sum()))
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    /// During a handshake nothing: tokio-rustls flushes behind every flight, also the last one.
    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let corked = self.get_mut();
        if corked.is_handshaking {
            return Poll::Ready(Ok(()));
        }
        ready!(corked.poll_release(cx))?;
        Pin::new(&mut corked.stream).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let corked = self.get_mut();
        ready!(corked.poll_release(cx))?;
        Pin::new(&mut corked.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
