//! `hopbench plan`: what so many users need, from what runs have measured.

use std::path::PathBuf;

use anyhow::{Context, anyhow, bail};
use hopbench::record::Run;
use hopbench::transport::{self, Stack};

use super::report::run_file;
use super::{EXIT_ERROR, EXIT_OK, names, usage};
use crate::plan::{self, BACK_OFF, Demand, HeldOut, Style, Validation};

/// Options of a plan.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  \
    hopbench plan --run results/latest --users 1e6\n  \
    hopbench plan --run results/latest --users 50k --stack tls,udp@wireguard --calls-per-user-hour 2\n  \
    hopbench plan --run results/reference/scale --validate largest\n\n\
    Counts may be written as 100000, 100_000, 100k, 1M or 1e6.\n\n\
    Exit codes: 0 done; 1 a prediction of --validate missed its target; 2 wrong usage, or a run \
    that tells nothing.")]
pub(crate) struct Args {
    /// A run's folder, or its run.json; several times, where one lacks what another has: the first
    /// that has it counts, and cells of the experiment scale before others
    #[arg(long, value_name = "RUN", required = true)]
    run: Vec<PathBuf>,
    /// Registered users to plan for
    #[arg(long, value_name = "COUNT", value_parser = count, required_unless_present = "validate")]
    users: Option<u32>,
    /// Only these stacks; by default all that the runs have
    #[arg(long, value_delimiter = ',', value_name = "STACK,…", value_parser = names::stacks(), hide_possible_values = true)]
    stack: Vec<String>,
    /// For how long a registration is good, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 3600.0)]
    expires: f64,
    /// After which share of that users refresh
    #[arg(long, value_name = "SHARE", default_value_t = 0.5)]
    refresh_fraction: f64,
    /// Calls that a user makes in an hour
    #[arg(
        long,
        value_name = "CALLS",
        default_value_t = 1.0,
        allow_negative_numbers = true
    )]
    calls_per_user_hour: f64,
    /// How often users keep idle hops alive, in seconds; by default as often as it was measured
    #[arg(long, value_name = "SECONDS")]
    keep_alive: Option<f64>,
    /// How busy a processor may be, 1 is wholly
    #[arg(long, value_name = "SHARE", default_value_t = 0.7)]
    utilisation: f64,
    /// How many descriptors a process may hold
    #[arg(long, value_name = "COUNT", value_parser = count, default_value = "20000")]
    descriptors: u32,
    /// How long users wait at most before they come back after all hops have dropped, in seconds; the
    /// default is RFC 5626's
    #[arg(long, value_name = "SECONDS", default_value_t = BACK_OFF.as_secs_f64())]
    back_off: f64,
    /// What to print
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
    /// Instead of planning, predict what was measured with so many users (users=100k), or of
    /// everything that with the most users (largest), from what was measured with fewer
    #[arg(long, value_name = "WHAT", value_parser = held_out, conflicts_with = "users")]
    validate: Option<HeldOut>,
    /// By how many percent a prediction may be wrong
    #[arg(
        long,
        value_name = "PERCENT",
        default_value_t = 10.0,
        requires = "validate"
    )]
    error_limit: f64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Format {
    /// For a terminal
    Text,
    /// Tables and lists
    Markdown,
    /// Everything, sources of every line included
    Json,
}

/// Plans, or validates plans.
pub(crate) fn plan(args: &Args) -> anyhow::Result<u8> {
    let runs = args.runs().map_err(usage)?;
    let stacks = args.stacks(&runs).map_err(usage)?;
    match args.validate {
        Some(held_out) => args.validation(&runs, &stacks, held_out),
        None => args.capacity(&runs, &stacks),
    }
}

impl Args {
    fn runs(&self) -> anyhow::Result<Vec<Run>> {
        let read = |path: &PathBuf| Ok(Run::read(&run_file(path))?);
        self.run.iter().map(read).collect()
    }

