//! When operations are meant to start: an open loop, whatever the server does.
//!
//! A schedule is a seeded stream of offsets from the start of the load. The same seed gives the same
//! offsets on every machine and in every version that keeps ChaCha8.

use std::time::Duration;

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Thirty years: no load lasts that long, and every clock can add it to the present.
const NEVER_SECONDS: f64 = 1e9;

/// The law of the gaps between arrivals.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum ArrivalLaw {
    /// Exponential gaps: independent users.
    #[default]
    Poisson,
    /// Equal gaps.
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
    next_seconds: f64,
    random: ChaCha8Rng,
}

impl Arrivals {
    /// The stream of one worker out of `workers`, which share `rate_per_second` evenly.
    ///
    /// # Panics
    /// Unless the rate is positive and finite and `worker < workers`.
    #[must_use]
    pub fn new(
        law: ArrivalLaw,
        rate_per_second: f64,
        seed: u64,
        worker: u32,
        workers: u32,
    ) -> Self {
        assert!(
            rate_per_second.is_finite() && rate_per_second > 0.0,
            "a rate is positive"
        );
        assert!(worker < workers, "workers are numbered from 0");
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        random.set_stream(u64::from(worker));
        let mean_gap_seconds = f64::from(workers) / rate_per_second;
        // Constant streams of several workers interleave instead of firing together.
        let offset = match law {
            ArrivalLaw::Poisson => 0.0,
            ArrivalLaw::Constant => f64::from(worker) / rate_per_second - mean_gap_seconds,
        };
        Self {
            law,
            mean_gap_seconds,
            next_seconds: offset,
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
        self.next_seconds += gap;
        Some(Duration::from_secs_f64(
            self.next_seconds.clamp(0.0, NEVER_SECONDS),
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn offsets(
        law: ArrivalLaw,
        seed: u64,
        worker: u32,
        workers: u32,
        count: usize,
    ) -> Vec<Duration> {
        Arrivals::new(law, 100.0, seed, worker, workers)
            .take(count)
            .collect()
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
            let first = Arrivals::new(law, f64::MIN_POSITIVE, 1, 1, 2).next();
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
}
