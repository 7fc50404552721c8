//! `[[search]]` and `[[knee]]` of a scenario: which rates are tried, how long, until when.

use anyhow::{Context, ensure};
use hopbench::load::{ArrivalLaw, BackOff, Course, Lifecycle, LoadPlan, Mix, Workload};
use serde::Deserialize;

use super::checks::{check_load, check_seconds, check_stacks, check_variants};
use crate::experiment::search::finding::Bounds;
use crate::experiment::search::knee::KneeParameters;
use crate::experiment::search::max_rate::{MaxRateParameters, usual_decrease_weight};
use crate::topology::Topology;
use crate::variant::Variant;

/// Operations that began in a step get this long to end after it, beyond what they may take.
const DRAIN_SECONDS: f64 = 1.0;
/// Steps that a search may take at most.
const STEPS_MAX: u32 = 10_000;

/// The highest rate with zero failures, by the algorithm of RFC 7502 §4.10.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Search {
    /// Whose rate is looked for: `invite` (sessions), `register` or `reregister`.
    pub(crate) workload: Workload,
    /// How long a connection is kept.
    pub(crate) lifecycle: Lifecycle,
    /// Attempts in each step (`N` of the RFC, which has 50,000).
    pub(crate) attempts: u32,
    /// A step of so many attempts that would be shorter than this has more: a queue that fills for less than the
    /// threshold is not found out, and what is held is too high by the share that it is of a step.
    #[serde(default)]
    pub(crate) step_seconds_min: f64,
    /// Rate of the first step (`r`).
    pub(crate) rate_per_second: f64,
    /// Traffic increase weight (`w`).
    #[serde(default = "usual_increase_weight")]
    pub(crate) increase_weight: f64,
    /// Traffic decrease weight (`d`); half of the increase weight, but at least 0.1, without the key.
    pub(crate) decrease_weight: Option<f64>,
    /// Steps without failure at no new rate that make the search converge.
    #[serde(default = "usual_confirmations")]
    pub(crate) confirmations: u32,
    /// An attempt that takes longer has failed (RFC 7501 §3.3.2).
    pub(crate) establishment_threshold_seconds: f64,
    /// Users that take turns, and more at rates that keep more of them busy for as long as an attempt may take; not of
    /// `register`, where each attempt is another user's.
    pub(crate) users: Option<u32>,
    /// Load before each step, at its rate.
    pub(crate) warm_up_seconds: f64,
    /// Most steps.
    pub(crate) steps_max: u32,
    /// No step of a stack begins after so long, all of its steps together.
    pub(crate) seconds_max: f64,
    /// Law of the gaps.
    #[serde(default)]
    pub(crate) arrivals: ArrivalLaw,
    /// From answer to hang-up.
    #[serde(default)]
    pub(crate) talk_seconds: f64,
    /// Calls beyond which the nodes refuse with 503, each second.
    pub(crate) calls_per_second_limit: Option<u32>,
    /// What calls pass.
    #[serde(default)]
    pub(crate) topology: Topology,
    /// Which of the plan's stacks are asked; without the key, all.
    #[serde(default)]
    pub(crate) stacks: Vec<String>,
    /// Ways to run the stacks; each is a cell of those that all of its keys concern.
    #[serde(default)]
    pub(crate) variants: Vec<Variant>,
    /// Whether callers have to prove who they are.
    #[serde(default)]
    pub(crate) authenticate_calls: bool,
}

/// Latency and success over the offered rate, below and past the knee.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct KneeSweep {
    /// What an operation is: `invite`, `register` or `reregister`.
    pub(crate) workload: Workload,
    /// How long a connection is kept.
    pub(crate) lifecycle: Lifecycle,
    /// The lowest rate, whose latency the others are compared with.
    pub(crate) rate_per_second: f64,
    /// From one rate to the next on the way up.
    pub(crate) factor: f64,
    /// The measurement, in each step.
    pub(crate) duration_seconds: f64,
    /// How often each rate is offered.
    #[serde(default = "once")]
    pub(crate) repetitions: u32,
    /// Rates past the knee that are offered as well.
    #[serde(default = "once")]
    pub(crate) past: u32,
    /// How often the gap above the best rate is halved.
    #[serde(default)]
    pub(crate) refinements: u32,
    /// Users that take turns; not of `register`, where each operation is another user's.
    pub(crate) users: Option<u32>,
    /// Load before each step, at its rate.
    pub(crate) warm_up_seconds: f64,
    /// Most steps.
    pub(crate) steps_max: u32,
    /// No step of a stack begins after so long, all of its steps together.
    pub(crate) seconds_max: f64,
    /// Law of the gaps.
    #[serde(default)]
    pub(crate) arrivals: ArrivalLaw,
    /// From answer to hang-up.
    #[serde(default)]
    pub(crate) talk_seconds: f64,
    /// Calls beyond which the nodes refuse with 503, each second.
    pub(crate) calls_per_second_limit: Option<u32>,
    /// What calls pass.
    #[serde(default)]
    pub(crate) topology: Topology,
    /// Which of the plan's stacks are asked; without the key, all.
    #[serde(default)]
    pub(crate) stacks: Vec<String>,
    /// Ways to run the stacks; each is a cell of those that all of its keys concern.
    #[serde(default)]
    pub(crate) variants: Vec<Variant>,
    /// Whether callers have to prove who they are.
    #[serde(default)]
    pub(crate) authenticate_calls: bool,
}

