//! Throughput of each stack in a line: window by window where the run has kept that, and how often which
//! rate was reached. Shapes without text, which stretch to the room that there is.

use std::fmt::Write;

use maud::{Markup, html};

use super::bars::classes;
use super::{Report, badge};
use crate::report::distribution::Distribution;
use crate::report::question::operation;
use crate::report::summary::{Block, Row};
use crate::report::units::{MISSING, significant};

const KEY: &str = "throughput_per_second";
/// What one operation more in a window of 100 ms makes of its rate: rates lie no closer.
const STEP_PER_SECOND: f64 = 10.0;
/// Columns of a histogram at the most, and how many there are where each step cannot have its own.
const MOST_COLUMNS: usize = 60;
const COLUMNS: usize = 40;
/// Size of a histogram's own coordinates.
const WIDTH: f64 = 400.0;
const HEIGHT: f64 = 40.0;
/// Height of a course in its own coordinates, of which a window is one wide.
const COURSE_HEIGHT: f64 = 80.0;

/// The rates that all shapes of a panel share.
struct Range {
    low: f64,
    high: f64,
}

/// The figure; nothing where no window was counted.
pub(super) fn figure(report: &Report<'_>, blocks: &[&Block<'_>], table: &Markup) -> Markup {
    let panels: Vec<Markup> = blocks
        .iter()
        .filter_map(|block| panel(report, block))
        .collect();
    if panels.is_empty() {
        return table.clone();
    }
    let has_course = blocks
        .iter()
        .flat_map(|block| &block.rows)
        .any(|row| course(row).is_some());
    let title = "Throughput in windows of 100 ms";
    let subtitle = if has_course {
        "left: window by window, all blocks one after another; right: how often which rate was reached; line: \
         offered; figures: median, 10th to 90th percentile"
    } else {
        "how often which rate was reached; line: offered; figures: median, 10th to 90th percentile. This run was \
         recorded without the course over time"
    };
    let chart = html! {
        div role="img" aria-label=(format!("{title}; the figures are in the table below")) {
            @for panel in panels { (panel) }
        }
    };
    super::figure(title, subtitle, &chart, table)
}

fn panel(report: &Report<'_>, block: &Block<'_>) -> Option<Markup> {
    let read = |row: &Row<'_>| {
        let histogram = row.cell(None)?.metrics.get(KEY)?.histogram.as_ref();
        histogram.and_then(Distribution::read)
    };
    let rows: Vec<_> = block.rows.iter().map(|row| (row, read(row))).collect();
    let measured = || rows.iter().filter_map(|(_, it)| it.as_ref());
    let lowest = measured()
        .map(|it| it.at(0.0))
        .fold(f64::INFINITY, f64::min);
    let highest = measured().map(|it| it.at(1.0)).reduce(f64::max)?;
    let range = Range::around(lowest, highest);
    let mut heading = format!("{} · {}", block.workload, block.lifecycle);
    if !block.qualifier.is_empty() {
        let _ = write!(heading, " · {}", block.qualifier);
    }
    Some(html! {
        div class="panel" {
            h4 {
                (heading) " · " (operation(block.workload)) "s a second, from "
                (significant(lowest)) " to " (significant(highest))
            }
            @for (row, distribution) in &rows { (line(report, row, distribution.as_ref(), &range)) }
        }
    })
}

fn line(
    report: &Report<'_>,
    row: &Row<'_>,
    distribution: Option<&Distribution>,
    range: &Range,
) -> Markup {
    let course = course(row);
    let class = if course.is_some() {
        "track free twice"
    } else {
        "track free"
    };
    html! {
        div class=(classes(report, row.stack, row.verdict)) {
            span class="name" { (row.stack) }
            div class=(class) {
                @if let Some(course) = &course {
                    (shape("course", (width(course), COURSE_HEIGHT), &over_time(course, range), None))
                }
                @if let Some(distribution) = distribution {
                    @let mark = offered(row).map(|it| range.share(it));
                    (shape("ridge", (WIDTH, HEIGHT), &outline(distribution, range), mark))
                }
            }
            span class="figure" {
                @if let Some(distribution) = distribution {
                    @let [low, median, high] = [0.1, 0.5, 0.9].map(|share| significant(distribution.at(share)));
                    (median) " " small { (low) " to " (high) } " "
                } @else { (MISSING) " " }
                (badge(row.verdict))
            }
        }
    }
}

