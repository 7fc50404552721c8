//! A comparison as Markdown, for a comment on a change: what has changed first, the rest folded. A
//! renderer.

use std::fmt::Write as _;

use super::text::{estimate_words, lost, overall_words, summary, warnings};
use super::{Change, Comparison, Judgement};
use crate::report::quantity;

/// Comments of the usual hosts end at 65,536 characters: rows beyond this are counted, not shown.
const ROWS_MAX: usize = 300;

/// The comparison.
pub(crate) fn render(comparison: &Comparison<'_>) -> String {
    let mut out = format!("### hopbench: {}\n\n", title(comparison));
    let warnings = warnings(comparison);
    for warning in &warnings {
        let _ = writeln!(out, "> ⚠️ {warning}  ");
    }
    if !warnings.is_empty() {
        out.push('\n');
    }
    let overall = comparison.found_overall();
    for metric in &overall {
        let _ = writeln!(out, "- over all cells: {}", overall_words(metric));
    }
    if !overall.is_empty() {
        out.push('\n');
    }
    let found = comparison.found();
    if !found.is_empty() {
        table(&mut out, &found);
    }
    let _ = writeln!(out, "{}\n", summary(comparison).replace('\n', " "));
    let is_rest = |change: &&Change<'_>| match change.judgement {
        Judgement::Worse | Judgement::Better => false,
        Judgement::NoChangeShown | Judgement::NotComparable(_) => true,
    };
    let rest: Vec<&Change<'_>> = comparison.changes.iter().filter(is_rest).collect();
    if !rest.is_empty() {
        folded(&mut out, &format!("{} others", rest.len()), |out| {
            table(out, &rest)
        });
    }
    let lost = lost(comparison);
    if !lost.is_empty() {
        folded(&mut out, &format!("{} in BASE only", lost.len()), |out| {
            list(out, &lost)
        });
    }
    let new: Vec<String> = comparison
        .new_cells
        .iter()
        .map(ToString::to_string)
        .collect();
    if !new.is_empty() {
        folded(
            &mut out,
            &format!("{} cells in HEAD only", new.len()),
            |out| list(out, &new),
        );
    }
    let (base, head) = (comparison.base, comparison.head);
    let _ = writeln!(out, "BASE `{}` · HEAD `{}`", base.run_id, head.run_id);
    out
}

/// What has changed, in a few words.
fn title(comparison: &Comparison<'_>) -> String {
    let overall = comparison.found_overall();
    let said = |judgement: Judgement| {
        let is_overall = overall.iter().any(|overall| overall.judgement == judgement);
        match comparison.count(|found| found == judgement) {
            0 => is_overall.then(|| format!("{} over all cells", judgement.word())),
            single => Some(format!("{single} {}", judgement.word())),
        }
    };
    let said = [Judgement::Worse, Judgement::Better].map(said);
    let said: Vec<String> = said.into_iter().flatten().collect();
    if said.is_empty() {
        return Judgement::NoChangeShown.word().to_owned();
    }
    said.join(", ")
}

fn table(out: &mut String, changes: &[&Change<'_>]) {
    out.push_str("| verdict | cell | metric | BASE | HEAD | HEAD ÷ BASE [95 %] | compared by |\n");
    out.push_str("|---|---|---|--:|--:|--:|---|\n");
    for change in changes.iter().take(ROWS_MAX) {
        let sign = match change.judgement {
            Judgement::Worse => "❌ worse",
            Judgement::Better => "✅ better",
            Judgement::NoChangeShown => "no change shown",
            Judgement::NotComparable(reason) => reason.words(),
        };
        let [base, head] = change.figures.map(|figure| quantity(change.unit, figure));
        let estimate = change.estimate.as_ref();
        let estimate = estimate.map_or("–".to_owned(), |found| estimate_words(change, found));
        let basis = change.basis.words();
        let (cell, metric) = (&change.cell.id, change.metric);
        let _ = writeln!(
            out,
            "| {sign} | `{cell}` | `{metric}` | {base} | {head} | {estimate} | {basis} |"
        );
    }
    if changes.len() > ROWS_MAX {
        let _ = writeln!(out, "\n… and {} more", changes.len() - ROWS_MAX);
    }
    out.push('\n');
}

fn list(out: &mut String, lines: &[String]) {
    for line in lines.iter().take(ROWS_MAX) {
        let _ = writeln!(out, "- {line}");
    }
    if lines.len() > ROWS_MAX {
        let _ = writeln!(out, "- … and {} more", lines.len() - ROWS_MAX);
    }
    out.push('\n');
}

/// GitHub and GitLab render Markdown within an element only after an empty line.
fn folded(out: &mut String, title: &str, fill: impl FnOnce(&mut String)) {
    let _ = writeln!(out, "<details><summary>{title}</summary>\n");
    fill(out);
    out.push_str("</details>\n\n");
}
