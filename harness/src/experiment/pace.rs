//! What something costs at least, measured twice: again and again, as fast as it goes, and one at a time at
//! the pace of a cell.
//!
//! The first is the floor of what the instructions cost, with everything in the processor's caches. But a
//! cell does nothing again and again: it sleeps in between, others use the processor or it slows down, and
//! code and keys have to come from memory again. That price is the rate's and not the transport's. The
//! second measurement sleeps as the cell does, and so has it, too.

use std::hint::black_box;
use std::thread;
use std::time::{Duration, Instant};

use hopbench::measure::cpu;

/// Rounds, the fastest of which counts: the warm price is a floor, and whatever else the processor did
/// meanwhile is none of it.
const ROUNDS: u32 = 5;
/// How long measuring at a pace takes, more or less.
pub(super) const SECONDS: f64 = 0.06;
/// Longest sleep: after it nothing is warm any more.
const GAP_MAX: Duration = Duration::from_millis(10);
/// So few, and so many, are measured at a pace.
const COUNT_MIN: u32 = 6;
const COUNT_MAX: u32 = 400;

/// Processor time of one piece of work, in ns.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Price {
    /// Of the fastest round, one right after the other.
    pub(super) warm_ns: f64,
    /// The mean of some, one at a time.
    pub(super) paced_ns: f64,
}

impl Price {
    /// Of `work`, of which a round does `count`, at so many a second.
    pub(super) fn of<T>(count: u32, per_second: f64, mut work: impl FnMut() -> T) -> Self {
        Self {
            warm_ns: warm_ns(count, &mut work),
            paced_ns: paced_ns(per_second, &mut work),
        }
    }

    /// Of both.
    pub(super) fn plus(self, other: Self) -> Self {
        Self {
            warm_ns: self.warm_ns + other.warm_ns,
            paced_ns: self.paced_ns + other.paced_ns,
        }
    }
}

/// Of the fastest of some rounds of `count`.
pub(super) fn warm_ns<T>(count: u32, mut work: impl FnMut() -> T) -> f64 {
    // The first one fills what all share.
    drop(work());
    let rounds = (0..ROUNDS).map(|_| {
        let before = cpu::thread_ns();
        for _ in 0..count {
            drop(black_box(work()));
        }
        cpu::thread_ns() - before
    });
    let fastest = rounds.min().expect("there are rounds");
    fastest as f64 / f64::from(count)
}

/// The mean of some, so many a second.
pub(super) fn paced_ns<T>(per_second: f64, mut work: impl FnMut() -> T) -> f64 {
    let gap = gap(per_second);
    let count = (SECONDS / gap.as_secs_f64()) as u32;
    let count = count.clamp(COUNT_MIN, COUNT_MAX);
    let mut next = Instant::now();
    let each = (0..count).map(|_| {
        next += gap;
        thread::sleep(next.saturating_duration_since(Instant::now()));
        let awake = cpu::thread_ns();
        // Reading the clock takes a while, most of all the first time.
        let before = cpu::thread_ns();
        drop(black_box(work()));
        let after = cpu::thread_ns();
        (after - before).saturating_sub(before - awake)
    });
    each.sum::<u64>() as f64 / f64::from(count)
}

/// Between two of so many a second.
fn gap(per_second: f64) -> Duration {
    let gap = Duration::try_from_secs_f64(1.0 / per_second);
    gap.unwrap_or(GAP_MAX)
        .clamp(Duration::from_nanos(1), GAP_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Keeps the processor for as long.
    fn burn(ns: u64) {
        let begun = cpu::thread_ns();
        while cpu::thread_ns() - begun < ns {}
    }

    #[test]
    fn a_price_is_what_the_work_takes() {
        let price = Price::of(3, 500.0, || burn(200_000));
        // Nobody can do it faster; how much slower depends on the machine.
        assert!(price.warm_ns >= 200_000.0, "{price:?}");
        // Less by what reading the clock takes.
        assert!(price.paced_ns >= 100_000.0, "{price:?}");
    }

    #[test]
    fn sleeping_is_no_work() {
        let begun = Instant::now();
        let price = Price::of(1, 100.0, || ());
        assert!(begun.elapsed() >= 5 * GAP_MAX);
        assert!(price.paced_ns < GAP_MAX.as_nanos() as f64, "{price:?}");
    }

    #[test]
    fn gaps_are_those_of_the_rate_up_to_where_all_is_cold() {
        assert_eq!(gap(500.0), Duration::from_millis(2));
        for seldom in [0.1, 0.0, f64::NAN, -1.0] {
            assert_eq!(gap(seldom), GAP_MAX, "{seldom}");
        }
        assert!(gap(f64::INFINITY) > Duration::ZERO);
    }
}
