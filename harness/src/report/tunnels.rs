//! What only stacks over tunnels have: the price of tunnelling apart from that of protection, figure
//! by figure; what protecting a packet costs; what tunnels dropped. A part of [`super::markdown`].

use std::fmt::Write;

use hopbench::record::metric;
use hopbench::record::{Cell, Metric, Ratio, Run, Verdict};

use super::question::{Question, operation};
use super::summary::{Block, Price, PriceKind, Summary, by_numbers, stack_rank};
use super::units::{self, MISSING, significant};

/// The section; nothing for a run without tunnels.
pub(super) fn section(out: &mut String, run: &Run, summary: &Summary<'_>) {
    let mut text = String::new();
    prices(&mut text, run, summary);
    packet_costs(&mut text, run);
    drops(&mut text, run);
    if !text.is_empty() {
        let _ = write!(out, "## Tunnels\n\n{text}");
    }
}

/// A figure whose price is told, and what it is called.
struct Priced<'a> {
    name: String,
    metric: &'static str,
    stage: Option<&'static str>,
    block: &'a Block<'a>,
}

/// For each protected stack over a tunnel a table: the figures below each other, and beside each
/// other what tunnelling alone, protection alone and both together multiply them by.
fn prices(out: &mut String, run: &Run, summary: &Summary<'_>) {
    let figures = priced(summary);
    let mut protected: Vec<&str> = Vec::new();
    for price in &summary.prices {
        let is_tunnel = price.stack.contains('@') && !price.stack.ends_with("@clear");
        if is_tunnel && !protected.contains(&price.stack) {
            protected.push(price.stack);
        }
    }
    protected.sort_by_key(|stack| stack_rank(stack));
    for stack in protected {
        let columns = columns(stack, &summary.prices);
        let _ = writeln!(out, "What `{stack}` costs, ratio [95 % interval]\n");
        let headings = columns.iter().map(|price| {
            format!(
                "{}: `{}` ÷ `{}`",
                price.kind.name(),
                price.stack,
                price.control
            )
        });
        let headings: Vec<String> = headings.collect();
        let _ = writeln!(out, "| | {} |", headings.join(" | "));
        let _ = writeln!(out, "|---|{}", "--:|".repeat(columns.len()));
        for figure in &figures {
            let ratios: Vec<Option<&Ratio>> = columns
                .iter()
                .map(|price| figure.ratio(run, price))
                .collect();
            if ratios.iter().any(Option::is_some) {
                let ratios = ratios.into_iter();
                let ratios = ratios.map(|ratio| ratio.map_or(MISSING.to_owned(), units::ratio));
                let ratios: Vec<String> = ratios.collect();
                let _ = writeln!(out, "| {} | {} |", figure.name, ratios.join(" | "));
            }
        }
        out.push('\n');
    }
}

/// What `stack` is compared in: its control against the bare carrier, itself against its control,
/// itself against the bare carrier.
fn columns<'p, 'a>(stack: &str, prices: &'p [Price<'a>]) -> Vec<&'p Price<'a>> {
    let of = |stack: &str, kind| {
        prices
            .iter()
            .find(|price| price.stack == stack && price.kind == kind)
    };
    let protection = of(stack, PriceKind::Protection);
    let tunnelling = protection.and_then(|price| of(price.control, PriceKind::Tunnelling));
    let both = of(stack, PriceKind::TunnellingAndProtection);
    [tunnelling, protection, both]
        .into_iter()
        .flatten()
        .collect()
}

