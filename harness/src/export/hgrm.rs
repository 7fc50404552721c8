//! Percentile distributions as HdrHistogram's Java prints them (`.hgrm`), which is what its plotters read. An
//! exporter, one file a distribution.
//!
//! The columns are value, percentile, count so far and 1 ÷ (1 − percentile), in the widths and digits of Java's
//! `outputPercentileDistribution` with five ticks a half distance. Values are in the metric's unit, undivided.
//! Java's own output of the same histogram is the same to the byte: `harness/tests/exports.rs` compares.

use std::fmt::Write as _;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hdrhistogram::Histogram;
use hdrhistogram::serialization::Deserializer;
use hopbench::record::Run;

use super::{ExportError, Exporter, File, file_stem};
use crate::figures;

/// The exporter.
pub(super) struct Hgrm;

const TICKS_PER_HALF_DISTANCE: f64 = 5.0;

impl Exporter for Hgrm {
    fn export(&self, run: &Run) -> Result<Vec<File>, ExportError> {
        let mut files = Vec::new();
        for figure in figures::sound(run) {
            let metric = figure.cell.metrics.get(figure.metric);
            let stored = metric.and_then(|metric| metric.histogram.as_ref());
            let (None, Some(stored)) = (figure.control, stored) else {
                continue;
            };
            let histogram =
                decode(&stored.hdr_v2_base64).map_err(|source| ExportError::Histogram {
                    cell: figure.cell.id.clone(),
                    metric: figure.metric.to_owned(),
                    source,
                })?;
            files.push(File {
                name: format!("{}.{}.hgrm", file_stem(&figure.cell.id), figure.metric),
                text: distribution(&histogram),
            });
        }
        Ok(files)
    }
}

fn decode(base64: &str) -> Result<Histogram<u64>, Box<dyn std::error::Error + Send + Sync>> {
    let bytes = STANDARD.decode(base64)?;
    Ok(Deserializer::new().deserialize(&mut bytes.as_slice())?)
}

#[allow(clippy::cast_precision_loss)] // values below 2^53
fn distribution(histogram: &Histogram<u64>) -> String {
    let digits = usize::from(histogram.sigfig());
    let mut out = format!(
        "{:>12} {:>14} {:>10} {:>14}\n\n",
        "Value", "Percentile", "TotalCount", "1/(1-Percentile)"
    );
    for step in steps(histogram) {
        let value = half_up(step.value as f64, digits);
        let percentile = half_up(step.percentile / 100.0, 12);
        let _ = write!(out, "{value:>12} {percentile} {:>10}", step.count);
        if step.percentile < 100.0 {
            let inverse = half_up(1.0 / (1.0 - step.percentile / 100.0), 2);
            let _ = write!(out, " {inverse:>14}");
        }
        out.push('\n');
    }
    let (mean, deviation) = moments(histogram);
    let [mean, deviation, max] =
        [mean, deviation, histogram.max() as f64].map(|value| half_up(value, digits));
    let _ = writeln!(
        out,
        "#[Mean    = {mean:>12}, StdDeviation   = {deviation:>12}]"
    );
    let _ = writeln!(
        out,
        "#[Max     = {max:>12}, Total count    = {:>12}]",
        histogram.len()
    );
    let (buckets, sub_buckets) = (histogram.buckets(), sub_buckets(histogram.sigfig()));
    let _ = writeln!(
        out,
        "#[Buckets = {buckets:>12}, SubBuckets     = {sub_buckets:>12}]"
    );
    out
}

/// A line of the distribution.
struct Step {
    value: u64,
    percentile: f64,
    count: u64,
}

/// The percentiles that Java steps through: ticks of one size until half of the distance to 100 % is covered, then
/// ticks of half that size. A value that spans several ticks is told once, for the first of them, and
/// the last value once more, at 100 %.
///
/// The crate's own iterator counts in quantiles, where sums of ticks round otherwise than in percent.
#[allow(clippy::cast_precision_loss)] // counts below 2^53
fn steps(histogram: &Histogram<u64>) -> Vec<Step> {
    let total = histogram.len();
    let (mut steps, mut count, mut level) = (Vec::new(), 0, 0.0);
    for recorded in histogram.iter_recorded() {
        count += recorded.count_at_value();
        let value = recorded.value_iterated_to();
        let reached = 100.0 * count as f64 / total as f64;
        while level <= reached {
            steps.push(Step {
                value,
                percentile: level,
                count,
            });
            level += tick(level);
            if count == total {
                break;
            }
        }
        if count == total {
            steps.push(Step {
                value,
                percentile: 100.0,
                count,
            });
        }
    }
    steps
}

fn tick(level: f64) -> f64 {
    let halvings = ((100.0 / (100.0 - level)).ln() / std::f64::consts::LN_2).trunc();
    100.0 / (TICKS_PER_HALF_DISTANCE * (halvings + 1.0).exp2())
}

