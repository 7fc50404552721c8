//! The generator against a node, and against servers that misbehave, in one process.

#![allow(clippy::unwrap_used)]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc;
use std::time::Duration;

use hopbench::load::{
    ArrivalLaw, Arrivals, BackOff, Callees, Course, Generator, GeneratorConfig, GeneratorError,
    KindCounts, Lifecycle, LoadPlan, LoadReport, Mix, PlanError, Stage, Workload,
};
use hopbench::node::{Node, NodeConfig};
use hopbench::sip::{Accounts, Service};
use hopbench::transport::{Resumption, Settings};

const ANY_PORT: (Ipv4Addr, u16) = (Ipv4Addr::LOCALHOST, 0);

fn accounts() -> Accounts {
    Accounts::new("hopbench.test", "hopbench", 64)
}

/// A registrar that answers calls, on a thread of its own, which ends with the process.
fn start_node(stack: &'static str) -> SocketAddr {
    start_node_with(stack, |_| {})
}

fn start_node_with(
    stack: &'static str,
    configure: impl FnOnce(&mut NodeConfig) + Send + 'static,
) -> SocketAddr {
    let (sender, address) = mpsc::channel();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        tokio::task::LocalSet::new().block_on(&runtime, async {
            let (any, settings) = (ANY_PORT.into(), Settings::default());
            let mut config = NodeConfig::answering(stack, any, settings, accounts());
            configure(&mut config);
            let node = Node::listen(&config).await.unwrap();
            sender.send(node.local()).unwrap();
            node.run().await;
        });
    });
    address.recv().unwrap()
}

fn config(stack: &str, target: SocketAddr, workers: u32) -> GeneratorConfig {
    GeneratorConfig {
        workers,
        seed: 7,
        ..GeneratorConfig::new(stack, target, Settings::default(), accounts())
    }
}

/// One registration every 10 ms for 200 ms.
fn plan() -> LoadPlan {
    LoadPlan {
        workload: Workload::Register,
        lifecycle: Lifecycle::PerRegistration,
        arrivals: ArrivalLaw::Constant,
        rate_per_second: 100.0,
        course: Course::Steady,
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
            assert_eq!(
                report.succeeded, 20,
                "{stack} {plan:?} {:?}",
                report.failures
            );
            assert_eq!(report.lost_hops, 0, "{stack} {plan:?}");
        }
    }
}

/// Runs `load` on a thread of its own against a node on this one, and tells what the node has seen.
fn counted(
    stack: &'static str,
    load: impl FnOnce(SocketAddr) + Send + 'static,
) -> hopbench::node::NodeCounters {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    tokio::task::LocalSet::new().block_on(&runtime, async {
        let config = NodeConfig::answering(stack, ANY_PORT.into(), Settings::default(), accounts());
        let node = Node::listen(&config).await.unwrap();
        let target = node.local();
        let (done, is_done) = tokio::sync::oneshot::channel();
        let thread = std::thread::spawn(move || {
            load(target);
            let _ = done.send(());
        });
        tokio::select! {
            () = node.run() => {}
            _ = is_done => {}
        }
        thread.join().unwrap();
        node.counters()
    })
}

#[test]
fn users_brought_into_a_call_stay_in_it() {
    for stack in ["udp", "tcp"] {
        let counters = counted(stack, move |target| {
            let generator = Generator::start(&config(stack, target, 3)).unwrap();
            generator.populate(3, Stage::Registered).unwrap();
            generator.populate(5, Stage::InCall).unwrap();
            // Who is in a call stays in that one.
            generator.populate(9, Stage::InCall).unwrap();
            generator.populate(9, Stage::Idle).unwrap();
        });
        assert_eq!(counters.sip.registrations, 9, "{stack}");
        assert_eq!(counters.sip.calls_answered, 9, "{stack}");
        assert_eq!(counters.sip.calls_completed, 0, "{stack}");
    }
}

#[test]
fn a_load_counts_none_of_the_calls_that_were_up_before_it() {
    let counters = counted("tcp", |target| {
        let generator = Generator::start(&config("tcp", target, 1)).unwrap();
        generator.populate(10, Stage::InCall).unwrap();
        let calls = LoadPlan {
            workload: Workload::Invite,
            users: 10,
            ..plan()
        };
        let report = generator.run(&calls, |_| {}).unwrap();
        assert_eq!((report.offered, report.succeeded), (20, 20));
        assert!(report.failures.is_empty(), "{:?}", report.failures);
        // The old calls count no more.
        generator.populate(10, Stage::InCall).unwrap();
    });
    assert_eq!(counters.sip.calls_answered, 10 + 20 + 10);
    assert_eq!(counters.sip.calls_completed, 20);
}

