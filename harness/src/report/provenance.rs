//! Where and how a run was measured. A part of the Markdown report.

use std::fmt::Write as _;

use hopbench::record::{Cell, Environment, Run, Unit};

use super::markdown::escaped;
use super::units::{MISSING, quantity};

/// The machine, and what was built.
pub(super) fn environment(out: &mut String, run: &Run) {
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

/// Blocks, turns, arrivals, and what is counted.
pub(super) fn method(out: &mut String, run: &Run) {
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
