//! `hopbench run` from end to end on a tiny scenario.

#![allow(clippy::unwrap_used)]

mod support;

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use hopbench::record::{Run, Verdict};
use nix::sys::signal::Signal;
use nix::unistd::Pid;
use support::{children, hopbench, stderr, stdout, tiny_scenario};

const STACKS: [&str; 9] = [
    "udp",
    "tcp",
    "tls",
    "mtls",
    "udp@clear",
    "udp@wireguard",
    "tcp@clear",
    "tcp@wireguard",
    "tls@wireguard",
];

fn run_tiny(folder: &Path, seed: &str) -> Run {
    let scenario = folder.join("tiny.toml");
    std::fs::write(&scenario, tiny_scenario(&STACKS)).unwrap();
    let out = folder.join("out");
    let output = hopbench()
        .arg("run")
        .arg(&scenario)
        .args(["--seed", seed, "--out"])
        .arg(&out)
        .output()
        .unwrap();
    assert_eq!(
        output.status.code(),
        Some(0),
        "{}{}",
        stdout(&output),
        stderr(&output)
    );
    assert!(
        stdout(&output).contains("udp@wireguard"),
        "the table lists every stack"
    );
    assert!(
        stderr(&output).lines().all(|line| line.starts_with('[')),
        "nothing but steps: {}",
        stderr(&output)
    );
    Run::read(&out.join("run.json")).unwrap()
}

