//! Throughput: over time, as a histogram, and in tables.

use maud::html;

use super::prose::Prose;
use super::{Report, Section, figures, folded, ridges};
use crate::report::question::Question;

const FIGURES: [(&str, &str); 4] = [
    ("offered_per_second", "offered"),
    ("achieved_per_second", "achieved"),
    ("throughput_per_second", "in windows of 100 ms"),
    ("generator_busy_ratio", "busiest thread of the generator"),
];

/// The section; nothing where no load was measured.
pub(super) fn section(report: &Report<'_>, prose: &mut Prose) -> Option<Section> {
    let (heading, text) = prose.take("Throughput")?;
    let blocks = report.blocks(Question::Throughput);
    let figures = figures::of_blocks(&blocks, &FIGURES);
    let body = html! {
        (ridges::figure(report, &blocks, &figures::table(report, &figures)))
        (folded("Throughput in tables", &text.html))
    };
    Some(Section::new(&heading, body))
}
