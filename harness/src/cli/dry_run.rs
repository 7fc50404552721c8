//! What `hopbench run --dry-run` says: the cells that a run would have, and about how long it would take. It
//! starts nothing.

use std::fmt::Write as _;
use std::time::Duration;

use crate::experiment::Experiment;
use crate::limits::Readings;

/// A line a cell, which is its id and why this machine cannot run it, if it cannot; then a line an experiment.
pub(super) fn text(
    experiments: &[Experiment],
    machine: &Readings,
    budget: Option<Duration>,
) -> String {
    let mut out = String::new();
    let mut parts: Vec<(String, usize, f64)> = Vec::new();
    for trial in experiments.iter().flat_map(|experiment| &experiment.trials) {
        let id = &trial.subject.id;
        let seconds = match trial.unmet(machine) {
            Some(unmet) => {
                let _ = writeln!(out, "{id} unsupported: {unmet}");
                0.0
            }
            None => {
                let _ = writeln!(out, "{id}");
                trial.expected_seconds()
            }
        };
        match parts.iter_mut().find(|part| part.0 == id.experiment) {
            Some(part) => (part.1, part.2) = (part.1 + 1, part.2 + seconds),
            None => parts.push((id.experiment.clone(), 1, seconds)),
        }
    }
    out.push('\n');
    let sum = parts
        .iter()
        .fold((0, 0.0), |sum, part| (sum.0 + part.1, sum.1 + part.2));
    parts.push(("all".to_owned(), sum.0, sum.1));
    for (name, cells, seconds) in parts {
        let _ = writeln!(
            out,
            "{name:<12}{cells:>5} cells  about {}",
            duration(seconds)
        );
    }
    if let Some(budget) = budget {
        let _ = writeln!(
            out,
            "with this budget {} at the most",
            duration(budget.as_secs_f64().min(sum.1))
        );
    }
    out
}

fn duration(seconds: f64) -> String {
    if seconds < 90.0 {
        format!("{seconds:.0} s")
    } else if seconds < 5_400.0 {
        format!("{:.0} min", seconds / 60.0)
    } else {
        format!("{:.1} h", seconds / 3_600.0)
    }
}
