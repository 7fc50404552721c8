//! What a run must keep to beyond its shape, so that nobody compares or charts what it does not say.

use std::collections::HashSet;

use crate::measure::histogram::{LatencyHistogram, RateHistogram};

use super::{Cell, Histogram, Metric, Run, Unit, Verdict};

/// Where a run contradicts itself: the place as a JSON path, and how.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Contradiction {
    pub(super) place: String,
    pub(super) problem: String,
}

/// The first contradiction of `run`, in the order of the file.
pub(super) fn contradiction(run: &Run) -> Option<Contradiction> {
    let mut ids = HashSet::new();
    for (index, cell) in run.cells.iter().enumerate() {
        let place = format!("cells[{index}]");
        if let Some(problem) = problem_of_id(cell) {
            return told(format!("{place}.id"), problem);
        }
        if !ids.insert(cell.id.as_str()) {
            return told(
                format!("{place}.id"),
                format!("{:?} is there twice", cell.id),
            );
        }
        if (cell.verdict == Verdict::Ok) != cell.reason.is_none() {
            let problem = "expected a reason exactly where the verdict is not `ok`".to_owned();
            return told(format!("{place}.reason"), problem);
        }
        for (key, metric) in &cell.metrics {
            if let Some(problem) = problem_of_histogram(metric) {
                return told(format!("{place}.metrics.{key}.histogram"), problem);
            }
        }
    }
    let ends = run.ratios.iter().enumerate().flat_map(|(index, ratio)| {
        let ends = [
            ("cell_id", &ratio.cell_id),
            ("control_cell_id", &ratio.control_cell_id),
        ];
        ends.map(|(key, id)| (index, key, id))
    });
    for (index, key, id) in ends {
        if !ids.contains(id.as_str()) {
            let place = format!("ratios[{index}].{key}");
            return told(place, format!("there is no cell {id:?}"));
        }
    }
    None
}

fn told(place: String, problem: String) -> Option<Contradiction> {
    Some(Contradiction { place, problem })
}

/// Cells are found by their ids, and told by their parts: both must name the same one.
fn problem_of_id(cell: &Cell) -> Option<String> {
    let parts = [
        &cell.experiment,
        &cell.workload,
        &cell.stack,
        &cell.topology,
        &cell.lifecycle,
        &cell.path,
    ];
    let expected = parts.map(String::as_str).join("/");
    let (named, _) = cell.id.split_once('?').unwrap_or((&cell.id, ""));
    (named != expected).then(|| format!("expected {expected:?}, found {named:?}"))
}

/// The lossless form is what charts are drawn from, the figures beside it are what tables say.
fn problem_of_histogram(metric: &Metric) -> Option<String> {
    let histogram = metric.histogram.as_ref()?;
    let count = match samples(histogram, metric.unit) {
        Ok(count) => count,
        Err(error) => return Some(format!("hdr_v2_base64: {error}")),
    };
    (count != histogram.count).then(|| {
        format!(
            "count is {}, but there are {count} samples in hdr_v2_base64",
            histogram.count
        )
    })
}

fn samples(histogram: &Histogram, unit: Unit) -> Result<u64, String> {
    let decoded = match unit {
        Unit::PerSecond => RateHistogram::try_from(histogram).map(|rates| rates.values().len()),
        Unit::Ns | Unit::Bytes | Unit::Ratio | Unit::Count => {
            LatencyHistogram::try_from(histogram).map(|latencies| latencies.values().len())
        }
    };
    decoded.map_err(|error| error.to_string())
}
