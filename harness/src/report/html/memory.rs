//! Memory per connection, by stage and by part.

use maud::html;

use super::prose::Prose;
use super::{Report, Section, figures, folded};
use crate::report::question::Question;

const FIGURES: [(&str, &str); 5] = [
    ("server_heap_bytes_per_connection", "server heap"),
    ("client_heap_bytes_per_connection", "client heap"),
    ("server_rss_bytes_per_connection", "server RSS"),
    ("client_rss_bytes_per_connection", "client RSS"),
    ("kernel_bytes_per_connection", "kernel, sockets of both"),
];

/// The section; nothing where no memory was measured.
pub(super) fn section(report: &Report<'_>, prose: &mut Prose) -> Option<Section> {
    let (heading, text) = prose.take("Memory per connection")?;
    let figures = figures::of_blocks(&report.blocks(Question::Memory), &FIGURES);
    let body = html! {
        p {
            "Each figure is the slope of memory over the number of connections, so that what a process takes \
             without any is not in it."
        }
        (report.charts_from("memory", &html! {}))
        (figures::table(report, &figures))
        (folded("Memory in tables: stages, parts, fits, resident memory", &text.html))
    };
    Some(Section::new(&heading, body))
}
