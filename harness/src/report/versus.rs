//! The generator beside SIPp: a row for each caller, server and pace, and the ratios. For
//! [`super::markdown`], and by itself for a terminal.

use std::fmt::Write;

use hopbench::record::{Cell, Ratio, Run, Unit, Verdict};

use super::summary::{stack_rank, verdict_word};
use super::units::{self, MISSING, quantity};
use crate::rate::ACHIEVED_SHARE_MIN;

const EXPERIMENT: &str = "versus";
const BARE: &str = "bare";
const CPU: &str = "client_cpu_ns_per_operation";
const SERVER_CPU: &str = "server_cpu_ns_per_operation";
const RATE: &str = "session_establishment_rate";
const RECORDS: &str = "bare_records_cpu_ns_per_operation";
const OVER_FLOOR: &str = "client_cpu_to_floor_ratio";
const LAG: &str = "scheduling_lag_ns";
const OBSERVED_LAG: &str = "observed_lag_ns";
const RESPONSE: &str = "session_request_delay_ns";

const METHOD: &str = "Both make the same call (INVITE with a session description, 180, 200, ACK, BYE, 200) over one \
     socket at a constant rate, and are processes on the same processors; the server, SIPp's built-in `uas` or the \
     node, is alone on another. CPU is user and system time of the caller's whole process, its start included, ÷ \
     calls completed; that of the server beside it. `highest` is the highest rate at which no call failed, no \
     message was repeated and the caller kept within 5 % of the rate, found anew in each round; it may be the \
     server's limit. SIPp runs with its defaults and traces nothing; over UDP all callers, and SIPp as callee, have the \
     receive buffer that a gathering generator has, without which SIPp loses answers. `sipp-punctual` is SIPp told to look \
     at its clock every millisecond (`-timer_resol 1`), `hopbench-at-once` the generator without gathering, as in all other \
     experiments: each as punctual as it can be made. Medians over interleaved rounds; failed and repeated are the sum and the \
     median over them. A row is `not clean` if, at the median, messages were repeated or the rate was missed by over 5 %.";

const GATHER_METHOD: &str = "The generator lets what is to start and what arrives wait for each other, so that one wake-up \
     serves it all. That is in its lag, from when a call was to start to when it did, and in the time from when it was to \
     start to its first response other than 100. SIPp tells neither.";

const WATCH_METHOD: &str = "How late calls start is seen from outside as well, in a further second of each round in which nothing else is \
     measured: INVITEs pass a relay that shares the server's processor, and are held against the even pace that makes \
     none of them early and all of them together the least late. SIPp starts calls in bursts.";

const BARE_METHOD: &str = "`bare` is no caller: a thread that passes the bytes of the same calls to another one and back, with \
     no SIP at all. It sleeps, receives what has come and sends what is due, by one system call each, or two over UDP, and as many calls share a \
     wake-up as begin while the generator gathers. Its processor time, without the start of a process, is what the \
     kernel takes of any caller that is woken as often.";

const FLOOR_METHOD: &str = "The floor of a call over TLS is the same call over TCP in the same round, and what rustls \
     alone takes to seal and open the caller's side of its messages in memory, each a record.";

/// The section; nothing in runs that did not ask.
pub(super) fn section(out: &mut String, run: &Run) {
    let cells = cells(run);
    if cells.is_empty() {
        return;
    }
    let _ = writeln!(out, "## Against SIPp\n\n{METHOD}\n");
    if cells.iter().any(|cell| word(cell, "caller") == BARE) {
        let _ = writeln!(out, "{BARE_METHOD}\n");
    }
    callers(out, &cells);
    ratios(out, run, &cells);
    delays(out, &cells);
    floors(out, &cells);
}

/// Whether the run asks how the generator compares.
pub(super) fn is_asked(run: &Run) -> bool {
    run.cells.iter().any(|cell| cell.experiment == EXPERIMENT)
}