#[test]
fn nobody_is_brought_into_a_call_that_the_generator_would_have_to_answer() {
    let target = start_node("tcp");
    let config = GeneratorConfig {
        callees: Some(Callees {
            target,
            accounts: accounts(),
        }),
        ..config("tcp", target, 1)
    };
    let error = Generator::start(&config)
        .unwrap()
        .populate(4, Stage::InCall);
    assert!(
        matches!(error, Err(GeneratorError::CallsToCallees)),
        "{error:?}"
    );
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
    let arrivals = Arrivals::of(&plan, 0, 1)
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

/// Generator whose callees register at the same node as its callers.
fn with_callees(stack: &str, target: SocketAddr, workers: u32) -> GeneratorConfig {
    GeneratorConfig {
        callees: Some(Callees {
            target,
            accounts: accounts(),
        }),
        ..config(stack, target, workers)
    }
}

/// Nothing failed, nothing was out of place.
fn assert_clean(report: &LoadReport, offered: u64, place: &str) {
    assert_eq!(report.offered, offered, "{place}");
    assert_eq!(report.succeeded, offered, "{place}: {:?}", report.failures);
    assert_eq!((report.unexpected, report.unsent), (0, 0), "{place}");
    assert_eq!(report.lost_hops, 0, "{place}");
    if let Some(callees) = report.callees {
        assert_eq!(
            callees.unexpected + callees.unsent,
            0,
            "{place}: {callees:?}"
        );
    }
}

/// Workload, lifecycle, whether calls are challenged → hops opened per operation.
#[test]
fn each_lifecycle_opens_its_hops() {
    let table = [
        (Workload::Register, Lifecycle::PerTransaction, false, 2),
        (Workload::Register, Lifecycle::PerRegistration, false, 1),
        (Workload::Reregister, Lifecycle::PerRegistration, false, 0),
        (Workload::Invite, Lifecycle::PerTransaction, false, 2),
        (Workload::Invite, Lifecycle::PerTransaction, true, 3),
        (Workload::Invite, Lifecycle::PerCall, false, 1),
        (Workload::Invite, Lifecycle::PerCall, true, 1),
        (Workload::Invite, Lifecycle::PerRegistration, false, 0),
        (Workload::Invite, Lifecycle::PerRegistration, true, 0),
    ];
    for stack in ["udp", "tcp"] {
        for authenticate in [false, true] {
            let node = start_node_with(stack, move |config| {
                config.authenticate_calls = authenticate;
            });
            let generator = Generator::start(&config(stack, node, 2)).unwrap();
            for (workload, lifecycle, _, hops) in table.iter().filter(|row| row.2 == authenticate) {
                let plan = LoadPlan {
                    workload: *workload,
                    lifecycle: *lifecycle,
                    talk_seconds: 0.01,
                    ..plan()
                };
                let report = generator.run(&plan, |_| {}).unwrap();
                let place = format!("{stack} {workload:?} {lifecycle:?} {authenticate}");
                assert_clean(&report, 20, &place);
                assert_eq!(report.hops_opened, 20 * hops, "{place}");
                let setups = report.latencies.get("setup_latency_ns");
                assert_eq!(
                    setups.map_or(0, |setups| setups.count()),
                    20 * hops,
                    "{place}"
                );
                assert_eq!(report.stale_nonces, 0, "{place}");
            }
        }
    }
}

/// What rings how long, and whether the proxy asks callers for credentials.
#[test]
fn callees_answer_over_the_hops_that_they_registered_on() {
    for (stack, workers) in [("udp", 1), ("tcp", 3)] {
        for (ring_seconds, authenticate) in [(0.0, false), (0.05, true)] {
            let node = start_node_with(stack, move |config| {
                config.service = Service::Proxy;
                config.authenticate_calls = authenticate;
            });
            let generator = Generator::start(&with_callees(stack, node, workers)).unwrap();
            for lifecycle in Lifecycle::ALL {
                let plan = LoadPlan {
                    workload: Workload::Invite,
                    lifecycle,
                    users: 20,
                    ring_seconds,
                    talk_seconds: 0.01,
                    ..plan()
                };
                let report = generator.run(&plan, |_| {}).unwrap();
                let place = format!("{stack} {ring_seconds} {lifecycle:?}");
                assert_clean(&report, 20, &place);
                let callees = report.callees.unwrap();
                assert_eq!((callees.answered, callees.completed), (20, 20), "{place}");
                assert_eq!(callees.cancelled + callees.abandoned, 0, "{place}");
            }
            // Users who were callees are callers now.
            let plan = LoadPlan {
                workload: Workload::Invite,
                users: 30,
                ..plan()
            };
            let report = generator.run(&plan, |_| {}).unwrap();
            assert_clean(&report, 20, stack);
        }
    }
}

#[test]
fn callees_need_accounts_of_their_own() {
    let generator = Generator::start(&with_callees("tcp", ANY_PORT.into(), 1)).unwrap();
    let crowded = LoadPlan {
        users: 33,
        ..plan()
    };
    let error = generator.run(&crowded, |_| {}).unwrap_err();
    assert!(
        matches!(
            error,
            GeneratorError::TooFewAccounts {
                wanted: 66,
                count: 64
            }
        ),
        "{error}"
    );
    let senseless = LoadPlan {
        workload: Workload::Avalanche,
        lifecycle: Lifecycle::PerCall,
        ..plan()
    };
    let error = generator.run(&senseless, |_| {}).unwrap_err();
    let GeneratorError::Plan(PlanError::Lifecycle { .. }) = error else {
        panic!("{error}");
    };
}

#[test]
fn a_mix_counts_each_kind_and_expects_its_own_end_of_it() {
    for stack in ["udp", "tcp"] {
        let node = start_node_with(stack, |config| config.service = Service::Proxy);
        let generator = Generator::start(&with_callees(stack, node, 2)).unwrap();
        let plan = LoadPlan {
            workload: Workload::Mixed,
            users: 32,
            // Long enough for any CANCEL to come in time.
            ring_seconds: 1.0,
            mix: Mix {
                register: 1.0,
                reregister: 1.0,
                call: 1.0,
                cancelled_call: 1.0,
                unknown_callee: 1.0,
            },
            // No user has two turns, so that none is busy.
            duration_seconds: 0.3,
            ..plan()
        };
        let report = generator.run(&plan, |_| {}).unwrap();
        assert_clean(&report, 30, stack);
        let kinds = &report.operations_by_kind;
        assert_eq!(kinds.len(), 5, "{kinds:?}");
        for (kind, counts) in kinds {
            assert_eq!(
                (counts.offered, counts.failed),
                (counts.succeeded, 0),
                "{kind}"
            );
        }
        let sum: u64 = kinds.values().map(|counts| counts.offered).sum();
        assert_eq!(sum, 30);
        let callees = report.callees.unwrap();
        assert_eq!(callees.answered, kinds["call"].offered);
        assert_eq!(callees.cancelled, kinds["cancelled-call"].offered);
        assert_eq!(report.answered, kinds["call"].offered);
    }
}

/// Without ringing the answer crosses the CANCEL, which is not what a cancelled call is to end with;
/// and whoever answers at the node answers nobody.
#[test]
fn a_call_that_ends_otherwise_than_expected_has_failed() {
    let generator = Generator::start(&config("tcp", start_node("tcp"), 1)).unwrap();
    let plan = LoadPlan {
        workload: Workload::Mixed,
        users: 32,
        // The node does not ring, whatever the plan says.
        ring_seconds: 0.05,
        mix: Mix {
            register: 0.0,
            reregister: 0.0,
            call: 0.0,
            cancelled_call: 1.0,
            unknown_callee: 0.0,
        },
        ..plan()
    };
    let report = generator.run(&plan, |_| {}).unwrap();
    let expected = KindCounts {
        offered: 20,
        succeeded: 0,
        failed: 20,
    };
    assert_eq!(report.operations_by_kind["cancelled-call"], expected);
    let causes: Vec<&String> = report.failures.keys().collect();
    assert_eq!(
        causes,
        ["expected 487, found an answer that crossed CANCEL"]
    );
}

fn avalanche(users: u32) -> LoadPlan {
    LoadPlan {
        workload: Workload::Avalanche,
        users,
        back_off: BackOff {
            base_seconds: 0.1,
            max_seconds: 0.2,
        },
        ..plan()
    }
}

#[test]
fn after_an_avalanche_everybody_is_back() {
    for stack in ["udp", "tcp"] {
        let generator = Generator::start(&config(stack, start_node(stack), 3)).unwrap();
        let report = generator.run(&avalanche(30), |_| {}).unwrap();
        assert_clean(&report, 30, stack);
        assert_eq!(report.operations_by_kind["comeback"].succeeded, 30);
        assert_eq!((report.refused, report.retried), (0, 0));
        assert_eq!(report.hops_opened, 30);
        let outages = &report.latencies["outage_ns"];
        assert_eq!(outages.count(), 30);
        // Nobody comes back before half the base.
        let recovery_ns = report.recovery_ns.unwrap();
        assert!(recovery_ns >= 50_000_000, "{recovery_ns}");
        // They are registered: calls need no preparation.
        let calls = LoadPlan {
            workload: Workload::Invite,
            users: 30,
            ..plan()
        };
        let report = generator.run(&calls, |_| {}).unwrap();
        assert_clean(&report, 20, stack);
        assert_eq!(report.recovery_ns, None);
    }
}

/// Serves one connection after the other with a script each: a status for each request, and the end
/// of the connection after them.
fn start_scripted(script: &'static [&'static [&'static str]]) -> SocketAddr {
    let listener = TcpListener::bind(ANY_PORT).unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for statuses in script {
            let (mut stream, _) = listener.accept().unwrap();
            let mut lines = BufReader::new(stream.try_clone().unwrap()).lines();
            for status in *statuses {
                let mut response = format!("SIP/2.0 {status}\r\n");
                for line in lines.by_ref().map_while(Result::ok) {
                    if line.is_empty() {
                        break;
                    }
                    let name = line.split(':').next().unwrap();
                    if ["Via", "From", "To", "Call-ID", "CSeq"].contains(&name) {
                        response += &format!("{line}\r\n");
                    }
                }
                if status.starts_with("401") {
                    response += "WWW-Authenticate: Digest realm=\"hopbench.test\", nonce=\"n\", \
                                 stale=true, qop=\"auth\"\r\n";
                }
                response += "Content-Length: 0\r\n\r\n";
                stream.write_all(response.as_bytes()).unwrap();
            }
            let is_last_word = statuses.last().is_some_and(|status| *status == "200 OK");
            if is_last_word {
                // The user keeps it until it drops it itself.
                let _ = lines.by_ref().map_while(Result::ok).count();
            }
        }
    });
    address
}

