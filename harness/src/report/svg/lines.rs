//! A figure over the number of proxies, of users, or over the round trip or the rate of a link: a line for each stack.

use hopbench::record::{Cell, Run, Unit, Verdict};

use super::axis::{Linear, Logarithmic};
use super::canvas::{Anchor, Area, Canvas, INK, MUTED, doubtful, stack_colour};
use crate::report::link;
use crate::report::question::{FIT, Question, is_growth, operation};
use crate::report::summary::{Block, hop_rate, stack_rank, users, verdict_word};
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

/// A chart of lines over whole numbers.
pub(in crate::report) struct Lines<'a> {
    pub(in crate::report) title: String,
    pub(in crate::report) subtitle: String,
    pub(in crate::report) over: Over,
    /// Of the figure.
    pub(in crate::report) unit: Unit,
    pub(in crate::report) lines: Vec<Line<'a>>,
}

/// What the figure is told over.
#[derive(Clone, Copy)]
pub(in crate::report) enum Over {
    /// From none on.
    Proxies,
    /// By powers of ten.
    Users,
    /// Of a link, in milliseconds.
    RoundTrips,
    /// Of a hop, in kbit/s, by powers of ten; so is the figure.
    HopRates,
}

/// Where numbers stand in the width of the plot.
enum Width {
    /// From zero to the most.
    Even(u32),
    /// Likewise, with ticks at round numbers.
    Linear(Linear),
    Logarithmic(Logarithmic),
}

/// A stack's figures.
pub(in crate::report) struct Line<'a> {
    pub(in crate::report) stack: &'a str,
    /// Of the worst of its cells.
    pub(in crate::report) verdict: Verdict,
    /// Proxies, users, milliseconds or kbit/s, and the figure, ascending.
    pub(in crate::report) points: Vec<(u32, f64)>,
    /// What the figure should be, likewise; empty where nothing says.
    pub(in crate::report) predicted: Vec<(u32, f64)>,
}

/// Session request delay by the cells of the experiment `chain`.
pub(in crate::report) fn chain(run: &Run) -> Lines<'_> {
    let is_shown =
        |cell: &Cell| cell.experiment == Question::Chain.experiment() && cell.topology != FIT;
    Lines {
        title: "Session request delay over the number of proxies".to_owned(),
        subtitle: super::subtitle(run, "medians from the intended start"),
        over: Over::Proxies,
        unit: Unit::Ns,
        lines: lines(run, "session_request_delay_ns", |cell| {
            is_shown(cell).then(|| proxies(cell))
        }),
    }
}

/// What an `operation` costs the server beside crowds of several sizes: `call` or `registration`.
pub(in crate::report) fn crowd<'a>(run: &'a Run, operation: &str) -> Lines<'a> {
    let is_shown =
        |cell: &Cell| cell.experiment == Question::Scale.experiment() && !is_growth(cell);
    let size = |cell: &Cell| u32::try_from(users(cell)?).ok();
    Lines {
        title: format!("Server CPU per {operation} over the number of connected users"),
        subtitle: super::subtitle(run, "beyond what the idle users cost"),
        over: Over::Users,
        unit: Unit::Ns,
        lines: lines(run, &format!("server_cpu_ns_per_{operation}"), |cell| {
            size(cell).filter(|_| is_shown(cell))
        }),
    }
}

/// A latency over the round trip of links that lose nothing, of stacks that are run in the usual way.
pub(in crate::report) fn round_trips<'a>(run: &'a Run, title: &str, key: &str) -> Lines<'a> {
    Lines {
        title: format!("{title} over the round trip of the link"),
        subtitle: super::subtitle(run, "medians from the intended start, nothing lost"),
        over: Over::RoundTrips,
        unit: Unit::Ns,
        lines: lines(run, key, |cell| {
            let point = link::point(cell).filter(|point| point.loss_ratio == 0.0)?;
            let has_figure = cell.metrics.contains_key(key);
            (has_figure && point.is_usual).then(|| point.round_trip_ms.round() as u32)
        }),
    }
}

/// How many operations of a workload fit through hops of several rates, beside what their bytes predict.
pub(in crate::report) fn narrow_hops<'a>(run: &'a Run, block: &Block<'_>) -> Lines<'a> {
    let place = |cell: &Cell| {
        let is_shown = cell.workload == block.workload && cell.lifecycle == block.lifecycle;
        let kilobits = hop_rate(cell)? / 1_000;
        u32::try_from(kilobits).ok().filter(|_| is_shown)
    };
    let mut found = lines(run, "fitting_per_second", place);
    for (line, predicted) in found
        .iter_mut()
        .zip(lines(run, "predicted_per_second", place))
    {
        line.predicted = predicted.points;
    }
    let operation = operation(block.workload);
    Lines {
        title: format!("Highest {operation} rate through a narrow hop"),
        subtitle: super::subtitle(run, "thin: as the bytes of one predict"),
        over: Over::HopRates,
        unit: Unit::PerSecond,
        lines: found,
    }
}

/// The metric `key` of the cells that have a `place`.
fn lines<'a>(run: &'a Run, key: &str, place: impl Fn(&Cell) -> Option<u32>) -> Vec<Line<'a>> {
    let mut lines: Vec<Line<'_>> = Vec::new();
    for cell in &run.cells {
        let Some(place) = place(cell) else {
            continue;
        };
        let known = lines.iter().position(|line| line.stack == cell.stack);
        let index = known.unwrap_or_else(|| {
            lines.push(Line {
                stack: &cell.stack,
                verdict: Verdict::Ok,
                points: Vec::new(),
                predicted: Vec::new(),
            });
            lines.len() - 1
        });
        if doubtful(cell.verdict) {
            lines[index].verdict = cell.verdict;
        }
        let value = cell.metrics.get(key).and_then(|metric| metric.value);
        lines[index]
            .points
            .extend(value.map(|value| (place, value)));
    }
    for line in &mut lines {
        line.points.sort_by_key(|(place, _)| *place);
    }
    lines.sort_by_key(|line| stack_rank(line.stack));
    lines
}

