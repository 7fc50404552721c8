//! A call as a load runs it: what is sent, what is recorded, when it is carried on.

use std::time::{Duration, Instant};

use super::super::outcome::Moment;
use super::super::plan::Lifecycle;
use super::super::worker::{CallSlot, State, TimerKey, Worker};
use super::Operation;
use crate::sip::{CallEvent, Caller, Message, key_of_branch};
use crate::transport::Flow;

/// A key in a branch is a slot of the call table, below the slot's generation.
const SLOT_BITS: u32 = 20;

/// What the load wants of a call.
#[derive(Clone, Copy)]
pub(in crate::load) struct CallShape {
    pub(super) lifecycle: Lifecycle,
    pub(super) talk: Duration,
}

impl CallShape {
    fn leave(self, hop: &Flow) {
        match self.lifecycle {
            Lifecycle::PerCall => hop.close(),
            Lifecycle::PerTransaction | Lifecycle::PerRegistration => {}
        }
    }
}

impl Worker {
    pub(super) fn begin_call(&self, operation: Operation, flow: Flow, shape: CallShape) {
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

    pub(super) fn on_call_event(&self, state: &mut State, slot: usize, event: CallEvent) {
        let now = Instant::now();
        let call = &mut state.calls[slot];
        let operation = call.operation;
        let recorder = state
            .recorder
            .as_mut()
            .filter(|recorder| recorder.covers(operation.intended));
        match event {
            CallEvent::Nothing | CallEvent::Challenged | CallEvent::HopNeeded => {}
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
            CallEvent::Completed | CallEvent::Cancelled => {
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

    pub(super) fn end_call(&self, state: &mut State, slot: usize) {
        state.calls.remove(slot).leave_hop();
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

    pub(super) fn fire_call(&self, state: &mut State, slot: usize, now: Instant) {
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

    pub(super) fn on_call_response(&self, state: &mut State, message: &Message<'_>, now: Instant) {
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
}

/// Per slot of the call table: how often it was used, and when the earliest entry in the timer queue
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

    /// Whether `deadline` needs an entry in the timer queue.
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
    /// The call is over; a hop that was opened for it is not needed any more.
    pub(in crate::load) fn leave_hop(&self) {
        self.shape.leave(&self.flow);
    }
}