#[test]
fn a_user_that_is_turned_away_comes_back_later() {
    let script: &[&[&str]] = &[
        &["200 OK"],
        &[],
        &["503 Service Unavailable"],
        &["401 Unauthorized", "403 Forbidden"],
        &["401 Unauthorized", "200 OK"],
    ];
    let generator = Generator::start(&config("tcp", start_scripted(script), 1)).unwrap();
    let report = generator.run(&avalanche(1), |_| {}).unwrap();
    assert_eq!(
        (report.offered, report.succeeded),
        (1, 1),
        "{:?}",
        report.failures
    );
    assert_eq!((report.refused, report.retried), (3, 3));
    // Half of 0.1 s, then thrice half of the longest wait.
    let recovery_ns = report.recovery_ns.unwrap();
    assert!(recovery_ns >= 350_000_000, "{recovery_ns}");
}

#[test]
fn a_user_that_never_comes_back_has_failed_for_its_last_reason() {
    let script: &[&[&str]] = &[&["200 OK"], &["503 Service Unavailable"]];
    let generator = Generator::start(&config("tcp", start_scripted(script), 1)).unwrap();
    let plan = LoadPlan {
        drain_seconds: 0.3,
        ..avalanche(1)
    };
    let report = generator.run(&plan, |_| {}).unwrap();
    assert_eq!(
        (report.offered, report.failed()),
        (1, 1),
        "{:?}",
        report.failures
    );
    assert_eq!(report.recovery_ns, None);
    assert!(report.refused >= 1);
}

