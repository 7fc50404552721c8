//! What a run measures: a TOML file, or one of the profiles that are built in.

mod blocks;
mod chain;
mod checks;
mod link;
mod memory;
mod rate;
mod scale;
mod search;
mod setup;
#[cfg(test)]
mod tests;
mod throughput;

use std::path::Path as FilePath;

use anyhow::{Context, bail, ensure};
use hopbench::net::link::LinkConditions;
use hopbench::transport::Stack;
use serde::Deserialize;

use crate::beneath::{self, Beneath};
use crate::gate::Gate;
use crate::lab::netem;
use crate::path::{LinkEmulator, Path, PathName};
use crate::topology::{Site, Topology};
use crate::variant::Variant;
pub(crate) use blocks::{Automatic, Blocks};
pub(crate) use chain::Chain;
pub(crate) use link::Links;
pub(crate) use memory::Memory;
pub(crate) use rate::NarrowHops;
pub(crate) use scale::Scale;
pub(crate) use search::{KneeSweep, Search, StepLength};
pub(crate) use setup::Setup;
pub(crate) use throughput::Throughput;

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
    /// Stacks between proxies, each with every one of `stacks` at the edge; without the key, the
    /// same as at the edge.
    #[serde(default)]
    pub(crate) core_stacks: Vec<String>,
    /// Where packets go.
    #[serde(default)]
    pub(crate) path: PathName,
    /// How both directions of each of the lab's links are, if that is where they go.
    #[serde(default)]
    pub(crate) lab: LinkConditions,
    /// Who makes them so.
    #[serde(default)]
    pub(crate) link_emulator: LinkEmulator,
    /// What must hold of the figures, as `hopbench gate` has it.
    #[serde(default)]
    pub(crate) gates: Vec<String>,
    /// The usual way to run the stacks, from the command line: what variants leave open.
    #[serde(skip)]
    pub(crate) usual: Variant,
    /// The experiment `setup`, if it is wanted.
    pub(crate) setup: Option<Setup>,
    /// The experiment `memory`, if it is wanted.
    pub(crate) memory: Option<Memory>,
    /// The experiments `throughput`.
    #[serde(default)]
    pub(crate) throughput: Vec<Throughput>,
    /// The experiment `chain`, if it is wanted.
    pub(crate) chain: Option<Chain>,
    /// The experiment `link`, if it is wanted: of runs in the lab alone.
    pub(crate) link: Option<Links>,
    /// The experiment `rate`, if it is wanted: likewise.
    pub(crate) rate: Option<NarrowHops>,
    /// The experiments `scale`, whose sizes of crowds are compared with each other.
    #[serde(default)]
    pub(crate) scale: Vec<Scale>,
    /// The experiments `search`.
    #[serde(default)]
    pub(crate) search: Vec<Search>,
    /// The experiments `knee`.
    #[serde(default)]
    pub(crate) knee: Vec<KneeSweep>,
}

/// Which sites an experiment is about, beside its topology.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Selection<'a> {
    /// Of the plan's stacks; all if it is empty.
    pub(crate) stacks: &'a [String],
    /// Ways to run them; the usual one if it is empty.
    pub(crate) variants: &'a [Variant],
    /// Whether callers have to prove who they are.
    pub(crate) authenticate_calls: bool,
}

/// The scenarios that are built in: name and text.
pub(crate) const PROFILES: [(&str, &str); 13] = [
    ("quick", include_str!("../scenarios/quick.toml")),
    ("standard", include_str!("../scenarios/standard.toml")),
    ("full", include_str!("../scenarios/full.toml")),
    ("lifecycles", include_str!("../scenarios/lifecycles.toml")),
    ("workloads", include_str!("../scenarios/workloads.toml")),
    ("tunnels", include_str!("../scenarios/tunnels.toml")),
    ("handshakes", include_str!("../scenarios/handshakes.toml")),
    ("peers", include_str!("../scenarios/peers.toml")),
    ("rekey", include_str!("../scenarios/rekey.toml")),
    ("scale", include_str!("../scenarios/scale.toml")),
    ("memory", include_str!("../scenarios/memory.toml")),
    ("rates", include_str!("../scenarios/rates.toml")),
    ("narrow", include_str!("../scenarios/narrow.toml")),
];

