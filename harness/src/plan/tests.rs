//! Plans and validations of runs that are made by rule.

use std::collections::BTreeMap;

use hopbench::record::{Build, Cell, Environment, Fit, Metric, SCHEMA as RUN_SCHEMA, Verdict};
use hopbench::transport;
use serde_json::json;

use super::demand::demand;
use super::finding::Bound;
use super::*;

fn run(run_id: &str, cells: Vec<Cell>) -> Run {
    Run {
        schema: RUN_SCHEMA.to_owned(),
        run_id: run_id.to_owned(),
        started_at: "2026-01-02T03:04:05Z".to_owned(),
        finished_at: None,
        profile: "made".to_owned(),
        seed: 1,
        scenario_sha256: "00".repeat(32),
        interleaving: None,
        build: Build {
            version: "0.1.0".to_owned(),
            git_commit: Some("0123456789abcdef".to_owned()),
            git_dirty: Some(false),
            rustc: "rustc".to_owned(),
            libraries: BTreeMap::new(),
        },
        environment: Environment {
            os: "linux".to_owned(),
            kernel: None,
            cpu_model: Some("Example CPU".to_owned()),
            cpu_count: 2,
            memory_bytes: None,
            hypervisor: None,
            tcp_congestion_control: None,
            file_descriptor_limit: None,
            load_average_at_start: None,
        },
        cells,
        ratios: Vec::new(),
    }
}

/// A cell of `tls` with figures that have intervals of ±10 %.
fn cell(
    name: &str,
    suffix: &str,
    parameters: &[(&str, serde_json::Value)],
    metrics: &[(&str, f64)],
) -> Cell {
    let (experiment, workload) = name.split_once('/').unwrap();
    let metric = |(key, value): &(&str, f64)| {
        let unit = hopbench::record::Unit::of_key(key).unwrap_or(hopbench::record::Unit::Bytes);
        let ci95 = Some((value * 0.9, value * 1.1));
        let direction = hopbench::record::Direction::Lower;
        (
            (*key).to_owned(),
            Metric::scalar(Some(*value), ci95, unit, direction),
        )
    };
    Cell {
        id: format!("{name}/tls/direct/per-registration/loopback{suffix}"),
        experiment: experiment.to_owned(),
        workload: workload.to_owned(),
        stack: "tls".to_owned(),
        topology: "direct".to_owned(),
        lifecycle: "per-registration".to_owned(),
        path: "loopback".to_owned(),
        parameters: parameters
            .iter()
            .map(|(key, value)| ((*key).to_owned(), value.clone()))
            .collect(),
        verdict: Verdict::Ok,
        reason: None,
        repetitions: 3,
        metrics: metrics.iter().map(metric).collect(),
        steps: Vec::new(),
    }
}

fn register(suffix: &str, offered: f64, cpu_ns: f64) -> Cell {
    cell(
        "throughput/register",
        suffix,
        &[("users", json!(100))],
        &[
            ("offered_per_second", offered),
            ("server_cpu_ns_per_operation", cpu_ns),
            ("wire_bytes_per_operation", 4_000.0),
        ],
    )
}

fn crowd(users: u32, cpu_per_call_ns: f64) -> Cell {
    let of_all = f64::from(users);
    cell(
        "scale/idle",
        &format!("?users={users}"),
        &[
            ("users", json!(users)),
            ("keep_alive_seconds", json!(120.0)),
            ("node_workers", json!(2)),
        ],
        &[
            ("server_heap_bytes", 2e6 + 9_000.0 * of_all),
            ("server_rss_bytes", 8e6 + 9_500.0 * of_all),
            ("kernel_bytes", 7_000.0 * of_all),
            ("server_cpu_ns_per_call", cpu_per_call_ns),
            ("server_cpu_ns_per_registration", 500_000.0),
            ("server_cpu_ns_per_refresh", 50_000.0),
            ("idle_server_cpu_ratio", 1e-6 * of_all),
        ],
    )
}

fn tls() -> [&'static Stack; 1] {
    [transport::find("tls").unwrap()]
}

fn of<'a>(plan: &'a Plan, key: &str) -> &'a Estimate {
    let mut estimates = plan.stacks[0].estimates.iter();
    estimates.find(|estimate| estimate.key == key).unwrap()
}

fn value(plan: &Plan, key: &str) -> f64 {
    of(plan, key).figure.unwrap().value
}

