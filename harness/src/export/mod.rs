//! Exports: a run in the formats of other programs, one file a format. Beside the reports, above
//! [`crate::figures`]; nothing here is meant for a person, and no figure is rescaled: a unit is that of the
//! metric's key in every format.
//!
//! | format | left out, since the format could not say it |
//! |---|---|
//! | csv | nothing: verdicts have a column |
//! | prometheus, openmetrics | figures of cells that are not sound; their verdict is a sample of its own |
//! | github-action-benchmark, bencher | cells that are not sound: everything becomes a chart and an alarm |
//! | hgrm, hlog | the same; and what is no distribution |

mod bencher;
mod csv;
mod exposition;
mod github_action_benchmark;
mod hgrm;
mod hlog;
mod openmetrics;
mod prometheus;

use hopbench::record::Run;

pub(crate) use github_action_benchmark::{Bench, name as bench_name};

/// A file to write, or to print where it is the only one.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct File {
    /// Without folders.
    pub(crate) name: String,
    /// Its contents.
    pub(crate) text: String,
}

/// Why a run cannot be exported.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum ExportError {
    /// A histogram cannot be decoded.
    #[error("{metric} of {cell}: expected a histogram in hdr_v2_base64, found {source}")]
    Histogram {
        /// Whose histogram.
        cell: String,
        /// Of what.
        metric: String,
        /// The decoder's words.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The time in a run is none.
    #[error("{key}: expected a time of RFC 3339, found {found:?}")]
    Time {
        /// Where it stands in the run.
        key: &'static str,
        /// What stands there.
        found: String,
    },
}

/// A format: a pure function from a run to files, which always have the same names for the same cells.
pub(crate) trait Exporter {
    /// The run in this format.
    ///
    /// # Errors
    /// When something within the run is damaged that the format needs.
    fn export(&self, run: &Run) -> Result<Vec<File>, ExportError>;
}

/// The formats.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Format {
    /// One row a metric, then one row a ratio: metrics.csv
    Csv,
    /// For the GitHub action of that name: smaller-is-better.json and bigger-is-better.json
    GithubActionBenchmark,
    /// Bencher Metric Format: bmf.json
    Bencher,
    /// Text format of Prometheus, for a textfile collector: hopbench.prom
    Prometheus,
    /// OpenMetrics 1.0: hopbench.om
    Openmetrics,
    /// Percentile distributions as HdrHistogram's plotters read them: one .hgrm a distribution
    Hgrm,
    /// HdrHistogram logs, lossless: one .hlog a distribution, with the stacks as tags
    Hlog,
}

impl Format {
    /// Who writes it.
    pub(crate) fn exporter(self) -> &'static dyn Exporter {
        match self {
            Self::Csv => &csv::Csv,
            Self::GithubActionBenchmark => &github_action_benchmark::GithubActionBenchmark,
            Self::Bencher => &bencher::Bencher,
            Self::Prometheus => &prometheus::Prometheus,
            Self::Openmetrics => &openmetrics::OpenMetrics,
            Self::Hgrm => &hgrm::Hgrm,
            Self::Hlog => &hlog::Hlog,
        }
    }

    /// Whether cells that are not sound are in it, marked as such.
    pub(crate) fn tells_verdicts(self) -> bool {
        match self {
            Self::Csv | Self::Prometheus | Self::Openmetrics => true,
            Self::GithubActionBenchmark | Self::Bencher | Self::Hgrm | Self::Hlog => false,
        }
    }
}

/// A cell's id as part of a file name: what is not a letter, a digit or one of `-_.@=` becomes `-`.
pub(crate) fn file_stem(id: &str) -> String {
    let keep = |c: char| c.is_ascii_alphanumeric() || "-_.@=".contains(c);
    id.chars().map(|c| if keep(c) { c } else { '-' }).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use clap::ValueEnum;

    use super::*;
    use crate::report::fixture;

    #[test]
    fn every_format_names_each_file_once_and_without_folders() {
        let run = fixture::run();
        for format in Format::value_variants() {
            let files = format
                .exporter()
                .export(&run)
                .expect("the fixture is sound");
            assert!(!files.is_empty(), "{format:?}");
            let names: BTreeSet<&str> = files.iter().map(|file| file.name.as_str()).collect();
            assert_eq!(names.len(), files.len(), "{format:?}");
            for file in &files {
                assert!(
                    !file.name.contains('/') && !file.text.is_empty(),
                    "{file:?}"
                );
                assert!(file.text.ends_with('\n'), "{}", file.name);
            }
        }
    }

    #[test]
    fn a_run_without_cells_is_exported() {
        let mut run = fixture::run();
        run.cells.clear();
        run.ratios.clear();
        for format in Format::value_variants() {
            let files = format.exporter().export(&run).expect("nothing to decode");
            assert!(files.iter().all(|file| !file.text.is_empty()), "{format:?}");
        }
    }

    /// The worst that could happen: the generator's limit shown as the server's.
    #[test]
    fn what_is_not_sound_is_nowhere_a_figure() {
        let run = fixture::run();
        let unsound = crate::figures::left_out(&run);
        for format in Format::value_variants() {
            let files = format
                .exporter()
                .export(&run)
                .expect("the fixture is sound");
            for cell in &unsound {
                let id = &cell.id;
                let named = files.iter().any(|file| {
                    let lines = file.text.lines();
                    let naming = lines.filter(|line| {
                        line.contains(&format!("{id}\"")) || line.contains(&format!("{id} "))
                    });
                    file.name.starts_with(&format!("{}.", file_stem(id))) || naming.count() > 0
                });
                assert!(!named || format.tells_verdicts(), "{format:?} has {id}");
            }
        }
    }

    #[test]
    fn a_file_stem_is_safe_in_every_shell() {
        assert_eq!(
            file_stem("setup/register/tcp@wireguard/x?key=ECDSA P-256&b=ü"),
            "setup-register-tcp@wireguard-x-key=ECDSA-P-256-b=-"
        );
    }
}
