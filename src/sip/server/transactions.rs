//! The server transactions that are alive, by a keyed hash of what identifies them.

use std::collections::HashMap;
use std::collections::hash_map::Entry as Place;

use crate::sip::callee::CallId;
use crate::sip::transaction::ServerTransaction;

/// One server transaction.
#[derive(Debug)]
pub(super) struct Entry<F> {
    pub(super) machine: ServerTransaction,
    /// Last response, empty if it is not the transaction that repeats it.
    pub(super) response: Vec<u8>,
    pub(super) flow: F,
    /// Of an INVITE that made a call.
    pub(super) call: Option<CallId>,
}

#[derive(Debug)]
pub(super) struct Transactions<F> {
    entries: HashMap<u64, Entry<F>>,
    /// Buffers of transactions that have ended.
    spare: Vec<Vec<u8>>,
    limit: usize,
}

impl<F: Clone> Transactions<F> {
    pub(super) fn new(limit: usize) -> Self {
        Self {
            entries: HashMap::new(),
            spare: Vec::new(),
            limit,
        }
    }

    /// Opens a transaction unless it is open; `false` when there are too many.
    pub(super) fn open(
        &mut self,
        id: u64,
        machine: ServerTransaction,
        flow: &F,
        call: Option<CallId>,
    ) -> bool {
        let is_full = self.entries.len() >= self.limit;
        match self.entries.entry(id) {
            Place::Occupied(_) => true,
            Place::Vacant(_) if is_full => false,
            Place::Vacant(place) => {
                place.insert(Entry {
                    machine,
                    response: self.spare.pop().unwrap_or_default(),
                    flow: flow.clone(),
                    call,
                });
                true
            }
        }
    }

    pub(super) fn find(&mut self, id: u64) -> Option<&mut Entry<F>> {
        self.entries.get_mut(&id)
    }

    pub(super) fn remove(&mut self, id: u64) {
        if let Some(mut entry) = self.entries.remove(&id) {
            entry.response.clear();
            self.spare.push(entry.response);
        }
    }
}
