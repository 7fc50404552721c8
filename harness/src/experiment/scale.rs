//! The experiment `scale`: a crowd of users who are registered at one node, idle but for keep-alives and
//! refreshes, and what it costs to serve others beside them.
//!
//! Beside the crowd there are visitors: some of them come and register, and all of them call users drawn
//! at random from the crowd, which must answer. What the crowd costs by being there is measured before
//! and after each of these loads, and taken off; so a crowd of any size should yield the same figures.
//! [`growth`] says whether it does.

pub(super) mod growth;
mod sample;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::ensure;
use hopbench::load::{
    ArrivalLaw, BackOff, Called, Course, GeneratorConfig, Lifecycle, LoadPlan, LoadReport, Mix,
    Stage, Standing, Workload,
};
use hopbench::measure::kernel::SocketSlabs;
use hopbench::measure::snapshot::{ProcessSnapshot, ProcessUsage};
use hopbench::node::NodeCounters;
use hopbench::transport::Settings;
use serde_json::{Value, json};

use super::load::{DRAIN_SECONDS, PROCESS_SECONDS, USER_SECONDS, datagram_drops};
use super::memory::rest;
use super::{Bench, Question, Sample, Subject, Trial, cell_id};
use crate::limits::{Demand, Spread};
use crate::scenario::{Plan, Scale, Selection};
use crate::testbed::{Crew, Failure, Generators, Nodes, Outcome};
use crate::topology::{Site, Topology};

/// What users do most of the time: nothing.
const WORKLOAD: &str = "idle";
/// Parameter that tells the cells of a stack apart.
pub(super) const USERS: &str = "users";
/// A crowd that takes its time comes in steps of this length.
const STEP: Duration = Duration::from_secs(1);
/// Load before each measurement.
const WARM_UP_SECONDS: f64 = 1.0;

/// One size of the crowd.
struct Crowd {
    users: u32,
    scale: Scale,
}

/// The cells of all `[[scale]]` of a scenario.
pub(super) fn trials(scales: &[Scale], plan: &Plan) -> anyhow::Result<Vec<Trial>> {
    let lifecycle = Lifecycle::PerRegistration.name();
    let mut trials = Vec::new();
    let mut seen = BTreeMap::new();
    for scale in scales {
        let selection = Selection {
            stacks: &scale.stacks,
            ..Selection::default()
        };
        for site in plan.sites(Topology::Edge, &selection)? {
            let stack = site.stack.name;
            let workers = *seen.entry(stack).or_insert(scale.workers);
            ensure!(
                workers == scale.workers,
                "two `[[scale]]` of the scenario ask for `{stack}` with {workers} and {} workers: crowds \
                 are compared with each other, so give the same `workers` to all",
                scale.workers
            );
            for users in &scale.users {
                let id = cell_id("scale", WORKLOAD, &site, lifecycle);
                trials.push(Trial {
                    subject: Subject {
                        id: id.with(USERS, *users),
                        site,
                        parameters: parameters(scale, &site, *users),
                        blocks: scale.blocks.into(),
                    },
                    question: Box::new(Crowd {
                        users: *users,
                        scale: scale.clone(),
                    }),
                });
            }
        }
    }
    Ok(trials)
}

fn parameters(scale: &Scale, site: &Site, users: u32) -> BTreeMap<String, Value> {
    let named = [
        (USERS, json!(users)),
        ("node_workers", json!(scale.workers)),
        ("generator_processes", json!(scale.generator_processes)),
        ("population_seconds", json!(scale.population_seconds)),
        (
            "keep_alive_seconds",
            json!(match site.stack.tunnel {
                Some(_) => scale.tunnel_keep_alive_seconds,
                None => scale.keep_alive_seconds,
            }),
        ),
        ("expires_seconds", json!(scale.expires_seconds)),
        ("refresh_seconds", json!(scale.refresh_seconds)),
        ("hold_seconds", json!(scale.hold_seconds)),
        ("calm_seconds", json!(scale.calm_seconds)),
        ("rest_seconds", json!(scale.rest_seconds)),
        ("visitors", json!(scale.visitors)),
        ("registrations", json!(scale.registrations)),
        (
            "registrations_per_second",
            json!(scale.registrations_per_second),
        ),
        ("calls", json!(scale.calls)),
        ("calls_per_second", json!(scale.calls_per_second)),
        ("blocks", json!(scale.blocks)),
    ];
    let named = named.into_iter();
    let mut parameters: BTreeMap<String, Value> =
        named.map(|(key, value)| (key.to_owned(), value)).collect();
    if let Err(unavailable) = SocketSlabs::read() {
        // Why `kernel_bytes` is null.
        parameters.insert("kernel_meter".into(), json!(unavailable.to_string()));
    }
    parameters
}

