//! From repeated measurements to figures with their uncertainty.
//!
//! Blocks are few (3 to 9) and not normally distributed, since a shared machine slows down for
//! minutes at a time: hence medians, ratios formed inside a block, and intervals by resampling
//! blocks. Regressions serve the memory experiments, where the errors are small and the question is
//! a slope.

pub(crate) mod fit;
pub(crate) mod test;

use hopbench::record::Ratio;
use rand::Rng as _;
use rand::SeedableRng as _;
use rand_chacha::ChaCha8Rng;
use serde::Serialize;

const RESAMPLES: usize = 10_000;

/// The ends of a 95 % confidence interval.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(crate) struct Interval {
    pub(crate) low: f64,
    pub(crate) high: f64,
}

impl Interval {
    /// The least interval that holds this one and `value`.
    pub(crate) fn holding(self, value: f64) -> Self {
        Self {
            low: self.low.min(value),
            high: self.high.max(value),
        }
    }
}

impl From<Interval> for (f64, f64) {
    fn from(interval: Interval) -> Self {
        (interval.low, interval.high)
    }
}

/// The median; of an even number of values the mean of the middle two. `None` of no values, or when
/// one is not a number.
pub(crate) fn median(values: &[f64]) -> Option<f64> {
    if values.is_empty() || values.iter().any(|value| value.is_nan()) {
        return None;
    }
    let mut sorted = values.to_vec();
    Some(median_by_sorting(&mut sorted))
}

fn median_by_sorting(values: &mut [f64]) -> f64 {
    values.sort_unstable_by(f64::total_cmp);
    let middle = values.len() / 2;
    if values.len() % 2 == 1 {
        values[middle]
    } else {
        f64::midpoint(values[middle - 1], values[middle])
    }
}

/// 95 % interval of the median by the percentile bootstrap: 10,000 resamples of the blocks, drawn
/// from `seed`. `None` with fewer than two blocks.
///
/// With few blocks the interval says less than its name. Up to five blocks each end of the
/// distribution of resampled medians holds more than 2.5 % at the extreme block, so that the
/// interval *is* the smallest and the largest block. That range holds the true median with
/// probability 1 − 2^(1−n): 50 % of two blocks, 75 % of three, 87.5 % of four, 93.75 % of five. From
/// six blocks on it is near the 95 % that it claims.
pub(crate) fn bootstrap_interval(blocks: &[f64], seed: u64) -> Option<Interval> {
    bootstrap(blocks, RESAMPLES, seed)
}

fn bootstrap(blocks: &[f64], resamples: usize, seed: u64) -> Option<Interval> {
    if blocks.len() < 2 || blocks.iter().any(|block| block.is_nan()) {
        return None;
    }
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let mut resample = vec![0.0; blocks.len()];
    let mut medians: Vec<f64> = (0..resamples)
        .map(|_| {
            resample.fill_with(|| blocks[random.random_range(0..blocks.len())]);
            median_by_sorting(&mut resample)
        })
        .collect();
    medians.sort_unstable_by(f64::total_cmp);
    let tail = resamples / 40;
    Some(Interval {
        low: medians[tail],
        high: medians[resamples - 1 - tail],
    })
}

/// A cell against its control, block by block.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct RatioEstimate {
    /// Median of the blocks' ratios.
    pub(crate) ratio: f64,
    /// See [`bootstrap_interval`]; `None` with fewer than two blocks.
    pub(crate) ci95: Option<Interval>,
    /// Blocks in which both were measured.
    pub(crate) blocks: u32,
}

impl RatioEstimate {
    /// As it is recorded, for `metric` of `cell_id` against `control_cell_id`.
    pub(crate) fn record(&self, metric: &str, cell_id: &str, control_cell_id: &str) -> Ratio {
        Ratio {
            metric: metric.to_owned(),
            cell_id: cell_id.to_owned(),
            control_cell_id: control_cell_id.to_owned(),
            ratio: self.ratio,
            ci95_low: self.ci95.map(|interval| interval.low),
            ci95_high: self.ci95.map(|interval| interval.high),
            blocks: self.blocks,
        }
    }
}

