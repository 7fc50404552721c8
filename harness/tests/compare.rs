//! `hopbench compare`, `hopbench gate` and what CI calls of them, from end to end.

#![allow(clippy::unwrap_used)]

mod support;

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use hopbench::record::Run;
use serde_json::Value;
use support::{run, stderr, stdout};

const SCENARIO: &str = r#"
name = "counted"
summary = "for the tests"
stacks = ["tcp", "tls"]

[memory]
stages = ["handshaken"]
connections = [7, 14, 28, 56, 112]
blocks = 3

[[throughput]]
workload = "invite"
lifecycle = "per-registration"
rates_per_second = [100.0]
users = 5
warm_up_seconds = 0.05
duration_seconds = 0.2
blocks = 3
"#;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn script(name: &str) -> Command {
    let mut command = Command::new(root().join("scripts").join(name));
    command.env("HOPBENCH_ROUNDS", "3");
    command
}

fn reference() -> String {
    root().join("results/reference/quick").display().to_string()
}

/// What CI does with a change, here of nothing: both builds are the same.
#[test]
fn two_builds_are_measured_side_by_side_and_held_to_the_gates() {
    let folder = tempfile::tempdir().unwrap();
    let scenario = folder.path().join("counted.toml");
    std::fs::write(&scenario, SCENARIO).unwrap();
    let out = folder.path().join("out");
    let output = script("ci-compare")
        .args(["HEAD", out.to_str().unwrap()])
        .env("HOPBENCH_SCENARIO", &scenario)
        .env("HOPBENCH_BASE", env!("CARGO_BIN_EXE_hopbench"))
        .env("HOPBENCH_HEAD", env!("CARGO_BIN_EXE_hopbench"))
        .output()
        .unwrap();
    let comment = std::fs::read_to_string(out.join("comment.md")).unwrap();
    let said = format!("{}\n{comment}", stderr(&output));
    assert_eq!(output.status.code(), Some(0), "{said}");
    assert!(comment.starts_with("### hopbench: "), "{said}");
    assert!(
        comment.contains("| ✅ | `each memory.server_heap_bytes_per_connection"),
        "{said}"
    );
    assert!(comment.ends_with("<!-- hopbench -->\n"), "{said}");

    let [base, head] =
        ["base", "head"].map(|side| Run::read(&out.join(side).join("run.json")).unwrap());
    assert!(base.interleaving.is_some() && base.interleaving == head.interleaving);
    assert_ne!(base.run_id, head.run_id);
    for run in [&base, &head] {
        assert_eq!(run.cells.len(), 4);
        for cell in run.cells.iter().filter(|cell| cell.experiment == "memory") {
            assert_eq!(cell.repetitions, 3, "{cell:?}");
            let heap = &cell.metrics["server_heap_bytes_per_connection"];
            assert!(
                heap.blocks.iter().all(Option::is_some) && heap.blocks.len() == 3,
                "{heap:?}"
            );
            assert_eq!(heap.fit.as_ref().unwrap().readings.len(), 3);
        }
    }
    // Both runs are kept, and can be compared again.
    let folder = |side: &str| out.join(side).display().to_string();
    let again = run(&[
        "compare",
        &folder("base"),
        &folder("head"),
        "--format",
        "json",
    ]);
    let again: Value = serde_json::from_str(&stdout(&again)).unwrap();
    assert_eq!(again["is_interleaved"], true);
    let changes = again["changes"].as_array().unwrap();
    assert!(
        changes
            .iter()
            .any(|change| change["compared_by"] == "pairs of blocks")
    );
}

