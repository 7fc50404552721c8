//! From the runs of single blocks to one run, as if one process had measured them all.

use std::collections::BTreeMap;

use hopbench::measure::histogram::{LatencyHistogram, RateHistogram};
use hopbench::record::{Cell, Fit, Metric, Ratio, Run, Series, Unit, Verdict};

use crate::experiment::is_mishap;
use crate::statistics::{Stopping, fit, median, of_median, ratio_of_blocks};

/// What both runs of an interleaved measurement have in common.
pub(crate) struct Session {
    /// Its name, in both runs.
    pub(crate) id: String,
    /// Of the scenario.
    pub(crate) scenario_sha256: String,
    /// Of the first round.
    pub(crate) seed: u64,
}

/// A cell, by round.
type Rounds = BTreeMap<u32, Cell>;

impl Session {
    /// One run of the `blocks` of a side, of which there are several a round: one for each question.
    ///
    /// # Panics
    /// When there are none.
    pub(super) fn merged(&self, blocks: Vec<(u32, Run)>, rounds: u32) -> Run {
        let mut order: Vec<String> = Vec::new();
        let mut by_id: BTreeMap<String, Rounds> = BTreeMap::new();
        let mut pairs: Vec<[String; 3]> = Vec::new();
        let first = blocks[0].1.clone();
        let finished_at = blocks[blocks.len() - 1].1.finished_at.clone();
        for (round, run) in blocks {
            for cell in run.cells {
                if !by_id.contains_key(&cell.id) {
                    order.push(cell.id.clone());
                }
                by_id
                    .entry(cell.id.clone())
                    .or_default()
                    .insert(round, cell);
            }
            for ratio in run.ratios {
                let pair = [ratio.metric, ratio.cell_id, ratio.control_cell_id];
                if !pairs.contains(&pair) {
                    pairs.push(pair);
                }
            }
        }
        let cells = order
            .iter()
            .map(|id| self.cell(&by_id[id], rounds))
            .collect();
        let mut run = Run {
            run_id: format!(
                "{}-{}",
                self.id,
                &first.run_id[first.run_id.len().saturating_sub(4)..]
            ),
            finished_at,
            seed: self.seed,
            scenario_sha256: self.scenario_sha256.clone(),
            interleaving: Some(self.id.clone()),
            cells,
            ratios: Vec::new(),
            ..first
        };
        run.ratios = self.ratios(&run.cells, &pairs, rounds);
        run
    }

    fn cell(&self, rounds: &Rounds, wanted: u32) -> Cell {
        let last = rounds
            .values()
            .next_back()
            .expect("a cell has a round")
            .clone();
        let (verdict, reason) = verdict(rounds, wanted);
        let counted = counted(rounds);
        // Of searches, how one ended that did not converge.
        let mut ends = counted
            .values()
            .filter_map(|cell| cell.parameters.get("search_end"));
        let unfinished = ends.find(|end| *end != "converged").cloned();
        let mut metrics: BTreeMap<String, BTreeMap<u32, &Metric>> = BTreeMap::new();
        for (round, cell) in &counted {
            for (key, metric) in &cell.metrics {
                metrics
                    .entry(key.clone())
                    .or_default()
                    .insert(*round, metric);
            }
        }
        let merged = metrics.into_iter();
        let merged = merged.map(|(key, rounds)| {
            // What only some rounds have found is no figure of all of them.
            let is_of_some = rounds.values().any(|metric| metric.value.is_none());
            let metric = if unfinished.is_some() && is_of_some {
                Metric::missing(&key)
            } else {
                self.metric(&key, &rounds)
            };
            (key, metric)
        });
        let metrics = merged.collect();
        let mut parameters = last.parameters.clone();
        if let Some(end) = unfinished {
            parameters.insert("search_end".to_owned(), end);
        }
        Cell {
            verdict,
            reason,
            repetitions: u32::try_from(counted.len()).expect("rounds fit 32 bits"),
            metrics,
            parameters,
            ..last
        }
    }

    /// As a run merges its blocks: distributions add up, and mishaps; of other figures the median is told.
    fn metric(&self, key: &str, rounds: &BTreeMap<u32, &Metric>) -> Metric {
        let blocks: BTreeMap<u32, f64> = rounds
            .iter()
            .filter_map(|(round, metric)| Some((*round, figure(metric)?)))
            .collect();
        let figures: Vec<f64> = blocks.values().copied().collect();
        let like = rounds.values().next_back().expect("a metric has a round");
        let scalar = |value| Metric::scalar(value, None, like.unit, like.direction);
        if is_mishap(key) {
            let sum = (!figures.is_empty()).then(|| figures.iter().sum());
            return scalar(sum).with_blocks(blocks);
        }
        let mut merged = distribution(rounds).unwrap_or_else(|| scalar(median(&figures)));
        merged.fit = fitted(rounds);
        merged.series = course(rounds);
        merged
            .with_interval(of_median(&figures).map(Into::into))
            .with_blocks(blocks)
    }

