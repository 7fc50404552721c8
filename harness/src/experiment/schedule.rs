//! The order in which cells are measured: block by block, and within a block in a seeded random
//! order, so that a machine that changes speed changes it for all cells of a block alike. How many blocks
//! there are is known before, or seen by how narrow the ratios are ([`super::ending`]).

use std::time::{Duration, Instant};

use hopbench::record::{Cell, Ratio, Unit, WideBecause, metric};
use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;
use serde_json::json;

use super::collect::Collected;
use super::ending::{self, Budget};
use super::{Bench, Experiment, Subject, Trial, turns};
use crate::progress::CellStep;
use crate::scenario::Blocks;
use crate::statistics;
use crate::testbed::Failure;

/// Figures of longer measuring than this are never kept back.
const UNTOLD_MAX: Duration = Duration::from_secs(20);

/// How a run's measuring ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Conduct {
    /// Every cell had its turn.
    Complete,
    /// The user asked to stop.
    Interrupted,
}

/// Measures `experiments` one after the other. `publish` gets all cells and ratios known so far,
/// after each block, and within one that takes long.
///
/// # Errors
/// When `publish` fails.
pub(crate) fn conduct(
    experiments: Vec<Experiment>,
    bench: &Bench<'_>,
    mut publish: impl FnMut(&[Cell], &[Ratio]) -> anyhow::Result<()>,
) -> anyhow::Result<Conduct> {
    let mut order = ChaCha8Rng::seed_from_u64(bench.seed);
    let expected_seconds = experiments.iter().map(Experiment::expected_seconds).sum();
    let mut budget = Budget::new(bench.budget, expected_seconds);
    let mut known = Known::default();
    for experiment in experiments {
        let deadline = budget.deadline(Instant::now(), experiment.expected_seconds());
        known.keep();
        let mut course = Course::new(&experiment, bench);
        let mut tell = |course: &mut Course<'_>, end: Conduct, because: WideBecause| {
            let is_narrow = course.tell(end, because, &mut known);
            publish(&known.cells, &known.ratios).map(|()| is_narrow)
        };
        while course.goes_on() {
            let began = Instant::now();
            if course.measure_block(bench, &mut order, &mut |course| {
                tell(course, Conduct::Interrupted, WideBecause::Unfinished).map(drop)
            })? == Conduct::Interrupted
            {
                tell(&mut course, Conduct::Interrupted, WideBecause::Unfinished)?;
                return Ok(Conduct::Interrupted);
            }
            course.block += 1;
            // Another block takes as long as this one did.
            let is_late =
                deadline.is_some_and(|deadline| Instant::now() + began.elapsed() > deadline);
            let because = course.reason_to_end(is_late);
            let is_narrow = tell(&mut course, Conduct::Complete, because)?;
            course.end_if(is_narrow, because);
        }
        course.skip_rest(bench);
    }
    Ok(Conduct::Complete)
}

/// What is published: of the experiments before, and of this one.
#[derive(Default)]
struct Known {
    cells: Vec<Cell>,
    ratios: Vec<Ratio>,
    /// How many of them are of experiments that are over.
    kept: (usize, usize),
}

impl Known {
    fn keep(&mut self) {
        self.kept = (self.cells.len(), self.ratios.len());
    }
}

/// An experiment being measured.
struct Course<'e> {
    experiment: &'e Experiment,
    collected: Vec<Collected>,
    /// The next one.
    block: u32,
    /// Why trials whose blocks are automatic are over, once they are; `None` if all is narrow.
    ended: Option<Option<WideBecause>>,
}

impl<'e> Course<'e> {
    fn new(experiment: &'e Experiment, bench: &Bench<'_>) -> Self {
        let collected = experiment.trials.iter().map(|trial| {
            let mut subject = trial.subject.clone();
            subject.parameters.extend(bench.parameters(&subject.site));
            if let Some(budget) = bench
                .budget
                .filter(|_| subject.blocks.automatic().is_some())
            {
                let seconds = budget.as_secs_f64();
                subject
                    .parameters
                    .insert("budget_seconds".into(), json!(seconds));
            }
            Collected {
                unsupported: trial.unmet(&bench.machine).map(|unmet| unmet.to_string()),
                ..Collected::new(subject)
            }
        });
        Self {
            experiment,
            collected: collected.collect(),
            block: 0,
            ended: None,
        }
    }

