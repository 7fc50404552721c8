//! Experiments: questions, each answered by cells that are measured in interleaved blocks.
//!
//! [`Subject`] is one cell to be measured; a [`Question`] measures it once, in fresh processes, and
//! yields a [`Sample`]; [`conduct`] runs all trials block by block in a seeded random order and
//! turns what was collected into [`record::Cell`](hopbench::record::Cell)s and ratios. An
//! [`Experiment`] may derive further cells from what its own have yielded.

mod attribution;
pub(crate) mod breakdown;
mod chain;
mod collect;
mod ending;
mod floor;
mod handshake;
pub(crate) mod instructions;
mod line;
mod link;
mod load;
mod memory;
mod pace;
mod packet;
mod protection;
mod rate;
mod scale;
mod schedule;
pub(crate) mod search;
mod turns;
pub(crate) mod versus;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use hopbench::measure::histogram::{LatencyHistogram, WindowCounts};
use hopbench::record::{CellId, Ratio};
use hopbench::transport::{InnerIp, KeyType, Settings, Stack, TlsSettings, TunnelOptions};
use serde_json::{Value, json};

use crate::lab::daemon;
use crate::limits::{Demand, Readings, Unmet};
use crate::path::PathName;
use crate::progress::Progress;
use crate::scenario::{Blocks, Plan};
use crate::testbed::{Failure, Outcome, TUNNELS_PROTECT, Testbed};
use crate::topology::{Site, Topology};
use crate::variant::{self, INNER_IP, TCP_BUFFER_BYTES, Variant};

use collect::Collected;
pub(crate) use collect::{describes_load, is_mishap};
pub(crate) use schedule::{Conduct, conduct};
use turns::InTurns;

/// The experiments and what they ask, in the order in which they run.
pub(crate) const NAMES: [(&str, &str); 9] = [
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
    (
        "chain",
        "what each further proxy adds to a call's delay and processor time",
    ),
    (
        "link",
        "how many round trips a hop takes to be ready, and what losses do to it (--path lab)",
    ),
    (
        "rate",
        "how many registrations, refreshes or calls fit through a narrow hop (--path lab)",
    ),
    (
        "scale",
        "whether up to 100,000 users stay registered, and what serving others beside them costs",
    ),
    (
        "search",
        "the highest rate of calls, registrations or refreshes without a failure (RFC 7502)",
    ),
    (
        "knee",
        "how latency and success go on over the offered rate, and where they bend",
    ),
];

/// What every question needs.
pub(crate) struct Bench<'a> {
    /// Where processes run.
    pub(crate) testbed: &'a Testbed,
    /// Keys of tunnels, limits.
    pub(crate) settings: &'a Settings,
    /// Certificates, by the kind of their keys.
    pub(crate) certificates: &'a BTreeMap<KeyType, TlsSettings>,
    /// What the machine has.
    pub(crate) machine: Readings,
    /// Where the user sees how far the run is.
    pub(crate) progress: &'a Progress,
    /// Seed of the run.
    pub(crate) seed: u64,
    /// How long the run may take, where experiments go on until their ratios are narrow.
    pub(crate) budget: Option<Duration>,
}

/// Cells that are measured together, in interleaved blocks.
pub(crate) struct Experiment {
    /// Its cells.
    pub(crate) trials: Vec<Trial>,
    /// What else its cells tell together, by block as they do.
    derive: Option<Derive>,
    /// Whether what is derived is all that is told, as of a search, whose blocks are its steps.
    is_condensed: bool,
    /// What its cells tell of each other, by block as well.
    complete: Option<Complete>,
    /// Which of its cells are held against which.
    compare: Compare,
}

/// From the cells that are being measured to further ones, which their samples tell together.
type Derive = fn(&[Collected]) -> Vec<Collected>;

/// Adds to samples what takes those of other cells of the block. Called after each block, with all
/// that there are.
type Complete = fn(&mut [Collected]);

/// The ratios between cells.
type Compare = fn(&[&Collected]) -> Vec<Ratio>;

/// A cell and how it is measured.
pub(crate) struct Trial {
    /// The cell.
    pub(crate) subject: Subject,
    /// What measures it.
    pub(crate) question: Box<dyn Question>,
}

