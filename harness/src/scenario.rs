//! What a run measures: a TOML file, or one of the profiles that are built in.

use std::path::Path;

use anyhow::{Context, bail, ensure};
use hopbench::load::{ArrivalLaw, Lifecycle, Stage, Workload};
use hopbench::transport::{self, Stack};
use serde::Deserialize;

/// A scenario and the text that it was read from.
#[derive(Clone, Debug)]
pub(crate) struct Scenario {
    /// Its contents.
    pub(crate) plan: Plan,
    /// SHA-256 of its text, in hexadecimal.
    pub sha256: String,
}

/// What a scenario file may hold.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Plan {
    /// What the run calls its profile.
    pub(crate) name: String,
    /// One line for `hopbench list`.
    pub(crate) summary: String,
    /// Names in the registry of stacks.
    pub(crate) stacks: Vec<String>,
    /// The experiment `setup`, if it is wanted.
    pub(crate) setup: Option<Setup>,
    /// The experiment `memory`, if it is wanted.
    pub(crate) memory: Option<Memory>,
    /// The experiments `throughput`.
    #[serde(default)]
    pub(crate) throughput: Vec<Throughput>,
}

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
    pub(crate) blocks: u32,
    /// Law of the gaps.
    #[serde(default)]
    pub(crate) arrivals: ArrivalLaw,
}

/// Memory over the number of connections.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Memory {
    /// How far each connection is brought.
    pub(crate) stages: Vec<Stage>,
    /// Points of the regression, ascending.
    pub(crate) connections: Vec<u32>,
    /// Repetitions, interleaved between the stacks.
    pub(crate) blocks: u32,
}

/// Cost and latency of operations at given rates.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Throughput {
    /// What an operation is.
    pub(crate) workload: Workload,
    /// How long a connection is kept.
    pub(crate) lifecycle: Lifecycle,
    /// Offered rates; each is a cell.
    pub(crate) rates_per_second: Vec<f64>,
    /// Users that take turns.
    pub(crate) users: u32,
    /// Load before the measurement.
    pub(crate) warm_up_seconds: f64,
    /// The measurement, in each block.
    pub(crate) duration_seconds: f64,
    /// Repetitions, interleaved between the stacks.
    pub(crate) blocks: u32,
    /// Law of the gaps.
    #[serde(default)]
    pub(crate) arrivals: ArrivalLaw,
    /// From answer to hang-up.
    #[serde(default)]
    pub(crate) talk_seconds: f64,
}

/// The scenarios that are built in: name and text.
pub(crate) const PROFILES: [(&str, &str); 3] = [
    ("quick", include_str!("../scenarios/quick.toml")),
    ("standard", include_str!("../scenarios/standard.toml")),
    ("full", include_str!("../scenarios/full.toml")),
];

impl Scenario {
    /// A built-in scenario.
    ///
    /// # Errors
    /// When there is none of that name.
    pub(crate) fn profile(name: &str) -> anyhow::Result<Self> {
        let Some((name, text)) = PROFILES.iter().find(|(known, _)| *known == name) else {
            let known: Vec<&str> = PROFILES.iter().map(|(name, _)| *name).collect();
            bail!(
                "there is no profile \"{name}\"; there are: {}",
                known.join(", ")
            );
        };
        Self::parse(text).with_context(|| format!("in the built-in scenario {name}"))
    }

    /// Reads a scenario file.
    ///
    /// # Errors
    /// Names the file, and line and key where the text is at fault, and says what is allowed there.
    pub(crate) fn read(path: &Path) -> anyhow::Result<Self> {
        let text = std::fs::read_to_string(path)
            .with_context(|| format!("cannot read the scenario {}", path.display()))?;
        Self::parse(&text).with_context(|| format!("in the scenario {}", path.display()))
    }

    fn parse(text: &str) -> anyhow::Result<Self> {
        let plan: Plan = toml::from_str(text)?;
        plan.check()?;
        let digest = ring::digest::digest(&ring::digest::SHA256, text.as_bytes());
        let sha256 = digest
            .as_ref()
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        Ok(Self { plan, sha256 })
    }
}

impl Plan {
    /// The stacks by their rows.
    ///
    /// # Errors
    /// When one does not exist.
    pub(crate) fn stack_rows(&self) -> anyhow::Result<Vec<&'static Stack>> {
        self.stacks
            .iter()
            .map(|name| Ok(transport::find(name)?))
            .collect()
    }

    /// Users that a run needs at the most.
    pub(crate) fn users(&self) -> u32 {
        let memory = self
            .memory
            .iter()
            .flat_map(|memory| memory.connections.iter().copied());
        let throughput = self.throughput.iter().map(|throughput| throughput.users);
        let setup = self.setup.iter().map(Setup::users);
        memory.chain(throughput).chain(setup).max().unwrap_or(1)
    }

    fn check(&self) -> anyhow::Result<()> {
        ensure!(
            !self.stacks.is_empty(),
            "`stacks` is empty: name at least one stack"
        );
        self.stack_rows().context("in `stacks`")?;
        if let Some(setup) = &self.setup {
            check_load(
                "setup",
                &[setup.rate_per_second],
                setup.duration_seconds,
                setup.blocks,
            )?;
            check_seconds("setup.warm_up_seconds", setup.warm_up_seconds)?;
        }
        if let Some(memory) = &self.memory {
            memory.check()?;
        }
        for (index, throughput) in self.throughput.iter().enumerate() {
            throughput.check(&format!("throughput[{index}]"))?;
        }
        Ok(())
    }
}

