//! Exports read back by readers that others wrote: HdrHistogram's own in Java, the parsers of Prometheus' Python
//! client, and JSON Schemas by a validator. They find every figure of the run, and no other.

#![allow(clippy::unwrap_used)]

mod support;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use hopbench::record::{Cell, Metric, Run, Verdict};
use serde_json::Value;
use support::peers::{self, Program, find};
use support::readers::{assert_valid, python};
use support::{run, stderr, stdout};

const JAVA: Program = Program {
    name: "java",
    packages: "default-jre-headless libhdrhistogram-java",
};
const HDR_HISTOGRAM: &str = "/usr/share/java/hdrhistogram.jar";

fn reference() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../results/reference/quick")
}

/// The run that is exported: the quick reference, one cell of which is made unsound, and another one failed.
struct Exported {
    folder: tempfile::TempDir,
    run: Run,
}

impl Exported {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut run = Run::read(&reference().join("run.json")).unwrap();
        for (cell, verdict) in run
            .cells
            .iter_mut()
            .zip([Verdict::GeneratorBound, Verdict::Failed])
        {
            cell.verdict = verdict;
            cell.reason = Some("for the test".to_owned());
        }
        run.write(&folder.path().join("run.json")).unwrap();
        Self { folder, run }
    }

    /// Exports into a folder of its own; returns it, and what was said.
    fn export(&self, format: &str) -> (PathBuf, String) {
        let out = self.folder.path().join(format);
        let output = run(&[
            "export",
            self.folder.path().to_str().unwrap(),
            "--format",
            format,
            "--out",
            out.to_str().unwrap(),
        ]);
        assert!(output.status.success(), "{}", stderr(&output));
        (out, stderr(&output))
    }

    fn unsound(&self) -> Vec<&Cell> {
        let cells = self.run.cells.iter();
        cells.filter(|cell| cell.verdict != Verdict::Ok).collect()
    }

    /// Of sound cells, what has a value.
    fn figures(&self) -> Vec<(&Cell, &str, &Metric)> {
        let sound = self
            .run
            .cells
            .iter()
            .filter(|cell| cell.verdict == Verdict::Ok);
        let metrics = sound.flat_map(|cell| {
            cell.metrics
                .iter()
                .map(move |(key, metric)| (cell, key.as_str(), metric))
        });
        metrics
            .filter(|(_, _, metric)| metric.value.is_some())
            .collect()
    }

    /// Between sound cells.
    fn ratio_count(&self) -> usize {
        let unsound: Vec<&str> = self.unsound().iter().map(|cell| cell.id.as_str()).collect();
        let is_sound = |id: &String| !unsound.contains(&id.as_str());
        let ratios = self.run.ratios.iter();
        ratios
            .filter(|ratio| is_sound(&ratio.cell_id) && is_sound(&ratio.control_cell_id))
            .count()
    }
}

fn json(path: &Path) -> Value {
    serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap()
}

#[test]
fn github_action_benchmark_is_of_its_schema_and_has_every_figure() {
    let exported = Exported::new();
    let (out, said) = exported.export("github-action-benchmark");
    let files = ["smaller-is-better.json", "bigger-is-better.json"].map(|name| out.join(name));
    assert_valid(
        "github-action-benchmark.schema.json",
        &[&files[0], &files[1]],
    );

    let benches: Vec<Value> = files
        .iter()
        .flat_map(|file| json(file).as_array().unwrap().clone())
        .collect();
    let by_name: BTreeMap<&str, &Value> = benches
        .iter()
        .map(|b| (b["name"].as_str().unwrap(), b))
        .collect();
    assert_eq!(by_name.len(), benches.len(), "names are unique");
    assert_eq!(
        benches.len(),
        exported.figures().len() + exported.ratio_count()
    );
    for (cell, key, metric) in exported.figures() {
        let bench = by_name[format!("{} {key}", cell.id).as_str()];
        assert_eq!(bench["value"].as_f64(), metric.value);
        assert_eq!(bench["unit"], serde_json::to_value(metric.unit).unwrap());
        assert_eq!(
            bench.get("range").is_some(),
            metric.ci95_low.is_some(),
            "{bench}"
        );
    }
    for cell in exported.unsound() {
        assert!(said.contains(&cell.id), "{said}");
        assert!(
            !by_name
                .keys()
                .any(|name| name.starts_with(&format!("{} ", cell.id)))
        );
    }
}

