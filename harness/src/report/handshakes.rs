//! What opening a protected hop and registering over it costs, beside the least that it can: the bare
//! handshake in memory and the same registration without protection. A part of [`super::markdown`].

use std::fmt::Write;

use hopbench::record::{Cell, Run};

use super::tunnels::{cells_with, with_interval};
use super::units::{MISSING, significant};

/// The section; nothing for a run without such registrations.
pub(super) fn section(out: &mut String, run: &Run) {
    let rows = cells_with(run, "bare_handshake_cpu_ns");
    if rows.is_empty() {
        return;
    }
    let _ = writeln!(
        out,
        "## Handshakes\n\nCPU time of a registration over a new hop, both sides together, and of the bare \
         handshake\n\n\
         | cell | registration (µs) | bare handshake (µs) | ÷ (bare handshake + unprotected registration) | bare, at \
         this pace (µs) | ÷ (that + unprotected registration) |\n\
         |---|--:|--:|--:|--:|--:|"
    );
    for (cell, name) in rows.iter().zip(short_names(&rows)) {
        let metric = |key: &str| cell.metrics.get(key);
        let cost = |key| metric(key).map_or(MISSING.to_owned(), with_interval);
        let _ = writeln!(
            out,
            "| `{name}` | {} | {} | {} | {} | {} |",
            microseconds(both_sides(cell)),
            microseconds(value(cell, "bare_handshake_cpu_ns")),
            cost("handshake_cost_ratio"),
            microseconds(value(cell, "bare_handshake_paced_cpu_ns")),
            cost("handshake_paced_cost_ratio"),
        );
    }
    let _ = writeln!(
        out,
        "\nThe bare handshake is that of rustls, of boringtun, or of both, both ends in memory, right after each \
         turn: as fast as it goes, the fastest of some rounds; and one at a time, as many a second as the cell has. \
         The first is a floor with warm caches and a processor that never sleeps. The second has slept as the cell \
         does, as long as one thread that does both ends gets to sleep at that rate, and its code, tables and keys come \
         from memory again: a price of the rate, which nothing around the handshake could save. The unprotected registration is that of the stack's control in the same block. What \
         a cell takes beyond both is what carries the handshake, seals the messages and closes the hop.\n"
    );
}

/// What tells the rows apart: of each cell's name the stack, and what is not the same in all of them.
fn short_names(rows: &[&Cell]) -> Vec<String> {
    /// After experiment and workload.
    const STACK: usize = 2;
    let path = |cell: &Cell| -> Vec<String> {
        let path = cell.id.split('?').next().unwrap_or_default();
        path.split('/').map(str::to_owned).collect()
    };
    let paths: Vec<_> = rows.iter().map(|cell| path(cell)).collect();
    let differs = |place: usize| {
        paths
            .iter()
            .any(|path| path.get(place) != paths[0].get(place))
    };
    let names = rows.iter().zip(&paths).map(|(cell, path)| {
        let parts = path.iter().enumerate();
        let told = parts.filter(|(place, _)| *place == STACK || differs(*place));
        let told: Vec<&str> = told.map(|(_, part)| part.as_str()).collect();
        let parameters = cell.id.find('?').map_or("", |at| &cell.id[at..]);
        told.join("/") + parameters
    });
    names.collect()
}

fn both_sides(cell: &Cell) -> Option<f64> {
    let client = value(cell, "client_cpu_ns_per_operation")?;
    Some(client + value(cell, "server_cpu_ns_per_operation")?)
}

fn value(cell: &Cell, key: &str) -> Option<f64> {
    cell.metrics.get(key)?.value
}

fn microseconds(ns: Option<f64>) -> String {
    ns.map_or(MISSING.to_owned(), |ns| significant(ns / 1e3))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use hopbench::record::Metric;

    use super::*;
    use crate::report::fixture;

    fn rendered(run: &Run) -> String {
        let mut out = String::new();
        section(&mut out, run);
        out
    }

    #[test]
    fn registrations_stand_beside_the_bare_handshake() {
        let mut run = fixture::run();
        assert_eq!(rendered(&run), "");
        let mut cells = run.cells.iter_mut();
        let cell = cells.find(|cell| {
            cell.experiment == "throughput" && cell.workload == "register" && cell.stack == "tls"
        });
        let cell = cell.unwrap();
        for (key, value) in [
            ("client_cpu_ns_per_operation", 300_000.0),
            ("server_cpu_ns_per_operation", 420_000.0),
            ("bare_handshake_cpu_ns", 450_000.0),
            ("handshake_cost_ratio", 1.2),
            ("bare_handshake_paced_cpu_ns", 510_000.0),
            ("handshake_paced_cost_ratio", 1.09),
        ] {
            let metric = Metric::of(key, Some(value));
            cell.metrics.insert(key.to_owned(), metric);
        }
        let row = "| `tls?rate=250` | 720 | 450 | 1.20 | 510 | 1.09 |";
        assert!(rendered(&run).contains(row), "{}", rendered(&run));
    }

    #[test]
    fn rows_are_called_by_what_tells_them_apart() {
        let run = fixture::run();
        let cell = |id: &str| Cell {
            id: id.to_owned(),
            ..run.cells[0].clone()
        };
        let names = |ids: &[&str]| {
            let cells: Vec<Cell> = ids.iter().map(|id| cell(id)).collect();
            short_names(&cells.iter().collect::<Vec<_>>())
        };
        let id = "throughput/register/tls/direct/per-registration/loopback?rate=150.0";
        assert_eq!(names(&[id]), ["tls?rate=150.0"]);
        let another = "throughput/register/tls/direct/per-call/loopback";
        assert_eq!(
            names(&[id, another]),
            ["tls/per-registration?rate=150.0", "tls/per-call"]
        );
    }
}
