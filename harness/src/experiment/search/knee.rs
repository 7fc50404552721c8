//! The knee of a latency curve: the highest offered rate with a success of at least 99.9 % and a 99th
//! percentile of latency of at most five times that of the lowest rate. Sans-IO.
//!
//! Rates climb by a factor until they are past the knee, and further, so that the curve beyond it can be
//! seen; then the gap above the best rate is halved, on a logarithmic scale, some times. Each rate is
//! offered several times: its success is that of all of them together, its latency the median of theirs. The lowest
//! rate is the yardstick of all others: if what is slow there is the generator's doing, it is offered again.

use super::finding::{Bounds, End, Finding, Ledger, Observation, lowest_above};
use crate::statistics;

/// Least share of operations that succeed.
pub(crate) const SUCCESS_RATIO_MIN: f64 = 0.999;
/// Most that the 99th percentile may be of that at the lowest rate.
pub(crate) const LATENCY_FACTOR_MAX: f64 = 5.0;

/// How often the lowest rate is offered anew.
const ANEW_MAX: u32 = 3;

/// Parameters of the sweep.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct KneeParameters {
    /// The lowest rate, which the others are compared with.
    pub(crate) lowest_per_second: f64,
    /// Between rates on the way up, above 1.
    pub(crate) factor: f64,
    /// How often each rate is offered.
    pub(crate) repetitions: u32,
    /// Rates past the knee that are offered as well.
    pub(crate) past: u32,
    /// How often the gap above the best rate is halved.
    pub(crate) refinements: u32,
    /// Bounds of the whole sweep.
    pub(crate) bounds: Bounds,
}

/// The sweep.
#[derive(Clone, Debug)]
pub(crate) struct Knee {
    parameters: KneeParameters,
    ledger: Ledger,
    /// Rates that were offered, or are being.
    rungs: Vec<Rung>,
    refined: u32,
    anew: u32,
    /// The lowest rate as it was before it was offered anew.
    spoilt: Option<Rung>,
    end: Option<End>,
}

/// One rate.
#[derive(Clone, Debug)]
struct Rung {
    per_second: f64,
    observed: Vec<Observation>,
}

impl Rung {
    fn at(per_second: f64) -> Self {
        Self {
            per_second,
            observed: Vec::new(),
        }
    }

    fn success_ratio(&self) -> f64 {
        let sum = |of: fn(&Observation) -> u64| self.observed.iter().map(of).sum::<u64>() as f64;
        1.0 - sum(|step| step.failed) / sum(|step| step.attempted)
    }

    /// `None` if nothing ever succeeded.
    fn latency_p99_ns(&self) -> Option<f64> {
        let found = self.observed.iter().filter_map(|step| step.latency_p99_ns);
        statistics::median(&found.map(|ns| ns as f64).collect::<Vec<_>>())
    }

    fn is_generator_bound(&self) -> bool {
        is_most(&self.observed, |step| step.is_generator_bound)
    }
}

/// Whether something is so at least every second time.
fn is_most(observed: &[Observation], is_so: fn(&Observation) -> bool) -> bool {
    let count = observed.iter().filter(|step| is_so(step)).count();
    count > 0 && count * 2 >= observed.len()
}

/// What a rate that was offered as often as it should be is to the knee.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    Below,
    Past,
    /// Where the generator was the limit.
    Unknown,
}

impl Knee {
    pub(crate) fn new(parameters: KneeParameters) -> Self {
        Self {
            parameters,
            ledger: Ledger::new(parameters.bounds),
            rungs: vec![Rung::at(parameters.lowest_per_second)],
            refined: 0,
            anew: 0,
            spoilt: None,
            end: None,
        }
    }

    /// The rate of the next step; `None` once the sweep has ended.
    pub(crate) fn next_per_second(&self) -> Option<f64> {
        let current = self.rungs.last()?;
        self.end.is_none().then_some(current.per_second)
    }

    /// Takes what came of the step at [`Self::next_per_second`].
    pub(crate) fn observe(&mut self, observed: &Observation) {
        self.ledger.enter(observed);
        let current = self.rungs.last_mut().expect("the lowest rate is a rung");
        current.observed.push(observed.clone());
        let is_done = current.observed.len() >= self.parameters.repetitions as usize;
        match self.ledger.end() {
            Some(end) => {
                if !is_done {
                    // A rate that was not offered as often as others is no knee.
                    self.rungs.pop();
                    self.rungs.extend(self.spoilt.take());
                }
                self.end = Some(end);
            }
            None if is_done => self.go_on(),
            None => {}
        }
    }

    /// What is known by now.
    pub(crate) fn finding(&self) -> Finding {
        let per_second = self.knee();
        let above = |place: Place| {
            let rungs = self.done().filter(|rung| self.place(rung) == place);
            lowest_above(per_second, rungs.map(|rung| rung.per_second))
        };
        Finding {
            per_second,
            ceiling_per_second: above(Place::Past),
            bound_per_second: above(Place::Unknown),
            end: self.end,
            steps: self.ledger.steps,
            attempted: self.ledger.attempted,
        }
    }

