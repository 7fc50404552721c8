//! `[chain]` of a scenario: how many proxies calls pass.

use anyhow::{Context, ensure};
use hopbench::load::ArrivalLaw;
use serde::Deserialize;

use super::Blocks;
use super::checks::{check_load, check_stacks};
use crate::topology::CHAIN_MAX;

/// Calls through chains of proxies, under a light load.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Chain {
    /// Lengths of the chain; each is a cell.
    pub(crate) proxies: Vec<u32>,
    /// Calls.
    pub(crate) rate_per_second: f64,
    /// Callers that take turns.
    pub(crate) users: u32,
    /// Load before the measurement.
    pub(crate) warm_up_seconds: f64,
    /// The measurement, in each block.
    pub(crate) duration_seconds: f64,
    /// Repetitions, interleaved between the stacks and the lengths.
    pub(crate) blocks: Blocks,
    /// Which of the plan's stacks are asked; without the key, all.
    #[serde(default)]
    pub(crate) stacks: Vec<String>,
    /// Law of the gaps.
    #[serde(default)]
    pub(crate) arrivals: ArrivalLaw,
}

impl Chain {
    pub(super) fn check(&self) -> anyhow::Result<()> {
        let rates = [self.rate_per_second];
        check_load("chain", &rates, self.duration_seconds, &self.blocks)?;
        check_stacks("chain", &self.stacks)?;
        self.load().check().context("in `chain`")?;
        ensure!(
            self.proxies.len() >= 3,
            "`chain.proxies` has {} lengths: a line needs at least 3",
            self.proxies.len()
        );
        let is_ascending = self.proxies.is_sorted_by(|a, b| a < b);
        ensure!(
            is_ascending && self.proxies.iter().all(|proxies| *proxies <= CHAIN_MAX),
            "`chain.proxies` must be ascending, from 0 to at most {CHAIN_MAX}"
        );
        Ok(())
    }
}
