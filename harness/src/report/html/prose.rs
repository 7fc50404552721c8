//! Markdown of the report as HTML, section by section. Its tables learn which stack a row is of, and what
//! they show.

use std::collections::VecDeque;

use maud::{Markup, PreEscaped, html};
use pulldown_cmark::{Alignment, Event, HeadingLevel, Options, Parser, Tag, TagEnd};

use crate::report::palette;

/// Sections of the report by their headings, in its order.
pub(super) struct Prose {
    sections: Vec<(String, Text)>,
}

/// What a section says.
pub(super) struct Text {
    pub(super) html: Markup,
    /// File names of the charts that it shows.
    pub(super) images: Vec<String>,
}

impl Prose {
    /// The sections of `markdown`, whose rows may be of one of `stacks`.
    pub(super) fn of(markdown: &str, stacks: &[&str]) -> Self {
        let mut sections: Vec<(String, Vec<Event<'_>>)> = Vec::new();
        let mut events = Parser::new_ext(markdown, Options::ENABLE_TABLES);
        while let Some(event) = events.next() {
            if let Event::Start(Tag::Heading { level, .. }) = event
                && level <= HeadingLevel::H2
            {
                let heading = text_until(&mut events, |end| matches!(end, TagEnd::Heading(_)));
                sections.push((heading, Vec::new()));
            } else if let Some((_, events)) = sections.last_mut() {
                events.push(event);
            }
        }
        // What comes before the first section is the title of the document and its run.
        let sections = sections.into_iter().skip(1);
        let sections = sections.map(|(heading, events)| (heading, rendered(events, stacks)));
        Self {
            sections: sections.collect(),
        }
    }

    /// The section under `heading`, which is then no longer among the rest.
    pub(super) fn take(&mut self, heading: &str) -> Option<(String, Text)> {
        let place = self
            .sections
            .iter()
            .position(|(known, _)| known == heading)?;
        Some(self.sections.remove(place))
    }

    /// What nobody has taken.
    pub(super) fn rest(self) -> Vec<(String, Text)> {
        self.sections
    }
}

/// `markdown` that is a piece of a sentence or a few.
pub(super) fn inline(markdown: &str) -> Markup {
    let is_wrapping = |event: &Event<'_>| {
        matches!(
            event,
            Event::Start(Tag::Paragraph) | Event::End(TagEnd::Paragraph)
        )
    };
    let events = Parser::new(markdown).filter(|event| !is_wrapping(event));
    PreEscaped(written(events.map(harmless).collect()))
}

fn rendered(events: Vec<Event<'_>>, stacks: &[&str]) -> Text {
    let mut images = Vec::new();
    let mut html = String::new();
    let mut pending: Vec<Event<'_>> = Vec::new();
    let mut events = VecDeque::from(events);
    while let Some(event) = events.pop_front() {
        match event {
            Event::Start(Tag::Image { dest_url, .. }) => {
                let name = dest_url.rsplit('/').next().unwrap_or_default();
                images.push(name.to_owned());
                while !matches!(events.pop_front(), Some(Event::End(TagEnd::Image)) | None) {}
            }
            Event::Start(Tag::Table(alignments)) => {
                let caption = caption(&mut pending);
                html.push_str(&written(std::mem::take(&mut pending)));
                let rows = rows(&mut events);
                html.push_str(&table(&caption, &alignments, &rows, stacks).into_string());
            }
            event => pending.push(harmless(event)),
        }
    }
    html.push_str(&written(pending));
    Text {
        html: PreEscaped(html.replace("<p></p>\n", "")),
        images,
    }
}

/// HTML of others is text: nothing but Markdown has a meaning.
fn harmless(event: Event<'_>) -> Event<'_> {
    match event {
        Event::Html(text) | Event::InlineHtml(text) => Event::Text(text),
        event => event,
    }
}

fn written(events: Vec<Event<'_>>) -> String {
    let mut html = String::new();
    pulldown_cmark::html::push_html(&mut html, events.into_iter());
    html
}

/// The paragraph that ends what was pending, which names the table that follows.
fn caption(pending: &mut Vec<Event<'_>>) -> String {
    if !matches!(pending.last(), Some(Event::End(TagEnd::Paragraph))) {
        return String::new();
    }
    let begin = |event: &Event<'_>| matches!(event, Event::Start(Tag::Paragraph));
    let Some(start) = pending.iter().rposition(begin) else {
        return String::new();
    };
    let mut paragraph = pending.split_off(start);
    paragraph.pop();
    paragraph.remove(0);
    written(paragraph)
}

/// A cell of a table: as HTML, and as plain text.
struct Field {
    html: String,
    text: String,
}

/// The rows of a table, the heading first.
fn rows(events: &mut VecDeque<Event<'_>>) -> Vec<Vec<Field>> {
    let mut rows: Vec<Vec<Field>> = Vec::new();
    let mut cell = Vec::new();
    while let Some(event) = events.pop_front() {
        match event {
            Event::Start(Tag::TableHead | Tag::TableRow) => rows.push(Vec::new()),
            Event::Start(Tag::TableCell) => cell.clear(),
            Event::End(TagEnd::TableCell) => {
                let text = cell.iter().map(text_of).collect();
                let html = written(std::mem::take(&mut cell));
                if let Some(row) = rows.last_mut() {
                    row.push(Field { html, text });
                }
            }
            Event::End(TagEnd::Table) => break,
            event => cell.push(harmless(event)),
        }
    }
    rows
}

fn text_of<'e>(event: &'e Event<'_>) -> &'e str {
    match event {
        Event::Text(text) | Event::Code(text) => text,
        _ => "",
    }
}

fn text_until<'e>(
    events: &mut impl Iterator<Item = Event<'e>>,
    is_end: impl Fn(TagEnd) -> bool,
) -> String {
    let mut text = String::new();
    for event in events {
        match event {
            Event::End(end) if is_end(end) => break,
            event => text.push_str(text_of(&event)),
        }
    }
    text
}

