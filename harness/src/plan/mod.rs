//! A capacity estimate: what a number of users needs, from what a run has measured. Like a report it
//! reads a [`Run`] and nothing else, and is a pure function of it and a [`Demand`].
//!
//! ```text
//! text                  a plan for people
//! amount, page          figures as text; tables and lists for a terminal and in Markdown
//! capacity  validation  estimates of a demand; predictions of cells that were held out
//! evidence, scale       which cells tell what a user and an operation cost
//! finding               a figure with its sources, what bounds it, what is missing
//! figure                a value with its interval
//! ```
//!
//! Costs were measured on one machine and hold for machines like it; a plan names it. What was not
//! measured is never made up: a line without a figure says which command measures what it lacks.

mod amount;
mod capacity;
mod demand;
mod evidence;
mod figure;
mod finding;
mod page;
mod scale;
#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
mod text;
mod validation;

use hopbench::record::{Build, Environment, Run};
use hopbench::transport::Stack;
use serde::Serialize;

pub(crate) use capacity::Estimate;
pub(crate) use demand::{BACK_OFF, Demand};
use evidence::{Evidence, Unused};
pub(crate) use text::{Style, render, render_validation};
pub(crate) use validation::{HeldOut, Validation, validate};

/// Name and version of the format that [`Plan`] serialises to.
const SCHEMA: &str = "hopbench.plan/1";

const NS_PER_SECOND: f64 = 1e9;

/// What a demand needs, over each stack that it was asked of.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct Plan {
    pub(crate) schema: &'static str,
    pub(crate) demand: Demand,
    pub(crate) runs: Vec<Origin>,
    pub(crate) stacks: Vec<StackPlan>,
}

/// Where the costs were measured: they hold for such a machine and such a build.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct Origin {
    pub(crate) run_id: String,
    pub(crate) profile: String,
    pub(crate) build: Build,
    pub(crate) environment: Environment,
}

/// What one stack needs.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct StackPlan {
    pub(crate) stack: &'static str,
    /// The same lines for every stack.
    pub(crate) estimates: Vec<Estimate>,
    /// Cells that would have been asked, had they been sound.
    pub(crate) unused: Vec<Unused>,
}

/// Estimates what `demand` needs over each of `stacks`, by what `runs` measured; of runs that measured the
/// same, the first one counts.
pub(crate) fn plan(runs: &[Run], stacks: &[&'static Stack], demand: &Demand) -> Plan {
    let of_stack = |stack: &&'static Stack| {
        let costs = Evidence { runs, stack }.costs(f64::from(demand.users));
        StackPlan {
            stack: stack.name,
            estimates: capacity::estimates(demand, stack, &costs),
            unused: costs.unused,
        }
    };
    Plan {
        schema: SCHEMA,
        demand: demand.clone(),
        runs: runs.iter().map(Origin::of).collect(),
        stacks: stacks.iter().map(of_stack).collect(),
    }
}

impl Plan {
    /// Whether anything that was measured went into it.
    pub(crate) fn is_measured(&self) -> bool {
        let mut estimates = self.stacks.iter().flat_map(|stack| &stack.estimates);
        estimates.any(|estimate| !estimate.sources.is_empty())
    }
}

impl Origin {
    fn of(run: &Run) -> Self {
        Self {
            run_id: run.run_id.clone(),
            profile: run.profile.clone(),
            build: run.build.clone(),
            environment: run.environment.clone(),
        }
    }
}
