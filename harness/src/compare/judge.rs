//! Whether a figure has changed, by what both runs have measured of it.
//!
//! Where the runs were interleaved, blocks of equal numbers are pairs, and everything is judged by the
//! pairs' ratios. Where they were not, a time says as much about the machine as about the code; so it is
//! judged by what was measured beside it in the same block, in which the machine's speed cancels: the
//! control of its stack, and, of the server's processor time, that of the client. What is counted – bytes,
//! packets – is judged as it is.

use std::collections::BTreeMap;

use hopbench::record::{Cell, Metric, Run, Unit, Verdict};

use super::{Basis, Change, Estimate, Judgement, Reason};
use crate::experiment::describes_load;
use crate::statistics::Interval;
use crate::statistics::test::{Difference, Sample, discovery_limit};

/// Of all changes that are claimed, at most this share is expected to be none.
pub(crate) const FALSE_DISCOVERY_RATE: f64 = 0.05;
/// What is counted differs by so much between runs of the same code, since certificates are made anew (their
/// length varies) and tables fill differently: less is no change that anybody would want to be told of.
pub(crate) const COUNTED_MARGIN_RATIO: f64 = 0.01;
/// Of figures of a few bytes, this is rounding.
const COUNTED_MARGIN: f64 = 16.0;

/// Processor time of the server, which is compared by that of the client in the same window.
pub(super) const CLIENT_CPU: &str = "client_cpu_ns_per_operation";

/// Two cells of one name, and the runs that they are of.
#[derive(Clone, Copy)]
pub(super) struct Pairing<'a> {
    pub(super) runs: [&'a Run; 2],
    pub(super) cells: [&'a Cell; 2],
    /// Whether blocks of equal numbers were measured side by side.
    pub(super) is_interleaved: bool,
}

/// Whether the metric is judged: not what describes the load or a fit.
pub(super) fn is_judged(key: &str) -> bool {
    let is_of_fit = key.ends_with("_r_squared_ratio") || key.ends_with("_fixed_bytes");
    !is_of_fit && !describes_load(key)
}

/// Whether the machine's speed is in it.
pub(super) fn is_timed(key: &str, unit: Unit) -> bool {
    match unit {
        Unit::Ns | Unit::PerSecond => true,
        Unit::Bytes => false,
        Unit::Ratio | Unit::Count => key.contains("_cpu_"),
    }
}

/// Whether the metric is what servers take of an operation, which can be told by what the client takes of it.
pub(super) fn is_by_client(key: &str) -> bool {
    let is_of_servers = key.starts_with("server_cpu_") || key.starts_with("node_");
    is_of_servers && key.ends_with("_per_operation")
}

impl<'a> Pairing<'a> {
    /// What became of `key`, on each basis on which it can be compared.
    pub(super) fn changes(self, key: &'a str, metrics: [&'a Metric; 2]) -> Vec<Change<'a>> {
        let Some(figures) = both(metrics.map(|metric| metric.value)) else {
            return Vec::new();
        };
        let change = |basis, difference: Result<Scaled, Reason>| Change {
            cell: self.cells[1],
            metric: key,
            unit: metrics[1].unit,
            direction: metrics[1].direction,
            figures,
            basis,
            estimate: difference.as_ref().ok().map(Scaled::estimate),
            p: difference.as_ref().ok().map(|scaled| scaled.difference.p),
            judgement: match difference {
                Ok(_) => Judgement::NoChangeShown,
                Err(reason) => Judgement::NotComparable(reason),
            },
        };
        if self.is_interleaved {
            let pairs = paired(metrics);
            let is_counted = !is_timed(key, metrics[1].unit);
            let pairs = pairs.map(|scaled| {
                if is_counted {
                    scaled.beyond_margin(figures)
                } else {
                    scaled
                }
            });
            return vec![change(Basis::Pairs, pairs)];
        }
        if !is_timed(key, metrics[1].unit) {
            let counted = samples(self.cells, metrics).map(|scaled| scaled.beyond_margin(figures));
            return vec![change(Basis::Blocks, counted)];
        }
        let mut changes = Vec::new();
        if let Some((control, difference)) = self.by_control(key) {
            changes.push(change(Basis::Control(control), difference));
        }
        if let Some(difference) = self.by_client(key, metrics) {
            changes.push(change(Basis::ClientCpu, difference));
        }
        if changes.is_empty() {
            let is_same = metrics[0] == metrics[1];
            let reason = Reason::TimeOfSeparateRuns;
            let same = samples(self.cells, metrics);
            changes.push(change(
                Basis::Blocks,
                if is_same { same } else { Err(reason) },
            ));
        }
        changes
    }

    /// The ratios to the control, of one run and of the other.
    fn by_control(self, key: &str) -> Option<(&'a str, Result<Scaled, Reason>)> {
        let id: &str = &self.cells[1].id;
        let of = move |run: &'a Run| {
            let ratios = run.ratios.iter();
            ratios.filter(move |ratio| ratio.metric == key && ratio.cell_id == id)
        };
        let [base, head] = self.runs;
        let (head, base) = of(head).find_map(|head| {
            let same = of(base).find(|base| base.control_cell_id == head.control_cell_id)?;
            Some((head, same))
        })?;
        let control = head.control_cell_id.as_str();
        let by_blocks = [0, 1].map(|side| {
            let control = cell(self.runs[side], control)?;
            let ratios = quotients(
                self.cells[side].metrics.get(key)?,
                control.metrics.get(key)?,
            );
            Sample::of(&ratios)
        });
        let recorded = || {
            both([base, head].map(|ratio| {
                let (low, high) = (ratio.ci95_low?.ln(), ratio.ci95_high?.ln());
                Sample::of_interval(ratio.ratio.ln(), Interval { low, high }, ratio.blocks)
            }))
        };
        let samples = both(by_blocks).or_else(recorded).ok_or(Reason::FewBlocks);
        Some((
            control,
            samples.map(|[base, head]| Scaled::ratio(head.against(&base))),
        ))
    }

    /// The ratios to the client's processor time.
    fn by_client(self, key: &str, metrics: [&Metric; 2]) -> Option<Result<Scaled, Reason>> {
        if !is_by_client(key) {
            return None;
        }
        let samples = [0, 1].map(|side| {
            let client = self.cells[side].metrics.get(CLIENT_CPU)?;
            Sample::of(&quotients(metrics[side], client))
        });
        let [base, head] = both(samples)?;
        Some(Ok(Scaled::ratio(head.against(&base))))
    }
}

