//! `hopbench compare`: a run against another one, or two builds measured side by side, and gates that fail
//! on what has become worse.

use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use hopbench::record::Run;
use serde_json::json;

use super::names;
use super::report::run_file;
use super::run::{run_id, wants_colour};
use super::{EXIT_GATE, EXIT_INTERRUPTED, EXIT_OK, usage};
use crate::compare::{self, Comparison};
use crate::gate::{self, Gate, Outcome, Runs};
use crate::interleave::{Interleaving, Session};
use crate::interrupt;
use crate::progress::Progress;
use crate::scenario::{Scenario, profile_text};

/// Options of the comparison.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Two runs were measured at different times, so a time says as much about the machine as about the \
    code: it is compared by what its run measured beside it (the control of its stack; of the server's CPU, \
    the client's). With --interleave, BASE and HEAD are binaries of hopbench; both measure each question of \
    the profile in turn, --rounds times, and each block of HEAD is compared with the block of BASE beside it. \
    Only so are times themselves compared.\n\n\
    A change is claimed where the blocks of both runs show it (Student's t over blocks) and so few of all \
    claims are false that at most 5 % is expected (Benjamini–Hochberg). `no change shown` is no proof that \
    nothing changed: the interval says how much may have.\n\n\
    Gates say what must hold, whatever the statistics say; a figure that is missing fails them:\n  \
    --gate 'each memory.server_heap_bytes_per_connection <= 1.03 * base'\n  \
    --gate 'head.setup.tls.setup_latency_ns.p99 < 3 * tcp.setup_latency_ns.p99'\n\
    `hopbench gate --help` has their grammar.\n\n\
    Examples:\n  \
    hopbench compare results/reference/quick results/latest --fail-on worse\n  \
    hopbench compare --interleave /tmp/hopbench-main target/release/hopbench --format markdown --rounds 8\n  \
    hopbench compare --interleave /tmp/hopbench-main target/release/hopbench --experiments throughput\n\n\
    Exit codes: 0 every gate holds; 1 a gate fails, or --fail-on found something; 2 wrong usage, or a file \
    that is no run; 130 interrupted."
)]
pub(crate) struct Args {
    /// The run to compare with: its folder, or its run.json. With --interleave, a binary of hopbench
    base: PathBuf,
    /// The run that is compared. With --interleave, a binary of hopbench
    head: PathBuf,
    /// Measure two builds side by side: BASE and HEAD are binaries
    #[arg(long)]
    interleave: bool,
    /// A scenario file for --interleave; without one, the profile's
    #[arg(long, requires = "interleave", value_name = "FILE")]
    scenario: Option<PathBuf>,
    /// Built-in scenario for --interleave
    #[arg(
        long,
        requires = "interleave",
        default_value = "quick",
        conflicts_with = "scenario"
    )]
    profile: String,
    /// Only these stacks
    #[arg(
        long,
        requires = "interleave",
        value_delimiter = ',',
        value_name = "STACK,…"
    )]
    stacks: Vec<String>,
    /// Only these experiments; without it, all but `search` and `knee`
    #[arg(long, requires = "interleave", value_delimiter = ',', value_name = "EXPERIMENT,…", value_parser = names::experiments())]
    experiments: Vec<String>,
    /// How often each question is asked of each build
    #[arg(long, requires = "interleave", default_value_t = 6)]
    rounds: u32,
    /// Seed of arrivals and order
    #[arg(long, requires = "interleave", default_value_t = 1)]
    seed: u64,
    /// Folder for base/run.json and head/run.json; by default results/runs/ID
    #[arg(long, requires = "interleave", value_name = "FOLDER")]
    out: Option<PathBuf>,
    /// What must hold; may be given several times
    #[arg(long = "gate", value_name = "EXPR")]
    gates: Vec<Gate>,
    /// Fail on any metric that is worse, or on any that BASE has and HEAD lacks
    #[arg(long, value_name = "WHAT", value_parser = fail_on)]
    fail_on: Vec<FailOn>,
    /// What to print
    #[arg(long, value_enum, default_value_t = Format::Table)]
    format: Format,
}

/// How a comparison is printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Format {
    /// For a terminal of 100 columns
    Table,
    /// For a comment on a change: what has changed first, the rest folded
    Markdown,
    /// For other programs
    Json,
}

/// What ends the comparison with exit code 1, beside gates.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum FailOn {
    Worse,
    Missing,
}

