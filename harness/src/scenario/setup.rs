//! `[setup]` of a scenario: who comes, how fast.

use hopbench::load::ArrivalLaw;
use serde::Deserialize;

use super::Blocks;
use super::checks::{check_load, check_seconds, check_stacks, check_variants};
use crate::topology::Topology;
use crate::variant::Variant;

/// Latency by phase of a user who comes, under a light load.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Setup {
    /// Users that come.
    pub(crate) rate_per_second: f64,
    /// Load before the measurement.
    pub(crate) warm_up_seconds: f64,
    /// The measurement, in each block.
    pub(crate) duration_seconds: f64,
    /// Repetitions, interleaved between the stacks.
    pub(crate) blocks: Blocks,
    /// Law of the gaps.
    #[serde(default)]
    pub(crate) arrivals: ArrivalLaw,
    /// What users register through.
    #[serde(default)]
    pub(crate) topology: Topology,
    /// Which of the plan's stacks are asked; without the key, all.
    #[serde(default)]
    pub(crate) stacks: Vec<String>,
    /// Ways to run the stacks; each is a cell of those that all of its keys concern.
    #[serde(default)]
    pub(crate) variants: Vec<Variant>,
}

impl Setup {
    pub(super) fn check(&self) -> anyhow::Result<()> {
        let rates = [self.rate_per_second];
        check_load("setup", &rates, self.duration_seconds, &self.blocks)?;
        check_seconds("setup.warm_up_seconds", self.warm_up_seconds)?;
        check_variants("setup", &self.variants)?;
        check_stacks("setup", &self.stacks)
    }

    /// Enough that nobody's turn comes twice within a second.
    pub(crate) fn users(&self) -> u32 {
        // Bounded by `check_load`: the cast cannot cut anything off.
        (self.rate_per_second * (self.warm_up_seconds + self.duration_seconds)).ceil() as u32 * 2
            + 16
    }
}
