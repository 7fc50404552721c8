//! The driver that all stream carriers share: one task per connection.
//!
//! An idle connection holds no buffer. A wake-up writes what is queued, reads into the worker's
//! scratch buffer, calls the handler for each whole message, and writes what the handler queued in
//! one go. Only the bytes of an unfinished message are kept, at most 64 KiB.

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::io;
use std::mem;
use std::net::SocketAddr;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Sleep;

use super::{CloseReason, Flow, Handler, Link, SendError};
use crate::net::scratch;
use crate::sip::framing::{self, Frame, FramingError, MAX_MESSAGE_BYTES};

/// How much may wait to be written to a peer that does not read.
const QUEUE_LIMIT_BYTES: usize = 1024 * 1024;

/// Reads of one connection before other tasks get their turn.
const READS_PER_POLL: usize = 16;

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
    timer: Pin<Box<Sleep>>,
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
            let written = match self.poll_write_queue(cx) {
                Poll::Ready(Ok(())) => true,
                Poll::Ready(Err(error)) => return Poll::Ready(self.unwritable(cx, &error)),
                Poll::Pending => false,
            };
            if self.link.state.get() != State::Open {
                return self.poll_close(cx, written);
            }
            match self.poll_read(cx) {
                Poll::Ready(Ok(())) => {}
                Poll::Ready(Err(broken @ CloseReason::Broken(_))) => return Poll::Ready(broken),
                // What came before may have been answered: that and the goodbye are still written.
                Poll::Ready(Err(reason)) => self.begin_close(reason),
                // The peer is not there to say goodbye to.
                Poll::Pending if self.lacks_pong() => return Poll::Ready(CloseReason::NoPong),
                Poll::Pending => return Poll::Pending,
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
            timer: Box::pin(tokio::time::sleep(self.close_limit)),
        }));
    }

    /// Writes what is queued, says goodbye in the protocol's way, and gives up when the peer takes
    /// too long to let that happen.
    fn poll_close(&mut self, cx: &mut Context<'_>, written: bool) -> Poll<Ended> {
        if self.closing.is_none() {
            self.begin_close(CloseReason::Local);
        }
        let closing = self.closing.as_mut().expect("it has just begun");
        if closing.timer.as_mut().poll(cx).is_pending() {
            if !written {
                return Poll::Pending;
            }
            // That the peer is gone already does not matter any more.
            let _ = ready!(Pin::new(&mut self.stream).poll_shutdown(cx));
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
        let bytes = incoming.filled();
        if bytes.is_empty() {
            return Poll::Ready(Err(CloseReason::Peer));
        }
        let handled = if self.partial.is_empty() {
            self.handle(bytes).map(|consumed| {
                self.partial.extend_from_slice(&bytes[consumed..]);
            })
        } else {
            let mut partial = mem::take(&mut self.partial);
            append(&mut partial, bytes);
            self.handle(&partial).map(|consumed| {
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
    fn handle(&self, bytes: &[u8]) -> Result<usize, FramingError> {
        let mut rest = bytes;
        while !rest.is_empty() && self.link.state.get() == State::Open {
            // Whoever waits for a pong takes a line end for one: it may be half of a ping, but then
            // the pong is the other half.
            if self.link.pong.get() != Pong::Unasked && rest.starts_with(framing::PONG) {
                self.link.pong.set(Pong::Unasked);
                rest = &rest[framing::PONG.len()..];
                continue;
            }
            let frame = framing::next(rest).inspect_err(|error| {
                if let Some(head) = framing::unframed_head(rest, error) {
                    self.handler.unframed(&self.flow, head);
                }
            })?;
            let consumed = match frame {
                Frame::Message { length } => {
                    self.handler.message(&self.flow, &rest[..length]);
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

/// Appends without reserving more than a message may need.
fn append(partial: &mut Vec<u8>, bytes: &[u8]) {
    let needed = partial.len() + bytes.len();
    if needed > partial.capacity() {
        let capacity = needed.max(2 * partial.len()).min(MAX_MESSAGE_BYTES);
        partial.reserve_exact(capacity - partial.len());
    }
    partial.extend_from_slice(bytes);
}

/// The sending half of a connection.
pub(super) struct StreamLink {
    id: u64,
    local: SocketAddr,
    state: Cell<State>,
    pong: Cell<Pong>,
    /// Whether the task is at work, and so will look at the queue without being woken.
    driving: Cell<bool>,
    queue: RefCell<SendQueue>,
    driver: RefCell<Option<Waker>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Open,
    /// This side has asked to close, or the peer has ended what it sends.
    Closing,
    Closed,
}

/// What is known of the answer to a ping.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Pong {
    /// Nobody pinged, or the pong has come.
    Unasked,
    /// There is still time.
    Awaited,
    /// It must have come, unless it is behind a message that is still arriving.
    Due,
    /// That message has taken until the next keep-alive.
    Overdue,
}

impl StreamLink {
    fn note_driver(&self, cx: &Context<'_>) {
        let mut driver = self.driver.borrow_mut();
        if !driver
            .as_ref()
            .is_some_and(|driver| driver.will_wake(cx.waker()))
        {
            *driver = Some(cx.waker().clone());
        }
    }

    fn wake(&self) {
        if !self.driving.get()
            && let Some(driver) = &*self.driver.borrow()
        {
            driver.wake_by_ref();
        }
    }

    /// Queues bytes and sees to it that they are written.
    fn push(&self, bytes: &[u8]) -> Result<(), SendError> {
        if self.state.get() != State::Open {
            return Err(SendError::Closed);
        }
        let mut queue = self.queue.borrow_mut();
        if queue.unwritten().len() + bytes.len() > QUEUE_LIMIT_BYTES {
            return Err(SendError::Full {
                limit_bytes: QUEUE_LIMIT_BYTES,
            });
        }
        // With something queued, the task has been woken already or waits for the peer to read.
        let was_empty = queue.is_empty();
        queue.push(bytes);
        drop(queue);
        if was_empty {
            self.wake();
        }
        Ok(())
    }

    fn end(&self) {
        self.state.set(State::Closed);
        self.queue.take();
        self.driver.take();
    }
}

impl Link for StreamLink {
    fn send(&self, _peer: SocketAddr, message: &[u8]) -> Result<(), SendError> {
        self.push(message)
    }

    fn close(&self) {
        if self.state.get() == State::Open {
            self.state.set(State::Closing);
            self.wake();
        }
    }

    fn ping(&self) -> Result<(), SendError> {
        self.push(framing::PING)?;
        if self.pong.get() == Pong::Unasked {
            self.pong.set(Pong::Awaited);
        }
        Ok(())
    }

    fn require_pong(&self) {
        self.pong.set(match self.pong.get() {
            Pong::Unasked => return,
            Pong::Awaited => Pong::Due,
            Pong::Due | Pong::Overdue => Pong::Overdue,
        });
        self.wake();
    }

    fn id(&self) -> u64 {
        self.id
    }

    fn local(&self) -> SocketAddr {
        self.local
    }
}

/// Bytes that wait to be written. Holds a buffer only while there are any.
#[derive(Default)]
struct SendQueue {
    bytes: Vec<u8>,
    written: usize,
}

/// Buffers that a worker keeps for its next batches, and how large they may be.
const SPARE_BUFFERS: usize = 32;
const SPARE_BUFFER_BYTES: usize = 16 * 1024;

thread_local! {
    static SPARE: RefCell<Vec<Vec<u8>>> = const { RefCell::new(Vec::new()) };
}

impl SendQueue {
    fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    fn unwritten(&self) -> &[u8] {
        &self.bytes[self.written..]
    }

    fn push(&mut self, message: &[u8]) {
        if self.bytes.capacity() == 0 {
            self.bytes = SPARE.with_borrow_mut(Vec::pop).unwrap_or_default();
        }
        if self.written > self.bytes.len() / 2 {
            self.bytes.drain(..self.written);
            self.written = 0;
        }
        self.bytes.extend_from_slice(message);
    }

    fn advance(&mut self, written: usize) {
        self.written += written;
        if self.written < self.bytes.len() {
            return;
        }
        let mut spare = mem::take(self).bytes;
        if spare.capacity() <= SPARE_BUFFER_BYTES {
            spare.clear();
            SPARE.with_borrow_mut(|buffers| {
                if buffers.len() < SPARE_BUFFERS {
                    buffers.push(spare);
                }
            });
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::future::poll_fn;

    use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};

    use super::*;

    const MESSAGE: &[u8] = b"OPTIONS sip:a SIP/2.0\r\nContent-Length: 0\r\n\r\n";

    /// Answers each message with `answers` copies of it, and remembers how flows end.
    #[derive(Default)]
    struct Answering {
        answers: usize,
        received: Cell<usize>,
        unframed: RefCell<Vec<Vec<u8>>>,
        closed: RefCell<Vec<CloseReason>>,
    }

    impl Handler for Answering {
        fn unframed(&self, flow: &Flow, head: &[u8]) {
            self.unframed.borrow_mut().push(head.to_vec());
            flow.send(b"refused").unwrap();
        }

        fn message(&self, flow: &Flow, message: &[u8]) {
            self.received.set(self.received.get() + 1);
            for _ in 0..self.answers {
                flow.send(message).unwrap();
            }
        }

        fn closed(&self, _flow: &Flow, reason: &CloseReason) {
            self.closed.borrow_mut().push(reason.clone());
        }
    }

    fn connection(
        answers: usize,
        pipe_bytes: usize,
    ) -> (Connection<DuplexStream>, DuplexStream, Rc<Answering>) {
        let handler = Rc::new(Answering {
            answers,
            ..Answering::default()
        });
        let (here, there) = duplex(pipe_bytes);
        let nowhere = SocketAddr::from(([127, 0, 0, 1], 5060));
        let limit = Duration::from_millis(50);
        let explain = |error: &io::Error| error.to_string();
        let connection =
            Connection::new(here, nowhere, nowhere, 0, handler.clone(), limit, explain);
        (connection, there, handler)
    }

    /// Polls once: a whole wake-up. Tests never yield, so Tokio's budget for one turn is lifted.
    async fn wake_up<F: Future + Unpin>(future: &mut F) -> Poll<F::Output> {
        let poll = poll_fn(|cx| Poll::Ready(Pin::new(&mut *future).poll(cx)));
        tokio::task::unconstrained(poll).await
    }

    #[tokio::test]
    async fn a_wake_up_writes_once_and_leaves_no_buffer_behind() {
        let (mut connection, mut peer, handler) = connection(2, 64 * 1024);
        peer.write_all(&MESSAGE.repeat(10)).await.unwrap();
        assert!(wake_up(&mut connection).await.is_pending());
        assert_eq!(handler.received.get(), 10);
        let mut answers = vec![0; 64 * 1024];
        assert_eq!(peer.read(&mut answers).await.unwrap(), 20 * MESSAGE.len());
        assert_eq!(connection.partial.capacity(), 0);
        assert_eq!(connection.link.queue.borrow().bytes.capacity(), 0);
    }

    #[tokio::test]
    async fn an_unfinished_message_keeps_no_more_than_it_may_hold() {
        let (mut connection, mut peer, handler) = connection(0, 1024 * 1024);
        let body_bytes = 65_400;
        let head = format!("OPTIONS sip:a SIP/2.0\r\nContent-Length: {body_bytes}\r\n\r\n");
        peer.write_all(head.as_bytes()).await.unwrap();
        for _ in 0..body_bytes / 100 {
            assert!(wake_up(&mut connection).await.is_pending());
            assert_eq!(handler.received.get(), 0);
            assert!(connection.partial.capacity() <= MAX_MESSAGE_BYTES);
            peer.write_all(&[b'x'; 100]).await.unwrap();
        }
        assert!(wake_up(&mut connection).await.is_pending());
        assert_eq!(handler.received.get(), 1);
        assert_eq!(connection.partial.capacity(), 0);
    }

    #[tokio::test]
    async fn a_peer_that_does_not_read_fills_its_queue_and_nothing_else() {
        let (mut connection, mut peer, _) = connection(0, 1_000);
        let flow = connection.flow().clone();
        let chunk = vec![b'x'; 64 * 1024];
        let mut queued = 0;
        let full = loop {
            match flow.send(&chunk) {
                Ok(()) => queued += chunk.len(),
                Err(full) => break full,
            }
            assert!(wake_up(&mut connection).await.is_pending());
        };
        let limit_bytes = QUEUE_LIMIT_BYTES;
        assert_eq!(full, SendError::Full { limit_bytes });
        assert!(queued <= limit_bytes + chunk.len());

        // As soon as it reads, everything arrives in order, and the queue is free again.
        let mut received = 0;
        let mut buffer = vec![0; 1_000];
        while received < queued {
            received += peer.read(&mut buffer).await.unwrap();
            assert!(wake_up(&mut connection).await.is_pending());
        }
        assert_eq!(connection.link.queue.borrow().bytes.capacity(), 0);
        flow.send(&chunk).unwrap();
    }

    #[tokio::test]
    async fn closing_a_flow_whose_peer_does_not_read_takes_no_longer_than_the_limit() {
        let (mut connection, _peer, handler) = connection(0, 100);
        connection.flow().send(&[b'x'; 1_000]).unwrap();
        connection.flow().close();
        (&mut connection).await;
        assert_eq!(*handler.closed.borrow(), [CloseReason::Local]);
    }

    #[tokio::test]
    async fn what_came_before_the_end_is_answered() {
        for (last, expected) in [
            (&b""[..], "the peer closed it"),
            (b"\xff", "the peer sent garbage"),
        ] {
            // The pipe holds less than the answers, so that writing them takes several turns.
            let (connection, mut peer, handler) = connection(3, 100);
            let peer = async {
                peer.write_all(MESSAGE).await.unwrap();
                peer.write_all(last).await.unwrap();
                peer.shutdown().await.unwrap();
                let mut answers = Vec::new();
                peer.read_to_end(&mut answers).await.unwrap();
                assert_eq!(answers, MESSAGE.repeat(3));
            };
            tokio::join!(peer, connection);
            let closed = handler.closed.borrow();
            assert_eq!(closed.len(), 1);
            assert!(closed[0].to_string().starts_with(expected), "{closed:?}");
        }
    }

    /// A peer's last words are read also when they arrive together with its end.
    #[tokio::test]
    async fn the_reason_of_a_refusal_is_told_though_writing_fails_first() {
        struct Refused;

        impl AsyncRead for Refused {
            fn poll_read(
                self: Pin<&mut Self>,
                _: &mut Context<'_>,
                _: &mut ReadBuf<'_>,
            ) -> Poll<io::Result<()>> {
                Poll::Ready(Err(io::Error::other("not on the list")))
            }
        }

        impl AsyncWrite for Refused {
            fn poll_write(
                self: Pin<&mut Self>,
                _: &mut Context<'_>,
                _: &[u8],
            ) -> Poll<io::Result<usize>> {
                Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()))
            }

            fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
                Poll::Ready(Ok(()))
            }

            fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
                Poll::Ready(Ok(()))
            }
        }

        let handler = Rc::new(Answering::default());
        let nowhere = SocketAddr::from(([127, 0, 0, 1], 5060));
        let limit = Duration::from_millis(50);
        let explain = |error: &io::Error| format!("the peer said: {error}");
        let connection = Connection::new(
            Refused,
            nowhere,
            nowhere,
            0,
            handler.clone(),
            limit,
            explain,
        );
        connection.flow().send(MESSAGE).unwrap();
        connection.await;
        let told = CloseReason::Broken("the peer said: not on the list".to_owned());
        assert_eq!(*handler.closed.borrow(), [told]);
    }

    #[tokio::test]
    async fn a_message_whose_end_cannot_be_found_can_be_refused_before_its_flow_closes() {
        let conflict = FramingError::ConflictingContentLength {
            first: 1,
            second: 2,
        };
        let bytes = MAX_MESSAGE_BYTES + 44;
        for (length, error) in [
            ("", FramingError::NoContentLength),
            ("l: -1\r\n", FramingError::BadContentLength),
            ("l: 1\r\nl: 2\r\n", conflict),
            ("l: 65537\r\n", FramingError::MessageTooLong { bytes }),
        ] {
            let (mut connection, mut peer, handler) = connection(1, 1_000);
            let head = format!("OPTIONS sip:a SIP/2.0\r\nVia: x\r\n{length}\r\n");
            peer.write_all(&[MESSAGE, head.as_bytes(), b"body"].concat())
                .await
                .unwrap();
            assert!(wake_up(&mut connection).await.is_ready(), "{length}");
            assert_eq!(*handler.unframed.borrow(), [head.into_bytes()]);
            assert_eq!(*handler.closed.borrow(), [CloseReason::Garbage(error)]);
            drop(connection);
            let mut answers = Vec::new();
            peer.read_to_end(&mut answers).await.unwrap();
            assert_eq!(answers, [MESSAGE, b"refused"].concat());
        }
        // What is no message has no head to show.
        let (mut connection, mut peer, handler) = connection(1, 1_000);
        peer.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
        assert!(wake_up(&mut connection).await.is_ready());
        assert!(handler.unframed.borrow().is_empty());
    }

    #[tokio::test]
    async fn pings_are_answered_and_line_ends_skipped() {
        let (mut connection, mut peer, handler) = connection(1, 1_000);
        peer.write_all(b"\r\n\r\n").await.unwrap();
        assert!(wake_up(&mut connection).await.is_pending());
        let mut answer = [0; 10];
        assert_eq!(peer.read(&mut answer).await.unwrap(), framing::PONG.len());
        assert_eq!(&answer[..2], framing::PONG);
        peer.write_all(b"\r\n").await.unwrap();
        peer.write_all(MESSAGE).await.unwrap();
        assert!(wake_up(&mut connection).await.is_pending());
        assert_eq!(handler.received.get(), 1);
    }

    #[tokio::test]
    async fn a_pong_may_be_behind_a_message_that_is_arriving() {
        let (mut connection, mut peer, handler) = connection(0, 1_000);
        let flow = connection.flow().clone();
        flow.ping().unwrap();
        let (start, end) = MESSAGE.split_at(20);
        peer.write_all(start).await.unwrap();
        flow.require_pong();
        assert!(wake_up(&mut connection).await.is_pending());
        peer.write_all(end).await.unwrap();
        peer.write_all(framing::PONG).await.unwrap();
        assert!(wake_up(&mut connection).await.is_pending());
        flow.require_pong();
        assert!(wake_up(&mut connection).await.is_pending());
        assert_eq!(handler.received.get(), 1);

        // Without one behind it, the flow ends when the message does.
        flow.ping().unwrap();
        peer.write_all(start).await.unwrap();
        flow.require_pong();
        assert!(wake_up(&mut connection).await.is_pending());
        peer.write_all(end).await.unwrap();
        assert!(wake_up(&mut connection).await.is_ready());
        assert_eq!(handler.received.get(), 2);
        assert_eq!(*handler.closed.borrow(), [CloseReason::NoPong]);
    }

    #[tokio::test]
    async fn a_message_that_never_ends_does_not_stand_for_a_pong() {
        let (mut connection, mut peer, handler) = connection(0, 1_000);
        let flow = connection.flow().clone();
        peer.write_all(&MESSAGE[..20]).await.unwrap();
        flow.ping().unwrap();
        flow.require_pong();
        assert!(wake_up(&mut connection).await.is_pending());
        flow.ping().unwrap();
        assert!(wake_up(&mut connection).await.is_pending());
        flow.require_pong();
        assert!(wake_up(&mut connection).await.is_ready());
        assert_eq!(*handler.closed.borrow(), [CloseReason::NoPong]);
    }

    #[tokio::test]
    async fn both_ends_may_ping_at_once() {
        let (mut connection, mut peer, handler) = connection(0, 1_000);
        let flow = connection.flow().clone();
        flow.ping().unwrap();
        // The peer's ping and its pong, in one piece: which is which does not show.
        peer.write_all(b"\r\n\r\n\r\n").await.unwrap();
        assert!(wake_up(&mut connection).await.is_pending());
        flow.require_pong();
        assert!(wake_up(&mut connection).await.is_pending());
        let mut sent = [0; 10];
        let bytes = peer.read(&mut sent).await.unwrap();
        assert_eq!(&sent[..bytes], [framing::PING, framing::PONG].concat());
        assert!(handler.closed.borrow().is_empty());
    }

    #[test]
    fn the_send_queue_keeps_order_over_partial_writes() {
        let mut queue = SendQueue::default();
        let (mut pushed, mut written): (Vec<u8>, Vec<u8>) = Default::default();
        for i in 0..200_u8 {
            queue.push(&[i; 7]);
            pushed.extend([i; 7]);
            let step = queue.unwritten().len().min(usize::from(i) % 11);
            written.extend(&queue.unwritten()[..step]);
            if step > 0 {
                queue.advance(step);
            }
        }
        written.extend(queue.unwritten());
        assert_eq!(written, pushed);
    }
}