#[test]
fn the_busiest_sound_cell_is_asked_and_no_variant() {
    let mut bound = register("?rate=900", 900.0, 1.0);
    bound.verdict = Verdict::GeneratorBound;
    bound.reason = Some("core full".to_owned());
    let runs = [run(
        "a",
        vec![
            register("?rate=100", 100.0, 400_000.0),
            register("?rate=300", 300.0, 250_000.0),
            register("?resumption=ticket", 500.0, 1.0),
            bound,
        ],
    )];
    let plan = plan(&runs, &tls(), &demand(1_500_000));
    let handshakes = of(&plan, "handshakes_per_core_per_second");
    assert_eq!(handshakes.figure.unwrap().value, 4_000.0);
    let ci95 = handshakes.figure.unwrap().ci95.unwrap();
    assert!((ci95.low - 4_000.0 / 1.1).abs() < 1e-6 && (ci95.high - 4_000.0 / 0.9).abs() < 1e-6);
    assert_eq!(handshakes.extrapolation_factor, Some(15_000.0));
    assert!(handshakes.sources[0].cell_id.ends_with("?rate=300"));
    assert_eq!(plan.stacks[0].unused.len(), 1);

    // A refresh costs at most that; of calls nothing is known.
    assert_eq!(of(&plan, "refresh_cores").bound, Bound::AtMost);
    let calls = of(&plan, "call_cores");
    assert_eq!((calls.figure, calls.missing.len()), (None, 1));
    let text = render(&plan, Style::Text);
    for said in [
        "?rate=900: generator-bound: core full",
        "Example CPU",
        "012345678",
        "hopbench run --profile workloads --experiments throughput --stacks tls",
        "15,000 times the users",
    ] {
        assert!(text.contains(said), "{said} is not in:\n{text}");
    }
}

#[test]
fn of_two_runs_the_first_that_measured_it_counts() {
    let runs = [
        run("a", vec![register("", 100.0, 500_000.0)]),
        run("b", vec![register("", 900.0, 1.0)]),
    ];
    let plan = plan(&runs, &tls(), &demand(1_000));
    let source = &of(&plan, "avalanche_cores").sources[0];
    assert_eq!(
        (source.run_id.as_str(), source.figure.value),
        ("a", 500_000.0)
    );
}

#[test]
fn a_crowd_tells_slope_fixed_cost_and_idle_users() {
    let runs = [run(
        "a",
        [1_000, 10_000, 100_000]
            .map(|users| crowd(users, 200_000.0))
            .into(),
    )];
    let plan = plan(&runs, &tls(), &demand(1_000_000));
    let near = |key: &str, expected: f64| {
        let found = value(&plan, key);
        assert!((found / expected - 1.0).abs() < 1e-6, "{key}: {found}");
    };
    // 51 processes; half of what two processes have without users each.
    near("processes_count", 51.0);
    near("server_heap_bytes", 9_000.0 * 1e6 + 51.0 * 1e6);
    near("server_resident_bytes", 9_500.0 * 1e6 + 51.0 * 4e6);
    near("server_kernel_bytes", 3_500.0 * 1e6);
    near("keep_alive_cores", 1.0);
    assert!(
        of(&plan, "server_heap_bytes")
            .figure
            .unwrap()
            .ci95
            .is_some()
    );
    // No experiment tells what keep-alives take on the wire.
    let wire = of(&plan, "keep_alive_bits_per_second");
    assert_eq!(
        (wire.figure, wire.missing[0].command.as_deref()),
        (None, None)
    );
    near("call_cores", 1e6 * 2.0 / 3_600.0 * 200_000.0 / 1e9);
    // Half an hour between two refreshes of a user.
    near("refresh_cores", 1e6 / 1_800.0 * 50_000.0 / 1e9);
    let refresh = of(&plan, "refresh_cores");
    assert_eq!(refresh.bound, Bound::Estimate);
    let call = of(&plan, "call_cores");
    assert_eq!(
        (call.bound, call.extrapolation_factor),
        (Bound::Estimate, Some(10.0))
    );
}

#[test]
fn users_at_rest_take_a_line_and_not_a_proportion() {
    let mut cells = [1_000, 10_000, 100_000].map(|users| crowd(users, 200_000.0));
    for (cell, cores) in cells.iter_mut().zip([0.003, 0.012, 0.102]) {
        let metric = cell.metrics.get_mut("idle_server_cpu_ratio").unwrap();
        *metric = Metric::of("idle_server_cpu_ratio", Some(cores));
    }
    // Two milliseconds a second, and a microsecond for each user.
    let runs = [run("a", cells.to_vec())];
    let all = validate(&runs, &tls(), HeldOut::Largest, 10.0);
    let idle = all.predictions.last().unwrap();
    assert_eq!(idle.metric, "idle_server_cpu_ratio");
    assert!((idle.predicted.value - 0.102).abs() < 1e-9, "{idle:?}");
    let whole = plan(&runs, &tls(), &demand(1_000_000));
    let cores = value(&whole, "keep_alive_cores");
    assert!((cores - 1.002).abs() < 1e-9, "{cores}");
    // It goes on from the most users, not from the fewest.
    let reach = of(&whole, "keep_alive_cores").extrapolation_factor;
    assert_eq!(reach, Some(10.0));
    // Of one crowd there is no line.
    let runs = [run("a", cells[2..].to_vec())];
    let cores = value(&plan(&runs, &tls(), &demand(1_000_000)), "keep_alive_cores");
    assert!((cores - 1.02).abs() < 1e-9, "{cores}");
}

