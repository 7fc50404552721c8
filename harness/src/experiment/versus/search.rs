//! The highest rate at which nothing fails, with few attempts: doubled until it is too high, then halved in
//! the logarithm.

/// Rates that are this much apart are not told apart.
const NARROW: f64 = 1.08;
/// What a rate is raised or lowered by around one that is known.
const STEP: f64 = 1.12;
/// What a rate is raised or lowered by before both sides are known.
const LEAP: f64 = 2.0;

/// A search under way.
#[derive(Clone, Debug)]
pub(super) struct Ascent {
    next: f64,
    stride: f64,
    clean: Option<f64>,
    unclean: Option<f64>,
    lowest: f64,
    left: u32,
}

impl Ascent {
    /// Nothing is known yet.
    pub(super) fn new(start: f64, attempts: u32) -> Self {
        Self {
            next: start,
            stride: LEAP,
            clean: None,
            unclean: None,
            lowest: start,
            left: attempts,
        }
    }

    /// The rate was `highest` not long ago: one step up from it, or as many down as it takes.
    pub(super) fn around(highest: f64, attempts: u32) -> Self {
        Self {
            next: highest * STEP,
            stride: STEP,
            ..Self::new(highest, attempts)
        }
    }

    /// What to try next; `None` when the search is over.
    pub(super) fn next(&self) -> Option<f64> {
        let is_settled = match (self.clean, self.unclean) {
            (Some(clean), Some(unclean)) => unclean / clean <= NARROW.max(self.resolution()),
            (Some(_), None) => self.stride == STEP,
            (None, _) => false,
        };
        (self.left > 0 && !is_settled).then_some(self.next)
    }

    /// Around a known rate there is nothing to be halved.
    fn resolution(&self) -> f64 {
        if self.stride == STEP {
            STEP * STEP
        } else {
            NARROW
        }
    }

    /// What came of the rate.
    pub(super) fn tell(&mut self, rate: f64, is_clean: bool) {
        self.left -= 1;
        self.lowest = self.lowest.min(rate);
        if is_clean {
            self.clean = Some(rate);
        } else {
            self.unclean = Some(rate);
        }
        self.next = match (self.clean, self.unclean) {
            (Some(clean), Some(unclean)) => (clean * unclean).sqrt(),
            (Some(clean), None) => clean * self.stride,
            (None, Some(unclean)) => unclean / self.stride,
            (None, None) => rate,
        };
    }

    /// The lowest rate that was tried.
    pub(super) fn lowest_tried(&self) -> f64 {
        self.lowest
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    /// The highest clean rate that `ascent` finds of a caller that can do `limit`, and the attempts it took.
    fn find(mut ascent: Ascent, limit: f64) -> (Option<f64>, u32) {
        let mut attempts = 0;
        let mut best: Option<f64> = None;
        while let Some(rate) = ascent.next() {
            attempts += 1;
            let is_clean = rate <= limit;
            if is_clean {
                best = Some(best.map_or(rate, |best| best.max(rate)));
            }
            ascent.tell(rate, is_clean);
        }
        (best, attempts)
    }

    #[test]
    fn comes_within_eight_percent_in_a_few_attempts() {
        for limit in [700.0, 4_999.0, 5_000.0, 12_345.0, 61_000.0] {
            let (found, attempts) = find(Ascent::new(5_000.0, 12), limit);
            let found = found.unwrap();
            assert!(
                found <= limit && found * NARROW >= limit,
                "{limit}: {found}"
            );
            assert!(attempts <= 9, "{limit}: {attempts}");
        }
    }

    #[test]
    fn around_a_known_rate_it_goes_one_step_up_or_as_many_down_as_it_takes() {
        let around = |limit| find(Ascent::around(1_000.0, 5), limit);
        let (up, attempts) = around(2_000.0);
        assert_eq!((up.unwrap(), attempts), (1_120.0, 1));
        let (same, attempts) = around(1_001.0);
        assert!((same.unwrap() - 1_000.0).abs() < 1e-6 && attempts == 2);
        let (down, attempts) = around(850.0);
        assert!(
            (down.unwrap() - 1_120.0 / STEP.powi(3)).abs() < 1e-6,
            "{down:?}"
        );
        assert_eq!(attempts, 4);
    }

    #[test]
    fn gives_up_when_attempts_are_used_up() {
        assert_eq!(find(Ascent::new(5_000.0, 3), 1.0), (None, 3));
        let mut ascent = Ascent::new(4_000.0, 2);
        ascent.tell(4_000.0, false);
        ascent.tell(2_000.0, false);
        assert_eq!((ascent.next(), ascent.lowest_tried()), (None, 2_000.0));
    }
}
