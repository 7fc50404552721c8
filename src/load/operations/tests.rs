//! A worker's books, with hops that lead nowhere.

use std::cell::Cell;
use std::net::SocketAddr;
use std::time::Duration;

use super::*;
use crate::load::keep_alive::KeepAlive;
use crate::load::pacer::Pacer;
use crate::load::{ArrivalLaw, BackOff, Course, GeneratorConfig, Lifecycle, Mix, Workload};
use crate::sip::Accounts;
use crate::transport::{Link, SendError, Settings, find};

fn nowhere() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 9))
}

/// Whose it is, and how often it was pinged.
struct DeadEnd(u64, Cell<u32>);

impl Link for DeadEnd {
    fn send(&self, _: SocketAddr, _: &[u8]) -> Result<(), SendError> {
        Ok(())
    }

    fn close(&self) {}

    fn ping(&self) -> Result<(), SendError> {
        self.1.set(self.1.get() + 1);
        Ok(())
    }

    fn id(&self) -> u64 {
        self.0
    }

    fn local(&self) -> SocketAddr {
        nowhere()
    }
}

fn hop(user: u64) -> Flow {
    Flow::new(Rc::new(DeadEnd(user, Cell::new(0))), nowhere())
}

fn worker() -> Worker {
    let accounts = Accounts::new("hopbench.test", "hopbench", 4);
    let config = GeneratorConfig::new("tcp", nowhere(), Settings::default(), accounts);
    Worker::new(&config, find("tcp").unwrap(), 0).unwrap()
}

fn operation(worker: &Worker, slot: u32) -> Operation {
    let now = Instant::now();
    let state = &mut *worker.state.borrow_mut();
    state.in_flight += 1;
    Operation {
        order: state.order,
        slot,
        role: Role::Caller,
        kind: OperationKind::Register,
        intended: now,
        started: now,
    }
}

fn broken() -> CloseReason {
    CloseReason::Broken("reset".into())
}

#[test]
fn an_older_hop_that_breaks_late_does_the_users_new_one_no_harm() {
    let worker = worker();
    let (old, new) = (hop(2), hop(2));
    let operation = operation(&worker, 2);
    worker.keep_hop(operation, new.clone());
    worker.begin_registration(operation, Lifecycle::PerRegistration);
    worker.on_lost_hop(&old, &broken());
    {
        let state = worker.state.borrow();
        assert!(state.flow(2).is_some_and(|flow| flow.is_same_as(&new)));
        assert_eq!((state.in_flight, state.lost_hops), (1, 0));
        assert_eq!(state.first_failure, None);
    }
    worker.on_lost_hop(&new, &broken());
    let state = worker.state.borrow();
    assert!(state.flow(2).is_none());
    assert_eq!((state.in_flight, state.lost_hops), (0, 1));
    // The population is not what was asked for any more.
    assert!(state.first_failure.is_some());
}

#[test]
fn a_deadline_on_a_hop_that_is_gone_is_let_pass() {
    let worker = Rc::new(worker());
    let hop = hop(2);
    let operation = operation(&worker, 2);
    worker.keep_hop(operation, hop.clone());
    worker.begin_registration(operation, Lifecycle::PerRegistration);
    worker.on_lost_hop(&hop, &broken());
    // Longer than any transaction waits: this must come to an end.
    worker.fire_timers(Instant::now() + Duration::from_secs(60));
    assert!(worker.state.borrow().timers.is_empty());
}

#[test]
fn a_lost_hop_ends_the_calls_on_it_and_not_those_on_the_users_other_hops() {
    let worker = worker();
    let shape = CallShape {
        lifecycle: Lifecycle::PerCall,
        talk: Duration::ZERO,
        to_callee: 0,
        drawn: None,
        is_lasting: false,
    };
    let hops = [hop(1), hop(1)];
    for hop in &hops {
        let operation = operation(&worker, 1);
        worker.begin_call(operation, hop.clone(), shape, operation.started);
    }
    worker.on_lost_hop(&hops[0], &broken());
    worker.on_lost_hop(&hops[0], &broken());
    let state = worker.state.borrow();
    assert_eq!((state.calls.len(), state.in_flight), (1, 1));
    assert_eq!(state.lost_hops, 1);
}

