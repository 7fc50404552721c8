//! What a worker's operations do: open a hop, register on it, call over it; and the handler that
//! carries them on when messages arrive.

use std::collections::VecDeque;
use std::rc::Rc;
use std::time::{Duration, Instant};

use tokio::task::spawn_local;

use super::outcome::Moment;
use super::plan::{Lifecycle, LoadPlan, Workload};
use super::worker::{CallSlot, State, TimerKey, UserSlot, Worker};
use crate::sip::{
    Agent, CallEvent, Caller, Message, Method, Registration, RegistrationEvent, StartLine,
    key_of_branch,
};
use crate::transport::{CloseReason, Connected, Flow, Handler, Phases, User};

/// A key in a branch is a slot of the call table, below the slot's generation.
const SLOT_BITS: u32 = 20;

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

/// What the load wants of a call.
#[derive(Clone, Copy)]
pub(super) struct CallShape {
    lifecycle: Lifecycle,
    talk: Duration,
}

impl CallShape {
    fn leave(self, hop: &Flow) {
        match self.lifecycle {
            Lifecycle::PerCall => hop.close(),
            Lifecycle::PerRegistration => {}
        }
    }
}

/// Whose turn it is.
pub(super) enum Turns {
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
    pub(super) fn new(users: u32, plan: &LoadPlan) -> Self {
        match (plan.workload, plan.lifecycle) {
            (Workload::Invite, Lifecycle::PerRegistration) => Self::Shared { users, next: 0 },
            (Workload::Invite, Lifecycle::PerCall) | (Workload::Register, _) => {
                Self::Exclusive((0..users).collect())
            }
        }
    }

    /// While a population grows, nobody takes turns.
    pub(super) fn none() -> Self {
        Self::Shared { users: 0, next: 0 }
    }

    fn take(&mut self) -> Option<u32> {
        match self {
            Self::Shared { users, next } => {
                let slot = *next;
                *next = (slot + 1) % (*users).max(1);
                (*users > 0).then_some(slot)
            }
            Self::Exclusive(idle) => idle.pop_front(),
        }
    }

    fn give_back(&mut self, slot: u32) {
        match self {
            Self::Shared { .. } => {}
            Self::Exclusive(idle) => idle.push_back(slot),
        }
    }
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

