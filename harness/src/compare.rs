//! A run against another one: the same cells, the same metrics, HEAD ÷ BASE, and whether what differs is
//! more than chance. Beside the reports, above [`hopbench::record`]; it prints nothing itself.

mod json;
mod judge;
mod markdown;
mod overall;
mod text;

use std::collections::BTreeMap;

use hopbench::record::{Cell, Direction, Environment, Run, Unit, Verdict};
use serde::Serialize;

use crate::statistics::Interval;
use judge::{Pairing, by_id};
use overall::Overall;

pub(crate) use json::render as json;
pub(crate) use markdown::render as markdown;
pub(crate) use text::render as text;

/// What two runs have in common, and what they have not.
#[derive(Debug)]
pub(crate) struct Comparison<'a> {
    /// What is compared with.
    pub(crate) base: &'a Run,
    /// What is compared.
    pub(crate) head: &'a Run,
    /// Whether blocks of equal numbers were measured side by side.
    pub(crate) is_interleaved: bool,
    /// What differs between the places and the builds that they were measured in.
    pub(crate) differences: Vec<Difference>,
    /// What both measured, in HEAD's order of cells, then by metric key. A metric stands there once for
    /// each basis on which it can be compared.
    pub(crate) changes: Vec<Change<'a>>,
    /// The same over all cells together, of what is compared pair by pair, as it is, or by the client.
    pub(crate) overall: Vec<Overall<'a>>,
    /// What BASE measured and HEAD did not.
    pub(crate) missing: Vec<Missing<'a>>,
    /// Cells that only HEAD has.
    pub(crate) new_cells: Vec<&'a str>,
}

/// What became of a metric of a cell.
#[derive(Clone, Debug)]
pub(crate) struct Change<'a> {
    /// The cell, of HEAD.
    pub(crate) cell: &'a Cell,
    /// The metric.
    pub(crate) metric: &'a str,
    /// Its unit.
    pub(crate) unit: Unit,
    /// Which direction of it is better.
    pub(crate) direction: Direction,
    /// In BASE, and in HEAD.
    pub(crate) figures: [f64; 2],
    /// What is compared.
    pub(crate) basis: Basis<'a>,
    /// By how much it changed; `None` where it cannot be compared.
    pub(crate) estimate: Option<Estimate>,
    /// How likely such a difference is without a change.
    pub(crate) p: Option<f64>,
    /// What is claimed.
    pub(crate) judgement: Judgement,
}

/// What two figures are compared by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Basis<'a> {
    /// Pairs of blocks that were measured side by side.
    Pairs,
    /// The blocks of either run, as they are.
    Blocks,
    /// Ratios to the control, a cell of the same run.
    Control(&'a str),
    /// Ratios to the client's processor time in the same block.
    ClientCpu,
}

/// By how much a figure changed, with the 95 % interval.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Estimate {
    /// HEAD ÷ BASE.
    Ratio(f64, Interval),
    /// HEAD − BASE, of figures that are not all above zero.
    Difference(f64, Interval),
}

impl Estimate {
    fn is_growth(&self) -> bool {
        match self {
            Self::Ratio(ratio, _) => *ratio > 1.0,
            Self::Difference(difference, _) => *difference > 0.0,
        }
    }
}

/// What is claimed of a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Judgement {
    /// It is more than chance, and in the direction that is worse.
    Worse,
    /// It is more than chance, and in the direction that is better.
    Better,
    /// Chance explains it. That does not say that nothing has changed: the interval says how much may have.
    NoChangeShown,
    /// The two figures say nothing of each other.
    NotComparable(Reason),
}

/// Why figures cannot be compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reason {
    /// Fewer than three blocks on a side: nothing is known of their spread.
    FewBlocks,
    /// A time of two runs that were not interleaved, without anything beside it that tells the speed of
    /// the machine.
    TimeOfSeparateRuns,
}

impl Judgement {
    /// Of a change that is more than chance.
    fn of_growth(direction: Direction, has_grown: bool) -> Self {
        match direction {
            Direction::Lower if has_grown => Self::Worse,
            Direction::Higher if !has_grown => Self::Worse,
            Direction::Lower | Direction::Higher => Self::Better,
        }
    }