#[test]
fn each_turn_is_given_back_once() {
    let plan = |workload, lifecycle| LoadPlan {
        workload,
        lifecycle,
        arrivals: ArrivalLaw::Constant,
        rate_per_second: 1.0,
        course: Course::Steady,
        warm_up_seconds: 0.0,
        duration_seconds: 1.0,
        drain_seconds: 1.0,
        users: 2,
        talk_seconds: 0.0,
        ring_seconds: 0.0,
        mix: Mix::default(),
        back_off: BackOff::default(),
        seed: 1,
    };
    let mut exclusive = Turns::new(2, &plan(Workload::Register, Lifecycle::PerRegistration), 0);
    assert_eq!([(); 3].map(|()| exclusive.take()), [Some(0), Some(1), None]);
    exclusive.give_back(1);
    assert_eq!([(); 2].map(|()| exclusive.take()), [Some(1), None]);
    let mut shared = Turns::new(2, &plan(Workload::Invite, Lifecycle::PerRegistration), 0);
    assert_eq!([(); 3].map(|()| shared.take()), [Some(0), Some(1), Some(0)]);
    assert_eq!(Turns::none().take(), None);
    // A later load goes on where this one ended.
    let registering = plan(Workload::Register, Lifecycle::PerRegistration);
    let mut later = Turns::new(2, &registering, shared.next());
    assert_eq!([(); 3].map(|()| later.take()), [Some(1), Some(0), None]);
    assert_eq!(Turns::new(2, &registering, 7).take(), Some(1));
}

#[test]
fn a_superfluous_timer_entry_is_answered_with_nothing() {
    let start = Instant::now();
    let at = |seconds| start + Duration::from_secs(seconds);
    let mut slots = CallSlots::default();
    slots.next_key(0);
    assert!(slots.note_deadline(0, at(4)));
    assert!(!slots.note_deadline(0, at(5)));
    // The BYE's first retransmission is due before what the INVITE's last one had asked for.
    assert!(slots.note_deadline(0, at(1)));
    assert!(slots.deadline_fired(0, at(1)));
    assert!(slots.note_deadline(0, at(6)));
    assert!(!slots.deadline_fired(0, at(4)), "the one at 6 will come");
    assert!(slots.deadline_fired(0, at(6)));
    assert!(!slots.deadline_fired(0, at(6)));
}

#[test]
fn a_key_names_its_slot_until_the_slot_has_another_call() {
    let mut slots = CallSlots::default();
    let (first, other) = (slots.next_key(3), slots.next_key(0));
    assert_eq!(slots.slot_of(first), Some(3));
    assert_eq!(slots.slot_of(other), Some(0));
    let second = slots.next_key(3);
    assert_eq!(
        (slots.slot_of(first), slots.slot_of(second)),
        (None, Some(3))
    );
    assert_eq!(slots.slot_of(77), None);
}

/// Between orders, too: nobody else would keep idle hops alive.
#[test]
fn a_worker_at_rest_pings_and_counts_who_does_not_answer() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let worker = Rc::new(worker());
    let link = Rc::new(DeadEnd(1, Cell::new(0)));
    let hop = Flow::new(link.clone(), nowhere());
    worker.keep_hop(operation(&worker, 1), hop.clone());
    // A round of four users, the first turn of which is user 1's, is due from now on.
    let now = Instant::now();
    let interval = Duration::from_secs(120);
    worker.state.borrow_mut().keep_alive = Some(KeepAlive::new(interval, now));
    runtime.block_on(async {
        let mut pacer = Pacer::new(Duration::ZERO, true).unwrap();
        let rest = worker.rest(&mut pacer);
        let rested = tokio::time::timeout(Duration::from_millis(20), rest).await;
        assert!(rested.is_err(), "{rested:?}");
    });
    assert_eq!(link.1.get(), 1);
    let standing = worker.standing();
    let counts = (
        standing.open_hops,
        standing.pings_sent,
        standing.pongs_missed,
    );
    assert_eq!(counts, (1, 1, 0));
    WorkerHandler(Rc::clone(&worker)).closed(&hop, &CloseReason::NoPong);
    let standing = worker.standing();
    assert_eq!((standing.open_hops, standing.lost_hops), (0, 1));
    assert_eq!((standing.pings_sent, standing.pongs_missed), (1, 1));
}
