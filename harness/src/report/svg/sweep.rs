//! Latency and success over the offered rate, a panel for each stack: how a server behaves below its
//! knee and past it.

use std::collections::BTreeMap;

use hopbench::record::{Cell, Run, Step, StepOutcome, Unit, Verdict};

use super::axis::Logarithmic;
use super::canvas::{Anchor, Area, Canvas, INK, MUTED, doubtful, shade, stack_colour};
use crate::report::question::Question;
use crate::report::summary::{Block, verdict_word};
use crate::report::units::{Scale, quantity};

const COLUMNS: usize = 3;
const PANEL: (f64, f64) = (290.0, 236.0);
/// Within a panel: where latency is drawn, and success above it.
const PLOT: Area = Area {
    x: 52.0,
    y: 64.0,
    width: 226.0,
    height: 128.0,
};
const SUCCESS: Area = Area {
    x: 52.0,
    y: 26.0,
    width: 226.0,
    height: 26.0,
};
const TOP: f64 = 86.0;
/// Quantiles and how strongly they are drawn.
pub(in crate::report) const QUANTILES: [(&str, f64); 3] =
    [("p50", 0.4), ("p90", 0.65), ("p99", 1.0)];

/// What the steps at one rate are drawn as.
pub(in crate::report) struct Point {
    pub(in crate::report) per_second: f64,
    /// Operations attempted in all of the steps, and how many steps there are.
    pub(in crate::report) attempted: u64,
    pub(in crate::report) steps: usize,
    /// Medians of the steps, in the order of [`QUANTILES`], in ns.
    pub(in crate::report) latencies: [Option<f64>; 3],
    /// Of all steps together; null if nothing was attempted.
    pub(in crate::report) success_ratio: Option<f64>,
    /// Whether the generator was the limit in half of the steps or more.
    pub(in crate::report) is_bound: bool,
}

/// One stack.
pub(in crate::report) struct Panel<'a> {
    pub(in crate::report) stack: &'a str,
    pub(in crate::report) verdict: Verdict,
    pub(in crate::report) points: Vec<Point>,
    knee: Option<Knee>,
}

/// Where the curve bends, as far as the sweep went.
struct Knee {
    per_second: f64,
    /// Whether it may lie higher.
    is_bound: bool,
}

/// A chart of panels.
pub(in crate::report) struct Sweep<'a> {
    pub(in crate::report) title: String,
    pub(in crate::report) subtitle: String,
    pub(in crate::report) panels: Vec<Panel<'a>>,
}

/// The sweep that `block` holds.
pub(super) fn sweep<'a>(run: &Run, block: &Block<'a>) -> Sweep<'a> {
    debug_assert!(block.question == Question::Knee);
    let what = match block.workload {
        "invite" => "Session request delay",
        _ => "Time until the user is registered",
    };
    let panels = block.rows.iter().map(|row| {
        let cell = row.cell(None);
        Panel {
            stack: row.stack,
            verdict: row.verdict,
            points: cell.map(points).unwrap_or_default(),
            knee: cell.and_then(knee),
        }
    });
    let setting = match block.qualifier.as_str() {
        "" => block.lifecycle.to_owned(),
        qualifier => format!("{}, {qualifier}", block.lifecycle),
    };
    Sweep {
        title: format!("{what} and success over the offered rate ({setting})"),
        subtitle: super::subtitle(
            run,
            "dashed line: the knee; grey dots: the generator was the limit",
        ),
        panels: panels.collect(),
    }
}

fn knee(cell: &Cell) -> Option<Knee> {
    let value = |key: &str| cell.metrics.get(key)?.value;
    let found = value("knee_per_second");
    Some(Knee {
        per_second: found.or_else(|| value("search_held_per_second"))?,
        is_bound: found.is_none() || cell.verdict != Verdict::Ok,
    })
}