fn cell<'r>(run: &'r Run, id: &str) -> Option<&'r Cell> {
    let mut cells = run.cells.iter();
    cells.find(|cell| cell.id == id && cell.verdict == Verdict::Ok)
}

fn both<T>([base, head]: [Option<T>; 2]) -> Option<[T; 2]> {
    Some([base?, head?])
}

/// Logarithms of `above` ÷ `below`, of blocks in which both are above zero.
fn quotients(above: &Metric, below: &Metric) -> Vec<f64> {
    let blocks = above.blocks.iter().zip(&below.blocks);
    let blocks = blocks.filter_map(|(above, below)| Some((*above)?.ln() - (*below)?.ln()));
    blocks.filter(|ratio| ratio.is_finite()).collect()
}

/// A difference of logarithms, or of the figures themselves where some are not above zero.
struct Scaled {
    difference: Difference,
    is_logarithmic: bool,
}

impl Scaled {
    fn ratio(difference: Difference) -> Self {
        Self {
            difference,
            is_logarithmic: true,
        }
    }

    fn estimate(&self) -> Estimate {
        let Difference { mean, ci95, .. } = self.difference;
        if self.is_logarithmic {
            let Interval { low, high } = ci95;
            let interval = Interval {
                low: low.exp(),
                high: high.exp(),
            };
            Estimate::Ratio(mean.exp(), interval)
        } else {
            Estimate::Difference(mean, ci95)
        }
    }

    /// What lies within the margin is nothing.
    fn beyond_margin(mut self, [base, head]: [f64; 2]) -> Self {
        let margin = (base.abs() * COUNTED_MARGIN_RATIO).max(COUNTED_MARGIN.min(base.abs() * 0.1));
        if (head - base).abs() <= margin {
            self.difference.p = 1.0;
        }
        self
    }
}

