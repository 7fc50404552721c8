//! Lines through the readings of several blocks: the readings behind a slope, how sure the slope is,
//! and which readings lie off it.

use hopbench::record::Fit;

use super::interval::student_t_975;
use super::median;

/// Off the line by more than so many robust standard deviations…
const OUTLYING_DEVIATIONS: f64 = 3.5;
/// … and by more than this part of what the line rises: of readings that agree to the byte, the
/// smallest difference is many deviations.
const OUTLYING_RISE: f64 = 0.01;
/// From the median of absolute deviations to the standard deviation of a normal distribution.
const MAD_TO_DEVIATION: f64 = 1.4826;

/// The fit to `readings`, one list a block, each in the order of `at`. `None` when they do not
/// determine a slope: fewer than two places, a block of another length, or a reading that is not finite.
pub(crate) fn of(at: Vec<f64>, readings: Vec<Vec<f64>>) -> Option<Fit> {
    let is_whole = |block: &Vec<f64>| {
        block.len() == at.len() && block.iter().all(|reading| reading.is_finite())
    };
    let is_sloping = at.is_sorted_by(|a, b| a < b) && at.len() >= 2;
    if !is_sloping || readings.is_empty() || !readings.iter().all(is_whole) {
        return None;
    }
    let common = CommonSlope::of(&at, &readings);
    let half = common.half_width();
    Some(Fit {
        ci95_low: half.map(|half| common.slope - half),
        ci95_high: half.map(|half| common.slope + half),
        outliers: outliers(&at, &readings),
        at,
        readings,
    })
}

/// Least squares with one slope and an intercept for each block.
struct CommonSlope {
    slope: f64,
    /// Sum of squares of `at` around its mean, over all blocks.
    xx: f64,
    /// Sum of squares of what the lines leave.
    residual: f64,
    degrees: usize,
}

impl CommonSlope {
    fn of(at: &[f64], readings: &[Vec<f64>]) -> Self {
        let x = centred(at);
        let (mut xx, mut xy, mut yy) = (0.0, 0.0, 0.0);
        for block in readings {
            for (x, y) in x.iter().zip(centred(block)) {
                xx += x * x;
                xy += x * y;
                yy += y * y;
            }
        }
        let slope = xy / xx;
        Self {
            slope,
            xx,
            // Rounding may leave less than nothing of an exact line.
            residual: (yy - slope * xy).max(0.0),
            degrees: (readings.len() * (at.len() - 1)).saturating_sub(1),
        }
    }

    /// Half of the 95 % interval; `None` without freedom.
    fn half_width(&self) -> Option<f64> {
        let variance = self.residual / self.degrees as f64 / self.xx;
        (self.degrees > 0).then(|| student_t_975(self.degrees) * variance.sqrt())
    }
}

fn centred(values: &[f64]) -> Vec<f64> {
    let mean = values.iter().sum::<f64>() / values.len() as f64;
    values.iter().map(|value| value - mean).collect()
}

/// Block and place of each reading that lies off, as [`Fit::outliers`] has it. A line of least squares
/// bends towards what lies off, one of medians (Theil–Sen) does not.
fn outliers(at: &[f64], readings: &[Vec<f64>]) -> Vec<(u32, u32)> {
    let slopes: Vec<f64> = readings.iter().map(|block| theil_sen(at, block)).collect();
    let rise = (median_of(&slopes) * (at[at.len() - 1] - at[0])).abs();
    let off = |(block, slope): (&Vec<f64>, &f64)| -> Vec<f64> {
        let left: Vec<f64> = block.iter().zip(at).map(|(y, x)| y - slope * x).collect();
        let level = median_of(&left);
        left.iter().map(|left| (left - level).abs()).collect()
    };
    let off: Vec<Vec<f64>> = readings.iter().zip(&slopes).map(off).collect();
    let deviation = MAD_TO_DEVIATION * median_of(&off.concat());
    let limit = (OUTLYING_DEVIATIONS * deviation).max(OUTLYING_RISE * rise);
    let mut outliers = Vec::new();
    for (block, off) in (0..).zip(&off) {
        let outlying = (0..).zip(off).filter(|(_, off)| **off > limit);
        outliers.extend(outlying.map(|(place, _)| (block, place)));
    }
    outliers
}

