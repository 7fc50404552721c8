//! The generator against a node, and against servers that misbehave, in one process.

#![allow(clippy::unwrap_used)]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc;
use std::time::Duration;

use hopbench::load::{
    ArrivalLaw, Arrivals, BackOff, Generator, GeneratorConfig, GeneratorError, Lifecycle, LoadPlan,
    Mix, Stage, Workload,
};
use hopbench::node::{Node, NodeConfig};
use hopbench::sip::Accounts;
use hopbench::transport::Settings;

const ANY_PORT: (Ipv4Addr, u16) = (Ipv4Addr::LOCALHOST, 0);

fn accounts() -> Accounts {
    Accounts::new("hopbench.test", "hopbench", 64)
}

/// A node on a thread of its own, which ends with the process.
fn start_node(stack: &'static str) -> SocketAddr {
    let (sender, address) = mpsc::channel();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        tokio::task::LocalSet::new().block_on(&runtime, async {
            let (any, settings) = (ANY_PORT.into(), Settings::default());
            let config = NodeConfig::answering(stack, any, settings, accounts());
            let node = Node::listen(&config).await.unwrap();
            sender.send(node.local()).unwrap();
            node.run().await;
        });
    });
    address.recv().unwrap()
}

fn config(stack: &str, target: SocketAddr, workers: u32) -> GeneratorConfig {
    GeneratorConfig {
        stack: stack.into(),
        target,
        settings: Settings::default(),
        accounts: accounts(),
        callees: None,
        workers,
        seed: 7,
    }
}

/// One registration every 10 ms for 200 ms.
fn plan() -> LoadPlan {
    LoadPlan {
        workload: Workload::Register,
        lifecycle: Lifecycle::PerRegistration,
        arrivals: ArrivalLaw::Constant,
        rate_per_second: 100.0,
        warm_up_seconds: 0.0,
        duration_seconds: 0.2,
        drain_seconds: 20.0,
        users: 64,
        talk_seconds: 0.0,
        ring_seconds: 0.0,
        mix: Mix::default(),
        back_off: BackOff::default(),
        seed: 7,
    }
}

fn one_call() -> LoadPlan {
    LoadPlan {
        workload: Workload::Invite,
        lifecycle: Lifecycle::PerCall,
        rate_per_second: 10.0,
        duration_seconds: 0.1,
        ..plan()
    }
}

#[test]
fn several_workers_share_users_and_arrivals_and_may_be_asked_again() {
    for stack in ["udp", "tcp"] {
        let generator = Generator::start(&config(stack, start_node(stack), 3)).unwrap();
        generator.populate(7, Stage::Handshaken).unwrap();
        generator.populate(10, Stage::Registered).unwrap();
        let calls = LoadPlan {
            workload: Workload::Invite,
            users: 10,
            ..plan()
        };
        let per_call = LoadPlan {
            lifecycle: Lifecycle::PerCall,
            users: 20,
            ..calls.clone()
        };
        for plan in [calls, per_call, plan()] {
            let report = generator.run(&plan, |_| {}).unwrap();
            assert_eq!(report.offered, 20, "{stack} {plan:?}");
            assert_eq!(report.succeeded, 20, "{stack} {plan:?} {report:?}");
            assert_eq!(report.lost_hops, 0, "{stack} {plan:?}");
        }
    }
}

#[test]
fn what_arrives_is_offered_even_when_the_generator_cannot_start_it() {
    let generator = Generator::start(&config("tcp", start_node("tcp"), 1)).unwrap();
    let plan = LoadPlan {
        arrivals: ArrivalLaw::Poisson,
        rate_per_second: 1e6,
        warm_up_seconds: 0.05,
        duration_seconds: 0.1,
        drain_seconds: 0.0,
        ..plan()
    };
    let report = generator.run(&plan, |_| {}).unwrap();
    let (start, end) = (Duration::from_millis(50), Duration::from_millis(150));
    let arrivals = Arrivals::new(plan.arrivals, plan.rate_per_second, plan.seed, 0, 1)
        .take_while(|offset| *offset < end)
        .filter(|offset| *offset >= start)
        .count();
    assert_eq!(report.offered, arrivals as u64);
    assert_eq!(report.succeeded + report.failed(), report.offered);
    assert!(report.never_started > 0, "{:?}", report.failures);
}

#[test]
fn a_measurement_shorter_than_a_turn_still_yields_numbers() {
    let generator = Generator::start(&config("tcp", start_node("tcp"), 1)).unwrap();
    let plan = LoadPlan {
        duration_seconds: 1e-9,
        ..plan()
    };
    let report = generator.run(&plan, |_| {}).unwrap();
    assert!((0.0..=1.0).contains(&report.busiest_worker_ratio));
    assert_eq!(report.windows.total(), 0);
}

#[test]
fn every_worker_needs_a_user_and_every_user_an_account() {
    let generator = Generator::start(&config("tcp", ANY_PORT.into(), 2)).unwrap();
    let lonely = LoadPlan { users: 1, ..plan() };
    let error = generator.run(&lonely, |_| {}).unwrap_err();
    assert!(
        matches!(
            error,
            GeneratorError::TooFewUsers {
                users: 1,
                workers: 2
            }
        ),
        "{error}"
    );
    let crowded = LoadPlan {
        users: 65,
        ..plan()
    };
    for error in [
        generator.run(&crowded, |_| {}).unwrap_err(),
        generator.populate(65, Stage::Handshaken).unwrap_err(),
    ] {
        assert!(
            matches!(
                error,
                GeneratorError::TooFewAccounts {
                    wanted: 65,
                    count: 64
                }
            ),
            "{error}"
        );
    }
}

