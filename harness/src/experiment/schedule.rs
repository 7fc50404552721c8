//! The order in which cells are measured: block by block, and within a block in a seeded random
//! order, so that a machine that changes speed changes it for all cells of a block alike.

use hopbench::record::{Cell, Ratio};
use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;

use super::collect::{Collected, ratios};
use super::{Bench, Subject};
use crate::progress::Progress;
use crate::testbed::Failure;

/// How a run's measuring ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Conduct {
    /// Every cell had its turn.
    Complete,
    /// The user asked to stop.
    Interrupted,
}

/// Measures `experiments` one after the other. `publish` gets all cells and ratios known so far,
/// after each block.
///
/// # Errors
/// When `publish` fails.
pub(crate) fn conduct(
    experiments: Vec<Vec<Subject>>,
    bench: &Bench<'_>,
    progress: &Progress,
    mut publish: impl FnMut(&[Cell], &[Ratio]) -> anyhow::Result<()>,
) -> anyhow::Result<Conduct> {
    let mut order = ChaCha8Rng::seed_from_u64(bench.seed);
    let (mut cells, mut all_ratios) = (Vec::new(), Vec::new());
    for subjects in experiments {
        let (done_cells, done_ratios) = (cells.len(), all_ratios.len());
        let mut collected: Vec<Collected> = subjects
            .into_iter()
            .map(|mut subject| {
                subject.parameters.extend(bench.parameters(subject.stack));
                Collected::new(subject)
            })
            .collect();
        let blocks = collected
            .iter()
            .map(|cell| cell.subject.blocks)
            .max()
            .unwrap_or_default();
        for block in 0..blocks {
            let end = measure_block(&mut collected, block, bench, progress, &mut order);
            cells.truncate(done_cells);
            all_ratios.truncate(done_ratios);
            let started = collected.iter().filter(|cell| {
                end == Conduct::Complete || cell.failure.is_some() || !cell.samples.is_empty()
            });
            cells.extend(started.map(|cell| cell.cell(bench.seed)));
            all_ratios.extend(ratios(&collected, bench.seed));
            publish(&cells, &all_ratios)?;
            if end == Conduct::Interrupted {
                return Ok(Conduct::Interrupted);
            }
        }
    }
    Ok(Conduct::Complete)
}

fn measure_block(
    collected: &mut [Collected],
    block: u32,
    bench: &Bench<'_>,
    progress: &Progress,
    order: &mut ChaCha8Rng,
) -> Conduct {
    let mut turns: Vec<usize> = (0..collected.len()).collect();
    turns.shuffle(order);
    for turn in turns {
        let cell = &mut collected[turn];
        let subject = &cell.subject;
        let seconds = subject.question.expected_seconds();
        if block >= subject.blocks || cell.failure.is_some() {
            progress.skip(seconds);
            continue;
        }
        progress.begin(&subject.id.to_string(), block + 1, subject.blocks);
        match subject.question.measure(bench, subject.stack, block) {
            Ok(sample) => {
                cell.samples.insert(block, sample);
            }
            Err(Failure::Interrupted) => return Conduct::Interrupted,
            Err(Failure::Failed(reason)) => {
                progress.note(&format!("{}: {reason}", subject.id));
                cell.failure = Some(reason);
            }
        }
        progress.end(seconds);
    }
    Conduct::Complete
}
