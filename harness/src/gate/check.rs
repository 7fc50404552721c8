//! Holding a gate against runs: which figures it means, and whether it holds.

use hopbench::record::{Cell, Run, Verdict};

use super::cells;
use super::error::{GateError, Problem};
use super::figure::{Figure, Side};
use super::parser::{Expression, Operator, Relation, Tree};

/// The runs that a gate is held against.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Runs<'r> {
    /// The run that is looked at.
    pub(crate) head: &'r Run,
    /// What it is compared with, if it is.
    pub(crate) base: Option<&'r Run>,
}

/// What came of a gate for one cell.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Row {
    /// The cell of the first figure; `None` where there is none.
    pub(crate) cell_id: Option<String>,
    /// Both sides.
    pub(crate) finding: Finding,
}

/// What is found of both sides of a gate.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Finding {
    /// Both have a figure.
    Figures {
        /// Of the left side, in base units.
        left: f64,
        /// Of the right side.
        right: f64,
        /// Whether the relation holds.
        holds: bool,
    },
    /// One has none: the gate does not hold.
    Missing(String),
}

impl Row {
    /// Whether the gate holds here.
    pub(crate) fn holds(&self) -> bool {
        matches!(self.finding, Finding::Figures { holds: true, .. })
    }
}

impl<'r> Runs<'r> {
    fn of(self, side: Side) -> Option<&'r Run> {
        match side {
            Side::Head => Some(self.head),
            Side::Base => self.base,
        }
    }

    fn cells(self) -> Vec<&'r Cell> {
        let base = self.base.into_iter().flat_map(|run| &run.cells);
        self.head.cells.iter().chain(base).collect()
    }
}

/// Holds `tree`, which was read from `text`, against `runs`: a row for each cell that it is about.
pub(super) fn check(text: &str, tree: &Tree, runs: Runs<'_>) -> Result<Vec<Row>, GateError> {
    let checker = Checker { text, tree, runs };
    let known = runs.cells();
    for figure in figures(tree) {
        cells::check_words(text, figure, &known)?;
    }
    let first = &tree.first;
    let Some(run) = runs.of(first.side) else {
        return Ok(vec![missing(None, NO_BASE.to_owned())]);
    };
    let mut candidates = cells::candidates(first, run);
    if !tree.is_each && candidates.len() > 1 {
        candidates = vec![checker.the_one(first, candidates)?];
    }
    let mut rows: Vec<Row> = Vec::new();
    for cell in candidates {
        if !tree.is_each || checker.concerns(cell) {
            rows.push(checker.row(cell)?);
        }
    }
    rows.extend(checker.lost(run));
    if rows.is_empty() {
        rows.push(missing(None, format!("no cell has {}", named(first))));
    }
    Ok(rows)
}

/// All figures of `tree`.
pub(super) fn figures(tree: &Tree) -> Vec<&Figure> {
    let mut figures = vec![&tree.first];
    let mut sides = vec![&tree.left, &tree.right];
    while let Some(side) = sides.pop() {
        match side {
            Expression::Figure(figure) => figures.push(figure),
            Expression::Pair(left, _, right) => sides.extend([&**left, &**right]),
            Expression::Quantity(_) | Expression::First | Expression::FirstOfBase => {}
        }
    }
    figures
}

const NO_BASE: &str = "there is no BASE to take a figure from";

/// Why a side has no figure.
enum Lack {
    Missing(String),
    Wrong(GateError),
}

struct Checker<'c> {
    text: &'c str,
    tree: &'c Tree,
    runs: Runs<'c>,
}

impl<'c> Checker<'c> {
    fn row(&self, cell: &Cell) -> Result<Row, GateError> {
        let sides = self
            .value(&self.tree.left, cell)
            .and_then(|left| Ok((left, self.value(&self.tree.right, cell)?)));
        let cell_id = Some(cell.id.clone());
        match sides {
            Ok((left, right)) => Ok(Row {
                cell_id,
                finding: Finding::Figures {
                    left,
                    right,
                    holds: self.tree.relation.holds(left, right),
                },
            }),
            Err(Lack::Missing(reason)) => Ok(missing(cell_id, reason)),
            Err(Lack::Wrong(error)) => Err(error),
        }
    }

    fn value(&self, side: &Expression, cell: &Cell) -> Result<f64, Lack> {
        match side {
            Expression::Quantity(quantity) => Ok(*quantity),
            Expression::First => self.figure_of(&self.tree.first, cell),
            Expression::FirstOfBase => {
                let base = self
                    .runs
                    .base
                    .ok_or_else(|| Lack::Missing(NO_BASE.to_owned()))?;
                let same = base.cells.iter().find(|other| other.id == cell.id);
                let same = same.ok_or_else(|| Lack::Missing("BASE has no such cell".to_owned()))?;
                self.figure_of(&self.tree.first, same)
                    .map_err(|lack| match lack {
                        Lack::Missing(reason) => Lack::Missing(format!("in BASE, {reason}")),
                        Lack::Wrong(_) => lack,
                    })
            }
            Expression::Figure(figure) => {
                let other = self.other(figure, cell)?;
                self.figure_of(figure, other)
            }
            Expression::Pair(left, operator, right) => {
                let (left, right) = (self.value(left, cell)?, self.value(right, cell)?);
                let value = match operator {
                    Operator::Plus => left + right,
                    Operator::Minus => left - right,
                    Operator::Times => left * right,
                    Operator::Over => left / right,
                };
                let is_number = value.is_finite();
                let none = || Lack::Missing("a figure is divided by zero".to_owned());
                is_number.then_some(value).ok_or_else(none)
            }
        }
    }

