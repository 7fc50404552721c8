//! The comparison for a terminal, at most 100 columns wide for the stacks that hopbench names: a block
//! for each question, then the prices. A renderer.

use std::fmt::Write;

use hopbench::record::{Run, Verdict};

use crate::environment::COMMIT_DIGITS;

use super::notices;
use super::question::Question;
use super::summary::{Block, Price, Summary, verdict_word};
use super::units::{self, MISSING};

/// Characters of a line.
const WIDTH: usize = 100;
/// A name is not cut to less than this.
const NAME_LEAST: usize = 20;
/// Columns of ratios that fit beside the names of the headlines.
const PRICES_PER_LINE: usize = 3;

/// The tables of `run`; with ANSI colours when `colour`.
pub(super) fn render(run: &Run, colour: bool) -> String {
    let summary = Summary::of(run);
    let paint = Paint { colour };
    let mut out = String::new();
    let build = run
        .build
        .git_commit
        .as_deref()
        .map_or(String::new(), |commit| {
            commit.chars().take(COMMIT_DIGITS).collect()
        });
    let head = format!(
        "run {} · {} · {} {build}",
        run.run_id, run.profile, run.build.version
    );
    line(&mut out, &paint.bold(head.trim_end()));
    for notice in notices::of(run) {
        line(&mut out, &paint.bold(&notice));
    }
    if summary.blocks.is_empty() && summary.crowds.is_empty() {
        line(&mut out, "no cell was measured");
    }
    for block in summary.blocks.iter().chain(&summary.crowds) {
        out.push('\n');
        line(&mut out, &paint.bold(&block.title));
        if let Some(note) = &block.note {
            line(&mut out, &paint.dim(note));
        }
        grid(&mut out, &block_grid(block), paint);
    }
    for of_kind in summary.prices.chunk_by(|a, b| a.kind == b.kind) {
        let title = paint.bold(&format!("Price of {}", of_kind[0].kind.name()));
        let prices: Vec<&Price<'_>> = of_kind.iter().collect();
        for shown in prices.chunks(PRICES_PER_LINE) {
            out.push('\n');
            line(&mut out, &format!("{title}, ratio [95 % interval]"));
            grid(&mut out, &price_grid(&summary, shown), paint);
        }
    }
    out
}

/// A table as text: each cell with the style that it is printed in.
struct Grid {
    heading: Vec<Vec<String>>,
    rows: Vec<Vec<(String, Style)>>,
}

#[derive(Clone, Copy)]
enum Style {
    Plain,
    Dim,
    Warning,
    Alarm,
}

fn block_grid(block: &Block<'_>) -> Grid {
    let names = match block.question {
        // That rows are stacks is plain; that a number is one of users is not.
        Question::Setup
        | Question::Memory
        | Question::Throughput
        | Question::Chain
        | Question::Link
        | Question::Search
        | Question::Knee => "",
        Question::Rate | Question::Scale => block.question.row_heading(),
    };
    let mut heading = vec![vec![names.to_owned()]];
    let mut rows: Vec<Vec<(String, Style)>> = block
        .all_rows()
        .map(|row| vec![(row.name(), Style::Plain)])
        .collect();
    for (index, column) in block.columns.iter().enumerate() {
        let figures = || block.all_rows().map(|row| row.figures[index]);
        let scale = block.scale(column);
        let mut lines: Vec<String> = column.heading.split(", ").map(str::to_owned).collect();
        lines.push(scale.symbol.to_owned());
        heading.push(lines);
        for (row, figure) in rows.iter_mut().zip(figures()) {
            row.push(figure.map_or((MISSING.to_owned(), Style::Dim), |value| {
                (scale.number(value), Style::Plain)
            }));
        }
    }
    if block.all_rows().any(|row| row.verdict != Verdict::Ok) {
        heading.push(vec!["verdict".to_owned(), String::new()]);
        for (row, source) in rows.iter_mut().zip(block.all_rows()) {
            row.push((
                verdict_word(source.verdict).to_owned(),
                style_of(source.verdict),
            ));
        }
    }
    Grid { heading, rows }
}

fn style_of(verdict: Verdict) -> Style {
    match verdict {
        Verdict::Ok => Style::Dim,
        Verdict::GeneratorBound | Verdict::Unsupported => Style::Warning,
        Verdict::Failed => Style::Alarm,
    }
}

/// A table of the ratios of one kind: a row for each headline, a column for each pair of stacks.
fn price_grid(summary: &Summary<'_>, prices: &[&Price<'_>]) -> Grid {
    let mut heading = vec![vec![String::new()]];
    heading.extend(
        prices
            .iter()
            .map(|p| vec![p.stack.to_owned(), format!("÷ {}", p.control)]),
    );
    let row = |(index, block): (usize, &Block<'_>)| {
        let ratios = prices.iter().map(|price| match price.ratios[index] {
            Some(ratio) => (units::ratio(ratio), Style::Plain),
            None => (MISSING.to_owned(), Style::Dim),
        });
        std::iter::once((block.headline_name.clone(), Style::Plain))
            .chain(ratios)
            .collect()
    };
    let blocks = summary.blocks.iter().enumerate();
    let priced = blocks.filter(|(index, _)| summary.is_priced(*index));
    Grid {
        heading,
        rows: priced.map(row).collect(),
    }
}

