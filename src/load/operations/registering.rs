//! A registration as a load runs it: what is sent, what is recorded, when it is carried on.

use std::rc::Rc;
use std::time::Instant;

use super::super::outcome::Moment;
use super::super::plan::Lifecycle;
use super::super::worker::{State, TimerKey, Worker};
use super::{Operation, OperationKind};
use crate::measure::heap::{self, Part};
use crate::sip::{Message, RegistrationEvent};
use crate::transport::Flow;

/// A registration under way.
#[derive(Clone, Copy)]
pub(in crate::load) struct RegistrationOperation {
    pub(in crate::load) operation: Operation,
    lifecycle: Lifecycle,
    sent: Instant,
    answered: bool,
}

impl Worker {
    /// Opens the user's hop, in place of an older one, and registers on it. Under
    /// [`Lifecycle::PerTransaction`] each further REGISTER gets a hop of its own.
    pub(in crate::load) fn open_then_register(
        self: &Rc<Self>,
        operation: Operation,
        lifecycle: Lifecycle,
    ) {
        self.drop_hop(&mut self.state.borrow_mut(), operation.slot);
        let since = operation.intended;
        self.open_then(operation, since, move |worker, operation, hop| match hop {
            Err(cause) => worker.fail(operation, &cause),
            Ok(flow) => {
                worker.keep_hop(operation, flow);
                worker.begin_registration(operation, lifecycle);
            }
        });
    }

    /// Registers on the hop that the user holds; of one that has registered there before, this is a
    /// refresh.
    pub(in crate::load) fn begin_registration(&self, operation: Operation, lifecycle: Lifecycle) {
        let _scope = heap::part(Part::Binding);
        let now = Instant::now();
        let slot = operation.slot;
        let state = &mut *self.state.borrow_mut();
        let State { users, outbox, .. } = state;
        let Some((user, flow)) = users[slot as usize]
            .as_mut()
            .and_then(|user| user.flow.clone().map(|flow| (user, flow)))
        else {
            return self.registration_failed(
                state,
                operation,
                "the hop was lost before it was used",
            );
        };
        user.operation = Some(RegistrationOperation {
            operation,
            lifecycle,
            sent: now,
            answered: false,
        });
        let agent = self.agent(operation.role, slot, &flow);
        user.registration.start(&agent, now, outbox);
        self.flush(state, &flow);
        self.schedule_registration(state, slot);
    }

    /// Refreshes on the hop that the user has kept.
    pub(super) fn refresh(&self, operation: Operation, lifecycle: Lifecycle) {
        let is_registered = {
            let mut state = self.state.borrow_mut();
            let user = state.user(operation.slot);
            user.is_some_and(|user| user.flow.is_some() && user.is_registered)
        };
        if is_registered {
            self.begin_registration(operation, lifecycle);
        } else {
            self.fail(operation, "the registered hop was lost");
        }
    }

    /// A registration ended without success: for good, unless its user comes back until it succeeds.
    pub(super) fn registration_failed(&self, state: &mut State, operation: Operation, cause: &str) {
        match operation.kind {
            OperationKind::Comeback => self.come_back_later(state, operation, cause),
            OperationKind::Register
            | OperationKind::Reregister
            | OperationKind::Call
            | OperationKind::CancelledCall
            | OperationKind::UnknownCallee => self.fail_in(state, operation, cause),
        }
    }

    fn on_registration_event(
        &self,
        state: &mut State,
        slot: u32,
        event: RegistrationEvent,
        now: Instant,
    ) {
        let Some(user) = state.user(slot) else { return };
        let Some(current) = &mut user.operation else {
            return;
        };
        let is_first_response = !current.answered;
        let RegistrationOperation {
            operation,
            lifecycle,
            sent,
            ..
        } = *current;
        let is_registered = match event {
            // Nobody here unregisters.
            RegistrationEvent::Nothing | RegistrationEvent::Unregistered => return,
            RegistrationEvent::Challenged => {
                current.answered = true;
                false
            }
            RegistrationEvent::Registered { .. } => {
                user.operation = None;
                user.is_registered = true;
                true
            }
            RegistrationEvent::Failed(failure) => {
                user.operation = None;
                if lifecycle == Lifecycle::PerTransaction {
                    self.drop_hop(state, slot);
                }
                return self.registration_failed(state, operation, &failure.to_string());
            }
        };
        if let Some(recorder) = &mut state.recorder
            && recorder.covers(operation.intended)
        {
            if is_first_response {
                recorder.record(Moment::FirstResponse, now - sent);
            }
            // Credentials were sent right away: they were refused for the age of their nonce.
            if !is_registered && operation.kind == OperationKind::Reregister {
                recorder.report.stale_nonces += 1;
            }
            if is_registered {
                recorder.record(Moment::RegistrationDelay, now - sent);
                recorder.record(Moment::Registered, now - operation.intended);
                recorder.record(Moment::RegisteredUncorrected, now - operation.started);
            }
        }
        if is_registered {
            if lifecycle == Lifecycle::PerTransaction {
                self.drop_hop(state, slot);
            }
            if operation.kind == OperationKind::Comeback {
                self.came_back(state, operation, now);
            }
            self.succeed(state, operation, now);
        }
    }