fn paired(metrics: [&Metric; 2]) -> Result<Scaled, Reason> {
    let blocks = metrics[0].blocks.iter().zip(&metrics[1].blocks);
    let pairs: Vec<(f64, f64)> = blocks
        .filter_map(|(base, head)| Some(((*base)?, (*head)?)))
        .collect();
    let is_logarithmic = pairs.iter().all(|(base, head)| *base > 0.0 && *head > 0.0);
    let differences: Vec<f64> = pairs
        .iter()
        .map(|(base, head)| {
            if is_logarithmic {
                head.ln() - base.ln()
            } else {
                head - base
            }
        })
        .collect();
    let sample = Sample::of(&differences).ok_or(Reason::FewBlocks)?;
    Ok(Scaled {
        difference: sample.against_zero(),
        is_logarithmic,
    })
}

/// Both sides as they are; where the runs have no figures of blocks, by their intervals.
fn samples(cells: [&Cell; 2], metrics: [&Metric; 2]) -> Result<Scaled, Reason> {
    let figures = metrics.map(|metric| {
        metric
            .blocks
            .iter()
            .flatten()
            .copied()
            .collect::<Vec<f64>>()
    });
    let ends = metrics.map(|metric| metric.ci95_low.or(metric.value));
    let is_logarithmic = figures.iter().flatten().all(|figure| *figure > 0.0)
        && ends.iter().all(|end| end.is_some_and(|end| end > 0.0));
    let scale = |figure: f64| if is_logarithmic { figure.ln() } else { figure };
    let sample = |side: usize| {
        let (cell, metric): (&Cell, &Metric) = (cells[side], metrics[side]);
        let figures: Vec<f64> = figures[side].iter().map(|figure| scale(*figure)).collect();
        Sample::of(&figures).or_else(|| {
            let (low, high) = (scale(metric.ci95_low?), scale(metric.ci95_high?));
            Sample::of_interval(
                scale(metric.value?),
                Interval { low, high },
                cell.repetitions,
            )
        })
    };
    let [base, head] = both([sample(0), sample(1)]).ok_or(Reason::FewBlocks)?;
    Ok(Scaled {
        difference: head.against(&base),
        is_logarithmic,
    })
}

/// Judges all changes together: with hundreds of figures, some of 1,000 lie beyond any limit by chance, so
/// the limit is such that of what is claimed at most [`FALSE_DISCOVERY_RATE`] is expected to be false.
pub(super) fn judge(changes: &mut [Change<'_>]) {
    let is_timed = |change: &Change<'_>| is_timed(change.metric, change.unit);
    let all = changes
        .iter()
        .filter_map(|change| Some((is_timed(change), change.p?)));
    let limits = Limits::of(all);
    for change in changes {
        let (Some(p), Some(estimate)) = (change.p, &change.estimate) else {
            continue;
        };
        if limits.are_met(is_timed(change), p) {
            change.judgement = Judgement::of_growth(change.direction, estimate.is_growth());
        }
    }
}

/// How small a p has to be: of what is counted, and of what is timed. They are judged apart, since of the hundreds
/// of figures that are counted hardly any differ, and would make it the harder for a time to be told from chance.
pub(super) struct Limits([Option<f64>; 2]);

impl Limits {
    /// Of figures that are timed or not, and their p.
    pub(super) fn of(all: impl Iterator<Item = (bool, f64)> + Clone) -> Self {
        Self([false, true].map(|is_timed| {
            let alike = all.clone().filter(|(timed, _)| *timed == is_timed);
            let alike: Vec<f64> = alike.map(|(_, p)| p).collect();
            discovery_limit(&alike, FALSE_DISCOVERY_RATE)
        }))
    }

    pub(super) fn are_met(&self, is_timed: bool, p: f64) -> bool {
        self.0[usize::from(is_timed)].is_some_and(|limit| p <= limit)
    }
}

/// By id.
pub(super) fn by_id(run: &Run) -> BTreeMap<&str, &Cell> {
    let cells = run.cells.iter();
    cells.map(|cell| (cell.id.as_str(), cell)).collect()
}
