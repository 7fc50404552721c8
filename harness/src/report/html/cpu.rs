//! Processor time per operation, and what it goes into where a run has told that apart.

use maud::html;

use super::{Report, Section, figures};
use crate::report::question::Question;

const FIGURES: [(&str, &str); 2] = [
    ("server_cpu_ns_per_operation", "server"),
    ("client_cpu_ns_per_operation", "client"),
];

/// The section; nothing where no load was measured.
pub(super) fn section(report: &Report<'_>) -> Option<Section> {
    let figures = figures::of_blocks(&report.blocks(Question::Throughput), &FIGURES);
    if figures.is_empty() {
        return None;
    }
    let body = html! { (report.charts_from("cpu", &figures::table(report, &figures))) };
    Some(Section::new("CPU per operation", body))
}
