//! One worker: its users, their hops, its clock.
//!
//! A worker is a current-thread runtime. One task, the pulse, starts operations at their intended
//! instants and fires the timers; opening a hop is a short task of its own; everything else happens
//! in the handler (`operations`), in the task of the connection that a message came from.

use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use slab::Slab;
use tokio::sync::Notify;

use super::arrivals::Schedule;
use super::edges::{Edge, Edges};
use super::generator::Progress;
use super::keep_alive::KeepAlive;
use super::operations::{
    Answering, CallShape, CallSlots, Comeback, Kinds, Lottery, Operation, OperationKind,
    RegistrationOperation, Turns,
};
use super::outcome::{LoadReport, Recorder, Standing};
use super::pacer::Pacer;
use super::plan::{Callees, GeneratorConfig, LoadPlan, Workload};
use crate::measure::snapshot::ProcessSnapshot;
use crate::sip::{
    Accounts, Caller, Outbox, Registration, Reliability, Responses, Stationery, TimerWheel, Timing,
};
use crate::transport::{Batching, Flow, Settings, Stack, Transport, TransportError, User};

/// How often a worker that has finished looks whether the others have.
const FINISH_POLL: Duration = Duration::from_millis(2);
/// How often a worker at rest that waits for nothing looks around.
const REST: Duration = Duration::from_secs(3_600);
/// Lifetime that registrations ask for unless they are told otherwise: longer than any run.
const EXPIRES_SECONDS: u32 = 3_600;
/// What may wait to be received at a datagram socket of a generator that gathers, unless it is told otherwise; in the
/// kernel's count, where a small datagram is 1 KiB or more.
pub const GATHERED_RECEIVE_BUFFER_BYTES: u32 = 1024 * 1024;
/// Operations started before the connections get a turn.
const STARTS_PER_TURN: usize = 64;

/// One worker of a generator. Lives inside a [`tokio::task::LocalSet`].
pub(super) struct Worker {
    index: u32,
    /// Of all processes.
    workers: u32,
    /// Whether it tells for its process how a load goes on.
    is_first: bool,
    first_user: u32,
    pub(super) expires_seconds: u32,
    pub(super) stack: &'static Stack,
    pub(super) reliability: Reliability,
    target: SocketAddr,
    pub(super) transport: Box<dyn Transport>,
    pub(super) accounts: Accounts,
    pub(super) callees: Option<Callees>,
    pub(super) timing: Timing,
    pub(super) stationery: RoleStationery,
    /// Makes Call-IDs, tags and branches of this worker differ from those of others.
    pub(super) seed: u64,
    pub(super) epoch: Instant,
    pub(super) state: RefCell<State>,
    /// Wakes the pulse: an operation ended, or a timer is due before the alarm that is set.
    pub(super) changed: Notify,
    alarm: Cell<Option<Instant>>,
    /// How much was started and heard since the pulse looked last.
    busy: Cell<u32>,
}

/// What changes while a worker runs.
pub(super) struct State {
    pub(super) users: Vec<Option<Box<UserSlot>>>,
    pub(super) calls: Slab<CallSlot>,
    pub(super) call_slots: CallSlots,
    pub(super) timers: TimerWheel<TimerKey>,
    pub(super) turns: Turns,
    /// Whose turn it would have been when the latest load ended.
    pub(super) next_user: u32,
    pub(super) kinds: Kinds,
    /// Of waiting times.
    pub(super) random: ChaCha8Rng,
    /// Present where users answer: callees of the generator's own since the latest load began, others
    /// always.
    pub(super) answering: Option<Answering>,
    /// Present where calls go to whom chance wants.
    pub(super) lottery: Option<Lottery>,
    pub(super) outbox: Outbox,
    pub(super) responses: Responses,
    /// Present while a load runs.
    pub(super) recorder: Option<Recorder>,
    /// Which order is carried out: changes whenever one begins, and when the books of one are closed.
    pub(super) order: u64,
    /// Operations of that order that have not ended.
    pub(super) in_flight: usize,
    /// The pulse wants to know when fewer operations than this are under way.
    pub(super) wake_below: usize,
    /// Why the population did not grow.
    pub(super) first_failure: Option<String>,
    /// Those that the next report tells.
    pub(super) lost_hops: u64,
    /// What goes on without an order, as far as it is counted here.
    pub(super) standing: Standing,
    /// Of stream flows, if they are to be kept alive.
    pub(super) keep_alive: Option<KeepAlive>,
    pub(super) unexpected: u64,
    pub(super) unsent: u64,
}

/// What a timer is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum TimerKey {
    /// A user's registration.
    Registration(u32),
    /// A slot of the call table.
    Call(usize),
    /// A user that waits before it comes back.
    Comeback(u32),
}

