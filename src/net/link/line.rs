//! What the line does to packets: a seeded stream that has an answer for each, in their order.

use std::f64::consts::TAU;
use std::time::Duration;

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::conditions::milliseconds;
use super::{Jitter, LinkConditions, Loss};

/// What happens to one packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Passage {
    pub(super) is_lost: bool,
    pub(super) is_doubled: bool,
    pub(super) delay: Duration,
    /// How much longer it takes if others are to pass it.
    pub(super) held_back: Option<Duration>,
}

/// The passages of all packets.
#[derive(Clone, Debug)]
pub(super) struct Line {
    conditions: LinkConditions,
    /// Whether the chain of two states is in the bad one.
    is_bad: bool,
    // One stream for each question: what is lost stays the same when jitter is switched on.
    loss: ChaCha8Rng,
    delay: ChaCha8Rng,
    doubled: ChaCha8Rng,
    held_back: ChaCha8Rng,
}

impl Line {
    pub(super) fn new(conditions: &LinkConditions, seed: u64) -> Self {
        let stream = |number| {
            let mut random = ChaCha8Rng::seed_from_u64(seed);
            random.set_stream(number);
            random
        };
        Self {
            conditions: *conditions,
            is_bad: false,
            loss: stream(0),
            delay: stream(1),
            doubled: stream(2),
            held_back: stream(3),
        }
    }

    /// What happens to the next packet.
    pub(super) fn next(&mut self) -> Passage {
        let LinkConditions {
            duplicated_ratio,
            held_back_ratio,
            held_back_one_way_ms,
            ..
        } = self.conditions;
        let is_held_back = happens(&mut self.held_back, held_back_ratio);
        Passage {
            is_lost: self.is_lost(),
            is_doubled: happens(&mut self.doubled, duplicated_ratio),
            delay: self.delay(),
            held_back: is_held_back.then(|| milliseconds(held_back_one_way_ms)),
        }
    }

    fn is_lost(&mut self) -> bool {
        match self.conditions.loss {
            Loss::None => false,
            Loss::Independent { ratio } => happens(&mut self.loss, ratio),
            Loss::GilbertElliott {
                good_to_bad_ratio,
                bad_to_good_ratio,
                good_loss_ratio,
                bad_loss_ratio,
            } => {
                let change = if self.is_bad {
                    bad_to_good_ratio
                } else {
                    good_to_bad_ratio
                };
                self.is_bad ^= happens(&mut self.loss, change);
                let ratio = if self.is_bad {
                    bad_loss_ratio
                } else {
                    good_loss_ratio
                };
                happens(&mut self.loss, ratio)
            }
        }
    }

    fn delay(&mut self) -> Duration {
        let LinkConditions {
            one_way_delay_ms,
            one_way_jitter_ms,
            jitter,
            ..
        } = self.conditions;
        if one_way_jitter_ms == 0.0 {
            return milliseconds(one_way_delay_ms);
        }
        let varied = match jitter {
            Jitter::Uniform => self.delay.random_range(-1.0..=1.0),
            Jitter::Normal => normal(&mut self.delay),
            Jitter::Exponential => exponential(&mut self.delay),
        };
        milliseconds((one_way_delay_ms + varied * one_way_jitter_ms).max(0.0))
    }
}

/// Draws nothing where there is no question.
fn happens(random: &mut ChaCha8Rng, ratio: f64) -> bool {
    ratio > 0.0 && random.random::<f64>() < ratio
}

/// Mean 1.
fn exponential(random: &mut ChaCha8Rng) -> f64 {
    // 1 − u lies in (0, 1], where the logarithm is finite.
    -(1.0 - random.random::<f64>()).ln()
}

/// Mean 0, standard deviation 1 (G. E. P. Box and M. E. Muller, 1958).
fn normal(random: &mut ChaCha8Rng) -> f64 {
    let radius = (2.0 * exponential(random)).sqrt();
    radius * (TAU * random.random::<f64>()).cos()
}
