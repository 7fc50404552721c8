//! What of a run is in no ratio, and what failed in cells that count: with reasons and figures. A part of the
//! Markdown report.

use std::fmt::Write as _;

use hopbench::record::{Cell, Run, Verdict};

use super::markdown::escaped;
use super::summary::verdict_word;
use super::units::MISSING;

/// Cells whose figures do not mean what they say, with the reason.
pub(super) fn exclusions(out: &mut String, run: &Run) {
    let mut excluded = run
        .cells
        .iter()
        .filter(|cell| cell.verdict != Verdict::Ok)
        .peekable();
    if excluded.peek().is_none() {
        return;
    }
    let _ = writeln!(
        out,
        "## Cells that are in no ratio\n\n| cell | verdict | reason |\n|---|---|---|"
    );
    for cell in excluded {
        let reason = cell.reason.as_deref().unwrap_or(MISSING);
        let _ = writeln!(
            out,
            "| `{}` | {} | {} |",
            cell.id,
            verdict_word(cell.verdict),
            escaped(reason)
        );
    }
    out.push('\n');
}

/// What failed in cells that are ok all the same: too little to spoil a cell's figures, but not nothing.
pub(super) fn failures(out: &mut String, run: &Run) {
    const COUNTS: [(&str, &str); 3] = [
        ("failed operations", "failed_count"),
        ("lost hops", "lost_hops_count"),
        (
            "datagrams dropped by the server's socket",
            "server_socket_drops_count",
        ),
    ];
    let value = |cell: &Cell, key: &str| cell.metrics.get(key)?.value;
    // Earlier runs have the median of the blocks here, with an interval: it hides what is rare.
    let counted = |cell: &&Cell| {
        let failed = cell.metrics.get("failed_count");
        cell.verdict == Verdict::Ok
            && failed.is_some_and(|failed| failed.value.is_some() && failed.ci95_low.is_none())
    };
    let counted: Vec<&Cell> = run.cells.iter().filter(counted).collect();
    if counted.is_empty() {
        return;
    }
    let _ = writeln!(out, "## What failed in cells that are ok\n");
    let has_failed = |cell: &&&Cell| {
        COUNTS
            .iter()
            .any(|(_, key)| value(cell, key).is_some_and(|n| n > 0.0))
    };
    let failed: Vec<&&Cell> = counted.iter().filter(has_failed).collect();
    if failed.is_empty() {
        let _ = writeln!(
            out,
            "Nothing: in {} cells with load no operation failed, no hop was lost, and no server's \
             socket dropped a datagram.\n",
            counted.len()
        );
        return;
    }
    let headings = COUNTS.map(|(heading, _)| heading);
    let _ = writeln!(
        out,
        "In all blocks together; the other cells with load have none of it.\n\n| cell | {} |\n|---|{}",
        headings.join(" | "),
        "--:|".repeat(COUNTS.len())
    );
    for cell in failed {
        let counts = COUNTS.map(|(_, key)| {
            value(cell, key).map_or(MISSING.to_owned(), |count| format!("{count:.0}"))
        });
        let _ = writeln!(out, "| `{}` | {} |", cell.id, counts.join(" | "));
    }
    out.push('\n');
}

#[cfg(test)]
mod tests {
    use hopbench::record::{Cell, Verdict};

    use crate::report::summary::verdict_word;
    use crate::report::{fixture, markdown::render};

    #[test]
    fn each_excluded_cell_has_its_reason() {
        let run = fixture::run();
        let text = render(&run);
        for cell in run.cells.iter().filter(|cell| cell.verdict != Verdict::Ok) {
            let reason = cell.reason.as_deref().expect("only ok has no reason");
            assert!(text.contains(&format!(
                "| `{}` | {} | {reason} |",
                cell.id,
                verdict_word(cell.verdict)
            )));
        }
    }

    #[test]
    fn failures_in_cells_that_are_ok_are_told() {
        use hopbench::record::Metric;

        let mut run = fixture::run();
        let has_load =
            |cell: &&mut Cell| cell.verdict == Verdict::Ok && cell.experiment == "throughput";
        let cell = run.cells.iter_mut().find(has_load);
        let cell = cell.expect("the fixture has a load");
        let mut count = |key: &str, value| {
            cell.metrics
                .insert(key.to_owned(), Metric::of(key, Some(value)));
        };
        count("failed_count", 3.0);
        count("lost_hops_count", 0.0);
        cell.metrics.remove("server_socket_drops_count");
        let row = format!("| `{}` | 3 | 0 | – |", cell.id);
        assert!(render(&run).contains(&row), "{row}");
    }
}
