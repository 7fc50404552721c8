//! The server transactions that are alive, by a keyed hash of what identifies them.

use std::collections::HashMap;
use std::collections::hash_map::Entry as Place;
use std::hash::BuildHasherDefault;

use crate::sip::callee::CallId;
use crate::sip::keyed::Hashed;
use crate::sip::proxy::context::ContextId;
use crate::sip::transaction::ServerTransaction;

/// Bytes of responses that are kept, on average of as many transactions as there may be: the usual
/// ones have half of it. Peers decide how long responses are, since much of a request is copied
/// into them.
const KEPT_BYTES_EACH: usize = 1_024;

/// Buffers and places that are kept for the next transactions even if hardly any are alive.
const SPARE_MIN: usize = 64;

/// What a server transaction was opened for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Owner {
    /// To answer the request when it comes again.
    None,
    /// An INVITE that made a call here.
    Call(CallId),
    /// A request that was forwarded.
    Forward(ContextId),
}

/// One server transaction.
#[derive(Debug)]
pub(super) struct Entry<F> {
    pub(super) machine: ServerTransaction,
    /// Last response, empty if it is not the transaction that repeats it.
    response: Vec<u8>,
    pub(super) flow: F,
    pub(super) owner: Owner,
}

#[derive(Debug)]
pub(super) struct Transactions<F> {
    /// By a keyed hash, which is not hashed again.
    entries: HashMap<u64, Entry<F>, BuildHasherDefault<Hashed>>,
    /// The most of them since the table was last cut down: what it has room for. Its own capacity does not
    /// count the places that removed entries have left behind.
    most: usize,
    /// Buffers of transactions that have ended.
    spare: Vec<Vec<u8>>,
    /// Capacity of all buffers.
    kept_bytes: usize,
    limit: usize,
}

impl<F> Entry<F> {
    /// Last response, if it is the transaction that repeats it.
    pub(super) fn response(&self) -> Option<&[u8]> {
        (!self.response.is_empty()).then_some(&self.response)
    }
}

impl<F: Clone> Transactions<F> {
    pub(super) fn new(limit: usize) -> Self {
        Self {
            entries: HashMap::default(),
            most: 0,
            spare: Vec::new(),
            kept_bytes: 0,
            limit,
        }
    }

    /// Opens a transaction unless it is open; `false` when there are too many.
    pub(super) fn open(
        &mut self,
        id: u64,
        machine: ServerTransaction,
        flow: &F,
        owner: Owner,
    ) -> bool {
        let is_full = self.entries.len() >= self.limit;
        self.most = self.most.max(self.entries.len() + 1);
        match self.entries.entry(id) {
            Place::Occupied(_) => true,
            Place::Vacant(_) if is_full => false,
            Place::Vacant(place) => {
                place.insert(Entry {
                    machine,
                    response: self.spare.pop().unwrap_or_default(),
                    flow: flow.clone(),
                    owner,
                });
                true
            }
        }
    }

    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(super) fn find(&mut self, id: u64) -> Option<&mut Entry<F>> {
        self.entries.get_mut(&id)
    }

    /// Says what an open transaction is for, once that is known.
    pub(super) fn own(&mut self, id: u64, owner: Owner) {
        if let Some(entry) = self.entries.get_mut(&id) {
            entry.owner = owner;
        }
    }

    /// Keeps the last response of a transaction for the case that its request comes again. When too
    /// many bytes are kept already, this one is not, and nothing answers the repeated request.
    pub(super) fn keep(&mut self, id: u64, response: &[u8]) {
        let Some(entry) = self.entries.get_mut(&id) else {
            return;
        };
        let before = entry.response.capacity();
        entry.response.clear();
        let others = self.kept_bytes - before;
        if others + response.len().max(before) <= self.limit.saturating_mul(KEPT_BYTES_EACH) {
            entry.response.reserve_exact(response.len());
            entry.response.extend_from_slice(response);
        }
        self.kept_bytes = others + entry.response.capacity();
    }

    pub(super) fn remove(&mut self, id: u64) {
        let Some(mut entry) = self.entries.remove(&id) else {
            return;
        };
        let bytes = entry.response.capacity();
        if bytes > KEPT_BYTES_EACH {
            // Not usual: its memory goes back.
            self.kept_bytes -= bytes;
        } else if bytes > 0 {
            entry.response.clear();
            self.spare.push(entry.response);
        }
        self.shrink();
    }

    /// Gives back what a crowd has left behind: under a steady load, hardly ever anything.
    fn shrink(&mut self) {
        let wanted = self.entries.len().max(SPARE_MIN);
        while self.spare.len() > wanted
            && let Some(buffer) = self.spare.pop()
        {
            self.kept_bytes -= buffer.capacity();
        }
        // At an eighth, down to half full: each place is moved as seldom as it is when tables grow.
        let is_sparse = self.most / 8 > wanted;
        let is_deserted = self.entries.is_empty() && self.most > 2 * SPARE_MIN;
        if is_sparse || is_deserted {
            let places = if is_deserted { SPARE_MIN } else { 2 * wanted };
            self.entries.shrink_to(places);
            self.spare.shrink_to(places);
            self.most = places;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;
    use crate::sip::transaction::{Kind, Reliability};

    #[test]
    fn a_crowd_leaves_nothing_behind() {
        // 224 entries are as many as a table of 256 places takes.
        for crowd in [224, 10_000] {
            leaves_nothing_behind(crowd);
        }
    }

    fn leaves_nothing_behind(crowd: u64) {
        let machine =
            ServerTransaction::new(Kind::NonInvite, Reliability::Datagram, Instant::now());
        let mut transactions = Transactions::new(20_000);
        for id in 0..crowd {
            assert!(transactions.open(id, machine, &(), Owner::None));
            transactions.keep(id, &[b'x'; 400]);
        }
        for id in 0..crowd {
            transactions.remove(id);
        }
        assert_eq!(transactions.spare.len(), SPARE_MIN);
        assert_eq!(transactions.kept_bytes, SPARE_MIN * 400);
        assert!(transactions.entries.capacity() <= 2 * SPARE_MIN);
        assert!(transactions.spare.capacity() <= 2 * SPARE_MIN);
    }

    #[test]
    fn what_is_kept_is_bounded_in_bytes_too() {
        let machine =
            ServerTransaction::new(Kind::NonInvite, Reliability::Datagram, Instant::now());
        let mut transactions = Transactions::new(100);
        let long = vec![b'x'; 60_000];
        for id in 0..100 {
            assert!(transactions.open(id, machine, &(), Owner::None));
            transactions.keep(id, &long);
        }
        let kept = |transactions: &mut Transactions<()>, id| {
            let entry = transactions.find(id);
            entry.and_then(|entry| entry.response().map(<[u8]>::len))
        };
        assert_eq!(kept(&mut transactions, 0), Some(60_000));
        assert_eq!(kept(&mut transactions, 1), None);
        assert!(!transactions.open(100, machine, &(), Owner::None));
        // There is room again, and no long buffer stays behind.
        transactions.remove(0);
        assert_eq!(transactions.kept_bytes, 0);
        for _ in 0..3 {
            assert!(transactions.open(0, machine, &(), Owner::None));
            transactions.keep(0, &long[..10]);
            transactions.keep(0, &long[..500]);
            assert_eq!(kept(&mut transactions, 0), Some(500));
            assert_eq!(transactions.kept_bytes, 500);
            transactions.remove(0);
        }
    }
}
