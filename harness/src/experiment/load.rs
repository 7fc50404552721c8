//! Questions that a load answers: `setup`, how long the phases of a user's coming take under a light
//! load; `throughput`, what operations at a given rate cost and how long they take.

mod sample;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use hopbench::load::{
    ArrivalLaw, BackOff, Course, GeneratorConfig, Lifecycle, LoadPlan, LoadReport, Mix, Moment,
    Workload,
};
use hopbench::measure::snapshot::ProcessSnapshot;
use hopbench::measure::socket;
use hopbench::node::NodeCounters;
use hopbench::transport::Resumption;
use serde_json::{Value, json};

use super::{Bench, Question, Sample, Subject, Trial, cell_id, handshake, packet, protection};
use crate::lab::{LinkReading, Place};
use crate::limits::{self, Demand, Spread};
use crate::rate::OfferedRate;
use crate::scenario::{Blocks, Plan, Selection, Setup, Throughput};
use crate::testbed::{Crew, Failure, Nodes, Outcome, TunnelSetups, Wire};
use crate::topology::{Site, Topology};
use crate::variant::is_tls;
pub(super) use sample::{generator_bound, latency};

/// After the measurement, operations that began in it get this long to end: longer than a call whose
/// every message is lost once, shorter than SIP's own 32 s.
pub(super) const DRAIN_SECONDS: f64 = 3.0;
/// What starting and ending a process takes.
pub(super) const PROCESS_SECONDS: f64 = 0.06;

/// What bringing a user to its hop and its registration takes, more or less.
pub(super) const USER_SECONDS: f64 = 0.5e-3;

/// Keys of this age are renewed by the next packet (REKEY_AFTER_TIME of WireGuard).
const REKEY_AFTER: Duration = Duration::from_secs(120);

/// Phases that a connection goes through.
pub(super) const PHASES: [Moment; 4] = [
    Moment::TunnelHandshake,
    Moment::TransportConnect,
    Moment::SecurityHandshake,
    Moment::Setup,
];
/// Phases of a registration.
const REGISTRATION: [Moment; 4] = [
    Moment::FirstResponse,
    Moment::RegistrationDelay,
    Moment::Registered,
    Moment::RegisteredUncorrected,
];
/// Delays of a call.
const CALL: [Moment; 3] = [
    Moment::SessionRequestDelay,
    Moment::SessionRequestDelayUncorrected,
    Moment::SessionDisconnectDelay,
];
/// Delays of a user whose hop drops.
const AVALANCHE: [Moment; 5] = [
    Moment::Outage,
    Moment::TunnelHandshake,
    Moment::TransportConnect,
    Moment::SecurityHandshake,
    Moment::RegistrationDelay,
];

/// A load against fresh nodes.
pub(super) struct Load {
    plan: LoadPlan,
    /// Latencies that are published.
    moments: Vec<Moment>,
    /// Whether rates and processor time are published.
    has_rates: bool,
    /// Whether handshakes are meant to resume sessions.
    resumes: bool,
}

/// What was read of a load and of the nodes that served it.
pub(super) struct Readings {
    pub(super) report: LoadReport,
    /// Each node when the measurement began, and when it ended.
    edges: Vec<Vec<ProcessSnapshot>>,
    /// Each node after the load, with resident memory.
    after: Vec<ProcessSnapshot>,
    /// What each has seen since it started.
    nodes: Vec<NodeCounters>,
    /// What crossed the hops from before the load until it had drained.
    wire: Wire,
    /// What crossed the link that callers use meanwhile, if that is an emulated one.
    pub(super) link: Option<LinkReading>,
    /// Segments that the kernel's TCP has sent again meanwhile, in the lab.
    pub(super) retransmitted_segments: Option<u64>,
    /// Datagrams that the kernel dropped at the nodes; `None` where none can be.
    drops: Option<f64>,
    /// What setting up a tunnel of others took, if there is one.
    tunnel_setups: Option<TunnelSetups>,
    /// Why the links between users and nodes were what was measured, if they were.
    pub(super) overwhelmed_links: Option<String>,
    /// Whether a hop lies in a tunnel.
    has_tunnel: bool,
}