    /// The 99th percentile at the lowest rate, and at the knee.
    pub(crate) fn latencies_p99_ns(&self) -> [Option<f64>; 2] {
        let knee = self.knee();
        let at_knee = self.done().find(|rung| Some(rung.per_second) == knee);
        [self.done().next(), at_knee].map(|rung| rung?.latency_p99_ns())
    }

    /// Rates that were offered as often as they should be.
    fn done(&self) -> impl Iterator<Item = &Rung> {
        let repetitions = self.parameters.repetitions as usize;
        let rungs = self.rungs.iter();
        rungs.filter(move |rung| rung.observed.len() >= repetitions)
    }

    fn place(&self, rung: &Rung) -> Place {
        if rung.is_generator_bound() {
            return Place::Unknown;
        }
        let base = self.rungs[0].latency_p99_ns();
        let is_prompt = base
            .zip(rung.latency_p99_ns())
            .is_some_and(|(base, latency)| latency <= base * LATENCY_FACTOR_MAX);
        let is_to_blame = is_most(&rung.observed, |step| step.is_generator_to_blame);
        let is_below = is_prompt && rung.success_ratio() >= SUCCESS_RATIO_MIN;
        let is_lowest = rung.per_second == self.parameters.lowest_per_second;
        if is_below && !(is_lowest && is_to_blame) {
            Place::Below
        } else if is_to_blame {
            Place::Unknown
        } else {
            Place::Past
        }
    }

    fn knee(&self) -> Option<f64> {
        let below = self.done().filter(|rung| self.place(rung) == Place::Below);
        below.map(|rung| rung.per_second).max_by(f64::total_cmp)
    }

