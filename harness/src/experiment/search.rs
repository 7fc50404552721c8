//! The experiments `search` and `knee`: what rates a stack can take, found by trying.
//!
//! `search` is the algorithm of RFC 7502 §4.10, for sessions, registrations and re-registrations; `knee`
//! sweeps the offered rate until latency bends. Each block is one step of every stack, in random order:
//! a machine that changes its speed changes it for all stacks alike. Which rate a step is at, its search
//! says ([`max_rate`], [`knee`]), which knows no clock and no server. The cell tells what was found, and
//! keeps every step.

pub(crate) mod finding;
pub(crate) mod knee;
pub(crate) mod max_rate;
#[cfg(test)]
mod simulated;
mod step;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::time::Instant;

use hopbench::load::{LoadPlan, Workload};
use hopbench::record::{Step, StepOutcome};
use serde_json::{Value, json};

use super::collect::Collected;
use super::load::play;
use super::{Bench, Question, Sample, Subject, Trial, cell_id};
use crate::limits::{self, Demand, Spread};
use crate::scenario::{KneeSweep, Plan, Search, Selection, StepLength};
use crate::statistics;
use crate::testbed::Outcome;
use crate::topology::{Site, Topology};
use finding::{End, Finding, Observation};
use knee::Knee;
use max_rate::MaxRate;
use step::{Criteria, Taken};

/// What a block of a search yields.
#[derive(Debug)]
pub(crate) struct Searched {
    /// The step that it was.
    step: Step,
    /// What is known since.
    finding: Finding,
    /// Of a sweep, the 99th percentiles of latency at the lowest rate and at the knee.
    latencies_p99_ns: Option<[Option<f64>; 2]>,
}

/// One stack's search.
struct Rates {
    state: RefCell<Algorithm>,
    /// The load of the first step.
    plan: LoadPlan,
    /// How long a step is; without, as long as the first.
    length: Option<StepLength>,
    criteria: Criteria,
    calls_per_second_limit: Option<u32>,
    steps_max: u32,
    seconds_max: f64,
}

/// Who says which rate comes next.
#[derive(Clone)]
enum Algorithm {
    MaxRate(MaxRate),
    Knee(Knee),
}

/// The cells of one `[[search]]` of a scenario.
pub(super) fn search_trials(search: &Search, plan: &Plan) -> anyhow::Result<Vec<Trial>> {
    let selection = Selection {
        stacks: &search.stacks,
        variants: &search.variants,
        authenticate_calls: search.authenticate_calls,
    };
    let algorithm = search.parameters();
    let named = [
        ("attempts", json!(search.attempts)),
        ("step_seconds_min", json!(search.step_seconds_min)),
        ("initial_rate_per_second", json!(search.rate_per_second)),
        ("increase_weight", json!(algorithm.increase_weight)),
        ("decrease_weight", json!(algorithm.decrease_weight)),
        ("confirmations", json!(search.confirmations)),
        (
            "establishment_threshold_seconds",
            json!(search.establishment_threshold_seconds),
        ),
    ];
    let trial = |site: &Site| {
        let rates = Rates {
            state: RefCell::new(Algorithm::MaxRate(MaxRate::new(algorithm))),
            plan: search.load(),
            length: Some(search.length()),
            criteria: Criteria {
                threshold_seconds: Some(search.establishment_threshold_seconds),
            },
            calls_per_second_limit: search.calls_per_second_limit,
            steps_max: search.steps_max,
            seconds_max: search.seconds_max,
        };
        rates.trial("search", site, &named)
    };
    Ok(plan
        .sites(search.topology, &selection)?
        .iter()
        .map(trial)
        .collect())
}

