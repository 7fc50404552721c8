//! `hopbench list`.

use std::fmt::Write as _;

use clap::ValueEnum;
use hopbench::record::metric;
use hopbench::transport;

use super::EXIT_OK;
use crate::beneath;
use crate::experiment;
use crate::lab::{self, daemon};
use crate::scenario::{PROFILES, Scenario};
use crate::topology;

/// What to list; everything if nothing is named.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Only this
    what: Option<What>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum What {
    Stacks,
    Topologies,
    Profiles,
    Experiments,
    Metrics,
}

/// Lists what there is.
pub(crate) fn list(args: &Args) -> anyhow::Result<u8> {
    let mut text = String::new();
    for what in What::value_variants() {
        if args.what.is_some_and(|only| only != *what) {
            continue;
        }
        match what {
            What::Stacks => {
                let _ = writeln!(
                    text,
                    "Stacks, carrier[@tunnel], and the control that ratios divide by:"
                );
                for stack in transport::stacks() {
                    let control = stack.control.unwrap_or("–");
                    let _ = writeln!(text, "  {:<18} {control:<10} {}", stack.name, stack.summary);
                }
                let _ = writeln!(
                    text,
                    "\nStacks over tunnels that others make (`--path lab`), and whether this machine has them:"
                );
                // The kernel is asked in a namespace. Where there can be none, each line says so.
                let _ = lab::acquire();
                for over in &beneath::STACKS {
                    let _ = writeln!(
                        text,
                        "  {:<25} {:<4} {}",
                        over.name, over.carrier, over.summary
                    );
                    let found = match daemon::find(over.beneath) {
                        Ok(program) => format!("runs {}", program.display()),
                        Err(missing) => missing.to_string(),
                    };
                    let _ = writeln!(text, "  {:<25} {:<4} {found}", "", "");
                }
            }
            What::Topologies => {
                let _ = writeln!(text, "Topologies (`topology` in a scenario):");
                for (name, path) in topology::NAMES {
                    let _ = writeln!(text, "  {name:<14} {path}");
                }
            }
            What::Profiles => {
                let _ = writeln!(text, "Profiles (`hopbench run --profile NAME`):");
                for (name, _) in PROFILES {
                    let summary = Scenario::profile(name)?.plan.summary;
                    let _ = writeln!(text, "  {name:<14} {summary}");
                }
            }
            What::Experiments => {
                let _ = writeln!(text, "Experiments (`hopbench run --experiments NAME,…`):");
                for (name, question) in experiment::NAMES {
                    let _ = writeln!(text, "  {name:<14} {question}");
                }
            }
            What::Metrics => {
                let _ = writeln!(
                    text,
                    "Metrics, the keys in run.json; of nodes and hops in a row, the first:"
                );
                for known in metric::KNOWN {
                    if !is_of_further_node_or_hop(known.key) {
                        let _ = writeln!(text, "  {:<42} {}", known.key, known.title);
                    }
                }
            }
        }
        text.push('\n');
    }
    super::print(text.trim_end_matches('\n'));
    super::print("\n");
    Ok(EXIT_OK)
}

/// Of nodes and hops in a row, the first stand for all.
fn is_of_further_node_or_hop(key: &str) -> bool {
    let place = key
        .strip_prefix("node_")
        .or_else(|| key.strip_prefix("hop_"));
    place.is_some_and(|place| place.starts_with(|digit: char| matches!(digit, '2'..='9')))
}
