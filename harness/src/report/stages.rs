//! What a connection costs at each stage of its life, on either side and in the kernel. A part of
//! [`super::markdown`].

use std::fmt::Write;

use hopbench::record::{Cell, Unit};

use super::question::Question;
use super::summary::{Block, Row, Summary};
use super::units::{MISSING, Scale};

/// In the order of a connection's life: stage, and what the table calls it.
pub(super) const STAGES: [(&str, &str); 4] = [
    ("handshaken", "handshaken"),
    ("registered", "registered"),
    ("idle", "idle"),
    ("in-call", "in a call"),
];

/// What is read at each: the metric, and what the table calls it.
const FIGURES: [(&str, &str); 3] = [
    ("server_heap_bytes_per_connection", "server heap"),
    ("client_heap_bytes_per_connection", "client heap"),
    (
        "kernel_bytes_per_connection",
        "kernel memory of both ends' sockets",
    ),
];

/// How long a server remembers what it answered over datagrams: Timer J, 64 times T1.
const TRANSACTION_SECONDS: f64 = 32.0;

/// A table for each figure: the stacks below each other, the stages beside each other.
pub(super) fn tables(out: &mut String, summary: &Summary<'_>) {
    let blocks = summary.blocks.iter();
    for block in blocks.filter(|block| block.question == Question::Memory) {
        for (metric, name) in FIGURES {
            table(out, block, metric, name);
        }
        beyond_bare(out, block);
        if let Some(seconds) = idle_seconds(block) {
            let transactions = if seconds < TRANSACTION_SECONDS {
                ", fewer than the 32 s that a transaction over datagrams lasts (RFC 3261 §17.2.2): it is among \
                 what an idle user takes"
            } else {
                ""
            };
            let _ = writeln!(
                out,
                "Idle is after {seconds} s in which nothing happened{transactions}.\n"
            );
        }
    }
}

/// Nothing where the table of the question says it all.
fn table(out: &mut String, block: &Block<'_>, metric: &str, name: &str) {
    let value = |row: &Row<'_>, stage: &str| row.cell(Some(stage))?.metrics.get(metric)?.value;
    let is_measured = |stage: &str| block.all_rows().any(|row| value(row, stage).is_some());
    let stages: Vec<_> = STAGES
        .into_iter()
        .filter(|(stage, _)| is_measured(stage))
        .collect();
    let is_told_already = metric != FIGURES[2].0 && stages.len() <= 2;
    if stages.is_empty() || is_told_already {
        return;
    }
    let figures = block
        .all_rows()
        .flat_map(|row| stages.iter().filter_map(|(stage, _)| value(row, stage)));
    let scale = Scale::fitting(Unit::Bytes, figures);
    let headings: Vec<&str> = stages.iter().map(|(_, heading)| *heading).collect();
    let _ = writeln!(
        out,
        "By stage, per connection: {name} in {}\n\n| stack | {} |\n|---|{}",
        scale.symbol,
        headings.join(" | "),
        "--:|".repeat(stages.len())
    );
    for row in block.all_rows() {
        let figures = stages.iter().map(|(stage, _)| {
            value(row, stage).map_or(MISSING.to_owned(), |bytes| scale.number(bytes))
        });
        let figures: Vec<String> = figures.collect();
        let _ = writeln!(out, "| `{}` | {} |", row.name(), figures.join(" | "));
    }
    out.push('\n');
}

/// What the server holds of a connection, what the cryptography alone would, and the rest.
fn beyond_bare(out: &mut String, block: &Block<'_>) {
    for (stage, heading) in STAGES {
        let figures = |row: &Row<'_>| -> Option<(f64, f64)> {
            let metrics = &row.cell(Some(stage))?.metrics;
            let value = |key: &str| metrics.get(key)?.value;
            let bare = value("server_bare_heap_bytes_per_connection")?;
            Some((value("server_heap_bytes_per_connection")?, bare))
        };
        let rows: Vec<_> = block
            .all_rows()
            .filter_map(|row| Some((row.name(), figures(row)?)))
            .collect();
        if rows.is_empty() {
            continue;
        }
        let scale = Scale::fitting(Unit::Bytes, rows.iter().map(|(_, (whole, _))| *whole));
        let _ = writeln!(
            out,
            "Server heap beyond the bare cryptography, {heading}, per connection in {}: bare are rustls and \
             boringtun alone, in memory, in this run\n\n| stack | whole | bare | beyond |\n|---|--:|--:|--:|",
            scale.symbol
        );
        for (name, (whole, bare)) in rows {
            let _ = writeln!(
                out,
                "| `{name}` | {} | {} | {} |",
                scale.number(whole),
                scale.number(bare),
                scale.number(whole - bare)
            );
        }
        out.push('\n');
    }
}

fn idle_seconds(block: &Block<'_>) -> Option<f64> {
    let idle = |row: &Row<'_>| -> Option<f64> {
        let cell: &Cell = row.cell(Some("idle"))?;
        cell.parameters.get("idle_seconds")?.as_f64()
    };
    block.all_rows().find_map(idle)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use hopbench::record::{Metric, Run};
    use serde_json::json;

    use super::*;
    use crate::report::fixture;

    fn rendered(run: &Run) -> String {
        let mut out = String::new();
        tables(&mut out, &Summary::of(run));
        out
    }

    #[test]
    fn stages_that_the_question_does_not_show_have_a_table_and_say_how_long_idle_is() {
        let mut run = fixture::run();
        assert_eq!(rendered(&run), "");
        let is_registered = |cell: &&Cell| cell.id.contains("stage=registered");
        let mut idle: Vec<Cell> = run.cells.iter().filter(is_registered).cloned().collect();
        assert!(!idle.is_empty());
        for cell in &mut idle {
            cell.id = cell.id.replace("stage=registered", "stage=idle");
            cell.parameters.insert("idle_seconds".into(), json!(5.0));
            for metric in cell.metrics.values_mut() {
                metric.value = metric.value.map(|_| 3_072.0);
            }
        }
        run.cells.extend(idle);
        let text = rendered(&run);
        assert!(text.contains("server heap in KiB"), "{text}");
        assert!(text.contains("| stack | handshaken | registered | idle |"));
        assert!(text.contains("3.00 |\n"), "{text}");
        assert!(text.contains("Idle is after 5 s"));
        assert!(text.contains("fewer than the 32 s"), "{text}");
        assert!(!text.contains("kernel"), "nobody measured it: {text}");
        assert!(!text.contains("bare"), "nobody measured it: {text}");
    }

    #[test]
    fn what_a_server_holds_is_told_from_its_cryptography() {
        let mut run = fixture::run();
        let is_tls = |cell: &&mut Cell| cell.stack == "tls" && cell.id.contains("stage=registered");
        let cell = run.cells.iter_mut().find(is_tls).unwrap();
        for (key, bytes) in [
            ("server_heap_bytes_per_connection", 9_216.0),
            ("server_bare_heap_bytes_per_connection", 8_192.0),
        ] {
            let metric = Metric::of(key, Some(bytes));
            cell.metrics.insert(key.to_owned(), metric);
        }
        let text = rendered(&run);
        assert!(text.contains("| `tls` | 9.00 | 8.00 | 1.00 |"), "{text}");
    }
}
