//! Horizontal bars, a stack each: parts of a whole end to end, or figures beside each other.

use hopbench::record::{Unit, Verdict};

use super::axis::Linear;
use super::canvas::{Anchor, Area, Canvas, INK, MUTED, doubtful, shade, stack_colour};
use crate::report::summary::verdict_word;
use crate::report::units::{MISSING, Scale};

const WIDTH: f64 = 860.0;
const LEFT: f64 = 136.0;
/// Right of the bars, where their figures and verdicts stand.
const RIGHT: f64 = 170.0;
const TOP: f64 = 84.0;
const BOTTOM: f64 = 52.0;
const BAR: f64 = 15.0;
const ROW_GAP: f64 = 13.0;
const PANEL_TITLE: f64 = 26.0;
const PANEL_GAP: f64 = 14.0;

/// How the parts of a row lie.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(in crate::report) enum Arrangement {
    /// End to end; the row's figure is their sum.
    Stacked,
    /// One above the other, each with its figure.
    Grouped,
}

/// A chart of bars.
pub(in crate::report) struct Bars<'a> {
    pub(in crate::report) title: String,
    pub(in crate::report) subtitle: String,
    pub(in crate::report) unit: Unit,
    /// What the axis counts, without its unit.
    pub(in crate::report) axis: &'static str,
    pub(in crate::report) arrangement: Arrangement,
    /// Name of each part and the strength of the stack's colour that stands for it.
    pub(in crate::report) shades: &'static [(&'static str, f64)],
    pub(in crate::report) panels: Vec<Panel<'a>>,
}

/// Rows under a title of their own; all panels share the axis.
pub(in crate::report) struct Panel<'a> {
    /// Empty when the chart has one panel.
    pub(in crate::report) title: String,
    pub(in crate::report) rows: Vec<Row<'a>>,
}

/// A stack's parts, one for each shade, in the metric's unit.
pub(in crate::report) struct Row<'a> {
    pub(in crate::report) stack: &'a str,
    pub(in crate::report) verdict: Verdict,
    pub(in crate::report) parts: Vec<Option<f64>>,
}

impl Row<'_> {
    fn sum(&self) -> Option<f64> {
        self.parts
            .iter()
            .copied()
            .flatten()
            .reduce(|sum, part| sum + part)
    }
}

