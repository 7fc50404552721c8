//! Outcomes of gates as text: for a terminal of 100 columns, and as Markdown.

use std::fmt::Write as _;

use hopbench::record::Unit;

use super::check::{Finding, Row};
use super::{Gate, Outcome};
use crate::report::quantity;

/// Cells that are told of a gate that fails in many.
const LISTED: usize = 8;

/// A paragraph for each gate: whether it holds, and where not, by how much.
pub(crate) fn table(outcomes: &[Outcome<'_>]) -> String {
    let mut out = String::new();
    let failed = outcomes.iter().filter(|outcome| !outcome.holds()).count();
    let all = outcomes.len();
    let _ = match failed {
        0 if all == 1 => writeln!(out, "The gate holds"),
        0 => writeln!(out, "All {all} gates hold"),
        failed => writeln!(out, "{failed} of {all} gates fail"),
    };
    for outcome in outcomes {
        let word = if outcome.holds() { "pass" } else { "FAIL" };
        let _ = writeln!(out, "  {word}  {}", outcome.gate);
        for line in lines(outcome) {
            let _ = writeln!(out, "        {line}");
        }
    }
    out
}

/// The same as a table.
pub(crate) fn markdown(outcomes: &[Outcome<'_>]) -> String {
    let mut out = String::from("| | gate | found |\n|---|---|---|\n");
    for outcome in outcomes {
        let sign = if outcome.holds() { "✅" } else { "❌" };
        let gate = outcome.gate.to_string().replace('|', "\\|");
        let found = lines(outcome).join("<br>").replace('|', "\\|");
        let _ = writeln!(out, "| {sign} | `{gate}` | {found} |");
    }
    out
}

/// Of a gate that holds the cell that is nearest to failing; of one that does not, all that fail.
fn lines(outcome: &Outcome<'_>) -> Vec<String> {
    let gate = outcome.gate;
    let mut rows: Vec<&Row> = outcome.rows.iter().collect();
    rows.sort_by(|a, b| strain(gate, b).total_cmp(&strain(gate, a)));
    let failed: Vec<&Row> = rows.iter().copied().filter(|row| !row.holds()).collect();
    let mut lines: Vec<String> = Vec::new();
    if outcome.rows.len() > 1 {
        lines.push(match failed.len() {
            0 => format!("{} cells; the nearest to the limit:", rows.len()),
            failed => format!("{failed} of {} cells:", rows.len()),
        });
    }
    let shown = if failed.is_empty() {
        &rows[..1]
    } else {
        &failed[..]
    };
    let shown_lines = shown
        .iter()
        .take(LISTED)
        .flat_map(|row| row_lines(gate, row));
    lines.extend(shown_lines);
    if shown.len() > LISTED {
        lines.push(format!("… and {} more", shown.len() - LISTED));
    }
    lines
}

/// How much of the limit is used; above 1 beyond it. What is missing comes first.
fn strain(gate: &Gate, row: &Row) -> f64 {
    match row.finding {
        Finding::Missing(_) => f64::INFINITY,
        Finding::Figures { left, right, .. } if left == right => 1.0,
        Finding::Figures { left, right, .. } => {
            if gate.tree.relation.is_upper() {
                left / right
            } else {
                right / left
            }
        }
    }
}

fn row_lines(gate: &Gate, row: &Row) -> Vec<String> {
    let mut lines = Vec::new();
    match &row.finding {
        Finding::Missing(reason) => lines.push(format!("missing: {reason}")),
        Finding::Figures { left, right, .. } => {
            let unit = gate.tree.dimension.unit().unwrap_or(Unit::Ratio);
            let (figure, limit) = (quantity(unit, *left), quantity(unit, *right));
            let strain = left / right;
            let share = if strain.is_finite() {
                format!(", {strain:.3} × it")
            } else {
                String::new()
            };
            lines.push(format!("{figure}, limit {limit}{share}"));
        }
    }
    if let Some(cell_id) = row.cell_id.as_ref().filter(|id| !lines[0].contains(*id)) {
        lines.push(format!("  in {cell_id}"));
    }
    lines
}
