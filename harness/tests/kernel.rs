//! What the kernel does itself in the lab, where it can: WireGuard, ESP, netem. Where it cannot, cells say so, and so
//! does the list of stacks. `scripts/lab-vm` runs this under a kernel that can.

#![allow(clippy::unwrap_used)]

mod support;

use hopbench::record::{Cell, Run, Verdict};
use support::{hopbench, stderr, stdout};

const SCENARIO: &str = r#"
name = "kernel"
summary = "for the tests"
path = "lab"
stacks = [
    "tcp", "udp@wireguard-kernel", "tcp@wireguard-kernel", "tls@wireguard-kernel",
    "udp@strongswan-kernel", "tcp@strongswan-kernel", "tcp@strongswan-kernel-psk", "tls@strongswan-kernel",
]

[setup]
rate_per_second = 4.0
warm_up_seconds = 0.05
duration_seconds = 2.0
blocks = 1

[[throughput]]
workload = "invite"
lifecycle = "per-registration"
topology = "trapezoid"
stacks = ["tcp@wireguard-kernel", "tcp@strongswan-kernel"]
rates_per_second = [4.0]
users = 5
warm_up_seconds = 0.05
duration_seconds = 2.0
blocks = 1
"#;

const NETEM: &str = r#"
name = "netem"
summary = "for the tests"
path = "lab"
link_emulator = "netem"
lab = { one_way_delay_ms = 10.0 }
stacks = ["udp", "tcp"]

[setup]
rate_per_second = 4.0
warm_up_seconds = 0.05
duration_seconds = 2.0
blocks = 1

[[throughput]]
workload = "register"
lifecycle = "per-registration"
rates_per_second = [4.0]
users = 10
warm_up_seconds = 0.05
duration_seconds = 2.0
blocks = 1
"#;

/// Whether the kernel has to have all of it.
fn is_required() -> bool {
    std::env::var("HOPBENCH_REQUIRE_KERNEL").as_deref() == Ok("1")
}

/// What `scenario` comes to.
fn run(scenario: &str, options: &[&str]) -> Run {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("scenario.toml");
    std::fs::write(&file, scenario).unwrap();
    let out = folder.path().join("out");
    let output = hopbench()
        .arg("run")
        .arg(&file)
        .args(options)
        .args(["--quiet", "--out"])
        .arg(&out)
        .output()
        .unwrap();
    let said = stdout(&output) + &stderr(&output);
    // Cells say themselves what became of them.
    let run = Run::read(&out.join("run.json"));
    run.unwrap_or_else(|error| panic!("{error}: {said}"))
}

/// Whether a cell was measured. One that was not says what would bring what is missing.
fn is_measured(cell: &Cell, remedy: &str) -> bool {
    if cell.verdict == Verdict::Unsupported {
        let reason = cell.reason.as_deref().unwrap();
        assert!(!is_required(), "{}: {reason}", cell.id);
        let known = [remedy, "apt-get install", "run as root"];
        assert!(
            known.iter().any(|known| reason.contains(known)),
            "{}: {reason}",
            cell.id
        );
        eprintln!("skipped: {}: {reason}", cell.id);
        return false;
    }
    let reason = cell.reason.as_deref().unwrap_or_default();
    assert!(
        matches!(cell.verdict, Verdict::Ok | Verdict::GeneratorBound),
        "{}: {reason}",
        cell.id
    );
    true
}

fn value(cell: &Cell, key: &str) -> Option<f64> {
    cell.metrics.get(key)?.value
}