impl Bars<'_> {
    /// The document; null when no row has a figure.
    pub(in crate::report) fn draw(&self) -> Option<String> {
        let lengths: Vec<f64> = self
            .panels
            .iter()
            .flat_map(|panel| &panel.rows)
            .flat_map(|row| self.lengths(row))
            .collect();
        let longest = lengths.iter().copied().reduce(f64::max)?;
        let unit = Scale::fitting(self.unit, lengths);
        let height = TOP
            + self
                .panels
                .iter()
                .map(|panel| self.panel_height(panel))
                .sum::<f64>()
            + BOTTOM
            - PANEL_GAP;
        let axis = Linear::from_zero(unit.convert(longest), LEFT, WIDTH - LEFT - RIGHT);
        let mut canvas = Canvas::new(WIDTH, height, &self.title, &self.subtitle);
        canvas.legend(72.0, self.shades);
        let floor = height - BOTTOM;
        for (value, label) in axis.ticks() {
            canvas.text(
                axis.position(value),
                floor + 18.0,
                &label,
                Anchor::Middle,
                MUTED,
            );
        }
        canvas.text(
            LEFT + (WIDTH - LEFT - RIGHT) / 2.0,
            floor + 38.0,
            &format!("{} ({})", self.axis, unit.symbol),
            Anchor::Middle,
            MUTED,
        );
        let mut y = TOP;
        for panel in &self.panels {
            self.draw_panel(&mut canvas, panel, y, &axis, unit);
            y += self.panel_height(panel);
        }
        Some(canvas.finish())
    }

    fn lengths(&self, row: &Row<'_>) -> Vec<f64> {
        match self.arrangement {
            Arrangement::Stacked => row.sum().into_iter().collect(),
            Arrangement::Grouped => row.parts.iter().copied().flatten().collect(),
        }
    }

    fn row_height(&self) -> f64 {
        match self.arrangement {
            Arrangement::Stacked => BAR + 4.0 + ROW_GAP,
            Arrangement::Grouped => (BAR + 1.0) * self.shades.len() as f64 + ROW_GAP,
        }
    }

    fn panel_height(&self, panel: &Panel<'_>) -> f64 {
        let title = if panel.title.is_empty() {
            0.0
        } else {
            PANEL_TITLE
        };
        title + self.row_height() * panel.rows.len() as f64 + PANEL_GAP
    }

    fn draw_panel(
        &self,
        canvas: &mut Canvas,
        panel: &Panel<'_>,
        top: f64,
        axis: &Linear,
        unit: Scale,
    ) {
        let mut y = top + ROW_GAP / 2.0;
        if !panel.title.is_empty() {
            canvas.bold_text(20.0, top + 16.0, &panel.title, Anchor::Start, INK);
            y += PANEL_TITLE;
        }
        let (ceiling, floor) = (
            y - ROW_GAP / 2.0,
            top + self.panel_height(panel) - PANEL_GAP,
        );
        for (value, _) in axis.ticks() {
            let x = axis.position(value);
            canvas.grid_line((x, ceiling), (x, floor));
        }
        for row in &panel.rows {
            let middle = y + (self.row_height() - ROW_GAP) / 2.0;
            canvas.text(LEFT - 10.0, middle + 4.0, row.stack, Anchor::End, INK);
            match (row.sum(), self.arrangement) {
                (None, _) => {
                    let word = if doubtful(row.verdict) {
                        verdict_word(row.verdict)
                    } else {
                        MISSING
                    };
                    canvas.hatched_word(LEFT + 1.0, middle, word);
                }
                (Some(sum), Arrangement::Stacked) => {
                    self.draw_stacked(canvas, row, sum, y, axis, unit)
                }
                (Some(_), Arrangement::Grouped) => self.draw_grouped(canvas, row, y, axis, unit),
            }
            y += self.row_height();
        }
        canvas.line((LEFT, ceiling), (LEFT, floor), MUTED, 1.0);
    }

    fn draw_stacked(
        &self,
        canvas: &mut Canvas,
        row: &Row<'_>,
        sum: f64,
        y: f64,
        axis: &Linear,
        unit: Scale,
    ) {
        let height = BAR + 4.0;
        let mut before = 0.0;
        for (part, (_, strength)) in row.parts.iter().zip(self.shades) {
            let Some(part) = part else { continue };
            let (start, end) = (
                axis.position(unit.convert(before)),
                axis.position(unit.convert(before + part)),
            );
            canvas.rect(
                Area {
                    x: start,
                    y,
                    width: end - start,
                    height,
                },
                &shade(stack_colour(row.stack), *strength),
            );
            before += part;
        }
        let end = axis.position(unit.convert(sum));
        if doubtful(row.verdict) {
            canvas.hatch(Area {
                x: LEFT,
                y,
                width: end - LEFT,
                height,
            });
        }
        canvas.text(
            end + 7.0,
            y + height / 2.0 + 4.0,
            &labelled(unit.quantity(sum), row.verdict),
            Anchor::Start,
            INK,
        );
    }

    fn draw_grouped(
        &self,
        canvas: &mut Canvas,
        row: &Row<'_>,
        top: f64,
        axis: &Linear,
        unit: Scale,
    ) {
        for (index, (part, (_, strength))) in row.parts.iter().zip(self.shades).enumerate() {
            let y = top + index as f64 * (BAR + 1.0);
            let Some(part) = part else {
                canvas.text(LEFT + 7.0, y + BAR - 3.0, MISSING, Anchor::Start, MUTED);
                continue;
            };
            let end = axis.position(unit.convert(*part));
            let area = Area {
                x: LEFT,
                y,
                width: end - LEFT,
                height: BAR,
            };
            canvas.rect(area, &shade(stack_colour(row.stack), *strength));
            if doubtful(row.verdict) {
                canvas.hatch(area);
            }
            canvas.text(
                end + 7.0,
                y + BAR - 3.5,
                &labelled(unit.quantity(*part), row.verdict),
                Anchor::Start,
                INK,
            );
        }
    }
}

/// A figure with the word that says why not to trust it.
fn labelled(figure: String, verdict: Verdict) -> String {
    if doubtful(verdict) {
        format!("{figure}, {}", verdict_word(verdict))
    } else {
        figure
    }
}
