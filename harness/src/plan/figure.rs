//! Figures with their 95 % interval, and what becomes of the interval when figures are combined.
//!
//! The cells of a run were measured on one machine, which changes its speed for minutes at a time: their
//! errors are not independent, and nobody knows how they hang together. So ends are combined as
//! worst with worst and best with best, which holds however they do, and is wider than a root of squares.
//! Factors are exact and never negative, so that ends keep their order.

use hopbench::record::Metric;
use serde::Serialize;

use crate::statistics::Interval;

/// A figure, and where it lies with 95 %.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(crate) struct Figure {
    pub(crate) value: f64,
    /// `None` when a part of it was measured in one block and has none.
    pub(crate) ci95: Option<Interval>,
}

impl Figure {
    /// What is given and not measured.
    pub(crate) fn exact(value: f64) -> Self {
        Self::measured(
            value,
            Some(Interval {
                low: value,
                high: value,
            }),
        )
    }

    /// What was measured; an interval that does not hold the value is widened to it.
    pub(crate) fn measured(value: f64, ci95: Option<Interval>) -> Self {
        let ci95 = ci95.map(|ci95| ci95.holding(value));
        Self { value, ci95 }
    }

    /// The figure of a metric; `None` when it is missing.
    pub(crate) fn of(metric: &Metric) -> Option<Self> {
        let ci95 = metric.ci95_low.zip(metric.ci95_high);
        let ci95 = ci95.map(|(low, high)| Interval { low, high });
        Some(Self::measured(metric.value?, ci95))
    }

    /// With another interval beside its own: from the lower of the lower ends to the higher of the
    /// higher ones. One that is unknown adds nothing.
    pub(crate) fn or_within(self, other: Option<Interval>) -> Self {
        let ci95 = match (self.ci95, other) {
            (Some(own), Some(other)) => Some(own.holding(other.low).holding(other.high)),
            (own, other) => own.or(other),
        };
        Self::measured(self.value, ci95)
    }

    /// What `rise`, which keeps the order of figures, makes of it.
    fn through(self, rise: impl Fn(f64) -> f64) -> Self {
        Self {
            value: rise(self.value),
            ci95: self.ci95.map(|ci95| Interval {
                low: rise(ci95.low),
                high: rise(ci95.high),
            }),
        }
    }

    /// So many times it; `factor` is not negative.
    pub(crate) fn scaled(self, factor: f64) -> Self {
        self.through(|value| value * factor)
    }

    /// So much more, or less where `offset` is below zero.
    pub(crate) fn shifted(self, offset: f64) -> Self {
        self.through(|value| value + offset)
    }

    /// The same, but nowhere below `least`.
    pub(crate) fn at_least(self, least: f64) -> Self {
        self.through(|value| value.max(least))
    }

    /// The next whole number.
    pub(crate) fn rounded_up(self) -> Self {
        self.through(f64::ceil)
    }

    /// Both together.
    pub(crate) fn plus(self, other: Self) -> Self {
        Self {
            value: self.value + other.value,
            ci95: self.ci95.zip(other.ci95).map(|(a, b)| Interval {
                low: a.low + b.low,
                high: a.high + b.high,
            }),
        }
    }

    /// How often it goes into `whole`.
    pub(crate) fn dividing(self, whole: f64) -> Self {
        Self {
            value: whole / self.value,
            ci95: self.ci95.map(|ci95| Interval {
                low: whole / ci95.high,
                high: whole / ci95.low,
            }),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn figure(low: f64, value: f64, high: f64) -> Figure {
        Figure::measured(value, Some(Interval { low, high }))
    }

    #[test]
    fn ends_are_combined_worst_with_worst() {
        let sum = figure(1.0, 2.0, 4.0).plus(figure(10.0, 20.0, 30.0));
        assert_eq!(sum, figure(11.0, 22.0, 34.0));
        assert_eq!(figure(1.0, 2.0, 4.0).scaled(3.0), figure(3.0, 6.0, 12.0));
        assert_eq!(figure(1.0, 2.0, 4.0).dividing(8.0), figure(2.0, 4.0, 8.0));
        assert_eq!(
            figure(-1.0, 0.5, 1.2).at_least(0.0).rounded_up(),
            figure(0.0, 1.0, 2.0)
        );
    }

    #[test]
    fn what_has_no_interval_takes_it_from_a_sum() {
        let without = Figure::measured(5.0, None);
        assert_eq!(figure(1.0, 2.0, 3.0).plus(without).ci95, None);
        assert_eq!(
            Figure::exact(1.0).plus(figure(1.0, 2.0, 3.0)),
            figure(2.0, 3.0, 4.0)
        );
    }

    #[test]
    fn two_intervals_are_one_that_holds_both_and_the_value() {
        let other = Interval {
            low: 0.5,
            high: 2.5,
        };
        assert_eq!(
            figure(1.0, 2.0, 4.0).or_within(Some(other)),
            figure(0.5, 2.0, 4.0)
        );
        let alone = Figure::measured(3.0, None).or_within(Some(other));
        assert_eq!(
            alone.ci95,
            Some(Interval {
                low: 0.5,
                high: 3.0
            })
        );
    }

    #[test]
    fn a_metric_is_a_figure_unless_it_is_missing() {
        let key = "server_cpu_ns_per_operation";
        let metric = Metric::of(key, Some(7.0)).with_interval(Some((6.0, 9.0)));
        assert_eq!(Figure::of(&metric), Some(figure(6.0, 7.0, 9.0)));
        assert_eq!(Figure::of(&Metric::missing(key)), None);
        assert_eq!(Figure::of(&Metric::of(key, Some(7.0))).unwrap().ci95, None);
    }
}
