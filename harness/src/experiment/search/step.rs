//! From what a load tells to a step of a search: what failed, and whose limit that was.

use hopbench::load::{LoadPlan, LoadReport, Moment};
use hopbench::measure::histogram::LatencyHistogram;
use hopbench::record::{Step, StepOutcome};

use super::finding::Observation;
use crate::experiment::load::{Readings, generator_bound, latency};

/// A user that is needed again sooner than this is one of too few, where there is no threshold.
const PATIENCE_SECONDS: f64 = 0.02;

/// What is slow is not the server's doing if the generator was late itself by this share of it.
const LAG_SHARE_MAX: f64 = 0.5;

/// And it explains what is late by no more than so many times as much: a stall delays the start, and the answer once more.
const LAGS_MAX: f64 = 2.0;

/// A worker that uses less of its processor than this is not the limit, whatever fails.
const SUSPECT_BUSY_RATIO: f64 = 0.6;

/// What makes an attempt a failure beyond what the generator calls one.
pub(super) struct Criteria {
    /// The establishment threshold time of RFC 7501 §3.3.2.
    pub(super) threshold_seconds: Option<f64>,
}

/// A step, and whether it should be taken once more.
pub(super) struct Taken {
    pub(super) step: Step,
    /// Whether the machine stood still meanwhile, and nothing else was wrong: another try may tell more.
    pub(super) is_spoilt: bool,
}

/// The step that a load was.
pub(super) fn taken(plan: &LoadPlan, criteria: &Criteria, readings: &Readings) -> Taken {
    let report = &readings.report;
    let waited = latency(report, plan.workload);
    let lag = report.latencies.get(Moment::SchedulingLag.key());
    let at = |histogram: Option<&LatencyHistogram>, quantile| histogram?.quantile_ns(quantile);
    let (latency_max_ns, lag_max_ns) = (at(waited, 1.0), at(lag, 1.0));
    let late = criteria
        .threshold_seconds
        .map(|seconds| late(waited, seconds));
    let failed = report.failed() + late.unwrap_or_default();
    let busy: f64 = readings
        .servers
        .iter()
        .map(|node| node.cpu_ns as f64 / node.elapsed_ns as f64)
        .sum();
    // Where a part of it is in nobody's time, nobody knows.
    let busy = if readings.is_cpu_time_whole {
        busy
    } else {
        f64::NAN
    };
    // What the server refuses is its own doing, however busy anybody is. Users are busy for as long as answers are slow.
    let is_slow = report.failed() == report.without_user && failed > 0;
    let latest = latency_max_ns.zip(lag_max_ns).filter(|_| is_slow);
    let late_itself = latest.and_then(|latest| unpunctual(latest, criteria));
    let bound = generator_bound(report, waited)
        .or_else(|| too_few_users(plan, criteria, report))
        .or_else(|| busier(report.busiest_worker_ratio, busy).filter(|_| is_slow));
    let is_spoilt = bound.is_none() && late_itself.is_some();
    let bound = bound.or(late_itself);
    let (outcome, reason) = match (bound, failed) {
        (Some(reason), _) => (StepOutcome::GeneratorBound, Some(reason)),
        (None, 0) => (StepOutcome::Held, None),
        (None, _) => (StepOutcome::Failed, Some(told(report, late, criteria))),
    };
    let step = Step {
        offered_per_second: plan.rate_per_second,
        achieved_per_second: Some(report.completed_in_window as f64 / report.window_seconds),
        attempted_count: report.offered,
        // What ended well but late may be what failed afterwards.
        failed_count: failed.min(report.offered),
        late_count: late,
        latency_p50_ns: at(waited, 0.5),
        latency_p90_ns: at(waited, 0.9),
        latency_p99_ns: at(waited, 0.99),
        latency_max_ns,
        lag_p50_ns: at(lag, 0.5),
        lag_p99_ns: at(lag, 0.99),
        lag_max_ns,
        generator_busy_ratio: Some(report.busiest_worker_ratio),
        server_busy_ratio: Some(busy).filter(|busy| busy.is_finite()),
        outcome,
        reason,
    };
    Taken { step, is_spoilt }
}

