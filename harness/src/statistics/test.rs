//! Whether a difference is more than chance explains: Student's t over blocks, and what is left of many
//! such answers when the share of false ones is to be bounded.

use statrs::distribution::{ContinuousCDF, StudentsT};

use super::Interval;

/// A mean difference with what is known of its error.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Difference {
    /// Mean of HEAD less mean of BASE, or mean of the pairs' differences.
    pub(crate) mean: f64,
    /// 95 % interval.
    pub(crate) ci95: Interval,
    /// How likely a difference at least so far from zero is if there is none.
    pub(crate) p: f64,
}

/// Fewer figures a side tell nothing of their spread that could be relied on.
pub(crate) const FIGURES_MIN: usize = 3;

/// What is known of a mean.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Sample {
    mean: f64,
    variance_of_mean: f64,
    degrees: f64,
}

impl Sample {
    /// Of independent figures; `None` with fewer than three, or when one is not finite.
    pub(crate) fn of(figures: &[f64]) -> Option<Self> {
        let is_enough = figures.len() >= FIGURES_MIN;
        if !is_enough || figures.iter().any(|figure| !figure.is_finite()) {
            return None;
        }
        let n = figures.len() as f64;
        let mean = figures.iter().sum::<f64>() / n;
        let squares: f64 = figures.iter().map(|figure| (figure - mean).powi(2)).sum();
        Some(Self {
            mean,
            variance_of_mean: squares / (n - 1.0) / n,
            degrees: n - 1.0,
        })
    }

    /// Of so many `blocks` of which only the median and its bootstrap interval are known; `None` with
    /// fewer than three. Up to five the interval is their range, which tells their deviation (by the
    /// factors of quality control charts); of more it is taken for a normal one.
    pub(crate) fn of_interval(median: f64, interval: Interval, blocks: u32) -> Option<Self> {
        const RANGE_IN_DEVIATIONS: [f64; 3] = [1.693, 2.059, 2.326];
        let width = interval.high - interval.low;
        let n = f64::from(blocks);
        let error = match blocks {
            0..3 => return None,
            3..6 => width / RANGE_IN_DEVIATIONS[blocks as usize - FIGURES_MIN] / n.sqrt(),
            6.. => width / (2.0 * 1.96),
        };
        let sample = Self {
            mean: median,
            variance_of_mean: error * error,
            degrees: n - 1.0,
        };
        (median.is_finite() && error.is_finite()).then_some(sample)
    }

    /// This, a mean of differences, against none: the t-test of pairs.
    pub(crate) fn against_zero(&self) -> Difference {
        Difference::of(self.mean, self.variance_of_mean, self.degrees)
    }

    /// This less `base`, which have nothing to do with each other and whose spreads may differ: Welch's
    /// t-test.
    pub(crate) fn against(&self, base: &Self) -> Difference {
        let variance = base.variance_of_mean + self.variance_of_mean;
        let share = |sample: &Self| sample.variance_of_mean.powi(2) / sample.degrees;
        let degrees = variance.powi(2) / (share(base) + share(self));
        // Without any spread the degrees do not matter.
        let degrees = if degrees.is_finite() { degrees } else { 1.0 };
        Difference::of(self.mean - base.mean, variance, degrees)
    }
}

impl Difference {
    fn of(mean: f64, variance_of_mean: f64, degrees: f64) -> Self {
        let error = variance_of_mean.sqrt();
        let students = StudentsT::new(0.0, 1.0, degrees).expect("degrees are positive");
        let half = students.inverse_cdf(0.975) * error;
        let p = if mean == 0.0 {
            1.0
        } else {
            // Without any spread t is infinite, and the difference is certain.
            2.0 * students.cdf(-(mean / error).abs())
        };
        Self {
            mean,
            ci95: Interval {
                low: mean - half,
                high: mean + half,
            },
            p,
        }
    }
}

