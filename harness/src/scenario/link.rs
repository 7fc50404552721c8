//! What the experiment `link` asks of the lab's links.

use anyhow::{Context, ensure};
use hopbench::load::ArrivalLaw;
use hopbench::net::link::{LinkConditions, Loss};
use serde::Deserialize;

use super::Blocks;
use super::checks::{check_load, check_seconds, check_stacks, check_variants};
use crate::statistics::LINE_POINTS_MIN;
use crate::variant::Variant;

/// Latency over round-trip times and losses, under a light load.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Links {
    /// Round-trip times without loss; lines are fitted through them.
    pub(crate) round_trips_ms: Vec<f64>,
    /// Shares of packets that are lost, in each direction.
    #[serde(default)]
    pub(crate) loss_ratios: Vec<f64>,
    /// Round-trip times with losses; without the key, the same as without.
    pub(crate) lossy_round_trips_ms: Option<Vec<f64>>,
    /// Users that come, and calls.
    pub(crate) rate_per_second: f64,
    /// Users that take turns.
    pub(crate) users: u32,
    /// Load before the measurement.
    pub(crate) warm_up_seconds: f64,
    /// The measurement, in each block.
    pub(crate) duration_seconds: f64,
    /// Repetitions, interleaved between all cells.
    pub(crate) blocks: Blocks,
    /// Law of the gaps.
    #[serde(default)]
    pub(crate) arrivals: ArrivalLaw,
    /// Which of the plan's stacks are asked; without the key, all.
    #[serde(default)]
    pub(crate) stacks: Vec<String>,
    /// Ways to run the stacks; each is a cell of those that all of its keys concern. Calls are made over hops
    /// that are open already, and thus in the usual way alone.
    #[serde(default)]
    pub(crate) variants: Vec<Variant>,
}

impl Links {
    /// What links are like, over what the scenario says of all of them, with how each is measured.
    pub(crate) fn conditions(&self, base: &LinkConditions) -> Vec<LinkConditions> {
        let point = |round_trip_ms: &f64, loss| LinkConditions {
            one_way_delay_ms: round_trip_ms / 2.0,
            loss,
            ..*base
        };
        let clean = self.round_trips_ms.iter();
        let mut points: Vec<_> = clean
            .map(|round_trip| point(round_trip, Loss::None))
            .collect();
        let lossy = self
            .lossy_round_trips_ms
            .as_ref()
            .unwrap_or(&self.round_trips_ms);
        for ratio in self
            .loss_ratios
            .iter()
            .copied()
            .filter(|ratio| *ratio > 0.0)
        {
            let loss = Loss::Independent { ratio };
            points.extend(lossy.iter().map(|round_trip| point(round_trip, loss)));
        }
        points
    }

    pub(super) fn check(&self) -> anyhow::Result<()> {
        let rates = [self.rate_per_second];
        check_load("link", &rates, self.duration_seconds, &self.blocks)?;
        check_seconds("link.warm_up_seconds", self.warm_up_seconds)?;
        check_stacks("link", &self.stacks)?;
        check_variants("link", &self.variants)?;
        ensure!(
            self.round_trips_ms.len() >= LINE_POINTS_MIN,
            "`link.round_trips_ms` has {} values: a line needs at least {LINE_POINTS_MIN}",
            self.round_trips_ms.len()
        );
        for (key, round_trips) in [
            ("round_trips_ms", Some(&self.round_trips_ms)),
            ("lossy_round_trips_ms", self.lossy_round_trips_ms.as_ref()),
        ] {
            ensure!(
                round_trips.is_none_or(|ms| ms.is_sorted_by(|a, b| a < b)),
                "`link.{key}` must be ascending"
            );
        }
        for conditions in self.conditions(&LinkConditions::default()) {
            conditions.check().context("in `link`")?;
        }
        Ok(())
    }
}