/// As long as so many attempts take, and at least so long.
#[derive(Clone, Copy)]
pub(crate) struct StepLength {
    attempts: u32,
    seconds_min: f64,
}

impl StepLength {
    /// Of a step at this rate.
    pub(crate) fn seconds(self, rate_per_second: f64) -> f64 {
        (f64::from(self.attempts) / rate_per_second).max(self.seconds_min)
    }
}

fn usual_increase_weight() -> f64 {
    0.1
}

fn usual_confirmations() -> u32 {
    10
}

fn once() -> u32 {
    1
}

impl Search {
    pub(super) fn check(&self, place: &str) -> anyhow::Result<()> {
        ensure!(
            self.attempts > 0,
            "`{place}.attempts` is 0: a step needs at least one"
        );
        let weights = [
            ("increase_weight", self.increase_weight),
            ("decrease_weight", self.parameters().decrease_weight),
        ];
        for (key, weight) in weights {
            ensure!(
                weight > 0.0 && weight <= 1.0,
                "`{place}.{key}` is {weight}; allowed is more than 0, at most 1"
            );
        }
        ensure!(
            self.confirmations > 0,
            "`{place}.confirmations` is 0: allowed is 1 or more (RFC 7502 has 10)"
        );
        let key = format!("{place}.establishment_threshold_seconds");
        check_seconds(&key, self.establishment_threshold_seconds)?;
        check_seconds(&format!("{place}.step_seconds_min"), self.step_seconds_min)?;
        let seconds = self.load().duration_seconds;
        check_load(place, &[self.rate_per_second], seconds, &1.into()).with_context(|| {
            format!(
                "a step of `{place}` takes `attempts` ÷ `rate_per_second` seconds, or `step_seconds_min`"
            )
        })?;
        let limits = (self.steps_max, self.seconds_max);
        check_step(
            place,
            &self.load(),
            self.users,
            self.warm_up_seconds,
            limits,
        )?;
        check_stacks(place, &self.stacks)?;
        check_variants(place, &self.variants)
    }

    /// What the algorithm is told.
    pub(crate) fn parameters(&self) -> MaxRateParameters {
        let usual = usual_decrease_weight(self.increase_weight);
        MaxRateParameters {
            initial_per_second: self.rate_per_second,
            increase_weight: self.increase_weight,
            decrease_weight: self.decrease_weight.unwrap_or(usual),
            confirmations: self.confirmations,
            bounds: Bounds {
                steps_max: self.steps_max,
                seconds_max: self.seconds_max,
            },
        }
    }

    /// How long its steps are.
    pub(crate) fn length(&self) -> StepLength {
        StepLength {
            attempts: self.attempts,
            seconds_min: self.step_seconds_min,
        }
    }

    /// The load of the first step.
    pub(crate) fn load(&self) -> LoadPlan {
        LoadPlan {
            workload: self.workload,
            lifecycle: self.lifecycle,
            arrivals: self.arrivals,
            rate_per_second: self.rate_per_second,
            course: Course::Steady,
            warm_up_seconds: self.warm_up_seconds,
            duration_seconds: self.length().seconds(self.rate_per_second),
            drain_seconds: self.establishment_threshold_seconds + self.talk_seconds + DRAIN_SECONDS,
            users: self.users.unwrap_or(1),
            talk_seconds: self.talk_seconds,
            ring_seconds: 0.0,
            mix: Mix::default(),
            back_off: BackOff::default(),
            seed: 0,
        }
    }
}

impl KneeSweep {
    pub(super) fn check(&self, place: &str) -> anyhow::Result<()> {
        ensure!(
            self.factor.is_finite() && (1.01..=10.0).contains(&self.factor),
            "`{place}.factor` is {}; allowed is 1.01 to 10",
            self.factor
        );
        for (key, count) in [("repetitions", self.repetitions), ("past", self.past)] {
            ensure!(count > 0, "`{place}.{key}` is 0: allowed is 1 or more");
        }
        check_load(
            place,
            &[self.rate_per_second],
            self.duration_seconds,
            &self.repetitions.into(),
        )?;
        let limits = (self.steps_max, self.seconds_max);
        check_step(
            place,
            &self.load(),
            self.users,
            self.warm_up_seconds,
            limits,
        )?;
        check_stacks(place, &self.stacks)?;
        check_variants(place, &self.variants)
    }

    /// What the sweep is told.
    pub(crate) fn parameters(&self) -> KneeParameters {
        KneeParameters {
            lowest_per_second: self.rate_per_second,
            factor: self.factor,
            repetitions: self.repetitions,
            past: self.past,
            refinements: self.refinements,
            bounds: Bounds {
                steps_max: self.steps_max,
                seconds_max: self.seconds_max,
            },
        }
    }

