//! Names of cells, and cells that keep to the rule between verdict and reason.

use std::collections::BTreeMap;
use std::fmt;

use serde_json::Value;

use super::{Cell, Metric, Verdict};

/// What tells one cell of a run from all others. Displayed, it is [`Cell::id`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CellId {
    /// The question: `setup`, `memory`, `throughput`.
    pub experiment: String,
    /// `register`, `invite`.
    pub workload: String,
    /// `carrier[@tunnel]`.
    pub stack: String,
    /// `direct`.
    pub topology: String,
    /// `per-registration` or `per-call`.
    pub lifecycle: String,
    /// `loopback`.
    pub path: String,
    /// The parameters without which two cells would have one name, for example a memory cell's
    /// `stage`; in the identifier in order of their keys.
    pub distinguishing: BTreeMap<String, Value>,
}

impl CellId {
    /// The same cell with one more distinguishing parameter.
    #[must_use]
    pub fn with(mut self, key: &str, value: impl Into<Value>) -> Self {
        self.distinguishing.insert(key.to_owned(), value.into());
        self
    }

    /// A cell with its figures, verdict `ok`.
    #[must_use]
    pub fn measured(&self, repetitions: u32, metrics: BTreeMap<String, Metric>) -> Cell {
        Cell {
            repetitions,
            metrics,
            ..self.cell(Verdict::Ok, None)
        }
    }

    /// A cell whose generator was the bottleneck: its figures are shown, with `reason`, but enter
    /// no ratio.
    #[must_use]
    pub fn generator_bound(
        &self,
        repetitions: u32,
        metrics: BTreeMap<String, Metric>,
        reason: impl fmt::Display,
    ) -> Cell {
        Cell {
            repetitions,
            metrics,
            ..self.cell(Verdict::GeneratorBound, Some(reason.to_string()))
        }
    }

    /// A cell that could not be measured because of `reason`.
    #[must_use]
    pub fn failed(&self, reason: impl fmt::Display) -> Cell {
        self.cell(Verdict::Failed, Some(reason.to_string()))
    }

    /// A cell that this machine or build cannot run because of `reason`.
    #[must_use]
    pub fn unsupported(&self, reason: impl fmt::Display) -> Cell {
        self.cell(Verdict::Unsupported, Some(reason.to_string()))
    }

    fn cell(&self, verdict: Verdict, reason: Option<String>) -> Cell {
        Cell {
            id: self.to_string(),
            experiment: self.experiment.clone(),
            workload: self.workload.clone(),
            stack: self.stack.clone(),
            topology: self.topology.clone(),
            lifecycle: self.lifecycle.clone(),
            path: self.path.clone(),
            parameters: self.distinguishing.clone(),
            verdict,
            reason,
            repetitions: 0,
            metrics: BTreeMap::new(),
            steps: Vec::new(),
        }
    }
}

impl fmt::Display for CellId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            experiment,
            workload,
            stack,
            topology,
            lifecycle,
            path,
            distinguishing,
        } = self;
        write!(
            f,
            "{experiment}/{workload}/{stack}/{topology}/{lifecycle}/{path}"
        )?;
        for (index, (key, value)) in distinguishing.iter().enumerate() {
            let separator = if index == 0 { '?' } else { '&' };
            match value {
                Value::String(text) => write!(f, "{separator}{key}={text}")?,
                Value::Null
                | Value::Bool(_)
                | Value::Number(_)
                | Value::Array(_)
                | Value::Object(_) => write!(f, "{separator}{key}={value}")?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id() -> CellId {
        CellId {
            experiment: "memory".to_owned(),
            workload: "register".to_owned(),
            stack: "udp@wireguard".to_owned(),
            topology: "direct".to_owned(),
            lifecycle: "per-registration".to_owned(),
            path: "loopback".to_owned(),
            distinguishing: BTreeMap::new(),
        }
    }

    #[test]
    fn the_id_names_what_distinguishes_in_order_of_keys() {
        let plain = "memory/register/udp@wireguard/direct/per-registration/loopback";
        assert_eq!(id().to_string(), plain);
        let distinguished = id().with("stage", "registered").with("rate", 200);
        let expected = format!("{plain}?rate=200&stage=registered");
        assert_eq!(distinguished.to_string(), expected);

        let cell = distinguished.measured(5, BTreeMap::new());
        assert_eq!(cell.id, expected);
        assert_eq!(cell.parameters["rate"], 200);
    }

    #[test]
    fn only_an_ok_cell_has_no_reason() {
        let metrics = || {
            BTreeMap::from([(
                "setup_latency_ns".to_owned(),
                Metric::missing("setup_latency_ns"),
            )])
        };
        let cells = [
            (id().measured(3, metrics()), Verdict::Ok, None, 1),
            (
                id().generator_bound(3, metrics(), "core full"),
                Verdict::GeneratorBound,
                Some("core full"),
                1,
            ),
            (id().failed("gone"), Verdict::Failed, Some("gone"), 0),
            (
                id().unsupported("no TUN"),
                Verdict::Unsupported,
                Some("no TUN"),
                0,
            ),
        ];
        for (cell, verdict, reason, metrics) in cells {
            assert_eq!(cell.verdict, verdict);
            assert_eq!(cell.reason.as_deref(), reason);
            assert_eq!(cell.metrics.len(), metrics);
        }
    }
}
