//! Unit tests of the figures and verdicts of one block, from readings that are made up.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;

use hopbench::load::Standing;
use hopbench::node::NodeCounters;

use super::*;
use crate::experiment::scale::{Calm, Population};
use crate::scenario::Scale;

const USERS: u32 = 1_000;
const VISITORS: u32 = 100;
const MIB: u64 = 1 << 20;

fn crowd() -> Crowd {
    let scale: Scale = toml::from_str(
        "users = [1000]
        workers = 2
        generator_processes = 2
        keep_alive_seconds = 20
        tunnel_keep_alive_seconds = 25
        expires_seconds = 600
        refresh_seconds = 10.0
        hold_seconds = 10.0
        calm_seconds = 1.0
        visitors = 100
        registrations = 50
        registrations_per_second = 50.0
        calls = 200
        calls_per_second = 100.0",
    )
    .unwrap();
    Crowd {
        users: USERS,
        scale,
    }
}

/// A side that was busy for so many ns of each of so many seconds.
fn usage(seconds: u64, cpu_ns_per_second: u64) -> ProcessUsage {
    ProcessUsage {
        elapsed_ns: seconds * 1_000_000_000,
        cpu_ns: seconds * cpu_ns_per_second,
        heap_bytes: None,
        heap_allocations: None,
        rss_bytes: None,
    }
}

fn process(cpu_ns: u64, seconds: u64, mib: u64) -> ProcessSnapshot {
    ProcessSnapshot {
        at_monotonic_ns: seconds * 1_000_000_000,
        cpu_ns,
        heap_live_bytes: Some((mib * MIB).cast_signed()),
        heap_chunk_bytes: None,
        heap_parts: None,
        heap_allocations: None,
        malloc_bytes: None,
        malloc_free_bytes: None,
        rss_bytes: Some(2 * mib * MIB),
        peak_rss_bytes: Some(3 * mib * MIB),
    }
}

fn memory(server_mib: u64, client_mib: u64, kernel_bytes: Option<i64>) -> Memory {
    Memory {
        server: process(0, 0, server_mib),
        client: process(0, 0, client_mib),
        kernel_bytes,
    }
}

/// `count` operations in as many seconds as say, at a node that was so busy, all as they should be.
fn served(count: u64, seconds: u64, cpu_ns_per_second: u64) -> Served {
    Served {
        report: LoadReport {
            window_seconds: seconds as f64,
            offered: count,
            succeeded: count,
            answered: count,
            completed_in_window: count,
            ..LoadReport::default()
        },
        server: usage(seconds, cpu_ns_per_second),
    }
}

/// Everything went well. While nothing happens the node takes 10, 20, 40 and 60 ms a second, the crowd
/// half of that.
fn readings() -> Readings {
    let calm = [10, 20, 40, 60].map(|ms| Calm {
        server: usage(1, ms * 1_000_000),
        client: usage(1, ms * 500_000),
    });
    let mut refreshes = served(1_000, 10, 80_000_000);
    refreshes.report.before = Some(process(1_000_000_000, 100, 1));
    refreshes.report.after = Some(process(1_350_000_000, 110, 1));
    Readings {
        before: memory(1, 2, Some(0)),
        settled: memory(11, 22, Some(1_000_000)),
        after: memory(12, 23, Some(900_000)),
        population: Population {
            seconds: 2.0,
            server: usage(2, 100_000_000),
            client: usage(2, 150_000_000),
        },
        calm,
        registrations: served(50, 1, 40_000_000),
        refreshes: Some(refreshes),
        held: NodeCounters {
            registered_users: u64::from(USERS + VISITORS),
            ..NodeCounters::default()
        },
        calls: served(200, 2, 90_000_000),
        standings: [Standing::default(); 2],
        drops: None,
    }
}

fn value(sample: &Sample, key: &str) -> f64 {
    let value = sample.scalars[key];
    value.unwrap_or_else(|| panic!("{key} is null"))
}

fn assert_near(sample: &Sample, key: &str, expected: f64) {
    let found = value(sample, key);
    assert!((found / expected - 1.0).abs() < 1e-9, "{key}: {found}");
}

/// Why the block does not count after `spoil` has had its way with sound readings.
fn reason(spoil: impl FnOnce(&mut Readings)) -> String {
    let mut readings = readings();
    spoil(&mut readings);
    let reason = sample(&crowd(), &readings).shortfall;
    reason.expect("the block must not count")
}

fn fail(report: &mut LoadReport, causes: &[(&str, u64)]) {
    let causes = causes.iter();
    report.failures = causes
        .map(|(cause, count)| ((*cause).to_owned(), *count))
        .collect::<BTreeMap<_, _>>();
}

#[test]
fn a_crowd_that_stays_and_answers_counts() {
    let sample = sample(&crowd(), &readings());
    assert_eq!((sample.shortfall, sample.generator_bound), (None, None));
}

