//! Lines: the same figure in run after run, and where it changed. Pure.
//!
//! A line is of one machine class, one profile, one question, one metric and one stack. Runs of different
//! machines or profiles are never joined.

use std::collections::BTreeMap;

use hopbench::record::Direction;

use super::change::{self, Change};
use super::entry::{Entry, Estimate};
use crate::figures::{stack_of, without_stack};

/// Of every random order, since the same store must always say the same.
const SEED: u64 = 0x5eed;

/// What tells a line from all others, in the order in which they are shown.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Key {
    /// Class of the machines.
    pub(crate) class: String,
    /// Profile of the runs.
    pub(crate) profile: String,
    /// Cell id without the stack.
    pub(crate) question: String,
    /// Metric key.
    pub(crate) metric: String,
    /// Whether it is the ratio to a control.
    pub(crate) is_ratio: bool,
    /// The stack; of a ratio, `stack ÷ control`.
    pub(crate) stack: String,
}

/// A figure of run after run.
#[derive(Debug)]
pub(crate) struct Line {
    /// Which one.
    pub(crate) key: Key,
    /// As in `run.json`, or whatever was imported.
    pub(crate) unit: String,
    /// Which direction is better.
    pub(crate) direction: Direction,
    /// In the order of the axis; runs without the figure have no point.
    pub(crate) points: Vec<Point>,
    /// Those that are told, oldest first.
    pub(crate) changes: Vec<LineChange>,
}

/// A figure of one run.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Point {
    /// Place of the run among all entries.
    pub(crate) run: usize,
    /// What was measured.
    pub(crate) estimate: Estimate,
}

/// A change of a line's level.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct LineChange {
    /// Place of the first point of the new level among the line's points.
    pub(crate) at: usize,
    /// The levels.
    pub(crate) change: Change,
    /// Whether the new level is worse.
    pub(crate) is_worse: bool,
}

impl LineChange {
    /// The new level ÷ the old one, less 1; infinite from nothing.
    pub(crate) fn relative(&self) -> f64 {
        (self.change.after - self.change.before) / self.change.before.abs()
    }
}

/// All lines of `entries`, in the order of their keys, with the changes that are to be believed among all of
/// them. `is_wanted` narrows what is looked at: the fewer lines, the sooner a change is believed.
pub(crate) fn lines(entries: &[Entry], is_wanted: impl Fn(&Key) -> bool) -> Vec<Line> {
    let mut lines: BTreeMap<Key, Line> = BTreeMap::new();
    for (run, entry) in entries.iter().enumerate() {
        for (key, metric, estimate) in figures(entry) {
            if !is_wanted(&key) {
                continue;
            }
            let meaning = &entry.metrics[metric];
            let line = lines.entry(key).or_insert_with_key(|key| Line {
                key: key.clone(),
                unit: if key.is_ratio {
                    "ratio".to_owned()
                } else {
                    meaning.unit.clone()
                },
                direction: meaning.direction,
                points: Vec::new(),
                changes: Vec::new(),
            });
            line.points.push(Point { run, estimate });
        }
    }
    let mut lines: Vec<Line> = lines.into_values().collect();
    find_changes(&mut lines);
    lines
}

fn find_changes(lines: &mut [Line]) {
    let found: Vec<Vec<Change>> = lines
        .iter()
        .map(|line| {
            let values: Vec<f64> = line.points.iter().map(|point| point.estimate.0).collect();
            change::changes(&values, SEED)
        })
        .collect();
    let looked_at = lines
        .iter()
        .filter(|line| line.points.len() >= change::SERIES_POINTS);
    let p: Vec<f64> = found.iter().flatten().map(|change| change.p).collect();
    let mut keep = change::significant(&p, looked_at.count()).into_iter();
    for (line, found) in lines.iter_mut().zip(found) {
        for change in found {
            if keep.next() == Some(true) {
                let has_grown = change.after > change.before;
                line.changes.push(LineChange {
                    at: change.at,
                    change,
                    is_worse: has_grown == (line.direction == Direction::Lower),
                });
            }
        }
    }
}

/// Every figure of an entry with its line and metric.
fn figures(entry: &Entry) -> Vec<(Key, &str, Estimate)> {
    let mut figures = Vec::new();
    for (id, cell) in &entry.cells {
        let question = without_stack(id);
        let key = |metric: &str, is_ratio, stack| Key {
            class: entry.environment_class.clone(),
            profile: entry.profile.clone(),
            question: question.clone(),
            metric: metric.to_owned(),
            is_ratio,
            stack,
        };
        for (metric, estimate) in &cell.figures {
            let key = key(metric, false, stack_of(id).to_owned());
            figures.push((key, metric.as_str(), *estimate));
        }
        for (control, ratios) in &cell.ratios {
            // The control may be the same stack, run in the usual way: then only its whole id tells them apart.
            let control = if without_stack(control) == question {
                stack_of(control)
            } else {
                control
            };
            for (metric, estimate) in ratios {
                let key = key(metric, true, format!("{} ÷ {control}", stack_of(id)));
                figures.push((key, metric.as_str(), *estimate));
            }
        }
    }
    figures
}

