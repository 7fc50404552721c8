//! A run as large as one of the profile `full`, which takes five hours to measure: the cells that it would have,
//! in the lab, with the links; the figures are those of the committed runs, with as many samples as `full` takes.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hdrhistogram::serialization::{Deserializer, Serializer as _, V2DeflateSerializer};
use hopbench::record::{Cell, CellId, Histogram, Metric, Ratio, Run, Series, Step, StepOutcome};
use serde_json::Value;

use super::{run, stderr, stdout};

/// Samples of its largest cell, by calls a second, seconds and blocks.
const SAMPLES: u64 = 4_000 * 4 * 11;
/// Blocks of its loads, and windows of 100 ms in each.
const BLOCKS: usize = 11;
const WINDOWS: usize = 40;
/// Steps of a search and of a sweep at the most.
const STEPS: u32 = 90;

/// The run.
pub fn full_run() -> Run {
    let references = Path::new(env!("CARGO_MANIFEST_DIR")).join("../results/reference");
    let mut donors: Vec<Run> = std::fs::read_dir(references)
        .unwrap()
        .filter_map(|folder| Run::read(&folder.unwrap().path().join("run.json")).ok())
        .collect();
    donors.sort_by(|one, other| one.run_id.cmp(&other.run_id));
    let measured = donors.iter().flat_map(|donor| &donor.cells);
    let measured: Vec<&Cell> = measured.filter(|cell| !cell.metrics.is_empty()).collect();
    let mut cells: Vec<Cell> = ids().iter().map(|id| filled(id, &measured)).collect();
    cells.extend(fits(&cells, &measured));
    let ratios = ratios(&cells, &controls(&donors));
    let quick = donors.into_iter().find(|donor| donor.profile == "quick");
    Run {
        profile: "full".to_owned(),
        cells,
        ratios,
        ..quick.expect("the profile `quick` has a committed run")
    }
}

/// What `hopbench run` says that it would measure.
fn ids() -> Vec<CellId> {
    let output = run(&["run", "--profile", "full", "--path", "lab", "--dry-run"]);
    assert!(output.status.success(), "{}", stderr(&output));
    let said = stdout(&output);
    let (cells, _) = said.split_once("\n\n").expect("cells, then what they take");
    cells.lines().map(id).collect()
}

fn id(line: &str) -> CellId {
    let id = line.split(' ').next().unwrap();
    let (parts, parameters) = id.split_once('?').unwrap_or((id, ""));
    let parts: Vec<&str> = parts.split('/').collect();
    let [experiment, workload, stack, topology, lifecycle, path] = parts[..] else {
        panic!("no cell: {line}");
    };
    let parameters = parameters.split('&').filter_map(|one| one.split_once('='));
    let value = |text: &str| serde_json::from_str(text).unwrap_or_else(|_| Value::from(text));
    CellId {
        experiment: experiment.to_owned(),
        workload: workload.to_owned(),
        stack: stack.to_owned(),
        topology: topology.to_owned(),
        lifecycle: lifecycle.to_owned(),
        path: path.to_owned(),
        distinguishing: parameters
            .map(|(key, text)| (key.to_owned(), value(text)))
            .collect(),
    }
}

/// The cell `id` with the figures of the measured cell that is most like it.
fn filled(id: &CellId, measured: &[&Cell]) -> Cell {
    let is_searched = matches!(id.experiment.as_str(), "search" | "knee");
    let likeness = |cell: &&&Cell| {
        let stage = |parameters: &BTreeMap<String, Value>| parameters.get("stage").cloned();
        [
            cell.experiment == id.experiment,
            stage(&cell.parameters) == stage(&id.distinguishing),
            cell.workload == id.workload,
            cell.stack == id.stack,
            cell.lifecycle == id.lifecycle,
            cell.topology == id.topology,
            // Of lines through cells there are others.
            cell.experiment != "chain" || cell.topology != "chain",
        ]
    };
    let donor = measured.iter().max_by_key(likeness).unwrap();
    let mut cell = id.measured(BLOCKS as u32, donor.metrics.clone());
    for (key, value) in &donor.parameters {
        let known = cell.parameters.entry(key.clone());
        known.or_insert_with(|| value.clone());
    }
    if is_searched {
        cell.steps = steps(&id.experiment);
        for key in [
            "knee_per_second",
            "search_held_per_second",
            "search_ceiling_per_second",
            "session_establishment_rate",
        ] {
            let metric = Metric::of(key, Some(4_321.0));
            cell.metrics.insert(key.to_owned(), metric);
        }
    }
    cell.metrics.values_mut().for_each(grow);
    cell
}

/// As many samples and windows as `full` has.
fn grow(metric: &mut Metric) {
    let Some(histogram) = &mut metric.histogram else {
        return;
    };
    let per_second = histogram.p50;
    *histogram = grown(histogram);
    if metric.unit == hopbench::record::Unit::PerSecond {
        let window = |place: usize| (per_second / 10 + place as u64 * 7 % 13).to_string();
        let windows: Vec<String> = (0..WINDOWS).map(window).collect();
        metric.series = Some(Series {
            window_ms: 100,
            counts: vec![windows.join(" "); BLOCKS],
        });
    }
}