#[test]
fn growth_with_the_crowd_goes_on_in_the_interval() {
    let cells = vec![crowd(1_000, 200_000.0), crowd(100_000, 240_000.0)];
    let plan = plan(&[run("a", cells)], &tls(), &demand(10_000_000));
    let figure = of(&plan, "call_cores").figure.unwrap();
    // 20 µs a decade, two decades more: 280 µs, beyond the 10 % of the cell.
    let per_call = |cores: f64| cores * 1e9 / (1e7 * 2.0 / 3_600.0);
    assert!((per_call(figure.value) - 240_000.0).abs() < 1.0);
    assert!((per_call(figure.ci95.unwrap().high) - 280_000.0).abs() < 1.0);
}

#[test]
fn crowds_are_predicted_from_smaller_ones() {
    let mut cells: Vec<Cell> = [1_000, 10_000, 100_000]
        .map(|users| crowd(users, 200_000.0))
        .into();
    let held_out = |cells: &[Cell], held_out| {
        let runs = [run("a", cells.to_vec())];
        validate(&runs, &tls(), held_out, 10.0)
    };
    let all = held_out(&cells, HeldOut::Users(100_000));
    assert_eq!(all.predictions.len(), 7);
    assert!(all.is_met());
    assert!(
        all.predictions
            .iter()
            .all(|one| one.error_percent.abs() < 1e-6)
    );
    assert_eq!(
        all,
        Validation {
            held_out: HeldOut::Users(100_000),
            ..held_out(&cells, HeldOut::Largest)
        }
    );

    cells[2] = crowd(100_000, 250_000.0);
    let missed = held_out(&cells, HeldOut::Largest);
    assert!(!missed.is_met());
    let call = missed
        .predictions
        .iter()
        .find(|one| one.metric == "server_cpu_ns_per_call")
        .unwrap();
    assert_eq!((call.error_percent, call.from_users), (-20.0, 10_000.0));
    assert!(render_validation(&missed, Style::Text).contains("6 of 7 predictions are within 10 %"));

    assert!(
        held_out(&cells, HeldOut::Users(1_000))
            .predictions
            .is_empty()
    );
    assert!(
        !held_out(&cells, HeldOut::Users(77)).is_met(),
        "of none nothing is"
    );
}

#[test]
fn readings_of_memory_are_predicted_from_smaller_numbers() {
    let mut ramp = cell(
        "memory/register",
        "?stage=registered",
        &[
            ("stage", json!("registered")),
            ("connections", json!([10, 20, 40, 80])),
        ],
        &[("server_heap_bytes_per_connection", 100.0)],
    );
    let metric = ramp
        .metrics
        .get_mut("server_heap_bytes_per_connection")
        .unwrap();
    metric.fit = Some(Fit {
        at: vec![10.0, 20.0, 40.0, 80.0],
        // 100 bytes each beside a megabyte; the last one took 25 % more than that in both blocks.
        readings: vec![vec![1e6, 1e6 + 1e3, 1e6 + 3e3, 1e6 + 8_750.0]; 2],
        ci95_low: None,
        ci95_high: None,
        outliers: Vec::new(),
    });
    let found = validate(&[run("a", vec![ramp])], &tls(), HeldOut::Largest, 10.0);
    let [one] = found.predictions.as_slice() else {
        panic!("{found:?}");
    };
    assert!((one.predicted.value - 7_000.0).abs() < 1e-3, "{one:?}");
    assert_eq!(
        (one.measured.value, one.from_users, one.users),
        (8_750.0, 40.0, 80.0)
    );
    assert!((one.error_percent + 20.0).abs() < 1e-3);
}

#[test]
fn stacks_have_the_same_lines_in_every_style() {
    let runs = [run("a", vec![register("", 100.0, 500_000.0)])];
    let stacks: Vec<&Stack> = transport::stacks().iter().collect();
    let plan = plan(&runs, &stacks, &demand(1_000));
    let keys = |stack: &StackPlan| {
        stack
            .estimates
            .iter()
            .map(|one| one.key)
            .collect::<Vec<_>>()
    };
    assert!(
        plan.stacks
            .iter()
            .all(|stack| keys(stack) == keys(&plan.stacks[0]))
    );
    for stack in &stacks {
        assert!(render(&plan, Style::Markdown).contains(&format!("`{}`", stack.name)));
        assert!(render(&plan, Style::Text).contains(stack.name));
    }
    let json = serde_json::to_value(&plan).unwrap();
    assert_eq!(json["schema"], SCHEMA);
    assert!(json["stacks"][0]["estimates"][0]["figure"].is_null());
}
