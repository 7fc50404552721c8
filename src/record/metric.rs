//! The metric keys that hopbench publishes, and how a metric is made.

mod common;
mod experiments;
mod families;

use common::COMMON;
use experiments::{AT_SCALE, OVER_LINKS, OVER_NARROW_HOPS};
use families::{BY_DROP, BY_KIND, BY_PLACE};

use super::{Direction, Histogram, Metric, Unit};
use crate::measure::histogram::{LatencyHistogram, RateHistogram};

/// A metric key and what it stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Known {
    /// Key in [`super::Cell::metrics`].
    pub key: &'static str,
    /// Unit of its value; [`Unit::of_key`] of the key.
    pub unit: Unit,
    /// Which direction is better.
    pub direction: Direction,
    /// For the head of a column or the title of a chart.
    pub title: &'static str,
}

/// Every metric key, in the order of a connection's life; then those of single nodes and hops, of
/// kinds of operations, of what tunnels drop, of crowds of users, of lines over links, and of narrow hops.
pub const KNOWN: &[Known] = &{
    const AFTER_PLACES: usize = COMMON.len() + BY_PLACE.len();
    const AFTER_KINDS: usize = AFTER_PLACES + BY_KIND.len();
    const AFTER_DROPS: usize = AFTER_KINDS + BY_DROP.len();
    const AFTER_SCALE: usize = AFTER_DROPS + AT_SCALE.len();
    const AFTER_LINKS: usize = AFTER_SCALE + OVER_LINKS.len();
    let mut known = [COMMON[0]; AFTER_LINKS + OVER_NARROW_HOPS.len()];
    let mut index = 0;
    while index < known.len() {
        known[index] = if index < COMMON.len() {
            COMMON[index]
        } else if index < AFTER_PLACES {
            BY_PLACE[index - COMMON.len()]
        } else if index < AFTER_KINDS {
            BY_KIND[index - AFTER_PLACES]
        } else if index < AFTER_DROPS {
            BY_DROP[index - AFTER_KINDS]
        } else if index < AFTER_SCALE {
            AT_SCALE[index - AFTER_DROPS]
        } else if index < AFTER_LINKS {
            OVER_LINKS[index - AFTER_SCALE]
        } else {
            OVER_NARROW_HOPS[index - AFTER_LINKS]
        };
        index += 1;
    }
    known
};

/// The entry of `key` in [`KNOWN`].
#[must_use]
pub fn known(key: &str) -> Option<&'static Known> {
    KNOWN.iter().find(|known| known.key == key)
}

const fn lower(key: &'static str, unit: Unit, title: &'static str) -> Known {
    Known {
        key,
        unit,
        direction: Direction::Lower,
        title,
    }
}

const fn lower_ns(key: &'static str, title: &'static str) -> Known {
    lower(key, Unit::Ns, title)
}

const fn higher(key: &'static str, unit: Unit, title: &'static str) -> Known {
    Known {
        key,
        unit,
        direction: Direction::Higher,
        title,
    }
}

impl Unit {
    /// The unit that `key` ends in, what it is counted per left aside (`_per_connection`,
    /// `_per_operation`, `_per_registration`, `_per_refresh`, `_per_call`, `_per_packet`); `None` when it
    /// ends in none. A rate of RFC 7501 is per second.
    #[must_use]
    pub fn of_key(key: &str) -> Option<Self> {
        const ENDINGS: [(&str, Unit); 7] = [
            ("_ns", Unit::Ns),
            ("_bytes", Unit::Bytes),
            ("_per_second", Unit::PerSecond),
            ("_rate", Unit::PerSecond),
            ("_ratio", Unit::Ratio),
            ("_count", Unit::Count),
            ("_packets", Unit::Count),
        ];
        const COUNTED_PER: [&str; 6] = [
            "_per_connection",
            "_per_operation",
            "_per_registration",
            "_per_refresh",
            "_per_call",
            "_per_packet",
        ];
        let quantity = COUNTED_PER
            .into_iter()
            .find_map(|per| key.strip_suffix(per))
            .unwrap_or(key);
        ENDINGS
            .into_iter()
            .find_map(|(ending, unit)| quantity.ends_with(ending).then_some(unit))
    }
}

impl Metric {
    /// A latency: its value is the median, its histogram all of `latencies`. Without samples both
    /// are null.
    #[must_use]
    pub fn latency(latencies: &LatencyHistogram) -> Self {
        #[allow(clippy::cast_precision_loss)] // one hour in ns needs 42 of 53 bits
        let median = latencies.median_ns().map(|ns| ns as f64);
        Self {
            histogram: (!latencies.is_empty()).then(|| Histogram::from(latencies)),
            ..Self::scalar(median, None, Unit::Ns, Direction::Lower)
        }
    }

    /// A throughput: its value is the mean over the windows, its histogram all of `rates`. Without
    /// windows both are null.
    #[must_use]
    pub fn throughput(rates: &RateHistogram) -> Self {
        let values = rates.values();
        Self {
            histogram: (!values.is_empty()).then(|| Histogram::from(rates)),
            ..Self::scalar(
                (!values.is_empty()).then(|| values.mean()),
                None,
                Unit::PerSecond,
                Direction::Higher,
            )
        }
    }

