//! The experiment `memory`: live heap and resident memory of each side over the number of
//! connections; the slope is what one more connection costs.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use hopbench::load::{GeneratorConfig, Lifecycle, Stage, Workload};
use hopbench::measure::snapshot::ProcessSnapshot;
use hopbench::node::NodeCounters;
use hopbench::transport::{Stack, WireCounters};
use serde_json::json;

use super::{Bench, Question, Sample, Subject, Trial, cell_id};
use crate::scenario::{Memory, Plan, Selection};
use crate::statistics::{self, Regression};
use crate::testbed::{Crew, Failure, LoadProcess, Nodes, Outcome};
use crate::topology::{Site, Topology};

/// Memory is read when two readings this far apart agree.
const CALM: Duration = Duration::from_millis(8);
/// It is read all the same after this long.
const PATIENCE: Duration = Duration::from_secs(1);

/// Connections are added step by step; memory is read at each step.
struct Ramp {
    stage: Stage,
    connections: Vec<u32>,
}

/// The cells of the experiment `memory`.
pub(crate) fn trials(memory: &Memory, plan: &Plan) -> anyhow::Result<Vec<Trial>> {
    let lifecycle = Lifecycle::PerRegistration.name();
    let selection = Selection {
        stacks: &memory.stacks,
        variants: &memory.variants,
        authenticate_calls: false,
    };
    let sites = plan.sites(Topology::Direct, &selection)?;
    let mut trials = Vec::new();
    for stage in &memory.stages {
        for site in &sites {
            let id = cell_id("memory", Workload::Register.name(), site, lifecycle);
            trials.push(Trial {
                subject: Subject {
                    id: id.with("stage", stage.name()),
                    site: *site,
                    parameters: BTreeMap::from([
                        ("stage".to_owned(), json!(stage.name())),
                        ("connections".to_owned(), json!(memory.connections)),
                        ("blocks".to_owned(), json!(memory.blocks)),
                    ]),
                    blocks: memory.blocks,
                },
                question: Box::new(Ramp {
                    stage: *stage,
                    connections: memory.connections.clone(),
                }),
            });
        }
    }
    Ok(trials)
}

impl Question for Ramp {
    fn measure(&self, bench: &Bench<'_>, site: &Site, block: u32) -> Outcome<Sample> {
        let most = self.connections.last().copied().unwrap_or_default();
        let settings = bench.settings_for(site, most)?;
        let crew = Crew {
            users: most,
            ring_seconds: 0.0,
        };
        let mut nodes = bench.testbed.nodes(site, &settings, crew)?;
        let mut load = bench.testbed.load(&GeneratorConfig {
            stack: site.stack.name.into(),
            target: nodes.target(),
            settings,
            accounts: nodes.accounts(),
            callees: None,
            workers: 1,
            seed: bench.seed.wrapping_add(u64::from(block)),
        })?;
        let mut points = Vec::with_capacity(self.connections.len());
        for connections in &self.connections {
            load.populate(*connections, self.stage, &nodes)?;
            let wanted = site.stack.is_stream().then_some(u64::from(*connections));
            let (client, server) = calm_snapshots(&mut load, &mut nodes, wanted)?;
            points.push(Point {
                connections: f64::from(*connections),
                client,
                server,
                wire: nodes.wire()?.total(),
            });
        }
        let mut sample = sample(&points);
        if self.stage == Stage::Handshaken && has_set_up(site.stack) {
            sample.scalars.extend(set_up_wire(&points));
        }
        Ok(sample)
    }

    fn expected_seconds(&self, _topology: Topology) -> f64 {
        0.3 + f64::from(self.connections.last().copied().unwrap_or_default()) * 1.5e-3
    }
}

/// Whether opening a hop puts anything on the wire.
fn has_set_up(stack: &Stack) -> bool {
    stack.is_stream() || stack.protected
}

/// What one more set-up puts on the wire. Every connection of a stack takes the same packets, but
/// for acknowledgements that are delayed or not.
fn set_up_wire(points: &[Point]) -> [(String, Option<f64>); 2] {
    let slope = |of: fn(WireCounters) -> u64| {
        let line = fit(points, |point| Some(of(point.wire?) as f64));
        line.map(|line| line.slope)
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
    load: &mut LoadProcess,
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

/// What both sides cost with a number of connections.
struct Point {
    connections: f64,
    client: ProcessSnapshot,
    server: ProcessSnapshot,
    wire: Option<WireCounters>,
}

fn sample(points: &[Point]) -> Sample {
    let heap = |side: &ProcessSnapshot| side.heap_live_bytes.map(|bytes| bytes as f64);
    let rss = |side: &ProcessSnapshot| side.rss_bytes.map(|bytes| bytes as f64);
    let client_heap = fit(points, |point| heap(&point.client));
    let server_heap = fit(points, |point| heap(&point.server));
    let slope = |line: Option<&Regression>| line.map(|line| line.slope);
    let r_squared = |line: Option<&Regression>| line.and_then(|line| line.r_squared);
    let client_rss = fit(points, |point| rss(&point.client));
    let server_rss = fit(points, |point| rss(&point.server));
    let scalars = [
        (
            "client_heap_bytes_per_connection",
            slope(client_heap.as_ref()),
        ),
        (
            "server_heap_bytes_per_connection",
            slope(server_heap.as_ref()),
        ),
        (
            "client_rss_bytes_per_connection",
            slope(client_rss.as_ref()),
        ),
        (
            "server_rss_bytes_per_connection",
            slope(server_rss.as_ref()),
        ),
        (
            "client_heap_r_squared_ratio",
            r_squared(client_heap.as_ref()),
        ),
        (
            "server_heap_r_squared_ratio",
            r_squared(server_heap.as_ref()),
        ),
    ];
    Sample {
        scalars: scalars
            .into_iter()
            .map(|(key, value)| (key.to_owned(), value))
            .collect(),
        ..Sample::default()
    }
}

/// The line through `bytes` over the number of connections; none if a reading is missing.
fn fit(points: &[Point], bytes: impl Fn(&Point) -> Option<f64>) -> Option<Regression> {
    let line: Option<Vec<(f64, f64)>> = points
        .iter()
        .map(|point| Some((point.connections, bytes(point)?)))
        .collect();
    statistics::regression(&line?)
}
