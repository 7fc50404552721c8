//! Tables of what the comparison of stacks leaves out: operations by kind, what crosses the wire,
//! single nodes and hops where there are several. A part of [`super::markdown`].

use std::fmt::Write;

use hopbench::record::{Cell, Run, Unit};

use super::question::Question;
use super::summary::{by_numbers, stack_rank};
use super::units::{MISSING, Scale};

/// A column of a table: heading, key of the metric, unit.
type Column = (&'static str, String, Unit);

/// The tables that belong to `question`.
pub(super) fn tables(out: &mut String, run: &Run, question: Question) {
    let of_question = |cell: &&Cell| cell.experiment == question.experiment();
    let cells: Vec<&Cell> = run.cells.iter().filter(of_question).collect();
    match question {
        Question::Setup => places(out, &cells),
        Question::Memory => set_up_wire(out, &cells),
        Question::Throughput => {
            kinds(out, &cells);
            wire(out, &cells);
            places(out, &cells);
        }
        // Of the chain's lengths the longest shows what the others do.
        Question::Chain => places(out, &longest(&cells)),
        Question::Link | Question::Rate | Question::Scale | Question::Search | Question::Knee => {}
    }
}

/// Kinds of operations as columns and metric keys call them.
const KINDS: [(&str, &str); 5] = [
    ("calls", "call"),
    ("cancelled calls", "cancelled_call"),
    ("calls to nobody", "unknown_callee"),
    ("refreshes", "reregister"),
    ("registrations", "register"),
];

fn kinds(out: &mut String, cells: &[&Cell]) {
    let columns: Vec<Column> = KINDS
        .into_iter()
        .flat_map(|(heading, kind)| {
            let key = |what| format!("{kind}_{what}_count");
            [
                (heading, key("offered"), Unit::Count),
                ("failed", key("failed"), Unit::Count),
            ]
        })
        .collect();
    let title = "Operations of each kind in a block, and how many of them failed";
    by_cell(out, title, cells, &columns);
}

fn set_up_wire(out: &mut String, cells: &[&Cell]) {
    let columns = [
        ("bytes", "handshake_wire_bytes".to_owned(), Unit::Bytes),
        ("packets", "handshake_wire_packets".to_owned(), Unit::Count),
    ];
    let title = "On the wire per set-up of a hop, both directions, IP headers included";
    wire_by_cell(out, title, cells, &columns);
}

fn wire(out: &mut String, cells: &[&Cell]) {
    let columns = [
        ("bytes", "wire_bytes_per_operation".to_owned(), Unit::Bytes),
        (
            "packets",
            "wire_packets_per_operation".to_owned(),
            Unit::Count,
        ),
        ("÷ SIP bytes", "wire_overhead_ratio".to_owned(), Unit::Ratio),
    ];
    let title = "On the wire per operation, all hops, both directions, IP headers included";
    wire_by_cell(out, title, cells, &columns);
}

/// [`by_cell`], and how the wire was counted.
fn wire_by_cell(out: &mut String, title: &str, cells: &[&Cell], columns: &[Column]) {
    if by_cell(out, title, cells, columns) {
        let _ = writeln!(out, "{BOOKS}\n");
    }
}

/// One row for each cell that has one of the figures; nothing where no cell has. Whether there is a
/// table.
fn by_cell(out: &mut String, title: &str, cells: &[&Cell], columns: &[Column]) -> bool {
    let has = |cell: &Cell| {
        columns
            .iter()
            .any(|column| value(cell, &column.1).is_some())
    };
    let mut rows: Vec<&Cell> = cells.iter().copied().filter(|cell| has(cell)).collect();
    if rows.is_empty() {
        return false;
    }
    rows.sort_by_key(|cell| {
        let Cell {
            workload,
            topology,
            lifecycle,
            ..
        } = cell;
        (
            workload != "register",
            workload,
            lifecycle,
            topology,
            stack_rank(&cell.stack),
            by_numbers(&cell.id),
        )
    });
    let named: Vec<(String, Vec<Option<f64>>)> = rows
        .iter()
        .map(|cell| {
            let figures = columns.iter().map(|column| value(cell, &column.1));
            (format!("`{}`", short(cell)), figures.collect())
        })
        .collect();
    table(out, title, "cell", columns, &named);
    true
}

const BOOKS: &str = "Counted at the servers' ends: datagrams one by one, TCP by the kernel's books of \
    each connection. A connection's goodbye after its last reading is missing; how many packets of \
    TCP there are depends on which acknowledgements were delayed.";

/// The cell's name without what all cells of the question share.
fn short(cell: &Cell) -> &str {
    cell.id
        .split_once('/')
        .map_or(cell.id.as_str(), |(_, rest)| rest)
}

/// A table for each cell with several nodes: nodes and the hops before them, from the caller on.
fn places(out: &mut String, cells: &[&Cell]) {
    for cell in cells {
        let mut rows = Vec::new();
        for place in 1_u32.. {
            let keys = [
                format!("node_{place}_cpu_ns_per_operation"),
                format!("node_{place}_rss_bytes"),
                format!("hop_{place}_wire_bytes_per_operation"),
                format!("hop_{place}_wire_packets_per_operation"),
            ];
            let figures: Vec<Option<f64>> = keys.iter().map(|key| value(cell, key)).collect();
            if figures.iter().all(Option::is_none) {
                break;
            }
            rows.push((place.to_string(), figures));
        }
        if rows.is_empty() {
            continue;
        }
        let columns = [
            ("node's CPU per operation", String::new(), Unit::Ns),
            ("node's RSS", String::new(), Unit::Bytes),
            ("hop's bytes per operation", String::new(), Unit::Bytes),
            ("hop's packets per operation", String::new(), Unit::Count),
        ];
        let title = format!("`{}` by node and by hop, from the caller on", cell.id);
        table(out, &title, "place", &columns, &rows);
    }
}

/// The cells of the topology with the most nodes.
fn longest<'a>(cells: &[&'a Cell]) -> Vec<&'a Cell> {
    let length = |cell: &Cell| -> u32 {
        let digits = cell.topology.strip_prefix("chain-");
        digits.and_then(|digits| digits.parse().ok()).unwrap_or(0)
    };
    let most = cells.iter().map(|cell| length(cell)).max().unwrap_or(0);
    let mut found: Vec<&Cell> = cells.to_vec();
    found.retain(|cell| most > 0 && length(cell) == most);
    found.sort_by_key(|cell| stack_rank(&cell.stack));
    found
}