/// Every figure that a price is told of.
fn priced<'a>(summary: &'a Summary<'a>) -> Vec<Priced<'a>> {
    let mut figures = Vec::new();
    for block in &summary.blocks {
        let mut add = |name: &str, metric, stage| {
            // Where a run has several blocks of a kind, their headlines say which is which.
            let qualifier = block.headline_name.split_once(" (");
            let qualifier = qualifier.map(|(_, rest)| format!(" ({rest}"));
            figures.push(Priced {
                name: format!("{name}{}", qualifier.unwrap_or_default()),
                metric,
                stage,
                block,
            });
        };
        match block.question {
            Question::Setup => {
                add("set-up of a hop", "setup_latency_ns", None);
                add("time until registered", "hop_ready_to_registered_ns", None);
            }
            Question::Memory => {
                let (handshaken, registered) = (Some("handshaken"), Some("registered"));
                add("wire bytes of a set-up", "handshake_wire_bytes", handshaken);
                for (side, metric) in [
                    ("server", "server_heap_bytes_per_connection"),
                    ("client", "client_heap_bytes_per_connection"),
                ] {
                    add(&format!("{side} heap, registered"), metric, registered);
                }
            }
            Question::Throughput => {
                let operation = operation(block.workload);
                for (what, metric) in [
                    ("server CPU", "server_cpu_ns_per_operation"),
                    ("client CPU", "client_cpu_ns_per_operation"),
                    ("wire bytes", "wire_bytes_per_operation"),
                    ("packets", "wire_packets_per_operation"),
                ] {
                    add(&format!("{what} per {operation}"), metric, None);
                }
            }
            Question::Rate => {
                let operation = operation(block.workload);
                add(
                    &format!("highest {operation} rate, narrow hop"),
                    "fitting_per_second",
                    None,
                );
            }
            Question::Chain | Question::Link | Question::Search | Question::Knee => {}
            Question::Scale => {
                add(
                    "server CPU per call beside a crowd",
                    "server_cpu_ns_per_call",
                    None,
                );
            }
        }
    }
    figures
}

impl Priced<'_> {
    fn ratio<'r>(&self, run: &'r Run, price: &Price<'_>) -> Option<&'r Ratio> {
        let cell = |stack: &str| self.block.row(stack)?.cell(self.stage);
        let (above, below) = (cell(price.stack)?, cell(price.control)?);
        run.ratios.iter().find(|ratio| {
            ratio.metric == self.metric
                && ratio.cell_id == above.id
                && ratio.control_cell_id == below.id
        })
    }
}

fn packet_costs(out: &mut String, run: &Run) {
    let rows = cells_with(run, "protection_cpu_ns_per_packet");
    if rows.is_empty() {
        return;
    }
    let _ = writeln!(
        out,
        "CPU time of protecting a packet, both sides together, and of boringtun alone\n\n\
         | cell | packets per operation | protection (µs) | boringtun alone (µs) | ratio | alone, at this pace \
         (µs) | ratio |\n\
         |---|--:|--:|--:|--:|--:|--:|"
    );
    for cell in rows {
        let metric = |key: &str| cell.metrics.get(key);
        let number = |key: &str, size: f64| {
            let value = metric(key).and_then(|metric| metric.value);
            value.map_or(MISSING.to_owned(), |value| significant(value / size))
        };
        let _ = writeln!(
            out,
            "| `{}` | {} | {} | {} | {} | {} | {} |",
            cell.id,
            number("wire_packets_per_operation", 1.0),
            number("protection_cpu_ns_per_packet", 1e3),
            number("bare_protection_cpu_ns_per_packet", 1e3),
            metric("protection_cost_ratio").map_or(MISSING.to_owned(), with_interval),
            number("bare_protection_paced_cpu_ns_per_packet", 1e3),
            metric("protection_paced_cost_ratio").map_or(MISSING.to_owned(), with_interval),
        );
    }
    let _ = writeln!(
        out,
        "\nProtection is what an operation costs beyond its control, for each packet; it holds padding, \
         tables and timers of the tunnel too. boringtun alone seals and opens packets of the cell's mean \
         length in memory right after each block: as fast as it goes, the fastest of some rounds; and one at a time, \
         at the mean pace of the cell's packets, of many tunnels by turns. The first is a floor with warm caches and a processor that never \
         sleeps. The second has slept as the cell does, whose code and keys come from memory again: what is left \
         above it is the tunnel's own.\n"
    );
}

