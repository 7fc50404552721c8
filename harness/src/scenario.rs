//! What a run measures: a TOML file, or one of the profiles that are built in.

mod blocks;
mod link;
mod scale;
mod search;

use std::path::Path as FilePath;

use anyhow::{Context, bail, ensure};
use hopbench::load::{ArrivalLaw, BackOff, Lifecycle, Mix, Stage, Workload};
use hopbench::net::link::LinkConditions;
use hopbench::transport::Stack;
use serde::Deserialize;

use crate::beneath::{self, Beneath};
use crate::gate::Gate;
use crate::path::{Path, PathName};
use crate::rate::{OfferedRate, RATES_PER_SECOND};
use crate::topology::{CHAIN_MAX, Site, Topology};
use crate::variant::Variant;
pub(crate) use blocks::{Automatic, Blocks};
pub(crate) use link::Links;
pub(crate) use scale::Scale;
pub(crate) use search::{KneeSweep, Search};

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
pub(crate) const PROFILES: [(&str, &str); 11] = [
    ("quick", include_str!("../scenarios/quick.toml")),
    ("standard", include_str!("../scenarios/standard.toml")),
    ("full", include_str!("../scenarios/full.toml")),
    ("lifecycles", include_str!("../scenarios/lifecycles.toml")),
    ("workloads", include_str!("../scenarios/workloads.toml")),
    ("tunnels", include_str!("../scenarios/tunnels.toml")),
    ("peers", include_str!("../scenarios/peers.toml")),
    ("rekey", include_str!("../scenarios/rekey.toml")),
    ("scale", include_str!("../scenarios/scale.toml")),
    ("memory", include_str!("../scenarios/memory.toml")),
    ("rates", include_str!("../scenarios/rates.toml")),
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
            PathName::Lab => Path::Lab(self.lab),
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
        for blocks in setup
            .chain(memory)
            .chain(throughput)
            .chain(chain)
            .chain(link)
        {
            *blocks = blocks.until_narrow();
        }
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
        ensure!(
            !self.stacks.is_empty(),
            "`stacks` is empty: name at least one stack"
        );
        self.sites(Topology::Trapezoid, &Selection::default())?;
        if let Some(setup) = &self.setup {
            check_load(
                "setup",
                &[setup.rate_per_second],
                setup.duration_seconds,
                &setup.blocks,
            )?;
            check_seconds("setup.warm_up_seconds", setup.warm_up_seconds)?;
            check_variants("setup", &setup.variants)?;
            check_stacks("setup", &setup.stacks)?;
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

impl Setup {
    /// Enough that nobody's turn comes twice within a second.
    pub(crate) fn users(&self) -> u32 {
        // Bounded by `check_load`: the cast cannot cut anything off.
        (self.rate_per_second * (self.warm_up_seconds + self.duration_seconds)).ceil() as u32 * 2
            + 16
    }
}

fn one_minute() -> f64 {
    60.0
}

impl Memory {
    fn check(&self) -> anyhow::Result<()> {
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

impl Throughput {
    fn check(&self, place: &str) -> anyhow::Result<()> {
        let rates = self.rates_per_second.iter();
        let rates: Vec<f64> = rates.map(|rate| rate.per_second).collect();
        check_load(place, &rates, self.duration_seconds, &self.blocks)?;
        for rate in &self.rates_per_second {
            let load = self.load(rate).check();
            load.with_context(|| format!("in `{place}`"))?;
        }
        check_stacks(place, &self.stacks)?;
        check_variants(place, &self.variants)
    }
}

impl Chain {
    fn check(&self) -> anyhow::Result<()> {
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

fn check_stacks(place: &str, stacks: &[String]) -> anyhow::Result<()> {
    rows(stacks)
        .map(drop)
        .with_context(|| format!("in `{place}.stacks`"))
}

fn check_variants(place: &str, variants: &[Variant]) -> anyhow::Result<()> {
    for (index, variant) in variants.iter().enumerate() {
        ensure!(
            !variants[..index].contains(variant),
            "`{place}.variants[{index}]` is there twice: each variant is a cell"
        );
    }
    Ok(())
}

fn check_load(place: &str, rates: &[f64], seconds: f64, blocks: &Blocks) -> anyhow::Result<()> {
    blocks.check(place)?;
    ensure!(
        !rates.is_empty(),
        "`{place}.rates_per_second` is empty: name at least one rate"
    );
    for rate in rates {
        ensure!(
            RATES_PER_SECOND.contains(rate),
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
            let has_all = scenario.plan.stacks.len() == hopbench::transport::stacks().len();
            let is_general = ["quick", "standard", "full", "tunnels"].contains(&name);
            assert!(has_all || !is_general, "{name}");
            let experiments = crate::experiment::experiments(&scenario.plan, &[]).unwrap();
            let mut ids = std::collections::BTreeSet::new();
            for trial in experiments.iter().flat_map(|experiment| &experiment.trials) {
                let id = trial.subject.id.to_string();
                assert!(ids.insert(id.clone()), "{name}: {id} is there twice");
            }
        }
    }

    #[test]
    fn every_core_stack_meets_every_edge_where_there_is_a_core() {
        let mut plan = Scenario::profile("quick").unwrap().plan;
        plan.stacks = vec!["tcp".into(), "tls".into()];
        let names = |plan: &Plan, topology, variants: &[Variant]| -> Vec<String> {
            let selection = Selection {
                variants,
                ..Selection::default()
            };
            let sites = plan.sites(topology, &selection).unwrap();
            let name = |site: &Site| format!("{}+{}", site.stack.name, site.core.name);
            sites.iter().map(name).collect()
        };
        let trapezoid = Topology::Trapezoid;
        assert_eq!(names(&plan, trapezoid, &[]), ["tcp+tcp", "tls+tls"]);
        plan.core_stacks = vec!["mtls".into(), "udp@wireguard".into()];
        assert_eq!(names(&plan, Topology::Edge, &[]), ["tcp+tcp", "tls+tls"]);
        let expected = [
            "tcp+mtls",
            "tcp+udp@wireguard",
            "tls+mtls",
            "tls+udp@wireguard",
        ];
        assert_eq!(names(&plan, trapezoid, &[]), expected);
        let rsa = toml::from_str("key_type = \"RSA-2048\"").unwrap();
        let two = [Variant::default(), rsa];
        // A variant of TLS is one of each site with TLS.
        assert_eq!(
            names(&plan, Topology::Direct, &two),
            ["tcp+tcp", "tls+tls", "tls+tls"]
        );
        assert_eq!(names(&plan, trapezoid, &two).len(), 7);
    }

    #[test]
    fn errors_name_the_place_and_what_is_allowed() {
        let good = PROFILES[0].1;
        let cases = [
            (
                "stacks = [\n    \"udp\",",
                "stacks = [\n    \"upd\",",
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
                "connections = [14, 28,",
                "connections = [",
                vec!["memory.connections", "at least 5"],
            ),
            (
                "lifecycle = \"per-registration\"",
                "lifecycle = \"per-call\"",
                vec!["throughput[0]", "per-registration"],
            ),
            ("users = 100", "", vec!["line", "users"]),
            (
                "proxies = [0, 1, 2, 3, 4]",
                "proxies = [0, 1, 9]",
                vec!["chain.proxies", "at most 8"],
            ),
            (
                "proxies = [0, 1, 2, 3, 4]",
                "proxies = [0, 4]",
                vec!["chain.proxies", "at least 3"],
            ),
            (
                "rates_per_second = [200.0]",
                "rates_per_second = [\"200..\"]",
                vec!["line", "FROM..TO"],
            ),
            (
                "rates_per_second = [200.0]",
                "rates_per_second = [[200.0]]",
                vec!["line", "\"100..2000\" (a ramp)"],
            ),
            (
                "users = 100",
                "users = 100\ntopology = \"ring\"",
                vec!["line", "\"ring\"", "trapezoid"],
            ),
            (
                "users = 100",
                "users = 100\ntopology = \"chain-9\"",
                vec!["line", "chain-8"],
            ),
            (
                "users = 100",
                "users = 100\nvariants = [{ tls_version = \"1.1\" }]",
                vec!["line", "`1.2` or `1.3`"],
            ),
            (
                "[chain]\nstacks = [\"udp\",",
                "[chain]\nstacks = [\"upd\",",
                vec!["chain.stacks", "\"upd\"", "udp"],
            ),
            (
                "users = 100",
                "users = 100\nvariants = [{}, {}]",
                vec!["throughput[0].variants[1]", "twice"],
            ),
            (
                "stacks = [\n    \"udp\",",
                "core_stacks = [\"upd\"]\nstacks = [\n    \"udp\",",
                vec!["core_stacks", "upd"],
            ),
            ("name =", "name ==", vec!["line 4"]),
        ];
        for (from, to, expected) in cases {
            assert_refused(good, from, to, &expected);
        }
    }

    /// Checks what is said when `from` is `to` in the sound scenario `good`.
    pub(super) fn assert_refused(good: &str, from: &str, to: &str, expected: &[&str]) {
        let text = good.replacen(from, to, 1);
        assert_ne!(text, good, "{from} is in the scenario");
        let error = format!("{:#}", Scenario::parse(&text).unwrap_err());
        for part in expected {
            assert!(error.contains(part), "{to}: expected {part} in: {error}");
        }
    }
}
