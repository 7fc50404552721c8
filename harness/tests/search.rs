//! Searches for rates from end to end, against nodes whose capacity is known because they refuse calls
//! beyond it: what is found is bounded by that, whatever the machine.

#![allow(clippy::unwrap_used)]

mod support;

use hopbench::record::{Cell, Run, Step, StepOutcome, Verdict};
use support::{hopbench, stderr, stdout};

/// Calls a second that the nodes let in, and how many more at once after a pause.
const LIMIT: f64 = 400.0;
const AT_ONCE: f64 = 20.0;

const SCENARIO: &str = r#"
name = "search"
summary = "for the test"
stacks = ["udp", "tcp"]

[[search]]
workload = "invite"
lifecycle = "per-registration"
attempts = 120
rate_per_second = 100.0
increase_weight = 1.0
confirmations = 2
establishment_threshold_seconds = 1.0
users = 60
warm_up_seconds = 0.05
steps_max = 30
seconds_max = 600.0
arrivals = "constant"
calls_per_second_limit = 400

[[search]]
stacks = ["tcp"]
workload = "register"
lifecycle = "per-registration"
attempts = 20
rate_per_second = 40.0
establishment_threshold_seconds = 10.0
warm_up_seconds = 0.0
steps_max = 1
seconds_max = 600.0

[[search]]
stacks = ["tcp"]
workload = "invite"
lifecycle = "per-call"
attempts = 100
rate_per_second = 200.0
establishment_threshold_seconds = 5.0
users = 2
talk_seconds = 0.3
warm_up_seconds = 0.0
steps_max = 1
seconds_max = 600.0

[[knee]]
workload = "invite"
lifecycle = "per-registration"
rate_per_second = 100.0
factor = 2.0
duration_seconds = 0.3
past = 1
refinements = 1
users = 200
warm_up_seconds = 0.05
steps_max = 12
seconds_max = 600.0
arrivals = "constant"
calls_per_second_limit = 400
"#;

fn measured() -> (tempfile::TempDir, Run) {
    let folder = tempfile::tempdir().unwrap();
    let scenario = folder.path().join("search.toml");
    std::fs::write(&scenario, SCENARIO).unwrap();
    let output = hopbench()
        .arg("run")
        .arg(&scenario)
        .args(["--seed", "3", "--out"])
        .arg(folder.path())
        .output()
        .unwrap();
    // A search whose every rate was too much for a busy machine has failed.
    assert!(
        matches!(output.status.code(), Some(0 | 3)),
        "{}{}",
        stdout(&output),
        stderr(&output)
    );
    let run = Run::read(&folder.path().join("run.json")).unwrap();
    (folder, run)
}

fn cells<'r>(run: &'r Run, start: &str) -> Vec<&'r Cell> {
    let cells = run.cells.iter();
    cells.filter(|cell| cell.id.starts_with(start)).collect()
}

fn value(cell: &Cell, key: &str) -> Option<f64> {
    cell.metrics[key].value
}

/// The latest that a call of the step reached the node, at most, after it was meant to.
fn lateness_seconds(step: &Step) -> f64 {
    let ns = step.lag_max_ns.unwrap_or_default() + step.latency_max_ns.unwrap_or_default();
    ns as f64 / 1e9
}

/// What holds for every step against such a node, on machines of any speed.
fn assert_is_plausible(step: &Step) {
    let attempted = step.attempted_count as f64;
    let seconds = attempted / step.offered_per_second;
    assert_eq!(step.outcome == StepOutcome::Held, step.reason.is_none());
    match step.outcome {
        StepOutcome::Held => {
            let let_in = AT_ONCE + LIMIT * (seconds + lateness_seconds(step)) + 2.0;
            assert!(attempted <= let_in, "more than were let in: {step:?}");
            assert_eq!(step.failed_count, 0);
        }
        // A node refuses at a rate that it lets in only what comes in a bunch, which is late.
        StepOutcome::Failed if step.offered_per_second <= LIMIT => {
            assert!(lateness_seconds(step) > 0.01, "it was not late: {step:?}");
        }
        StepOutcome::Failed | StepOutcome::GeneratorBound => {}
    }
}