#[test]
fn every_stack_answers_every_question() {
    let folder = tempfile::tempdir().unwrap();
    let run = run_tiny(folder.path(), "7");
    assert_eq!(run.schema, "hopbench.run/1");
    assert!(run.finished_at.is_some());
    assert_eq!(run.seed, 7);
    assert_eq!(run.cells.len(), STACKS.len() * 6);
    // That the machine was too busy for the generator is no fault of what is tested; the cells say so,
    // and only what is compared may lack them then.
    let is_quiet = run.cells.iter().all(|cell| cell.verdict == Verdict::Ok);
    for cell in &run.cells {
        let is_measured = matches!(cell.verdict, Verdict::Ok | Verdict::GeneratorBound);
        assert!(is_measured, "{}: {:?}", cell.id, cell.reason);
        assert_eq!(cell.repetitions, 2, "{}", cell.id);
        for (key, metric) in &cell.metrics {
            if let Some(histogram) = &metric.histogram {
                assert!(histogram.count > 0, "{} {key}", cell.id);
                assert!(!histogram.hdr_v2_base64.is_empty(), "{} {key}", cell.id);
            }
        }
        let value = |key: &str| cell.metrics.get(key).and_then(|metric| metric.value);
        let has = |key: &str| value(key).is_some();
        let (carrier, tunnel) = match cell.stack.split_once('@') {
            Some((carrier, tunnel)) => (carrier, Some(tunnel)),
            None => (cell.stack.as_str(), None),
        };
        let is_stream = carrier != "udp";
        let is_wireguard = tunnel == Some("wireguard");
        let is_protected = is_wireguard || carrier.ends_with("tls");
        assert_eq!(
            cell.parameters.contains_key("mtu_bytes"),
            tunnel.is_some(),
            "{}",
            cell.id
        );
        if cell.experiment != "memory" {
            for side in ["server", "client"] {
                let drops = value(&format!("{side}_tunnel_drops_not_authentic_count"));
                assert_eq!(drops, tunnel.map(|_| 0.0), "{}", cell.id);
            }
        }
        match cell.experiment.as_str() {
            "setup" => {
                assert_eq!(
                    value("transport_connect_ns").is_some(),
                    is_stream,
                    "{}",
                    cell.id
                );
                assert_eq!(
                    value("security_handshake_ns").is_some(),
                    is_protected,
                    "{}",
                    cell.id
                );
                assert_eq!(has("tunnel_handshake_ns"), is_wireguard, "{}", cell.id);
                if is_wireguard && carrier != "tls" {
                    let handshake = value("security_handshake_ns");
                    assert_eq!(value("tunnel_handshake_ns"), handshake, "{}", cell.id);
                }
                assert!(
                    value("hop_ready_to_registered_ns").unwrap() > 0.0,
                    "{}",
                    cell.id
                );
                assert!(value("first_response_ns") <= value("registration_delay_ns"));
            }
            "memory" => {
                assert!(
                    value("server_heap_bytes_per_connection").is_some(),
                    "{}",
                    cell.id
                );
                assert!(
                    value("client_heap_bytes_per_connection").unwrap() > 0.0,
                    "{}",
                    cell.id
                );
                let parts = [
                    ("tls_session", carrier.ends_with("tls")),
                    ("tunnel", is_wireguard),
                    ("inner_stack", tunnel.is_some() && is_stream),
                    ("task", is_stream),
                    ("binding", cell.parameters["stage"] == "registered"),
                ];
                for (part, expected) in parts {
                    let key = format!("server_{part}_heap_bytes_per_connection");
                    let bytes = value(&key).unwrap();
                    // Tables with a few bytes of each connection are not what is meant.
                    assert_eq!(bytes > 200.0, expected, "{}: {key} {bytes}", cell.id);
                }
                if is_stream || is_wireguard {
                    let bytes = value("server_heap_bytes_per_connection").unwrap();
                    assert!((200.0..200_000.0).contains(&bytes), "{}: {bytes}", cell.id);
                }
            }
            "throughput" => {
                assert!(value("achieved_per_second").unwrap() > 0.0, "{}", cell.id);
                assert!(
                    value("server_cpu_ns_per_operation").unwrap() > 0.0,
                    "{}",
                    cell.id
                );
                assert!(
                    value("client_cpu_ns_per_operation").unwrap() > 0.0,
                    "{}",
                    cell.id
                );
                assert_eq!(value("failed_count"), Some(0.0), "{}", cell.id);
                // Handshakes are in no price of a packet, nor what TLS protects beside the tunnel.
                let is_kept = cell.workload == "invite" && cell.lifecycle == "per-registration";
                let is_bare_priced = has("bare_protection_cpu_ns_per_packet");
                assert_eq!(is_bare_priced, is_wireguard && is_kept, "{}", cell.id);
                let is_priced = is_bare_priced && carrier != "tls";
                let has_price = has("protection_cost_ratio");
                assert!(has_price == is_priced || !is_quiet, "{}", cell.id);
            }
            other => panic!("unexpected experiment {other}"),
        }
    }
    let by_control: BTreeMap<(&str, &str), usize> =
        run.ratios.iter().fold(BTreeMap::new(), |mut count, ratio| {
            let stack = |id: &'_ str| {
                STACKS
                    .iter()
                    .find(|s| id.split('/').nth(2) == Some(**s))
                    .copied()
                    .unwrap()
            };
            *count
                .entry((stack(&ratio.cell_id), stack(&ratio.control_cell_id)))
                .or_default() += 1;
            count
        });
    let expected = [
        ("udp", "tcp"),
        ("tls", "tcp"),
        ("mtls", "tcp"),
        ("udp@clear", "udp"),
        ("udp@wireguard", "udp@clear"),
        ("udp@wireguard", "udp"),
        ("tcp@clear", "tcp"),
        ("tcp@wireguard", "tcp@clear"),
        ("tcp@wireguard", "tcp"),
        ("tls@wireguard", "tcp@clear"),
        ("tls@wireguard", "tls"),
    ];
    for pair in expected {
        assert!(
            by_control
                .get(&pair)
                .is_some_and(|count| *count > 10 || !is_quiet),
            "{pair:?}: {by_control:?}"
        );
    }
    assert!(
        run.ratios
            .iter()
            .all(|ratio| ratio.ci95_low.is_some() && ratio.ci95_high.is_some())
    );
    for file in ["report.md", "run.json"] {
        assert!(folder.path().join("out").join(file).exists(), "{file}");
    }
}

const TOPOLOGIES: &str = r#"
name = "topologies"
summary = "for the tests"
stacks = ["tcp", "tls", "udp@wireguard"]

[[throughput]]
workload = "invite"
lifecycle = "per-registration"
topology = "edge"
rates_per_second = [20.0]
users = 4
warm_up_seconds = 0.05
duration_seconds = 0.3
blocks = 1