/// A server that burns four times its own processor time on top is found in its processor time, and not
/// in what is counted. That 10 % are found takes minutes on a quiet machine: results/README.md says how.
#[test]
fn a_handicapped_server_is_found_in_its_processor_time_and_nowhere_else() {
    let folder = tempfile::tempdir().unwrap();
    let scenario = folder.path().join("counted.toml");
    let text = SCENARIO
        .replace("[100.0]", "[20.0]")
        .replace("duration_seconds = 0.2", "duration_seconds = 0.5");
    std::fs::write(&scenario, text).unwrap();
    let slower = folder.path().join("slower");
    let binary = env!("CARGO_BIN_EXE_hopbench");
    let script = format!("#!/bin/sh\nexec {binary} \"$@\" --handicap-server 4\n");
    std::fs::write(&slower, script).unwrap();
    std::fs::set_permissions(&slower, std::fs::Permissions::from_mode(0o755)).unwrap();
    let out = folder.path().join("out").display().to_string();
    let (slower, scenario) = (slower.display().to_string(), scenario.display().to_string());
    let arguments = [
        "compare",
        "--interleave",
        binary,
        &slower,
        "--scenario",
        &scenario,
    ];
    let more = [
        "--rounds",
        "6",
        "--format",
        "json",
        "--fail-on",
        "worse",
        "--out",
        &out,
    ];
    let output = run(&[&arguments[..], &more].concat());
    let said = format!("{}{}", stdout(&output), stderr(&output));
    let compared: Value =
        serde_json::from_str(&stdout(&output)).unwrap_or_else(|_| panic!("{said}"));
    let changes = compared["changes"].as_array().unwrap();
    let judged = |metric: &str| -> Vec<&str> {
        let of_metric = changes.iter().filter(|change| change["metric"] == metric);
        of_metric
            .map(|change| change["verdict"].as_str().unwrap())
            .collect()
    };
    for counted in [
        "server_heap_bytes_per_connection",
        "client_heap_bytes_per_connection",
    ] {
        assert_eq!(judged(counted), ["no change shown"; 2], "{counted}: {said}");
    }
    // A server this slow is sent an acknowledgement of its own here and there, where data would have
    // carried it: within TLS' handshake, but not within TCP's.
    let wire = changes
        .iter()
        .find(|change| change["metric"] == "handshake_wire_bytes");
    let wire = wire.unwrap_or_else(|| panic!("{said}"));
    assert!(wire["cell_id"].as_str().unwrap().contains("/tcp/"));
    assert_eq!(wire["verdict"], "no change shown", "{said}");
    // A machine that is too busy for the generator tells nothing of the server, and says so.
    let processor_time = judged("server_cpu_ns_per_operation");
    let is_quiet = compared["missing"].as_array().unwrap().is_empty();
    assert!(!is_quiet || processor_time.len() == 2, "{said}");
    assert!(
        processor_time.iter().all(|verdict| *verdict == "worse"),
        "{said}"
    );
    if !processor_time.is_empty() {
        assert_eq!(output.status.code(), Some(1), "{said}");
    }
}

#[test]
fn a_committed_run_against_itself_changed_nowhere() {
    let reference = reference();
    let gate = "each memory.server_heap_bytes_per_connection <= base";
    let compared = run(&[
        "compare",
        &reference,
        &reference,
        "--fail-on",
        "worse",
        "--gate",
        gate,
    ]);
    let text = stdout(&compared);
    assert_eq!(
        compared.status.code(),
        Some(0),
        "{text}{}",
        stderr(&compared)
    );
    assert!(text.contains("\n0 worse, 0 better, "), "{text}");
    assert!(
        text.contains(&format!("The gate holds\n  pass  {gate}")),
        "{text}"
    );
}

#[test]
fn gates_hold_fail_and_are_refused_by_exit_code() {
    let reference = reference();
    let cases = [
        (
            "setup.tls.setup_latency_ns.p99 < 1 h",
            2,
            "there is no unit `h`",
        ),
        (
            "setup.tls.setup_latency_ns.p99 < 100 * tcp.setup_latency_ns.p99",
            0,
            "The gate holds",
        ),
        (
            "setup.tls.setup_latency_ns.p99 < 0.1 * tcp.setup_latency_ns.p99",
            1,
            "1 of 1 gates fail",
        ),
        (
            "idle.tls.server_heap_bytes_per_connection < 20 KiB",
            0,
            "limit 20.0 KiB",
        ),
        (
            "tls.server_heap_bytes_per_connection < 20 KiB",
            2,
            "tls.idle.server_heap_bytes_per_connection",
        ),
        (
            "setup.udp.transport_connect_ns < 1 s",
            1,
            "missing: transport_connect_ns",
        ),
        (
            "setup.tls.setup_latency_ns < base",
            2,
            "takes a figure from BASE",
        ),
    ];
    for (gate, code, expected) in cases {
        let output = run(&["gate", &reference, gate]);
        let said = format!("{}{}", stdout(&output), stderr(&output));
        assert_eq!(output.status.code(), Some(code), "{gate}: {said}");
        assert!(said.contains(expected), "{gate}: {said}");
    }
    let inverted = run(&["compare", &reference, &reference, "--fail-on", "tls.x > 3"]);
    assert_eq!(inverted.status.code(), Some(2));
    assert!(
        stderr(&inverted).contains("--gate"),
        "{}",
        stderr(&inverted)
    );
}

