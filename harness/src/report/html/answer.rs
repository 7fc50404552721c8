//! The answer: what each stack costs, in sentences and as ratios with their intervals.

use hopbench::record::Ratio;
use maud::{Markup, html};

use super::bars::Track;
use super::prose::{self, Prose};
use super::{Report, Section, figure, folded};
use crate::report::answer::{asked, headline, sentence};
use crate::report::summary::{Block, Price};
use crate::report::units::{self, MISSING};

/// What most readers compare with.
const PLAIN: &str = "tcp";

/// The section; there is always one.
pub(super) fn section(report: &Report<'_>, prose: &mut Prose) -> Option<Section> {
    let (heading, text) = prose.take("The answer")?;
    if report.summary.prices.is_empty() {
        return Some(Section::new(&heading, text.html));
    }
    let (plain, others): (Vec<_>, Vec<_>) =
        asked(&report.summary).partition(|price| price.control == PLAIN);
    // A run without the usual control answers with those that it has.
    let first = if plain.is_empty() { others } else { plain };
    let body = html! {
        @for price in &first {
            p class=(format!("lede {}", report.class(price.stack))) {
                (prose::inline(&headline(&report.summary, price)))
            }
        }
        p class="note" {
            "Ratios are medians over interleaved blocks, with their 95 % interval in brackets. Each is formed \
             inside a block, so that it survives a change of the machine's speed."
        }
        (chart(report))
        (folded("All prices in words", &html! { ul { (sentences(report)) } }))
    };
    Some(Section::new(&heading, body))
}

fn sentences(report: &Report<'_>) -> Markup {
    html! {
        @for price in asked(&report.summary) {
            li class=(report.class(price.stack)) { (prose::inline(&sentence(&report.summary, price))) }
        }
    }
}

/// A panel for each question; all of them share one scale, so that they compare as well.
fn chart(report: &Report<'_>) -> Markup {
    let ratios = || {
        report
            .summary
            .prices
            .iter()
            .flat_map(|price| price.ratios.iter().flatten())
    };
    let ends = || ratios().flat_map(|ratio| [Some(ratio.ratio), ratio.ci95_low, ratio.ci95_high]);
    let positive = || ends().flatten().filter(|end| *end > 0.0);
    let lowest = positive().fold(1.0, f64::min);
    let highest = positive().fold(1.0, f64::max);
    let track = Track::logarithmic(lowest, highest);
    let blocks = report.summary.blocks.iter().enumerate();
    let panels = blocks.map(|(place, block)| panel(report, block, place, &track));
    let title = "What each stack costs over its control";
    let subtitle = "stack ÷ control, for the headline figure of each question; line: 1×, as dear as its control; \
        bar: 95 % interval";
    let chart = html! {
        div class="panels ratios" role="img" aria-label=(format!("{title}; the figures are in the table below")) {
            @for panel in panels { (panel) }
        }
        p class="axis" { "times the control, logarithmic" }
    };
    figure(title, subtitle, &chart, &table(report))
}

fn panel(report: &Report<'_>, block: &Block<'_>, place: usize, track: &Track) -> Markup {
    let prices = report.summary.prices.iter();
    let rows: Vec<(&Price<'_>, &Ratio)> = prices
        .filter_map(|price| Some((price, (*price.ratios.get(place)?)?)))
        .collect();
    if rows.is_empty() {
        return html! {};
    }
    html! {
        div class="panel" style=(track.lines()) {
            h4 { (named(block)) }
            @for (price, ratio) in rows {
                div class=(format!("row {}", report.class(price.stack))) {
                    span class="name" { (price.stack) small { " ÷ " (price.control) } }
                    div class="track free" { (interval(ratio, track)) }
                    span class="figure" { (told(ratio)) }
                }
            }
            (track.scale("×"))
        }
    }
}

fn named(block: &Block<'_>) -> String {
    let mut name = block.headline_name.clone();
    if let Some(first) = name.get(..1) {
        let first = first.to_uppercase();
        name.replace_range(..1, &first);
    }
    name
}

fn interval(ratio: &Ratio, track: &Track) -> Markup {
    let at = |value: f64| track.position(value.max(f64::MIN_POSITIVE));
    html! {
        i class="mark" style=(format!("left:{:.2}%", at(1.0))) {}
        @if let (Some(low), Some(high)) = (ratio.ci95_low, ratio.ci95_high) {
            i class="span" style=(format!("left:{:.2}%;width:{:.2}%", at(low), at(high) - at(low))) {}
        }
        i class="dot" style=(format!("left:{:.2}%", at(ratio.ratio))) {}
    }
}

fn told(ratio: &Ratio) -> Markup {
    let text = units::ratio(ratio);
    let (figure, interval) = text.split_once(' ').unwrap_or((&text, ""));
    html! { b { (figure) } " " small { (interval) } }
}

fn table(report: &Report<'_>) -> Markup {
    let table = html! {
        div class="scroll" tabindex="0" role="group" aria-label="Figures of the chart" {
            table {
                thead {
                    tr {
                        th scope="col" { "stack ÷ control" } th scope="col" { "price of" }
                        th scope="col" { "figure" } th scope="col" class="number" { "ratio" }
                        th scope="col" class="number" { "95 % interval" }
                        th scope="col" class="number" { "blocks" }
                    }
                }
                tbody {
                    @for price in &report.summary.prices {
                        @for (block, ratio) in report.summary.blocks.iter().zip(&price.ratios) {
                            @if let Some(ratio) = ratio { (line(report, price, block, ratio)) }
                        }
                    }
                }
            }
        }
    };
    folded("Figures of this chart", &table)
}

fn line(report: &Report<'_>, price: &Price<'_>, block: &Block<'_>, ratio: &Ratio) -> Markup {
    let interval = match (ratio.ci95_low, ratio.ci95_high) {
        (Some(low), Some(high)) => {
            format!(
                "{} to {}×",
                units::significant(low),
                units::significant(high)
            )
        }
        _ => MISSING.to_owned(),
    };
    html! {
        tr class=(report.class(price.stack)) {
            th scope="row" { code { (price.stack) } " ÷ " code { (price.control) } }
            td { (price.kind.name()) }
            td { (block.headline_name) " · " (block.workload) }
            td class="number" { (units::significant(ratio.ratio)) "×" }
            td class="number" { (interval) }
            td class="number" { (ratio.blocks) }
        }
    }
}
