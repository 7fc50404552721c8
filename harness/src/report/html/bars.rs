//! Bars in plain HTML: they fit a phone and a sheet of paper, and need no script.

use std::fmt::Write;

use hopbench::record::Verdict;
use maud::{Markup, html};

use super::{Report, badge};
use crate::report::summary::verdict_word;
use crate::report::svg::axis::{Linear, Logarithmic};
use crate::report::svg::bars::{Arrangement, Bars, Panel, Row};
use crate::report::units::{MISSING, Scale};

/// Where values stand on a track, in per cent of its length, and the lines of its scale.
pub(super) struct Track {
    axis: Axis,
}

enum Axis {
    Linear(Linear),
    Logarithmic(Logarithmic),
}

impl Track {
    /// From zero to at least `highest`.
    pub(super) fn from_zero(highest: f64) -> Self {
        Self {
            axis: Axis::Linear(Linear::from_zero(highest, 0.0, 100.0)),
        }
    }

    /// By powers of ten, both ends positive.
    pub(super) fn logarithmic(lowest: f64, highest: f64) -> Self {
        Self {
            axis: Axis::Logarithmic(Logarithmic::new(lowest, highest, 0.0, -100.0)),
        }
    }

    pub(super) fn position(&self, value: f64) -> f64 {
        match &self.axis {
            Axis::Linear(axis) => axis.position(value),
            Axis::Logarithmic(axis) => axis.position(value),
        }
    }

    fn ticks(&self) -> Vec<(f64, String)> {
        match &self.axis {
            Axis::Linear(axis) => axis.ticks(),
            Axis::Logarithmic(axis) => axis.ticks(),
        }
    }

    /// A style that draws the lines of the scale into each track.
    pub(super) fn lines(&self) -> String {
        let mut lines = String::from("--lines:");
        for (index, (value, _)) in self.ticks().iter().enumerate() {
            let separator = if index == 0 { "" } else { "," };
            let _ = write!(
                lines,
                "{separator}linear-gradient(var(--grid) 0 0) {:.2}% 0/1px 100% no-repeat",
                self.position(*value)
            );
        }
        lines
    }

    /// The row below the tracks: what the lines stand for, with `sign` after each number.
    pub(super) fn scale(&self, sign: &str) -> Markup {
        html! {
            div class="row scale" {
                span {}
                div class="ticks" {
                    @for (value, label) in self.ticks() {
                        span style=(format!("left:{:.2}%", self.position(value))) { (label) (sign) }
                    }
                }
                span {}
            }
        }
    }
}

fn drawn(report: &Report<'_>, bars: &Bars<'_>, table: &Markup) -> Option<Markup> {
    let rows = bars.panels.iter().flat_map(|panel| &panel.rows);
    let lengths: Vec<f64> = rows.flat_map(|row| lengths(bars, row)).collect();
    let longest = lengths.iter().copied().reduce(f64::max)?;
    let unit = Scale::fitting(bars.unit, lengths);
    let track = Track::from_zero(unit.convert(longest));
    let used = used(bars);
    let chart = html! {
        ul class="keys" {
            @for place in &used {
                li { i style=(strength(bars.shades[*place].1)) {} (bars.shades[*place].0) }
            }
        }
        div class="panels" role="img" aria-label=(format!("{}; the figures are in the table below", bars.title)) {
            @for panel in &bars.panels { (panel_of(report, bars, panel, unit, &track)) }
        }
        p class="axis" { (bars.axis) " (" (unit.symbol) ")" }
    };
    Some(super::figure(
        &bars.title,
        &without_run(&bars.subtitle),
        &chart,
        table,
    ))
}

/// The figure with all panels, which share one scale; nothing when no row has a figure.
pub(super) fn figure(report: &Report<'_>, bars: &Bars<'_>, table: &Markup) -> Markup {
    drawn(report, bars, table).unwrap_or_default()
}

/// A chart that stands alone says which run it is from; the page has said so.
pub(super) fn without_run(subtitle: &str) -> String {
    let end = subtitle.find(" · run ").unwrap_or(subtitle.len());
    subtitle[..end].to_owned()
}

