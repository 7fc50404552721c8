//! What a load yields: counts, histograms and the generator's own cost.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::operations::OperationKind;
use crate::measure::histogram::{LatencyHistogram, ThroughputWindows, WindowCounts};
use crate::measure::snapshot::ProcessSnapshot;
use crate::transport::Drops;

/// The moments of an operation that are measured. Each is a histogram, under the metric key that
/// [`Moment::key`] gives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
pub enum Moment {
    /// TCP's three-way handshake.
    TransportConnect,
    /// The tunnel's handshake.
    TunnelHandshake,
    /// The handshake that protects what carries SIP: TLS's, or else the tunnel's.
    SecurityHandshake,
    /// Intended start → the hop can carry a SIP message.
    Setup,
    /// First REGISTER sent → first response.
    FirstResponse,
    /// First REGISTER sent → its 200 (RRD, RFC 6076 §4.1).
    RegistrationDelay,
    /// Intended start → 200 to REGISTER.
    Registered,
    /// The same from the actual start.
    RegisteredUncorrected,
    /// Intended start → first response to INVITE other than 100 (SRD, RFC 6076 §4.3).
    SessionRequestDelay,
    /// The same from the INVITE's departure.
    SessionRequestDelayUncorrected,
    /// BYE → its 200 (SDD, RFC 6076 §4.4).
    SessionDisconnectDelay,
    /// A hop dropped → its user is registered again over another.
    Outage,
    /// Intended → actual start of an operation.
    SchedulingLag,
}

impl Moment {
    /// All of them, in the order of their discriminants.
    pub const ALL: [Self; 13] = [
        Self::TransportConnect,
        Self::TunnelHandshake,
        Self::SecurityHandshake,
        Self::Setup,
        Self::FirstResponse,
        Self::RegistrationDelay,
        Self::Registered,
        Self::RegisteredUncorrected,
        Self::SessionRequestDelay,
        Self::SessionRequestDelayUncorrected,
        Self::SessionDisconnectDelay,
        Self::Outage,
        Self::SchedulingLag,
    ];

    /// The metric key.
    #[must_use]
    pub fn key(self) -> &'static str {
        match self {
            Self::TransportConnect => "transport_connect_ns",
            Self::TunnelHandshake => "tunnel_handshake_ns",
            Self::SecurityHandshake => "security_handshake_ns",
            Self::Setup => "setup_latency_ns",
            Self::FirstResponse => "first_response_ns",
            Self::RegistrationDelay => "registration_delay_ns",
            Self::Registered => "hop_ready_to_registered_ns",
            Self::RegisteredUncorrected => "hop_ready_to_registered_uncorrected_ns",
            Self::SessionRequestDelay => "session_request_delay_ns",
            Self::SessionRequestDelayUncorrected => "session_request_delay_uncorrected_ns",
            Self::SessionDisconnectDelay => "session_disconnect_delay_ns",
            Self::Outage => "outage_ns",
            Self::SchedulingLag => "scheduling_lag_ns",
        }
    }
}

