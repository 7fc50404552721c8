//! Change points on series whose truth is known: steps are found where they are, and nothing is found where
//! there is none. Seeds are fixed, so an outcome is the same on every machine.

use rand::Rng;

use super::*;

/// Standard normal noise, by Box and Muller.
fn noise(count: usize, seed: u64) -> Vec<f64> {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let mut normal = || {
        let (u, v): (f64, f64) = (1.0 - random.random::<f64>(), random.random());
        (-2.0 * u.ln()).sqrt() * (std::f64::consts::TAU * v).cos()
    };
    (0..count).map(|_| normal()).collect()
}

/// 100, plus noise, plus what `shape` says of each place.
fn series(count: usize, seed: u64, shape: impl Fn(usize) -> f64) -> Vec<f64> {
    let noise = noise(count, seed).into_iter().enumerate();
    noise
        .map(|(place, noise)| 100.0 + noise + shape(place))
        .collect()
}

fn step(at: usize, size: f64) -> impl Fn(usize) -> f64 {
    move |place| if place >= at { size } else { 0.0 }
}

/// As they are told of a single series.
fn told(values: &[f64]) -> Vec<Change> {
    let found = changes_by(values, 7, 999);
    let p: Vec<f64> = found.iter().map(|change| change.p).collect();
    let keep = significant(&p, 1);
    found
        .into_iter()
        .zip(keep)
        .filter_map(|(change, keep)| keep.then_some(change))
        .collect()
}

/// How many of so many seeds fulfil `is_so`.
fn count(seeds: std::ops::Range<u64>, is_so: impl Fn(u64) -> bool) -> usize {
    seeds.filter(|seed| is_so(*seed)).count()
}

#[test]
fn a_step_is_found_where_it_is() {
    for (count, at, size) in [(40, 20, 4.0), (40, 35, 5.0), (60, 10, -4.0), (12, 6, 6.0)] {
        for seed in 0..10 {
            let found = told(&series(count, seed, step(at, size)));
            let near = |change: &&Change| change.at.abs_diff(at) <= 1;
            let right = found.iter().find(near);
            let right = right.unwrap_or_else(|| panic!("{count} {at} {seed}: {found:?}"));
            assert!((right.after - right.before - size).abs() < 2.0, "{right:?}");
        }
    }
}

#[test]
fn three_points_are_enough_for_a_clear_step() {
    let found = count(0..50, |seed| {
        told(&series(30, seed, step(27, 8.0)))
            .iter()
            .any(|change| change.at == 27)
    });
    assert!(found >= 48, "{found} of 50");
    let early = count(0..50, |seed| {
        !told(&series(30, seed, step(28, 8.0))).is_empty()
    });
    assert!(early <= 4, "two points were a change {early} times of 50");
}

#[test]
fn several_steps_are_found_too() {
    let stairs = |place: usize| 5.0 * (place / 20) as f64;
    let there_and_back = |place: usize| if (20..40).contains(&place) { 5.0 } else { 0.0 };
    for seed in 0..10 {
        for shape in [&stairs as &dyn Fn(usize) -> f64, &there_and_back] {
            let found = told(&series(60, seed, shape));
            for at in [20, 40] {
                assert!(
                    found.iter().any(|change| change.at.abs_diff(at) <= 1),
                    "{seed} {found:?}"
                );
            }
        }
    }
}

#[test]
fn what_is_counted_changes_without_noise() {
    let mut bytes = vec![1024.0; 20];
    assert!(told(&bytes).is_empty());
    bytes.extend([1040.0, 1040.0, 1040.0]);
    let found = told(&bytes);
    assert_eq!(found.len(), 1);
    assert_eq!(
        (found[0].at, found[0].before, found[0].after),
        (20, 1024.0, 1040.0)
    );
}

