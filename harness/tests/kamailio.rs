//! Kamailio as registrar and proxy under the generator, with a node behind it that answers: `hopbench
//! load` works against a server that is not ours, over every carrier that both know.

#![allow(clippy::unwrap_used)]

mod support;

use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;

use hopbench::load::LoadReport;
use hopbench::transport::TestAuthority;
use support::node::CountingNode;
use support::peers::{KAMAILIO, Peer, free_port, turn};
use support::{hopbench, stderr, stdout};

const OPERATIONS: u64 = 10_000;
const DOMAIN: &str = "hopbench.test";

/// One carrier on the way through Kamailio.
struct Case {
    /// Kamailio has the same names.
    stack: &'static str,
    /// What Kamailio hashes digests with.
    algorithm: &'static str,
    /// From Kamailio to the node that answers: another carrier, so that Kamailio records its route twice.
    callee_stack: &'static str,
    registrations_per_second: u64,
    calls_per_second: u64,
}

#[test]
fn registrations_and_calls_over_udp() {
    load_kamailio(&Case {
        stack: "udp",
        algorithm: "MD5",
        callee_stack: "tcp",
        registrations_per_second: 1_000,
        calls_per_second: 1_000,
    });
}

#[test]
fn registrations_and_calls_over_tcp() {
    load_kamailio(&Case {
        stack: "tcp",
        algorithm: "SHA-256",
        callee_stack: "udp",
        registrations_per_second: 1_000,
        calls_per_second: 1_000,
    });
}

#[test]
fn registrations_and_calls_over_tls() {
    load_kamailio(&Case {
        stack: "tls",
        algorithm: "SHA-256",
        // Not UDP: as its OpenSSL is, one process of Kamailio has to do everything with TLS.
        callee_stack: "tcp",
        // Each is a full handshake.
        registrations_per_second: 500,
        calls_per_second: 1_000,
    });
}

fn load_kamailio(case: &Case) {
    let Some((_turn, program)) = turn(&KAMAILIO) else {
        return;
    };
    let node = CountingNode::start(&["--stack", case.callee_stack]);
    let kamailio = Kamailio::start(&program, case, node.address);

    let (code, refused) = kamailio.load(case, &["--rate=20", "--duration=0.5"], "not-the-secret-");
    let refused: LoadReport = serde_json::from_str(&refused).unwrap();
    assert_eq!((code, refused.succeeded), (Some(3), 0), "{refused:?}");
    let wrong = "expected 200 to the credentials, found another challenge: the password is wrong";
    assert_eq!(refused.failures[wrong], refused.offered, "{refused:?}");

    let rate = case.registrations_per_second;
    // So many users that a pause of a second leaves some who are free.
    kamailio.expect_success(case, "register", rate, "--users=2000");
    kamailio.expect_success(case, "invite", case.calls_per_second, "--users=500");

    let sip = node.stop().sip;
    // Kamailio sees to it that what the callers repeat is not repeated to the callee, unless it has to.
    assert_eq!(sip.calls_answered, OPERATIONS, "{sip:?}");
    assert_eq!(sip.calls_completed, OPERATIONS, "{sip:?}");
    assert_eq!(sip.registrations, 0, "{sip:?}");
    assert_eq!(sip.malformed, 0, "{sip:?}");
    assert_eq!(sip.rejected, 0, "{sip:?}");
}

/// A Kamailio that listens over one carrier.
struct Kamailio {
    peer: Peer,
    address: SocketAddr,
    folder: tempfile::TempDir,
}

impl Kamailio {
    fn start(program: &Path, case: &Case, callee: SocketAddr) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let file = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
        let authority = TestAuthority::generate().unwrap();
        let identity = authority.server(DOMAIN).unwrap();
        std::fs::write(file("ca.pem"), authority.ca_pem()).unwrap();
        std::fs::write(file("server.pem"), identity.chain_pem).unwrap();
        std::fs::write(file("server.key"), identity.key_pem).unwrap();

        let configuration = Path::new(env!("CARGO_MANIFEST_DIR"));
        let configuration = configuration.join("tests/peers/kamailio/kamailio.cfg");
        // It binds everything before it serves anything: what takes connections takes datagrams.
        let plain = free_port();
        let mut listen = vec![format!("udp:{plain}"), format!("tcp:{plain}")];
        let mut address = plain;
        if case.stack == "tls" {
            address = free_port();
            listen.push(format!("tls:{address}"));
        }
        let callee_transport = case.callee_stack;
        let mut command = Command::new(program);
        // In the foreground, log on standard error; much shared memory, of which it takes what it
        // needs.
        command.args(["-DD", "-E", "-m", "1024", "-x", "fm", "-X", "fm"]);
        command.arg("-f").arg(configuration);
        for listen in listen {
            command.args(["-l", &listen]);
        }
        command.arg("-Y").arg(folder.path());
        command.arg("-P").arg(file("pid"));
        for definition in [
            format!("DOMAIN={DOMAIN:?}"),
            format!("ALGORITHM={:?}", case.algorithm),
            format!("CALLEE=\"sip:{callee};transport={callee_transport}\""),
            format!("TLS_CERTIFICATE={:?}", file("server.pem")),
            format!("TLS_KEY={:?}", file("server.key")),
        ] {
            command.args(["-A", &definition]);
        }
        if case.stack == "tls" {
            command.args(["-A", "WITH_TLS"]);
        }
        let mut peer = Peer::start(&mut command, folder.path());
        peer.wait_until("that it listens", |_| TcpStream::connect(plain).is_ok());
        Self {
            peer,
            address,
            folder,
        }
    }

    /// Loads it; returns the exit code and the report.
    fn load(&self, case: &Case, args: &[&str], password: &str) -> (Option<i32>, String) {
        let ca: PathBuf = self.folder.path().join("ca.pem");
        let output = hopbench()
            .args(["load", "--json", "--stack", case.stack, "--target"])
            .arg(self.address.to_string())
            .arg("--ca")
            .arg(ca)
            .args(["--accounts=2000", "--user-pattern=alice{:05}"])
            .env(
                "HOPBENCH_PASSWORD_PATTERN",
                format!("{password}alice{{:05}}"),
            )
            .args(["--arrivals=constant", "--warm-up=0", "--drain=40"])
            .args(args)
            .output()
            .unwrap();
        let report = stdout(&output);
        assert!(!report.is_empty(), "{}", stderr(&output));
        (output.status.code(), report)
    }

    /// [`OPERATIONS`] of `workload`, none of which may fail.
    fn expect_success(&self, case: &Case, workload: &str, per_second: u64, users: &str) {
        let rate = format!("--rate={per_second}");
        let duration = format!("--duration={}", OPERATIONS as f64 / per_second as f64);
        let args = ["--workload", workload, &rate, &duration, users];
        let (code, report) = self.load(case, &args, "secret-");
        let report: LoadReport = serde_json::from_str(&report).unwrap();
        let failures = &report.failures;
        let said = self.peer.said();
        assert_eq!(
            code,
            Some(0),
            "{workload}: {failures:?}; Kamailio said: {said}"
        );
        assert_eq!(report.offered, OPERATIONS, "{workload}");
        assert_eq!(report.succeeded, OPERATIONS, "{workload}");
        assert_eq!(report.unsent, 0, "{workload}");
        assert_eq!(report.lost_hops, 0, "{workload}");
    }
}
