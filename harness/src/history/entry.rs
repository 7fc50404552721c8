//! What a history keeps of a run: its sound figures with their intervals, and what they hinge on. No histograms:
//! those stay in `run.json`.

use std::collections::BTreeMap;

use hopbench::record::{Build, Direction, Environment, Run};
use serde::{Deserialize, Serialize};

use super::commit::Commit;
use crate::figures::{self, unit_word};
use crate::report::verdict_word;

/// Name and version of the format that [`Entry`] serialises to.
pub(crate) const SCHEMA: &str = "hopbench.history/1";

/// One run of the history.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Entry {
    /// Always [`SCHEMA`].
    pub(crate) schema: String,
    /// That of the run, and the name of the entry's file.
    pub(crate) run_id: String,
    /// RFC 3339, UTC.
    pub(crate) started_at: String,
    /// What was measured.
    pub(crate) commit: Commit,
    /// That of the run; runs of different profiles are not joined into one line.
    pub(crate) profile: String,
    /// That of the run; null where it is not known, as are the fields below.
    pub(crate) scenario_sha256: Option<String>,
    /// Machines that are alike have the same words; runs of different ones are not joined into one line.
    pub(crate) environment_class: String,
    /// The machine.
    pub(crate) environment: Option<Environment>,
    /// What was built.
    pub(crate) build: Option<Build>,
    /// Unit and direction of every metric in `cells`.
    pub(crate) metrics: BTreeMap<String, Meaning>,
    /// By id, the cells that were sound.
    pub(crate) cells: BTreeMap<String, CellFigures>,
    /// By id, the cells that were not: `verdict: reason`.
    pub(crate) left_out: BTreeMap<String, String>,
}

/// What a metric's figures mean.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Meaning {
    /// As in `run.json`; what was imported may have any other.
    pub(crate) unit: String,
    /// Which direction is better.
    pub(crate) direction: Direction,
}

/// The figures of a cell.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct CellFigures {
    /// By metric.
    pub(crate) figures: BTreeMap<String, Estimate>,
    /// By id of the control, by metric: the cell's figure ÷ the control's.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) ratios: BTreeMap<String, BTreeMap<String, Estimate>>,
}

/// Value, and lower and upper end of its 95 % interval or null.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Estimate(
    pub(crate) f64,
    pub(crate) Option<f64>,
    pub(crate) Option<f64>,
);

impl Estimate {
    /// With an interval, or without.
    pub(crate) fn new(value: f64, interval: Option<(f64, f64)>) -> Self {
        Self(
            value,
            interval.map(|(low, _)| low),
            interval.map(|(_, high)| high),
        )
    }

    /// Both ends, where there are both.
    pub(crate) fn interval(self) -> Option<(f64, f64)> {
        self.1.zip(self.2)
    }
}

impl Entry {
    /// What is kept of `run`, which was built from `commit`.
    pub(crate) fn of(run: &Run, commit: Commit) -> Self {
        let mut metrics = BTreeMap::new();
        let mut cells: BTreeMap<String, CellFigures> = BTreeMap::new();
        for figure in figures::sound(run) {
            let cell = cells.entry(figure.cell.id.clone()).or_default();
            let estimate = Estimate::new(figure.value, figure.interval);
            let metric = figure.metric.to_owned();
            // Of a ratio, that of what is divided.
            let unit = figure
                .cell
                .metrics
                .get(figure.metric)
                .map_or(figure.unit, |m| m.unit);
            let meaning = Meaning {
                unit: unit_word(unit).to_owned(),
                direction: figure.direction,
            };
            metrics.insert(metric.clone(), meaning);
            if let Some(control) = figure.control {
                let ratios = cell.ratios.entry(control.to_owned()).or_default();
                ratios.insert(metric, estimate);
            } else {
                cell.figures.insert(metric, estimate);
            }
        }
        let left_out = figures::left_out(run).into_iter().map(|cell| {
            let reason = cell.reason.as_deref().unwrap_or("no reason given");
            (
                cell.id.clone(),
                format!("{}: {reason}", verdict_word(cell.verdict)),
            )
        });
        Self {
            schema: SCHEMA.to_owned(),
            run_id: run.run_id.clone(),
            started_at: run.started_at.clone(),
            commit,
            profile: run.profile.clone(),
            scenario_sha256: Some(run.scenario_sha256.clone()),
            environment_class: class(&run.environment),
            environment: Some(run.environment.clone()),
            build: Some(run.build.clone()),
            metrics,
            cells,
            left_out: left_out.collect(),
        }
    }

    /// Where it stands on the axis: by the time of its commit, or else of the run.
    pub(crate) fn place(&self) -> (&str, &str, &str) {
        let committed = self.commit.committed_at.as_deref();
        (
            committed.unwrap_or(&self.started_at),
            &self.started_at,
            &self.run_id,
        )
    }

    /// Whether it has the same figures, whatever else is known of the run.
    pub(crate) fn has_figures_of(&self, other: &Self) -> bool {
        self.cells == other.cells && self.metrics == other.metrics
    }
}

/// What makes machines alike: processor, how many of it, system and hypervisor. The kernel is left out, since
/// hosted runners change it every week; where a figure changes with it, that is told beside the change.
pub(crate) fn class(environment: &Environment) -> String {
    let Environment {
        os,
        cpu_model,
        cpu_count,
        hypervisor,
        kernel: _,
        memory_bytes: _,
        tcp_congestion_control: _,
        file_descriptor_limit: _,
        load_average_at_start: _,
        ..
    } = environment;
    let model = cpu_model.as_deref().unwrap_or("unknown processor");
    let virtual_ = hypervisor.as_deref().map_or(String::new(), |hypervisor| {
        format!(", hypervisor {hypervisor}")
    });
    format!("{model}, {cpu_count} processors, {os}{virtual_}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::fixture;

    #[test]
    fn an_entry_has_every_sound_figure_and_says_what_it_lacks() {
        let run = fixture::run();
        let entry = Entry::of(&run, Commit::default());
        let count: usize = entry
            .cells
            .values()
            .map(|cell| cell.figures.len() + cell.ratios.values().map(BTreeMap::len).sum::<usize>())
            .sum();
        assert_eq!(count, figures::sound(&run).len());
        assert_eq!(entry.left_out.len(), figures::left_out(&run).len());
        assert!(
            entry
                .left_out
                .values()
                .any(|why| why.starts_with("generator-bound: "))
        );
        assert!(
            entry
                .left_out
                .keys()
                .all(|id| !entry.cells.contains_key(id))
        );
    }

    #[test]
    fn machines_are_alike_whatever_their_kernel_and_load() {
        let mut environment = fixture::run().environment;
        let before = class(&environment);
        environment.kernel = None;
        environment.load_average_at_start = Some(9.0);
        assert_eq!(class(&environment), before);
        environment.cpu_count += 1;
        assert_ne!(class(&environment), before);
    }
}
