//! What a load yields: counts, histograms and the generator's own cost.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::measure::histogram::{LatencyHistogram, ThroughputWindows, WindowCounts};
use crate::measure::snapshot::ProcessSnapshot;

/// The moments of an operation that are measured. Each is a histogram, under the metric key that
/// [`Moment::key`] gives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
pub enum Moment {
    /// TCP's three-way handshake.
    TransportConnect,
    /// TLS or tunnel handshake.
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
    /// Intended → actual start of an operation.
    SchedulingLag,
}

impl Moment {
    /// All of them, in the order of their discriminants.
    pub const ALL: [Self; 11] = [
        Self::TransportConnect,
        Self::SecurityHandshake,
        Self::Setup,
        Self::FirstResponse,
        Self::RegistrationDelay,
        Self::Registered,
        Self::RegisteredUncorrected,
        Self::SessionRequestDelay,
        Self::SessionRequestDelayUncorrected,
        Self::SessionDisconnectDelay,
        Self::SchedulingLag,
    ];

    /// The metric key.
    #[must_use]
    pub fn key(self) -> &'static str {
        match self {
            Self::TransportConnect => "transport_connect_ns",
            Self::SecurityHandshake => "security_handshake_ns",
            Self::Setup => "setup_latency_ns",
            Self::FirstResponse => "first_response_ns",
            Self::RegistrationDelay => "registration_delay_ns",
            Self::Registered => "hop_ready_to_registered_ns",
            Self::RegisteredUncorrected => "hop_ready_to_registered_uncorrected_ns",
            Self::SessionRequestDelay => "session_request_delay_ns",
            Self::SessionRequestDelayUncorrected => "session_request_delay_uncorrected_ns",
            Self::SessionDisconnectDelay => "session_disconnect_delay_ns",
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
    /// Operations that ended successfully within the measurement, whenever they began.
    pub completed_in_window: u64,
    /// Operations that ended successfully at all, warm-up and drain included.
    #[serde(default)]
    pub completed: u64,
    /// Calls of the measurement that were answered (SER counts these).
    pub answered: u64,
    /// Requests that this side sent again for want of a response.
    pub retransmissions: u64,
    /// Messages that belonged to nothing.
    pub unexpected: u64,
    /// Requests that their flow no longer took.
    pub unsent: u64,
    /// Hops that broke although nobody closed them.
    pub lost_hops: u64,
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
}

impl LoadReport {
    /// Operations of the measurement that failed.
    #[must_use]
    pub fn failed(&self) -> u64 {
        self.failures.values().sum()
    }

    /// Adds another worker's report.
    pub(super) fn merge(&mut self, other: Self) {
        self.window_seconds = self.window_seconds.max(other.window_seconds);
        self.offered += other.offered;
        self.succeeded += other.succeeded;
        self.never_started += other.never_started;
        self.completed_in_window += other.completed_in_window;
        self.completed += other.completed;
        self.answered += other.answered;
        self.retransmissions += other.retransmissions;
        self.unexpected += other.unexpected;
        self.unsent += other.unsent;
        self.lost_hops += other.lost_hops;
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
    }
}

/// Collects one worker's part while a load runs.
pub(super) struct Recorder {
    start: Instant,
    end: Instant,
    moments: Vec<LatencyHistogram>,
    windows: ThroughputWindows,
    pub(super) report: LoadReport,
}

impl Recorder {
    /// `start` and `end` bound the measurement.
    pub(super) fn new(start: Instant, end: Instant) -> Self {
        Self {
            start,
            end,
            moments: vec![LatencyHistogram::default(); Moment::ALL.len()],
            windows: ThroughputWindows::new(start),
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
        self.moments[moment as usize].record(duration);
    }

    /// An operation intended for `intended` ended well at `now`.
    pub(super) fn succeeded(&mut self, intended: Instant, now: Instant) {
        self.report.completed += 1;
        if self.covers(intended) {
            self.report.succeeded += 1;
        }
        if self.covers(now) {
            self.report.completed_in_window += 1;
            self.windows.record(now);
        }
    }

    /// An operation intended for `intended` failed.
    pub(super) fn failed(&mut self, intended: Instant, cause: &str) {
        if self.covers(intended) {
            match self.report.failures.get_mut(cause) {
                Some(count) => *count += 1,
                None => {
                    self.report.failures.insert(cause.to_owned(), 1);
                }
            }
        }
    }

    /// Closes the books.
    pub(super) fn finish(mut self) -> LoadReport {
        for (moment, histogram) in Moment::ALL.into_iter().zip(self.moments) {
            if histogram.count() > 0 {
                self.report
                    .latencies
                    .insert(moment.key().to_owned(), histogram);
            }
        }
        self.report.windows = self.windows.until(self.end);
        self.report
    }
}