[[throughput]]
workload = "invite"
lifecycle = "per-registration"
topology = "trapezoid"
rates_per_second = [20.0]
users = 4
warm_up_seconds = 0.05
duration_seconds = 0.3
blocks = 1

[[throughput]]
workload = "register"
lifecycle = "per-registration"
rates_per_second = [20.0]
users = 2
warm_up_seconds = 0.5
duration_seconds = 0.3
blocks = 1
variants = [
    {},
    { resumption = "ticket" },
    { tls_version = "1.2", key_type = "RSA-2048" },
    { batching = "on" },
]

[chain]
proxies = [0, 1, 2]
rate_per_second = 20.0
users = 4
warm_up_seconds = 0.05
duration_seconds = 0.3
blocks = 1
"#;

#[test]
fn every_topology_tells_of_each_node_and_each_hop() {
    let folder = tempfile::tempdir().unwrap();
    let scenario = folder.path().join("topologies.toml");
    std::fs::write(&scenario, TOPOLOGIES).unwrap();
    let out = folder.path().join("out");
    let mut command = hopbench();
    command.arg("run").arg(&scenario).arg("--out").arg(&out);
    let output = command.output().unwrap();
    let said = format!("{}{}", stdout(&output), stderr(&output));
    assert_eq!(output.status.code(), Some(0), "{said}");
    let run = Run::read(&out.join("run.json")).unwrap();
    // Topology, nodes, hops; a fit has neither. A busy machine bounds the generator: the figures are
    // there all the same.
    let places = [
        ("direct", 1, 1),
        ("edge", 1, 1),
        ("trapezoid", 2, 3),
        ("chain-1", 2, 2),
        ("chain-2", 3, 3),
        ("chain", 0, 0),
    ];
    let mut seen = std::collections::BTreeSet::new();
    for cell in &run.cells {
        let is_measured = matches!(cell.verdict, Verdict::Ok | Verdict::GeneratorBound);
        assert!(is_measured, "{}: {:?}", cell.id, cell.reason);
        let value = |key: &str| cell.metrics.get(key).and_then(|metric| metric.value);
        let (_, nodes, hops) = places.iter().find(|row| row.0 == cell.topology).unwrap();
        seen.insert(cell.topology.as_str());
        let count = |prefix: &str, end: &str| {
            let keys = cell.metrics.keys();
            keys.filter(|key| key.starts_with(prefix) && key.ends_with(end))
                .count()
        };
        let is_several = *nodes > 1;
        let expected = if is_several { (*nodes, *hops) } else { (0, 0) };
        let found = (
            count("node_", "_cpu_ns_per_operation"),
            count("hop_", "_wire_bytes_per_operation"),
        );
        assert_eq!(found, expected, "{}", cell.id);
        if *nodes == 0 {
            assert!(value("server_cpu_per_hop_ns").is_some(), "{}", cell.id);
            continue;
        }
        assert_eq!(value("failed_count"), Some(0.0), "{}", cell.id);
        let bytes = value("wire_bytes_per_operation").unwrap();
        // SIP, its headers of IP, and no more than twice that where nothing but calls is sent.
        assert!((1_500.0..60_000.0).contains(&bytes), "{}: {bytes}", cell.id);
        assert!(value("wire_overhead_ratio").unwrap() > 1.0, "{}", cell.id);
        if is_several {
            let sum: f64 = (1..=*hops)
                .map(|hop| value(&format!("hop_{hop}_wire_bytes_per_operation")).unwrap())
                .sum();
            assert!(
                (sum - bytes).abs() < 1e-6 * bytes,
                "{}: {sum}, {bytes}",
                cell.id
            );
        }
        // Retransmissions aside, a call is seven datagrams on each leg; TCP may save or add some.
        if cell.workload == "invite" && cell.stack == "udp@wireguard" {
            let legs = if cell.topology == "edge" { 2 } else { *hops };
            let packets = value("wire_packets_per_operation").unwrap();
            let retransmissions = value("retransmissions_count").unwrap();
            assert!(packets >= 7.0 * legs as f64, "{}: {packets}", cell.id);
            if retransmissions == 0.0 {
                assert!(packets < 7.0 * legs as f64 + 2.0, "{}: {packets}", cell.id);
            }
        }
        if cell.id.contains("resumption=ticket") {
            assert!(
                value("resumed_handshakes_count").unwrap() > 0.0,
                "{}",
                cell.id
            );
        }
    }
    assert_eq!(seen.len(), places.len());
    let variants = |end: &str| {
        run.cells
            .iter()
            .filter(|cell| cell.id.contains(end))
            .count()
    };
    // A variant of TLS concerns the one stack over TLS.
    assert_eq!(variants("?resumption=ticket"), 1);
    assert_eq!(variants("?key_type=RSA-2048&tls_version=1.2"), 1);
    // Batching concerns the one stack over datagrams.
    assert_eq!(
        variants("udp@wireguard/direct/per-registration/loopback?batching=on"),
        1
    );
    assert_eq!(variants("batching=on"), 1);
    let report = std::fs::read_to_string(out.join("report.md")).unwrap();
    assert!(report.contains("by node and by hop"), "{report}");
    assert!(out.join("charts/chain.svg").exists());
}