impl Question for Crowd {
    fn measure(&self, bench: &Bench<'_>, site: &Site, block: u32) -> Outcome<Sample> {
        let seed = bench.seed.wrapping_add(u64::from(block));
        let mut scene = Scene::start(self, bench, site, seed)?;
        let mut sample = sample::sample(self, &scene.play(self, bench, site, seed)?);
        if !site.is_cpu_time_whole() {
            let scalars = sample.scalars.iter_mut();
            let of_cpu = scalars.filter(|(key, _)| key.contains("_cpu_"));
            of_cpu.for_each(|(_, value)| *value = None);
        }
        Ok(sample)
    }

    fn demand(&self, site: &Site) -> Demand {
        let visitors = self.scale.visitors;
        let spread = Spread {
            node_processes: self.scale.workers,
            generator_processes: self.scale.generator_processes,
        };
        Demand::of_cell(site, self.users + visitors, spread)
            .beside(Demand::of_generator(site, visitors, 1, false))
    }

    fn expected_seconds(&self, _topology: Topology) -> f64 {
        let scale = &self.scale;
        let processes = f64::from(scale.workers + scale.generator_processes + 1);
        let loads = scale.registering_seconds() + scale.calling_seconds();
        PROCESS_SECONDS * processes
            + USER_SECONDS * f64::from(self.users + scale.visitors)
            + scale.population_seconds
            + scale.hold_seconds
            + 4.0 * scale.calm_seconds
            + loads
            + 3.0 * WARM_UP_SECONDS
    }
}

/// Who takes part.
struct Scene {
    nodes: Nodes,
    crowd: Generators,
    visitors: Generators,
    /// Kernel memory of sockets before anybody came.
    kernel_before: Option<SocketSlabs>,
}

/// What was read of one block.
struct Readings {
    /// Of node and crowd before anybody came.
    before: Memory,
    /// With the whole crowd at rest.
    settled: Memory,
    /// At the end.
    after: Memory,
    /// From nobody to the whole crowd.
    population: Population,
    /// What idling cost: before and after the visitors came, and before and after they called.
    calm: [Calm; 4],
    registrations: Served,
    /// Refreshes during the hold; none without hold.
    refreshes: Option<Served>,
    /// What the node had seen at the end of the hold.
    held: NodeCounters,
    calls: Served,
    /// How the crowd and the visitors stood at the end.
    standings: [Standing; 2],
    /// Datagrams that the kernel dropped at the node; `None` where none can be.
    drops: Option<f64>,
}

/// How the crowd came.
struct Population {
    seconds: f64,
    server: ProcessUsage,
    client: ProcessUsage,
}

/// A while without loads.
#[derive(Clone, Copy)]
struct Calm {
    server: ProcessUsage,
    client: ProcessUsage,
}

/// A load, and what the node used between the edges of its measurement.
struct Served {
    report: LoadReport,
    server: ProcessUsage,
}

/// Memory of both sides and of the kernel for their sockets.
struct Memory {
    server: ProcessSnapshot,
    client: ProcessSnapshot,
    /// Since nobody was there; `None` where the kernel does not tell.
    kernel_bytes: Option<i64>,
}