/// What a user is to the others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    /// It registers, calls and comes back, at the generator's target.
    Caller,
    /// It registers where [`Callees`] says, and is called.
    Callee,
}

/// That of users by their role, since callees may have accounts of their own.
#[derive(Default)]
pub(super) struct RoleStationery {
    pub(super) callers: Stationery,
    pub(super) callees: Stationery,
}

/// One user that has, or had, a hop.
pub(super) struct UserSlot {
    pub(super) flow: Option<Flow>,
    pub(super) role: Role,
    pub(super) registration: Registration,
    pub(super) is_registered: bool,
    /// Whether it has a call up that lasts.
    pub(super) is_in_call: bool,
    pub(super) operation: Option<RegistrationOperation>,
    pub(super) comeback: Option<Box<Comeback>>,
    /// When the earliest entry in the wheel that points to this user is due.
    pub(super) scheduled: Option<Instant>,
}

/// One call under way.
pub(super) struct CallSlot {
    pub(super) caller: Caller,
    pub(super) operation: Operation,
    /// The hop that it uses, or used last.
    pub(super) flow: Flow,
    /// Whether it still uses it; not between two transactions that have a hop each.
    pub(super) has_hop: bool,
    pub(super) invite_sent: Instant,
    /// When the first response other than 100 came.
    pub(super) progressed: Option<Instant>,
    pub(super) is_answered: bool,
    pub(super) shape: CallShape,
    pub(super) bye_sent: Option<Instant>,
}

impl State {
    /// What an earlier order left under way counts no more.
    pub(super) fn begin_order(&mut self, turns: Turns, wake_below: usize) {
        self.order += 1;
        self.in_flight = 0;
        self.turns = turns;
        self.wake_below = wake_below;
    }

    pub(super) fn user(&mut self, slot: u32) -> Option<&mut UserSlot> {
        self.users.get_mut(slot as usize)?.as_deref_mut()
    }

    /// The lasting call of a user is over.
    pub(super) fn left_call(&mut self, slot: u32) {
        if let Some(user) = self.user(slot) {
            user.is_in_call = false;
        }
    }

    pub(super) fn flow(&self, slot: u32) -> Option<Flow> {
        self.users.get(slot as usize)?.as_ref()?.flow.clone()
    }
}

impl Worker {
    pub(super) fn new(
        config: &GeneratorConfig,
        stack: &'static Stack,
        index: u32,
    ) -> Result<Self, TransportError> {
        let gathers = !config.gather.is_zero();
        // A user sends what one wake-up brings with one call, or as few as it can if it gathers: what the server
        // gets is the same. But a capture on the loopback shows what passes the kernel as one as one packet.
        let batching = if gathers {
            Batching::Segments
        } else {
            Batching::On
        };
        let mut settings = Settings {
            batching,
            ..config.settings.clone()
        };
        // What gathers lets more wait for it than a datagram socket usually holds.
        if gathers && !stack.is_stream() {
            let buffers = &mut settings.socket_buffers;
            buffers
                .socket_receive_buffer_bytes
                .get_or_insert(GATHERED_RECEIVE_BUFFER_BYTES);
        }
        let transport = stack.open(&settings)?;
        let mut users = Vec::new();
        users.resize_with(config.users_max().div_ceil(config.workers) as usize, || {
            None
        });
        let own = config.own_workers.as_ref();
        let timing = Timing::default();
        let epoch = Instant::now();
        Ok(Self {
            index,
            workers: config.workers,
            is_first: index == own.map_or(0, |own| own.start),
            first_user: config.first_user,
            expires_seconds: config.expires_seconds.unwrap_or(EXPIRES_SECONDS),
            stack,
            reliability: Reliability::of(stack.is_stream()),
            target: config.target,
            transport,
            accounts: config.accounts.clone(),
            callees: config.callees.clone(),
            timing,
            stationery: RoleStationery::default(),
            seed: config.seed ^ u64::from(index) << 48,
            epoch,
            state: RefCell::new(State {
                users,
                calls: Slab::new(),
                call_slots: CallSlots::default(),
                timers: TimerWheel::new(epoch),
                turns: Turns::none(),
                next_user: 0,
                kinds: Kinds::One(OperationKind::Register),
                random: ChaCha8Rng::seed_from_u64(config.seed ^ u64::from(index) << 48),
                answering: config
                    .answers
                    .then(|| Answering::new(stack, &config.accounts, timing, Duration::ZERO)),
                lottery: config
                    .called
                    .map(|called| Lottery::new(called, config.seed, index)),
                outbox: Outbox::new(),
                responses: Responses::default(),
                recorder: None,
                order: 0,
                in_flight: 0,
                wake_below: 0,
                first_failure: None,
                lost_hops: 0,
                standing: Standing::default(),
                keep_alive: config
                    .settings
                    .keep_alive
                    .filter(|_| stack.is_stream())
                    .map(|interval| KeepAlive::new(interval, Instant::now() + interval)),
                unexpected: 0,
                unsent: 0,
            }),
            changed: Notify::new(),
            alarm: Cell::new(None),
            busy: Cell::new(0),
        })
    }

