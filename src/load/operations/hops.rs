//! Opening, keeping and losing hops.

use std::rc::Rc;
use std::time::Instant;

use tokio::task::spawn_local;

use super::super::outcome::Moment;
use super::super::worker::{State, UserSlot, Worker};
use super::{Operation, WorkerHandler};
use crate::measure::heap::{self, Part};
use crate::sip::Registration;
use crate::transport::{CloseReason, Connected, Flow, HandshakeKind, Phases};

impl Worker {
    /// Opens a hop for an operation, whose set-up is counted from `since`. `then` learns of it unless
    /// the order that the operation belongs to is over by then.
    pub(super) fn open_then(
        self: &Rc<Self>,
        operation: Operation,
        since: Instant,
        then: impl FnOnce(&Rc<Self>, Operation, Result<Flow, String>) + 'static,
    ) {
        let worker = Rc::clone(self);
        let opening = async move {
            let handler = Rc::new(WorkerHandler(Rc::clone(&worker)));
            let user = worker.user_of(operation.slot);
            let target = worker.target(operation.role);
            let outcome = worker.transport.connect(user, target, handler).await;
            if operation.order != worker.state.borrow().order {
                // The books that knew of this hop are closed, and the user may have another by now.
                if let Ok(Connected { flow, .. }) = outcome {
                    flow.close();
                }
                return;
            }
            match outcome {
                Err(error) => then(&worker, operation, Err(error.to_string())),
                Ok(Connected { flow, phases }) => {
                    worker.record_phases(operation, since, phases);
                    then(&worker, operation, Ok(flow));
                }
            }
        };
        let _scope = heap::part(Part::Task);
        spawn_local(heap::within(Part::Task, opening));
    }

    /// Opens the user's hop and leaves it at that.
    pub(in crate::load) fn open_only(self: &Rc<Self>, operation: Operation) {
        self.drop_hop(&mut self.state.borrow_mut(), operation.slot);
        self.open_then(
            operation,
            operation.intended,
            |worker, operation, hop| match hop {
                Err(cause) => worker.fail(operation, &cause),
                Ok(flow) => {
                    worker.keep_hop(operation, flow);
                    let state = &mut worker.state.borrow_mut();
                    worker.succeed(state, operation, Instant::now());
                }
            },
        );
    }

    /// Closes the hop that a user holds, if it holds one.
    pub(super) fn drop_hop(&self, state: &mut State, slot: u32) {
        if let Some(user) = state.user(slot) {
            user.is_registered = false;
            if let Some(flow) = user.flow.take() {
                flow.close();
            }
        }
    }

    /// Makes `flow` the user's hop, on which it is not registered yet.
    pub(super) fn keep_hop(&self, operation: Operation, flow: Flow) {
        let _scope = heap::part(Part::Binding);
        let (slot, role) = (operation.slot, operation.role);
        let registration = Registration::new(self.user_of(slot).0);
        let mut state = self.state.borrow_mut();
        match &mut state.users[slot as usize] {
            Some(user) => {
                user.flow = Some(flow);
                user.role = role;
                user.registration = registration;
                user.is_registered = false;
                user.is_in_call = false;
            }
            vacant => {
                *vacant = Some(Box::new(UserSlot {
                    flow: Some(flow),
                    role,
                    registration,
                    is_registered: false,
                    is_in_call: false,
                    operation: None,
                    comeback: None,
                    scheduled: None,
                }));
            }
        }
    }

    fn record_phases(&self, operation: Operation, since: Instant, phases: Phases) {
        let now = Instant::now();
        let mut state = self.state.borrow_mut();
        let Some(recorder) = &mut state.recorder else {
            return;
        };
        if recorder.covers(operation.intended) {
            recorder.record(Moment::Setup, now.saturating_duration_since(since));
            if let Some(duration) = phases.tunnel_handshake {
                recorder.record(Moment::TunnelHandshake, duration);
            }
            if let Some(duration) = phases.transport_connect {
                recorder.record(Moment::TransportConnect, duration);
            }
            if let Some(duration) = phases.security_handshake {
                recorder.record(Moment::SecurityHandshake, duration);
            }
            recorder.report.hops_opened += 1;
            match phases.handshake_kind {
                Some(HandshakeKind::Resumed) => recorder.report.resumed_handshakes += 1,
                Some(HandshakeKind::Full) | None => {}
            }
        }
    }

    /// A hop ended without having been closed here, or before that was done: whatever ran on it has
    /// failed.
    pub(super) fn on_lost_hop(&self, flow: &Flow, reason: &CloseReason) {
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
                self.registration_failed(state, current.operation, &cause);
            }
        }
        let lost: Vec<usize> = state
            .calls
            .iter()
            .filter(|(_, call)| call.has_hop && call.flow.is_same_as(flow))
            .map(|(index, _)| index)
            .collect();
        for index in lost {
            is_known = true;
            let call = state.calls.remove(index);
            if call.is_under_way() {
                self.fail_in(state, call.operation, &cause);
            } else {
                state.left_call(call.operation.slot);
            }
        }
        if is_known {
            state.lost_hops += 1;
            state.standing.lost_hops += 1;
            if state.recorder.is_none() {
                // A population that has shrunk while it grew is not what was asked for.
                state.first_failure.get_or_insert(cause);
            }
        }
    }
}