/// The text of a built-in scenario.
///
/// # Errors
/// When there is none of that name.
pub(crate) fn profile_text(name: &str) -> anyhow::Result<&'static str> {
    let found = PROFILES.iter().find(|(known, _)| *known == name);
    if let Some((_, text)) = found {
        return Ok(text);
    }
    let known: Vec<&str> = PROFILES.iter().map(|(name, _)| *name).collect();
    bail!(
        "there is no profile \"{name}\"; there are: {}",
        known.join(", ")
    );
}

impl Scenario {
    /// A built-in scenario.
    ///
    /// # Errors
    /// When there is none of that name.
    pub(crate) fn profile(name: &str) -> anyhow::Result<Self> {
        Self::parse(profile_text(name)?).with_context(|| format!("in the built-in scenario {name}"))
    }

    /// Reads a scenario file.
    ///
    /// # Errors
    /// Names the file, and line and key where the text is at fault, and says what is allowed there.
    pub(crate) fn read(path: &FilePath) -> anyhow::Result<Self> {
        let text = std::fs::read_to_string(path)
            .with_context(|| format!("cannot read the scenario {}", path.display()))?;
        Self::parse(&text).with_context(|| format!("in the scenario {}", path.display()))
    }

    /// A scenario's text.
    ///
    /// # Errors
    /// As [`Scenario::read`], without the file.
    pub(crate) fn parse(text: &str) -> anyhow::Result<Self> {
        let plan: Plan = toml::from_str(text)?;
        plan.check()?;
        Ok(Self {
            plan,
            sha256: sha256(text),
        })
    }
}

/// In hexadecimal.
pub(crate) fn sha256(text: &str) -> String {
    let digest = ring::digest::digest(&ring::digest::SHA256, text.as_bytes());
    let bytes = digest.as_ref().iter();
    bytes.map(|byte| format!("{byte:02x}")).collect()
}

impl Plan {
    /// The places where a question is asked over `topology`: each stack, with each core stack where
    /// there is a core, and each variant that concerns them, or else their usual way.
    ///
    /// # Errors
    /// When a stack does not exist.
    pub(crate) fn sites(
        &self,
        topology: Topology,
        selection: &Selection<'_>,
    ) -> anyhow::Result<Vec<Site>> {
        let core_stacks = rows(&self.core_stacks).context("in `core_stacks`")?;
        let over_others = |(_, beneath): &Row| beneath.is_some();
        ensure!(
            !core_stacks.iter().any(over_others)
                && (core_stacks.is_empty() || !rows(&self.stacks)?.iter().any(over_others)),
            "`core_stacks` and a tunnel that daemons of others make: expected none beside the other, since such \
             tunnels are over all hops. Leave `core_stacks` out"
        );
        let core_stacks: Vec<&Stack> = core_stacks.into_iter().map(|(stack, _)| stack).collect();
        let mut sites = Vec::new();
        let chosen = rows(selection.stacks).context("in an experiment's `stacks`")?;
        let is_chosen = |(stack, beneath): &Row| {
            let mut chosen = chosen.iter();
            chosen.len() == 0
                || chosen.any(|(other, under)| other.name == stack.name && under == beneath)
        };
        let stacks = rows(&self.stacks).context("in `stacks`")?;
        for (stack, beneath) in stacks.into_iter().filter(is_chosen) {
            let cores = match core_stacks.as_slice() {
                named if topology.has_core() && !named.is_empty() => named,
                _ => &[stack],
            };
            for core in cores {
                for variant in self.variants_of([stack, core], selection.variants) {
                    sites.push(Site {
                        topology,
                        stack,
                        core,
                        variant,
                        authenticate_calls: selection.authenticate_calls,
                        path: self.path(),
                        beneath,
                    });
                }
            }
        }
        Ok(sites)
    }

    /// Where packets go.
    pub(crate) fn path(&self) -> Path {
        match self.path {
            PathName::Loopback => Path::Loopback,
            PathName::Lab => Path::Lab(self.lab, self.link_emulator),
        }
    }