#[test]
fn a_refresh_with_a_stale_nonce_takes_another_round_and_is_counted() {
    let script: &[&[&str]] = &[&[
        "401 Unauthorized",
        "200 OK",
        "200 OK",
        "401 Unauthorized",
        "200 OK",
    ]];
    let generator = Generator::start(&config("tcp", start_scripted(script), 1)).unwrap();
    let plan = LoadPlan {
        workload: Workload::Reregister,
        rate_per_second: 20.0,
        duration_seconds: 0.05,
        users: 1,
        ..plan()
    };
    for stale_nonces in [0, 1] {
        let report = generator.run(&plan, |_| {}).unwrap();
        assert_clean(&report, 1, "reregister");
        assert_eq!((report.stale_nonces, report.hops_opened), (stale_nonces, 0));
    }
}

/// The second hop of each registration resumes the session of the first.
#[test]
fn resumed_handshakes_are_counted() {
    let mut settings = Settings::generate(4).unwrap();
    settings.tls.as_mut().unwrap().options.resumption = Resumption::Ticket;
    let of_node = settings.clone();
    let node = start_node_with("tls", move |config| config.settings = of_node);
    let config = GeneratorConfig {
        settings,
        ..config("tls", node, 1)
    };
    let generator = Generator::start(&config).unwrap();
    let plan = LoadPlan {
        lifecycle: Lifecycle::PerTransaction,
        users: 20,
        ..plan()
    };
    let report = generator.run(&plan, |_| {}).unwrap();
    assert_clean(&report, 20, "tls");
    assert_eq!(report.hops_opened, 40);
    assert_eq!(report.resumed_handshakes, 20);
}
