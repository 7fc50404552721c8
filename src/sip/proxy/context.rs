//! Response contexts (RFC 3261 §16.2): what a proxy remembers of a request that it forwarded, until
//! nothing more can come back for it.
//!
//! A context is found by the slot that its branch carries. Once a 2xx has passed, all that is kept is
//! the way back, for the 2xx that the callee may repeat (RFC 6026 §7.3).

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use crate::sip::header::Method;
use crate::sip::registrar::BindingId;
use crate::sip::server::NextHop;
use crate::sip::timer::Timing;
use crate::sip::transaction::{ClientTransaction, Fired, earliest};

/// Timer C (RFC 3261 §16.6 step 11): more than three minutes.
pub(crate) const TIMER_C: Duration = Duration::from_secs(181);

/// Where a request was, or is to be, sent.
#[derive(Clone, Debug)]
pub(crate) enum Destination<F> {
    /// Over the flow of a binding.
    Flow {
        flow: F,
        peer: SocketAddr,
        interface: usize,
    },
    /// Over a flow that its peer opened, if that lives.
    Peer(NextHop),
    /// To an address.
    Hop(NextHop),
}

impl<F> Destination<F> {
    pub(crate) fn interface(&self) -> usize {
        match self {
            Self::Flow { interface, .. } => *interface,
            Self::Peer(hop) | Self::Hop(hop) => hop.interface,
        }
    }

    /// The peer that only this flow leads to.
    pub(crate) fn peer(&self) -> Option<SocketAddr> {
        match self {
            Self::Flow { peer, .. } => Some(*peer),
            Self::Peer(hop) => Some(hop.address),
            Self::Hop(_) => None,
        }
    }
}

/// One place that a request may go to.
#[derive(Clone, Debug)]
pub(crate) struct Target<F> {
    /// Request-URI there.
    pub(crate) uri: Box<str>,
    /// `Path` of the binding: goes in front of what is left of `Route`.
    pub(crate) path: Option<Box<str>>,
    pub(crate) destination: Destination<F>,
    pub(crate) binding: Option<OfBinding>,
    /// Whether it is another way to the target before it: of no use once that has answered.
    pub(crate) is_other_way: bool,
}

/// The binding that a target is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct OfBinding {
    /// The account.
    pub(crate) user: u32,
    pub(crate) id: BindingId,
    /// The same for all flows of one user agent (RFC 5626 §5.3).
    pub(crate) agent: usize,
}

/// Targets that were not tried yet.
#[derive(Clone, Debug)]
pub(crate) struct Others<F> {
    /// The request as it arrived.
    pub(crate) request: Box<[u8]>,
    /// How many of its routes were taken off.
    pub(crate) routes_popped: usize,
    /// In reverse order.
    pub(crate) targets: Vec<Target<F>>,
}

/// Who asked.
#[derive(Clone, Debug)]
pub(crate) struct Upstream<F> {
    pub(crate) flow: F,
    pub(crate) peer: SocketAddr,
    pub(crate) interface: usize,
    /// The server transaction.
    pub(crate) transaction: u64,
}

/// How far the CANCEL of a forwarded INVITE is.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Cancel {
    NotAsked,
    /// It waits for a provisional response (RFC 3261 §9.1).
    Asked,
    /// It was sent; without a final response the INVITE is over at `give_up_at`.
    Sent {
        machine: ClientTransaction,
        give_up_at: Instant,
    },
}

/// One forwarded request.
#[derive(Debug)]
pub(crate) struct Context<F> {
    /// Which of the slot's contexts, as the branch says.
    pub(crate) nonce: u64,
    pub(crate) route_hash: u32,
    pub(crate) method: Method,
    /// Who asked.
    pub(crate) upstream: Upstream<F>,
    pub(crate) machine: ClientTransaction,
    pub(crate) destination: Destination<F>,
    /// The binding that the request was sent to, if it was one.
    pub(crate) binding: Option<OfBinding>,
    /// As it was sent; empty once that is not needed any more.
    pub(crate) sent: Vec<u8>,
    /// What else may be tried; most requests have one target.
    pub(crate) others: Option<Box<Others<F>>>,
    /// The best final response of the targets that were tried, as it came.
    pub(crate) best: Option<(u16, Box<[u8]>)>,
    pub(crate) cancel: Cancel,
    /// Timer C, of an INVITE that got a provisional response.
    pub(crate) patience_ends_at: Option<Instant>,
    /// Whether the final response has gone upstream.
    pub(crate) is_answered: bool,
    /// When the earliest entry in the timer wheel that counts is due.
    pub(crate) scheduled: Option<Instant>,
}

