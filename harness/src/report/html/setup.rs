//! Set-up latency, by phase.

use maud::html;

use super::prose::Prose;
use super::{Report, Section, figures, folded};
use crate::report::question::Question;

const FIGURES: [(&str, &str); 7] = [
    ("tunnel_handshake_ns", "tunnel handshake"),
    ("transport_connect_ns", "connect"),
    ("security_handshake_ns", "security handshake"),
    ("setup_latency_ns", "set-up of the hop"),
    ("first_response_ns", "first response"),
    ("hop_ready_to_registered_ns", "registered"),
    (
        "hop_ready_to_registered_uncorrected_ns",
        "registered, from the actual start",
    ),
];

/// The section; nothing where no set-up was measured.
pub(super) fn section(report: &Report<'_>, prose: &mut Prose) -> Option<Section> {
    let (_, text) = prose.take("Set-up latency")?;
    let figures = figures::of_blocks(&report.blocks(Question::Setup), &FIGURES);
    let body = html! {
        p {
            "From the intended start of a user until it is registered: the tunnel's handshake, TCP's, that of TLS, \
             then a REGISTER, its challenge and its answer."
        }
        (report.charts_from("setup", &figures::table(report, &figures)))
        (folded("Set-up in tables", &text.html))
    };
    Some(Section::new("Set-up latency by phase", body))
}
