//! Links that delay and lose: how many round trips each stack took, beside what its protocols promise, and
//! where losses bite. A part of [`super::markdown`].

use std::fmt::Write;

use hopbench::record::{Cell, Run, Verdict};

use super::question::{Question, ROUND_TRIPS};
use super::summary::{stack_rank, verdict_word};
use super::units::{MISSING, quantity};

/// Farther off than this and a stack does not do what its protocols promise.
const TOLERANCE: f64 = 0.1;

/// What is held against a promise: what it is called, its metric, and the cell's parameter.
const PROMISED: [(&str, &str, &str); 3] = [
    (
        "ready",
        "setup_latency_per_round_trip_ratio",
        "promised_ready_round_trips",
    ),
    (
        "registered",
        "registered_per_round_trip_ratio",
        "promised_registered_round_trips",
    ),
    (
        "call answered",
        "session_request_delay_per_round_trip_ratio",
        "promised_call_round_trips",
    ),
];

/// Latencies whose tail is told.
const LATENCIES: [(&str, &str); 2] = [
    ("registered", "hop_ready_to_registered_ns"),
    ("call answered", "session_request_delay_ns"),
];

/// What the link of a cell was like.
pub(super) struct Point {
    pub(super) round_trip_ms: f64,
    pub(super) loss_ratio: f64,
    /// Whether the stack is run in the usual way, over a link that does nothing else.
    pub(super) is_usual: bool,
}

/// The link of a cell of the experiment; of no fit.
pub(super) fn point(cell: &Cell) -> Option<Point> {
    if cell.experiment != Question::Link.experiment() || cell.topology == ROUND_TRIPS {
        return None;
    }
    let number = |key: &str| cell.parameters.get(key)?.as_f64();
    let told = cell.id.split_once('?').map_or("", |(_, told)| told);
    let mut others = told.split('&').filter(|part| {
        !part.is_empty()
            && !part.starts_with("one_way_delay_ms=")
            && !part.starts_with("link_loss_ratio=")
    });
    Some(Point {
        round_trip_ms: 2.0 * number("one_way_delay_ms")?,
        loss_ratio: number("link_loss_ratio")?,
        is_usual: others.next().is_none(),
    })
}

/// Both tables; silent about runs without the experiment.
pub(super) fn section(out: &mut String, run: &Run) {
    promises(out, run);
    tails(out, run);
}

/// A stack and the way it is run: `tls`, `tls?tls_version=1.2`.
fn name(cell: &Cell) -> String {
    let told = cell.id.split_once('?').map_or("", |(_, told)| told);
    let link = ["one_way_delay_ms=", "link_loss_ratio="];
    let parts = told
        .split('&')
        .filter(|part| !link.iter().any(|key| part.starts_with(key)));
    let parts: Vec<&str> = parts.filter(|part| !part.is_empty()).collect();
    if parts.is_empty() {
        cell.stack.clone()
    } else {
        format!("{}?{}", cell.stack, parts.join("&"))
    }
}

fn promises(out: &mut String, run: &Run) {
    let mut fits: Vec<&Cell> = run
        .cells
        .iter()
        .filter(|cell| Question::Link.is_asked_by(cell))
        .collect();
    fits.sort_by_key(|cell| stack_rank(&cell.stack));
    let mut rows = String::new();
    for cell in fits {
        for (what, metric, parameter) in PROMISED {
            let promised = cell
                .parameters
                .get(parameter)
                .and_then(serde_json::Value::as_f64);
            let Some((metric, promised)) = cell.metrics.get(metric).zip(promised) else {
                continue;
            };
            let _ = writeln!(
                rows,
                "| `{}` | {what} | {promised} | {} | {} | {} |",
                name(cell),
                metric
                    .value
                    .map_or(MISSING.to_owned(), |found| format!("{found:.3}")),
                interval(metric.ci95_low, metric.ci95_high),
                judged(metric.value, promised),
            );
        }
    }
    if !rows.is_empty() {
        let _ = writeln!(
            out,
            "Of `latency = fixed + k × round trip`, by a line through the medians at each round-trip time without \
             loss, fitted inside each block: k as measured, with its 95 % interval over blocks, beside the number of \
             round trips that the protocols are specified to take. Registering takes two more than being ready, since \
             the first REGISTER is challenged\n\n\
             | stack | until | promised | measured k | 95 % | |\n|---|---|--:|--:|--:|---|\n{rows}"
        );
    }
}

fn interval(low: Option<f64>, high: Option<f64>) -> String {
    low.zip(high).map_or(MISSING.to_owned(), |(low, high)| {
        format!("{low:.3} to {high:.3}")
    })
}

fn judged(found: Option<f64>, promised: f64) -> &'static str {
    match found {
        None => "not measured",
        Some(found) if (found - promised).abs() <= TOLERANCE => "as promised",
        Some(found) if found > promised => "more than promised",
        Some(_) => "less than promised",
    }
}

/// Median and tail by stack, round trip and loss.
fn tails(out: &mut String, run: &Run) {
    let mut cells: Vec<(&Cell, Point)> = run
        .cells
        .iter()
        .filter_map(|cell| Some((cell, point(cell)?)))
        .collect();
    if cells.iter().all(|(_, point)| point.loss_ratio == 0.0) {
        return;
    }
    cells.sort_by(|(one, here), (other, there)| {
        let key = |cell: &Cell| (stack_rank(&cell.stack), name(cell));
        key(one)
            .cmp(&key(other))
            .then(here.round_trip_ms.total_cmp(&there.round_trip_ms))
            .then(here.loss_ratio.total_cmp(&there.loss_ratio))
    });
    for (what, key) in LATENCIES {
        let mut rows = String::new();
        for (cell, point) in &cells {
            let Some(metric) = cell.metrics.get(key) else {
                continue;
            };
            let histogram = metric.histogram.as_ref();
            let of = |value: Option<f64>| {
                value.map_or(MISSING.to_owned(), |value| quantity(metric.unit, value))
            };
            let word = match cell.verdict {
                Verdict::Ok => "",
                verdict => verdict_word(verdict),
            };
            let _ = writeln!(
                rows,
                "| `{}` | {} ms | {} % | {} | {} | {} | {} | {word} |",
                name(cell),
                point.round_trip_ms,
                100.0 * point.loss_ratio,
                of(metric.value),
                of(histogram.map(|histogram| histogram.p99 as f64)),
                of(histogram.map(|histogram| histogram.max as f64)),
                histogram.map_or(0, |histogram| histogram.count),
            );
        }
        if !rows.is_empty() {
            let _ = writeln!(
                out,
                "Until {what}, by stack, round trip and loss in each direction\n\n\
                 | stack | round trip | loss | median | p99 | max | samples | |\n\
                 |---|--:|--:|--:|--:|--:|--:|---|\n{rows}"
            );
        }
    }
    let _ = writeln!(
        out,
        "What a loss costs is the timer of whoever has to notice it: 500 ms of SIP over UDP (T1, RFC 3261 §17), \
         1 s of TCP before it has measured the round trip (RFC 6298 §2), about a round trip later, 5 s of a \
         handshake of WireGuard.\n"
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_promise_is_kept_within_a_tenth_of_a_round_trip() {
        assert_eq!(judged(Some(2.09), 2.0), "as promised");
        assert_eq!(judged(Some(1.91), 2.0), "as promised");
        assert_eq!(judged(Some(2.2), 2.0), "more than promised");
        assert_eq!(judged(Some(0.8), 1.0), "less than promised");
        assert_eq!(judged(None, 1.0), "not measured");
    }
}