/// What a context's owner does because time has passed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Due {
    Nothing,
    /// Sends the request again.
    RetransmitRequest,
    /// Sends the CANCEL again.
    RetransmitCancel,
    /// Nobody answered: as if 408 had come.
    TimedOut,
    /// It rang for too long: CANCEL.
    LostPatience,
    /// Forgets it.
    Over,
}

impl<F> Context<F> {
    pub(crate) fn deadline(&self) -> Option<Instant> {
        let cancel = match &self.cancel {
            Cancel::NotAsked | Cancel::Asked => None,
            Cancel::Sent {
                machine,
                give_up_at,
            } => earliest(machine.deadline(), Some(*give_up_at)),
        };
        earliest(
            earliest(self.machine.deadline(), self.patience_ends_at),
            cancel,
        )
    }

    /// Called again until it says [`Due::Nothing`] or [`Due::Over`].
    pub(crate) fn on_timeout(&mut self, timing: &Timing, now: Instant) -> Due {
        match self.machine.on_timeout(timing, now) {
            Fired::Nothing => {}
            Fired::Retransmit => return Due::RetransmitRequest,
            Fired::TimedOut => return Due::TimedOut,
            Fired::Terminated => return Due::Over,
        }
        if let Cancel::Sent {
            machine,
            give_up_at,
        } = &mut self.cancel
        {
            match machine.on_timeout(timing, now) {
                Fired::Retransmit => return Due::RetransmitCancel,
                Fired::Nothing | Fired::TimedOut | Fired::Terminated => {}
            }
            if *give_up_at <= now {
                return Due::TimedOut;
            }
        }
        if self.patience_ends_at.is_some_and(|at| at <= now) {
            self.patience_ends_at = None;
            return Due::LostPatience;
        }
        Due::Nothing
    }
}

/// Names one context beyond its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ContextId {
    pub(crate) slot: u32,
    pub(crate) nonce: u64,
}

/// The contexts of one proxy.
#[derive(Debug)]
pub(crate) struct Contexts<F> {
    entries: slab::Slab<Context<F>>,
    /// Buffers of contexts that have ended.
    spare: Vec<Vec<u8>>,
    limit: usize,
}

/// Buffers that are kept for the next contexts, and how large they may be.
const SPARE_BUFFERS: usize = 64;
const SPARE_BUFFER_BYTES: usize = 4_096;

impl<F> Contexts<F> {
    pub(crate) fn new(limit: usize) -> Self {
        Self {
            entries: slab::Slab::new(),
            spare: Vec::new(),
            limit,
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(crate) fn is_full(&self) -> bool {
        self.entries.len() >= self.limit
    }

    /// The slot that [`Contexts::insert`] fills next.
    pub(crate) fn vacant_slot(&self) -> u32 {
        u32::try_from(self.entries.vacant_key()).expect("bounded by a limit of 32 bits")
    }

    pub(crate) fn insert(&mut self, context: Context<F>) -> ContextId {
        let nonce = context.nonce;
        let slot = self.entries.insert(context);
        ContextId {
            slot: u32::try_from(slot).expect("bounded by a limit of 32 bits"),
            nonce,
        }
    }

    pub(crate) fn find(&mut self, id: ContextId) -> Option<&mut Context<F>> {
        let context = self.entries.get_mut(id.slot as usize)?;
        (context.nonce == id.nonce).then_some(context)
    }

    pub(crate) fn remove(&mut self, id: ContextId) {
        if self.find(id).is_some() {
            let context = self.entries.remove(id.slot as usize);
            self.give_back(context.sent);
        }
    }

    /// An empty buffer.
    pub(crate) fn buffer(&mut self) -> Vec<u8> {
        self.spare.pop().unwrap_or_default()
    }

    pub(crate) fn give_back(&mut self, mut buffer: Vec<u8>) {
        let is_usual = (1..=SPARE_BUFFER_BYTES).contains(&buffer.capacity());
        if is_usual && self.spare.len() < SPARE_BUFFERS {
            buffer.clear();
            self.spare.push(buffer);
        }
    }

    /// The contexts whose request went to `hop` and of which nothing was heard since.
    pub(crate) fn waiting_for(&self, hop: NextHop) -> Vec<ContextId> {
        let waits = |context: &Context<F>| match &context.destination {
            Destination::Hop(to) => *to == hop && context.machine.is_calling(),
            Destination::Flow { .. } | Destination::Peer(_) => false,
        };
        self.entries
            .iter()
            .filter(|(_, context)| waits(context))
            .map(|(slot, context)| ContextId {
                slot: u32::try_from(slot).expect("bounded by a limit of 32 bits"),
                nonce: context.nonce,
            })
            .collect()
    }
}
