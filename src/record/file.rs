//! Runs on disk: written so that a reader sees the old file or the new one, never half of one.

use std::fs::{self, File};
use std::io::{self, BufWriter, Write as _};
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::{Run, SCHEMA};

/// Why a run could not be read or written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FileError {
    /// The file cannot be opened or read.
    #[error("cannot read the run {}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The system's words.
        source: io::Error,
    },
    /// The file is not JSON, or not of this schema's shape.
    #[error("{} is no run of schema {SCHEMA}: {source}", path.display())]
    Format {
        /// The file.
        path: PathBuf,
        /// What was expected, what was found, line and column.
        source: serde_json::Error,
    },
    /// The file is of another schema.
    #[error(
        "{} is of schema {found:?}, expected {SCHEMA:?}: read it with the hopbench that wrote it",
        path.display()
    )]
    Schema {
        /// The file.
        path: PathBuf,
        /// The schema that it names.
        found: String,
    },
    /// The file cannot be written.
    #[error("cannot write the run to {}: {source}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// The system's words.
        source: io::Error,
    },
}

impl Run {
    /// Writes the run to `path` as JSON, atomically: whatever happens, `path` is either what it was
    /// before or the whole of this run, also after a loss of power.
    ///
    /// # Errors
    /// When the folder does not exist, is not writable or is full; `path` is then unchanged.
    pub fn write(&self, path: &Path) -> Result<(), FileError> {
        let beside = path.with_extension(format!("{}.partial", std::process::id()));
        self.write_new(&beside)
            .and_then(|()| fs::rename(&beside, path))
            .and_then(|()| sync_folder_of(path))
            .map_err(|source| {
                // The first error is the one to tell; a file left over harms nobody.
                let _ = fs::remove_file(&beside);
                FileError::Write {
                    path: path.to_owned(),
                    source,
                }
            })
    }

    fn write_new(&self, path: &Path) -> io::Result<()> {
        let mut writer = BufWriter::new(File::create(path)?);
        serde_json::to_writer_pretty(&mut writer, self)?;
        writer.write_all(b"\n")?;
        writer.into_inner()?.sync_all()
    }

    /// Reads a run that [`Run::write`] wrote.
    ///
    /// # Errors
    /// When the file cannot be read, is of another schema, or does not have the shape of this one.
    pub fn read(path: &Path) -> Result<Self, FileError> {
        /// The one key that every version of the schema has.
        #[derive(Deserialize)]
        struct Named {
            schema: String,
        }

        let format = |source| FileError::Format {
            path: path.to_owned(),
            source,
        };
        let text = fs::read_to_string(path).map_err(|source| FileError::Read {
            path: path.to_owned(),
            source,
        })?;
        let Named { schema } = serde_json::from_str(&text).map_err(format)?;
        if schema != SCHEMA {
            return Err(FileError::Schema {
                path: path.to_owned(),
                found: schema,
            });
        }
        serde_json::from_str(&text).map_err(format)
    }
}

