//! A run made by rule, for the renderers' tests: all stacks, one failed cell, one that was bound by
//! the generator. Its figures are plausible and mean nothing.

mod narrow;
mod rates;

use std::collections::BTreeMap;
use std::sync::LazyLock;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hdrhistogram::serialization::{Serializer, V2DeflateSerializer};
use hopbench::record::{
    Build, Cell, Direction, Environment, Histogram, Metric, Ratio, Run, SCHEMA, Unit, Verdict,
};

/// By stack: tunnel handshake, connect, security handshake, first response, registered in µs; heap at
/// `handshaken` and at `registered` in bytes; CPU per registration in µs. Zero is a phase that the
/// stack lacks.
const STACKS: [(&str, [u32; 8]); 9] = [
    ("udp", [0, 0, 0, 95, 180, 210, 1_900, 38]),
    ("tcp", [0, 46, 0, 105, 262, 3_100, 5_200, 52]),
    ("tls", [0, 47, 790, 128, 1_120, 13_900, 16_200, 260]),
    ("mtls", [0, 48, 1_260, 130, 1_610, 15_800, 18_300, 395]),
    ("udp@clear", [0, 0, 0, 118, 236, 260, 2_010, 49]),
    (
        "udp@wireguard",
        [415, 0, 415, 140, 690, 12_600, 14_500, 208],
    ),
    ("tcp@clear", [0, 92, 0, 131, 391, 20_400, 22_600, 81]),
    (
        "tcp@wireguard",
        [418, 101, 418, 158, 842, 32_900, 35_100, 239],
    ),
    (
        "tls@wireguard",
        [421, 104, 860, 189, 1_730, 43_700, 46_200, 451],
    ),
];

const CONTROLS: [(&str, &str); 10] = [
    ("tcp@clear", "tcp"),
    ("tcp@wireguard", "tcp@clear"),
    ("tcp@wireguard", "tcp"),
    ("tls@wireguard", "tcp@clear"),
    ("tls@wireguard", "tls"),
    ("tls", "tcp"),
    ("mtls", "tcp"),
    ("udp@clear", "udp"),
    ("udp@wireguard", "udp@clear"),
    ("udp@wireguard", "udp"),
];

/// The same value on every call.
pub(crate) fn run() -> Run {
    static RUN: LazyLock<Run> = LazyLock::new(built);
    RUN.clone()
}

fn built() -> Run {
    let mut cells = Vec::new();
    for (index, (stack, figures)) in STACKS.into_iter().enumerate() {
        cells.push(setup(stack, figures));
        cells.push(memory(stack, "handshaken", figures[5]));
        cells.push(memory(stack, "registered", figures[6]));
        cells.push(throughput(
            stack,
            "register",
            "per-registration",
            figures[7],
            index,
        ));
        cells.push(throughput(
            stack,
            "invite",
            "per-call",
            figures[7] * 3 / 2,
            index,
        ));
    }
    let mut resumed = throughput("tls", "register", "per-registration", 140, 2);
    resumed.id.push_str("&resumption=ticket");
    cells.push(resumed);
    let mut batched = throughput("udp@wireguard", "register", "per-registration", 166, 5);
    batched.id.push_str("&batching=on");
    cells.push(batched);
    for (stack, figures) in STACKS {
        cells.push(avalanche(stack, figures[7]));
        cells.push(mixed(stack, figures[7]));
    }
    for (stack, figures) in STACKS {
        cells.extend([0, 2, 4].map(|proxies| chain(stack, proxies, figures[7])));
        cells.push(fit(stack, figures[7]));
    }
    for (stack, figures) in STACKS {
        cells.extend([1_000, 100_000].map(|users| crowd(stack, users, figures)));
        cells.push(growth(stack));
    }
    for (stack, figures) in STACKS {
        cells.extend(rates::cells(stack, figures[7]));
        cells.extend(narrow::cells(stack, figures[7]));
    }
    spoil(
        &mut cells,
        "scale/idle/mtls",
        Verdict::Failed,
        "999 of 1000 users were registered at the end of the hold",
    );
    spoil(
        &mut cells,
        "scale/idle/tls@wireguard",
        Verdict::GeneratorBound,
        "scheduling lag p99 was 12 ms",
    );
    spoil(
        &mut cells,
        "setup/register/mtls",
        Verdict::Failed,
        "1 of 40 handshakes succeeded: certificate has expired, \"client-7\"",
    );
    spoil(
        &mut cells,
        "throughput/invite/tls",
        Verdict::GeneratorBound,
        "scheduling lag p99 was 41 ms at 90 % of one generator core",
    );
    let ratios = ratios(&cells);
    Run {
        schema: SCHEMA.to_owned(),
        run_id: "20261123T120000Z-fixture".to_owned(),
        started_at: "2026-11-23T12:00:00Z".to_owned(),
        finished_at: Some("2026-11-23T12:01:04Z".to_owned()),
        profile: "quick".to_owned(),
        seed: 7,
        scenario_sha256: "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"
            .to_owned(),
        interleaving: None,
        build: Build {
            version: "0.1.0".to_owned(),
            git_commit: Some("0123456789abcdef0123456789abcdef01234567".to_owned()),
            git_dirty: Some(false),
            rustc: "rustc 1.90.0".to_owned(),
            libraries: [
                ("boringtun", "0.7.1"),
                ("ring", "0.17.14"),
                ("rustls", "0.23.35"),
            ]
            .map(|(name, version)| (name.to_owned(), version.to_owned()))
            .into(),
        },
        environment: Environment {
            os: "linux".to_owned(),
            kernel: Some("6.1.0".to_owned()),
            cpu_model: Some("Example CPU | 2.80 GHz".to_owned()),
            cpu_count: 2,
            memory_bytes: Some(8 << 30),
            hypervisor: None,
            tcp_congestion_control: Some("cubic".to_owned()),
            file_descriptor_limit: Some(20_000),
            load_average_at_start: Some(0.25),
        },
        cells,
        ratios,
    }
}

