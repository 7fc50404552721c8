//! Links that delay and lose: round trips, and what losses do to the tail.

use maud::html;

use super::prose::Prose;
use super::{Report, Section, figures, folded};
use crate::report::question::Question;

const FIGURES: [(&str, &str); 6] = [
    ("setup_latency_ns", "set-up"),
    ("hop_ready_to_registered_ns", "registered"),
    ("session_request_delay_ns", "session request delay"),
    (
        "setup_latency_per_round_trip_ratio",
        "round trips until the hop is ready",
    ),
    (
        "registered_per_round_trip_ratio",
        "round trips until its user is registered",
    ),
    (
        "session_request_delay_per_round_trip_ratio",
        "round trips of a call",
    ),
];

/// The section; nothing where no link was measured.
pub(super) fn section(report: &Report<'_>, prose: &mut Prose) -> Option<Section> {
    let (heading, text) = prose.take("Round trips and losses")?;
    let figures = figures::of_cells(report.run, Question::Link.experiment(), &FIGURES);
    let body = html! {
        (report.charts_from("link", &html! {}))
        (text.html)
        (folded("Figures of links", &figures::table(report, &figures)))
    };
    Some(Section::new(&heading, body))
}