/// `numerators` ÷ `denominators`, where equal positions are of one block. A block in which one of the two
/// is missing, or the denominator is not above zero, is left out; `None` when none remains.
///
/// # Panics
/// When the numbers of blocks differ: then positions would not be blocks.
pub(crate) fn ratio_of_blocks(
    numerators: &[Option<f64>],
    denominators: &[Option<f64>],
    seed: u64,
) -> Option<RatioEstimate> {
    assert_eq!(
        numerators.len(),
        denominators.len(),
        "one figure a block on either side"
    );
    let ratios: Vec<f64> = numerators
        .iter()
        .zip(denominators)
        .filter_map(|(numerator, denominator)| {
            let denominator = denominator.filter(|denominator| *denominator > 0.0)?;
            Some((*numerator)? / denominator).filter(|ratio| ratio.is_finite())
        })
        .collect();
    Some(RatioEstimate {
        ratio: median(&ratios)?,
        ci95: bootstrap_interval(&ratios, seed),
        blocks: u32::try_from(ratios.len()).expect("a run has fewer than 2^32 blocks"),
    })
}

/// A straight line through points, by ordinary least squares.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Regression {
    /// Growth of y for one more x.
    pub(crate) slope: f64,
    /// y at x = 0.
    pub(crate) intercept: f64,
    /// Share of y's variance that the line explains, 0 to 1; `None` when y does not vary.
    pub(crate) r_squared: Option<f64>,
    /// Standard error of the slope; `None` of two points, through which every line is exact.
    pub(crate) slope_standard_error: Option<f64>,
    /// 95 % interval of the slope, by Student's t with n − 2 degrees of freedom; `None` likewise. It
    /// supposes errors that are independent of each other and of one size.
    pub(crate) slope_ci95: Option<Interval>,
}

/// The line through `points` (x, y); `None` when fewer than two differ in x or one is not finite.
#[allow(clippy::cast_precision_loss)] // a few points
pub(crate) fn regression(points: &[(f64, f64)]) -> Option<Regression> {
    let (first_x, _) = *points.first()?;
    let is_vertical = points.iter().all(|(x, _)| *x == first_x);
    if is_vertical || points.iter().any(|(x, y)| !x.is_finite() || !y.is_finite()) {
        return None;
    }
    let n = points.len() as f64;
    let mean_x = points.iter().map(|(x, _)| x).sum::<f64>() / n;
    let mean_y = points.iter().map(|(_, y)| y).sum::<f64>() / n;
    // Sums over deviations from the means: sums of squares would cancel where y is megabytes.
    let sum = |term: fn(f64, f64) -> f64| -> f64 {
        points
            .iter()
            .map(|(x, y)| term(x - mean_x, y - mean_y))
            .sum()
    };
    let (xx, xy, yy) = (sum(|x, _| x * x), sum(|x, y| x * y), sum(|_, y| y * y));
    let slope = xy / xx;
    let residual: f64 = points
        .iter()
        .map(|(x, y)| (y - mean_y) - slope * (x - mean_x))
        .map(|error| error * error)
        .sum();
    let degrees = points.len().saturating_sub(2);
    let slope_standard_error = (degrees > 0).then(|| (residual / degrees as f64 / xx).sqrt());
    Some(Regression {
        slope,
        intercept: mean_y - slope * mean_x,
        r_squared: (yy > 0.0).then(|| 1.0 - residual / yy),
        slope_standard_error,
        slope_ci95: slope_standard_error.map(|error| {
            let half = student_t_975(degrees) * error;
            Interval {
                low: slope - half,
                high: slope + half,
            }
        }),
    })
}

/// 95 % interval of the slope of a line through so many `points`, of which no more is known than how
/// straight they lie: what [`Regression::slope_ci95`] was. `None` where that was, or nothing follows.
#[allow(clippy::cast_precision_loss)] // a few points
pub(crate) fn slope_interval(slope: f64, r_squared: f64, points: usize) -> Option<Interval> {
    let degrees = points.checked_sub(2).filter(|degrees| *degrees > 0)?;
    let is_share = r_squared > 0.0 && r_squared <= 1.0;
    let error =
        is_share.then(|| slope.abs() * ((1.0 / r_squared - 1.0) / degrees as f64).sqrt())?;
    let half = student_t_975(degrees) * error;
    Some(Interval {
        low: slope - half,
        high: slope + half,
    })
}

