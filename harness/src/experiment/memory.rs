//! The experiment `memory`: heap and resident memory of each side, and the kernel's memory of sockets,
//! over the number of connections; the slope is what one more connection costs.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use hopbench::load::{GeneratorConfig, Lifecycle, Stage, Workload};
use hopbench::measure::kernel::SocketSlabs;
use hopbench::measure::snapshot::ProcessSnapshot;
use hopbench::node::NodeCounters;
use hopbench::transport::{CryptoProvider, Stack, WireCounters};
use serde_json::{Value, json};

use super::attribution::{TracedPoint, add_parts, traced};
use super::floor;
use super::{Bench, Question, Sample, Subject, Trial, cell_id};
use crate::interrupt;
use crate::limits::{Demand, Spread};
use crate::scenario::{Blocks, Memory, Plan, Selection};
use crate::statistics::{self, Regression};
use crate::testbed::{Crew, Failure, Generators, Nodes, Outcome};
use crate::topology::{Site, Topology};
use crate::variant::Variant;

/// Memory is read when two readings this far apart agree.
const CALM: Duration = Duration::from_millis(8);
/// It is read all the same after this long.
const PATIENCE: Duration = Duration::from_secs(1);

/// How often a rest looks whether everybody is still there.
const LOOK: Duration = Duration::from_millis(50);

/// Connections are brought to a stage, some here and more there; memory is read of each number.
#[derive(Clone)]
struct Ramp {
    stage: Stage,
    /// How long they have had nothing to do when memory is read.
    idle: Duration,
    connections: Vec<u32>,
}

/// The cells of the experiment `memory`.
pub(crate) fn trials(memory: &Memory, plan: &Plan) -> anyhow::Result<Vec<Trial>> {
    let lifecycle = Lifecycle::PerRegistration.name();
    let sites = |variants| {
        let selection = Selection {
            stacks: &memory.stacks,
            variants,
            authenticate_calls: false,
        };
        plan.sites(Topology::Direct, &selection)
    };
    let mut trials = Vec::new();
    for (ramp, variants, blocks) in ramps(memory) {
        for site in &sites(variants)? {
            let id = cell_id("memory", Workload::Register.name(), site, lifecycle);
            trials.push(Trial {
                subject: Subject {
                    id: id.with("stage", ramp.stage.name()),
                    site: *site,
                    parameters: parameters(&ramp, &blocks),
                    blocks: blocks.clone(),
                },
                question: Box::new(ramp.clone()),
            });
        }
    }
    Ok(trials)
}

/// What is measured of each stack, in which ways to run it, and how often.
fn ramps(memory: &Memory) -> impl Iterator<Item = (Ramp, &[Variant], Blocks)> {
    let stages = memory.stages.iter().map(|stage| {
        let ramp = Ramp {
            stage: *stage,
            idle: Duration::ZERO,
            connections: memory.connections.clone(),
        };
        (ramp, memory.variants.as_slice(), memory.blocks.clone())
    });
    let idle = memory.idle.iter().map(|idle| {
        let ramp = Ramp {
            stage: Stage::Idle,
            idle: Duration::from_secs_f64(idle.seconds),
            connections: idle.connections.clone(),
        };
        (ramp, idle.variants.as_slice(), idle.blocks.into())
    });
    stages.chain(idle)
}

fn parameters(ramp: &Ramp, blocks: &Blocks) -> BTreeMap<String, Value> {
    let mut parameters = BTreeMap::from([
        ("stage".to_owned(), json!(ramp.stage.name())),
        ("connections".to_owned(), json!(ramp.connections)),
        ("blocks".to_owned(), blocks.recorded()),
    ]);
    if ramp.stage == Stage::Idle {
        let seconds = ramp.idle.as_secs_f64();
        parameters.insert("idle_seconds".into(), json!(seconds));
    }
    if let Err(unavailable) = SocketSlabs::read() {
        // Why `kernel_bytes_per_connection` is null.
        parameters.insert("kernel_meter".into(), json!(unavailable.to_string()));
    }
    parameters
}

impl Question for Ramp {
    fn measure(&self, bench: &Bench<'_>, site: &Site, block: u32) -> Outcome<Sample> {
        let readings = match self.stage {
            Stage::Handshaken | Stage::Registered | Stage::InCall => {
                self.step_by_step(bench, site, block)?
            }
            Stage::Idle => self.side_by_side(bench, site, block)?,
        };
        let mut sample = sample(&readings, allocates_in_c(site));
        add_parts(&mut sample, &readings.traced);
        let settings = bench.settings_for(site, 0)?;
        sample
            .scalars
            .extend(floor::bare_heap(site.stack, &settings));
        if self.stage == Stage::Handshaken && has_set_up(site.stack) {
            sample.scalars.extend(set_up_wire(&readings.points));
        }
        Ok(sample)
    }

