//! A server and a generator of known capacity, for the tests of searches.

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::finding::Observation;

/// Latency of a server with nothing to do.
const IDLE_NS: f64 = 200_000.0;
const ATTEMPTS: u64 = 1_000;

/// What meets a search.
#[derive(Clone, Debug)]
pub(super) struct Simulated {
    /// The server fails beyond.
    pub(super) capacity: f64,
    /// The generator does not keep up beyond.
    pub(super) generator_limit: f64,
    /// How often something fails that should not.
    pub(super) mishap_probability: f64,
    /// Relative spread of latencies.
    pub(super) spread: f64,
    pub(super) random: ChaCha8Rng,
}

impl Simulated {
    pub(super) fn of_capacity(capacity: f64) -> Self {
        Self {
            capacity,
            generator_limit: f64::MAX,
            mishap_probability: 0.0,
            spread: 0.0,
            random: ChaCha8Rng::seed_from_u64(0),
        }
    }

    pub(super) fn noisy(capacity: f64, mishap_probability: f64, seed: u64) -> Self {
        Self {
            mishap_probability,
            spread: 0.5,
            random: ChaCha8Rng::seed_from_u64(seed),
            ..Self::of_capacity(capacity)
        }
    }

    /// One step: latency grows as a queue's does, and beyond the capacity a hundredth of the operations
    /// and more fail.
    pub(super) fn step(&mut self, per_second: f64) -> Observation {
        let utilisation = per_second / self.capacity;
        let is_over = utilisation > 1.0;
        let is_mishap = self.random.random_bool(self.mishap_probability);
        let queued = if is_over {
            1e3
        } else {
            1.0 / (1.0 - utilisation).max(1e-3)
        };
        let noise = 1.0 + self.spread * self.random.random::<f64>();
        Observation {
            attempted: ATTEMPTS,
            failed: u64::from(is_over) * ATTEMPTS / 100 + u64::from(is_mishap),
            latency_p99_ns: Some((IDLE_NS * queued * noise) as u64),
            is_generator_bound: per_second > self.generator_limit,
            is_generator_to_blame: false,
            is_spoilt: false,
            seconds: 1.0,
        }
    }
}
