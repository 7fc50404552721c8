//! A test weight for the method: a thread that burns a known share on top of the processor time that it
//! uses itself. Whoever claims to see a difference of 10 % is shown one of exactly that size.
//!
//! It is paid before the thread sleeps, so a thread that never sleeps owes it; and it is a share of
//! what was used, not a time, so it weighs the same on a slow machine and on a fast one.

use std::sync::{Mutex, PoisonError};

use super::cpu;

/// Readings of which the fastest tells what one takes.
const READINGS: u32 = 64;

/// The books of one thread.
#[derive(Debug)]
struct Handicap {
    /// Of the thread's own processor time.
    ratio: f64,
    /// What reading the clock takes. It is a part of the burden, not of the thread's own time.
    reading_ns: u64,
    /// The thread's clock when it last paid.
    paid_at_ns: u64,
    own_ns: u64,
    burnt_ns: u64,
}

/// What a thread that is to burn `ratio` of its own processor time on top calls whenever it is about to
/// sleep (of Tokio `Builder::on_thread_park`); `None` where there is nothing to burn. One for each
/// thread: it reads the clock of the thread that calls it.
#[must_use]
pub fn before_sleep(ratio: f64) -> Option<impl Fn() + Send + Sync + 'static> {
    let handicap = (ratio > 0.0).then(|| Mutex::new(Handicap::new(ratio, cpu::thread_ns)))?;
    Some(move || {
        let mut handicap = handicap.lock().unwrap_or_else(PoisonError::into_inner);
        handicap.pay(cpu::thread_ns);
    })
}

impl Handicap {
    fn new(ratio: f64, mut thread_ns: impl FnMut() -> u64) -> Self {
        let readings = (0..READINGS).map(|_| {
            let before = thread_ns();
            thread_ns() - before
        });
        Self {
            ratio,
            reading_ns: readings.min().unwrap_or_default(),
            paid_at_ns: 0,
            own_ns: 0,
            burnt_ns: 0,
        }
    }

    /// Burns what is due. What was burnt beyond it, since a clock has steps, is taken off the next time.
    fn pay(&mut self, mut thread_ns: impl FnMut() -> u64) {
        let begin = thread_ns();
        let used_ns = begin.saturating_sub(self.paid_at_ns);
        self.own_ns += used_ns.saturating_sub(self.reading_ns);
        // Bounded by the processor time of a thread, which is far below 2^53 ns.
        let due_ns = (self.own_ns as f64 * self.ratio) as u64;
        let mut now = begin;
        while self.burnt_ns + (now - begin) + self.reading_ns < due_ns {
            now = thread_ns();
        }
        self.burnt_ns += now - begin + self.reading_ns;
        self.paid_at_ns = now;
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    /// A thread's clock that moves by what the thread does, half of a reading before it is read and half
    /// of it after.
    struct Clock(Cell<u64>);

    const READING_NS: u64 = 300;

    impl Clock {
        fn work(&self, ns: u64) {
            self.0.set(self.0.get() + ns);
        }

        fn read(&self) -> u64 {
            self.work(READING_NS / 2);
            let now = self.0.get();
            self.work(READING_NS / 2);
            now
        }
    }

    #[test]
    fn what_is_burnt_is_the_share_that_was_asked_for() {
        for ratio in [0.1, 0.5, 3.0] {
            let clock = Clock(Cell::new(0));
            let mut handicap = Handicap::new(ratio, || clock.read());
            let mut own_ns = clock.0.get();
            // Wake-ups of all sizes, some of them shorter than what reading the clock takes.
            for wake_up in 0..10_000_u64 {
                let ns = wake_up * 7_919 % 40_000;
                clock.work(ns);
                own_ns += ns;
                handicap.pay(|| clock.read());
            }
            let burnt_ns = clock.0.get() - own_ns;
            let found = burnt_ns as f64 / own_ns as f64;
            assert!((found - ratio).abs() < 0.001 * ratio, "{found} of {ratio}");
        }
    }

    /// By the real clock: at least what is due is burnt, whatever the machine is and does.
    #[test]
    fn a_thread_that_pays_has_used_at_least_that_much_more() {
        let thread = std::thread::spawn(|| {
            let pay = before_sleep(2.0).expect("there is something to burn");
            let mut own_ns = 0;
            for _ in 0..20 {
                let begin = cpu::thread_ns();
                while cpu::thread_ns() - begin < 200_000 {}
                own_ns += cpu::thread_ns() - begin;
                pay();
            }
            (own_ns, cpu::thread_ns())
        });
        let (own_ns, all_ns) = thread.join().expect("it only reads a clock");
        // A reading may take less than the fastest did before: a share of its cost, forty times.
        assert!(all_ns + 40_000 >= own_ns * 3, "{all_ns} for {own_ns}");
    }

    #[test]
    fn nothing_is_burnt_of_nothing() {
        assert!(before_sleep(0.0).is_none());
    }
}
