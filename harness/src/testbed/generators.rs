//! A generator as one or several child processes, which nobody beyond this file can tell apart: each
//! runs its part of the workers, all get the same orders, and their answers are added up.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::ops::Range;
use std::time::{Duration, Instant};

use hopbench::load::{GeneratorConfig, LoadPlan, LoadReport, Stage, Standing};
use hopbench::measure::cpu;
use hopbench::measure::snapshot::ProcessSnapshot;

use super::{Failure, Nodes, Outcome, PROMPT, Process, SLICE, Testbed};
use crate::lab::Namespace;
use crate::limits;
use crate::protocol::{LoadOrder, LoadReply};

/// Between the order to run a load and its time zero, for each process, since they may share one processor:
/// all have read the order by then.
const HEAD_START_EACH: Duration = Duration::from_millis(10);

/// A generator at work.
pub(crate) struct Generators {
    processes: Vec<Process<LoadReply>>,
    has_callees: bool,
}

impl Testbed {
    /// Starts a generator of so many processes and waits until it has its workers, of which each
    /// process runs one at least. Where one source address has too few ports for all users, each
    /// process gets one of its own, if the target is on this host. All run in the network
    /// namespace `place`, if there is one.
    pub(crate) fn load(
        &self,
        config: &GeneratorConfig,
        processes: u32,
        place: Option<&Namespace>,
    ) -> Outcome<Generators> {
        let processes = processes.max(1);
        let config = GeneratorConfig {
            workers: config.workers.max(processes),
            ..config.clone()
        };
        let has_sources = can_have_sources(config.target);
        let needs_sources = config.users_max() > limits::ports_of_one_source();
        let started: Outcome<Vec<_>> = (0..processes)
            .map(|number| {
                let mut config = GeneratorConfig {
                    own_workers: Some(share(config.workers, processes, number)),
                    ..config.clone()
                };
                if has_sources && needs_sources && config.settings.source.is_none() {
                    config.settings.source = Some(source(number));
                }
                self.start("load", &self.placement.load, place, &config)
            })
            .collect();
        let generators = Generators {
            processes: started?,
            has_callees: config.callees.is_some(),
        };
        generators.each(PROMPT, &|| Ok(()), |reply| match reply {
            LoadReply::Ready => Ok(()),
            other => Err(other),
        })?;
        Ok(generators)
    }
}

/// Whether each process can have a source address: towards other hosts there may be one alone.
pub(crate) fn can_have_sources(target: SocketAddr) -> bool {
    target.is_ipv4() && target.ip().is_loopback()
}

/// The workers of the process at `place`.
fn share(workers: u32, processes: u32, place: u32) -> Range<u32> {
    let end = |place: u32| u64::from(workers) * u64::from(place) / u64::from(processes);
    let end = |place| u32::try_from(end(place)).expect("a part of the workers is no more than all");
    end(place)..end(place + 1)
}

/// Where the sockets of the process at `place` bind: all of 127.0.0.0/8 is this host.
fn source(place: u32) -> IpAddr {
    let address = u32::from(Ipv4Addr::new(127, 0, 1, 1)) + (place << 8);
    Ipv4Addr::from(address).into()
}

impl Generators {
    /// Brings the first `users` users to `stage`.
    ///
    /// Given up when a node dies: over datagrams a generator would wait for it for half a minute.
    pub(crate) fn populate(&mut self, users: u32, stage: Stage, nodes: &Nodes) -> Outcome<()> {
        self.order(&LoadOrder::Populate { users, stage })?;
        self.populated(users, &|| nodes.check())
    }

    /// Runs a load against `nodes`; `at_edge` is called when the measurement has begun in all
    /// processes and when it has ended.
    pub(crate) fn run(
        &mut self,
        plan: &LoadPlan,
        nodes: &mut Nodes,
        mut at_edge: impl FnMut(&mut Nodes) -> Outcome<()>,
    ) -> Outcome<LoadReport> {
        self.begin(plan, &|| nodes.check())?;
        for edge in Edge::BOTH {
            self.await_edge(plan, edge, &|| nodes.check())?;
            at_edge(nodes)?;
        }
        self.finish(plan, &|| nodes.check())
    }

    /// Runs a load against whatever is at the target.
    pub(crate) fn run_alone(&mut self, plan: &LoadPlan) -> Outcome<LoadReport> {
        let watch = || Ok(());
        self.begin(plan, &watch)?;
        for edge in Edge::BOTH {
            self.await_edge(plan, edge, &watch)?;
        }
        self.finish(plan, &watch)
    }

    /// Its processes, as the kernel numbers them.
    pub(crate) fn process_ids(&self) -> Vec<u32> {
        self.processes.iter().map(Process::id).collect()
    }

    /// What all processes together cost so far.
    pub(crate) fn snapshot(&mut self) -> Outcome<ProcessSnapshot> {
        self.read(&LoadOrder::Snapshot)
    }

    /// Has them remember what each block of memory is for that they allocate from now on.
    pub(crate) fn trace(&mut self) -> Outcome<()> {
        self.read(&LoadOrder::Trace).map(drop)
    }

    fn read(&mut self, order: &LoadOrder) -> Outcome<ProcessSnapshot> {
        self.order(order)?;
        let snapshots = self.each(PROMPT, &|| Ok(()), |reply| match reply {
            LoadReply::Snapshot(snapshot) => Ok(*snapshot),
            other => Err(other),
        })?;
        let sum = snapshots
            .into_iter()
            .reduce(|sum, snapshot| sum.plus(&snapshot));
        Ok(sum.expect("a generator has at least one process"))
    }