fn cell(experiment: &str, workload: &str, stack: &str, lifecycle: &str, parameter: &str) -> Cell {
    let (key, value) = parameter.split_once('=').unwrap_or(("blocks", "5"));
    let query = if parameter.is_empty() {
        String::new()
    } else {
        format!("?{parameter}")
    };
    Cell {
        id: format!("{experiment}/{workload}/{stack}/direct/{lifecycle}/loopback{query}"),
        experiment: experiment.to_owned(),
        workload: workload.to_owned(),
        stack: stack.to_owned(),
        topology: "direct".to_owned(),
        lifecycle: lifecycle.to_owned(),
        path: "loopback".to_owned(),
        parameters: [(key.to_owned(), value.into())].into(),
        verdict: Verdict::Ok,
        reason: None,
        repetitions: 5,
        metrics: BTreeMap::new(),
        steps: Vec::new(),
    }
}

fn setup(stack: &str, figures: [u32; 8]) -> Cell {
    let mut cell = cell("setup", "register", stack, "per-registration", "");
    let [tunnel, connect, handshake, response, registered, ..] = figures;
    let is_within = tunnel > 0 && connect > 0 && handshake != tunnel;
    let phases = [
        ("tunnel_handshake_ns", tunnel),
        ("transport_connect_ns", connect),
        ("security_handshake_ns", handshake),
        (
            "setup_latency_ns",
            connect + handshake + if is_within { tunnel } else { 0 },
        ),
        ("first_response_ns", response),
        ("registration_delay_ns", response + 80),
        ("hop_ready_to_registered_ns", registered),
    ];
    for (key, micros) in phases {
        let median = (micros > 0).then(|| f64::from(micros) * 1e3);
        cell.metrics.insert(
            key.to_owned(),
            distributed(median, Unit::Ns, Direction::Lower),
        );
    }
    cell
}

fn memory(stack: &str, stage: &str, bytes: u32) -> Cell {
    let mut cell = cell(
        "memory",
        "register",
        stack,
        "per-registration",
        &format!("stage={stage}"),
    );
    let figures = [
        ("server_heap_bytes_per_connection", 1.0),
        ("client_heap_bytes_per_connection", 1.08),
        ("server_rss_bytes_per_connection", 1.3),
        ("client_rss_bytes_per_connection", 1.42),
    ];
    for (key, factor) in figures {
        let value = f64::from(bytes) * factor;
        cell.metrics.insert(
            key.to_owned(),
            figure(Some(value), Unit::Bytes, Direction::Lower),
        );
    }
    cell
}