/// What one load yielded, all workers together.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct LoadReport {
    /// Length of the measurement.
    pub window_seconds: f64,
    /// Operations whose intended start lies in the measurement.
    pub offered: u64,
    /// Those of them that succeeded, be it during the drain.
    pub succeeded: u64,
    /// Those of them that failed, by cause.
    pub failures: BTreeMap<String, u64>,
    /// Those of the failed ones that the generator did not even start: it could not keep up.
    pub never_started: u64,
    /// Those of the failed ones that found no user of the generator free.
    #[serde(default)]
    pub without_user: u64,
    /// Operations that ended successfully within the measurement, whenever they began.
    pub completed_in_window: u64,
    /// Operations that ended successfully at all, warm-up and drain included.
    #[serde(default)]
    pub completed: u64,
    /// Its operations by kind, under [`OperationKind::name`]; a kind that was not offered is absent.
    #[serde(default)]
    pub operations_by_kind: BTreeMap<String, KindCounts>,
    /// Calls of the measurement that were answered (SER counts these).
    pub answered: u64,
    /// Hops opened for operations of the measurement.
    #[serde(default)]
    pub hops_opened: u64,
    /// Of these, those whose handshake resumed an earlier session.
    #[serde(default)]
    pub resumed_handshakes: u64,
    /// Refreshes whose nonce had become too old, so that they took another round.
    #[serde(default)]
    pub stale_nonces: u64,
    /// Attempts to come back that failed: the hop did not open, or the registration was refused.
    #[serde(default)]
    pub refused: u64,
    /// Attempts to come back after a failed one.
    #[serde(default)]
    pub retried: u64,
    /// From the drop of all hops until the last user was registered again; `None` unless all were.
    #[serde(default)]
    pub recovery_ns: Option<u64>,
    /// What the generator's own callees did since the load began, its warm-up included.
    #[serde(default)]
    pub callees: Option<CalleeCounts>,
    /// Requests that this side sent again for want of a response.
    pub retransmissions: u64,
    /// Messages that belonged to nothing.
    pub unexpected: u64,
    /// Requests that their flow no longer took.
    pub unsent: u64,
    /// Hops that broke although nobody closed them.
    pub lost_hops: u64,
    /// Datagrams that the users' tunnels dropped since the generator started, by cause; `None` where
    /// there is no tunnel.
    #[serde(default)]
    pub tunnel_drops: Option<Drops>,
    /// Histograms by metric key; a key without a sample is absent.
    pub latencies: BTreeMap<String, LatencyHistogram>,
    /// Operations completed in each 100 ms of the measurement.
    pub windows: WindowCounts,
    /// The generator's process when the measurement began and ended.
    pub before: Option<ProcessSnapshot>,
    /// See `before`.
    pub after: Option<ProcessSnapshot>,
    /// Largest share of one worker's time that went into CPU, from 0 to 1.
    pub busiest_worker_ratio: f64,
    /// The same, and the time in which it could have run but another thread had its processor, as far as
    /// the system tells.
    #[serde(default)]
    pub most_awake_worker_ratio: f64,
}

/// Operations of one kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct KindCounts {
    /// Those whose intended start lies in the measurement.
    pub offered: u64,
    /// Those of them that ended as expected.
    pub succeeded: u64,
    /// The others.
    pub failed: u64,
}

/// What callees did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CalleeCounts {
    /// Calls that they answered.
    pub answered: u64,
    /// Calls that ended with BYE.
    pub completed: u64,
    /// Calls that were cancelled while they rang.
    pub cancelled: u64,
    /// Calls whose ACK or BYE never came.
    pub abandoned: u64,
    /// Responses that they sent again for want of an ACK.
    pub retransmissions: u64,
    /// Requests that they refused, and messages that were none.
    pub unexpected: u64,
    /// Responses that their flow no longer took.
    pub unsent: u64,
}

/// How a generator's users stand, and what has come of what they do without an order: keep their hops
/// alive, and answer calls.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Standing {
    /// Users that hold a hop.
    pub open_hops: u64,
    /// Those of them that have registered on it.
    pub registered_users: u64,
    /// Hops that broke since the generator started, although nobody closed them.
    pub lost_hops: u64,
    /// Keep-alives of streams (RFC 5626 §4.4.1) since the generator started.
    pub pings_sent: u64,
    /// Those of them without an answer in time; each is a lost hop.
    pub pongs_missed: u64,
    /// What those did who answer: callees of the generator's own since the latest load began, users
    /// that answer at any time since the generator started; `None` where nobody answers.
    pub callees: Option<CalleeCounts>,
    /// Datagrams that the users' tunnels dropped since the generator started, by cause; `None` where
    /// there is no tunnel.
    pub tunnel_drops: Option<Drops>,
}

impl Standing {
    /// Of two workers' users, or of two processes'.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        Self {
            open_hops: self.open_hops + other.open_hops,
            registered_users: self.registered_users + other.registered_users,
            lost_hops: self.lost_hops + other.lost_hops,
            pings_sent: self.pings_sent + other.pings_sent,
            pongs_missed: self.pongs_missed + other.pongs_missed,
            callees: both(self.callees, other.callees, CalleeCounts::plus),
            tunnel_drops: both(self.tunnel_drops, other.tunnel_drops, Drops::plus),
        }
    }
}

/// The sum of what there is.
fn both<T>(one: Option<T>, other: Option<T>, plus: fn(T, T) -> T) -> Option<T> {
    match (one, other) {
        (Some(one), Some(other)) => Some(plus(one, other)),
        (one, other) => one.or(other),
    }
}