fn table(caption: &str, alignments: &[Alignment], rows: &[Vec<Field>], stacks: &[&str]) -> Markup {
    let class = |column: usize| match alignments.get(column) {
        Some(Alignment::Right) => Some("number"),
        _ => None,
    };
    let [head, body @ ..] = rows else {
        return html! {};
    };
    let has_head = head.iter().any(|field| !field.text.is_empty());
    html! {
        div class="scroll" tabindex="0" role="group" aria-label="Table" {
            table {
                @if !caption.is_empty() { caption { (PreEscaped(caption)) } }
                @if has_head {
                    thead {
                        tr {
                            @for (column, field) in head.iter().enumerate() {
                                @if field.text.is_empty() { td {} }
                                @else { th scope="col" class=[class(column)] { (PreEscaped(&field.html)) } }
                            }
                        }
                    }
                }
                tbody {
                    @for row in body {
                        tr class=[stack_class(row, stacks)] {
                            @for (column, field) in row.iter().enumerate() {
                                @if column == 0 {
                                    th scope="row" { (PreEscaped(&field.html)) }
                                } @else {
                                    td class=[class(column)] { (verdict(field)) }
                                }
                            }
                        }
                    }
                }
            }
        }
    }
}

/// Which stack a row is of, by what its first columns name: a stack, a cell, a stack ÷ its control.
fn stack_class(row: &[Field], stacks: &[&str]) -> Option<String> {
    let separators = |letter: char| matches!(letter, '/' | ',' | ' ' | '?' | '÷');
    let named = row.iter().take(2).find_map(|field| {
        let mut words = field.text.split(separators);
        words.find_map(|word| stacks.iter().position(|stack| *stack == word))
    });
    named.map(palette::class)
}

fn verdict(field: &Field) -> Markup {
    match field.text.as_str() {
        "failed" => html! { span class="verdict failed" { "failed" } },
        word @ ("generator-bound" | "unsupported") => html! { span class="verdict" { (word) } },
        _ => PreEscaped(field.html.clone()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const REPORT: &str = "# Title\n\nRun `x`.\n\n## First\n\nOf **each** <b>one</b>, 5 < 6\n\n| cell | a (µs) | verdict |\n\
        |---|--:|---|\n| `setup/register/tls/direct` | 1.0 | failed |\n| `none` | – | ok |\n\nAfter.\n\n\
        ![A chart](charts/one.svg)\n\n## Second\n\n- a\n";

    #[test]
    fn sections_are_told_apart_and_their_charts_named() {
        let mut prose = Prose::of(REPORT, &["tcp", "tls"]);
        let (_, first) = prose.take("First").expect("it is there");
        assert_eq!(first.images, ["one.svg"]);
        assert!(prose.take("First").is_none());
        let rest = prose.rest();
        assert_eq!(rest[0].0, "Second");
        assert!(rest[0].1.html.0.contains("<li>a</li>"));
    }

    #[test]
    fn tables_have_captions_classes_and_badges_and_html_of_others_is_text() {
        let mut prose = Prose::of(REPORT, &["tcp", "tls"]);
        let (_, first) = prose.take("First").expect("it is there");
        for part in [
            "<caption>Of <strong>each</strong> &lt;b&gt;one&lt;/b&gt;, 5 &lt; 6</caption>",
            r#"<tr class="s1"><th scope="row"><code>setup/register/tls/direct</code></th>"#,
            r#"<td class="number">1.0</td><td><span class="verdict failed">failed</span></td>"#,
            "<tr><th scope=\"row\"><code>none</code></th>",
            "<p>After.</p>",
        ] {
            assert!(first.html.0.contains(part), "{part}: {}", first.html.0);
        }
    }

    #[test]
    fn pieces_of_sentences_have_no_paragraph() {
        assert_eq!(
            inline("**TLS** against `tcp`: <i>").0.trim(),
            "<strong>TLS</strong> against <code>tcp</code>: &lt;i&gt;"
        );
    }
}
