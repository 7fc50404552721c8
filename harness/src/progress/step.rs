//! What a run is at, in words.

use std::time::Duration;

use hopbench::record::{CellId, Unit};
use indicatif::HumanBytes;

/// What goes on now.
pub(crate) struct Step {
    /// What it is, that which tells it from other steps first: a narrow terminal cuts the rest off.
    pub(super) words: String,
    /// What it has in common with the other steps of its round.
    pub(super) round: String,
    /// What is known of it; empty if nothing is.
    pub(super) so_far: String,
}

impl Step {
    /// A block, from 1 on, of something that is no single cell.
    pub(crate) fn named(name: &str, block: u32, blocks: u32) -> Self {
        let words = format!("{name}, block {block} of {blocks}");
        Self {
            round: words.clone(),
            words,
            so_far: String::new(),
        }
    }
}

impl From<CellStep<'_>> for Step {
    fn from(step: CellStep<'_>) -> Self {
        Self {
            words: step.words(),
            round: step.round(),
            so_far: step.so_far_words(),
        }
    }
}

/// A block of a cell.
pub(crate) struct CellStep<'a> {
    /// The cell.
    pub(crate) id: &'a CellId,
    /// Operations a second that it is loaded with, if it is.
    pub(crate) rate_per_second: Option<f64>,
    /// From 0 on.
    pub(crate) block: u32,
    /// How many there are.
    pub(crate) blocks: u32,
    /// What the blocks before have yielded: what it is, the figure, its unit.
    pub(crate) so_far: Option<(&'static str, f64, Unit)>,
}

impl CellStep<'_> {
    fn words(&self) -> String {
        let CellId {
            experiment,
            workload,
            stack,
            topology,
            lifecycle,
            path: _,
            distinguishing,
        } = self.id;
        let rate = self.rate_per_second;
        let rate = rate.map_or(String::new(), |rate| format!(" at {rate}/s"));
        let mut words = format!(
            "{experiment} of {stack}, block {} of {}: {workload}{rate}, {topology}, {lifecycle}",
            self.block + 1,
            self.blocks
        );
        for (key, value) in distinguishing.iter().filter(|(key, _)| *key != "rate") {
            let value = value
                .as_str()
                .map_or_else(|| value.to_string(), str::to_owned);
            words.push_str(&format!(", {key}={value}"));
        }
        words
    }

    fn round(&self) -> String {
        let CellId {
            experiment,
            workload,
            lifecycle,
            ..
        } = self.id;
        format!(
            "{experiment}, block {} of {}: {workload}, {lifecycle}",
            self.block + 1,
            self.blocks
        )
    }

    /// `time to registered so far 1.1ms`
    fn so_far_words(&self) -> String {
        let Some((what, figure, unit)) = self.so_far else {
            return String::new();
        };
        let figure = match unit {
            Unit::Ns => format!("{:.1?}", Duration::from_nanos(figure as u64)),
            Unit::Bytes => HumanBytes(figure as u64).to_string(),
            Unit::PerSecond => format!("{figure:.0}/s"),
            Unit::Ratio | Unit::Count => format!("{figure:.3}"),
        };
        format!("{what} so far {figure}")
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn a_step_says_what_it_is_and_what_is_known() {
        let id = CellId {
            experiment: "throughput".to_owned(),
            workload: "invite".to_owned(),
            stack: "tls".to_owned(),
            topology: "direct".to_owned(),
            lifecycle: "per-call".to_owned(),
            path: "loopback".to_owned(),
            distinguishing: BTreeMap::new(),
        };
        let id = id.with("rate", 500).with("resumption", "ticket");
        let mut step = CellStep {
            id: &id,
            rate_per_second: Some(500.0),
            block: 2,
            blocks: 6,
            so_far: None,
        };
        assert_eq!(
            step.words(),
            "throughput of tls, block 3 of 6: invite at 500/s, direct, per-call, resumption=ticket"
        );
        assert_eq!(step.round(), "throughput, block 3 of 6: invite, per-call");
        assert_eq!(step.so_far_words(), "");
        for (figure, unit, expected) in [
            (412_345.0, Unit::Ns, "delay so far 412.3µs"),
            (9_000.0, Unit::Bytes, "delay so far 8.79 KiB"),
        ] {
            step.so_far = Some(("delay", figure, unit));
            assert_eq!(step.so_far_words(), expected);
        }
    }
}