    /// Registers on the hop that the user holds.
    pub(super) fn begin_registration(&self, operation: Operation) {
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

    fn begin_call(&self, operation: Operation, flow: Flow, shape: CallShape) {
        let now = Instant::now();
        let state = &mut *self.state.borrow_mut();
        if state.calls.len() >> SLOT_BITS > 0 {
            shape.leave(&flow);
            return self.fail_in(state, operation, "too many calls are under way");
        }
        let slot = state.calls.vacant_key();
        let key = state.call_slots.next_key(slot);
        let mut caller = Caller::new(key, shape.talk);
        let agent = self.agent(self.user_of(operation.slot), &flow);
        caller.start(&agent, now, &mut state.outbox);
        self.flush(state, &flow);
        state.calls.insert(CallSlot {
            caller,
            operation,
            flow,
            invite_sent: now,
            progressed: None,
            shape,
            bye_sent: None,
        });
        self.schedule_call(state, slot);
    }

    fn on_registration_event(&self, state: &mut State, slot: u32, event: RegistrationEvent) {
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

    fn on_call_event(&self, state: &mut State, slot: usize, event: CallEvent) {
        let now = Instant::now();
        let call = &mut state.calls[slot];
        let operation = call.operation;
        let recorder = state
            .recorder
            .as_mut()
            .filter(|recorder| recorder.covers(operation.intended));
        match event {
            CallEvent::Nothing => {}
            CallEvent::Progress { .. } => {
                call.progressed.get_or_insert(now);
            }
            CallEvent::Answered { .. } => {
                // The delay ends with the first response other than 100, but counts only of calls
                // that succeed (RFC 6076 §4.3.1).
                let progressed = *call.progressed.get_or_insert(now);
                if let Some(recorder) = recorder {
                    recorder.report.answered += 1;
                    let since_intended = progressed - operation.intended;
                    recorder.record(Moment::SessionRequestDelay, since_intended);
                    let since_invite = progressed - call.invite_sent;
                    recorder.record(Moment::SessionRequestDelayUncorrected, since_invite);
                }
                // Without talk the BYE leaves together with the ACK.
                if call.shape.talk.is_zero() {
                    call.bye_sent = Some(now);
                }
            }
            CallEvent::ByeSent => call.bye_sent = Some(now),
            CallEvent::Completed => {
                if let (Some(recorder), Some(sent)) = (recorder, call.bye_sent) {
                    recorder.record(Moment::SessionDisconnectDelay, now - sent);
                }
                self.end_call(state, slot);
                self.succeed(state, operation);
            }
            CallEvent::Failed(failure) => {
                self.end_call(state, slot);
                self.fail_in(state, operation, &failure.to_string());
            }
        }
    }

    fn end_call(&self, state: &mut State, slot: usize) {
        state.calls.remove(slot).leave_hop();
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

    fn schedule_registration(&self, state: &mut State, slot: u32) {
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

    fn schedule_call(&self, state: &mut State, slot: usize) {
        let State {
            calls,
            call_slots,
            timers,
            ..
        } = state;
        let Some(call) = calls.get(slot) else { return };
        if let Some(deadline) = call.caller.deadline()
            && call_slots.note_deadline(slot, deadline)
        {
            timers.insert(deadline, TimerKey::Call(slot));
            self.wake_for(deadline);
        }
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

    fn fire_registration(&self, state: &mut State, slot: u32, now: Instant) {
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

    fn fire_call(&self, state: &mut State, slot: usize, now: Instant) {
        if !state.call_slots.deadline_fired(slot, now) {
            return;
        }
        let State { calls, outbox, .. } = state;
        if let Some(call) = calls.get_mut(slot)
            && call
                .caller
                .deadline()
                .is_some_and(|deadline| deadline <= now)
        {
            let flow = call.flow.clone();
            let agent = self.agent(self.user_of(call.operation.slot), &flow);
            let event = call.caller.timeout(&agent, now, outbox);
            self.count_retransmissions(state, matches!(event, CallEvent::Nothing));
            self.flush(state, &flow);
            self.on_call_event(state, slot, event);
        }
        self.schedule_call(state, slot);
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

    fn on_register_response(
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

    fn on_call_response(&self, state: &mut State, message: &Message<'_>, now: Instant) {
        let key = message
            .via()
            .ok()
            .and_then(|via| key_of_branch(via.branch?.as_bytes()));
        let slot = key.and_then(|key| state.call_slots.slot_of(key));
        let State { calls, outbox, .. } = state;
        let Some((slot, call)) = slot.and_then(|slot| Some((slot, calls.get_mut(slot)?))) else {
            state.unexpected += 1;
            return;
        };
        let flow = call.flow.clone();
        let agent = self.agent(self.user_of(call.operation.slot), &flow);
        let event = call.caller.receive(&agent, now, message, outbox);
        self.flush(state, &flow);
        self.on_call_event(state, slot, event);
        self.schedule_call(state, slot);
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

/// A registration under way.
#[derive(Clone, Copy)]
pub(super) struct RegistrationOperation {
    pub(super) operation: Operation,
    sent: Instant,
    answered: bool,
}

/// Per slot of the call table: how often it was used, and when the earliest entry in the timer queue
/// that points to it is due. Outlives the calls, so that a slot's next call does with the entry of
/// the last one.
#[derive(Default)]
pub(super) struct CallSlots(Vec<SlotHistory>);

#[derive(Clone, Copy, Default)]
struct SlotHistory {
    generation: u32,
    scheduled: Option<Instant>,
}

impl CallSlots {
    /// The key of the next call in `slot`: no earlier call of this slot had it recently.
    fn next_key(&mut self, slot: usize) -> u32 {
        if self.0.len() <= slot {
            self.0.resize(slot + 1, SlotHistory::default());
        }
        let generation = self.0[slot].generation.wrapping_add(1);
        self.0[slot].generation = generation;
        let slot = u32::try_from(slot).expect("calls under way fit 32 bits");
        assert!(
            slot >> SLOT_BITS == 0,
            "at most 2^{SLOT_BITS} calls at a time"
        );
        generation << SLOT_BITS | slot
    }

    /// The slot that `key` names, if its call is the slot's latest.
    fn slot_of(&self, key: u32) -> Option<usize> {
        let slot = (key & ((1 << SLOT_BITS) - 1)) as usize;
        let generation = self.0.get(slot)?.generation;
        (generation << SLOT_BITS == key & !((1 << SLOT_BITS) - 1)).then_some(slot)
    }

    /// Whether `deadline` needs an entry in the timer queue.
    fn note_deadline(&mut self, slot: usize, deadline: Instant) -> bool {
        let is_sooner = self.0[slot].scheduled.is_none_or(|at| deadline < at);
        if is_sooner {
            self.0[slot].scheduled = Some(deadline);
        }
        is_sooner
    }

    /// Whether the entry that came up at `now` is the one that counts, and not one that an earlier
    /// deadline made superfluous: answering those with new entries would keep both for ever.
    fn deadline_fired(&mut self, slot: usize, now: Instant) -> bool {
        self.0[slot].scheduled.take_if(|at| *at <= now).is_some()
    }
}

impl CallSlot {
    /// The call is over; a hop that was opened for it is not needed any more.
    pub(super) fn leave_hop(&self) {
        self.shape.leave(&self.flow);
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
            CloseReason::Peer | CloseReason::Broken(_) | CloseReason::Garbage(_) => {
                self.0.on_lost_hop(flow, reason);
            }
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