impl CalleeCounts {
    fn plus(self, other: Self) -> Self {
        Self {
            answered: self.answered + other.answered,
            completed: self.completed + other.completed,
            cancelled: self.cancelled + other.cancelled,
            abandoned: self.abandoned + other.abandoned,
            retransmissions: self.retransmissions + other.retransmissions,
            unexpected: self.unexpected + other.unexpected,
            unsent: self.unsent + other.unsent,
        }
    }
}

impl LoadReport {
    /// Operations of the measurement that failed.
    #[must_use]
    pub fn failed(&self) -> u64 {
        self.failures.values().sum()
    }

    /// Adds the report of another process of the same generator, whose load had the same time zero.
    pub fn merge_process(&mut self, mut other: Self) {
        let sum =
            |one: Option<ProcessSnapshot>, other: Option<ProcessSnapshot>| Some(one?.plus(&other?));
        let before = sum(self.before, other.before.take());
        let after = sum(self.after, other.after.take());
        self.merge(other);
        (self.before, self.after) = (before, after);
    }

    /// Adds the report of a later load of the same generator, as if its measurement had gone on where
    /// this one's ended. What the processes used is not known of both together any more: what lies
    /// between the two is no part of either.
    pub fn merge_later(&mut self, mut later: Self) {
        let seconds = self.window_seconds + later.window_seconds;
        let mean = |one: f64, other: f64| {
            let sum = one * self.window_seconds + other * later.window_seconds;
            if seconds > 0.0 { sum / seconds } else { 0.0 }
        };
        let busy = mean(self.busiest_worker_ratio, later.busiest_worker_ratio);
        let awake = mean(self.most_awake_worker_ratio, later.most_awake_worker_ratio);
        let mut operations = std::mem::take(&mut self.windows.operations);
        operations.append(&mut later.windows.operations);
        // Tunnels count from the generator's start on.
        let tunnel_drops = later.tunnel_drops;
        self.merge(later);
        self.window_seconds = seconds;
        (self.busiest_worker_ratio, self.most_awake_worker_ratio) = (busy, awake);
        self.windows = WindowCounts { operations };
        self.tunnel_drops = tunnel_drops;
        self.recovery_ns = None;
        (self.before, self.after) = (None, None);
    }

    /// Adds the report of another worker of the same process.
    pub(super) fn merge(&mut self, other: Self) {
        self.window_seconds = self.window_seconds.max(other.window_seconds);
        self.offered += other.offered;
        self.succeeded += other.succeeded;
        self.never_started += other.never_started;
        self.without_user += other.without_user;
        self.completed_in_window += other.completed_in_window;
        self.completed += other.completed;
        self.answered += other.answered;
        self.hops_opened += other.hops_opened;
        self.resumed_handshakes += other.resumed_handshakes;
        self.stale_nonces += other.stale_nonces;
        self.refused += other.refused;
        self.retried += other.retried;
        // Who has not come back has not come back, whatever other workers' users did.
        self.recovery_ns = self
            .recovery_ns
            .zip(other.recovery_ns)
            .map(|(one, another)| one.max(another));
        self.callees = both(self.callees, other.callees, CalleeCounts::plus);
        for (kind, counts) in other.operations_by_kind {
            let sum = self.operations_by_kind.entry(kind).or_default();
            sum.offered += counts.offered;
            sum.succeeded += counts.succeeded;
            sum.failed += counts.failed;
        }
        self.retransmissions += other.retransmissions;
        self.unexpected += other.unexpected;
        self.unsent += other.unsent;
        self.lost_hops += other.lost_hops;
        self.tunnel_drops = both(self.tunnel_drops, other.tunnel_drops, Drops::plus);
        self.windows.add(&other.windows);
        for (cause, count) in other.failures {
            *self.failures.entry(cause).or_default() += count;
        }
        for (key, histogram) in other.latencies {
            self.latencies.entry(key).or_default().merge(&histogram);
        }
        self.before = self.before.take().or(other.before);
        self.after = self.after.take().or(other.after);
        self.busiest_worker_ratio = self.busiest_worker_ratio.max(other.busiest_worker_ratio);
        let awake = self.most_awake_worker_ratio;
        self.most_awake_worker_ratio = awake.max(other.most_awake_worker_ratio);
    }
}

/// Samples that wait to be written to their histograms.
const SAMPLES: usize = 1_024;

