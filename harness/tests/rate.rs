//! The experiment `rate` end to end: what fits through a narrow hop, against what no hop can do.

#![allow(clippy::unwrap_used)]

mod support;

use std::path::Path;
use std::process::{Command, Output};

use hopbench::record::{Cell, Run, Verdict};

const SCENARIO: &str = r#"
name = "narrow"
summary = "two stacks over one hop"
stacks = ["udp", "tcp"]

[rate]
workloads = ["register"]
rates_bits_per_second = [512000]
queue_seconds = 0.25
users = 1
light_operations = 2
shares = [0.9, 0.6, 0.3]
overload = 1.5
operations = 10
duration_seconds_min = 1.0
drain_seconds = 1.0
blocks = 1
arrivals = "constant"
"#;
const RATE: f64 = 512_000.0;
/// Of a second of measuring, what has waited in the queue before it may end in it as well.
const ACHIEVED_RATIO_MAX: f64 = 1.4;

fn run(folder: &Path, path: &[&str]) -> Output {
    let scenario = folder.join("scenario.toml");
    std::fs::write(&scenario, SCENARIO).unwrap();
    Command::new(env!("CARGO_BIN_EXE_hopbench"))
        .args(["run", "--experiments", "rate", "--out"])
        .arg(folder.join("run"))
        .args(path)
        .arg(scenario)
        .output()
        .unwrap()
}

fn value(cell: &Cell, key: &str) -> f64 {
    let metric = cell.metrics.get(key).and_then(|metric| metric.value);
    metric.unwrap_or_else(|| panic!("{} has no {key}", cell.id))
}

#[test]
fn no_more_fits_than_the_bytes_of_an_operation_let_through() {
    let folder = tempfile::tempdir().unwrap();
    let output = run(folder.path(), &["--path", "lab"]);
    let run = Run::read(&folder.path().join("run/run.json"))
        .unwrap_or_else(|_| panic!("{}", support::stderr(&output)));
    assert_eq!(run.cells.len(), 2);
    for cell in &run.cells {
        match cell.verdict {
            Verdict::Ok | Verdict::GeneratorBound => {}
            Verdict::Unsupported => {
                let is_required = std::env::var("HOPBENCH_REQUIRE_PEERS").as_deref() == Ok("1");
                let is_root = nix::unistd::geteuid().is_root();
                assert!(!is_required || !is_root, "{:?}", cell.reason);
                eprintln!("skipped: {:?}", cell.reason);
                return;
            }
            Verdict::Failed => panic!("{}: {:?}", cell.id, cell.reason),
        }
        let onward = value(cell, "onward_wire_bytes_per_operation");
        let back = value(cell, "back_wire_bytes_per_operation");
        // Two requests and two responses.
        assert!(onward > 500.0 && back > 500.0, "{onward} {back}");
        let predicted = value(cell, "predicted_per_second");
        let by_bytes = RATE / 8.0 / onward.max(back);
        assert!(
            (predicted / by_bytes - 1.0).abs() < 1e-9,
            "{predicted} {by_bytes}"
        );
        let latencies = cell.metrics["hop_ready_to_registered_ns"].histogram.clone();
        let fastest_ns = latencies.unwrap().min as f64;
        // What is not waited for of an operation's bytes are acknowledgements.
        let serialised_ns = value(cell, "serialised_ns");
        assert!(
            fastest_ns > 0.6 * serialised_ns,
            "{fastest_ns} {serialised_ns}"
        );
        let fitting = value(cell, "fitting_per_second");
        assert!(
            (0.25..=0.95).contains(&(fitting / predicted)),
            "{fitting} {predicted}"
        );
        let achieved = value(cell, "overload_achieved_ratio");
        assert!(achieved < ACHIEVED_RATIO_MAX, "{achieved} of 1 fitted");
    }
    let predicted = |stack: &str| {
        let cell = run.cells.iter().find(|cell| cell.stack == stack);
        value(cell.unwrap(), "predicted_per_second")
    };
    assert!(predicted("udp") > 1.1 * predicted("tcp"));
    let report = std::fs::read_to_string(folder.path().join("run/report.md")).unwrap();
    for text in ["## Narrow hops", "`udp`", "charts/rate-register.svg"] {
        assert!(report.contains(text), "{text}: {report}");
    }
}

#[test]
fn over_the_loopback_no_hop_is_narrow() {
    let folder = tempfile::tempdir().unwrap();
    let output = run(folder.path(), &[]);
    assert!(!output.status.success());
    let said = support::stderr(&output);
    assert!(said.contains("add --path lab"), "{said}");
}