fn assert_finds_the_limit(cell: &Cell, key: &str) {
    assert!(cell.steps.len() >= 3, "{:?}", cell.steps);
    cell.steps.iter().for_each(assert_is_plausible);
    let held = cell.steps.iter();
    let held = held.filter(|step| step.outcome == StepOutcome::Held);
    let highest = held
        .map(|step| step.offered_per_second)
        .max_by(f64::total_cmp);
    let found = value(cell, key);
    assert!(
        found.is_none() || found <= highest,
        "{found:?} of {highest:?}"
    );
    let is_quiet = cell
        .steps
        .iter()
        .all(|step| lateness_seconds(step) < 0.01 && step.outcome != StepOutcome::GeneratorBound);
    // On a busy machine the search may end anywhere beneath, or say that the generator was the limit.
    if is_quiet {
        assert_eq!(cell.verdict, Verdict::Ok, "{:?}", cell.reason);
        let found = found.unwrap();
        assert!(
            (0.8 * LIMIT..=1.25 * LIMIT).contains(&found),
            "{key}: {found}"
        );
        assert!(value(cell, "search_ceiling_per_second") > Some(found));
    }
    let attempts: u64 = cell.steps.iter().map(|step| step.attempted_count).sum();
    assert_eq!(value(cell, "search_attempts_count"), Some(attempts as f64));
}

#[test]
fn the_capacity_of_a_node_is_found_and_every_step_is_kept() {
    let (folder, run) = measured();
    assert_eq!(run.cells.len(), 6);
    for stack in ["udp", "tcp"] {
        let start = format!("search/invite/{stack}/direct/per-registration");
        let [cell] = cells(&run, &start)[..] else {
            panic!("one cell of {start}");
        };
        assert_finds_the_limit(cell, "session_establishment_rate");
        for (key, expected) in [
            ("attempts", 120.0),
            ("initial_rate_per_second", 100.0),
            ("increase_weight", 1.0),
            ("decrease_weight", 0.5),
            ("calls_per_second_limit", LIMIT),
        ] {
            assert_eq!(cell.parameters[key].as_f64(), Some(expected), "{key}");
        }
        let [knee] = cells(&run, &format!("knee/invite/{stack}"))[..] else {
            panic!("one knee of {stack}");
        };
        knee.steps.iter().for_each(assert_is_plausible);
        // Of fewer than a thousand calls, one that fails is more than a thousandth.
        if let Some(found) = value(knee, "knee_per_second") {
            let at_knee = knee.steps.iter();
            let mut at_knee = at_knee.filter(|step| step.offered_per_second == found);
            assert!(at_knee.all(|step| step.failed_count == 0));
        }
    }
    nothing_is_made_up(&run);
    reports_show_it(folder.path());
}

/// Of searches that met no limit of the server.
fn nothing_is_made_up(run: &Run) {
    let [unlimited] = cells(run, "search/register/")[..] else {
        panic!("one search of registrations");
    };
    let [short] = cells(run, "search/invite/tcp/direct/per-call")[..] else {
        panic!("one search with few users");
    };
    // Twenty registrations in half a second, each within ten, succeed on any machine; should the
    // generator not get its processor, that is said.
    match unlimited.verdict {
        Verdict::Ok => assert_eq!(value(unlimited, "search_held_per_second"), Some(40.0)),
        Verdict::GeneratorBound => assert_eq!(value(unlimited, "search_held_per_second"), None),
        Verdict::Failed | Verdict::Unsupported => panic!("{:?}", unlimited.reason),
    }
    // One step is no search: what it held is a bound.
    assert_eq!(value(unlimited, "registration_rate"), None);
    assert_eq!(unlimited.parameters["search_end"], "steps");
    assert_eq!(value(unlimited, "search_ceiling_per_second"), None);
    // Two users in calls of 0.3 s cannot begin two hundred a second: as many as it takes are there.
    match short.verdict {
        Verdict::Ok => assert_eq!(value(short, "search_held_per_second"), Some(200.0)),
        Verdict::GeneratorBound => {
            let reason = short.reason.as_deref().unwrap();
            assert!(!reason.contains("no user"), "{reason}");
        }
        Verdict::Failed | Verdict::Unsupported => panic!("{:?}", short.reason),
    }
    let is_ratio_of = |cell: &Cell| run.ratios.iter().any(|ratio| ratio.cell_id == cell.id);
    assert!(!is_ratio_of(short) && !is_ratio_of(unlimited));
}

fn reports_show_it(folder: &std::path::Path) {
    let markdown = std::fs::read_to_string(folder.join("report.md")).unwrap();
    for part in [
        "## Highest rates with zero failures",
        "## Knee",
        "charts/knee-invite.svg",
    ] {
        assert!(markdown.contains(part), "{part}");
    }
    assert!(folder.join("charts/knee-invite.svg").is_file());
    let output = hopbench()
        .args(["report", "--format", "rfc7502"])
        .arg(folder)
        .output()
        .unwrap();
    let form = stdout(&output);
    for part in [
        "Session Establishment Rate, \"R\" = ",
        "Establishment Threshold time = ",
        "Re-registration Rate = not measured",
    ] {
        assert!(form.contains(part), "{part}: {form}");
    }
}