/// The cells of one `[[knee]]` of a scenario.
pub(super) fn knee_trials(sweep: &KneeSweep, plan: &Plan) -> anyhow::Result<Vec<Trial>> {
    let selection = Selection {
        stacks: &sweep.stacks,
        variants: &sweep.variants,
        authenticate_calls: sweep.authenticate_calls,
    };
    let named = [
        ("lowest_rate_per_second", json!(sweep.rate_per_second)),
        ("factor", json!(sweep.factor)),
        ("duration_seconds", json!(sweep.duration_seconds)),
        ("rate_repetitions", json!(sweep.repetitions)),
        ("rates_past", json!(sweep.past)),
        ("refinements", json!(sweep.refinements)),
        ("success_ratio_min", json!(knee::SUCCESS_RATIO_MIN)),
        ("latency_factor_max", json!(knee::LATENCY_FACTOR_MAX)),
    ];
    let trial = |site: &Site| {
        let rates = Rates {
            state: RefCell::new(Algorithm::Knee(Knee::new(sweep.parameters()))),
            plan: sweep.load(),
            length: None,
            criteria: Criteria {
                threshold_seconds: None,
            },
            calls_per_second_limit: sweep.calls_per_second_limit,
            steps_max: sweep.steps_max,
            seconds_max: sweep.seconds_max,
        };
        rates.trial("knee", site, &named)
    };
    Ok(plan
        .sites(sweep.topology, &selection)?
        .iter()
        .map(trial)
        .collect())
}

impl Rates {
    fn trial(self, experiment: &str, site: &Site, named: &[(&str, Value)]) -> Trial {
        let (workload, lifecycle) = (self.plan.workload, self.plan.lifecycle);
        let users = (workload != Workload::Register).then_some(self.plan.users);
        let common = [
            ("arrivals", json!(self.plan.arrivals.name())),
            // As many as attempts, where each is another user's.
            ("users", json!(users)),
            ("warm_up_seconds", json!(self.plan.warm_up_seconds)),
            ("talk_seconds", json!(self.plan.talk_seconds)),
            ("steps_max", json!(self.steps_max)),
            ("seconds_max", json!(self.seconds_max)),
            ("generator_workers", json!(1)),
            ("calls_per_second_limit", json!(self.calls_per_second_limit)),
        ];
        let parameters = common.iter().chain(named);
        let parameters: BTreeMap<String, Value> = parameters
            .map(|(key, value)| ((*key).to_owned(), value.clone()))
            .collect();
        Trial {
            subject: Subject {
                id: cell_id(experiment, workload.name(), site, lifecycle.name()),
                site: *site,
                parameters,
                blocks: self.steps_max.into(),
            },
            question: Box::new(self),
        }
    }

    /// The load of a step.
    fn plan_at(&self, rate_per_second: f64, seed: u64) -> LoadPlan {
        let mut plan = LoadPlan {
            rate_per_second,
            seed,
            ..self.plan.clone()
        };
        if let Some(length) = self.length {
            plan.duration_seconds = length.seconds(rate_per_second);
        }
        if let Some(threshold_seconds) = self.criteria.threshold_seconds {
            // With fewer, none would be free before any had waited for too long.
            let busy = rate_per_second * (threshold_seconds + plan.talk_seconds);
            plan.users = plan.users.max(busy.ceil() as u32);
        }
        if plan.workload == Workload::Register {
            let mean = rate_per_second * (plan.warm_up_seconds + plan.duration_seconds);
            // Each comes once, also when chance has more of them come than that.
            plan.users = (mean + 5.0 * mean.sqrt()).ceil() as u32 + 16;
        }
        plan
    }
}

impl Question for Rates {
    fn measure(&self, bench: &Bench<'_>, site: &Site, block: u32) -> Outcome<Sample> {
        let rate = self.state.borrow().next_per_second();
        let rate = rate.expect("a search that has ended is not measured");
        let plan = self.plan_at(rate, bench.seed.wrapping_add(u64::from(block)));
        bench.progress.phase(&format!("{rate:.0} a second"));
        let began = Instant::now();
        let Taken { step, is_spoilt } = match demand(&plan, site).unmet(&bench.machine) {
            // What the machine cannot hold was not asked of the server.
            Some(unmet) => Taken {
                step: step::not_taken(rate, &unmet.to_string()),
                is_spoilt: false,
            },
            None => {
                let readings = play(&plan, bench, site, self.calls_per_second_limit)?;
                step::taken(&plan, &self.criteria, &readings)
            }
        };
        let mut state = self.state.borrow_mut();
        let seconds = began.elapsed().as_secs_f64();
        state.observe(&step::observation(&step, is_spoilt, seconds));
        Ok(Sample {
            searched: Some(Box::new(Searched {
                step,
                finding: state.finding(),
                latencies_p99_ns: state.latencies_p99_ns(),
            })),
            ..Sample::default()
        })
    }