    /// As it is written.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Worse => "worse",
            Self::Better => "better",
            Self::NoChangeShown => "no change shown",
            Self::NotComparable(_) => "not comparable",
        }
    }
}

impl Reason {
    /// As it is written.
    pub(crate) fn words(self) -> &'static str {
        match self {
            Self::FewBlocks => "fewer than three blocks",
            Self::TimeOfSeparateRuns => {
                "a time, of runs that were not interleaved, without a control"
            }
        }
    }
}

/// A condition of the measurement that is not the same.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Difference {
    /// What it is called in `run.json`.
    pub(crate) name: String,
    /// Of BASE.
    pub(crate) base: String,
    /// Of HEAD.
    pub(crate) head: String,
}

/// A metric of BASE without a counterpart in HEAD.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Missing<'a> {
    /// BASE's cell.
    pub(crate) cell_id: &'a str,
    /// The metric.
    pub(crate) metric: &'a str,
    /// Why.
    pub(crate) absence: Absence,
}

/// Why something has no counterpart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Absence {
    /// HEAD has no such cell.
    Cell,
    /// HEAD's cell is not ok.
    Verdict(Verdict),
    /// HEAD's cell has no such figure.
    Figure,
}

impl<'a> Comparison<'a> {
    /// Compares all cells of `base` that are ok with those of `head` that have the same id.
    pub(crate) fn of(base: &'a Run, head: &'a Run) -> Self {
        let (of_base, of_head) = (by_id(base), by_id(head));
        let is_interleaved = base.interleaving.is_some() && base.interleaving == head.interleaving;
        let is_new = |cell: &&Cell| !of_base.contains_key(cell.id.as_str());
        let new = head.cells.iter().filter(is_new);
        let mut comparison = Self {
            base,
            head,
            is_interleaved,
            differences: differences(base, head),
            changes: Vec::new(),
            overall: Vec::new(),
            missing: Vec::new(),
            new_cells: new.map(|cell| cell.id.as_str()).collect(),
        };
        for cell in base.cells.iter().filter(|cell| cell.verdict == Verdict::Ok) {
            comparison.add(cell, of_head.get(cell.id.as_str()).copied());
        }
        judge::judge(&mut comparison.changes);
        comparison.overall = overall::overall(base, head, is_interleaved);
        comparison
    }

    /// Whether anything became worse, in a cell or over all of them.
    pub(crate) fn is_worse(&self) -> bool {
        let overall = self.overall.iter().map(|overall| overall.judgement);
        let single = self.changes.iter().map(|change| change.judgement);
        overall
            .chain(single)
            .any(|judgement| judgement == Judgement::Worse)
    }

    /// Metrics that changed over all cells together.
    pub(crate) fn found_overall(&self) -> Vec<&Overall<'a>> {
        let is_found = |overall: &&Overall<'_>| overall.judgement != Judgement::NoChangeShown;
        self.overall.iter().filter(is_found).collect()
    }

    /// How many changes are judged so.
    pub(crate) fn count(&self, is_so: impl Fn(Judgement) -> bool) -> usize {
        let judged = self.changes.iter().map(|change| change.judgement);
        judged.filter(|judgement| is_so(*judgement)).count()
    }

    /// Changes that are more than chance, the surest first: worse, then better.
    pub(crate) fn found(&self) -> Vec<&Change<'a>> {
        let rank = |change: &Change<'_>| match change.judgement {
            Judgement::Worse => 0,
            Judgement::Better => 1,
            Judgement::NoChangeShown | Judgement::NotComparable(_) => 2,
        };
        let mut found: Vec<&Change<'a>> = self.changes.iter().filter(|c| rank(c) < 2).collect();
        found.sort_by(|a, b| {
            let by_size = b.size().total_cmp(&a.size());
            rank(a).cmp(&rank(b)).then(by_size)
        });
        found
    }

    fn add(&mut self, cell: &'a Cell, head: Option<&'a Cell>) {
        for (key, metric) in &cell.metrics {
            if metric.value.is_none() || !judge::is_judged(key) {
                continue;
            }
            let found = match head {
                None => Err(Absence::Cell),
                Some(head) if head.verdict != Verdict::Ok => Err(Absence::Verdict(head.verdict)),
                Some(head) => {
                    let figure = head
                        .metrics
                        .get(key)
                        .filter(|metric| metric.value.is_some());
                    figure.map(|figure| (head, figure)).ok_or(Absence::Figure)
                }
            };
            match found {
                Ok((head, figure)) => {
                    let pairing = Pairing {
                        runs: [self.base, self.head],
                        cells: [cell, head],
                        is_interleaved: self.is_interleaved,
                    };
                    self.changes.extend(pairing.changes(key, [metric, figure]));
                }
                Err(absence) => self.missing.push(Missing {
                    cell_id: &cell.id,
                    metric: key,
                    absence,
                }),
            }
        }
    }
}

