//! What a worker's operations do: open a hop, register on it, call over it; and the handler that
//! carries them on when messages arrive.

use std::rc::Rc;
use std::time::{Duration, Instant};

use tokio::task::spawn_local;

mod calling;
mod registering;
mod turns;

pub(super) use calling::{CallShape, CallSlots};
pub(super) use registering::RegistrationOperation;
pub(super) use turns::Turns;

use super::outcome::Moment;
use super::plan::{Lifecycle, LoadPlan, Workload};
use super::worker::{State, TimerKey, UserSlot, Worker};
use crate::sip::{Agent, Message, Method, Registration, StartLine};
use crate::transport::{CloseReason, Connected, Flow, Handler, Phases, User};

/// Lifetime that registrations ask for: longer than any run.
const EXPIRES_SECONDS: u32 = 3600;

/// One operation from its intended start to its end.
#[derive(Clone, Copy)]
pub(super) struct Operation {
    /// The order that it belongs to, by [`State::order`]: it counts for no later one.
    pub(super) order: u64,
    /// The user that it belongs to, as a slot of the worker's table.
    pub(super) slot: u32,
    /// When it was meant to start.
    pub(super) intended: Instant,
    /// When it did.
    pub(super) started: Instant,
}

impl Worker {
    /// Starts the operation that was meant for `intended`.
    pub(super) fn start_operation(self: &Rc<Self>, plan: &LoadPlan, intended: Instant) {
        let now = Instant::now();
        let operation = {
            let state = &mut *self.state.borrow_mut();
            let recorder = state.recorder.as_mut().expect("a run has a recorder");
            if recorder.covers(intended) {
                recorder.report.offered += 1;
                recorder.record(
                    Moment::SchedulingLag,
                    now.saturating_duration_since(intended),
                );
            }
            let Some(slot) = state.turns.take() else {
                return recorder.failed(intended, "every user of the generator was busy");
            };
            state.in_flight += 1;
            Operation {
                order: state.order,
                slot,
                intended,
                started: now,
            }
        };
        let slot = operation.slot;
        let shape = CallShape {
            lifecycle: plan.lifecycle,
            talk: Duration::from_secs_f64(plan.talk_seconds),
        };
        match (plan.workload, plan.lifecycle) {
            (Workload::Register, _) => self.open_then_register(operation),
            (Workload::Invite, Lifecycle::PerCall) => self.open_then_call(operation, shape),
            (Workload::Invite, Lifecycle::PerRegistration) => {
                let flow = self.state.borrow().flow(slot);
                match flow {
                    Some(flow) => self.begin_call(operation, flow, shape),
                    None => self.fail(operation, "the registered hop was lost"),
                }
            }
            (Workload::Invite, Lifecycle::PerTransaction)
            | (Workload::Reregister | Workload::Mixed | Workload::Avalanche, _) => {
                self.fail(operation, "the generator cannot run this workload");
            }
        }
    }

    /// Opens the user's hop and leaves it at that.
    pub(super) fn open_only(self: &Rc<Self>, operation: Operation) {
        self.open_then(operation, |worker, operation, flow| {
            worker.keep_hop(operation.slot, flow);
            worker.succeed(&mut worker.state.borrow_mut(), operation);
        });
    }

    /// Opens the user's hop, in place of an older one, and registers on it.
    pub(super) fn open_then_register(self: &Rc<Self>, operation: Operation) {
        let old = self
            .state
            .borrow_mut()
            .user(operation.slot)
            .and_then(|user| user.flow.take());
        if let Some(flow) = old {
            flow.close();
        }
        self.open_then(operation, |worker, operation, flow| {
            worker.keep_hop(operation.slot, flow);
            worker.begin_registration(operation);
        });
    }

    fn open_then_call(self: &Rc<Self>, operation: Operation, shape: CallShape) {
        self.open_then(operation, move |worker, operation, flow| {
            worker.begin_call(operation, flow, shape);
        });
    }

    fn open_then(
        self: &Rc<Self>,
        operation: Operation,
        then: impl FnOnce(&Rc<Self>, Operation, Flow) + 'static,
    ) {
        let worker = Rc::clone(self);
        spawn_local(async move {
            let handler = Rc::new(WorkerHandler(Rc::clone(&worker)));
            let user = worker.user_of(operation.slot);
            let outcome = worker.transport.connect(user, worker.target, handler).await;
            if operation.order != worker.state.borrow().order {
                // The books that knew of this hop are closed, and the user may have another by now.
                if let Ok(Connected { flow, .. }) = outcome {
                    flow.close();
                }
                return;
            }
            match outcome {
                Err(error) => worker.fail(operation, &error.to_string()),
                Ok(Connected { flow, phases }) => {
                    worker.record_phases(operation, phases);
                    then(&worker, operation, flow);
                }
            }
        });
    }

