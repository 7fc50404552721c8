//! Bringing users to where an order wants them before it starts.

use std::rc::Rc;
use std::time::{Duration, Instant};

use super::operations::{CallShape, Operation, OperationKind, Turns};
use super::pacer::Pacer;
use super::plan::{Lifecycle, Stage};
use super::worker::{Role, UserSlot, Worker};

/// Hops that are opened at the same time while a population grows.
const CONCURRENCY: usize = 32;

/// Who is to be brought where.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Population {
    /// Callers, and as many callees, who follow them.
    pub(super) users: u32,
    /// How far callers are brought; `None` where they come with their operations.
    pub(super) callers: Option<Stage>,
    /// The same of callees; `None` where there are none.
    pub(super) callees: Option<Stage>,
}

impl Worker {
    /// Opens hops until this worker's users have reached their stage.
    pub(super) async fn populate(
        self: &Rc<Self>,
        population: Population,
        pacer: &mut Pacer,
    ) -> Result<(), String> {
        self.bring(population, Self::advance, pacer).await?;
        match population.callers {
            Some(Stage::InCall) => self.bring(population, Self::call_and_stay, pacer).await,
            Some(Stage::Handshaken | Stage::Registered | Stage::Idle) | None => Ok(()),
        }
    }

    /// Lets every user take a `step` towards its stage, and waits until all have taken it.
    async fn bring(
        self: &Rc<Self>,
        population: Population,
        step: fn(&Rc<Self>, Operation, Stage),
        pacer: &mut Pacer,
    ) -> Result<(), String> {
        let Population {
            users,
            callers,
            callees,
        } = population;
        let of_role = |role, first, stage: Option<Stage>| {
            let slots = stage.map(|stage| {
                self.slots_of(first, users)
                    .map(move |slot| (role, slot, stage))
            });
            slots.into_iter().flatten()
        };
        let mut waiting = of_role(Role::Callee, users, callees)
            .chain(of_role(Role::Caller, 0, callers))
            .peekable();
        {
            let mut state = self.state.borrow_mut();
            state.first_failure = None;
            state.begin_order(Turns::none(), CONCURRENCY);
        }
        loop {
            while self.state.borrow().in_flight < CONCURRENCY
                && self.state.borrow().first_failure.is_none()
                && let Some((role, slot, stage)) = waiting.next()
            {
                step(self, self.step_of(role, slot), stage);
            }
            let now = Instant::now();
            self.fire_timers(now);
            {
                let mut state = self.state.borrow_mut();
                let is_over = state.first_failure.is_some() || waiting.peek().is_none();
                if is_over && state.in_flight == 0 {
                    return match state.first_failure.take() {
                        None => Ok(()),
                        Some(failure) => Err(failure),
                    };
                }
            }
            let deadline = self.next_timer().unwrap_or(now + Duration::from_secs(1));
            self.wait(pacer, deadline).await?;
        }
    }

    /// A step of a user, which begins now.
    fn step_of(&self, role: Role, slot: u32) -> Operation {
        let now = Instant::now();
        Operation {
            order: self.state.borrow().order,
            slot,
            role,
            kind: OperationKind::Register,
            intended: now,
            started: now,
        }
    }

    /// Brings one user to its hop, or on it to its registration, if it is not there yet.
    fn advance(self: &Rc<Self>, operation: Operation, stage: Stage) {
        let lifecycle = Lifecycle::PerRegistration;
        let (has_hop, is_registered) = match self.state.borrow_mut().user(operation.slot) {
            // A hop that led elsewhere is of no use.
            Some(user) if user.role == operation.role => (user.flow.is_some(), user.is_registered),
            Some(_) | None => (false, false),
        };
        if has_hop && is_registered {
            return;
        }
        match stage {
            Stage::Handshaken if has_hop => {}
            Stage::Handshaken => {
                self.state.borrow_mut().in_flight += 1;
                self.open_only(operation);
            }
            Stage::Registered | Stage::Idle | Stage::InCall => {
                self.state.borrow_mut().in_flight += 1;
                if has_hop {
                    self.begin_registration(operation, lifecycle);
                } else {
                    self.open_then_register(operation, lifecycle);
                }
            }
        }
    }

    /// Has one registered user make a call that stays up, if it has none.
    fn call_and_stay(self: &Rc<Self>, operation: Operation, _stage: Stage) {
        let is_in_call = |user: &mut UserSlot| user.is_in_call;
        if self
            .state
            .borrow_mut()
            .user(operation.slot)
            .is_some_and(is_in_call)
        {
            return;
        }
        self.state.borrow_mut().in_flight += 1;
        let operation = Operation {
            kind: OperationKind::Call,
            ..operation
        };
        self.start_call(operation, CallShape::lasting(), operation.started);
    }
}