    /// How the users stand, and what they have done without an order.
    pub(crate) fn standing(&mut self) -> Outcome<Standing> {
        self.order(&LoadOrder::Standing)?;
        let standings = self.each(PROMPT, &|| Ok(()), |reply| match reply {
            LoadReply::Standing(standing) => Ok(*standing),
            other => Err(other),
        })?;
        Ok(standings
            .into_iter()
            .fold(Standing::default(), Standing::plus))
    }

    /// Brings users where the load wants them, then has all processes start it at one instant.
    fn begin(&mut self, plan: &LoadPlan, watch: &dyn Fn() -> Outcome<()>) -> Outcome<()> {
        self.order(&LoadOrder::Prepare(plan.clone()))?;
        self.populated(plan.users, watch)?;
        let each = u32::try_from(self.processes.len()).expect("processes were counted in 32 bits");
        let head_start = HEAD_START_EACH * each;
        let head_start_ns = u64::try_from(head_start.as_nanos()).expect("it is short");
        self.order(&LoadOrder::Run {
            plan: plan.clone(),
            epoch_monotonic_ns: cpu::monotonic_ns() + head_start_ns,
        })
    }

    fn await_edge(
        &self,
        plan: &LoadPlan,
        edge: Edge,
        watch: &dyn Fn() -> Outcome<()>,
    ) -> Outcome<()> {
        self.each(length(plan), watch, |reply| match (edge, reply) {
            (Edge::Begins, LoadReply::MeasurementBegins)
            | (Edge::Ends, LoadReply::MeasurementEnds) => Ok(()),
            (Edge::Begins | Edge::Ends, other) => Err(other),
        })?;
        Ok(())
    }

    fn finish(&mut self, plan: &LoadPlan, watch: &dyn Fn() -> Outcome<()>) -> Outcome<LoadReport> {
        let reports = self.each(length(plan), watch, |reply| match reply {
            LoadReply::Finished(report) => Ok(*report),
            other => Err(other),
        })?;
        let merged = reports.into_iter().reduce(|mut merged, report| {
            merged.merge_process(report);
            merged
        });
        let mut merged = merged.expect("a generator has at least one process");
        if self.has_callees && self.processes.len() > 1 {
            // A process that had finished went on answering the calls of the others.
            merged.callees = self.standing()?.callees;
        }
        Ok(merged)
    }

    fn populated(&self, users: u32, watch: &dyn Fn() -> Outcome<()>) -> Outcome<()> {
        // Ten a second is slower than any stack, and faster than anybody's patience.
        let limit = PROMPT + Duration::from_secs_f64(f64::from(users) / 10.0);
        self.each(limit, watch, |reply| match reply {
            LoadReply::Populated => Ok(()),
            other => Err(other),
        })?;
        Ok(())
    }

    fn order(&mut self, order: &LoadOrder) -> Outcome<()> {
        let mut processes = self.processes.iter_mut();
        processes.try_for_each(|process| process.order(order))
    }

    /// One reply of each process, as long as `watch` finds nothing wrong elsewhere. What one fails with
    /// is the generator's failure; the others are not waited for, and no good any more.
    fn each<T>(
        &self,
        limit: Duration,
        watch: &dyn Fn() -> Outcome<()>,
        wanted: impl Fn(LoadReply) -> Result<T, LoadReply>,
    ) -> Outcome<Vec<T>> {
        let deadline = Instant::now() + limit;
        let mut found: Vec<Option<T>> = self.processes.iter().map(|_| None).collect();
        loop {
            let mut missing = None;
            for (process, found) in self.processes.iter().zip(&mut found) {
                if found.is_some() {
                    continue;
                }
                // Waiting for one of them is enough to see soon what the others say.
                let patience = if missing.is_none() {
                    SLICE
                } else {
                    Duration::ZERO
                };
                let Some(reply) = process.reply_within(patience)? else {
                    missing.get_or_insert(process);
                    continue;
                };
                *found = Some(wanted(reply).map_err(|other| match other {
                    LoadReply::Failed { reason } => Failure::of(reason),
                    other => process.unexpected(&other),
                })?);
            }
            let Some(missing) = missing else {
                return Ok(found.into_iter().flatten().collect());
            };
            watch()?;
            if Instant::now() >= deadline {
                return Err(missing.silent(limit));
            }
        }
    }
}

/// The bounds of a measurement.
#[derive(Clone, Copy)]
enum Edge {
    Begins,
    Ends,
}

impl Edge {
    const BOTH: [Self; 2] = [Self::Begins, Self::Ends];
}

/// How long a load may take to reach its next step.
fn length(plan: &LoadPlan) -> Duration {
    let seconds = plan.warm_up_seconds + plan.duration_seconds + plan.drain_seconds;
    PROMPT + Duration::from_secs_f64(seconds)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processes_share_the_workers_without_gaps() {
        for (workers, processes) in [(1, 1), (6, 6), (7, 3), (64, 5)] {
            let mut next = 0;
            for place in 0..processes {
                let own = share(workers, processes, place);
                assert_eq!(own.start, next);
                assert!(!own.is_empty(), "{workers} {processes} {place}");
                next = own.end;
            }
            assert_eq!(next, workers);
        }
    }

    #[test]
    fn every_process_has_a_loopback_address_of_its_own() {
        let sources = [0, 5, 300].map(|place| source(place).to_string());
        assert_eq!(sources, ["127.0.1.1", "127.0.6.1", "127.1.45.1"]);
        assert!(source(65_000).is_loopback());
    }
}
