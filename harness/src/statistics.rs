//! From repeated measurements to figures with their uncertainty.
//!
//! Blocks are few and not normally distributed, since a shared machine slows down for minutes at a
//! time: hence ratios formed inside a block, and intervals that suppose as little as can be of the
//! noise ([`interval`]). Regressions serve the memory experiments, where the errors are small and the
//! question is a slope.

pub(crate) mod fit;
mod interval;
pub(crate) mod proportion;
mod regression;
pub(crate) mod test;

use hopbench::record::Ratio;

pub(crate) use interval::{BLOCKS_OF_A_LOOK_MIN, Interval, Stopping, of_median};
pub(crate) use regression::{LINE_POINTS_MIN, Regression, regression, slope_interval};

/// The median; of an even number of values the mean of the middle two. `None` of no values, or when
/// one is not a number.
pub(crate) fn median(values: &[f64]) -> Option<f64> {
    if values.is_empty() || values.iter().any(|value| value.is_nan()) {
        return None;
    }
    let mut sorted = values.to_vec();
    sorted.sort_unstable_by(f64::total_cmp);
    Some(middle(&sorted))
}

/// The median of values that are in order, of which there is one at least.
fn middle(sorted: &[f64]) -> f64 {
    let middle = sorted.len() / 2;
    if sorted.len() % 2 == 1 {
        sorted[middle]
    } else {
        f64::midpoint(sorted[middle - 1], sorted[middle])
    }
}

/// A cell against its control, block by block.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct RatioEstimate {
    /// Pseudo-median of the blocks' ratios: the median of the geometric means of all pairs of blocks, each
    /// with itself too (Hodges and Lehmann). It is as robust as a median against a block that the machine
    /// spoilt, and wastes little of the others.
    pub(crate) ratio: f64,
    /// See [`interval`]; `None` with fewer than two blocks.
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
            precision: None,
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
    stopping: Stopping,
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
    let (ratio, ci95) = interval::of_pseudo_median(&ratios, stopping)?;
    Some(RatioEstimate {
        ratio,
        ci95,
        blocks: u32::try_from(ratios.len()).expect("a run has fewer than 2^32 blocks"),
    })
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
    fn a_ratio_survives_a_machine_that_changes_speed() {
        // Each block runs at another speed; within a block the cell takes three times its control.
        for blocks in [4, 8] {
            let speeds = [1.0, 2.0, 0.5, 8.0, 3.0, 0.25, 1.5, 1.0];
            let control: Vec<_> = speeds[..blocks].iter().copied().map(Some).collect();
            let cell: Vec<_> = control
                .iter()
                .map(|c: &Option<f64>| c.map(|c| 3.0 * c))
                .collect();
            let estimate = ratio_of_blocks(&cell, &control, Stopping::Fixed).unwrap();
            assert_near(estimate.ratio, 3.0);
            let interval = estimate.ci95.unwrap();
            assert_near(interval.low, 3.0);
            assert_near(interval.high, 3.0);
            assert!((interval.low..=interval.high).contains(&estimate.ratio));
            assert_eq!(estimate.blocks, u32::try_from(blocks).unwrap());
        }
    }

    #[test]
    fn only_blocks_in_which_both_were_measured_count() {
        let cell = [Some(4.0), None, Some(6.0), Some(1.0)];
        let control = [Some(2.0), Some(1.0), None, Some(0.0)];
        let estimate = ratio_of_blocks(&cell, &control, Stopping::Fixed).unwrap();
        assert_eq!(estimate.blocks, 1);
        assert_eq!(estimate.ci95, None);
        let ratio = estimate.record("setup_latency_ns", "a", "b");
        assert_eq!((ratio.ci95_low, ratio.blocks), (None, 1));
        assert_near(ratio.ratio, 2.0);
        let none = |above: &[Option<f64>], below: &[Option<f64>]| {
            ratio_of_blocks(above, below, Stopping::Fixed)
        };
        assert_eq!(none(&[None], &[Some(1.0)]), None);
        assert_eq!(none(&[], &[]), None);
    }

    /// A block that the machine spoilt by a factor of ten moves a ratio less than it moves a mean.
    #[test]
    fn a_spoilt_block_does_not_decide() {
        let mut cell = [1.02, 0.99, 1.01, 1.0, 0.98, 1.03, 0.97, 1.0].map(Some);
        let control = [Some(1.0); 8];
        cell[3] = Some(10.0);
        let estimate = ratio_of_blocks(&cell, &control, Stopping::Fixed).unwrap();
        assert!((0.98..1.05).contains(&estimate.ratio), "{estimate:?}");
    }
}