#[test]
fn stacks_over_the_kernels_tunnels_are_measured() {
    let run = run(SCENARIO, &["--experiments=setup,throughput"]);
    let over_kernel = run.cells.iter().filter(|cell| cell.stack != "tcp");
    let over_kernel: Vec<&Cell> = over_kernel.collect();
    assert_eq!(over_kernel.len(), 7 + 2);
    for cell in over_kernel {
        let is_wireguard = cell.stack.ends_with("@wireguard-kernel");
        let remedy = if is_wireguard {
            "CONFIG_WIREGUARD"
        } else {
            "CONFIG_INET_ESP"
        };
        if !is_measured(cell, remedy) {
            continue;
        }
        let implementation = cell.parameters["tunnel_implementation"].as_str().unwrap();
        assert!(
            implementation.ends_with("Linux (kernel)"),
            "{implementation}"
        );
        if cell.experiment == "setup" {
            let packets = value(cell, "tunnel_setup_wire_packets").unwrap();
            // Initiation and response; or IKE_SA_INIT and IKE_AUTH, whose certificates may take more packets.
            if is_wireguard {
                assert_eq!(packets, 2.0, "{}", cell.id);
            } else {
                assert!(packets >= 4.0, "{}: {packets}", cell.id);
            }
            assert!(value(cell, "hop_ready_to_registered_ns").unwrap() > 0.0);
        } else if cell.verdict == Verdict::Ok {
            let completed = value(cell, "session_completion_ratio").unwrap();
            assert_eq!(completed, 1.0, "{}", cell.id);
            // Processor time is told where it is that of processes.
            let is_told = value(cell, "server_cpu_ns_per_operation").is_some();
            assert_eq!(is_told, !is_wireguard, "{}", cell.id);
        }
    }
}

#[test]
fn netem_delays_what_passes_links() {
    for cell in run(NETEM, &["--experiments=setup,throughput"]).cells {
        assert!(cell.id.contains("link_emulation=netem"), "{}", cell.id);
        if !is_measured(&cell, "modprobe sch_netem") {
            continue;
        }
        assert_eq!(cell.parameters["link_emulation"], "netem");
        if cell.experiment == "throughput" {
            // It is told where no operation failed.
            let bytes = value(&cell, "wire_bytes_per_operation");
            assert!(bytes.is_some() || cell.verdict == Verdict::GeneratorBound);
            assert!(bytes.is_none_or(|bytes| bytes > 500.0), "{bytes:?}");
            continue;
        }
        // Round trips of 20 ms until a user is registered: two, and one more that opens a connection.
        let round_trips = if cell.stack == "udp" { 2.0 } else { 3.0 };
        let registered = value(&cell, "hop_ready_to_registered_ns").unwrap();
        assert!(
            registered > round_trips * 20e6,
            "{}: {registered} ns",
            cell.id
        );
    }
}

#[test]
fn what_netem_cannot_do_is_refused_before_anything_runs() {
    for (options, reason) in [
        (
            ["--link-emulator=netem", "--rate-bits-per-second=64001"].as_slice(),
            "64001 bits",
        ),
        (
            &[
                "--link-emulator=netem",
                "--one-way-delay-ms=1",
                "--capture=x",
            ],
            "leave --link-emulator out",
        ),
    ] {
        let mut arguments = vec!["run", "--path=lab", "--stacks=udp"];
        arguments.extend(options);
        let output = support::run(&arguments);
        let said = stderr(&output);
        assert_eq!(output.status.code(), Some(2), "{said}");
        assert!(said.contains(reason), "{said}");
    }
    let output = support::run(&["run", "--stacks=udp", "--link-emulator=netem"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr(&output).contains("add --path lab"));
}

#[test]
fn the_kernels_tunnels_are_listed_with_what_they_take() {
    let listed = support::run(&["list", "stacks"]);
    let listed = stdout(&listed);
    for (stack, option) in [
        ("udp@wireguard-kernel", "CONFIG_WIREGUARD"),
        ("tls@strongswan-kernel", "CONFIG_INET_ESP"),
    ] {
        let mut lines = listed.lines();
        lines.find(|line| line.contains(stack)).unwrap();
        let availability = lines.next().unwrap();
        let known = ["runs /", "apt-get install", "run as root", option];
        assert!(
            known.iter().any(|known| availability.contains(known)),
            "{availability}"
        );
        assert!(
            !is_required() || availability.contains("runs /"),
            "{availability}"
        );
    }
}
