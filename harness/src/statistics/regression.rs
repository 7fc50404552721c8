//! Straight lines through points, and how sure their slopes are.

use super::interval::{Interval, student_t_975};

/// Fewer points than this make no line that says anything: through two, every one is exact.
pub(crate) const LINE_POINTS_MIN: usize = 3;

/// A straight line through points, by ordinary least squares.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Regression {
    /// Growth of y for one more x.
    pub(crate) slope: f64,
    /// y at x = 0.
    pub(crate) intercept: f64,
    /// The middle of the points, about which the line turns if its slope is another.
    mean_x: f64,
    /// Share of y's variance that the line explains, 0 to 1; `None` when y does not vary.
    pub(crate) r_squared: Option<f64>,
    /// Standard error of the slope; `None` of two points, through which every line is exact.
    pub(crate) slope_standard_error: Option<f64>,
    /// 95 % interval of the slope, by Student's t with n − 2 degrees of freedom; `None` likewise. It
    /// supposes errors that are independent of each other and of one size.
    pub(crate) slope_ci95: Option<Interval>,
}

impl Regression {
    /// y at `x`.
    pub(crate) fn at(&self, x: f64) -> f64 {
        self.intercept + self.slope * x
    }

    /// Between where y may lie there, as the slope may be: the steeper the line, the less it leaves for what is before
    /// its middle.
    pub(crate) fn ci95_at(&self, x: f64) -> Option<Interval> {
        let turned = |slope: f64| self.at(self.mean_x) + slope * (x - self.mean_x);
        let ends = self.slope_ci95?;
        let (one, other) = (turned(ends.low), turned(ends.high));
        Some(Interval {
            low: one.min(other),
            high: one.max(other),
        })
    }
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
        mean_x,
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
}