/// As they stand in a table.
const CALLERS: [&str; 5] = [
    "sipp",
    "sipp-punctual",
    "hopbench",
    "hopbench-at-once",
    BARE,
];

/// In the order of stacks, servers and paces; SIPp above the generator.
fn cells(run: &Run) -> Vec<&Cell> {
    let cells = run.cells.iter();
    let mut cells: Vec<&Cell> = cells.filter(|cell| cell.experiment == EXPERIMENT).collect();
    cells.sort_by_key(|cell| {
        (
            stack_rank(&cell.stack),
            std::cmp::Reverse(word(cell, "server")),
            word(cell, "rate"),
            CALLERS
                .iter()
                .position(|known| *known == word(cell, "caller")),
        )
    });
    cells
}

fn word(cell: &Cell, parameter: &str) -> String {
    match cell.parameters.get(parameter) {
        Some(serde_json::Value::String(text)) => text.clone(),
        Some(serde_json::Value::Number(number)) => number
            .as_f64()
            .map_or_else(|| number.to_string(), |value| value.to_string()),
        Some(other) => other.to_string(),
        None => MISSING.to_owned(),
    }
}

fn value(cell: &Cell, key: &str) -> Option<f64> {
    cell.metrics.get(key)?.value
}

fn shown(cell: &Cell, key: &str, unit: Unit) -> String {
    value(cell, key).map_or(MISSING.to_owned(), |value| quantity(unit, value))
}

fn callers(out: &mut String, cells: &[&Cell]) {
    let _ = writeln!(
        out,
        "| stack | server | asked for, calls/s | caller | calls/s | CPU/call | server CPU/call | failed | repeated | verdict |\n\
         |---|---|--:|---|--:|--:|--:|--:|--:|---|"
    );
    for cell in cells {
        let _ = writeln!(
            out,
            "| `{}` | {} | {} | {} | {} | {} | {} | {} | {} | {} |",
            cell.stack,
            word(cell, "server"),
            word(cell, "rate"),
            word(cell, "caller"),
            shown(cell, "achieved_per_second", Unit::Count),
            shown(cell, CPU, Unit::Ns),
            shown(cell, SERVER_CPU, Unit::Ns),
            shown(cell, "failed_count", Unit::Count),
            shown(cell, "retransmissions_count", Unit::Count),
            verdict(cell)
        );
    }
    out.push('\n');
}

const NOT_CLEAN: &str = "not clean";

/// Whether the figures of a row that is ok are of calls as they were asked for.
fn verdict(cell: &Cell) -> &'static str {
    let repeated = value(cell, "retransmissions_count").is_some_and(|count| count > 0.0);
    let rates = value(cell, "achieved_per_second").zip(value(cell, "offered_per_second"));
    let is_behind =
        rates.is_some_and(|(achieved, offered)| achieved < ACHIEVED_SHARE_MIN * offered);
    match cell.verdict {
        Verdict::Ok if repeated || is_behind => NOT_CLEAN,
        verdict => verdict_word(verdict),
    }
}

fn ratios(out: &mut String, run: &Run, cells: &[&Cell]) {
    let of = |cell: &Cell, key: &str| -> Option<&Ratio> {
        let mut ratios = run.ratios.iter();
        ratios.find(|ratio| ratio.cell_id == cell.id && ratio.metric == key)
    };
    let held: Vec<&&Cell> = cells.iter().filter(|c| of(c, CPU).is_some()).collect();
    if held.is_empty() {
        return;
    }
    let _ = writeln!(
        out,
        "| stack | caller | ÷ | server | asked for, calls/s | caller's CPU/call | server's CPU/call | highest rate |\n\
         |---|---|---|---|--:|--:|--:|--:|"
    );
    for cell in held {
        let control = of(cell, CPU).and_then(|ratio| {
            let mut cells = run.cells.iter();
            cells.find(|cell| cell.id == ratio.control_cell_id)
        });
        let both = [Some(*cell), control];
        let is_clean = both
            .into_iter()
            .flatten()
            .all(|cell| verdict(cell) != NOT_CLEAN);
        let mark = if is_clean { "" } else { ", not clean" };
        let shown = |key| {
            let ratio = of(cell, key).map(|ratio| units::ratio(ratio) + mark);
            ratio.unwrap_or(MISSING.to_owned())
        };
        let _ = writeln!(
            out,
            "| `{}` | {} | {} | {} | {} | {} | {} | {} |",
            cell.stack,
            word(cell, "caller"),
            control.map_or(MISSING.to_owned(), |control| word(control, "caller")),
            word(cell, "server"),
            word(cell, "rate"),
            shown(CPU),
            shown(SERVER_CPU),
            shown(RATE)
        );
    }
    out.push('\n');
}

