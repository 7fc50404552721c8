//! `hopbench versus`: the generator beside another one, as callers of the same servers.

use std::path::PathBuf;

use anyhow::Context;

use super::run::{Undertaking, exit_code, measure};
use super::usage;
use crate::experiment::versus::{self, Effort, Sipp};
use crate::limits::{self, Readings};
use crate::report;
use crate::variant::Handicap;

/// Options of the comparison.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Nothing is installed: `apt-get install sip-tester` on Debian provides SIPp 3.6, which speaks UDP \
    and TCP. Exit codes: 0 all cells ok; 1 SIPp is missing or it could not work; 2 wrong usage; 3 some cells \
    failed; 130 interrupted, what was measured is on disk."
)]
pub(crate) struct Args {
    /// The other generator: sipp
    #[arg(value_parser = ["sipp"])]
    peer: String,
    /// One round of short attempts, about a minute; otherwise about thirteen minutes, for a committed result
    #[arg(long)]
    quick: bool,
    /// Only these stacks: udp, tcp, tls
    #[arg(long, value_delimiter = ',', value_name = "STACK,…", value_parser = ["udp", "tcp", "tls"])]
    stacks: Vec<String>,
    /// What both callers are asked for, and where the search for the highest rate starts
    #[arg(long, value_name = "PER_SECOND", value_parser = clap::value_parser!(u32).range(10..=200_000))]
    rate: Option<u32>,
    /// Interleaved repetitions
    #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(u32).range(1..=100))]
    rounds: Option<u32>,
    /// Most rates that the search for the highest one tries
    #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(u32).range(1..=30))]
    probes: Option<u32>,
    /// How long the generator lets starts and arrivals wait for each other, as `hopbench load --gather` does: by
    /// default 2900, with which calls start more punctually than in SIPp's bursts. What it costs in latency is shown
    #[arg(long, value_name = "MICROSECONDS", value_parser = clap::value_parser!(u32).range(..=10_000))]
    gather: Option<u32>,
    /// Folder for the run's files; by default results/runs/RUN_ID, with results/latest pointing at it
    #[arg(long, value_name = "FOLDER")]
    out: Option<PathBuf>,
    /// Seed of the order, of identifiers and of the bootstrap
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// No progress, no table; the files are written all the same
    #[arg(long)]
    quiet: bool,
}

/// Measures both, and prints the comparison.
pub(crate) fn versus(args: &Args) -> anyhow::Result<u8> {
    let effort = args.effort();
    let text = toml::to_string(&effort).context("an effort is plain data")?;
    let sipp = Sipp::find()?;
    let experiment = versus::experiment(sipp, &effort).map_err(usage)?;
    limits::raise_descriptor_limit();
    let profile = if args.quick {
        "versus-sipp-quick"
    } else {
        "versus-sipp"
    };
    let undertaking = Undertaking {
        profile,
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
        super::print(&report::versus(&run));
        super::print(&format!(
            "report: {}\n",
            folder.join(report::PAGE).display()
        ));
    }
    Ok(exit_code(&run, conduct, true))
}

impl Args {
    fn effort(&self) -> Effort {
        let usual = if self.quick {
            Effort::quick()
        } else {
            Effort::full()
        };
        Effort {
            rounds: self.rounds.unwrap_or(usual.rounds),
            rate_per_second: self.rate.map_or(usual.rate_per_second, f64::from),
            probes: self.probes.unwrap_or(usual.probes),
            gather_microseconds: self.gather.unwrap_or(usual.gather_microseconds),
            stacks: if self.stacks.is_empty() {
                usual.stacks
            } else {
                self.stacks.clone()
            },
            ..usual
        }
    }
}
