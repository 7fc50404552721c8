//! A call as a load runs it: what is sent, what is recorded, when it is carried on.

use std::rc::Rc;
use std::time::{Duration, Instant};

use super::super::outcome::Moment;
use super::super::plan::{Lifecycle, LoadPlan};
use super::super::worker::{CallSlot, State, TimerKey, Worker};
use super::{Lottery, Operation, OperationKind};
use crate::measure::heap::{self, Part};
use crate::sip::text::Text;
use crate::sip::{CallEvent, CallFailure, Caller, Response, key_of_branch};
use crate::transport::Flow;

/// A key in a branch is a slot of the call table, below the slot's generation.
const SLOT_BITS: u32 = 20;

/// How long a call lasts that stays up: longer than any run.
const LASTING: Duration = Duration::from_secs(7 * 86_400);

/// A user that no accounts have.
const NOBODY: &str = "nobody";

/// What the load wants of its calls.
#[derive(Clone, Copy)]
pub(in crate::load) struct CallShape {
    pub(super) lifecycle: Lifecycle,
    pub(super) talk: Duration,
    /// From a caller's number to its callee's, where there are callees.
    pub(super) to_callee: u32,
    /// Who was drawn to be called, where callees are drawn.
    pub(super) drawn: Option<u32>,
    /// Whether the operation ends when the call is up.
    pub(super) is_lasting: bool,
}

impl CallShape {
    pub(super) fn of(plan: &LoadPlan) -> Self {
        Self {
            lifecycle: plan.lifecycle,
            talk: Duration::from_secs_f64(plan.talk_seconds),
            to_callee: plan.users,
            drawn: None,
            is_lasting: false,
        }
    }

    /// A call to whom the accounts say, over the hop of the registration, that stays up.
    pub(in crate::load) fn lasting() -> Self {
        Self {
            lifecycle: Lifecycle::PerRegistration,
            talk: LASTING,
            to_callee: 0,
            drawn: None,
            is_lasting: true,
        }
    }

    fn leave(self, hop: &Flow) {
        match self.lifecycle {
            Lifecycle::PerTransaction | Lifecycle::PerCall => hop.close(),
            Lifecycle::PerRegistration => {}
        }
    }
}

impl Worker {
    /// Calls over the hop that the lifecycle asks for. Callees are drawn in the order in which calls
    /// start, so that who is called does not depend on whose hop is open first.
    pub(in crate::load) fn start_call(
        self: &Rc<Self>,
        operation: Operation,
        shape: CallShape,
        now: Instant,
    ) {
        let shape = CallShape {
            drawn: self.state.borrow_mut().lottery.as_mut().map(Lottery::draw),
            ..shape
        };
        match shape.lifecycle {
            Lifecycle::PerTransaction | Lifecycle::PerCall => {
                let since = operation.intended;
                self.open_then(operation, since, move |worker, operation, hop| match hop {
                    Err(cause) => worker.fail(operation, &cause),
                    Ok(flow) => worker.begin_call(operation, flow, shape, Instant::now()),
                });
            }
            Lifecycle::PerRegistration => {
                let flow = self.state.borrow().flow(operation.slot);
                match flow {
                    Some(flow) => self.begin_call(operation, flow, shape, now),
                    None => self.fail(operation, "the registered hop was lost"),
                }
            }
        }
    }

    pub(super) fn begin_call(
        &self,
        operation: Operation,
        flow: Flow,
        shape: CallShape,
        now: Instant,
    ) {
        let _scope = heap::part(Part::Transaction);
        let state = &mut *self.state.borrow_mut();
        if state.calls.len() >> SLOT_BITS > 0 {
            shape.leave(&flow);
            return self.fail_in(state, operation, "too many calls are under way");
        }
        let slot = state.calls.vacant_key();
        let key = state.call_slots.next_key(slot);
        let mut caller = Caller::new(key, shape.talk);
        if let Some(uri) = self.callee_of(operation, shape) {
            caller = caller.to(uri);
        }
        if shape.lifecycle == Lifecycle::PerTransaction {
            caller = caller.with_hop_per_transaction();
        }
        let agent = self.agent(operation.role, operation.slot, &flow);
        caller.start(&agent, now, &mut state.outbox);
        self.flush(state, &flow);
        state.calls.insert(CallSlot {
            caller,
            operation,
            flow,
            has_hop: true,
            invite_sent: now,
            progressed: None,
            is_answered: false,
            shape,
            bye_sent: None,
        });
        self.schedule_call(state, slot);
    }