impl Change<'_> {
    /// How far the ratio is from 1, on a logarithmic scale; infinite for what has no ratio.
    fn size(&self) -> f64 {
        match self.estimate {
            Some(Estimate::Ratio(ratio, _)) => ratio.ln().abs(),
            Some(Estimate::Difference(..)) | None => f64::INFINITY,
        }
    }
}

impl Basis<'_> {
    /// What was compared, in a few letters.
    pub(crate) fn words(self) -> String {
        match self {
            Self::Pairs => "pairs of blocks".to_owned(),
            Self::Blocks => "blocks".to_owned(),
            Self::Control(control) => {
                let stack = control.split('/').nth(2).unwrap_or(control);
                format!("÷ {stack}")
            }
            Self::ClientCpu => "÷ client CPU".to_owned(),
        }
    }
}

/// What a figure may hinge on beside the code that is measured.
fn differences(base: &Run, head: &Run) -> Vec<Difference> {
    let (base, head) = (conditions(base), conditions(head));
    let mut names: Vec<&String> = base.keys().chain(head.keys()).collect();
    names.sort();
    names.dedup();
    let value = |run: &BTreeMap<String, String>, name: &String| {
        run.get(name).cloned().unwrap_or_else(|| "none".to_owned())
    };
    let all = names.into_iter().map(|name| Difference {
        name: name.clone(),
        base: value(&base, name),
        head: value(&head, name),
    });
    all.filter(|condition| condition.base != condition.head)
        .collect()
}

fn conditions(run: &Run) -> BTreeMap<String, String> {
    let Environment {
        os,
        kernel,
        cpu_model,
        cpu_count,
        memory_bytes,
        hypervisor,
        tcp_congestion_control,
        file_descriptor_limit,
        // It says how quiet the moment was, not where it was.
        load_average_at_start: _,
    } = &run.environment;
    let mut conditions: BTreeMap<String, String> = run
        .build
        .libraries
        .iter()
        .map(|(library, version)| (format!("build.libraries.{library}"), version.clone()))
        .collect();
    let mut add = |name: &str, value: Option<String>| {
        conditions.extend(value.map(|value| (name.to_owned(), value)));
    };
    let number = |value: Option<u64>| value.map(|value| value.to_string());
    add("profile", Some(run.profile.clone()));
    add("scenario_sha256", Some(run.scenario_sha256.clone()));
    add("seed", Some(run.seed.to_string()));
    add("build.rustc", Some(run.build.rustc.clone()));
    add("environment.os", Some(os.clone()));
    add("environment.kernel", kernel.clone());
    add("environment.cpu_model", cpu_model.clone());
    add("environment.cpu_count", Some(cpu_count.to_string()));
    add("environment.memory_bytes", number(*memory_bytes));
    add("environment.hypervisor", hypervisor.clone());
    add(
        "environment.tcp_congestion_control",
        tcp_congestion_control.clone(),
    );
    add(
        "environment.file_descriptor_limit",
        number(*file_descriptor_limit),
    );
    conditions
}

#[cfg(test)]
mod tests;