    /// Lets experiments go on until their ratios are narrow, beyond the blocks that they ask for. Those whose
    /// blocks take minutes, of idle users and of crowds, are left as they are.
    pub(crate) fn until_narrow(&mut self) {
        let setup = self.setup.iter_mut().map(|setup| &mut setup.blocks);
        let memory = self.memory.iter_mut().map(|memory| &mut memory.blocks);
        let throughput = self.throughput.iter_mut();
        let throughput = throughput.map(|throughput| &mut throughput.blocks);
        let chain = self.chain.iter_mut().map(|chain| &mut chain.blocks);
        let link = self.link.iter_mut().map(|link| &mut link.blocks);
        let rate = self.rate.iter_mut().map(|rate| &mut rate.blocks);
        for blocks in setup
            .chain(memory)
            .chain(throughput)
            .chain(chain)
            .chain(link)
            .chain(rate)
        {
            *blocks = blocks.until_narrow();
        }
    }

    /// # Errors
    /// For links that whoever is to emulate them cannot.
    pub(crate) fn check_links(&self) -> anyhow::Result<()> {
        if self.path != PathName::Lab || self.link_emulator != LinkEmulator::Netem {
            return Ok(());
        }
        let link = self.link.iter().flat_map(|link| link.conditions(&self.lab));
        let rate = self.rate.iter().flat_map(|rate| rate.conditions(&self.lab));
        for conditions in [self.lab].into_iter().chain(link).chain(rate) {
            netem::stages(&conditions)?;
        }
        Ok(())
    }

    /// Those of `listed` that are cells of these stacks, each over the usual way of this plan.
    fn variants_of(&self, stacks: [&Stack; 2], listed: &[Variant]) -> Vec<Variant> {
        let concerned = listed.iter().filter(|variant| variant.is_of(stacks));
        let mut variants: Vec<Variant> = Vec::new();
        for variant in concerned.map(|variant| variant.over(&self.usual, stacks)) {
            // The command line may make two of them one.
            if !variants.contains(&variant) {
                variants.push(variant);
            }
        }
        if variants.is_empty() {
            variants.push(Variant::default().over(&self.usual, stacks));
        }
        variants
    }

    /// Its gates.
    ///
    /// # Errors
    /// For the first that cannot be read.
    pub(crate) fn gates(&self) -> anyhow::Result<Vec<Gate>> {
        let gates = self.gates.iter().map(|gate| Ok(gate.parse::<Gate>()?));
        gates.collect()
    }

    /// # Errors
    /// When a part of it makes no sense.
    pub(crate) fn check(&self) -> anyhow::Result<()> {
        self.gates()?;
        self.lab.check().context("in `lab`")?;
        self.check_links()?;
        ensure!(
            !self.stacks.is_empty(),
            "`stacks` is empty: name at least one stack"
        );
        self.sites(Topology::Trapezoid, &Selection::default())?;
        if let Some(setup) = &self.setup {
            setup.check()?;
        }
        if let Some(memory) = &self.memory {
            memory.check()?;
        }
        for (index, throughput) in self.throughput.iter().enumerate() {
            throughput.check(&format!("throughput[{index}]"))?;
        }
        if let Some(chain) = &self.chain {
            chain.check()?;
        }
        if let Some(link) = &self.link {
            link.check()?;
        }
        if let Some(rate) = &self.rate {
            rate.check()?;
        }
        for (index, scale) in self.scale.iter().enumerate() {
            scale.check(&format!("scale[{index}]"))?;
        }
        for (index, search) in self.search.iter().enumerate() {
            search.check(&format!("search[{index}]"))?;
        }
        for (index, knee) in self.knee.iter().enumerate() {
            knee.check(&format!("knee[{index}]"))?;
        }
        Ok(())
    }
}

/// A stack, and who else makes a tunnel beneath it.
type Row = (&'static Stack, Option<Beneath>);

fn rows(names: &[String]) -> anyhow::Result<Vec<Row>> {
    let rows = names.iter().map(|name| Ok(beneath::find(name)?));
    rows.collect()
}
