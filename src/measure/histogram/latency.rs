//! Latencies, and how they travel from a worker to the harness.

use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize, Serializer};

use super::{DecodeError, decode, empty, encode, merge, quantile_of};
use crate::units::duration_ns;

/// One hour: longer than any run waits for anything.
const MAX_LATENCY_NS: u64 = 3_600_000_000_000;

/// Latencies in nanoseconds, 1 ns to 1 h, each to three significant digits.
///
/// About 260 KiB, allocated once when it is made.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(try_from = "EncodedLatencies")]
pub struct LatencyHistogram {
    values: Histogram<u64>,
    negative: u64,
    saturated: u64,
}

impl LatencyHistogram {
    /// A histogram without samples.
    #[must_use]
    pub fn new() -> Self {
        Self {
            values: empty(MAX_LATENCY_NS),
            negative: 0,
            saturated: 0,
        }
    }

    /// Adds one latency. What exceeds one hour counts as one hour, and in [`Self::saturated`].
    pub fn record(&mut self, latency: Duration) {
        self.record_ns(duration_ns(latency));
    }

    /// Adds one latency in nanoseconds, otherwise as [`Self::record`].
    pub fn record_ns(&mut self, latency_ns: u64) {
        self.saturated += u64::from(latency_ns > MAX_LATENCY_NS);
        self.values
            .saturating_record(latency_ns.min(MAX_LATENCY_NS));
    }

    /// Adds the time from `start` to `end`. An `end` before its `start` is a mistake of the caller:
    /// it counts as zero, and in [`Self::negative`].
    pub fn record_between(&mut self, start: Instant, end: Instant) {
        self.negative += u64::from(end < start);
        self.record(end.saturating_duration_since(start));
    }

    /// Adds the samples of `other`.
    pub fn merge(&mut self, other: &Self) {
        merge(&mut self.values, &other.values);
        self.negative += other.negative;
        self.saturated += other.saturated;
    }

    /// Number of samples.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.values.len()
    }

    /// Whether there are no samples.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.values.is_empty()
    }

    /// Samples that ended before they started; anything but zero is a fault of the measurement.
    #[must_use]
    pub fn negative(&self) -> u64 {
        self.negative
    }

    /// Samples of more than one hour, recorded as one hour.
    #[must_use]
    pub fn saturated(&self) -> u64 {
        self.saturated
    }

    /// The latency that a share of `quantile` (0 to 1) of the samples does not exceed, in ns; `None`
    /// without samples.
    #[must_use]
    pub fn quantile_ns(&self, quantile: f64) -> Option<u64> {
        quantile_of(&self.values, quantile)
    }

    /// The median, in ns; `None` without samples.
    #[must_use]
    pub fn median_ns(&self) -> Option<u64> {
        self.quantile_ns(0.5)
    }

    /// The samples, to be read by what renders or serialises them; in ns.
    #[must_use]
    pub fn values(&self) -> &Histogram<u64> {
        &self.values
    }

    /// The samples in HdrHistogram V2 with DEFLATE, in base 64.
    #[must_use]
    pub fn to_base64(&self) -> String {
        encode(&self.values)
    }

    /// The inverse of [`Self::to_base64`].
    ///
    /// # Errors
    /// When `text` is no such histogram, or holds values beyond one hour.
    pub fn from_base64(text: &str) -> Result<Self, DecodeError> {
        Ok(Self {
            values: decode(text, MAX_LATENCY_NS)?,
            negative: 0,
            saturated: 0,
        })
    }
}

impl Default for LatencyHistogram {
    fn default() -> Self {
        Self::new()
    }
}

/// How latencies travel from a worker process to the harness.
#[derive(Serialize, Deserialize)]
struct EncodedLatencies {
    hdr_v2_base64: String,
    negative: u64,
    saturated: u64,
}

/// What `serde(into)` would do, without a copy of the histogram.
impl Serialize for LatencyHistogram {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let encoded = EncodedLatencies {
            hdr_v2_base64: self.to_base64(),
            negative: self.negative,
            saturated: self.saturated,
        };
        encoded.serialize(serializer)
    }
}

impl TryFrom<EncodedLatencies> for LatencyHistogram {
    type Error = DecodeError;

    fn try_from(encoded: EncodedLatencies) -> Result<Self, Self::Error> {
        Ok(Self {
            negative: encoded.negative,
            saturated: encoded.saturated,
            ..Self::from_base64(&encoded.hdr_v2_base64)?
        })
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::super::SIGNIFICANT_DIGITS;
    use super::*;

    fn latencies(samples_ns: impl IntoIterator<Item = u64>) -> LatencyHistogram {
        let mut histogram = LatencyHistogram::new();
        samples_ns
            .into_iter()
            .for_each(|sample| histogram.record_ns(sample));
        histogram
    }

    #[test]
    fn keeps_three_digits_over_the_whole_range() {
        for sample_ns in [1, 999, 1_234_567, 59_999_999_999, MAX_LATENCY_NS] {
            let found = latencies([sample_ns]).median_ns().unwrap();
            let error = found.abs_diff(sample_ns);
            assert!(error * 1_000 <= sample_ns, "{found} for {sample_ns}");
        }
    }

    #[test]
    fn an_end_before_its_start_is_zero_and_is_counted() {
        let mut histogram = LatencyHistogram::new();
        let start = Instant::now();
        histogram.record_between(start + Duration::from_millis(1), start);
        histogram.record_between(start, start);
        assert_eq!((histogram.count(), histogram.negative()), (2, 1));
        assert_eq!(histogram.values().max(), 0);
    }

    #[test]
    fn more_than_an_hour_is_an_hour_and_is_counted() {
        let mut histogram = LatencyHistogram::new();
        histogram.record(Duration::from_secs(3_600));
        assert_eq!(histogram.saturated(), 0);
        histogram.record(Duration::from_secs(3_601));
        histogram.record(Duration::MAX);
        assert_eq!((histogram.count(), histogram.saturated()), (3, 2));
    }

    #[test]
    fn merging_is_recording_everything_in_one() {
        let mut merged = latencies(1..500);
        merged.merge(&latencies(500..1_000));
        assert_eq!(merged, latencies(1..1_000));
    }

    #[test]
    fn an_empty_histogram_has_no_median() {
        assert!(LatencyHistogram::new().is_empty());
        assert_eq!(LatencyHistogram::new().median_ns(), None);
    }

    #[test]
    fn json_and_back_is_the_identity_for_any_samples() {
        for samples in [
            vec![],
            vec![0],
            vec![7; 1_000],
            (0..40).map(|n| 1 << n).collect(),
        ] {
            let mut histogram = latencies(samples);
            histogram.record_between(Instant::now() + Duration::from_secs(1), Instant::now());
            let json = serde_json::to_string(&histogram).unwrap();
            assert_eq!(
                serde_json::from_str::<LatencyHistogram>(&json).unwrap(),
                histogram
            );
        }
    }

    #[test]
    fn what_is_no_histogram_is_refused_with_what_was_expected() {
        let refusal = |text| LatencyHistogram::from_base64(text).unwrap_err().to_string();
        assert!(refusal("~").starts_with("expected a histogram in base 64, found"));
        assert!(refusal("AAAA").starts_with("expected a histogram in HdrHistogram V2, found"));
        let mut two_hours = Histogram::<u64>::new(SIGNIFICANT_DIGITS).unwrap();
        two_hours.record(2 * MAX_LATENCY_NS).unwrap();
        let message = refusal(&encode(&two_hours));
        assert!(
            message.starts_with("expected no value above 3600000000000, found 72"),
            "{message}"
        );
    }
}
