//! The command line: one file a command.

mod breakdown;
mod check_method;
mod compare;
mod completions;
mod credentials;
#[cfg(test)]
mod damaged;
mod dry_run;
mod export;
mod gate;
mod history;
mod instructions;
mod lab;
mod link;
mod list;
mod load;
mod man;
mod names;
mod node;
mod plan;
mod proxy;
mod report;
mod run;
mod tls;
mod tunnel;
mod users;
mod versus;

use std::io::{BufRead, Write};
use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand};

use crate::environment;

/// Everything was measured, and every cell is ok.
pub(crate) const EXIT_OK: u8 = 0;
/// The command could not do its work.
pub(crate) const EXIT_ERROR: u8 = 1;
/// What must hold does not: a gate, or a prediction.
pub(crate) const EXIT_GATE: u8 = 1;
/// The command line or the scenario is wrong; clap uses the same code.
pub(crate) const EXIT_USAGE: u8 = 2;
/// The run is complete, but some cells failed; or, of `load`, some operations.
pub(crate) const EXIT_FAILED_CELLS: u8 = 3;
/// Ctrl-C or SIGTERM; what was measured is on disk.
pub(crate) const EXIT_INTERRUPTED: u8 = crate::interrupt::EXIT_CODE;

/// What it costs to secure a SIP hop, and what that buys: TLS, mutual TLS and a WireGuard tunnel
/// against plain TCP and UDP.
#[derive(Debug, Parser)]
#[command(
    name = "hopbench",
    version = environment::version(),
    long_version = environment::long_version(),
    arg_required_else_help = true,
    after_help = "Start with:\n  \
    hopbench run                                        measure; about five minutes\n  \
    hopbench report results/latest                      see it again\n  \
    hopbench run --help                                 what else can be measured\n\n\
    Exit codes: 0 all cells ok; 1 the command could not do its work, or a gate or prediction fails; \
    2 wrong usage, scenario or file; 3 some cells or operations failed; 130 interrupted, what was \
    measured is on disk."
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Measure: every stack, every question, and a comparison at the end
    Run(run::Args),
    /// Show what there is: stacks, profiles, experiments, metrics
    List(list::Args),
    /// Be the server under test: registrar, and answering UA or proxy
    Node(node::Args),
    /// Generate load against a node, or against any other SIP server
    Load(load::Args),
    /// Write keys of a credentials folder as other software reads them
    Credentials(credentials::Args),
    /// Render a run again
    Report(report::Args),
    /// Write a run in the formats of other programs: CI charts, Prometheus, HdrHistogram
    Export(export::Args),
    /// Build networks of their own with slow links, and run a command there
    Lab(lab::Args),
    /// Keep the figures of many runs, find where they changed, draw them
    History(history::Args),
    /// Hold a run against another one, or two builds side by side: what has changed beyond chance
    Compare(compare::Args),
    /// Hold the method against itself: does it see nothing where there is nothing, and a known difference?
    CheckMethod(check_method::Args),
    /// Hold thresholds against a run
    Gate(gate::Args),
    /// Estimate what so many users need, from what a run has measured
    Plan(plan::Args),
    /// Print what a shell needs to complete commands, options and names
    Completions(completions::Args),
    /// Print the manual page of a command, or write all
    Man(man::Args),
    /// Tell where the processor time of an operation goes, by sampling with perf
    Breakdown(breakdown::Args),
    /// Count the instructions of the hot paths, under valgrind
    Instructions(instructions::Args),
    /// Hold the generator against another one: what a call costs each
    Versus(versus::Args),
}

/// All commands, as clap knows them.
fn command() -> clap::Command {
    Cli::command()
}

/// A wrong command line or scenario: [`EXIT_USAGE`].
#[derive(Debug)]
struct Usage(anyhow::Error);

impl std::fmt::Display for Usage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&words(&self.0))
    }
}

impl std::error::Error for Usage {}

/// Runs the command and turns its outcome into an exit code.
pub(crate) fn main() -> ExitCode {
    let outcome = match Cli::parse().command {
        Command::Run(args) => run::run(&args),
        Command::List(args) => list::list(&args),
        Command::Node(args) => node::node(&args),
        Command::Load(args) => load::load(&args),
        Command::Credentials(args) => credentials::credentials(&args),
        Command::Report(args) => report::report(&args),
        Command::Export(args) => export::export(&args),
        Command::Lab(args) => lab::lab(&args),
        Command::History(args) => history::history(&args),
        Command::Compare(args) => compare::compare(&args),
        Command::CheckMethod(args) => check_method::check_method(&args),
        Command::Gate(args) => gate::gate(&args),
        Command::Plan(args) => plan::plan(&args),
        Command::Completions(args) => completions::completions(&args),
        Command::Man(args) => man::man(&args),
        Command::Breakdown(args) => breakdown::breakdown(&args),
        Command::Instructions(args) => instructions::instructions(&args),
        Command::Versus(args) => versus::versus(&args),
    };
    match outcome {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            eprintln!("hopbench: {}", words(&error));
            let is_usage = error.chain().any(|cause| cause.is::<Usage>());
            ExitCode::from(if is_usage { EXIT_USAGE } else { EXIT_ERROR })
        }
    }
}

/// An error and its causes, without those that the one before has told already.
fn words(error: &anyhow::Error) -> String {
    let mut words = String::new();
    for cause in error.chain() {
        let cause = cause.to_string();
        if words.is_empty() {
            words = cause;
        } else if !words.contains(&cause) {
            words = format!("{words}: {cause}");
        }
    }
    words
}

/// Marks an error as the caller's.
fn usage(error: impl Into<anyhow::Error>) -> anyhow::Error {
    Usage(error.into()).into()
}

/// Parses the names that serde gives to the variants of a plain enum.
fn by_name<T: serde::de::DeserializeOwned>(name: &str) -> Result<T, String> {
    let value = serde::de::value::StrDeserializer::<serde::de::value::Error>::new(name);
    T::deserialize(value).map_err(|error| error.to_string())
}

/// Prints to standard output; a reader that has left (`| head`) is no error.
fn print(text: &str) {
    let mut stdout = std::io::stdout().lock();
    let _ = stdout
        .write_all(text.as_bytes())
        .and_then(|()| stdout.flush());
}

/// Writes one reply to the testbed.
fn reply(reply: &impl serde::Serialize) {
    let mut line = serde_json::to_string(reply).expect("replies serialise");
    line.push('\n');
    print(&line);
}

/// Reads one order of the testbed; `None` when it has left.
fn order<T: serde::de::DeserializeOwned>(lines: &mut impl BufRead) -> anyhow::Result<Option<T>> {
    let mut line = String::new();
    if lines.read_line(&mut line)? == 0 {
        return Ok(None);
    }
    Ok(Some(serde_json::from_str(&line)?))
}

#[cfg(test)]
mod tests {
    use anyhow::anyhow;

    use super::*;

    #[test]
    fn a_cause_that_was_told_is_not_told_again() {
        let refused = || anyhow!("refused");
        assert_eq!(
            words(&refused().context("cannot connect: refused")),
            "cannot connect: refused"
        );
        assert_eq!(
            words(&refused().context("cannot connect")),
            "cannot connect: refused"
        );
        assert_eq!(
            words(&usage(refused().context("--route"))),
            "--route: refused"
        );
    }
}
