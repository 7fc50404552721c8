//! Latency by percentile, from the intended start and from the actual one.

use maud::{Markup, html};

use super::{Report, Section, figures};
use crate::report::question::Question;
use crate::report::summary::Block;
use crate::report::svg::{Chart, block_file};

const FIGURES: [(&str, &str); 6] = [
    ("session_request_delay_ns", "session request delay"),
    (
        "session_request_delay_uncorrected_ns",
        "session request delay, from the actual start",
    ),
    ("hop_ready_to_registered_ns", "registered"),
    (
        "hop_ready_to_registered_uncorrected_ns",
        "registered, from the actual start",
    ),
    ("outage_ns", "outage"),
    ("scheduling_lag_ns", "lag of the generator"),
];

/// The section; nothing where no load was measured.
pub(super) fn section(report: &Report<'_>) -> Option<Section> {
    let charts = report.charts.iter();
    let charts: Vec<_> = charts
        .filter(|chart| chart.file_name.starts_with("latency"))
        .collect();
    if charts.is_empty() {
        return None;
    }
    let blocks = report.blocks(Question::Throughput);
    let table_of = |chart: &Chart<'_>| -> Markup {
        let is_drawn =
            |block: &&Block<'_>| block_file("latency", &blocks, block) == chart.file_name;
        let block: Vec<&Block<'_>> = blocks.iter().copied().filter(is_drawn).collect();
        figures::table(report, &figures::of_blocks(&block, &FIGURES))
    };
    let body = html! {
        p {
            "From the intended start, a server that stalls cannot hide its stall behind users who wait for it; from \
             the actual start it could. Where both agree, nothing was hidden."
        }
        @for chart in charts { (report.chart(chart, &table_of(chart))) }
    };
    Some(Section::new("Latency by percentile", body))
}
