//! The excerpt of a report that stands in another document, such as a README: what each stack costs, the
//! ratios, and the charts by a path from that document. A renderer.

use std::fmt::Write;

use hopbench::record::Run;

use super::summary::Summary;
use super::units::{MISSING, Scale};
use super::{CHART_FOLDER, markdown, svg};

/// Charts that an excerpt shows, in this order, if the run has them.
const CHARTS: [&str; 3] = ["setup.svg", "memory.svg", "cpu.svg"];

/// `folder` is the run's, as the document names it.
pub(super) fn render(run: &Run, folder: &str) -> String {
    let summary = Summary::of(run);
    let folder = folder.trim_end_matches('/');
    let mut out = String::new();
    headlines(&mut out, &summary);
    markdown::price_table(&mut out, &summary);
    for name in CHARTS {
        if let Some(chart) = svg::charts(run)
            .into_iter()
            .find(|chart| chart.file_name == name)
        {
            let _ = writeln!(out, "![{}]({folder}/{CHART_FOLDER}/{name})\n", chart.title);
        }
    }
    let _ = writeln!(
        out,
        "Medians, and ratios with their 95 % interval; heap and CPU are the server's. Run [`{}`]({folder}/report.md), profile `{}`, \
         {} on {}.",
        run.run_id,
        run.profile,
        run.environment
            .cpu_model
            .as_deref()
            .unwrap_or("an unnamed processor"),
        run.environment.os
    );
    out
}

/// One row a stack, one column a question.
fn headlines(out: &mut String, summary: &Summary<'_>) {
    let scales: Vec<Option<Scale>> = summary
        .blocks
        .iter()
        .map(|block| {
            let figures = || {
                block
                    .rows
                    .iter()
                    .filter_map(|row| block.headline(row.stack))
            };
            let (unit, _) = figures().next()?;
            Some(Scale::fitting(unit, figures().map(|(_, value)| value)))
        })
        .collect();
    let headings = summary
        .blocks
        .iter()
        .zip(&scales)
        .map(|(block, scale)| match scale {
            Some(scale) => format!("{} ({})", block.headline_name, scale.symbol),
            None => block.headline_name.clone(),
        });
    let _ = writeln!(
        out,
        "| stack | {} |",
        headings.collect::<Vec<_>>().join(" | ")
    );
    let _ = writeln!(out, "|---|{}", "--:|".repeat(summary.blocks.len()));
    let mut stacks: Vec<&str> = Vec::new();
    for row in summary.blocks.iter().flat_map(|block| &block.rows) {
        if !stacks.contains(&row.stack) {
            stacks.push(row.stack);
        }
    }
    for stack in stacks {
        let figures = summary.blocks.iter().zip(&scales).map(|(block, scale)| {
            let figure = scale.as_ref().zip(block.headline(stack));
            figure.map_or(MISSING.to_owned(), |(scale, (_, value))| {
                scale.number(value)
            })
        });
        let _ = writeln!(
            out,
            "| `{stack}` | {} |",
            figures.collect::<Vec<_>>().join(" | ")
        );
    }
    out.push('\n');
}
