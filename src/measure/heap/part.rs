//! What allocations are for: a thread says so while it makes them.

use std::cell::Cell;
use std::future::Future;
use std::marker::PhantomData;
use std::pin::Pin;
use std::task::{Context, Poll};

use serde::{Deserialize, Serialize};

/// What a block of memory belongs to, of all that keeps a user connected.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Part {
    /// Nobody has said what.
    Other,
    /// TLS: keys, record buffers, tickets.
    TlsSession,
    /// A peer of a tunnel.
    Tunnel,
    /// TCP in user space, its buffers included.
    InnerStack,
    /// Bytes on their way: messages that are read or wait to be written.
    Buffers,
    /// Tasks, what the runtime keeps of a socket, and the state of the stream that they drive.
    Task,
    /// Who is registered where: bindings, accounts, nonces, flows by address.
    Binding,
    /// SIP transactions, calls and their timers.
    Transaction,
}

impl Part {
    /// Each of them, in the order of a connection's layers, what nobody claims last.
    pub const ALL: [Self; 8] = [
        Self::TlsSession,
        Self::Tunnel,
        Self::InnerStack,
        Self::Buffers,
        Self::Task,
        Self::Binding,
        Self::Transaction,
        Self::Other,
    ];

    /// As in the keys of metrics.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Other => "other",
            Self::TlsSession => "tls_session",
            Self::Tunnel => "tunnel",
            Self::InnerStack => "inner_stack",
            Self::Buffers => "buffers",
            Self::Task => "task",
            Self::Binding => "binding",
            Self::Transaction => "transaction",
        }
    }
}

/// Live bytes by part. Negative values cannot occur: a block is counted out where it was counted in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs)]
pub struct PartBytes {
    pub other: i64,
    pub tls_session: i64,
    pub tunnel: i64,
    pub inner_stack: i64,
    pub buffers: i64,
    pub task: i64,
    pub binding: i64,
    pub transaction: i64,
}

impl PartBytes {
    /// Asks for each part.
    pub fn collect(bytes_of: impl Fn(Part) -> i64) -> Self {
        Self {
            other: bytes_of(Part::Other),
            tls_session: bytes_of(Part::TlsSession),
            tunnel: bytes_of(Part::Tunnel),
            inner_stack: bytes_of(Part::InnerStack),
            buffers: bytes_of(Part::Buffers),
            task: bytes_of(Part::Task),
            binding: bytes_of(Part::Binding),
            transaction: bytes_of(Part::Transaction),
        }
    }

    /// Those of one part.
    #[must_use]
    pub fn of(&self, part: Part) -> i64 {
        match part {
            Part::Other => self.other,
            Part::TlsSession => self.tls_session,
            Part::Tunnel => self.tunnel,
            Part::InnerStack => self.inner_stack,
            Part::Buffers => self.buffers,
            Part::Task => self.task,
            Part::Binding => self.binding,
            Part::Transaction => self.transaction,
        }
    }

    /// The sum of both, part by part.
    #[must_use]
    pub fn plus(&self, other: &Self) -> Self {
        Self::collect(|part| self.of(part) + other.of(part))
    }

    /// Those of all parts.
    #[must_use]
    pub fn total(&self) -> i64 {
        Part::ALL.into_iter().map(|part| self.of(part)).sum()
    }
}

thread_local! {
    // Readable at any moment of a thread's life, as the allocator needs it.
    static CURRENT: Cell<Part> = const { Cell::new(Part::Other) };
}

/// What the calling thread allocates for.
#[inline]
pub(super) fn current() -> Part {
    CURRENT.get()
}

/// Until the result is dropped, what this thread allocates is for `part`; what is called meanwhile may
/// say otherwise of its own. Costs a store whether or not anybody traces.
///
/// Not to be held over an `await`, where the thread goes on with something else: see [`within`].
#[inline]
#[must_use = "a scope that is dropped at once says nothing"]
pub fn part(part: Part) -> PartScope {
    PartScope {
        outer: CURRENT.replace(part),
        of_this_thread: PhantomData,
    }
}

/// The scope of a [`Part`]; see [`part`].
#[derive(Debug)]
pub struct PartScope {
    outer: Part,
    of_this_thread: PhantomData<*const ()>,
}

impl Drop for PartScope {
    #[inline]
    fn drop(&mut self) {
        CURRENT.set(self.outer);
    }
}

/// `future`, whose polls allocate for `part`.
pub fn within<F: Future>(part: Part, future: F) -> Within<F> {
    Within { part, future }
}

/// A future whose polls allocate for one part; see [`within`].
#[derive(Debug)]
#[must_use = "futures do nothing unless polled"]
pub struct Within<F> {
    part: Part,
    future: F,
}

impl<F: Future> Future for Within<F> {
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let _scope = part(self.part);
        // SAFETY: `future` is pinned as long as `self` is: it is never moved out of it, it is dropped in
        // place, and `Self` is `Unpin` only if it is.
        let future = unsafe { self.map_unchecked_mut(|within| &mut within.future) };
        future.poll(cx)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::collections::BTreeSet;
    use std::panic;

    use super::*;

    #[test]
    fn scopes_nest_and_end_in_a_panic() {
        assert_eq!(current(), Part::Other);
        let outer = part(Part::Task);
        {
            let _inner = part(Part::Buffers);
            assert_eq!(current(), Part::Buffers);
        }
        assert_eq!(current(), Part::Task);
        let panicked = panic::catch_unwind(|| {
            let _inner = part(Part::Tunnel);
            panic::resume_unwind(Box::new(()));
        });
        assert!(panicked.is_err());
        assert_eq!(current(), Part::Task);
        drop(outer);
        assert_eq!(current(), Part::Other);
    }

    #[tokio::test]
    async fn a_future_is_within_its_part_only_while_it_is_polled() {
        let future = within(Part::TlsSession, async {
            assert_eq!(current(), Part::TlsSession);
            tokio::task::yield_now().await;
            assert_eq!(current(), Part::TlsSession);
        });
        let mut future = std::pin::pin!(future);
        std::future::poll_fn(|cx| {
            let polled = future.as_mut().poll(cx);
            assert_eq!(current(), Part::Other);
            polled
        })
        .await;
    }

    #[test]
    fn every_part_has_a_name_and_bytes_of_its_own() {
        let names: BTreeSet<_> = Part::ALL.iter().map(|part| part.name()).collect();
        assert_eq!(names.len(), Part::ALL.len());
        let bytes = PartBytes::collect(|part| 1 << part as u8);
        assert_eq!(bytes.plus(&bytes).total(), 2 * bytes.total());
        assert_eq!(bytes.total(), (1 << Part::ALL.len()) - 1);
        let json = serde_json::to_value(bytes).unwrap();
        for part in Part::ALL {
            assert_eq!(json[part.name()], 1 << part as u8);
            assert_eq!(bytes.of(part), 1 << part as u8);
        }
    }
}