/// The cells of the experiment `setup`.
pub(crate) fn setup_trials(setup: &Setup, plan: &Plan) -> anyhow::Result<Vec<Trial>> {
    let load = Load {
        plan: setup.load(),
        moments: PHASES.into_iter().chain(REGISTRATION).collect(),
        has_rates: false,
        resumes: false,
    };
    let selection = Selection {
        stacks: &setup.stacks,
        variants: &setup.variants,
        authenticate_calls: false,
    };
    let sites = plan.sites(setup.topology, &selection)?;
    let trials = sites
        .iter()
        .map(|site| load.trial("setup", site, &setup.blocks));
    Ok(trials.collect())
}

/// The cells of one `[[throughput]]` of a scenario.
pub(crate) fn throughput_trials(
    throughput: &Throughput,
    plan: &Plan,
) -> anyhow::Result<Vec<Trial>> {
    let selection = Selection {
        stacks: &throughput.stacks,
        variants: &throughput.variants,
        authenticate_calls: throughput.authenticate_calls,
    };
    let sites = plan.sites(throughput.topology, &selection)?;
    let has_rate_in_id = throughput.rates_per_second.len() > 1;
    let mut trials = Vec::new();
    for rate in &throughput.rates_per_second {
        let load = Load::with_rates(throughput.load(rate));
        for site in &sites {
            let mut trial = load.trial("throughput", site, &throughput.blocks);
            if has_rate_in_id {
                trial.subject.id = trial.subject.id.with("rate", rate.recorded());
            }
            trials.push(trial);
        }
    }
    Ok(trials)
}

impl Setup {
    /// The load of one cell.
    pub(crate) fn load(&self) -> LoadPlan {
        LoadPlan {
            workload: Workload::Register,
            lifecycle: Lifecycle::PerRegistration,
            arrivals: self.arrivals,
            rate_per_second: self.rate_per_second,
            course: Course::Steady,
            warm_up_seconds: self.warm_up_seconds,
            duration_seconds: self.duration_seconds,
            drain_seconds: DRAIN_SECONDS,
            users: self.users(),
            talk_seconds: 0.0,
            ring_seconds: 0.0,
            mix: Mix::default(),
            back_off: BackOff::default(),
            seed: 0,
        }
    }
}

impl Throughput {
    /// The load of the cell with this rate.
    pub(crate) fn load(&self, rate: &OfferedRate) -> LoadPlan {
        LoadPlan {
            workload: self.workload,
            lifecycle: self.lifecycle,
            arrivals: self.arrivals,
            rate_per_second: rate.per_second,
            course: rate.course.clone(),
            warm_up_seconds: self.warm_up_seconds,
            duration_seconds: self.duration_seconds,
            drain_seconds: DRAIN_SECONDS,
            users: self.users,
            talk_seconds: self.talk_seconds,
            ring_seconds: self.ring_seconds,
            mix: self.mix,
            back_off: self.back_off,
            seed: 0,
        }
    }
}

impl Load {
    /// A load whose rates and processor time are published too.
    pub(super) fn with_rates(plan: LoadPlan) -> Self {
        let mut moments = match plan.workload {
            Workload::Register | Workload::Reregister => REGISTRATION.to_vec(),
            Workload::Avalanche => AVALANCHE.to_vec(),
            Workload::Invite => CALL.to_vec(),
            Workload::Mixed => REGISTRATION.into_iter().chain(CALL).collect(),
        };
        if plan.population().is_none() {
            moments.extend(PHASES);
        }
        Self {
            plan,
            moments,
            has_rates: true,
            resumes: false,
        }
    }

    /// Whether each operation is a registration over a hop of its own, opened by a full handshake.
    fn opens_a_hop_each(&self) -> bool {
        self.has_rates
            && self.plan.workload == Workload::Register
            && self.plan.lifecycle == Lifecycle::PerRegistration
            && self.plan.population().is_none()
            && !self.resumes
    }