/// Mean and standard deviation, summed in Java's order.
#[allow(clippy::cast_precision_loss)]
fn moments(histogram: &Histogram<u64>) -> (f64, f64) {
    let total = histogram.len() as f64;
    if histogram.is_empty() {
        return (0.0, 0.0);
    }
    let sum = |term: &dyn Fn(f64) -> f64| -> f64 {
        let recorded = histogram.iter_recorded();
        recorded
            .map(|step| {
                let middle = histogram.median_equivalent(step.value_iterated_to());
                term(middle as f64) * step.count_at_value() as f64
            })
            .sum()
    };
    let mean = sum(&|value| value) / total;
    let variance = sum(&|value| (value - mean) * (value - mean)) / total;
    (mean, variance.sqrt())
}

/// The smallest power of two that tells apart twice as many values as the digits ask for.
fn sub_buckets(digits: u8) -> u64 {
    (2 * 10_u64.pow(u32::from(digits))).next_power_of_two()
}

/// `value` with so many decimals, as Java prints it: the shortest decimal that is this number, rounded half up.
/// Rust rounds the exact binary number, half to even: 0.0625 is 0.063 there and 0.062 here.
fn half_up(value: f64, decimals: usize) -> String {
    let shortest = format!("{value}");
    let fraction = shortest
        .split_once('.')
        .map_or(0, |(_, fraction)| fraction.len());
    if fraction <= decimals {
        return format!("{value:.decimals$}");
    }
    let cut = shortest.len() - (fraction - decimals);
    let rounds_up = shortest.as_bytes()[cut] >= b'5';
    let kept = shortest[..cut].trim_end_matches('.');
    if rounds_up {
        incremented(kept)
    } else {
        kept.to_owned()
    }
}

/// The decimal whose last digit is one more.
fn incremented(decimal: &str) -> String {
    let mut digits: Vec<u8> = decimal.bytes().collect();
    for digit in digits.iter_mut().rev() {
        match *digit {
            b'9' => *digit = b'0',
            b'0'..=b'8' => {
                *digit += 1;
                return String::from_utf8(digits).expect("digits");
            }
            _ => {}
        }
    }
    let at = usize::from(decimal.starts_with('-'));
    digits.insert(at, b'1');
    String::from_utf8(digits).expect("digits")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::fixture;

    #[test]
    fn decimals_are_rounded_as_java_does() {
        let table = [
            (0.0625, 3, "0.063"),
            (1.25, 2, "1.25"),
            (2.0, 3, "2.000"),
            (9.9995, 3, "10.000"),
            (99.999_96, 2, "100.00"),
            (1.005, 2, "1.01"), // 1.00499… in binary
            (0.5, 0, "1"),
            (1234.5, 0, "1235"),
            (0.1, 12, "0.100000000000"),
        ];
        for (value, decimals, expected) in table {
            assert_eq!(half_up(value, decimals), expected, "{value}");
        }
    }

    #[test]
    fn a_distribution_ends_at_its_maximum_and_counts_everything() {
        let mut histogram = Histogram::<u64>::new(3).expect("three digits");
        (1..=1000).for_each(|value| histogram.record(value).expect("it fits"));
        let text = distribution(&histogram);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(
            lines[0],
            "       Value     Percentile TotalCount 1/(1-Percentile)"
        );
        assert_eq!(
            lines[2],
            "       1.000 0.000000000000          1           1.00"
        );
        assert_eq!(
            lines[3],
            "     100.000 0.100000000000        100           1.11"
        );
        let last = lines.iter().rfind(|line| !line.starts_with('#'));
        assert_eq!(last, Some(&"    1000.000 1.000000000000       1000"));
        assert!(
            text.contains("#[Mean    =      500.500, StdDeviation   =      288.675]"),
            "{text}"
        );
        assert!(
            text.contains("#[Max     =     1000.000, Total count    =         1000]"),
            "{text}"
        );
        assert_eq!(sub_buckets(3), 2048);
    }

    #[test]
    fn a_damaged_histogram_is_told_with_its_cell() {
        let mut run = fixture::run();
        let sound =
            |cell: &&mut hopbench::record::Cell| cell.verdict == hopbench::record::Verdict::Ok;
        let cell = run.cells.iter_mut().find(sound).expect("a sound cell");
        let histogram = cell
            .metrics
            .values_mut()
            .find_map(|metric| metric.histogram.as_mut());
        histogram
            .expect("it has a histogram")
            .hdr_v2_base64
            .truncate(9);
        let id = cell.id.clone();
        let error = Hgrm.export(&run).expect_err("it is damaged").to_string();
        assert!(
            error.contains(&id) && error.contains("expected a histogram in hdr_v2_base64"),
            "{error}"
        );
    }
}