impl Scene {
    fn start(crowd: &Crowd, bench: &Bench<'_>, site: &Site, seed: u64) -> Outcome<Self> {
        let Crowd { users, scale } = crowd;
        let everybody = users + scale.visitors;
        let crew = Crew {
            // A layout that knows callees has as many accounts for them again.
            users: everybody.div_ceil(2),
            ring_seconds: 0.0,
            calls_per_second_limit: None,
            workers: scale.workers,
            seed,
        };
        let kernel_before = SocketSlabs::read().ok();
        let settings = crowd.settings(bench, site, crew.users)?;
        let nodes = bench.testbed.nodes(site, &settings, crew)?;
        let config = GeneratorConfig {
            seed,
            expires_seconds: Some(scale.expires_seconds),
            handicap_ratio: bench.testbed.generator_handicap(site),
            ..GeneratorConfig::new(site.stack.name, nodes.target(), settings, nodes.accounts())
        };
        let answering = GeneratorConfig {
            answers: true,
            ..config.clone()
        };
        let mut calling = GeneratorConfig {
            first_user: *users,
            called: Some(Called {
                first: 0,
                count: *users,
            }),
            // Visitors who have come stay, and nobody refreshes their registration.
            expires_seconds: None,
            seed: seed.wrapping_add(1 << 32),
            ..config
        };
        // A datagram socket without an address of its own competes for its port with those of all
        // addresses, and the crowd may have each port on one of its own.
        calling.settings.source = match nodes.users_namespace() {
            Some(_) => None, // all have the same address there
            None => Some(calling.target.ip()),
        };
        Ok(Self {
            crowd: bench.testbed.load(
                &answering,
                scale.generator_processes,
                nodes.users_namespace(),
            )?,
            visitors: bench.testbed.load(&calling, 1, nodes.users_namespace())?,
            nodes,
            kernel_before,
        })
    }

    /// Everything that a block consists of, in order.
    fn play(
        &mut self,
        crowd: &Crowd,
        bench: &Bench<'_>,
        site: &Site,
        seed: u64,
    ) -> Outcome<Readings> {
        let scale = &crowd.scale;
        let calm_window = Duration::from_secs_f64(scale.calm_seconds);
        let drops_before = datagram_drops(&self.nodes);
        let before = self.memory()?;
        let phase = |what: &str| bench.progress.phase(what);
        phase("populating");
        let population = self.populate(crowd)?;
        if !site.stack.is_stream() {
            self.rest(Duration::from_secs_f64(scale.rest_seconds))?;
        }
        let settled = self.memory()?;
        phase("calm");
        let alone = self.calm(calm_window)?;
        phase("newcomers");
        let registrations = serve(&mut self.visitors, &crowd.newcomers(seed), &mut self.nodes)?;
        self.visitors
            .populate(scale.visitors, Stage::Registered, &self.nodes)?;
        let joined = self.calm(calm_window)?;
        phase(&format!("holding {} s", scale.hold_seconds));
        let refreshes = crowd.refreshes(seed);
        let refreshes = refreshes
            .map(|plan| serve(&mut self.crowd, &plan, &mut self.nodes))
            .transpose()?;
        let held = self.node()?.1;
        phase("calm");
        let rested = self.calm(calm_window)?;
        phase("calling");
        let calls = serve(&mut self.visitors, &crowd.calls(seed), &mut self.nodes)?;
        let called = self.calm(calm_window)?;
        let drops = datagram_drops(&self.nodes).zip(drops_before);
        Ok(Readings {
            before,
            settled,
            after: self.memory()?,
            population,
            calm: [alone, joined, rested, called],
            registrations,
            refreshes,
            held,
            calls,
            standings: [self.crowd.standing()?, self.visitors.standing()?],
            drops: drops.map(|(after, before)| after.saturating_sub(before) as f64),
        })
    }

    fn populate(&mut self, crowd: &Crowd) -> Outcome<Population> {
        let Crowd { users, scale } = crowd;
        let (server, client) = (self.usage()?, self.crowd.snapshot()?);
        let began = Instant::now();
        // At least one a process: a part of the crowd is users of each.
        let at_once = f64::from(*users) * STEP.as_secs_f64() / scale.population_seconds.max(1e-3);
        let at_once = (at_once.ceil() as u32).max(scale.generator_processes);
        let mut there = 0;
        for step in 0.. {
            let due = began + STEP * step;
            self.rest(due.saturating_duration_since(Instant::now()))?;
            there = (there + at_once).min(*users);
            self.crowd.populate(there, Stage::Registered, &self.nodes)?;
            if there == *users {
                break;
            }
        }
        let seconds = began.elapsed().as_secs_f64();
        Ok(Population {
            seconds,
            server: self.usage()?.since(&server),
            client: self.crowd.snapshot()?.since(&client),
        })
    }

    fn rest(&self, length: Duration) -> Outcome<()> {
        rest(length, || self.nodes.check())
    }

