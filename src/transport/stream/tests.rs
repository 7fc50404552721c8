//! A connection over a pipe, polled by hand.

#![allow(clippy::unwrap_used)]

use std::future::poll_fn;

use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};

use super::link::*;
use super::*;
use crate::transport::SendError;

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

    fn message(&self, flow: &Flow, message: &[u8], _now: Instant) {
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
    let connection = Connection::new(here, nowhere, nowhere, 0, handler.clone(), limit, explain);
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

/// All has been written, but the end cannot be told: what lies below never comes to it.
#[tokio::test]
async fn closing_a_flow_whose_goodbye_does_not_leave_takes_no_longer_than_the_limit() {
    struct Stuck;

    impl AsyncRead for Stuck {
        fn poll_read(
            self: Pin<&mut Self>,
            _: &mut Context<'_>,
            _: &mut ReadBuf<'_>,
        ) -> Poll<io::Result<()>> {
            Poll::Pending
        }
    }

    impl AsyncWrite for Stuck {
        fn poll_write(
            self: Pin<&mut Self>,
            _: &mut Context<'_>,
            bytes: &[u8],
        ) -> Poll<io::Result<usize>> {
            Poll::Ready(Ok(bytes.len()))
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Pending
        }
    }

    let handler = Rc::new(Answering::default());
    let nowhere = SocketAddr::from(([127, 0, 0, 1], 5060));
    let limit = Duration::from_millis(50);
    let explain = |error: &io::Error| error.to_string();
    let connection = Connection::new(Stuck, nowhere, nowhere, 0, handler.clone(), limit, explain);
    connection.flow().send(MESSAGE).unwrap();
    connection.flow().close();
    connection.await;
    assert_eq!(*handler.closed.borrow(), [CloseReason::Local]);
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