    fn demand(&self, site: &Site) -> Demand {
        let pair = |users| Demand::of_cell(site, users, Spread::PAIR);
        match self.stage {
            Stage::Handshaken | Stage::Registered | Stage::InCall => pair(self.most()),
            Stage::Idle => {
                let pairs = self.all().map(pair);
                let together = pairs.reduce(Demand::beside);
                together.unwrap_or_else(|| pair(0))
            }
        }
    }

    fn expected_seconds(&self, _topology: Topology) -> f64 {
        let (opened, idle_seconds) = match self.stage {
            Stage::Handshaken | Stage::Registered | Stage::InCall => (2 * self.most(), 0.0),
            Stage::Idle => (self.all().sum(), self.idle.as_secs_f64()),
        };
        0.3 + f64::from(opened) * 1.5e-3 + idle_seconds
    }
}

impl Ramp {
    fn most(&self) -> u32 {
        self.connections.last().copied().unwrap_or_default()
    }

    /// The numbers of connections of all pairs that are measured side by side.
    fn all(&self) -> impl Iterator<Item = u32> {
        let connections = self.connections.iter().copied();
        connections.chain(traced(&self.connections))
    }

    /// One node and one generator, whose connections become more and more; then another pair, traced.
    fn step_by_step(&self, bench: &Bench<'_>, site: &Site, block: u32) -> Outcome<Readings> {
        let mut pair = Pair::start(bench, site, block, self.most())?;
        let mut readings = Readings::default();
        for connections in &self.connections {
            pair.populate(*connections, self.stage)?;
            readings.points.push(pair.point(*connections)?);
            readings.kernel.push(kernel_point(*connections));
        }
        drop(pair);
        let mut pair = Pair::start(bench, site, block, self.most())?;
        pair.trace()?;
        for connections in traced(&self.connections) {
            pair.populate(connections, self.stage)?;
            readings.traced.push(pair.traced_point(connections)?);
        }
        Ok(readings)
    }

    /// A node and a generator for each number of connections, which differ in nothing else: so all are
    /// idle in the same while, which they would need each if they came one after the other.
    fn side_by_side(&self, bench: &Bench<'_>, site: &Site, block: u32) -> Outcome<Readings> {
        let mut pairs = Vec::new();
        for _ in self.all() {
            pairs.push(Pair::start(bench, site, block, self.most())?);
        }
        let (pairs_untraced, pairs_traced) = (0..self.connections.len(), self.connections.len()..);
        for pair in &mut pairs[pairs_traced.clone()] {
            pair.trace()?;
        }
        let mut readings = Readings::default();
        readings.kernel.push(kernel_point(0));
        for (pair, connections) in pairs.iter_mut().zip(self.all()) {
            pair.populate(connections, self.stage)?;
        }
        rest(self.idle, || {
            pairs.iter().try_for_each(|pair| pair.nodes.check())
        })?;
        for (pair, connections) in pairs[pairs_untraced].iter_mut().zip(&self.connections) {
            readings.points.push(pair.point(*connections)?);
        }
        let traced = traced(&self.connections);
        for (pair, connections) in pairs[pairs_traced].iter_mut().zip(traced) {
            readings.traced.push(pair.traced_point(connections)?);
        }
        // The kernel's books are of all pairs together.
        readings.kernel.push(kernel_point(self.all().sum()));
        Ok(readings)
    }
}

/// Lets time pass as long as `watch` finds nothing wrong.
pub(super) fn rest(length: Duration, watch: impl Fn() -> Outcome<()>) -> Outcome<()> {
    let rested_at = Instant::now() + length;
    while Instant::now() < rested_at {
        if interrupt::is_interrupted() {
            return Err(Failure::Interrupted);
        }
        watch()?;
        std::thread::sleep(LOOK.min(rested_at.saturating_duration_since(Instant::now())));
    }
    Ok(())
}

/// A node and its generator.
struct Pair {
    nodes: Nodes,
    load: Generators,
    is_stream: bool,
}

impl Pair {
    fn start(bench: &Bench<'_>, site: &Site, block: u32, users: u32) -> Outcome<Self> {
        let settings = bench.settings_for(site, users)?;
        let crew = Crew {
            users,
            ring_seconds: 0.0,
            calls_per_second_limit: None,
            workers: 1,
            seed: bench.seed.wrapping_add(u64::from(block)),
        };
        let nodes = bench.testbed.nodes(site, &settings, crew)?;
        let config = GeneratorConfig {
            seed: bench.seed.wrapping_add(u64::from(block)),
            handicap_ratio: bench.testbed.generator_handicap(site),
            ..GeneratorConfig::new(site.stack.name, nodes.target(), settings, nodes.accounts())
        };
        let load = bench.testbed.load(&config, 1, nodes.users_namespace())?;
        let is_stream = site.stack.is_stream();
        Ok(Self {
            nodes,
            load,
            is_stream,
        })
    }

