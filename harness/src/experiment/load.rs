//! Questions that a load answers: `setup`, how long the phases of a user's coming take under a light
//! load; `throughput`, what operations at a given rate cost and how long they take.

mod sample;
mod session;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use hopbench::load::{ArrivalLaw, BackOff, Course, Lifecycle, LoadPlan, Mix, Moment, Workload};
use hopbench::transport::{Resumption, Settings};
use serde_json::{Value, json};

use super::pace::{self, Price};
use super::turns::{Block, InTurns};
use super::{Bench, Question, Sample, Subject, Trial, cell_id, handshake, packet, protection};
use crate::limits::{self, Demand, Spread};
use crate::rate::OfferedRate;
use crate::scenario::{Blocks, Plan, Selection, Setup, Throughput};
use crate::testbed::Outcome;
use crate::topology::{Site, Topology};
use crate::variant::is_tls;
pub(super) use sample::{generator_bound, latency};
use session::Session;
pub(super) use session::{Readings, datagram_drops, play};

/// After the measurement, operations that began in it get this long to end: longer than a call whose
/// every message is lost once, shorter than SIP's own 32 s.
pub(super) const DRAIN_SECONDS: f64 = 3.0;
/// What starting and ending a process takes.
pub(super) const PROCESS_SECONDS: f64 = 0.06;

/// What bringing a user to its hop and its registration takes, more or less.
pub(super) const USER_SECONDS: f64 = 0.5e-3;

/// Load before a turn's measurement that is not the first of its block: what it needs is in memory, but
/// not in the processor's caches.
const TURN_WARM_UP_SECONDS: f64 = 0.02;
/// What beginning and ending a turn takes.
const TURN_SECONDS: f64 = 0.015;

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
    /// How many turns a block takes.
    turns: u32,
}

/// A block at work.
struct LoadBlock<'a> {
    load: &'a Load,
    plan: LoadPlan,
    site: Site,
    session: Session,
    opened: Instant,
    /// What the handshakes of a hop cost alone, measured beside each turn where that is asked.
    bare_handshakes: Vec<Price>,
    /// What makes those handshakes, likewise.
    settings: Option<Settings>,
}

