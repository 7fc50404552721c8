//! Narrow hops: what fits through them, and what their bytes predict.

use maud::html;

use super::prose::Prose;
use super::{Report, Section, figures, folded};
use crate::report::question::Question;

const FIGURES: [(&str, &str); 9] = [
    ("predicted_per_second", "predicted"),
    ("fitting_per_second", "fits"),
    ("setup_latency_ns", "set-up, alone"),
    ("hop_ready_to_registered_ns", "registered, alone"),
    ("session_request_delay_ns", "session request delay, alone"),
    ("serialised_ns", "sending all bytes of an operation"),
    ("fitting_latency_ns", "latency at the rate that fits"),
    (
        "overload_achieved_per_second",
        "what ended well of too much",
    ),
    (
        "overload_failed_count",
        "what failed of too much, or had not ended",
    ),
];

/// The section; nothing where no narrow hop was measured.
pub(super) fn section(report: &Report<'_>, prose: &mut Prose) -> Option<Section> {
    let (heading, text) = prose.take("Narrow hops")?;
    let figures = figures::of_cells(report.run, Question::Rate.experiment(), &FIGURES);
    let body = html! {
        (report.charts_from("rate", &html! {}))
        (text.html)
        (folded("Figures of narrow hops", &figures::table(report, &figures)))
    };
    Some(Section::new(&heading, body))
}