    /// Whether the trial has a block to come.
    fn is_due(&self, subject: &Subject) -> bool {
        let is_over = subject.blocks.automatic().is_some() && self.ended.is_some();
        self.block < subject.blocks.most() && !is_over
    }

    fn goes_on(&self) -> bool {
        let mut trials = self.experiment.trials.iter();
        trials.any(|trial| self.is_due(&trial.subject))
    }

    /// Measures one block of every cell that is due. `tell` publishes what is known within a long one.
    fn measure_block(
        &mut self,
        bench: &Bench<'_>,
        order: &mut ChaCha8Rng,
        tell: &mut dyn FnMut(&mut Self) -> anyhow::Result<()>,
    ) -> anyhow::Result<Conduct> {
        let experiment = self.experiment;
        let mut places: Vec<usize> = (0..experiment.trials.len()).collect();
        places.shuffle(order);
        places.retain(|place| self.is_due(&experiment.trials[*place].subject));
        let mut told = Instant::now();
        for group in turns::groups(&experiment.trials, places) {
            if self.measure_group(&group, bench, order) == Conduct::Interrupted {
                return Ok(Conduct::Interrupted);
            }
            // Not everything is told again for each of many short trials.
            if told.elapsed() >= UNTOLD_MAX {
                tell(self)?;
                told = Instant::now();
            }
        }
        Ok(Conduct::Complete)
    }

    /// Measures one block of the cells at these places.
    fn measure_group(
        &mut self,
        group: &[usize],
        bench: &Bench<'_>,
        order: &mut ChaCha8Rng,
    ) -> Conduct {
        let (trials, block) = (&self.experiment.trials, self.block);
        let mut cells: Vec<Option<&mut Collected>> = self.collected.iter_mut().map(Some).collect();
        let due = group.iter().filter_map(|place| {
            let cell = cells[*place].take().expect("each place comes once");
            Turn::new(&trials[*place], cell, block, bench)
        });
        let mut in_turns = Vec::new();
        for turn in due {
            match turn.trial.question.in_turns() {
                Some(question) => in_turns.push((turn, question)),
                None => match measure(turn, bench) {
                    Conduct::Interrupted => return Conduct::Interrupted,
                    Conduct::Complete => {}
                },
            }
        }
        turns::measure(in_turns, bench, order)
    }

    /// Why trials whose blocks are automatic end here even if their ratios are wide.
    fn reason_to_end(&self, is_late: bool) -> WideBecause {
        if self.block >= self.automatic(Blocks::most) {
            WideBecause::MostBlocks
        } else if is_late && self.block >= self.automatic(Blocks::least) {
            WideBecause::BudgetSpent
        } else {
            WideBecause::Unfinished
        }
    }

    /// The most of `number` among trials whose blocks are automatic.
    fn automatic(&self, number: fn(&Blocks) -> u32) -> u32 {
        let blocks = self.experiment.trials.iter();
        let blocks = blocks.map(|trial| &trial.subject.blocks);
        let automatic = blocks.filter(|blocks| blocks.automatic().is_some());
        automatic.map(number).max().unwrap_or_default()
    }

    fn end_if(&mut self, is_narrow: bool, because: WideBecause) {
        let has_least = self.block >= self.automatic(Blocks::least);
        if self.ended.is_none() && is_narrow && has_least {
            self.ended = Some(None);
        } else if self.ended.is_none() && because != WideBecause::Unfinished {
            self.ended = Some(Some(because));
        }
    }

    /// Puts what is known of this experiment behind what is known of those before. Whether the ratios that
    /// decide are narrow.
    fn tell(&mut self, end: Conduct, because: WideBecause, known: &mut Known) -> bool {
        let because = match self.ended {
            Some(Some(ended)) => ended,
            Some(None) | None => because,
        };
        if let Some(complete) = self.experiment.complete {
            complete(&mut self.collected);
        }
        let derive = self.experiment.derive;
        let derived = derive.map_or_else(Vec::new, |derive| derive(&self.collected));
        let own = self.collected.iter();
        let own = own.filter(|_| !self.experiment.is_condensed);
        let all: Vec<&Collected> = own.chain(&derived).collect();
        let mut own = (self.experiment.compare)(&all);
        let is_narrow = ending::judge(&mut own, &all, because);
        let started = all.iter().filter(|cell| {
            end == Conduct::Complete || cell.failure.is_some() || !cell.samples.is_empty()
        });
        let (cells, ratios) = known.kept;
        known.cells.truncate(cells);
        known.ratios.truncate(ratios);
        known.cells.extend(started.map(|collected| {
            let mut cell = collected.cell();
            if collected.subject.blocks.automatic().is_some() {
                ending::record_end(&mut cell, is_narrow, because);
            }
            cell
        }));
        known.ratios.extend(own);
        is_narrow
    }

