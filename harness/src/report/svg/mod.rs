//! Static charts as SVG. A renderer: which charts there are, and where their figures come from.
//!
//! The documents are legible on light and dark pages, since each brings its own sheet; the same run
//! gives the same bytes. A figure that the generator bounded is hatched or dashed and carries the word;
//! a cell that failed keeps its row and its word.
//!
//! They are drawn on `kuva`'s scene. Of the two libraries that were compared, `plotters` has whole
//! pixels only, no pattern fills and no font weights in its SVG; `kuva` has all three in six small
//! dependencies. Its ready-made plots are not used: they neither write values at bars nor mark single
//! bars, which the rules of measurement ask for.

pub(super) mod axis;
pub(super) mod bars;
mod canvas;
pub(super) mod lines;
pub(super) mod percentiles;
mod ranges;
pub(super) mod sweep;

use hopbench::record::{Run, Unit};

use self::bars::{Arrangement, Bars};
use self::lines::Lines;
use self::percentiles::{Curve, Percentiles};
use self::ranges::Ranges;
use self::sweep::Sweep;
use super::breakdown;
use super::distribution::Distribution;
use super::parts::{self, PARTS};
use super::question::{Question, operation};
use super::stages;
use super::summary::{Block, Row, Summary, tls_handshake_ns, tunnel_handshake_ns};

/// A drawn chart.
pub(super) struct Chart<'a> {
    /// Without its folder.
    pub(super) file_name: String,
    /// What it shows, in its unit; the alternative text.
    pub(super) title: String,
    pub(super) question: Question,
    /// The whole document.
    pub(super) svg: String,
    /// What was drawn, for renderers that draw in another way.
    pub(super) drawing: Drawing<'a>,
}