/// One cell to be measured.
#[derive(Clone)]
pub(crate) struct Subject {
    /// Its name.
    pub(crate) id: CellId,
    /// Where it is measured.
    pub(crate) site: Site,
    /// What a reproduction needs beyond the name.
    pub(crate) parameters: BTreeMap<String, Value>,
    /// Blocks that are wanted.
    pub(crate) blocks: Blocks,
}

/// How a cell is measured.
pub(crate) trait Question {
    /// Measures once, in processes of its own. `block` seeds what is random: the same block has the
    /// same arrivals for every stack.
    fn measure(&self, bench: &Bench<'_>, site: &Site, block: u32) -> Outcome<Sample>;

    /// What that asks of the machine.
    fn demand(&self, site: &Site) -> Demand;

    /// About how long that takes over this topology.
    fn expected_seconds(&self, topology: Topology) -> f64;

    /// How its blocks are measured in turns with those of other cells, if they are.
    fn in_turns(&self) -> Option<&dyn InTurns> {
        None
    }

    /// Whether further blocks would tell nothing more.
    fn is_done(&self) -> bool {
        false
    }
}

/// What one block of one cell yielded.
#[derive(Debug, Default)]
pub(crate) struct Sample {
    /// Figures by metric key; `None` where this stack or machine has none.
    pub(crate) scalars: BTreeMap<String, Option<f64>>,
    /// Of figures that are slopes, by metric key: numbers of connections and readings.
    pub(crate) points: BTreeMap<String, Vec<(f64, f64)>>,
    /// Distributions by metric key; `None` where this stack has no such phase.
    pub(crate) latencies: BTreeMap<String, Option<LatencyHistogram>>,
    /// What was completed in each window of 100 ms.
    pub(crate) windows: Option<WindowCounts>,
    /// Why the generator was the bottleneck, if it was.
    pub(crate) generator_bound: Option<String>,
    /// Why the generator had too few users, if it had. Such a block is never left out: users are busy
    /// when the server is slow, too, and it must not lose its slow blocks.
    pub(crate) users_short: Option<String>,
    /// Why the figures do not count, if too much failed.
    pub(crate) shortfall: Option<String>,
    /// Of a search, the step that the block was and what is known since.
    pub(crate) searched: Option<Box<search::Searched>>,
}

/// The cells of `plan`, for the experiments named in `wanted` (all if it is empty).
///
/// # Errors
/// When a stack does not exist.
pub(crate) fn experiments(plan: &Plan, wanted: &[String]) -> anyhow::Result<Vec<Experiment>> {
    let is_wanted = |name: &str| wanted.is_empty() || wanted.iter().any(|wanted| wanted == name);
    let mut experiments = Vec::new();
    if let Some(setup) = plan.setup.as_ref().filter(|_| is_wanted("setup")) {
        experiments.push(Experiment::of(load::setup_trials(setup, plan)?));
    }
    if let Some(memory) = plan.memory.as_ref().filter(|_| is_wanted("memory")) {
        experiments.push(Experiment::of(memory::trials(memory, plan)?));
    }
    for throughput in plan.throughput.iter().filter(|_| is_wanted("throughput")) {
        experiments.push(Experiment {
            complete: Some(protection::add_costs),
            ..Experiment::of(load::throughput_trials(throughput, plan)?)
        });
    }
    if let Some(chain) = plan.chain.as_ref().filter(|_| is_wanted("chain")) {
        experiments.push(Experiment {
            derive: Some(chain::fits),
            complete: Some(protection::add_costs),
            ..Experiment::of(chain::trials(chain, plan)?)
        });
    }
    let in_lab = plan.path == PathName::Lab;
    for of_links in ["link", "rate"] {
        anyhow::ensure!(
            in_lab || !wanted.iter().any(|name| name == of_links),
            "the experiment {of_links} is about links of the lab, and packets go over the loopback: add --path lab"
        );
    }
    if let Some(link) = plan.link.as_ref().filter(|_| in_lab && is_wanted("link")) {
        experiments.push(Experiment {
            derive: Some(link::fits),
            ..Experiment::of(link::trials(link, plan)?)
        });
    }
    if let Some(rate) = plan.rate.as_ref().filter(|_| in_lab && is_wanted("rate")) {
        experiments.push(Experiment::of(rate::trials(rate, plan)?));
    }
    if is_wanted("scale") {
        experiments.push(Experiment {
            derive: Some(scale::growth::laws),
            ..Experiment::of(scale::trials(&plan.scale, plan)?)
        });
    }
    for search in plan.search.iter().filter(|_| is_wanted("search")) {
        experiments.push(Experiment::condensed(search::search_trials(search, plan)?));
    }
    for knee in plan.knee.iter().filter(|_| is_wanted("knee")) {
        experiments.push(Experiment::condensed(search::knee_trials(knee, plan)?));
    }
    // None of an experiment's own stacks may be among those of the run.
    experiments.retain(|experiment| !experiment.trials.is_empty());
    Ok(experiments)
}

impl Experiment {
    fn of(trials: Vec<Trial>) -> Self {
        Self {
            trials,
            derive: None,
            is_condensed: false,
            complete: None,
            compare: collect::ratios,
        }
    }

