//! From samples to cells and ratios.

use std::collections::BTreeMap;

use hopbench::measure::histogram::{LatencyHistogram, RateHistogram, WindowCounts};
use hopbench::record::{Cell, CellId, Fit, Metric, Ratio, Series, Step, Verdict};
use hopbench::transport;
use serde_json::json;

use super::{Sample, Subject, attribution};
use crate::beneath;
use crate::statistics;

/// A cell being measured.
pub(crate) struct Collected {
    /// What is measured.
    pub(crate) subject: Subject,
    /// By block.
    pub(crate) samples: BTreeMap<u32, Sample>,
    /// Why measuring was given up.
    pub(crate) failure: Option<String>,
    /// Why it cannot be measured here.
    pub(crate) unsupported: Option<String>,
    /// The loads of a search.
    pub(crate) steps: Vec<Step>,
}

/// Figures that describe the load or the fit, not the stack: no ratio is made of them. How fast a crowd
/// comes is what the scenario says.
const NOT_COMPARED: [&str; 26] = [
    "offered_per_second",
    "achieved_per_second",
    "throughput_per_second",
    "scheduling_lag_ns",
    "observed_lag_ns",
    "generator_busy_ratio",
    "bare_protection_cpu_ns_per_packet",
    "bare_handshake_cpu_ns",
    "handshake_cost_ratio",
    "bare_protection_paced_cpu_ns_per_packet",
    "bare_handshake_paced_cpu_ns",
    "handshake_paced_cost_ratio",
    "protection_paced_cost_ratio",
    "client_bare_heap_bytes_per_connection",
    "server_bare_heap_bytes_per_connection",
    "protection_cost_ratio",
    "population_ns",
    "population_per_second",
    "search_held_per_second",
    "search_ceiling_per_second",
    "lowest_rate_latency_p99_ns",
    "knee_latency_p99_ns",
    "half_knee_lag_p99_ns",
    "overload_offered_per_second",
    "overload_achieved_ratio",
    "fitting_ratio",
];

/// Whether a metric describes the load, the generator or the floor of another figure: no figure of what is
/// measured.
pub(crate) fn describes_load(key: &str) -> bool {
    NOT_COMPARED.contains(&key) || (key.ends_with("_count") && !is_mishap(key))
}

/// Whether ratios are formed of the metric.
fn is_compared(key: &str) -> bool {
    let is_of_the_measurement = key.ends_with("_count") || key.ends_with("_r_squared_ratio");
    let is_of_the_fit = key.ends_with("_fixed_bytes");
    let is_of_another = attribution::is_part(key);
    // A stack's growth is a ratio of its own figures.
    let is_growth =
        key.ends_with("_growth_per_decade_ratio") || key.ends_with("_most_to_fewest_ratio");
    // What takes no round trip is no measure of what takes one; their numbers are held against promises.
    let is_of_a_link =
        key.ends_with("_per_round_trip_ratio") || key.ends_with("_at_no_distance_ns");
    let is_left_out =
        is_of_the_measurement || is_of_the_fit || is_of_another || is_growth || is_of_a_link;
    !is_left_out && !NOT_COMPARED.contains(&key)
}

/// Whether a metric counts what should not happen. Of these the sum over all blocks is told: the median
/// would be zero when it happens in fewer than half of them.
pub(crate) fn is_mishap(key: &str) -> bool {
    const MISHAPS: [&str; 4] = [
        "failed_count",
        "lost_hops_count",
        "unexpected_count",
        "server_socket_drops_count",
    ];
    MISHAPS.contains(&key) || key.contains("_tunnel_drops_")
}

impl Collected {
    /// Nothing measured yet.
    pub(crate) fn new(subject: Subject) -> Self {
        Self {
            subject,
            samples: BTreeMap::new(),
            failure: None,
            unsupported: None,
            steps: Vec::new(),
        }
    }

