//! How good a plan is: what was measured with the most users is held out, predicted from what was
//! measured with fewer, and compared.
//!
//! Of memory, what is compared is its growth from the fewest users on: a process takes megabytes before
//! anybody has come, and to predict those is no feat.

use hopbench::record::{Cell, Fit, Metric, Run, Unit};
use hopbench::transport::Stack;
use serde::Serialize;

use super::Origin;
use super::evidence::{Evidence, Meter, SLOPES, Wanted};
use super::figure::Figure;
use super::scale::{CALL_CPU, Crowd, IDLE_CPU, REFRESH_CPU, REGISTRATION_CPU};
use crate::statistics::{self, Interval};

const SCHEMA: &str = "hopbench.plan-validation/1";

/// What is held out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum HeldOut {
    /// What was measured with so many users.
    Users(u32),
    /// Of everything what was measured with the most users.
    Largest,
}

/// Predictions, each beside what was measured.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct Validation {
    pub(crate) schema: &'static str,
    pub(crate) runs: Vec<Origin>,
    pub(crate) held_out: HeldOut,
    pub(crate) target_percent: f64,
    pub(crate) predictions: Vec<Prediction>,
}

/// One figure that was held out.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct Prediction {
    pub(crate) stack: &'static str,
    pub(crate) cell_id: String,
    pub(crate) metric: String,
    pub(crate) unit: Unit,
    /// With how many users it was measured.
    pub(crate) users: f64,
    /// With how many users at most it was predicted.
    pub(crate) from_users: f64,
    pub(crate) predicted: Figure,
    pub(crate) measured: Figure,
    /// Of what was measured; above zero where too much was predicted.
    pub(crate) error_percent: f64,
}

impl Prediction {
    pub(crate) fn is_within(&self, target_percent: f64) -> bool {
        // Not a number is no hit.
        self.error_percent.abs() <= target_percent
    }
}

impl Validation {
    /// Whether every prediction is as good as it should be; of none nothing is.
    pub(crate) fn is_met(&self) -> bool {
        let mut predictions = self.predictions.iter();
        !self.predictions.is_empty() && predictions.all(|one| one.is_within(self.target_percent))
    }
}

/// Predicts what was held out, over each of `stacks`.
pub(crate) fn validate(
    runs: &[Run],
    stacks: &[&'static Stack],
    held_out: HeldOut,
    target_percent: f64,
) -> Validation {
    let of_stack = |stack: &&'static Stack| {
        let evidence = Evidence { runs, stack };
        let mut predictions = of_crowds(evidence, held_out);
        predictions.extend(of_ramps(evidence, held_out));
        predictions
    };
    Validation {
        schema: SCHEMA,
        runs: runs.iter().map(Origin::of).collect(),
        held_out,
        target_percent,
        predictions: stacks.iter().flat_map(of_stack).collect(),
    }
}

/// Of cells of the experiment `scale`.
fn of_crowds(evidence: Evidence<'_>, held_out: HeldOut) -> Vec<Prediction> {
    let all = Crowd::of(evidence);
    let held = match held_out {
        HeldOut::Users(users) => Some(f64::from(users)),
        HeldOut::Largest => all.most_users(),
    };
    let Some((held, cell)) = held.and_then(|users| Some((users, all.at(users)?))) else {
        return Vec::new();
    };
    let fewer = all.below(held);
    let Some(from_users) = fewer.most_users() else {
        return Vec::new();
    };
    let compared = |metric: &str, predicted: Figure, measured: Figure| Prediction {
        from_users,
        ..prediction(evidence.stack, cell, metric, held, predicted, measured)
    };
    let memory = [Meter::Heap, Meter::Resident, Meter::Kernel];
    let memory = memory.into_iter().filter_map(|meter| {
        let key = meter.scale_key();
        let points = fewer.points(key);
        let (fewest, least) = *points.first()?;
        let line = statistics::regression(&points)?;
        let growth = Figure::measured(line.slope, line.slope_ci95).scaled(held - fewest);
        let start = line.intercept + line.slope * fewest - least;
        let measured = Figure::of(cell.metrics.get(key)?)?;
        Some(compared(
            key,
            growth.shifted(start),
            measured.shifted(-least),
        ))
    });
    let cpu = [CALL_CPU, REGISTRATION_CPU, REFRESH_CPU]
        .into_iter()
        .filter_map(|key| {
            let predicted = fewer.cpu_ns(key, held)?.figure?;
            Some(compared(
                key,
                predicted,
                Figure::of(cell.metrics.get(key)?)?,
            ))
        });
    let idle = fewer.idle_cores(held).and_then(|predicted| {
        let measured = Figure::of(cell.metrics.get(IDLE_CPU)?)?;
        Some(compared(IDLE_CPU, predicted, measured))
    });
    memory.chain(cpu).chain(idle).collect()
}

