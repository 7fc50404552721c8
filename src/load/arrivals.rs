//! When operations are meant to start: an open loop, whatever the server does.
//!
//! A schedule is a seeded stream of offsets from the start of the load. The same seed gives the same
//! offsets on every machine and in every version that keeps ChaCha8. The law of the gaps and the
//! course of the rate are independent of each other: arrivals are drawn as if the rate stayed what it
//! is at the start, and the course then moves each to where as many are expected before it.

mod course;
mod schedule;

use std::time::Duration;

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::plan::LoadPlan;
pub use course::Course;
use course::Timeline;
pub(super) use schedule::Schedule;

/// Thirty years: no load lasts that long, and every clock can add it to the present.
const NEVER_SECONDS: f64 = 1e9;

/// The law of the gaps between arrivals.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum ArrivalLaw {
    /// Exponential gaps: independent users.
    #[default]
    Poisson,
    /// Equal gaps; where the rate changes, gaps in which equally many are expected.
    Constant,
}

impl ArrivalLaw {
    /// The name in scenarios, flags and cell parameters.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Poisson => "poisson",
            Self::Constant => "constant",
        }
    }
}

/// Offsets at which operations are meant to start, without end.
#[derive(Clone, Debug)]
pub struct Arrivals {
    law: ArrivalLaw,
    mean_gap_seconds: f64,
    /// Where the latest arrival would be if the rate stayed what it is at the start.
    unmoved_seconds: f64,
    timeline: Timeline,
    random: ChaCha8Rng,
}

impl Arrivals {
    /// The stream of one worker out of `workers`, which share the plan's rate evenly.
    ///
    /// # Panics
    /// Unless all rates of the plan are positive and finite and `worker < workers`.
    #[must_use]
    pub fn of(plan: &LoadPlan, worker: u32, workers: u32) -> Self {
        let rate_per_second = plan.rate_per_second;
        let mut rates = plan.course.rates(rate_per_second);
        assert!(
            rates.all(|rate| rate.is_finite() && rate > 0.0),
            "a rate is positive"
        );
        assert!(worker < workers, "workers are numbered from 0");
        let mut random = ChaCha8Rng::seed_from_u64(plan.seed);
        random.set_stream(u64::from(worker));
        let mean_gap_seconds = f64::from(workers) / rate_per_second;
        // Constant streams of several workers interleave instead of firing together.
        let offset = match plan.arrivals {
            ArrivalLaw::Poisson => 0.0,
            ArrivalLaw::Constant => f64::from(worker) / rate_per_second - mean_gap_seconds,
        };
        Self {
            law: plan.arrivals,
            mean_gap_seconds,
            unmoved_seconds: offset,
            timeline: Timeline::of(plan),
            random,
        }
    }
}

