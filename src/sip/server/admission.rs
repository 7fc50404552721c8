//! How many calls a second a server lets in, where it has a limit: what is beyond is refused before it
//! costs anything, as servers do that protect themselves from overload (RFC 6357 calls it rate-based).

use std::time::Instant;

/// What may come at once after a pause: a twentieth of a second's worth, so that arrivals at random are
/// judged by their rate and a rate a little too high is found out within a fraction of a second.
const PAUSE_SECONDS: f64 = 0.05;

/// A bucket that fills evenly, and that each call takes one from.
#[derive(Debug)]
pub(super) struct Admission {
    per_second: f64,
    room: f64,
    filled_at: Instant,
}

impl Admission {
    /// Full at `start`.
    pub(super) fn new(calls_per_second: u32, start: Instant) -> Self {
        let per_second = f64::from(calls_per_second);
        Self {
            per_second,
            room: Self::depth(per_second),
            filled_at: start,
        }
    }

    /// Whether a call that comes at `now` may go on.
    pub(super) fn admits(&mut self, now: Instant) -> bool {
        let passed = now.saturating_duration_since(self.filled_at).as_secs_f64();
        self.filled_at = self.filled_at.max(now);
        let room = self.room + passed * self.per_second;
        self.room = room.min(Self::depth(self.per_second));
        // Rounding must not refuse calls that come exactly at the limit.
        let is_admitted = self.room >= 1.0 - 1e-6;
        if is_admitted {
            self.room -= 1.0;
        }
        is_admitted
    }

    fn depth(per_second: f64) -> f64 {
        (per_second * PAUSE_SECONDS).max(1.0)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    /// How many of those that come evenly for so long are let in.
    fn admitted(limit: u32, per_second: f64, seconds: f64) -> u64 {
        let start = Instant::now();
        let mut admission = Admission::new(limit, start);
        let count = (per_second * seconds).round() as u32;
        let at = |index: u32| start + Duration::from_secs_f64(f64::from(index) / per_second);
        (0..count)
            .map(|index| u64::from(admission.admits(at(index))))
            .sum()
    }

    #[test]
    fn up_to_the_limit_everybody_is_let_in_and_beyond_it_as_many_as_it_says() {
        // Limit, rate, seconds; who is let in.
        let cases = [
            (100, 100.0, 60.0, 6_000),
            (100, 50.0, 10.0, 500),
            // A twentieth of a second's worth comes on top.
            (100, 200.0, 10.0, 1_005),
            (1, 50.0, 10.0, 10),
        ];
        for (limit, rate, seconds, expected) in cases {
            let found = admitted(limit, rate, seconds);
            assert!(
                found.abs_diff(expected) <= 1,
                "{rate} a second, at most {limit}: {found} instead of {expected}"
            );
        }
    }

    #[test]
    fn a_pause_saves_up_no_more_than_a_twentieth_of_a_second() {
        let start = Instant::now();
        let mut admission = Admission::new(200, start);
        let late = start + Duration::from_secs(3_600);
        let at_once = (0..100).filter(|_| admission.admits(late)).count();
        assert_eq!(at_once, 10);
    }
}
