//! The experiment `link` end to end: what a line through round-trip times says of a protocol whose round trips
//! everybody knows.

#![allow(clippy::unwrap_used)]

mod support;

use std::path::Path;
use std::process::{Command, Output};

use hopbench::record::{Cell, Run, Verdict};

const SCENARIO: &str = r#"
name = "round-trips"
summary = "three stacks over three links"
stacks = ["udp", "tcp", "tcp@wireguard"]

[link]
round_trips_ms = [0.0, 100.0, 200.0]
rate_per_second = 20.0
users = 40
warm_up_seconds = 0.8
duration_seconds = 0.6
blocks = 1
arrivals = "constant"
"#;

fn run(folder: &Path, path: &[&str]) -> Output {
    let scenario = folder.join("scenario.toml");
    std::fs::write(&scenario, SCENARIO).unwrap();
    let out = folder.join("run");
    Command::new(env!("CARGO_BIN_EXE_hopbench"))
        .args([
            "run",
            "--experiments",
            "link",
            "--out",
            out.to_str().unwrap(),
        ])
        .args(path)
        .arg(scenario)
        .output()
        .unwrap()
}

#[test]
fn the_slopes_are_the_round_trips_that_the_protocols_promise() {
    let folder = tempfile::tempdir().unwrap();
    let output = run(folder.path(), &["--path", "lab"]);
    let text = std::fs::read_to_string(folder.path().join("run/run.json"))
        .unwrap_or_else(|_| panic!("{}", support::stderr(&output)));
    let run: Run = serde_json::from_str(&text).unwrap();
    let fits: Vec<&Cell> = run
        .cells
        .iter()
        .filter(|cell| cell.topology == "round-trips")
        .collect();
    assert_eq!(fits.len(), 6);
    for fit in fits {
        if fit.verdict == Verdict::Unsupported {
            let is_required = std::env::var("HOPBENCH_REQUIRE_PEERS").as_deref() == Ok("1");
            assert!(
                !is_required || !nix::unistd::geteuid().is_root(),
                "{:?}",
                fit.reason
            );
            eprintln!("skipped: {:?}", fit.reason);
            continue;
        }
        if fit.verdict == Verdict::Failed {
            // A machine that is too busy for three links has no line to be held against anything.
            let is_busy = |cell: &&Cell| cell.verdict == Verdict::GeneratorBound;
            assert!(
                run.cells.iter().any(|cell| is_busy(&cell)),
                "{}: {:?}",
                fit.id,
                fit.reason
            );
            continue;
        }
        for (metric, promise) in [
            ("setup_latency", "ready"),
            ("registered", "registered"),
            ("session_request_delay", "call"),
        ] {
            let Some(found) = fit.metrics.get(&format!("{metric}_per_round_trip_ratio")) else {
                continue;
            };
            let promised = fit.parameters[&format!("promised_{promise}_round_trips")]
                .as_f64()
                .unwrap();
            // Half a round trip is 100 ms: a busy machine adds less to a median.
            let found = found.value.unwrap();
            assert!(
                (found - promised).abs() < 0.5,
                "{}: {metric} {found}, {promised}",
                fit.id
            );
        }
    }
}

#[test]
fn over_the_loopback_there_is_no_link() {
    let folder = tempfile::tempdir().unwrap();
    let output = run(folder.path(), &[]);
    assert!(!output.status.success());
    let said = support::stderr(&output);
    assert!(said.contains("add --path lab"), "{said}");
}