fn throughput(stack: &str, workload: &str, lifecycle: &str, micros: u32, index: usize) -> Cell {
    let mut cell = cell("throughput", workload, stack, lifecycle, "rate=250");
    let cpu = f64::from(micros) * 1e3;
    let rate = 249.6 - index as f64 / 10.0;
    let mut put = |key: &str, metric| cell.metrics.insert(key.to_owned(), metric);
    put(
        "offered_per_second",
        figure(Some(250.0), Unit::PerSecond, Direction::Higher),
    );
    put(
        "achieved_per_second",
        figure(Some(rate), Unit::PerSecond, Direction::Higher),
    );
    put(
        "throughput_per_second",
        distributed(Some(rate), Unit::PerSecond, Direction::Higher),
    );
    put(
        "server_cpu_ns_per_operation",
        figure(Some(cpu), Unit::Ns, Direction::Lower),
    );
    put(
        "client_cpu_ns_per_operation",
        figure(Some(cpu * 1.2), Unit::Ns, Direction::Lower),
    );
    put(
        "wire_bytes_per_operation",
        figure(Some(2_700.0 + cpu / 100.0), Unit::Bytes, Direction::Lower),
    );
    put(
        "wire_packets_per_operation",
        figure(Some(7.0), Unit::Count, Direction::Lower),
    );
    let latency = match workload {
        "invite" | "mixed" => "session_request_delay_ns",
        _ => "hop_ready_to_registered_ns",
    };
    put(
        latency,
        distributed(Some(cpu * 4.0 + 90e3), Unit::Ns, Direction::Lower),
    );
    cell
}

fn avalanche(stack: &str, micros: u32) -> Cell {
    let mut cell = cell("throughput", "avalanche", stack, "per-registration", "");
    let cpu = f64::from(micros) * 1e3;
    let figures = [
        ("avalanche_recovery_ns", 496e6 + cpu, Unit::Ns),
        ("refused_count", 0.0, Unit::Count),
        ("retried_count", 0.0, Unit::Count),
        ("server_cpu_ns_per_operation", cpu, Unit::Ns),
        ("client_cpu_ns_per_operation", cpu * 1.2, Unit::Ns),
    ];
    for (key, value, unit) in figures {
        let metric = figure(Some(value), unit, Direction::Lower);
        cell.metrics.insert(key.to_owned(), metric);
    }
    let outage = distributed(Some(374e6 + cpu), Unit::Ns, Direction::Lower);
    cell.metrics.insert("outage_ns".to_owned(), outage);
    cell
}

fn mixed(stack: &str, micros: u32) -> Cell {
    let mut cell = throughput(stack, "mixed", "per-registration", micros, 0);
    let kinds = [
        ("call", 120.0),
        ("cancelled_call", 24.0),
        ("register", 16.0),
        ("reregister", 80.0),
        ("unknown_callee", 10.0),
    ];
    for (kind, count) in kinds {
        for (what, count) in [("offered", count), ("failed", 0.0)] {
            let metric = figure(Some(count), Unit::Count, Direction::Higher);
            cell.metrics.insert(format!("{kind}_{what}_count"), metric);
        }
    }
    cell
}

/// A call through `proxies`, with figures of each node and hop.
fn chain(stack: &str, proxies: u32, micros: u32) -> Cell {
    let mut cell = cell("chain", "invite", stack, "per-registration", "");
    if proxies > 0 {
        cell.topology = format!("chain-{proxies}");
        cell.id = cell.id.replace("/direct/", &format!("/{}/", cell.topology));
    }
    let delay = f64::from(proxies + 1) * f64::from(micros) * 2e3 + 90e3;
    cell.metrics.insert(
        "session_request_delay_ns".to_owned(),
        distributed(Some(delay), Unit::Ns, Direction::Lower),
    );
    if proxies > 0 {
        for place in 1..=proxies + 1 {
            let scale = f64::from(place);
            let figures = [
                (format!("node_{place}_cpu_ns_per_operation"), 52e3, Unit::Ns),
                (format!("node_{place}_rss_bytes"), 4.5e6, Unit::Bytes),
                (
                    format!("hop_{place}_wire_bytes_per_operation"),
                    3_600.0,
                    Unit::Bytes,
                ),
                (
                    format!("hop_{place}_wire_packets_per_operation"),
                    7.0,
                    Unit::Count,
                ),
            ];
            for (key, value, unit) in figures {
                let value = Some(value * (1.0 + scale / 10.0));
                cell.metrics
                    .insert(key, figure(value, unit, Direction::Lower));
            }
        }
    }
    cell
}