    /// One cell that this load answers, at `site`.
    pub(super) fn trial(&self, experiment: &str, site: &Site, blocks: &Blocks) -> Trial {
        let (workload, lifecycle) = (self.plan.workload, self.plan.lifecycle);
        Trial {
            subject: Subject {
                id: cell_id(experiment, workload.name(), site, lifecycle.name()),
                site: *site,
                parameters: parameters(&self.plan, blocks),
                blocks: blocks.clone(),
            },
            question: Box::new(Self {
                plan: self.plan.clone(),
                moments: self.moments.clone(),
                has_rates: self.has_rates,
                resumes: is_tls(site.stack)
                    && site.variant.tls.resumption != Resumption::Off
                    && opens_hops(&self.plan),
            }),
        }
    }
}

fn parameters(plan: &LoadPlan, blocks: &Blocks) -> BTreeMap<String, Value> {
    let law = match plan.arrivals {
        ArrivalLaw::Poisson | ArrivalLaw::Constant => plan.arrivals.name(),
    };
    let rate = OfferedRate {
        per_second: plan.rate_per_second,
        course: plan.course.clone(),
    };
    let mut parameters = BTreeMap::from([
        ("arrivals", json!(law)),
        ("rate_per_second", rate.recorded()),
        ("warm_up_seconds", json!(plan.warm_up_seconds)),
        ("duration_seconds", json!(plan.duration_seconds)),
        ("users", json!(plan.users)),
        ("talk_seconds", json!(plan.talk_seconds)),
        ("generator_workers", json!(1)),
        ("blocks", blocks.recorded()),
    ]);
    match plan.workload {
        Workload::Mixed => {
            parameters.insert("mix", json!(plan.mix));
            parameters.insert("ring_seconds", json!(plan.ring_seconds));
        }
        Workload::Avalanche => {
            // Everything is meant to start when the hops drop.
            parameters.remove("arrivals");
            parameters.remove("rate_per_second");
            parameters.insert("back_off", json!(plan.back_off));
        }
        Workload::Register | Workload::Reregister | Workload::Invite => {}
    }
    let named = parameters.into_iter();
    named.map(|(key, value)| (key.to_owned(), value)).collect()
}

impl Question for Load {
    fn measure(&self, bench: &Bench<'_>, site: &Site, block: u32) -> Outcome<Sample> {
        let plan = LoadPlan {
            seed: bench.seed.wrapping_add(u64::from(block)),
            ..self.plan.clone()
        };
        let began = Instant::now();
        let readings = play(&plan, bench, site, None)?;
        let mut sample = self.sample(&readings);
        // A handshake costs a thousand packets: where there are any, this would price them instead.
        let has_handshakes = opens_hops(&self.plan) || began.elapsed() >= REKEY_AFTER;
        if self.has_rates && !has_handshakes && is_priced_by_packet(site) {
            let wire = readings.wire.total().filter(|wire| wire.packets > 0);
            let bytes = wire.map(|wire| wire.bytes as f64 / wire.packets as f64);
            let bare = bytes.map(packet::bare_protection_ns);
            sample
                .scalars
                .insert(protection::BARE_PROTECTION.into(), bare);
        }
        if self.opens_a_hop_each() && site.topology == Topology::Direct && site.stack.protected {
            let settings = bench.settings_for(site, 0)?;
            sample.scalars.insert(
                protection::BARE_HANDSHAKE.into(),
                handshake::bare_handshake_ns(site.stack, &settings),
            );
        }
        Ok(sample)
    }

    fn demand(&self, site: &Site) -> Demand {
        let has_callees = calls(self.plan.workload) && site.topology.layout().callees.is_some();
        let callees = if has_callees { self.plan.users } else { 0 };
        let users = limits::hops_at_once(&self.plan).saturating_add(callees);
        Demand::of_cell(site.stack, users, Spread::PAIR)
    }

    fn expected_seconds(&self, topology: Topology) -> f64 {
        let processes = f64::from(topology.nodes() + 1);
        let population = self.plan.population().map_or(0, |_| self.plan.users);
        let preparation = PROCESS_SECONDS * processes + USER_SECONDS * f64::from(population);
        self.plan.warm_up_seconds + self.plan.duration_seconds + preparation
    }
}

