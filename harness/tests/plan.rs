//! `hopbench plan` over a run that is committed: what is printed, in every format.

#![allow(clippy::unwrap_used)]

mod support;

use support::{run, stderr, stdout};

fn plan(args: &[&str]) -> String {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../results/reference/quick");
    let output = run(&[&["plan", "--run", folder, "--users", "1e6"], args].concat());
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    stdout(&output)
}

#[test]
fn stacks_stand_side_by_side_with_their_sources() {
    let text = plan(&["--stack", "tls,udp@wireguard", "--calls-per-user-hour", "2"]);
    for said in [
        "Capacity for 1,000,000 users",
        "kernel connections  1,000,000",
        "memory/register/tls/direct/per-registration/loopback?stage=idle",
        "memory/register/udp@wireguard/direct/per-registration/loopback?stage=idle",
    ] {
        assert!(text.contains(said), "{said} is not in:\n{text}");
    }
    let markdown = plan(&["--stack", "tls", "--format", "markdown"]);
    assert!(
        markdown.starts_with("# Capacity for 1,000,000 users"),
        "{markdown}"
    );
}

#[test]
fn json_has_each_line_with_its_figure_and_its_sources() {
    let plan: serde_json::Value =
        serde_json::from_str(&plan(&["--stack", "tls", "--format", "json"])).unwrap();
    assert_eq!(plan["demand"]["users"], 1_000_000);
    let estimates = plan["stacks"][0]["estimates"].as_array().unwrap();
    let of = |key: &str| estimates.iter().find(|line| line["key"] == key).unwrap();
    let calls = of("call_cores");
    let measured = calls["sources"][0]["figure"]["value"].as_f64().unwrap();
    let cores = calls["figure"]["value"].as_f64().unwrap();
    assert!((cores / (measured * 1e6 / 3_600.0 / 1e9) - 1.0).abs() < 1e-9);
    for line in estimates {
        assert!(line["figure"].is_object() || !line["missing"].as_array().unwrap().is_empty());
    }
}