/// The 97.5 % quantile of Student's t distribution; above 30 degrees of freedom by the first terms
/// of its expansion around the normal quantile (Abramowitz and Stegun 26.7.5), right to four digits.
#[allow(clippy::cast_precision_loss)]
fn student_t_975(degrees: usize) -> f64 {
    const TABLE: [f64; 30] = [
        12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160,
        2.145, 2.131, 2.120, 2.110, 2.101, 2.093, 2.086, 2.080, 2.074, 2.069, 2.064, 2.060, 2.056,
        2.052, 2.048, 2.045, 2.042,
    ];
    const NORMAL: f64 = 1.959_964;
    match degrees.checked_sub(1) {
        None => f64::INFINITY,
        Some(row) if row < TABLE.len() => TABLE[row],
        Some(_) => {
            let n = degrees as f64;
            let (z3, z5) = (NORMAL.powi(3), NORMAL.powi(5));
            NORMAL
                + (z3 + NORMAL) / (4.0 * n)
                + (5.0 * z5 + 16.0 * z3 + 3.0 * NORMAL) / (96.0 * n * n)
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn assert_near(found: f64, expected: f64) {
        let scale = expected.abs().max(1.0);
        assert!(
            (found - expected).abs() <= 1e-9 * scale,
            "{found}, expected {expected}"
        );
    }

    #[test]
    fn medians() {
        assert_eq!(median(&[]), None);
        assert_eq!(median(&[1.0, f64::NAN]), None);
        assert_eq!(median(&[7.0]), Some(7.0));
        assert_eq!(median(&[9.0, 1.0, 5.0]), Some(5.0));
        assert_eq!(median(&[9.0, 1.0, 5.0, 6.0]), Some(5.5));
        assert_eq!(median(&[1.0, f64::INFINITY, 2.0]), Some(2.0));
    }

    #[test]
    fn an_interval_needs_two_blocks() {
        assert_eq!(bootstrap_interval(&[], 1), None);
        assert_eq!(bootstrap_interval(&[3.0], 1), None);
        assert!(bootstrap_interval(&[3.0, 4.0], 1).is_some());
    }

    #[test]
    fn up_to_five_blocks_the_interval_is_the_range_and_then_it_is_not() {
        let blocks = [5.0, 1.0, 4.0, 2.0, 3.0, 8.0, 7.0, 6.0, 9.0];
        for n in 2..=5 {
            let expected = Interval {
                low: blocks[..n].iter().copied().fold(f64::INFINITY, f64::min),
                high: blocks[..n].iter().copied().fold(0.0, f64::max),
            };
            assert_eq!(
                bootstrap_interval(&blocks[..n], 7),
                Some(expected),
                "{n} blocks"
            );
        }
        let interval = bootstrap_interval(&blocks, 7).unwrap();
        assert!(interval.low > 1.0 && interval.high < 9.0, "{interval:?}");
    }

    #[test]
    fn the_same_seed_gives_the_same_interval() {
        let blocks = [0.3, 0.1, 0.8, 0.45, 0.2, 0.9, 0.77, 0.31];
        assert_eq!(
            bootstrap_interval(&blocks, 42),
            bootstrap_interval(&blocks, 42)
        );
    }

    /// How often the interval holds the truth when the truth is known: skewed blocks whose median is
    /// ln 2.
    #[test]
    fn the_interval_of_nine_or_more_blocks_holds_the_truth_as_often_as_it_claims() {
        for n in [9, 15] {
            let mut random = ChaCha8Rng::seed_from_u64(2026);
            let runs = 500;
            let hits = (0..runs)
                .filter(|run| {
                    let blocks: Vec<f64> = (0..n)
                        .map(|_| -(1.0 - random.random::<f64>()).ln())
                        .collect();
                    let interval = bootstrap(&blocks, 400, *run).unwrap();
                    (interval.low..=interval.high).contains(&std::f64::consts::LN_2)
                })
                .count();
            let coverage_percent = hits * 100 / 500;
            assert!(
                (90..=97).contains(&coverage_percent),
                "{coverage_percent} % of {n} blocks"
            );
        }
    }

    #[test]
    fn a_ratio_survives_a_machine_that_changes_speed() {
        // Each block runs at another speed; within a block the cell takes three times its control.
        let control: Vec<_> = [1.0, 2.0, 0.5, 8.0].map(Some).to_vec();
        let cell: Vec<_> = control
            .iter()
            .map(|c: &Option<f64>| c.map(|c| 3.0 * c))
            .collect();
        let estimate = ratio_of_blocks(&cell, &control, 1).unwrap();
        assert_near(estimate.ratio, 3.0);
        assert_eq!(
            estimate.ci95,
            Some(Interval {
                low: 3.0,
                high: 3.0
            })
        );
        assert_eq!(estimate.blocks, 4);
    }

    #[test]
    fn only_blocks_in_which_both_were_measured_count() {
        let cell = [Some(4.0), None, Some(6.0), Some(1.0)];
        let control = [Some(2.0), Some(1.0), None, Some(0.0)];
        let estimate = ratio_of_blocks(&cell, &control, 1).unwrap();
        assert_eq!(estimate.blocks, 1);
        assert_eq!(estimate.ci95, None);
        let ratio = estimate.record("setup_latency_ns", "a", "b");
        assert_eq!((ratio.ratio, ratio.ci95_low, ratio.blocks), (2.0, None, 1));
        assert_eq!(ratio_of_blocks(&[None], &[Some(1.0)], 1), None);
        assert_eq!(ratio_of_blocks(&[], &[], 1), None);
    }

    #[test]
    fn an_exact_line() {
        let points: Vec<_> = (0..6)
            .map(f64::from)
            .map(|x| (x, 16_384.0 * x + 5e6))
            .collect();
        let line = regression(&points).unwrap();
        assert_near(line.slope, 16_384.0);
        assert_near(line.intercept, 5e6);
        assert_near(line.r_squared.unwrap(), 1.0);
        assert_near(line.slope_standard_error.unwrap(), 0.0);
    }

    /// x = 1…5, y = 2, 4, 5, 4, 5: slope 0.6, intercept 2.2, r² = 0.6, residual 2.4 over 3 degrees
    /// of freedom and Sxx = 10, so that the slope's standard error is √0.08.
    #[test]
    fn a_line_worked_by_hand() {
        let points = [(1.0, 2.0), (2.0, 4.0), (3.0, 5.0), (4.0, 4.0), (5.0, 5.0)];
        let line = regression(&points).unwrap();
        assert_near(line.slope, 0.6);
        assert_near(line.intercept, 2.2);
        assert_near(line.r_squared.unwrap(), 0.6);
        assert_near(line.slope_standard_error.unwrap(), 0.08_f64.sqrt());
        let interval = line.slope_ci95.unwrap();
        assert_near(interval.low, 0.6 - 3.182 * 0.08_f64.sqrt());
        assert_near(interval.high, 0.6 + 3.182 * 0.08_f64.sqrt());
    }

    #[test]
    fn how_straight_a_line_is_tells_the_interval_of_its_slope() {
        let points = [(1.0, 2.0), (2.0, 4.1), (3.0, 5.8), (4.0, 8.3), (5.0, 9.9)];
        let line = regression(&points).unwrap();
        let found = slope_interval(line.slope, line.r_squared.unwrap(), points.len()).unwrap();
        let expected = line.slope_ci95.unwrap();
        assert_near(found.low, expected.low);
        assert_near(found.high, expected.high);
        for (r_squared, points) in [(0.9, 2), (0.9, 0), (0.0, 5), (f64::NAN, 5), (1.1, 5)] {
            assert_eq!(slope_interval(2.0, r_squared, points), None);
        }
    }

    #[test]
    fn lines_that_are_not_determined() {
        assert_eq!(regression(&[]), None);
        assert_eq!(regression(&[(1.0, 2.0)]), None);
        assert_eq!(regression(&[(1.0, 2.0), (1.0, 3.0)]), None);
        assert_eq!(regression(&[(1.0, 2.0), (2.0, f64::NAN)]), None);
        let exact = regression(&[(1.0, 2.0), (2.0, 4.0)]).unwrap();
        assert_eq!(
            (exact.slope, exact.slope_standard_error, exact.slope_ci95),
            (2.0, None, None)
        );
        let level = regression(&[(1.0, 3.0), (2.0, 3.0), (5.0, 3.0)]).unwrap();
        assert_eq!((level.slope, level.r_squared), (0.0, None));
    }

    #[test]
    fn the_expansion_of_student_t_continues_its_table() {
        for (degrees, expected) in [(30, 2.042), (31, 2.040), (60, 2.000), (120, 1.980)] {
            let found = student_t_975(degrees);
            assert!((found - expected).abs() < 6e-4, "{found} for {degrees}");
        }
    }
}
