//! Blocks whose cells take turns: the processes of all of them stand side by side, and each is measured
//! for a moment, then the next, again and again.
//!
//! The speed of a shared machine changes within seconds. Cells that are measured one after the other meet
//! different machines; cells that take turns of a tenth of a second meet the same one.

use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;

use super::schedule::{Turn, fail, step_of};
use super::{Bench, Conduct, Sample, Trial};
use crate::testbed::{Failure, Outcome};
use crate::topology::Site;

/// A question whose blocks can be measured in turns.
pub(crate) trait InTurns {
    /// How many turns each block takes.
    fn turns(&self) -> u32;

    /// Operations a second. Cells with the same rate are compared, and take turns with each other; those of
    /// another one would only make them wait.
    fn rate_per_second(&self) -> f64;

    /// Starts the processes of a block, seeded as by [`Question::measure`](super::Question::measure).
    fn open<'a>(
        &'a self,
        bench: &Bench<'_>,
        site: &Site,
        block: u32,
    ) -> Outcome<Box<dyn Block + 'a>>;
}

/// A block at work.
pub(crate) trait Block {
    /// Measures for one turn, from 0 on.
    fn turn(&mut self, number: u32) -> Outcome<()>;

    /// What all turns have yielded together.
    fn close(self: Box<Self>) -> Outcome<Sample>;
}

/// A cell that takes part in a block.
struct Part<'t, 'c> {
    turn: Turn<'t, 'c>,
    question: &'t dyn InTurns,
    /// Until it is closed, or has failed.
    block: Option<Box<dyn Block + 't>>,
}

/// Places of cells, in their order, by who is measured together: those that take turns with each other, and
/// everybody else alone.
pub(super) fn groups(trials: &[Trial], places: Vec<usize>) -> Vec<Vec<usize>> {
    let mut groups: Vec<(Option<u64>, Vec<usize>)> = Vec::new();
    for place in places {
        let in_turns = trials[place].question.in_turns();
        let rate = in_turns.map(|question| question.rate_per_second().to_bits());
        let mut known = groups.iter_mut().filter(|_| rate.is_some());
        match known.find(|(of_group, _)| *of_group == rate) {
            Some((_, group)) => group.push(place),
            None => groups.push((rate, vec![place])),
        }
    }
    groups.into_iter().map(|(_, group)| group).collect()
}

/// Measures a block of all of `cells`, in the order in which they come and from then on in random ones.
pub(super) fn measure<'t>(
    cells: Vec<(Turn<'t, '_>, &'t dyn InTurns)>,
    bench: &Bench<'_>,
    order: &mut ChaCha8Rng,
) -> Conduct {
    let mut parts = Vec::with_capacity(cells.len());
    for (turn, question) in cells {
        let mut part = Part {
            turn,
            question,
            block: None,
        };
        let site = part.turn.trial.subject.site;
        let number = part.turn.block;
        match part.step(bench, || question.open(bench, &site, number)) {
            Ok(block) => part.block = block,
            Err(Interrupted) => return Conduct::Interrupted,
        }
        parts.push(part);
    }
    let turns = parts.iter().map(|part| part.question.turns());
    let most = turns.max().unwrap_or(0);
    for number in 0..most {
        parts.shuffle(order);
        let takes_part = |part: &&mut Part<'_, '_>| number < part.question.turns();
        for part in parts.iter_mut().filter(takes_part) {
            let Some(mut block) = part.block.take() else {
                continue;
            };
            match part.step(bench, || block.turn(number)) {
                Ok(measured) => part.block = measured.map(|()| block),
                Err(Interrupted) => return Conduct::Interrupted,
            }
        }
    }
    for part in &mut parts {
        let Some(block) = part.block.take() else {
            continue;
        };
        match block.close() {
            Ok(sample) => {
                part.turn.cell.samples.insert(part.turn.block, sample);
            }
            Err(failure) => match fail(&mut part.turn, failure, bench) {
                Conduct::Interrupted => return Conduct::Interrupted,
                Conduct::Complete => {}
            },
        }
    }
    Conduct::Complete
}

/// The user asked to stop.
struct Interrupted;

impl Part<'_, '_> {
    /// One of the steps of a block, its opening or a turn, which takes its share of the block's time. `None`
    /// if it failed, which is recorded then.
    fn step<T>(
        &mut self,
        bench: &Bench<'_>,
        measure: impl FnOnce() -> Outcome<T>,
    ) -> Result<Option<T>, Interrupted> {
        let seconds = self.turn.trial.expected_seconds_of_block();
        let progress = bench.progress;
        progress.begin(
            step_of(&self.turn).into(),
            seconds / f64::from(self.question.turns() + 1),
        );
        let measured = match measure() {
            Ok(measured) => Ok(Some(measured)),
            Err(Failure::Interrupted) => return Err(Interrupted),
            Err(failure) => match fail(&mut self.turn, failure, bench) {
                Conduct::Interrupted => Err(Interrupted),
                Conduct::Complete => Ok(None),
            },
        };
        progress.end();
        measured
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::cell::RefCell;
    use std::collections::BTreeMap;

    use hopbench::transport::Settings;
    use rand::SeedableRng;

    use super::*;
    use crate::experiment::collect::Collected;
    use crate::experiment::{Question, Subject, cell_id};
    use crate::limits::{Demand, Readings, Spread};
    use crate::progress::Progress;
    use crate::scenario::{Plan, Scenario, Selection};
    use crate::testbed::{Placement, Testbed};
    use crate::topology::Topology;

    thread_local! {
        static SEEN: RefCell<Vec<String>> = const { RefCell::new(Vec::new()) };
    }

    /// A cell that notes what is done with it, and may fail in a turn.
    struct Noted {
        name: &'static str,
        fails_in: Option<u32>,
        /// Without one it takes no turns.
        rate_per_second: Option<f64>,
    }

    struct NotedBlock<'a>(&'a Noted);