fn fit(stack: &str, micros: u32) -> Cell {
    let mut cell = cell("chain", "invite", stack, "per-registration", "");
    cell.topology = "chain".to_owned();
    cell.id = cell.id.replace("/direct/", "/chain/");
    let cpu = f64::from(micros) * 1e3;
    let figures = [
        ("session_request_delay_fixed_ns", cpu * 2.0 + 90e3, Unit::Ns),
        ("session_request_delay_per_hop_ns", cpu * 2.0, Unit::Ns),
        ("session_request_delay_r_squared_ratio", 0.998, Unit::Ratio),
        ("server_cpu_fixed_ns", cpu, Unit::Ns),
        ("server_cpu_per_hop_ns", cpu * 0.8, Unit::Ns),
        ("server_cpu_r_squared_ratio", 0.987, Unit::Ratio),
    ];
    for (key, value, unit) in figures {
        let metric = figure(Some(value), unit, Direction::Lower);
        cell.metrics.insert(key.to_owned(), metric);
    }
    cell
}

/// Beside `users` who are idle a call costs 2 % more than beside a tenth of them.
fn crowd(stack: &str, users: u32, figures: [u32; 8]) -> Cell {
    let mut cell = cell("scale", "idle", stack, "per-registration", "");
    cell.topology = "edge".to_owned();
    cell.id = cell.id.replace("/direct/", "/edge/");
    cell.id.push_str(&format!("?users={users}"));
    cell.parameters.insert("users".to_owned(), users.into());
    let [.., bytes, micros] = figures.map(f64::from);
    let all = f64::from(users);
    let cost = micros * 1e3 * (1.0 + 0.02 * (all / 1e3).log10());
    let figures = [
        ("registered_count", all),
        ("population_ns", all * 1e6),
        ("population_per_second", 1e3),
        ("population_server_cpu_ns_per_registration", cost * 0.9),
        ("population_client_cpu_ns_per_registration", cost * 1.7),
        ("idle_server_cpu_ratio", all * 2e-7),
        ("idle_client_cpu_ratio", all * 3e-7),
        ("lost_hops_count", 0.0),
        ("failed_count", 0.0),
        ("server_heap_bytes_per_connection", bytes),
        ("server_rss_bytes_per_connection", bytes * 1.1),
        ("client_heap_bytes_per_connection", bytes * 0.9),
        ("client_rss_bytes_per_connection", bytes * 1.05),
        ("kernel_bytes_per_connection", 7_800.0),
        ("peak_memory_bytes", all * (bytes * 2.5 + 7_800.0)),
        ("server_cpu_ns_per_call", cost * 1.5),
        ("server_cpu_ns_per_registration", cost),
        ("call_offered_count", 1e3),
        ("call_failed_count", 0.0),
    ];
    for (key, value) in figures {
        let metric = Metric::of(key, Some(value));
        cell.metrics.insert(key.to_owned(), metric);
    }
    let latencies = [
        ("session_request_delay_ns", cost * 4.0 + 90e3),
        ("setup_latency_ns", cost * 3.0 + 60e3),
        ("hop_ready_to_registered_ns", cost * 5.0 + 80e3),
    ];
    for (key, median) in latencies {
        let metric = distributed(Some(median), Unit::Ns, Direction::Lower);
        cell.metrics.insert(key.to_owned(), metric);
    }
    cell
}

/// What [`crowd`] says of growth.
fn growth(stack: &str) -> Cell {
    let mut cell = cell("scale", "idle", stack, "per-registration", "");
    cell.topology = "edge".to_owned();
    cell.id = cell.id.replace("/direct/", "/edge/");
    cell.id.push_str("?users=growth");
    for figure in [
        "server_cpu_per_call",
        "session_request_delay",
        "server_cpu_per_registration",
        "registered",
    ] {
        for (ending, value) in [
            ("growth_per_decade_ratio", 0.02),
            ("most_to_fewest_ratio", 1.04),
        ] {
            let key = format!("{figure}_{ending}");
            let metric = Metric::of(&key, Some(value));
            cell.metrics.insert(key, metric);
        }
    }
    cell
}

fn figure(value: Option<f64>, unit: Unit, direction: Direction) -> Metric {
    let (low, high) = (value.map(|v| v * 0.97), value.map(|v| v * 1.04));
    Metric {
        value,
        ci95_low: low,
        ci95_high: high,
        unit,
        direction,
        histogram: None,
        fit: None,
        series: None,
        blocks: Vec::new(),
    }
    .with_blocks(
        (0..).zip(
            value
                .iter()
                .flat_map(|v| [0.97, 1.0, 1.04, 0.99, 1.01].map(|f| f * v)),
        ),
    )
}

