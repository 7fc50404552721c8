//! The report as Markdown: the answer in sentences, tables, charts by relative path, what failed, where
//! and how it was measured, and what the figures do not say. A renderer.

use std::fmt::Write;

use hopbench::record::{Cell, Environment, Run, Unit, Verdict};

use super::question::Question;
use super::summary::{Block, Summary, verdict_word};
use super::units::{self, MISSING, Scale, quantity};
use super::{
    CHART_FOLDER, answer, breakdown, fits, handshakes, hops, instructions, link, narrow, notices,
    parts, rates, scale, stages, stand_in, svg, tunnels, variants, versus,
};

/// What a caveat is about. It is printed when the run has such a cell.
enum Concern {
    Loopback,
    /// How the stack's name ends.
    Stack(&'static str),
    /// A stream within a tunnel, by whose TCP it is.
    InnerIp(&'static str),
    /// TLS within a tunnel.
    TunnelledTls,
    Workload(&'static str),
    Experiment(&'static str),
    /// Calls from user to user.
    Callees,
}

/// What the reader must know beside the figures.
const CAVEATS: [(Concern, &str); 19] = [
    (
        Concern::Loopback,
        "The path is loopback: there is no round-trip time, so what a handshake's extra round trips cost on a real link does not show in any latency here.",
    ),
    (
        Concern::Stack("udp"),
        "Over datagrams a SIP server keeps each answered request for 32 s (Timer J of RFC 3261), since it may come again. Memory read right after a registration holds its two transactions; after 32 s they are gone.",
    ),
    (
        Concern::Stack("@wireguard"),
        "The tunnel runs in user space. It is neither the kernel's WireGuard nor IPsec, and its figures predict neither.",
    ),
    (
        Concern::Stack("@wireguard"),
        "boringtun computes X25519 with another implementation than the TLS stacks' provider, so a part of the difference between their handshakes lies in the libraries, not in the protocols.",
    ),
    (
        Concern::Stack("@wireguard"),
        "Each user's tunnel is made when it comes: both ends then multiply their static keys, which a configured WireGuard has done before. At the client that is a part of the set-up but not of the tunnel's handshake, at the server, the first time that the user comes, a part of both.",
    ),
    (
        Concern::Stack("@wireguard"),
        "boringtun does not pad payloads to a multiple of 16 bytes, as the protocol asks; hopbench does it around the crate where a cell's parameter `padding`, or `tunnel_padding`, says so.",
    ),
    (
        Concern::Stack("@wireguard"),
        "A WireGuard server takes any number of handshakes unless a cell's parameter `handshakes_per_second_limit` says otherwise: the kernel's would ask for cookies under a load of handshakes.",
    ),
    (
        Concern::InnerIp("kernel"),
        "IP within a tunnel is the kernel's (`inner_ip`): each packet passes a TUN device between it and the tunnel, one at a time, and the kernel once more as a datagram, as in deployed VPNs that run in user space. All users of a worker share one device towards a node; sockets inside count among the kernel's memory.",
    ),
    (
        Concern::InnerIp("user"),
        "TCP within a tunnel is smoltcp in user space, with buffers of its own (`tcp_buffer_bytes`), without congestion control, and with acknowledgements delayed by up to 40 ms; TCP without a tunnel is the kernel's. Their difference is a part of the price of tunnelling, not of protection.",
    ),
    (
        Concern::TunnelledTls,
        "TLS within a tunnel is protected twice. Its ratio to `tcp@clear` is the price of both protections, its ratio to `tls` that of the tunnel only.",
    ),
    (
        Concern::Stack("@strongswan"),
        "IPsec is strongSwan's in user space (`kernel-libipsec`), with an inner MTU of 1,400 bytes, and one association for all users. Its figures do not predict the kernel's ESP.",
    ),
    (
        Concern::Stack("@strongswan-kernel"),
        "IPsec is strongSwan's for IKEv2 and the kernel's for ESP (`xfrm`), as it is, without UDP, and one association for all users. The kernel decrypts where a packet arrives, which over a veth pair is in the time of who sent it: trust the sum of both sides' CPU time, not its parts.",
    ),
    (
        Concern::Stack("@wireguard-kernel"),
        "WireGuard is the kernel's, one tunnel for all users. Its threads do the work in no process's time, so CPU time an operation is not told.",
    ),
    (
        Concern::Stack("@clear"),
        "`@clear` moves packets through the same plumbing as a tunnel, without cryptography: its ratio to the bare carrier is the price of tunnelling, and what a tunnel costs over it is the price of protection.",
    ),
    (
        Concern::Callees,
        "Where users call each other by `edge` or `trapezoid`, the client's CPU time is that of callers and callees together; answering takes a part of the server's elsewhere.",
    ),
    (
        Concern::Experiment("chain"),
        "All nodes of a chain share one processor, as far as they are pinned: the delay that a further hop adds includes waiting for it, so hold the CPU time of a hop, not its delay, against other machines.",
    ),
    (
        Concern::Experiment("scale"),
        "A crowd and its node share one machine: users are sockets of a few processes, and the workers of the node share the processors that its cell's parameter `node_cpus` names.",
    ),
    (
        Concern::Workload("avalanche"),
        "In an avalanche each user first waits for 50 to 100 % of the back-off's base, so most of an outage is that wait; the stack is in what the rows differ by.",
    ),
    (
        Concern::Workload("mixed"),
        "How often which operation comes in a mixture is an assumption, not a measurement of users; the weights are among the cell's parameters.",
    ),
];

impl Concern {
    fn is_about(&self, cell: &Cell) -> bool {
        match self {
            Self::Loopback => cell.path == "loopback",
            Self::Stack(ending) => cell.stack.ends_with(ending),
            Self::InnerIp(whose) => {
                // Earlier runs do not tell: it was always in user space.
                let is_kernels = cell.parameters.get("inner_ip") == Some(&"kernel".into());
                let mut ours = ["@clear", "@wireguard"].iter();
                let is_tunnel = ours.any(|tunnel| cell.stack.ends_with(tunnel));
                let is_stream = !cell.stack.starts_with("udp");
                is_tunnel && is_stream && is_kernels == (*whose == "kernel")
            }
            Self::TunnelledTls => cell.stack.contains("tls@"),
            Self::Workload(workload) => cell.workload == *workload,
            Self::Experiment(experiment) => cell.experiment == *experiment,
            Self::Callees => ["edge", "trapezoid"].contains(&cell.topology.as_str()),
        }
    }
}

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
    exclusions(&mut out, run);
    failures(&mut out, run);
    environment(&mut out, run);
    method(&mut out, run);
    caveats(&mut out, run);
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
    let headings: Vec<String> = summary
        .blocks
        .iter()
        .map(|block| block.headline_name.clone())
        .collect();
    let _ = writeln!(out, "| | stack ÷ control | {} |", headings.join(" | "));
    let _ = writeln!(out, "|---|---|{}", "--:|".repeat(headings.len()));
    for price in &summary.prices {
        let ratios = price
            .ratios
            .iter()
            .map(|ratio| ratio.map_or(MISSING.to_owned(), units::ratio));
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

/// Cells whose figures do not mean what they say, with the reason.
fn exclusions(out: &mut String, run: &Run) {
    let mut excluded = run
        .cells
        .iter()
        .filter(|cell| cell.verdict != Verdict::Ok)
        .peekable();
    if excluded.peek().is_none() {
        return;
    }
    let _ = writeln!(
        out,
        "## Cells that are in no ratio\n\n| cell | verdict | reason |\n|---|---|---|"
    );
    for cell in excluded {
        let reason = cell.reason.as_deref().unwrap_or(MISSING);
        let _ = writeln!(
            out,
            "| `{}` | {} | {} |",
            cell.id,
            verdict_word(cell.verdict),
            escaped(reason)
        );
    }
    out.push('\n');
}

/// What failed in cells that are ok all the same: too little to spoil a cell's figures, but not nothing.
fn failures(out: &mut String, run: &Run) {
    const COUNTS: [(&str, &str); 3] = [
        ("failed operations", "failed_count"),
        ("lost hops", "lost_hops_count"),
        (
            "datagrams dropped by the server's socket",
            "server_socket_drops_count",
        ),
    ];
    let value = |cell: &Cell, key: &str| cell.metrics.get(key)?.value;
    // Earlier runs have the median of the blocks here, with an interval: it hides what is rare.
    let counted = |cell: &&Cell| {
        let failed = cell.metrics.get("failed_count");
        cell.verdict == Verdict::Ok
            && failed.is_some_and(|failed| failed.value.is_some() && failed.ci95_low.is_none())
    };
    let counted: Vec<&Cell> = run.cells.iter().filter(counted).collect();
    if counted.is_empty() {
        return;
    }
    let _ = writeln!(out, "## What failed in cells that are ok\n");
    let has_failed = |cell: &&&Cell| {
        COUNTS
            .iter()
            .any(|(_, key)| value(cell, key).is_some_and(|n| n > 0.0))
    };
    let failed: Vec<&&Cell> = counted.iter().filter(has_failed).collect();
    if failed.is_empty() {
        let _ = writeln!(
            out,
            "Nothing: in {} cells with load no operation failed, no hop was lost, and no server's \
             socket dropped a datagram.\n",
            counted.len()
        );
        return;
    }
    let headings = COUNTS.map(|(heading, _)| heading);
    let _ = writeln!(
        out,
        "In all blocks together; the other cells with load have none of it.\n\n| cell | {} |\n|---|{}",
        headings.join(" | "),
        "--:|".repeat(COUNTS.len())
    );
    for cell in failed {
        let counts = COUNTS.map(|(_, key)| {
            value(cell, key).map_or(MISSING.to_owned(), |count| format!("{count:.0}"))
        });
        let _ = writeln!(out, "| `{}` | {} |", cell.id, counts.join(" | "));
    }
    out.push('\n');
}

fn environment(out: &mut String, run: &Run) {
    let _ = writeln!(out, "## Where it was measured\n\n| | |\n|---|---|");
    let Environment {
        os,
        kernel,
        cpu_model,
        cpu_count,
        memory_bytes,
        hypervisor,
        tcp_congestion_control,
        file_descriptor_limit,
        load_average_at_start,
    } = &run.environment;
    let build = &run.build;
    let dirty = match build.git_dirty {
        Some(true) => ", with uncommitted changes",
        Some(false) => "",
        None => ", unknown whether with uncommitted changes",
    };
    let libraries: Vec<String> = build
        .libraries
        .iter()
        .map(|(name, version)| format!("{name} {version}"))
        .collect();
    let text = |value: &Option<String>| value.as_deref().map_or(MISSING.to_owned(), escaped);
    let rows = [
        (
            "hopbench",
            format!(
                "{}, commit {}{dirty}",
                build.version,
                text(&build.git_commit)
            ),
        ),
        ("compiler", escaped(&build.rustc)),
        ("libraries", escaped(&libraries.join(", "))),
        ("system", format!("{os} {}", text(kernel))),
        (
            "processor",
            format!("{}, {cpu_count} usable", text(cpu_model)),
        ),
        (
            "memory",
            memory_bytes.map_or(MISSING.to_owned(), |bytes| {
                quantity(Unit::Bytes, bytes as f64)
            }),
        ),
        ("hypervisor", text(hypervisor)),
        ("TCP congestion control", text(tcp_congestion_control)),
        (
            "open files at most",
            file_descriptor_limit.map_or(MISSING.to_owned(), |limit| limit.to_string()),
        ),
        (
            "load average at the start",
            load_average_at_start.map_or(MISSING.to_owned(), |load| format!("{load:.2}")),
        ),
    ];
    for (name, value) in rows {
        let _ = writeln!(out, "| {name} | {value} |");
    }
    out.push('\n');
}

fn method(out: &mut String, run: &Run) {
    let _ = writeln!(out, "## How it was measured\n");
    let blocks = run.cells.iter().map(|cell| cell.repetitions);
    if let (Some(fewest), Some(most)) = (blocks.clone().min(), blocks.max()) {
        let count = match (fewest, most) {
            (1, 1) => "one block".to_owned(),
            _ if fewest == most => format!("{most} blocks"),
            _ => format!("{fewest} to {most} blocks"),
        };
        let _ = writeln!(
            out,
            "- Each cell was measured in {count}; the blocks of the cells that are compared were interleaved at random. A ratio is formed block by block, and its 95 % interval is over blocks. Ratios survive a change of the machine's speed, absolute figures do not."
        );
        let takes_turns = |cell: &Cell| cell.parameters.contains_key("turns");
        if run.cells.iter().any(takes_turns) {
            let _ = writeln!(
                out,
                "- Within a block, cells at a steady rate took turns: their processes stood side by side, and each was loaded for a moment, again and again."
            );
        }
    }
    let _ = write!(
        out,
        "- Arrivals follow a seeded open-loop schedule. Latency counts from the intended start, so a stalled server cannot hide its stall.\n\
         - Server and generator are processes of their own. Heap and resident memory are slopes over the number of connections. CPU is user and system time per completed operation.\n\
         - `{MISSING}` is a figure that the stack does not have or that could not be measured; it is never zero.\n\
         - Seed {}, scenario SHA-256 `{}`. All figures, with their histograms, are in `run.json`.\n\n",
        run.seed, run.scenario_sha256,
    );
}

fn caveats(out: &mut String, run: &Run) {
    let _ = writeln!(out, "## What the figures do not say\n");
    for (concerned, caveat) in CAVEATS {
        if run.cells.iter().any(|cell| concerned.is_about(cell)) {
            let _ = writeln!(out, "- {caveat}");
        }
    }
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
    fn wireguard_is_never_called_ipsec_and_caveats_follow_the_stacks() {
        let mut run = fixture::run();
        assert!(render(&run).contains("boringtun does not pad payloads"));
        for line in render(&run).lines().filter(|line| line.contains("IPsec")) {
            assert!(line.contains("neither"), "{line}");
        }
        run.cells.retain(|cell| !cell.stack.contains('@'));
        assert!(!render(&run).contains("boringtun does not pad payloads"));
    }

    #[test]
    fn each_excluded_cell_has_its_reason() {
        let run = fixture::run();
        let text = render(&run);
        for cell in run.cells.iter().filter(|cell| cell.verdict != Verdict::Ok) {
            let reason = cell.reason.as_deref().expect("only ok has no reason");
            assert!(text.contains(&format!(
                "| `{}` | {} | {reason} |",
                cell.id,
                verdict_word(cell.verdict)
            )));
        }
    }

    #[test]
    fn failures_in_cells_that_are_ok_are_told() {
        use hopbench::record::Metric;

        let mut run = fixture::run();
        let has_load =
            |cell: &&mut Cell| cell.verdict == Verdict::Ok && cell.experiment == "throughput";
        let cell = run.cells.iter_mut().find(has_load);
        let cell = cell.expect("the fixture has a load");
        let mut count = |key: &str, value| {
            cell.metrics
                .insert(key.to_owned(), Metric::of(key, Some(value)));
        };
        count("failed_count", 3.0);
        count("lost_hops_count", 0.0);
        cell.metrics.remove("server_socket_drops_count");
        let row = format!("| `{}` | 3 | 0 | – |", cell.id);
        assert!(render(&run).contains(&row), "{row}");
    }

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