fn proxies(cell: &Cell) -> u32 {
    let digits = cell.topology.strip_prefix("chain-");
    digits.and_then(|digits| digits.parse().ok()).unwrap_or(0)
}

impl Over {
    /// What the axis counts.
    pub(in crate::report) fn axis(self) -> &'static str {
        match self {
            Self::Proxies => "proxies between the caller and the node that answers",
            Self::Users => "connected users",
            Self::RoundTrips => "round trip of the link, ms",
            Self::HopRates => "rate of the hop in each direction, kbit/s",
        }
    }

    fn width(self, fewest: u32, most: u32) -> Width {
        match self {
            Self::Proxies => Width::Even(most.max(1)),
            Self::RoundTrips => Width::Linear(Linear::from_zero(
                f64::from(most.max(1)),
                PLOT.x,
                PLOT.width,
            )),
            // Room on the left, so that no point lies on the axis.
            Self::Users | Self::HopRates => Width::Logarithmic(Logarithmic::new(
                f64::from(fewest.max(1)) * 0.8,
                f64::from(most.max(1)),
                PLOT.x,
                -PLOT.width,
            )),
        }
    }
}

/// Where figures stand in the height of the plot.
enum Height {
    /// From zero on.
    Linear(Linear),
    Logarithmic(Logarithmic),
}

impl Height {
    fn of(over: Over, lowest: f64, highest: f64) -> Self {
        let floor = PLOT.y + PLOT.height;
        match over {
            Over::Proxies | Over::Users | Over::RoundTrips => {
                Self::Linear(Linear::from_zero(highest, floor, -PLOT.height))
            }
            Over::HopRates => {
                Self::Logarithmic(Logarithmic::new(lowest, highest, floor, PLOT.height))
            }
        }
    }

    fn position(&self, value: f64) -> f64 {
        match self {
            Self::Linear(axis) => axis.position(value),
            Self::Logarithmic(axis) => axis.position(value),
        }
    }

    fn ticks(&self) -> Vec<(f64, String)> {
        match self {
            Self::Linear(axis) => axis.ticks(),
            Self::Logarithmic(axis) => axis.ticks(),
        }
    }
}

impl Width {
    fn position(&self, number: u32) -> f64 {
        match self {
            Self::Even(most) => PLOT.x + f64::from(number) / f64::from(*most) * PLOT.width,
            Self::Linear(axis) => axis.position(f64::from(number)),
            Self::Logarithmic(axis) => axis.position(f64::from(number)),
        }
    }

    /// Places of the ticks with their labels.
    fn ticks(&self) -> Vec<(f64, String)> {
        match self {
            Self::Even(most) => (0..=*most)
                .map(|number| (self.position(number), number.to_string()))
                .collect(),
            Self::Linear(axis) => {
                let ticks = axis.ticks().into_iter();
                ticks
                    .map(|(value, label)| (axis.position(value), label))
                    .collect()
            }
            Self::Logarithmic(axis) => {
                let ticks = axis.ticks().into_iter();
                ticks
                    .map(|(value, label)| (axis.position(value), label))
                    .collect()
            }
        }
    }
}

impl Lines<'_> {
    /// The document; null when no line has a point.
    pub(in crate::report) fn draw(&self) -> Option<String> {
        let points = || {
            let lines = self.lines.iter();
            lines.flat_map(|line| line.points.iter().chain(&line.predicted))
        };
        let fewest = points().map(|(place, _)| *place).min()?;
        let most = points().map(|(place, _)| *place).max()?;
        let values = || points().map(|(_, value)| *value);
        let unit = Scale::fitting(self.unit, values());
        let y = Height::of(
            self.over,
            unit.convert(values().fold(f64::INFINITY, f64::min)),
            unit.convert(values().fold(0.0, f64::max)),
        );
        let x = self.over.width(fewest, most);
        let mut canvas = Canvas::new(WIDTH, HEIGHT, &self.title, &self.subtitle);
        draw_axes(&mut canvas, &y, (&x, self.over.axis()), unit);
        let mut ends = Vec::new();
        for line in &self.lines {
            let at = |(place, value): &(u32, f64)| {
                (x.position(*place), y.position(unit.convert(*value)))
            };
            let points: Vec<(f64, f64)> = line.points.iter().map(at).collect();
            let predicted: Vec<(f64, f64)> = line.predicted.iter().map(at).collect();
            let colour = stack_colour(line.stack);
            if predicted.len() > 1 {
                canvas.path(&predicted, colour, 1.0, true);
            }
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

fn draw_axes(canvas: &mut Canvas, y: &Height, (x, axis): (&Width, &str), unit: Scale) {
    let floor = PLOT.y + PLOT.height;
    for (value, label) in y.ticks() {
        let position = y.position(value);
        canvas.grid_line((PLOT.x, position), (PLOT.x + PLOT.width, position));
        canvas.text(PLOT.x - 8.0, position + 4.0, &label, Anchor::End, MUTED);
    }
    for (x, label) in x.ticks() {
        canvas.text(x, floor + 18.0, &label, Anchor::Middle, MUTED);
    }
    canvas.line((PLOT.x, floor), (PLOT.x + PLOT.width, floor), MUTED, 1.0);
    let middle = PLOT.x + PLOT.width / 2.0;
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