fn grown(histogram: &Histogram) -> Histogram {
    let bytes = STANDARD.decode(&histogram.hdr_v2_base64).unwrap();
    let mut values: hdrhistogram::Histogram<u64> = Deserializer::new()
        .deserialize(&mut bytes.as_slice())
        .unwrap();
    let measured: Vec<(u64, u64)> = values
        .iter_recorded()
        .map(|value| (value.value_iterated_to(), value.count_at_value()))
        .collect();
    let more = SAMPLES / histogram.count.max(1);
    for (value, count) in measured {
        values.record_n(value, count * more).unwrap();
    }
    let mut bytes = Vec::new();
    V2DeflateSerializer::new()
        .serialize(&values, &mut bytes)
        .unwrap();
    Histogram {
        count: values.len(),
        hdr_v2_base64: STANDARD.encode(bytes),
        ..histogram.clone()
    }
}

/// Loads of a search or of a sweep, three at each of its rates.
fn steps(experiment: &str) -> Vec<Step> {
    let step = |place: u32| {
        let offered_per_second = 250.0 * 1.15_f64.powi((place / 3) as i32);
        let latency = |factor: f64| Some((offered_per_second * 1e3 * factor) as u64);
        let has_failed = place % 20 == 19;
        Step {
            offered_per_second,
            achieved_per_second: Some(offered_per_second * 0.999),
            attempted_count: 50_000,
            failed_count: u64::from(has_failed),
            late_count: None,
            latency_p50_ns: latency(1.0),
            latency_p90_ns: latency(1.7),
            latency_p99_ns: latency(4.3),
            latency_max_ns: latency(9.9),
            lag_p50_ns: latency(0.1),
            lag_p99_ns: latency(0.2),
            lag_max_ns: latency(0.3),
            generator_busy_ratio: Some(0.4),
            server_busy_ratio: Some(0.8),
            outcome: if has_failed {
                StepOutcome::Failed
            } else {
                StepOutcome::Held
            },
            reason: has_failed.then(|| format!("of 50000 attempts of a {experiment}: 1 failed")),
        }
    };
    (0..STEPS).map(step).collect()
}

/// The lines through cells, of the stacks that are there.
fn fits(cells: &[Cell], measured: &[&Cell]) -> Vec<Cell> {
    let stacks: BTreeSet<&str> = cells.iter().map(|cell| cell.stack.as_str()).collect();
    let fit = |stack: &&str| {
        let id = CellId {
            experiment: "chain".to_owned(),
            workload: "invite".to_owned(),
            stack: (*stack).to_owned(),
            topology: "chain".to_owned(),
            lifecycle: "per-registration".to_owned(),
            path: "lab".to_owned(),
            distinguishing: BTreeMap::new(),
        };
        let is_fit = |cell: &&&Cell| cell.experiment == "chain" && cell.topology == "chain";
        let donor = measured.iter().find(is_fit).unwrap();
        Cell {
            parameters: donor.parameters.clone(),
            ..id.measured(BLOCKS as u32, donor.metrics.clone())
        }
    };
    stacks.iter().map(fit).collect()
}

/// Which stacks have been held against which.
fn controls(donors: &[Run]) -> BTreeSet<(String, String)> {
    let stack = |id: &str| id.split('/').nth(2).unwrap().to_owned();
    let ratios = donors.iter().flat_map(|donor| &donor.ratios);
    let pairs = ratios.map(|ratio| (stack(&ratio.cell_id), stack(&ratio.control_cell_id)));
    pairs.filter(|(stack, control)| stack != control).collect()
}

/// Each metric of each cell against each of its controls.
fn ratios(cells: &[Cell], controls: &BTreeSet<(String, String)>) -> Vec<Ratio> {
    let by_id: BTreeMap<&str, &Cell> = cells.iter().map(|cell| (cell.id.as_str(), cell)).collect();
    let mut ratios = Vec::new();
    for cell in cells {
        for (_, control) in controls.iter().filter(|(stack, _)| *stack == cell.stack) {
            let id = cell
                .id
                .replacen(&format!("/{}/", cell.stack), &format!("/{control}/"), 1);
            let Some(control) = by_id.get(id.as_str()) else {
                continue;
            };
            for (metric, figure) in &cell.metrics {
                let below = control.metrics.get(metric).and_then(|metric| metric.value);
                let (Some(above), Some(below)) = (figure.value, below.filter(|it| *it > 0.0))
                else {
                    continue;
                };
                ratios.push(Ratio {
                    metric: metric.clone(),
                    cell_id: cell.id.clone(),
                    control_cell_id: control.id.clone(),
                    ratio: above / below,
                    ci95_low: Some(0.97 * above / below),
                    ci95_high: Some(1.03 * above / below),
                    blocks: BLOCKS as u32,
                    precision: None,
                });
            }
        }
    }
    ratios
}
