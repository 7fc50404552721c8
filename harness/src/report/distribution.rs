//! Quantiles of a stored histogram, from its lossless form. Beneath the renderers; it records nothing.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hdrhistogram::serialization::Deserializer;
use hopbench::record::Histogram;

/// A histogram that was read back from `hdr_v2_base64`.
pub(super) struct Distribution(hdrhistogram::Histogram<u64>);

impl Distribution {
    /// Null when the text is no HdrHistogram or holds no sample: a chart then leaves it out.
    pub(super) fn read(stored: &Histogram) -> Option<Self> {
        let bytes = STANDARD.decode(&stored.hdr_v2_base64).ok()?;
        let histogram = Deserializer::new()
            .deserialize(&mut bytes.as_slice())
            .ok()?;
        (!histogram.is_empty()).then_some(Self(histogram))
    }

    /// Samples.
    pub(super) fn count(&self) -> u64 {
        self.0.len()
    }

    /// The value that `quantile` (0 to 1) of the samples do not exceed.
    pub(super) fn at(&self, quantile: f64) -> f64 {
        self.0.value_at_quantile(quantile) as f64
    }

    /// Values that were recorded, each with how often.
    pub(super) fn counts(&self) -> impl Iterator<Item = (f64, u64)> + '_ {
        let recorded = self.0.iter_recorded();
        recorded.map(|value| (value.value_iterated_to() as f64, value.count_at_value()))
    }
}