fn fail_on(text: &str) -> Result<FailOn, String> {
    match text {
        "worse" => Ok(FailOn::Worse),
        "missing" => Ok(FailOn::Missing),
        _ => Err(
            "expected `worse` or `missing`; a threshold, which says what must hold, is \
                  --gate 'head.tls.server_cpu_ns_per_operation < 1.05 * base'"
                .to_owned(),
        ),
    }
}

/// Compares.
pub(crate) fn compare(args: &Args) -> anyhow::Result<u8> {
    let [base, head] = if args.interleave {
        match interleaved(args) {
            Err(_) if interrupt::is_interrupted() => return Ok(EXIT_INTERRUPTED),
            measured => measured?,
        }
    } else {
        let [base, head] = [&args.base, &args.head].map(|path| Run::read(&run_file(path)));
        [base.map_err(usage)?, head.map_err(usage)?]
    };
    let runs = Runs {
        head: &head,
        base: Some(&base),
    };
    let outcomes = gate::check_all(&args.gates, runs).map_err(usage)?;
    let comparison = Comparison::of(&base, &head);
    super::print(&render(&comparison, &outcomes, args.format));
    let failing = |what: &FailOn| match what {
        FailOn::Worse => comparison.is_worse(),
        FailOn::Missing => !comparison.missing.is_empty(),
    };
    let fails = args.fail_on.iter().any(failing) || !outcomes.iter().all(Outcome::holds);
    Ok(if fails { EXIT_GATE } else { EXIT_OK })
}

fn render(comparison: &Comparison<'_>, outcomes: &[Outcome<'_>], format: Format) -> String {
    match format {
        Format::Table => {
            let mut text = compare::text(comparison, wants_colour());
            if !outcomes.is_empty() {
                text = format!("{text}\n{}", gate::table(outcomes));
            }
            text
        }
        Format::Markdown => {
            let text = compare::markdown(comparison);
            if outcomes.is_empty() {
                return text;
            }
            // Behind the title.
            let (title, rest) = text.split_once("\n\n").unwrap_or((&text, ""));
            format!("{title}\n\n{}\n{rest}", gate::markdown(outcomes))
        }
        Format::Json => {
            let mut value = compare::json(comparison);
            value["gates"] = outcomes
                .iter()
                .map(|outcome| json!({"gate": outcome.gate.to_string(), "holds": outcome.holds()}))
                .collect();
            format!("{value:#}\n")
        }
    }
}

/// Measures two builds side by side, and keeps both runs.
fn interleaved(args: &Args) -> anyhow::Result<[Run; 2]> {
    let scenario = match &args.scenario {
        Some(path) => std::fs::read_to_string(path)
            .with_context(|| format!("cannot read the scenario {}", path.display()))
            .map_err(usage)?,
        None => profile_text(&args.profile).map_err(usage)?.to_owned(),
    };
    let scenario_sha256 = Scenario::parse(&scenario).map_err(usage)?.sha256;
    for binary in [&args.base, &args.head] {
        if !binary.is_file() {
            let error = anyhow::anyhow!("{} is no binary of hopbench", binary.display());
            return Err(usage(error));
        }
    }
    // By its whole path: a bare name would be looked for elsewhere.
    let binaries = [args.base.canonicalize()?, args.head.canonicalize()?];
    let mut arguments = Vec::new();
    if !args.stacks.is_empty() {
        arguments = vec!["--stacks".to_owned(), args.stacks.join(",")];
    }
    let interleaving = Interleaving {
        binaries: [&binaries[0], &binaries[1]],
        scenario: &scenario,
        experiments: &args.experiments,
        rounds: args.rounds,
        seed: args.seed,
        arguments,
    };
    let session = Session {
        id: run_id(),
        scenario_sha256,
        seed: args.seed,
    };
    interrupt::watch()?;
    let progress = Progress::new(interleaving.steps().map_err(usage)?, false);
    let measured = interleaving.measure(&progress, &session);
    progress.finish();
    let runs = measured?;
    let folder = match &args.out {
        Some(folder) => folder.clone(),
        None => Path::new("results/runs").join(&session.id),
    };
    for (side, run) in ["base", "head"].into_iter().zip(&runs) {
        let folder = folder.join(side);
        std::fs::create_dir_all(&folder)
            .with_context(|| format!("cannot create the folder {}", folder.display()))?;
        run.write(&folder.join("run.json"))?;
    }
    if runs.iter().all(|run| run.cells.is_empty()) {
        bail!("nothing was measured");
    }
    Ok(runs)
}
