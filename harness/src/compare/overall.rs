//! A metric over all cells: what one cell is too noisy to show, all of them together may, and of so few questions
//! chance answers fewer wrongly.
//!
//! Blocks of a round share the machine's mood, so they are no independent figures: their mean is one. Where the
//! runs were interleaved, rounds are pairs. Where they were not, cells may also differ from run to run in ways
//! that no block tells, because blocks of a cell share them; so the spread over rounds and that over cells are
//! both looked at, and what the wider one does not bear out is not claimed.

use std::collections::BTreeMap;

use hopbench::record::{Cell, Direction, Metric, Run, Unit, Verdict};

use super::judge::{CLIENT_CPU, COUNTED_MARGIN_RATIO, Limits};
use super::judge::{by_id, is_by_client, is_judged, is_timed};
use super::{Basis, Estimate, Judgement};
use crate::statistics::Interval;
use crate::statistics::test::{Difference, Sample};

/// What became of a metric in all cells together.
#[derive(Clone, Debug)]
pub(crate) struct Overall<'a> {
    /// The metric.
    pub(crate) metric: &'a str,
    /// What is compared.
    pub(crate) basis: Basis<'a>,
    /// Cells that have it in both runs.
    pub(crate) cells: usize,
    /// Geometric mean over the cells of HEAD ÷ BASE.
    pub(crate) estimate: Estimate,
    /// How likely such a ratio is without a change.
    pub(crate) p: f64,
    /// What is claimed.
    pub(crate) judgement: Judgement,
    is_timed: bool,
    direction: Direction,
}

/// A metric, and logarithms of its figures in all cells that have some in both runs.
struct Pool<'a> {
    basis: Basis<'a>,
    unit: Unit,
    direction: Direction,
    cells: Vec<Blocks>,
}

/// Of one cell: BASE's and HEAD's, by the number of the block.
type Blocks = [Vec<Option<f64>>; 2];

/// All metrics that can be compared as they are or by the client, by key.
pub(super) fn overall<'a>(base: &'a Run, head: &'a Run, is_interleaved: bool) -> Vec<Overall<'a>> {
    let of_base = by_id(base);
    let mut pools: BTreeMap<&'a str, Pool<'a>> = BTreeMap::new();
    let is_sound = |cell: &&Cell| cell.verdict == Verdict::Ok;
    for cell in head.cells.iter().filter(is_sound) {
        let Some(before) = of_base.get(cell.id.as_str()).filter(|cell| is_sound(cell)) else {
            continue;
        };
        for (key, metric) in cell.metrics.iter().filter(|(key, _)| is_judged(key)) {
            let Some(basis) = basis(key, metric.unit, is_interleaved) else {
                continue;
            };
            let [Some(earlier), Some(later)] = [before, cell].map(|cell| figures(cell, key, basis))
            else {
                continue;
            };
            let pool = pools.entry(key).or_insert_with(|| Pool {
                basis,
                unit: metric.unit,
                direction: metric.direction,
                cells: Vec::new(),
            });
            pool.cells.push([earlier, later]);
        }
    }
    let mut overall: Vec<Overall<'a>> = pools
        .into_iter()
        .filter_map(|(key, pool)| pool.overall(key))
        .collect();
    judge(&mut overall);
    overall
}

/// What `key` is compared by; nothing where it cannot be.
fn basis(key: &str, unit: Unit, is_interleaved: bool) -> Option<Basis<'static>> {
    match (is_interleaved, is_timed(key, unit)) {
        (true, _) => Some(Basis::Pairs),
        (false, false) => Some(Basis::Blocks),
        (false, true) => is_by_client(key).then_some(Basis::ClientCpu),
    }
}

/// Logarithms, null where a block has none; nothing where no block has one.
fn figures(cell: &Cell, key: &str, basis: Basis<'_>) -> Option<Vec<Option<f64>>> {
    let logarithms = |metric: &Metric| -> Vec<Option<f64>> {
        let logarithms = metric.blocks.iter().map(|block| Some((*block)?.ln()));
        logarithms
            .map(|logarithm| logarithm.filter(|it| it.is_finite()))
            .collect()
    };
    let mut figures = logarithms(cell.metrics.get(key)?);
    if basis == Basis::ClientCpu {
        let client = logarithms(cell.metrics.get(CLIENT_CPU)?);
        figures = figures
            .into_iter()
            .zip(client)
            .map(|(figure, client)| Some(figure? - client?))
            .collect();
    }
    figures.iter().any(Option::is_some).then_some(figures)
}

