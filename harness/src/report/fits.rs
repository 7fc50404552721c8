//! How well lines fit the memory that was read, what is off them, and what lies between heap and
//! resident memory. A part of [`super::markdown`]; silent about runs that keep no readings.

use std::fmt::Write;

use hopbench::record::{Cell, Fit, Metric, Run, Unit};

use super::summary::stack_rank;
use super::units::{MISSING, Scale, quantity, significant};
use crate::statistics::regression;

const SIDES: [&str; 2] = ["server", "client"];

/// From heap to resident memory: the meter, and what it has beyond the one before.
const CHAIN: [(&str, &str); 5] = [
    ("heap", "heap"),
    ("chunk", "+ rounding to chunks"),
    ("malloc", "+ C code, caches of threads"),
    ("arena", "+ free within malloc"),
    ("rss", "+ pages not written, or not malloc's"),
];

/// Slopes of heap and resident memory agree that are no farther apart than this share.
const AGREEING: f64 = 0.15;

/// Both tables and the readings that lie off.
pub(super) fn section(out: &mut String, run: &Run) {
    let mut cells: Vec<&Cell> = run.cells.iter().filter(|cell| has_fit(cell)).collect();
    if cells.is_empty() {
        return;
    }
    cells.sort_by_key(|cell| stack_rank(&cell.stack));
    lines(out, &cells);
    outliers(out, &cells);
    chain(out, &cells);
}

fn has_fit(cell: &Cell) -> bool {
    cell.metrics.values().any(|metric| metric.fit.is_some())
}

/// What tells a memory cell from others: `tls?stage=idle`.
fn name(cell: &Cell) -> String {
    let parameters = cell
        .id
        .split_once('?')
        .map_or("", |(_, parameters)| parameters);
    format!("{}?{parameters}", cell.stack)
}

/// Slope, intervals, fixed cost and r² of each side's heap.
fn lines(out: &mut String, cells: &[&Cell]) {
    let _ = writeln!(
        out,
        "The fit of heap over connections: slope per connection with its 95 % interval over blocks and by \
         the regression (one slope, each block with a fixed cost of its own), what is there without a \
         connection, r², and the reading that is farthest from its block's line, as a share of what the line has \
         risen there: r² hardly sees those of few connections\n\n\
         | cell | side | slope | over blocks | by regression | fixed | r² | farthest | off the line |\n\
         |---|---|--:|--:|--:|--:|--:|--:|--:|"
    );
    for cell in cells {
        for side in SIDES {
            let slope = cell
                .metrics
                .get(&format!("{side}_heap_bytes_per_connection"));
            let Some((metric, fit)) = slope.and_then(|metric| Some((metric, metric.fit.as_ref()?)))
            else {
                continue;
            };
            let told = |key: &str| cell.metrics.get(&format!("{side}_heap_{key}"))?.value;
            let _ = writeln!(
                out,
                "| `{}` | {side} | {} | {} | {} | {} | {} | {} | {} of {} |",
                name(cell),
                bytes(metric.value),
                interval(metric.ci95_low, metric.ci95_high),
                interval(fit.ci95_low, fit.ci95_high),
                bytes(told("fixed_bytes")),
                told("r_squared_ratio").map_or(MISSING.to_owned(), |r2| format!("{r2:.5}")),
                farthest(fit).map_or(MISSING.to_owned(), |share| format!(
                    "{:.2} %",
                    100.0 * share
                )),
                fit.outliers.len(),
                fit.at.len() * fit.readings.len(),
            );
        }
    }
    out.push('\n');
}

/// The largest share by which a reading is off its block's line of least squares, of what that line
/// rises up to it. `None` where a line is flat.
fn farthest(fit: &Fit) -> Option<f64> {
    let mut farthest = 0.0_f64;
    for block in &fit.readings {
        let points: Vec<(f64, f64)> = fit.at.iter().copied().zip(block.iter().copied()).collect();
        let line = regression(&points)?;
        for (at, reading) in points {
            let rise = line.slope * at;
            if rise.abs() < f64::EPSILON {
                return None;
            }
            let left = reading - line.intercept - rise;
            farthest = farthest.max((left / rise).abs());
        }
    }
    Some(farthest)
}

/// Readings that lie off the line; they are in the figures all the same.
fn outliers(out: &mut String, cells: &[&Cell]) {
    let mut rows = String::new();
    for cell in cells {
        for (key, metric) in &cell.metrics {
            for (block, place) in metric.fit.iter().flat_map(|fit| &fit.outliers) {
                let Some((at, reading)) = reading(metric.fit.as_ref(), *block, *place) else {
                    continue;
                };
                let _ = writeln!(
                    rows,
                    "| `{}` | `{key}` | {} | {at} | {} |",
                    name(cell),
                    block + 1,
                    quantity(metric.unit, reading)
                );
            }
        }
    }
    if !rows.is_empty() {
        let _ = writeln!(
            out,
            "Readings off the line through most of their block, by more than 3.5 robust deviations and 1 % of \
             its rise; they are in the figures\n\n| cell | metric | block | connections | reading |\n\
             |---|---|--:|--:|--:|\n{rows}"
        );
    }
}

fn reading(fit: Option<&Fit>, block: u32, place: u32) -> Option<(f64, f64)> {
    let fit = fit?;
    let reading = fit.readings.get(block as usize)?.get(place as usize)?;
    Some((*fit.at.get(place as usize)?, *reading))
}