    /// Runs `plan`, whose time zero is `epoch`. `running` counts the workers whose operations go on. `on_edge` is called when the measurement begins and
    /// again when it ends, and returns what it costs the process by then.
    pub(super) async fn run(
        self: &Rc<Self>,
        plan: &LoadPlan,
        epoch: Instant,
        running: &AtomicU32,
        on_edge: impl Fn(Progress) -> ProcessSnapshot,
        pacer: &mut Pacer,
    ) -> Result<LoadReport, String> {
        let window_start = epoch + Duration::from_secs_f64(plan.warm_up_seconds);
        let window_end = window_start + Duration::from_secs_f64(plan.duration_seconds);
        let give_up = window_end + Duration::from_secs_f64(plan.drain_seconds);
        {
            let mut state = self.state.borrow_mut();
            let warms_up = plan.warm_up_seconds > 0.0;
            state.recorder = Some(Recorder::new(window_start, window_end, warms_up));
            let turns = Turns::new(self.share_of(plan.users), plan, state.next_user);
            state.begin_order(turns, 0);
            state.kinds = Kinds::new(plan, self.index);
            let ring = Duration::from_secs_f64(plan.ring_seconds);
            if let Some(callees) = &self.callees {
                let answering = Answering::new(self.stack, &callees.accounts, self.timing, ring);
                state.answering = Some(answering);
            }
            let called = state.lottery.as_ref().map(Lottery::called);
            state.lottery = called.map(|called| Lottery::new(called, plan.seed, self.index));
        }
        let mut schedule = Schedule::new(plan, self.index, self.workers, epoch);
        let is_avalanche = plan.workload == Workload::Avalanche;
        let mut edges = Edges::default();
        let mut has_finished = false;
        loop {
            // One reading of the clock for all that happens in this turn.
            let now = Instant::now();
            for _ in 0..STARTS_PER_TURN {
                let Some(intended) = schedule.take_due(now) else {
                    break;
                };
                self.start_operation(plan, intended, now);
            }
            self.fire_timers(now);
            if edges.before.is_none() && now >= window_start {
                let reading = || on_edge(Progress::MeasurementBegins);
                edges.before = Some(Edge::begins(reading, now));
                if is_avalanche {
                    self.drop_all_hops(self.share_of(plan.users), plan.back_off, now);
                }
            }
            if edges.after.is_none() && now >= window_end {
                if let Some(recorder) = &mut self.state.borrow_mut().recorder {
                    recorder.write_samples();
                }
                let reading = || on_edge(Progress::MeasurementEnds);
                edges.after = Some(Edge::ends(reading, now));
                self.state.borrow_mut().wake_below = 1;
            }
            let next = schedule.next();
            let is_over = next.is_none() && self.state.borrow().in_flight == 0;
            if now >= window_end && (is_over || now >= give_up) {
                if !std::mem::replace(&mut has_finished, true) {
                    running.fetch_sub(1, Ordering::Relaxed);
                }
                // Callers of other workers may still talk to callees of this one.
                let is_needed = self.callees.is_some() && running.load(Ordering::Relaxed) > 0;
                if !is_needed || now >= give_up {
                    break;
                }
            }
            if next.is_some_and(|next| next <= now) {
                tokio::task::yield_now().await;
                continue;
            }
            let deadline = [window_start, window_end, give_up]
                .into_iter()
                .filter(|edge| *edge > now)
                .chain(self.next_timer())
                .chain(next)
                .chain(has_finished.then_some(now + FINISH_POLL))
                .min()
                .unwrap_or(give_up);
            self.wait(pacer, deadline).await?;
        }
        Ok(self.close_books(edges, schedule.remaining_since(window_start)))
    }

