//! Latency and success over the offered rate, and where they bend.

use hopbench::record::Unit;
use maud::{Markup, html};

use super::prose::Prose;
use super::{Report, Section, badge, figures, folded};
use crate::report::question::Question;
use crate::report::summary::Block;
use crate::report::svg::sweep::{Panel, Point, QUANTILES, Sweep};
use crate::report::svg::{Chart, Drawing, block_file};
use crate::report::units::{MISSING, Scale, quantity, significant};

const FIGURES: [(&str, &str); 6] = [
    ("knee_per_second", "knee"),
    ("search_held_per_second", "not past the knee, up to"),
    ("search_ceiling_per_second", "past the knee, from"),
    ("lowest_rate_latency_p99_ns", "p99 at the lowest rate"),
    ("knee_latency_p99_ns", "p99 at the knee"),
    ("half_knee_lag_p99_ns", "lag p99 at half the knee"),
];

/// The section; nothing where no sweep was made.
pub(super) fn section(report: &Report<'_>, prose: &mut Prose) -> Option<Section> {
    let (heading, text) = prose.take("Knee")?;
    let blocks = report.blocks(Question::Knee);
    let charts = report.charts.iter();
    let swept: Vec<(&Chart<'_>, &Sweep<'_>)> = charts
        .filter_map(|chart| match &chart.drawing {
            Drawing::Sweep(drawn) => Some((chart, drawn)),
            Drawing::Bars(_) | Drawing::Lines(_) | Drawing::Percentiles(_) | Drawing::Still => None,
        })
        .collect();
    let tables = |chart: &Chart<'_>, drawn: &Sweep<'_>| {
        let is_drawn = |block: &&Block<'_>| block_file("knee", &blocks, block) == chart.file_name;
        let block: Vec<&Block<'_>> = blocks.iter().copied().filter(is_drawn).collect();
        html! {
            (figures::table(report, &figures::of_blocks(&block, &FIGURES)))
            (folded("Rates of this chart", &rates(report, drawn)))
        }
    };
    let body = html! {
        @for (chart, drawn) in swept { (report.chart(chart, &tables(chart, drawn))) }
        (folded("Knees in tables, and how they were found", &text.html))
    };
    Some(Section::new(&heading, body))
}

/// What was measured at each rate.
fn rates(report: &Report<'_>, drawn: &Sweep<'_>) -> Markup {
    let points = drawn.panels.iter().flat_map(|panel| &panel.points);
    let latencies = points.flat_map(|point| point.latencies.into_iter().flatten());
    let unit = Scale::fitting(Unit::Ns, latencies);
    html! {
        div class="scroll" tabindex="0" role="group" aria-label="Rates of the chart" {
            table {
                thead {
                    tr {
                        th scope="col" { "stack" }
                        th scope="col" class="number" { "offered" }
                        th scope="col" class="number" { "failed" }
                        @for (quantile, _) in QUANTILES { th scope="col" class="number" { (quantile) } }
                        th scope="col" class="number" { "samples" }
                        th scope="col" class="number" { "steps" }
                        th scope="col" { "verdict" }
                    }
                }
                tbody {
                    @for panel in &drawn.panels {
                        @for point in &panel.points { (line(report, panel, point, unit)) }
                    }
                }
            }
        }
    }
}

fn line(report: &Report<'_>, panel: &Panel<'_>, point: &Point, unit: Scale) -> Markup {
    let told = |value: Option<f64>| value.map_or(MISSING.to_owned(), |ns| unit.quantity(ns));
    let failed = point
        .success_ratio
        .map(|ratio| significant(100.0 * (1.0 - ratio)));
    html! {
        tr class=(report.class(panel.stack)) {
            th scope="row" { code { (panel.stack) } }
            td class="number" { (quantity(Unit::PerSecond, point.per_second)) }
            td class="number" { (failed.map_or(MISSING.to_owned(), |share| format!("{share} %"))) }
            @for latency in point.latencies { td class="number" { (told(latency)) } }
            td class="number" { (point.attempted) }
            td class="number" { (point.steps) }
            td {
                @if point.is_bound { (badge(hopbench::record::Verdict::GeneratorBound)) } @else { "ok" }
            }
        }
    }
}
