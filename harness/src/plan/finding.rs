//! What is known of a quantity: its figure, the cells that it comes from, how far they reach, and what
//! should be known and is not.

use hopbench::record::Unit;
use serde::Serialize;

use super::figure::Figure;

/// A figure of a cell, as it is in a `run.json`.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct Source {
    pub(crate) run_id: String,
    pub(crate) cell_id: String,
    pub(crate) metric: String,
    pub(crate) figure: Figure,
    pub(crate) unit: Unit,
    /// The most users that it was measured with.
    pub(crate) users: Option<f64>,
}

/// A measurement that is not there, and how to make it; null where no experiment does.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub(crate) struct Missing {
    pub(crate) what: String,
    pub(crate) command: Option<String>,
}

/// On which side of a figure the truth is, beyond its interval.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Bound {
    /// On either.
    Estimate,
    /// Something stands for what costs less.
    AtMost,
    /// A part is missing.
    AtLeast,
    /// Both of that.
    Rough,
}

impl Bound {
    /// The bound of a sum.
    fn and(self, other: Self) -> Self {
        match (self, other) {
            (Self::Estimate, bound) | (bound, Self::Estimate) => bound,
            (Self::AtMost, Self::AtMost) => Self::AtMost,
            (Self::AtLeast, Self::AtLeast) => Self::AtLeast,
            (Self::AtMost | Self::AtLeast | Self::Rough, _) => Self::Rough,
        }
    }

    /// The bound of what goes down when this goes up.
    fn inverse(self) -> Self {
        match self {
            Self::Estimate => Self::Estimate,
            Self::AtMost => Self::AtLeast,
            Self::AtLeast => Self::AtMost,
            Self::Rough => Self::Rough,
        }
    }

    /// As it stands before a figure.
    pub(crate) fn sign(self) -> &'static str {
        match self {
            Self::Estimate => "",
            Self::AtMost => "≤ ",
            Self::AtLeast => "≥ ",
            Self::Rough => "~ ",
        }
    }
}

/// What is known of a quantity.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Finding {
    /// `None` when nothing is known of it.
    pub(crate) figure: Option<Figure>,
    pub(crate) bound: Bound,
    pub(crate) sources: Vec<Source>,
    pub(crate) missing: Vec<Missing>,
    pub(crate) notes: Vec<String>,
}

impl Finding {
    /// What is given.
    pub(crate) fn exact(value: f64) -> Self {
        Self {
            figure: Some(Figure::exact(value)),
            bound: Bound::Estimate,
            sources: Vec::new(),
            missing: Vec::new(),
            notes: Vec::new(),
        }
    }

    /// What was measured.
    pub(crate) fn measured(source: Source) -> Self {
        Self {
            figure: Some(source.figure),
            sources: vec![source],
            ..Self::exact(0.0)
        }
    }

    /// What was not.
    pub(crate) fn missing(what: impl Into<String>, command: impl Into<Option<String>>) -> Self {
        let (what, command) = (what.into(), command.into());
        Self {
            figure: None,
            missing: vec![Missing { what, command }],
            ..Self::exact(0.0)
        }
    }

    pub(crate) fn noted(mut self, note: impl Into<String>) -> Self {
        self.notes.push(note.into());
        self
    }

    /// The same, which stands for what costs less.
    pub(crate) fn at_most(mut self) -> Self {
        self.bound = self.bound.and(Bound::AtMost);
        self
    }

    /// The same, to which something is to be added.
    pub(crate) fn at_least(mut self) -> Self {
        self.bound = self.bound.and(Bound::AtLeast);
        self
    }

    /// With another interval of the same figure, see [`Figure::or_within`].
    pub(crate) fn with_figure(mut self, of: impl FnOnce(Figure) -> Figure) -> Self {
        self.figure = self.figure.map(of);
        self
    }

    /// So many of it. Of none nothing needs to be known.
    pub(crate) fn times(self, factor: f64) -> Self {
        if factor == 0.0 {
            return Self::exact(0.0);
        }
        self.with_figure(|figure| figure.scaled(factor))
    }

    /// Both together. Where one of them is not known, the other is the least that it can be.
    pub(crate) fn plus(self, other: Self) -> Self {
        let (figure, bound) = match (self.figure, other.figure) {
            (Some(own), Some(other)) => (Some(own.plus(other)), Bound::Estimate),
            (Some(only), None) | (None, Some(only)) => (Some(only), Bound::AtLeast),
            (None, None) => (None, Bound::Estimate),
        };
        Self {
            figure,
            bound: bound.and(self.bound).and(other.bound),
            sources: union(self.sources, other.sources),
            missing: union(self.missing, other.missing),
            notes: union(self.notes, other.notes),
        }
    }

    /// How often it goes into `whole`.
    pub(crate) fn dividing(self, whole: f64) -> Self {
        Self {
            figure: self.figure.map(|figure| figure.dividing(whole)),
            bound: self.bound.inverse(),
            ..self
        }
    }

    /// With the sources and gaps of another one that it was chosen against.
    pub(crate) fn beside(mut self, other: Self) -> Self {
        self.sources = union(self.sources, other.sources);
        self.missing = union(self.missing, other.missing);
        self
    }

    pub(crate) fn value(&self) -> Option<f64> {
        self.figure.map(|figure| figure.value)
    }

    /// The most users that all of its sources have seen.
    pub(crate) fn measured_users(&self) -> Option<f64> {
        let users = self.sources.iter().filter_map(|source| source.users);
        users.reduce(f64::min)
    }
}

fn union<T: PartialEq>(mut these: Vec<T>, those: Vec<T>) -> Vec<T> {
    for one in those {
        if !these.contains(&one) {
            these.push(one);
        }
    }
    these
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gap() -> Finding {
        Finding::missing("CPU per refresh", "hopbench run".to_owned())
    }

    #[test]
    fn a_sum_with_a_gap_is_the_least_that_it_can_be() {
        let sum = Finding::exact(2.0).plus(gap());
        assert_eq!((sum.value(), sum.bound), (Some(2.0), Bound::AtLeast));
        assert_eq!(sum.missing.len(), 1);
        assert_eq!(sum.clone().plus(gap()).missing.len(), 1, "told once");
        assert_eq!(sum.plus(Finding::exact(1.0).at_most()).bound, Bound::Rough);
        assert_eq!(gap().plus(gap()).figure, None);
    }

    #[test]
    fn of_none_nothing_needs_to_be_known() {
        assert_eq!(gap().times(0.0), Finding::exact(0.0));
        assert_eq!(gap().times(2.0).figure, None);
    }

    #[test]
    fn a_quotient_turns_the_bound_round() {
        let rate = Finding::exact(0.5).at_most().dividing(1.0);
        assert_eq!((rate.value(), rate.bound), (Some(2.0), Bound::AtLeast));
    }
}