/// Runs a load against nodes of its own, which let in so many calls a second at most if they have a
/// limit.
pub(super) fn play(
    plan: &LoadPlan,
    bench: &Bench<'_>,
    site: &Site,
    calls_per_second_limit: Option<u32>,
) -> Outcome<Readings> {
    let settings = bench.settings_for(site, plan.users)?;
    let crew = Crew {
        users: plan.users,
        ring_seconds: plan.ring_seconds,
        calls_per_second_limit,
        workers: 1,
        seed: plan.seed,
    };
    let mut nodes = bench.testbed.nodes(site, &settings, crew)?;
    let config = GeneratorConfig {
        callees: nodes.callees().filter(|_| calls(plan.workload)),
        seed: plan.seed,
        handicap_ratio: bench.testbed.generator_handicap(site),
        ..GeneratorConfig::new(site.stack.name, nodes.target(), settings, nodes.accounts())
    };
    let mut load = bench.testbed.load(&config, 1, nodes.users_namespace())?;
    let drops_before = datagram_drops(&nodes);
    if let Some(stage) = plan.population() {
        nodes.at_full_width(|| load.populate(plan.users, stage, &nodes))?;
    }
    let wire_before = nodes.wire()?;
    let link_before = nodes.users_link()?;
    let segments_before = nodes.retransmitted_segments()?;
    let mut edges = Vec::with_capacity(2);
    let mut callers = Vec::with_capacity(2);
    let mut report = load.run(plan, &mut nodes, |nodes| {
        edges.push(nodes.usage()?);
        if let Some(tunnels) = nodes.tunnels() {
            callers.push(tunnels.cpu_ns(Place::Users)?);
        }
        Ok(())
    })?;
    // A daemon's time is its side's.
    for (snapshot, cpu_ns) in [&mut report.before, &mut report.after]
        .into_iter()
        .zip(callers)
    {
        if let Some(snapshot) = snapshot {
            snapshot.cpu_ns += cpu_ns;
        }
    }
    let drops = datagram_drops(&nodes).zip(drops_before);
    if edges.len() != 2 {
        return Err(Failure::Failed(
            "the load ended without a measurement".into(),
        ));
    }
    // The nodes must still be there, otherwise their share is not what it seems.
    let (after, counters) = nodes.snapshots()?.into_iter().unzip();
    Ok(Readings {
        report,
        edges,
        after,
        nodes: counters,
        wire: nodes.wire()?.since(&wire_before),
        link: link_since(nodes.users_link()?, link_before),
        retransmitted_segments: nodes
            .retransmitted_segments()?
            .zip(segments_before)
            .map(|(after, before)| after.saturating_sub(before)),
        overwhelmed_links: nodes.overwhelmed_links()?,
        drops: drops.map(|(after, before)| after.saturating_sub(before) as f64),
        tunnel_setups: nodes.tunnels().map(|tunnels| tunnels.setups().clone()),
        has_tunnel: site.stack.tunnel.is_some() || site.core.tunnel.is_some(),
    })
}

fn link_since(now: Option<LinkReading>, earlier: Option<LinkReading>) -> Option<LinkReading> {
    Some(now?.since(earlier?))
}

/// Whether its operations open hops, or do with those that were opened before.
fn opens_hops(plan: &LoadPlan) -> bool {
    match plan.workload {
        Workload::Register | Workload::Invite => plan.population().is_none(),
        Workload::Reregister => false,
        Workload::Mixed => plan.mix.register > 0.0,
        Workload::Avalanche => true,
    }
}

/// Whether all hops are WireGuard's, so that what protection costs is what its packets cost.
fn is_priced_by_packet(site: &Site) -> bool {
    site.stack.tunnel == Some("wireguard") && site.core.name == site.stack.name
}

/// Whether anybody is called.
fn calls(workload: Workload) -> bool {
    match workload {
        Workload::Invite | Workload::Mixed => true,
        Workload::Register | Workload::Reregister | Workload::Avalanche => false,
    }
}

/// Datagrams that the kernel dropped because a node did not read in time.
pub(super) fn datagram_drops(nodes: &Nodes) -> Option<u64> {
    let ports = nodes.datagram_ports();
    if ports.is_empty() {
        return None;
    }
    let drops = ports.into_iter();
    drops
        .map(|(process, port)| socket::receive_drops_on_port(process, port).ok())
        .sum()
}
