//! Cells that others tell together: a line through their figures over what distinguishes them – proxies, users,
//! round-trip times. It is fitted inside each block, so that its figures have blocks like any other: their
//! interval is over blocks, and the ratio to the control's fit is formed block by block.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::collect::Collected;
use super::{Sample, Subject};
use crate::statistics::{self, Regression};

/// What is fitted: the metric, and the keys of its figure at nothing, of its growth by one more, and of the share
/// of its variance that the line explains.
pub(super) type Fitted = [&'static str; 4];

/// The blocks in which all `cells` were measured: they are compared with each other.
pub(super) fn common_blocks(cells: &[(f64, &Collected)]) -> BTreeSet<u32> {
    let counted = cells.iter().map(|(_, cell)| cell.counted().into_keys());
    let blocks = counted.map(|blocks| blocks.collect::<BTreeSet<u32>>());
    blocks
        .reduce(|common, blocks| &common & &blocks)
        .unwrap_or_default()
}

/// Where the cells are, and what they have of `metric` in `block`; `None` if one has nothing.
pub(super) fn points(
    cells: &[(f64, &Collected)],
    metric: &str,
    block: u32,
) -> Option<Vec<(f64, f64)>> {
    let points = cells.iter().map(|(place, cell)| {
        let value = cell.values(metric).get(&block).copied()?;
        Some((*place, value))
    });
    points.collect()
}

/// Puts the figures of the line through `points`; they are missing without points.
pub(super) fn put(
    sample: &mut Sample,
    [_, fixed, slope, r_squared]: Fitted,
    points: Option<&[(f64, f64)]>,
) {
    let line: Option<Regression> = points.and_then(statistics::regression);
    let figures = [
        (fixed, line.map(|line| line.intercept)),
        (slope, line.map(|line| line.slope)),
        (r_squared, line.and_then(|line| line.r_squared)),
    ];
    for (key, value) in figures {
        sample.scalars.insert(key.to_owned(), value);
    }
}

/// Takes over those parameters of a cell that all of them have in common.
pub(super) fn share(parameters: &mut BTreeMap<String, Value>, cell: &Subject, keys: &[&str]) {
    for key in keys {
        if let Some(value) = cell.parameters.get(*key) {
            parameters.insert((*key).to_owned(), value.clone());
        }
    }
}