/// Collects one worker's part while a load runs.
pub(super) struct Recorder {
    start: Instant,
    end: Instant,
    /// A quarter of a megabyte each, which hdrhistogram clears: made before a warm-up, so that it is no part of
    /// what is measured. Where there is none, each is made when it is first written to, as no load knows all moments.
    moments: [Option<LatencyHistogram>; Moment::ALL.len()],
    /// Not written to their histograms yet. A worker that has slept finds no histogram in its caches any more, and each
    /// sample would wait for memory; many in a row wait together.
    samples: Vec<(Moment, Duration)>,
    windows: ThroughputWindows,
    kinds: [KindCounts; OperationKind::ALL.len()],
    /// The longest outage of a user that came back.
    longest_outage: Option<Duration>,
    pub(super) report: LoadReport,
}

impl Recorder {
    /// `start` and `end` bound the measurement, which a warm-up may go before.
    pub(super) fn new(start: Instant, end: Instant, warms_up: bool) -> Self {
        Self {
            start,
            end,
            moments: Moment::ALL.map(|_| warms_up.then(LatencyHistogram::new)),
            samples: Vec::with_capacity(SAMPLES),
            windows: ThroughputWindows::new(start),
            kinds: [KindCounts::default(); OperationKind::ALL.len()],
            longest_outage: None,
            report: LoadReport {
                window_seconds: (end - start).as_secs_f64(),
                ..LoadReport::default()
            },
        }
    }

    /// Whether an operation intended for `instant` counts.
    pub(super) fn covers(&self, instant: Instant) -> bool {
        self.start <= instant && instant < self.end
    }

    pub(super) fn record(&mut self, moment: Moment, duration: Duration) {
        if self.samples.len() == SAMPLES {
            self.write_samples();
        }
        self.samples.push((moment, duration));
    }

    /// Before somebody reads what the measurement has cost, too: it is a part of that.
    #[cold]
    pub(super) fn write_samples(&mut self) {
        for (moment, duration) in self.samples.drain(..) {
            let histogram = self.moments[moment as usize].get_or_insert_default();
            histogram.record(duration);
        }
    }

    /// An operation is meant to start at `intended`. Returns whether it counts.
    pub(super) fn offered(&mut self, kind: OperationKind, intended: Instant) -> bool {
        let counts = self.covers(intended);
        if counts {
            self.report.offered += 1;
            self.kinds[kind as usize].offered += 1;
        }
        counts
    }

    /// A user came back.
    pub(super) fn recovered_after(&mut self, outage: Duration) {
        self.longest_outage = self.longest_outage.max(Some(outage));
    }

    /// An operation intended for `intended` ended as expected at `now`.
    pub(super) fn succeeded(&mut self, kind: OperationKind, intended: Instant, now: Instant) {
        self.report.completed += 1;
        if self.covers(intended) {
            self.report.succeeded += 1;
            self.kinds[kind as usize].succeeded += 1;
        }
        if self.covers(now) {
            self.report.completed_in_window += 1;
            self.windows.record(now);
        }
    }

    /// An operation intended for `intended` was not started: every user had something else to do.
    pub(super) fn found_no_user(&mut self, kind: OperationKind, intended: Instant) {
        self.report.without_user += u64::from(self.covers(intended));
        self.failed(kind, intended, "every user of the generator was busy");
    }

    /// An operation intended for `intended` failed.
    pub(super) fn failed(&mut self, kind: OperationKind, intended: Instant, cause: &str) {
        if self.covers(intended) {
            self.kinds[kind as usize].failed += 1;
            match self.report.failures.get_mut(cause) {
                Some(count) => *count += 1,
                None => {
                    self.report.failures.insert(cause.to_owned(), 1);
                }
            }
        }
    }

