//! The sending half of a connection: what senders leave there, and how they wake the task that writes
//! it.

use std::cell::{Cell, RefCell};
use std::mem;
use std::net::SocketAddr;
use std::task::{Context, Waker};

use super::super::{Link, SendError};
use crate::measure::heap::{self, Part};
use crate::sip::framing;

/// How much may wait to be written to a peer that does not read.
pub(super) const QUEUE_LIMIT_BYTES: usize = 1024 * 1024;

/// The sending half of a connection.
pub(in crate::transport) struct StreamLink {
    pub(super) id: u64,
    pub(super) local: SocketAddr,
    pub(super) state: Cell<State>,
    pub(super) pong: Cell<Pong>,
    /// Whether the task is at work, and so will look at the queue without being woken.
    pub(super) driving: Cell<bool>,
    pub(super) queue: RefCell<SendQueue>,
    pub(super) driver: RefCell<Option<Waker>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    Open,
    /// This side has asked to close, or the peer has ended what it sends.
    Closing,
    Closed,
}

/// What is known of the answer to a ping.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pong {
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
    pub(super) fn note_driver(&self, cx: &Context<'_>) {
        let mut driver = self.driver.borrow_mut();
        if !driver
            .as_ref()
            .is_some_and(|driver| driver.will_wake(cx.waker()))
        {
            *driver = Some(cx.waker().clone());
        }
    }

    pub(super) fn wake(&self) {
        if !self.driving.get()
            && let Some(driver) = &*self.driver.borrow()
        {
            driver.wake_by_ref();
        }
    }

    /// Queues bytes and sees to it that they are written.
    pub(super) fn push(&self, bytes: &[u8]) -> Result<(), SendError> {
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

    pub(super) fn end(&self) {
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
pub(super) struct SendQueue {
    pub(super) bytes: Vec<u8>,
    written: usize,
}

/// Buffers that a worker keeps for its next batches, and how large they may be.
const SPARE_BUFFERS: usize = 32;
const SPARE_BUFFER_BYTES: usize = 64 * 1024;

thread_local! {
    static SPARE: RefCell<Vec<Vec<u8>>> = const { RefCell::new(Vec::new()) };
}

impl SendQueue {
    pub(super) fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    pub(super) fn unwritten(&self) -> &[u8] {
        &self.bytes[self.written..]
    }

    pub(super) fn push(&mut self, message: &[u8]) {
        let _scope = heap::part(Part::Buffers);
        if self.bytes.capacity() == 0 {
            self.bytes = SPARE.with_borrow_mut(Vec::pop).unwrap_or_default();
        }
        if self.written > self.bytes.len() / 2 {
            self.bytes.drain(..self.written);
            self.written = 0;
        }
        self.bytes.extend_from_slice(message);
    }

    pub(super) fn advance(&mut self, written: usize) {
        self.written += written;
        if self.written < self.bytes.len() {
            return;
        }
        let mut spare = mem::take(self).bytes;
        if spare.capacity() <= SPARE_BUFFER_BYTES {
            let _scope = heap::part(Part::Buffers);
            spare.clear();
            SPARE.with_borrow_mut(|buffers| {
                if buffers.len() < SPARE_BUFFERS {
                    buffers.push(spare);
                }
            });
        }
    }
}
