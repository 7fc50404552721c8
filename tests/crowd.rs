//! A generator in several parts, as its processes are, and users that do something without an order: a
//! crowd that answers calls and keeps its hops alive.

#![allow(clippy::unwrap_used)]

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use hopbench::load::{
    ArrivalLaw, BackOff, Called, Callees, Course, Generator, GeneratorConfig, GeneratorError,
    Lifecycle, LoadPlan, LoadReport, Mix, Stage, Standing, Workload,
};
use hopbench::node::{Node, NodeConfig, NodeCounters};
use hopbench::sip::{Accounts, Service};
use hopbench::transport::Settings;

const ANY_PORT: (Ipv4Addr, u16) = (Ipv4Addr::LOCALHOST, 0);

fn accounts() -> Accounts {
    Accounts::new("hopbench.test", "hopbench", 64)
}

/// Runs `load` against a node on a thread of its own, and tells what the node has seen.
fn counted(
    stack: &'static str,
    service: Service,
    load: impl FnOnce(SocketAddr) + Send + 'static,
) -> NodeCounters {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    tokio::task::LocalSet::new().block_on(&runtime, async {
        let config = NodeConfig {
            service,
            ..NodeConfig::answering(stack, ANY_PORT.into(), Settings::default(), accounts())
        };
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

fn config(stack: &str, target: SocketAddr) -> GeneratorConfig {
    GeneratorConfig {
        seed: 7,
        ..GeneratorConfig::new(stack, target, Settings::default(), accounts())
    }
}

fn plan(workload: Workload, lifecycle: Lifecycle, users: u32) -> LoadPlan {
    LoadPlan {
        workload,
        lifecycle,
        arrivals: ArrivalLaw::Poisson,
        rate_per_second: 200.0,
        course: Course::Steady,
        warm_up_seconds: 0.0,
        duration_seconds: 0.2,
        drain_seconds: 20.0,
        users,
        talk_seconds: 0.0,
        ring_seconds: 0.0,
        mix: Mix::default(),
        back_off: BackOff::default(),
        seed: 7,
    }
}

/// The parts of a generator of three workers.
fn parts(config: &GeneratorConfig) -> Vec<Generator> {
    let part = |own_workers| {
        let config = GeneratorConfig {
            workers: 3,
            own_workers: Some(own_workers),
            ..config.clone()
        };
        Generator::start(&config).unwrap()
    };
    vec![part(0..1), part(1..3)]
}

/// All parts run `plan` from the same instant on, as processes of one generator do.
fn run_together(parts: &[Generator], plan: &LoadPlan) -> LoadReport {
    for part in parts {
        part.prepare(plan).unwrap();
    }
    let epoch = Instant::now() + Duration::from_millis(20);
    let reports: Vec<LoadReport> = std::thread::scope(|scope| {
        let run = |part| scope.spawn(move || Generator::run_at(part, plan, epoch, |_| {}).unwrap());
        let threads: Vec<_> = parts.iter().map(run).collect();
        let reports = threads.into_iter().map(|thread| thread.join().unwrap());
        reports.collect()
    });
    let merged = reports.into_iter().reduce(|mut merged, report| {
        merged.merge_process(report);
        merged
    });
    merged.unwrap()
}

fn standing(parts: &[Generator]) -> Standing {
    parts
        .iter()
        .map(|part| part.standing().unwrap())
        .fold(Standing::default(), Standing::plus)
}

#[test]
fn parts_of_a_generator_do_together_what_the_whole_does() {
    let plans = [
        plan(Workload::Register, Lifecycle::PerRegistration, 60),
        plan(Workload::Invite, Lifecycle::PerRegistration, 10),
        plan(Workload::Reregister, Lifecycle::PerRegistration, 60),
    ];
    for stack in ["udp", "tcp"] {
        let (sender, reports) = mpsc::channel();
        let (whole, in_parts) = {
            let run = |in_parts: bool| {
                let (plans, sender) = (plans.clone(), sender.clone());
                counted(stack, Service::Answer, move |target| {
                    let config = config(stack, target);
                    if in_parts {
                        let parts = parts(&config);
                        for plan in &plans {
                            sender.send(run_together(&parts, plan)).unwrap();
                        }
                        // Each part brought its own users, and nobody else's.
                        let standing = standing(&parts);
                        assert_eq!((standing.registered_users, standing.lost_hops), (60, 0));
                    } else {
                        let config = GeneratorConfig {
                            workers: 3,
                            ..config
                        };
                        let generator = Generator::start(&config).unwrap();
                        for plan in &plans {
                            sender.send(generator.run(plan, |_| {}).unwrap()).unwrap();
                        }
                    }
                })
            };
            (run(false), run(true))
        };
        assert_eq!(
            whole.sip.registrations, in_parts.sip.registrations,
            "{stack}"
        );
        assert_eq!(
            whole.sip.calls_answered, in_parts.sip.calls_answered,
            "{stack}"
        );
        let reports: Vec<LoadReport> = reports.try_iter().collect();
        let (whole, in_parts) = reports.split_at(plans.len());
        for ((whole, in_parts), plan) in whole.iter().zip(in_parts).zip(&plans) {
            let counts = |report: &LoadReport| {
                (
                    report.offered,
                    report.succeeded,
                    report.answered,
                    report.operations_by_kind.clone(),
                )
            };
            assert_eq!(counts(whole), counts(in_parts), "{stack} {plan:?}");
            assert!(
                whole.offered > 0 && whole.failures.is_empty(),
                "{:?}",
                whole.failures
            );
        }
    }
}

#[test]
fn callees_answer_until_the_other_parts_have_finished() {
    let calls = plan(Workload::Invite, Lifecycle::PerRegistration, 30);
    let counters = counted("tcp", Service::Proxy, move |target| {
        let parts = parts(&GeneratorConfig {
            callees: Some(Callees {
                target,
                accounts: accounts(),
            }),
            ..config("tcp", target)
        });
        for _ in 0..2 {
            let report = run_together(&parts, &calls);
            assert_eq!(report.succeeded, report.offered, "{:?}", report.failures);
            let callees = standing(&parts).callees.unwrap();
            assert_eq!(callees.completed, report.offered);
        }
    });
    assert_eq!(counters.sip.registrations, 60);
}

/// Visitors with numbers of their own call users of a crowd, which has no order to answer them.
#[test]
fn a_crowd_answers_without_an_order_whom_chance_draws() {
    let calls = plan(Workload::Invite, Lifecycle::PerRegistration, 4);
    for stack in ["udp", "tcp"] {
        let calls = calls.clone();
        counted(stack, Service::Proxy, move |target| {
            let crowd = parts(&GeneratorConfig {
                answers: true,
                ..config(stack, target)
            });
            for part in &crowd {
                part.populate(40, Stage::Registered).unwrap();
            }
            let visitors = Generator::start(&GeneratorConfig {
                first_user: 60,
                called: Some(Called {
                    first: 0,
                    count: 40,
                }),
                ..config(stack, target)
            });
            let visitors = visitors.unwrap();
            let report = visitors.run(&calls, |_| {}).unwrap();
            assert_eq!(report.succeeded, report.offered, "{:?}", report.failures);
            assert_eq!(report.callees, None);
            let standing = standing(&crowd);
            let answered = standing.callees.unwrap();
            assert_eq!(answered.answered, report.offered, "{stack}");
            assert_eq!((answered.unexpected, answered.unsent), (0, 0), "{stack}");
            assert_eq!(standing.registered_users, 40);
            // Both parts were called, since chance draws from all.
            for part in &crowd {
                assert!(part.standing().unwrap().callees.unwrap().answered > 0);
            }
        });
    }
}

#[test]
fn registrations_ask_for_the_lifetime_that_they_are_told() {
    for (expires_seconds, expected) in [(None, "3600"), (Some(600), "600")] {
        let listener = TcpListener::bind(ANY_PORT).unwrap();
        let config = GeneratorConfig {
            expires_seconds,
            ..config("tcp", listener.local_addr().unwrap())
        };
        let (asked, request) = mpsc::channel();
        std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut buffer = [0; 2_048];
            let length = stream.read(&mut buffer).unwrap();
            asked.send(buffer[..length].to_vec()).unwrap();
        });
        let generator = Generator::start(&config).unwrap();
        // The server hangs up without an answer.
        generator.populate(1, Stage::Registered).unwrap_err();
        let request = String::from_utf8(request.recv().unwrap()).unwrap();
        let line = format!("Expires: {expected}\r\n");
        assert!(request.contains(&line), "{request}");
    }
}

/// The shortest interval is too long to wait for: the clock of a worker at rest is seen at work when a
/// call that it answered is not acknowledged, and the answer repeated.
#[test]
fn a_worker_at_rest_keeps_time() {
    let (repeats, repeated) = mpsc::channel();
    let listener = TcpListener::bind(ANY_PORT).unwrap();
    let target = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        let (stream, _) = listener.accept().unwrap();
        let local = stream.local_addr().unwrap();
        let call = invite(local);
        (&stream).write_all(call.as_bytes()).unwrap();
        repeats.send(count_answers(&stream, 3)).unwrap();
    });
    let generator = Generator::start(&GeneratorConfig {
        answers: true,
        ..config("tcp", target)
    });
    let generator = generator.unwrap();
    generator.populate(1, Stage::Handshaken).unwrap();
    assert_eq!(repeated.recv_timeout(Duration::from_secs(20)), Ok(3));
    let callees = generator.standing().unwrap().callees.unwrap();
    assert_eq!(callees.answered, 1);
}

