//! A comparison for a terminal of 100 columns: what has changed, then how much was compared. A renderer.

use std::fmt::Write as _;

use hopbench::record::Unit;

use super::{Absence, Basis, Change, Comparison, Estimate, Judgement, Missing, Overall, Reason};
use crate::report::{quantity, significant, verdict_word};
use crate::statistics::Interval;

/// How many single things are listed of a kind.
const LISTED: usize = 30;
/// Of what is absent, fewer: it mostly comes by the cell.
const ABSENT_LISTED: usize = 10;

/// The comparison; with ANSI colours when `colour`.
pub(crate) fn render(comparison: &Comparison<'_>, colour: bool) -> String {
    let (base, head) = (comparison.base, comparison.head);
    let mut out = format!("BASE {} · HEAD {}\n", base.run_id, head.run_id);
    for warning in warnings(comparison) {
        let _ = writeln!(
            out,
            "{}",
            painted(&format!("warning: {warning}"), "33", colour)
        );
    }
    let overall = comparison.found_overall();
    if !overall.is_empty() {
        let _ = writeln!(out, "\nOver all cells, HEAD ÷ BASE [95 %]");
    }
    for metric in overall {
        let line = format!("  {}", overall_words(metric));
        let _ = writeln!(out, "{}", painted(&line, code(metric.judgement), colour));
    }
    let found = comparison.found();
    if !found.is_empty() {
        let _ = writeln!(out, "\n{}", heading());
    }
    let mut cell = "";
    for change in found.iter().take(LISTED) {
        if change.cell.id != cell {
            cell = &change.cell.id;
            let _ = writeln!(out, "{cell}");
        }
        let code = code(change.judgement);
        let _ = writeln!(out, "{}", painted(&row(change), code, colour));
    }
    if found.len() > LISTED {
        let _ = writeln!(
            out,
            "… and {} more (--format markdown or json has all)",
            found.len() - LISTED
        );
    }
    let _ = writeln!(out, "\n{}", summary(comparison));
    absences(&mut out, comparison);
    out
}

fn code(judgement: Judgement) -> &'static str {
    if judgement == Judgement::Worse {
        "31"
    } else {
        "32"
    }
}

/// `worse server_cpu_ns_per_operation 1.12× [1.07, 1.17] 4 cells, ÷ client CPU`.
pub(super) fn overall_words(overall: &Overall<'_>) -> String {
    let Overall {
        metric,
        basis,
        cells,
        estimate,
        judgement,
        ..
    } = overall;
    let ratio = ratio_words(estimate, Unit::Ratio);
    let by = match basis {
        Basis::Pairs | Basis::Blocks => String::new(),
        Basis::Control(_) | Basis::ClientCpu => format!(", {}", basis.words()),
    };
    format!(
        "{:<6} {metric:<41} {ratio:<24} {cells} cells{by}",
        judgement.word()
    )
}

/// What makes figures of the two runs hard to compare.
pub(super) fn warnings(comparison: &Comparison<'_>) -> Vec<String> {
    let differences = comparison.differences.iter().map(|difference| {
        let short = |text: &str| text.chars().take(28).collect::<String>();
        let (base, head) = (short(&difference.base), short(&difference.head));
        format!("{} differs: {base} against {head}", difference.name)
    });
    let mut warnings: Vec<String> = differences.collect();
    for (name, run) in [("BASE", comparison.base), ("HEAD", comparison.head)] {
        if run.finished_at.is_none() {
            warnings.push(format!(
                "{name} was interrupted: its cells have fewer blocks, or are missing"
            ));
        }
    }
    warnings
}

/// How much was compared, in words.
pub(super) fn summary(comparison: &Comparison<'_>) -> String {
    let count = |judgement| comparison.count(|found| found == judgement);
    let why = |reason| count(Judgement::NotComparable(reason));
    let mut text = format!(
        "{} worse, {} better, {} no change shown",
        count(Judgement::Worse),
        count(Judgement::Better),
        count(Judgement::NoChangeShown)
    );
    for reason in [Reason::TimeOfSeparateRuns, Reason::FewBlocks] {
        if why(reason) > 0 {
            let _ = write!(
                text,
                ";\n{} not comparable: {}",
                why(reason),
                reason.words()
            );
        }
    }
    text.push_str(".\n");
    text.push_str(method(comparison));
    text
}

