//! SIPp's built-in scenarios against the node: every call succeeds, and SIPp sees no message that it
//! did not expect.

#![allow(clippy::unwrap_used)]

mod support;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;

use support::node::CountingNode;
use support::peers::{Peer, SIPP, turn};

const CALLS: u64 = 10_000;
/// What two busy processors take in their stride; late calls would only be repeated.
const CALLS_PER_SECOND: u64 = 1_000;

/// One run of SIPp, which ends by itself.
struct Sipp {
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
        Self::start(command, transport)
    }

    fn start(mut command: Command, transport: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        command
            // All calls over one socket, as a proxy sends them.
            .args(["-t", if transport == "udp" { "u1" } else { "t1" }])
            .args(["-i", "127.0.0.1", "-nostdin", "-m"])
            .arg(CALLS.to_string())
            .args(["-trace_stat", "-stf", "statistics.csv"])
            .args(["-trace_counts", "-trace_err", "-error_file", "errors.log"])
            .args(["-timeout", "60s", "-timeout_error"]);
        let peer = Peer::start(&mut command, folder.path());
        Self { peer, folder }
    }

    /// Waits for its end and asserts that all calls went as they should.
    fn finish(mut self) {
        let status = self.peer.child.wait().unwrap();
        let errors = std::fs::read_to_string(self.folder.path().join("errors.log"));
        let said = errors.unwrap_or_else(|_| self.peer.said());
        assert!(status.success(), "SIPp ended with {status}: {said}");
        let statistics = last_row(&self.folder.path().join("statistics.csv"));
        for (counter, expected) in [
            ("TotalCallCreated", CALLS),
            ("SuccessfulCall(C)", CALLS),
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
