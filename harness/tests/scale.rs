//! The experiment `scale` end to end: small crowds at a node of two workers. What it counts is exact, so
//! that nothing here depends on the machine.

#![allow(clippy::unwrap_used)]

mod support;

use std::path::Path;

use hopbench::record::{Cell, Run, Verdict};
use support::{hopbench, stderr, stdout};

const USERS: [u64; 2] = [60, 120];
const CALLS: f64 = 20.0;
const NEWCOMERS: f64 = 20.0;

const SCENARIO: &str = r#"
name = "small-crowds"
summary = "for the tests"

[[scale]]
users = [60, 120]
workers = 2
generator_processes = 2
keep_alive_seconds = 20
tunnel_keep_alive_seconds = 20
expires_seconds = 600
refresh_seconds = 2.0
hold_seconds = 1.0
calm_seconds = 0.1
rest_seconds = 0.0
visitors = 50
registrations = 20
registrations_per_second = 40.0
calls = 20
calls_per_second = 40.0
"#;

fn measure(stack: &str, folder: &Path) -> Run {
    let scenario = folder.join("crowds.toml");
    std::fs::write(&scenario, format!("stacks = [{stack:?}]\n{SCENARIO}")).unwrap();
    let out = folder.join("out");
    let output = hopbench()
        .arg("run")
        .arg(&scenario)
        .arg("--out")
        .arg(&out)
        .output()
        .unwrap();
    let said = format!("{}{}", stdout(&output), stderr(&output));
    // 3: a machine busy with other tests may be too slow for the generator; nothing fails for that.
    assert!(matches!(output.status.code(), Some(0 | 3)), "{said}");
    Run::read(&out.join("run.json")).unwrap()
}

fn value(cell: &Cell, key: &str) -> f64 {
    let metric = cell.metrics.get(key);
    let value = metric.and_then(|metric| metric.value);
    value.unwrap_or_else(|| panic!("{}: no {key}", cell.id))
}

fn assert_crowds_of(stack: &str) {
    let folder = tempfile::tempdir().unwrap();
    let run = measure(stack, folder.path());
    assert_eq!(run.cells.len(), USERS.len() + 1);
    for users in USERS {
        let id = format!("scale/idle/{stack}/edge/per-registration/loopback?users={users}");
        let cell = run.cells.iter().find(|cell| cell.id == id);
        assert_everybody_was_served(cell.expect(&id), users as f64);
    }
    assert_growth_is_told(&run, stack);
}

#[test]
fn a_crowd_over_streams_stays_and_is_reached() {
    assert_crowds_of("tcp");
}

#[test]
fn a_crowd_in_tunnels_stays_and_is_reached() {
    assert_crowds_of("udp@wireguard");
}

fn assert_everybody_was_served(cell: &Cell, users: f64) {
    let about = format!("{}: {:?}", cell.id, cell.reason);
    assert_ne!(cell.verdict, Verdict::Failed, "{about}");
    assert_eq!(value(cell, "registered_count"), users, "{about}");
    let counts = [
        ("lost_hops_count", 0.0),
        ("failed_count", 0.0),
        ("unexpected_count", 0.0),
        ("register_offered_count", NEWCOMERS),
        ("register_failed_count", 0.0),
        // A refresh of everybody takes twice the hold.
        ("reregister_offered_count", users / 2.0),
        ("reregister_failed_count", 0.0),
        ("call_offered_count", CALLS),
        ("call_failed_count", 0.0),
    ];
    for (key, count) in counts {
        assert_eq!(value(cell, key), count, "{about}: {key}");
    }
    // Each of the calls was answered, each newcomer registered.
    for (key, count) in [
        ("session_request_delay_ns", CALLS),
        ("hop_ready_to_registered_ns", NEWCOMERS),
    ] {
        let histogram = cell.metrics[key].histogram.as_ref();
        assert_eq!(histogram.unwrap().count as f64, count, "{about}: {key}");
    }
    for key in ["server_cpu_ns_per_refresh", "client_cpu_ns_per_refresh"] {
        assert!(cell.metrics.contains_key(key), "{about}: {key}");
    }
    assert_memory_is_told(cell, users);
}

fn assert_memory_is_told(cell: &Cell, users: f64) {
    for side in ["client", "server"] {
        let each = value(cell, &format!("{side}_heap_bytes_per_connection"));
        let all = value(cell, &format!("{side}_heap_bytes"));
        assert!(
            each > 100.0 && all > each * users,
            "{}: {each} {all}",
            cell.id
        );
        assert!(value(cell, &format!("{side}_rss_bytes")) > all);
    }
    let resident = value(cell, "client_rss_bytes") + value(cell, "server_rss_bytes");
    assert!(
        value(cell, "peak_memory_bytes") >= resident,
        "{}: {resident}",
        cell.id
    );
}

fn assert_growth_is_told(run: &Run, stack: &str) {
    let id = format!("scale/idle/{stack}/edge/per-registration/loopback?users=growth");
    let growth = run.cells.iter().find(|cell| cell.id == id).expect(&id);
    let sizes = run.cells.iter().filter(|cell| cell.id != id);
    let sound = sizes.filter(|cell| cell.verdict == Verdict::Ok);
    if sound.count() == USERS.len() {
        assert_eq!(growth.verdict, Verdict::Ok, "{id}: {:?}", growth.reason);
        assert_eq!(growth.parameters["users"], serde_json::json!(USERS));
        let most = value(growth, "session_request_delay_most_to_fewest_ratio");
        assert!(most > 0.0, "{id}: {most}");
        assert!(
            growth
                .metrics
                .contains_key("server_cpu_per_call_growth_per_decade_ratio")
        );
    } else {
        let reason = growth.reason.as_deref().unwrap_or_default();
        assert!(
            reason.contains("growth needs two sizes"),
            "{id}: {reason:?}"
        );
    }
}
