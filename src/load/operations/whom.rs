//! Whom calls go to, where that is left to chance.

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::super::plan::Called;

/// Streams of a seed's generator below this one belong to the arrivals and to the kinds.
const FIRST_STREAM: u64 = 2 << 32;

/// A seeded stream of callees, each as likely as any other.
pub(in crate::load) struct Lottery {
    called: Called,
    random: ChaCha8Rng,
}

impl Lottery {
    /// What the worker of that number draws.
    pub(in crate::load) fn new(called: Called, seed: u64, worker: u32) -> Self {
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        random.set_stream(FIRST_STREAM + u64::from(worker));
        Self { called, random }
    }

    /// Among whom it draws.
    pub(in crate::load) fn called(&self) -> Called {
        self.called
    }

    /// The account number of who is called next.
    pub(super) fn draw(&mut self) -> u32 {
        let Called { first, count } = self.called;
        first + self.random.random_range(0..count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CALLED: Called = Called {
        first: 500,
        count: 100,
    };

    fn drawn(seed: u64, worker: u32) -> Vec<u32> {
        let mut lottery = Lottery::new(CALLED, seed, worker);
        (0..10_000).map(|_| lottery.draw()).collect()
    }

    #[test]
    fn everybody_is_drawn_about_equally_often() {
        let drawn = drawn(3, 0);
        for callee in 500..600 {
            let count = drawn.iter().filter(|drawn| **drawn == callee).count();
            assert!(count.abs_diff(100) < 50, "{callee}: {count}");
        }
        assert!(drawn.iter().all(|callee| (500..600).contains(callee)));
    }

    #[test]
    fn the_draw_follows_from_seed_and_worker() {
        assert_eq!(drawn(3, 0), drawn(3, 0));
        assert_ne!(drawn(3, 0), drawn(3, 1));
        assert_ne!(drawn(3, 0), drawn(4, 0));
    }
}
