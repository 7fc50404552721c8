//! The report as Markdown: the answer in sentences, tables, charts by relative path, what failed, where
//! and how it was measured, and what the figures do not say. A renderer.

use std::fmt::Write;

use hopbench::record::{Run, Unit};

use super::question::Question;
use super::summary::{Block, Summary, verdict_word};
use super::units::{self, MISSING, Scale, quantity};
use super::{
    CHART_FOLDER, answer, breakdown, caveats, fits, handshakes, hops, instructions, left_out, link,
    narrow, notices, parts, provenance, rates, scale, stages, stand_in, svg, tunnels, variants,
    versus,
};

/// The whole report.
pub(super) fn render(run: &Run) -> String {
    let summary = Summary::of(run);
    let mut out = String::new();
    let _ = writeln!(out, "# What it costs to secure a SIP hop\n");
    let finished = if run.finished_at.is_some() {
        ""
    } else {
        " The run did not finish: cells may be missing."
    };
    let _ = writeln!(
        out,
        "Run `{}`, profile `{}`, started {}.{finished}\n",
        run.run_id, run.profile, run.started_at
    );
    for notice in notices::of(run) {
        let _ = writeln!(out, "**{notice}**\n");
    }
    // How generators compare, and what is counted, is no price of security.
    if ![
        versus::is_asked,
        instructions::is_asked,
        breakdown::is_asked,
    ]
    .iter()
    .any(|is_asked| is_asked(run))
    {
        answers(&mut out, &summary);
    }
    let charts = svg::charts(run);
    for question in Question::ALL {
        section(&mut out, &summary, question, &charts);
        if question == Question::Memory {
            stages::tables(&mut out, &summary);
            parts::tables(&mut out, &summary);
            fits::section(&mut out, run);
        }
        if question == Question::Link {
            link::section(&mut out, run);
        }
        if question == Question::Rate {
            narrow::section(&mut out, &summary);
        }
        if question == Question::Scale {
            scale::section(&mut out, run, &summary);
        }
        rates::section(&mut out, run, question);
        hops::tables(&mut out, run, question);
    }
    prices(&mut out, &summary);
    variants::tables(&mut out, run, &summary);
    handshakes::section(&mut out, run);
    tunnels::section(&mut out, run, &summary);
    stand_in::section(&mut out, run, &summary);
    breakdown::section(&mut out, run, &charts);
    versus::section(&mut out, run);
    instructions::section(&mut out, run);
    left_out::exclusions(&mut out, run);
    left_out::failures(&mut out, run);
    provenance::environment(&mut out, run);
    provenance::method(&mut out, run);
    caveats::section(&mut out, run);
    out
}

/// One sentence for each price, made of those of its parts that were measured.
fn answers(out: &mut String, summary: &Summary<'_>) {
    let _ = writeln!(out, "## The answer\n");
    if summary.prices.is_empty() {
        let _ = writeln!(
            out,
            "The run holds no ratio between a stack and its control, so it gives no answer.\n"
        );
        return;
    }
    for price in answer::asked(summary) {
        let _ = writeln!(out, "- {}", answer::sentence(summary, price));
    }
    let _ = writeln!(
        out,
        "\nRatios are formed block by block; their 95 % interval over blocks is in brackets.\n"
    );
}

fn section(out: &mut String, summary: &Summary<'_>, question: Question, charts: &[svg::Chart<'_>]) {
    let blocks = summary
        .blocks
        .iter()
        .filter(|block| block.question == question);
    let shown = charts
        .iter()
        .filter(|chart| chart.question == question && !breakdown::is_chart(&chart.file_name));
    for (index, block) in blocks.enumerate() {
        if index == 0 {
            let name = match question {
                Question::Setup => "Set-up latency",
                Question::Memory => "Memory per connection",
                Question::Throughput => "Throughput",
                Question::Chain => "Proxies in a row",
                Question::Link => "Round trips and losses",
                Question::Rate => "Narrow hops",
                Question::Scale => "Scale",
                Question::Search => "Highest rates with zero failures",
                Question::Knee => "Knee",
            };
            let _ = writeln!(out, "## {name}\n");
        }
        table(out, block);
        match question {
            Question::Setup
            | Question::Memory
            | Question::Throughput
            | Question::Link
            | Question::Rate
            | Question::Search
            | Question::Knee => {}
            Question::Chain => chain_answer(out, block),
            Question::Scale => {
                let _ = writeln!(out, "{}\n", scale::SERVED_METHOD);
            }
        }
    }
    for chart in shown {
        let _ = writeln!(
            out,
            "![{}]({CHART_FOLDER}/{})\n",
            chart.title, chart.file_name
        );
    }
}

