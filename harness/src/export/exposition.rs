//! A run as families of samples, the model that the text formats of Prometheus and OpenMetrics share. Beneath
//! these two exporters.
//!
//! Of a metric `KEY`: the gauge `hopbench_KEY`, the ends of its interval `hopbench_ci95_low_KEY` and
//! `hopbench_ci95_high_KEY`, the summary `hopbench_distribution_KEY` with the quantiles of its histogram, and the
//! ratio to a control `hopbench_KEY_ratio` with the label `control`. Names end in the unit, which is that of the
//! key: the same figure has the same name and number here, in `run.json` and in every other export.

use std::collections::BTreeMap;

use hopbench::record::{Cell, Histogram, Run, Unit, metric};

use super::ExportError;
use crate::figures::{self, Figure, unit_word};
use crate::report::verdict_word;

/// What a family's samples are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// A number.
    Gauge,
    /// Labels; the value is always 1, and the sample's name has the suffix `_info`.
    Info,
    /// Quantiles, `_sum` and `_count`.
    Summary,
}

/// Samples of one name.
#[derive(Debug)]
pub(super) struct Family {
    pub(super) name: String,
    pub(super) kind: Kind,
    /// In words that a name may end in.
    pub(super) unit: Option<&'static str>,
    pub(super) help: String,
    pub(super) samples: Vec<Sample>,
}

