//! `[rate]` of a scenario: how narrow hops are, and what is tried on them.

use anyhow::{Context, ensure};
use hopbench::load::{ArrivalLaw, Workload};
use hopbench::net::link::LinkConditions;
use serde::Deserialize;

use super::Blocks;
use super::checks::{check_seconds, check_stacks, check_variants};
use crate::variant::Variant;

/// How many operations fit through hops of given rates.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct NarrowHops {
    /// What an operation is: `register`, `reregister` or `invite`.
    pub(crate) workloads: Vec<Workload>,
    /// Rates of the hop in each direction; each is a cell.
    pub(crate) rates_bits_per_second: Vec<u64>,
    /// What the queue before the hop holds, by the time that sending it takes.
    pub(crate) queue_seconds: f64,
    /// Users that take turns on the hops that they keep; not of `register`, where each operation is another
    /// user's.
    pub(crate) users: u32,
    /// Operations far from each other, whose bytes and latencies are measured.
    pub(crate) light_operations: u32,
    /// Shares of the predicted rate that are tried, descending, until one fits.
    pub(crate) shares: Vec<f64>,
    /// Share of the predicted rate that is too much on purpose; without the key, none is.
    pub(crate) overload: Option<f64>,
    /// Operations of each load at least.
    pub(crate) operations: u32,
    /// Length of each load at least.
    pub(crate) duration_seconds_min: f64,
    /// What has not ended so long after a load did not fit.
    pub(crate) drain_seconds: f64,
    /// Repetitions, interleaved between all cells.
    pub(crate) blocks: Blocks,
    /// Law of the gaps, where the hop is loaded.
    #[serde(default)]
    pub(crate) arrivals: ArrivalLaw,
    /// Which of the plan's stacks are asked; without the key, all.
    #[serde(default)]
    pub(crate) stacks: Vec<String>,
    /// Ways to run the stacks; each is a cell of those that all of its keys concern.
    #[serde(default)]
    pub(crate) variants: Vec<Variant>,
}

/// The queue holds two packets of full length and one more in any case: with less, a flight of a handshake is
/// lost on an idle hop.
const QUEUE_BYTES_MIN: f64 = 4_500.0;

impl NarrowHops {
    /// What links are like, over what the scenario says of all of them.
    pub(crate) fn conditions(&self, base: &LinkConditions) -> Vec<LinkConditions> {
        let point = |rate: &u64| LinkConditions {
            rate_bits_per_second: Some(*rate),
            queue_bytes: (*rate as f64 / 8.0 * self.queue_seconds).max(QUEUE_BYTES_MIN) as u32,
            ..*base
        };
        self.rates_bits_per_second.iter().map(point).collect()
    }

    pub(super) fn check(&self) -> anyhow::Result<()> {
        self.blocks.check("rate")?;
        for workload in &self.workloads {
            match workload {
                Workload::Register | Workload::Reregister | Workload::Invite => {}
                Workload::Mixed | Workload::Avalanche => anyhow::bail!(
                    "`rate.workloads` names `{}`; allowed are `invite`, `register` and `reregister`",
                    workload.name()
                ),
            }
        }
        let counts = [
            ("workloads", self.workloads.len()),
            ("rates_bits_per_second", self.rates_bits_per_second.len()),
            ("shares", self.shares.len()),
        ];
        for (key, count) in counts {
            ensure!(count > 0, "`rate.{key}` is empty: name at least one");
        }
        let numbers = [
            ("users", self.users),
            ("light_operations", self.light_operations),
            ("operations", self.operations),
        ];
        for (key, number) in numbers {
            ensure!(number > 0, "`rate.{key}` is 0: allowed is 1 or more");
        }
        self.check_shares()?;
        for (key, seconds) in [
            ("queue_seconds", self.queue_seconds),
            ("duration_seconds_min", self.duration_seconds_min),
            ("drain_seconds", self.drain_seconds),
        ] {
            check_seconds(&format!("rate.{key}"), seconds)?;
        }
        ensure!(
            self.duration_seconds_min >= 0.1,
            "`rate.duration_seconds_min` is {}: throughput is counted in windows of 0.1 s",
            self.duration_seconds_min
        );
        for conditions in self.conditions(&LinkConditions::default()) {
            conditions.check().context("in `rate`")?;
        }
        check_stacks("rate", &self.stacks)?;
        check_variants("rate", &self.variants)
    }

    fn check_shares(&self) -> anyhow::Result<()> {
        let is_descending = self.shares.is_sorted_by(|a, b| a > b);
        ensure!(
            is_descending && self.shares.iter().all(|share| (0.05..=1.0).contains(share)),
            "`rate.shares` must be descending, from at most 1 to at least 0.05"
        );
        ensure!(
            self.overload
                .is_none_or(|overload| (1.05..=10.0).contains(&overload)),
            "`rate.overload` is {}; allowed is 1.05 to 10",
            self.overload.unwrap_or_default()
        );
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::assert_refused;

    #[test]
    fn errors_name_the_place_and_what_is_allowed() {
        let good = include_str!("../../scenarios/narrow.toml");
        let cases = [
            (
                "workloads = [\"register\",",
                "workloads = [\"mixed\",",
                "names `mixed`",
            ),
            (
                "rates_bits_per_second = [64000,",
                "rates_bits_per_second = [0,",
                "in `rate`",
            ),
            (
                "shares = [0.95,",
                "shares = [1.5,",
                "descending, from at most 1",
            ),
            (
                "overload = 1.5",
                "overload = 1.0",
                "`rate.overload` is 1; allowed",
            ),
            (
                "operations = ",
                "operations = 0 #",
                "`rate.light_operations` is 0",
            ),
            (
                "\noperations = ",
                "\noperations = 0 #",
                "`rate.operations` is 0",
            ),
            (
                "queue_seconds = ",
                "queue_seconds = -",
                "rate.queue_seconds",
            ),
            (
                "duration_seconds_min = ",
                "duration_seconds_min = 0.0 #",
                "windows of 0.1 s",
            ),
            ("blocks = ", "blocks = 0 #", "rate.blocks"),
        ];
        for (from, to, expected) in cases {
            assert_refused(good, from, to, &[expected]);
        }
    }
}
