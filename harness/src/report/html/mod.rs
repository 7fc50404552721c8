//! The report as one HTML file, which opens from disk and needs nothing else. A renderer.
//!
//! Its text and its tables are those of [`super::markdown`], its figures those of [`super::svg`], so that
//! no two reports of a run can differ; here they become a page that answers back. One file a section;
//! what the Markdown says beyond the sections that are known here follows as it stands.
//!
//! ```text
//! mod                                  the page: what comes in which order
//! answer setup latency throughput
//! memory cpu wire chain link narrow
//! scale knee                           sections
//! bars  plot  ridges                   charts: of HTML alone; drawn by the script; distributions
//! figures  prose                       tables of figures; Markdown as HTML
//! ```

mod answer;
mod bars;
mod chain;
mod cpu;
mod figures;
mod knee;
mod latency;
mod link;
mod memory;
mod narrow;
mod plot;
mod prose;
mod ridges;
mod scale;
mod setup;
mod throughput;
mod wire;

use std::collections::BTreeMap;

use hopbench::record::{Ratio, Run, Verdict};
use maud::{Markup, html};

use self::prose::Prose;
use super::question::Question;
use super::summary::{Block, Summary, stack_rank, verdict_word};
use super::svg::{self, Chart, Drawing};
use super::units::MISSING;
use super::{markdown, notices, page, palette};

/// What sections are made of.
struct Report<'a> {
    run: &'a Run,
    summary: Summary<'a>,
    /// In the order of rows.
    stacks: Vec<&'a str>,
    charts: Vec<Chart<'a>>,
    /// By cell and metric.
    ratios: BTreeMap<(&'a str, &'a str), Vec<&'a Ratio>>,
}

/// A part of the page.
struct Section {
    id: String,
    title: String,
    body: Markup,
}

/// Headings of the Markdown that come last, in the order of the report.
const LAST: [&str; 5] = [
    "Cells that are in no ratio",
    "What failed in cells that are ok",
    "Where it was measured",
    "How it was measured",
    "What the figures do not say",
];

/// The whole file; the same for the same run.
pub(super) fn render(run: &Run) -> String {
    let report = Report::of(run);
    let mut prose = Prose::of(&markdown::render(run), &report.stacks);
    let known = [
        answer::section(&report, &mut prose),
        setup::section(&report, &mut prose),
        latency::section(&report),
        throughput::section(&report, &mut prose),
        memory::section(&report, &mut prose),
        cpu::section(&report),
        wire::section(&report),
        chain::section(&report, &mut prose),
        link::section(&report, &mut prose),
        narrow::section(&report, &mut prose),
        scale::section(&report, &mut prose),
        knee::section(&report, &mut prose),
    ];
    let last = LAST.map(|heading| prose.take(heading));
    let further = prose.rest();
    let further = further.into_iter().chain(last.into_iter().flatten());
    let mut sections: Vec<Section> = known.into_iter().flatten().collect();
    sections.extend(further.map(|(heading, text)| {
        let body = html! { (text.html) (report.charts_of(&text.images)) };
        Section::new(&heading, body)
    }));
    let title = "What it costs to secure a SIP hop";
    let body = html! {
        (header(title, &report, &sections))
        main id="main" {
            @for section in &sections {
                section aria-labelledby=(section.id) {
                    h2 id=(section.id) { (section.title) }
                    (section.body)
                }
            }
        }
        footer {
            p {
                "Rendered from " code { "run.json" } " of run " code { (run.run_id) } " by "
                code { "hopbench report --format html" } ": the same run gives the same bytes."
            }
        }
    };
    page::document(&format!("{title} · {}", run.run_id), &report.stacks, &body)
}

fn header(title: &str, report: &Report<'_>, sections: &[Section]) -> Markup {
    let run = report.run;
    html! {
        header {
            h1 { (title) }
            @for notice in notices::of(run) { p class="notice" role="note" { (notice) } }
            p class="meta" {
                "Run " code { (run.run_id) } ", profile " b { (run.profile) } ", started "
                time datetime=(run.started_at) { (run.started_at) }
                @if run.finished_at.is_none() { " – it did not finish: cells may be missing" }
            }
            p class="meta" {
                (run.environment.cpu_model.as_deref().unwrap_or(MISSING)) ", "
                (run.environment.cpu_count) " usable processors; hopbench " (run.build.version)
                @if let Some(commit) = &run.build.git_commit {
                    ", commit " code { (commit.get(..12).unwrap_or(commit)) }
                }
            }
            p class="meta" { (verdicts(run)) }
            nav aria-label="Sections" {
                ul {
                    @for section in sections {
                        li { a href=(format!("#{}", section.id)) { (section.title) } }
                    }
                }
            }
        }
        (page::switch(&report.stacks))
    }
}