    /// Takes blocks that were not needed off what is expected.
    fn skip_rest(&self, bench: &Bench<'_>) {
        for trial in &self.experiment.trials {
            let rest = trial.subject.blocks.most().saturating_sub(self.block);
            let seconds = trial.expected_seconds_of_block() * f64::from(rest);
            bench.progress.skip(seconds);
        }
    }
}

/// A cell whose turn it is.
pub(super) struct Turn<'t, 'c> {
    pub(super) trial: &'t Trial,
    pub(super) cell: &'c mut Collected,
    pub(super) block: u32,
}

impl<'t, 'c> Turn<'t, 'c> {
    /// `None` if there is nothing more to measure of it.
    pub(super) fn new(
        trial: &'t Trial,
        cell: &'c mut Collected,
        block: u32,
        bench: &Bench<'_>,
    ) -> Option<Self> {
        let is_given_up = cell.failure.is_some() || cell.unsupported.is_some();
        if is_given_up || trial.question.is_done() {
            bench.progress.skip(trial.expected_seconds_of_block());
            return None;
        }
        Some(Self { trial, cell, block })
    }
}

/// Measures one block of one cell.
fn measure(mut turn: Turn<'_, '_>, bench: &Bench<'_>) -> Conduct {
    let progress = bench.progress;
    let (trial, block) = (turn.trial, turn.block);
    progress.begin(step_of(&turn).into(), trial.expected_seconds_of_block());
    let conduct = match trial.question.measure(bench, &trial.subject.site, block) {
        Ok(sample) => {
            turn.cell.samples.insert(block, sample);
            Conduct::Complete
        }
        Err(failure) => fail(&mut turn, failure, bench),
    };
    if conduct == Conduct::Complete {
        progress.end();
    }
    conduct
}

/// What the user is shown of a cell's turn.
pub(super) fn step_of<'t>(turn: &Turn<'t, '_>) -> CellStep<'t> {
    let subject = &turn.trial.subject;
    CellStep {
        id: &subject.id,
        rate_per_second: subject_rate(subject),
        block: turn.block,
        blocks: subject.blocks.most(),
        so_far: so_far(turn.cell),
    }
}

/// Records why a cell could not be measured; it is given up then.
pub(super) fn fail(turn: &mut Turn<'_, '_>, failure: Failure, bench: &Bench<'_>) -> Conduct {
    let (kept, reason) = match failure {
        Failure::Interrupted => return Conduct::Interrupted,
        Failure::Failed(reason) => (&mut turn.cell.failure, reason),
        Failure::Unsupported(reason) => (&mut turn.cell.unsupported, reason),
    };
    if !bench.testbed.is_refusal_of_labs(&reason) {
        let id = &turn.trial.subject.id;
        bench.progress.note(&format!("{id}: {reason}"));
    }
    *kept = Some(reason);
    Conduct::Complete
}

/// Operations a second of its load, if it has one.
fn subject_rate(subject: &Subject) -> Option<f64> {
    subject.parameters.get("rate_per_second")?.as_f64()
}

/// The figure of a cell that tells most, as its blocks have it so far.
fn so_far(cell: &Collected) -> Option<(&'static str, f64, Unit)> {
    const TELLING: [(&str, &str); 6] = [
        ("session_request_delay_ns", "session request delay"),
        ("hop_ready_to_registered_ns", "time to registered"),
        ("outage_ns", "outage"),
        ("registration_delay_ns", "registration delay"),
        ("server_heap_bytes_per_connection", "server heap"),
        ("server_cpu_ns_per_call", "server CPU per call"),
    ];
    TELLING.iter().find_map(|(key, what)| {
        let blocks: Vec<f64> = cell.values(key).into_values().collect();
        Some((
            *what,
            statistics::median(&blocks)?,
            metric::known(key)?.unit,
        ))
    })
}
