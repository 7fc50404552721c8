//! How often something happened, and how often it would happen if one went on.

use super::Interval;

/// So many of so many.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Proportion {
    pub(crate) hits: u32,
    pub(crate) of: u32,
}

/// Halvings of an interval of length 1: beyond what an `f64` tells.
const HALVINGS: u32 = 60;

impl Proportion {
    /// The share; `None` of nothing.
    pub(crate) fn share(self) -> Option<f64> {
        (self.of > 0).then(|| f64::from(self.hits) / f64::from(self.of))
    }

    /// The exact 95 % interval of Clopper and Pearson: the shares under which neither so few hits nor so
    /// many would be a surprise of 2.5 %. `None` of nothing.
    pub(crate) fn ci95(self) -> Option<Interval> {
        self.share()?;
        let tail = 0.025;
        let low = match self.hits {
            0 => 0.0,
            // So many hits or more: one minus fewer.
            hits => root(|p| 1.0 - at_most(hits - 1, self.of, p) - tail),
        };
        let high = if self.hits == self.of {
            1.0
        } else {
            root(|p| tail - at_most(self.hits, self.of, p))
        };
        Some(Interval { low, high })
    }
}

/// Probability of at most `hits` of `of` where each has the probability `p`.
fn at_most(hits: u32, of: u32, p: f64) -> f64 {
    if p <= 0.0 {
        return 1.0;
    }
    if p >= 1.0 {
        return if hits >= of { 1.0 } else { 0.0 };
    }
    // By logarithms, since the first term of many repetitions would underflow.
    let mut log_term = f64::from(of) * (1.0 - p).ln();
    let mut sum = log_term.exp();
    for k in 1..=hits {
        log_term += (f64::from(of - k + 1) / f64::from(k)).ln() + (p / (1.0 - p)).ln();
        sum += log_term.exp();
    }
    sum.min(1.0)
}

/// Where a function that rises from below zero to above crosses it, between 0 and 1.
fn root(f: impl Fn(f64) -> f64) -> f64 {
    let (mut low, mut high) = (0.0, 1.0);
    for _ in 0..HALVINGS {
        let middle = f64::midpoint(low, high);
        if f(middle) < 0.0 {
            low = middle;
        } else {
            high = middle;
        }
    }
    f64::midpoint(low, high)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    /// Closed forms where there are some, and textbook values: 95 of 100 is 0.8872 to 0.9836.
    #[test]
    fn intervals_are_those_of_clopper_and_pearson() {
        let none = 1.0 - 0.025_f64.powf(0.1);
        let cases = [
            (0, 10, 0.0, none),
            (10, 10, 1.0 - none, 1.0),
            (95, 100, 0.887_165, 0.983_568),
            (5, 10, 0.187_086, 0.812_914),
        ];
        for (hits, of, low, high) in cases {
            let found = Proportion { hits, of }.ci95().unwrap();
            assert!((found.low - low).abs() < 1e-5, "{found:?} of {hits}/{of}");
            assert!((found.high - high).abs() < 1e-5, "{found:?} of {hits}/{of}");
        }
        let nothing = Proportion { hits: 0, of: 0 };
        assert_eq!((nothing.share(), nothing.ci95()), (None, None));
        let many = Proportion {
            hits: 5_000,
            of: 10_000,
        };
        let many = many.ci95().unwrap();
        assert!((many.low - 0.490_15).abs() < 1e-4, "{many:?}");
    }
}