    fn ratios(&self, cells: &[Cell], pairs: &[[String; 3]], rounds: u32) -> Vec<Ratio> {
        let sound = |id: &str| {
            let mut cells = cells.iter();
            cells.find(|cell| cell.id == id && cell.verdict == Verdict::Ok)
        };
        let ratio = |[metric, cell_id, control_id]: &[String; 3]| {
            let figures = |id: &str| {
                let mut blocks = sound(id)?.metrics.get(metric)?.blocks.clone();
                blocks.resize(rounds as usize, None);
                Some(blocks)
            };
            let (above, below) = (figures(cell_id)?, figures(control_id)?);
            let estimate = ratio_of_blocks(&above, &below, Stopping::Fixed)?;
            Some(estimate.record(metric, cell_id, control_id))
        };
        pairs.iter().filter_map(ratio).collect()
    }
}

/// A round's figure: of a rate the median of its windows, where the run tells it.
fn figure(metric: &Metric) -> Option<f64> {
    match metric.blocks.as_slice() {
        [block] => *block,
        _ => metric.value,
    }
}

/// Rounds whose figures count: those in which the generator was not the bottleneck, if they are most.
fn counted(rounds: &Rounds) -> BTreeMap<u32, &Cell> {
    let all: BTreeMap<u32, &Cell> = rounds.iter().map(|(round, cell)| (*round, cell)).collect();
    let mut sound = all.clone();
    sound.retain(|_, cell| cell.verdict == Verdict::Ok);
    if sound.len() * 2 > all.len() {
        sound
    } else {
        all
    }
}

fn verdict(rounds: &Rounds, wanted: u32) -> (Verdict, Option<String>) {
    for bad in [Verdict::Unsupported, Verdict::Failed] {
        let found = rounds.iter().find(|(_, cell)| cell.verdict == bad);
        if let Some((round, cell)) = found {
            let reason = cell.reason.as_deref().unwrap_or("without a reason");
            return (bad, Some(format!("in round {}: {reason}", round + 1)));
        }
    }
    if rounds.len() < wanted as usize {
        let reason = format!("measured in {} of {wanted} rounds", rounds.len());
        return (Verdict::Failed, Some(reason));
    }
    let bound = counted(rounds)
        .into_values()
        .find(|cell| cell.verdict != Verdict::Ok);
    match bound {
        Some(cell) => (Verdict::GeneratorBound, cell.reason.clone()),
        None => (Verdict::Ok, None),
    }
}

/// The distributions of all rounds together; `None` where there are none, or they cannot be read.
fn distribution(rounds: &BTreeMap<u32, &Metric>) -> Option<Metric> {
    let histograms = || {
        rounds
            .values()
            .filter_map(|metric| metric.histogram.as_ref())
    };
    let unit = histograms().next().and(rounds.values().next())?.unit;
    if unit == Unit::PerSecond {
        let mut all = RateHistogram::new();
        for histogram in histograms() {
            all.merge(&RateHistogram::try_from(histogram).ok()?);
        }
        return Some(Metric::throughput(&all));
    }
    let mut all = LatencyHistogram::new();
    for histogram in histograms() {
        all.merge(&LatencyHistogram::try_from(histogram).ok()?);
    }
    Some(Metric::latency(&all))
}

/// The windows of all rounds, one round after another.
fn course(rounds: &BTreeMap<u32, &Metric>) -> Option<Series> {
    let series = || rounds.values().filter_map(|metric| metric.series.as_ref());
    Some(Series {
        window_ms: series().next()?.window_ms,
        counts: series().flat_map(|it| it.counts.clone()).collect(),
    })
}

