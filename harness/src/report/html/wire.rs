//! Bytes on the wire: of opening a hop, and of an operation.

use hopbench::record::{Cell, Unit};
use maud::{Markup, html};

use super::bars;
use super::{Report, Section, figures};
use crate::report::question::Question;
use crate::report::summary::{Block, Row};
use crate::report::svg::bars::{Arrangement, Bars, Panel, Row as BarRow};

const SET_UP: [(&str, &str); 2] = [
    ("handshake_wire_bytes", "set-up"),
    ("handshake_wire_packets", "packets of a set-up"),
];
const OPERATION: [(&str, &str); 3] = [
    ("wire_bytes_per_operation", "operation"),
    ("wire_packets_per_operation", "packets of an operation"),
    ("wire_overhead_ratio", "wire bytes ÷ SIP bytes"),
];
const SHADES: [(&str, f64); 1] = [("both directions, IP headers included", 1.0)];

/// The section; nothing where the wire was not measured.
pub(super) fn section(report: &Report<'_>) -> Option<Section> {
    let memory = report.blocks(Question::Memory);
    let throughput = report.blocks(Question::Throughput);
    let set_up = chart(
        report,
        "Bytes on the wire per set-up of a hop",
        &memory,
        &SET_UP,
    );
    let operation = chart(
        report,
        "Bytes on the wire per operation, all hops",
        &throughput,
        &OPERATION,
    );
    if set_up.is_none() && operation.is_none() {
        return None;
    }
    let body = html! {
        (set_up.unwrap_or_default())
        (operation.unwrap_or_default())
        p class="note" {
            "Counted at the servers' ends, of a tunnel the outer packets: datagrams one by one, TCP by the kernel's \
             books of each connection. How many packets of TCP there are depends on which acknowledgements were \
             delayed."
        }
    };
    Some(Section::new("On the wire", body))
}

/// Bars of the first of `keys`, and a table of all of them.
fn chart<'a>(
    report: &Report<'a>,
    title: &str,
    blocks: &[&Block<'a>],
    keys: &[(&'a str, &str)],
) -> Option<Markup> {
    let key = keys.first()?.0;
    let bytes = |row: &Row<'a>| {
        let value = |cell: &&Cell| cell.metrics.get(key)?.value;
        row.cells.iter().find_map(value)
    };
    let panel = |block: &&Block<'a>| Panel {
        title: if blocks.len() > 1 {
            heading(block)
        } else {
            String::new()
        },
        rows: block
            .rows
            .iter()
            .map(|row| BarRow {
                stack: row.stack,
                verdict: row.verdict,
                parts: vec![bytes(row)],
            })
            .collect(),
    };
    let has_figures = |block: &&&Block<'a>| block.rows.iter().any(|row| bytes(row).is_some());
    let panels: Vec<Panel<'a>> = blocks.iter().filter(has_figures).map(panel).collect();
    if panels.is_empty() {
        return None;
    }
    let drawn = Bars {
        title: title.to_owned(),
        subtitle: "both directions, IP and transport headers included".to_owned(),
        unit: Unit::Bytes,
        axis: "bytes on the wire",
        arrangement: Arrangement::Stacked,
        shades: &SHADES,
        panels,
    };
    let figures = figures::of_blocks(blocks, keys);
    Some(bars::figure(
        report,
        &drawn,
        &figures::table(report, &figures),
    ))
}

fn heading(block: &Block<'_>) -> String {
    let mut heading = format!("{} · {}", block.workload, block.lifecycle);
    if !block.qualifier.is_empty() {
        heading = format!("{heading} · {}", block.qualifier);
    }
    heading
}