    /// About how long it takes if its ratios are narrow at once.
    fn expected_seconds(&self) -> f64 {
        let seconds = |trial: &Trial| {
            trial.expected_seconds_of_block() * f64::from(trial.subject.blocks.least())
        };
        self.trials.iter().map(seconds).sum()
    }

    /// Cells whose blocks are steps of a search.
    fn condensed(trials: Vec<Trial>) -> Self {
        Self {
            derive: Some(search::condense),
            is_condensed: true,
            ..Self::of(trials)
        }
    }
}

impl Trial {
    /// About how long all its blocks take, at most.
    pub(crate) fn expected_seconds(&self) -> f64 {
        self.expected_seconds_of_block() * f64::from(self.subject.blocks.most())
    }

    /// What it needs and the machine does not have, if anything: then it is not measured.
    pub(crate) fn unmet(&self, machine: &Readings) -> Option<Unmet> {
        self.question.demand(&self.subject.site).unmet(machine)
    }

    fn expected_seconds_of_block(&self) -> f64 {
        self.question.expected_seconds(self.subject.site.topology)
    }
}

/// The program of this name that the path leads to.
fn on_path(name: &str) -> Option<PathBuf> {
    use std::os::unix::fs::PermissionsExt;
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path)
        .map(|folder| folder.join(name))
        .find(|file| {
            std::fs::metadata(file)
                .is_ok_and(|found| found.is_file() && found.permissions().mode() & 0o111 != 0)
        })
}

fn cell_id(experiment: &str, workload: &str, site: &Site, lifecycle: &str) -> CellId {
    let mut distinguishing = site.variant.distinguishing();
    distinguishing.extend(site.path.distinguishing());
    if site.core.name != site.stack.name {
        distinguishing.insert(CORE_STACK.into(), site.core.name.into());
    }
    if site.authenticate_calls {
        distinguishing.insert("authenticate_calls".into(), true.into());
    }
    CellId {
        experiment: experiment.into(),
        workload: workload.into(),
        stack: site.stack_name().into(),
        topology: site.topology.to_string(),
        lifecycle: lifecycle.into(),
        path: site.path.name().into(),
        distinguishing,
    }
}

/// The parameter that names the stack between nodes.
const CORE_STACK: &str = "core_stack";

impl Subject {
    /// The names that a cell of the stack `control` would have that differs from this one in nothing
    /// but what it is compared for, the best one first. Of how it is run, a control shares what
    /// concerns it: batching of datagrams, but not how TLS is spoken if it speaks none. Where all hops
    /// have one stack, the control's do too; or else its core is the same.
    fn control_ids(&self, control: &Stack) -> Vec<CellId> {
        let Site { stack, core, .. } = self.site;
        let variant = self.site.variant.distinguishing();
        let id_with = |control_core: &Stack| {
            let mut id = self.id.clone();
            id.stack = control.name.to_owned();
            let concerns = |key: &str| {
                [control, control_core]
                    .iter()
                    .any(|stack| variant::concerns(key, stack))
            };
            id.distinguishing
                .retain(|key, _| !variant.contains_key(key) || concerns(key));
            id.distinguishing.remove(CORE_STACK);
            if control_core.name == control.name {
                id
            } else {
                id.with(CORE_STACK, control_core.name)
            }
        };
        if !self.site.topology.has_core() {
            vec![id_with(control)]
        } else if stack.name == core.name {
            vec![id_with(control), id_with(core)]
        } else {
            vec![id_with(core)]
        }
    }

