//! A chart of the site: what the script draws, the changes in words, and the values in a table.

use std::collections::BTreeMap;

use hopbench::record::{Direction, Unit, metric};
use maud::{Markup, html};
use serde::Serialize;

use super::{Machine, anchor, arrow, commit, percent, title_of};
use crate::history::change::SERIES_POINTS;
use crate::history::entry::Entry;
use crate::history::series::{Line, LineChange};
use crate::report::{Scale, page, significant, stack_class, stack_rank};

/// What the script is told of a chart.
#[derive(Serialize)]
struct Plot<'a> {
    title: &'a str,
    unit: &'a str,
    /// By run, its name on the axis and in words.
    commits: &'a [String],
    runs: &'a [String],
    series: Vec<Series>,
    changes: Vec<Mark>,
}

#[derive(Serialize)]
struct Series {
    class: String,
    name: String,
    /// The second and further controls of a stack.
    dashed: bool,
    values: Vec<Option<f64>>,
    low: Vec<Option<f64>>,
    high: Vec<Option<f64>>,
}

#[derive(Serialize)]
struct Mark {
    /// Place of the first run of the new level.
    run: usize,
    series: usize,
    worse: bool,
    up: bool,
}

/// The lines of each metric, in the order in which the metrics are known.
pub(super) fn charts<'a>(lines: &[&'a Line], is_ratio: bool) -> Vec<Vec<&'a Line>> {
    let place = |key: &str| {
        metric::KNOWN
            .iter()
            .position(|known| known.key == key)
            .unwrap_or(usize::MAX)
    };
    let mut by_metric: BTreeMap<(usize, &str), Vec<&'a Line>> = BTreeMap::new();
    for line in lines
        .iter()
        .copied()
        .filter(|line| line.key.is_ratio == is_ratio)
    {
        let key = line.key.metric.as_str();
        by_metric.entry((place(key), key)).or_default().push(line);
    }
    let mut charts: Vec<Vec<&Line>> = by_metric.into_values().collect();
    for lines in &mut charts {
        lines.sort_by_key(|line| (stack_rank(stack_in(&line.key.stack)), &line.key.stack));
    }
    charts
}

/// One of them.
pub(super) fn chart(
    entries: &[Entry],
    machine: &Machine<'_>,
    lines: &[&Line],
    stacks: &[&str],
) -> Markup {
    let first = lines[0];
    let title = title_of(&first.key.metric, first.key.is_ratio);
    let scale = scale(
        &first.unit,
        lines
            .iter()
            .flat_map(|line| line.points.iter().map(|point| point.estimate.0)),
    );
    let runs = machine.runs_of(entries);
    let commits: Vec<String> = runs.iter().map(|entry| entry.commit.short()).collect();
    let names: Vec<String> = runs.iter().map(|entry| run_name(entry)).collect();
    let place: BTreeMap<usize, usize> = machine
        .runs
        .iter()
        .enumerate()
        .map(|(place, run)| (*run, place))
        .collect();
    let plot = Plot {
        title: &title,
        unit: &scale.symbol,
        commits: &commits,
        runs: &names,
        series: series(lines, &place, &scale, stacks),
        changes: marks(lines, &place),
    };
    let better = match first.direction {
        Direction::Lower => "less is better",
        Direction::Higher => "more is better",
    };
    let short = lines.iter().all(|line| line.points.len() < SERIES_POINTS);
    html! {
        figure id=(anchor(first)) {
            figcaption {
                h3 { (title) }
                p {
                    code { (first.key.metric) } @if first.key.is_ratio { " ÷ control" }
                    @if !scale.symbol.is_empty() { ", in " (scale.symbol) }
                    "; " (better) ". The axis need not begin at zero."
                    @if short { " Changes are told from " (SERIES_POINTS) " runs on." }
                }
            }
            div class="plot" data-history="" { (page::data(&plot)) }
            ul class="keys" { @for line in lines { @for change in &line.changes { li { (change_words(entries, line, change)) } } } }
            details { summary { "Values" } (table(lines, &runs, &machine.runs, &scale)) }
        }
    }
}

fn change_words(entries: &[Entry], line: &Line, change: &LineChange) -> String {
    let first = &entries[line.points[change.at].run];
    let verdict = if change.is_worse { "worse" } else { "better" };
    format!(
        "{} {} {} since {} ({verdict})",
        line.key.stack,
        arrow(change),
        percent(change),
        first.commit.short()
    )
}