/// What a further hop costs over each stack, in a sentence.
fn chain_answer(out: &mut String, block: &Block<'_>) {
    let clause = |stack: &str| {
        let figure = |key| block.metric(stack, key, None)?.value;
        let delay = figure("session_request_delay_per_hop_ns")?;
        let cpu = figure("server_cpu_per_hop_ns")?;
        Some(format!(
            "over `{stack}` {} until the callee answers and {} of CPU time",
            quantity(Unit::Ns, delay),
            quantity(Unit::Ns, cpu)
        ))
    };
    let clauses: Vec<String> = block
        .rows
        .iter()
        .filter_map(|row| clause(row.stack))
        .collect();
    if !clauses.is_empty() {
        let _ = writeln!(
            out,
            "Each further hop adds to a call: {}.\n",
            clauses.join("; ")
        );
    }
}

/// Rows are stacks and their variants.
pub(super) fn table(out: &mut String, block: &Block<'_>) {
    let note = block
        .note
        .as_ref()
        .map(|note| format!("; {note}"))
        .unwrap_or_default();
    let _ = writeln!(out, "{}{note}\n", block.title);
    let scales: Vec<Scale> = block
        .columns
        .iter()
        .map(|column| block.scale(column))
        .collect();
    let headings = block
        .columns
        .iter()
        .zip(&scales)
        .map(|(column, scale)| match scale.symbol {
            "" => column.heading.to_owned(),
            symbol => format!("{} ({symbol})", column.heading),
        });
    let _ = writeln!(
        out,
        "| {} | {} | verdict |",
        block.question.row_heading(),
        headings.collect::<Vec<_>>().join(" | ")
    );
    let _ = writeln!(out, "|---|{}---|", "--:|".repeat(block.columns.len()));
    for row in block.all_rows() {
        let figures = row.figures.iter().zip(&scales);
        let figures = figures
            .map(|(figure, scale)| figure.map_or(MISSING.to_owned(), |value| scale.number(value)));
        let _ = writeln!(
            out,
            "| `{}` | {} | {} |",
            row.name(),
            figures.collect::<Vec<_>>().join(" | "),
            verdict_word(row.verdict)
        );
    }
    out.push('\n');
}

fn prices(out: &mut String, summary: &Summary<'_>) {
    if summary.prices.is_empty() {
        return;
    }
    let _ = writeln!(out, "## Prices\n");
    price_table(out, summary);
}

/// One row a stack and its control, one column a question.
pub(super) fn price_table(out: &mut String, summary: &Summary<'_>) {
    let places = 0..summary.blocks.len();
    let priced: Vec<usize> = places.filter(|place| summary.is_priced(*place)).collect();
    let headings: Vec<&str> = priced
        .iter()
        .map(|place| summary.blocks[*place].headline_name.as_str())
        .collect();
    let _ = writeln!(out, "| | stack ÷ control | {} |", headings.join(" | "));
    let _ = writeln!(out, "|---|---|{}", "--:|".repeat(headings.len()));
    for price in &summary.prices {
        let ratios = priced.iter().map(|place| price.ratios[*place]);
        let ratios = ratios.map(|ratio| ratio.map_or(MISSING.to_owned(), units::ratio));
        let kind = price.kind.name();
        let _ = writeln!(
            out,
            "| {kind} | `{}` ÷ `{}` | {} |",
            price.stack,
            price.control,
            ratios.collect::<Vec<_>>().join(" | ")
        );
    }
    out.push('\n');
}

/// Text of others, safe inside a table's cell.
pub(super) fn escaped(text: &str) -> String {
    text.replace('\\', "\\\\")
        .replace('|', "\\|")
        .replace('<', "&lt;")
        .replace(['\r', '\n'], " ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::fixture;

    #[test]
    fn what_is_not_in_the_run_is_not_in_the_answer() {
        let mut run = fixture::run();
        run.ratios.retain(|ratio| {
            ratio.metric == "server_heap_bytes_per_connection" && ratio.cell_id.contains("/tls/")
        });
        let text = render(&run);
        let sentences: Vec<&str> = text
            .lines()
            .filter(|line| line.starts_with("- **"))
            .collect();
        assert_eq!(
            sentences,
            [
                "- **TLS** against plain TCP (protection): 3.12× [2.93, 3.33] the server's heap per connection (15.8 KiB against 5.08 KiB)."
            ]
        );
    }

    #[test]
    fn text_of_others_cannot_break_a_table() {
        assert_eq!(escaped("a|b\n<c>"), "a\\|b &lt;c>");
    }
}
