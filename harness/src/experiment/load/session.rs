//! A load at work: nodes and a generator of its own, the turns that it takes, and what was read of them.

use hopbench::load::{GeneratorConfig, LoadPlan, LoadReport};
use hopbench::measure::snapshot::{ProcessSnapshot, ProcessUsage};
use hopbench::measure::socket;
use hopbench::node::NodeCounters;

use super::calls;
use crate::experiment::Bench;
use crate::lab::{LinkReading, Place};
use crate::testbed::{Crew, Failure, Generators, Nodes, Outcome, TunnelSetups, Wire};
use crate::topology::Site;

/// Nodes that nobody loads but this generator, whose users are where their first operation wants them.
pub(super) struct Session {
    // Ended in this order: users leave before the nodes do.
    load: Generators,
    nodes: Nodes,
    has_tunnel: bool,
    is_cpu_time_whole: bool,
    drops_before: Option<u64>,
    wire_before: Wire,
    link_before: Option<LinkReading>,
    segments_before: Option<u64>,
    /// Of the turns so far.
    played: Option<Played>,
}

/// What turns have yielded.
struct Played {
    report: LoadReport,
    client: Option<ProcessUsage>,
    servers: Vec<ProcessUsage>,
}

/// What was read of a load and of the nodes that served it.
pub(in crate::experiment) struct Readings {
    pub(in crate::experiment) report: LoadReport,
    /// What the generator, and who makes its tunnels, used during the measurement; `None` where the system
    /// does not tell.
    pub(in crate::experiment) client: Option<ProcessUsage>,
    /// What each node used.
    pub(in crate::experiment) servers: Vec<ProcessUsage>,
    /// Each node after the load, with resident memory.
    pub(super) after: Vec<ProcessSnapshot>,
    /// What each has seen since it started.
    pub(super) nodes: Vec<NodeCounters>,
    /// What crossed the hops from before the load until it had drained.
    pub(super) wire: Wire,
    /// What crossed the link that callers use meanwhile, if that is an emulated one.
    pub(in crate::experiment) link: Option<LinkReading>,
    /// Segments that the kernel's TCP has sent again meanwhile, in the lab.
    pub(in crate::experiment) retransmitted_segments: Option<u64>,
    /// Datagrams that the kernel dropped at the nodes; `None` where none can be.
    pub(super) drops: Option<f64>,
    /// What setting up a tunnel of others took, if there is one.
    pub(super) tunnel_setups: Option<TunnelSetups>,
    /// Why the links between users and nodes were what was measured, if they were.
    pub(in crate::experiment) overwhelmed_links: Option<String>,
    /// Whether a hop lies in a tunnel.
    pub(super) has_tunnel: bool,
    /// Whether the time of processes is all that the work took.
    pub(in crate::experiment) is_cpu_time_whole: bool,
}

/// Runs a load in one turn against nodes of its own, which let in so many calls a second at most if they
/// have a limit.
pub(in crate::experiment) fn play(
    plan: &LoadPlan,
    bench: &Bench<'_>,
    site: &Site,
    calls_per_second_limit: Option<u32>,
) -> Outcome<Readings> {
    let mut session = Session::open(plan, bench, site, calls_per_second_limit)?;
    session.play(plan)?;
    session.close()
}

impl Session {
    /// Starts the processes, and brings users where `plan` wants them.
    pub(super) fn open(
        plan: &LoadPlan,
        bench: &Bench<'_>,
        site: &Site,
        calls_per_second_limit: Option<u32>,
    ) -> Outcome<Self> {
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
        Ok(Self {
            has_tunnel: site.stack.tunnel.is_some() || site.core.tunnel.is_some(),
            is_cpu_time_whole: site.is_cpu_time_whole(),
            drops_before,
            wire_before: nodes.wire()?,
            link_before: nodes.users_link()?,
            segments_before: nodes.retransmitted_segments()?,
            played: None,
            load,
            nodes,
        })
    }

    /// One turn.
    pub(super) fn play(&mut self, plan: &LoadPlan) -> Outcome<()> {
        let mut edges: Vec<Vec<ProcessSnapshot>> = Vec::with_capacity(2);
        let mut callers = Vec::with_capacity(2);
        let report = self.load.run(plan, &mut self.nodes, |nodes| {
            edges.push(nodes.usage()?);
            if let Some(tunnels) = nodes.tunnels() {
                callers.push(tunnels.cpu_ns(Place::Users)?);
            }
            Ok(())
        })?;
        let [before, after] = edges.as_slice() else {
            return Err(Failure::Failed(
                "the load ended without a measurement".into(),
            ));
        };
        let since = |(after, before): (&ProcessSnapshot, &ProcessSnapshot)| after.since(before);
        let servers = after.iter().zip(before).map(since).collect();
        let client = report.before.zip(report.after).map(|(before, after)| {
            let mut client = after.since(&before);
            // A daemon's time is its side's.
            if let [before, after] = callers.as_slice() {
                client.cpu_ns += after.saturating_sub(*before);
            }
            client
        });
        let turn = Played {
            report,
            client,
            servers,
        };
        self.played = Some(match self.played.take() {
            None => turn,
            Some(played) => played.and(turn),
        });
        Ok(())
    }

    /// Reads what there is to read, and ends the processes.
    pub(super) fn close(mut self) -> Outcome<Readings> {
        let Some(played) = self.played else {
            return Err(Failure::Failed("nothing was measured".into()));
        };
        let nodes = &mut self.nodes;
        let drops = datagram_drops(nodes).zip(self.drops_before);
        // The nodes must still be there, otherwise their share is not what it seems.
        let (after, counters) = nodes.snapshots()?.into_iter().unzip();
        Ok(Readings {
            report: played.report,
            client: played.client,
            servers: played.servers,
            after,
            nodes: counters,
            wire: nodes.wire()?.since(&self.wire_before),
            link: link_since(nodes.users_link()?, self.link_before),
            retransmitted_segments: nodes
                .retransmitted_segments()?
                .zip(self.segments_before)
                .map(|(after, before)| after.saturating_sub(before)),
            overwhelmed_links: nodes.overwhelmed_links()?,
            drops: drops.map(|(after, before)| after.saturating_sub(before) as f64),
            tunnel_setups: nodes.tunnels().map(|tunnels| tunnels.setups().clone()),
            has_tunnel: self.has_tunnel,
            is_cpu_time_whole: self.is_cpu_time_whole,
        })
    }
}

impl Played {
    /// This and the turn after it.
    fn and(mut self, later: Self) -> Self {
        self.report.merge_later(later.report);
        Self {
            report: self.report,
            client: self
                .client
                .zip(later.client)
                .map(|(one, other)| one.plus(&other)),
            servers: (self.servers.iter().zip(&later.servers))
                .map(|(one, other)| one.plus(other))
                .collect(),
        }
    }
}

fn link_since(now: Option<LinkReading>, earlier: Option<LinkReading>) -> Option<LinkReading> {
    Some(now?.since(earlier?))
}

/// Datagrams that the kernel dropped because a node did not read in time.
pub(in crate::experiment) fn datagram_drops(nodes: &Nodes) -> Option<u64> {
    let ports = nodes.datagram_ports();
    if ports.is_empty() {
        return None;
    }
    let drops = ports.into_iter();
    drops
        .map(|(process, port)| socket::receive_drops_on_port(process, port).ok())
        .sum()
}