/// The figures of a chart.
pub(super) enum Drawing<'a> {
    Bars(Bars<'a>),
    Lines(Lines<'a>),
    Percentiles(Percentiles<'a>),
    Sweep(Sweep<'a>),
    /// Told by the document alone.
    Still,
}

const PHASES: [(&str, f64); 5] = [
    ("tunnel handshake", 0.86),
    ("connect", 1.0),
    ("TLS handshake", 0.66),
    ("first response", 0.4),
    ("registered", 0.2),
];
const STAGES: [(&str, f64); 2] = [("handshaken", 0.45), ("registered", 1.0)];
const PART_SHADES: [(&str, f64); PARTS.len()] = shades_of(&PARTS);
const BREAKDOWN_SHADES: [(&str, f64); breakdown::PARTS.len()] = shades_of(&breakdown::PARTS);

/// What the legend says of parts that have keys, too.
const fn shades_of<const N: usize>(
    parts: &[(&'static str, &'static str, f64); N],
) -> [(&'static str, f64); N] {
    let mut shades = [("", 0.0); N];
    let mut index = 0;
    while index < N {
        shades[index] = (parts[index].1, parts[index].2);
        index += 1;
    }
    shades
}

const HOLDERS: [(&str, f64); 3] = [
    ("server", 1.0),
    ("client", 0.4),
    ("kernel, sockets of both", 0.2),
];
const SIDES: [(&str, f64); 2] = [("server", 1.0), ("client", 0.4)];

/// The charts that `run` has figures for, in the order of the report.
pub(super) fn charts(run: &Run) -> Vec<Chart<'_>> {
    let summary = Summary::of(run);
    let of = |question| -> Vec<&Block<'_>> {
        summary
            .blocks
            .iter()
            .filter(|block| block.question == question)
            .collect()
    };
    let throughput = of(Question::Throughput);
    let mut charts = vec![
        bar_chart("setup", setup(run, &of(Question::Setup)), Question::Setup),
        bar_chart(
            "memory",
            memory(run, &of(Question::Memory)),
            Question::Memory,
        ),
        bar_chart(
            "memory-parts",
            memory_parts(run, &of(Question::Memory)),
            Question::Memory,
        ),
    ];
    for block in &throughput {
        let chart = latency(run, block);
        charts.push(chart.draw().map(|svg| Chart {
            file_name: block_file("latency", &throughput, block),
            title: chart.title.clone(),
            question: Question::Throughput,
            svg,
            drawing: Drawing::Percentiles(chart),
        }));
    }
    charts.push(bar_chart(
        "cpu",
        cpu(run, &throughput),
        Question::Throughput,
    ));
    let spread = spread(run, &throughput);
    charts.push(spread.draw().map(|svg| Chart {
        file_name: "throughput.svg".to_owned(),
        title: spread.title,
        question: Question::Throughput,
        svg,
        drawing: Drawing::Still,
    }));
    charts.push(line_chart("chain", lines::chain(run), Question::Chain));
    for (name, title, key) in [
        ("link-setup", "Set-up", "setup_latency_ns"),
        (
            "link-registered",
            "Time to registered",
            "hop_ready_to_registered_ns",
        ),
        (
            "link-call",
            "Session request delay",
            "session_request_delay_ns",
        ),
    ] {
        let chart = lines::round_trips(run, title, key);
        charts.push(line_chart(name, chart, Question::Link));
    }
    let narrow = of(Question::Rate);
    for block in &narrow {
        let chart = lines::narrow_hops(run, block);
        let name = block_file("rate", &narrow, block);
        charts.push(line_chart(
            name.trim_end_matches(".svg"),
            chart,
            Question::Rate,
        ));
    }
    for operation in ["call", "registration"] {
        let chart = lines::crowd(run, operation);
        charts.push(line_chart(
            &format!("scale-{operation}"),
            chart,
            Question::Scale,
        ));
    }
    let scale = of(Question::Scale);
    charts.push(bar_chart(
        "scale-memory",
        scale_memory(run, &scale),
        Question::Scale,
    ));
    let knees = of(Question::Knee);
    for block in &knees {
        let chart = sweep::sweep(run, block);
        charts.push(chart.draw().map(|svg| Chart {
            file_name: block_file("knee", &knees, block),
            title: chart.title.clone(),
            question: Question::Knee,
            svg,
            drawing: Drawing::Sweep(chart),
        }));
    }
    charts.extend(breakdowns(run));
    charts.into_iter().flatten().collect()
}

/// Of each workload, what the processor time of either side goes to.
fn breakdowns(run: &Run) -> Vec<Option<Chart<'_>>> {
    let cells = breakdown::cells(run);
    let of_workload = cells.chunk_by(|one, other| one.workload == other.workload);
    of_workload
        .map(|cells| {
            let workload = &cells[0].workload;
            let panel = |side: &str| bars::Panel {
                title: side.to_owned(),
                rows: cells.iter().map(|&cell| shares_of(cell, side)).collect(),
            };
            let bars = Bars {
                title: format!("Where the CPU time of an operation goes: {workload}"),
                subtitle: subtitle(run, "shares by sampling, of user and system time"),
                unit: Unit::Ns,
                axis: "CPU time per operation",
                arrangement: Arrangement::Stacked,
                shades: &BREAKDOWN_SHADES,
                panels: ["server", "client"].map(panel).into(),
            };
            let name = format!("{}-{workload}", breakdown::CHART);
            bar_chart(&name, bars, Question::Throughput)
        })
        .collect()
}

fn shares_of<'a>(cell: &'a hopbench::record::Cell, side: &str) -> bars::Row<'a> {
    let whole = breakdown::cpu_ns(cell, side);
    bars::Row {
        stack: &cell.stack,
        verdict: cell.verdict,
        parts: breakdown::PARTS
            .iter()
            .map(|(part, _, _)| Some(whole? * breakdown::share(cell, side, part)?))
            .collect(),
    }
}

fn bar_chart<'a>(name: &str, bars: Bars<'a>, question: Question) -> Option<Chart<'a>> {
    let svg = bars.draw()?;
    Some(Chart {
        file_name: format!("{name}.svg"),
        title: bars.title.clone(),
        question,
        svg,
        drawing: Drawing::Bars(bars),
    })
}

fn line_chart<'a>(name: &str, lines: Lines<'a>, question: Question) -> Option<Chart<'a>> {
    let svg = lines.draw()?;
    Some(Chart {
        file_name: format!("{name}.svg"),
        title: lines.title.clone(),
        question,
        svg,
        drawing: Drawing::Lines(lines),
    })
}

/// Says which run a chart is from.
fn subtitle(run: &Run, what: &str) -> String {
    format!("{what} · run {} · profile {}", run.run_id, run.profile)
}

/// What tells a block from others of its question.
fn heading(block: &Block<'_>) -> String {
    let mut heading = format!("{} · {}", block.workload, block.lifecycle);
    if !block.qualifier.is_empty() {
        heading = format!("{heading} · {}", block.qualifier);
    }
    heading
}