/// How many cells there are of each verdict.
fn verdicts(run: &Run) -> Markup {
    let count = |verdict| {
        run.cells
            .iter()
            .filter(|cell| cell.verdict == verdict)
            .count()
    };
    let doubtful = [
        Verdict::GeneratorBound,
        Verdict::Failed,
        Verdict::Unsupported,
    ];
    html! {
        (run.cells.len()) " cells: " (count(Verdict::Ok)) " ok"
        @for verdict in doubtful.into_iter().filter(|verdict| count(*verdict) > 0) {
            ", " (count(verdict)) " " (badge(verdict))
        }
    }
}

/// The word that says why not to trust a figure; nothing for one that is ok.
fn badge(verdict: Verdict) -> Markup {
    let word = verdict_word(verdict);
    match verdict {
        Verdict::Ok => html! {},
        Verdict::Failed => html! { span class="verdict failed" { (word) } },
        Verdict::GeneratorBound | Verdict::Unsupported => html! { span class="verdict" { (word) } },
    }
}

impl Section {
    fn new(title: &str, body: Markup) -> Self {
        let letters = title.to_lowercase();
        let id = letters.replace(|letter: char| !letter.is_ascii_alphanumeric(), "-");
        Self {
            id,
            title: title.to_owned(),
            body,
        }
    }
}

impl<'a> Report<'a> {
    fn of(run: &'a Run) -> Self {
        let mut stacks: Vec<&str> = Vec::new();
        for cell in &run.cells {
            if !stacks.contains(&cell.stack.as_str()) {
                stacks.push(&cell.stack);
            }
        }
        stacks.sort_by_key(|stack| (stack_rank(stack), *stack));
        let mut ratios: BTreeMap<(&str, &str), Vec<&Ratio>> = BTreeMap::new();
        for ratio in &run.ratios {
            let key = (ratio.cell_id.as_str(), ratio.metric.as_str());
            ratios.entry(key).or_default().push(ratio);
        }
        Self {
            run,
            summary: Summary::of(run),
            stacks,
            charts: svg::charts(run),
            ratios,
        }
    }

    fn blocks(&self, question: Question) -> Vec<&Block<'a>> {
        let blocks = self.summary.blocks.iter();
        blocks.filter(|block| block.question == question).collect()
    }

    /// The class of what is shown of `stack`; empty for one that has no cell.
    fn class(&self, stack: &str) -> String {
        let place = self.stacks.iter().position(|known| *known == stack);
        place.map(palette::class).unwrap_or_default()
    }

    /// The charts whose names are among `names`.
    fn charts_of(&self, names: &[String]) -> Markup {
        let charts = self.charts.iter();
        let named = charts.filter(|chart| names.contains(&chart.file_name));
        html! { @for chart in named { (self.chart(chart, &html! {})) } }
    }

    /// The charts whose names begin with `prefix`, each with a table of its figures.
    fn charts_from(&self, prefix: &str, table: &Markup) -> Markup {
        let charts = self.charts.iter();
        let named = charts.filter(|chart| chart.file_name.starts_with(prefix));
        html! { @for chart in named { (self.chart(chart, table)) } }
    }

    /// A chart in the way that suits a page, with `table` below it.
    fn chart(&self, chart: &Chart<'_>, table: &Markup) -> Markup {
        match &chart.drawing {
            Drawing::Bars(drawn) => bars::figure(self, drawn, table),
            Drawing::Lines(drawn) => plot::lines(self, drawn, &chart.svg, table),
            Drawing::Percentiles(drawn) => plot::percentiles(self, drawn, &chart.svg, table),
            Drawing::Sweep(drawn) => plot::sweep(self, drawn, &chart.svg, table),
            Drawing::Still => plot::still(&chart.title, &chart.svg, table),
        }
    }
}

/// A chart under its title, and below it what it was drawn from.
fn figure(title: &str, subtitle: &str, chart: &Markup, table: &Markup) -> Markup {
    html! {
        figure {
            figcaption {
                h3 { (title) }
                @if !subtitle.is_empty() { p { (subtitle) } }
            }
            (chart)
            (table)
        }
    }
}

/// What only some readers want to see.
fn folded(summary: &str, content: &Markup) -> Markup {
    html! { details { summary { (summary) } (content) } }
}

#[cfg(test)]
mod tests;