    /// What is known so far.
    pub(crate) fn cell(&self) -> Cell {
        let counted = self.counted();
        let (verdict, reason) = self.verdict();
        let mut metrics = BTreeMap::new();
        for key in keys(&counted, |sample| sample.scalars.keys()) {
            metrics.insert(key.clone(), scalar(&counted, &key));
        }
        for key in keys(&counted, |sample| sample.latencies.keys()) {
            metrics.insert(key.clone(), latency(&counted, &key));
        }
        if counted.values().any(|sample| sample.windows.is_some()) {
            metrics.insert("throughput_per_second".into(), throughput(&counted));
        }
        let mut parameters = self.subject.parameters.clone();
        let bound = self.samples.len() - counted.len();
        if bound > 0 {
            parameters.insert("generator_bound_blocks_left_out".into(), json!(bound));
        }
        Cell {
            parameters,
            verdict,
            reason,
            steps: self.steps.clone(),
            repetitions: u32::try_from(counted.len()).expect("blocks fit 32 bits"),
            ..self.subject.id.measured(0, metrics)
        }
    }

    /// Blocks whose figures count. A block in which the generator was the bottleneck is left out as
    /// long as most blocks remain; otherwise the cell is generator-bound, with all its blocks.
    pub(super) fn counted(&self) -> BTreeMap<u32, &Sample> {
        let all: BTreeMap<u32, &Sample> = self.samples.iter().map(|(b, s)| (*b, s)).collect();
        let sound: BTreeMap<u32, &Sample> = all
            .iter()
            .filter(|(_, sample)| sample.generator_bound.is_none())
            .map(|(block, sample)| (*block, *sample))
            .collect();
        if sound.len() * 2 > all.len() {
            sound
        } else {
            all
        }
    }

    pub(super) fn verdict(&self) -> (Verdict, Option<String>) {
        if let Some(reason) = &self.unsupported {
            return (Verdict::Unsupported, Some(reason.clone()));
        }
        if let Some(failure) = &self.failure {
            return (Verdict::Failed, Some(failure.clone()));
        }
        if self.samples.is_empty() {
            return (
                Verdict::Failed,
                Some("the run ended before this cell's turn".into()),
            );
        }
        let counted = self.counted();
        if let Some(reason) = counted.values().find_map(|sample| {
            sample
                .generator_bound
                .clone()
                .or(sample.users_short.clone())
        }) {
            return (Verdict::GeneratorBound, Some(reason));
        }
        match counted.values().find_map(|sample| sample.shortfall.clone()) {
            Some(reason) => (Verdict::Failed, Some(reason)),
            None => (Verdict::Ok, None),
        }
    }

    /// The figure of each block, by block.
    pub(super) fn values(&self, key: &str) -> BTreeMap<u32, f64> {
        self.counted()
            .into_iter()
            .filter_map(|(block, sample)| Some((block, value(sample, key)?)))
            .collect()
    }
}

/// The ratios of the cells that are ok to their controls that are ok, and of those that are run in
/// another way to the usual one.
pub(crate) fn ratios(collected: &[&Collected]) -> Vec<Ratio> {
    let sound: Vec<&Collected> = collected
        .iter()
        .copied()
        .filter(|cell| cell.verdict().0 == Verdict::Ok)
        .collect();
    let find = |id: CellId| sound.iter().find(|other| other.subject.id == id);
    let mut ratios = Vec::new();
    for cell in &sound {
        let stack = cell.subject.site.stack;
        let over = cell.subject.site.beneath;
        let over = over.and_then(|beneath| beneath::over(stack, beneath));
        let mut controls: Vec<&str> = match over {
            Some(over) => [over.carrier].into_iter().chain(over.stand_in).collect(),
            None => stack.control.into_iter().chain(stack.bare).collect(),
        };
        controls.dedup();
        for control in controls {
            let control = transport::find(control).expect("the registry names its own rows");
            if let Some(control) = cell.subject.control_ids(control).into_iter().find_map(find) {
                ratios.extend(ratios_to(cell, control));
            }
        }
        if let Some(usual) = cell.subject.usual_id().and_then(find) {
            ratios.extend(ratios_to(cell, usual));
        }
    }
    ratios
}

