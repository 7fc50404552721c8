//! What a machine does not have is said before anything starts; and a generator whose processes share
//! what one may not hold.

#![allow(clippy::unwrap_used)]

mod support;

use std::path::Path;
use std::process::{Command, Output, Stdio};

use hopbench::load::LoadReport;
use hopbench::record::{Run, Verdict};
use support::{start_node, stderr, stdout};

/// Runs `hopbench` where a process may hold so many descriptors at most.
fn run_with_descriptors(descriptors: u32, args: &[&str]) -> Output {
    Command::new("sh")
        .args(["-c", "ulimit -n \"$1\" && shift && exec \"$@\"", "sh"])
        .args([&descriptors.to_string(), env!("CARGO_BIN_EXE_hopbench")])
        .args(args)
        .stdin(Stdio::null())
        .output()
        .unwrap()
}

#[test]
fn a_load_that_needs_more_descriptors_than_there_are_says_so_and_opens_none() {
    let args = ["load", "--target", "127.0.0.1:9", "--accounts", "500"];
    let call = ["--workload", "invite"];
    let output = run_with_descriptors(200, &[&args[..], &call].concat());
    let said = stderr(&output);
    assert_eq!(output.status.code(), Some(1), "{said}");
    for part in [
        "a generator process needs 564 descriptors",
        "the hard limit is 200",
        "--processes",
        "--users",
    ] {
        assert!(said.contains(part), "{part}: {said}");
    }
}

#[test]
fn processes_share_what_one_may_not_hold() {
    let (_node, address) = start_node(&["--accounts", "240"]);
    let target = address.to_string();
    let args = [
        "load",
        "--target",
        &target,
        "--accounts",
        "240",
        "--workload",
        "reregister",
        "--arrivals",
        "constant",
        "--rate",
        "100",
        "--warm-up",
        "0",
        "--duration",
        "0.3",
        "--json",
    ];
    let alone = run_with_descriptors(200, &args);
    assert_eq!(alone.status.code(), Some(1), "{}", stderr(&alone));
    let together = run_with_descriptors(200, &[&args[..], &["--processes", "3"]].concat());
    assert_eq!(together.status.code(), Some(0), "{}", stderr(&together));
    let report: LoadReport = serde_json::from_str(&stdout(&together)).unwrap();
    assert_eq!((report.offered, report.succeeded), (30, 30));
    let (before, after) = (report.before.unwrap(), report.after.unwrap());
    assert!(after.cpu_ns > before.cpu_ns);
}

fn scenario(folder: &Path, connections: &str) -> String {
    let path = folder.join("scenario.toml");
    let text = format!(
        r#"
name = "limits"
summary = "for the tests"
stacks = ["tcp", "udp"]

[setup]
rate_per_second = 20.0
warm_up_seconds = 0.05
duration_seconds = 0.2
blocks = 1

[memory]
stages = ["registered"]
connections = {connections}
blocks = 1
"#
    );
    std::fs::write(&path, text).unwrap();
    path.to_str().unwrap().to_owned()
}

#[test]
fn cells_that_the_machine_cannot_run_are_unsupported_and_the_others_run() {
    let folder = tempfile::tempdir().unwrap();
    let scenario = scenario(folder.path(), "[8, 16, 24, 32, 300]");
    let out = folder.path().join("out");
    let args = ["run", &scenario, "--quiet", "--out", out.to_str().unwrap()];
    let output = run_with_descriptors(256, &args);
    let said = stderr(&output);
    assert_eq!(output.status.code(), Some(0), "{said}");
    assert!(said.contains("unsupported: memory/register/tcp"), "{said}");
    let run = Run::read(&out.join("run.json")).unwrap();
    assert_eq!(run.cells.len(), 4);
    for cell in &run.cells {
        let is_too_much = cell.id.to_string().starts_with("memory/");
        assert_eq!(
            cell.verdict == Verdict::Unsupported,
            is_too_much,
            "{}",
            cell.id
        );
        if is_too_much {
            let reason = cell.reason.as_deref().unwrap();
            assert!(reason.contains("needs 364 descriptors"), "{reason}");
        }
    }
}

#[test]
fn a_run_whose_every_cell_is_too_much_does_not_begin() {
    let folder = tempfile::tempdir().unwrap();
    let scenario = scenario(folder.path(), "[8, 16, 24, 32, 300]");
    let out = folder.path().join("out");
    let asked = ["--experiments", "memory", "--out", out.to_str().unwrap()];
    let output = run_with_descriptors(256, &[&["run", &scenario][..], &asked].concat());
    let said = stderr(&output);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("this machine does not suffice"), "{said}");
    assert!(said.contains("`ulimit -n 364`"), "{said}");
    assert!(!out.exists(), "nothing was begun");
}