    fn calm(&mut self, length: Duration) -> Outcome<Calm> {
        let (server, client) = (self.usage()?, self.crowd.snapshot()?);
        self.rest(length)?;
        Ok(Calm {
            server: self.usage()?.since(&server),
            client: self.crowd.snapshot()?.since(&client),
        })
    }

    fn usage(&mut self) -> Outcome<ProcessSnapshot> {
        Ok(only(self.nodes.usage()?))
    }

    fn node(&mut self) -> Outcome<(ProcessSnapshot, NodeCounters)> {
        Ok(only(self.nodes.snapshots()?))
    }

    fn memory(&mut self) -> Outcome<Memory> {
        let now = SocketSlabs::read().ok();
        let kernel = now.zip(self.kernel_before.as_ref());
        let kernel_bytes = kernel.map(|(now, before)| now.growth_bytes(before));
        let crowd = self.crowd.snapshot()?;
        Ok(Memory {
            server: self.node()?.0,
            client: crowd.plus(&self.visitors.snapshot()?),
            kernel_bytes,
        })
    }
}

/// Has a generator do what `plan` says.
fn serve(generator: &mut Generators, plan: &LoadPlan, nodes: &mut Nodes) -> Outcome<Served> {
    let mut edges = Vec::with_capacity(2);
    let report = generator.run(plan, nodes, |nodes| {
        edges.push(only(nodes.usage()?));
        Ok(())
    })?;
    match edges.as_slice() {
        [begin, end] => Ok(Served {
            report,
            server: end.since(begin),
        }),
        _ => Err(Failure::Failed(
            "the load ended without a measurement".into(),
        )),
    }
}

/// The only station's.
fn only<T>(mut stations: Vec<T>) -> T {
    stations.pop().expect("a layout has a station")
}

impl Crowd {
    /// The site's settings, with keep-alives.
    fn settings(&self, bench: &Bench<'_>, site: &Site, users: u32) -> Outcome<Settings> {
        let mut settings = bench.settings_for(site, users)?;
        let scale = &self.scale;
        if site.stack.tunnel.is_some() {
            settings.tunnel.keep_alive_seconds = Some(scale.tunnel_keep_alive_seconds);
        } else {
            let interval = scale.keep_alive_seconds.into();
            settings.keep_alive = Some(Duration::from_secs(interval));
        }
        Ok(settings)
    }

    /// Visitors who come one after the other.
    fn newcomers(&self, seed: u64) -> LoadPlan {
        LoadPlan {
            workload: Workload::Register,
            rate_per_second: self.scale.registrations_per_second,
            duration_seconds: self.scale.registering_seconds(),
            ..self.plan(self.scale.visitors, seed)
        }
    }

    /// Visitors' calls to users of the crowd.
    fn calls(&self, seed: u64) -> LoadPlan {
        LoadPlan {
            workload: Workload::Invite,
            rate_per_second: self.scale.calls_per_second,
            duration_seconds: self.scale.calling_seconds(),
            ..self.plan(self.scale.visitors, seed)
        }
    }

    /// The crowd's refreshes, spread evenly; `None` without hold.
    fn refreshes(&self, seed: u64) -> Option<LoadPlan> {
        let scale = &self.scale;
        let plan = LoadPlan {
            workload: Workload::Reregister,
            rate_per_second: f64::from(self.users) / scale.refresh_seconds,
            warm_up_seconds: 0.0,
            duration_seconds: scale.hold_seconds,
            ..self.plan(self.users, seed)
        };
        (scale.hold_seconds > 0.0).then_some(plan)
    }

    /// What all loads have in common; arrivals are at equal distances.
    fn plan(&self, users: u32, seed: u64) -> LoadPlan {
        LoadPlan {
            workload: Workload::Register,
            lifecycle: Lifecycle::PerRegistration,
            arrivals: ArrivalLaw::Constant,
            rate_per_second: 1.0,
            course: Course::Steady,
            warm_up_seconds: WARM_UP_SECONDS,
            duration_seconds: 1.0,
            drain_seconds: DRAIN_SECONDS,
            users,
            talk_seconds: 0.0,
            ring_seconds: 0.0,
            mix: Mix::default(),
            back_off: BackOff::default(),
            seed,
        }
    }
}