/// A panel for each block, titled only when there are several.
fn panels<'a>(
    blocks: &[&Block<'a>],
    parts: impl Fn(&Block<'a>, &Row<'a>) -> Vec<Option<f64>>,
) -> Vec<bars::Panel<'a>> {
    let panel = |block: &&Block<'a>| bars::Panel {
        title: if blocks.len() > 1 {
            heading(block)
        } else {
            String::new()
        },
        rows: block
            .rows
            .iter()
            .map(|row| bars::Row {
                stack: row.stack,
                verdict: row.verdict,
                parts: parts(block, row),
            })
            .collect(),
    };
    blocks.iter().map(panel).collect()
}

fn value(block: &Block<'_>, row: &Row<'_>, key: &str, stage: Option<&str>) -> Option<f64> {
    block.metric(row.stack, key, stage)?.value
}

fn setup<'a>(run: &Run, blocks: &[&Block<'a>]) -> Bars<'a> {
    Bars {
        title: "Time until the user is registered, by phase".to_owned(),
        subtitle: subtitle(
            run,
            "medians; the last phase is what the others leave of the whole",
        ),
        unit: Unit::Ns,
        axis: "median time from the intended start",
        arrangement: Arrangement::Stacked,
        shades: &PHASES,
        panels: panels(blocks, |block, row| {
            let phase = |key| value(block, row, key, None);
            let mut parts = vec![
                row.cell(None).and_then(tunnel_handshake_ns),
                phase("transport_connect_ns"),
                row.cell(None).and_then(tls_handshake_ns),
                phase("first_response_ns"),
            ];
            let before: f64 = parts.iter().flatten().sum();
            // Medians do not add up: the last phase closes the gap, so that the bar is as long as
            // the figure that the table shows.
            parts.push(phase("hop_ready_to_registered_ns").map(|whole| (whole - before).max(0.0)));
            parts
        }),
    }
}

fn memory<'a>(run: &Run, blocks: &[&Block<'a>]) -> Bars<'a> {
    Bars {
        title: "Server heap per connection".to_owned(),
        subtitle: subtitle(run, "slope of live heap over the number of connections"),
        unit: Unit::Bytes,
        axis: "heap per connection",
        arrangement: Arrangement::Grouped,
        shades: &STAGES,
        panels: panels(blocks, |block, row| {
            STAGES
                .map(|(stage, _)| {
                    value(block, row, "server_heap_bytes_per_connection", Some(stage))
                })
                .to_vec()
        }),
    }
}

/// A panel for each stage.
fn memory_parts<'a>(run: &Run, blocks: &[&Block<'a>]) -> Bars<'a> {
    let row = |row: &Row<'a>, stage| bars::Row {
        stack: row.stack,
        verdict: row.verdict,
        parts: PARTS
            .iter()
            // What is next to nothing may be a little less than that.
            .map(|(part, _, _)| Some(parts::bytes(row, "server", part, stage)?.max(0.0)))
            .collect(),
    };
    let panel = |block: &&Block<'a>, (stage, name): (&'static str, &str)| {
        let title = match blocks.len() {
            1 => name.to_owned(),
            _ => format!("{} · {name}", heading(block)),
        };
        let rows: Vec<bars::Row<'a>> = block.rows.iter().map(|it| row(it, stage)).collect();
        let is_measured = rows.iter().any(|row| row.parts.iter().any(Option::is_some));
        is_measured.then_some(bars::Panel { title, rows })
    };
    let of_block = |block| {
        stages::STAGES
            .into_iter()
            .filter_map(move |it| panel(block, it))
    };
    Bars {
        title: "Server heap per connection, by what it is for".to_owned(),
        subtitle: subtitle(run, "slopes of live heap by tagged allocations"),
        unit: Unit::Bytes,
        axis: "heap per connection",
        arrangement: Arrangement::Stacked,
        shades: &PART_SHADES,
        panels: blocks.iter().flat_map(of_block).collect(),
    }
}

fn cpu<'a>(run: &Run, blocks: &[&Block<'a>]) -> Bars<'a> {
    Bars {
        title: "CPU time per operation".to_owned(),
        subtitle: subtitle(run, "user and system time of both sides"),
        unit: Unit::Ns,
        axis: "CPU time per operation",
        arrangement: Arrangement::Stacked,
        shades: &SIDES,
        panels: panels(blocks, |block, row| {
            ["server_cpu_ns_per_operation", "client_cpu_ns_per_operation"]
                .map(|key| value(block, row, key, None))
                .to_vec()
        }),
    }
}