/// One number.
#[derive(Debug)]
pub(super) struct Sample {
    /// What is added to the family's name.
    pub(super) suffix: &'static str,
    pub(super) labels: Vec<(&'static str, String)>,
    pub(super) value: f64,
}

/// Families in the order of their names within each kind of source: the run, cells, metrics, ratios.
pub(super) fn families(run: &Run) -> Result<Vec<Family>, ExportError> {
    let mut families = vec![run_info(run), run_start(run)?, cells(run)];
    let figures = figures::sound(run);
    let (ratios, metrics): (Vec<_>, Vec<_>) = figures
        .into_iter()
        .partition(|figure| figure.control.is_some());
    for (key, figures) in by_key(metrics) {
        let unit = unit_word(figures[0].unit);
        let unit = key.ends_with(&format!("_{unit}")).then_some(unit);
        figure_families(&mut families, key, unit, &title(key), &figures);
        families.extend(distributions(key, unit, &figures));
    }
    for (key, figures) in by_key(ratios) {
        let name = format!("{key}_ratio");
        let help = format!("{}, divided by that of the control", title(key));
        figure_families(
            &mut families,
            &name,
            Some(unit_word(Unit::Ratio)),
            &help,
            &figures,
        );
    }
    families.retain(|family| !family.samples.is_empty());
    Ok(families)
}

/// The lines of a sample: `name{label="value"} number`, as both formats write it.
pub(super) fn write_samples(out: &mut String, family: &Family) {
    use std::fmt::Write as _;

    for sample in &family.samples {
        let labels: Vec<String> = sample
            .labels
            .iter()
            .map(|(name, value)| format!("{name}=\"{}\"", escaped(value)))
            .collect();
        let _ = writeln!(
            out,
            "{}{}{{{}}} {}",
            family.name,
            sample.suffix,
            labels.join(","),
            sample.value
        );
    }
}

/// A label's value: backslash, quote and line feed are escaped.
fn escaped(text: &str) -> String {
    text.replace('\\', "\\\\")
        .replace('"', "\\\"")
        .replace('\n', "\\n")
}

fn by_key(figures: Vec<Figure<'_>>) -> BTreeMap<&str, Vec<Figure<'_>>> {
    let mut by_key: BTreeMap<&str, Vec<Figure<'_>>> = BTreeMap::new();
    for figure in figures {
        by_key.entry(figure.metric).or_default().push(figure);
    }
    by_key
}

fn title(key: &str) -> String {
    metric::known(key)
        .map_or(key, |known| known.title)
        .to_owned()
}

fn run_info(run: &Run) -> Family {
    let known = |value: &Option<String>| value.clone().unwrap_or_default();
    Family {
        name: "hopbench_run".to_owned(),
        kind: Kind::Info,
        unit: None,
        help: "The run that all samples are of".to_owned(),
        samples: vec![Sample {
            suffix: "_info",
            labels: vec![
                ("run_id", run.run_id.clone()),
                ("profile", run.profile.clone()),
                ("version", run.build.version.clone()),
                ("commit", known(&run.build.git_commit)),
                ("os", run.environment.os.clone()),
                ("kernel", known(&run.environment.kernel)),
                ("cpu_model", known(&run.environment.cpu_model)),
                ("cpu_count", run.environment.cpu_count.to_string()),
            ],
            value: 1.0,
        }],
    }
}

fn run_start(run: &Run) -> Result<Family, ExportError> {
    let started = super::hlog::seconds("started_at", &run.started_at)?;
    Ok(Family {
        name: "hopbench_run_start_timestamp_seconds".to_owned(),
        kind: Kind::Gauge,
        unit: Some("seconds"),
        help: "When the run started".to_owned(),
        samples: vec![Sample {
            suffix: "",
            labels: Vec::new(),
            #[allow(clippy::cast_precision_loss)] // seconds
            value: started as f64,
        }],
    })
}

/// Every cell with its verdict, so that a missing figure can be told from a cell that was not sound.
fn cells(run: &Run) -> Family {
    let mut all: Vec<&Cell> = run.cells.iter().collect();
    all.sort_by_key(|cell| &cell.id);
    let sample = |cell: &Cell| {
        let mut labels = labels(cell);
        labels.push(("verdict", verdict_word(cell.verdict).to_owned()));
        Sample {
            suffix: "_info",
            labels,
            value: 1.0,
        }
    };
    Family {
        name: "hopbench_cell".to_owned(),
        kind: Kind::Info,
        unit: None,
        help: "Whether the figures of a cell mean what they say; only those of ok are exported"
            .to_owned(),
        samples: all.into_iter().map(sample).collect(),
    }
}

fn figure_families(
    families: &mut Vec<Family>,
    key: &str,
    unit: Option<&'static str>,
    help: &str,
    figures: &[Figure<'_>],
) {
    let mut add = |prefix: &str, help: String, value: fn(&Figure<'_>) -> Option<f64>| {
        let sample = |figure: &Figure<'_>| {
            let mut labels = labels(figure.cell);
            labels.extend(
                figure
                    .control
                    .map(|control| ("control", control.to_owned())),
            );
            Some(Sample {
                suffix: "",
                labels,
                value: value(figure)?,
            })
        };
        families.push(Family {
            name: format!("hopbench_{prefix}{key}"),
            kind: Kind::Gauge,
            unit,
            help,
            samples: figures.iter().filter_map(sample).collect(),
        });
    };
    add("", help.to_owned(), |figure| Some(figure.value));
    add(
        "ci95_low_",
        format!("{help}: lower end of the 95 % interval"),
        |figure| figure.interval.map(|(low, _)| low),
    );
    add(
        "ci95_high_",
        format!("{help}: upper end of the 95 % interval"),
        |figure| figure.interval.map(|(_, high)| high),
    );
}

fn distributions(key: &str, unit: Option<&'static str>, figures: &[Figure<'_>]) -> Option<Family> {
    let with_histogram: Vec<(&Cell, &Histogram)> = figures
        .iter()
        .filter_map(|figure| Some((figure.cell, figure.cell.metrics[key].histogram.as_ref()?)))
        .collect();
    (!with_histogram.is_empty()).then(|| Family {
        name: format!("hopbench_distribution_{key}"),
        kind: Kind::Summary,
        unit,
        help: format!("{}: all samples", title(key)),
        samples: with_histogram
            .into_iter()
            .flat_map(|(cell, histogram)| summary(cell, histogram))
            .collect(),
    })
}

#[allow(clippy::cast_precision_loss)] // nanoseconds and counts below 2^53
fn summary(cell: &Cell, histogram: &Histogram) -> Vec<Sample> {
    let quantiles = [
        ("0.5", histogram.p50),
        ("0.9", histogram.p90),
        ("0.99", histogram.p99),
        ("0.999", histogram.p999),
        ("1", histogram.max),
    ];
    let mut samples: Vec<Sample> = quantiles
        .into_iter()
        .map(|(quantile, value)| {
            let mut labels = labels(cell);
            labels.push(("quantile", quantile.to_owned()));
            Sample {
                suffix: "",
                labels,
                value: value as f64,
            }
        })
        .collect();
    let count = histogram.count as f64;
    for (suffix, value) in [("_sum", histogram.mean * count), ("_count", count)] {
        samples.push(Sample {
            suffix,
            labels: labels(cell),
            value,
        });
    }
    samples
}

fn labels(cell: &Cell) -> Vec<(&'static str, String)> {
    vec![
        ("cell", cell.id.clone()),
        ("experiment", cell.experiment.clone()),
        ("workload", cell.workload.clone()),
        ("stack", cell.stack.clone()),
        ("topology", cell.topology.clone()),
        ("lifecycle", cell.lifecycle.clone()),
        ("path", cell.path.clone()),
    ]
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::report::fixture;

    #[test]
    fn a_name_is_one_family_and_a_series_one_sample() {
        let families = families(&fixture::run()).expect("the fixture's time is one");
        let names: BTreeSet<&str> = families.iter().map(|family| family.name.as_str()).collect();
        assert_eq!(names.len(), families.len());
        for family in &families {
            let mut text = String::new();
            write_samples(&mut text, family);
            let series: BTreeSet<&str> = text
                .lines()
                .filter_map(|line| line.rsplit_once(' ').map(|(series, _)| series))
                .collect();
            assert_eq!(series.len(), family.samples.len(), "{}", family.name);
        }
    }

    #[test]
    fn label_values_are_escaped() {
        assert_eq!(escaped("a\"b\\c\nd"), "a\\\"b\\\\c\\nd");
    }
}
