//! Stacks over tunnels of strongSwan and wireguard-go, measured in the lab like all others.

#![allow(clippy::unwrap_used)]

mod support;

use hopbench::record::{Run, Verdict};
use support::peers::{self, Program};
use support::{hopbench, stderr, stdout};

const CHARON: Program = Program {
    name: "charon-systemd",
    packages: "charon-systemd libcharon-extra-plugins libstrongswan-standard-plugins",
};
const STACKS: [&str; 6] = [
    "tcp",
    "udp@strongswan",
    "tcp@strongswan",
    "tcp@strongswan-psk",
    "tls@strongswan",
    "tcp@wireguard-go",
];

/// Every stack once over one hop; calls through proxies over those that differ in who makes the tunnels.
const SCENARIO: &str = r#"
name = "tunnels-of-others"
summary = "for the test"
stacks = ["tcp", "udp@strongswan", "tcp@strongswan", "tcp@strongswan-psk", "tls@strongswan", "tcp@wireguard-go"]

[setup]
rate_per_second = 30.0
warm_up_seconds = 0.05
duration_seconds = 0.4
blocks = 1

[[throughput]]
workload = "invite"
lifecycle = "per-registration"
topology = "edge"
stacks = ["tcp@strongswan"]
rates_per_second = [60.0]
users = 10
warm_up_seconds = 0.05
duration_seconds = 0.3
blocks = 1

[[throughput]]
workload = "invite"
lifecycle = "per-registration"
topology = "trapezoid"
stacks = ["tcp@strongswan", "tcp@wireguard-go"]
rates_per_second = [60.0]
users = 10
warm_up_seconds = 0.05
duration_seconds = 0.3
blocks = 1
"#;

/// IKEv2 is established, users register and call, and what setting the tunnel up takes is told apart.
#[test]
fn stacks_over_tunnels_of_others_are_measured() {
    let Some((_turn, _)) = peers::turn(&CHARON) else {
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let scenario = folder.path().join("tiny.toml");
    std::fs::write(&scenario, SCENARIO).unwrap();
    let out = folder.path().join("out");
    let output = hopbench()
        .arg("run")
        .arg(&scenario)
        .args(["--path=lab", "--experiments=setup,throughput", "--out"])
        .arg(&out)
        .output()
        .unwrap();
    let said = stdout(&output) + &stderr(&output);
    // 1 where there is no lab, which is seen below.
    assert!(matches!(output.status.code(), Some(0 | 1)), "{said}");
    let run = Run::read(&out.join("run.json")).unwrap();
    let over_others = run.cells.iter().filter(|cell| cell.stack != "tcp");
    let over_others: Vec<_> = over_others.collect();
    assert_eq!(over_others.len(), 5 + 1 + 2);
    if over_others
        .iter()
        .all(|cell| cell.verdict == Verdict::Unsupported)
    {
        peers::skip(&format!(
            "no lab or no daemon here: {:?}",
            over_others[0].reason
        ));
        return;
    }
    for cell in over_others {
        let is_measured = matches!(cell.verdict, Verdict::Ok | Verdict::GeneratorBound);
        assert!(is_measured, "{}: {:?}", cell.id, cell.reason);
        assert_eq!(cell.path, "lab");
        let value = |key: &str| cell.metrics.get(key).and_then(|metric| metric.value);
        assert!(value("tunnel_setup_ns").unwrap() > 0.0, "{}", cell.id);
        // Two exchanges of IKEv2 with Diffie-Hellman values and certificates, or a handshake of WireGuard's.
        let (packets, bytes) = if cell.stack.ends_with("@wireguard-go") {
            (2.0, 296.0)
        } else {
            (4.0, 500.0)
        };
        assert!(value("tunnel_setup_wire_packets").unwrap() >= packets);
        assert!(value("tunnel_setup_wire_bytes").unwrap() >= bytes);
        // What is not on the wire as the kernel's sockets see it is not told.
        assert_eq!(value("wire_bytes_per_operation"), None, "{}", cell.id);
    }
    let report = hopbench()
        .args(["report", "--format", "markdown"])
        .arg(&out)
        .output()
        .unwrap();
    let report = stdout(&report);
    assert!(
        report.contains("## How far is the stand-in from IPsec"),
        "{report}"
    );
}

#[test]
fn a_tunnel_of_others_is_over_all_hops() {
    let folder = tempfile::tempdir().unwrap();
    let scenario = folder.path().join("core.toml");
    std::fs::write(
        &scenario,
        SCENARIO.replace("[setup]", "core_stacks = [\"tls\"]\n[setup]"),
    )
    .unwrap();
    let output = hopbench().arg("run").arg(&scenario).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    let said = stderr(&output);
    assert!(said.contains("Leave `core_stacks` out"), "{said}");
}

#[test]
fn a_tunnel_of_others_is_of_the_lab() {
    let folder = tempfile::tempdir().unwrap();
    let output = hopbench()
        .args([
            "run",
            "--stacks=tcp@strongswan",
            "--experiments=setup",
            "--out",
        ])
        .arg(folder.path().join("out"))
        .output()
        .unwrap();
    let run = Run::read(&folder.path().join("out/run.json")).unwrap();
    let cell = &run.cells[0];
    assert_eq!(cell.verdict, Verdict::Unsupported, "{}", stderr(&output));
    let reason = cell.reason.as_deref().unwrap();
    assert!(reason.contains("--path lab"), "{reason}");
}

#[test]
fn stacks_are_listed_with_what_they_take() {
    let output = hopbench().args(["list", "stacks"]).output().unwrap();
    let listed = stdout(&output);
    for stack in &STACKS[1..] {
        let mut lines = listed.lines();
        lines.find(|line| line.contains(stack)).unwrap();
        let availability = lines.next().unwrap();
        assert!(
            ["runs /", "apt-get install", "/dev/net/tun"]
                .iter()
                .any(|word| availability.contains(word)),
            "{availability}"
        );
    }
}