    /// Makes `flow` the user's hop, on which it is not registered yet.
    fn keep_hop(&self, slot: u32, flow: Flow) {
        let registration = Registration::new(self.user_of(slot).0);
        let mut state = self.state.borrow_mut();
        match &mut state.users[slot as usize] {
            Some(user) => {
                user.flow = Some(flow);
                user.registration = registration;
                user.is_registered = false;
            }
            vacant => {
                *vacant = Some(Box::new(UserSlot {
                    flow: Some(flow),
                    registration,
                    is_registered: false,
                    operation: None,
                    scheduled: None,
                }));
            }
        }
    }

    fn record_phases(&self, operation: Operation, phases: Phases) {
        let now = Instant::now();
        let mut state = self.state.borrow_mut();
        let Some(recorder) = &mut state.recorder else {
            return;
        };
        if recorder.covers(operation.intended) {
            recorder.record(Moment::Setup, now - operation.intended);
            if let Some(duration) = phases.transport_connect {
                recorder.record(Moment::TransportConnect, duration);
            }
            if let Some(duration) = phases.security_handshake {
                recorder.record(Moment::SecurityHandshake, duration);
            }
        }
    }

    fn succeed(&self, state: &mut State, operation: Operation) {
        if let Some(recorder) = &mut state.recorder {
            recorder.succeeded(operation.intended, Instant::now());
        }
        self.end(state, operation);
    }

    fn fail(&self, operation: Operation, cause: &str) {
        self.fail_in(&mut self.state.borrow_mut(), operation, cause);
    }

    fn fail_in(&self, state: &mut State, operation: Operation, cause: &str) {
        match &mut state.recorder {
            Some(recorder) => recorder.failed(operation.intended, cause),
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

    fn agent(&self, user: User, flow: &Flow) -> Agent<'_> {
        Agent {
            accounts: &self.accounts,
            user: user.0,
            transport: self.stack.via_transport,
            reliability: self.reliability,
            sent_by: flow.local(),
            timing: &self.timing,
            seed: self.seed,
            epoch: self.epoch,
            expires_seconds: EXPIRES_SECONDS,
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
    pub(super) fn fire_timers(&self, now: Instant) {
        let state = &mut *self.state.borrow_mut();
        while let Some(key) = state.timers.pop_due(now) {
            match key {
                TimerKey::Registration(slot) => self.fire_registration(state, slot, now),
                TimerKey::Call(slot) => self.fire_call(state, slot, now),
            }
        }
    }

    /// What a timer wrote without an event is a request sent again.
    fn count_retransmissions(&self, state: &mut State, is_without_event: bool) {
        if let Some(recorder) = &mut state.recorder
            && is_without_event
        {
            recorder.report.retransmissions += state.outbox.len() as u64;
        }
    }

    fn on_message(&self, flow: &Flow, bytes: &[u8]) {
        let now = Instant::now();
        let state = &mut *self.state.borrow_mut();
        let Ok(message) = Message::parse(bytes) else {
            state.unexpected += 1;
            return;
        };
        let method = match message.start_line() {
            StartLine::Response { .. } => message.cseq().map(|(_, method)| method),
            // In the direct topology nobody calls the generator's users.
            StartLine::Request { .. } => {
                state.unexpected += 1;
                return;
            }
        };
        match method {
            Ok(Method::Register) => self.on_register_response(state, flow, &message, now),
            Ok(_) => self.on_call_response(state, &message, now),
            Err(_) => state.unexpected += 1,
        }
    }

    /// A hop ended without having been closed here, or before that was done: whatever ran on it has
    /// failed.
    fn on_lost_hop(&self, flow: &Flow, reason: &CloseReason) {
        let slot = self.slot_of(flow);
        let cause = format!("the hop was lost: {reason}");
        let state = &mut *self.state.borrow_mut();
        let mut is_known = false;
        // The user may have another hop by now, which is none of this one's business.
        if let Some(user) = state.user(slot)
            && user.flow.take_if(|hop| hop.is_same_as(flow)).is_some()
        {
            is_known = true;
            user.is_registered = false;
            if let Some(current) = user.operation.take() {
                self.fail_in(state, current.operation, &cause);
            }
        }
        let lost: Vec<usize> = state
            .calls
            .iter()
            .filter(|(_, call)| call.flow.is_same_as(flow))
            .map(|(index, _)| index)
            .collect();
        for index in lost {
            is_known = true;
            let call = state.calls.remove(index);
            self.fail_in(state, call.operation, &cause);
        }
        if is_known {
            state.lost_hops += 1;
            if state.recorder.is_none() {
                // A population that has shrunk while it grew is not what was asked for.
                state.first_failure.get_or_insert(cause);
            }
        }
    }
}

/// The handler of every flow of its worker.
struct WorkerHandler(Rc<Worker>);

impl Handler for WorkerHandler {
    fn message(&self, flow: &Flow, message: &[u8]) {
        self.0.on_message(flow, message);
    }

    fn closed(&self, flow: &Flow, reason: &CloseReason) {
        match reason {
            CloseReason::Local => {}
            CloseReason::Peer
            | CloseReason::NoPong
            | CloseReason::Broken(_)
            | CloseReason::Garbage(_) => {
                self.0.on_lost_hop(flow, reason);
            }
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