    fn note(what: &str, name: &str) {
        SEEN.with_borrow_mut(|seen| seen.push(format!("{what} {name}")));
    }

    impl Question for Noted {
        fn measure(&self, _: &Bench<'_>, _: &Site, _: u32) -> Outcome<Sample> {
            unreachable!("it takes turns");
        }

        fn in_turns(&self) -> Option<&dyn InTurns> {
            self.rate_per_second.map(|_| self as &dyn InTurns)
        }

        fn demand(&self, site: &Site) -> Demand {
            Demand::of_cell(site.stack, 1, Spread::PAIR)
        }

        fn expected_seconds(&self, _: Topology) -> f64 {
            1.0
        }
    }

    impl InTurns for Noted {
        fn turns(&self) -> u32 {
            3
        }

        fn rate_per_second(&self) -> f64 {
            self.rate_per_second.unwrap()
        }

        fn open<'a>(&'a self, _: &Bench<'_>, _: &Site, _: u32) -> Outcome<Box<dyn Block + 'a>> {
            note("open", self.name);
            Ok(Box::new(NotedBlock(self)))
        }
    }

    impl Block for NotedBlock<'_> {
        fn turn(&mut self, number: u32) -> Outcome<()> {
            note(&number.to_string(), self.0.name);
            match self.0.fails_in {
                Some(turn) if turn == number => Err(Failure::Failed("it broke".into())),
                Some(_) | None => Ok(()),
            }
        }

        fn close(self: Box<Self>) -> Outcome<Sample> {
            note("close", self.0.name);
            Ok(Sample::default())
        }
    }

    fn trial(plan: &Plan, noted: Noted) -> Trial {
        let site = plan.sites(Topology::Direct, &Selection::default()).unwrap()[0];
        Trial {
            subject: Subject {
                id: cell_id("throughput", noted.name, &site, "per-call"),
                site,
                parameters: BTreeMap::new(),
                blocks: 1.into(),
            },
            question: Box::new(noted),
        }
    }

    #[test]
    fn all_are_open_before_the_first_turn_and_each_has_one_in_every_round() {
        let plan = Scenario::profile("quick").unwrap().plan;
        let trials = [("a", None), ("b", Some(1)), ("c", None)].map(|(name, fails_in)| {
            let noted = Noted {
                name,
                fails_in,
                rate_per_second: Some(1.0),
            };
            trial(&plan, noted)
        });
        let mut cells = trials
            .each_ref()
            .map(|trial| Collected::new(trial.subject.clone()));
        let progress = Progress::new(3.0, true);
        let bench = Bench {
            testbed: &Testbed::new(Placement::default()).unwrap(),
            settings: &Settings::default(),
            certificates: &BTreeMap::new(),
            machine: Readings::of_this_machine(),
            progress: &progress,
            seed: 1,
            budget: None,
        };
        let due = trials.iter().zip(&mut cells);
        let due = due.filter_map(|(trial, cell)| {
            let turn = Turn::new(trial, cell, 0, &bench)?;
            Some((turn, trial.question.in_turns()?))
        });
        let mut order = ChaCha8Rng::seed_from_u64(1);
        let conduct = measure(due.collect(), &bench, &mut order);
        assert_eq!(conduct, Conduct::Complete);
        let seen = SEEN.take();
        let mut rounds: Vec<Vec<&str>> = vec![
            seen[..3].iter().map(String::as_str).collect(),
            seen[3..6].iter().map(String::as_str).collect(),
            seen[6..9].iter().map(String::as_str).collect(),
            seen[9..11].iter().map(String::as_str).collect(),
            seen[11..].iter().map(String::as_str).collect(),
        ];
        rounds.iter_mut().for_each(|round| round.sort_unstable());
        let expected: [&[&str]; 5] = [
            &["open a", "open b", "open c"],
            &["0 a", "0 b", "0 c"],
            &["1 a", "1 b", "1 c"],
            &["2 a", "2 c"],
            &["close a", "close c"],
        ];
        assert_eq!(rounds, expected);
        let samples = cells.each_ref().map(|cell| cell.samples.len());
        assert_eq!(samples, [1, 0, 1]);
        assert_eq!(cells[1].failure.as_deref(), Some("it broke"));
    }

    #[test]
    fn cells_of_one_rate_take_turns_with_each_other_and_with_nobody_else() {
        let plan = Scenario::profile("quick").unwrap().plan;
        let rates = [Some(10.0), None, Some(20.0), Some(10.0), None];
        let trials = rates.map(|rate_per_second| {
            let noted = Noted {
                name: "a",
                fails_in: None,
                rate_per_second,
            };
            trial(&plan, noted)
        });
        let found = groups(&trials, vec![3, 1, 2, 4, 0]);
        assert_eq!(found, [vec![3, 0], vec![1], vec![2], vec![4]]);
    }
}