/// A step that the machine has no room for.
pub(super) fn not_taken(rate_per_second: f64, reason: &str) -> Step {
    Step {
        offered_per_second: rate_per_second,
        achieved_per_second: None,
        attempted_count: 0,
        failed_count: 0,
        late_count: None,
        latency_p50_ns: None,
        latency_p90_ns: None,
        latency_p99_ns: None,
        latency_max_ns: None,
        lag_p50_ns: None,
        lag_p99_ns: None,
        lag_max_ns: None,
        generator_busy_ratio: None,
        server_busy_ratio: None,
        outcome: StepOutcome::GeneratorBound,
        reason: Some(reason.to_owned()),
    }
}

/// What a search is told of a step that took so long.
pub(super) fn observation(step: &Step, is_spoilt: bool, seconds: f64) -> Observation {
    Observation {
        is_spoilt,
        attempted: step.attempted_count,
        failed: step.failed_count,
        latency_p99_ns: step.latency_p99_ns,
        is_generator_bound: match step.outcome {
            StepOutcome::GeneratorBound => true,
            StepOutcome::Held | StepOutcome::Failed => false,
        },
        is_generator_to_blame: is_generator_to_blame(step),
        seconds,
    }
}

fn is_generator_to_blame(step: &Step) -> bool {
    let busy = step.generator_busy_ratio.zip(step.server_busy_ratio);
    let tails = step.lag_p99_ns.zip(step.latency_p99_ns);
    busy.is_some_and(|(generator, nodes)| busier(generator, nodes).is_some())
        || tails.is_some_and(|(lag, latency)| lag as f64 >= LAG_SHARE_MAX * latency as f64)
}

/// How many waited for longer.
fn late(waited: Option<&LatencyHistogram>, threshold_seconds: f64) -> u64 {
    let threshold_ns = (threshold_seconds * 1e9) as u64;
    waited.map_or(0, |waited| {
        waited.values().count_between(threshold_ns + 1, u64::MAX)
    })
}

/// A server that is slow keeps users busy; it is the generator's fault only if they are needed again
/// before they have waited for as long as they may.
fn too_few_users(plan: &LoadPlan, criteria: &Criteria, report: &LoadReport) -> Option<String> {
    let patience = criteria.threshold_seconds.unwrap_or(PATIENCE_SECONDS);
    let needed = plan.rate_per_second * (patience + plan.talk_seconds + plan.ring_seconds);
    (report.without_user > 0 && f64::from(plan.users) < needed).then(|| {
        format!(
            "{} of {} operations found no user of the generator free: raise `users` to {} at least",
            report.without_user,
            report.offered,
            needed.ceil()
        )
    })
}

/// Whose fault a failure is where both sides are busy: on a machine that is not theirs alone, nobody gets
/// all of a processor, so that one who uses less than all of it may be at its limit all the same.
fn busier(generator: f64, nodes: f64) -> Option<String> {
    (generator > SUSPECT_BUSY_RATIO && generator > nodes).then(|| {
        format!(
            "a generator worker used {:.0} % of its processor, and the server only {:.0} % of one: add workers",
            generator * 100.0,
            nodes * 100.0
        )
    })
}

/// A machine that stands still for a while delays starts as well as answers, and what it delays is no server's doing. It
/// does not explain what takes much longer.
fn unpunctual((latency_max_ns, lag_max_ns): (u64, u64), criteria: &Criteria) -> Option<String> {
    let [latency_seconds, lag_seconds] = [latency_max_ns, lag_max_ns].map(|ns| ns as f64 / 1e9);
    let threshold_seconds = criteria.threshold_seconds?;
    let is_late = lag_seconds >= LAG_SHARE_MAX * threshold_seconds;
    let explains_all = latency_seconds <= threshold_seconds + LAGS_MAX * lag_seconds;
    (is_late && explains_all).then(|| {
        format!(
            "the generator started an operation {:.1} ms late; the threshold is {:.1} ms",
            lag_seconds * 1e3,
            threshold_seconds * 1e3
        )
    })
}