/// Of each stack the largest crowd.
fn scale_memory<'a>(run: &Run, blocks: &[&Block<'a>]) -> Bars<'a> {
    let most = blocks
        .iter()
        .flat_map(|block| &block.rows)
        .filter_map(Row::users)
        .max();
    Bars {
        title: most.map_or_else(
            || "Memory per connected user".to_owned(),
            |most| format!("Memory per connected user, {most} at the most"),
        ),
        subtitle: subtitle(
            run,
            "both sides and the kernel, beyond what is there without users",
        ),
        unit: Unit::Bytes,
        axis: "resident memory per user",
        arrangement: Arrangement::Stacked,
        shades: &HOLDERS,
        panels: panels(blocks, |block, row| {
            [
                "server_rss_bytes_per_connection",
                "client_rss_bytes_per_connection",
                "kernel_bytes_per_connection",
            ]
            .map(|key| value(block, row, key, None))
            .to_vec()
        }),
    }
}

/// `latency-invite.svg`; with the lifecycle when a workload has several.
pub(super) fn block_file(name: &str, blocks: &[&Block<'_>], block: &Block<'_>) -> String {
    let alike = blocks
        .iter()
        .filter(|other| other.workload == block.workload)
        .count();
    if alike == 1 {
        return format!("{name}-{}.svg", block.workload);
    }
    let mut name = format!("{name}-{}-{}", block.workload, block.lifecycle);
    if !block.qualifier.is_empty() {
        let is_plain = |letter: char| letter.is_ascii_alphanumeric();
        name.push('-');
        name.extend(
            block
                .qualifier
                .chars()
                .map(|letter| if is_plain(letter) { letter } else { '-' }),
        );
    }
    format!("{name}.svg")
}

fn latency<'a>(run: &Run, block: &Block<'a>) -> Percentiles<'a> {
    let (key, what) = match block.workload {
        "invite" => ("session_request_delay_ns", "Session request delay of calls"),
        "mixed" => (
            "session_request_delay_ns",
            "Session request delay of calls in a mixture",
        ),
        "avalanche" => ("outage_ns", "Outage of users whose hops dropped"),
        _ => (
            "hop_ready_to_registered_ns",
            "Time until the user is registered",
        ),
    };
    let distribution = |stack: &str, key: &str| {
        let histogram = block.metric(stack, key, None)?.histogram.as_ref();
        histogram.and_then(Distribution::read)
    };
    let uncorrected = key.replace("_ns", "_uncorrected_ns");
    let curve = |row: &Row<'a>| Curve {
        stack: row.stack,
        verdict: row.verdict,
        distribution: distribution(row.stack, key),
        uncorrected: distribution(row.stack, &uncorrected),
    };
    Percentiles {
        title: match block.qualifier.as_str() {
            "" => format!("{what}, by percentile ({})", block.lifecycle),
            qualifier => format!("{what}, by percentile ({}, {qualifier})", block.lifecycle),
        },
        subtitle: subtitle(
            run,
            block.note.as_deref().unwrap_or("from the intended start"),
        ),
        curves: block.rows.iter().map(curve).collect(),
    }
}

