//! Operations completed over time, as the rates of windows of equal length.

use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

use super::{DecodeError, decode, empty, encode, merge, quantile_of};
use crate::units::duration_ns;

/// Length of a throughput window.
pub const WINDOW: Duration = Duration::from_millis(100);

/// Far above what a machine can complete.
const MAX_PER_SECOND: u64 = 10_000_000_000;

/// Operations completed in each window since a start; made into rates when the end is known.
///
/// Workers that share a start can be merged by [`WindowCounts::add`], window by window.
#[derive(Clone, Debug)]
pub struct ThroughputWindows {
    start: Instant,
    counts: Vec<u64>,
}

impl ThroughputWindows {
    /// Windows that begin at `start`, the end of the warm-up.
    #[must_use]
    pub fn new(start: Instant) -> Self {
        Self {
            start,
            counts: Vec::new(),
        }
    }

    /// Counts one operation completed at `at`; one completed before the start is not counted.
    pub fn record(&mut self, at: Instant) {
        let Some(since_start) = at.checked_duration_since(self.start) else {
            return;
        };
        let window = whole_windows(since_start);
        if window >= self.counts.len() {
            self.counts.resize(window + 1, 0);
        }
        self.counts[window] += 1;
    }

    /// The counts of the windows that lie wholly before `end`, also of those in which nothing was
    /// completed.
    #[must_use]
    pub fn until(mut self, end: Instant) -> WindowCounts {
        let windows = whole_windows(end.saturating_duration_since(self.start));
        self.counts.resize(windows, 0);
        WindowCounts {
            operations: self.counts,
        }
    }
}

fn whole_windows(duration: Duration) -> usize {
    // In 64 bits, since this runs once an operation and dividing 128 bits is slow.
    usize::try_from(duration_ns(duration) / duration_ns(WINDOW))
        .expect("a run holds fewer windows than memory has addresses")
}

/// Operations completed in consecutive windows of [`WINDOW`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct WindowCounts {
    /// One number a window, in order of time.
    pub operations: Vec<u64>,
}

impl WindowCounts {
    /// Adds what another worker completed in the same windows. If one of the two covers less time,
    /// only the windows that both cover remain.
    pub fn add(&mut self, other: &Self) {
        self.operations.truncate(other.operations.len());
        for (sum, more) in self.operations.iter_mut().zip(&other.operations) {
            *sum += more;
        }
    }

    /// Operations in all windows.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.operations.iter().sum()
    }

    /// The distribution of the windows' rates.
    #[must_use]
    pub fn rates(&self) -> RateHistogram {
        let windows_per_second = duration_ns(Duration::from_secs(1)) / duration_ns(WINDOW);
        let mut rates = RateHistogram::new();
        for &operations in &self.operations {
            rates.record(operations.saturating_mul(windows_per_second));
        }
        rates
    }
}

/// Rates of windows, in operations per second.
#[derive(Clone, Debug, PartialEq)]
pub struct RateHistogram {
    values: Histogram<u64>,
}

impl RateHistogram {
    /// A histogram without windows.
    #[must_use]
    pub fn new() -> Self {
        Self {
            values: empty(MAX_PER_SECOND),
        }
    }

    /// Adds one window that ran at `per_second`.
    pub fn record(&mut self, per_second: u64) {
        self.values.saturating_record(per_second);
    }

    /// Adds the windows of `other`: more windows of the same server, not a faster server (for that
    /// see [`WindowCounts::add`]).
    pub fn merge(&mut self, other: &Self) {
        merge(&mut self.values, &other.values);
    }

    /// The rate that a share of `quantile` (0 to 1) of the windows does not exceed; `None` without
    /// windows.
    #[must_use]
    pub fn quantile_per_second(&self, quantile: f64) -> Option<u64> {
        quantile_of(&self.values, quantile)
    }

    /// The windows, to be read by what renders or serialises them; in operations per second.
    #[must_use]
    pub fn values(&self) -> &Histogram<u64> {
        &self.values
    }

    /// The windows in HdrHistogram V2 with DEFLATE, in base 64.
    #[must_use]
    pub fn to_base64(&self) -> String {
        encode(&self.values)
    }

    /// The inverse of [`Self::to_base64`].
    ///
    /// # Errors
    /// When `text` is no such histogram.
    pub fn from_base64(text: &str) -> Result<Self, DecodeError> {
        Ok(Self {
            values: decode(text, MAX_PER_SECOND)?,
        })
    }
}

impl Default for RateHistogram {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn only_whole_windows_count_and_empty_ones_are_zero() {
        let start = Instant::now();
        let at_ms = |ms| start + Duration::from_millis(ms);
        let mut windows = ThroughputWindows::new(at_ms(1_000));
        for ms in [999, 1_000, 1_099, 1_200, 1_399, 1_400] {
            windows.record(at_ms(ms));
        }
        let counts = windows.clone().until(at_ms(1_400));
        assert_eq!(counts.operations, [2, 0, 1, 1]);
        assert_eq!(windows.clone().until(at_ms(1_399)).operations, [2, 0, 1]);
        assert_eq!(
            windows.clone().until(at_ms(1_600)).operations,
            [2, 0, 1, 1, 1, 0]
        );
        assert!(windows.until(at_ms(900)).operations.is_empty());

        let rates = counts.rates();
        assert_eq!(rates.values().len(), 4);
        assert_eq!(rates.values().min(), 0);
        assert_eq!(rates.values().max(), 20);
        assert_eq!(rates.quantile_per_second(0.5), Some(10));
        assert_eq!(
            RateHistogram::from_base64(&rates.to_base64()).unwrap(),
            rates
        );
    }

    #[test]
    fn workers_add_up_where_both_measured() {
        let mut counts = WindowCounts {
            operations: vec![1, 2, 3],
        };
        counts.add(&WindowCounts {
            operations: vec![10, 20],
        });
        assert_eq!(counts.operations, [11, 22]);
        assert_eq!(counts.total(), 33);
    }
}
