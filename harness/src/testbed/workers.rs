//! One node at work: the processes that are its workers, started together and read as one.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use hopbench::measure::snapshot::ProcessSnapshot;
use hopbench::node::{NodeConfig, NodeCounters, WorkerConfig};
use hopbench::transport::WireCounters;

use super::{Failure, Outcome, PROMPT, Process, Testbed};
use crate::lab::Namespace;
use crate::protocol::{NodeOrder, NodeReply, WireReading};

/// A node at work. Dropping it ends its processes.
pub(crate) struct NodeProcesses {
    /// At least one.
    workers: Vec<Process<NodeReply>>,
    /// By interface, the first worker's: all share that of the first interface, where the users are.
    pub(super) addresses: Vec<Option<SocketAddr>>,
    /// Where the workers reach each other; none where there is one.
    pub(super) internals: Vec<SocketAddr>,
}

impl Testbed {
    /// Starts a node of that many workers, at least one, and waits until all of them listen. They
    /// share the address of the first interface; port 0 lets the kernel choose one for all.
    /// All run in the network namespace `place`, if there is one.
    pub(crate) fn node(
        &self,
        config: &NodeConfig,
        workers: u16,
        place: Option<&Namespace>,
    ) -> Outcome<NodeProcesses> {
        if workers <= 1 {
            let first = self.start("node", &self.placement.node, place, config)?;
            let (addresses, _) = listening(&first, PROMPT)?;
            return Ok(NodeProcesses {
                workers: vec![first],
                addresses,
                internals: Vec::new(),
            });
        }
        // The file is needed until all workers have mapped it.
        let directory = DirectoryFile::new();
        let accounts = config.accounts.count();
        let worker = WorkerConfig::first(&directory.0, workers, accounts)
            .map_err(|error| Failure::of(error.to_string()))?;
        let mut config = NodeConfig {
            worker: Some(worker.clone()),
            ..config.clone()
        };
        let first = self.start("node", &self.placement.node, place, &config)?;
        let limit = start_limit(accounts, workers);
        let (addresses, internal) = listening(&first, limit)?;
        config.interfaces[0].listen = addresses[0];
        let mut processes = vec![first];
        for number in 1..workers {
            config.worker = Some(WorkerConfig {
                place: number,
                ..worker.clone()
            });
            processes.push(self.start("node", &self.placement.node, place, &config)?);
        }
        let mut internals = vec![internal];
        for process in &processes[1..] {
            internals.push(listening(process, limit)?.1);
        }
        let internals: Option<Vec<SocketAddr>> = internals.into_iter().collect();
        let internals = internals.expect("a worker has an internal interface");
        let mut node = NodeProcesses {
            workers: processes,
            addresses,
            internals: internals.clone(),
        };
        node.ask(&NodeOrder::Introduce(internals), |reply| match reply {
            NodeReply::Introduced => Ok(()),
            other => Err(other),
        })?;
        Ok(node)
    }
}

/// How long workers may take to listen, who share a processor: over WireGuard each works out every
/// user's public key first, at some tens of microseconds a key.
fn start_limit(accounts: u32, workers: u16) -> Duration {
    PROMPT + Duration::from_micros(100) * accounts.saturating_mul(workers.into())
}

/// Waits until a worker listens: its addresses, and that of its internal interface if it has one.
fn listening(
    process: &Process<NodeReply>,
    limit: Duration,
) -> Outcome<(Vec<Option<SocketAddr>>, Option<SocketAddr>)> {
    match process.reply(limit)? {
        NodeReply::Listening {
            addresses,
            internal,
        } => Ok((addresses, internal)),
        NodeReply::Failed { reason } => Err(Failure::of(reason)),
        other @ (NodeReply::Introduced | NodeReply::Snapshot { .. } | NodeReply::Wire(_)) => {
            Err(process.unexpected(&other))
        }
    }
}

impl NodeProcesses {
    /// Where an interface that listens does so.
    pub(crate) fn address(&self, interface: usize) -> SocketAddr {
        self.addresses[interface].expect("this interface listens")
    }

    /// Its processes, as the kernel numbers them.
    pub(super) fn process_ids(&self) -> Vec<u32> {
        self.workers.iter().map(Process::id).collect()
    }

    /// One of them.
    pub(super) fn first_process_id(&self) -> u32 {
        self.workers[0].id()
    }