    /// The load of the first step.
    pub(crate) fn load(&self) -> LoadPlan {
        LoadPlan {
            workload: self.workload,
            lifecycle: self.lifecycle,
            arrivals: self.arrivals,
            rate_per_second: self.rate_per_second,
            course: Course::Steady,
            warm_up_seconds: self.warm_up_seconds,
            duration_seconds: self.duration_seconds,
            drain_seconds: self.talk_seconds + DRAIN_SECONDS,
            users: self.users.unwrap_or(1),
            talk_seconds: self.talk_seconds,
            ring_seconds: 0.0,
            mix: Mix::default(),
            back_off: BackOff::default(),
            seed: 0,
        }
    }
}

/// What steps of both kinds have in common.
fn check_step(
    place: &str,
    load: &LoadPlan,
    users: Option<u32>,
    warm_up_seconds: f64,
    (steps_max, seconds_max): (u32, f64),
) -> anyhow::Result<()> {
    match (load.workload, users) {
        (Workload::Register, Some(_)) => anyhow::bail!(
            "`{place}.users` does not go with the workload `register`: each registration is of a user of \
             its own (RFC 7502 §6.7), so leave the key out"
        ),
        (Workload::Register, None) | (Workload::Invite | Workload::Reregister, Some(_)) => {}
        (Workload::Invite | Workload::Reregister, None) => anyhow::bail!(
            "`{place}.users` is missing: how many users take turns with the workload `{}`?",
            load.workload.name()
        ),
        (Workload::Mixed | Workload::Avalanche, _) => anyhow::bail!(
            "`{place}.workload` is `{}`; allowed are `invite`, `register` and `reregister`",
            load.workload.name()
        ),
    }
    check_seconds(&format!("{place}.warm_up_seconds"), warm_up_seconds)?;
    check_seconds(&format!("{place}.seconds_max"), seconds_max)?;
    ensure!(
        (1..=STEPS_MAX).contains(&steps_max),
        "`{place}.steps_max` is {steps_max}; allowed is 1 to {STEPS_MAX}"
    );
    load.check().with_context(|| format!("in `{place}`"))
}

#[cfg(test)]
mod tests {
    use super::super::tests::assert_refused;
    use super::StepLength;

    const GOOD: &str = r#"
name = "rates"
summary = "for the test"
stacks = ["tcp"]

[[search]]
workload = "invite"
lifecycle = "per-registration"
attempts = 100
rate_per_second = 100.0
establishment_threshold_seconds = 0.1
users = 20
warm_up_seconds = 0.1
steps_max = 20
seconds_max = 10.0

[[knee]]
workload = "register"
lifecycle = "per-registration"
rate_per_second = 50.0
factor = 2.0
duration_seconds = 0.5
warm_up_seconds = 0.1
steps_max = 20
seconds_max = 10.0
"#;

    #[test]
    fn a_step_has_all_its_attempts_and_is_not_shorter_than_it_may_be() {
        let length = StepLength {
            attempts: 1_000,
            seconds_min: 0.5,
        };
        let seconds = [500.0, 2_000.0, 8_000.0].map(|rate| length.seconds(rate));
        assert_eq!(seconds, [2.0, 0.5, 0.5]);
    }

    #[test]
    fn errors_name_the_place_and_what_is_allowed() {
        let cases = [
            ("attempts = 100", "attempts = 0", "search[0].attempts"),
            (
                "attempts = 100",
                "attempts = 5",
                "`attempts` ÷ `rate_per_second`",
            ),
            (
                "users = 20",
                "increase_weight = 1.5\nusers = 20",
                "search[0].increase_weight` is 1.5",
            ),
            (
                "users = 20",
                "decrease_weight = 0.0\nusers = 20",
                "search[0].decrease_weight` is 0",
            ),
            (
                "users = 20",
                "confirmations = 0\nusers = 20",
                "RFC 7502 has 10",
            ),
            (
                "users = 20",
                "step_seconds_min = -1.0\nusers = 20",
                "search[0].step_seconds_min",
            ),
            ("users = 20", "", "search[0].users` is missing"),
            (
                "workload = \"invite\"\nlifecycle",
                "workload = \"mixed\"\nlifecycle",
                "allowed are `invite`, `register`",
            ),
            (
                "factor = 2.0",
                "factor = 2.0\nusers = 5",
                "knee[0].users` does not go with",
            ),
            ("factor = 2.0", "factor = 1.0", "knee[0].factor` is 1"),
            ("factor = 2.0", "factor = 2.0\npast = 0", "knee[0].past"),
            ("steps_max = 20", "steps_max = 0", "search[0].steps_max"),
            ("seconds_max = 10.0", "seconds_max = -1.0", "seconds_max"),
            (
                "establishment_threshold_seconds = 0.1",
                "establishment_threshold_seconds = -0.1",
                "establishment_threshold_seconds",
            ),
            (
                "lifecycle = \"per-registration\"\nattempts",
                "lifecycle = \"per-week\"\nattempts",
                "per-week",
            ),
        ];
        for (from, to, expected) in cases {
            assert_refused(GOOD, from, to, &[expected]);
        }
    }
}
