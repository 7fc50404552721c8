//! `hopbench lab`: a lab by hand, for ping, tcpdump, SIPp or another node.

use std::process::Command;

use anyhow::{Context, bail};
use hopbench::net::link::LinkConditions;

use super::EXIT_ERROR;
use super::link::LinkArgs;
use crate::lab::{self, Lab, Place};
use crate::path::LinkEmulator;
use crate::topology::Topology;

/// Options of a lab.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  \
    hopbench lab -- ping -c 3 198.18.0.2                      from the users to the first node's place\n  \
    hopbench lab --one-way-delay-ms 50                        a shell among the users\n  \
    hopbench lab --topology trapezoid --at 2 -- ip address    what the second proxy would see\n\n\
    Link N has the addresses 198.18.N.1, at the side that opens hops, and 198.18.N.2. The lab goes with the \
    command, whose exit code is this one's; without a command it is $SHELL.")]
pub(crate) struct Args {
    /// Which entities there are: direct, edge, trapezoid, chain-N
    #[arg(long, default_value = "direct")]
    topology: Topology,
    /// Whose place the command runs in: 0 is that of the users, 1 the first node's, and so on
    #[arg(long, value_name = "PLACE", default_value_t = 0)]
    at: usize,
    #[command(flatten)]
    link: LinkArgs,
    /// What to run, with its arguments
    #[arg(last = true, value_name = "COMMAND")]
    command: Vec<String>,
}

/// Builds a lab and runs a command in it.
pub(crate) fn lab(args: &Args) -> anyhow::Result<u8> {
    let layout = args.topology.layout();
    let places = layout.stations.len();
    if args.at > places {
        return Err(super::usage(anyhow::anyhow!(
            "--at is {}, but {} has {places} nodes; allowed is 0 to {places}",
            args.at,
            args.topology
        )));
    }
    let mut conditions = LinkConditions::default();
    let mut emulator = LinkEmulator::default();
    let applied = args.link.apply(&mut conditions, &mut emulator);
    applied.map_err(super::usage)?;
    // Before there is a second thread.
    lab::acquire()?;
    let lab = Lab::build(&layout, (&conditions, emulator), rand::random(), &[], None)?;
    let place = args.at.checked_sub(1).map_or(Place::Users, Place::Station);
    let shell = std::env::var("SHELL").unwrap_or_else(|_| "/bin/sh".into());
    let (program, arguments) = match args.command.split_first() {
        Some((program, arguments)) => (program, arguments),
        None => (&shell, [].as_slice()),
    };
    let mut command: Command = lab.namespace(place).command(program);
    let status = command
        .args(arguments)
        .status()
        .with_context(|| format!("cannot run {program}"))?;
    match status.code() {
        Some(code) => Ok(u8::try_from(code).unwrap_or(EXIT_ERROR)),
        None => bail!("{program} ended: {status}"),
    }
}
