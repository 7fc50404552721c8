//! The table below a chart: each figure in its unit, its interval, what it is against its controls, and of
//! how many samples it is.

use hopbench::record::{Cell, Metric, Ratio, Run};
use maud::{Markup, html};

use super::{Report, badge, folded};
use crate::report::question::Question;
use crate::report::summary::{Block, Row};
use crate::report::units::{self, MISSING, Scale};

/// One row: what a metric of a cell is called.
pub(super) struct Figure<'a> {
    pub(super) row: String,
    pub(super) what: String,
    pub(super) cell: &'a Cell,
    pub(super) metric: &'a Metric,
    pub(super) key: &'a str,
}

/// The figures under `keys`, each with what the table calls it, of all rows of `blocks`.
pub(super) fn of_blocks<'a>(blocks: &[&Block<'a>], keys: &[(&'a str, &str)]) -> Vec<Figure<'a>> {
    let mut figures = Vec::new();
    for block in blocks {
        for row in block.all_rows() {
            for cell in &row.cells {
                let of_cell = keys.iter().filter_map(|(key, name)| {
                    Some(Figure {
                        row: named(row, block, blocks.len() > 1),
                        what: what(name, cell),
                        cell,
                        metric: cell.metrics.get(*key)?,
                        key,
                    })
                });
                figures.extend(of_cell.filter(|figure| figure.metric.value.is_some()));
            }
        }
    }
    figures
}

/// The figures under `keys` of the cells of `experiment`.
pub(super) fn of_cells<'a>(
    run: &'a Run,
    experiment: &str,
    keys: &[(&'a str, &str)],
) -> Vec<Figure<'a>> {
    let cells = run
        .cells
        .iter()
        .filter(|cell| cell.experiment == experiment);
    let figures = cells.flat_map(|cell| {
        keys.iter().filter_map(|(key, name)| {
            let (_, rest) = cell.id.split_once('/')?;
            Some(Figure {
                row: rest.to_owned(),
                what: (*name).to_owned(),
                cell,
                metric: cell.metrics.get(*key)?,
                key,
            })
        })
    });
    let mut figures: Vec<Figure<'_>> = figures
        .filter(|figure| figure.metric.value.is_some())
        .collect();
    figures.sort_by(|a, b| {
        let rank = |figure: &Figure<'_>| crate::report::summary::stack_rank(&figure.cell.stack);
        (rank(a), &a.row).cmp(&(rank(b), &b.row))
    });
    figures
}

fn named(row: &Row<'_>, block: &Block<'_>, is_one_of_many: bool) -> String {
    if !is_one_of_many {
        return row.name();
    }
    let mut name = format!("{} · {} · {}", row.name(), block.workload, block.lifecycle);
    if !block.qualifier.is_empty() {
        name = format!("{name} · {}", block.qualifier);
    }
    name
}

fn what(name: &str, cell: &Cell) -> String {
    let stage = cell
        .parameters
        .get("stage")
        .and_then(|stage| stage.as_str());
    match stage {
        Some(stage) if cell.experiment == Question::Memory.experiment() => {
            format!("{name}, {stage}")
        }
        Some(_) | None => name.to_owned(),
    }
}

/// The table, folded; nothing without figures.
pub(super) fn table(report: &Report<'_>, figures: &[Figure<'_>]) -> Markup {
    if figures.is_empty() {
        return html! {};
    }
    let has_tail = figures
        .iter()
        .any(|figure| figure.metric.histogram.is_some());
    let table = html! {
        div class="scroll" tabindex="0" role="group" aria-label="Figures of the chart" {
            table {
                thead {
                    tr {
                        th scope="col" { "stack" } th scope="col" { "figure" }
                        th scope="col" class="number" { "value" }
                        th scope="col" class="number" { "95 % interval" }
                        @if has_tail { th scope="col" class="number" { "p99" } }
                        th scope="col" { "against its control" }
                        th scope="col" class="number" { "samples" }
                        th scope="col" class="number" { "blocks" }
                        th scope="col" { "verdict" }
                    }
                }
                tbody { @for figure in figures { (line(report, figure, has_tail)) } }
            }
        }
    };
    folded("Figures of this chart", &table)
}

fn line(report: &Report<'_>, figure: &Figure<'_>, has_tail: bool) -> Markup {
    let Figure {
        row,
        what,
        cell,
        metric,
        key,
    } = figure;
    let scale = Scale::fitting(metric.unit, metric.value);
    let told = |value: Option<f64>| value.map_or(MISSING.to_owned(), |value| scale.quantity(value));
    let interval = match (metric.ci95_low, metric.ci95_high) {
        (Some(low), Some(high)) => format!("{} to {}", scale.number(low), scale.quantity(high)),
        _ => MISSING.to_owned(),
    };
    let ratios = report.ratios.get(&(cell.id.as_str(), *key));
    let ratios: Vec<String> = ratios
        .into_iter()
        .flatten()
        .map(|ratio| against(ratio, cell))
        .collect();
    html! {
        tr class=(report.class(&cell.stack)) {
            th scope="row" { code { (row) } }
            td { (what) }
            td class="number" { (told(metric.value)) }
            td class="number" { (interval) }
            @if has_tail {
                td class="number" { (told(metric.histogram.as_ref().map(|it| it.p99 as f64))) }
            }
            td { (if ratios.is_empty() { MISSING.to_owned() } else { ratios.join("; ") }) }
            td class="number" { (samples(metric)) }
            td class="number" { (cell.repetitions) }
            td { @if cell.verdict == hopbench::record::Verdict::Ok { "ok" } @else { (badge(cell.verdict)) } }
        }
    }
}

/// `4.10× [3.90, 4.40] tcp`; of the same stack run in another way, what is different about the control.
fn against(ratio: &Ratio, cell: &Cell) -> String {
    let control = ratio.control_cell_id.split('/').nth(2).unwrap_or_default();
    let control = if control == cell.stack {
        "as usual"
    } else {
        control
    };
    format!("{} {control}", units::ratio(ratio))
}

/// What a figure was computed from, beyond one reading a block.
fn samples(metric: &Metric) -> String {
    match (&metric.histogram, &metric.fit) {
        (Some(histogram), _) => histogram.count.to_string(),
        (None, Some(fit)) => format!("{} readings", fit.at.len() * fit.readings.len()),
        (None, None) => MISSING.to_owned(),
    }
}
