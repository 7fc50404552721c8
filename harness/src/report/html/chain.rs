//! Proxies in a row: what each further hop adds.

use maud::html;

use super::prose::Prose;
use super::{Report, Section, figures, folded};
use crate::report::question::Question;

const FIGURES: [(&str, &str); 6] = [
    ("session_request_delay_ns", "session request delay"),
    ("server_cpu_ns_per_operation", "CPU of all nodes"),
    (
        "session_request_delay_fixed_ns",
        "delay without a proxy, by the fit",
    ),
    (
        "session_request_delay_per_hop_ns",
        "delay of each further hop",
    ),
    ("server_cpu_fixed_ns", "CPU without a proxy, by the fit"),
    ("server_cpu_per_hop_ns", "CPU of each further hop"),
];

/// The section; nothing where no chain was measured.
pub(super) fn section(report: &Report<'_>, prose: &mut Prose) -> Option<Section> {
    let (heading, text) = prose.take("Proxies in a row")?;
    let figures = figures::of_cells(report.run, Question::Chain.experiment(), &FIGURES);
    let body = html! {
        (report.charts_from("chain", &figures::table(report, &figures)))
        (folded("Chains in tables", &text.html))
    };
    Some(Section::new(&heading, body))
}
