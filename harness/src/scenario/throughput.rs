//! `[[throughput]]` of a scenario: which operations are offered, at which rates.

use anyhow::{Context, ensure};
use hopbench::load::{ArrivalLaw, BackOff, Course, Lifecycle, Mix, Workload};
use serde::Deserialize;

use super::Blocks;
use super::checks::{check_load, check_stacks, check_variants};
use crate::rate::OfferedRate;
use crate::topology::Topology;
use crate::variant::Variant;

/// Cost and latency of operations at given rates.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Throughput {
    /// What an operation is.
    pub(crate) workload: Workload,
    /// How long a connection is kept.
    pub(crate) lifecycle: Lifecycle,
    /// Offered rates; each is a cell. Numbers, or `"100..2000"` for a ramp, or `"100,400,200"` for
    /// steps.
    pub(crate) rates_per_second: Vec<OfferedRate>,
    /// Users that take turns.
    pub(crate) users: u32,
    /// Load before the measurement.
    pub(crate) warm_up_seconds: f64,
    /// The measurement, in each block.
    pub(crate) duration_seconds: f64,
    /// Repetitions, interleaved between the stacks.
    pub(crate) blocks: Blocks,
    /// In how many turns each block is measured, interleaved once more: what the machine does to one stack
    /// it then does to all.
    #[serde(default = "one")]
    pub(crate) turns: u32,
    /// Law of the gaps.
    #[serde(default)]
    pub(crate) arrivals: ArrivalLaw,
    /// From answer to hang-up.
    #[serde(default)]
    pub(crate) talk_seconds: f64,
    /// From INVITE to answer, where the generator's own users are called.
    #[serde(default)]
    pub(crate) ring_seconds: f64,
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
    /// What is done how often, of the workload `mixed`.
    #[serde(default)]
    pub(crate) mix: Mix,
    /// How long users wait before they come back, of the workload `avalanche`.
    #[serde(default)]
    pub(crate) back_off: BackOff,
}

/// A turn holds one window of the throughput at least.
const TURN_SECONDS_MIN: f64 = 0.1;

fn one() -> u32 {
    1
}

impl Throughput {
    pub(super) fn check(&self, place: &str) -> anyhow::Result<()> {
        let rates = self.rates_per_second.iter();
        let rates: Vec<f64> = rates.map(|rate| rate.per_second).collect();
        check_load(place, &rates, self.duration_seconds, &self.blocks)?;
        for rate in &self.rates_per_second {
            let load = self.load(rate).check();
            load.with_context(|| format!("in `{place}`"))?;
        }
        self.check_turns(place)?;
        check_stacks(place, &self.stacks)?;
        check_variants(place, &self.variants)
    }

    fn check_turns(&self, place: &str) -> anyhow::Result<()> {
        let turns = self.turns;
        let most = (self.duration_seconds / TURN_SECONDS_MIN + 1e-6) as u32;
        ensure!(
            turns == 1 || (2..=most).contains(&turns),
            "`{place}.turns` is {turns}; allowed is 1 to {most}: each turn is a part of `duration_seconds`, \
             {TURN_SECONDS_MIN} s at least"
        );
        let is_steady = |rate: &OfferedRate| rate.course == Course::Steady;
        ensure!(
            turns == 1 || self.rates_per_second.iter().all(is_steady),
            "`{place}.turns` is {turns}, but a rate that changes takes its course in one turn"
        );
        ensure!(
            turns == 1 || self.workload != Workload::Avalanche,
            "`{place}.turns` is {turns}, but an avalanche has one turn: all hops drop at its beginning"
        );
        Ok(())
    }
}