/// A rename outlives a loss of power only once the folder is on disk.
fn sync_folder_of(path: &Path) -> io::Result<()> {
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        Some(_) | None => Path::new("."),
    };
    File::open(folder)?.sync_all()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::measure::histogram::LatencyHistogram;
    use crate::record::{Build, CellId, Environment, Metric, Ratio};

    fn run() -> Run {
        let mut latencies = LatencyHistogram::new();
        latencies.record_ns(1_234_567);
        let id = CellId {
            experiment: "setup".to_owned(),
            workload: "register".to_owned(),
            stack: "tls".to_owned(),
            topology: "direct".to_owned(),
            lifecycle: "per-registration".to_owned(),
            path: "loopback".to_owned(),
            distinguishing: BTreeMap::new(),
        };
        let metrics = BTreeMap::from([
            ("setup_latency_ns".to_owned(), Metric::latency(&latencies)),
            (
                "wire_overhead_ratio".to_owned(),
                Metric::of("wire_overhead_ratio", Some(1.0 / 3.0)),
            ),
        ]);
        Run {
            schema: SCHEMA.to_owned(),
            run_id: "20260102T030405Z-abcd".to_owned(),
            started_at: "2026-01-02T03:04:05Z".to_owned(),
            finished_at: None,
            profile: "quick".to_owned(),
            seed: u64::MAX,
            scenario_sha256: "00".repeat(32),
            interleaving: None,
            build: Build {
                version: "0.1.0".to_owned(),
                git_commit: None,
                git_dirty: None,
                rustc: "rustc 1.90.0".to_owned(),
                libraries: BTreeMap::from([("rustls".to_owned(), "0.23.0".to_owned())]),
            },
            environment: Environment {
                os: "linux".to_owned(),
                kernel: None,
                cpu_model: None,
                cpu_count: 2,
                memory_bytes: Some(1 << 33),
                hypervisor: None,
                tcp_congestion_control: None,
                file_descriptor_limit: None,
                load_average_at_start: Some(0.07),
            },
            cells: vec![id.measured(5, metrics), id.with("rate", 9).failed("gone")],
            ratios: vec![Ratio {
                metric: "setup_latency_ns".to_owned(),
                cell_id: "a".to_owned(),
                control_cell_id: "b".to_owned(),
                ratio: 0.1 + 0.2,
                ci95_low: None,
                ci95_high: None,
                blocks: 1,
            }],
        }
    }

    #[test]
    fn what_is_written_is_read_to_the_last_bit() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("run.json");
        run().write(&path).unwrap();
        assert_eq!(Run::read(&path).unwrap(), run());

        let finished = Run {
            finished_at: Some("2026-01-02T03:05:05Z".to_owned()),
            ..run()
        };
        finished.write(&path).unwrap();
        assert_eq!(Run::read(&path).unwrap(), finished);
        let left = fs::read_dir(folder.path()).unwrap().count();
        assert_eq!(left, 1, "nothing but run.json is left in the folder");
    }

    #[test]
    fn missing_is_null_and_the_key_is_there() {
        let json = serde_json::to_value(run()).unwrap();
        assert!(json["finished_at"].is_null());
        assert!(json.as_object().unwrap().contains_key("finished_at"));
        let environment = json["environment"].as_object().unwrap();
        assert!(environment["kernel"].is_null() && environment.contains_key("kernel"));
    }

    #[test]
    fn a_failed_write_changes_nothing_and_leaves_nothing() {
        let folder = tempfile::tempdir().unwrap();
        // A folder that is not empty cannot be replaced by a file.
        let path = folder.path().join("run.json");
        fs::create_dir(&path).unwrap();
        fs::write(path.join("kept"), "").unwrap();
        let error = run().write(&path).unwrap_err().to_string();
        assert!(error.starts_with(&format!("cannot write the run to {}: ", path.display())));
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
        assert!(path.join("kept").exists());
    }

    #[test]
    fn errors_name_the_file_the_place_and_what_was_expected() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("run.json");
        let error_of = |text: &str| {
            fs::write(&path, text).unwrap();
            Run::read(&path).unwrap_err().to_string()
        };
        let name = path.display().to_string();
        let absent = Run::read(&path).unwrap_err().to_string();
        assert!(
            absent.starts_with(&format!("cannot read the run {name}: ")),
            "{absent}"
        );

        let other = error_of(r#"{"schema": "hopbench.run/9", "cells": 3}"#);
        assert!(
            other.contains(&name)
                && other.contains(r#""hopbench.run/9", expected "hopbench.run/1""#)
        );

        let shape = error_of("{\"schema\": \"hopbench.run/1\",\n \"run_id\": 7}");
        assert!(
            shape.contains(&name) && shape.contains("expected a string at line 2 column"),
            "{shape}"
        );

        let broken = error_of("{\"schema\": \"hopbench.run/1\",");
        assert!(
            broken.contains("EOF") && broken.contains("line 1 column 28"),
            "{broken}"
        );
    }

    /// The committed JSON Schema describes what is written, so that other programs can rely on it.
    #[test]
    fn the_committed_schema_is_that_of_the_types() {
        let schema = schemars::generate::SchemaSettings::draft2020_12()
            .for_serialize()
            .into_generator()
            .into_root_schema_for::<Run>();
        let generated = serde_json::to_string_pretty(&schema).unwrap() + "\n";
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("results/run.schema.json");
        if std::env::var_os("HOPBENCH_BLESS").is_some() {
            fs::write(&path, &generated).unwrap();
        }
        let committed = fs::read_to_string(&path).unwrap_or_default();
        assert!(
            committed == generated,
            "results/run.schema.json is stale; regenerate it with\n    \
             HOPBENCH_BLESS=1 cargo test -p hopbench --lib schema"
        );
    }
}