    /// The name of the cell that is the same but run in the usual way; `None` if it is that itself.
    fn usual_id(&self) -> Option<CellId> {
        let variant = self.site.variant.distinguishing();
        let mut id = self.id.clone();
        id.distinguishing
            .retain(|key, _| !variant.contains_key(key));
        (!variant.is_empty()).then_some(id)
    }
}

impl Bench<'_> {
    /// What all cells of a site have in common.
    fn parameters(&self, site: &Site) -> BTreeMap<String, Value> {
        let placement = self.testbed.placement();
        let Ok(settings) = self.settings_for(site, 0) else {
            return BTreeMap::new();
        };
        let mut parameters = site.stack.security(&settings);
        if site.topology.has_core() {
            parameters.insert(CORE_STACK.into(), site.core.name.into());
            let core = site.core.security(&settings).into_iter();
            parameters.extend(core.map(|(key, value)| (format!("core_{key}"), value)));
        }
        let variant = Variant {
            handicap: self.testbed.handicap(site),
            ..site.variant
        };
        parameters.extend(variant.recorded([site.stack, site.core]));
        if [site.stack, site.core]
            .iter()
            .any(|stack| stack.tunnel.is_some())
        {
            parameters.insert(INNER_IP.into(), json!(site.inner_ip()));
            if site.inner_ip() == InnerIp::Kernel {
                // The kernel sizes its own.
                parameters.remove(TCP_BUFFER_BYTES);
            }
        }
        if site.topology != Topology::Direct {
            parameters.insert("tunnels_protect".into(), json!(TUNNELS_PROTECT));
            parameters.insert("uri_scheme".into(), json!("sip"));
        }
        parameters.extend(site.path.recorded());
        if let Some(beneath) = site.beneath {
            parameters.extend(daemon::recorded(beneath));
        }
        if site.path.links().is_some()
            && let Ok(privilege) = self.testbed.lab()
        {
            parameters.insert("lab_privilege".into(), json!(privilege.name()));
        }
        parameters.insert("node_cpus".into(), json!(placement.node));
        parameters.insert("node_processes".into(), json!(site.topology.nodes()));
        parameters.insert("generator_cpus".into(), json!(placement.load));
        parameters
    }

    /// The run's keys, provisioned for `users` users on each side of a call, and for proxies.
    ///
    /// # Errors
    /// When this build cannot speak TLS as the site wants it.
    fn settings_for(&self, site: &Site, users: u32) -> Outcome<Settings> {
        let mut settings = self.settings.clone();
        if let Some(wireguard) = &mut settings.wireguard {
            wireguard.peers = site.topology.layout().identities(users);
        }
        let Variant {
            tls,
            tunnel,
            inner_ip: _,
            batching,
            buffers,
            handicap: _,
        } = site.variant;
        check_inner_ip(site)?;
        tls.check()
            .map_err(|reason| Failure::Unsupported(reason.to_string()))?;
        settings.tls = self
            .certificates
            .get(&tls.key_type)
            .map(|certificates| TlsSettings {
                options: tls,
                ..certificates.clone()
            });
        settings.tunnel = tunnel;
        settings.inner_ip = site.inner_ip();
        settings.batching = batching;
        settings.socket_buffers = buffers;
        Ok(settings)
    }
}

