//! What the GitHub action `benchmark-action/github-action-benchmark` reads with its tools
//! `customSmallerIsBetter` and `customBiggerIsBetter`. An exporter.
//!
//! A file holds figures of one direction, so there are two. The action makes a chart of every name and
//! compares a figure with that of the commit before; `range` is text that it shows, `extra` too.

use hopbench::record::{Direction, Run};
use serde::{Deserialize, Serialize};

use super::{ExportError, Exporter, File};
use crate::figures::{self, Figure, unit_word};

/// The exporter.
pub(super) struct GithubActionBenchmark;

/// One figure, as the action knows it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Bench {
    /// What is charted as one line.
    pub(crate) name: String,
    /// Free text.
    pub(crate) unit: String,
    /// In that unit.
    pub(crate) value: f64,
    /// `± x`, where there is an interval.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) range: Option<String>,
    /// Shown with the point.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) extra: Option<String>,
}

/// What a figure is called there: its subject, and the key of its metric.
pub(crate) fn name(subject: &str, metric: &str) -> String {
    format!("{subject} {metric}")
}

impl Bench {
    /// With the run's name and the exact interval in `extra`.
    pub(crate) fn new(
        name: String,
        unit: String,
        value: f64,
        interval: Option<(f64, f64)>,
        run_id: &str,
    ) -> Self {
        // The interval need not be symmetric, and one number has to stand for both sides.
        let half = interval.map(|(low, high)| (high - value).max(value - low));
        let told = interval.map_or(String::new(), |(low, high)| {
            format!("\n95 % interval [{low}, {high}]")
        });
        Self {
            name,
            unit,
            value,
            range: half.map(|half| format!("± {half}")),
            extra: Some(format!("run {run_id}{told}")),
        }
    }
}

impl Exporter for GithubActionBenchmark {
    fn export(&self, run: &Run) -> Result<Vec<File>, ExportError> {
        let figures = figures::sound(run);
        let file = |name: &str, direction: Direction| {
            let of_direction = figures
                .iter()
                .filter(|figure| figure.direction == direction);
            let benches: Vec<Bench> = of_direction.map(|figure| bench(run, figure)).collect();
            let text = serde_json::to_string_pretty(&benches).expect("benches serialise") + "\n";
            File {
                name: name.to_owned(),
                text,
            }
        };
        Ok(vec![
            file("smaller-is-better.json", Direction::Lower),
            file("bigger-is-better.json", Direction::Higher),
        ])
    }
}

fn bench(run: &Run, figure: &Figure<'_>) -> Bench {
    Bench::new(
        name(&figure.subject(), figure.metric),
        unit_word(figure.unit).to_owned(),
        figure.value,
        figure.interval,
        &run.run_id,
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_range_covers_the_interval_and_units_stay() {
        let bench = Bench::new("a b_ns".into(), "ns".into(), 10.0, Some((9.0, 14.5)), "r");
        assert_eq!(bench.range.as_deref(), Some("± 4.5"));
        assert_eq!(
            bench.extra.as_deref(),
            Some("run r\n95 % interval [9, 14.5]")
        );
        let json = serde_json::json!(bench);
        assert_eq!(
            (&json["value"], &json["unit"]),
            (&10.0.into(), &"ns".into())
        );
        let bare = Bench::new("a".into(), "ns".into(), 10.0, None, "r");
        assert!(serde_json::json!(bare).get("range").is_none());
    }
}