    /// Whom an operation calls; `None` for whom the accounts say.
    fn callee_of(&self, operation: Operation, shape: CallShape) -> Option<Text<32>> {
        let callees = self.callees.as_ref().map(|callees| &callees.accounts);
        let uri = |accounts: &crate::sip::Accounts, user: &str| {
            Text::concat(&["sip:", user, "@", accounts.domain()])
        };
        if operation.kind == OperationKind::UnknownCallee {
            return Some(uri(callees.unwrap_or(&self.accounts), NOBODY));
        }
        if let Some(callee) = shape.drawn {
            return Some(uri(&self.accounts, &self.accounts.username(callee)));
        }
        let callees = callees?;
        let callee = self.user_of(operation.slot).0 + shape.to_callee;
        Some(uri(callees, &callees.username(callee)))
    }

    fn on_call_event(
        self: &Rc<Self>,
        state: &mut State,
        slot: usize,
        event: CallEvent,
        now: Instant,
    ) {
        let call = &mut state.calls[slot];
        let operation = call.operation;
        let recorder = state
            .recorder
            .as_mut()
            .filter(|recorder| recorder.covers(operation.intended));
        match event {
            CallEvent::Nothing | CallEvent::Challenged => {}
            CallEvent::Progress { .. } => {
                call.progressed.get_or_insert(now);
                if operation.kind == OperationKind::CancelledCall {
                    self.cancel_call(state, slot, now);
                }
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
                call.is_answered = true;
                if call.shape.is_lasting {
                    if let Some(user) = state.user(operation.slot) {
                        user.is_in_call = true;
                    }
                    return self.succeed(state, operation, now);
                }
                match call.shape.lifecycle {
                    // The ACK was the last of the INVITE's hop.
                    Lifecycle::PerTransaction => call.leave_hop(),
                    // Without talk the BYE leaves together with the ACK.
                    Lifecycle::PerCall | Lifecycle::PerRegistration => {
                        if call.shape.talk.is_zero() {
                            call.bye_sent = Some(now);
                        }
                    }
                }
            }
            CallEvent::HopNeeded => self.call_over_next_hop(state, slot, now),
            CallEvent::ByeSent => call.bye_sent = Some(now),
            CallEvent::Completed => {
                if let (Some(recorder), Some(sent)) = (recorder, call.bye_sent) {
                    recorder.record(Moment::SessionDisconnectDelay, now - sent);
                }
                self.end_call(state, slot, None, now);
            }
            CallEvent::Cancelled => {
                let refused = CallFailure::Rejected { status: 487 };
                self.end_call(state, slot, Some(refused), now);
            }
            CallEvent::Failed(failure) => self.end_call(state, slot, Some(failure), now),
        }
    }

    /// The call is over: without failure it was answered and ended. Whether that is success depends on
    /// what was wanted.
    fn end_call(&self, state: &mut State, slot: usize, failure: Option<CallFailure>, now: Instant) {
        let mut call = state.calls.remove(slot);
        call.leave_hop();
        let operation = call.operation;
        if !call.is_under_way() {
            return state.left_call(operation.slot);
        }
        let expected = match operation.kind {
            OperationKind::CancelledCall => Some(487),
            OperationKind::UnknownCallee => Some(404),
            OperationKind::Register
            | OperationKind::Reregister
            | OperationKind::Call
            | OperationKind::Comeback => None,
        };
        match (expected, failure) {
            (None, None) => self.succeed(state, operation, now),
            (Some(expected), Some(CallFailure::Rejected { status })) if status == expected => {
                self.succeed(state, operation, now);
            }
            (Some(487), None) => {
                self.fail_in(
                    state,
                    operation,
                    "expected 487, found an answer that crossed CANCEL",
                );
            }
            (Some(_), None) => self.fail_in(state, operation, "expected 404, found an answer"),
            (_, Some(failure)) => self.fail_in(state, operation, &failure.to_string()),
        }
    }

    fn cancel_call(&self, state: &mut State, slot: usize, now: Instant) {
        let State { calls, outbox, .. } = state;
        let call = &mut calls[slot];
        let flow = call.flow.clone();
        let agent = self.agent(call.operation.role, call.operation.slot, &flow);
        call.caller.cancel(&agent, now, outbox);
        self.flush(state, &flow);
    }

