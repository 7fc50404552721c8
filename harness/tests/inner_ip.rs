//! The kernel's IP inside tunnels of the lab, end to end: a cell says whose IP it is, and what is inside passes
//! devices of the kernel, or does not.

#![allow(clippy::unwrap_used)]

mod support;

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use hopbench::record::{Cell, Run, Verdict};
use support::peers::skip;
use support::{Guard, children, hopbench, stderr};

const SCENARIO: &str = r#"
name = "inner"
summary = "tunnels over a link of 5 ms"
path = "lab"
lab = { one_way_delay_ms = 5.0 }
stacks = ["udp@wireguard", "tcp@wireguard", "tls@wireguard"]

[setup]
rate_per_second = 40.0
warm_up_seconds = 0.0
duration_seconds = 0.5
blocks = 1
"#;

/// What the kernel has counted inside tunnels, at most, in one process's network.
#[derive(Clone, Copy, Debug, Default)]
struct Inside {
    /// By the devices of tunnels, either way.
    packets: u64,
    /// By those who open them. Outside of tunnels there is only UDP.
    connections: u64,
}

impl Inside {
    fn read(process: u32) -> Self {
        let read = |file: &str| std::fs::read_to_string(format!("/proc/{process}/net/{file}"));
        let devices = read("dev").unwrap_or_default();
        let tunnels = devices.lines().filter_map(|line| line.split_once(':'));
        let tunnels = tunnels.filter(|(name, _)| name.trim().starts_with("tunnel"));
        let packets = tunnels.map(|(_, columns)| {
            let columns: Vec<u64> = columns.split_whitespace().flat_map(str::parse).collect();
            columns[1] + columns[9]
        });
        let books = read("snmp").unwrap_or_default();
        let tcp: Vec<&str> = books
            .lines()
            .filter(|line| line.starts_with("Tcp:"))
            .collect();
        let active_opens = tcp.first().zip(tcp.get(1)).and_then(|(names, values)| {
            let mut columns = names.split(' ').zip(values.split(' '));
            columns
                .find(|(name, _)| *name == "ActiveOpens")?
                .1
                .parse()
                .ok()
        });
        Self {
            packets: packets.sum(),
            connections: active_opens.unwrap_or(0),
        }
    }
}

/// Runs the scenario; its cells, and the most that any of its processes had inside tunnels.
fn run(folder: &Path, options: &[&str]) -> (Vec<Cell>, Inside) {
    let scenario = folder.join("scenario.toml");
    std::fs::write(&scenario, SCENARIO).unwrap();
    let out = folder.join("run");
    let mut command = hopbench();
    command
        .arg("run")
        .arg(scenario)
        .args(options)
        .arg("--quiet");
    command.arg("--out").arg(&out).stdin(Stdio::null());
    let mut run = Guard(command.spawn().unwrap());
    let network = |process: &str| std::fs::read_link(format!("/proc/{process}/ns/net")).ok();
    let own = network("self");
    let mut most = Inside::default();
    while run.0.try_wait().unwrap().is_none() {
        for (child, _) in children(run.0.id()) {
            // Before it enters its network a child is in this one.
            if network(&child.to_string()).is_none_or(|network| Some(network) == own) {
                continue;
            }
            let inside = Inside::read(child);
            most.packets = most.packets.max(inside.packets);
            most.connections = most.connections.max(inside.connections);
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    let cells = Run::read(&out.join("run.json")).unwrap().cells;
    (cells, most)
}

/// Whether there was a lab; says so where not.
fn had_lab(cells: &[Cell]) -> bool {
    let refused = cells
        .iter()
        .find(|cell| cell.verdict == Verdict::Unsupported);
    if let Some(cell) = refused {
        let reason = cell.reason.as_deref().unwrap_or_default();
        if nix::unistd::geteuid().is_root() {
            skip(&format!("no lab here: {reason}"));
        } else {
            eprintln!("skipped: no lab here: {reason}");
        }
    }
    refused.is_none()
}

#[test]
fn in_the_lab_the_kernels_ip_is_inside_and_phases_are_measured_apart() {
    let folder = tempfile::tempdir().unwrap();
    let (cells, inside) = run(folder.path(), &[]);
    assert_eq!(cells.len(), 3);
    if !had_lab(&cells) {
        return;
    }
    for cell in &cells {
        let name = cell.id.as_str();
        assert_eq!(cell.parameters["inner_ip"], "kernel", "{name}");
        assert!(!cell.parameters.contains_key("tcp_buffer_bytes"), "{name}");
        // On a busy machine the generator, or the link, may be what is slow.
        assert!(
            matches!(cell.verdict, Verdict::Ok | Verdict::GeneratorBound),
            "{name}: {:?}",
            cell.reason
        );
        // Each phase takes round trips of 10 ms, and more on a busy machine, but never less.
        let took_ms = |metric: &str| cell.metrics[metric].value.map(|ns| ns / 1e6);
        let is_stream = cell.stack != "udp@wireguard";
        let connect_ms = took_ms("transport_connect_ns");
        assert_eq!(connect_ms.is_some(), is_stream, "{name}");
        assert!(
            connect_ms.is_none_or(|ms| ms > 10.0),
            "{name}: {connect_ms:?}"
        );
        let secured_ms = took_ms("security_handshake_ns").unwrap();
        assert!(secured_ms > 10.0, "{name}: {secured_ms} ms");
        let ready_ms = took_ms("setup_latency_ns").unwrap();
        // The tunnel's, TCP's, TLS's.
        let trips = match cell.stack.as_str() {
            "udp@wireguard" => 1.0,
            "tcp@wireguard" => 2.0,
            _ => 3.0,
        };
        assert!(ready_ms > trips * 10.0, "{name}: {ready_ms} ms");
    }
    assert!(inside.packets > 0 && inside.connections > 0, "{inside:?}");
}

#[test]
fn in_user_space_nothing_inside_passes_the_kernel() {
    let folder = tempfile::tempdir().unwrap();
    let (cells, inside) = run(
        folder.path(),
        &["--inner-ip", "user", "--stacks", "tcp@wireguard"],
    );
    assert_eq!(cells.len(), 1);
    if !had_lab(&cells) {
        return;
    }
    assert_eq!(cells[0].parameters["inner_ip"], "user");
    assert!(
        cells[0].id.as_str().contains("inner_ip=user"),
        "{}",
        cells[0].id
    );
    assert_eq!((inside.packets, inside.connections), (0, 0), "{inside:?}");
}

#[test]
fn over_the_loopback_the_kernels_ip_is_refused() {
    let output = support::run(&["run", "--inner-ip", "kernel"]);
    assert_eq!(output.status.code(), Some(2));
    let said = stderr(&output);
    assert!(said.contains("add --path lab"), "{said}");
}
