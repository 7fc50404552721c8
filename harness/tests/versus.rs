//! The comparison with SIPp, as small as it can be: every cell is there, and says what it should. How fast
//! anybody is, is not asked.

#![allow(clippy::unwrap_used)]

mod support;

use std::collections::BTreeSet;

use hopbench::record::{Run, Verdict};
use support::peers::{SIPP, turn};
use support::{stderr, stdout};

#[test]
fn sipp_and_the_generator_call_the_same_servers() {
    let Some((_turn, _)) = turn(&SIPP) else {
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let output = support::hopbench()
        .args(["versus", "sipp", "--quick", "--stacks=tcp,tls"])
        // What a busy machine does in its stride.
        .args(["--rate=100", "--probes=1", "--out"])
        .arg(folder.path())
        .output()
        .unwrap();
    let said = stdout(&output) + &stderr(&output);
    let run = Run::read(&folder.path().join("run.json")).expect(&said);
    assert!(run.finished_at.is_some(), "{said}");

    let id = |stack: &str, caller: &str, rate: &str, server: &str| {
        format!(
            "versus/invite/{stack}/direct/per-registration/loopback?caller={caller}&rate={rate}&server={server}"
        )
    };
    let mut expected = BTreeSet::new();
    for rate in ["100.0", "400.0"] {
        expected.insert(id("tcp", "bare", rate, "bare"));
    }
    for rate in ["100.0", "highest"] {
        for server in ["node", "uas"] {
            for caller in ["hopbench", "sipp"] {
                expected.insert(id("tcp", caller, rate, server));
            }
        }
        if rate != "highest" {
            for caller in ["hopbench-at-once", "sipp-punctual"] {
                expected.insert(id("tcp", caller, rate, "node"));
            }
        }
        expected.insert(id("tls", "hopbench", rate, "node"));
    }
    let found: BTreeSet<String> = run.cells.iter().map(|cell| cell.id.clone()).collect();
    assert_eq!(found, expected, "{said}");

    // At their highest rates callers may fail on a busy machine, which has its reason; a hundred calls a
    // second over TCP are made by anybody.
    for cell in &run.cells {
        assert_eq!(cell.reason.is_none(), cell.verdict == Verdict::Ok);
        let figure = |key: &str| cell.metrics[key].value.unwrap_or_else(|| panic!("{key}"));
        if cell.parameters["rate"] != "highest" {
            assert_eq!(cell.verdict, Verdict::Ok, "{cell:#?}");
            for key in ["client_cpu_ns_per_operation", "server_cpu_ns_per_operation"] {
                assert!(figure(key) > 0.0, "{key} of {}", cell.id);
            }
            assert_eq!(figure("failed_count"), 0.0);
        }
        let caller = cell.parameters["caller"].as_str().unwrap();
        let (is_ours, is_sipp) = (caller.starts_with("hopbench"), caller.starts_with("sipp"));
        let gathers = cell.parameters.get("gather_microseconds");
        assert_eq!(gathers.is_some(), !is_sipp);
        assert_eq!(
            gathers.is_some_and(|gather| *gather == 0),
            caller == "hopbench-at-once"
        );
        if cell.verdict == Verdict::Ok {
            let is_watched = cell.stack == "tcp" && cell.parameters["rate"] != "highest";
            for (key, is_told) in [
                ("scheduling_lag_ns", is_ours),
                ("observed_lag_ns", is_watched && (is_ours || is_sipp)),
                ("session_request_delay_ns", is_ours),
            ] {
                let tells = cell.metrics.contains_key(key);
                assert_eq!(tells, is_told, "{key} of {}", cell.id);
            }
        }
        let version = cell.parameters.get("caller_version");
        assert_eq!(version.is_some(), is_sipp);
    }
    let tls = id("tls", "hopbench", "100.0", "node");
    let tls = run.cells.iter().find(|cell| cell.id == tls).unwrap();
    let records = tls.metrics["bare_records_cpu_ns_per_operation"].value;
    let over_floor = tls.metrics["client_cpu_to_floor_ratio"].value;
    assert!(
        records.unwrap() > 0.0 && over_floor.unwrap() > 0.0,
        "{tls:#?}"
    );

    // Of each server, the generator stands above SIPp.
    for server in ["node", "uas"] {
        let ratio = run.ratios.iter().find(|ratio| {
            ratio.metric == "client_cpu_ns_per_operation"
                && ratio.cell_id == id("tcp", "hopbench", "100.0", server)
        });
        let control = id("tcp", "sipp", "100.0", server);
        assert_eq!(ratio.expect(&said).control_cell_id, control);
    }
    let floor = id("tcp", "bare", "100.0", "bare");
    let ratio = run.ratios.iter().find(|ratio| ratio.cell_id == floor);
    let control = id("tcp", "sipp", "100.0", "node");
    assert_eq!(ratio.expect(&said).control_cell_id, control);
    assert!(said.contains("## Against SIPp"), "{said}");
    let report = std::fs::read_to_string(folder.path().join("report.md")).unwrap();
    assert!(
        report.contains("| hopbench-at-once | sipp-punctual |"),
        "{report}"
    );
}

#[test]
fn without_sipp_it_says_what_to_install() {
    let output = support::hopbench()
        .args(["versus", "sipp", "--quick"])
        .env("PATH", "/nowhere")
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    let said = stderr(&output);
    assert!(said.contains("apt-get install sip-tester"), "{said}");
}
