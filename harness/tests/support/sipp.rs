//! SIPp with its built-in scenarios, as caller or callee.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::process::Command;

use super::peers::{Peer, is_bound};

/// How many calls, and how fast.
#[derive(Clone, Copy)]
pub struct Calls {
    pub count: u64,
    pub per_second: u64,
}

/// One run of SIPp, which ends by itself.
pub struct Sipp {
    calls: u64,
    peer: Peer,
    folder: tempfile::TempDir,
}

impl Sipp {
    /// Calls `target` from an address of this machine. `command` runs SIPp, wherever it is to run.
    pub fn caller(
        mut command: Command,
        transport: &str,
        from: IpAddr,
        target: SocketAddr,
        calls: Calls,
    ) -> Self {
        command
            .args(["-sn", "uac", "-r"])
            .arg(calls.per_second.to_string())
            .args(["-i", &from.to_string(), &target.to_string()]);
        Self::start(
            command,
            transport,
            calls.count,
            tempfile::tempdir().unwrap(),
        )
    }

    /// Answers calls at `address`, which it has once the kernel lists it among `sockets`. `command` runs SIPp,
    /// `program`, wherever it is to run.
    pub fn callee(
        mut command: Command,
        program: &Path,
        transport: &str,
        address: SocketAddr,
        sockets: &Path,
        calls: u64,
    ) -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("uas.xml"), callee_scenario(program)).unwrap();
        command
            .args(["-sf", "uas.xml", "-i", &address.ip().to_string(), "-p"])
            .arg(address.port().to_string());
        let mut callee = Self::start(command, transport, calls, folder);
        callee
            .peer
            .wait_until("a callee", |_| is_bound(sockets, transport, address));
        callee
    }

    fn start(mut command: Command, transport: &str, calls: u64, folder: tempfile::TempDir) -> Self {
        command
            // All calls over one socket, as a proxy sends them.
            .args(["-t", if transport == "udp" { "u1" } else { "t1" }])
            .args(["-nostdin", "-m"])
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
    pub fn said(&self) -> String {
        let errors = std::fs::read_to_string(self.folder.path().join("errors.log"));
        errors.unwrap_or_default() + &self.peer.said()
    }

    /// Waits for its end and asserts that all calls went as they should.
    pub fn finish(mut self) {
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
