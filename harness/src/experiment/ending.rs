//! When the blocks of an experiment end that go on until ratios are narrow.
//!
//! All cells of the experiment go on together, since a ratio is formed inside a block. Which intervals are
//! honest under such a rule is [`crate::statistics`]' business.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use hopbench::record::{Cell, Precision, Ratio, WideBecause};
use serde_json::json;

use super::collect::Collected;
use crate::scenario::Automatic;
use crate::statistics::BLOCKS_OF_A_LOOK_MIN;

/// What is left of the time that a run may take, shared between experiments by what they need at least.
pub(super) struct Budget {
    end: Option<Instant>,
    /// What this experiment and those after it need at least.
    expected_seconds: f64,
}

impl Budget {
    pub(super) fn new(budget: Option<Duration>, expected_seconds: f64) -> Self {
        Self {
            end: budget.map(|budget| Instant::now() + budget),
            expected_seconds,
        }
    }

    /// When the next experiment should be over, which needs so long at least; `None` if there is no hurry.
    pub(super) fn deadline(&mut self, now: Instant, seconds: f64) -> Option<Instant> {
        let end = self.end?;
        let left = end.saturating_duration_since(now);
        let share = if self.expected_seconds > 0.0 {
            (seconds / self.expected_seconds).min(1.0)
        } else {
            1.0
        };
        self.expected_seconds -= seconds;
        Some(now + left.mul_f64(share))
    }
}

/// Says of each ratio of cells whose blocks are automatic whether it is narrow, and if it is not that this
/// is `because` of something. Whether all that decide are narrow; with nothing to decide they are.
pub(super) fn judge(ratios: &mut [Ratio], cells: &[&Collected], because: WideBecause) -> bool {
    let rules = cells.iter().filter_map(|cell| {
        let rule = cell.subject.blocks.automatic()?;
        Some((cell.subject.id.to_string(), rule))
    });
    let rules: BTreeMap<String, &Automatic> = rules.collect();
    let mut all_narrow = true;
    for ratio in ratios {
        let Some(rule) = rules.get(&ratio.cell_id) else {
            continue;
        };
        let is_decisive = rule.metrics.is_empty() || rule.metrics.contains(&ratio.metric);
        if !is_decisive {
            continue;
        }
        let is_narrow = is_narrow(ratio, rule);
        all_narrow &= is_narrow;
        ratio.precision = Some(Precision {
            half_width_ratio_max: rule.half_width_ratio,
            wide_because: (!is_narrow).then_some(because),
        });
    }
    all_narrow
}

/// By as many blocks as it takes to tell: a cell may have lost some in which the generator was the limit.
fn is_narrow(ratio: &Ratio, rule: &Automatic) -> bool {
    let interval = ratio.ci95_low.zip(ratio.ci95_high);
    let interval = interval.filter(|_| ratio.blocks >= BLOCKS_OF_A_LOOK_MIN);
    interval
        .is_some_and(|(low, high)| (high - low) / 2.0 <= rule.half_width_ratio * ratio.ratio.abs())
}

