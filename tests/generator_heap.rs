//! In the steady state a message costs the generator no allocation, be it of a call or of a refresh, of one user or of many
//! by turns, over datagrams or streams, gathered or not, in a tunnel or not; and over TLS none but those that rustls makes
//! for its records.
//!
//! What is compared are two loads of the same length, one of many operations and one of few, on a worker that has
//! seen more of them at once than either brings. The least of several readings counts, since a machine
//! that stalls piles up more than ever before, for which buffers grow.

#![allow(clippy::unwrap_used)]

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::mpsc;
use std::time::Duration;

use hopbench::load::{
    ArrivalLaw, BackOff, Course, Generator, GeneratorConfig, Lifecycle, LoadPlan, Mix, Progress,
    Workload,
};
use hopbench::measure::heap::{self, CountingAllocator};
use hopbench::node::{Node, NodeConfig};
use hopbench::sip::Accounts;
use hopbench::transport::Settings;

#[global_allocator]
static ALLOCATOR: CountingAllocator = CountingAllocator;

const MANY_PER_SECOND: f64 = 400.0;
const FEW_PER_SECOND: f64 = 10.0;
const SECONDS: f64 = 0.5;
/// Operations that the one load has more than the other.
const FURTHER_OPERATIONS: u64 = ((MANY_PER_SECOND - FEW_PER_SECOND) * SECONDS) as u64;
/// Who call by turns, where several do.
const USERS: u32 = 16;
/// Who refresh by turns: so many that each is done before its next turn, also on a machine that stalls for half a second.
const REFRESHING_USERS: u32 = 400;
/// Of each load.
const READINGS: usize = 4;
/// Records that a call takes at the most: what each side says in one wake-up is one. INVITE; 100, 180 and 200; ACK and
/// BYE; 200.
const RECORDS_OF_CALL: u64 = 4;

/// What is done over and over.
#[derive(Clone, Copy, Debug)]
struct Case {
    stack: &'static str,
    workload: Workload,
    users: u32,
    gather: Duration,
}

impl Case {
    fn calls(stack: &'static str) -> Self {
        Self {
            stack,
            workload: Workload::Invite,
            users: 1,
            gather: Duration::ZERO,
        }
    }

    fn plan(self, rate_per_second: f64, talk_seconds: f64) -> LoadPlan {
        LoadPlan {
            workload: self.workload,
            lifecycle: Lifecycle::PerRegistration,
            arrivals: ArrivalLaw::Constant,
            course: Course::Steady,
            rate_per_second,
            warm_up_seconds: 0.0,
            duration_seconds: SECONDS,
            drain_seconds: 20.0,
            users: self.users,
            talk_seconds,
            ring_seconds: 0.0,
            mix: Mix::default(),
            back_off: BackOff::default(),
            seed: 7,
        }
    }
}

fn accounts() -> Accounts {
    Accounts::new("hopbench.test", "hopbench", REFRESHING_USERS)
}

/// A node on a thread of its own, which ends with the process.
fn start_node(stack: &'static str, settings: Settings) -> SocketAddr {
    let (sender, address) = mpsc::channel();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        tokio::task::LocalSet::new().block_on(&runtime, async {
            let any = (Ipv4Addr::LOCALHOST, 0).into();
            let config = NodeConfig::answering(stack, any, settings, accounts());
            let node = Node::listen(&config).await.unwrap();
            sender.send(node.local()).unwrap();
            node.run().await;
        });
    });
    address.recv().unwrap()
}

/// What the worker allocates while such calls are made: the least of several readings.
fn least_allocations(generator: &Generator, plan: &LoadPlan) -> u64 {
    let readings = (0..READINGS).map(|_| {
        let allocations = Arc::new([AtomicU64::new(0), AtomicU64::new(0)]);
        let noted = Arc::clone(&allocations);
        // Called by the worker, in its own thread.
        let report = generator.run(plan, move |progress| {
            let so_far = heap::thread().unwrap().allocations;
            match progress {
                Progress::MeasurementBegins => noted[0].store(so_far, Relaxed),
                Progress::MeasurementEnds => noted[1].store(so_far, Relaxed),
            }
        });
        let report = report.unwrap();
        assert_eq!(report.failures.len(), 0, "{:?}", report.failures);
        allocations[1].load(Relaxed) - allocations[0].load(Relaxed)
    });
    readings.min().unwrap()
}

/// What [`FURTHER_OPERATIONS`] cost the worker.
fn allocations_of(case: Case, settings: &Settings) -> u64 {
    let target = start_node(case.stack, settings.clone());
    let config = GeneratorConfig {
        gather: case.gather,
        ..GeneratorConfig::new(case.stack, target, settings.clone(), accounts())
    };
    let generator = Generator::start(&config).unwrap();
    // More at once than will ever be again.
    let (rate_per_second, talk_seconds) = match case.workload {
        Workload::Invite => (4.0 * MANY_PER_SECOND, SECONDS),
        _ => (2.0 * MANY_PER_SECOND, 0.0),
    };
    let crowd = case.plan(rate_per_second, talk_seconds);
    let report = generator.run(&crowd, |_| {}).unwrap();
    assert_eq!(report.failures.len(), 0, "{:?}", report.failures);
    let many = least_allocations(&generator, &case.plan(MANY_PER_SECOND, 0.0));
    let few = least_allocations(&generator, &case.plan(FEW_PER_SECOND, 0.0));
    println!(
        "{case:?}: {many} allocations with {FURTHER_OPERATIONS} operations more than with {few}"
    );
    many.saturating_sub(few)
}

fn assert_allocates_nothing(case: Case, settings: &Settings) {
    let allocations = allocations_of(case, settings);
    // A handful may be of whatever else the process does.
    assert!(
        allocations < FURTHER_OPERATIONS / 20,
        "{case:?}: {allocations}"
    );
}

#[test]
fn a_call_over_plain_carriers_allocates_nothing() {
    for stack in ["tcp", "udp"] {
        let case = Case::calls(stack);
        let gather = Duration::from_micros(2_900);
        for case in [
            case,
            Case {
                users: USERS,
                ..case
            },
            Case { gather, ..case },
        ] {
            assert_allocates_nothing(case, &Settings::default());
        }
    }
}

#[test]
fn a_refresh_over_plain_carriers_allocates_nothing() {
    for stack in ["tcp", "udp"] {
        let case = Case {
            workload: Workload::Reregister,
            users: REFRESHING_USERS,
            ..Case::calls(stack)
        };
        assert_allocates_nothing(case, &Settings::default());
    }
}

#[test]
fn a_call_in_a_tunnel_allocates_nothing() {
    let settings = Settings::generate(USERS).unwrap();
    for stack in ["udp@clear", "udp@wireguard", "tcp@clear", "tcp@wireguard"] {
        assert_allocates_nothing(Case::calls(stack), &settings);
    }
}

#[test]
fn a_call_over_tls_allocates_what_rustls_needs_for_its_records() {
    let settings = Settings::generate(1).unwrap();
    let allocations = allocations_of(Case::calls("tls"), &settings);
    // rustls keeps each record that it has sealed or opened in a vector of its own. A few may be of whatever else
    // the process does.
    let most = FURTHER_OPERATIONS * RECORDS_OF_CALL + FURTHER_OPERATIONS / 10;
    assert!(allocations <= most, "{allocations} of at most {most}");
}
