//! A registration as a load runs it: what is sent, what is recorded, when it is carried on.

use std::time::Instant;

use super::super::outcome::Moment;
use super::super::worker::{State, TimerKey, Worker};
use super::Operation;
use crate::sip::{Message, RegistrationEvent};
use crate::transport::Flow;

/// A registration under way.
#[derive(Clone, Copy)]
pub(in crate::load) struct RegistrationOperation {
    pub(in crate::load) operation: Operation,
    sent: Instant,
    answered: bool,
}

impl Worker {
    /// Registers on the hop that the user holds.
    pub(in crate::load) fn begin_registration(&self, operation: Operation) {
        let now = Instant::now();
        let slot = operation.slot;
        let state = &mut *self.state.borrow_mut();
        let State { users, outbox, .. } = state;
        let user = users[slot as usize]
            .as_mut()
            .expect("a hop was opened for this user");
        let Some(flow) = &user.flow else {
            return self.fail_in(state, operation, "the hop was lost before it was used");
        };
        let flow = flow.clone();
        user.operation = Some(RegistrationOperation {
            operation,
            sent: now,
            answered: false,
        });
        let agent = self.agent(self.user_of(slot), &flow);
        user.registration.start(&agent, now, outbox);
        self.flush(state, &flow);
        self.schedule_registration(state, slot);
    }

    pub(super) fn on_registration_event(
        &self,
        state: &mut State,
        slot: u32,
        event: RegistrationEvent,
    ) {
        let now = Instant::now();
        let Some(user) = state.user(slot) else { return };
        let Some(current) = &mut user.operation else {
            return;
        };
        let is_first_response = !current.answered;
        match event {
            // Nobody here unregisters.
            RegistrationEvent::Nothing | RegistrationEvent::Unregistered => return,
            RegistrationEvent::Challenged | RegistrationEvent::Registered { .. } => {
                current.answered = true;
            }
            RegistrationEvent::Failed(failure) => {
                let operation = current.operation;
                user.operation = None;
                return self.fail_in(state, operation, &failure.to_string());
            }
        }
        let RegistrationOperation {
            operation, sent, ..
        } = *current;
        let is_registered = matches!(event, RegistrationEvent::Registered { .. });
        if is_registered {
            user.operation = None;
            user.is_registered = true;
        }
        if let Some(recorder) = &mut state.recorder
            && recorder.covers(operation.intended)
        {
            if is_first_response {
                recorder.record(Moment::FirstResponse, now - sent);
            }
            if is_registered {
                recorder.record(Moment::RegistrationDelay, now - sent);
                recorder.record(Moment::Registered, now - operation.intended);
                recorder.record(Moment::RegisteredUncorrected, now - operation.started);
            }
        }
        if is_registered {
            self.succeed(state, operation);
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
        if let Some(flow) = user.flow.clone()
            && user
                .registration
                .deadline()
                .is_some_and(|deadline| deadline <= now)
        {
            let agent = self.agent(self.user_of(slot), &flow);
            let event = user.registration.timeout(&agent, now, outbox);
            self.count_retransmissions(state, matches!(event, RegistrationEvent::Nothing));
            self.flush(state, &flow);
            self.on_registration_event(state, slot, event);
        }
        self.schedule_registration(state, slot);
    }

    pub(super) fn on_register_response(
        &self,
        state: &mut State,
        flow: &Flow,
        message: &Message<'_>,
        now: Instant,
    ) {
        let slot = self.slot_of(flow);
        let State { users, outbox, .. } = state;
        let Some(Some(user)) = users.get_mut(slot as usize) else {
            state.unexpected += 1;
            return;
        };
        let agent = self.agent(self.user_of(slot), flow);
        let event = user.registration.receive(&agent, now, message, outbox);
        self.flush(state, flow);
        self.on_registration_event(state, slot, event);
        self.schedule_registration(state, slot);
    }
}
