//! Change points: where the level of a series has become another one. Single outliers, noise and slow drift are
//! none. Pure; the only randomness is seeded.
//!
//! 1. **Candidates** come from an optimal partition into levels: the sum of absolute deviations from each level's
//!    median, plus a penalty for each level (`2 ln n` times the noise, which is taken from differences of
//!    neighbours, so that levels do not count as noise). A level has three points at least.
//! 2. **A candidate is tested** on the two levels around it. The statistic is the largest standardised difference
//!    of means over all splits, of deviations that are cut off at three robust standard deviations; its
//!    distribution without a change is that of the same points in random order (up to 19,999 of them, fewer
//!    where the outcome is clear). So no distribution of noise is supposed, but that runs are independent: what
//!    a machine does for days on end is a change to it. The candidates are the clearest places of a series, so
//!    their number is a factor of each probability.
//! 3. **A candidate is no step** if a straight line (Theil–Sen) explains the two levels nearly as well (drift), or
//!    if fewer than three points of either level are on its own side of the middle between both (outliers).
//! 4. **The weakest candidate is dropped** and its neighbours are tested anew, until all that remain are
//!    significant by themselves. [`significant`] then keeps the share of false ones among all lines at 5 %
//!    (Benjamini–Hochberg): a store has thousands of lines, and one in a hundred would be an alarm every day.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;

use crate::statistics::median;
use crate::statistics::test::discovery_limit;

/// Points that a level has at least, and that a change takes to be seen.
pub(crate) const LEVEL_POINTS: usize = 3;
/// A shorter series says nothing.
pub(crate) const SERIES_POINTS: usize = 8;
/// What is older is not looked at, and no longer level is tested.
const NEWEST_POINTS: usize = 200;
const TESTED_POINTS: usize = 50;

const PERMUTATIONS: u32 = 19_999;
/// So many random orders that are as extreme settle that nothing is there.
const ENOUGH: u32 = 20;
/// What a candidate must be by itself; far above what [`significant`] asks for.
const CANDIDATE_P: f64 = 0.05;
/// What a further level has to save, in noise times the logarithm of the number of points.
const PENALTY: f64 = 2.0;
/// Share of false ones among the changes that are told.
const FALSE_SHARE: f64 = 0.05;
/// Robust standard deviations beyond which an outlier counts no more.
const CUT_OFF: f64 = 3.0;
/// Median absolute deviation, and mean absolute deviation, to standard deviation of a normal distribution.
const OF_MEDIAN: f64 = 1.4826;
const OF_MEAN: f64 = 1.2533;

/// A change of level.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Change {
    /// The first point of the new level.
    pub(crate) at: usize,
    /// Median of the level before.
    pub(crate) before: f64,
    /// Median of the level from then on.
    pub(crate) after: f64,
    /// How probable a step as large is where nothing changed.
    pub(crate) p: f64,
}

/// The changes of one series, oldest first. Each is significant by itself at 5 %; of many series, pass
/// all to [`significant`].
pub(crate) fn changes(values: &[f64], seed: u64) -> Vec<Change> {
    changes_by(values, seed, PERMUTATIONS)
}

fn changes_by(values: &[f64], seed: u64, permutations: u32) -> Vec<Change> {
    if values.len() < SERIES_POINTS || values.iter().any(|value| !value.is_finite()) {
        return Vec::new();
    }
    let skipped = values.len().saturating_sub(NEWEST_POINTS);
    let newest = &values[skipped..];
    let test = Test { seed, permutations };
    let mut found = kept(newest, candidates(newest), test);
    for change in &mut found {
        change.at += skipped;
    }
    found
}

/// Which of the `p` of all changes of `series` series to believe, so that one in twenty of these is false.
pub(crate) fn significant(p: &[f64], series: usize) -> Vec<bool> {
    // A series without a candidate is a test that found nothing.
    let mut all = p.to_vec();
    all.resize(series.max(p.len()), 1.0);
    let limit = discovery_limit(&all, FALSE_SHARE);
    let is_found = |p: &f64| limit.is_some_and(|limit| *p <= limit);
    p.iter().map(is_found).collect()
}

/// Starts of levels of the cheapest partition, without the first.
#[allow(clippy::cast_precision_loss)]
fn candidates(values: &[f64]) -> Vec<usize> {
    let count = values.len();
    let Some(noise) = noise(values) else {
        return Vec::new();
    };
    let penalty = PENALTY * noise * (count as f64).ln();
    // best[end]: cost of the first `end` points, and where their last level starts.
    let mut best = vec![(f64::INFINITY, 0); count + 1];
    best[0] = (-penalty, 0);
    for start in 0..=count - LEVEL_POINTS {
        let (before, _) = best[start];
        if before.is_infinite() {
            continue;
        }
        let mut level = Level::default();
        for end in start + 1..=count {
            level.push(values[end - 1]);
            let cost = before + penalty + level.cost();
            if end - start >= LEVEL_POINTS && cost < best[end].0 {
                best[end] = (cost, start);
            }
        }
    }
    let (mut starts, mut end) = (Vec::new(), count);
    while best[end].1 > 0 {
        end = best[end].1;
        starts.push(end);
    }
    starts.reverse();
    starts
}

