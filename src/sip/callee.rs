//! The called side of calls (RFC 3261 §13.3, §15.1.2): the dialogs of an answering user agent.
//!
//! A call is found by its index, which our own To tag carries, and is the right one only if the tag's
//! nonce, Call-ID and the caller's tag agree. Slots and their buffers are reused, so that calls in
//! the steady state allocate nothing.
//!
//! Repeating the 200 until the ACK is the user agent's duty and not the transaction's, over streams
//! as over datagrams (RFC 3261 §13.3.1.4). It never shows when the ACK comes within T1.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::agent::{hex_u32, hex16};
use super::text::Text;
use super::timer::Timing;

/// Our tag: eight hexadecimal digits of the slot, eight of its nonce.
pub(crate) type Tag = Text<16>;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CallState {
    /// `message` holds the INVITE, to be answered at this time.
    Ringing { answer_at: Instant },
    /// `message` holds the 200, to be repeated until the ACK.
    Answered {
        interval: Duration,
        repeat_at: Instant,
        give_up_at: Instant,
    },
    /// ACK is there; forgotten at this time if no BYE comes.
    Confirmed { forget_at: Instant },
}

/// One call.
#[derive(Debug)]
pub(crate) struct Call<F> {
    /// Which of the slot's calls, as the tag says.
    nonce: u32,
    /// Keyed hash of Call-ID and the caller's tag.
    dialog: u64,
    /// The caller's sequence number so far.
    cseq: u32,
    pub(crate) state: CallState,
    /// Identifies the INVITE's transaction.
    pub(crate) transaction: u64,
    pub(crate) flow: F,
    /// Where the INVITE came from.
    pub(crate) peer: SocketAddr,
    /// The interface that it came to.
    pub(crate) interface: usize,
    /// Own address there: each flow of a user agent has another.
    pub(crate) local: SocketAddr,
    pub(crate) message: Vec<u8>,
}

impl<F> Call<F> {
    /// When something has to happen.
    pub(crate) fn deadline(&self) -> Instant {
        match self.state {
            CallState::Ringing { answer_at } => answer_at,
            CallState::Answered {
                repeat_at,
                give_up_at,
                ..
            } => repeat_at.min(give_up_at),
            CallState::Confirmed { forget_at } => forget_at,
        }
    }

    /// Whether a further request comes in order (RFC 3261 §12.2.2); one that does counts from now on.
    pub(crate) fn is_in_order(&mut self, cseq: u32) -> bool {
        let is_in_order = cseq >= self.cseq;
        self.cseq = self.cseq.max(cseq);
        is_in_order
    }

    /// The 200 was sent at `now` for the first time.
    pub(crate) fn answered(&mut self, timing: &Timing, now: Instant) {
        self.state = CallState::Answered {
            interval: timing.t1,
            repeat_at: now + timing.t1,
            give_up_at: now + timing.timeout(),
        };
    }

    /// Whether the 200 is to be sent again; moves on to its next time.
    pub(crate) fn repeat(&mut self, timing: &Timing, now: Instant) -> bool {
        let CallState::Answered {
            interval,
            repeat_at,
            ..
        } = &mut self.state
        else {
            return false;
        };
        if *repeat_at > now {
            return false;
        }
        *interval = (*interval * 2).min(timing.t2);
        *repeat_at += *interval;
        true
    }
}

/// What a call is made of.
#[derive(Debug)]
pub(crate) struct NewCall<F> {
    pub(crate) dialog: u64,
    /// Sequence number of the INVITE.
    pub(crate) cseq: u32,
    pub(crate) answer_at: Instant,
    pub(crate) transaction: u64,
    pub(crate) flow: F,
    pub(crate) peer: SocketAddr,
    /// The interface that it came to.
    pub(crate) interface: usize,
    /// Own address there.
    pub(crate) local: SocketAddr,
}

/// Names one call beyond its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct CallId {
    slot: u32,
    nonce: u32,
}

impl CallId {
    pub(crate) fn tag(self) -> Tag {
        hex16(u64::from(self.slot) << 32 | u64::from(self.nonce))
    }

    pub(crate) fn from_tag(tag: &str) -> Option<Self> {
        let digits = tag.as_bytes();
        if digits.len() != 16 {
            return None;
        }
        Some(Self {
            slot: hex_u32(&digits[..8])?,
            nonce: hex_u32(&digits[8..])?,
        })
    }
}

/// The calls of one server.
#[derive(Debug)]
pub(crate) struct Calls<F> {
    slots: Vec<Option<Call<F>>>,
    free: Vec<u32>,
    /// Buffers of calls that have ended.
    spare: Vec<Vec<u8>>,
    limit: usize,
}

impl<F> Calls<F> {
    pub(crate) fn new(limit: usize) -> Self {
        Self {
            slots: Vec::new(),
            free: Vec::new(),
            spare: Vec::new(),
            limit,
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    /// A place for a new call, `None` when there are as many as allowed. `random` makes its tag
    /// unpredictable.
    pub(crate) fn reserve(&mut self, random: u32) -> Option<CallId> {
        let slot = match self.free.last() {
            Some(&slot) => slot,
            None if self.slots.len() < self.limit => {
                let slot = u32::try_from(self.slots.len()).ok()?;
                self.slots.push(None);
                self.free.push(slot);
                slot
            }
            None => return None,
        };
        Some(CallId {
            slot,
            nonce: random,
        })
    }

    /// Fills the place that was reserved last.
    pub(crate) fn insert(&mut self, id: CallId, new: NewCall<F>) -> &mut Call<F> {
        let reserved = self.free.pop();
        debug_assert_eq!(reserved, Some(id.slot), "reserved just before");
        self.slots[id.slot as usize].insert(Call {
            nonce: id.nonce,
            dialog: new.dialog,
            cseq: new.cseq,
            state: CallState::Ringing {
                answer_at: new.answer_at,
            },
            transaction: new.transaction,
            flow: new.flow,
            peer: new.peer,
            interface: new.interface,
            local: new.local,
            message: self.spare.pop().unwrap_or_default(),
        })
    }

    pub(crate) fn find(&mut self, id: CallId) -> Option<&mut Call<F>> {
        let call = self.slots.get_mut(id.slot as usize)?.as_mut()?;
        (call.nonce == id.nonce).then_some(call)
    }

    /// The call of a request within a dialog.
    pub(crate) fn find_dialog(&mut self, id: CallId, dialog: u64) -> Option<&mut Call<F>> {
        self.find(id).filter(|call| call.dialog == dialog)
    }

    pub(crate) fn remove(&mut self, id: CallId) {
        if self.find(id).is_none() {
            return;
        }
        if let Some(mut call) = self.slots[id.slot as usize].take() {
            self.free.push(id.slot);
            call.message.clear();
            // Confirmed calls gave theirs back already.
            if call.message.capacity() > 0 {
                self.spare.push(call.message);
            }
        }
    }

    /// The ACK has come: what would have been repeated is not needed any more.
    pub(crate) fn confirm(&mut self, id: CallId, forget_at: Instant) {
        let Some(call) = self.find(id) else {
            return;
        };
        call.state = CallState::Confirmed { forget_at };
        let mut message = std::mem::take(&mut call.message);
        message.clear();
        self.spare.push(message);
    }
}
