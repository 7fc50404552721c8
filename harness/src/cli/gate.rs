//! `hopbench gate`: holds thresholds against a run.

use std::path::PathBuf;

use hopbench::record::Run;

use super::report::run_file;
use super::{EXIT_GATE, EXIT_OK, usage};
use crate::gate::{self, Gate, Outcome, Runs};

/// Options of the gates.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "A gate says what must hold. It fails where that does not hold, and where a figure is missing.\n\n  \
    gate      = [each] sum (< | <= | > | >=) sum\n  \
    sum       = figures and quantities, with + - * / and parentheses\n  \
    quantity  = a number, with ns µs ms s, B kB MB GB KiB MiB GiB, /s or % where it is one of such\n  \
    figure    = [head. | base.] {word.} metric [.statistic]\n  \
    word      = stack, workload, experiment, topology, lifecycle, path, stage of memory, or key=value\n  \
    statistic = value (of a latency the median), ci95_low, ci95_high, min, mean, p50, p90, p99, p999, max\n\n\
    Words say which cell is meant, in any order; so many that only one is left. With `each`, the gate is about all \
    of them. What another figure does not name is as in the first. `base` alone is the first figure in BASE. \
    `hopbench list metrics` has the metrics.\n\n\
    Ratios between stacks of one run are the kind to prefer: the runner's speed cancels.\n\n\
    Examples:\n  \
    hopbench gate results/latest 'setup.tls.setup_latency_ns.p99 < 3 * tcp.setup_latency_ns.p99'\n  \
    hopbench gate results/latest 'idle.tls.server_heap_bytes_per_connection < 20 KiB'\n  \
    hopbench gate results/latest 'each throughput.tls.server_cpu_ns_per_operation < 4 * tcp.server_cpu_ns_per_operation'\n  \
    hopbench gate results/latest --base results/reference/quick 'each memory.server_heap_bytes_per_connection <= 1.03 * base'\n\n\
    Exit codes: 0 all hold; 1 one fails; 2 wrong usage, or a file that is no run."
)]
pub(crate) struct Args {
    /// A run's folder, or its run.json
    run: PathBuf,
    /// What must hold
    #[arg(required = true, value_name = "EXPR")]
    gates: Vec<Gate>,
    /// The run that `base` means
    #[arg(long, value_name = "RUN")]
    base: Option<PathBuf>,
}

/// Holds the gates against the run.
pub(crate) fn gate(args: &Args) -> anyhow::Result<u8> {
    let head = Run::read(&run_file(&args.run)).map_err(usage)?;
    let base = args.base.as_ref().map(|path| Run::read(&run_file(path)));
    let base = base.transpose().map_err(usage)?;
    if base.is_none() {
        without_base(&args.gates, "--base RUN says which run that is").map_err(usage)?;
    }
    let runs = Runs {
        head: &head,
        base: base.as_ref(),
    };
    let outcomes = gate::check_all(&args.gates, runs).map_err(usage)?;
    super::print(&gate::table(&outcomes));
    let holds = outcomes.iter().all(Outcome::holds);
    Ok(if holds { EXIT_OK } else { EXIT_GATE })
}

/// Checks that no gate asks for BASE where there is none.
pub(super) fn without_base(gates: &[Gate], hint: &str) -> anyhow::Result<()> {
    match gates.iter().find(|gate| gate.needs_base()) {
        Some(gate) => anyhow::bail!("the gate `{gate}` takes a figure from BASE: {hint}"),
        None => Ok(()),
    }
}