#[test]
fn a_core_stack_of_its_own_stands_in_the_name_and_has_its_control() {
    let folder = tempfile::tempdir().unwrap();
    let scenario = folder.path().join("core.toml");
    let sections: Vec<&str> = TOPOLOGIES.split("\n\n").collect();
    std::fs::write(&scenario, [sections[0], sections[2]].join("\n\n")).unwrap();
    let out = folder.path().join("out");
    let mut command = hopbench();
    command.arg("run").arg(&scenario).arg("--out").arg(&out);
    command.args(["--stacks", "tcp,tls", "--core-stack", "udp@wireguard"]);
    let output = command.output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let run = Run::read(&out.join("run.json")).unwrap();
    let mut ids: Vec<&str> = run.cells.iter().map(|cell| cell.id.as_str()).collect();
    ids.sort_unstable();
    let id = |stack: &str| {
        format!(
            "throughput/invite/{stack}/trapezoid/per-registration/loopback?core_stack=udp@wireguard"
        )
    };
    assert_eq!(ids, [id("tcp"), id("tls")]);
    let parameters = &run.cells[0].parameters;
    assert_eq!(parameters["node_processes"], 2);
    assert_eq!(parameters["core_security_protocol"], "WireGuard");
    if run.cells.iter().all(|cell| cell.verdict == Verdict::Ok) {
        assert!(
            run.ratios
                .iter()
                .all(|ratio| ratio.control_cell_id == id("tcp"))
        );
        assert!(!run.ratios.is_empty());
    }
}

#[test]
fn the_same_seed_gives_the_same_arrivals() {
    let folder = tempfile::tempdir().unwrap();
    let scenario = folder.path().join("arrivals.toml");
    // Two stacks and two blocks: the same arrivals for either stack, others in each block.
    let text = r#"
name = "arrivals"
summary = "for the tests"
stacks = ["udp", "tcp"]

[[throughput]]
workload = "register"
lifecycle = "per-registration"
rates_per_second = [500.0]
users = 400
warm_up_seconds = 0.05
duration_seconds = 0.2
blocks = 2
"#;
    std::fs::write(&scenario, text).unwrap();
    let offered = |seed: &str, out: &str| -> Vec<Vec<f64>> {
        let out = folder.path().join(out);
        let mut command = hopbench();
        command.arg("run").arg(&scenario).arg("--quiet");
        command.args(["--seed", seed, "--out"]).arg(&out);
        let output = command.output().unwrap();
        // A machine that is too busy fails cells; what was offered to them is the same.
        assert!(
            matches!(output.status.code(), Some(0 | 3)),
            "{}",
            stderr(&output)
        );
        let run = Run::read(&out.join("run.json")).unwrap();
        let mut cells = run.cells;
        cells.sort_by(|a, b| a.id.cmp(&b.id));
        cells
            .iter()
            .map(|cell| {
                let offered = &cell.metrics["offered_per_second"];
                let figures = [offered.value, offered.ci95_low, offered.ci95_high];
                figures.map(Option::unwrap).to_vec()
            })
            .collect()
    };
    let one = offered("7", "one");
    assert_eq!(one.len(), 2);
    assert_eq!(one[0], one[1], "either stack gets the same arrivals");
    assert!(one[0][1] < one[0][2], "each block has its own: {one:?}");
    assert_eq!(one, offered("7", "same"));
    assert_ne!(one, offered("8", "other"));
}

