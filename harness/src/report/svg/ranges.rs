//! Spread of a figure, a stack each: a line from the 10th to the 90th percentile, a dot at the median.

use hopbench::record::Verdict;

use super::axis::Linear;
use super::canvas::{Anchor, Area, Canvas, INK, MUTED, doubtful, shade, stack_colour};
use crate::report::summary::verdict_word;
use crate::report::units::MISSING;

const WIDTH: f64 = 860.0;
const LEFT: f64 = 136.0;
const RIGHT: f64 = 240.0;
const TOP: f64 = 72.0;
const ROW: f64 = 30.0;
const PANEL_TITLE: f64 = 28.0;
const AXIS: f64 = 62.0;

/// A chart of spreads; each panel has an axis of its own.
pub(super) struct Ranges<'a> {
    pub(super) title: String,
    pub(super) subtitle: String,
    pub(super) panels: Vec<Panel<'a>>,
}

/// Rows that share an axis.
pub(super) struct Panel<'a> {
    pub(super) title: String,
    pub(super) axis: String,
    pub(super) rows: Vec<Row<'a>>,
}

/// A stack's percentiles: 10th, 50th, 90th.
pub(super) struct Row<'a> {
    pub(super) stack: &'a str,
    pub(super) verdict: Verdict,
    pub(super) spread: Option<[f64; 3]>,
    /// What was offered: a mark on the axis.
    pub(super) offered: Option<f64>,
}

impl Panel<'_> {
    fn height(&self) -> f64 {
        PANEL_TITLE + ROW * self.rows.len() as f64 + AXIS
    }

    fn values(&self) -> impl Iterator<Item = f64> {
        self.rows
            .iter()
            .flat_map(|row| row.spread.into_iter().flatten().chain(row.offered))
    }
}

impl Ranges<'_> {
    /// The document; null when no row has a spread.
    pub(super) fn draw(&self) -> Option<String> {
        let panels = || {
            self.panels
                .iter()
                .filter(|panel| panel.rows.iter().any(|row| row.spread.is_some()))
        };
        panels().next()?;
        let height = TOP + panels().map(Panel::height).sum::<f64>();
        let mut canvas = Canvas::new(WIDTH, height, &self.title, &self.subtitle);
        let mut y = TOP;
        for panel in panels() {
            draw_panel(&mut canvas, panel, y);
            y += panel.height();
        }
        Some(canvas.finish())
    }
}

fn draw_panel(canvas: &mut Canvas, panel: &Panel<'_>, top: f64) {
    let low = panel.values().fold(f64::INFINITY, f64::min);
    let high = panel.values().fold(0.0, f64::max);
    let axis = Linear::between(low, high, LEFT, WIDTH - LEFT - RIGHT);
    let ceiling = top + PANEL_TITLE;
    let floor = ceiling + ROW * panel.rows.len() as f64;
    canvas.bold_text(20.0, top + 14.0, &panel.title, Anchor::Start, INK);
    for (value, label) in axis.ticks() {
        let x = axis.position(value);
        canvas.grid_line((x, ceiling), (x, floor));
        canvas.text(x, floor + 18.0, &label, Anchor::Middle, MUTED);
    }
    canvas.line((LEFT, floor), (WIDTH - RIGHT, floor), MUTED, 1.0);
    canvas.text(
        LEFT + (WIDTH - LEFT - RIGHT) / 2.0,
        floor + 37.0,
        &panel.axis,
        Anchor::Middle,
        MUTED,
    );
    for (index, row) in panel.rows.iter().enumerate() {
        draw_row(canvas, row, ceiling + ROW * (index as f64 + 0.5), &axis);
    }
}

fn draw_row(canvas: &mut Canvas, row: &Row<'_>, y: f64, axis: &Linear) {
    canvas.text(LEFT - 10.0, y + 4.0, row.stack, Anchor::End, INK);
    let Some([low, median, high]) = row.spread else {
        let word = if doubtful(row.verdict) {
            verdict_word(row.verdict)
        } else {
            MISSING
        };
        canvas.hatched_word(LEFT + 1.0, y, word);
        return;
    };
    let colour = stack_colour(row.stack);
    let (start, end) = (axis.position(low), axis.position(high));
    let area = Area {
        x: start,
        y: y - 5.0,
        width: (end - start).max(1.0),
        height: 10.0,
    };
    canvas.rect(area, &shade(colour, 0.45));
    if doubtful(row.verdict) {
        canvas.hatch(area);
    }
    if let Some(offered) = row.offered {
        let x = axis.position(offered);
        canvas.path(&[(x, y - 11.0), (x, y + 11.0)], INK, 1.5, false);
    }
    canvas.dot(axis.position(median), y, 5.5, colour);
    let mut label = format!("{median:.0} [{low:.0}, {high:.0}]");
    if doubtful(row.verdict) {
        label = format!("{label} {}", verdict_word(row.verdict));
    }
    canvas.text(WIDTH - RIGHT + 10.0, y + 4.0, &label, Anchor::Start, INK);
}
