//! Latency by percentile, as HdrHistogram plots it: the axis is logarithmic towards 100 %, so that the
//! tail, which the mean hides, takes most of the width.

use hopbench::record::{Unit, Verdict};

use super::axis::Logarithmic;
use super::canvas::{Anchor, Area, Canvas, INK, MUTED, doubtful, stack_colour};
use crate::report::distribution::Distribution;
use crate::report::summary::verdict_word;
use crate::report::units::Scale;

const WIDTH: f64 = 860.0;
const HEIGHT: f64 = 440.0;
const PLOT: Area = Area {
    x: 76.0,
    y: 76.0,
    width: 520.0,
    height: 300.0,
};
/// Least distance of two labels at the ends of curves.
const LABEL_HEIGHT: f64 = 16.0;
/// Points of a curve for each power of ten of the tail.
pub(in crate::report) const POINTS_PER_DECADE: u32 = 24;

/// A chart of curves.
pub(in crate::report) struct Percentiles<'a> {
    pub(in crate::report) title: String,
    pub(in crate::report) subtitle: String,
    pub(in crate::report) curves: Vec<Curve<'a>>,
}

/// A stack's distribution in ns from the intended start; null when it was not measured.
pub(in crate::report) struct Curve<'a> {
    pub(in crate::report) stack: &'a str,
    pub(in crate::report) verdict: Verdict,
    pub(in crate::report) distribution: Option<Distribution>,
    /// From the actual start; not in the static chart.
    pub(in crate::report) uncorrected: Option<Distribution>,
}

impl Percentiles<'_> {
    /// The document; null when no curve has samples.
    pub(in crate::report) fn draw(&self) -> Option<String> {
        let measured = || {
            self.curves
                .iter()
                .filter_map(|curve| curve.distribution.as_ref())
        };
        let most = measured().map(Distribution::count).max()?;
        let decades = decades(most);
        let lowest = measured()
            .map(|d| d.at(0.0))
            .fold(f64::INFINITY, f64::min)
            .max(1.0);
        let highest = measured()
            .map(|d| d.at(tail_quantile(d)))
            .fold(lowest, f64::max);
        let unit = Scale::fitting(Unit::Ns, [lowest.max(highest / 500.0)]);
        let y = Logarithmic::new(
            unit.convert(lowest),
            unit.convert(highest),
            PLOT.y + PLOT.height,
            PLOT.height,
        );
        let mut canvas = Canvas::new(WIDTH, HEIGHT, &self.title, &self.subtitle);
        draw_axes(&mut canvas, decades, &y, unit);
        let mut labels = Vec::new();
        for curve in &self.curves {
            match &curve.distribution {
                Some(distribution) => {
                    let points = points(distribution, decades, &y, unit);
                    let end = points.last().copied().unwrap_or((PLOT.x, PLOT.y));
                    canvas.path(
                        &points,
                        stack_colour(curve.stack),
                        2.2,
                        doubtful(curve.verdict),
                    );
                    labels.push(Label {
                        height: end.1,
                        curve,
                        end: Some(end),
                    });
                }
                None => labels.push(Label {
                    height: PLOT.y + PLOT.height,
                    curve,
                    end: None,
                }),
            }
        }
        draw_labels(&mut canvas, labels);
        Some(canvas.finish())
    }
}

/// Percentiles with a tick: the share of operations, and its label.
pub(in crate::report) const TICKS: [(f64, &str); 7] = [
    (0.0, "0 %"),
    (0.5, "50 %"),
    (0.9, "90 %"),
    (0.99, "99 %"),
    (0.999, "99.9 %"),
    (0.9999, "99.99 %"),
    (0.99999, "99.999 %"),
];

/// Powers of ten of the tail that `count` samples resolve: 1,000 samples reach 99.9 %.
pub(in crate::report) fn decades(count: u64) -> f64 {
    (count.max(10) as f64).log10().clamp(1.0, 6.0)
}

fn tail_quantile(distribution: &Distribution) -> f64 {
    1.0 - 10f64.powf(-decades(distribution.count()))
}

fn x_of(tail: f64, decades: f64) -> f64 {
    PLOT.x + tail / decades * PLOT.width
}

fn points(
    distribution: &Distribution,
    decades_shown: f64,
    y: &Logarithmic,
    unit: Scale,
) -> Vec<(f64, f64)> {
    let reached = decades(distribution.count());
    let steps = (reached * f64::from(POINTS_PER_DECADE)).ceil() as u32;
    (0..=steps)
        .map(|step| {
            let tail = reached * f64::from(step) / f64::from(steps);
            let value = unit.convert(distribution.at(1.0 - 10f64.powf(-tail)));
            (x_of(tail, decades_shown), y.position(value))
        })
        .collect()
}

fn draw_axes(canvas: &mut Canvas, decades: f64, y: &Logarithmic, unit: Scale) {
    let floor = PLOT.y + PLOT.height;
    for (value, label) in y.ticks() {
        let position = y.position(value);
        canvas.grid_line((PLOT.x, position), (PLOT.x + PLOT.width, position));
        canvas.text(PLOT.x - 8.0, position + 4.0, &label, Anchor::End, MUTED);
    }
    for (quantile, label) in TICKS {
        let tail = -f64::log10(1.0 - quantile);
        if tail <= decades + 1e-9 {
            let x = x_of(tail, decades);
            canvas.grid_line((x, PLOT.y), (x, floor));
            canvas.text(x, floor + 18.0, label, Anchor::Middle, MUTED);
        }
    }
    canvas.line((PLOT.x, floor), (PLOT.x + PLOT.width, floor), MUTED, 1.0);
    canvas.text(
        PLOT.x + PLOT.width / 2.0,
        floor + 40.0,
        "percentile of operations, logarithmic towards 100 %",
        Anchor::Middle,
        MUTED,
    );
    canvas.text(PLOT.x - 8.0, PLOT.y - 10.0, unit.symbol, Anchor::End, MUTED);
}

/// The name of a curve: where it would like to stand, and the end of what it names.
struct Label<'a> {
    height: f64,
    curve: &'a Curve<'a>,
    /// Null for a stack without a curve.
    end: Option<(f64, f64)>,
}

/// Names each curve at its end, moved apart where ends lie close, with a leader to the curve.
fn draw_labels(canvas: &mut Canvas, mut labels: Vec<Label<'_>>) {
    labels.sort_by(|a, b| a.height.total_cmp(&b.height));
    let mut heights: Vec<f64> = labels.iter().map(|label| label.height).collect();
    for index in 1..heights.len() {
        heights[index] = heights[index].max(heights[index - 1] + LABEL_HEIGHT);
    }
    // What was pushed beneath the plot moves up again, and the labels above it with it.
    let mut limit = PLOT.y + PLOT.height + LABEL_HEIGHT;
    for height in heights.iter_mut().rev() {
        *height = height.min(limit - LABEL_HEIGHT);
        limit = *height;
    }
    let x = PLOT.x + PLOT.width + 26.0;
    for (Label { curve, end, .. }, y) in labels.into_iter().zip(heights) {
        let colour = stack_colour(curve.stack);
        if let Some(end) = end {
            canvas.line((end.0 + 2.0, end.1), (x - 4.0, y), colour, 0.8);
        }
        let word = if doubtful(curve.verdict) {
            format!(", {}", verdict_word(curve.verdict))
        } else {
            String::new()
        };
        canvas.dot(x + 3.0, y, 5.0, colour);
        canvas.text(
            x + 12.0,
            y + 4.0,
            &format!("{}{word}", curve.stack),
            Anchor::Start,
            INK,
        );
    }
}
