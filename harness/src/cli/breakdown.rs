//! `hopbench breakdown`: where the processor time of an operation goes.

use std::path::PathBuf;

use anyhow::Context;
use hopbench::transport;

use super::run::{Undertaking, exit_code, measure};
use super::usage;
use crate::experiment::breakdown::{self, Effort, Perf};
use crate::limits::{self, Readings};
use crate::report;
use crate::variant::Handicap;

/// Options of the breakdown.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Nothing is installed: `apt-get install linux-perf` on Debian provides perf, which must be allowed to \
    sample the kernel (as root, or with kernel.perf_event_paranoid at 1 or below). Exit codes: 0 all cells ok; 1 perf is \
    missing or it could not work; 2 wrong usage; 3 some cells failed; 130 interrupted, what was measured is on disk."
)]
pub(crate) struct Args {
    /// Only these stacks; all that there are without it
    #[arg(long, value_delimiter = ',', value_name = "STACK,…")]
    stacks: Vec<String>,
    /// Seconds for which both sides are sampled in each cell
    #[arg(long, default_value_t = 4.0, value_name = "SECONDS", value_parser = seconds)]
    seconds: f64,
    /// Interleaved repetitions
    #[arg(long, default_value_t = 3, value_name = "COUNT", value_parser = clap::value_parser!(u32).range(1..=100))]
    rounds: u32,
    /// Folder for the run's files; by default results/runs/RUN_ID, with results/latest pointing at it
    #[arg(long, value_name = "FOLDER")]
    out: Option<PathBuf>,
    /// Seed of arrivals, order and bootstrap
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// No progress, no table; the files are written all the same
    #[arg(long)]
    quiet: bool,
}

fn seconds(text: &str) -> Result<f64, String> {
    let expected = || format!("expected 0.5 to 600 seconds, found {text}");
    let seconds: f64 = text.parse().map_err(|_| expected())?;
    if (0.5..=600.0).contains(&seconds) {
        Ok(seconds)
    } else {
        Err(expected())
    }
}

/// Samples, and prints the tables.
pub(crate) fn breakdown(args: &Args) -> anyhow::Result<u8> {
    let effort = Effort {
        rounds: args.rounds,
        seconds: args.seconds,
        stacks: if args.stacks.is_empty() {
            let stacks = transport::stacks().iter();
            stacks.map(|stack| stack.name.to_owned()).collect()
        } else {
            args.stacks.clone()
        },
    };
    for name in &effort.stacks {
        transport::find(name).map_err(usage)?;
    }
    let text = toml::to_string(&effort).context("an effort is plain data")?;
    let experiment = breakdown::experiment(Perf::find()?, &effort)?;
    limits::raise_descriptor_limit();
    let undertaking = Undertaking {
        profile: "breakdown",
        scenario_sha256: &crate::scenario::sha256(&text),
        seed: args.seed,
        out: args.out.as_deref(),
        is_quiet: args.quiet,
        handicap: Handicap::default(),
        budget: None,
        captures: None,
    };
    let machine = Readings::of_this_machine();
    let (run, folder, conduct) = measure(vec![experiment], machine, undertaking)?;
    if !args.quiet {
        super::print(&report::breakdown(&run));
        super::print(&format!(
            "report: {}\n",
            folder.join(report::PAGE).display()
        ));
    }
    Ok(exit_code(&run, conduct, true))
}