#[test]
fn bencher_metric_format_is_of_its_schema_and_has_every_figure() {
    let exported = Exported::new();
    let (out, _) = exported.export("bencher");
    let file = out.join("bmf.json");
    assert_valid("bencher.schema.json", &[&file]);
    let bmf = json(&file);
    let measures = bmf
        .as_object()
        .unwrap()
        .values()
        .map(|benchmark| benchmark.as_object().unwrap().len());
    assert_eq!(
        measures.sum::<usize>(),
        exported.figures().len() + exported.ratio_count()
    );
    for (cell, key, metric) in exported.figures() {
        let measures = bmf[&cell.id].as_object().unwrap();
        let slug = key.replace('_', "-");
        let named = measures.get(&slug);
        let builtin = || {
            measures.get(if key.ends_with("_ns") {
                "latency"
            } else {
                "throughput"
            })
        };
        let measure = named.or_else(builtin).unwrap();
        assert_eq!(
            measure["value"].as_f64(),
            metric.value,
            "{key} of {}",
            cell.id
        );
        assert_eq!(
            measure.get("lower_value").and_then(Value::as_f64),
            metric.ci95_low
        );
        assert_eq!(
            measure.get("upper_value").and_then(Value::as_f64),
            metric.ci95_high
        );
    }
    for cell in exported.unsound() {
        assert!(bmf.get(&cell.id).is_none());
    }
}

/// By name, labels and value; a reader may take 1 for a whole number.
fn samples_of(printed: &[u8]) -> BTreeMap<String, Vec<(Value, f64)>> {
    let value: Value = serde_json::from_slice(printed).unwrap();
    let sample = |sample: &Value| (sample[0].clone(), sample[1].as_f64().unwrap());
    let samples = |samples: &Value| samples.as_array().unwrap().iter().map(sample).collect();
    let by_name = value["samples"].as_object().unwrap().iter();
    by_name
        .map(|(name, found)| (name.clone(), samples(found)))
        .collect()
}

/// Both text formats hold the same samples.
#[test]
fn prometheus_and_openmetrics_are_parsed_by_prometheus_own_client() {
    let exported = Exported::new();
    let mut read = Vec::new();
    for (format, file) in [
        ("prometheus", "hopbench.prom"),
        ("openmetrics", "hopbench.om"),
    ] {
        let (out, _) = exported.export(format);
        let file = out.join(file);
        let Some(output) = python("read_prometheus.py", &[Path::new(format), &file]) else {
            return;
        };
        assert!(output.status.success(), "{format}: {}", stderr(&output));
        read.push(samples_of(&output.stdout));
    }
    assert!(read[0] == read[1], "the formats differ");
    let samples = &read[0];
    let sample = |name: &str, cell: &Cell| -> Option<f64> {
        let of_cell = |(labels, _): &&(Value, f64)| labels["cell"] == cell.id.as_str();
        let (labels, value) = samples.get(name)?.iter().find(of_cell)?;
        assert_eq!(labels["stack"], cell.stack.as_str());
        Some(*value)
    };
    for (cell, key, metric) in exported.figures() {
        assert_eq!(
            sample(&format!("hopbench_{key}"), cell),
            metric.value,
            "{key} of {}",
            cell.id
        );
        assert_eq!(
            sample(&format!("hopbench_ci95_low_{key}"), cell),
            metric.ci95_low
        );
        let count = metric
            .histogram
            .as_ref()
            .map(|histogram| histogram.count as f64);
        assert_eq!(
            sample(&format!("hopbench_distribution_{key}_count"), cell),
            count
        );
    }
    for cell in exported.unsound() {
        let mut info = samples["hopbench_cell_info"].iter();
        let of_cell = |(labels, _): &&(Value, f64)| labels["cell"] == cell.id.as_str();
        let (told, _) = info.find(of_cell).unwrap();
        assert_eq!(told["verdict"], serde_json::to_value(cell.verdict).unwrap());
        let key = cell.metrics.keys().next().unwrap();
        assert_eq!(sample(&format!("hopbench_{key}"), cell), None);
    }
}