    /// The call's next transaction gets a hop of its own.
    fn call_over_next_hop(self: &Rc<Self>, state: &mut State, slot: usize, now: Instant) {
        let call = &mut state.calls[slot];
        call.leave_hop();
        if call.is_answered {
            // Opening the hop is part of hanging up.
            call.bye_sent = Some(now);
        }
        let operation = call.operation;
        self.open_then(operation, now, move |worker, operation, hop| {
            let state = &mut *worker.state.borrow_mut();
            let flow = match hop {
                Ok(flow) => flow,
                Err(cause) => {
                    state.calls.remove(slot);
                    return worker.fail_in(state, operation, &cause);
                }
            };
            let State { calls, outbox, .. } = state;
            // Without a hop nothing can have ended it.
            let call = &mut calls[slot];
            call.flow = flow.clone();
            call.has_hop = true;
            let agent = worker.agent(operation.role, operation.slot, &flow);
            call.caller.proceed(&agent, Instant::now(), outbox);
            worker.flush(state, &flow);
            worker.schedule_call(state, slot);
        });
    }

    pub(super) fn schedule_call(&self, state: &mut State, slot: usize) {
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

    pub(super) fn fire_call(self: &Rc<Self>, state: &mut State, slot: usize, now: Instant) {
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
            let Operation {
                role, slot: user, ..
            } = call.operation;
            let agent = self.agent(role, user, &flow);
            let event = call.caller.timeout(&agent, now, outbox);
            self.count_retransmissions(state, matches!(event, CallEvent::Nothing));
            self.flush(state, &flow);
            self.on_call_event(state, slot, event, now);
        }
        self.schedule_call(state, slot);
    }

    pub(super) fn on_call_response(
        self: &Rc<Self>,
        state: &mut State,
        flow: &Flow,
        response: &Response<'_>,
        now: Instant,
    ) {
        let key = key_of_branch(response.branch().as_bytes());
        let slot = key.and_then(|key| state.call_slots.slot_of(key));
        let State { calls, outbox, .. } = state;
        let Some((slot, call)) = slot.and_then(|slot| Some((slot, calls.get_mut(slot)?))) else {
            state.unexpected += 1;
            return;
        };
        let Operation {
            role, slot: user, ..
        } = call.operation;
        let agent = self.agent(role, user, flow);
        let event = call.caller.receive(&agent, now, response, outbox);
        self.flush(state, flow);
        self.on_call_event(state, slot, event, now);
        self.schedule_call(state, slot);
    }
}

/// Per slot of the call table: how often it was used, and when the earliest entry in the timer wheel
/// that points to it is due. Outlives the calls, so that a slot's next call does with the entry of
/// the last one.
#[derive(Default)]
pub(in crate::load) struct CallSlots(Vec<SlotHistory>);

#[derive(Clone, Copy, Default)]
struct SlotHistory {
    generation: u32,
    scheduled: Option<Instant>,
}

impl CallSlots {
    /// The key of the next call in `slot`: no earlier call of this slot had it recently.
    pub(super) fn next_key(&mut self, slot: usize) -> u32 {
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
    pub(super) fn slot_of(&self, key: u32) -> Option<usize> {
        let slot = (key & ((1 << SLOT_BITS) - 1)) as usize;
        let generation = self.0.get(slot)?.generation;
        (generation << SLOT_BITS == key & !((1 << SLOT_BITS) - 1)).then_some(slot)
    }

    /// Whether `deadline` needs an entry in the timer wheel.
    pub(super) fn note_deadline(&mut self, slot: usize, deadline: Instant) -> bool {
        let is_sooner = self.0[slot].scheduled.is_none_or(|at| deadline < at);
        if is_sooner {
            self.0[slot].scheduled = Some(deadline);
        }
        is_sooner
    }

    /// Whether the entry that came up at `now` is the one that counts, and not one that an earlier
    /// deadline made superfluous: answering those with new entries would keep both for ever.
    pub(super) fn deadline_fired(&mut self, slot: usize, now: Instant) -> bool {
        self.0[slot].scheduled.take_if(|at| *at <= now).is_some()
    }
}

impl CallSlot {
    /// Whether its operation has not ended.
    pub(in crate::load) fn is_under_way(&self) -> bool {
        !(self.shape.is_lasting && self.is_answered)
    }

    /// A hop that was opened for the call, or for one transaction of it, is not needed any more.
    pub(in crate::load) fn leave_hop(&mut self) {
        if std::mem::take(&mut self.has_hop) {
            self.shape.leave(&self.flow);
        }
    }
}