/// Standard deviation of the noise, by differences of neighbours; `None` when all are the same.
fn noise(values: &[f64]) -> Option<f64> {
    let steps: Vec<f64> = values
        .windows(2)
        .map(|pair| (pair[1] - pair[0]).abs())
        .collect();
    robust(&steps).map(|step| step / std::f64::consts::SQRT_2)
}

/// Standard deviation by absolute deviations: by their median, or where that is zero, since most are, by their
/// mean.
#[allow(clippy::cast_precision_loss)]
fn robust(deviations: &[f64]) -> Option<f64> {
    let middle = median(deviations)?;
    let mean = deviations.iter().sum::<f64>() / deviations.len() as f64;
    let scale = if middle > 0.0 {
        OF_MEDIAN * middle
    } else {
        OF_MEAN * mean
    };
    (scale > 0.0).then_some(scale)
}

/// The sum of absolute deviations from the median, of points that come one by one.
#[derive(Default)]
struct Level {
    lower: BinaryHeap<Number>,
    upper: BinaryHeap<Reverse<Number>>,
    lower_sum: f64,
    upper_sum: f64,
}

#[derive(Clone, Copy, PartialEq)]
struct Number(f64);

impl Eq for Number {}

impl PartialOrd for Number {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Number {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.0.total_cmp(&other.0)
    }
}

impl Level {
    /// `lower` has as many points as `upper`, or one more, which is the median.
    fn push(&mut self, value: f64) {
        self.lower.push(Number(value));
        self.lower_sum += value;
        if let Some(Number(largest)) = self.lower.pop() {
            self.lower_sum -= largest;
            self.upper.push(Reverse(Number(largest)));
            self.upper_sum += largest;
        }
        if self.upper.len() > self.lower.len()
            && let Some(Reverse(Number(least))) = self.upper.pop()
        {
            self.upper_sum -= least;
            self.lower.push(Number(least));
            self.lower_sum += least;
        }
    }

    fn cost(&self) -> f64 {
        let middle = match self.lower.peek() {
            Some(Number(middle)) if self.lower.len() > self.upper.len() => *middle,
            Some(_) | None => 0.0,
        };
        self.upper_sum - self.lower_sum + middle
    }
}

/// How candidates are tested.
#[derive(Clone, Copy)]
struct Test {
    seed: u64,
    permutations: u32,
}

/// What becomes of a candidate.
#[derive(Clone, Copy)]
enum Verdict {
    NoStep,
    Probability(f64),
}

impl Verdict {
    /// The larger, the sooner it is dropped.
    fn weakness(self) -> f64 {
        match self {
            Self::NoStep => 2.0,
            Self::Probability(p) => p,
        }
    }
}

/// The candidates that remain when the weakest is dropped again and again.
#[allow(clippy::cast_precision_loss)] // few
fn kept(values: &[f64], mut starts: Vec<usize>, test: Test) -> Vec<Change> {
    let selected = starts.len() as f64;
    let mut verdicts: Vec<Option<Verdict>> = vec![None; starts.len()];
    loop {
        for (index, known) in verdicts.iter_mut().enumerate() {
            if known.is_none() {
                let (before, after) = levels(values, &starts, index);
                *known = Some(verdict(before, after, selected, test));
            }
        }
        let weakness = |index: &usize| verdicts[*index].map_or(0.0, Verdict::weakness);
        let weakest = (0..starts.len()).max_by(|a, b| weakness(a).total_cmp(&weakness(b)));
        match weakest {
            Some(index) if weakness(&index) > CANDIDATE_P => {
                starts.remove(index);
                verdicts.remove(index);
                // The levels around it have become one, which its neighbours border on.
                for neighbour in [index.checked_sub(1), Some(index)].into_iter().flatten() {
                    if let Some(verdict) = verdicts.get_mut(neighbour) {
                        *verdict = None;
                    }
                }
            }
            Some(_) | None => break,
        }
    }
    let change = |index: usize| {
        let (before, after) = levels(values, &starts, index);
        Some(Change {
            at: starts[index],
            before: median(before)?,
            after: median(after)?,
            p: verdicts[index].map_or(1.0, Verdict::weakness),
        })
    };
    (0..starts.len()).filter_map(change).collect()
}

