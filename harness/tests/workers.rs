//! `hopbench node --workers`: one node of several processes, as its users and its operator see it.

#![allow(clippy::unwrap_used)]

mod support;

use std::io::Read;
use std::process::Stdio;

use hopbench::load::{
    ArrivalLaw, BackOff, Callees, Course, Generator, GeneratorConfig, Lifecycle, LoadPlan, Mix,
    Workload,
};
use hopbench::sip::Accounts;
use hopbench::transport::Settings;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use support::node::CountingNode;
use support::{Guard, children, hopbench, run, stderr, stdout};

#[test]
fn a_load_finds_one_node_whose_counters_are_the_sum() {
    let folder = tempfile::tempdir().unwrap();
    let credentials = folder.path().join("keys").to_str().unwrap().to_owned();
    for stack in ["tcp", "tls"] {
        let keys = ["--stack", stack, "--credentials", &credentials];
        let node = CountingNode::start(&[&keys[..], &["--workers", "3"]].concat());
        let target = node.address.to_string();
        let load = |workload: &[&str]| {
            let common = [
                "load",
                "--target",
                &target,
                "--rate",
                "100",
                "--warm-up",
                "0",
            ];
            let length = ["--duration", "0.4", "--arrivals", "constant"];
            let output = run(&[&common[..], &length[..], &keys[..], workload].concat());
            let said = stdout(&output) + &stderr(&output);
            assert_eq!(output.status.code(), Some(0), "{stack}: {said}");
        };
        load(&["--workload", "register"]);
        load(&["--workload", "invite", "--users", "8"]);
        let counters = node.stop();
        // Forty users who registered, of whom eight came back to call.
        assert_eq!(counters.registered_users, 40, "{stack}: {counters:?}");
        assert_eq!(counters.sip.registrations, 48, "{stack}");
        assert_eq!(counters.sip.calls_completed, 40, "{stack}");
        assert_eq!(counters.flows_opened, 48, "{stack}");
    }
}

#[test]
fn users_of_different_processes_call_each_other() {
    const USERS: u32 = 20;
    let accounts = Accounts::new("hopbench.test", "hopbench", 2 * USERS);
    let node = CountingNode::start(&["--service", "proxy", "--workers", "3"]);
    let target = node.address;
    let generator = Generator::start(&GeneratorConfig {
        callees: Some(Callees {
            target,
            accounts: accounts.clone(),
        }),
        seed: 1,
        ..GeneratorConfig::new("tcp", target, Settings::default(), accounts)
    });
    let plan = LoadPlan {
        workload: Workload::Invite,
        lifecycle: Lifecycle::PerRegistration,
        arrivals: ArrivalLaw::Constant,
        rate_per_second: 100.0,
        course: Course::Steady,
        warm_up_seconds: 0.0,
        duration_seconds: 0.4,
        drain_seconds: 20.0,
        users: USERS,
        talk_seconds: 0.0,
        ring_seconds: 0.0,
        mix: Mix::default(),
        back_off: BackOff::default(),
        seed: 1,
    };
    let report = generator.unwrap().run(&plan, |_| {}).unwrap();
    assert_eq!(
        (report.offered, report.succeeded),
        (40, 40),
        "{:?}",
        report.failures
    );
    let counters = node.stop();
    assert_eq!(counters.registered_users, 2 * u64::from(USERS));
    // INVITE, ACK and BYE, of some calls by two processes.
    assert!(counters.sip.forwarded > 3 * 40, "{counters:?}");
    assert_eq!(
        counters.sip.stray_responses + counters.unsent,
        0,
        "{counters:?}"
    );
}

#[test]
fn a_node_whose_worker_dies_ends_with_the_reason() {
    let mut node = hopbench();
    let node = node
        .args(["node", "--listen", "127.0.0.1:0", "--workers", "3"])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut node = Guard(node);
    let mut said = node.0.stderr.take().unwrap();
    let mut line = [0; 1];
    // It says that it listens when all workers do.
    while line != *b"\n" {
        said.read_exact(&mut line).unwrap();
    }
    let workers = children(node.0.id());
    assert_eq!(workers.len(), 3, "{workers:?}");
    kill(Pid::from_raw(workers[1].0 as i32), Signal::SIGKILL).unwrap();
    let mut reason = String::new();
    said.read_to_string(&mut reason).unwrap();
    assert_eq!(node.0.wait().unwrap().code(), Some(1));
    let expected = "the node process died in the middle (signal: 9 (SIGKILL))";
    assert!(reason.contains(expected), "{reason}");
    assert!(children(node.0.id()).is_empty());
}

#[test]
fn routes_that_workers_cannot_share_are_refused() {
    for (route, told) in [
        (
            &["--route", "*=udp@clear@127.0.0.1:5099"][..],
            "over a tunnel",
        ),
        (
            &[
                "--route",
                "*=udp@127.0.0.1:5099",
                "--core-listen",
                "127.0.0.1:5098",
            ],
            "leave the port of --core-listen 0",
        ),
    ] {
        let node = [
            "node",
            "--workers",
            "2",
            "--service",
            "proxy",
            "--stack",
            "tcp",
        ];
        let output = run(&[&node[..], route].concat());
        assert_eq!(output.status.code(), Some(2));
        let said = stderr(&output);
        assert!(said.contains(told), "{said}");
    }
    let output = run(&["node", "--workers", "0"]);
    assert_eq!(output.status.code(), Some(2));
}