/// The steps by rate, ascending.
fn points(cell: &Cell) -> Vec<Point> {
    let mut by_rate: BTreeMap<u64, Vec<&Step>> = BTreeMap::new();
    for step in &cell.steps {
        // Positive numbers have the order of their bits.
        let rate = by_rate.entry(step.offered_per_second.to_bits());
        rate.or_default().push(step);
    }
    let point = |(bits, steps): (u64, Vec<&Step>)| {
        let median = |of: fn(&Step) -> Option<u64>| {
            let mut found: Vec<u64> = steps.iter().filter_map(|step| of(step)).collect();
            found.sort_unstable();
            found
                .get(found.len().saturating_sub(1) / 2)
                .map(|ns| *ns as f64)
        };
        let sum = |of: fn(&Step) -> u64| steps.iter().map(|step| of(step)).sum::<u64>();
        let attempted = sum(|step| step.attempted_count);
        let is_bound = |step: &&&Step| step.outcome == StepOutcome::GeneratorBound;
        Point {
            per_second: f64::from_bits(bits),
            latencies: [
                median(|step| step.latency_p50_ns),
                median(|step| step.latency_p90_ns),
                median(|step| step.latency_p99_ns),
            ],
            attempted,
            steps: steps.len(),
            success_ratio: (attempted > 0)
                .then(|| 1.0 - sum(|step| step.failed_count) as f64 / attempted as f64),
            is_bound: steps.iter().filter(is_bound).count() * 2 >= steps.len(),
        }
    };
    by_rate.into_iter().map(point).collect()
}

/// Scales that all panels share, so that they compare; relative to a panel's corner.
struct Axes {
    x: Logarithmic,
    y: Logarithmic,
    unit: Scale,
}

impl Axes {
    /// `None` without a figure.
    fn of(panels: &[Panel<'_>]) -> Option<Self> {
        let points = || panels.iter().flat_map(|panel| &panel.points);
        let latencies = || points().flat_map(|point| point.latencies.into_iter().flatten());
        let bounds = |values: &mut dyn Iterator<Item = f64>| {
            values.fold(None, |bounds: Option<(f64, f64)>, value| {
                let (low, high) = bounds.unwrap_or((value, value));
                Some((low.min(value), high.max(value)))
            })
        };
        let (slowest, fastest) = bounds(&mut points().map(|point| point.per_second))?;
        let (least, most) = bounds(&mut latencies().filter(|ns| *ns > 0.0))?;
        let unit = Scale::fitting(Unit::Ns, [least, most]);
        Some(Self {
            x: Logarithmic::new(slowest * 0.9, fastest, PLOT.x, -PLOT.width),
            y: Logarithmic::new(
                unit.convert(least),
                unit.convert(most),
                PLOT.y + PLOT.height,
                PLOT.height,
            ),
            unit,
        })
    }
}

impl Sweep<'_> {
    /// The document; null when nothing was swept.
    pub(super) fn draw(&self) -> Option<String> {
        let axes = Axes::of(&self.panels)?;
        let rows = self.panels.len().div_ceil(COLUMNS);
        // As wide for a few stacks as for many: the title wants room.
        let width = PANEL.0 * COLUMNS as f64 + 12.0;
        let height = TOP + PANEL.1 * rows as f64;
        let mut canvas = Canvas::new(width, height, &self.title, &self.subtitle);
        canvas.legend(72.0, &QUANTILES);
        for (place, panel) in self.panels.iter().enumerate() {
            let corner = (
                PANEL.0 * (place % COLUMNS) as f64,
                TOP + PANEL.1 * (place / COLUMNS) as f64,
            );
            draw_panel(&mut canvas, corner, panel, &axes);
        }
        Some(canvas.finish())
    }
}

