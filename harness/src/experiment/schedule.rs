//! The order in which cells are measured: block by block, and within a block in a seeded random
//! order, so that a machine that changes speed changes it for all cells of a block alike.

use std::time::{Duration, Instant};

use hopbench::record::{Cell, Ratio, Unit, metric};
use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;

use super::collect::Collected;
use super::{Bench, Experiment, Subject, Trial};
use crate::progress::CellStep;
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
    let (mut cells, mut all_ratios) = (Vec::new(), Vec::new());
    for Experiment {
        trials,
        derive,
        is_condensed,
        complete,
        compare,
    } in experiments
    {
        let (done_cells, done_ratios) = (cells.len(), all_ratios.len());
        let subjects = trials.iter().map(|trial| {
            let mut subject = trial.subject.clone();
            subject.parameters.extend(bench.parameters(&subject.site));
            Collected {
                unsupported: trial.unmet(&bench.machine).map(|unmet| unmet.to_string()),
                ..Collected::new(subject)
            }
        });
        let mut collected: Vec<Collected> = subjects.collect();
        let mut tell = |collected: &mut [Collected], end: Conduct| {
            if let Some(complete) = complete {
                complete(collected);
            }
            let derived = derive.map_or_else(Vec::new, |derive| derive(collected));
            let own = collected.iter().filter(|_| !is_condensed);
            let known: Vec<&Collected> = own.chain(&derived).collect();
            cells.truncate(done_cells);
            all_ratios.truncate(done_ratios);
            let started = known.iter().filter(|cell| {
                end == Conduct::Complete || cell.failure.is_some() || !cell.samples.is_empty()
            });
            cells.extend(started.map(|cell| cell.cell(bench.seed)));
            all_ratios.extend(compare(&known, bench.seed));
            publish(&cells, &all_ratios)
        };
        let blocks = trials.iter().map(|trial| trial.subject.blocks).max();
        for block in 0..blocks.unwrap_or_default() {
            let mut turns: Vec<usize> = (0..trials.len()).collect();
            turns.shuffle(&mut order);
            let mut told = Instant::now();
            for turn in turns {
                let measured = measure(&trials[turn], &mut collected[turn], block, bench);
                if measured == Conduct::Interrupted {
                    tell(&mut collected, Conduct::Interrupted)?;
                    return Ok(Conduct::Interrupted);
                }
                // Not everything is told again for each of many short trials.
                if told.elapsed() >= UNTOLD_MAX {
                    tell(&mut collected, Conduct::Interrupted)?;
                    told = Instant::now();
                }
            }
            tell(&mut collected, Conduct::Complete)?;
        }
    }
    Ok(Conduct::Complete)
}

/// Measures one block of one cell, unless there is nothing more to measure of it.
fn measure(trial: &Trial, cell: &mut Collected, block: u32, bench: &Bench<'_>) -> Conduct {
    let progress = bench.progress;
    let Subject {
        id, site, blocks, ..
    } = &trial.subject;
    let seconds = trial.expected_seconds_of_block();
    let is_given_up = cell.failure.is_some() || cell.unsupported.is_some();
    if block >= *blocks || is_given_up || trial.question.is_done() {
        progress.skip(seconds);
        return Conduct::Complete;
    }
    let step = CellStep {
        id,
        rate_per_second: subject_rate(&trial.subject),
        block,
        blocks: *blocks,
        so_far: so_far(cell),
    };
    progress.begin(step.into(), seconds);
    match trial.question.measure(bench, site, block) {
        Ok(sample) => {
            cell.samples.insert(block, sample);
        }
        Err(Failure::Interrupted) => return Conduct::Interrupted,
        Err(Failure::Failed(reason)) => {
            progress.note(&format!("{id}: {reason}"));
            cell.failure = Some(reason);
        }
        Err(Failure::Unsupported(reason)) => {
            progress.note(&format!("{id}: {reason}"));
            cell.unsupported = Some(reason);
        }
    }
    progress.end();
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
