//! Counts of windows as they are recorded, and back.

use super::Series;
use crate::measure::histogram::{WINDOW, WindowCounts};

impl Series {
    /// The counts of each block, in its order.
    #[must_use]
    pub fn of<'a>(blocks: impl IntoIterator<Item = &'a WindowCounts>) -> Self {
        let text = |block: &WindowCounts| {
            let counts = block.operations.iter().map(u64::to_string);
            counts.collect::<Vec<_>>().join(" ")
        };
        Self {
            window_ms: u64::try_from(WINDOW.as_millis()).expect("a window is a part of a second"),
            counts: blocks.into_iter().map(text).collect(),
        }
    }

    /// The rate of each window, per second, by block. What is no number, which only others write, is
    /// left out.
    #[must_use]
    #[allow(clippy::cast_precision_loss)] // counts of windows are far below 2^53
    pub fn rates_per_second(&self) -> Vec<Vec<f64>> {
        let windows_per_second = 1_000.0 / self.window_ms.max(1) as f64;
        let rate = |count: &str| Some(count.parse::<u64>().ok()? as f64 * windows_per_second);
        let blocks = self.counts.iter();
        blocks
            .map(|block| block.split_whitespace().filter_map(rate).collect())
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_come_back_as_rates_block_by_block() {
        let blocks = [vec![25, 0, 31], vec![7]].map(|operations| WindowCounts { operations });
        let series = Series::of(&blocks);
        assert_eq!(series.window_ms, 100);
        assert_eq!(series.counts, ["25 0 31", "7"]);
        assert_eq!(
            series.rates_per_second(),
            [vec![250.0, 0.0, 310.0], vec![70.0]]
        );
    }
}