/// Median of the slopes between all pairs.
fn theil_sen(at: &[f64], readings: &[f64]) -> f64 {
    let mut slopes = Vec::new();
    for (later, (x, y)) in at.iter().zip(readings).enumerate() {
        let earlier = at[..later].iter().zip(readings);
        slopes.extend(earlier.map(|(before, reading)| (y - reading) / (x - before)));
    }
    median_of(&slopes)
}

fn median_of(values: &[f64]) -> f64 {
    median(values).expect("there are values, and all of them are numbers")
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::statistics::regression;

    const AT: [f64; 5] = [14.0, 28.0, 56.0, 112.0, 224.0];

    fn line(slope: f64, fixed: f64) -> Vec<f64> {
        AT.iter().map(|at| slope * at + fixed).collect()
    }

    #[test]
    fn one_block_has_the_interval_of_its_regression() {
        let readings = [30_100.0, 58_000.0, 113_950.0, 226_200.0, 449_800.0];
        let points: Vec<(f64, f64)> = AT.into_iter().zip(readings).collect();
        let expected = regression(&points).unwrap().slope_ci95.unwrap();
        let fit = of(AT.to_vec(), vec![readings.to_vec()]).unwrap();
        assert!((fit.ci95_low.unwrap() - expected.low).abs() < 1e-6);
        assert!((fit.ci95_high.unwrap() - expected.high).abs() < 1e-6);
        assert_eq!(fit.outliers, []);
    }

    /// Blocks that start from different levels are no worse for it.
    #[test]
    fn a_block_has_a_fixed_cost_of_its_own() {
        let readings = vec![line(2_000.0, 1e6), line(2_000.0, 9e6)];
        let fit = of(AT.to_vec(), readings.clone()).unwrap();
        assert!((fit.ci95_low.unwrap() - 2_000.0).abs() < 1e-3);
        assert!((fit.ci95_high.unwrap() - 2_000.0).abs() < 1e-3);
        assert_eq!(fit.readings, readings);
    }

    #[test]
    fn what_lies_off_is_named_and_kept() {
        let mut readings = vec![
            line(2_000.0, 1e6),
            line(2_000.0, 1.1e6),
            line(2_000.0, 0.9e6),
        ];
        readings[1][3] += 60_000.0;
        // Within 1 % of the rise, although everything else agrees to the byte.
        readings[2][0] += 3_000.0;
        let fit = of(AT.to_vec(), readings.clone()).unwrap();
        assert_eq!(fit.outliers, [(1, 3)]);
        assert_eq!(fit.readings, readings);
        assert!(fit.ci95_high.unwrap() - fit.ci95_low.unwrap() > 10.0);
    }

    #[test]
    fn noise_has_no_outliers_and_what_is_more_than_noise_is_one() {
        let noise = [900.0, -1_400.0, 300.0, 2_100.0, -1_700.0];
        let noisy = |factor: f64| -> Vec<f64> {
            let pairs = line(100.0, 5e6).into_iter().zip(noise);
            pairs.map(|(y, noise)| y + factor * noise).collect()
        };
        let fit = of(AT.to_vec(), vec![noisy(1.0), noisy(-1.0)]).unwrap();
        assert_eq!(fit.outliers, []);
        let mut readings = vec![noisy(1.0), noisy(-1.0)];
        readings[0][2] += 40_000.0;
        assert_eq!(of(AT.to_vec(), readings).unwrap().outliers, [(0, 2)]);
    }

    #[test]
    fn without_a_slope_there_is_no_fit() {
        assert_eq!(of(vec![], vec![vec![]]), None);
        assert_eq!(of(vec![1.0], vec![vec![1.0]]), None);
        assert_eq!(of(vec![1.0, 1.0], vec![vec![1.0, 2.0]]), None);
        assert_eq!(of(vec![1.0, 2.0], vec![]), None);
        assert_eq!(of(vec![1.0, 2.0], vec![vec![1.0]]), None);
        assert_eq!(of(vec![1.0, 2.0], vec![vec![1.0, f64::NAN]]), None);
        let two = of(vec![1.0, 2.0], vec![vec![1.0, 3.0]]).unwrap();
        assert_eq!((two.ci95_low, two.outliers), (None, vec![]));
    }
}
