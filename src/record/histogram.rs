//! Histograms of the meters as they are recorded, and back.

use super::Histogram;
use crate::measure::histogram::{DecodeError, LatencyHistogram, RateHistogram};

impl From<&LatencyHistogram> for Histogram {
    fn from(latencies: &LatencyHistogram) -> Self {
        summary(latencies.values(), latencies.to_base64())
    }
}

impl From<&RateHistogram> for Histogram {
    fn from(rates: &RateHistogram) -> Self {
        summary(rates.values(), rates.to_base64())
    }
}

impl TryFrom<&Histogram> for LatencyHistogram {
    type Error = DecodeError;

    fn try_from(recorded: &Histogram) -> Result<Self, Self::Error> {
        Self::from_base64(&recorded.hdr_v2_base64)
    }
}

impl TryFrom<&Histogram> for RateHistogram {
    type Error = DecodeError;

    fn try_from(recorded: &Histogram) -> Result<Self, Self::Error> {
        Self::from_base64(&recorded.hdr_v2_base64)
    }
}

fn summary(values: &hdrhistogram::Histogram<u64>, hdr_v2_base64: String) -> Histogram {
    Histogram {
        count: values.len(),
        min: values.min(),
        mean: values.mean(),
        stddev: values.stdev(),
        p50: values.value_at_quantile(0.5),
        p90: values.value_at_quantile(0.9),
        p99: values.value_at_quantile(0.99),
        p999: values.value_at_quantile(0.999),
        max: values.max(),
        hdr_v2_base64,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn the_summary_is_that_of_the_samples() {
        let mut latencies = LatencyHistogram::new();
        (1..=1_000).for_each(|sample| latencies.record_ns(sample));
        let recorded = Histogram::from(&latencies);
        let figures = [recorded.p50, recorded.p90, recorded.p99, recorded.p999];
        assert_eq!(figures, [500, 900, 990, 999]);
        assert_eq!(
            (recorded.count, recorded.min, recorded.max),
            (1_000, 1, 1_000)
        );
        assert!((recorded.mean - 500.5).abs() < 1e-9, "{}", recorded.mean);
        let stddev = ((1_000.0_f64.powi(2) - 1.0) / 12.0).sqrt();
        assert!(
            (recorded.stddev - stddev).abs() < 1e-6,
            "{}",
            recorded.stddev
        );
        assert_eq!(LatencyHistogram::try_from(&recorded).unwrap(), latencies);
    }

    #[test]
    fn rates_are_lossless_too() {
        let mut rates = RateHistogram::new();
        [0, 40, 1_234_560]
            .into_iter()
            .for_each(|rate| rates.record(rate));
        let recorded = Histogram::from(&rates);
        assert_eq!(recorded.min, 0);
        assert_eq!(RateHistogram::try_from(&recorded).unwrap(), rates);
    }
}