/// The shades that some row has a part of.
fn used(bars: &Bars<'_>) -> Vec<usize> {
    let is_used = |place: &usize| {
        let mut rows = bars.panels.iter().flat_map(|panel| &panel.rows);
        rows.any(|row| {
            row.parts
                .get(*place)
                .copied()
                .flatten()
                .is_some_and(|part| part > 0.0)
        })
    };
    (0..bars.shades.len()).filter(is_used).collect()
}

fn lengths(bars: &Bars<'_>, row: &Row<'_>) -> Vec<f64> {
    let parts = || row.parts.iter().copied().flatten();
    match bars.arrangement {
        Arrangement::Stacked => parts().reduce(|sum, part| sum + part).into_iter().collect(),
        Arrangement::Grouped => parts().collect(),
    }
}

fn strength(strength: f64) -> String {
    format!("--strength:{:.0}%", 100.0 * strength)
}

fn panel_of(
    report: &Report<'_>,
    bars: &Bars<'_>,
    panel: &Panel<'_>,
    unit: Scale,
    track: &Track,
) -> Markup {
    html! {
        div class="panel" style=(track.lines()) {
            @if !panel.title.is_empty() { h4 { (panel.title) } }
            @for row in &panel.rows {
                @match bars.arrangement {
                    Arrangement::Stacked => (stacked(report, bars, row, unit, track)),
                    Arrangement::Grouped => (grouped(report, bars, row, unit, track)),
                }
            }
            (track.scale(""))
        }
    }
}

/// The classes of a row.
pub(super) fn classes(report: &Report<'_>, stack: &str, verdict: Verdict) -> String {
    let doubtful = match verdict {
        Verdict::Ok => "",
        Verdict::GeneratorBound | Verdict::Failed | Verdict::Unsupported => " doubtful",
    };
    format!("row {}{doubtful}", report.class(stack))
}

fn stacked(
    report: &Report<'_>,
    bars: &Bars<'_>,
    row: &Row<'_>,
    unit: Scale,
    track: &Track,
) -> Markup {
    let sum = lengths(bars, row).first().copied();
    let parts = || {
        let parts = row.parts.iter().zip(bars.shades);
        parts.filter_map(|(part, shade)| Some(((*part).filter(|part| *part > 0.0)?, shade)))
    };
    let share = |part: f64| sum.map_or(0.0, |sum| 100.0 * part / sum);
    html! {
        div class=(classes(report, row.stack, row.verdict)) {
            span class="name" { (row.stack) }
            div class="track" {
                @if let Some(sum) = sum {
                    div class="bar" style=(format!("width:{:.2}%", track.position(unit.convert(sum)))) {
                        @for (part, (name, shade)) in parts() {
                            i style=(format!("width:{:.2}%;{}", share(part), strength(*shade)))
                                title=(format!("{name}: {}", unit.quantity(part))) {}
                        }
                    }
                }
            }
            span class="figure" { (told(sum, row.verdict, unit)) }
        }
    }
}

fn grouped(
    report: &Report<'_>,
    bars: &Bars<'_>,
    row: &Row<'_>,
    unit: Scale,
    track: &Track,
) -> Markup {
    html! {
        @for (index, (part, (name, shade))) in row.parts.iter().zip(bars.shades).enumerate() {
            div class=(classes(report, row.stack, row.verdict)) {
                span class="name" { @if index == 0 { (row.stack) } }
                div class="track" {
                    @if let Some(part) = part {
                        div class="bar" style=(format!("width:{:.2}%", track.position(unit.convert(*part)).max(0.0))) {
                            i style=(format!("width:100%;{}", strength(*shade)))
                                title=(format!("{name}: {}", unit.quantity(*part))) {}
                        }
                    }
                }
                span class="figure" { (told(*part, row.verdict, unit)) }
            }
        }
    }
}

/// A figure with the word that says why not to trust it, or in its place.
fn told(value: Option<f64>, verdict: Verdict, unit: Scale) -> Markup {
    html! {
        @match value {
            Some(value) => { (unit.quantity(value)) " " (badge(verdict)) }
            None if verdict == Verdict::Ok => (MISSING),
            None => span title=(verdict_word(verdict)) { (badge(verdict)) },
        }
    }
}
