//! Reports: what a reader is shown of a [`Run`]. The top layer of the harness's results.
//!
//! A renderer is a pure function from [`Run`] to text, one file each; what several of them need is
//! derived once in [`summary`]. Nothing here measures, judges or keeps a figure of its own: a number
//! that is printed is in `run.json`, or is read from a histogram that is.
//!
//! ```text
//! html                                the page: the text of markdown, the figures of svg
//! table  markdown  excerpt  json  svg     renderers (markdown and excerpt name charts)
//! answer  page                        what prices say in words; what pages share
//! summary                             rows and prices
//! question  palette                   columns and headlines; colours of stacks
//! distribution  units                 quantiles of a stored histogram; figures as text
//! ```

mod answer;
mod breakdown;
mod caveats;
mod distribution;
mod excerpt;
mod fits;
#[cfg(test)]
pub(crate) mod fixture;
mod handshakes;
mod hops;
mod html;
mod instructions;
mod json;
mod left_out;
mod link;
mod markdown;
mod narrow;
mod notices;
pub(crate) mod page;
mod palette;
mod parts;
mod provenance;
mod question;
mod rates;
mod rfc7502;
mod scale;
mod stages;
mod stand_in;
mod summary;
mod svg;
mod table;
mod tunnels;
mod units;
mod variants;
mod versus;

use std::fs;
use std::io;
use std::path::Path;

use hopbench::record::Run;

pub(crate) use palette::class as stack_class;
pub(crate) use summary::{stack_rank, verdict_word};
pub(crate) use units::{Scale, quantity, significant};

/// Folder of the charts, beside `report.md`, which links into it.
const CHART_FOLDER: &str = "charts";

/// The report as a page, beside `report.md`. Not committed with reference runs, which `run.json` renders to it.
pub(crate) const PAGE: &str = "report.html";

/// What [`render`] can write.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Format {
    /// The answer, tables, charts by relative path, environment and caveats.
    Markdown,
    /// The same as one page that opens from disk, with charts that can be asked for values.
    Html,
    /// The run itself, indented.
    Json,
    /// For a terminal of 100 columns.
    Table,
    /// The report form of RFC 7502 §5, for each stack whose rates were searched.
    Rfc7502,
}

/// Renders `run`. `colour` allows ANSI colours, which only [`Format::Table`] uses.
pub(crate) fn render(run: &Run, format: Format, colour: bool) -> String {
    match format {
        Format::Markdown => markdown::render(run),
        Format::Html => html::render(run),
        Format::Json => json::render(run),
        Format::Table => table::render(run, colour),
        Format::Rfc7502 => rfc7502::render(run),
    }
}

/// The comparison of generators, for a terminal.
pub(crate) fn versus(run: &Run) -> String {
    let mut out = String::new();
    versus::section(&mut out, run);
    out
}

/// Where processor time goes, for a terminal.
pub(crate) fn breakdown(run: &Run) -> String {
    let mut out = String::new();
    breakdown::section(&mut out, run, &[]);
    out
}

/// The table of counted instructions, for a terminal.
pub(crate) fn instructions(run: &Run) -> String {
    let mut out = String::new();
    instructions::section(&mut out, run);
    out
}

/// The excerpt that other documents show; `folder` is the run's, as such a document names it.
pub(crate) fn excerpt(run: &Run, folder: &str) -> String {
    excerpt::render(run, folder)
}

/// Writes `report.md`, its charts and `report.html` into `folder`, where `run.json` lies.
///
/// # Errors
/// When the folder or a file in it cannot be written; the error names the path.
pub(crate) fn write_all(run: &Run, folder: &Path) -> io::Result<()> {
    let charts = folder.join(CHART_FOLDER);
    at(&charts, fs::create_dir_all(&charts))?;
    for chart in svg::charts(run) {
        let path = charts.join(chart.file_name);
        at(&path, fs::write(&path, chart.svg))?;
    }
    let report = folder.join("report.md");
    at(&report, fs::write(&report, markdown::render(run)))?;
    let page = folder.join(PAGE);
    at(&page, fs::write(&page, html::render(run)))
}

fn at(path: &Path, result: io::Result<()>) -> io::Result<()> {
    result.map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", path.display())))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Compares with `tests/snapshots/<name>`; `HOPBENCH_BLESS=1` rewrites it instead.
    fn assert_snapshot(name: &str, actual: &str) {
        let path = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("tests/snapshots")
            .join(name);
        if std::env::var_os("HOPBENCH_BLESS").is_some() {
            fs::write(&path, actual).expect("the snapshot is writable");
        }
        let expected = fs::read_to_string(&path).expect("the snapshot is readable");
        assert_eq!(
            actual, expected,
            "{name} changed; HOPBENCH_BLESS=1 accepts the change"
        );
    }

    #[test]
    fn renders_as_in_the_snapshots() {
        let run = fixture::run();
        assert_snapshot("table.txt", &render(&run, Format::Table, false));
        assert_snapshot("report.md", &render(&run, Format::Markdown, false));
        assert_snapshot("rfc7502.txt", &render(&run, Format::Rfc7502, false));
        assert_snapshot("excerpt.md", &excerpt(&run, "results/reference/quick/"));
    }

    #[test]
    fn every_renderer_takes_a_run_without_cells() {
        let mut run = fixture::run();
        run.cells.clear();
        run.ratios.clear();
        for format in [
            Format::Markdown,
            Format::Html,
            Format::Json,
            Format::Table,
            Format::Rfc7502,
        ] {
            assert!(!render(&run, format, true).is_empty(), "{format:?}");
        }
        assert!(svg::charts(&run).is_empty());
    }

    #[test]
    fn json_is_the_run() {
        let run = fixture::run();
        let read: Run = serde_json::from_str(&render(&run, Format::Json, false)).expect("JSON");
        assert_eq!(read, run);
    }

    #[test]
    fn report_links_only_to_charts_that_were_written() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        write_all(&fixture::run(), folder.path()).expect("a writable folder");
        let text = fs::read_to_string(folder.path().join("report.md")).expect("report.md");
        let links: Vec<&str> = text
            .split("](")
            .skip(1)
            .filter_map(|rest| rest.split(')').next())
            .collect();
        assert_eq!(links.len(), 14, "{links:?}");
        for link in links {
            assert!(folder.path().join(link).is_file(), "{link}");
        }
    }
}