/// The cells of the experiment `setup`.
pub(crate) fn setup_trials(setup: &Setup, plan: &Plan) -> anyhow::Result<Vec<Trial>> {
    let load = Load {
        plan: setup.load(),
        moments: PHASES.into_iter().chain(REGISTRATION).collect(),
        has_rates: false,
        resumes: false,
        turns: 1,
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
        let load = Load {
            turns: throughput.turns,
            ..Load::with_rates(throughput.load(rate))
        };
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
            turns: 1,
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

    fn parameters(&self, blocks: &Blocks) -> BTreeMap<String, Value> {
        let mut parameters = parameters(&self.plan, blocks);
        if self.turns > 1 {
            parameters.insert("turns".into(), json!(self.turns));
        }
        parameters
    }

    /// The load of one turn of `plan`, a block's.
    fn turn(&self, plan: &LoadPlan, number: u32) -> LoadPlan {
        let warm_up_seconds = match number {
            0 => plan.warm_up_seconds,
            _ => plan.warm_up_seconds.min(TURN_WARM_UP_SECONDS),
        };
        LoadPlan {
            warm_up_seconds,
            duration_seconds: plan.duration_seconds / f64::from(self.turns),
            // Seeds of blocks follow each other: those of turns keep off them.
            seed: plan.seed.wrapping_add(u64::from(number) << 32),
            ..plan.clone()
        }
    }

    /// One cell that this load answers, at `site`.
    pub(super) fn trial(&self, experiment: &str, site: &Site, blocks: &Blocks) -> Trial {
        let (workload, lifecycle) = (self.plan.workload, self.plan.lifecycle);
        Trial {
            subject: Subject {
                id: cell_id(experiment, workload.name(), site, lifecycle.name()),
                site: *site,
                parameters: self.parameters(blocks),
                blocks: blocks.clone(),
            },
            question: Box::new(Self {
                plan: self.plan.clone(),
                moments: self.moments.clone(),
                has_rates: self.has_rates,
                turns: self.turns,
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
        let mut block = self.open(bench, site, block)?;
        for number in 0..self.turns {
            block.turn(number)?;
        }
        block.close()
    }

    fn in_turns(&self) -> Option<&dyn InTurns> {
        (self.turns > 1).then_some(self)
    }

    fn demand(&self, site: &Site) -> Demand {
        let has_callees = calls(self.plan.workload) && site.topology.layout().callees.is_some();
        let callees = if has_callees { self.plan.users } else { 0 };
        let users = limits::hops_at_once(&self.plan).saturating_add(callees);
        Demand::of_cell(site, users, Spread::PAIR)
    }

    fn expected_seconds(&self, topology: Topology) -> f64 {
        let processes = f64::from(topology.nodes() + 1);
        let population = self.plan.population().map_or(0, |_| self.plan.users);
        let preparation = PROCESS_SECONDS * processes + USER_SECONDS * f64::from(population);
        let further = f64::from(self.turns - 1) * (TURN_WARM_UP_SECONDS + TURN_SECONDS);
        let bare = if self.opens_a_hop_each() {
            pace::SECONDS
        } else {
            0.0
        };
        let bare = f64::from(self.turns) * bare;
        self.plan.warm_up_seconds + self.plan.duration_seconds + preparation + further + bare
    }
}

impl InTurns for Load {
    fn turns(&self) -> u32 {
        self.turns
    }

    fn rate_per_second(&self) -> f64 {
        self.plan.rate_per_second
    }

    fn open<'a>(
        &'a self,
        bench: &Bench<'_>,
        site: &Site,
        block: u32,
    ) -> Outcome<Box<dyn Block + 'a>> {
        let plan = LoadPlan {
            seed: bench.seed.wrapping_add(u64::from(block)),
            ..self.plan.clone()
        };
        let opened = Instant::now();
        let session = Session::open(&plan, bench, site, None)?;
        // Beneath a tunnel of others there is more than a handshake.
        let has_bare =
            self.opens_a_hop_each() && site.topology == Topology::Direct && site.beneath.is_none();
        let settings = has_bare.then(|| bench.settings_for(site, 0)).transpose()?;
        Ok(Box::new(LoadBlock {
            load: self,
            plan,
            site: *site,
            session,
            opened,
            bare_handshakes: Vec::new(),
            settings,
        }))
    }
}

impl Block for LoadBlock<'_> {
    fn turn(&mut self, number: u32) -> Outcome<()> {
        self.session.play(&self.load.turn(&self.plan, number))?;
        let stack = self.site.stack;
        let settings = self.settings.as_ref();
        let rate = self.plan.rate_per_second;
        let bare = settings.and_then(|settings| handshake::bare_handshake(stack, settings, rate));
        self.bare_handshakes.extend(bare);
        Ok(())
    }

    fn close(self: Box<Self>) -> Outcome<Sample> {
        let load = self.load;
        // A handshake costs a thousand packets: where there are any, this would price them instead.
        let has_handshakes = opens_hops(&load.plan) || self.opened.elapsed() >= REKEY_AFTER;
        let readings = self.session.close()?;
        let mut sample = load.sample(&readings);
        if load.has_rates && !has_handshakes && is_priced_by_packet(&self.site) {
            let wire = readings.wire.total().filter(|wire| wire.packets > 0);
            let bytes = wire.map(|wire| wire.bytes as f64 / wire.packets as f64);
            let each = sample.scalars.get("wire_packets_per_operation");
            let packets = each.copied().flatten().unwrap_or(1.0);
            let per_second = packets * load.plan.rate_per_second;
            let bare = bytes.map(|bytes| packet::bare_protection(bytes, per_second));
            protection::PACKET.put_bare(&mut sample, bare);
        }
        if self.settings.is_some() {
            protection::HANDSHAKE.put_bare(&mut sample, mean(&self.bare_handshakes));
        }
        Ok(sample)
    }
}

/// `None` of nothing.
fn mean(prices: &[Price]) -> Option<Price> {
    let sum = prices.iter().copied().reduce(Price::plus)?;
    let count = prices.len() as f64;
    Some(Price {
        warm_ns: sum.warm_ns / count,
        paced_ns: sum.paced_ns / count,
    })
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