impl Setup {
    /// Enough that nobody's turn comes twice within a second.
    pub(crate) fn users(&self) -> u32 {
        // Bounded by `check_load`: the cast cannot cut anything off.
        (self.rate_per_second * (self.warm_up_seconds + self.duration_seconds)).ceil() as u32 * 2
            + 16
    }
}

impl Memory {
    fn check(&self) -> anyhow::Result<()> {
        ensure!(
            self.blocks > 0,
            "`memory.blocks` is 0: a figure needs at least one block"
        );
        ensure!(
            !self.stages.is_empty(),
            "`memory.stages` is empty: allowed are \"handshaken\" and \"registered\""
        );
        ensure!(
            self.connections.len() >= 5,
            "`memory.connections` has {} points: a slope needs at least 5",
            self.connections.len()
        );
        ensure!(
            self.connections.is_sorted_by(|a, b| a < b) && self.connections[0] > 0,
            "`memory.connections` must be positive and ascending"
        );
        Ok(())
    }
}

impl Throughput {
    fn check(&self, place: &str) -> anyhow::Result<()> {
        check_load(
            place,
            &self.rates_per_second,
            self.duration_seconds,
            self.blocks,
        )?;
        check_seconds(&format!("{place}.warm_up_seconds"), self.warm_up_seconds)?;
        check_seconds(&format!("{place}.talk_seconds"), self.talk_seconds)?;
        ensure!(self.users > 0, "`{place}.users` is 0: somebody has to call");
        ensure!(
            !(self.workload == Workload::Register && self.lifecycle == Lifecycle::PerCall),
            "`{place}`: a registration has no call to live for; use lifecycle = \"per-registration\""
        );
        Ok(())
    }
}

fn check_load(place: &str, rates: &[f64], seconds: f64, blocks: u32) -> anyhow::Result<()> {
    ensure!(
        blocks > 0,
        "`{place}.blocks` is 0: a figure needs at least one block"
    );
    ensure!(
        !rates.is_empty(),
        "`{place}.rates_per_second` is empty: name at least one rate"
    );
    for rate in rates {
        ensure!(
            rate.is_finite() && (0.001..=1e6).contains(rate),
            "`{place}`: a rate of {rate} a second; allowed is 0.001 to 1,000,000"
        );
    }
    check_seconds(&format!("{place}.duration_seconds"), seconds)?;
    ensure!(
        seconds >= 0.1,
        "`{place}.duration_seconds` is {seconds}: throughput is counted in windows of 0.1 s"
    );
    Ok(())
}

fn check_seconds(place: &str, seconds: f64) -> anyhow::Result<()> {
    ensure!(
        seconds.is_finite() && (0.0..=86_400.0).contains(&seconds),
        "`{place}` is {seconds}; allowed is 0 to 86,400"
    );
    Ok(())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn the_profiles_are_sound() {
        for (name, _) in PROFILES {
            let scenario = Scenario::profile(name).unwrap();
            assert_eq!(scenario.plan.name, name);
            assert_eq!(scenario.sha256.len(), 64);
            assert_eq!(scenario.plan.stacks.len(), transport::stacks().len());
        }
    }

    #[test]
    fn errors_name_the_place_and_what_is_allowed() {
        let good = PROFILES[0].1;
        let cases = [
            (
                "stacks = [\"udp\",",
                "stacks = [\"upd\",",
                vec!["stacks", "\"upd\"", "udp"],
            ),
            (
                "workload = \"invite\"",
                "workload = \"invit\"",
                vec!["line", "invit", "`register`", "`invite`"],
            ),
            ("[memory]", "[memroy]", vec!["line", "memroy", "`memory`"]),
            (
                "blocks = 6",
                "blocks = 0",
                vec!["setup.blocks", "at least one"],
            ),
            ("blocks = 6", "blocks = -1", vec!["line", "-1"]),
            (
                "connections = [50, 100,",
                "connections = [",
                vec!["memory.connections", "at least 5"],
            ),
            (
                "lifecycle = \"per-registration\"",
                "lifecycle = \"per-call\"",
                vec!["throughput[0]", "per-registration"],
            ),
            ("users = 100", "", vec!["line", "users"]),
            ("name =", "name ==", vec!["line 4"]),
        ];
        for (from, to, expected) in cases {
            let text = good.replacen(from, to, 1);
            assert_ne!(text, good, "{from} is in the scenario");
            let error = format!("{:#}", Scenario::parse(&text).unwrap_err());
            for part in expected {
                assert!(error.contains(part), "{to}: expected {part} in: {error}");
            }
        }
    }
}