/// Whether what is asked of the IP inside tunnels can be had.
fn check_inner_ip(site: &Site) -> Outcome<()> {
    let reason = match (site.path.links(), site.inner_ip()) {
        (_, InnerIp::User) => return Ok(()),
        (None, InnerIp::Kernel) => {
            "the kernel's IP is inside tunnels in network namespaces only: add --path lab"
        }
        (Some(_), InnerIp::Kernel) => {
            let usual = TunnelOptions::default().tcp_buffer_bytes;
            if site.variant.tunnel.tcp_buffer_bytes == usual {
                return Ok(());
            }
            "`tcp_buffer_bytes` is of TCP in user space, and the kernel's is inside the tunnel: add \
             --inner-ip user, or set `socket_send_buffer_bytes` and `socket_receive_buffer_bytes`"
        }
    };
    Err(Failure::Unsupported(reason.to_owned()))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use hopbench::transport::find;

    use super::*;

    fn subject(stack: &str, core: &str, topology: Topology, variant: Variant) -> Subject {
        let site = Site {
            topology,
            stack: find(stack).unwrap(),
            core: find(core).unwrap(),
            variant,
            authenticate_calls: false,
            path: crate::path::Path::Loopback,
            beneath: None,
        };
        Subject {
            id: cell_id("throughput", "invite", &site, "per-call").with("rate", 5),
            site,
            parameters: BTreeMap::new(),
            blocks: 1.into(),
        }
    }

    #[test]
    fn a_control_differs_in_what_it_is_compared_for_only() {
        let resumed: Variant = toml::from_str("resumption = \"ticket\"").unwrap();
        let batched: Variant = toml::from_str("batching = \"on\"").unwrap();
        let full = Variant::default();
        // Stack, core, topology, options; the end of the controls' ids.
        let cases: [(&str, &str, Topology, Variant, &[&str]); 5] = [
            (
                "tls",
                "tls",
                Topology::Direct,
                full,
                &["tcp/direct/per-call/loopback?rate=5"],
            ),
            (
                "tls",
                "tls",
                Topology::Direct,
                resumed,
                &["tcp/direct/per-call/loopback?rate=5"],
            ),
            (
                "tls",
                "mtls",
                Topology::Trapezoid,
                full,
                &["tcp/trapezoid/per-call/loopback?core_stack=mtls&rate=5"],
            ),
            (
                "tls",
                "tcp",
                Topology::Trapezoid,
                full,
                &["tcp/trapezoid/per-call/loopback?rate=5"],
            ),
            (
                "tls",
                "tls",
                Topology::Chain(2),
                full,
                &[
                    "tcp/chain-2/per-call/loopback?rate=5",
                    "tcp/chain-2/per-call/loopback?core_stack=tls&rate=5",
                ],
            ),
        ];
        for (stack, core, topology, variant, expected) in cases {
            let subject = subject(stack, core, topology, variant);
            let ids = subject.control_ids(find("tcp").unwrap());
            let ids: Vec<String> = ids.iter().map(CellId::to_string).collect();
            let expected: Vec<String> = expected
                .iter()
                .map(|end| format!("throughput/invite/{end}"))
                .collect();
            assert_eq!(ids, expected, "{}", subject.id);
        }
        // What concerns the control as well is shared with it.
        let batching = batched;
        let batched = subject("udp@wireguard", "udp@wireguard", Topology::Direct, batching);
        for (control, end) in [("udp@clear", "?batching=on&rate=5"), ("tcp", "?rate=5")] {
            let ids = batched.control_ids(find(control).unwrap());
            assert_eq!(
                ids[0].to_string(),
                format!("throughput/invite/{control}/direct/per-call/loopback{end}")
            );
        }
        // The core between is the same, and so is how it is run.
        let over_core = subject("tls", "udp@wireguard", Topology::Trapezoid, batching);
        let ids = over_core.control_ids(find("tcp").unwrap());
        assert_eq!(
            ids[0].to_string(),
            "throughput/invite/tcp/trapezoid/per-call/loopback?batching=on&\
             core_stack=udp@wireguard&rate=5"
        );
        let usual = batched.usual_id().unwrap().to_string();
        assert_eq!(
            usual,
            "throughput/invite/udp@wireguard/direct/per-call/loopback?rate=5"
        );
    }

    #[test]
    fn an_id_names_the_core_and_the_variant_where_they_are_not_the_usual() {
        let resumed: Variant = toml::from_str("resumption = \"ticket\"").unwrap();
        let id = subject("mtls", "tls", Topology::Trapezoid, resumed)
            .id
            .to_string();
        assert_eq!(
            id,
            "throughput/invite/mtls/trapezoid/per-call/loopback?core_stack=tls&rate=5&\
             resumption=ticket"
        );
    }
}