fn delays(out: &mut String, cells: &[&Cell]) {
    let percentiles = |cell: &Cell, key: &str| {
        let histogram = cell.metrics.get(key)?.histogram.as_ref()?;
        Some([histogram.p50, histogram.p99])
    };
    let held: Vec<&&Cell> = cells
        .iter()
        .filter(|cell| {
            percentiles(cell, LAG)
                .or(percentiles(cell, OBSERVED_LAG))
                .is_some()
        })
        .collect();
    if held.is_empty() {
        return;
    }
    let _ = writeln!(out, "{GATHER_METHOD}\n");
    if held
        .iter()
        .any(|cell| percentiles(cell, OBSERVED_LAG).is_some())
    {
        let _ = writeln!(out, "{WATCH_METHOD}\n");
    }
    let _ = writeln!(
        out,
        "| stack | server | asked for, calls/s | caller | gathers, µs | lag seen p50 | lag seen p99 | lag p50 | lag p99 | \
         response p50 | response p99 |\n\
         |---|---|--:|---|--:|--:|--:|--:|--:|--:|--:|"
    );
    for cell in held {
        let shown = |key| {
            let [median, late] = percentiles(cell, key).map_or([None; 2], |found| found.map(Some));
            let ns = |value: Option<u64>| {
                value.map_or(MISSING.to_owned(), |ns| quantity(Unit::Ns, ns as f64))
            };
            format!("{} | {}", ns(median), ns(late))
        };
        let _ = writeln!(
            out,
            "| `{}` | {} | {} | {} | {} | {} | {} | {} |",
            cell.stack,
            word(cell, "server"),
            word(cell, "rate"),
            word(cell, "caller"),
            word(cell, "gather_microseconds"),
            shown(OBSERVED_LAG),
            shown(LAG),
            shown(RESPONSE)
        );
    }
    out.push('\n');
}

fn floors(out: &mut String, cells: &[&Cell]) {
    let held: Vec<&&Cell> = cells
        .iter()
        .filter(|cell| cell.metrics.contains_key(OVER_FLOOR))
        .collect();
    if held.is_empty() {
        return;
    }
    let _ = writeln!(out, "{FLOOR_METHOD}\n");
    let _ = writeln!(
        out,
        "| hopbench | calls/s | CPU/call | of it, rustls alone | ÷ floor |\n|---|--:|--:|--:|--:|"
    );
    for cell in held {
        let ratio = &cell.metrics[OVER_FLOOR];
        let interval = match (ratio.ci95_low, ratio.ci95_high) {
            (Some(low), Some(high)) => format!(
                " [{}, {}]",
                units::significant(low),
                units::significant(high)
            ),
            _ => String::new(),
        };
        let _ = writeln!(
            out,
            "| `{}` | {} | {} | {} | {} |",
            cell.stack,
            word(cell, "rate"),
            shown(cell, CPU, Unit::Ns),
            shown(cell, RECORDS, Unit::Ns),
            ratio.value.map_or(MISSING.to_owned(), |value| format!(
                "{}×{interval}",
                units::significant(value)
            ))
        );
    }
    out.push('\n');
}