fn ratios_to(cell: &Collected, control: &Collected) -> Vec<Ratio> {
    let counted = cell.counted();
    let all_keys = keys(&counted, |sample| sample.scalars.keys())
        .into_iter()
        .chain(keys(&counted, |sample| sample.latencies.keys()));
    all_keys
        .filter(|key| is_compared(key))
        .filter_map(|key| ratio_of(&key, cell, control))
        .collect()
}

/// The ratio of one metric, block by block.
pub(super) fn ratio_of(key: &str, cell: &Collected, control: &Collected) -> Option<Ratio> {
    let (above, below) = (cell.values(key), control.values(key));
    // Nothing is a multiple of a control that costs nothing.
    if below.values().any(|below| *below <= 0.0) || above.values().any(|above| *above < 0.0) {
        return None;
    }
    let blocks = 0..cell.subject.blocks.most();
    let (above, below): (Vec<_>, Vec<_>) = blocks
        .map(|block| (above.get(&block).copied(), below.get(&block).copied()))
        .unzip();
    let estimate = statistics::ratio_of_blocks(&above, &below, cell.subject.blocks.stopping())?;
    let (id, control_id) = (&cell.subject.id, &control.subject.id);
    Some(estimate.record(key, &id.to_string(), &control_id.to_string()))
}

