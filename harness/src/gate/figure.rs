//! A figure as a gate names it: `head.invite.tls.setup_latency_ns.p99`. Which run, which cell, which
//! metric, what of it.

use std::ops::Range;

use hopbench::record::{Metric, metric};

use super::error::{GateError, Problem};

/// A figure, not looked up yet.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Figure {
    /// Whose.
    pub(super) side: Side,
    /// What its cell is called, in any order.
    pub(super) words: Vec<(String, Range<usize>)>,
    /// Key of the metric.
    pub(super) metric: &'static metric::Known,
    /// What of it.
    pub(super) statistic: Statistic,
    /// Where it stands in the gate.
    pub(super) place: Range<usize>,
}

/// Which run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    /// The run that is looked at; of a comparison, HEAD.
    Head,
    /// What it is compared with.
    Base,
}

/// What of a metric.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Statistic {
    Value,
    Ci95Low,
    Ci95High,
    Min,
    Mean,
    P50,
    P90,
    P99,
    P999,
    Max,
}

/// As they are written.
pub(super) const STATISTICS: [&str; 10] = [
    "value",
    "ci95_low",
    "ci95_high",
    "min",
    "mean",
    "p50",
    "p90",
    "p99",
    "p999",
    "max",
];

impl Statistic {
    const ALL: [Self; 10] = [
        Self::Value,
        Self::Ci95Low,
        Self::Ci95High,
        Self::Min,
        Self::Mean,
        Self::P50,
        Self::P90,
        Self::P99,
        Self::P999,
        Self::Max,
    ];

    fn named(name: &str) -> Option<Self> {
        let place = STATISTICS.iter().position(|known| *known == name)?;
        Some(Self::ALL[place])
    }

    /// This of `metric`, or why there is none.
    pub(super) fn of(self, metric: &Metric) -> Result<f64, &'static str> {
        const NO_FIGURE: &str = "the cell has no such figure";
        const NO_INTERVAL: &str = "the figure has no interval: it is of one block";
        let histogram = metric.histogram.as_ref();
        let histogram = histogram.ok_or(if metric.value.is_some() {
            "the metric is no distribution: it has a value and an interval only"
        } else {
            NO_FIGURE
        });
        match self {
            Self::Value => metric.value.ok_or(NO_FIGURE),
            Self::Ci95Low => metric.ci95_low.ok_or(NO_INTERVAL),
            Self::Ci95High => metric.ci95_high.ok_or(NO_INTERVAL),
            Self::Min => histogram.map(|h| h.min as f64),
            Self::Mean => histogram.map(|h| h.mean),
            Self::P50 => histogram.map(|h| h.p50 as f64),
            Self::P90 => histogram.map(|h| h.p90 as f64),
            Self::P99 => histogram.map(|h| h.p99 as f64),
            Self::P999 => histogram.map(|h| h.p999 as f64),
            Self::Max => histogram.map(|h| h.max as f64),
        }
    }
}

impl Figure {
    /// The figure that the words of a path name; `text` is the gate.
    pub(super) fn of(text: &str, path: Vec<(String, Range<usize>)>) -> Result<Self, GateError> {
        let place = path[0].1.start..path[path.len() - 1].1.end;
        let mut words = path;
        let side = match words[0].0.as_str() {
            "head" => Some(Side::Head),
            "base" => Some(Side::Base),
            _ => None,
        };
        if side.is_some() && words.len() > 1 {
            words.remove(0);
        }
        let at = words
            .iter()
            .position(|(word, _)| metric::known(word).is_some());
        let Some(at) = at else {
            return Err(unknown_metric(text, &words));
        };
        let after = words.split_off(at + 1);
        let (key, _) = words.pop().expect("the metric is at `at`");
        let statistic = match after.as_slice() {
            [] => Statistic::Value,
            [(name, place), rest @ ..] => {
                let wrong = |found: &str, place: &Range<usize>| {
                    let found = found.to_owned();
                    GateError::new(text, place.clone(), Problem::UnknownStatistic { found })
                };
                let statistic = Statistic::named(name).ok_or_else(|| wrong(name, place))?;
                if let Some((name, place)) = rest.first() {
                    return Err(wrong(name, place));
                }
                statistic
            }
        };
        Ok(Self {
            side: side.unwrap_or(Side::Head),
            words,
            metric: metric::known(&key).expect("it is known"),
            statistic,
            place,
        })
    }
}

/// The last word is meant to be the metric, or the one before a statistic.
fn unknown_metric(text: &str, words: &[(String, Range<usize>)]) -> GateError {
    let is_statistic = |word: &str| Statistic::named(word).is_some();
    let named = words.iter().rev().find(|(word, _)| !is_statistic(word));
    let (found, place) = named.unwrap_or(&words[words.len() - 1]).clone();
    let likeness = |key: &str| strsim::jaro_winkler(&found, key);
    let keys = metric::KNOWN.iter().map(|known| known.key);
    let nearest = keys
        .max_by(|a, b| likeness(a).total_cmp(&likeness(b)))
        .expect("there are metrics");
    GateError::new(text, place, Problem::UnknownMetric { found, nearest })
}