fn draw_panel(canvas: &mut Canvas, corner: (f64, f64), panel: &Panel<'_>, axes: &Axes) {
    let at = |x: f64, y: f64| (corner.0 + x, corner.1 + y);
    let word = if doubtful(panel.verdict) {
        format!(", {}", verdict_word(panel.verdict))
    } else {
        String::new()
    };
    let heading = at(PLOT.x, 14.0);
    let label = format!("{}{word}", panel.stack);
    canvas.bold_text(heading.0, heading.1, &label, Anchor::Start, INK);
    draw_axes(canvas, corner, axes);
    draw_success(canvas, corner, panel, axes);
    let colour = stack_colour(panel.stack);
    for (index, (_, strength)) in QUANTILES.iter().enumerate() {
        let place = |point: &Point| {
            let y = axes.y.position(axes.unit.convert(point.latencies[index]?));
            Some((at(axes.x.position(point.per_second), y), point.is_bound))
        };
        let found: Vec<((f64, f64), bool)> = panel.points.iter().filter_map(place).collect();
        let line: Vec<(f64, f64)> = found.iter().map(|(place, _)| *place).collect();
        let tone = shade(colour, *strength);
        canvas.path(&line, &tone, 1.8, doubtful(panel.verdict));
        for ((x, y), is_bound) in found {
            canvas.dot(x, y, 3.0, if is_bound { MUTED } else { &tone });
        }
    }
    if let Some(knee) = &panel.knee {
        let x = axes.x.position(knee.per_second);
        canvas.path(
            &[at(x, SUCCESS.y), at(x, PLOT.y + PLOT.height)],
            INK,
            1.2,
            true,
        );
    }
    // Beneath, since a verdict may need the width above.
    let (x, y) = at(PLOT.x + PLOT.width / 2.0, PLOT.y + PLOT.height + 32.0);
    let told = panel.knee.as_ref().map(|knee| {
        let word = if knee.is_bound { "knee ≥" } else { "knee" };
        let rate = quantity(Unit::PerSecond, knee.per_second);
        format!("offered a second, {word} {rate}")
    });
    let told = told.as_deref().unwrap_or("offered a second");
    canvas.text(x, y, told, Anchor::Middle, MUTED);
}

fn draw_axes(canvas: &mut Canvas, corner: (f64, f64), axes: &Axes) {
    let at = |x: f64, y: f64| (corner.0 + x, corner.1 + y);
    let (floor, right) = (PLOT.y + PLOT.height, PLOT.x + PLOT.width);
    for (value, label) in decades(axes.y.ticks()) {
        let y = axes.y.position(value);
        canvas.grid_line(at(PLOT.x, y), at(right, y));
        let (x, y) = at(PLOT.x - 6.0, y + 4.0);
        canvas.text(x, y, &label, Anchor::End, MUTED);
    }
    let (x, y) = at(PLOT.x - 6.0, PLOT.y - 4.0);
    canvas.text(x, y, axes.unit.symbol, Anchor::End, MUTED);
    for (value, label) in sparse(axes.x.ticks()) {
        let (x, y) = at(axes.x.position(value), floor + 16.0);
        canvas.text(x, y, &label, Anchor::Middle, MUTED);
    }
    canvas.line(at(PLOT.x, floor), at(right, floor), MUTED, 1.0);
}

/// Success from none at the bottom to all at the top.
fn draw_success(canvas: &mut Canvas, corner: (f64, f64), panel: &Panel<'_>, axes: &Axes) {
    let at = |x: f64, y: f64| (corner.0 + x, corner.1 + y);
    let height = |ratio: f64| SUCCESS.y + SUCCESS.height * (1.0 - ratio);
    let right = SUCCESS.x + SUCCESS.width;
    for ratio in [0.0, 1.0] {
        let y = height(ratio);
        canvas.grid_line(at(SUCCESS.x, y), at(right, y));
    }
    let (x, y) = at(SUCCESS.x - 6.0, SUCCESS.y + 4.0);
    canvas.text(x, y, "100 %", Anchor::End, MUTED);
    let place = |point: &Point| {
        let y = height(point.success_ratio?);
        Some((at(axes.x.position(point.per_second), y), point.is_bound))
    };
    let found: Vec<((f64, f64), bool)> = panel.points.iter().filter_map(place).collect();
    let line: Vec<(f64, f64)> = found.iter().map(|(place, _)| *place).collect();
    canvas.path(&line, INK, 1.2, false);
    for ((x, y), is_bound) in found {
        canvas.dot(x, y, 2.5, if is_bound { MUTED } else { INK });
    }
}

/// Ticks at powers of ten, where there are two or more; or else all.
fn decades(ticks: Vec<(f64, String)>) -> Vec<(f64, String)> {
    let is_power = |value: f64| (value.log10() - value.log10().round()).abs() < 1e-6;
    let powers = ticks.iter().filter(|(value, _)| is_power(*value)).count();
    let ticks = ticks.into_iter();
    ticks
        .filter(|(value, _)| powers < 2 || is_power(*value))
        .collect()
}

/// As many ticks as a panel has room for.
fn sparse(ticks: Vec<(f64, String)>) -> Vec<(f64, String)> {
    if ticks.len() <= 5 {
        ticks
    } else {
        decades(ticks)
    }
}