fn spread<'a>(run: &Run, blocks: &[&Block<'a>]) -> Ranges<'a> {
    let row = |block: &Block<'a>, row: &Row<'a>| {
        let histogram = block
            .metric(row.stack, "throughput_per_second", None)
            .and_then(|m| m.histogram.as_ref());
        let read = histogram.and_then(Distribution::read);
        ranges::Row {
            stack: row.stack,
            verdict: row.verdict,
            spread: read
                .map(|distribution| [0.1, 0.5, 0.9].map(|quantile| distribution.at(quantile))),
            offered: value(block, row, "offered_per_second", None),
        }
    };
    let panel = |block: &&Block<'a>| ranges::Panel {
        title: heading(block),
        axis: format!("{}s completed per second", operation(block.workload)),
        rows: block.rows.iter().map(|source| row(block, source)).collect(),
    };
    Ranges {
        title: "Throughput in windows of 100 ms".to_owned(),
        subtitle: subtitle(
            run,
            "dot: median; bar: 10th to 90th percentile; tick: offered",
        ),
        panels: blocks.iter().map(panel).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::fixture;
    use crate::report::parts::tests::run_with_parts;
    use crate::report::summary::STACK_ORDER;

    /// All text of a document, which must be well formed.
    fn texts(svg: &str) -> Vec<String> {
        let document = roxmltree::Document::parse(svg).expect("well-formed XML");
        assert_eq!(document.root_element().tag_name().name(), "svg");
        let texts = document
            .descendants()
            .filter(|node| node.has_tag_name("text"));
        texts
            .filter_map(|node| node.text().map(str::to_owned))
            .collect()
    }

    fn chart(name: &str) -> Vec<String> {
        let run = fixture::run();
        let charts = charts(&run);
        let found = charts.iter().find(|chart| chart.file_name == name);
        texts(&found.unwrap_or_else(|| panic!("{name} is drawn")).svg)
    }

    #[test]
    fn each_chart_names_its_stacks_and_its_run() {
        let run = fixture::run();
        let charts = charts(&run);
        let names: Vec<&str> = charts
            .iter()
            .map(|chart| chart.file_name.as_str())
            .collect();
        assert_eq!(
            names,
            [
                "setup.svg",
                "memory.svg",
                "latency-register.svg",
                "latency-avalanche.svg",
                "latency-invite.svg",
                "latency-mixed.svg",
                "cpu.svg",
                "throughput.svg",
                "chain.svg",
                "rate-register.svg",
                "scale-call.svg",
                "scale-registration.svg",
                "scale-memory.svg",
                "knee-invite.svg"
            ]
        );
        for chart in &charts {
            let texts = texts(&chart.svg);
            assert!(texts.contains(&chart.title), "{}", chart.file_name);
            assert!(
                texts.iter().any(|text| text.contains(&run.run_id)),
                "{}",
                chart.file_name
            );
            for stack in STACK_ORDER {
                assert!(
                    texts
                        .iter()
                        .any(|text| text.split(',').next() == Some(stack)),
                    "{stack} in {}",
                    chart.file_name
                );
            }
        }
    }

    #[test]
    fn parts_of_memory_are_stacked_stage_by_stage() {
        let run = run_with_parts();
        let charts = charts(&run);
        let chart = charts
            .iter()
            .find(|chart| chart.file_name == "memory-parts.svg");
        let texts = texts(&chart.expect("it is drawn").svg);
        for text in ["registered", "TLS session", "8.04 KiB", "1.21 KiB"] {
            assert!(texts.contains(&text.to_owned()), "{text}: {texts:?}");
        }
        assert!(!texts.contains(&"idle".to_owned()), "nobody measured it");
        let is_drawn = |run: &Run| {
            super::charts(run)
                .iter()
                .any(|chart| chart.file_name == "memory-parts.svg")
        };
        assert!(!is_drawn(&fixture::run()));
    }

    #[test]
    fn crowds_are_drawn_by_their_size_and_memory_by_who_holds_it() {
        let calls = chart("scale-call.svg");
        for text in ["1000", "10000", "100000", "connected users", "mtls, failed"] {
            assert!(calls.contains(&text.to_owned()), "{text}: {calls:?}");
        }
        // Of TLS: 17,820 bytes resident at the server, 17,010 at the client, 7,800
        // in the kernel.
        let memory = chart("scale-memory.svg");
        assert!(memory.contains(&"41.6 KiB".to_owned()), "{memory:?}");
    }

    #[test]
    fn what_fits_through_narrow_hops_is_drawn_over_their_rates_beside_what_is_predicted() {
        let run = fixture::run();
        let charts = charts(&run);
        let chart = charts
            .iter()
            .find(|chart| chart.file_name == "rate-register.svg");
        let svg = &chart.expect("it is drawn").svg;
        let texts = texts(svg);
        for text in [
            "50",
            "1000",
            "2000",
            "/s",
            "rate of the hop in each direction, kbit/s",
        ] {
            assert!(texts.contains(&text.to_owned()), "{text}: {texts:?}");
        }
        assert_eq!(svg.matches("stroke-dasharray").count(), STACK_ORDER.len());
    }

    #[test]
    fn the_same_run_gives_the_same_bytes() {
        let run = fixture::run();
        let (first, second) = (charts(&run), charts(&run));
        for (first, second) in first.iter().zip(&second) {
            assert_eq!(first.svg, second.svg, "{}", first.file_name);
        }
    }

    #[test]
    fn figures_stand_beside_their_bars_and_verdicts_in_place_of_missing_ones() {
        let setup = chart("setup.svg");
        assert!(setup.contains(&"1.12 ms".to_owned()), "{setup:?}");
        assert!(setup.contains(&"failed".to_owned()), "{setup:?}");
        assert!(chart("memory.svg").contains(&"15.8 KiB".to_owned()));
        assert!(
            chart("cpu.svg")
                .iter()
                .any(|text| text.ends_with(", generator-bound"))
        );
        assert!(chart("latency-invite.svg").contains(&"tls, generator-bound".to_owned()));
        assert!(
            chart("throughput.svg")
                .iter()
                .any(|text| text.ends_with(" generator-bound"))
        );
    }
}