fn run_name(entry: &Entry) -> String {
    let subject = entry.commit.subject.as_deref().unwrap_or_default();
    let name = format!("{} {} {subject}", entry.commit.short(), entry.place().0);
    name.trim_end().to_owned()
}

fn series(
    lines: &[&Line],
    place: &BTreeMap<usize, usize>,
    scale: &Figures,
    stacks: &[&str],
) -> Vec<Series> {
    let mut seen: Vec<&str> = Vec::new();
    let mut series = Vec::new();
    for line in lines {
        let stack = stack_in(&line.key.stack);
        let missing = || vec![None; place.len()];
        let (mut values, mut low, mut high) = (missing(), missing(), missing());
        for point in &line.points {
            let Some(at) = place.get(&point.run) else {
                continue;
            };
            values[*at] = Some(scale.drawn(point.estimate.0));
            if let Some((from, to)) = point.estimate.interval() {
                (low[*at], high[*at]) = (Some(scale.drawn(from)), Some(scale.drawn(to)));
            }
        }
        let class = stacks.iter().position(|known| *known == stack).unwrap_or(0);
        series.push(Series {
            class: stack_class(class),
            name: line_name(line),
            dashed: seen.contains(&stack),
            values,
            low,
            high,
        });
        seen.push(stack);
    }
    series
}

fn marks(lines: &[&Line], place: &BTreeMap<usize, usize>) -> Vec<Mark> {
    let of_line = |(series, line): (usize, &&Line)| {
        let mark = |change: &LineChange| {
            Some(Mark {
                run: *place.get(&line.points[change.at].run)?,
                series,
                worse: change.is_worse,
                up: change.change.after > change.change.before,
            })
        };
        line.changes.iter().filter_map(mark).collect::<Vec<_>>()
    };
    lines.iter().enumerate().flat_map(of_line).collect()
}

fn table(lines: &[&Line], runs: &[&Entry], places: &[usize], scale: &Figures) -> Markup {
    let cell = |line: &Line, run: usize| {
        let point = line.points.iter().find(|point| point.run == run);
        point.map_or("–".to_owned(), |point| {
            let value = scale.number(point.estimate.0);
            match point.estimate.interval() {
                Some((low, high)) => {
                    format!("{value} [{}, {}]", scale.number(low), scale.number(high))
                }
                None => value,
            }
        })
    };
    html! {
        div class="scroll" tabindex="0" role="region" aria-label="Values by run" {
            table {
                thead { tr {
                    th scope="col" { "commit" } th scope="col" { "at" }
                    @for line in lines { th scope="col" { (line_name(line)) } }
                } }
                tbody { @for (entry, run) in runs.iter().zip(places).rev() { tr {
                    th scope="row" { (commit(entry)) } td { (entry.place().0) }
                    @for line in lines { td class="number" { (cell(line, *run)) } }
                } } }
            }
        }
    }
}

/// What was imported has no stacks.
fn line_name(line: &Line) -> String {
    if line.key.stack.is_empty() {
        line.key.metric.clone()
    } else {
        line.key.stack.clone()
    }
}

/// The stack itself of a ratio's `stack ÷ control`.
pub(super) fn stack_in(name: &str) -> &str {
    name.split_once(" ÷ ").map_or(name, |(stack, _)| stack)
}

/// One unit for a chart.
pub(super) struct Figures {
    symbol: String,
    scale: Option<Scale>,
}

/// Of a unit of ours, the prefix that suits the values; what was imported keeps its own.
pub(super) fn scale(unit: &str, values: impl Iterator<Item = f64>) -> Figures {
    let known: Result<Unit, _> = serde_json::from_value(serde_json::Value::String(unit.to_owned()));
    let scale = known.ok().map(|unit| Scale::fitting(unit, values));
    Figures {
        symbol: scale.map_or(unit, |scale| scale.symbol).to_owned(),
        scale,
    }
}

impl Figures {
    pub(super) fn number(&self, value: f64) -> String {
        self.scale
            .map_or_else(|| significant(value), |scale| scale.number(value))
    }

    pub(super) fn quantity(&self, value: f64) -> String {
        match self.scale {
            Some(scale) => scale.quantity(value),
            None => format!("{} {}", significant(value), self.symbol),
        }
    }

    /// As it is drawn: six digits are more than a screen has.
    fn drawn(&self, value: f64) -> f64 {
        let value = self.scale.map_or(value, |scale| scale.convert(value));
        format!("{value:.5e}").parse().unwrap_or(value)
    }
}
