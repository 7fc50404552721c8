//! `[memory]` of a scenario: how many connections, how far they are brought.

use anyhow::ensure;
use hopbench::load::Stage;
use serde::Deserialize;

use super::Blocks;
use super::checks::{check_seconds, check_stacks, check_variants};
use crate::variant::Variant;

/// Memory over the number of connections.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Memory {
    /// How far each connection is brought; not to `idle`, which has a key of its own.
    pub(crate) stages: Vec<Stage>,
    /// The stage `idle`, if it is wanted.
    pub(crate) idle: Option<Idle>,
    /// Points of the regression, ascending.
    pub(crate) connections: Vec<u32>,
    /// Repetitions, interleaved between the stacks.
    pub(crate) blocks: Blocks,
    /// Which of the plan's stacks are asked; without the key, all.
    #[serde(default)]
    pub(crate) stacks: Vec<String>,
    /// Ways to run the stacks; each is a cell of those that all of its keys concern.
    #[serde(default)]
    pub(crate) variants: Vec<Variant>,
}

/// Memory of connections that have had nothing to do for a while.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Idle {
    /// How long.
    #[serde(default = "one_minute")]
    pub(crate) seconds: f64,
    /// Points of the regression, ascending. All of them are open at the same time.
    pub(crate) connections: Vec<u32>,
    /// Repetitions, interleaved between the stacks, each of which takes so long.
    pub(crate) blocks: u32,
    /// Ways to run the stacks, likewise; without the key the usual one alone, since each waits.
    #[serde(default)]
    pub(crate) variants: Vec<Variant>,
}

fn one_minute() -> f64 {
    60.0
}

impl Memory {
    pub(super) fn check(&self) -> anyhow::Result<()> {
        self.blocks.check("memory")?;
        ensure!(
            !self.stages.is_empty(),
            "`memory.stages` is empty: allowed are \"handshaken\", \"registered\" and \"in-call\""
        );
        ensure!(
            !self.stages.contains(&Stage::Idle),
            "`memory.stages` names \"idle\": write `memory.idle = {{ connections = […], blocks = … }}`"
        );
        check_points("memory.connections", &self.connections)?;
        if let Some(idle) = &self.idle {
            ensure!(
                idle.blocks > 0,
                "`memory.idle.blocks` is 0: a figure needs at least one block"
            );
            check_seconds("memory.idle.seconds", idle.seconds)?;
            check_points("memory.idle.connections", &idle.connections)?;
            check_variants("memory.idle", &idle.variants)?;
        }
        check_stacks("memory", &self.stacks)?;
        check_variants("memory", &self.variants)
    }
}

fn check_points(place: &str, connections: &[u32]) -> anyhow::Result<()> {
    ensure!(
        connections.len() >= 5,
        "`{place}` has {} points: a slope needs at least 5",
        connections.len()
    );
    ensure!(
        connections.is_sorted_by(|a, b| a < b) && connections[0] > 0,
        "`{place}` must be positive and ascending"
    );
    Ok(())
}