/// Java's log processor reads a log, and prints the distribution of each tag as only Java prints it: to the byte
/// what we print.
#[test]
fn logs_are_read_by_java_which_prints_the_same_distributions() {
    let exported = Exported::new();
    let (logs, _) = exported.export("hlog");
    let (distributions, _) = exported.export("hgrm");
    let Some(java) = find(&JAVA).filter(|_| Path::new(HDR_HISTOGRAM).is_file()) else {
        let packages = JAVA.packages;
        peers::skip(&format!(
            "Java or its HdrHistogram is missing: `apt-get install {packages}` on Debian provides them"
        ));
        return;
    };
    let of_question = "memory-register-direct-per-registration-loopback";
    assert!(
        !logs.join(of_question).exists(),
        "memory has no distributions"
    );
    // One of each kind of distribution; starting Java takes long, so not all.
    let chosen = [
        ("setup/register/", "setup_latency_ns"),
        ("setup/register/", "hop_ready_to_registered_ns"),
        ("throughput/register/", "scheduling_lag_ns"),
        ("throughput/invite/", "session_request_delay_ns"),
        ("throughput/invite/", "throughput_per_second"),
    ];
    let mut compared = 0;
    for (question, key) in chosen {
        let figures = exported.figures();
        let with_histogram = |(cell, found, metric): &&(&Cell, &str, &Metric)| {
            cell.id.starts_with(question) && *found == key && metric.histogram.is_some()
        };
        let Some((cell, ..)) = figures.iter().find(with_histogram) else {
            continue;
        };
        let id = cell.id.replacen(&format!("/{}/", cell.stack), "/", 1);
        let log = logs.join(format!("{}.{key}.hlog", file_stem(&id)));
        let printed = exported.folder.path().join("printed");
        let output = Command::new(&java)
            .args([
                "-cp",
                HDR_HISTOGRAM,
                "org.HdrHistogram.HistogramLogProcessor",
            ])
            .arg("-i")
            .arg(&log)
            .args(["-tag", &cell.stack, "-outputValueUnitRatio", "1", "-o"])
            .arg(&printed)
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", stderr(&output));
        let java_s = fs::read_to_string(printed.with_extension("hgrm")).unwrap();
        // Two lines of comment, which the processor puts before the distribution, are its own.
        let java_s = &java_s[java_s.find("       Value").unwrap()..];
        let ours = distributions.join(format!("{}.{key}.hgrm", file_stem(&cell.id)));
        assert_eq!(
            fs::read_to_string(ours).unwrap(),
            java_s,
            "{key} of {}",
            cell.id
        );
        compared += 1;
    }
    assert!(compared >= 4, "{compared} distributions");

    let question = exported
        .run
        .cells
        .iter()
        .find(|cell| cell.experiment == "setup" && cell.verdict == Verdict::Ok);
    let question = question.unwrap();
    let id = question
        .id
        .replacen(&format!("/{}/", question.stack), "/", 1);
    let tags = Command::new(&java)
        .args([
            "-cp",
            HDR_HISTOGRAM,
            "org.HdrHistogram.HistogramLogProcessor",
            "-listtags",
            "-i",
        ])
        .arg(logs.join(format!("{}.setup_latency_ns.hlog", file_stem(&id))))
        .output()
        .unwrap();
    let tags = stdout(&tags);
    let same_question = |cell: &&Cell| cell.id.replacen(&format!("/{}/", cell.stack), "/", 1) == id;
    for cell in exported.run.cells.iter().filter(same_question) {
        let is_tag = tags.lines().any(|line| line.trim() == cell.stack);
        assert_eq!(
            is_tag,
            cell.verdict == Verdict::Ok,
            "{} in {tags}",
            cell.stack
        );
    }
}

/// As the exporter names files.
fn file_stem(id: &str) -> String {
    let keep = |c: char| c.is_ascii_alphanumeric() || "-_.@=".contains(c);
    id.chars().map(|c| if keep(c) { c } else { '-' }).collect()
}

#[test]
fn csv_is_printed_and_several_files_need_a_folder() {
    let folder = reference();
    let folder = folder.to_str().unwrap();
    let csv = run(&["export", folder, "--format", "csv"]);
    assert!(csv.status.success());
    assert!(stdout(&csv).starts_with("run_id,cell_id,"));
    let refused = run(&["export", folder, "--format", "hlog"]);
    assert_eq!(refused.status.code(), Some(2));
    assert!(
        stderr(&refused).contains("name a folder for them with --out FOLDER"),
        "{}",
        stderr(&refused)
    );
}
