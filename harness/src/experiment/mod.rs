//! Experiments: questions, each answered by cells that are measured in interleaved blocks.
//!
//! [`Subject`] is one cell to be measured; a [`Question`] measures it once, in fresh processes, and
//! yields a [`Sample`]; [`conduct`] runs all subjects block by block in a seeded random order and
//! turns what was collected into [`record::Cell`](hopbench::record::Cell)s and ratios.

mod collect;
mod load;
mod memory;
mod schedule;

use std::collections::BTreeMap;

use hopbench::measure::histogram::{LatencyHistogram, RateHistogram};
use hopbench::record::CellId;
use hopbench::sip::Accounts;
use hopbench::transport::{Settings, Stack};
use serde_json::{Value, json};

use crate::scenario::Plan;
use crate::testbed::{Outcome, Testbed};

pub(crate) use schedule::{Conduct, conduct};

/// The experiments and what they ask, in the order in which they run.
pub(crate) const NAMES: [(&str, &str); 3] = [
    (
        "setup",
        "how long until a hop is ready, and until its user is registered",
    ),
    (
        "memory",
        "what one more connection costs in heap and resident memory, on each side",
    ),
    (
        "throughput",
        "what an operation costs in processor time at a given rate, and how long it takes",
    ),
];

/// What every question needs.
pub(crate) struct Bench<'a> {
    /// Where processes run.
    pub(crate) testbed: &'a Testbed,
    /// Certificates and keys of this run.
    pub(crate) settings: &'a Settings,
    /// The users.
    pub(crate) accounts: &'a Accounts,
    /// Seed of the run.
    pub(crate) seed: u64,
}

/// One cell to be measured.
pub(crate) struct Subject {
    /// Its name.
    pub(crate) id: CellId,
    /// Its row in the registry.
    pub(crate) stack: &'static Stack,
    /// What a reproduction needs beyond the name.
    pub(crate) parameters: BTreeMap<String, Value>,
    /// How it is measured.
    pub(crate) question: Box<dyn Question>,
    /// Blocks that are wanted.
    pub(crate) blocks: u32,
}

/// How a cell is measured.
pub(crate) trait Question {
    /// Measures once, in processes of its own. `block` seeds what is random: the same block has the
    /// same arrivals for every stack.
    fn measure(&self, bench: &Bench<'_>, stack: &'static Stack, block: u32) -> Outcome<Sample>;

    /// About how long that takes.
    fn expected_seconds(&self) -> f64;
}

/// What one block of one cell yielded.
#[derive(Debug, Default)]
pub(crate) struct Sample {
    /// Figures by metric key; `None` where this stack or machine has none.
    pub(crate) scalars: BTreeMap<String, Option<f64>>,
    /// Distributions by metric key; `None` where this stack has no such phase.
    pub(crate) latencies: BTreeMap<String, Option<LatencyHistogram>>,
    /// Rates of the 100 ms windows.
    pub(crate) rates: Option<RateHistogram>,
    /// Why the generator was the bottleneck, if it was.
    pub(crate) generator_bound: Option<String>,
    /// Why the figures do not count, if too much failed.
    pub(crate) shortfall: Option<String>,
}

/// The cells of `plan`, for the experiments named in `wanted` (all if it is empty).
///
/// # Errors
/// When a stack does not exist.
pub(crate) fn subjects(plan: &Plan, wanted: &[String]) -> anyhow::Result<Vec<Vec<Subject>>> {
    let stacks = plan.stack_rows()?;
    let is_wanted = |name: &str| wanted.is_empty() || wanted.iter().any(|wanted| wanted == name);
    let mut experiments = Vec::new();
    if let Some(setup) = plan.setup.as_ref().filter(|_| is_wanted("setup")) {
        experiments.push(load::setup_subjects(setup, &stacks));
    }
    if let Some(memory) = plan.memory.as_ref().filter(|_| is_wanted("memory")) {
        experiments.push(memory::subjects(memory, &stacks));
    }
    if is_wanted("throughput") {
        experiments.extend(
            plan.throughput
                .iter()
                .map(|plan| load::throughput_subjects(plan, &stacks)),
        );
    }
    Ok(experiments)
}

fn cell_id(experiment: &str, workload: &str, stack: &Stack, lifecycle: &str) -> CellId {
    CellId {
        experiment: experiment.into(),
        workload: workload.into(),
        stack: stack.name.into(),
        topology: "direct".into(),
        lifecycle: lifecycle.into(),
        path: "loopback".into(),
        distinguishing: BTreeMap::new(),
    }
}

/// A port of the kernel's choice on the loopback.
fn any_loopback_port() -> std::net::SocketAddr {
    (std::net::Ipv4Addr::LOCALHOST, 0).into()
}

impl Bench<'_> {
    /// What all cells of a stack have in common.
    fn parameters(&self, stack: &Stack) -> BTreeMap<String, Value> {
        let placement = self.testbed.placement();
        let mut parameters = stack.security(self.settings);
        parameters.insert("node_cpus".into(), json!(placement.node));
        parameters.insert("generator_cpus".into(), json!(placement.load));
        parameters
    }

    /// The run's keys, provisioned for `users` users.
    fn settings_for(&self, users: u32) -> Settings {
        let mut settings = self.settings.clone();
        if let Some(wireguard) = &mut settings.wireguard {
            wireguard.peers = users;
        }
        settings
    }
}