/// The readings of all rounds under one slope.
fn fitted(rounds: &BTreeMap<u32, &Metric>) -> Option<Fit> {
    let fits: Vec<_> = rounds
        .values()
        .filter_map(|metric| metric.fit.as_ref())
        .collect();
    let at = fits.first()?.at.clone();
    let readings = fits.iter().flat_map(|fit| fit.readings.clone()).collect();
    fit::of(at, readings)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::report::fixture;

    fn session() -> Session {
        Session {
            id: "session".to_owned(),
            scenario_sha256: "00".to_owned(),
            seed: 3,
        }
    }

    /// The fixture as a run of one block, its figures `factor` times as large.
    fn block(factor: f64) -> Run {
        let mut run = fixture::run();
        // A dozen cells tell what all would.
        let is_kept = |id: &str| {
            id.starts_with("setup/register/t") || id.starts_with("throughput/register/t")
        };
        run.cells.retain(|cell| is_kept(&cell.id));
        run.ratios.retain(|ratio| is_kept(&ratio.cell_id));
        for metric in run
            .cells
            .iter_mut()
            .flat_map(|cell| cell.metrics.values_mut())
        {
            metric.value = metric.value.map(|value| value * factor);
            metric.blocks = metric.value.map(Some).into_iter().collect();
        }
        run
    }

    #[test]
    fn blocks_become_a_run_with_intervals_and_ratios() {
        let rounds = [1.0, 3.0, 2.0];
        let blocks = (0..)
            .zip(rounds)
            .map(|(round, factor)| (round, block(factor)));
        let run = session().merged(blocks.collect(), 3);
        let single = block(1.0);
        assert_eq!(run.cells.len(), single.cells.len());
        assert_eq!(run.interleaving.as_deref(), Some("session"));
        let ok = |run: &Run| {
            run.cells
                .iter()
                .filter(|c| c.verdict == Verdict::Ok)
                .count()
        };
        assert_eq!(ok(&run), ok(&single));
        let key = "server_cpu_ns_per_operation";
        let cell = run
            .cells
            .iter()
            .find(|cell| cell.metrics.contains_key(key))
            .unwrap();
        let same = single
            .cells
            .iter()
            .find(|other| other.id == cell.id)
            .unwrap();
        let (metric, value) = (&cell.metrics[key], same.metrics[key].value.unwrap());
        assert_eq!(metric.value, Some(2.0 * value));
        assert_eq!(metric.blocks, rounds.map(|factor| Some(factor * value)));
        let interval = of_median(&rounds.map(|factor| factor * value)).unwrap();
        let expected = (Some(interval.low), Some(interval.high));
        assert_eq!((metric.ci95_low, metric.ci95_high), expected);
        assert_eq!(cell.repetitions, 3);
        // Both sides of a ratio grow alike in a round.
        assert!(!run.ratios.is_empty());
        for ratio in &run.ratios {
            assert_eq!(ratio.blocks, 3, "{ratio:?}");
            assert!(
                (ratio.ci95_low.unwrap() - ratio.ci95_high.unwrap()).abs() < 1e-9,
                "{ratio:?}"
            );
        }
        let with_histogram = |run: &Run| {
            let metrics = run.cells.iter().flat_map(|cell| cell.metrics.values());
            metrics
                .filter_map(|m| m.histogram.as_ref())
                .map(|h| h.count)
                .sum::<u64>()
        };
        assert_eq!(with_histogram(&run), 3 * with_histogram(&single));
    }

    #[test]
    fn a_rate_that_some_rounds_have_not_found_is_none() {
        let of_search = |rate: Option<f64>| {
            let mut run = fixture::run();
            run.cells
                .retain(|cell| cell.id.starts_with("search/invite/tcp/"));
            run.ratios.clear();
            let [cell] = &mut run.cells[..] else {
                panic!("one search of tcp");
            };
            let end = if rate.is_some() {
                "converged"
            } else {
                "seconds"
            };
            cell.parameters.insert("search_end".to_owned(), end.into());
            for (key, value) in [
                ("session_establishment_rate", rate),
                ("search_held_per_second", Some(100.0)),
            ] {
                let metric = Metric::of(key, value).with_blocks(value.map(|it| (0, it)));
                cell.metrics.insert(key.to_owned(), metric);
            }
            run
        };
        for (rates, expected, end) in [
            (
                [Some(100.0), Some(300.0), Some(200.0)],
                Some(200.0),
                "converged",
            ),
            ([Some(100.0), None, Some(200.0)], None, "seconds"),
            ([Some(100.0), Some(200.0), None], None, "seconds"),
        ] {
            let blocks = (0..)
                .zip(rates)
                .map(|(round, rate)| (round, of_search(rate)));
            let run = session().merged(blocks.collect(), 3);
            let cell = &run.cells[0];
            assert_eq!(cell.metrics["session_establishment_rate"].value, expected);
            assert_eq!(cell.metrics["search_held_per_second"].value, Some(100.0));
            assert_eq!(cell.parameters["search_end"], end);
        }
    }

    #[test]
    fn a_round_that_failed_fails_the_cell_and_one_that_is_bound_is_left_out() {
        let mut blocks: Vec<(u32, Run)> = (0..3).map(|round| (round, block(1.0))).collect();
        let is_sound = |cell: &Cell| cell.verdict == Verdict::Ok && !cell.metrics.is_empty();
        let sound: Vec<usize> = (0..blocks[1].1.cells.len())
            .filter(|index| is_sound(&blocks[1].1.cells[*index]))
            .collect();
        let (bound, failed) = (sound[0], sound[1]);
        for (index, verdict) in [(bound, Verdict::GeneratorBound), (failed, Verdict::Failed)] {
            let cell = &mut blocks[1].1.cells[index];
            cell.verdict = verdict;
            cell.reason = Some("late".to_owned());
        }
        let missing = blocks[2].1.cells.remove(sound[2]).id;
        let ids = [bound, failed].map(|index| blocks[0].1.cells[index].id.clone());
        let run = session().merged(blocks, 3);
        let cell = |id: &str| run.cells.iter().find(|cell| cell.id == id).unwrap();
        assert_eq!(
            (cell(&ids[0]).verdict, cell(&ids[0]).repetitions),
            (Verdict::Ok, 2)
        );
        assert_eq!(cell(&ids[1]).reason.as_deref(), Some("in round 2: late"));
        assert_eq!(cell(&ids[1]).verdict, Verdict::Failed);
        assert_eq!(
            cell(&missing).reason.as_deref(),
            Some("measured in 2 of 3 rounds")
        );
    }
}
