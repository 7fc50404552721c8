//! Distributions of what was measured: [`LatencyHistogram`], and the rates of 100 ms windows that
//! [`ThroughputWindows`] count.
//!
//! Both keep three significant digits over a fixed range (HdrHistogram), so that recording neither
//! allocates nor fails and any two histograms of a kind can be merged, also across processes: they
//! serialise to the HdrHistogram V2 format, which loses nothing. This file holds what the two share.

mod latency;
mod throughput;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use hdrhistogram::Histogram;
use hdrhistogram::serialization::{Deserializer, Serializer as _, V2DeflateSerializer};

pub use latency::LatencyHistogram;
pub use throughput::{RateHistogram, ThroughputWindows, WINDOW, WindowCounts};

const SIGNIFICANT_DIGITS: u8 = 3;

/// Why a text is not the histogram that it should be.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DecodeError {
    /// Not base 64.
    #[error("expected a histogram in base 64, found {0}")]
    Base64(#[from] base64::DecodeError),
    /// Not an HdrHistogram V2.
    #[error("expected a histogram in HdrHistogram V2, found {0}")]
    Format(#[from] hdrhistogram::serialization::DeserializeError),
    /// A histogram of something else.
    #[error("expected no value above {limit}, found {found}")]
    Range {
        /// The largest value that such a histogram holds.
        limit: u64,
        /// Its largest value.
        found: u64,
    },
}

fn empty(max: u64) -> Histogram<u64> {
    Histogram::new_with_bounds(1, max, SIGNIFICANT_DIGITS).expect("the bounds are valid")
}

fn merge(into: &mut Histogram<u64>, from: &Histogram<u64>) {
    into.add(from)
        .expect("histograms of one kind have one range");
}

fn quantile_of(values: &Histogram<u64>, quantile: f64) -> Option<u64> {
    (!values.is_empty()).then(|| values.value_at_quantile(quantile))
}

fn encode(values: &Histogram<u64>) -> String {
    let mut bytes = Vec::new();
    V2DeflateSerializer::new()
        .serialize(values, &mut bytes)
        .expect("writing to a vector does not fail");
    BASE64.encode(bytes)
}

fn decode(text: &str, max: u64) -> Result<Histogram<u64>, DecodeError> {
    let bytes = BASE64.decode(text)?;
    let decoded: Histogram<u64> = Deserializer::new().deserialize(&mut bytes.as_slice())?;
    // Into a histogram of our own range, so that what was decoded merges like what was measured.
    let mut values = empty(max);
    values.add(&decoded).map_err(|_| DecodeError::Range {
        limit: max,
        found: decoded.max(),
    })?;
    Ok(values)
}