fn method(comparison: &Comparison<'_>) -> &'static str {
    if comparison.is_interleaved {
        "The runs were interleaved: each block of HEAD is compared with the block of BASE beside it.\n\
         Counted figures that differ by less than 1 % count as equal. Of the changes claimed at most one\n\
         in twenty is expected to be chance (Benjamini–Hochberg)."
    } else {
        "The runs were measured one after the other, so times are compared by what each run measured beside\n\
         them: the control, or the client's CPU; what both share cancels. `hopbench compare --interleave`\n\
         compares times themselves. Counted figures that differ by less than 1 % count as equal. Of the\n\
         changes claimed at most one in twenty is expected to be chance (Benjamini–Hochberg)."
    }
}

fn heading() -> String {
    format!(
        "  {:<48} {:<24} {:<20}",
        "verdict, metric", "HEAD ÷ BASE [95 %]", "compared by"
    )
    .trim_end()
    .to_owned()
}

fn row(change: &Change<'_>) -> String {
    let metric: String = change.metric.chars().take(40).collect();
    let row = format!(
        "  {:<6} {metric:<41} {:<24} {:<20}",
        change.judgement.word(),
        change
            .estimate
            .as_ref()
            .map_or(String::new(), |estimate| estimate_words(change, estimate)),
        change.basis.words(),
    );
    row.trim_end().to_owned()
}

/// `1.10× [1.05, 1.14]`, or a difference with its unit.
pub(super) fn estimate_words(change: &Change<'_>, estimate: &Estimate) -> String {
    ratio_words(estimate, change.unit)
}

fn ratio_words(estimate: &Estimate, unit: Unit) -> String {
    match *estimate {
        Estimate::Ratio(ratio, Interval { low, high }) => {
            format!("{}× [{}, {}]", fine(ratio), fine(low), fine(high))
        }
        Estimate::Difference(difference, Interval { low, high }) => {
            let sign = if difference > 0.0 { "+" } else { "" };
            format!(
                "{sign}{} [{}, {}]",
                quantity(unit, difference),
                significant(low),
                significant(high)
            )
        }
    }
}

/// Ratios near one need their third decimal.
fn fine(ratio: f64) -> String {
    if (0.9..1.1).contains(&ratio) {
        format!("{ratio:.3}")
    } else {
        significant(ratio)
    }
}

/// Cells and figures that only one of the runs has.
fn absences(out: &mut String, comparison: &Comparison<'_>) {
    list(out, "in BASE, not comparable in HEAD", &lost(comparison));
    let new: Vec<String> = comparison
        .new_cells
        .iter()
        .map(ToString::to_string)
        .collect();
    list(out, "in HEAD only", &new);
}

/// What HEAD lacks, one line a cell or a figure.
pub(super) fn lost(comparison: &Comparison<'_>) -> Vec<String> {
    let mut lost: Vec<String> = comparison.missing.iter().map(words_of_missing).collect();
    lost.dedup();
    lost
}

fn words_of_missing(missing: &Missing<'_>) -> String {
    match missing.absence {
        Absence::Cell => format!("{}: no such cell", missing.cell_id),
        Absence::Verdict(verdict) => {
            format!("{}: the cell is {}", missing.cell_id, verdict_word(verdict))
        }
        Absence::Figure => format!("{}: no figure of {}", missing.cell_id, missing.metric),
    }
}

fn list(out: &mut String, title: &str, lines: &[String]) {
    if lines.is_empty() {
        return;
    }
    let _ = writeln!(out, "\n{title}: {}", lines.len());
    for line in lines.iter().take(ABSENT_LISTED) {
        let _ = writeln!(out, "  {line}");
    }
    if lines.len() > ABSENT_LISTED {
        let _ = writeln!(out, "  … and {} more", lines.len() - ABSENT_LISTED);
    }
}

fn painted(text: &str, code: &str, colour: bool) -> String {
    if colour {
        format!("\u{1b}[{code}m{text}\u{1b}[0m")
    } else {
        text.to_owned()
    }
}
