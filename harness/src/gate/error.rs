//! What can be wrong with a gate, said with a caret at the place.

use std::fmt;
use std::ops::Range;

use super::unit::Dimension;

/// A gate that cannot be read, or that does not say which figure it means.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct GateError {
    text: String,
    place: Range<usize>,
    problem: Problem,
}

/// What is wrong.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub(super) enum Problem {
    #[error("found `{0}`, which stands for nothing here")]
    Character(char),
    #[error("found `{0}`, which is no number")]
    Number(String),
    #[error("the quotation mark is never closed")]
    Unclosed,
    #[error("expected {expected}, found {found}")]
    Unexpected {
        expected: &'static str,
        found: String,
    },
    #[error("there is no unit `{found}`; there are: {}", super::unit::NAMES.join(", "))]
    UnknownUnit { found: String },
    #[error(
        "there is no metric `{found}`; did you mean `{nearest}`? `hopbench list metrics` has all"
    )]
    UnknownMetric {
        found: String,
        nearest: &'static str,
    },
    #[error("there is no statistic `{found}`; there are: {}", super::figure::STATISTICS.join(", "))]
    UnknownStatistic { found: String },
    #[error(
        "nothing is called `{found}`{}: expected a stack, workload, experiment, topology, lifecycle, \
         path or stage, or a parameter as key=value",
        .nearest.as_ref().map_or(String::new(), |near| format!("; did you mean `{near}`?"))
    )]
    UnknownWord {
        found: String,
        nearest: Option<String>,
    },
    #[error(
        "this is the figure of {} cells; name the one that is meant, or write `each` before the \
         gate:\n{}",
        .candidates.len(), listed(.candidates)
    )]
    Ambiguous { candidates: Vec<String> },
    #[error("{left} cannot be {verb} {right}{}", hint(*.left, *.right))]
    Dimensions {
        left: Dimension,
        verb: &'static str,
        right: Dimension,
    },
    #[error(
        "`base` stands for the first figure, as BASE has it: expected a figure of this run before it"
    )]
    NothingBefore,
    #[error("only the first figure can be of each cell")]
    EachWithoutFigure,
}

/// How many candidates are listed.
const LISTED: usize = 12;

fn listed(candidates: &[String]) -> String {
    let mut lines: Vec<String> = candidates.iter().take(LISTED).cloned().collect();
    if candidates.len() > LISTED {
        lines.push(format!("… and {} more", candidates.len() - LISTED));
    }
    let lines = lines.into_iter().map(|line| format!("    {line}"));
    lines.collect::<Vec<_>>().join("\n")
}

/// A bare number beside a quantity mostly lacks its unit.
fn hint(left: Dimension, right: Dimension) -> String {
    let lacking = [left, right].contains(&Dimension::PLAIN);
    let other = if left == Dimension::PLAIN {
        right
    } else {
        left
    };
    match (lacking, other.example()) {
        (true, Some(example)) => format!(": give it a unit, such as {example}"),
        _ => String::new(),
    }
}

impl GateError {
    pub(super) fn new(text: &str, place: Range<usize>, problem: Problem) -> Self {
        Self {
            text: text.to_owned(),
            place,
            problem,
        }
    }

    /// Where, in bytes.
    #[cfg(test)]
    pub(super) fn place(&self) -> &Range<usize> {
        &self.place
    }
}

impl fmt::Display for GateError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Range { start, end } = self.place.clone();
        let before = self.text[..start].chars().count();
        let carets = self.text[start..end].chars().count().max(1);
        let (space, carets) = (" ".repeat(before), "^".repeat(carets));
        write!(
            f,
            "in a gate\n    {}\n    {space}{carets} {}",
            self.text, self.problem
        )
    }
}

impl std::error::Error for GateError {}