/// With 2,000 samples around the median, and a long tail for latencies.
fn distributed(median: Option<f64>, unit: Unit, direction: Direction) -> Metric {
    let mut metric = figure(median, unit, direction);
    metric.histogram = median.map(|median| {
        let tail = if unit == Unit::PerSecond { 0.0 } else { 0.4 };
        let mut samples = hdrhistogram::Histogram::<u64>::new(3).expect("3 digits are allowed");
        for step in 0..2000 {
            let quantile = (f64::from(step) + 0.5) / 2000.0;
            let value = median
                * (1.0 + 0.3 * (quantile - 0.5)
                    - tail * (1.0 - quantile).log2() / 8.0
                    - tail / 8.0);
            samples
                .record(value as u64)
                .expect("the histogram resizes itself");
        }
        stored(&samples)
    });
    metric
}

fn stored(samples: &hdrhistogram::Histogram<u64>) -> Histogram {
    let mut bytes = Vec::new();
    V2DeflateSerializer::new()
        .serialize(samples, &mut bytes)
        .expect("a vector takes all");
    Histogram {
        count: samples.len(),
        min: samples.min(),
        mean: samples.mean(),
        stddev: samples.stdev(),
        p50: samples.value_at_quantile(0.5),
        p90: samples.value_at_quantile(0.9),
        p99: samples.value_at_quantile(0.99),
        p999: samples.value_at_quantile(0.999),
        max: samples.max(),
        hdr_v2_base64: STANDARD.encode(bytes),
    }
}

/// What judges a cell: a failed one keeps no metrics.
fn spoil(cells: &mut [Cell], prefix: &str, verdict: Verdict, reason: &str) {
    let spoiled = cells
        .iter_mut()
        .find(|cell| cell.id.starts_with(&format!("{prefix}/")));
    let cell = spoiled.expect("the fixture has the cell");
    cell.verdict = verdict;
    cell.reason = Some(reason.to_owned());
    if verdict == Verdict::Failed {
        cell.metrics.clear();
    }
}

/// Against controls, and of another way to run a stack against its usual one.
fn ratios(cells: &[Cell]) -> Vec<Ratio> {
    let is_sound = |cell: &&Cell| cell.verdict == Verdict::Ok;
    let mut ratios = Vec::new();
    for cell in cells.iter().filter(is_sound) {
        let controls = CONTROLS.iter().filter(|(stack, _)| *stack == cell.stack);
        let mut control_ids: Vec<String> = controls
            .map(|(stack, control)| {
                let id = cell
                    .id
                    .replace(&format!("/{stack}/"), &format!("/{control}/"));
                VARIANTS
                    .iter()
                    .fold(id, |id, variant| id.replace(variant, ""))
            })
            .collect();
        for variant in VARIANTS {
            control_ids.extend(cell.id.strip_suffix(variant).map(str::to_owned));
        }
        for control_id in control_ids {
            let controls = cells.iter().filter(is_sound);
            for control in controls.filter(|other| other.id == control_id) {
                ratios.extend(KEYS.iter().filter_map(|key| ratio(key, cell, control)));
            }
        }
    }
    ratios
}

const VARIANTS: [&str; 2] = ["&resumption=ticket", "&batching=on"];

const KEYS: [&str; 11] = [
    "server_cpu_ns_per_call",
    "server_cpu_per_hop_ns",
    "hop_ready_to_registered_ns",
    "server_heap_bytes_per_connection",
    "server_cpu_ns_per_operation",
    "client_cpu_ns_per_operation",
    "session_establishment_rate",
    "registration_rate",
    "reregistration_rate",
    "knee_per_second",
    "fitting_per_second",
];

fn ratio(key: &str, cell: &Cell, control: &Cell) -> Option<Ratio> {
    let value = |cell: &Cell| cell.metrics.get(key).and_then(|metric| metric.value);
    let ratio = value(cell)? / value(control)?;
    // Each search is made once, so nothing is known of how its figure varies.
    let is_once = ["search", "knee"].contains(&cell.experiment.as_str());
    Some(Ratio {
        precision: None,
        metric: key.to_owned(),
        cell_id: cell.id.clone(),
        control_cell_id: control.id.clone(),
        ratio,
        ci95_low: (!is_once).then_some(ratio * 0.94),
        ci95_high: (!is_once).then_some(ratio * 1.07),
        blocks: if is_once { 1 } else { 5 },
    })
}