fn keys<'s, I: Iterator<Item = &'s String>>(
    samples: &BTreeMap<u32, &'s Sample>,
    of: impl Fn(&'s Sample) -> I,
) -> Vec<String> {
    let mut keys: Vec<String> = samples
        .values()
        .flat_map(|sample| of(sample).cloned())
        .collect();
    keys.sort();
    keys.dedup();
    keys
}

/// A block's figure: of a latency the median.
fn value(sample: &Sample, key: &str) -> Option<f64> {
    match sample.scalars.get(key) {
        Some(value) => *value,
        None => {
            let histogram = sample.latencies.get(key)?.as_ref()?;
            Some(histogram.median_ns()? as f64)
        }
    }
}

fn scalar(samples: &BTreeMap<u32, &Sample>, key: &str) -> Metric {
    let blocks = figures(samples, |sample| value(sample, key));
    let values: Vec<f64> = blocks.values().copied().collect();
    let metric = if is_mishap(key) {
        Metric::of(key, (!values.is_empty()).then(|| values.iter().sum()))
    } else {
        Metric {
            fit: fit(samples, key),
            ..Metric::of(key, statistics::median(&values))
                .with_interval(statistics::of_median(&values).map(Into::into))
        }
    };
    metric.with_blocks(blocks)
}

/// What each block says, of those that say something.
fn figures(
    samples: &BTreeMap<u32, &Sample>,
    of: impl Fn(&Sample) -> Option<f64>,
) -> BTreeMap<u32, f64> {
    let told = samples.iter();
    told.filter_map(|(block, sample)| Some((*block, of(sample)?)))
        .collect()
}

/// Of a slope, the readings of all blocks; all are at the same numbers of connections.
fn fit(samples: &BTreeMap<u32, &Sample>, key: &str) -> Option<Fit> {
    let points: Vec<_> = samples.values().filter_map(|s| s.points.get(key)).collect();
    let at: Vec<f64> = points.first()?.iter().map(|(at, _)| *at).collect();
    let readings = points
        .iter()
        .map(|block| block.iter().map(|(_, y)| *y).collect());
    statistics::fit::of(at, readings.collect())
}

fn latency(samples: &BTreeMap<u32, &Sample>, key: &str) -> Metric {
    let mut merged: Option<LatencyHistogram> = None;
    for histogram in samples
        .values()
        .filter_map(|sample| sample.latencies.get(key)?.as_ref())
    {
        merged.get_or_insert_default().merge(histogram);
    }
    let Some(histogram) = merged else {
        return Metric::missing(key);
    };
    let blocks = figures(samples, |sample| value(sample, key));
    let medians: Vec<f64> = blocks.values().copied().collect();
    Metric::latency(&histogram)
        .with_interval(statistics::of_median(&medians).map(Into::into))
        .with_blocks(blocks)
}

fn throughput(samples: &BTreeMap<u32, &Sample>) -> Metric {
    let mut merged = RateHistogram::new();
    let windows = samples.values();
    let windows: Vec<&WindowCounts> = windows
        .filter_map(|sample| sample.windows.as_ref())
        .collect();
    for block in &windows {
        merged.merge(&block.rates());
    }
    let blocks = figures(samples, |sample| {
        let rates = sample.windows.as_ref()?.rates();
        Some(rates.quantile_per_second(0.5)? as f64)
    });
    let medians: Vec<f64> = blocks.values().copied().collect();
    let metric = Metric::throughput(&merged)
        .with_interval(statistics::of_median(&medians).map(Into::into))
        .with_blocks(blocks);
    Metric {
        series: (!windows.is_empty()).then(|| Series::of(windows)),
        ..metric
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use hopbench::transport::find;

    use super::*;
    use crate::experiment::cell_id;
    use crate::topology::{Site, Topology};
    use crate::variant::Variant;

    /// Three blocks, of which the first is as `spoil` leaves it.
    fn cell(spoil: impl FnOnce(&mut Sample)) -> Collected {
        let site = Site {
            topology: Topology::Direct,
            stack: find("tcp").unwrap(),
            core: find("tcp").unwrap(),
            variant: Variant::default(),
            authenticate_calls: false,
            path: crate::path::Path::Loopback,
            beneath: None,
        };
        let mut cell = Collected::new(Subject {
            id: cell_id("throughput", "invite", &site, "per-call"),
            site,
            parameters: BTreeMap::new(),
            blocks: 3.into(),
        });
        let mut first = Sample::default();
        spoil(&mut first);
        cell.samples = BTreeMap::from([(0, first), (1, Sample::default()), (2, Sample::default())]);
        cell
    }

    #[test]
    fn a_block_that_the_generator_bounded_is_left_out() {
        let cell = cell(|sample| sample.generator_bound = Some("late".to_owned()));
        assert_eq!(cell.verdict(), (Verdict::Ok, None));
        assert_eq!(cell.counted().len(), 2);
    }

    #[test]
    fn a_mishap_in_one_block_of_many_is_told() {
        for key in ["failed_count", "server_tunnel_drops_replayed_count"] {
            let mut cell = cell(|sample| {
                sample.scalars.insert(key.to_owned(), Some(2.0));
            });
            for block in [1, 2] {
                let sample = cell.samples.get_mut(&block).unwrap();
                sample.scalars.insert(key.to_owned(), Some(0.0));
            }
            let metric = &cell.cell().metrics[key];
            assert_eq!(metric.value, Some(2.0));
            assert_eq!(metric.blocks, [Some(2.0), Some(0.0), Some(0.0)]);
        }
        // What cannot be counted is no zero.
        let nothing = cell(|sample| {
            sample.scalars.insert("failed_count".to_owned(), None);
        });
        assert_eq!(nothing.cell().metrics["failed_count"].value, None);
    }

    /// Users are busy because there are few of them, or because the server is slow: leaving such
    /// blocks out would be leaving out the server's worst.
    #[test]
    fn a_block_that_was_short_of_users_is_not_left_out() {
        let cell = cell(|sample| {
            sample.users_short = Some("short".to_owned());
            sample.shortfall = Some("3 of 40 operations failed".to_owned());
        });
        let expected = (Verdict::GeneratorBound, Some("short".to_owned()));
        assert_eq!(cell.verdict(), expected);
        assert_eq!(cell.counted().len(), 3);
    }
}
