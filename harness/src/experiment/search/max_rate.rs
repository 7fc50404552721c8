//! The highest rate with zero failures, by the algorithm of RFC 7502 §4.10. Sans-IO: it is asked for a
//! rate, and told what came of it.
//!
//! Beside the RFC's, there are bounds of steps and time, and a lowest rate of 1: its `while (TRUE)` does
//! not end on a server that fails at random. A step during which the machine stood still is taken once more.

use super::finding::{Bounds, End, Finding, Ledger, Observation, lowest_above};

/// Parameters of test, named as in the RFC in brackets.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct MaxRateParameters {
    /// The first session attempt rate (`r`).
    pub(crate) initial_per_second: f64,
    /// Traffic increase weight (`w`), above 0 and at most 1.
    pub(crate) increase_weight: f64,
    /// Traffic decrease weight (`d`).
    pub(crate) decrease_weight: f64,
    /// Steps without failures at no higher a rate than before that make the search converge; 10 in the
    /// RFC (`count`).
    pub(crate) confirmations: u32,
    /// What the RFC has not.
    pub(crate) bounds: Bounds,
}

/// The RFC's default of the decrease weight.
pub(crate) fn usual_decrease_weight(increase_weight: f64) -> f64 {
    (increase_weight / 2.0).max(WEIGHT_MIN)
}

/// Weights do not fall beneath this.
const WEIGHT_MIN: f64 = 0.10;

/// The search.
#[derive(Clone, Debug)]
pub(crate) struct MaxRate {
    parameters: MaxRateParameters,
    ledger: Ledger,
    /// `r`, `w`, `d`, `old_r` (none is the RFC's 0) and `count`.
    rate: f64,
    increase: f64,
    decrease: f64,
    held: Option<f64>,
    confirmed: u32,
    /// Whether the last step was spoilt.
    is_again: bool,
    /// Rates at which something failed although the generator kept up, and at which it did not.
    failed: Vec<f64>,
    bound: Vec<f64>,
}

impl MaxRate {
    pub(crate) fn new(parameters: MaxRateParameters) -> Self {
        Self {
            parameters,
            ledger: Ledger::new(parameters.bounds),
            rate: parameters.initial_per_second.floor().max(1.0),
            increase: parameters.increase_weight,
            decrease: parameters.decrease_weight,
            held: None,
            confirmed: 0,
            is_again: false,
            failed: Vec::new(),
            bound: Vec::new(),
        }
    }

    /// The rate of the next step; `None` once the search has ended.
    pub(crate) fn next_per_second(&self) -> Option<f64> {
        self.end().is_none().then_some(self.rate)
    }

    /// Takes what came of the step at [`Self::next_per_second`]. A rate that the generator did not keep
    /// up with is not held, whoever failed.
    pub(crate) fn observe(&mut self, observed: &Observation) {
        self.ledger.enter(observed);
        let rate = self.rate;
        if observed.is_spoilt && !self.is_again {
            self.is_again = true;
            return;
        }
        self.is_again = false;
        if observed.is_generator_bound || observed.failed > 0 || observed.attempted == 0 {
            let kind = if observed.is_generator_bound {
                &mut self.bound
            } else {
                &mut self.failed
            };
            kind.push(rate);
            self.rate = (rate - self.decrease * rate).floor();
            self.decrease = (self.decrease / 2.0).max(WEIGHT_MIN);
            self.increase = (self.increase / 2.0).max(WEIGHT_MIN);
            return;
        }
        if self.held.is_none_or(|held| rate > held) {
            self.held = Some(rate);
        } else {
            self.confirmed += 1;
        }
        self.rate = (rate + self.increase * rate).floor();
    }

    /// What is known by now.
    pub(crate) fn finding(&self) -> Finding {
        let above = |rates: &[f64]| lowest_above(self.held, rates.iter().copied());
        Finding {
            per_second: self.held,
            ceiling_per_second: above(&self.failed),
            bound_per_second: above(&self.bound),
            end: self.end(),
            steps: self.ledger.steps,
            attempted: self.ledger.attempted,
        }
    }