    fn populate(&mut self, users: u32, stage: Stage) -> Outcome<()> {
        self.load.populate(users, stage, &self.nodes)
    }

    /// Has both sides remember what each block that they allocate is for.
    fn trace(&mut self) -> Outcome<()> {
        self.load.trace()?;
        self.nodes.trace()
    }

    fn calm(&mut self, connections: u32) -> Outcome<(ProcessSnapshot, ProcessSnapshot)> {
        let wanted = self.is_stream.then_some(u64::from(connections));
        calm_snapshots(&mut self.load, &mut self.nodes, wanted)
    }

    fn traced_point(&mut self, connections: u32) -> Outcome<TracedPoint> {
        let (client, server) = self.calm(connections)?;
        Ok(TracedPoint {
            connections: f64::from(connections),
            client,
            server,
        })
    }

    fn point(&mut self, connections: u32) -> Outcome<Point> {
        let (client, server) = self.calm(connections)?;
        Ok(Point {
            connections: f64::from(connections),
            client,
            server,
            wire: self.nodes.wire()?.total(),
        })
    }
}

/// The kernel's memory now that there are so many connections; none where it does not tell.
fn kernel_point(connections: u32) -> (f64, Option<f64>) {
    let slabs = SocketSlabs::read().ok();
    let bytes = slabs.map(|slabs| slabs.total_bytes() as f64);
    (f64::from(connections), bytes)
}

/// Whether opening a hop puts anything on the wire.
fn has_set_up(stack: &Stack) -> bool {
    stack.is_stream() || stack.protected
}

/// Whether C code has a heap of its own: what it keeps of a connection is not on Rust's.
fn allocates_in_c(site: &Site) -> bool {
    let is_tls = site.stack.via_transport == "TLS";
    match site.variant.tls.provider {
        CryptoProvider::Ring => false,
        CryptoProvider::AwsLcRs => is_tls,
    }
}

/// What one more set-up puts on the wire. Every connection of a stack takes the same packets, but
/// for acknowledgements that are delayed or not.
fn set_up_wire(points: &[Point]) -> [(String, Option<f64>); 2] {
    let slope = |of: fn(WireCounters) -> u64| {
        let counted = |point: &Point| (point.connections, point.wire.map(|wire| of(wire) as f64));
        slope(fit(points.iter().map(counted)))
    };
    [
        ("handshake_wire_bytes".to_owned(), slope(|wire| wire.bytes)),
        (
            "handshake_wire_packets".to_owned(),
            slope(|wire| wire.packets),
        ),
    ]
}

/// Reads both sides once neither heap changes any more and the node has the connections that the
/// client has, if connections are `wanted`: the last message of a handshake may still be under way
/// when the client calls a connection ready, and the kernel completes a TCP connection by itself.
fn calm_snapshots(
    load: &mut Generators,
    nodes: &mut Nodes,
    wanted: Option<u64>,
) -> Outcome<(ProcessSnapshot, ProcessSnapshot)> {
    let deadline = Instant::now() + PATIENCE;
    let mut earlier = (load.snapshot()?, only(nodes)?.0);
    loop {
        std::thread::sleep(CALM);
        let client = load.snapshot()?;
        let (server, counters) = only(nodes)?;
        let held = counters.flows_opened - counters.flows_closed;
        let is_complete = wanted.is_none_or(|wanted| held == wanted);
        let is_calm = client.heap_live_bytes == earlier.0.heap_live_bytes
            && server.heap_live_bytes == earlier.1.heap_live_bytes;
        let is_late = Instant::now() >= deadline;
        if is_late && !is_complete {
            return Err(Failure::Failed(format!(
                "the node holds {held} connections instead of {}",
                wanted.unwrap_or_default()
            )));
        }
        if is_late || (is_calm && is_complete) {
            return Ok((client, server));
        }
        earlier = (client, server);
    }
}

/// The one node's figures.
fn only(nodes: &mut Nodes) -> Outcome<(ProcessSnapshot, NodeCounters)> {
    let mut snapshots = nodes.snapshots()?;
    Ok(snapshots.pop().expect("a layout has a node"))
}

/// What was read of the numbers of connections.
#[derive(Default)]
struct Readings {
    points: Vec<Point>,
    /// Of processes whose allocations are traced.
    traced: Vec<TracedPoint>,
    /// Connections, of all pairs, and the kernel's bytes.
    kernel: Vec<(f64, Option<f64>)>,
}

