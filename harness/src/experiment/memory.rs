//! The experiment `memory`: live heap and resident memory of each side over the number of
//! connections; the slope is what one more connection costs.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use hopbench::load::{GeneratorConfig, Lifecycle, Stage, Workload};
use hopbench::measure::snapshot::ProcessSnapshot;
use hopbench::node::NodeConfig;
use hopbench::transport::Stack;
use serde_json::json;

use super::{Bench, Question, Sample, Subject, cell_id};
use crate::scenario::Memory;
use crate::statistics::{self, Regression};
use crate::testbed::{Failure, LoadProcess, NodeProcess, Outcome};

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
pub(crate) fn subjects(memory: &Memory, stacks: &[&'static Stack]) -> Vec<Subject> {
    let lifecycle = Lifecycle::PerRegistration;
    let mut subjects = Vec::new();
    for stage in &memory.stages {
        for stack in stacks {
            let id = cell_id("memory", Workload::Register.name(), stack, lifecycle.name())
                .with("stage", stage.name());
            subjects.push(Subject {
                id,
                stack,
                parameters: BTreeMap::from([
                    ("stage".to_owned(), json!(stage.name())),
                    ("connections".to_owned(), json!(memory.connections)),
                    ("blocks".to_owned(), json!(memory.blocks)),
                ]),
                question: Box::new(Ramp {
                    stage: *stage,
                    connections: memory.connections.clone(),
                }),
                blocks: memory.blocks,
            });
        }
    }
    subjects
}

impl Question for Ramp {
    fn measure(&self, bench: &Bench<'_>, stack: &'static Stack, block: u32) -> Outcome<Sample> {
        let most = self.connections.last().copied().unwrap_or_default();
        let settings = bench.settings_for(most);
        let mut node = bench.testbed.node(&NodeConfig::answering(
            stack.name,
            super::any_loopback_port(),
            settings.clone(),
            bench.accounts.clone(),
        ))?;
        let mut load = bench.testbed.load(&GeneratorConfig {
            stack: stack.name.into(),
            target: node.address(),
            settings,
            accounts: bench.accounts.clone(),
            callees: None,
            workers: 1,
            seed: bench.seed.wrapping_add(u64::from(block)),
        })?;
        let mut points = Vec::with_capacity(self.connections.len());
        for connections in &self.connections {
            load.populate(*connections, self.stage, &node)?;
            let wanted = stack.is_stream().then_some(u64::from(*connections));
            let (client, server) = calm_snapshots(&mut load, &mut node, wanted)?;
            points.push(Point {
                connections: f64::from(*connections),
                client,
                server,
            });
        }
        Ok(sample(&points))
    }

    fn expected_seconds(&self) -> f64 {
        0.3 + f64::from(self.connections.last().copied().unwrap_or_default()) * 1.5e-3
    }
}

/// Reads both sides once neither heap changes any more and the node has the connections that the
/// client has, if connections are `wanted`: the last message of a handshake may still be under way
/// when the client calls a connection ready, and the kernel completes a TCP connection by itself.
fn calm_snapshots(
    load: &mut LoadProcess,
    node: &mut NodeProcess,
    wanted: Option<u64>,
) -> Outcome<(ProcessSnapshot, ProcessSnapshot)> {
    let deadline = Instant::now() + PATIENCE;
    let mut earlier = (load.snapshot()?, node.snapshot()?.0);
    loop {
        std::thread::sleep(CALM);
        let client = load.snapshot()?;
        let (server, counters) = node.snapshot()?;
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

/// What both sides cost with a number of connections.
struct Point {
    connections: f64,
    client: ProcessSnapshot,
    server: ProcessSnapshot,
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