fn value(cell: &Cell, key: &str) -> Option<f64> {
    cell.metrics.get(key)?.value
}

fn table(
    out: &mut String,
    title: &str,
    first: &str,
    columns: &[Column],
    rows: &[(String, Vec<Option<f64>>)],
) {
    let scales: Vec<Scale> = columns
        .iter()
        .enumerate()
        .map(|(index, (_, _, unit))| {
            Scale::fitting(*unit, rows.iter().filter_map(|(_, figures)| figures[index]))
        })
        .collect();
    let headings = columns.iter().zip(&scales).map(|((heading, ..), scale)| {
        if scale.symbol.is_empty() {
            (*heading).to_owned()
        } else {
            format!("{heading} ({})", scale.symbol)
        }
    });
    let headings: Vec<String> = headings.collect();
    let _ = writeln!(out, "{title}\n\n| {first} | {} |", headings.join(" | "));
    let _ = writeln!(out, "|---|{}", "--:|".repeat(columns.len()));
    for (name, figures) in rows {
        let figures = figures
            .iter()
            .zip(&scales)
            .map(|(figure, scale)| figure.map_or(MISSING.to_owned(), |value| scale.number(value)));
        let figures: Vec<String> = figures.collect();
        let _ = writeln!(out, "| {name} | {} |", figures.join(" | "));
    }
    out.push('\n');
}
