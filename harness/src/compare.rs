//! A run against another one: the same cells, the same metrics, HEAD ÷ BASE. Beside the reports, above
//! [`hopbench::record`]; it prints nothing.
//!
//! Runs are measured at different times, so a ratio of times says as much about the machine as about
//! the code. What is counted – bytes of heap, bytes on the wire – does not depend on the machine's speed.

pub(crate) mod gate;

use std::collections::BTreeMap;

use hopbench::record::{Cell, Environment, Run, Verdict};

/// What two runs have in common, and what they have not.
#[derive(Debug)]
pub(crate) struct Comparison<'a> {
    /// What differs between the places and the builds that they were measured in.
    pub(crate) differences: Vec<Difference>,
    /// What both measured, in BASE's order of cells, then by metric key.
    pub(crate) pairs: Vec<Pair<'a>>,
    /// What BASE measured and HEAD did not.
    pub(crate) missing: Vec<Missing<'a>>,
    /// Cells that only HEAD has.
    pub(crate) new_cells: Vec<&'a str>,
}

/// A condition of the measurement that is not the same.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Difference {
    /// What it is called in `run.json`.
    pub(crate) name: String,
    /// Of BASE.
    pub(crate) base: String,
    /// Of HEAD.
    pub(crate) head: String,
}

/// A metric of a cell in both runs.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Pair<'a> {
    /// The cell.
    pub(crate) cell_id: &'a str,
    /// The metric.
    pub(crate) metric: &'a str,
    /// In BASE.
    pub(crate) base: f64,
    /// In HEAD.
    pub(crate) head: f64,
}

impl Pair<'_> {
    /// HEAD ÷ BASE; 1 where both are 0, infinite where BASE alone is 0.
    pub(crate) fn ratio(&self) -> f64 {
        if self.base == self.head {
            1.0
        } else {
            self.head / self.base
        }
    }
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
        let by_id = |run: &'a Run| -> BTreeMap<&'a str, &'a Cell> {
            let cells = run.cells.iter();
            cells.map(|cell| (cell.id.as_str(), cell)).collect()
        };
        let (of_base, of_head) = (by_id(base), by_id(head));
        let mut comparison = Self {
            differences: differences(base, head),
            pairs: Vec::new(),
            missing: Vec::new(),
            new_cells: Vec::new(),
        };
        for cell in base.cells.iter().filter(|cell| cell.verdict == Verdict::Ok) {
            comparison.add(cell, of_head.get(cell.id.as_str()).copied());
        }
        let is_new = |cell: &&Cell| !of_base.contains_key(cell.id.as_str());
        let new = head.cells.iter().filter(is_new);
        comparison.new_cells = new.map(|cell| cell.id.as_str()).collect();
        comparison
    }

    fn add(&mut self, cell: &'a Cell, head: Option<&'a Cell>) {
        for (metric, base) in &cell.metrics {
            let Some(base) = base.value else { continue };
            let found = match head {
                None => Err(Absence::Cell),
                Some(head) if head.verdict != Verdict::Ok => Err(Absence::Verdict(head.verdict)),
                Some(head) => {
                    let figure = head.metrics.get(metric).and_then(|metric| metric.value);
                    figure.ok_or(Absence::Figure)
                }
            };
            let cell_id = &cell.id;
            match found {
                Ok(head) => self.pairs.push(Pair {
                    cell_id,
                    metric,
                    base,
                    head,
                }),
                Err(absence) => self.missing.push(Missing {
                    cell_id,
                    metric,
                    absence,
                }),
            }
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
mod tests {
    use super::*;
    use crate::report::fixture;

    #[test]
    fn a_run_against_itself_changed_nowhere() {
        let run = fixture::run();
        let comparison = Comparison::of(&run, &run);
        assert!(comparison.differences.is_empty() && comparison.new_cells.is_empty());
        assert!(comparison.missing.is_empty(), "{:?}", comparison.missing);
        assert!(comparison.pairs.len() > 100);
        assert!(comparison.pairs.iter().all(|pair| pair.ratio() == 1.0));
    }

    #[test]
    fn what_has_no_counterpart_is_said_with_the_reason() {
        let base = fixture::run();
        let mut head = base.clone();
        head.environment.kernel = None;
        head.build.libraries.insert("rustls".into(), "9.9.9".into());
        let is_sound = |cell: &Cell| cell.verdict == Verdict::Ok && !cell.metrics.is_empty();
        let mut sound = head.cells.iter_mut().filter(|cell| is_sound(cell));
        let [renamed, failed, silent] = [(); 3].map(|()| sound.next().expect("three sound cells"));
        let ids = [&renamed.id, &failed.id, &silent.id].map(String::clone);
        renamed.id.push_str("&new=1");
        failed.verdict = Verdict::Failed;
        let (key, metric) = silent.metrics.iter_mut().next().expect("it has metrics");
        metric.value = None;
        let key = key.clone();
        let comparison = Comparison::of(&base, &head);
        let absence = |id: &str| {
            let mut of_cell = comparison.missing.iter().filter(|m| m.cell_id == id);
            of_cell.next().expect("it is missing").absence
        };
        assert_eq!(absence(&ids[0]), Absence::Cell);
        assert_eq!(absence(&ids[1]), Absence::Verdict(Verdict::Failed));
        let silent: Vec<_> = comparison
            .missing
            .iter()
            .filter(|m| m.cell_id == ids[2])
            .collect();
        assert_eq!((silent.len(), silent[0].metric), (1, key.as_str()));
        assert_eq!(comparison.new_cells, [format!("{}&new=1", ids[0])]);
        let names: Vec<&str> = comparison
            .differences
            .iter()
            .map(|d| d.name.as_str())
            .collect();
        assert_eq!(names, ["build.libraries.rustls", "environment.kernel"]);
        assert_eq!(comparison.differences[1].head, "none");
    }

    #[test]
    fn nothing_against_nothing_is_no_change() {
        let pair = |base, head| Pair {
            cell_id: "",
            metric: "",
            base,
            head,
        };
        assert_eq!(pair(0.0, 0.0).ratio(), 1.0);
        assert_eq!(pair(0.0, 5.0).ratio(), f64::INFINITY);
        assert_eq!(pair(4.0, 5.0).ratio(), 1.25);
    }
}