    /// A single figure, with the ends of its 95 % interval where there is one. What is not a finite
    /// number, such as a quotient by zero, is missing: null.
    #[must_use]
    pub fn scalar(
        value: Option<f64>,
        ci95: Option<(f64, f64)>,
        unit: Unit,
        direction: Direction,
    ) -> Self {
        Self {
            value: value.filter(|value| value.is_finite()),
            ci95_low: None,
            ci95_high: None,
            unit,
            direction,
            histogram: None,
            fit: None,
            series: None,
            blocks: Vec::new(),
        }
        .with_interval(ci95)
    }

    /// The single figure of a key in [`KNOWN`].
    ///
    /// # Panics
    /// When `key` is not in the table.
    #[must_use]
    pub fn of(key: &str, value: Option<f64>) -> Self {
        let known = known(key).unwrap_or_else(|| panic!("{key} is not in metric::KNOWN"));
        Self::scalar(value, None, known.unit, known.direction)
    }

    /// The metric of a key in [`KNOWN`] that could not be measured, or that the stack does not have.
    ///
    /// # Panics
    /// When `key` is not in the table.
    #[must_use]
    pub fn missing(key: &str) -> Self {
        Self::of(key, None)
    }

    /// The same metric with the ends of its 95 % interval over blocks; an interval that is not
    /// finite is none.
    #[must_use]
    pub fn with_interval(mut self, ci95: Option<(f64, f64)>) -> Self {
        let ci95 = ci95.filter(|(low, high)| low.is_finite() && high.is_finite());
        self.ci95_low = ci95.map(|(low, _)| low);
        self.ci95_high = ci95.map(|(_, high)| high);
        self
    }

    /// The same metric with the figures of its blocks, by their numbers. Blocks without one are null,
    /// and so are figures that are not finite.
    #[must_use]
    pub fn with_blocks(mut self, figures: impl IntoIterator<Item = (u32, f64)>) -> Self {
        self.blocks.clear();
        for (block, figure) in figures.into_iter().filter(|(_, figure)| figure.is_finite()) {
            let place = block as usize;
            if self.blocks.len() <= place {
                self.blocks.resize(place + 1, None);
            }
            self.blocks[place] = Some(figure);
        }
        self
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_key_ends_in_its_unit_and_stands_once() {
        let mut keys = BTreeSet::new();
        for known in KNOWN {
            assert_eq!(Unit::of_key(known.key), Some(known.unit), "{}", known.key);
            assert!(keys.insert(known.key), "{} stands twice", known.key);
        }
        assert_eq!(Unit::of_key("wire"), None);
    }

    #[test]
    fn every_latency_has_the_unit_that_the_constructor_gives() {
        let latency = Metric::latency(&LatencyHistogram::new());
        let delay = known("registration_delay_ns").unwrap();
        assert_eq!(
            (latency.unit, latency.direction),
            (delay.unit, delay.direction)
        );
        let throughput = Metric::throughput(&RateHistogram::new());
        let rate = known("throughput_per_second").unwrap();
        assert_eq!(
            (throughput.unit, throughput.direction),
            (rate.unit, rate.direction)
        );
    }

    #[test]
    fn what_was_not_measured_is_null() {
        let empty = Metric::latency(&LatencyHistogram::new());
        assert_eq!((empty.value, empty.histogram), (None, None));
        let empty = Metric::throughput(&RateHistogram::new());
        assert_eq!((empty.value, empty.histogram), (None, None));
        let quotient = Metric::of("wire_overhead_ratio", Some(f64::NAN))
            .with_interval(Some((f64::NEG_INFINITY, 1.0)));
        assert_eq!(quotient, Metric::missing("wire_overhead_ratio"));
    }

    #[test]
    fn blocks_stand_at_their_numbers() {
        let metric = Metric::of("failed_count", Some(3.0));
        assert!(metric.blocks.is_empty());
        let metric = metric.with_blocks([(2, 3.0), (0, 1.0), (3, f64::NAN)]);
        assert_eq!(metric.blocks, [Some(1.0), None, Some(3.0)]);
        let written = serde_json::to_string(&metric).unwrap();
        assert!(written.contains("\"blocks\":[1.0,null,3.0]"), "{written}");
        assert_eq!(serde_json::from_str::<Metric>(&written).unwrap(), metric);
        // Runs of earlier versions have no such key.
        let earlier = written.replace(",\"blocks\":[1.0,null,3.0]", "");
        let read = serde_json::from_str::<Metric>(&earlier).unwrap();
        assert_eq!(read, metric.with_blocks([]));
    }

    #[test]
    fn a_latency_is_its_median_and_a_throughput_its_mean() {
        let mut latencies = LatencyHistogram::new();
        [10, 20, 900]
            .into_iter()
            .for_each(|ns| latencies.record_ns(ns));
        let metric = Metric::latency(&latencies).with_interval(Some((12.0, 30.0)));
        assert_eq!(metric.value, Some(20.0));
        assert_eq!(
            (metric.ci95_low, metric.ci95_high),
            (Some(12.0), Some(30.0))
        );
        assert_eq!(metric.histogram.unwrap().count, 3);

        let mut rates = RateHistogram::new();
        [0, 10, 80].into_iter().for_each(|rate| rates.record(rate));
        assert_eq!(Metric::throughput(&rates).value, Some(30.0));
    }
}
