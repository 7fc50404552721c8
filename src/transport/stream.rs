//! The driver that all stream carriers share: one task per connection.
//!
//! An idle connection holds no buffer. A wake-up reads into the worker's scratch buffer, calls the
//! handler for each whole message, and writes what the handler queued in one go, together with what was
//! queued before. Only the bytes of an unfinished message are kept, at most 64 KiB.

mod link;

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::io;
use std::mem;
use std::net::SocketAddr;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Sleep;

use super::{CloseReason, Flow, Handler};
pub(super) use link::StreamLink;
use link::{Pong, State};

use crate::measure::heap::{self, Part};
use crate::net::scratch;
use crate::sip::framing::{self, Frame, Framer, FramingError, MAX_MESSAGE_BYTES};

/// Reads of one connection before other tasks get their turn.
const READS_PER_POLL: usize = 16;

thread_local! {
    /// Of all connections of a worker: its peers write alike.
    static FRAMER: RefCell<Framer> = RefCell::default();
}

/// A connection at work. Resolves when it has ended and the handler knows.
///
/// If the runtime is torn down first, the handler is not told: it may be torn down already.
pub(super) struct Connection<S> {
    stream: S,
    link: Rc<StreamLink>,
    flow: Flow,
    handler: Rc<dyn Handler>,
    /// The start of a message whose rest has not arrived.
    partial: Vec<u8>,
    /// Whether written bytes may still be on their way through the stream's own buffers.
    unflushed: bool,
    close_limit: Duration,
    /// There while the flow is being closed.
    closing: Option<Box<Closing>>,
    explain: Explain,
}

/// How a carrier words what its streams report.
pub(super) type Explain = fn(&io::Error) -> String;

/// Why a flow is being closed, and until when that may take.
struct Closing {
    reason: CloseReason,
    /// Once there is something to wait for. Most goodbyes go at once, and a timer would have the worker look at its
    /// clock again.
    timer: Option<Pin<Box<Sleep>>>,
}

/// What stops the driver, other than that there is nothing to do.
type Ended = CloseReason;

impl<S: AsyncRead + AsyncWrite + Unpin> Connection<S> {
    pub(super) fn new(
        stream: S,
        local: SocketAddr,
        peer: SocketAddr,
        id: u64,
        handler: Rc<dyn Handler>,
        close_limit: Duration,
        explain: Explain,
    ) -> Self {
        let _scope = heap::part(Part::Task);
        let link = Rc::new(StreamLink {
            id,
            local,
            state: Cell::new(State::Open),
            pong: Cell::new(Pong::Unasked),
            driving: Cell::new(false),
            queue: RefCell::default(),
            driver: RefCell::new(None),
        });
        Self {
            stream,
            flow: Flow::new(link.clone(), peer),
            link,
            handler,
            partial: Vec::new(),
            unflushed: false,
            close_limit,
            closing: None,
            explain,
        }
    }

    pub(super) fn flow(&self) -> &Flow {
        &self.flow
    }

    pub(super) fn link(&self) -> Rc<StreamLink> {
        Rc::clone(&self.link)
    }