    /// Whether all its processes are still there.
    pub(crate) fn check(&self) -> Outcome<()> {
        self.workers.iter().try_for_each(Process::check)
    }

    /// What it costs, with resident memory, and has seen so far: its workers together.
    pub(crate) fn snapshot(&mut self) -> Outcome<(ProcessSnapshot, NodeCounters)> {
        self.read(&NodeOrder::Snapshot)
    }

    /// Has it remember what each block of memory is for that it allocates from now on.
    pub(crate) fn trace(&mut self) -> Outcome<()> {
        self.read(&NodeOrder::Trace).map(drop)
    }

    /// What it costs so far, without resident memory: in the middle of a load.
    pub(crate) fn usage(&mut self) -> Outcome<ProcessSnapshot> {
        Ok(self.read(&NodeOrder::Usage)?.0)
    }

    /// What has crossed its interfaces so far. What workers say to each other crosses none.
    pub(crate) fn wire(&mut self) -> Outcome<WireReading> {
        let readings = self.ask(&NodeOrder::Wire, |reply| match reply {
            NodeReply::Wire(reading) => Ok(reading),
            other => Err(other),
        })?;
        let all = readings.into_iter().reduce(together);
        Ok(all.expect("a node has a worker"))
    }

    fn read(&mut self, order: &NodeOrder) -> Outcome<(ProcessSnapshot, NodeCounters)> {
        let readings = self.ask(order, |reply| match reply {
            NodeReply::Snapshot { process, counters } => Ok((*process, *counters)),
            other => Err(other),
        })?;
        let all = readings
            .into_iter()
            .reduce(|(sum, seen), (process, counters)| (sum.plus(&process), seen.plus(counters)));
        Ok(all.expect("a node has a worker"))
    }

    /// Orders all workers first and waits then, so that they answer of the same moment. `expected`
    /// gives a reply back that is out of turn.
    fn ask<T>(
        &mut self,
        order: &NodeOrder,
        expected: impl Fn(NodeReply) -> Result<T, NodeReply>,
    ) -> Outcome<Vec<T>> {
        for worker in &mut self.workers {
            worker.order(order)?;
        }
        let reply_of = |worker: &Process<NodeReply>| match expected(worker.reply(PROMPT)?) {
            Ok(reply) => Ok(reply),
            Err(NodeReply::Failed { reason }) => Err(Failure::of(reason)),
            Err(other) => Err(worker.unexpected(&other)),
        };
        self.workers.iter().map(reply_of).collect()
    }
}

/// What has crossed the interfaces of two workers; of an interface that one does not know, nothing.
fn together(one: WireReading, other: WireReading) -> WireReading {
    let interfaces = one.interfaces.into_iter().zip(other.interfaces);
    let sum = |(one, other): (Option<WireCounters>, Option<WireCounters>)| Some(one?.plus(other?));
    WireReading {
        interfaces: interfaces.map(sum).collect(),
        sip_bytes: one.sip_bytes + other.sip_bytes,
    }
}

/// The name of a location directory that is to be; the file is unlinked with it.
struct DirectoryFile(PathBuf);

impl DirectoryFile {
    fn new() -> Self {
        static SERIAL: AtomicU32 = AtomicU32::new(0);
        let serial = SERIAL.fetch_add(1, Ordering::Relaxed);
        let name = format!("hopbench-directory-{}-{serial}", std::process::id());
        Self(std::env::temp_dir().join(name))
    }
}

impl Drop for DirectoryFile {
    fn drop(&mut self) {
        // A file that could not be made is not there.
        let _ = std::fs::remove_file(&self.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reading(first: Option<u64>, sip_bytes: u64) -> WireReading {
        let side = |bytes| WireCounters { bytes, packets: 1 };
        WireReading {
            interfaces: vec![first.map(side), Some(side(7))],
            sip_bytes,
        }
    }

    #[test]
    fn what_one_worker_does_not_know_is_not_known_of_the_node() {
        let side = |bytes| WireCounters { bytes, packets: 2 };
        let both = together(reading(Some(3), 10), reading(Some(4), 20));
        assert_eq!(both.interfaces, [Some(side(7)), Some(side(14))]);
        assert_eq!(both.sip_bytes, 30);
        let both = together(reading(Some(3), 10), reading(None, 20));
        assert_eq!(both.interfaces, [None, Some(side(14))]);
    }
}
