//! Every hop drops at once, and each user comes back under the back-off of RFC 5626 §4.5: it waits,
//! opens a hop, registers, and waits longer after each failure. The `Retry-After` of a 503, for which
//! the RFC lets it wait longer still, changes nothing here.

use std::rc::Rc;
use std::time::{Duration, Instant};

use rand::Rng;

use super::super::outcome::Moment;
use super::super::plan::{BackOff, Lifecycle};
use super::super::worker::{Role, State, TimerKey, Worker};
use super::{Operation, OperationKind};
use crate::sip::registration::backoff;

/// A user on its way back.
pub(in crate::load) struct Comeback {
    pub(in crate::load) operation: Operation,
    back_off: BackOff,
    /// Attempts in a row that have failed.
    failures: u32,
    /// When the next one is due; `None` while one is under way.
    due: Option<Instant>,
    /// Why the last one did.
    pub(in crate::load) cause: Option<String>,
}

impl Worker {
    /// Drops the hops of the first `users` users, callees not among them.
    pub(in crate::load) fn drop_all_hops(&self, users: u32, back_off: BackOff, now: Instant) {
        let state = &mut *self.state.borrow_mut();
        let order = state.order;
        for slot in 0..users {
            if state.user(slot).is_none() {
                continue;
            }
            self.drop_hop(state, slot);
            let operation = Operation {
                order,
                slot,
                role: Role::Caller,
                kind: OperationKind::Comeback,
                intended: now,
                started: now,
            };
            if let Some(recorder) = &mut state.recorder {
                recorder.offered(operation.kind, operation.intended);
            }
            state.in_flight += 1;
            if let Some(user) = state.user(slot) {
                user.comeback = Some(Box::new(Comeback {
                    operation,
                    back_off,
                    failures: 0,
                    due: None,
                    cause: None,
                }));
            }
            self.wait_to_come_back(state, slot, now);
        }
    }

    fn wait_to_come_back(&self, state: &mut State, slot: u32, now: Instant) {
        let State {
            users,
            timers,
            random,
            ..
        } = state;
        let Some(comeback) = users[slot as usize]
            .as_mut()
            .and_then(|user| user.comeback.as_mut())
        else {
            return;
        };
        let base = Duration::from_secs_f64(comeback.back_off.base_seconds);
        let max = Duration::from_secs_f64(comeback.back_off.max_seconds);
        let at = now + backoff(comeback.failures, base, max, random.random());
        comeback.due = Some(at);
        timers.insert(at, TimerKey::Comeback(slot));
        self.wake_for(at);
    }

    /// The wait of a user is over.
    pub(super) fn come_back(self: &Rc<Self>, state: &mut State, slot: u32, now: Instant) {
        let Some(comeback) = state.user(slot).and_then(|user| user.comeback.as_mut()) else {
            // The order that it belonged to is over.
            return;
        };
        let Some(due) = comeback.due.take_if(|at| *at <= now) else {
            return;
        };
        let (operation, is_retry) = (comeback.operation, comeback.failures > 0);
        if let Some(recorder) = &mut state.recorder {
            recorder.report.retried += u64::from(is_retry);
            recorder.record(Moment::SchedulingLag, now - due);
        }
        self.open_then(operation, now, |worker, operation, hop| match hop {
            Err(cause) => {
                let state = &mut *worker.state.borrow_mut();
                worker.come_back_later(state, operation, &cause);
            }
            Ok(flow) => {
                worker.keep_hop(operation, flow);
                worker.begin_registration(operation, Lifecycle::PerRegistration);
            }
        });
    }

    /// An attempt has failed: the next one follows after a longer wait, over another hop.
    pub(super) fn come_back_later(&self, state: &mut State, operation: Operation, cause: &str) {
        let slot = operation.slot;
        self.drop_hop(state, slot);
        if let Some(recorder) = &mut state.recorder {
            recorder.report.refused += 1;
        }
        if let Some(comeback) = state.user(slot).and_then(|user| user.comeback.as_mut()) {
            comeback.failures += 1;
            comeback.cause = Some(cause.to_owned());
        }
        self.wait_to_come_back(state, slot, Instant::now());
    }

    /// The user is registered again.
    pub(super) fn came_back(&self, state: &mut State, operation: Operation, now: Instant) {
        if let Some(user) = state.user(operation.slot) {
            user.comeback = None;
        }
        if let Some(recorder) = &mut state.recorder {
            let outage = now - operation.intended;
            recorder.record(Moment::Outage, outage);
            recorder.recovered_after(outage);
        }
    }
}
