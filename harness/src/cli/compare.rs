//! `hopbench compare`: a run against another one, and gates that fail on what has become worse.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::PathBuf;

use hopbench::record::Run;

use super::report::run_file;
use super::{EXIT_ERROR, EXIT_OK, usage};
use crate::compare::gate::{Gate, Outcome};
use crate::compare::{Absence, Comparison, Missing, Pair};
use crate::statistics::median;

/// Options of the comparison.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Exit codes: 0 no gate fails; 1 a gate fails; 2 wrong usage, or a file that is no run.\n\n\
    A gate is [CELLS:]METRIC>FACTOR, with >, >=, < or <=; `*` in CELLS and METRIC stands for any text. \
    Example: --fail-on 'memory/*:server_heap_bytes_per_connection>1.03'"
)]
pub(crate) struct Args {
    /// The run to compare with: its folder, or its run.json
    base: PathBuf,
    /// The run that is compared
    head: PathBuf,
    /// Fail where HEAD ÷ BASE of a metric is so, where HEAD lacks a figure of BASE, or where
    /// there is nothing to compare; may be given several times
    #[arg(long = "fail-on", value_name = "GATE")]
    fail_on: Vec<Gate>,
}

/// How many single cells are listed of a kind.
const LISTED: usize = 10;

/// Compares.
pub(crate) fn compare(args: &Args) -> anyhow::Result<u8> {
    let base = Run::read(&run_file(&args.base)).map_err(usage)?;
    let head = Run::read(&run_file(&args.head)).map_err(usage)?;
    let comparison = Comparison::of(&base, &head);
    let outcomes: Vec<(&Gate, Outcome<'_>)> = args
        .fail_on
        .iter()
        .map(|gate| (gate, gate.apply(&comparison)))
        .collect();
    let mut out = format!("BASE {} · HEAD {}, HEAD ÷ BASE\n", base.run_id, head.run_id);
    conditions(&mut out, &comparison);
    changes(&mut out, &comparison);
    absences(&mut out, &comparison);
    for (gate, outcome) in &outcomes {
        verdict(&mut out, gate, outcome);
    }
    super::print(&out);
    let passes = outcomes.iter().all(|(_, outcome)| outcome.passes());
    Ok(if passes { EXIT_OK } else { EXIT_ERROR })
}

/// What makes figures of the two runs hard to compare.
fn conditions(out: &mut String, comparison: &Comparison<'_>) {
    for difference in &comparison.differences {
        let _ = writeln!(
            out,
            "warning: {} differs: {} against {}",
            difference.name, difference.base, difference.head
        );
    }
}

/// A line for each metric that both runs have.
fn changes(out: &mut String, comparison: &Comparison<'_>) {
    let mut by_metric: BTreeMap<&str, Vec<f64>> = BTreeMap::new();
    for pair in &comparison.pairs {
        by_metric.entry(pair.metric).or_default().push(pair.ratio());
    }
    let width = by_metric.keys().map(|key| key.len()).max().unwrap_or(0);
    let _ = writeln!(
        out,
        "\n{:width$}  cells  median  least   most",
        "metric",
        width = width
    );
    for (metric, ratios) in by_metric {
        let middle = median(&ratios).unwrap_or(f64::NAN);
        let least = ratios.iter().copied().fold(f64::INFINITY, f64::min);
        let most = ratios.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let _ = writeln!(
            out,
            "{metric:width$}  {:5}  {middle:6.3}  {least:6.3}  {most:6.3}",
            ratios.len()
        );
    }
}

/// Cells that only one of the runs has.
fn absences(out: &mut String, comparison: &Comparison<'_>) {
    let mut lost: Vec<String> = comparison.missing.iter().map(words_of_cell).collect();
    lost.dedup();
    list(out, "in BASE, not comparable in HEAD", &lost);
    let new: Vec<String> = comparison
        .new_cells
        .iter()
        .map(ToString::to_string)
        .collect();
    list(out, "in HEAD only", &new);
}

fn words_of_cell(missing: &Missing<'_>) -> String {
    match missing.absence {
        Absence::Cell => format!("{}: no such cell", missing.cell_id),
        Absence::Verdict(verdict) => {
            let verdict = crate::report::verdict_word(verdict);
            format!("{}: the cell is {verdict}", missing.cell_id)
        }
        Absence::Figure => format!("{}: no figure of {}", missing.cell_id, missing.metric),
    }
}

fn list(out: &mut String, title: &str, lines: &[String]) {
    if lines.is_empty() {
        return;
    }
    let _ = writeln!(out, "\n{title}: {}", lines.len());
    for line in lines.iter().take(LISTED) {
        let _ = writeln!(out, "  {line}");
    }
    if lines.len() > LISTED {
        let _ = writeln!(out, "  … and {} more", lines.len() - LISTED);
    }
}

/// What came of a gate, with everything that failed by how much.
fn verdict(out: &mut String, gate: &Gate, outcome: &Outcome<'_>) {
    let word = if outcome.passes() { "pass" } else { "FAIL" };
    let _ = write!(out, "\n{word}  {gate}: {} figures", outcome.compared);
    match outcome.worst {
        Some(worst) => {
            let _ = writeln!(out, ", at worst {}", words_of_pair(&worst));
        }
        None => {
            let _ = writeln!(out, ", there is nothing to compare");
        }
    }
    let failed: Vec<String> = outcome.failed.iter().map(words_of_pair).collect();
    list(out, "  the relation holds", &failed);
    let missing: Vec<String> = outcome.missing.iter().map(words_of_cell).collect();
    list(out, "  HEAD lacks", &missing);
}

fn words_of_pair(pair: &Pair<'_>) -> String {
    format!(
        "{:.3} ({:.1} against {:.1}): {} of {}",
        pair.ratio(),
        pair.head,
        pair.base,
        pair.metric,
        pair.cell_id
    )
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::report::fixture;

    fn args(folder: &std::path::Path, gates: &[&str]) -> Args {
        Args {
            base: folder.join("base.json"),
            head: folder.join("head.json"),
            fail_on: gates.iter().map(|gate| gate.parse().unwrap()).collect(),
        }
    }

    #[test]
    fn growth_beyond_the_factor_fails_and_less_does_not() {
        const KEY: &str = "server_heap_bytes_per_connection";
        let folder = tempfile::tempdir().unwrap();
        let base = fixture::run();
        base.write(&folder.path().join("base.json")).unwrap();
        let mut head = base.clone();
        for cell in &mut head.cells {
            if let Some(metric) = cell.metrics.get_mut(KEY) {
                metric.value = metric.value.map(|bytes| bytes * 1.04);
            }
        }
        head.write(&folder.path().join("head.json")).unwrap();
        let exit = |gates: &[&str]| compare(&args(folder.path(), gates)).unwrap();
        assert_eq!(exit(&[]), EXIT_OK);
        assert_eq!(exit(&[&format!("{KEY}>1.05")]), EXIT_OK);
        assert_eq!(
            exit(&[&format!("{KEY}>1.05"), &format!("{KEY}>1.03")]),
            EXIT_ERROR
        );

        let comparison = Comparison::of(&base, &head);
        let gate: Gate = format!("{KEY}>1.03").parse().unwrap();
        let mut out = String::new();
        verdict(&mut out, &gate, &gate.apply(&comparison));
        assert!(
            out.contains("FAIL  server_heap_bytes_per_connection>1.03"),
            "{out}"
        );
        assert!(out.contains("1.040 ("), "{out}");
    }

    #[test]
    fn missing_cells_and_other_conditions_are_said() {
        let base = fixture::run();
        let mut head = base.clone();
        head.environment.cpu_count += 1;
        head.cells.pop();
        let mut out = String::new();
        let comparison = Comparison::of(&base, &head);
        conditions(&mut out, &comparison);
        absences(&mut out, &comparison);
        assert!(
            out.contains("warning: environment.cpu_count differs"),
            "{out}"
        );
        assert!(out.contains("no such cell"), "{out}");
    }
}
