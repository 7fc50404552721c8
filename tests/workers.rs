//! One node served by several workers over real sockets: the kernel spreads the users, and each is
//! reached by all.

#![allow(clippy::unwrap_used)]

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::mpsc;
use std::thread::JoinHandle;

use hopbench::load::{
    ArrivalLaw, BackOff, Callees, Course, Generator, GeneratorConfig, Lifecycle, LoadPlan,
    LoadReport, Mix, Workload,
};
use hopbench::node::{Node, NodeConfig, NodeCounters, WorkerConfig};
use hopbench::sip::{Accounts, Service};
use hopbench::transport::Settings;
use tokio::sync::oneshot;

const ANY_PORT: (Ipv4Addr, u16) = (Ipv4Addr::LOCALHOST, 0);
const WORKERS: u16 = 3;
/// Callers, and as many callees.
const USERS: u32 = 20;

fn accounts() -> Accounts {
    Accounts::new("hopbench.test", "hopbench", 2 * USERS)
}

/// A worker in a thread of its own, as if it were a process.
struct WorkerThread {
    address: SocketAddr,
    internal: SocketAddr,
    introduce: Option<oneshot::Sender<Vec<SocketAddr>>>,
    stop: oneshot::Sender<()>,
    thread: JoinHandle<NodeCounters>,
}

impl WorkerThread {
    fn start(config: NodeConfig) -> Self {
        let (listening, addresses) = mpsc::channel();
        let (introduce, introduced) = oneshot::channel::<Vec<SocketAddr>>();
        let (stop, stopped) = oneshot::channel();
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap();
            tokio::task::LocalSet::new().block_on(&runtime, async {
                let node = Node::listen(&config).await.unwrap();
                // The internal interface is none of those that it was told to have.
                assert_eq!(node.addresses().len(), 1);
                assert_eq!(node.wire().len(), 1);
                let internal = node.internal_address().unwrap();
                listening.send((node.local(), internal)).unwrap();
                node.introduce(&introduced.await.unwrap());
                tokio::select! {
                    () = node.run() => {}
                    _ = stopped => {}
                }
                node.counters()
            })
        });
        let (address, internal) = addresses.recv().expect("the worker listens");
        Self {
            address,
            internal,
            introduce: Some(introduce),
            stop,
            thread,
        }
    }
}

/// Starts the workers of a proxy.
fn start(stack: &str, settings: &Settings) -> Vec<WorkerThread> {
    let folder = tempfile::tempdir().unwrap();
    let directory = folder.path().join("directory");
    let first = WorkerConfig::first(&directory, WORKERS, accounts().count()).unwrap();
    let mut workers: Vec<WorkerThread> = Vec::new();
    for place in 0..WORKERS {
        // The first one chooses the port that all share.
        let shared = workers.first().map(|first| first.address);
        let address = shared.unwrap_or(ANY_PORT.into());
        workers.push(WorkerThread::start(NodeConfig {
            service: Service::Proxy,
            worker: Some(WorkerConfig {
                place,
                ..first.clone()
            }),
            ..NodeConfig::answering(stack, address, settings.clone(), accounts())
        }));
    }
    let internals: Vec<SocketAddr> = workers.iter().map(|worker| worker.internal).collect();
    for worker in &mut workers {
        let introduce = worker.introduce.take().unwrap();
        introduce.send(internals.clone()).unwrap();
    }
    workers
}

fn calls() -> LoadPlan {
    LoadPlan {
        workload: Workload::Invite,
        lifecycle: Lifecycle::PerRegistration,
        arrivals: ArrivalLaw::Constant,
        rate_per_second: 200.0,
        course: Course::Steady,
        warm_up_seconds: 0.0,
        duration_seconds: 0.3,
        drain_seconds: 20.0,
        users: USERS,
        talk_seconds: 0.0,
        ring_seconds: 0.0,
        mix: Mix::default(),
        back_off: BackOff::default(),
        seed: 7,
    }
}

fn call_all(stack: &str, target: SocketAddr, settings: &Settings) -> LoadReport {
    let generator = Generator::start(&GeneratorConfig {
        callees: Some(Callees {
            target,
            accounts: accounts(),
        }),
        seed: 1,
        ..GeneratorConfig::new(stack, target, settings.clone(), accounts())
    });
    generator.unwrap().run(&calls(), |_| {}).unwrap()
}

#[test]
fn users_of_all_workers_call_each_other_over_every_kind_of_carrier() {
    let settings = Settings::generate(2 * USERS).unwrap();
    for stack in ["udp", "tcp", "tls", "udp@wireguard", "tcp@wireguard"] {
        let workers = start(stack, &settings);
        let target = workers[0].address;
        assert!(workers.iter().all(|worker| worker.address == target));
        let report = call_all(stack, target, &settings);
        assert!(report.offered > 20, "{stack}");
        let (succeeded, failures) = (report.succeeded, &report.failures);
        assert_eq!(succeeded, report.offered, "{stack}: {failures:?}");
        assert_eq!((report.unexpected, report.unsent), (0, 0), "{stack}");
        let counters: Vec<NodeCounters> = workers
            .into_iter()
            .map(|worker| {
                worker.stop.send(()).unwrap();
                worker.thread.join().unwrap()
            })
            .collect();
        let most = counters.iter().map(|worker| worker.registered_users).max();
        assert!(
            most < Some(2 * u64::from(USERS)),
            "{stack}: one has them all"
        );
        let all = counters.into_iter().reduce(NodeCounters::plus).unwrap();
        assert_eq!(all.registered_users, 2 * u64::from(USERS), "{stack}");
        assert_eq!((all.sip.malformed, all.sip.ignored), (0, 0), "{stack}");
        assert_eq!((all.sip.stray_responses, all.unsent), (0, 0), "{stack}");
        // INVITE, ACK and BYE, of some calls by two workers.
        let once = 3 * report.offered;
        assert!(all.sip.forwarded > once, "{stack}: none crossed");
        assert!(all.sip.forwarded <= 2 * once, "{stack}");
    }
}

#[test]
fn a_worker_beyond_their_number_or_without_a_directory_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let directory = folder.path().join("directory");
    let first = WorkerConfig::first(&directory, 2, accounts().count()).unwrap();
    let listen = |worker: WorkerConfig| {
        let config = NodeConfig {
            worker: Some(worker),
            ..NodeConfig::answering("udp", ANY_PORT.into(), Settings::default(), accounts())
        };
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        let outcome = tokio::task::LocalSet::new().block_on(&runtime, Node::listen(&config));
        outcome.err().map(|error| error.to_string())
    };
    assert_eq!(listen(first.clone()), None);
    let third = WorkerConfig {
        place: 2,
        ..first.clone()
    };
    let told = listen(third).unwrap();
    assert!(told.ends_with("at most 256, found 2 of 2"), "{told}");
    let lost = WorkerConfig {
        directory: folder.path().join("nowhere"),
        ..first
    };
    let told = listen(lost).unwrap();
    assert!(
        told.starts_with("cannot use the location directory: "),
        "{told}"
    );
}
