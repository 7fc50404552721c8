//! SIPp's built-in scenarios against the node: every call succeeds, and SIPp sees no message that it
//! did not expect.

#![allow(clippy::unwrap_used)]

mod support;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;

use hopbench::load::LoadReport;
use support::node::CountingNode;
use support::peers::{Peer, SIPP, free_port, is_bound, turn};
use support::proxies::{Proxy, start_proxies};
use support::{stderr, stdout};

const CALLS: u64 = 10_000;
/// What two busy processors take in their stride; late calls would only be repeated.
const CALLS_PER_SECOND: u64 = 1_000;

/// The same behind proxies, which share the processors with both ends.
const PROXIED_CALLS: u64 = 2_000;
const PROXIED_CALLS_PER_SECOND: u64 = 200;
/// What SIPp's callee answers for.
const CALLEE: &str = "sip:service@callee.test";

/// One run of SIPp, which ends by itself.
struct Sipp {
    calls: u64,
    peer: Peer,
    folder: tempfile::TempDir,
}

impl Sipp {
    /// Calls `target`.
    fn caller(program: &Path, transport: &str, target: SocketAddr) -> Self {
        let mut command = Command::new(program);
        command
            .args(["-sn", "uac", "-r"])
            .arg(CALLS_PER_SECOND.to_string())
            .arg(target.to_string());
        Self::start(command, transport, CALLS, tempfile::tempdir().unwrap())
    }

    /// Answers calls at a free port.
    fn callee(program: &Path, transport: &str) -> (Self, SocketAddr) {
        let address = free_port();
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("uas.xml"), callee_scenario(program)).unwrap();
        let mut command = Command::new(program);
        command
            .args(["-sf", "uas.xml", "-p"])
            .arg(address.port().to_string());
        let mut callee = Self::start(command, transport, PROXIED_CALLS, folder);
        callee
            .peer
            .wait_until("a callee", |_| is_bound(transport, address));
        (callee, address)
    }

    fn start(mut command: Command, transport: &str, calls: u64, folder: tempfile::TempDir) -> Self {
        command
            // All calls over one socket, as a proxy sends them.
            .args(["-t", if transport == "udp" { "u1" } else { "t1" }])
            .args(["-i", "127.0.0.1", "-nostdin", "-m"])
            .arg(calls.to_string())
            .args(["-trace_stat", "-stf", "statistics.csv"])
            .args(["-trace_counts", "-trace_err", "-error_file", "errors.log"])
            .args(["-timeout", "60s", "-timeout_error"]);
        let peer = Peer::start(&mut command, folder.path());
        Self {
            calls,
            peer,
            folder,
        }
    }

    /// What went wrong in its eyes, and what it shows at its end.
    fn said(&self) -> String {
        let errors = std::fs::read_to_string(self.folder.path().join("errors.log"));
        errors.unwrap_or_default() + &self.peer.said()
    }

    /// Waits for its end and asserts that all calls went as they should.
    fn finish(mut self) {
        let status = self.peer.child.wait().unwrap();
        let said = self.said();
        assert!(status.success(), "SIPp ended with {status}: {said}");
        let statistics = last_row(&self.folder.path().join("statistics.csv"));
        for (counter, expected) in [
            ("TotalCallCreated", self.calls),
            ("SuccessfulCall(C)", self.calls),
            ("FailedCall(C)", 0),
            ("FailedUnexpectedMessage(C)", 0),
            ("OutOfCallMsgs(C)", 0),
        ] {
            assert_eq!(statistics[counter], expected, "{counter}: {said}");
        }
        let files = std::fs::read_dir(self.folder.path()).unwrap();
        let counts = files
            .map(|file| file.unwrap().path())
            .find(|path| path.to_str().unwrap().ends_with("_counts.csv"))
            .expect("SIPp counts the messages of each step");
        let counts = last_row(&counts);
        let unexpected: Vec<_> = counts
            .iter()
            .filter(|(counter, _)| counter.ends_with("_Unexp"))
            .collect();
        assert!(unexpected.len() > 1, "{counts:?}");
        assert!(
            unexpected.iter().all(|(_, count)| **count == 0),
            "{unexpected:?}: {said}"
        );
    }
}

/// SIPp's built-in callee with three changes. It copies Record-Route into its responses (RFC 3261 §12.1.1):
/// otherwise BYE would take another way than INVITE, and its response the way of INVITE. What a busy
/// machine makes of it is nothing unexpected: an INVITE that is repeated before it was answered, or the ACK
/// of a repeated 200 after the BYE, which is why its 200 is not repeated so soon.
fn callee_scenario(program: &Path) -> String {
    const ACK: &str = "<recv request=\"ACK\"";
    const REPEATED_INVITE_THEN_ACK: &str =
        "<recv request=\"INVITE\" optional=\"true\"></recv>\n  <recv request=\"ACK\"";
    let output = Command::new(program).args(["-sd", "uas"]).output().unwrap();
    let mut scenario = String::from_utf8(output.stdout).unwrap();
    for (built_in, count, ours) in [
        (
            "[last_CSeq:]",
            3,
            "[last_CSeq:]\n      [last_Record-Route:]",
        ),
        ("retrans=\"500\"", 1, "retrans=\"4000\""),
        (ACK, 1, REPEATED_INVITE_THEN_ACK),
    ] {
        assert_eq!(scenario.matches(built_in).count(), count, "{scenario}");
        scenario = scenario.replace(built_in, ours);
    }
    scenario
}

/// The plain numbers in the last row of a table that SIPp wrote, by the names of their columns.
fn last_row(file: &Path) -> BTreeMap<String, u64> {
    let text = std::fs::read_to_string(file).unwrap();
    let names = text.lines().next().unwrap().split(';');
    let values = text.lines().last().unwrap().split(';');
    names
        .zip(values)
        .filter_map(|(name, value)| Some((name.to_owned(), value.parse().ok()?)))
        .collect()
}

fn sipp_calls_the_node(transport: &str) {
    let Some((_turn, program)) = turn(&SIPP) else {
        return;
    };
    let node = CountingNode::start(&["--stack", transport]);
    Sipp::caller(&program, transport, node.address).finish();
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
    let (callee, address) = Sipp::callee(&program, stacks[stacks.len() - 1]);
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
