//! Tidy CSV (RFC 4180, but lines end in LF, as tools on Unix expect). An exporter.
//!
//! One row a metric, in the order of the run, and then one row a ratio. A ratio's row repeats what
//! describes the cell above the line, names the cell below it in `control_cell_id`, and has the
//! ratio as `value` with the unit `ratio`; for metrics `control_cell_id` is empty, so that
//! column is what to filter on. Cells that are not sound are in it: filter by `verdict`. A cell without metrics
//! keeps a row, which holds its verdict. Missing is the empty field.

use hopbench::record::{Cell, Metric, Ratio, Run, Unit};

use super::{ExportError, Exporter, File};
use crate::figures::{direction_word, unit_word};
use crate::report::verdict_word;

/// The exporter.
pub(super) struct Csv;

impl Exporter for Csv {
    fn export(&self, run: &Run) -> Result<Vec<File>, ExportError> {
        Ok(vec![File {
            name: "metrics.csv".to_owned(),
            text: render(run),
        }])
    }
}

const HEADER: [&str; 26] = [
    "run_id",
    "cell_id",
    "experiment",
    "workload",
    "stack",
    "topology",
    "lifecycle",
    "path",
    "parameters",
    "verdict",
    "reason",
    "metric",
    "value",
    "ci95_low",
    "ci95_high",
    "unit",
    "direction",
    "count",
    "p50",
    "p90",
    "p99",
    "p999",
    "max",
    "control_cell_id",
    "blocks",
    "repetitions",
];

/// Where the columns of a figure begin, after those of its cell.
const CELL_COLUMNS: usize = 11;

/// Every metric and every ratio of `run`.
fn render(run: &Run) -> String {
    let mut out = String::new();
    record(&mut out, HEADER.iter().map(|name| (*name).to_owned()));
    for cell in &run.cells {
        if cell.metrics.is_empty() {
            let none = std::iter::repeat_n(String::new(), HEADER.len() - CELL_COLUMNS - 1);
            let repetitions = std::iter::once(cell.repetitions.to_string());
            record(
                &mut out,
                describe(run, cell)
                    .into_iter()
                    .chain(none)
                    .chain(repetitions),
            );
        }
        for (key, metric) in &cell.metrics {
            record(
                &mut out,
                describe(run, cell)
                    .into_iter()
                    .chain(measured(cell, key, metric)),
            );
        }
    }
    for ratio in &run.ratios {
        // A ratio of a cell that is not in the run describes nothing; `run.json` still has it.
        if let Some(cell) = run.cells.iter().find(|cell| cell.id == ratio.cell_id) {
            record(
                &mut out,
                describe(run, cell).into_iter().chain(compared(cell, ratio)),
            );
        }
    }
    out
}

fn describe(run: &Run, cell: &Cell) -> [String; CELL_COLUMNS] {
    let parameter = |(key, value): (&String, &serde_json::Value)| match value.as_str() {
        Some(text) => format!("{key}={text}"),
        None => format!("{key}={value}"),
    };
    let parameters: Vec<String> = cell.parameters.iter().map(parameter).collect();
    [
        run.run_id.clone(),
        cell.id.clone(),
        cell.experiment.clone(),
        cell.workload.clone(),
        cell.stack.clone(),
        cell.topology.clone(),
        cell.lifecycle.clone(),
        cell.path.clone(),
        parameters.join(";"),
        verdict_word(cell.verdict).to_owned(),
        cell.reason.clone().unwrap_or_default(),
    ]
}

fn measured(cell: &Cell, key: &str, metric: &Metric) -> [String; HEADER.len() - CELL_COLUMNS] {
    let histogram = metric.histogram.as_ref();
    let sample = |read: fn(&hopbench::record::Histogram) -> u64| {
        histogram
            .map(|histogram| read(histogram).to_string())
            .unwrap_or_default()
    };
    [
        key.to_owned(),
        number(metric.value),
        number(metric.ci95_low),
        number(metric.ci95_high),
        unit_word(metric.unit).to_owned(),
        direction_word(metric.direction).to_owned(),
        sample(|histogram| histogram.count),
        sample(|histogram| histogram.p50),
        sample(|histogram| histogram.p90),
        sample(|histogram| histogram.p99),
        sample(|histogram| histogram.p999),
        sample(|histogram| histogram.max),
        String::new(),
        String::new(),
        cell.repetitions.to_string(),
    ]
}

fn compared(cell: &Cell, ratio: &Ratio) -> [String; HEADER.len() - CELL_COLUMNS] {
    let metric = cell.metrics.get(&ratio.metric);
    let mut row = [const { String::new() }; HEADER.len() - CELL_COLUMNS];
    row[0].clone_from(&ratio.metric);
    row[1] = number(Some(ratio.ratio));
    row[2] = number(ratio.ci95_low);
    row[3] = number(ratio.ci95_high);
    row[4] = unit_word(Unit::Ratio).to_owned();
    row[5] = metric
        .map(|metric| direction_word(metric.direction))
        .unwrap_or_default()
        .to_owned();
    row[12].clone_from(&ratio.control_cell_id);
    row[13] = ratio.blocks.to_string();
    row[14] = cell.repetitions.to_string();
    row
}

fn number(value: Option<f64>) -> String {
    value.map(|value| value.to_string()).unwrap_or_default()
}

fn record(out: &mut String, fields: impl Iterator<Item = String>) {
    for (index, field) in fields.enumerate() {
        if index > 0 {
            out.push(',');
        }
        out.push_str(&quoted(&field));
    }
    out.push('\n');
}

/// RFC 4180 §2: fields with a separator, a quote or a line break are quoted, quotes doubled.
fn quoted(field: &str) -> String {
    if field.contains([',', '"', '\n', '\r']) {
        format!("\"{}\"", field.replace('"', "\"\""))
    } else {
        field.to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::fixture;

    #[test]
    fn quotes_what_rfc_4180_asks_for() {
        let table = [
            ("plain", "plain"),
            ("", ""),
            ("a,b", "\"a,b\""),
            ("say \"no\"", "\"say \"\"no\"\"\""),
            ("two\nlines", "\"two\nlines\""),
        ];
        for (field, expected) in table {
            assert_eq!(quoted(field), expected);
        }
    }

    /// `HOPBENCH_BLESS=1` rewrites the snapshot instead.
    #[test]
    fn renders_as_in_the_snapshot() {
        let path =
            std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/snapshots/metrics.csv");
        let actual = render(&fixture::run());
        if std::env::var_os("HOPBENCH_BLESS").is_some() {
            std::fs::write(&path, &actual).expect("the snapshot is writable");
        }
        let expected = std::fs::read_to_string(&path).expect("the snapshot is readable");
        assert!(
            actual == expected,
            "metrics.csv changed; HOPBENCH_BLESS=1 accepts the change"
        );
    }

    #[test]
    fn each_metric_and_each_ratio_has_one_row_of_full_width() {
        let mut run = fixture::run();
        for cell in &mut run.cells {
            cell.reason = None;
        }
        let text = render(&run);
        let metrics: usize = run.cells.iter().map(|cell| cell.metrics.len().max(1)).sum();
        assert_eq!(text.lines().count(), 1 + metrics + run.ratios.len());
        for line in text.lines() {
            assert_eq!(line.split(',').count(), HEADER.len(), "{line}");
        }
    }
}
