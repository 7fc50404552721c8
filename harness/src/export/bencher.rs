//! Bencher Metric Format (BMF): benchmarks, each with measures, each with a value and its bounds. An exporter.
//!
//! A cell is a benchmark, a ratio one of its own. Bencher knows two measures from the start: `latency` in
//! nanoseconds, and `throughput` in operations a second. They are what a user waits for in the cell, and what was
//! completed; every other metric is a measure whose slug is its key.

use std::collections::BTreeMap;

use hopbench::record::Run;
use serde::Serialize;

use super::{ExportError, Exporter, File};
use crate::figures::{self, Figure};

/// The exporter.
pub(super) struct Bencher;

/// A figure there.
#[derive(Debug, Serialize)]
struct Measure {
    value: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    lower_value: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    upper_value: Option<f64>,
}

/// What a user waits for; the first of these that a cell has is its `latency`.
const WAITED_FOR: [&str; 6] = [
    "hop_ready_to_registered_ns",
    "session_request_delay_ns",
    "registration_delay_ns",
    "outage_ns",
    "setup_latency_ns",
    "session_request_delay_fixed_ns",
];
const COMPLETED: &str = "throughput_per_second";

impl Exporter for Bencher {
    fn export(&self, run: &Run) -> Result<Vec<File>, ExportError> {
        let mut benchmarks: BTreeMap<String, BTreeMap<String, Measure>> = BTreeMap::new();
        for figure in figures::sound(run) {
            let measures = benchmarks.entry(figure.subject()).or_default();
            let measure = Measure {
                value: figure.value,
                lower_value: figure.interval.map(|(low, _)| low),
                upper_value: figure.interval.map(|(_, high)| high),
            };
            measures.insert(slug(&figure), measure);
        }
        let text = serde_json::to_string_pretty(&benchmarks).expect("keys are strings") + "\n";
        Ok(vec![File {
            name: "bmf.json".to_owned(),
            text,
        }])
    }
}

/// The measure of a figure: at most 64 letters, digits and hyphens.
fn slug(figure: &Figure<'_>) -> String {
    if figure.control.is_some() {
        return ratio_slug(figure.metric);
    }
    let has = |key: &&&str| {
        figure
            .cell
            .metrics
            .get(**key)
            .is_some_and(|m| m.value.is_some())
    };
    if WAITED_FOR.iter().find(has) == Some(&figure.metric) {
        "latency".to_owned()
    } else if figure.metric == COMPLETED {
        "throughput".to_owned()
    } else {
        hyphens(figure.metric)
    }
}

/// A ratio has no unit, so its measure must not share the one of its metric.
fn ratio_slug(metric: &str) -> String {
    hyphens(metric) + "-ratio"
}

fn hyphens(key: &str) -> String {
    key.replace('_', "-")
}

#[cfg(test)]
mod tests {
    use hopbench::record::metric::{KNOWN, known};

    use super::*;
    use crate::report::fixture;

    #[test]
    fn slugs_are_short_enough_and_distinct() {
        let mut slugs: Vec<String> = KNOWN.iter().map(|known| hyphens(known.key)).collect();
        slugs.extend(KNOWN.iter().map(|known| ratio_slug(known.key)));
        let count = slugs.len();
        slugs.sort();
        slugs.dedup();
        assert_eq!(slugs.len(), count);
        for slug in slugs {
            assert!(slug.len() <= 64, "{slug} has {} letters", slug.len());
            assert!(
                slug.bytes()
                    .all(|b| b == b'-' || b.is_ascii_lowercase() || b.is_ascii_digit())
            );
        }
        for key in WAITED_FOR.iter().chain([&COMPLETED]) {
            assert!(known(key).is_some(), "{key}");
        }
    }

    #[test]
    fn a_cell_has_one_latency_which_is_what_its_user_waits_for() {
        let run = fixture::run();
        let files = Bencher.export(&run).expect("nothing to decode");
        let bmf: serde_json::Value = serde_json::from_str(&files[0].text).expect("JSON");
        let sound = |cell: &&hopbench::record::Cell| cell.verdict == hopbench::record::Verdict::Ok;
        let setup = run
            .cells
            .iter()
            .filter(sound)
            .find(|cell| cell.experiment == "setup");
        let setup = setup.expect("a cell of set-up");
        let measures = &bmf[&setup.id];
        let waited = &setup.metrics["hop_ready_to_registered_ns"];
        assert_eq!(
            measures["latency"]["value"],
            waited.value.expect("measured")
        );
        assert_eq!(measures["latency"]["lower_value"].as_f64(), waited.ci95_low);
        assert!(measures.get("hop-ready-to-registered-ns").is_none());
        let known = setup
            .metrics
            .values()
            .filter(|metric| metric.value.is_some());
        assert_eq!(measures.as_object().expect("measures").len(), known.count());
    }
}