    fn demand(&self, site: &Site) -> Demand {
        demand(&self.plan_at(self.plan.rate_per_second, 0), site)
    }

    /// The longest: most searches end before.
    fn expected_seconds(&self, _topology: Topology) -> f64 {
        self.seconds_max / f64::from(self.steps_max)
    }

    fn is_done(&self) -> bool {
        self.state.borrow().next_per_second().is_none()
    }
}

fn demand(plan: &LoadPlan, site: &Site) -> Demand {
    let has_callees = plan.workload == Workload::Invite && site.topology.layout().callees.is_some();
    let callees = if has_callees { plan.users } else { 0 };
    let users = limits::hops_at_once(plan).saturating_add(callees);
    Demand::of_cell(site, users, Spread::PAIR)
}

impl Algorithm {
    fn next_per_second(&self) -> Option<f64> {
        match self {
            Self::MaxRate(search) => search.next_per_second(),
            Self::Knee(sweep) => sweep.next_per_second(),
        }
    }

    fn observe(&mut self, observed: &Observation) {
        match self {
            Self::MaxRate(search) => search.observe(observed),
            Self::Knee(sweep) => sweep.observe(observed),
        }
    }

    fn finding(&self) -> Finding {
        match self {
            Self::MaxRate(search) => search.finding(),
            Self::Knee(sweep) => sweep.finding(),
        }
    }

    fn latencies_p99_ns(&self) -> Option<[Option<f64>; 2]> {
        match self {
            Self::MaxRate(_) => None,
            Self::Knee(sweep) => Some(sweep.latencies_p99_ns()),
        }
    }
}

/// What a search looks for.
fn figure(experiment: &str, workload: &str) -> &'static str {
    match (experiment, workload) {
        ("knee", _) => "knee_per_second",
        (_, "register") => "registration_rate",
        (_, "reregister") => "reregistration_rate",
        (_, _) => "session_establishment_rate",
    }
}

/// One cell for each search, with what was found as its only sample.
pub(super) fn condense(searches: &[Collected]) -> Vec<Collected> {
    searches.iter().map(condensed).collect()
}

fn condensed(search: &Collected) -> Collected {
    let mut found = Collected {
        failure: search.failure.clone(),
        unsupported: search.unsupported.clone(),
        ..Collected::new(search.subject.clone())
    };
    let searched = search
        .samples
        .values()
        .filter_map(|it| it.searched.as_deref());
    let searched: Vec<&Searched> = searched.collect();
    found.steps = searched.iter().map(|it| it.step.clone()).collect();
    if let Some(last) = searched.last() {
        let end = last.finding.end.map(End::name);
        let parameters = &mut found.subject.parameters;
        parameters.insert("search_end".into(), json!(end));
        let id = &found.subject.id;
        let key = figure(&id.experiment, &id.workload);
        found.samples.insert(0, summarised(key, last, &found.steps));
    }
    found
}

fn summarised(key: &str, last: &Searched, steps: &[Step]) -> Sample {
    let finding = &last.finding;
    // What was held when steps or seconds had run out is a bound, and no figure that anybody may compare.
    let is_found = finding.end == Some(End::Converged);
    let mut scalars = BTreeMap::from([
        (key.to_owned(), finding.per_second.filter(|_| is_found)),
        ("search_held_per_second".to_owned(), finding.per_second),
        (
            "search_ceiling_per_second".to_owned(),
            finding.ceiling_per_second,
        ),
        (
            "search_steps_count".to_owned(),
            Some(f64::from(finding.steps)),
        ),
        (
            "search_attempts_count".to_owned(),
            Some(finding.attempted as f64),
        ),
    ]);
    if let Some([lowest, knee]) = last.latencies_p99_ns {
        scalars.insert("lowest_rate_latency_p99_ns".to_owned(), lowest);
        scalars.insert("knee_latency_p99_ns".to_owned(), knee.filter(|_| is_found));
        let lag = finding
            .per_second
            .and_then(|knee| half_way_lag_p99_ns(steps, knee));
        scalars.insert("half_knee_lag_p99_ns".to_owned(), lag);
    }
    let (generator_bound, shortfall) = doubts(finding, steps);
    Sample {
        scalars,
        generator_bound,
        shortfall,
        ..Sample::default()
    }
}

