//! Lines that the script draws, so that a reader can ask them for values; the static chart stands in its
//! place where no script runs, and on paper.

use std::collections::BTreeSet;

use hopbench::record::{Unit, Verdict};
use maud::{Markup, PreEscaped, html};
use serde::Serialize;

use super::bars::without_run;
use super::{Report, figure};
use crate::report::distribution::Distribution;
use crate::report::page;
use crate::report::summary::verdict_word;
use crate::report::svg::lines::{Line, Lines, Over};
use crate::report::svg::percentiles::{Curve, POINTS_PER_DECADE, Percentiles, TICKS, decades};
use crate::report::svg::sweep::{Panel, Point, QUANTILES, Sweep};
use crate::report::units::Scale;

/// What the script is told.
#[derive(Serialize)]
struct Plot<'a> {
    title: &'a str,
    x: Axis,
    y: Axis,
    at: Vec<f64>,
    series: Vec<Series>,
}

#[derive(Serialize)]
struct Axis {
    label: String,
    unit: &'static str,
    kind: Kind,
    /// Where lines of the scale stand, with their labels; empty where the script is to choose.
    ticks: Vec<(f64, String)>,
}

#[derive(Clone, Copy, Serialize)]
#[serde(rename_all = "lowercase")]
enum Kind {
    Linear,
    Log,
    /// Powers of ten of what a share leaves of the whole: 2 is 99 %.
    Tail,
}

#[derive(Serialize)]
struct Series {
    class: String,
    name: String,
    /// Not what it seems to be: dashed.
    doubtful: bool,
    /// Which choice of the figure's options shows it; empty for one that all show.
    group: &'static str,
    /// For comparison: from the actual start, as predicted, of another quantile.
    thin: bool,
    values: Vec<Option<f64>>,
}

/// Title of what is drawn below latency over the offered rate.
const FAILED: &str = "Failed, of what was attempted";
/// What a reader chooses to see all groups.
const ALL: &str = "all";
/// Which start latency counts from.
const STARTS: [(&str, &str); 3] = [
    ("corrected", "the intended start"),
    ("uncorrected", "the actual start"),
    (ALL, "both"),
];
/// Which quantile of latency is drawn over the offered rate; the last of [`QUANTILES`] first.
const SHOWN_QUANTILES: [(&str, &str); 4] = [
    (QUANTILES[2].0, QUANTILES[2].0),
    (QUANTILES[1].0, QUANTILES[1].0),
    (QUANTILES[0].0, QUANTILES[0].0),
    (ALL, "all"),
];

/// Latency by percentile, from the intended and from the actual start.
pub(super) fn percentiles(
    report: &Report<'_>,
    drawn: &Percentiles<'_>,
    svg: &str,
    table: &Markup,
) -> Markup {
    let distributions = || {
        let curves = drawn.curves.iter();
        curves.flat_map(|curve| [curve.distribution.as_ref(), curve.uncorrected.as_ref()])
    };
    let measured = || distributions().flatten();
    let most = measured().map(Distribution::count).max().unwrap_or(0);
    let reach = decades(most);
    let highest = measured().map(|it| it.at(1.0)).fold(1.0, f64::max);
    let unit = Scale::fitting(Unit::Ns, [highest / 20.0]);
    let steps = (reach * f64::from(POINTS_PER_DECADE)).ceil() as u32;
    let at: Vec<f64> = (0..=steps)
        .map(|step| reach * f64::from(step) / f64::from(steps))
        .collect();
    let series = drawn.curves.iter().flat_map(|curve| {
        let kinds = [(false, &curve.distribution), (true, &curve.uncorrected)];
        let kinds = kinds.into_iter();
        kinds.filter_map(|(uncorrected, it)| {
            Some(curve_of(
                report,
                curve,
                uncorrected,
                it.as_ref()?,
                &at,
                unit,
            ))
        })
    });
    let plot = Plot {
        title: &drawn.title,
        x: Axis {
            label: "percentile of operations, logarithmic towards 100 %".to_owned(),
            unit: "",
            kind: Kind::Tail,
            ticks: tail_ticks(reach),
        },
        y: Axis {
            label: "latency".to_owned(),
            unit: unit.symbol,
            kind: Kind::Log,
            ticks: Vec::new(),
        },
        series: series.collect(),
        at: at.iter().copied().map(short).collect(),
    };
    let has_both = drawn.curves.iter().any(|curve| curve.uncorrected.is_some());
    let chart = html! {
        @if has_both { (options("Latency from", &drawn.title, &STARTS)) }
        (plotted(&plot, Some(svg)))
        (unmeasured(drawn.curves.iter().map(|it| (it.stack, it.verdict, it.distribution.is_some()))))
    };
    figure(&drawn.title, &without_run(&drawn.subtitle), &chart, table)
}

