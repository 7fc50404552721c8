//! Session request delay over the number of proxies: a line for each stack.

use hopbench::record::{Cell, Run, Unit, Verdict};

use super::axis::Linear;
use super::canvas::{Anchor, Area, Canvas, INK, MUTED, doubtful, stack_colour};
use crate::report::question::{FIT, Question};
use crate::report::summary::{stack_rank, verdict_word};
use crate::report::units::Scale;

const WIDTH: f64 = 860.0;
const HEIGHT: f64 = 440.0;
const PLOT: Area = Area {
    x: 76.0,
    y: 76.0,
    width: 520.0,
    height: 300.0,
};
/// Least distance of two labels at the ends of lines.
const LABEL_HEIGHT: f64 = 16.0;

/// A chart of lines over small whole numbers.
pub(super) struct Lines<'a> {
    pub(super) title: String,
    subtitle: String,
    lines: Vec<Line<'a>>,
}

struct Line<'a> {
    stack: &'a str,
    /// Of the worst of its cells.
    verdict: Verdict,
    /// Proxies and the figure in ns, ascending.
    points: Vec<(u32, f64)>,
}

/// Reads the lines from the cells of the experiment `chain`.
pub(super) fn chain(run: &Run) -> Lines<'_> {
    let mut lines: Vec<Line<'_>> = Vec::new();
    for cell in &run.cells {
        if cell.experiment != Question::Chain.experiment() || cell.topology == FIT {
            continue;
        }
        let known = lines.iter().position(|line| line.stack == cell.stack);
        let index = known.unwrap_or_else(|| {
            lines.push(Line {
                stack: &cell.stack,
                verdict: Verdict::Ok,
                points: Vec::new(),
            });
            lines.len() - 1
        });
        if doubtful(cell.verdict) {
            lines[index].verdict = cell.verdict;
        }
        let metric = cell.metrics.get("session_request_delay_ns");
        let value = metric.and_then(|metric| metric.value);
        lines[index]
            .points
            .extend(value.map(|value| (proxies(cell), value)));
    }
    for line in &mut lines {
        line.points.sort_by_key(|(proxies, _)| *proxies);
    }
    lines.sort_by_key(|line| stack_rank(line.stack));
    Lines {
        title: "Session request delay over the number of proxies".to_owned(),
        subtitle: super::subtitle(run, "medians from the intended start"),
        lines,
    }
}

fn proxies(cell: &Cell) -> u32 {
    let digits = cell.topology.strip_prefix("chain-");
    digits.and_then(|digits| digits.parse().ok()).unwrap_or(0)
}

impl Lines<'_> {
    /// The document; null when no line has a point.
    pub(super) fn draw(&self) -> Option<String> {
        let points = || self.lines.iter().flat_map(|line| &line.points);
        let most = points().map(|(proxies, _)| *proxies).max()?.max(1);
        let highest = points().map(|(_, value)| *value).fold(0.0, f64::max);
        let unit = Scale::fitting(Unit::Ns, points().map(|(_, value)| *value));
        let y = Linear::from_zero(unit.convert(highest), PLOT.y + PLOT.height, -PLOT.height);
        let x = |proxies: u32| PLOT.x + f64::from(proxies) / f64::from(most) * PLOT.width;
        let mut canvas = Canvas::new(WIDTH, HEIGHT, &self.title, &self.subtitle);
        draw_axes(&mut canvas, &y, most, unit);
        let mut ends = Vec::new();
        for line in &self.lines {
            let at =
                |(proxies, value): &(u32, f64)| (x(*proxies), y.position(unit.convert(*value)));
            let points: Vec<(f64, f64)> = line.points.iter().map(at).collect();
            let colour = stack_colour(line.stack);
            canvas.path(&points, colour, 2.2, doubtful(line.verdict));
            for (x, y) in &points {
                canvas.dot(*x, *y, 3.5, colour);
            }
            ends.push((line, points.last().copied()));
        }
        draw_labels(&mut canvas, ends);
        Some(canvas.finish())
    }
}

fn draw_axes(canvas: &mut Canvas, y: &Linear, most: u32, unit: Scale) {
    let floor = PLOT.y + PLOT.height;
    for (value, label) in y.ticks() {
        let position = y.position(value);
        canvas.grid_line((PLOT.x, position), (PLOT.x + PLOT.width, position));
        canvas.text(PLOT.x - 8.0, position + 4.0, &label, Anchor::End, MUTED);
    }
    for proxies in 0..=most {
        let x = PLOT.x + f64::from(proxies) / f64::from(most) * PLOT.width;
        canvas.text(x, floor + 18.0, &proxies.to_string(), Anchor::Middle, MUTED);
    }
    canvas.line((PLOT.x, floor), (PLOT.x + PLOT.width, floor), MUTED, 1.0);
    let middle = PLOT.x + PLOT.width / 2.0;
    let axis = "proxies between the caller and the node that answers";
    canvas.text(middle, floor + 40.0, axis, Anchor::Middle, MUTED);
    canvas.text(PLOT.x - 8.0, PLOT.y - 10.0, unit.symbol, Anchor::End, MUTED);
}

/// Names each line at its end, moved apart where ends lie close.
fn draw_labels(canvas: &mut Canvas, mut ends: Vec<(&Line<'_>, Option<(f64, f64)>)>) {
    let floor = PLOT.y + PLOT.height;
    let height = |end: &Option<(f64, f64)>| end.map_or(floor, |(_, y)| y);
    ends.sort_by(|(_, a), (_, b)| height(a).total_cmp(&height(b)));
    let mut heights: Vec<f64> = ends.iter().map(|(_, end)| height(end)).collect();
    for index in 1..heights.len() {
        heights[index] = heights[index].max(heights[index - 1] + LABEL_HEIGHT);
    }
    let mut limit = floor + LABEL_HEIGHT;
    for height in heights.iter_mut().rev() {
        *height = height.min(limit - LABEL_HEIGHT);
        limit = *height;
    }
    let x = PLOT.x + PLOT.width + 26.0;
    for ((line, end), y) in ends.into_iter().zip(heights) {
        let colour = stack_colour(line.stack);
        if let Some(end) = end {
            canvas.line((end.0 + 4.0, end.1), (x - 4.0, y), colour, 0.8);
        }
        let word = if doubtful(line.verdict) {
            format!(", {}", verdict_word(line.verdict))
        } else {
            String::new()
        };
        canvas.dot(x + 3.0, y, 5.0, colour);
        let label = format!("{}{word}", line.stack);
        canvas.text(x + 12.0, y + 4.0, &label, Anchor::Start, INK);
    }
}
