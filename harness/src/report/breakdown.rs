//! Where the processor time of an operation goes, on either side. A part of [`super::markdown`], and by itself for a
//! terminal.

use std::fmt::Write;

use hopbench::record::{Cell, Run, Unit};

use super::summary::{stack_rank, verdict_word};
use super::units::{MISSING, quantity};
use super::{CHART_FOLDER, svg};

const EXPERIMENT: &str = "breakdown";

/// As in the keys of metrics, what tables and charts call it, and the strength of a stack's colour that stands
/// for it.
pub(super) const PARTS: [(&str, &str, f64); 7] = [
    ("cryptography", "cryptography", 1.0),
    ("transport", "transport", 0.8),
    ("sip", "SIP", 0.62),
    ("application", "application", 0.46),
    ("runtime", "runtime", 0.32),
    ("kernel", "kernel", 0.18),
    ("other", "other", 0.06),
];

/// How the names of its charts begin.
pub(super) const CHART: &str = "breakdown";

const METHOD: &str = "Shares are of samples: which function was on the processor, of the module that its name says; what \
     was inlined is of the function around it. Transport is framing, queues, tunnels and what TLS does beside \
     cryptography; cryptography also holds the hash of a digest; runtime is tasks, wake-ups, memory and copies; \
     application is what makes a load or a node of all these; other is what the table of names does not know. CPU is \
     the kernel's figure of the same cells, under the profiler. Medians over rounds.";

/// The cells, by workload, then by stack.
pub(super) fn cells(run: &Run) -> Vec<&Cell> {
    let cells = run.cells.iter();
    let mut cells: Vec<&Cell> = cells.filter(|cell| cell.experiment == EXPERIMENT).collect();
    cells.sort_by_key(|cell| (cell.workload.clone(), stack_rank(&cell.stack)));
    cells
}

/// What part of the processor time of an operation is of `part`; both null and shares of nothing are none.
pub(super) fn share(cell: &Cell, side: &str, part: &str) -> Option<f64> {
    let metric = cell.metrics.get(&format!("{side}_cpu_{part}_ratio"))?;
    metric.value
}

/// Of one side, per operation.
pub(super) fn cpu_ns(cell: &Cell, side: &str) -> Option<f64> {
    let metric = cell.metrics.get(&format!("{side}_cpu_ns_per_operation"))?;
    metric.value
}

/// Whether a chart belongs to the section.
pub(super) fn is_chart(file_name: &str) -> bool {
    file_name.starts_with(CHART)
}

/// The section, with those of `charts` that are its own; nothing in runs that did not ask.
pub(super) fn section(out: &mut String, run: &Run, charts: &[svg::Chart<'_>]) {
    let cells = cells(run);
    if cells.is_empty() {
        return;
    }
    let _ = writeln!(out, "## Where the processor time goes\n\n{METHOD}\n");
    for of_workload in cells.chunk_by(|one, other| one.workload == other.workload) {
        for side in ["server", "client"] {
            table(out, of_workload, side);
        }
    }
    for chart in charts.iter().filter(|chart| is_chart(&chart.file_name)) {
        let _ = writeln!(
            out,
            "![{}]({CHART_FOLDER}/{})\n",
            chart.title, chart.file_name
        );
    }
}

fn table(out: &mut String, cells: &[&Cell], side: &str) {
    let headings: Vec<&str> = PARTS.iter().map(|(_, heading, _)| *heading).collect();
    let _ = writeln!(
        out,
        "{} · {side}, in % of its CPU time\n\n| stack | {} | CPU/operation | verdict |\n|---|{}--:|---|",
        cells[0].workload,
        headings.join(" | "),
        "--:|".repeat(PARTS.len())
    );
    for cell in cells {
        let shares = PARTS.iter().map(|(part, _, _)| {
            share(cell, side, part)
                .map_or(MISSING.to_owned(), |share| format!("{:.1}", 100.0 * share))
        });
        let _ = writeln!(
            out,
            "| `{}` | {} | {} | {} |",
            cell.stack,
            shares.collect::<Vec<_>>().join(" | "),
            cpu_ns(cell, side).map_or(MISSING.to_owned(), |ns| quantity(Unit::Ns, ns)),
            verdict_word(cell.verdict)
        );
    }
    out.push('\n');
}

/// Whether the run tells where processor time goes.
pub(super) fn is_asked(run: &Run) -> bool {
    run.cells.iter().any(|cell| cell.experiment == EXPERIMENT)
}

#[cfg(test)]
pub(super) mod tests {
    use hopbench::record::Metric;

    use super::*;
    use crate::report::fixture;

    /// The fixture, as if its throughput had been sampled.
    pub(in crate::report) fn run_with_shares() -> Run {
        let mut run = fixture::run();
        run.cells.retain(|cell| cell.experiment == "throughput");
        for cell in &mut run.cells {
            cell.experiment = EXPERIMENT.to_owned();
            for side in ["server", "client"] {
                for (part, _, _) in PARTS {
                    let share = match part {
                        "kernel" => 0.5,
                        "sip" => 0.3,
                        "cryptography" => 0.2,
                        _ => 0.0,
                    };
                    let key = format!("{side}_cpu_{part}_ratio");
                    cell.metrics
                        .insert(key.clone(), Metric::of(&key, Some(share)));
                }
            }
        }
        run
    }

    #[test]
    fn every_side_has_a_row_a_stack() {
        let mut out = String::new();
        let run = run_with_shares();
        let charts = svg::charts(&run);
        section(&mut out, &run, &charts);
        assert!(out.contains("charts/breakdown-"), "{out}");
        assert!(
            out.contains("| `tls` | 20.0 | 0.0 | 30.0 | 0.0 | 0.0 | 50.0 | 0.0 |"),
            "{out}"
        );
        for side in ["server", "client"] {
            assert!(out.contains(&format!(" · {side}, in %")), "{out}");
        }
        out.clear();
        section(&mut out, &fixture::run(), &[]);
        assert_eq!(out, "");
    }
}