#[test]
fn outliers_are_no_change() {
    let single = |place: usize| if place == 25 { 30.0 } else { 0.0 };
    let newest = |place: usize| if place == 39 { 30.0 } else { 0.0 };
    let scattered = |place: usize| if place % 9 == 4 { 25.0 } else { 0.0 };
    for shape in [&single as &dyn Fn(usize) -> f64, &newest, &scattered] {
        let alarms = count(0..50, |seed| !told(&series(40, seed, shape)).is_empty());
        assert!(alarms <= 4, "{alarms} of 50");
    }
    let mut bytes = vec![1024.0; 30];
    bytes[29] = 4096.0;
    bytes[12] = 4096.0;
    assert!(told(&bytes).is_empty());
}

#[test]
fn drift_is_no_change() {
    for total in [3.0, 10.0, 40.0] {
        let drift = |place: usize| total * place as f64 / 60.0;
        let alarms = count(0..50, |seed| !told(&series(60, seed, drift)).is_empty());
        assert!(alarms <= 6, "{alarms} of 50 with a drift of {total} in all");
    }
}

#[test]
fn noise_alone_is_a_change_as_rarely_as_said() {
    let heavy = |seed: u64| -> Vec<f64> {
        // Student's t with three degrees of freedom: outliers are its nature.
        let draws = noise(160, seed);
        let of = |d: &[f64]| d[0] / ((d[1] * d[1] + d[2] * d[2] + d[3] * d[3]) / 3.0).sqrt();
        draws.chunks(4).map(of).collect()
    };
    let normal = |seed: u64| noise(40, seed);
    for draw in [&normal as &dyn Fn(u64) -> Vec<f64>, &heavy] {
        let alarms = count(1_000..1_400, |seed| !told(&draw(seed)).is_empty());
        // 5 % of 400 are 20; with 30 or fewer, the rate is below 10 % beyond doubt.
        assert!(alarms <= 30, "{alarms} of 400");
    }
}

#[test]
fn many_lines_without_a_change_seldom_raise_one_alarm() {
    let alarms = count(0..10, |store| {
        let lines = (0..60).map(|line| noise(30, 5_000 + 100 * store + line));
        let p: Vec<f64> = lines
            .flat_map(|line| changes(&line, 7))
            .map(|change| change.p)
            .collect();
        significant(&p, 60).contains(&true)
    });
    assert!(alarms <= 2, "{alarms} stores of 10");
}

#[test]
fn one_changed_line_among_many_is_told_once_it_is_clear() {
    let mut p: Vec<f64> = (0..60)
        .flat_map(|line| changes(&noise(30, 9_000 + line), 7))
        .map(|change| change.p)
        .collect();
    let changed = changes(&series(30, 1, step(24, 6.0)), 7);
    assert_eq!(changed.len(), 1);
    p.push(changed[0].p);
    let keep = significant(&p, 61);
    assert_eq!(keep.last(), Some(&true), "{p:?}");
}

#[test]
fn benjamini_and_hochberg() {
    assert_eq!(significant(&[], 10), [false; 0]);
    assert_eq!(significant(&[0.04], 1), [true]);
    assert_eq!(significant(&[0.04], 2), [false]);
    // The second and third pass together, though the second alone would not.
    assert_eq!(
        significant(&[0.9, 0.034, 0.036, 0.001], 4),
        [false, true, true, true]
    );
    assert_eq!(significant(&[0.01, 0.02], 100), [false, false]);
}

#[test]
fn short_and_broken_series_say_nothing() {
    assert!(changes(&[1.0, 1.0, 1.0, 9.0, 9.0, 9.0], 7).is_empty());
    let mut values = vec![1.0; 20];
    values[3] = f64::NAN;
    assert!(changes(&values, 7).is_empty());
}

#[test]
fn of_a_long_series_the_newest_points_are_looked_at() {
    let values = series(500, 3, step(470, 6.0));
    let found = told(&values);
    assert!(
        found.iter().any(|change| change.at.abs_diff(470) <= 1),
        "{found:?}"
    );
    assert!(found.iter().all(|change| change.at >= 300));
}

#[test]
fn a_level_costs_what_its_points_are_off_its_median() {
    let values = noise(41, 5);
    let mut level = Level::default();
    for (place, value) in values.iter().enumerate() {
        level.push(*value);
        let expected = spread(&values[..=place]);
        assert!((level.cost() - expected).abs() < 1e-9, "{place}");
    }
}
