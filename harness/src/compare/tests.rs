//! Comparisons of made-up runs, of which it is known what has changed.

#![allow(clippy::unwrap_used)]

use hopbench::record::Metric;
use rand::{Rng as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;

use super::*;
use crate::report::fixture;

const BLOCKS: u32 = 8;

/// The fixture with blocks of its own: in each all times share the machine's speed, which changes by up
/// to two between blocks, and every figure has noise of a few per cent. `handicap` is by how much the
/// server's processor time is more.
fn measured(seed: u64, speed: f64, handicap: f64) -> Run {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let mut run = fixture::run();
    let speeds: Vec<f64> = (0..BLOCKS)
        .map(|_| speed * random.random_range(0.7..1.4))
        .collect();
    for cell in &mut run.cells {
        for (key, metric) in &mut cell.metrics {
            let Some(value) = metric.value else { continue };
            let is_time = metric.unit == Unit::Ns;
            let factor = if key.starts_with("server_cpu_ns") {
                handicap
            } else {
                1.0
            };
            let noise = if is_time { 0.03 } else { 0.0005 };
            let blocks: Vec<f64> = speeds
                .iter()
                .map(|speed| {
                    let noise = 1.0 + noise * random.random_range(-1.0..1.0);
                    value * factor * noise * if is_time { *speed } else { 1.0 }
                })
                .collect();
            metric.value = crate::statistics::median(&blocks);
            *metric = metric.clone().with_blocks((0..).zip(blocks));
        }
    }
    run
}

fn interleaved(mut runs: [Run; 2]) -> [Run; 2] {
    for run in &mut runs {
        run.interleaving = Some("session".to_owned());
    }
    runs
}

fn found(comparison: &Comparison<'_>) -> Vec<(String, Judgement)> {
    let found = comparison.found().into_iter();
    found
        .map(|change| (change.metric.to_owned(), change.judgement))
        .collect()
}

#[test]
fn a_run_against_itself_changed_nowhere() {
    for run in [fixture::run(), measured(1, 1.0, 1.0)] {
        for run in [run.clone(), interleaved([run.clone(), run])[0].clone()] {
            let comparison = Comparison::of(&run, &run);
            assert!(comparison.differences.is_empty() && comparison.new_cells.is_empty());
            assert!(comparison.missing.is_empty(), "{:?}", comparison.missing);
            assert!(comparison.changes.len() > 100);
            assert_eq!(found(&comparison), []);
            assert!(comparison.found_overall().is_empty() && !comparison.is_worse());
        }
    }
}

/// Two runs of the same code, one on a machine of half the speed.
#[test]
fn the_speed_of_the_machine_is_no_change() {
    for seed in 0..5 {
        let (base, head) = (measured(seed, 1.0, 1.0), measured(seed + 100, 2.0, 1.0));
        let comparison = Comparison::of(&base, &head);
        assert!(comparison.changes.len() > 100);
        let found = found(&comparison);
        assert!(found.len() <= 1, "seed {seed}: {found:?}");
        let overall = comparison.found_overall();
        assert!(overall.len() <= 1, "seed {seed}: {overall:?}");
    }
}

#[test]
fn a_server_that_takes_a_tenth_more_is_found_in_its_processor_time_and_nowhere_else() {
    let base = measured(1, 1.0, 1.0);
    let head = measured(2, 1.5, 1.1);
    let separate = Comparison::of(&base, &head);
    let found = found(&separate);
    assert!(found.len() > 10, "{found:?}");
    let is_expected = |(metric, judgement): &&(String, Judgement)| {
        metric == "server_cpu_ns_per_operation" && *judgement == Judgement::Worse
    };
    // One in twenty may be chance.
    let expected = found.iter().filter(is_expected).count();
    assert!(expected * 10 >= found.len() * 9, "{found:?}");
    for change in separate.found() {
        if change.metric == "server_cpu_ns_per_operation" {
            assert_eq!(change.basis, Basis::ClientCpu);
            let Some(Estimate::Ratio(ratio, interval)) = change.estimate else {
                panic!("{change:?}");
            };
            assert!((1.03..1.17).contains(&ratio), "{change:?}");
            assert!(interval.low < ratio && ratio < interval.high, "{change:?}");
        }
    }
    let [overall] = separate.found_overall()[..] else {
        panic!("{:?}", separate.found_overall());
    };
    assert_eq!(overall.metric, "server_cpu_ns_per_operation");
    assert_eq!(
        (overall.basis, overall.judgement),
        (Basis::ClientCpu, Judgement::Worse)
    );
    let Estimate::Ratio(ratio, interval) = overall.estimate else {
        panic!("{overall:?}");
    };
    assert!((1.08..1.12).contains(&ratio), "{overall:?}");
    assert!(interval.low < 1.1 && 1.1 < interval.high, "{overall:?}");
}

/// What all blocks of a cell share, and another run of it does not, is seen by no block: cells that went up and
/// cells that went down show it.
#[test]
fn cells_that_differ_from_run_to_run_are_no_change_of_all() {
    let base = measured(1, 1.0, 1.0);
    let mut head = measured(2, 1.5, 1.0);
    let key = "server_cpu_ns_per_operation";
    for (place, cell) in head.cells.iter_mut().enumerate() {
        // 1 % more on average, and 8 % up or down from cell to cell.
        let factor = if place % 2 == 0 { 1.09 } else { 0.93 };
        let blocks = cell.metrics.get_mut(key).into_iter();
        let blocks = blocks.flat_map(|metric| metric.blocks.iter_mut().flatten());
        blocks.for_each(|block| *block *= factor);
    }
    let comparison = Comparison::of(&base, &head);
    let single = found(&comparison);
    assert!(single.iter().any(|(metric, _)| metric == key), "{single:?}");
    let mut overall = comparison.overall.iter();
    let overall = overall.find(|overall| overall.metric == key).unwrap();
    assert_eq!(overall.judgement, Judgement::NoChangeShown, "{overall:?}");
}

/// What single cells are too noisy to show is said of all of them, also in the title that a reviewer reads first.
#[test]
fn what_only_all_cells_together_show_is_in_the_title() {
    let [base, mut head] = interleaved([measured(3, 1.0, 1.0), measured(3, 1.0, 1.0)]);
    let key = "server_cpu_ns_per_operation";
    let cells = head.cells.iter_mut();
    let metrics = cells.filter_map(|cell| cell.metrics.get_mut(key));
    for (place, metric) in metrics.enumerate() {
        for (round, block) in metric.blocks.iter_mut().flatten().enumerate() {
            // 3 % more, and in every round half of the cells went up a lot, and half of them down.
            let is_up = (place + round) % 2 == 0;
            *block *= 1.03 * if is_up { 1.15 } else { 0.85 };
        }
    }
    let comparison = Comparison::of(&base, &head);
    assert_eq!(found(&comparison), []);
    assert!(comparison.is_worse());
    let page = markdown(&comparison);
    assert!(
        page.starts_with("### hopbench: worse over all cells\n\n- over all cells: worse"),
        "{page}"
    );
}

/// Side by side, what the whole machine does is the same in both.
#[test]
fn pairs_of_blocks_show_what_separate_runs_cannot() {
    let base = measured(3, 1.0, 1.0);
    let mut head = measured(3, 1.0, 1.0);
    let mut random = ChaCha8Rng::seed_from_u64(9);
    for metric in head
        .cells
        .iter_mut()
        .flat_map(|cell| cell.metrics.values_mut())
    {
        let is_time = metric.unit == Unit::Ns;
        for block in metric.blocks.iter_mut().flatten().filter(|_| is_time) {
            *block *= 1.05 * (1.0 + 0.02 * random.random_range(-1.0..1.0));
        }
    }
    assert_eq!(found(&Comparison::of(&base, &head)).len(), 0);
    let [base, head] = interleaved([base, head]);
    let comparison = Comparison::of(&base, &head);
    let times = comparison
        .changes
        .iter()
        .filter(|change| change.unit == Unit::Ns);
    for change in times {
        assert_eq!(change.judgement, Judgement::Worse, "{change:?}");
        assert_eq!(change.basis, Basis::Pairs);
    }
    let overall = comparison.found_overall();
    assert!(overall.len() > 5, "{overall:?}");
    for found in overall {
        assert!(found.metric.contains("_ns") && found.cells > 1, "{found:?}");
        assert_eq!(found.judgement, Judgement::Worse, "{found:?}");
    }
    let text = text(&comparison, false);
    assert!(text.contains("\nOver all cells, HEAD ÷ BASE"), "{text}");
    let others = comparison
        .changes
        .iter()
        .filter(|change| change.unit != Unit::Ns);
    assert!(others.clone().count() > 10);
    assert!(
        others
            .clone()
            .all(|c| c.judgement == Judgement::NoChangeShown)
    );
}

#[test]
fn what_is_counted_is_compared_as_it_is_beyond_what_runs_differ_by() {
    let base = measured(1, 1.0, 1.0);
    let key = "server_heap_bytes_per_connection";
    for (factor, expected) in [
        (1.005, None),
        (1.05, Some(Judgement::Worse)),
        (0.95, Some(Judgement::Better)),
    ] {
        let mut head = base.clone();
        for metric in head
            .cells
            .iter_mut()
            .filter_map(|cell| cell.metrics.get_mut(key))
        {
            metric.value = metric.value.map(|value| factor * value);
            metric
                .blocks
                .iter_mut()
                .flatten()
                .for_each(|block| *block *= factor);
        }
        let comparison = Comparison::of(&base, &head);
        let found = found(&comparison);
        assert_eq!(
            found.first().map(|(_, judgement)| *judgement),
            expected,
            "{factor}"
        );
        assert!(found.iter().all(|(metric, _)| metric == key), "{found:?}");
    }
}

/// Runs of earlier versions have intervals, and no blocks.
#[test]
fn without_blocks_the_intervals_tell() {
    let without = |mut run: Run| {
        for metric in run
            .cells
            .iter_mut()
            .flat_map(|cell| cell.metrics.values_mut())
        {
            metric.blocks.clear();
        }
        run
    };
    let base = without(fixture::run());
    let mut head = base.clone();
    let key = "server_heap_bytes_per_connection";
    for metric in head
        .cells
        .iter_mut()
        .filter_map(|cell| cell.metrics.get_mut(key))
    {
        *metric = Metric {
            value: metric.value.map(|value| 2.0 * value),
            ci95_low: metric.ci95_low.map(|value| 2.0 * value),
            ci95_high: metric.ci95_high.map(|value| 2.0 * value),
            ..metric.clone()
        };
    }
    let comparison = Comparison::of(&base, &head);
    let found = found(&comparison);
    assert!(
        !found.is_empty() && found.iter().all(|(metric, _)| metric == key),
        "{found:?}"
    );
}

#[test]
fn what_has_no_counterpart_is_said_with_the_reason() {
    let base = fixture::run();
    let mut head = base.clone();
    head.environment.kernel = None;
    head.build.libraries.insert("rustls".into(), "9.9.9".into());
    let is_sound = |cell: &Cell| cell.verdict == Verdict::Ok && cell.experiment == "memory";
    let mut sound = head.cells.iter_mut().filter(|cell| is_sound(cell));
    let [renamed, failed, silent] = [(); 3].map(|()| sound.next().expect("three sound cells"));
    let ids = [&renamed.id, &failed.id, &silent.id].map(String::clone);
    renamed.id.push_str("&new=1");
    failed.verdict = Verdict::Failed;
    let key = "server_heap_bytes_per_connection";
    silent.metrics.get_mut(key).unwrap().value = None;
    let comparison = Comparison::of(&base, &head);
    let absence = |id: &str| {
        let mut of_cell = comparison.missing.iter().filter(|m| m.cell_id == id);
        of_cell.next().expect("it is missing").absence
    };
    assert_eq!(absence(&ids[0]), Absence::Cell);
    assert_eq!(absence(&ids[1]), Absence::Verdict(Verdict::Failed));
    let silent = comparison.missing.iter().filter(|m| m.cell_id == ids[2]);
    let silent: Vec<_> = silent.map(|missing| missing.metric).collect();
    assert_eq!(silent, [key]);
    assert_eq!(comparison.new_cells, [format!("{}&new=1", ids[0])]);
    let differences = comparison.differences.iter();
    let names: Vec<&str> = differences
        .map(|difference| difference.name.as_str())
        .collect();
    assert_eq!(names, ["build.libraries.rustls", "environment.kernel"]);
    assert_eq!(comparison.differences[1].head, "none");
    let text = text(&comparison, false);
    assert!(
        text.contains("warning: environment.kernel differs"),
        "{text}"
    );
    assert!(text.contains("no such cell"), "{text}");
}

#[test]
fn renderers_show_what_was_found() {
    let (base, head) = (measured(1, 1.0, 1.0), measured(2, 1.5, 1.2));
    let comparison = Comparison::of(&base, &head);
    let plain = text(&comparison, false);
    for line in plain.lines() {
        assert!(line.chars().count() <= 100, "{line}");
    }
    assert!(
        plain.contains("worse  server_cpu_ns_per_operation"),
        "{plain}"
    );
    assert!(text(&comparison, true).contains("\u{1b}[31m"));
    let page = markdown(&comparison);
    let (shown, folded) = page.split_once("<details>").unwrap();
    assert!(
        shown.contains("| ❌ worse |") && !folded.contains("| ❌ worse |"),
        "{page}"
    );
    assert!(
        page.starts_with("### hopbench: ") && page.len() < 65_536 * 2,
        "{}",
        page.len()
    );
    let value = json(&comparison);
    assert_eq!(value["schema"], "hopbench.comparison/1");
    let changes = value["changes"].as_array().unwrap();
    assert_eq!(changes.len(), comparison.changes.len());
    let worse = changes
        .iter()
        .filter(|change| change["verdict"] == "worse")
        .count();
    assert_eq!(
        worse,
        comparison.count(|judgement| judgement == Judgement::Worse)
    );
    assert!(
        changes
            .iter()
            .all(|change| change["p"].is_null() == change["reason"].is_string())
    );
}