    /// Closes the books. What was offered and has not ended failed for want of an open hop; what was
    /// due and `never_started` failed too: leaving it out would make a generator that cannot keep up
    /// look like one that was asked for less.
    pub(super) fn finish(
        mut self,
        never_started: impl Iterator<Item = OperationKind>,
    ) -> LoadReport {
        self.write_samples();
        let mut causes = [
            ("the hop was not open before the drain ended", 0),
            (
                "the generator did not get to start it before the drain ended",
                0,
            ),
        ];
        for counts in &mut self.kinds {
            let connecting = counts
                .offered
                .saturating_sub(counts.succeeded + counts.failed);
            counts.failed += connecting;
            causes[0].1 += connecting;
        }
        for kind in never_started {
            self.report.offered += 1;
            self.report.never_started += 1;
            let counts = &mut self.kinds[kind as usize];
            counts.offered += 1;
            counts.failed += 1;
            causes[1].1 += 1;
        }
        for (cause, count) in causes {
            if count > 0 {
                self.report.failures.insert(cause.to_owned(), count);
            }
        }
        for (kind, counts) in OperationKind::ALL.into_iter().zip(self.kinds) {
            if counts.offered > 0 {
                let kinds = &mut self.report.operations_by_kind;
                kinds.insert(kind.name().to_owned(), counts);
            }
        }
        let are_all_back = self.report.succeeded == self.report.offered;
        self.report.recovery_ns = self
            .longest_outage
            .filter(|_| are_all_back)
            .map(|outage| u64::try_from(outage.as_nanos()).unwrap_or(u64::MAX));
        for (moment, histogram) in Moment::ALL.into_iter().zip(self.moments) {
            if let Some(histogram) = histogram.filter(|histogram| !histogram.is_empty()) {
                let latencies = &mut self.report.latencies;
                latencies.insert(moment.key().to_owned(), histogram);
            }
        }
        self.report.windows = self.windows.until(self.end);
        self.report
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn report(seconds: f64, operations: &[u64], busy_ratio: f64) -> LoadReport {
        let completed = operations.iter().sum();
        LoadReport {
            window_seconds: seconds,
            offered: completed,
            succeeded: completed,
            completed_in_window: completed,
            windows: WindowCounts {
                operations: operations.to_vec(),
            },
            busiest_worker_ratio: busy_ratio,
            most_awake_worker_ratio: busy_ratio + 0.1,
            recovery_ns: Some(7),
            before: Some(ProcessSnapshot::take_without_rss()),
            after: Some(ProcessSnapshot::take_without_rss()),
            ..LoadReport::default()
        }
    }

    #[test]
    fn every_sample_is_in_its_histogram_in_the_end() {
        let start = Instant::now();
        for warms_up in [false, true] {
            let end = start + Duration::from_secs(1);
            let mut recorder = Recorder::new(start, end, warms_up);
            for sample in 0..=SAMPLES as u64 {
                recorder.record(Moment::Setup, Duration::from_nanos(sample));
                recorder.record(Moment::Registered, Duration::from_micros(sample));
            }
            let report = recorder.finish(std::iter::empty());
            let latencies = &report.latencies;
            assert_eq!(latencies.len(), 2);
            for (moment, unit_ns) in [(Moment::Setup, 1), (Moment::Registered, 1_000)] {
                let histogram = &latencies[moment.key()];
                assert_eq!(histogram.count(), SAMPLES as u64 + 1);
                let median_ns = histogram.median_ns().unwrap();
                let expected_ns = SAMPLES as u64 / 2 * unit_ns;
                assert!(median_ns.abs_diff(expected_ns) * 1_000 <= expected_ns);
            }
        }
    }

    #[test]
    fn a_later_load_goes_on_where_the_earlier_one_ended() {
        let mut first = report(0.3, &[4, 5, 6], 0.2);
        let second = LoadReport {
            tunnel_drops: Some(Drops::default()),
            failures: BTreeMap::from([("no answer".to_owned(), 2)]),
            ..report(0.1, &[9], 0.6)
        };
        first.merge_later(second);
        assert!((first.window_seconds - 0.4).abs() < 1e-9);
        assert_eq!(first.windows.operations, [4, 5, 6, 9]);
        assert_eq!((first.offered, first.completed_in_window), (24, 24));
        assert_eq!(first.failed(), 2);
        assert!((first.busiest_worker_ratio - 0.3).abs() < 1e-9);
        assert!((first.most_awake_worker_ratio - 0.4).abs() < 1e-9);
        assert_eq!(first.tunnel_drops, Some(Drops::default()));
        assert_eq!(first.recovery_ns, None);
        assert!(first.before.is_none() && first.after.is_none());
    }

    #[test]
    fn another_worker_shares_the_time() {
        let mut first = report(0.3, &[4, 5, 6], 0.2);
        first.merge(report(0.3, &[1, 1, 1], 0.6));
        assert!((first.window_seconds - 0.3).abs() < 1e-9);
        assert_eq!(first.windows.operations, [5, 6, 7]);
        assert!((first.busiest_worker_ratio - 0.6).abs() < 1e-9);
        assert!((first.most_awake_worker_ratio - 0.7).abs() < 1e-9);
        assert!(first.before.is_some());
    }
}