    pub(super) fn schedule_registration(&self, state: &mut State, slot: u32) {
        let State { users, timers, .. } = state;
        let Some(user) = &mut users[slot as usize] else {
            return;
        };
        if let Some(deadline) = user.registration.deadline()
            && user.scheduled.is_none_or(|at| deadline < at)
        {
            user.scheduled = Some(deadline);
            timers.insert(deadline, TimerKey::Registration(slot));
            self.wake_for(deadline);
        }
    }

    pub(super) fn fire_registration(&self, state: &mut State, slot: u32, now: Instant) {
        let State { users, outbox, .. } = state;
        let Some(user) = &mut users[slot as usize] else {
            return;
        };
        if user.scheduled.is_none_or(|at| at > now) {
            // An entry that an earlier deadline made superfluous.
            return;
        }
        user.scheduled = None;
        let Some(flow) = user.flow.clone() else {
            // The hop of its transaction is gone, and the next one, if it is being opened, brings a transaction of
            // its own: a deadline that nobody serves would be due for ever.
            return;
        };
        if user
            .registration
            .deadline()
            .is_some_and(|deadline| deadline <= now)
        {
            let agent = self.agent(user.role, slot, &flow);
            let event = user.registration.timeout(&agent, now, outbox);
            self.count_retransmissions(state, matches!(event, RegistrationEvent::Nothing));
            self.flush(state, &flow);
            self.on_registration_event(state, slot, event, now);
        }
        self.schedule_registration(state, slot);
    }

    pub(super) fn on_register_response(
        self: &Rc<Self>,
        state: &mut State,
        flow: &Flow,
        message: &Message<'_>,
        now: Instant,
    ) {
        let _scope = heap::part(Part::Binding);
        let slot = self.slot_of(flow);
        let State { users, outbox, .. } = state;
        let Some(Some(user)) = users.get_mut(slot as usize) else {
            state.unexpected += 1;
            return;
        };
        let agent = self.agent(user.role, slot, flow);
        let event = user.registration.receive(&agent, now, message, outbox);
        let is_per_transaction = user
            .operation
            .is_some_and(|current| current.lifecycle == Lifecycle::PerTransaction);
        let has_more_to_send = !outbox.is_empty();
        if is_per_transaction && has_more_to_send {
            // What was written names the hop that has served its transaction.
            outbox.clear();
            self.on_registration_event(state, slot, event, now);
            return self.register_over_next_hop(state, slot, now);
        }
        self.flush(state, flow);
        self.on_registration_event(state, slot, event, now);
        self.schedule_registration(state, slot);
    }

    /// Closes the hop of the transaction that has ended, and opens one for the next.
    fn register_over_next_hop(self: &Rc<Self>, state: &mut State, slot: u32, since: Instant) {
        self.drop_hop(state, slot);
        let Some(current) = state.user(slot).and_then(|user| user.operation.take()) else {
            return;
        };
        self.open_then(current.operation, since, move |worker, operation, hop| {
            let flow = match hop {
                Err(cause) => return worker.fail(operation, &cause),
                Ok(flow) => flow,
            };
            let state = &mut *worker.state.borrow_mut();
            let State { users, outbox, .. } = state;
            let user = users[slot as usize]
                .as_mut()
                .expect("the user had a hop before");
            user.flow = Some(flow.clone());
            user.operation = Some(current);
            let agent = worker.agent(operation.role, slot, &flow);
            user.registration.send_anew(&agent, Instant::now(), outbox);
            worker.flush(state, &flow);
            worker.schedule_registration(state, slot);
        });
    }
}
