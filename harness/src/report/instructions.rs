//! Counted instructions: a row for each operation, a column for each side. For [`super::markdown`], and by itself
//! for a terminal.

use std::fmt::Write;

use hopbench::record::{Cell, Metric, Run};

use super::units::{MISSING, significant};

const EXPERIMENT: &str = "instructions";
const COUNT: &str = "instructions_count";

const METHOD: &str = "Instructions of one operation in user space, counted by valgrind's callgrind within the functions that \
     do it: the kernel, caches and branches are not in it, so a count is no time. It is the same whatever the machine \
     does meanwhile; the spread is what differs between processes, where keys, nonces or seeds are random. Parse and emit \
     are of an INVITE with a session description, digest is SHA-256 (the answer to a challenge, its proof), registrations \
     and calls are SIP alone, re-registrations and calls by turns those of 20 users of whom nobody writes twice in a row \
     (one of fifty of the former is a user's first registration), seal and open are of the INVITE as one TLS record or one \
     WireGuard packet, handshakes are full ones of rustls and boringtun alone.";

/// The section; nothing in runs that did not ask.
pub(super) fn section(out: &mut String, run: &Run) {
    if !is_asked(run) {
        return;
    }
    let _ = writeln!(
        out,
        "## Instructions\n\n{METHOD}\n\n| operation | stack | side | instructions | spread |\n|---|---|---|--:|--:|"
    );
    let mut cells: Vec<&Cell> = cells(run).collect();
    cells.sort_by_key(|cell| &cell.id);
    for cell in cells {
        let side = cell.parameters.get("side").and_then(|side| side.as_str());
        let count = cell.metrics.get(COUNT);
        let _ = writeln!(
            out,
            "| {} | `{}` | {} | {} | {} |",
            cell.workload,
            cell.stack,
            side.unwrap_or(MISSING),
            count
                .and_then(|count| count.value)
                .map_or(MISSING.to_owned(), thousands),
            count.and_then(spread).unwrap_or(MISSING.to_owned())
        );
    }
    out.push('\n');
}

/// Whether the run counts instructions.
pub(super) fn is_asked(run: &Run) -> bool {
    cells(run).next().is_some()
}

fn cells(run: &Run) -> impl Iterator<Item = &Cell> {
    run.cells
        .iter()
        .filter(|cell| cell.experiment == EXPERIMENT)
}

/// From the fewest to the most, in parts of the figure.
fn spread(count: &Metric) -> Option<String> {
    let range = count.ci95_high? - count.ci95_low?;
    let share = range / count.value?;
    Some(if share == 0.0 {
        "none".to_owned()
    } else {
        format!("{} %", significant(100.0 * share))
    })
}

/// `1,234,567`: whole instructions.
fn thousands(value: f64) -> String {
    let digits = format!("{value:.0}");
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index) % 3 == 0 {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digits_stand_in_groups_of_three() {
        let shown = [7.0, 999.6, 12_345.4, 1_234_567.0].map(thousands);
        assert_eq!(shown, ["7", "1,000", "12,345", "1,234,567"]);
    }
}