    /// Whoever is still under way has failed.
    fn close_books(&self, edges: Edges, never_started: u64) -> LoadReport {
        let state = &mut *self.state.borrow_mut();
        let mut recorder = state.recorder.take().expect("a run has a recorder");
        let unfinished = "no final response before the drain ended";
        for mut call in state.calls.drain() {
            if call.is_under_way() {
                recorder.failed(call.operation.kind, call.operation.intended, unfinished);
            }
            call.leave_hop();
        }
        for user in state.users.iter_mut().flatten() {
            user.is_in_call = false;
            let (current, comeback) = (user.operation.take(), user.comeback.take());
            let cause = comeback
                .as_ref()
                .and_then(|comeback| comeback.cause.as_deref());
            let comeback = comeback.as_ref().map(|comeback| comeback.operation);
            if let Some(operation) = current.map(|current| current.operation).or(comeback) {
                let cause = cause.unwrap_or(unfinished);
                recorder.failed(operation.kind, operation.intended, cause);
            }
        }
        state.next_user = state.turns.next();
        state.begin_order(Turns::none(), 0);
        let mut report = recorder.finish((0..never_started).map(|_| state.kinds.next()));
        let answering = state.answering.as_ref();
        let callees = answering.filter(|_| self.callees.is_some());
        report.callees = callees.map(Answering::counts);
        report.unexpected = std::mem::take(&mut state.unexpected);
        report.unsent = std::mem::take(&mut state.unsent);
        report.lost_hops = std::mem::take(&mut state.lost_hops);
        report.tunnel_drops = self.transport.tunnel_drops();
        edges.tell(&mut report);
        report
    }

    /// Does what no order asks for – keeps hops alive, answers calls, repeats what was not heard – for
    /// as long as it is polled. Returns when that is not possible any more.
    pub(super) async fn rest(self: &Rc<Self>, pacer: &mut Pacer) -> String {
        loop {
            let now = Instant::now();
            self.fire_timers(now);
            let deadline = self.next_timer().unwrap_or(now + REST);
            if let Err(reason) = self.wait(pacer, deadline).await {
                return reason;
            }
        }
    }

    /// How its users stand.
    pub(super) fn standing(&self) -> Standing {
        let state = self.state.borrow();
        let count = |predicate: fn(&UserSlot) -> bool| {
            let users = state.users.iter().flatten();
            users.filter(|user| predicate(user)).count() as u64
        };
        Standing {
            open_hops: count(|user| user.flow.is_some()),
            registered_users: count(|user| user.flow.is_some() && user.is_registered),
            pings_sent: state.keep_alive.as_ref().map_or(0, KeepAlive::pings),
            callees: state.answering.as_ref().map(Answering::counts),
            tunnel_drops: self.transport.tunnel_drops(),
            ..state.standing
        }
    }

    /// Waits until `deadline`, or until something happens that the pulse must know.
    pub(super) async fn wait(&self, pacer: &mut Pacer, deadline: Instant) -> Result<(), String> {
        self.alarm.set(Some(deadline));
        let alarm = tokio::select! {
            biased;
            () = self.changed.notified() => Ok(()),
            result = pacer.wait_until(deadline, &self.busy) => result,
        };
        self.alarm.set(None);
        alarm.map_err(|error| format!("the timer of the generator failed: {error}"))
    }

    /// Something is started, or was heard.
    pub(super) fn note_busy(&self) {
        self.busy.set(self.busy.get() + 1);
    }

    /// Wakes the pulse if its alarm is set for later than `deadline`.
    pub(super) fn wake_for(&self, deadline: Instant) {
        if self.alarm.get().is_some_and(|alarm| deadline < alarm) {
            self.changed.notify_one();
        }
    }

    pub(super) fn next_timer(&self) -> Option<Instant> {
        let state = self.state.borrow();
        let answering = state.answering.as_ref().and_then(Answering::deadline);
        state
            .timers
            .next_deadline()
            .into_iter()
            .chain(answering)
            .chain(state.keep_alive.as_ref().map(KeepAlive::deadline))
            .min()
    }

    /// Whether this is the worker of its process that reports progress.
    pub(super) fn is_first(&self) -> bool {
        self.is_first
    }

    /// This worker's part of `count`.
    pub(super) fn share_of(&self, count: u32) -> u32 {
        count / self.workers + u32::from(self.index < count % self.workers)
    }

    /// The slots of those users of `first..first + count` that are this worker's.
    pub(super) fn slots_of(&self, first: u32, count: u32) -> impl Iterator<Item = u32> + use<> {
        self.share_of(first)..self.share_of(first + count)
    }

    /// Where users of that role register.
    pub(super) fn target(&self, role: Role) -> SocketAddr {
        match (role, &self.callees) {
            (Role::Callee, Some(callees)) => callees.target,
            (Role::Caller, _) | (Role::Callee, None) => self.target,
        }
    }

    /// The accounts of users of that role.
    pub(super) fn accounts_of(&self, role: Role) -> &Accounts {
        match (role, &self.callees) {
            (Role::Callee, Some(callees)) => &callees.accounts,
            (Role::Caller, _) | (Role::Callee, None) => &self.accounts,
        }
    }

    pub(super) fn user_of(&self, slot: u32) -> User {
        User(self.first_user + slot * self.workers + self.index)
    }

    pub(super) fn slot_of(&self, flow: &Flow) -> u32 {
        let user = u32::try_from(flow.id()).expect("client flows are numbered by user");
        (user - self.first_user) / self.workers
    }
}
