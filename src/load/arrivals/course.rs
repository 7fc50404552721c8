//! How the offered rate goes on over the measurement of a load.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::load::plan::LoadPlan;

/// How the offered rate goes on from the plan's `rate_per_second`, at which the warm-up stays.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Course {
    /// It stays.
    #[default]
    Steady,
    /// It rises or falls evenly until the measurement ends.
    Ramp {
        /// The rate at the end.
        to_per_second: f64,
    },
    /// It changes at once. All steps of the measurement are equally long; the first one is at the plan's
    /// rate.
    Steps {
        /// The rates after the first.
        then_per_second: Vec<f64>,
    },
}

impl Course {
    /// The rates that it goes through or between, from `first` on.
    pub fn rates(&self, first: f64) -> impl Iterator<Item = f64> + '_ {
        let further: &[f64] = match self {
            Self::Steady => &[],
            Self::Ramp { to_per_second } => std::slice::from_ref(to_per_second),
            Self::Steps { then_per_second } => then_per_second,
        };
        std::iter::once(first).chain(further.iter().copied())
    }

    /// The highest of them.
    #[must_use]
    pub fn peak(&self, first: f64) -> f64 {
        self.rates(first).fold(first, f64::max)
    }
}

/// A piece of a load's time in which the rate changes evenly or not at all.
#[derive(Clone, Debug)]
struct Piece {
    /// Where it begins, in seconds from the start of the load.
    begins: f64,
    /// Where it would begin if the rate had always been that of the start: the arrivals expected until
    /// then ÷ that rate.
    begins_unmoved: f64,
    /// Its rate at the beginning ÷ that of the start of the load.
    rate: f64,
    /// By how much that grows each second.
    growth: f64,
}

/// A course laid over a load's time. Arrivals are asked for in ascending order.
#[derive(Clone, Debug)]
pub(super) struct Timeline {
    /// Those that have not begun, the next one last.
    coming: Vec<Piece>,
    current: Piece,
}

impl Timeline {
    pub(super) fn of(plan: &LoadPlan) -> Self {
        let (first, span) = (plan.rate_per_second, plan.duration_seconds);
        let mut pieces = vec![Piece {
            begins: 0.0,
            begins_unmoved: 0.0,
            rate: 1.0,
            growth: 0.0,
        }];
        let warm_up = plan.warm_up_seconds;
        match &plan.course {
            Course::Steady => {}
            Course::Ramp { to_per_second } => {
                let to = to_per_second / first;
                // A measurement without length has no room for a ramp.
                let growth = if span > 0.0 { (to - 1.0) / span } else { 0.0 };
                push(&mut pieces, warm_up, 1.0, growth);
                push(&mut pieces, warm_up + span, to, 0.0);
            }
            Course::Steps { then_per_second } => {
                let length = span / (then_per_second.len() + 1) as f64;
                for (index, rate) in then_per_second.iter().enumerate() {
                    let begins = warm_up + length * (index + 1) as f64;
                    push(&mut pieces, begins, rate / first, 0.0);
                }
            }
        }
        pieces.reverse();
        let current = pieces.pop().expect("the warm-up is a piece");
        Self {
            coming: pieces,
            current,
        }
    }

    /// Where the arrival lies that would be at `unmoved` seconds if the rate stayed what it is at the
    /// start; not before an earlier answer.
    pub(super) fn moved(&mut self, unmoved: f64) -> f64 {
        while let Some(next) = self.coming.pop_if(|next| next.begins_unmoved <= unmoved) {
            self.current = next;
        }
        self.current.moved(unmoved)
    }
}

impl Piece {
    /// The inverse of the arrivals expected by then: a root of `rate·t + growth/2·t² = rest`, in the form
    /// that loses no digits where the growth is next to nothing.
    fn moved(&self, unmoved: f64) -> f64 {
        if self.growth == 0.0 && self.rate == 1.0 {
            return self.begins + (unmoved - self.begins_unmoved);
        }
        let rest = unmoved - self.begins_unmoved;
        let root = (self.rate * self.rate + 2.0 * self.growth * rest).max(0.0);
        self.begins + 2.0 * rest / (self.rate + root.sqrt())
    }

    /// The inverse of [`Self::moved`].
    fn unmoved(&self, seconds: f64) -> f64 {
        let within = seconds - self.begins;
        self.begins_unmoved + within * (self.rate + self.growth / 2.0 * within)
    }
}

fn push(pieces: &mut Vec<Piece>, begins: f64, rate: f64, growth: f64) {
    let before = pieces.last().expect("the warm-up comes first");
    pieces.push(Piece {
        begins,
        begins_unmoved: before.unmoved(begins),
        rate,
        growth,
    });
}
