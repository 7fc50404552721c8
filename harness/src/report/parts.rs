//! What the memory of a connection consists of, on either side and at each stage. A part of
//! [`super::markdown`].

use std::fmt::Write;

use super::question::Question;
use super::stages::STAGES;
use super::summary::{Block, Row, Summary};
use super::units::MISSING;

/// In the order of a connection's layers: as in the keys of metrics, what tables and charts call it,
/// and the strength of a stack's colour that stands for it.
pub(super) const PARTS: [(&str, &str, f64); 8] = [
    ("tls_session", "TLS session", 1.0),
    ("tunnel", "tunnel", 0.84),
    ("inner_stack", "TCP within", 0.66),
    ("buffers", "buffers", 0.15),
    ("task", "task", 0.5),
    ("binding", "binding", 0.36),
    ("transaction", "transaction", 0.24),
    ("other", "other", 0.06),
];

/// Below this a part is nothing: tables of all connections, divided by their number, and rounding.
const NOTHING_BYTES: f64 = 8.0;

/// Bytes of one part of a connection at `stage`.
pub(super) fn bytes(row: &Row<'_>, side: &str, part: &str, stage: &str) -> Option<f64> {
    let metrics = &row.cell(Some(stage))?.metrics;
    let value = |part: &str| {
        metrics
            .get(&format!("{side}_{part}_heap_bytes_per_connection"))?
            .value
    };
    // Earlier versions told some parts by differences between cells; none of them was this one.
    value("task")?;
    value(part)
}

/// A table for each side: the stacks and their stages below each other, the parts beside each other.
pub(super) fn tables(out: &mut String, summary: &Summary<'_>) {
    let blocks = summary.blocks.iter();
    for block in blocks.filter(|block| block.question == Question::Memory) {
        let sides = ["server", "client"].map(|side| table(out, block, side));
        if sides.contains(&true) {
            let _ = writeln!(
                out,
                "Parts are measured by allocations that say what they are for, in processes of their own; \
                 what the whole, measured without that, has beyond their sum is unexplained. Binding \
                 holds what either side knows of a registration; transactions last 32 s longer than \
                 their requests over datagrams.\n"
            );
        }
    }
}

/// Whether there was anything to tell.
fn table(out: &mut String, block: &Block<'_>, side: &str) -> bool {
    let rows: Vec<_> = block
        .all_rows()
        .flat_map(|row| STAGES.into_iter().map(move |stage| (row, stage)))
        .filter(|(row, (stage, _))| bytes(row, side, "task", stage).is_some())
        .collect();
    let is_there = |part: &&(&str, &str, f64)| {
        let figures = rows
            .iter()
            .filter_map(|(row, (stage, _))| bytes(row, side, part.0, stage));
        figures
            .into_iter()
            .any(|bytes| bytes.abs() >= NOTHING_BYTES)
    };
    let parts: Vec<_> = PARTS.iter().filter(is_there).collect();
    if rows.is_empty() || parts.is_empty() {
        return false;
    }
    let headings: Vec<&str> = parts.iter().map(|(_, heading, _)| *heading).collect();
    let _ = writeln!(
        out,
        "By part, per connection: {side} heap in bytes\n\n\
         | stack | stage | {} | unexplained | whole |\n|---|---|{}--:|--:|",
        headings.join(" | "),
        "--:|".repeat(parts.len())
    );
    for (row, (stage, heading)) in rows {
        let told = |bytes: Option<f64>| match bytes {
            None => MISSING.to_owned(),
            Some(bytes) if bytes.abs() < 0.5 => "0".to_owned(),
            Some(bytes) => format!("{bytes:.0}"),
        };
        let of = |part| told(bytes(row, side, part, stage));
        let figures: Vec<String> = parts.iter().map(|(part, _, _)| of(part)).collect();
        let key = format!("{side}_heap_bytes_per_connection");
        let whole = row
            .cell(Some(stage))
            .and_then(|cell| cell.metrics.get(&key));
        let _ = writeln!(
            out,
            "| `{}` | {heading} | {} | {} | {} |",
            row.name(),
            figures.join(" | "),
            of("unexplained"),
            told(whole.and_then(|metric| metric.value))
        );
    }
    out.push('\n');
    true
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
pub(super) mod tests {
    use hopbench::record::{Metric, Run};

    use super::*;
    use crate::report::fixture;

    /// The fixture, in which the server's memory of registered users has parts.
    pub(in crate::report) fn run_with_parts() -> Run {
        let mut run = fixture::run();
        for cell in &mut run.cells {
            if !cell.id.contains("stage=registered") {
                continue;
            }
            let tls = if cell.stack.contains("tls") {
                7_000.0
            } else {
                0.2
            };
            for (part, _, _) in PARTS {
                let bytes = match part {
                    "tls_session" => tls,
                    "task" => 1_234.4,
                    "buffers" => -3.0,
                    _ => 0.0,
                };
                let key = format!("server_{part}_heap_bytes_per_connection");
                cell.metrics
                    .insert(key.clone(), Metric::of(&key, Some(bytes)));
            }
        }
        run
    }

    fn rendered(run: &Run) -> String {
        let mut out = String::new();
        tables(&mut out, &Summary::of(run));
        out
    }

    #[test]
    fn only_parts_that_some_stack_has_are_columns() {
        let text = rendered(&run_with_parts());
        let heading = "| stack | stage | TLS session | task | unexplained | whole |";
        assert!(text.contains(heading), "{text}");
        assert!(
            text.contains("| `tls` | registered | 7000 | 1234 | "),
            "{text}"
        );
        assert!(
            text.contains("| `tcp` | registered | 0 | 1234 | "),
            "{text}"
        );
        assert!(!text.contains("client heap"), "nobody traced it: {text}");
    }

    #[test]
    fn runs_that_traced_nothing_have_no_such_table() {
        let mut run = fixture::run();
        assert_eq!(rendered(&run), "");
        // As recorded by earlier versions.
        for cell in &mut run.cells {
            let whole = cell.metrics.get("server_heap_bytes_per_connection");
            let Some(whole) = whole.cloned() else {
                continue;
            };
            for part in ["tunnel", "carrier", "binding"] {
                let key = format!("server_{part}_heap_bytes_per_connection");
                cell.metrics.insert(key, whole.clone());
            }
        }
        assert_eq!(rendered(&run), "");
    }
}
