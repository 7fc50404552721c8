//! Stacks that were run in another way than their usual one – TLS with tickets, batched datagrams –
//! against the same stack run as usual. A part of [`super::markdown`].

use std::fmt::Write;

use hopbench::record::Run;

use super::question::Question;
use super::summary::{Block, Row, Summary};
use super::units::{self, MISSING};

/// Headings and metrics.
type Columns = &'static [(&'static str, &'static str)];

const SETUP: Columns = &[
    ("set-up of a hop", "setup_latency_ns"),
    ("time until registered", "hop_ready_to_registered_ns"),
];
const MEMORY: Columns = &[
    ("server heap", "server_heap_bytes_per_connection"),
    ("client heap", "client_heap_bytes_per_connection"),
];
const THROUGHPUT: Columns = &[
    ("server CPU", "server_cpu_ns_per_operation"),
    ("client CPU", "client_cpu_ns_per_operation"),
    ("registered", "hop_ready_to_registered_ns"),
    ("call set up", "session_request_delay_ns"),
    ("wire bytes", "wire_bytes_per_operation"),
];

/// A table for each block that has variants.
pub(super) fn tables(out: &mut String, run: &Run, summary: &Summary<'_>) {
    for block in &summary.blocks {
        table(out, run, block);
    }
}

fn table(out: &mut String, run: &Run, block: &Block<'_>) {
    let (all, stage) = match block.question {
        Question::Setup => (SETUP, None),
        Question::Memory => (MEMORY, Some("registered")),
        Question::Throughput => (THROUGHPUT, None),
        // Crowds of other sizes and hops of other rates are no other way to run a stack; of links, the tables have all ways already.
        Question::Chain
        | Question::Link
        | Question::Rate
        | Question::Scale
        | Question::Search
        | Question::Knee => {
            return;
        }
    };
    let ratio = |variant: &Row<'_>, key: &str| -> Option<String> {
        let above = variant.cell(stage)?;
        let below = block.row(variant.stack)?.cell(stage)?;
        let ratio = run.ratios.iter().find(|ratio| {
            ratio.metric == key && ratio.cell_id == above.id && ratio.control_cell_id == below.id
        });
        ratio.map(units::ratio)
    };
    let columns: Vec<_> = all
        .iter()
        .filter(|(_, key)| block.variants.iter().any(|row| ratio(row, key).is_some()))
        .collect();
    if columns.is_empty() {
        return;
    }
    let headings: Vec<&str> = columns.iter().map(|(heading, _)| *heading).collect();
    let _ = writeln!(
        out,
        "Another way against the usual one, ratio [95 % interval]: {}\n\n| | {} |",
        block.title,
        headings.join(" | ")
    );
    let _ = writeln!(out, "|---|{}", "--:|".repeat(columns.len()));
    for variant in &block.variants {
        let ratios = columns
            .iter()
            .map(|(_, key)| ratio(variant, key).unwrap_or(MISSING.to_owned()));
        let ratios: Vec<String> = ratios.collect();
        let _ = writeln!(out, "| `{}` | {} |", variant.name(), ratios.join(" | "));
    }
    out.push('\n');
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::fixture;

    #[test]
    fn a_variant_is_held_against_the_usual_way_of_its_stack() {
        let run = fixture::run();
        let mut out = String::new();
        tables(&mut out, &run, &Summary::of(&run));
        let row = "| `udp@wireguard, batching=on` | 0.798× [0.750, 0.854] |";
        assert!(out.contains(row), "{out}");
        assert_eq!(out.matches("Another way").count(), 1, "{out}");
    }
}
