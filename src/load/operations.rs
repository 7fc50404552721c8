//! What a worker's operations do: open a hop, register on it, call over it, come back; and the
//! handler that carries them on when messages arrive.

use std::rc::Rc;
use std::time::Instant;

mod answering;
mod avalanche;
mod calling;
mod hops;
mod kinds;
mod registering;
mod turns;
mod whom;

pub(super) use answering::Answering;
pub(super) use avalanche::Comeback;
pub(super) use calling::{CallShape, CallSlots};
pub(super) use kinds::Kinds;
pub use kinds::OperationKind;
pub(super) use registering::RegistrationOperation;
pub(super) use turns::Turns;
pub(super) use whom::Lottery;

use super::keep_alive::keep_alive;
use super::outcome::Moment;
use super::plan::LoadPlan;
use super::worker::{Role, State, TimerKey, Worker};
use crate::measure::heap::{self, Part};
use crate::sip::{Agent, Method};
use crate::transport::{CloseReason, Flow, Handler};

/// How a response starts; everything else is a request.
const RESPONSE: &[u8] = b"SIP/2.0 ";

/// One operation from its intended start to its end.
#[derive(Clone, Copy)]
pub(super) struct Operation {
    /// The order that it belongs to, by [`State::order`]: it counts for no later one.
    pub(super) order: u64,
    /// The user that it belongs to, as a slot of the worker's table.
    pub(super) slot: u32,
    /// What that user is.
    pub(super) role: Role,
    /// What it is about.
    pub(super) kind: OperationKind,
    /// When it was meant to start.
    pub(super) intended: Instant,
    /// When it did.
    pub(super) started: Instant,
}

impl Worker {
    /// Starts the operation that was meant for `intended`.
    pub(super) fn start_operation(
        self: &Rc<Self>,
        plan: &LoadPlan,
        intended: Instant,
        now: Instant,
    ) {
        let operation = {
            let state = &mut *self.state.borrow_mut();
            let kind = state.kinds.next();
            let recorder = state.recorder.as_mut().expect("a run has a recorder");
            if recorder.offered(kind, intended) {
                recorder.record(
                    Moment::SchedulingLag,
                    now.saturating_duration_since(intended),
                );
            }
            let Some(slot) = state.turns.take() else {
                return recorder.found_no_user(kind, intended);
            };
            state.in_flight += 1;
            self.note_busy();
            Operation {
                order: state.order,
                slot,
                role: Role::Caller,
                kind,
                intended,
                started: now,
            }
        };
        match operation.kind {
            OperationKind::Register => self.open_then_register(operation, plan.lifecycle),
            OperationKind::Reregister => self.refresh(operation, plan.lifecycle),
            OperationKind::Call | OperationKind::CancelledCall | OperationKind::UnknownCallee => {
                self.start_call(operation, CallShape::of(plan), now);
            }
            OperationKind::Comeback => {
                self.fail(operation, "nobody comes back before its hop was dropped");
            }
        }
    }

    fn succeed(&self, state: &mut State, operation: Operation, now: Instant) {
        if let Some(recorder) = &mut state.recorder {
            recorder.succeeded(operation.kind, operation.intended, now);
        }
        self.end(state, operation);
    }

    fn fail(&self, operation: Operation, cause: &str) {
        self.fail_in(&mut self.state.borrow_mut(), operation, cause);
    }

    fn fail_in(&self, state: &mut State, operation: Operation, cause: &str) {
        match &mut state.recorder {
            Some(recorder) => recorder.failed(operation.kind, operation.intended, cause),
            None => {
                state.first_failure.get_or_insert_with(|| cause.to_owned());
            }
        }
        self.end(state, operation);
    }

    fn end(&self, state: &mut State, operation: Operation) {
        state.in_flight -= 1;
        state.turns.give_back(operation.slot);
        // The pulse waits for the last operation, and a growing population for the next vacancy.
        if state.in_flight < state.wake_below {
            self.changed.notify_one();
        }
    }

    fn agent(&self, role: Role, slot: u32, flow: &Flow) -> Agent<'_> {
        Agent {
            accounts: self.accounts_of(role),
            user: self.user_of(slot).0,
            transport: self.stack.via_transport,
            reliability: self.reliability,
            sent_by: flow.local(),
            timing: &self.timing,
            seed: self.seed,
            epoch: self.epoch,
            expires_seconds: self.expires_seconds,
            stationery: match role {
                Role::Caller => &self.stationery.callers,
                Role::Callee => &self.stationery.callees,
            },
        }
    }

    /// Sends what a state machine wrote. A flow that takes nothing more is about to be reported as
    /// closed, or its transaction times out: both end the operation with a reason.
    fn flush(&self, state: &mut State, flow: &Flow) {
        for message in state.outbox.iter() {
            if flow.send(message).is_err() {
                state.unsent += 1;
            }
        }
        state.outbox.clear();
    }

    /// Carries on what is due at `now`.
    pub(super) fn fire_timers(self: &Rc<Self>, now: Instant) {
        let state = &mut *self.state.borrow_mut();
        while let Some(key) = state.timers.pop_due(now) {
            match key {
                TimerKey::Registration(slot) => self.fire_registration(state, slot, now),
                TimerKey::Call(slot) => self.fire_call(state, slot, now),
                TimerKey::Comeback(slot) => self.come_back(state, slot, now),
            }
        }
        self.answer_timeouts(state, now);
        keep_alive(state, now);
    }

    /// What a timer wrote without an event is a request sent again.
    fn count_retransmissions(&self, state: &mut State, is_without_event: bool) {
        if let Some(recorder) = &mut state.recorder
            && is_without_event
        {
            recorder.report.retransmissions += state.outbox.len() as u64;
        }
    }

    fn on_message(self: &Rc<Self>, flow: &Flow, bytes: &[u8], now: Instant) {
        let _scope = heap::part(Part::Transaction);
        self.note_busy();
        let state = &mut *self.state.borrow_mut();
        if !bytes.starts_with(RESPONSE) {
            return self.on_request(state, flow, bytes, now);
        }
        let Some(response) = state.responses.parse(bytes) else {
            state.unexpected += 1;
            return;
        };
        if response.method() != Method::Register {
            return self.on_call_response(state, flow, &response, now);
        }
        match response.whole() {
            Some(message) => self.on_register_response(state, flow, &message, now),
            None => state.unexpected += 1,
        }
    }
}

/// The handler of every flow of its worker.
struct WorkerHandler(Rc<Worker>);

impl Handler for WorkerHandler {
    fn message(&self, flow: &Flow, message: &[u8], now: Instant) {
        self.0.on_message(flow, message, now);
    }

    fn closed(&self, flow: &Flow, reason: &CloseReason) {
        match reason {
            CloseReason::Local => {}
            CloseReason::NoPong => {
                self.0.state.borrow_mut().standing.pongs_missed += 1;
                self.0.on_lost_hop(flow, reason);
            }
            CloseReason::Peer | CloseReason::Broken(_) | CloseReason::Garbage(_) => {
                self.0.on_lost_hop(flow, reason);
            }
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