    /// In the order of the registry.
    fn stacks(&self, runs: &[Run]) -> anyhow::Result<Vec<&'static Stack>> {
        let measured = |stack: &Stack| {
            let mut cells = runs.iter().flat_map(|run| &run.cells);
            cells.any(|cell| cell.stack == stack.name)
        };
        let all = || transport::stacks().iter().filter(|stack| measured(stack));
        let names = || {
            let names: Vec<&str> = all().map(|stack| stack.name).collect();
            names.join(", ")
        };
        if all().next().is_none() {
            bail!(
                "--run: expected cells of at least one stack, found none: was the run interrupted?"
            );
        }
        let mut stacks = Vec::new();
        for name in &self.stack {
            let stack = transport::find(name).context("--stack")?;
            if !measured(stack) {
                bail!(
                    "--stack {name}: the runs have no cell of it, only of {}",
                    names()
                );
            }
            if !stacks.iter().any(|known: &&Stack| known.name == stack.name) {
                stacks.push(stack);
            }
        }
        Ok(if stacks.is_empty() {
            all().collect()
        } else {
            stacks
        })
    }

    fn capacity(&self, runs: &[Run], stacks: &[&'static Stack]) -> anyhow::Result<u8> {
        let demand = Demand {
            users: self.users.expect("clap asks for it unless it validates"),
            expires_seconds: self.expires,
            refresh_fraction: self.refresh_fraction,
            calls_per_user_hour: self.calls_per_user_hour,
            keep_alive_seconds: self.keep_alive,
            utilisation: self.utilisation,
            descriptors: self.descriptors,
            back_off_seconds: self.back_off,
        };
        demand.check().map_err(usage)?;
        let plan = plan::plan(runs, stacks, &demand);
        if !plan.is_measured() {
            return Err(usage(anyhow!(
                "--run: expected sound cells of the experiments memory, throughput or scale, found \
                 none; measure with: hopbench run --profile quick"
            )));
        }
        self.print(&plan, |style| plan::render(&plan, style));
        Ok(EXIT_OK)
    }

    fn validation(
        &self,
        runs: &[Run],
        stacks: &[&'static Stack],
        held_out: HeldOut,
    ) -> anyhow::Result<u8> {
        if !(self.error_limit >= 0.0 && self.error_limit.is_finite()) {
            return Err(usage(anyhow!(
                "--error-limit: expected 0 or more percent, found {}",
                self.error_limit
            )));
        }
        let validation = plan::validate(runs, stacks, held_out, self.error_limit);
        if validation.predictions.is_empty() {
            return Err(usage(anyhow!(
                "--validate: expected cells with so many users, and with fewer at least two numbers of \
                 them, found none: cells of the experiment scale have them, and those of memory that \
                 recorded their readings; measure with: hopbench run --profile scale"
            )));
        }
        self.print(&validation, |style| {
            plan::render_validation(&validation, style)
        });
        Ok(exit_code(&validation))
    }

    fn print(&self, data: &impl serde::Serialize, render: impl Fn(Style) -> String) {
        super::print(&match self.format {
            Format::Text => render(Style::Text),
            Format::Markdown => render(Style::Markdown),
            Format::Json => {
                let json = serde_json::to_string_pretty(data).expect("plans serialise");
                format!("{json}\n")
            }
        });
    }
}

fn exit_code(validation: &Validation) -> u8 {
    if validation.is_met() {
        EXIT_OK
    } else {
        EXIT_ERROR
    }
}

/// A count as people write it: `100000`, `100_000`, `100k`, `1M`, `1e6`.
fn count(text: &str) -> Result<u32, String> {
    const EXPECTED: &str =
        "expected a whole number from 1 to 4294967295, as 100000, 100_000, 100k, 1M or 1e6";
    let plain = text.replace('_', "");
    let (digits, factor) = match plain.strip_suffix(['k', 'M']) {
        Some(digits) if plain.ends_with('k') => (digits, 1e3),
        Some(digits) => (digits, 1e6),
        None => (plain.as_str(), 1.0),
    };
    let is_written_in_digits = digits.starts_with(|first: char| first.is_ascii_digit());
    let number = digits.parse::<f64>().ok().filter(|_| is_written_in_digits);
    // A tenth of a thousand is exact enough: 1.1k is 1100.
    let number = number.map(|number| number * factor);
    let whole = number.filter(|number| (number - number.round()).abs() < 1e-6);
    whole
        .map(f64::round)
        .filter(|number| (1.0..=f64::from(u32::MAX)).contains(number))
        .map(|number| number as u32)
        .ok_or_else(|| EXPECTED.to_owned())
}

fn held_out(text: &str) -> Result<HeldOut, String> {
    match text.split_once('=') {
        None if text == "largest" => Ok(HeldOut::Largest),
        Some(("users", users)) => count(users).map(HeldOut::Users),
        Some(_) | None => Err("expected users=COUNT or largest".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_are_read_as_people_write_them() {
        for (text, expected) in [
            ("1", 1),
            ("100000", 100_000),
            ("1_000_000", 1_000_000),
            ("100k", 100_000),
            ("1.1k", 1_100),
            ("2M", 2_000_000),
            ("1e6", 1_000_000),
            ("2.5e3", 2_500),
            ("4294967295", u32::MAX),
        ] {
            assert_eq!(count(text), Ok(expected), "{text}");
        }
        for text in [
            "", "0", "-1", "+1", "1.5", "1e-3", "1e12", "k", "inf", "NaN", "many", "10km", "5e9",
        ] {
            assert!(count(text).is_err(), "{text}");
        }
    }

    #[test]
    fn what_is_held_out_is_named() {
        assert_eq!(held_out("users=100k"), Ok(HeldOut::Users(100_000)));
        assert_eq!(held_out("largest"), Ok(HeldOut::Largest));
        for text in ["users", "users=", "user=3", "smallest", "largest=3"] {
            assert!(held_out(text).is_err(), "{text}");
        }
    }
}