/// A figure over the number of proxies or users, or over the round trip or the rate of a link.
pub(super) fn lines(report: &Report<'_>, drawn: &Lines<'_>, svg: &str, table: &Markup) -> Markup {
    let points = || drawn.lines.iter().flat_map(|line| &line.points);
    let unit = Scale::fitting(drawn.unit, points().map(|(_, value)| *value));
    let at: BTreeSet<u32> = points().map(|(at, _)| *at).collect();
    let values = |points: &[(u32, f64)]| -> Vec<Option<f64>> {
        let value = |at: &u32| {
            let point = points.iter().find(|(place, _)| place == at);
            point.map(|(_, value)| short(unit.convert(*value)))
        };
        at.iter().map(value).collect()
    };
    let measured = |line: &Line<'_>| Series {
        class: report.class(line.stack),
        name: named(line.stack, line.verdict),
        doubtful: line.verdict != Verdict::Ok,
        group: "",
        thin: false,
        values: values(&line.points),
    };
    let predicted = |line: &Line<'_>| Series {
        class: report.class(line.stack),
        name: format!("{}, predicted", line.stack),
        doubtful: false,
        group: "",
        thin: true,
        values: values(&line.predicted),
    };
    let with_prediction = drawn.lines.iter().filter(|line| !line.predicted.is_empty());
    let lines = drawn.lines.iter().map(measured);
    let plot = Plot {
        title: &drawn.title,
        x: Axis {
            label: drawn.over.axis().to_owned(),
            unit: "",
            kind: match drawn.over {
                Over::Proxies | Over::RoundTrips => Kind::Linear,
                Over::Users | Over::HopRates => Kind::Log,
            },
            ticks: at
                .iter()
                .map(|at| (f64::from(*at), at.to_string()))
                .collect(),
        },
        y: Axis {
            label: String::new(),
            unit: unit.symbol,
            kind: match drawn.over {
                Over::Proxies | Over::RoundTrips | Over::Users => Kind::Linear,
                Over::HopRates => Kind::Log,
            },
            ticks: Vec::new(),
        },
        series: lines.chain(with_prediction.map(predicted)).collect(),
        at: at.iter().copied().map(f64::from).collect(),
    };
    let chart = html! {
        (plotted(&plot, Some(svg)))
        (unmeasured(drawn.lines.iter().map(|it| (it.stack, it.verdict, !it.points.is_empty()))))
    };
    figure(&drawn.title, &without_run(&drawn.subtitle), &chart, table)
}

/// Latency over the offered rate, and below it what failed.
pub(super) fn sweep(report: &Report<'_>, drawn: &Sweep<'_>, svg: &str, table: &Markup) -> Markup {
    let points = || drawn.panels.iter().flat_map(|panel| &panel.points);
    // Positive numbers have the order of their bits.
    let rates: BTreeSet<u64> = points().map(|point| point.per_second.to_bits()).collect();
    let latencies = points().flat_map(|point| point.latencies.into_iter().flatten());
    let unit = Scale::fitting(Unit::Ns, latencies);
    let (quantiles, failed) = over_rates(report, drawn, &rates, unit);
    let plot = |title, unit, kind, series| Plot {
        title,
        x: Axis {
            label: "offered a second".to_owned(),
            unit: "",
            kind: Kind::Log,
            ticks: Vec::new(),
        },
        y: Axis {
            label: String::new(),
            unit,
            kind,
            ticks: Vec::new(),
        },
        at: rates
            .iter()
            .map(|bits| short(f64::from_bits(*bits)))
            .collect(),
        series,
    };
    let latency = plot(&drawn.title, unit.symbol, Kind::Log, quantiles);
    let failed = plot(FAILED, "%", Kind::Linear, failed);
    let chart = html! {
        (options("Latency", &drawn.title, &SHOWN_QUANTILES))
        (plotted(&latency, Some(svg)))
        // The static chart has both.
        p class="options" { (FAILED) }
        (plotted(&failed, None))
        (unmeasured(drawn.panels.iter().map(|it| (it.stack, it.verdict, !it.points.is_empty()))))
    };
    figure(&drawn.title, &without_run(&drawn.subtitle), &chart, table)
}