/// How late the generator was at the lowest rate that is at least half the knee: the median of its loads.
fn half_way_lag_p99_ns(steps: &[Step], knee_per_second: f64) -> Option<f64> {
    let rates = steps.iter().map(|step| step.offered_per_second);
    let rate = rates
        .filter(|rate| (knee_per_second / 2.0..=knee_per_second).contains(rate))
        .min_by(f64::total_cmp)?;
    let lags = steps
        .iter()
        .filter(|step| step.offered_per_second == rate)
        .filter_map(|step| Some(step.lag_p99_ns? as f64));
    statistics::median(&lags.collect::<Vec<_>>())
}

/// Why what was found is no figure of the server: because the generator was the limit, or for another
/// reason. What a search has held that ended for want of steps or seconds is one: a bound.
fn doubts(finding: &Finding, steps: &[Step]) -> (Option<String>, Option<String>) {
    let reason_at = |rate: f64, outcome: StepOutcome| {
        let mut steps = steps.iter().rev();
        let step = steps.find(|step| step.offered_per_second == rate && step.outcome == outcome);
        let reason = step.and_then(|step| step.reason.as_deref());
        reason
            .unwrap_or("latency grew, and the generator was busier than the server or late itself")
            .to_owned()
    };
    if let Some(bound) = finding
        .bound_per_second
        .filter(|_| finding.is_generator_bound())
    {
        let reason = reason_at(bound, StepOutcome::GeneratorBound);
        let held = match finding.per_second {
            Some(held) => format!("the server holds {held:.0} a second at least"),
            None => "no lower rate was held".to_owned(),
        };
        return (
            Some(format!(
                "at {bound:.0} a second the generator was the limit ({reason}); {held}"
            )),
            None,
        );
    }
    let shortfall = match (finding.end, finding.per_second, finding.ceiling_per_second) {
        (None, _, _) => Some("the run ended before the search did".to_owned()),
        (Some(_), None, Some(lowest)) => Some(format!(
            "no rate was held: at {lowest:.0} a second, {}",
            reason_at(lowest, StepOutcome::Failed)
        )),
        (Some(_), None, None) => {
            Some("no rate was tried often enough: raise `seconds_max`".to_owned())
        }
        (Some(End::Exhausted), Some(held), _) => Some(format!(
            "{held:.0} a second were held once, and no rate beneath, down to the lowest"
        )),
        // What was found, or a bound: how the search ended stands beside it.
        (Some(End::Converged | End::Steps | End::Seconds), Some(_), _) => None,
    };
    (None, shortfall)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use hopbench::record::Verdict;
    use hopbench::transport::find;

    use super::*;
    use crate::experiment::collect;
    use crate::variant::Variant;

    fn step(offered_per_second: f64, outcome: StepOutcome) -> Step {
        Step {
            outcome,
            ..step::not_taken(offered_per_second, "7 of 100 failed")
        }
    }

    #[test]
    fn lateness_is_that_of_the_lowest_rate_from_half_the_knee_on() {
        let at = |offered_per_second, lag_p99_ns| Step {
            lag_p99_ns,
            ..step(offered_per_second, StepOutcome::Held)
        };
        let steps = [
            at(40.0, Some(1)),
            at(50.0, Some(30)),
            at(80.0, Some(900)),
            at(50.0, Some(10)),
            at(50.0, Some(20)),
        ];
        assert_eq!(half_way_lag_p99_ns(&steps, 100.0), Some(20.0));
        assert_eq!(half_way_lag_p99_ns(&steps, 80.0), Some(1.0));
        assert_eq!(half_way_lag_p99_ns(&steps, 70.0), Some(1.0));
        assert_eq!(half_way_lag_p99_ns(&steps, 30.0), None);
        assert_eq!(half_way_lag_p99_ns(&[at(50.0, None)], 50.0), None);
    }

    fn collected(steps: Vec<Step>, finding: &Finding) -> Collected {
        let site = Site {
            topology: Topology::Direct,
            stack: find("tcp").unwrap(),
            core: find("tcp").unwrap(),
            variant: Variant::default(),
            authenticate_calls: false,
            path: crate::path::Path::Loopback,
            beneath: None,
        };
        let mut collected = Collected::new(Subject {
            id: cell_id("search", "invite", &site, "per-registration"),
            site,
            parameters: BTreeMap::new(),
            blocks: 20.into(),
        });
        for (block, step) in (0..).zip(steps) {
            let searched = Searched {
                step,
                finding: finding.clone(),
                latencies_p99_ns: None,
            };
            let sample = Sample {
                searched: Some(Box::new(searched)),
                ..Sample::default()
            };
            collected.samples.insert(block, sample);
        }
        collected
    }

    #[test]
    fn the_verdict_says_whose_limit_was_found() {
        use StepOutcome::{Failed, GeneratorBound, Held};
        let found = |held, ceiling, bound, end| Finding {
            per_second: held,
            ceiling_per_second: ceiling,
            bound_per_second: bound,
            end,
            steps: 2,
            attempted: 200,
        };
        let (low, high) = (Some(100.0), Some(200.0));
        // Steps, finding; verdict, what its reason says.
        let cases = [
            (
                vec![step(100.0, Held), step(200.0, Failed)],
                found(low, high, None, Some(End::Converged)),
                Verdict::Ok,
                "",
            ),
            (
                vec![step(100.0, Held), step(200.0, Failed)],
                found(low, high, None, None),
                Verdict::Failed,
                "ended before the search",
            ),
            (
                vec![step(100.0, Held), step(200.0, GeneratorBound)],
                found(low, None, high, Some(End::Seconds)),
                Verdict::GeneratorBound,
                "at 200 a second the generator was the limit (7 of 100 failed); the server holds 100",
            ),
            (
                vec![step(100.0, Held)],
                found(low, None, None, Some(End::Steps)),
                Verdict::Ok,
                "",
            ),
            (
                vec![step(100.0, Held), step(200.0, Failed)],
                found(low, high, None, Some(End::Exhausted)),
                Verdict::Failed,
                "100 a second were held once",
            ),
            (
                vec![step(200.0, Failed)],
                found(None, high, None, Some(End::Exhausted)),
                Verdict::Failed,
                "no rate was held: at 200 a second, 7 of 100 failed",
            ),
            (
                vec![step(200.0, GeneratorBound)],
                found(None, None, high, Some(End::Steps)),
                Verdict::GeneratorBound,
                "no lower rate was held",
            ),
        ];
        for (steps, finding, verdict, reason) in cases {
            let search = collected(steps.clone(), &finding);
            let cell = condense(&[search])[0].cell();
            assert_eq!(cell.verdict, verdict, "{finding:?}");
            assert!(
                cell.reason.unwrap_or_default().contains(reason),
                "{finding:?}"
            );
            assert_eq!(cell.steps, steps);
            let held = cell.metrics["search_held_per_second"].value;
            assert_eq!(held, finding.per_second);
            // Only a search that converged has found what it looked for.
            let is_found = finding.end == Some(End::Converged);
            let rate = cell.metrics["session_establishment_rate"].value;
            assert_eq!(rate, held.filter(|_| is_found));
            assert_eq!(cell.metrics["search_attempts_count"].value, Some(200.0));
        }
    }

    #[test]
    fn only_what_has_converged_makes_ratios() {
        let searched = |stack: &str, end| {
            let steps = vec![
                step(100.0, StepOutcome::Held),
                step(200.0, StepOutcome::Failed),
            ];
            let finding = Finding {
                per_second: Some(100.0),
                ceiling_per_second: Some(200.0),
                end: Some(end),
                steps: 2,
                attempted: 200,
                ..Finding::default()
            };
            let mut search = collected(steps, &finding);
            search.subject.site.stack = find(stack).unwrap();
            search.subject.site.core = find(stack).unwrap();
            search.subject.id =
                cell_id("search", "invite", &search.subject.site, "per-registration");
            condense(&[search]).remove(0)
        };
        let control = searched("tcp", End::Converged);
        for (end, count) in [(End::Converged, 1), (End::Steps, 0), (End::Seconds, 0)] {
            let tls = searched("tls", end);
            assert_eq!(tls.verdict().0, Verdict::Ok);
            assert_eq!(collect::ratios(&[&control, &tls]).len(), count, "{end:?}");
        }
    }

    #[test]
    fn a_search_that_never_began_has_no_figure() {
        let cell = condense(&[collected(Vec::new(), &Finding::default())])[0].cell();
        assert_eq!(cell.verdict, Verdict::Failed);
        assert!(cell.metrics.is_empty() && cell.steps.is_empty());
    }
}
