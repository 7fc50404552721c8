//! A comparison as JSON, for other programs. A renderer.

use serde::Serialize;

use super::{Absence, Change, Comparison, Difference, Estimate, Judgement, Overall};
use crate::report::verdict_word;

/// Name and version of the format.
const SCHEMA: &str = "hopbench.comparison/1";

#[derive(Serialize)]
struct Written<'c> {
    schema: &'static str,
    base_run_id: &'c str,
    head_run_id: &'c str,
    is_interleaved: bool,
    false_discovery_rate: f64,
    environment_differences: &'c [Difference],
    overall: Vec<WrittenOverall<'c>>,
    changes: Vec<WrittenChange<'c>>,
    missing: Vec<WrittenMissing<'c>>,
    new_cells: &'c [&'c str],
}

#[derive(Serialize)]
struct WrittenChange<'c> {
    cell_id: &'c str,
    metric: &'c str,
    verdict: &'static str,
    reason: Option<&'static str>,
    compared_by: String,
    base: f64,
    head: f64,
    /// HEAD ÷ BASE; null where figures are not above zero.
    ratio: Option<f64>,
    /// HEAD − BASE, where there is no ratio.
    difference: Option<f64>,
    ci95_low: Option<f64>,
    ci95_high: Option<f64>,
    p: Option<f64>,
}

#[derive(Serialize)]
struct WrittenOverall<'c> {
    metric: &'c str,
    verdict: &'static str,
    compared_by: String,
    cells: usize,
    ratio: Option<f64>,
    ci95_low: Option<f64>,
    ci95_high: Option<f64>,
    p: f64,
}

#[derive(Serialize)]
struct WrittenMissing<'c> {
    cell_id: &'c str,
    metric: &'c str,
    reason: &'static str,
}

/// The comparison.
pub(crate) fn render(comparison: &Comparison<'_>) -> serde_json::Value {
    let missing = comparison.missing.iter().map(|missing| WrittenMissing {
        cell_id: missing.cell_id,
        metric: missing.metric,
        reason: match missing.absence {
            Absence::Cell => "no such cell",
            Absence::Verdict(verdict) => verdict_word(verdict),
            Absence::Figure => "no such figure",
        },
    });
    let written = Written {
        schema: SCHEMA,
        base_run_id: &comparison.base.run_id,
        head_run_id: &comparison.head.run_id,
        is_interleaved: comparison.is_interleaved,
        false_discovery_rate: super::judge::FALSE_DISCOVERY_RATE,
        environment_differences: &comparison.differences,
        overall: comparison.overall.iter().map(written_overall).collect(),
        changes: comparison.changes.iter().map(written).collect(),
        missing: missing.collect(),
        new_cells: &comparison.new_cells,
    };
    serde_json::to_value(&written).expect("a comparison serialises")
}

fn written<'c>(change: &'c Change<'_>) -> WrittenChange<'c> {
    let (ratio, difference, interval) = match change.estimate {
        Some(Estimate::Ratio(ratio, interval)) => (Some(ratio), None, Some(interval)),
        Some(Estimate::Difference(difference, interval)) => {
            (None, Some(difference), Some(interval))
        }
        None => (None, None, None),
    };
    let [base, head] = change.figures;
    WrittenChange {
        cell_id: &change.cell.id,
        metric: change.metric,
        verdict: change.judgement.word(),
        reason: match change.judgement {
            Judgement::NotComparable(reason) => Some(reason.words()),
            Judgement::Worse | Judgement::Better | Judgement::NoChangeShown => None,
        },
        compared_by: change.basis.words(),
        base,
        head,
        ratio,
        difference,
        ci95_low: interval.map(|interval| interval.low),
        ci95_high: interval.map(|interval| interval.high),
        p: change.p,
    }
}

fn written_overall<'c>(overall: &'c Overall<'_>) -> WrittenOverall<'c> {
    let (ratio, interval) = match overall.estimate {
        Estimate::Ratio(ratio, interval) => (Some(ratio), Some(interval)),
        Estimate::Difference(..) => (None, None),
    };
    WrittenOverall {
        metric: overall.metric,
        verdict: overall.judgement.word(),
        compared_by: overall.basis.words(),
        cells: overall.cells,
        ratio,
        ci95_low: interval.map(|interval| interval.low),
        ci95_high: interval.map(|interval| interval.high),
        p: overall.p,
    }
}