/// What else differs between two runs, beside the commit: it may be the cause of a change.
pub(crate) fn differences(before: &Entry, after: &Entry) -> Vec<String> {
    let mut differences = Vec::new();
    let mut add = |name: &str, before: Option<&str>, after: Option<&str>| {
        if before != after {
            let word = |value: Option<&str>| value.unwrap_or("unknown").to_owned();
            differences.push(format!("{name}: {} → {}", word(before), word(after)));
        }
    };
    let short = |sha: &Entry| {
        sha.scenario_sha256
            .as_ref()
            .map(|sha| sha.chars().take(7).collect::<String>())
    };
    add(
        "scenario",
        short(before).as_deref(),
        short(after).as_deref(),
    );
    if let (Some(before), Some(after)) = (&before.environment, &after.environment) {
        add("kernel", before.kernel.as_deref(), after.kernel.as_deref());
    }
    if let (Some(before), Some(after)) = (&before.build, &after.build) {
        add("rustc", Some(&before.rustc), Some(&after.rustc));
        let mut libraries: Vec<&String> = before
            .libraries
            .keys()
            .chain(after.libraries.keys())
            .collect();
        libraries.sort();
        libraries.dedup();
        for library in libraries {
            let version = |build: &hopbench::record::Build| build.libraries.get(library).cloned();
            add(
                library,
                version(before).as_deref(),
                version(after).as_deref(),
            );
        }
    }
    differences
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::history::commit::{Commit, rfc3339};
    use crate::report::fixture;

    /// `count` runs of the fixture, a day apart, of which those from `at` on have `factor` times the server's
    /// CPU time over `tls`; a value jitters by a thousandth, by rule.
    pub(crate) fn history(count: usize, at: usize, factor: f64) -> Vec<Entry> {
        let jitter = |run: usize| 1.0 + 0.001 * ((run * 7) % 5) as f64;
        (0..count)
            .map(|run| {
                let mut entry = Entry::of(&fixture::run(), Commit::default());
                entry.run_id = format!("run-{run:03}");
                entry.started_at = rfc3339(1_764_000_000 + 86_400 * run as u64).expect("a time");
                entry.commit.id = Some(format!("{run:040x}"));
                for (id, cell) in &mut entry.cells {
                    for (metric, figure) in &mut cell.figures {
                        let is_changed =
                            run >= at && stack_of(id) == "tls" && metric.starts_with("server_cpu");
                        let by = if is_changed { factor } else { 1.0 } * jitter(run);
                        *figure = Estimate(
                            figure.0 * by,
                            figure.1.map(|low| low * by),
                            figure.2.map(|high| high * by),
                        );
                    }
                }
                entry
            })
            .collect()
    }

    #[test]
    fn a_change_is_told_on_its_lines_and_on_no_other() {
        let lines = lines(&history(20, 14, 1.10), |_| true);
        let changed: Vec<&Line> = lines
            .iter()
            .filter(|line| !line.changes.is_empty())
            .collect();
        assert!(changed.len() >= 3, "{}", changed.len());
        for line in changed {
            assert_eq!(line.key.stack, "tls");
            assert!(line.key.metric.starts_with("server_cpu"));
            assert_eq!((line.changes.len(), line.changes[0].at), (1, 14));
            assert!(line.changes[0].is_worse);
            assert!((line.changes[0].relative() - 0.10).abs() < 0.01);
        }
    }

    #[test]
    fn less_of_what_should_be_little_is_better() {
        let lines = lines(&history(20, 14, 0.90), |key| {
            key.metric.starts_with("server_cpu")
        });
        let changes: Vec<&LineChange> = lines.iter().flat_map(|line| &line.changes).collect();
        assert!(!changes.is_empty() && changes.iter().all(|change| !change.is_worse));
    }

    #[test]
    fn other_machines_and_profiles_are_other_lines() {
        let mut entries = history(4, 9, 1.0);
        entries[1].environment_class = "another".to_owned();
        entries[2].profile = "another".to_owned();
        let lines = lines(&entries, |key| {
            let is_question = key.question.starts_with("setup/register/direct/");
            is_question && key.metric == "hop_ready_to_registered_ns" && key.stack == "tcp"
        });
        let points: Vec<usize> = lines.iter().map(|line| line.points.len()).collect();
        assert_eq!(points.iter().sum::<usize>(), 4);
        assert_eq!(points.len(), 3);
    }

    #[test]
    fn a_ratio_names_its_control_by_what_distinguishes_it() {
        let entries = history(1, 9, 1.0);
        let lines = lines(&entries, |key| key.is_ratio);
        assert!(lines.iter().all(|line| line.unit == "ratio"));
        assert!(lines.iter().any(|line| line.key.stack == "tls ÷ tcp"));
    }

    #[test]
    fn what_else_differs_is_told() {
        let entries = history(2, 9, 1.0);
        assert!(differences(&entries[0], &entries[1]).is_empty());
        let mut other = entries[1].clone();
        if let (Some(build), Some(environment)) = (&mut other.build, &mut other.environment) {
            build.libraries.insert("rustls".into(), "9.9.9".into());
            environment.kernel = None;
        }
        let told = differences(&entries[0], &other).join("; ");
        assert!(
            told.contains("kernel: ") && told.contains("→ unknown"),
            "{told}"
        );
        assert!(
            told.contains("rustls: ") && told.contains("→ 9.9.9"),
            "{told}"
        );
    }
}