/// Waits until `condition` holds; the deadline only guards against a hang.
fn eventually<T>(mut condition: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        if let Some(found) = condition() {
            return found;
        }
        assert!(Instant::now() < deadline, "it never happened");
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn send_signal(process: u32, signal: Signal) {
    let process = Pid::from_raw(i32::try_from(process).unwrap());
    nix::sys::signal::kill(process, signal).unwrap();
}

fn long_scenario(folder: &Path) -> std::path::PathBuf {
    let scenario = folder.join("long.toml");
    let text = r#"
name = "long"
summary = "for the tests"
stacks = ["tcp", "udp"]

[[throughput]]
workload = "invite"
lifecycle = "per-registration"
rates_per_second = [50.0]
users = 5
warm_up_seconds = 0.1
duration_seconds = 1.5
blocks = 2
"#;
    std::fs::write(&scenario, text).unwrap();
    scenario
}

fn start_long(folder: &Path) -> support::Guard {
    let child = hopbench()
        .arg("run")
        .arg(long_scenario(folder))
        .arg("--out")
        .arg(folder.join("out"))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    support::Guard(child)
}

#[test]
fn a_node_that_dies_in_the_middle_fails_its_cell_and_no_other() {
    let folder = tempfile::tempdir().unwrap();
    let mut child = start_long(folder.path());
    let node = eventually(|| {
        let children = children(child.0.id());
        let has_load = children
            .iter()
            .any(|(_, command)| command.contains(" load "));
        let node = children
            .into_iter()
            .find(|(_, command)| command.contains(" node "));
        node.filter(|_| has_load)
    });
    send_signal(node.0, Signal::SIGKILL);
    assert_eq!(child.0.wait().unwrap().code(), Some(3));
    let run = Run::read(&folder.path().join("out/run.json")).unwrap();
    assert_eq!(run.cells.len(), 2);
    let (failed, ok): (Vec<_>, Vec<_>) = run
        .cells
        .iter()
        .partition(|cell| cell.verdict == Verdict::Failed);
    assert_eq!((failed.len(), ok.len()), (1, 1), "{run:?}");
    let reason = failed[0].reason.as_deref().unwrap();
    assert!(
        reason.contains("node") || reason.contains("hop"),
        "{reason}"
    );
    // A machine that is busy with something else may have made the generator late.
    let is_measured = matches!(ok[0].verdict, Verdict::Ok | Verdict::GeneratorBound);
    assert!(is_measured, "{:?}", ok[0].reason);
    assert!(ok[0].metrics.values().any(|metric| metric.value.is_some()));
    assert!(run.finished_at.is_some());
}

#[test]
fn an_interrupt_leaves_a_valid_run_and_no_child() {
    let folder = tempfile::tempdir().unwrap();
    let mut child = start_long(folder.path());
    let file = folder.path().join("out/run.json");
    // The first block is over when its cells are in the file.
    eventually(|| Run::read(&file).ok().filter(|run| run.cells.len() == 2));
    let offspring = eventually(|| Some(children(child.0.id())).filter(|found| !found.is_empty()));
    send_signal(child.0.id(), Signal::SIGINT);
    assert_eq!(child.0.wait().unwrap().code(), Some(130));
    let run = Run::read(&file).unwrap();
    assert_eq!(run.finished_at, None);
    assert_eq!(run.cells.len(), 2, "what was measured is kept");
    assert!(run.cells.iter().all(|cell| cell.repetitions >= 1));
    for (pid, command) in offspring {
        assert!(
            !Path::new(&format!("/proc/{pid}")).exists(),
            "{command} lives on"
        );
    }
}