    fn end(&self) -> Option<End> {
        if self.confirmed >= self.parameters.confirmations {
            Some(End::Converged)
        } else if self.rate < 1.0 {
            Some(End::Exhausted)
        } else {
            self.ledger.end()
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::super::simulated::Simulated;
    use super::*;

    const UNBOUNDED: Bounds = Bounds {
        steps_max: 10_000,
        seconds_max: f64::INFINITY,
    };

    fn parameters(initial_per_second: f64, increase_weight: f64) -> MaxRateParameters {
        MaxRateParameters {
            initial_per_second,
            increase_weight,
            decrease_weight: usual_decrease_weight(increase_weight),
            confirmations: 10,
            bounds: UNBOUNDED,
        }
    }

    fn searched(parameters: MaxRateParameters, server: &mut Simulated) -> (Vec<f64>, Finding) {
        let mut search = MaxRate::new(parameters);
        let mut rates = Vec::new();
        while let Some(rate) = search.next_per_second() {
            rates.push(rate);
            search.observe(&server.step(rate));
        }
        (rates, search.finding())
    }

    /// The RFC's pseudocode, line by line.
    fn by_the_letter(r: f64, w: f64, d: f64, n: f64, capacity: f64) -> (Vec<f64>, f64) {
        let (mut r, mut w, mut d) = (r, w, d);
        let (mut old_r, mut count, mut rates) = (0.0, 0, Vec::new());
        loop {
            rates.push(r);
            let s = if r <= capacity { n } else { n - 1.0 };
            if s == n {
                if r > old_r {
                    old_r = r;
                } else {
                    count += 1;
                    if count >= 10 {
                        return (rates, f64::max(r, old_r));
                    }
                }
                r = (r + w * r).floor();
            } else {
                r = (r - d * r).floor();
                d = f64::max(0.10, d / 2.0);
                w = f64::max(0.10, w / 2.0);
            }
        }
    }

    #[test]
    fn every_rate_is_the_one_that_the_rfc_has() {
        for initial in [100.0, 1_000.0, 50_000.0] {
            for weight in [0.1, 0.3, 1.0] {
                for capacity in [150.0, 999.0, 4_321.0, 12_345.0] {
                    let parameters = parameters(initial, weight);
                    let (rates, finding) =
                        searched(parameters, &mut Simulated::of_capacity(capacity));
                    let decrease = parameters.decrease_weight;
                    let (expected, h) = by_the_letter(initial, weight, decrease, 1e3, capacity);
                    assert_eq!(rates, expected, "from {initial} by {weight}: {capacity}");
                    assert_eq!(finding.per_second, Some(h));
                    assert_eq!(finding.end, Some(End::Converged));
                }
            }
        }
    }

    #[test]
    fn a_step_that_was_spoilt_is_taken_once_more() {
        let mut server = Simulated::of_capacity(1_000.0);
        let mut search = MaxRate::new(parameters(100.0, 1.0));
        let mut rates = Vec::new();
        while let Some(rate) = search.next_per_second() {
            // The third and the fourth step, and the sixth.
            let is_spoilt = matches!(rates.len(), 2 | 3 | 5);
            rates.push(rate);
            search.observe(&Observation {
                is_generator_bound: is_spoilt,
                is_spoilt,
                ..server.step(rate)
            });
        }
        // At 400 twice, hence a lower rate next; at 300 and at 450 as if nothing had been.
        assert_eq!(
            rates[..8],
            [100.0, 200.0, 400.0, 400.0, 200.0, 300.0, 300.0, 450.0]
        );
        assert_eq!(search.finding().end, Some(End::Converged));
    }

    /// The weights do not fall beneath 0.1, so the rate that is found lies no more than that beneath.
    #[test]
    fn a_known_capacity_is_found_within_a_tenth() {
        for capacity in [87.0, 333.0, 5_000.0, 77_777.0] {
            for confirmations in [3, 10] {
                let parameters = MaxRateParameters {
                    confirmations,
                    ..parameters(1_000.0, 1.0)
                };
                let (rates, finding) = searched(parameters, &mut Simulated::of_capacity(capacity));
                let found = finding.per_second.unwrap();
                assert!(found <= capacity, "{found} of {capacity}");
                assert!(found > capacity * 0.85, "{found} of {capacity}: {rates:?}");
                let ceiling = finding.ceiling_per_second.unwrap();
                assert!(capacity < ceiling && ceiling < found * 1.35, "{ceiling}");
                assert!(rates.len() <= 45, "{} steps", rates.len());
            }
        }
    }

    #[test]
    fn a_noisy_server_makes_it_end_at_no_more_than_its_capacity() {
        for seed in 0..50 {
            // A step in six fails whatever its rate.
            let mut server = Simulated::noisy(3_000.0, 1.0 / 6.0, seed);
            let bounds = Bounds {
                steps_max: 200,
                seconds_max: f64::INFINITY,
            };
            let parameters = MaxRateParameters {
                bounds,
                ..parameters(100.0, 1.0)
            };
            let (rates, finding) = searched(parameters, &mut server);
            assert!(rates.len() <= 200);
            let found = finding.per_second.unwrap();
            assert!(found <= 3_000.0, "seed {seed}: {found}");
            assert!(finding.end.is_some());
        }
    }

    #[test]
    fn it_ends_whatever_it_meets() {
        // What fails always is tried down to 1 a second.
        let (rates, finding) = searched(parameters(100.0, 0.1), &mut Simulated::of_capacity(0.0));
        assert_eq!(rates.last(), Some(&1.0));
        assert_eq!(
            (finding.per_second, finding.end),
            (None, Some(End::Exhausted))
        );
        assert_eq!(finding.ceiling_per_second, Some(1.0));
        // What never fails is stopped by the number of steps or by time.
        let bounds = Bounds {
            steps_max: 7,
            seconds_max: 1e9,
        };
        let endless = MaxRateParameters {
            bounds,
            ..parameters(100.0, 1.0)
        };
        let (rates, finding) = searched(endless, &mut Simulated::of_capacity(f64::MAX));
        assert_eq!(
            rates,
            [100.0, 200.0, 400.0, 800.0, 1_600.0, 3_200.0, 6_400.0]
        );
        assert_eq!(finding.end, Some(End::Steps));
        assert_eq!(
            (finding.per_second, finding.ceiling_per_second),
            (Some(6_400.0), None)
        );
        let bounds = Bounds {
            steps_max: 100,
            // Each simulated step takes a second.
            seconds_max: 2.5,
        };
        let hurried = MaxRateParameters {
            bounds,
            ..parameters(100.0, 1.0)
        };
        let (rates, finding) = searched(hurried, &mut Simulated::of_capacity(f64::MAX));
        assert_eq!((rates.len(), finding.end), (3, Some(End::Seconds)));
        assert_eq!(finding.attempted, 3 * 1_000);
        // Where a tenth is less than one, floor() keeps the rate, and that converges.
        let (rates, _) = searched(parameters(5.0, 0.1), &mut Simulated::of_capacity(100.0));
        assert_eq!(rates, [5.0; 11]);
    }

    #[test]
    fn a_generator_at_its_limit_is_no_server_at_its_own() {
        let mut server = Simulated {
            generator_limit: 3_500.0,
            ..Simulated::of_capacity(1e6)
        };
        let (_, finding) = searched(parameters(1_000.0, 1.0), &mut server);
        let found = finding.per_second.unwrap();
        assert!((2_900.0..=3_500.0).contains(&found), "{found}");
        assert!(finding.is_generator_bound(), "{finding:?}");
        // An overshoot beyond the generator is none of the server's figure that lies beneath.
        let mut server = Simulated {
            generator_limit: 3_500.0,
            ..Simulated::of_capacity(2_200.0)
        };
        let (_, finding) = searched(parameters(1_000.0, 1.0), &mut server);
        assert!(finding.bound_per_second.is_some());
        assert!(!finding.is_generator_bound(), "{finding:?}");
        assert!((1_900.0..=2_200.0).contains(&finding.per_second.unwrap()));
    }
}