#[test]
fn what_the_crowd_takes_at_rest_is_no_cost_of_an_operation() {
    let sample = sample(&crowd(), &readings());
    // 40 ms less the mean of 10 and 20 ms in which 50 came.
    assert_near(&sample, "server_cpu_ns_per_registration", 25e6 / 50.0);
    // 80 ms less the mean of 20 and 40 ms, for 100 refreshes a second.
    assert_near(&sample, "server_cpu_ns_per_refresh", 50e6 / 100.0);
    // 35 ms less the mean of 10 and 20 ms.
    assert_near(&sample, "client_cpu_ns_per_refresh", 20e6 / 100.0);
    // 90 ms less the mean of 40 and 60 ms, for 100 calls a second.
    assert_near(&sample, "server_cpu_ns_per_call", 40e6 / 100.0);
    // Of the crowd alone, before visitors come.
    assert_near(&sample, "idle_server_cpu_ratio", 0.01);
    assert_near(&sample, "idle_client_cpu_ratio", 0.005);
    assert_near(
        &sample,
        "population_server_cpu_ns_per_registration",
        200_000.0,
    );
    assert_near(&sample, "population_per_second", 500.0);
}

#[test]
fn what_rest_itself_may_have_cost_is_nobodys_cost() {
    let mut readings = readings();
    // 54 ms are 4 ms above the middle of 40 and 60 ms, which are 10 ms apart from it.
    readings.calls = served(200, 2, 54_000_000);
    let sample = super::sample(&crowd(), &readings);
    assert_eq!(sample.scalars["server_cpu_ns_per_call"], None);
    assert_near(&sample, "server_cpu_ns_per_refresh", 50e6 / 100.0);
}

#[test]
fn without_hold_nothing_is_told_of_refreshes() {
    let mut readings = readings();
    readings.refreshes = None;
    let sample = sample(&crowd(), &readings);
    assert_eq!(sample.shortfall, None);
    for side in ["client", "server"] {
        assert_eq!(sample.scalars[&format!("{side}_cpu_ns_per_refresh")], None);
    }
    assert!(!sample.scalars.contains_key("reregister_offered_count"));
}

#[test]
fn memory_of_a_user_is_what_the_crowd_added() {
    let sample = sample(&crowd(), &readings());
    let mib = MIB as f64;
    assert_near(&sample, "server_heap_bytes", 11.0 * mib);
    assert_near(
        &sample,
        "server_heap_bytes_per_connection",
        10.0 * mib / 1e3,
    );
    assert_near(&sample, "client_rss_bytes_per_connection", 40.0 * mib / 1e3);
    assert_near(&sample, "kernel_bytes_per_connection", 1_000.0);
    // Peaks of both sides at the end, and the most that the kernel had.
    assert_near(&sample, "peak_memory_bytes", 3.0 * 35.0 * mib + 1e6);
    let mut readings = readings();
    readings.settled.kernel_bytes = None;
    let sample = super::sample(&crowd(), &readings);
    assert_eq!(sample.scalars["kernel_bytes_per_connection"], None);
}

#[test]
fn users_who_are_no_longer_registered_are_counted_in_the_reason() {
    let reason = reason(|readings| readings.held.registered_users -= 3);
    assert!(reason.contains("997 of 1000 users"), "{reason}");
    let mut readings = readings();
    readings.held.registered_users -= 3;
    let sample = sample(&crowd(), &readings);
    assert_near(&sample, "registered_count", 997.0);
}

#[test]
fn lost_hops_of_crowd_and_visitors_are_counted_in_the_reason() {
    let reason = reason(|readings| {
        readings.standings[0].lost_hops = 2;
        readings.standings[1].lost_hops = 5;
    });
    assert!(reason.contains("7 hops were lost"), "{reason}");
}

#[test]
fn a_call_without_answer_is_counted_with_its_cause() {
    let unanswered = reason(|readings| {
        let report = &mut readings.calls.report;
        report.answered -= 4;
        fail(report, &[("480", 1), ("408", 3)]);
    });
    let expected = "196 of 200 calls were answered, 3 of them so: 408";
    assert_eq!(unanswered, expected);
    let none = reason(|readings| readings.calls = served(0, 2, 90_000_000));
    assert!(none.contains("0 of 0 calls"), "{none}");
}

#[test]
fn operations_that_failed_are_counted_with_their_cause() {
    let refresh = reason(|readings| {
        let report = &mut readings.refreshes.as_mut().unwrap().report;
        fail(report, &[("503", 6)]);
    });
    let expected = "6 of 1000 refreshes failed, 6 of them so: 503";
    assert_eq!(refresh, expected);
    let newcomer = reason(|readings| fail(&mut readings.registrations.report, &[("403", 1)]));
    assert!(
        newcomer.starts_with("1 of 50 registrations failed"),
        "{newcomer}"
    );
    // A call may be answered and fail when it ends.
    let call = reason(|readings| fail(&mut readings.calls.report, &[("481", 2)]));
    assert!(call.starts_with("2 of 200 calls failed"), "{call}");
}