#[test]
fn a_server_that_is_not_there_fails_everything_once() {
    let gone = TcpListener::bind(ANY_PORT).unwrap().local_addr().unwrap();
    let generator = Generator::start(&config("tcp", gone, 2)).unwrap();
    for _ in 0..2 {
        generator.populate(64, Stage::Registered).unwrap_err();
        let report = generator.run(&plan(), |_| {}).unwrap();
        assert_eq!((report.offered, report.failed()), (20, 20));
    }
}

/// Hops of an earlier load that fail to open while the next one runs are none of its business: with
/// one user, taking them for its own would end it early and let that user have two turns at once.
#[test]
fn a_late_failure_of_an_earlier_load_leaves_the_next_one_alone() {
    // It accepts and keeps silent, so that each TLS handshake takes as long as it may.
    let silent = TcpListener::bind(ANY_PORT).unwrap();
    let mut settings = Settings::generate(1).unwrap();
    settings.limits.handshake = Duration::from_millis(600);
    let config = GeneratorConfig {
        settings,
        ..config("tls", silent.local_addr().unwrap(), 1)
    };
    let generator = Generator::start(&config).unwrap();
    let plan = LoadPlan {
        rate_per_second: 10.0,
        duration_seconds: 0.1,
        users: 1,
        ..plan()
    };
    let impatient = LoadPlan {
        drain_seconds: 0.0,
        ..plan.clone()
    };
    let report = generator.run(&impatient, |_| {}).unwrap();
    let causes: Vec<&String> = report.failures.keys().collect();
    assert_eq!(causes, ["the hop was not open before the drain ended"]);

    let report = generator.run(&plan, |_| {}).unwrap();
    assert_eq!((report.offered, report.failed()), (1, 1));
    let cause = report.failures.keys().next().unwrap();
    assert!(cause.contains("handshake"), "{cause}");
}

/// Answers the first request on each connection with a response for each of `statuses`, then reads
/// to the end and reports that.
fn start_server(statuses: &'static [&'static str]) -> (SocketAddr, mpsc::Receiver<()>) {
    let listener = TcpListener::bind(ANY_PORT).unwrap();
    let address = listener.local_addr().unwrap();
    let (ended, ends) = mpsc::channel();
    std::thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            answer(stream, statuses);
            if ended.send(()).is_err() {
                return;
            }
        }
    });
    (address, ends)
}

fn answer(mut stream: TcpStream, statuses: &[&str]) {
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    let mut echoed = String::new();
    for line in reader.by_ref().lines().map_while(Result::ok) {
        if line.is_empty() {
            break;
        }
        let name = line.split(':').next().unwrap();
        if ["Via", "From", "To", "Call-ID", "CSeq"].contains(&name) {
            echoed += &line;
            if name == "To" {
                echoed += ";tag=callee";
            }
            echoed += "\r\n";
        }
    }
    for status in statuses {
        let response = format!("SIP/2.0 {status}\r\n{echoed}Content-Length: 0\r\n\r\n");
        stream.write_all(response.as_bytes()).unwrap();
    }
    let _ = reader.read_to_end(&mut Vec::new());
}

#[test]
fn a_call_that_rang_and_failed_has_no_request_delay() {
    let (address, _ends) = start_server(&["180 Ringing", "486 Busy Here"]);
    let generator = Generator::start(&config("tcp", address, 1)).unwrap();
    let report = generator.run(&one_call(), |_| {}).unwrap();
    assert_eq!((report.offered, report.failed()), (1, 1));
    let cause = report.failures.keys().next().unwrap();
    assert!(cause.contains("486"), "{cause}");
    assert_eq!(report.answered, 0);
    assert!(!report.latencies.contains_key("session_request_delay_ns"));
}

#[test]
fn a_call_that_the_drain_cuts_off_leaves_no_hop_behind() {
    let (address, ends) = start_server(&[]);
    let generator = Generator::start(&config("tcp", address, 1)).unwrap();
    let plan = LoadPlan {
        drain_seconds: 0.0,
        duration_seconds: 0.3,
        rate_per_second: 1.0,
        ..one_call()
    };
    let report = generator.run(&plan, |_| {}).unwrap();
    let causes: Vec<&String> = report.failures.keys().collect();
    assert_eq!(causes, ["no final response before the drain ended"]);
    // The generator lives on, and yet the server sees the end of the connection.
    ends.recv_timeout(Duration::from_secs(20)).unwrap();
    drop(generator);
}

#[test]
fn a_request_without_a_length_is_refused_before_its_connection_is_closed() {
    for (length, status) in [
        ("", 400),
        ("Content-Length: five\r\n", 400),
        ("Content-Length: 70000\r\n", 513),
    ] {
        let mut peer = TcpStream::connect(start_node("tcp")).unwrap();
        let head = "OPTIONS sip:answer@hopbench.test SIP/2.0\r\n\
            Via: SIP/2.0/TCP 127.0.0.1;branch=z9hG4bK1\r\nFrom: <sip:a@b>;tag=1\r\n\
            To: <sip:c@d>\r\nCall-ID: e\r\nCSeq: 1 OPTIONS\r\n";
        peer.write_all(format!("{head}{length}\r\n").as_bytes())
            .unwrap();
        let mut answer = String::new();
        peer.read_to_string(&mut answer).unwrap();
        assert!(
            answer.starts_with(&format!("SIP/2.0 {status} ")),
            "{answer}"
        );
        assert!(answer.contains("\r\nCSeq: 1 OPTIONS\r\n"), "{answer}");
    }
}
