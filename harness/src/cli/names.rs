//! Names that the command line takes: told by `--help`, completed by shells, and suggested for typos.

use clap::builder::{PossibleValue, PossibleValuesParser};
use hopbench::transport;

use crate::beneath;
use crate::experiment;
use crate::scenario::PROFILES;

/// A stack.
pub(super) fn stacks() -> PossibleValuesParser {
    let stacks = transport::stacks().iter();
    PossibleValuesParser::new(
        stacks.map(|stack| PossibleValue::new(stack.name).help(stack.summary)),
    )
}

/// A stack that can be measured: those over tunnels of others, too.
pub(super) fn measured_stacks() -> PossibleValuesParser {
    let own = transport::stacks().iter();
    let own = own.map(|stack| (stack.name, stack.summary));
    let others = beneath::STACKS.iter().map(|over| (over.name, over.summary));
    let stacks = own.chain(others);
    PossibleValuesParser::new(stacks.map(|(name, summary)| PossibleValue::new(name).help(summary)))
}

/// An experiment.
pub(super) fn experiments() -> PossibleValuesParser {
    let names = experiment::NAMES.iter();
    PossibleValuesParser::new(names.map(|(name, asks)| PossibleValue::new(name).help(asks)))
}

/// A built-in scenario. What is in them `hopbench list profiles` says: children of the testbed need not
/// read ten scenarios before they start.
pub(super) fn profiles() -> PossibleValuesParser {
    PossibleValuesParser::new(PROFILES.iter().map(|(name, _)| PossibleValue::new(name)))
}