/// Prints with the first column to the left and the others to the right.
fn grid(out: &mut String, grid: &Grid, paint: Paint) {
    let columns = grid.heading.len();
    let width_of = |index: usize| {
        let heading = grid.heading[index].iter().map(|text| width(text));
        heading
            .chain(grid.rows.iter().map(|row| width(&row[index].0)))
            .max()
            .unwrap_or(0)
    };
    let mut widths: Vec<usize> = (0..columns).map(width_of).collect();
    let of_figures: usize = widths[1..].iter().map(|width| width + 2).sum();
    let name_most = WIDTH.saturating_sub(of_figures + 2).max(NAME_LEAST);
    let names: Vec<Vec<String>> = grid
        .rows
        .iter()
        .map(|row| cut(&row[0].0, name_most))
        .collect();
    if let Some(longest) = names.iter().flatten().map(|line| width(line)).max() {
        let heading = grid.heading[0].iter().map(|text| width(text)).max();
        widths[0] = longest.max(heading.unwrap_or(0));
    }
    let height = grid.heading.iter().map(Vec::len).max().unwrap_or(0);
    for level in 0..height {
        // Short headings stand at the bottom, next to their figures.
        let text_at = |lines: &Vec<String>| {
            (level + lines.len())
                .checked_sub(height)
                .map_or(String::new(), |i| lines[i].clone())
        };
        let cells = grid
            .heading
            .iter()
            .map(|lines| (text_at(lines), Style::Dim));
        line(out, &aligned(cells, &widths, paint));
    }
    for (row, name) in grid.rows.iter().zip(names) {
        let (style, figures) = (row[0].1, &row[1..]);
        // Figures stand beside the end of their name, as headings stand above them.
        for (place, text) in name.iter().enumerate() {
            let first = std::iter::once((text.clone(), style));
            let beside = if place + 1 == name.len() {
                figures
            } else {
                &[]
            };
            let cells = first.chain(beside.iter().cloned());
            line(out, &aligned(cells, &widths, paint));
        }
    }
}

/// A name in lines of at most `most` characters: cut between its parts, or else before a value or what
/// stands in parentheses.
fn cut(name: &str, most: usize) -> Vec<String> {
    let mut lines = Vec::new();
    let mut line = String::new();
    let parts = name.split_inclusive(", ").flat_map(|part| {
        if width(part.trim_end()) + 2 <= most {
            vec![part]
        } else if let Some(end) = part.find('(') {
            vec![&part[..end], &part[end..]]
        } else {
            part.split_inclusive('=').collect()
        }
    });
    for part in parts {
        if !line.trim().is_empty() && width(&line) + width(part.trim_end()) > most {
            lines.push(line.trim_end().to_owned());
            line = "  ".to_owned();
        }
        line.push_str(part);
    }
    lines.push(line);
    lines
}

fn aligned(cells: impl Iterator<Item = (String, Style)>, widths: &[usize], paint: Paint) -> String {
    let mut text = String::new();
    for (index, ((cell, style), full)) in cells.zip(widths).enumerate() {
        let space = " ".repeat(full - width(&cell));
        let cell = paint.styled(&cell, style);
        let _ = match index {
            0 => write!(text, "  {cell}{space}"),
            _ => write!(text, "  {space}{cell}"),
        };
    }
    text
}

fn width(text: &str) -> usize {
    text.chars().count()
}

fn line(out: &mut String, text: &str) {
    out.push_str(text.trim_end());
    out.push('\n');
}

/// ANSI escapes, or none.
#[derive(Clone, Copy)]
struct Paint {
    colour: bool,
}

impl Paint {
    fn bold(self, text: &str) -> String {
        self.escaped("1", text)
    }

    fn dim(self, text: &str) -> String {
        self.escaped("2", text)
    }

    fn styled(self, text: &str, style: Style) -> String {
        match style {
            Style::Plain => text.to_owned(),
            Style::Dim => self.dim(text),
            Style::Warning => self.escaped("33", text),
            Style::Alarm => self.escaped("31", text),
        }
    }

    fn escaped(self, code: &str, text: &str) -> String {
        if self.colour && !text.is_empty() {
            format!("\u{1b}[{code}m{text}\u{1b}[0m")
        } else {
            text.to_owned()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::fixture;

    #[test]
    fn fits_into_a_hundred_columns() {
        for line in render(&fixture::run(), false).lines() {
            assert!(width(line) <= 100, "{} columns: {line}", width(line));
        }
    }

    #[test]
    fn a_long_name_is_cut_between_its_parts() {
        let name = "tls, crypto_provider=aws-lc-rs, key_exchange_group=X25519MLKEM768";
        assert_eq!(cut(name, 80), [name]);
        assert_eq!(
            cut(name, 40),
            [
                "tls, crypto_provider=aws-lc-rs,",
                "  key_exchange_group=X25519MLKEM768"
            ]
        );
        assert_eq!(
            cut(name, 25),
            [
                "tls, crypto_provider=",
                "  aws-lc-rs,",
                "  key_exchange_group=",
                "  X25519MLKEM768"
            ]
        );
        assert_eq!(cut("CPU/call (per-call)", 15), ["CPU/call", "  (per-call)"]);
        assert_eq!(cut("tcp", 1), ["tcp"]);
    }

    #[test]
    fn colour_only_adds_escapes() {
        let run = fixture::run();
        let plain = render(&run, false);
        let coloured = render(&run, true);
        assert!(!plain.contains('\u{1b}') && coloured.contains("\u{1b}[31mfailed\u{1b}[0m"));
        let mut stripped = String::new();
        for (index, piece) in coloured.split("\u{1b}[").enumerate() {
            let text = if index == 0 {
                piece
            } else {
                piece.split_once('m').expect("an escape ends").1
            };
            stripped.push_str(text);
        }
        // Painted empty tails are the one difference: trailing spaces are cut before the reset.
        let trimmed: Vec<&str> = stripped.lines().map(str::trim_end).collect();
        assert_eq!(trimmed, plain.lines().collect::<Vec<_>>());
    }
}