/// The levels before and after a start, as far as they are tested.
fn levels<'a>(values: &'a [f64], starts: &[usize], index: usize) -> (&'a [f64], &'a [f64]) {
    let at = starts[index];
    let begin = index.checked_sub(1).map_or(0, |previous| starts[previous]);
    let end = starts.get(index + 1).copied().unwrap_or(values.len());
    (
        &values[begin.max(at.saturating_sub(TESTED_POINTS))..at],
        &values[at..end.min(at + TESTED_POINTS)],
    )
}

fn verdict(before: &[f64], after: &[f64], selected: f64, test: Test) -> Verdict {
    let both: Vec<f64> = before.iter().chain(after).copied().collect();
    if is_drift(before, after, &both) || is_outlier(before, after) {
        return Verdict::NoStep;
    }
    Verdict::Probability((selected * probability(&both, test)).min(1.0))
}

/// Whether a line explains both levels nearly as well as the step does, which may choose its place besides: the
/// step has to be more probable by a factor of the number of points (of deviations that are Laplace's).
#[allow(clippy::cast_precision_loss)]
fn is_drift(before: &[f64], after: &[f64], both: &[f64]) -> bool {
    let points = both.len() as f64;
    let step = spread(before) + spread(after);
    spread_around_line(both) * (-points.ln() / points).exp() <= step
}

fn is_outlier(before: &[f64], after: &[f64]) -> bool {
    let (Some(low), Some(high)) = (median(before), median(after)) else {
        return true;
    };
    let middle = f64::midpoint(low, high);
    let side = (high - low).signum();
    let on = |level: &[f64], side: f64| {
        level
            .iter()
            .filter(|value| (*value - middle) * side > 0.0)
            .count()
    };
    on(before, -side) < LEVEL_POINTS || on(after, side) < LEVEL_POINTS
}

/// Sum of absolute deviations from the median.
fn spread(values: &[f64]) -> f64 {
    let middle = median(values).unwrap_or(0.0);
    values.iter().map(|value| (value - middle).abs()).sum()
}

/// The same from the line with the median of all slopes.
#[allow(clippy::cast_precision_loss)]
fn spread_around_line(values: &[f64]) -> f64 {
    let slope_of = |(from, to): (usize, usize)| (values[to] - values[from]) / (to - from) as f64;
    let pairs =
        (0..values.len()).flat_map(|from| (from + 1..values.len()).map(move |to| (from, to)));
    let slopes: Vec<f64> = pairs.map(slope_of).collect();
    let slope = median(&slopes).unwrap_or(0.0);
    let places = values.iter().enumerate();
    let flat: Vec<f64> = places
        .map(|(place, value)| value - slope * place as f64)
        .collect();
    spread(&flat)
}

/// How probable a split as clear as the clearest of these is in random order.
fn probability(values: &[f64], test: Test) -> f64 {
    let Some(mut scores) = scores(values) else {
        return 1.0;
    };
    let weights = weights(scores.len());
    let observed = clearest_split(&scores, &weights) * (1.0 - 1e-12);
    let mut random = ChaCha8Rng::seed_from_u64(test.seed);
    let (mut orders, mut as_clear) = (0_u32, 0_u32);
    while orders < test.permutations && as_clear < ENOUGH {
        scores.shuffle(&mut random);
        orders += 1;
        as_clear += u32::from(clearest_split(&scores, &weights) >= observed);
    }
    f64::from(as_clear + 1) / f64::from(orders + 1)
}

/// Deviations from the median, cut off, with a mean of zero; `None` when all are the same.
#[allow(clippy::cast_precision_loss)]
fn scores(values: &[f64]) -> Option<Vec<f64>> {
    let middle = median(values)?;
    let deviations: Vec<f64> = values.iter().map(|value| (value - middle).abs()).collect();
    let limit = CUT_OFF * robust(&deviations)?;
    let cut = values
        .iter()
        .map(|value| (value - middle).clamp(-limit, limit) / limit);
    let cut: Vec<f64> = cut.collect();
    let mean = cut.iter().sum::<f64>() / cut.len() as f64;
    Some(cut.into_iter().map(|score| score - mean).collect())
}

/// By number of points before the split: what makes sums of scores before it comparable.
#[allow(clippy::cast_precision_loss)]
fn weights(count: usize) -> Vec<f64> {
    let weight = |before: usize| {
        let (before, all) = (before as f64, count as f64);
        (all / (before * (all - before))).sqrt()
    };
    (LEVEL_POINTS..=count - LEVEL_POINTS).map(weight).collect()
}

fn clearest_split(scores: &[f64], weights: &[f64]) -> f64 {
    let mut sum: f64 = scores[..LEVEL_POINTS - 1].iter().sum();
    let mut clearest: f64 = 0.0;
    for (score, weight) in scores[LEVEL_POINTS - 1..].iter().zip(weights) {
        sum += score;
        clearest = clearest.max(sum.abs() * weight);
    }
    clearest
}

#[cfg(test)]
mod tests;
