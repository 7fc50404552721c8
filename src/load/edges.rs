//! Where a measurement begins and ends in a worker: what it reads there, and how busy that says it was between.

use std::time::Instant;

use crate::measure::cpu;
use crate::measure::snapshot::ProcessSnapshot;

use super::outcome::LoadReport;

/// Readings at one edge of a measurement.
pub(super) struct Edge {
    process: ProcessSnapshot,
    /// Processor time of this thread.
    cpu_ns: u64,
    /// How long it has waited for its processor, where the system tells.
    waited_ns: Option<u64>,
    at: Instant,
}

/// Both edges, as far as they have been reached.
#[derive(Default)]
pub(super) struct Edges {
    pub(super) before: Option<Edge>,
    pub(super) after: Option<Edge>,
}

impl Edge {
    /// Where a measurement begins. Of what is read, `process` is the last one that has to be asked for: the
    /// others are no part of what it counts.
    pub(super) fn begins(process: impl FnOnce() -> ProcessSnapshot, now: Instant) -> Self {
        let waited_ns = cpu::thread_waited_ns();
        Self {
            process: process(),
            cpu_ns: cpu::thread_ns(),
            waited_ns,
            at: now,
        }
    }

    /// Where it ends, likewise.
    pub(super) fn ends(process: impl FnOnce() -> ProcessSnapshot, now: Instant) -> Self {
        Self {
            process: process(),
            cpu_ns: cpu::thread_ns(),
            waited_ns: cpu::thread_waited_ns(),
            at: now,
        }
    }
}

impl Edges {
    /// Says in `report` what lies between both, if they were reached.
    pub(super) fn tell(self, report: &mut LoadReport) {
        let (Some(before), Some(after)) = (self.before, self.after) else {
            return;
        };
        let cpu_ns = after.cpu_ns.saturating_sub(before.cpu_ns);
        let waited_ns = after.waited_ns.zip(before.waited_ns);
        let waited_ns = waited_ns.map_or(0, |(after, before)| after.saturating_sub(before));
        // A worker that met both edges in one turn was late by a whole measurement.
        let elapsed_ns = (after.at - before.at).as_nanos().max(1) as f64;
        let share = |ns: u64| (ns as f64 / elapsed_ns).min(1.0);
        report.busiest_worker_ratio = share(cpu_ns);
        report.most_awake_worker_ratio = share(cpu_ns + waited_ns);
        report.before = Some(before.process);
        report.after = Some(after.process);
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn edges(cpu_ns: u64, waited_ns: Option<u64>) -> LoadReport {
        let begin = Instant::now();
        let edge = |cpu_ns, waited_ns, at| Edge {
            process: ProcessSnapshot::take_without_rss(),
            cpu_ns,
            waited_ns,
            at,
        };
        let edges = Edges {
            before: Some(edge(1_000, waited_ns.map(|_| 500), begin)),
            after: Some(edge(
                1_000 + cpu_ns,
                waited_ns.map(|ns| 500 + ns),
                begin + Duration::from_micros(100),
            )),
        };
        let mut report = LoadReport::default();
        edges.tell(&mut report);
        assert!(report.before.is_some() && report.after.is_some());
        report
    }

    #[test]
    fn who_waits_for_the_processor_is_awake_but_not_busy() {
        let report = edges(30_000, Some(40_000));
        assert!((report.busiest_worker_ratio - 0.3).abs() < 1e-9);
        assert!((report.most_awake_worker_ratio - 0.7).abs() < 1e-9);
        let untold = edges(30_000, None);
        assert!((untold.most_awake_worker_ratio - 0.3).abs() < 1e-9);
        let late = edges(150_000, Some(0));
        assert!((late.busiest_worker_ratio - 1.0).abs() < 1e-9);
    }

    #[test]
    fn a_measurement_that_did_not_end_tells_nothing() {
        let mut report = LoadReport::default();
        let before = Edge::begins(ProcessSnapshot::take_without_rss, Instant::now());
        let edges = Edges {
            before: Some(before),
            after: None,
        };
        edges.tell(&mut report);
        assert!(report.before.is_none() && report.busiest_worker_ratio == 0.0);
    }
}