fn invite(local: SocketAddr) -> String {
    format!(
        "INVITE sip:u00000000@hopbench.test SIP/2.0\r\n\
         Via: SIP/2.0/TCP {local};branch=z9hG4bK-once\r\n\
         Max-Forwards: 70\r\n\
         From: <sip:caller@hopbench.test>;tag=1\r\n\
         To: <sip:u00000000@hopbench.test>\r\n\
         Call-ID: once\r\n\
         CSeq: 1 INVITE\r\n\
         Contact: <sip:caller@{local};transport=tcp>\r\n\
         Content-Length: 0\r\n\r\n"
    )
}

/// Reads until `wanted` answers with status 200 have come.
fn count_answers(mut stream: &TcpStream, wanted: usize) -> usize {
    let (mut text, mut buffer) = (String::new(), [0; 4_096]);
    loop {
        let count = text.matches("SIP/2.0 200 ").count();
        let length = stream.read(&mut buffer).unwrap();
        if count >= wanted || length == 0 {
            return count;
        }
        text.push_str(&String::from_utf8_lossy(&buffer[..length]));
        if text.matches("SIP/2.0 200 ").count() >= wanted {
            return wanted;
        }
    }
}

#[test]
fn what_contradicts_itself_is_refused() {
    let usual = || config("tcp", ANY_PORT.into());
    let callees = || {
        Some(Callees {
            target: ANY_PORT.into(),
            accounts: accounts(),
        })
    };
    // Configuration, what its error says.
    let cases = [
        (
            GeneratorConfig {
                workers: 3,
                own_workers: Some(2..4),
                ..usual()
            },
            "expected own workers within 0..3, found 2..4",
        ),
        (
            GeneratorConfig {
                workers: 3,
                own_workers: Some(2..2),
                ..usual()
            },
            "found 2..2",
        ),
        (
            GeneratorConfig {
                answers: true,
                callees: callees(),
                ..usual()
            },
            "not by both",
        ),
        (
            GeneratorConfig {
                called: Some(Called {
                    first: 60,
                    count: 5,
                }),
                ..usual()
            },
            "within the 64 accounts, found those from 60 on, 5 of them",
        ),
    ];
    for (config, expected) in cases {
        let error = Generator::start(&config).err().unwrap().to_string();
        assert!(error.contains(expected), "{error}");
    }
    let late = GeneratorConfig {
        first_user: 60,
        ..usual()
    };
    let error = Generator::start(&late)
        .unwrap()
        .populate(5, Stage::Registered);
    assert!(
        matches!(
            error,
            Err(GeneratorError::TooFewAccounts {
                wanted: 5,
                count: 4
            })
        ),
        "{error:?}"
    );
}
