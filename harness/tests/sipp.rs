//! SIPp's built-in scenarios against the node: every call succeeds, and SIPp sees no message that it
//! did not expect.

#![allow(clippy::unwrap_used)]

mod support;

use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;
use std::process::Command;

use hopbench::load::LoadReport;
use support::node::CountingNode;
use support::peers::{SIPP, free_port, turn};
use support::proxies::{Proxy, start_proxies};
use support::sipp::{Calls, Sipp};
use support::{stderr, stdout};

const LOCALHOST: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

const CALLS: u64 = 10_000;
/// What two busy processors take in their stride; late calls would only be repeated.
const CALLS_PER_SECOND: u64 = 1_000;

/// The same behind proxies, which share the processors with both ends.
const PROXIED_CALLS: u64 = 2_000;
const PROXIED_CALLS_PER_SECOND: u64 = 200;
/// What SIPp's callee answers for.
const CALLEE: &str = "sip:service@callee.test";

fn sipp_calls_the_node(transport: &str) {
    let Some((_turn, program)) = turn(&SIPP) else {
        return;
    };
    let node = CountingNode::start(&["--stack", transport]);
    let calls = Calls {
        count: CALLS,
        per_second: CALLS_PER_SECOND,
    };
    let command = Command::new(program);
    Sipp::caller(command, transport, LOCALHOST, node.address, calls).finish();
    let counters = node.stop();
    assert_eq!(counters.sip.calls_answered, CALLS, "{counters:?}");
    assert_eq!(counters.sip.calls_completed, CALLS, "{counters:?}");
    assert_eq!(counters.sip.calls_abandoned, 0, "{counters:?}");
    assert_eq!(counters.sip.malformed, 0, "{counters:?}");
    assert_eq!(counters.sip.rejected, 0, "{counters:?}");
    assert_eq!(counters.unsent, 0, "{counters:?}");
}

#[test]
fn sipp_calls_the_node_over_udp() {
    sipp_calls_the_node("udp");
}

#[test]
fn sipp_calls_the_node_over_tcp() {
    sipp_calls_the_node("tcp");
}

/// The generator calls SIPp through proxies; `stacks` names the hops from one to the other.
fn the_generator_calls_sipp(stacks: &[&str]) {
    let Some((_turn, program)) = turn(&SIPP) else {
        return;
    };
    let address = free_port();
    let callee = Sipp::callee(
        Command::new(&program),
        &program,
        stacks[stacks.len() - 1],
        address,
        Path::new("/proc/net"),
        PROXIED_CALLS,
    );
    let proxies = start_proxies(stacks, address);
    let output = support::hopbench()
        .args(["load", "--json", "--workload=invite", "--callee", CALLEE])
        .args(["--stack", stacks[0], "--target"])
        .arg(proxies[0].addresses[0].to_string())
        .args(["--arrivals=constant", "--warm-up=0", "--drain=40"])
        .arg(format!("--rate={PROXIED_CALLS_PER_SECOND}"))
        .arg(format!(
            "--duration={}",
            PROXIED_CALLS / PROXIED_CALLS_PER_SECOND
        ))
        .output()
        .unwrap();
    let said = stdout(&output) + &stderr(&output);
    let report: LoadReport = serde_json::from_slice(&output.stdout).expect(&said);
    let seen: Vec<_> = proxies.into_iter().map(Proxy::stop).collect();
    let failures = &report.failures;
    let said = callee.said();
    assert_eq!(
        (report.succeeded, report.offered),
        (PROXIED_CALLS, PROXIED_CALLS),
        "{failures:?}; the proxies saw {seen:#?}; SIPp said: {said}"
    );
    callee.finish();
    for counters in seen {
        // INVITE, ACK and BYE of each call.
        assert_eq!(counters.sip.forwarded, 3 * PROXIED_CALLS, "{counters:?}");
        assert_eq!(counters.sip.unreachable, 0, "{counters:?}");
        assert_eq!(counters.sip.malformed, 0, "{counters:?}");
        assert_eq!(counters.sip.rejected, 0, "{counters:?}");
        assert_eq!(counters.unsent, 0, "{counters:?}");
    }
}

#[test]
fn sipp_answers_behind_a_proxy_over_udp() {
    the_generator_calls_sipp(&["udp", "udp"]);
}

#[test]
fn sipp_answers_behind_a_proxy_over_tcp() {
    the_generator_calls_sipp(&["tcp", "tcp"]);
}

#[test]
fn sipp_answers_behind_a_trapezoid_with_a_secured_core_over_udp() {
    the_generator_calls_sipp(&["udp", "mtls", "udp"]);
}

#[test]
fn sipp_answers_behind_a_trapezoid_with_a_secured_core_over_tcp() {
    the_generator_calls_sipp(&["tcp", "mtls", "tcp"]);
}
