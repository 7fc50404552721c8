//! Whose turn it is to call or to register.

use std::collections::VecDeque;

use super::super::plan::{Lifecycle, LoadPlan, Workload};

/// Whose turn it is.
pub(in crate::load) enum Turns {
    /// Users may hold several calls at once: round and round.
    Shared {
        /// Users that take part.
        users: u32,
        /// The next one.
        next: u32,
    },
    /// An operation needs its user for itself: the one that rested longest.
    Exclusive(VecDeque<u32>),
}

impl Turns {
    /// Of `users` users, from `first` on: where several loads follow each other, nobody comes again before
    /// all others have come.
    pub(in crate::load) fn new(users: u32, plan: &LoadPlan, first: u32) -> Self {
        let first = first % users.max(1);
        match (plan.workload, plan.lifecycle) {
            (Workload::Invite, Lifecycle::PerRegistration) => Self::Shared { users, next: first },
            (Workload::Invite, Lifecycle::PerTransaction | Lifecycle::PerCall)
            | (Workload::Register | Workload::Reregister | Workload::Mixed, _) => {
                Self::Exclusive((first..users).chain(0..first).collect())
            }
            // All at once.
            (Workload::Avalanche, _) => Self::none(),
        }
    }

    /// While a population grows, nobody takes turns.
    pub(in crate::load) fn none() -> Self {
        Self::Shared { users: 0, next: 0 }
    }

    /// Who would be the next; the first one where that is not known.
    pub(in crate::load) fn next(&self) -> u32 {
        match self {
            Self::Shared { next, .. } => *next,
            Self::Exclusive(idle) => idle.front().copied().unwrap_or(0),
        }
    }

    pub(super) fn take(&mut self) -> Option<u32> {
        match self {
            Self::Shared { users, next } => {
                let slot = *next;
                *next = (slot + 1) % (*users).max(1);
                (*users > 0).then_some(slot)
            }
            Self::Exclusive(idle) => idle.pop_front(),
        }
    }

    pub(super) fn give_back(&mut self, slot: u32) {
        match self {
            Self::Shared { .. } => {}
            Self::Exclusive(idle) => idle.push_back(slot),
        }
    }
}