/// What failed, the most frequent cause first.
fn told(report: &LoadReport, late: Option<u64>, criteria: &Criteria) -> String {
    let mut causes: Vec<(u64, String)> = report
        .failures
        .iter()
        .map(|(cause, count)| (*count, cause.clone()))
        .collect();
    if let Some((late, seconds)) = late.zip(criteria.threshold_seconds)
        && late > 0
    {
        causes.push((late, format!("established after more than {seconds} s")));
    }
    causes.sort_by_key(|(count, _)| std::cmp::Reverse(*count));
    let told = causes.iter().take(2);
    let told: Vec<String> = told
        .map(|(count, cause)| format!("{count} {cause}"))
        .collect();
    format!("of {} attempts: {}", report.offered, told.join("; "))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn only_what_waited_for_longer_than_the_threshold_is_late() {
        let mut waited = LatencyHistogram::new();
        for milliseconds in [1, 99, 100, 102, 5_000] {
            waited.record(Duration::from_millis(milliseconds));
        }
        assert_eq!(late(Some(&waited), 0.1005), 2);
        assert_eq!(late(Some(&waited), 10.0), 0);
        assert_eq!(late(None, 0.1), 0);
    }

    #[test]
    fn a_failure_is_the_busier_side_s_unless_neither_is_busy() {
        // Generator, server; whether the generator is suspected.
        let cases = [
            (0.87, 0.53, true),
            (0.7, 0.9, false),
            (0.3, 0.1, false),
            (0.95, 0.95, false),
        ];
        for (generator, nodes, expected) in cases {
            let suspected = busier(generator, nodes).is_some();
            assert_eq!(suspected, expected, "{generator} and {nodes}");
        }
    }

    #[test]
    fn what_a_generator_that_is_late_itself_finds_late_is_not_the_server_s_fault() {
        let criteria = |threshold_seconds| Criteria { threshold_seconds };
        let at = |latency_ms: u64, lag_ms: u64, threshold| {
            let latest = (latency_ms * 1_000_000, lag_ms * 1_000_000);
            unpunctual(latest, &criteria(threshold))
        };
        assert_eq!(
            at(60, 26, Some(0.05)).as_deref(),
            Some("the generator started an operation 26.0 ms late; the threshold is 50.0 ms")
        );
        assert_eq!(at(60, 24, Some(0.05)), None);
        // Lag does not explain a queue.
        assert_eq!(at(804, 28, Some(0.05)), None);
        assert_eq!(at(60, 26, None), None);
    }

    #[test]
    fn what_is_slow_is_the_generator_s_doing_if_it_is_busier_or_late_itself() {
        // Busy ratios of generator and server, 99th percentiles of lag and latency; whether it is to blame.
        let cases = [
            (0.9, 0.5, 100, 9_000, true),
            (0.5, 0.9, 100, 9_000, false),
            (0.5, 0.9, 5_000, 9_000, true),
            (0.1, 0.1, 4_000, 9_000, false),
        ];
        for (generator, nodes, lag, latency, expected) in cases {
            let step = Step {
                generator_busy_ratio: Some(generator),
                server_busy_ratio: Some(nodes),
                lag_p99_ns: Some(lag),
                latency_p99_ns: Some(latency),
                ..not_taken(100.0, "none")
            };
            let observed = observation(&step, false, 1.0);
            assert_eq!(observed.is_generator_to_blame, expected, "{step:?}");
        }
        assert!(!observation(&not_taken(100.0, "none"), false, 1.0).is_generator_to_blame);
    }

    #[test]
    fn the_most_frequent_cause_is_told_first() {
        let report = LoadReport {
            offered: 100,
            failures: [("503 to INVITE".to_owned(), 3), ("no answer".to_owned(), 1)].into(),
            ..LoadReport::default()
        };
        let criteria = Criteria {
            threshold_seconds: Some(0.5),
        };
        assert_eq!(
            told(&report, Some(2), &criteria),
            "of 100 attempts: 3 503 to INVITE; 2 established after more than 0.5 s"
        );
    }
}