/// A scenario carries its thresholds; a run that does not meet them says so and ends with 1.
#[test]
fn a_run_is_held_to_the_gates_of_its_scenario() {
    let folder = tempfile::tempdir().unwrap();
    let scenario = folder.path().join("gated.toml");
    let out = folder.path().join("out").display().to_string();
    let memory = SCENARIO
        .split("[[throughput]]")
        .next()
        .unwrap()
        .replace("blocks = 3", "blocks = 1");
    let measure = |gates: &str, more: &[&str]| {
        std::fs::write(&scenario, format!("gates = {gates}\n{memory}")).unwrap();
        let mut arguments = vec!["run", scenario.to_str().unwrap(), "--quiet", "--out", &out];
        arguments.extend(more);
        run(&arguments)
    };
    let low = r#"["handshaken.tls.server_heap_bytes_per_connection < 100 B"]"#;
    let failed = measure(low, &[]);
    assert_eq!(failed.status.code(), Some(1), "{}", stderr(&failed));
    assert!(
        stdout(&failed).contains("FAIL  handshaken.tls"),
        "{}",
        stdout(&failed)
    );
    let wide = r#"["handshaken.tls.server_heap_bytes_per_connection < 1 MiB"]"#;
    let held = measure(
        wide,
        &["--gate", "each server_heap_bytes_per_connection > 0 B"],
    );
    assert_eq!(
        held.status.code(),
        Some(0),
        "{}{}",
        stdout(&held),
        stderr(&held)
    );
    // What cannot be right is told before anything is measured.
    for (gates, expected) in [
        (
            r#"["tls.server_heep_bytes_per_connection < 1 B"]"#,
            "did you mean",
        ),
        (
            r#"["tlss.server_heap_bytes_per_connection < 1 B"]"#,
            "did you mean `tls`",
        ),
        (
            r#"["tls.server_heap_bytes_per_connection < base"]"#,
            "hopbench compare",
        ),
    ] {
        let refused = measure(gates, &[]);
        assert_eq!(refused.status.code(), Some(2), "{gates}");
        assert!(
            stderr(&refused).contains(expected),
            "{gates}: {}",
            stderr(&refused)
        );
    }
}

#[test]
fn a_build_that_cannot_run_is_named_with_its_words() {
    let folder = tempfile::tempdir().unwrap();
    let broken = folder.path().join("broken");
    std::fs::write(&broken, "#!/bin/sh\necho 'no such profile' >&2\nexit 2\n").unwrap();
    std::fs::set_permissions(&broken, std::fs::Permissions::from_mode(0o755)).unwrap();
    let broken = broken.display().to_string();
    let output = run(&["compare", "--interleave", &broken, &broken, "--rounds", "1"]);
    let said = stderr(&output);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(
        said.contains(" by BASE: ") && said.contains("no such profile"),
        "{said}"
    );
    let missing = run(&["compare", "--interleave", "/nowhere/hopbench", &broken]);
    assert_eq!(missing.status.code(), Some(2));
}

/// The gates that CI holds are ones that this build can read, and the committed run meets them.
#[test]
fn the_gates_of_ci_hold_of_the_committed_run() {
    let options = script("gate-options").output().unwrap();
    let options = stdout(&options);
    let options: Vec<&str> = options.split_terminator('\0').collect();
    assert!(options.len() >= 8 && options[0] == "--gate", "{options:?}");
    let reference = reference();
    let mut arguments = vec!["compare", &reference, &reference];
    arguments.extend(options);
    let output = run(&arguments);
    assert_eq!(
        output.status.code(),
        Some(0),
        "{}{}",
        stdout(&output),
        stderr(&output)
    );
}

/// What CI does on its main branch, twice: the history grows, and the site shows it.
#[test]
fn charts_of_ci_keep_a_history_and_make_a_site() {
    let folder = tempfile::tempdir().unwrap();
    let scenario = folder.path().join("counted.toml");
    let memory = SCENARIO.split("[[throughput]]").next().unwrap();
    std::fs::write(&scenario, memory.replace("blocks = 3", "blocks = 1")).unwrap();
    let (store, site) = (folder.path().join("store"), folder.path().join("site"));
    for runs in 1..=2 {
        let output = script("ci-charts")
            .args([&store, &site])
            .env("HOPBENCH_SCENARIO", &scenario)
            .env("HOPBENCH", env!("CARGO_BIN_EXE_hopbench"))
            .output()
            .unwrap();
        let said = format!("{}{}", stdout(&output), stderr(&output));
        assert_eq!(output.status.code(), Some(0), "{said}");
        assert!(said.contains(&format!("{runs} runs in ")), "{said}");
    }
    let text = |file: &str| std::fs::read_to_string(site.join(file)).unwrap();
    assert!(text("data.js").contains("window.BENCHMARK_DATA"));
    // A page for each question, to which the first one leads.
    let question = std::fs::read_dir(&site).unwrap().find_map(|entry| {
        let name = entry.unwrap().file_name().into_string().unwrap();
        name.contains("-memory-").then_some(name)
    });
    let question = question.expect("a page of the question");
    let first = text("index.html");
    assert!(first.contains(&format!("href=\"{question}\"")), "{first}");
    assert!(text(&question).contains("server_heap_bytes_per_connection"));
    for file in ["latest/report.html", "latest/run.json", "history.txt"] {
        assert!(!text(file).is_empty(), "{file}");
    }
}

#[test]
fn workflows_are_in_order() {
    let output = script("lint-workflows").output().unwrap();
    assert!(output.status.success(), "{}", stderr(&output));
}