/// Of cells of the experiment `memory` that recorded what their slopes were fitted to.
fn of_ramps(evidence: Evidence<'_>, held_out: HeldOut) -> Vec<Prediction> {
    let mut predictions = Vec::new();
    for (_, cell) in evidence.sound(&Wanted::MEMORY) {
        for key in SLOPES {
            let fit = cell.metrics.get(key).and_then(|metric| metric.fit.as_ref());
            let of_ramp = fit.and_then(|fit| {
                let held = match held_out {
                    HeldOut::Users(users) => f64::from(users),
                    HeldOut::Largest => *fit.at.last()?,
                };
                Some((held, grown(fit, held)?))
            });
            if let Some((held, (from_users, predicted, measured))) = of_ramp {
                predictions.push(Prediction {
                    from_users,
                    ..prediction(evidence.stack, cell, key, held, predicted, measured)
                });
            }
        }
    }
    predictions
}

/// Growth from the first reading to the one that is held out: with how many users at most it is predicted;
/// predicted, measured. `None` unless three numbers of users at least are there, two of them fewer.
fn grown(fit: &Fit, held: f64) -> Option<(f64, Figure, Figure)> {
    let place = fit.at.iter().position(|at| *at == held)?;
    let fewer = fit.at.get(..place).filter(|fewer| fewer.len() >= 2)?;
    let (first, from) = (*fewer.first()?, *fewer.last()?);
    let mut predicted = Vec::new();
    let mut measured = Vec::new();
    let mut ends: Option<Interval> = None;
    for readings in &fit.readings {
        let points: Vec<(f64, f64)> = fewer
            .iter()
            .copied()
            .zip(readings.iter().copied())
            .collect();
        let line = statistics::regression(&points)?;
        let (start, end) = (*readings.first()?, *readings.get(place)?);
        let at = |slope: f64| slope * (held - first);
        // The line need not pass through its first reading.
        let off = line.intercept + line.slope * first - start;
        predicted.push(at(line.slope) + off);
        measured.push(end - start);
        if let Some(ci95) = line.slope_ci95 {
            let (low, high) = (at(ci95.low) + off, at(ci95.high) + off);
            let all = ends.unwrap_or(Interval { low, high });
            ends = Some(all.holding(low).holding(high));
        }
    }
    let range = |values: &[f64]| {
        let value = statistics::median(values)?;
        let holds = |ci95: Interval, value: &f64| ci95.holding(*value);
        let point = Interval {
            low: value,
            high: value,
        };
        let all = (values.len() > 1).then(|| values.iter().fold(point, holds));
        Some(Figure::measured(value, all))
    };
    let predicted = range(&predicted)?.or_within(ends);
    Some((from, predicted, range(&measured)?))
}

fn prediction(
    stack: &'static Stack,
    cell: &Cell,
    metric: &str,
    users: f64,
    predicted: Figure,
    measured: Figure,
) -> Prediction {
    let unit = cell
        .metrics
        .get(metric)
        .map_or(Unit::Count, |of: &Metric| of.unit);
    Prediction {
        stack: stack.name,
        cell_id: cell.id.clone(),
        metric: metric.to_owned(),
        unit,
        users,
        from_users: users,
        predicted,
        measured,
        error_percent: 100.0 * (predicted.value - measured.value) / measured.value.abs(),
    }
}