/// The greatest p that counts as a finding, when of all findings at most the share `rate` is to be false
/// (Benjamini and Hochberg 1995); `None` when nothing is found. It holds for tests that are
/// independent or depend on each other positively, as metrics of one cell do.
pub(crate) fn discovery_limit(all_p: &[f64], rate: f64) -> Option<f64> {
    let mut sorted = all_p.to_vec();
    sorted.sort_unstable_by(f64::total_cmp);
    let n = sorted.len() as f64;
    let found = |(rank, p): &(usize, &f64)| **p <= rate * (rank + 1) as f64 / n;
    let last = sorted.iter().enumerate().rfind(found);
    last.map(|(_, p)| *p)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use rand::{Rng as _, SeedableRng as _};
    use rand_chacha::ChaCha8Rng;

    use super::*;

    /// Differences 0.1, 0.2, 0 and 0.5: t = 1.8516 with 3 degrees, for which Student's distribution has a
    /// closed form. Without the pairs t = √3 with 3.84 degrees, integrated numerically.
    #[test]
    fn tests_worked_by_other_means() {
        let (head, base) = ([1.1, 1.3, 1.2, 1.6], [1.0, 1.1, 1.2, 1.1]);
        let differences: Vec<f64> = head
            .iter()
            .zip(base)
            .map(|(head, base)| head - base)
            .collect();
        let pairs = Sample::of(&differences).unwrap().against_zero();
        assert!((pairs.mean - 0.2).abs() < 1e-12);
        assert!((pairs.p - 0.161_161_847).abs() < 1e-6, "{}", pairs.p);
        let welch = unpaired(&base, &head);
        assert!((welch.mean - 0.2).abs() < 1e-12);
        assert!((welch.p - 0.161_279_459).abs() < 1e-6, "{}", welch.p);
    }

    fn unpaired(base: &[f64], head: &[f64]) -> Difference {
        Sample::of(head)
            .unwrap()
            .against(&Sample::of(base).unwrap())
    }

    #[test]
    fn what_does_not_vary_is_certain() {
        let same = unpaired(&[3.0; 3], &[3.0; 4]);
        assert_eq!((same.mean, same.p), (0.0, 1.0));
        let other = unpaired(&[3.0; 3], &[4.0; 3]);
        assert_eq!((other.mean, other.p), (1.0, 0.0));
        assert_eq!((other.ci95.low, other.ci95.high), (1.0, 1.0));
        assert_eq!(Sample::of(&[1.0, 2.0]), None);
        assert_eq!(Sample::of(&[1.0, 2.0, f64::NAN]), None);
    }

    #[test]
    fn an_interval_tells_about_as_much_as_its_blocks() {
        let blocks = [10.0, 11.0, 9.5, 10.4, 9.8];
        let known = Sample::of(&blocks).unwrap();
        let range = Interval {
            low: 9.5,
            high: 11.0,
        };
        let told = Sample::of_interval(10.0, range, 5).unwrap();
        let ratio = told.variance_of_mean / known.variance_of_mean;
        assert!((0.5..2.0).contains(&ratio), "{ratio}");
        assert_eq!(Sample::of_interval(10.0, range, 2), None);
        assert!(Sample::of_interval(10.0, range, 9).is_some());
    }

    #[test]
    fn a_limit_is_that_of_benjamini_and_hochberg() {
        // The example of their paper (1995, §3.2): four are found at 5 %.
        let p = [
            0.0001, 0.0004, 0.0019, 0.0095, 0.0201, 0.0278, 0.0298, 0.0344, 0.0459, 0.3240, 0.4262,
            0.5719, 0.6528, 0.7590, 1.0,
        ];
        assert_eq!(discovery_limit(&p, 0.05), Some(0.0095));
        assert_eq!(discovery_limit(&[0.2, 0.9], 0.05), None);
        assert_eq!(discovery_limit(&[], 0.05), None);
    }

    /// Of many comparisons of nothing with nothing, hardly one finds anything.
    #[test]
    fn nothing_is_found_in_noise() {
        let mut random = ChaCha8Rng::seed_from_u64(7);
        let mut block = || (0..12).map(|_| random.random::<f64>()).sum::<f64>();
        let mut false_runs = 0;
        for _ in 0..100 {
            let all: Vec<f64> = (0..300)
                .map(|_| {
                    let side =
                        |of: &mut dyn FnMut() -> f64| (0..6).map(|_| of()).collect::<Vec<_>>();
                    let (base, head) = (side(&mut block), side(&mut block));
                    unpaired(&base, &head).p
                })
                .collect();
            false_runs += usize::from(discovery_limit(&all, 0.05).is_some());
        }
        assert!(false_runs <= 10, "{false_runs} of 100");
    }
}
