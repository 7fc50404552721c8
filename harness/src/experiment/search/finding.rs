//! What searches have in common: what they are told of a step, and what they find. Sans-IO.

/// What one step says of the rate that it was at.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Observation {
    /// Operations whose start fell into the step.
    pub(crate) attempted: u64,
    /// Those of them that did not end as they should.
    pub(crate) failed: u64,
    /// Of the latency that users wait for; `None` if nothing succeeded.
    pub(crate) latency_p99_ns: Option<u64>,
    /// Whether the generator was the limit, so that the step says nothing of the server.
    pub(crate) is_generator_bound: bool,
    /// Whether what is slow is the generator's own doing: it was busy, and busier than the server, or late itself by
    /// most of what it waited for.
    pub(crate) is_generator_to_blame: bool,
    /// Whether it was the limit only since the machine stood still: the same rate may tell more.
    pub(crate) is_spoilt: bool,
    /// How long the step took, with all that belongs to it.
    pub(crate) seconds: f64,
}

/// Bounds of a search, whatever it meets.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Bounds {
    /// Most steps.
    pub(crate) steps_max: u32,
    /// No step begins after so long, all steps of the search together.
    pub(crate) seconds_max: f64,
}

/// Why a search takes no further step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// It has found what it looked for.
    Converged,
    /// It took as many steps as it may.
    Steps,
    /// It took as long as it may.
    Seconds,
    /// No rate is left that could be tried.
    Exhausted,
}

impl End {
    /// The name in cell parameters.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Converged => "converged",
            Self::Steps => "steps",
            Self::Seconds => "seconds",
            Self::Exhausted => "exhausted",
        }
    }
}

/// What a search has found so far.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Finding {
    /// The highest rate that was held.
    pub(crate) per_second: Option<f64>,
    /// The lowest rate above it, or of all if none was held, that was not held although the generator
    /// kept up: the server's limit lies beneath.
    pub(crate) ceiling_per_second: Option<f64>,
    /// The lowest rate above what was held at which the generator was the limit.
    pub(crate) bound_per_second: Option<f64>,
    /// Why it goes no further; `None` while it does.
    pub(crate) end: Option<End>,
    /// Steps taken.
    pub(crate) steps: u32,
    /// Operations attempted in all of them.
    pub(crate) attempted: u64,
}

impl Finding {
    /// Whether the figure says how much the generator can do, not the server: no rate is known that was
    /// too much for the server alone, and there is one that was too much for the generator.
    pub(crate) fn is_generator_bound(&self) -> bool {
        match (self.bound_per_second, self.ceiling_per_second) {
            (None, _) => false,
            (Some(_), None) => true,
            (Some(bound), Some(ceiling)) => bound < ceiling,
        }
    }
}

/// Counts what every search counts, and ends those that take too much.
#[derive(Clone, Debug)]
pub(super) struct Ledger {
    bounds: Bounds,
    pub(super) steps: u32,
    pub(super) attempted: u64,
    seconds: f64,
}

impl Ledger {
    pub(super) fn new(bounds: Bounds) -> Self {
        Self {
            bounds,
            steps: 0,
            attempted: 0,
            seconds: 0.0,
        }
    }

    pub(super) fn enter(&mut self, observed: &Observation) {
        self.steps += 1;
        self.attempted += observed.attempted;
        self.seconds += observed.seconds;
    }

    /// Whether a bound has been reached.
    pub(super) fn end(&self) -> Option<End> {
        if self.steps >= self.bounds.steps_max {
            Some(End::Steps)
        } else if self.seconds >= self.bounds.seconds_max {
            Some(End::Seconds)
        } else {
            None
        }
    }
}

/// The lowest of `rates` that is above `held`, if there is such a one.
pub(super) fn lowest_above(held: Option<f64>, rates: impl Iterator<Item = f64>) -> Option<f64> {
    rates
        .filter(|rate| held.is_none_or(|held| *rate > held))
        .min_by(f64::total_cmp)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_generator_is_the_limit_unless_the_server_failed_beneath() {
        // Where the generator was the limit, where the server failed alone; whether the generator
        // bounds the figure.
        let cases = [
            (None, None, false),
            (None, Some(800.0), false),
            (Some(800.0), None, true),
            (Some(800.0), Some(1_600.0), true),
            (Some(1_600.0), Some(800.0), false),
            (Some(800.0), Some(800.0), false),
        ];
        for (bound_per_second, ceiling_per_second, expected) in cases {
            let finding = Finding {
                bound_per_second,
                ceiling_per_second,
                ..Finding::default()
            };
            assert_eq!(finding.is_generator_bound(), expected, "{finding:?}");
        }
    }
}
