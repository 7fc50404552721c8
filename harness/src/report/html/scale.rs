//! Crowds of connected users: what each takes, and what serving others costs beside them.

use maud::html;

use super::prose::Prose;
use super::{Report, Section, figures, folded};
use crate::report::question::Question;

const FIGURES: [(&str, &str); 9] = [
    ("server_cpu_ns_per_call", "server CPU per call"),
    (
        "server_cpu_ns_per_registration",
        "server CPU per registration",
    ),
    ("session_request_delay_ns", "session request delay"),
    ("hop_ready_to_registered_ns", "registered"),
    ("population_ns", "until the whole crowd had registered"),
    ("server_rss_bytes_per_connection", "server RSS per user"),
    ("client_rss_bytes_per_connection", "client RSS per user"),
    (
        "kernel_bytes_per_connection",
        "kernel memory per user, both ends",
    ),
    ("peak_memory_bytes", "peak memory of both sides"),
];

/// The section; nothing where no crowd was measured.
pub(super) fn section(report: &Report<'_>, prose: &mut Prose) -> Option<Section> {
    let (heading, text) = prose.take("Scale")?;
    let figures = figures::of_cells(report.run, Question::Scale.experiment(), &FIGURES);
    let body = html! {
        (report.charts_from("scale", &html! {}))
        (figures::table(report, &figures))
        (folded("Scale in tables", &text.html))
    };
    Some(Section::new(&heading, body))
}