impl Iterator for Arrivals {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        let gap = match self.law {
            ArrivalLaw::Constant => self.mean_gap_seconds,
            // 1 − u lies in (0, 1], where the logarithm is finite.
            ArrivalLaw::Poisson => {
                -(1.0 - self.random.random::<f64>()).ln() * self.mean_gap_seconds
            }
        };
        self.unmoved_seconds += gap;
        let seconds = self.timeline.moved(self.unmoved_seconds);
        Some(Duration::from_secs_f64(seconds.clamp(0.0, NEVER_SECONDS)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::{BackOff, Lifecycle, Mix, Workload};

    /// A load of 100 a second: a second of warm-up, then the course over four.
    pub(super) fn plan(law: ArrivalLaw, course: Course, seed: u64) -> LoadPlan {
        LoadPlan {
            workload: Workload::Register,
            lifecycle: Lifecycle::PerRegistration,
            arrivals: law,
            rate_per_second: 100.0,
            course,
            warm_up_seconds: 1.0,
            duration_seconds: 4.0,
            drain_seconds: 1.0,
            users: 10,
            talk_seconds: 0.0,
            ring_seconds: 0.0,
            mix: Mix::default(),
            back_off: BackOff::default(),
            seed,
        }
    }

    fn offsets(
        law: ArrivalLaw,
        seed: u64,
        worker: u32,
        workers: u32,
        count: usize,
    ) -> Vec<Duration> {
        let plan = plan(law, Course::Steady, seed);
        Arrivals::of(&plan, worker, workers).take(count).collect()
    }

    #[test]
    fn the_same_seed_gives_the_same_arrivals() {
        let one = offsets(ArrivalLaw::Poisson, 7, 0, 1, 1000);
        assert_eq!(one, offsets(ArrivalLaw::Poisson, 7, 0, 1, 1000));
        assert_ne!(one, offsets(ArrivalLaw::Poisson, 8, 0, 1, 1000));
        assert_ne!(one, offsets(ArrivalLaw::Poisson, 7, 1, 2, 1000));
    }

    #[test]
    fn poisson_gaps_have_the_mean_and_the_variance_of_an_exponential() {
        let offsets = offsets(ArrivalLaw::Poisson, 1, 0, 1, 100_000);
        let gaps: Vec<f64> = std::iter::once(offsets[0].as_secs_f64())
            .chain(
                offsets
                    .windows(2)
                    .map(|pair| (pair[1] - pair[0]).as_secs_f64()),
            )
            .collect();
        let mean = gaps.iter().sum::<f64>() / gaps.len() as f64;
        let variance = gaps.iter().map(|gap| (gap - mean).powi(2)).sum::<f64>() / gaps.len() as f64;
        assert!((mean - 0.01).abs() < 0.0001, "mean gap {mean}");
        assert!(
            (variance.sqrt() - 0.01).abs() < 0.0002,
            "deviation {}",
            variance.sqrt()
        );
    }

    #[test]
    fn the_rarest_arrivals_lie_beyond_every_load_and_within_every_clock() {
        for law in [ArrivalLaw::Poisson, ArrivalLaw::Constant] {
            let plan = LoadPlan {
                rate_per_second: f64::MIN_POSITIVE,
                ..plan(law, Course::Steady, 1)
            };
            let first = Arrivals::of(&plan, 1, 2).next();
            let first = first.expect("arrivals have no end");
            assert_eq!(first, Duration::from_secs(1_000_000_000));
            assert!(std::time::Instant::now().checked_add(first).is_some());
        }
    }

    #[test]
    fn constant_arrivals_of_all_workers_are_equally_spaced() {
        let mut all: Vec<Duration> = (0..4)
            .flat_map(|worker| offsets(ArrivalLaw::Constant, 1, worker, 4, 25))
            .collect();
        all.sort();
        for (index, offset) in all.iter().enumerate() {
            let expected = index as f64 / 100.0;
            assert!(
                (offset.as_secs_f64() - expected).abs() < 1e-6,
                "{index}: {offset:?}"
            );
        }
    }

    /// From an offset to another, and how many are expected between.
    type Expected = (f64, f64, f64);

    /// Courses, and what each is expected to bring, by hand: 100 a second in the warm-up, the last rate
    /// after the measurement.
    fn courses() -> [(Course, Vec<Expected>); 4] {
        [
            (Course::Steady, vec![(0.0, 1.0, 100.0), (1.0, 5.0, 400.0)]),
            (
                // 100 to 300 over 4 s: half of the time up to 200.
                Course::Ramp {
                    to_per_second: 300.0,
                },
                vec![
                    (0.0, 1.0, 100.0),
                    (1.0, 3.0, 300.0),
                    (3.0, 5.0, 500.0),
                    (5.0, 6.0, 300.0),
                ],
            ),
            (
                Course::Ramp {
                    to_per_second: 20.0,
                },
                vec![(0.0, 1.0, 100.0), (1.0, 3.0, 160.0), (3.0, 5.0, 80.0)],
            ),
            (
                // Four steps of a second, the first at 100.
                Course::Steps {
                    then_per_second: vec![400.0, 50.0, 200.0],
                },
                vec![
                    (0.0, 2.0, 200.0),
                    (2.0, 3.0, 400.0),
                    (3.0, 4.0, 50.0),
                    (4.0, 6.0, 400.0),
                ],
            ),
        ]
    }

    #[test]
    fn as_many_arrive_as_the_course_says_whoever_shares_them() {
        for (course, expected) in courses() {
            for workers in [1, 3, 8] {
                for (law, seed) in [(ArrivalLaw::Constant, 1)]
                    .into_iter()
                    .chain((0..20).map(|seed| (ArrivalLaw::Poisson, seed)))
                {
                    let plan = plan(law, course.clone(), seed);
                    let all: Vec<f64> = (0..workers)
                        .flat_map(|worker| {
                            let own = Arrivals::of(&plan, worker, workers);
                            let own = own.map(|offset| offset.as_secs_f64());
                            own.take_while(|offset| *offset < 6.0)
                        })
                        .collect();
                    for (from, to, mean) in &expected {
                        let within = |offset: &&f64| (*from..*to).contains(*offset);
                        let count = all.iter().filter(within).count() as f64;
                        let allowed = match law {
                            // One at each end, by rounding.
                            ArrivalLaw::Constant => 2.0,
                            // The seeds are fixed, so that this holds always or never; by chance it
                            // would fail once in two million.
                            ArrivalLaw::Poisson => 5.0 * mean.sqrt(),
                        };
                        assert!(
                            (count - mean).abs() <= allowed,
                            "{course:?} {law:?} seed {seed}, {workers} workers: expected {mean} from \
                             {from} to {to}, found {count}"
                        );
                    }
                }
            }
        }
    }

    /// All workers together are one Poisson stream: its counts in equal intervals have the variance of
    /// their mean.
    #[test]
    fn workers_together_are_as_random_as_one() {
        for workers in [1, 4] {
            let plan = plan(ArrivalLaw::Poisson, Course::Steady, 3);
            let mut counts = vec![0.0_f64; 2_000];
            for worker in 0..workers {
                let mut own = Arrivals::of(&plan, worker, workers).map(|it| it.as_secs_f64());
                while let Some(count) = own
                    .next()
                    .and_then(|it| counts.get_mut((it * 10.0) as usize))
                {
                    *count += 1.0;
                }
            }
            let n = counts.len() as f64;
            let mean = counts.iter().sum::<f64>() / n;
            let variance = counts.iter().map(|it| (it - mean).powi(2)).sum::<f64>() / n;
            assert!((mean - 10.0).abs() < 0.4, "{workers} workers: mean {mean}");
            assert!(
                (variance / mean - 1.0).abs() < 0.15,
                "{workers}: {variance}"
            );
        }
    }

    #[test]
    fn arrivals_never_go_back() {
        for (course, _) in courses() {
            for law in [ArrivalLaw::Poisson, ArrivalLaw::Constant] {
                let plan = plan(law, course.clone(), 9);
                let offsets: Vec<Duration> = Arrivals::of(&plan, 0, 2).take(1_000).collect();
                assert!(offsets.is_sorted(), "{course:?} {law:?}");
            }
        }
    }
}