pub(super) fn with_interval(metric: &Metric) -> String {
    let Some(value) = metric.value else {
        return MISSING.to_owned();
    };
    match (metric.ci95_low, metric.ci95_high) {
        (Some(low), Some(high)) => format!(
            "{} [{}, {}]",
            significant(value),
            significant(low),
            significant(high)
        ),
        _ => significant(value),
    }
}

/// Nothing when nothing was dropped; the run file has the zeros.
fn drops(out: &mut String, run: &Run) {
    let mut rows = Vec::new();
    for cell in &run.cells {
        for known in metric::KNOWN {
            let is_drop = known.key.contains("_tunnel_drops_");
            let count = cell.metrics.get(known.key).filter(|_| is_drop);
            if let Some(count) = count.and_then(|metric| metric.value)
                && count > 0.0
            {
                rows.push(format!(
                    "| `{}` | {} | {} |",
                    cell.id,
                    known.title,
                    significant(count)
                ));
            }
        }
    }
    if !rows.is_empty() {
        let _ = writeln!(
            out,
            "What tunnels dropped in all blocks together, where they did\n\n| cell | cause | datagrams |\n|---|---|--:|\n{}\n",
            rows.join("\n")
        );
    }
}

/// The cells that are ok and have a figure for `key`, in the order of their stacks.
pub(super) fn cells_with<'a>(run: &'a Run, key: &str) -> Vec<&'a Cell> {
    let has = |cell: &&Cell| {
        let metric = cell.metrics.get(key);
        cell.verdict == Verdict::Ok && metric.is_some_and(|metric| metric.value.is_some())
    };
    let mut cells: Vec<&Cell> = run.cells.iter().filter(has).collect();
    cells.sort_by_key(|cell| (stack_rank(&cell.stack), by_numbers(&cell.id)));
    cells
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::fixture;

    fn rendered(run: &Run) -> String {
        let mut out = String::new();
        section(&mut out, run, &Summary::of(run));
        out
    }

    #[test]
    fn tunnelling_and_protection_stand_beside_each_other() {
        let text = rendered(&fixture::run());
        assert!(
            text.contains(
                "| | tunnelling: `tcp@clear` ÷ `tcp` | protection: `tcp@wireguard` ÷ `tcp@clear` | \
                 tunnelling and protection: `tcp@wireguard` ÷ `tcp` |"
            ),
            "{text}"
        );
        // The control of TLS within a tunnel is the tunnel's, what it rides on otherwise is TLS.
        assert!(
            text.contains(
                "| | tunnelling: `tcp@clear` ÷ `tcp` | protection: `tls@wireguard` ÷ `tcp@clear` | \
                 tunnelling and protection: `tls@wireguard` ÷ `tls` |"
            ),
            "{text}"
        );
        for figure in [
            "server CPU per call",
            "client CPU per call",
            "time until registered",
        ] {
            assert!(text.contains(&format!("| {figure}")), "{figure}: {text}");
        }
    }

    #[test]
    fn drops_are_shown_only_where_there_were_some() {
        let mut run = fixture::run();
        assert!(!rendered(&run).contains("What tunnels dropped"));
        let key = "server_tunnel_drops_replayed_count";
        let cell = run
            .cells
            .iter_mut()
            .find(|cell| cell.stack == "udp@wireguard");
        let cell = cell.expect("the fixture has it");
        cell.metrics
            .insert(key.to_owned(), Metric::of(key, Some(3.0)));
        assert!(rendered(&run).contains("tunnels dropped: replayed | 3.00 |"));
    }

    #[test]
    fn a_run_without_tunnels_has_no_such_section() {
        let mut run = fixture::run();
        run.cells.retain(|cell| !cell.stack.contains('@'));
        assert_eq!(rendered(&run), "");
    }
}