/// What each step from heap to resident memory adds, per connection.
fn chain(out: &mut String, cells: &[&Cell]) {
    let headings: Vec<&str> = CHAIN.iter().map(|(_, heading)| *heading).collect();
    let mut rows = String::new();
    for cell in cells {
        for side in SIDES {
            let level = |(meter, _): &(&str, &str)| -> Option<f64> {
                let key = format!("{side}_{meter}_bytes_per_connection");
                cell.metrics
                    .get(&key)
                    .and_then(|metric: &Metric| metric.value)
            };
            let Some(levels) = CHAIN.iter().map(level).collect::<Option<Vec<f64>>>() else {
                continue;
            };
            let steps = levels.windows(2).map(|pair| pair[1] - pair[0]);
            let figures = levels.first().copied().into_iter().chain(steps);
            let figures: Vec<String> = figures
                .chain(levels.last().copied())
                .map(|b| format!("{b:.0}"))
                .collect();
            let ratio = levels[CHAIN.len() - 1] / levels[0];
            let cause = cause(&levels);
            let ratio = if ratio.is_finite() {
                format!("{}×", significant(ratio))
            } else {
                MISSING.to_owned()
            };
            let _ = writeln!(
                rows,
                "| `{}` | {side} | {} | {ratio} | {cause} |",
                name(cell),
                figures.join(" | ")
            );
        }
    }
    if !rows.is_empty() {
        let _ = writeln!(
            out,
            "From heap to resident memory, bytes per connection; where resident memory grows by more than {:.0} % \
             more or less than the heap, the step that does most of it\n\n\
             | cell | side | {} | = resident | ÷ heap | why |\n|---|---|{}---|\n{rows}",
            100.0 * AGREEING,
            headings.join(" | "),
            "--:|".repeat(CHAIN.len() + 2)
        );
    }
}

/// Why resident memory does not grow as the heap does: the largest of the steps from one to the other.
fn cause(levels: &[f64]) -> &'static str {
    let ratio = levels[levels.len() - 1] / levels[0];
    if !ratio.is_finite() || (ratio - 1.0).abs() <= AGREEING {
        return "";
    }
    let steps = levels.windows(2).map(|pair| (pair[1] - pair[0]).abs());
    let largest = steps.zip(&CHAIN[1..]).max_by(|a, b| a.0.total_cmp(&b.0));
    largest.map_or("", |(_, (_, heading))| heading.trim_start_matches("+ "))
}

fn bytes(value: Option<f64>) -> String {
    value.map_or(MISSING.to_owned(), |value| quantity(Unit::Bytes, value))
}

fn interval(low: Option<f64>, high: Option<f64>) -> String {
    let (Some(low), Some(high)) = (low, high) else {
        return MISSING.to_owned();
    };
    let scale = Scale::fitting(Unit::Bytes, [low, high]);
    format!("[{}, {}]", scale.quantity(low), scale.quantity(high))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::fixture;

    #[test]
    fn a_run_without_readings_says_nothing_and_one_with_them_shows_what_is_off() {
        let mut run = fixture::run();
        let mut out = String::new();
        section(&mut out, &run);
        assert_eq!(out, "");
        let is_memory = |cell: &&mut Cell| cell.stack == "tls" && cell.experiment == "memory";
        let cell = run.cells.iter_mut().find(is_memory).expect("a memory cell");
        for (meter, value) in [
            ("heap", 1000.0),
            ("chunk", 1100.0),
            ("malloc", 1150.0),
            ("arena", 1240.0),
            ("rss", 1200.0),
        ] {
            let key = format!("server_{meter}_bytes_per_connection");
            let mut metric = Metric::of(&key, Some(value));
            metric.fit = Some(Fit {
                at: vec![14.0, 28.0],
                readings: vec![vec![5e4, 6e4]],
                ci95_low: Some(990.0),
                ci95_high: Some(1010.0),
                outliers: if meter == "rss" { vec![(0, 1)] } else { vec![] },
            });
            cell.metrics.insert(key, metric);
        }
        section(&mut out, &run);
        assert!(
            out.contains("| 1000 | 100 | 50 | 90 | -40 | 1200 | 1.20× | rounding to chunks |"),
            "{out}"
        );
        assert!(
            out.contains("| `server_rss_bytes_per_connection` | 1 | 28 | 58.6 KiB |"),
            "{out}"
        );
        assert!(out.contains("[0.967 KiB, 0.986 KiB]"), "{out}");
        assert!(out.contains("| 0.00 % | 0 of 2 |"), "{out}");
    }

    #[test]
    fn the_farthest_reading_is_told_by_its_share_of_the_rise() {
        let fit = |block: Vec<f64>| Fit {
            at: vec![1.0, 2.0, 3.0],
            readings: vec![vec![10.0, 20.0, 30.0], block],
            ci95_low: None,
            ci95_high: None,
            outliers: vec![],
        };
        assert!(farthest(&fit(vec![10.0, 20.0, 30.0])).is_some_and(|share| share < 1e-9));
        // Slope 10, and 2/3 above, 4/3 below, 2/3 above the line: the first is farthest for its rise.
        let bent = farthest(&fit(vec![12.0, 20.0, 32.0]));
        assert!(
            bent.is_some_and(|share| (share - 2.0 / 30.0).abs() < 1e-9),
            "{bent:?}"
        );
        assert_eq!(farthest(&fit(vec![5.0, 5.0, 5.0])), None);
    }

    #[test]
    fn what_agrees_needs_no_cause() {
        assert_eq!(cause(&[1000.0, 1050.0, 1050.0, 1100.0, 1149.0]), "");
        assert_eq!(
            cause(&[1000.0, 1000.0, 1300.0, 1310.0, 1200.0]),
            "C code, caches of threads"
        );
        assert_eq!(cause(&[0.0, 1.0, 2.0, 3.0, 4.0]), "");
    }
}
