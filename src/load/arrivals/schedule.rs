//! What has arrived and not been started yet: nothing is skipped, however late the clock is read.

use std::time::{Duration, Instant};

use super::Arrivals;
use crate::load::plan::{LoadPlan, Workload};

/// The arrivals of one worker until the measurement ends, as instants.
pub(in crate::load) struct Schedule {
    arrivals: Arrivals,
    epoch: Instant,
    end: Instant,
    /// `None` once all have been taken.
    next: Option<Instant>,
}

impl Schedule {
    /// Of the worker `worker` out of `workers`, for a load whose time zero is `epoch`.
    pub(in crate::load) fn new(plan: &LoadPlan, worker: u32, workers: u32, epoch: Instant) -> Self {
        let seconds = Duration::from_secs_f64;
        let end = epoch + seconds(plan.warm_up_seconds) + seconds(plan.duration_seconds);
        let mut schedule = Self {
            arrivals: Arrivals::of(plan, worker, workers),
            epoch,
            end,
            next: None,
        };
        // In an avalanche everything starts when the hops drop.
        if plan.workload != Workload::Avalanche {
            schedule.advance();
        }
        schedule
    }

    /// When the next operation is meant to start, be it long ago.
    pub(in crate::load) fn next(&self) -> Option<Instant> {
        self.next
    }

    /// The intended start of the next operation, if that has come. A clock that is read late gets all
    /// that were due meanwhile, one by one and each with its own intended start.
    pub(in crate::load) fn take_due(&mut self, now: Instant) -> Option<Instant> {
        let due = self.next.filter(|intended| *intended <= now)?;
        self.advance();
        Some(due)
    }

    /// How many that were meant to start at `from` or later have not been taken.
    pub(in crate::load) fn remaining_since(mut self, from: Instant) -> u64 {
        let mut remaining = 0;
        while let Some(intended) = self.next {
            remaining += u64::from(intended >= from);
            self.advance();
        }
        remaining
    }

    fn advance(&mut self) {
        let offset = self.arrivals.next().expect("arrivals have no end");
        self.next = Some(self.epoch + offset).filter(|intended| *intended < self.end);
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use proptest::prelude::*;

    use super::super::tests::plan;
    use super::super::{ArrivalLaw, Course};
    use super::*;

    fn course() -> impl Strategy<Value = Course> {
        let rate = 1.0..1_000.0;
        prop_oneof![
            Just(Course::Steady),
            rate.clone()
                .prop_map(|to_per_second| Course::Ramp { to_per_second }),
            prop::collection::vec(rate, 1..5)
                .prop_map(|then_per_second| Course::Steps { then_per_second }),
        ]
    }

    proptest! {
        /// However late and however rarely the clock is read, everything that arrives is taken once, in
        /// order and with its own intended start, or is counted as remaining.
        #[test]
        fn nothing_is_skipped_and_nothing_comes_early(
            course in course(),
            is_constant: bool,
            workers in 1_u32..4,
            seed: u64,
            naps_ms in prop::collection::vec(0_u64..2_000, 0..12),
        ) {
            let law = if is_constant { ArrivalLaw::Constant } else { ArrivalLaw::Poisson };
            let plan = plan(law, course, seed);
            let epoch = Instant::now();
            let (start, end) = (epoch + Duration::from_secs(1), epoch + Duration::from_secs(5));
            for worker in 0..workers {
                let mut schedule = Schedule::new(&plan, worker, workers, epoch);
                let mut now = epoch;
                let mut taken = Vec::new();
                for nap in &naps_ms {
                    now += Duration::from_millis(*nap);
                    while let Some(intended) = schedule.take_due(now) {
                        prop_assert!(intended <= now, "nothing starts before its time");
                        taken.push(intended);
                    }
                    prop_assert!(schedule.next().is_none_or(|next| next > now));
                }
                let all: Vec<Instant> = Arrivals::of(&plan, worker, workers)
                    .map(|offset| epoch + offset)
                    .take_while(|intended| *intended < end)
                    .collect();
                prop_assert_eq!(&taken[..], &all[..taken.len()]);
                let rest = all[taken.len()..].iter().filter(|intended| **intended >= start);
                prop_assert_eq!(schedule.remaining_since(start), rest.count() as u64);
            }
        }
    }

    #[test]
    fn an_avalanche_has_no_arrivals_of_its_own() {
        let plan = LoadPlan {
            workload: Workload::Avalanche,
            ..plan(ArrivalLaw::Poisson, Course::Steady, 1)
        };
        let epoch = Instant::now();
        let schedule = Schedule::new(&plan, 0, 1, epoch);
        assert_eq!(schedule.next(), None);
        assert_eq!(schedule.remaining_since(epoch), 0);
    }
}
