//! Intervals against tables, by hand, and by simulation: how often they hold a truth that is known.

use rand::{Rng as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;

use super::*;

/// Critical values of Wilcoxon's signed-rank test as tables have them (two-sided 5 %): the largest sum
/// that rejects, one less than the rank here.
#[test]
fn ranks_are_those_of_the_tables() {
    let signed_rank = [
        (5, None),
        (6, Some(0)),
        (7, Some(2)),
        (8, Some(3)),
        (10, Some(8)),
        (20, Some(52)),
    ];
    for (n, critical) in signed_rank {
        let rank = signed_rank_rank(n, 0.05);
        assert_eq!(rank, critical.map(|sum: usize| sum + 1), "{n}");
    }
    for (n, rank) in [
        (5, None),
        (6, Some(1)),
        (8, Some(1)),
        (9, Some(2)),
        (12, Some(3)),
        (20, Some(6)),
    ] {
        assert_eq!(sign_rank(n, 0.05), rank, "{n}");
    }
    let first = (1..).find(|n| signed_rank_rank(*n, Stopping::ByWidth.error()).is_some());
    assert_eq!(first, Some(BLOCKS_OF_A_LOOK_MIN as usize));
}

#[test]
fn an_interval_needs_two_blocks() {
    assert_eq!(of_median(&[]), None);
    assert_eq!(of_median(&[3.0]), None);
    assert_eq!(of_median(&[3.0, f64::NAN]), None);
    assert_eq!(of_pseudo_median(&[], Stopping::Fixed), None);
    assert_eq!(
        of_pseudo_median(&[1.0, f64::INFINITY], Stopping::Fixed),
        None
    );
    let (value, interval) = of_pseudo_median(&[2.0], Stopping::Fixed).unwrap();
    assert!((value - 2.0).abs() < 1e-12);
    assert_eq!(interval, None);
}

/// Of 1 and e²: the logarithms 0 and 2 have the mean 1 and the standard error 1; t is 12.706.
#[test]
fn two_blocks_know_little() {
    let (value, interval) = of_pseudo_median(&[1.0, 2.0_f64.exp()], Stopping::Fixed).unwrap();
    let interval = interval.unwrap();
    assert!((value.ln() - 1.0).abs() < 1e-12, "{value}");
    assert!((interval.low.ln() + 11.706).abs() < 1e-9, "{interval:?}");
    assert!((interval.high.ln() - 13.706).abs() < 1e-9, "{interval:?}");
}

#[test]
fn six_blocks_are_held_whole_and_more_are_not() {
    let blocks = [5.0, 1.0, 4.0, 2.0, 3.0, 8.0, 7.0, 6.0, 9.0];
    let (_, six) = of_pseudo_median(&blocks[..6], Stopping::Fixed).unwrap();
    let six = six.unwrap();
    assert!(
        (six.low - 1.0).abs() < 1e-12 && (six.high - 8.0).abs() < 1e-12,
        "{six:?}"
    );
    let (_, nine) = of_pseudo_median(&blocks, Stopping::Fixed).unwrap();
    let nine = nine.unwrap();
    assert!(nine.low > 1.0 && nine.high < 9.0, "{nine:?}");
    let nine = of_median(&blocks).unwrap();
    assert!(
        (nine.low - 2.0).abs() < 1e-12 && (nine.high - 8.0).abs() < 1e-12,
        "{nine:?}"
    );
    // What may be below zero has no logarithm, and needs none.
    let differences: Vec<f64> = blocks.iter().map(|block| block - 5.0).collect();
    let interval = of_median(&differences).unwrap();
    assert_eq!((interval.low, interval.high), (-3.0, 3.0));
}

/// Noise of the logarithm of a ratio, with median 0.
#[derive(Clone, Copy, Debug)]
enum Noise {
    Normal,
    /// Every tenth block five times as noisy.
    Contaminated,
    Laplace,
    /// Student's t with three degrees of freedom.
    HeavyTailed,
    /// A difference of two exponential delays.
    Delays,
    /// Calm, but for spikes of one of the two cells.
    Spikes,
}

const KINDS: [Noise; 6] = [
    Noise::Normal,
    Noise::Contaminated,
    Noise::Laplace,
    Noise::HeavyTailed,
    Noise::Delays,
    Noise::Spikes,
];

impl Noise {
    fn draw(self, random: &mut ChaCha8Rng) -> f64 {
        let delay = |random: &mut ChaCha8Rng| -(1.0 - random.random::<f64>()).ln();
        let normal = |random: &mut ChaCha8Rng| {
            let radius = (2.0 * delay(random)).sqrt();
            radius * (std::f64::consts::TAU * random.random::<f64>()).cos()
        };
        match self {
            Self::Normal => normal(random),
            Self::Contaminated => {
                let is_noisy = random.random::<f64>() < 0.1;
                normal(random) * if is_noisy { 5.0 } else { 1.0 }
            }
            Self::Laplace | Self::Delays => delay(random) - delay(random),
            Self::HeavyTailed => {
                let squares: f64 = (0..3).map(|_| normal(random).powi(2)).sum();
                normal(random) / (squares / 3.0).sqrt()
            }
            Self::Spikes => {
                let mut spike = || match random.random::<f64>() < 0.15 {
                    true => 3.0 * delay(random),
                    false => 0.0,
                };
                let spikes = spike() - spike();
                spikes + 0.3 * normal(random)
            }
        }
    }
}

/// Share of `runs` in which `covers`, each with its own random numbers, always the same.
fn share(runs: u64, mut covers: impl FnMut(&mut ChaCha8Rng) -> bool) -> f64 {
    let hits = (0..runs)
        .filter(|run| covers(&mut ChaCha8Rng::seed_from_u64(*run)))
        .count();
    hits as f64 / runs as f64
}

fn holds(interval: Option<Interval>, truth: f64) -> bool {
    let interval = interval.expect("two blocks have an interval");
    (interval.low..=interval.high).contains(&truth)
}

#[test]
fn a_ratio_of_however_few_blocks_is_held_as_often_as_it_is_claimed() {
    for noise in KINDS {
        for blocks in [2, 3, 5, 6, 7, 8, 12] {
            let coverage = share(1_500, |random| {
                let ratios: Vec<f64> = (0..blocks)
                    .map(|_| (0.05 * noise.draw(random)).exp())
                    .collect();
                holds(of_pseudo_median(&ratios, Stopping::Fixed).unwrap().1, 1.0)
            });
            // 95 %, less two standard errors of the simulation.
            assert!(
                coverage >= 0.939,
                "{coverage} of {blocks} blocks, {noise:?}"
            );
        }
    }
}

/// A single cell's blocks may be as skewed as they like: here exponential, with the median ln 2.
#[test]
fn a_median_of_six_or_more_blocks_is_held_as_often_as_it_is_claimed() {
    for (blocks, claimed) in [(3, 0.86), (5, 0.86), (6, 0.939), (9, 0.939), (15, 0.939)] {
        let coverage = share(1_500, |random| {
            let values: Vec<f64> = (0..blocks)
                .map(|_| -(1.0 - random.random::<f64>()).ln())
                .collect();
            holds(of_median(&values), std::f64::consts::LN_2)
        });
        assert!(coverage >= claimed, "{coverage} of {blocks} blocks");
    }
}

/// Blocks until half of the interval is 5 % of the ratio, at most 40, as `experiment::blocks` has it.
fn stopped(noise: Noise, size: f64, level: Stopping, random: &mut ChaCha8Rng) -> Option<Interval> {
    let mut ratios = Vec::new();
    loop {
        ratios.push((size * noise.draw(random)).exp());
        if ratios.len() < BLOCKS_OF_A_LOOK_MIN as usize {
            continue;
        }
        let (ratio, interval) = of_pseudo_median(&ratios, level).unwrap();
        let half = interval.map(|interval| (interval.high - interval.low) / 2.0 / ratio);
        if half.is_some_and(|half| half <= 0.05) || ratios.len() == 40 {
            return interval;
        }
    }
}

/// The sizes of the noise are those with which 10 to 25 blocks are needed: there stopping early costs most.
#[test]
fn a_run_that_stops_when_it_is_narrow_holds_the_truth_as_often_as_it_claims() {
    let size = |noise| match noise {
        Noise::Normal | Noise::Contaminated | Noise::Delays => 0.08,
        Noise::HeavyTailed | Noise::Laplace => 0.06,
        Noise::Spikes => 0.12,
    };
    let coverage = |noise, level| {
        let runs = |random: &mut ChaCha8Rng| stopped(noise, size(noise), level, random);
        share(500, |random| holds(runs(random), 1.0))
    };
    for noise in KINDS {
        let corrected = coverage(noise, Stopping::ByWidth);
        // 95 %, less two standard errors of the simulation.
        assert!(corrected >= 0.931, "{corrected} of {noise:?}");
    }
    // What the correction is for.
    let [uncorrected, corrected] =
        [Stopping::Fixed, Stopping::ByWidth].map(|level| coverage(Noise::Contaminated, level));
    assert!(uncorrected < corrected, "{uncorrected}, {corrected}");
}

#[test]
fn the_expansion_of_student_t_continues_its_table() {
    for (degrees, expected) in [(30, 2.042), (31, 2.040), (60, 2.000), (120, 1.980)] {
        let found = student_t_975(degrees);
        assert!((found - expected).abs() < 6e-4, "{found} for {degrees}");
    }
}