fn offered(row: &Row<'_>) -> Option<f64> {
    row.cell(None)?.metrics.get("offered_per_second")?.value
}

/// Rates by block and window; null in runs that did not keep them.
fn course(row: &Row<'_>) -> Option<Vec<Vec<f64>>> {
    let series = row.cell(None)?.metrics.get(KEY)?.series.as_ref()?;
    Some(series.rates_per_second())
}

impl Range {
    /// Half a step beyond what was measured, so that each rate stands in the middle of its column.
    fn around(lowest: f64, highest: f64) -> Self {
        Self {
            low: lowest - STEP_PER_SECOND / 2.0,
            high: highest + STEP_PER_SECOND / 2.0,
        }
    }

    fn columns(&self) -> usize {
        let steps = ((self.high - self.low) / STEP_PER_SECOND).round() as usize;
        if (1..=MOST_COLUMNS).contains(&steps) {
            steps
        } else {
            COLUMNS
        }
    }

    /// Where `value` lies, from 0 to 1.
    fn share(&self, value: f64) -> f64 {
        let span = (self.high - self.low).max(f64::MIN_POSITIVE);
        ((value - self.low) / span).clamp(0.0, 1.0)
    }
}

fn shape(class: &str, (width, height): (f64, f64), path: &str, mark: Option<f64>) -> Markup {
    html! {
        svg class=(class) viewBox=(format!("0 0 {width} {height}")) preserveAspectRatio="none" aria-hidden="true" {
            path d=(path) {}
            @if let Some(mark) = mark {
                @let x = format!("{:.1}", mark * width);
                line x1=(x) x2=(x) y1="0" y2=(height) {}
            }
        }
    }
}

/// The outline of a histogram over `range`.
fn outline(distribution: &Distribution, range: &Range) -> String {
    let columns = range.columns();
    let mut counts = vec![0_u64; columns];
    for (value, count) in distribution.counts() {
        let column = (range.share(value) * columns as f64) as usize;
        counts[column.min(columns - 1)] += count;
    }
    let most = counts.iter().copied().max().unwrap_or(1).max(1);
    let width = WIDTH / columns as f64;
    let mut path = format!("M0 {HEIGHT}");
    for (column, count) in counts.into_iter().enumerate() {
        let y = HEIGHT * (1.0 - count as f64 / most as f64);
        let _ = write!(path, "V{y:.1}H{:.1}", width * (column + 1) as f64);
    }
    path + &format!("V{HEIGHT}Z")
}

/// From the first window to the last one.
fn width(course: &[Vec<f64>]) -> f64 {
    // A gap behind each block but the last.
    let windows: usize = course.iter().map(|block| block.len() + 1).sum();
    windows.saturating_sub(2).max(1) as f64
}

/// A line through the windows of each block, by steps: a run of many blocks has thousands of windows, of which
/// each takes four bytes like this.
fn over_time(course: &[Vec<f64>], range: &Range) -> String {
    let mut path = String::new();
    let mut x = 0;
    for block in course {
        let mut before: Option<i64> = None;
        for (place, rate) in block.iter().enumerate() {
            let y = (COURSE_HEIGHT * (1.0 - range.share(*rate))).round() as i64;
            let step = y - before.unwrap_or(y);
            // A sign separates as well as a space.
            let separator = if step < 0 { "" } else { " " };
            let _ = match place {
                0 => write!(path, "M{x} {y}"),
                1 => write!(path, "l1{separator}{step}"),
                _ => write!(path, " 1{separator}{step}"),
            };
            before = Some(y);
            x += 1;
        }
        x += 1;
    }
    path
}