impl Pool<'_> {
    fn overall<'a>(&self, metric: &'a str) -> Option<Overall<'a>>
    where
        Self: 'a,
    {
        let (cells, Difference { mean, ci95, p }) = match self.basis {
            Basis::Pairs => self.of_pairs()?,
            Basis::Blocks | Basis::ClientCpu | Basis::Control(_) => self.of_separate_runs()?,
        };
        let is_timed = is_timed(metric, self.unit);
        let is_within = !is_timed && (mean.exp() - 1.0).abs() <= COUNTED_MARGIN_RATIO;
        let interval = Interval {
            low: ci95.low.exp(),
            high: ci95.high.exp(),
        };
        (cells > 1).then_some(Overall {
            metric,
            basis: self.basis,
            cells,
            estimate: Estimate::Ratio(mean.exp(), interval),
            p: if is_within { 1.0 } else { p },
            judgement: Judgement::NoChangeShown,
            is_timed,
            direction: self.direction,
        })
    }

    /// The rounds' means, against no difference.
    fn of_pairs(&self) -> Option<(usize, Difference)> {
        let mut rounds: BTreeMap<usize, Vec<f64>> = BTreeMap::new();
        let mut cells = 0;
        for [base, head] in &self.cells {
            let pairs = base.iter().zip(head).enumerate();
            let pairs =
                pairs.filter_map(|(round, (base, head))| Some((round, (*head)? - (*base)?)));
            let pairs: Vec<(usize, f64)> = pairs.collect();
            cells += usize::from(!pairs.is_empty());
            for (round, ratio) in pairs {
                rounds.entry(round).or_default().push(ratio);
            }
        }
        let means: Vec<f64> = rounds.values().filter_map(|ratios| mean(ratios)).collect();
        Some((cells, Sample::of(&means)?.against_zero()))
    }

    /// By the spread over rounds and by that over cells, of which the one that claims less counts.
    fn of_separate_runs(&self) -> Option<(usize, Difference)> {
        let mut differences = Vec::new();
        let mut rounds: [BTreeMap<usize, Vec<f64>>; 2] = Default::default();
        for blocks in &self.cells {
            let [base, head] = blocks
                .each_ref()
                .map(|side| mean(&side.iter().flatten().copied().collect::<Vec<f64>>()));
            let (base, head) = (base?, head?);
            differences.push(head - base);
            for (side, rounds) in blocks.iter().zip(&mut rounds) {
                let figures = side.iter().enumerate();
                for (round, figure) in figures.filter_map(|(round, it)| Some((round, (*it)?))) {
                    // How much the cell takes is not to matter where one of its rounds is missing.
                    rounds.entry(round).or_default().push(figure - base);
                }
            }
        }
        let [base, head] = rounds.map(|rounds| {
            let means: Vec<f64> = rounds.values().filter_map(|all| mean(all)).collect();
            Sample::of(&means)
        });
        let by_rounds = head?.against(&base?);
        let by_cells = Sample::of(&differences)?.against_zero();
        let surest = if by_rounds.p < by_cells.p {
            by_cells
        } else {
            by_rounds
        };
        Some((differences.len(), surest))
    }
}

fn mean(figures: &[f64]) -> Option<f64> {
    let is_empty = figures.is_empty();
    (!is_empty).then(|| figures.iter().sum::<f64>() / figures.len() as f64)
}

fn judge(overall: &mut [Overall<'_>]) {
    let all = overall.iter().map(|overall| (overall.is_timed, overall.p));
    let limits = Limits::of(all);
    for overall in overall {
        if limits.are_met(overall.is_timed, overall.p) {
            let has_grown = overall.estimate.is_growth();
            overall.judgement = Judgement::of_growth(overall.direction, has_grown);
        }
    }
}