/// Each quantile of latency of each stack, and the percentage that failed, at `rates`.
fn over_rates(
    report: &Report<'_>,
    drawn: &Sweep<'_>,
    rates: &BTreeSet<u64>,
    unit: Scale,
) -> (Vec<Series>, Vec<Series>) {
    let line = |panel: &Panel<'_>, of: &dyn Fn(&Point) -> Option<f64>| -> Vec<Option<f64>> {
        let value = |bits: &u64| {
            let mut points = panel.points.iter();
            let point = points.find(|point| point.per_second.to_bits() == *bits)?;
            of(point).map(short)
        };
        rates.iter().map(value).collect()
    };
    let series = |panel: &Panel<'_>, group: &'static str, values| Series {
        class: report.class(panel.stack),
        name: named(panel.stack, panel.verdict),
        doubtful: panel.verdict != Verdict::Ok,
        group,
        thin: false,
        values,
    };
    let mut quantiles = Vec::new();
    let mut failed = Vec::new();
    for panel in &drawn.panels {
        for (place, (quantile, strength)) in QUANTILES.into_iter().enumerate() {
            let of = |point: &Point| point.latencies[place].map(|ns| unit.convert(ns));
            let series = series(panel, quantile, line(panel, &of));
            quantiles.push(Series {
                name: format!("{}, {quantile}", series.name),
                thin: strength < 1.0,
                ..series
            });
        }
        let of = |point: &Point| point.success_ratio.map(|ratio| 100.0 * (1.0 - ratio));
        failed.push(series(panel, "", line(panel, &of)));
    }
    (quantiles, failed)
}

/// The static chart alone.
pub(super) fn still(title: &str, svg: &str, table: &Markup) -> Markup {
    figure(
        title,
        "",
        &html! { div class="static" tabindex="0" role="group" aria-label=(title) { (PreEscaped(without_title(svg))) } },
        table,
    )
}

/// Lines, with the static chart that stands for them where there is one.
fn plotted(plot: &Plot<'_>, svg: Option<&str>) -> Markup {
    html! {
        div data-plot {
            (page::data(plot))
            @if let Some(svg) = svg {
                div class="static" tabindex="0" role="group" aria-label=(plot.title) { (PreEscaped(without_title(svg))) }
            }
        }
    }
}

/// The static chart without its head, since the figure has one.
fn without_title(svg: &str) -> String {
    const HEAD: f64 = 54.0;
    let sheet = svg.split_once("viewBox=\"0 0 ").and_then(|(_, rest)| {
        let (size, _) = rest.split_once('"')?;
        let (width, height) = size.split_once(' ')?;
        Some((size, width, height.parse::<f64>().ok()?))
    });
    match sheet {
        Some((size, width, height)) => svg.replacen(
            &format!("viewBox=\"0 0 {size}\""),
            &format!("viewBox=\"0 {HEAD} {width} {}\"", height - HEAD),
            1,
        ),
        None => svg.to_owned(),
    }
}

/// Groups of lines of which a reader sees one, the first unless another is chosen.
fn options(legend: &str, title: &str, choices: &[(&str, &str)]) -> Markup {
    html! {
        fieldset class="options" {
            legend { (legend) }
            @for (place, (value, name)) in choices.iter().enumerate() {
                label {
                    input type="radio" name=(format!("{legend} of {title}")) value=(value) checked[place == 0];
                    " " (name)
                }
            }
        }
    }
}

/// Stacks without a line, and why they have none.
fn unmeasured<'a>(stacks: impl Iterator<Item = (&'a str, Verdict, bool)>) -> Markup {
    let without: Vec<_> = stacks.filter(|(_, _, has_line)| !has_line).collect();
    html! {
        @if !without.is_empty() {
            p class="note" {
                "Not drawn: "
                @for (index, (stack, verdict, _)) in without.iter().enumerate() {
                    @if index > 0 { ", " }
                    code { (stack) } " "
                    @if *verdict == Verdict::Ok { "(no figure)" } @else { (super::badge(*verdict)) }
                }
            }
        }
    }
}

fn curve_of(
    report: &Report<'_>,
    curve: &Curve<'_>,
    uncorrected: bool,
    distribution: &Distribution,
    at: &[f64],
    unit: Scale,
) -> Series {
    let reached = decades(distribution.count()) + 1e-9;
    let value = |tail: f64| {
        let value = distribution.at(1.0 - 10f64.powf(-tail));
        (tail <= reached).then(|| short(unit.convert(value)))
    };
    let name = named(curve.stack, curve.verdict);
    Series {
        class: report.class(curve.stack),
        name: if uncorrected {
            format!("{name}, actual start")
        } else {
            name
        },
        doubtful: curve.verdict != Verdict::Ok,
        group: STARTS[usize::from(uncorrected)].0,
        thin: uncorrected,
        values: at.iter().map(|tail| value(*tail)).collect(),
    }
}

fn named(stack: &str, verdict: Verdict) -> String {
    match verdict {
        Verdict::Ok => stack.to_owned(),
        Verdict::GeneratorBound | Verdict::Failed | Verdict::Unsupported => {
            format!("{stack}, {}", verdict_word(verdict))
        }
    }
}

fn tail_ticks(reach: f64) -> Vec<(f64, String)> {
    let ticks = TICKS.into_iter();
    let ticks = ticks.map(|(share, label)| (short(-f64::log10(1.0 - share)), label.to_owned()));
    ticks.filter(|(tail, _)| *tail <= reach + 1e-9).collect()
}

/// Four significant digits: more than a screen can show.
fn short(value: f64) -> f64 {
    format!("{value:.3e}").parse().unwrap_or(value)
}
