//! A metric over all cells of an interleaved comparison: what one cell is too noisy to show, all of them together
//! may, and of so few questions chance answers fewer wrongly.

use std::collections::BTreeMap;

use hopbench::record::{Cell, Direction, Metric, Run, Unit, Verdict};

use super::judge::{COUNTED_MARGIN_RATIO, FALSE_DISCOVERY_RATE, by_id, is_judged, is_timed};
use super::{Estimate, Judgement};
use crate::statistics::Interval;
use crate::statistics::test::{Difference, Sample, discovery_limit};

/// What became of a metric in all cells together.
#[derive(Clone, Debug)]
pub(crate) struct Overall<'a> {
    /// The metric.
    pub(crate) metric: &'a str,
    /// Cells that have it in both runs.
    pub(crate) cells: usize,
    /// Geometric mean over the cells of HEAD ÷ BASE.
    pub(crate) estimate: Estimate,
    /// How likely such a ratio is without a change.
    pub(crate) p: f64,
    /// What is claimed.
    pub(crate) judgement: Judgement,
    direction: Direction,
}

/// Logarithms of HEAD ÷ BASE by round, of all cells.
#[derive(Default)]
struct Rounds {
    cells: usize,
    ratios: BTreeMap<usize, Vec<f64>>,
}

/// All metrics that at least two cells have, by key. The blocks of a round are one figure, their mean: they share
/// the machine's mood, so that they are not independent.
pub(super) fn overall<'a>(base: &'a Run, head: &'a Run) -> Vec<Overall<'a>> {
    let of_base = by_id(base);
    let mut rounds: BTreeMap<&str, (Rounds, &Metric)> = BTreeMap::new();
    let is_sound = |cell: &&Cell| cell.verdict == Verdict::Ok;
    for cell in head.cells.iter().filter(is_sound) {
        let Some(before) = of_base.get(cell.id.as_str()).filter(|cell| is_sound(cell)) else {
            continue;
        };
        for (key, metric) in cell.metrics.iter().filter(|(key, _)| is_judged(key)) {
            let Some(earlier) = before.metrics.get(key) else {
                continue;
            };
            let entry = rounds
                .entry(key)
                .or_insert_with(|| (Rounds::default(), metric));
            entry.0.add(earlier, metric);
        }
    }
    let mut overall: Vec<Overall<'a>> = rounds
        .into_iter()
        .filter_map(|(key, (rounds, metric))| rounds.overall(key, metric.unit, metric.direction))
        .collect();
    judge(&mut overall);
    overall
}

impl Rounds {
    fn add(&mut self, base: &Metric, head: &Metric) {
        let blocks = base.blocks.iter().zip(&head.blocks).enumerate();
        let ratios = blocks.filter_map(|(round, (base, head))| {
            let ratio = (*head)?.ln() - (*base)?.ln();
            ratio.is_finite().then_some((round, ratio))
        });
        let before = self.ratios.values().map(Vec::len).sum::<usize>();
        for (round, ratio) in ratios {
            self.ratios.entry(round).or_default().push(ratio);
        }
        let after = self.ratios.values().map(Vec::len).sum::<usize>();
        self.cells += usize::from(after > before);
    }

    fn overall(self, metric: &str, unit: Unit, direction: Direction) -> Option<Overall<'_>> {
        let means = self.ratios.values();
        let means: Vec<f64> = means
            .map(|ratios| ratios.iter().sum::<f64>() / ratios.len() as f64)
            .collect();
        let Difference { mean, ci95, p } = Sample::of(&means)?.against_zero();
        let is_within = !is_timed(metric, unit) && (mean.exp() - 1.0).abs() <= COUNTED_MARGIN_RATIO;
        let interval = Interval {
            low: ci95.low.exp(),
            high: ci95.high.exp(),
        };
        (self.cells > 1).then_some(Overall {
            metric,
            cells: self.cells,
            estimate: Estimate::Ratio(mean.exp(), interval),
            p: if is_within { 1.0 } else { p },
            judgement: Judgement::NoChangeShown,
            direction,
        })
    }
}

fn judge(overall: &mut [Overall<'_>]) {
    let all_p: Vec<f64> = overall.iter().map(|overall| overall.p).collect();
    let limit = discovery_limit(&all_p, FALSE_DISCOVERY_RATE).unwrap_or(-1.0);
    for overall in overall.iter_mut().filter(|overall| overall.p <= limit) {
        overall.judgement = Judgement::of_growth(overall.direction, overall.estimate.is_growth());
    }
}