    fn figure_of(&self, figure: &Figure, cell: &Cell) -> Result<f64, Lack> {
        if cell.verdict != Verdict::Ok {
            let verdict = crate::report::verdict_word(cell.verdict);
            let reason = cell.reason.as_deref().unwrap_or("without a reason");
            return Err(Lack::Missing(format!("{} is {verdict}: {reason}", cell.id)));
        }
        let metric = cell.metrics.get(figure.metric.key);
        let value = metric.ok_or("the cell has no such figure");
        let value = value.and_then(|metric| figure.statistic.of(metric));
        value.map_err(|reason| Lack::Missing(format!("{}: {reason}", figure.metric.key)))
    }

    /// The cell of a figure that is not the first: what it does not name is as in `cell`.
    fn other(&self, figure: &Figure, cell: &Cell) -> Result<&'c Cell, Lack> {
        let run = self.runs.of(figure.side);
        let run = run.ok_or_else(|| Lack::Missing(NO_BASE.to_owned()))?;
        let candidates = cells::candidates(figure, run);
        let alike = cells::like(candidates.clone(), figure, cell);
        match alike.as_slice() {
            [one] => return Ok(*one),
            [] if self.tree.is_each || candidates.is_empty() => {
                let reason = format!("no cell has {}, like {}", named(figure), cell.id);
                return Err(Lack::Missing(reason));
            }
            [] => {}
            [..] => return self.the_one(figure, alike).map_err(Lack::Wrong),
        }
        self.the_one(figure, candidates).map_err(Lack::Wrong)
    }

    fn the_one<'r>(&self, figure: &Figure, cells: Vec<&'r Cell>) -> Result<&'r Cell, GateError> {
        if let [one] = cells.as_slice() {
            return Ok(*one);
        }
        cells::usual(figure, &cells).ok_or_else(|| {
            let candidates = cells::names(figure, &cells);
            GateError::new(
                self.text,
                figure.place.clone(),
                Problem::Ambiguous { candidates },
            )
        })
    }

    /// Whether an `each` is about the cell: not where a sound cell of either run has no such figure,
    /// since its stack has none.
    fn concerns(&self, cell: &Cell) -> bool {
        let key = self.tree.first.metric.key;
        let has = |cell: &Cell| cell.metrics.get(key).is_some_and(|m| m.value.is_some());
        let others = [Some(self.runs.head), self.runs.base].into_iter().flatten();
        let mut same = others.filter_map(|run| run.cells.iter().find(|c| c.id == cell.id));
        same.any(|same| has(same) || same.verdict != Verdict::Ok)
    }

    /// Of a gate against BASE, the cells that only BASE has: a cell that is gone passes no gate.
    fn lost(&self, run: &Run) -> Vec<Row> {
        let is_against_base = has_base(&self.tree.left) || has_base(&self.tree.right);
        let base = self
            .runs
            .base
            .filter(|_| is_against_base && self.tree.is_each);
        let candidates = base.map(|base| cells::candidates(&self.tree.first, base));
        let candidates = candidates.into_iter().flatten();
        let is_lost = |cell: &&Cell| {
            cell.verdict == Verdict::Ok && !run.cells.iter().any(|other| other.id == cell.id)
        };
        candidates
            .filter(is_lost)
            .map(|cell| missing(Some(cell.id.clone()), "HEAD has no such cell".to_owned()))
            .collect()
    }
}

pub(super) fn has_base(side: &Expression) -> bool {
    match side {
        Expression::FirstOfBase => true,
        Expression::Pair(left, _, right) => has_base(left) || has_base(right),
        Expression::Quantity(_) | Expression::First | Expression::Figure(_) => false,
    }
}

fn missing(cell_id: Option<String>, reason: String) -> Row {
    Row {
        cell_id,
        finding: Finding::Missing(reason),
    }
}

fn named(figure: &Figure) -> String {
    let words = figure.words.iter().map(|(word, _)| word.as_str());
    words
        .chain([figure.metric.key])
        .collect::<Vec<_>>()
        .join(".")
}

impl Relation {
    fn holds(self, left: f64, right: f64) -> bool {
        match self {
            Self::Below => left < right,
            Self::AtMost => left <= right,
            Self::Above => left > right,
            Self::AtLeast => left >= right,
        }
    }

    /// Whether it bounds the left side from above.
    pub(crate) fn is_upper(self) -> bool {
        match self {
            Self::Below | Self::AtMost => true,
            Self::Above | Self::AtLeast => false,
        }
    }
}
