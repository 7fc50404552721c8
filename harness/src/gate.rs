//! Gates: thresholds as code. What must hold of a run's figures, as a line of text; it fails where it
//! does not hold, and where a figure is missing. Beside the reports, above [`hopbench::record`].
//!
//! ```text
//! gate      = [ "each" ] sum relation sum
//! relation  = "<" | "<=" | ">" | ">="
//! sum       = product { ("+" | "-") product }
//! product   = factor { ("*" | "/") factor }
//! factor    = number [ unit ] | figure | "base" | "(" sum ")"
//! unit      = ns µs ms s | B kB MB GB KiB MiB GiB | /s | %
//! figure    = [ ("head" | "base") "." ] { word "." } metric [ "." statistic ]
//! word      = stack, workload, experiment, topology, lifecycle, path, stage of memory, or key=value
//! statistic = value | ci95_low | ci95_high | min | mean | p50 | p90 | p99 | p999 | max
//! ```
//!
//! The words before a metric say which cell is meant, in any order; so many that only one is left.
//! With `each`, the gate is about all of them. What another figure does not name is as in the first:
//! `each throughput.tls.server_cpu_ns_per_operation < 2 * tcp.server_cpu_ns_per_operation` compares
//! each workload over TLS with the same over TCP. `base` alone is the first figure as BASE has it.
//! Without a statistic a figure is its `value`, of a latency the median.

mod cells;
mod check;
mod error;
mod figure;
mod lexer;
mod parser;
mod text;
mod unit;

use std::fmt;
use std::str::FromStr;

use hopbench::record::Cell;

use check::Row;
pub(crate) use check::Runs;
pub(crate) use error::GateError;
pub(crate) use text::{markdown, table};

use parser::{Tree, parse};

/// What must hold.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Gate {
    /// As it was written.
    text: String,
    tree: Tree,
}

/// What came of a gate.
#[derive(Clone, Debug)]
pub(crate) struct Outcome<'g> {
    /// The gate.
    pub(crate) gate: &'g Gate,
    /// By cell; at least one.
    pub(crate) rows: Vec<Row>,
}

impl Gate {
    /// Holds it against `runs`.
    ///
    /// # Errors
    /// When the gate does not say which cell it means, or by a name that nothing has.
    pub(crate) fn check(&self, runs: Runs<'_>) -> Result<Outcome<'_>, GateError> {
        let rows = check::check(&self.text, &self.tree, runs)?;
        Ok(Outcome { gate: self, rows })
    }

    /// Checks that its words may name one of `cells`, or a cell like them.
    ///
    /// # Errors
    /// For a word that nothing is called.
    pub(crate) fn check_names(&self, cells: &[Cell]) -> Result<(), GateError> {
        let cells: Vec<&Cell> = cells.iter().collect();
        let mut figures = check::figures(&self.tree).into_iter();
        figures.try_for_each(|figure| cells::check_words(&self.text, figure, &cells))
    }

    /// Whether it takes a figure from BASE.
    pub(crate) fn needs_base(&self) -> bool {
        let of_base = |figure: &&figure::Figure| figure.side == figure::Side::Base;
        let has_figure = check::figures(&self.tree).iter().any(of_base);
        has_figure || check::has_base(&self.tree.left) || check::has_base(&self.tree.right)
    }
}

/// Holds all `gates` against `runs`.
///
/// # Errors
/// The first of [`Gate::check`].
pub(crate) fn check_all<'g>(
    gates: &'g [Gate],
    runs: Runs<'_>,
) -> Result<Vec<Outcome<'g>>, GateError> {
    gates.iter().map(|gate| gate.check(runs)).collect()
}

impl Outcome<'_> {
    /// Whether it holds everywhere.
    pub(crate) fn holds(&self) -> bool {
        self.rows.iter().all(Row::holds)
    }
}

impl fmt::Display for Gate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl FromStr for Gate {
    type Err = GateError;

    fn from_str(text: &str) -> Result<Self, GateError> {
        let text = text.trim();
        let tree = parse(text)?;
        Ok(Self {
            text: text.to_owned(),
            tree,
        })
    }
}

#[cfg(test)]
mod tests;