    /// Chooses the next rate, or ends.
    fn go_on(&mut self) {
        let Some(knee) = self.knee() else {
            // Without a lowest rate that is sound there is nothing to compare with.
            let is_to_blame = |step: &Observation| step.is_generator_to_blame;
            if is_most(&self.rungs[0].observed, is_to_blame) && self.anew < ANEW_MAX {
                self.anew += 1;
                self.spoilt = self.rungs.pop();
                let lowest = Rung::at(self.parameters.lowest_per_second);
                self.rungs.push(lowest);
            } else {
                self.end = Some(End::Exhausted);
            }
            return;
        };
        self.spoilt = None;
        let highest = self.done().map(|rung| rung.per_second).fold(0.0, f64::max);
        let past = self.done().filter(|rung| rung.per_second > knee);
        let (past, unknown): (Vec<&Rung>, Vec<&Rung>) =
            past.partition(|rung| self.place(rung) == Place::Past);
        let is_climbing = self.refined == 0 && unknown.is_empty();
        if is_climbing && past.len() < self.parameters.past.max(1) as usize {
            self.rungs.push(Rung::at(highest * self.parameters.factor));
            return;
        }
        let above = past.iter().chain(&unknown).map(|rung| rung.per_second);
        let next = above.min_by(f64::total_cmp);
        match next.filter(|_| self.refined < self.parameters.refinements) {
            Some(next) => {
                self.refined += 1;
                self.rungs.push(Rung::at((knee * next).sqrt()));
            }
            None => self.end = Some(End::Converged),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::super::simulated::Simulated;
    use super::*;

    const PARAMETERS: KneeParameters = KneeParameters {
        lowest_per_second: 100.0,
        factor: 2.0,
        repetitions: 1,
        past: 2,
        refinements: 4,
        bounds: Bounds {
            steps_max: 100,
            seconds_max: f64::INFINITY,
        },
    };

    fn swept(parameters: KneeParameters, server: &mut Simulated) -> (Vec<f64>, Knee) {
        let mut knee = Knee::new(parameters);
        let mut rates = Vec::new();
        while let Some(rate) = knee.next_per_second() {
            rates.push(rate);
            knee.observe(&server.step(rate));
        }
        (rates, knee)
    }

    /// Of the simulated queue, latency is five times that at `u₀` where `1 − u = (1 − u₀) / 5`.
    fn knee_of(capacity: f64) -> f64 {
        capacity * (1.0 - (1.0 - PARAMETERS.lowest_per_second / capacity) / LATENCY_FACTOR_MAX)
    }

    #[test]
    fn the_knee_of_a_queue_is_found_within_its_last_gap() {
        for capacity in [450.0, 1_000.0, 7_300.0] {
            let (rates, knee) = swept(PARAMETERS, &mut Simulated::of_capacity(capacity));
            let finding = knee.finding();
            let (found, exact) = (finding.per_second.unwrap(), knee_of(capacity));
            // The gap of a factor of 2 was halved four times.
            let gap = 2.0_f64.powf(1.0 / 16.0);
            assert!(
                found <= exact && exact < found * gap * 1.001,
                "{found} of {exact}"
            );
            assert_eq!(finding.end, Some(End::Converged));
            let past = rates.iter().filter(|rate| **rate > exact).count();
            assert!(past >= 2, "the curve past the knee is seen: {rates:?}");
            let [base, at_knee] = knee.latencies_p99_ns().map(Option::unwrap);
            assert!(base < at_knee && at_knee <= base * LATENCY_FACTOR_MAX);
        }
    }

    #[test]
    fn a_noisy_curve_has_its_knee_nearby() {
        for seed in 0..50 {
            let parameters = KneeParameters {
                repetitions: 3,
                ..PARAMETERS
            };
            let mut server = Simulated::noisy(2_000.0, 0.1, seed);
            let finding = swept(parameters, &mut server).1.finding();
            // Half more or less of a latency is a fifth more or less of the distance to the capacity.
            let found = finding.per_second.unwrap();
            assert!((1_350.0..=1_800.0).contains(&found), "seed {seed}: {found}");
        }
    }

    #[test]
    fn where_the_generator_is_the_limit_the_sweep_says_so_and_ends() {
        let mut server = Simulated {
            generator_limit: 1_000.0,
            ..Simulated::of_capacity(1e5)
        };
        let (rates, knee) = swept(PARAMETERS, &mut server);
        let finding = knee.finding();
        assert!(finding.is_generator_bound(), "{finding:?}");
        assert!(finding.per_second.unwrap() > 900.0, "{rates:?}");
        assert!(rates.len() <= 9, "{rates:?}");
    }

    /// Latency that grows because the generator is busy is no knee of the server's.
    #[test]
    fn a_curve_that_bends_where_the_generator_is_busier_is_not_the_server_s() {
        let mut server = Simulated::of_capacity(1_000.0);
        let mut knee = Knee::new(PARAMETERS);
        while let Some(rate) = knee.next_per_second() {
            let observed = Observation {
                is_generator_to_blame: rate > 700.0,
                ..server.step(rate)
            };
            knee.observe(&observed);
        }
        let finding = knee.finding();
        assert!(finding.is_generator_bound(), "{finding:?}");
        // Slower than five times the lowest, but below it nothing is held against the generator.
        assert!(finding.per_second.is_some_and(|found| found >= 700.0));
    }

    #[test]
    fn a_server_that_fails_at_once_has_no_knee() {
        let (rates, knee) = swept(PARAMETERS, &mut Simulated::of_capacity(50.0));
        let finding = knee.finding();
        assert_eq!((rates.len(), finding.per_second), (1, None));
        assert_eq!(finding.end, Some(End::Exhausted));
        assert_eq!(finding.ceiling_per_second, Some(100.0));
    }

    #[test]
    fn a_lowest_rate_at_which_the_generator_was_late_is_offered_again() {
        for (spoilt, is_found) in [(2, true), (u32::MAX, false)] {
            let mut server = Simulated::of_capacity(1_000.0);
            let mut knee = Knee::new(PARAMETERS);
            let mut steps = 0;
            while let Some(rate) = knee.next_per_second() {
                let observed = server.step(rate);
                let is_spoilt = steps < spoilt;
                // As when the machine stood still.
                let longer = if is_spoilt { 50 } else { 1 };
                knee.observe(&Observation {
                    latency_p99_ns: observed.latency_p99_ns.map(|ns| ns * longer),
                    is_generator_to_blame: is_spoilt,
                    ..observed
                });
                steps += 1;
            }
            let finding = knee.finding();
            if is_found {
                assert_eq!(finding.end, Some(End::Converged));
                let (found, exact) = (finding.per_second.unwrap(), knee_of(1_000.0));
                assert!(found <= exact && exact < found * 1.1, "{found} of {exact}");
            } else {
                assert_eq!(
                    (finding.end, finding.per_second),
                    (Some(End::Exhausted), None)
                );
                assert!(finding.is_generator_bound(), "{finding:?}");
                assert_eq!(steps, 1 + ANEW_MAX);
            }
        }
    }

    #[test]
    fn a_sweep_that_ends_at_its_lowest_rate_says_whose_limit_that_was() {
        for (steps_max, is_bound) in [(1, false), (3, true)] {
            let mut knee = Knee::new(KneeParameters {
                repetitions: 2,
                bounds: Bounds {
                    steps_max,
                    seconds_max: f64::INFINITY,
                },
                ..PARAMETERS
            });
            let mut server = Simulated::of_capacity(1_000.0);
            while let Some(rate) = knee.next_per_second() {
                knee.observe(&Observation {
                    is_generator_to_blame: true,
                    ..server.step(rate)
                });
            }
            let finding = knee.finding();
            assert_eq!((finding.end, finding.per_second), (Some(End::Steps), None));
            assert_eq!(finding.is_generator_bound(), is_bound, "{finding:?}");
        }
    }

    #[test]
    fn a_rate_that_the_bounds_cut_short_does_not_count() {
        let parameters = KneeParameters {
            repetitions: 2,
            bounds: Bounds {
                steps_max: 5,
                seconds_max: f64::INFINITY,
            },
            ..PARAMETERS
        };
        let (rates, knee) = swept(parameters, &mut Simulated::of_capacity(1e5));
        assert_eq!(rates, [100.0, 100.0, 200.0, 200.0, 400.0]);
        let finding = knee.finding();
        assert_eq!(finding.per_second, Some(200.0));
        assert_eq!(
            (finding.end, finding.ceiling_per_second),
            (Some(End::Steps), None)
        );
    }
}