/// Has a cell whose blocks are automatic record what ended them.
pub(super) fn record_end(cell: &mut Cell, is_narrow: bool, because: WideBecause) {
    let end = if is_narrow {
        json!("narrow")
    } else {
        json!(because)
    };
    cell.parameters.insert("blocks_ended_by".into(), end);
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use hopbench::transport::find;

    use super::*;
    use crate::experiment::{Sample, Subject, cell_id, collect};
    use crate::scenario::Blocks;
    use crate::topology::{Site, Topology};
    use crate::variant::Variant;

    /// A cell over `stack` whose processor time in each block is as given; its wire is always the same.
    fn cell(stack: &str, cpu_ns: &[f64], metrics: &[&str]) -> Collected {
        let stack = find(stack).unwrap();
        let site = Site {
            topology: Topology::Direct,
            stack,
            core: stack,
            variant: Variant::default(),
            authenticate_calls: false,
            path: crate::path::Path::Loopback,
            beneath: None,
        };
        let rule = Automatic {
            least: 7,
            most: 40,
            half_width_ratio: 0.05,
            metrics: metrics.iter().map(|key| (*key).to_owned()).collect(),
        };
        let mut cell = Collected::new(Subject {
            id: cell_id("throughput", "invite", &site, "per-call"),
            site,
            parameters: BTreeMap::new(),
            blocks: Blocks::Automatic(rule),
        });
        for (block, ns) in (0..).zip(cpu_ns) {
            let mut sample = Sample::default();
            let figures = [
                ("server_cpu_ns_per_operation", *ns),
                ("wire_bytes_per_operation", 4_000.0),
            ];
            for (key, value) in figures {
                sample.scalars.insert(key.to_owned(), Some(value));
            }
            cell.samples.insert(block, sample);
        }
        cell
    }

    /// Ratios of `tls` to `tcp`, by metric: what is recorded of their precision, and whether all is narrow.
    fn judged(cpu_ns: &[f64], metrics: &[&str]) -> (BTreeMap<String, Option<Precision>>, bool) {
        let control = cell("tcp", &vec![100.0; cpu_ns.len()], metrics);
        let cells = [&cell("tls", cpu_ns, metrics), &control];
        let mut ratios = collect::ratios(&cells);
        let all_narrow = judge(&mut ratios, &cells, WideBecause::BudgetSpent);
        let found = ratios.into_iter();
        let found = found.map(|ratio| (ratio.metric, ratio.precision));
        (found.collect(), all_narrow)
    }

    const CPU: &str = "server_cpu_ns_per_operation";
    const CALM: [f64; 7] = [201.0, 200.0, 202.0, 199.0, 200.0, 198.0, 203.0];
    const WILD: [f64; 7] = [201.0, 300.0, 202.0, 150.0, 250.0, 198.0, 203.0];

    #[test]
    fn what_is_wide_says_so_and_why() {
        let (found, all_narrow) = judged(&CALM, &[]);
        assert!(all_narrow);
        assert_eq!(found.len(), 2, "{found:?}");
        for precision in found.values() {
            assert_eq!(precision.unwrap().wide_because, None);
        }
        let (found, all_narrow) = judged(&WILD, &[]);
        assert!(!all_narrow);
        let precision = found[CPU].unwrap();
        assert_eq!(precision.wide_because, Some(WideBecause::BudgetSpent));
        assert!((precision.half_width_ratio_max - 0.05).abs() < 1e-12);
        assert_eq!(
            found["wire_bytes_per_operation"].unwrap().wide_because,
            None
        );
    }

    /// With six blocks there is no interval of 97 %: what is known by Student's t is wide.
    #[test]
    fn few_blocks_are_not_narrow_by_luck() {
        let (_, all_narrow) = judged(&CALM[..2], &[]);
        assert!(!all_narrow);
    }

    #[test]
    fn only_the_metrics_that_are_named_decide() {
        let (found, all_narrow) = judged(&WILD, &["wire_bytes_per_operation"]);
        assert!(all_narrow);
        assert_eq!(found[CPU], None);
    }

    #[test]
    fn time_is_shared_by_what_is_needed() {
        let now = Instant::now();
        let mut budget = Budget::new(Some(Duration::from_secs(100)), 40.0);
        let share = |deadline: Option<Instant>| deadline.unwrap().duration_since(now).as_secs_f64();
        // A quarter of what is needed gets a quarter of the time.
        let first = share(budget.deadline(now, 10.0));
        assert!((first - 25.0).abs() < 1.0, "{first}");
        // The last one gets what is left, more than its part since the first was done at once.
        let last = share(budget.deadline(now, 30.0));
        assert!((last - 100.0).abs() < 1.0, "{last}");
        assert_eq!(Budget::new(None, 40.0).deadline(now, 10.0), None);
    }
}