    fn drive(&mut self, cx: &mut Context<'_>) -> Poll<Ended> {
        for _ in 0..READS_PER_POLL {
            // Reading goes first, so that answers leave together with what was queued before.
            let read = match self.link.state.get() {
                State::Open => self.poll_read(cx),
                State::Closing | State::Closed => Poll::Pending,
            };
            let is_idle = read.is_pending();
            match read {
                Poll::Ready(Err(broken @ CloseReason::Broken(_))) => return Poll::Ready(broken),
                // What came before may have been answered: that and the goodbye are still written.
                Poll::Ready(Err(reason)) => self.begin_close(reason),
                Poll::Ready(Ok(())) | Poll::Pending => {}
            }
            let written = match self.poll_write_queue(cx) {
                Poll::Ready(Ok(())) => true,
                Poll::Ready(Err(error)) => return Poll::Ready(self.unwritable(cx, &error)),
                Poll::Pending => false,
            };
            if self.link.state.get() != State::Open {
                return self.poll_close(cx, written);
            }
            if is_idle {
                // The peer is not there to say goodbye to.
                return match self.lacks_pong() {
                    true => Poll::Ready(CloseReason::NoPong),
                    false => Poll::Pending,
                };
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// Whether a pong that was due has not come, now that there is nothing to read.
    fn lacks_pong(&self) -> bool {
        let is_lacking = match self.link.pong.get() {
            Pong::Unasked | Pong::Awaited => false,
            // Behind a message that is still arriving there may be one.
            Pong::Due => self.partial.iter().all(u8::is_ascii_whitespace),
            Pong::Overdue => true,
        };
        // A task that has used up its turn is told that there is nothing to read, whatever there is.
        is_lacking && tokio::task::coop::has_budget_remaining()
    }

    fn poll_write_queue(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut queue = self.link.queue.borrow_mut();
        while !queue.is_empty() {
            let written = ready!(Pin::new(&mut self.stream).poll_write(cx, queue.unwritten()))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            queue.advance(written);
            self.unflushed = true;
        }
        if self.unflushed {
            ready!(Pin::new(&mut self.stream).poll_flush(cx))?;
            self.unflushed = false;
        }
        Poll::Ready(Ok(()))
    }

    /// Why the flow ends whose stream takes nothing any more. A peer that refuses this side says so
    /// before it goes, and what it said may not have been read yet.
    fn unwritable(&mut self, cx: &mut Context<'_>, error: &io::Error) -> Ended {
        if let Some(closing) = &self.closing
            && closing.reason != CloseReason::Local
        {
            return closing.reason.clone();
        }
        for _ in 0..READS_PER_POLL {
            if self.link.state.get() != State::Open {
                break;
            }
            match self.poll_read(cx) {
                Poll::Ready(Ok(())) => {}
                Poll::Ready(Err(broken @ CloseReason::Broken(_))) => return broken,
                Poll::Ready(Err(_)) | Poll::Pending => break,
            }
        }
        self.broken(error)
    }

    fn begin_close(&mut self, reason: CloseReason) {
        self.link.state.set(State::Closing);
        self.closing = Some(Box::new(Closing {
            reason,
            timer: None,
        }));
    }

    /// Writes what is queued, says goodbye in the protocol's way, and gives up when the peer takes
    /// too long to let that happen.
    fn poll_close(&mut self, cx: &mut Context<'_>, written: bool) -> Poll<Ended> {
        if self.closing.is_none() {
            self.begin_close(CloseReason::Local);
        }
        let closing = self.closing.as_mut().expect("it has just begun");
        // That the peer is gone already does not matter any more.
        let has_said_goodbye = written && Pin::new(&mut self.stream).poll_shutdown(cx).is_ready();
        if !has_said_goodbye {
            let limit = self.close_limit;
            let sleep = || Box::pin(tokio::time::sleep(limit));
            ready!(closing.timer.get_or_insert_with(sleep).as_mut().poll(cx));
        }
        Poll::Ready(closing.reason.clone())
    }

    /// Reads once and handles the messages that this completes.
    fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Ended>> {
        let mut buffer = scratch::take();
        // A message that is not complete at its longest is refused by the framing.
        let room_bytes = MAX_MESSAGE_BYTES - self.partial.len();
        let mut incoming = ReadBuf::new(&mut buffer[..room_bytes]);
        if let Err(error) = ready!(Pin::new(&mut self.stream).poll_read(cx, &mut incoming)) {
            return Poll::Ready(Err(self.broken(&error)));
        }
        let now = Instant::now();
        let bytes = incoming.filled();
        if bytes.is_empty() {
            return Poll::Ready(Err(CloseReason::Peer));
        }
        let handled = if self.partial.is_empty() {
            self.handle(bytes, now).map(|consumed| {
                let _scope = heap::part(Part::Buffers);
                self.partial.extend_from_slice(&bytes[consumed..]);
            })
        } else {
            let mut partial = mem::take(&mut self.partial);
            append(&mut partial, bytes);
            self.handle(&partial, now).map(|consumed| {
                let _scope = heap::part(Part::Buffers);
                if consumed == 0 {
                    self.partial = partial;
                } else {
                    self.partial = partial[consumed..].to_vec();
                }
            })
        };
        Poll::Ready(handled.map_err(CloseReason::Garbage))
    }

    fn broken(&self, error: &io::Error) -> CloseReason {
        CloseReason::Broken((self.explain)(error))
    }

    /// Handles the whole messages at the start of `bytes` and returns how long they are.
    fn handle(&self, bytes: &[u8], now: Instant) -> Result<usize, FramingError> {
        let mut rest = bytes;
        while !rest.is_empty() && self.link.state.get() == State::Open {
            // Whoever waits for a pong takes a line end for one: it may be half of a ping, but then
            // the pong is the other half.
            if self.link.pong.get() != Pong::Unasked && rest.starts_with(framing::PONG) {
                self.link.pong.set(Pong::Unasked);
                rest = &rest[framing::PONG.len()..];
                continue;
            }
            let frame = frame(rest).inspect_err(|error| {
                if let Some(head) = framing::unframed_head(rest, error) {
                    self.handler.unframed(&self.flow, head);
                }
            })?;
            let consumed = match frame {
                Frame::Message { length } => {
                    self.handler.message(&self.flow, &rest[..length], now);
                    length
                }
                Frame::Ping => {
                    // A peer that pings without reading gets no more pongs than fit the queue.
                    let _ = self.flow.send(framing::PONG);
                    framing::PING.len()
                }
                Frame::Pong => framing::PONG.len(),
                Frame::Incomplete => break,
            };
            rest = &rest[consumed..];
        }
        Ok(bytes.len() - rest.len())
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Future for Connection<S> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let _scope = heap::part(Part::Task);
        let connection = self.get_mut();
        connection.link.note_driver(cx);
        connection.link.driving.set(true);
        let ended = connection.drive(cx);
        connection.link.driving.set(false);
        let reason = ready!(ended);
        connection.link.end();
        connection.handler.closed(&connection.flow, &reason);
        Poll::Ready(())
    }
}

/// What lies at the start of `bytes`.
fn frame(bytes: &[u8]) -> Result<Frame, FramingError> {
    let _scope = heap::part(Part::Buffers);
    FRAMER.with_borrow_mut(|framer| framer.next(bytes))
}

/// Appends without reserving more than a message may need.
fn append(partial: &mut Vec<u8>, bytes: &[u8]) {
    let _scope = heap::part(Part::Buffers);
    let needed = partial.len() + bytes.len();
    if needed > partial.capacity() {
        let capacity = needed.max(2 * partial.len()).min(MAX_MESSAGE_BYTES);
        partial.reserve_exact(capacity - partial.len());
    }
    partial.extend_from_slice(bytes);
}

#[cfg(test)]
mod tests;
