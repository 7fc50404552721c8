//! The experiment `memory` at every stage: what each adds to what came before it. Heap is counted, so
//! that the comparisons do not depend on the machine.

#![allow(clippy::unwrap_used)]

mod support;

use std::path::Path;

use hopbench::measure::kernel::SocketSlabs;
use hopbench::record::{Cell, Run, Verdict};
use support::{hopbench, stderr, stdout};

const SCENARIO: &str = r#"
name = "stages"
summary = "for the tests"
stacks = ["udp", "tcp", "tls"]

[memory]
stages = ["handshaken", "registered", "in-call"]
idle = { seconds = 0.3, connections = [14, 28, 56, 112, 224], blocks = 1 }
connections = [14, 28, 56, 112, 224]
blocks = 1
"#;

fn measure(folder: &Path) -> Run {
    let scenario = folder.join("stages.toml");
    std::fs::write(&scenario, SCENARIO).unwrap();
    let out = folder.join("out");
    let output = hopbench()
        .arg("run")
        .arg(&scenario)
        .arg("--out")
        .arg(&out)
        .output()
        .unwrap();
    let said = format!("{}{}", stdout(&output), stderr(&output));
    assert_eq!(output.status.code(), Some(0), "{said}");
    Run::read(&out.join("run.json")).unwrap()
}

fn cell<'r>(run: &'r Run, stack: &str, stage: &str) -> &'r Cell {
    let is_it =
        |cell: &&Cell| cell.stack == stack && cell.parameters.get("stage").unwrap() == stage;
    run.cells.iter().find(is_it).unwrap()
}

#[test]
fn each_stage_costs_what_it_adds() {
    let folder = tempfile::tempdir().unwrap();
    let run = measure(folder.path());
    assert_eq!(run.cells.len(), 3 * 4);
    for cell in &run.cells {
        assert_eq!(cell.verdict, Verdict::Ok, "{}: {:?}", cell.id, cell.reason);
    }
    let value = |stack: &str, stage: &str, key: &str| cell(&run, stack, stage).metrics[key].value;
    let heap = |stack: &str, stage: &str, side: &str| {
        value(stack, stage, &format!("{side}_heap_bytes_per_connection")).unwrap()
    };
    for stack in ["udp", "tcp", "tls"] {
        for side in ["client", "server"] {
            let [handshaken, registered, idle, in_call] =
                ["handshaken", "registered", "idle", "in-call"]
                    .map(|stage| heap(stack, stage, side));
            assert!(
                handshaken < registered,
                "{stack} {side}: {handshaken} {registered}"
            );
            assert!(
                registered + 100.0 < in_call,
                "{stack} {side}: {registered} {in_call}"
            );
            // Measured in processes side by side instead of one after the other: the same.
            let difference = (idle / registered - 1.0).abs();
            assert!(difference < 0.03, "{stack} {side}: {registered} {idle}");
        }
    }
    assert_eq!(cell(&run, "udp", "idle").parameters["idle_seconds"], 0.3);
    let registered = cell(&run, "udp", "registered");
    assert!(!registered.parameters.contains_key("idle_seconds"));
    for cell in &run.cells {
        assert_kernel_or_reason(cell);
        assert_parts_are_the_whole(cell);
    }
}

/// The parts are measured in other processes than the whole.
fn assert_parts_are_the_whole(cell: &Cell) {
    const PARTS: [&str; 8] = [
        "tls_session",
        "tunnel",
        "inner_stack",
        "buffers",
        "task",
        "binding",
        "transaction",
        "other",
    ];
    for side in ["client", "server"] {
        let bytes = |what: &str| {
            let key = format!("{side}_{what}heap_bytes_per_connection");
            cell.metrics[&key].value.unwrap()
        };
        let whole = bytes("");
        let parts: f64 = PARTS.iter().map(|part| bytes(&format!("{part}_"))).sum();
        let unexplained = bytes("unexplained_");
        let about = format!("{} {side}: {parts} and {unexplained} of {whole}", cell.id);
        assert!((whole - parts - unexplained).abs() < 0.01, "{about}");
        // What a server keeps of who only has a socket for datagrams is next to nothing.
        assert!(unexplained.abs() <= 0.05 * whole.max(320.0), "{about}");
        let is_tls = cell.stack == "tls";
        assert_eq!(bytes("tls_session_") > 1_000.0, is_tls, "{about}");
    }
}

fn assert_kernel_or_reason(cell: &Cell) {
    let bytes = cell.metrics["kernel_bytes_per_connection"].value;
    let reason = cell.parameters.get("kernel_meter");
    match SocketSlabs::read() {
        Ok(_) => assert!(bytes.is_some() && reason.is_none(), "{}", cell.id),
        Err(error) => {
            assert_eq!(bytes, None, "{}", cell.id);
            assert_eq!(reason.unwrap(), &error.to_string(), "{}", cell.id);
        }
    }
}