/// What both sides cost with a number of connections.
struct Point {
    connections: f64,
    client: ProcessSnapshot,
    server: ProcessSnapshot,
    wire: Option<WireCounters>,
}

/// What is read of a side's memory; none where this machine does not tell.
type Meter = fn(&ProcessSnapshot) -> Option<f64>;

/// From what Rust asked for to what is resident, each with what the one before leaves out: rounding to
/// malloc's chunks; what C allocated, and the caches of threads; what malloc has and has not given out;
/// pages that nobody wrote, and memory that is not malloc's. Slopes of one set of points add up.
const METERS: [(&str, Meter); 5] = [
    ("heap", heap_bytes),
    ("chunk", chunk_bytes),
    ("malloc", malloc_bytes),
    ("arena", arena_bytes),
    ("rss", rss_bytes),
];

/// Those of which more than the slope is told.
const TOLD_WHOLE: [&str; 2] = ["heap", "rss"];

fn sample(readings: &Readings, allocates_in_c: bool) -> Sample {
    type Side = fn(&Point) -> &ProcessSnapshot;
    let client: Side = |point| &point.client;
    let server: Side = |point| &point.server;
    let mut sample = Sample::default();
    for (side, of) in [("client", client), ("server", server)] {
        let read = |meter: Meter| -> Option<Vec<(f64, f64)>> {
            let points = readings.points.iter();
            points
                .map(|point| Some((point.connections, meter(of(point))?)))
                .collect()
        };
        for (name, meter) in METERS {
            let line =
                sample.record_slope(format!("{side}_{name}_bytes_per_connection"), read(meter));
            if TOLD_WHOLE.contains(&name) {
                let mut record = |key: &str, value| {
                    sample.scalars.insert(format!("{side}_{name}_{key}"), value);
                };
                record("fixed_bytes", line.map(|line| line.intercept));
                record("r_squared_ratio", r_squared(line));
            }
        }
        if allocates_in_c {
            sample.record_slope(
                format!("{side}_c_heap_bytes_per_connection"),
                read(c_heap_bytes),
            );
        }
    }
    let kernel = readings
        .kernel
        .iter()
        .map(|(at, bytes)| Some((*at, (*bytes)?)));
    let kernel = sample.record_slope("kernel_bytes_per_connection".into(), kernel.collect());
    sample
        .scalars
        .insert("kernel_r_squared_ratio".into(), r_squared(kernel));
    sample
}

impl Sample {
    /// Records the slope of the line through `points`, and the points; none if a reading is missing.
    fn record_slope(&mut self, key: String, points: Option<Vec<(f64, f64)>>) -> Option<Regression> {
        let line = points.as_deref().and_then(statistics::regression);
        self.scalars.insert(key.clone(), slope(line));
        self.points.extend(points.map(|points| (key, points)));
        line
    }
}

fn heap_bytes(side: &ProcessSnapshot) -> Option<f64> {
    side.heap_live_bytes.map(|bytes| bytes as f64)
}

fn chunk_bytes(side: &ProcessSnapshot) -> Option<f64> {
    side.heap_chunk_bytes.map(|bytes| bytes as f64)
}

/// What malloc has from the system, given out or not.
fn arena_bytes(side: &ProcessSnapshot) -> Option<f64> {
    Some((side.malloc_bytes? + side.malloc_free_bytes?) as f64)
}

fn rss_bytes(side: &ProcessSnapshot) -> Option<f64> {
    side.rss_bytes.map(|bytes| bytes as f64)
}

fn malloc_bytes(side: &ProcessSnapshot) -> Option<f64> {
    side.malloc_bytes.map(|bytes| bytes as f64)
}

/// What malloc gave out beyond what Rust's allocator asked for.
fn c_heap_bytes(side: &ProcessSnapshot) -> Option<f64> {
    Some(side.malloc_bytes? as f64 - side.heap_chunk_bytes? as f64)
}

/// The line through `points`, connections and bytes; none if a reading is missing.
fn fit(points: impl Iterator<Item = (f64, Option<f64>)>) -> Option<Regression> {
    let points = points.map(|(connections, bytes)| Some((connections, bytes?)));
    statistics::regression(&points.collect::<Option<Vec<_>>>()?)
}

fn slope(line: Option<Regression>) -> Option<f64> {
    line.map(|line| line.slope)
}

/// How straight the line is; every line through two points is.
fn r_squared(line: Option<Regression>) -> Option<f64> {
    line.filter(|line| line.slope_standard_error.is_some())?
        .r_squared
}
