//! Runs on disk: written so that a reader sees the old file or the new one, never half of one.

use std::fmt;
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::str::Utf8Error;

use serde::Serialize as _;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::check::{self, Contradiction};
use super::layout::Layout;
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
    /// The file is no text.
    #[error(
        "{} is no run: expected JSON in UTF-8, found the byte 0x{byte:02x} at line {line} column \
         {column}",
        path.display()
    )]
    Text {
        /// The file.
        path: PathBuf,
        /// What is no character.
        byte: u8,
        /// Its line, from 1 on.
        line: usize,
        /// Its place in the line in bytes, from 1 on.
        column: usize,
    },
    /// The file is no JSON: it was cut off, or damaged otherwise.
    #[error(
        "{} is {}, {place}: {source}: copy it again from where it was written",
        path.display(),
        if source.is_eof() { "cut off" } else { "damaged" }
    )]
    Json {
        /// The file.
        path: PathBuf,
        /// How far it is JSON.
        place: Place,
        /// What was expected, what was found, line and column.
        source: serde_json::Error,
    },
    /// The file is JSON, but no run.
    #[error("{} is no run: expected the schema {SCHEMA:?}, found {found}", path.display())]
    Foreign {
        /// The file.
        path: PathBuf,
        /// What it is instead.
        found: String,
    },
    /// The file is a run of another version of the schema.
    #[error(
        "{} is a run of schema {found:?}, and this hopbench reads {SCHEMA:?}: use {}",
        path.display(),
        match wrote {
            Some(version) => format!("hopbench {version}, which wrote it"),
            None => "the hopbench that wrote it".to_owned(),
        }
    )]
    Schema {
        /// The file.
        path: PathBuf,
        /// The schema that it names.
        found: String,
        /// The version of hopbench that it names.
        wrote: Option<String>,
    },
    /// The file names this schema and does not have its shape.
    #[error(
        "{} is no run of schema {SCHEMA}, {place}: {source}: was it edited, or written by a newer \
         hopbench?",
        path.display()
    )]
    Shape {
        /// The file.
        path: PathBuf,
        /// Where it is otherwise.
        place: Place,
        /// What was expected, what was found, line and column.
        source: serde_json::Error,
    },
    /// The file has the shape of a run and contradicts itself.
    #[error("{} contradicts itself, {place}: {problem}: was it edited?", path.display())]
    Contradiction {
        /// The file.
        path: PathBuf,
        /// Where.
        place: Place,
        /// What was expected, and what was found.
        problem: String,
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

/// A place in a file as a JSON path, such as `cells[3].metrics.setup_latency_ns.unit`; `.` is the whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place(String);

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.as_str() {
            "." => f.write_str("at its top"),
            path => write!(f, "in {path}"),
        }
    }
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

    /// The run as text, as [`Run::write`] writes it: indented, arrays of numbers on one line.
    ///
    /// # Panics
    /// Never: all keys are strings.
    #[must_use]
    pub fn to_json(&self) -> String {
        let mut bytes = Vec::new();
        let mut serializer = serde_json::Serializer::with_formatter(&mut bytes, Layout::default());
        self.serialize(&mut serializer)
            .expect("a run's keys are strings");
        bytes.push(b'\n');
        String::from_utf8(bytes).expect("JSON is text")
    }

    fn write_new(&self, path: &Path) -> io::Result<()> {
        let mut file = File::create(path)?;
        file.write_all(self.to_json().as_bytes())?;
        file.sync_all()
    }

    /// Reads a run that [`Run::write`] wrote.
    ///
    /// # Errors
    /// When the file cannot be read, is of another schema, does not have the shape of this one, or
    /// contradicts itself: what is read is what was written, or an error that names the place.
    pub fn read(path: &Path) -> Result<Self, FileError> {
        let bytes = fs::read(path).map_err(|source| FileError::Read {
            path: path.to_owned(),
            source,
        })?;
        let text = std::str::from_utf8(&bytes).map_err(|error| no_text(path, &bytes, error))?;
        // Some editors and shells put a byte order mark there, which a reader may ignore (RFC 8259 §8.1).
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        let run: Self = match serde_json::from_str(text) {
            Ok(run) => run,
            Err(_) => read_by_steps(path, text)?,
        };
        if run.schema != SCHEMA {
            return Err(of_another_schema(
                path,
                &run.schema,
                Some(run.build.version),
            ));
        }
        match check::contradiction(&run) {
            None => Ok(run),
            Some(Contradiction { place, problem }) => Err(FileError::Contradiction {
                path: path.to_owned(),
                place: Place(place),
                problem,
            }),
        }
    }
}

fn no_text(path: &Path, bytes: &[u8], error: Utf8Error) -> FileError {
    let before = &bytes[..error.valid_up_to()];
    let line_start = before
        .iter()
        .rposition(|byte| *byte == b'\n')
        .map_or(0, |end| end + 1);
    FileError::Text {
        path: path.to_owned(),
        byte: bytes[before.len()],
        line: before.iter().filter(|byte| **byte == b'\n').count() + 1,
        column: before.len() - line_start + 1,
    }
}

/// Finds out what is wrong with a file that is not simply a run: first whether it is JSON, then of
/// which schema, then where its shape is another one.
fn read_by_steps(path: &Path, text: &str) -> Result<Run, FileError> {
    let value: Value = parse(text).map_err(|(place, source)| FileError::Json {
        path: path.to_owned(),
        place,
        source,
    })?;
    let foreign = |found: String| FileError::Foreign {
        path: path.to_owned(),
        found,
    };
    let Value::Object(keys) = value else {
        return Err(foreign("no object".to_owned()));
    };
    match keys.get("schema") {
        Some(Value::String(schema)) if schema == SCHEMA => {}
        Some(Value::String(schema)) => {
            let wrote = keys.get("build").and_then(|build| build.get("version"));
            let wrote = wrote.and_then(Value::as_str).map(str::to_owned);
            return Err(of_another_schema(path, schema, wrote));
        }
        Some(other) => return Err(foreign(other.to_string())),
        None => return Err(foreign("none".to_owned())),
    }
    parse(text).map_err(|(place, source)| FileError::Shape {
        path: path.to_owned(),
        place,
        source,
    })
}

fn of_another_schema(path: &Path, schema: &str, wrote: Option<String>) -> FileError {
    let path = path.to_owned();
    let (name, _) = SCHEMA.split_once('/').expect("the schema has a version");
    match schema.split_once('/') {
        Some((found, _)) if found == name => FileError::Schema {
            path,
            found: schema.to_owned(),
            wrote,
        },
        Some(_) | None => FileError::Foreign {
            path,
            found: format!("{schema:?}"),
        },
    }
}

/// The whole of `text`, or where it stops to make sense.
fn parse<T: DeserializeOwned>(text: &str) -> Result<T, (Place, serde_json::Error)> {
    let mut deserializer = serde_json::Deserializer::from_str(text);
    let parsed = serde_path_to_error::deserialize(&mut deserializer).map_err(|error| {
        let place = Place(error.path().to_string());
        (place, error.into_inner())
    })?;
    let ended = deserializer.end();
    ended.map_err(|error| (Place(".".to_owned()), error))?;
    Ok(parsed)
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
            cells: vec![
                id.measured(5, metrics),
                id.clone().with("rate", 9).failed("gone"),
            ],
            ratios: vec![Ratio {
                precision: None,
                metric: "setup_latency_ns".to_owned(),
                cell_id: id.to_string(),
                control_cell_id: id.with("rate", 9).to_string(),
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
    fn a_byte_order_mark_is_no_part_of_a_run() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("run.json");
        run().write(&path).unwrap();
        let text = fs::read_to_string(&path).unwrap();
        fs::write(&path, format!("\u{feff}{text}")).unwrap();
        assert_eq!(Run::read(&path).unwrap(), run());
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

    /// What is done to the text of a run, and what is said of it then.
    type Damage = (&'static str, fn(&str) -> String, &'static [&'static str]);

    #[test]
    fn errors_name_the_file_the_place_and_what_was_expected() {
        const CASES: [Damage; 20] = [
            (
                "empty",
                |_| String::new(),
                &["cut off, at its top", "line 1 column 0"],
            ),
            (
                "cut off",
                |text| text[..text.len() / 2].to_owned(),
                &["cut off, in cells[0].metrics.", "line "],
            ),
            (
                "cut off at its end",
                |text| text[..text.len() - 3].to_owned(),
                &["cut off", "EOF"],
            ),
            (
                "a comma too few",
                |text| text.replacen("\"seed\"", "x\"seed\"", 1),
                &["damaged", "line 7 column 3"],
            ),
            (
                "something behind",
                |text| format!("{text}{{}}"),
                &["damaged, at its top", "trailing characters"],
            ),
            (
                "a list",
                |_| "[1, 2]".to_owned(),
                &["no run", "found no object"],
            ),
            (
                "no schema",
                |_| "{\"cells\": 3}".to_owned(),
                &["no run", "found none"],
            ),
            (
                "a number for a schema",
                |_| "{\"schema\": 3}".to_owned(),
                &["no run", "found 3"],
            ),
            (
                "somebody else's",
                |text| named(text, "somebody.else/9"),
                &["no run", "\"hopbench.run/1\", found \"somebody.else/9\""],
            ),
            (
                "a plan",
                |_| "{\"schema\": \"hopbench.plan/1\"}".to_owned(),
                &["no run", "hopbench.plan/1"],
            ),
            (
                "older",
                |text| named(text, "hopbench.run/0"),
                &[
                    "hopbench.run/0",
                    "reads \"hopbench.run/1\"",
                    "hopbench 0.1.0, which",
                ],
            ),
            (
                "newer, of another shape",
                |_| "{\"schema\": \"hopbench.run/2\", \"cells\": 3}".to_owned(),
                &["hopbench.run/2", "the hopbench that wrote it"],
            ),
            (
                "another type",
                |text| text.replacen("\"cpu_count\": 2", "\"cpu_count\": \"2\"", 1),
                &[
                    "no run of schema hopbench.run/1, in environment.cpu_count",
                    "expected u32",
                    "line 22",
                ],
            ),
            (
                "a number too large",
                |text| text.replacen("\"cpu_count\": 2", "\"cpu_count\": 1e400", 1),
                &["damaged", "number out of range", "environment.cpu_count"],
            ),
            (
                "an unknown unit",
                |text| text.replacen("\"unit\": \"ns\"", "\"unit\": \"ms\"", 1),
                &[
                    "in cells[0].metrics.setup_latency_ns.unit",
                    "unknown variant `ms`",
                ],
            ),
            (
                "a key too few",
                |text| text.replacen("\"kernel\"", "\"kernal\"", 1),
                &["in environment.kernal", "unknown field `kernal`", "newer"],
            ),
            (
                "a key that is not there",
                |text| text.replacen("    \"kernel\": null,\n", "", 1),
                &["in environment", "missing field `kernel`"],
            ),
            (
                "a metric twice",
                |text| text.replacen("wire_overhead_ratio", "setup_latency_ns", 1),
                &["in cells[0].metrics", "duplicate key `setup_latency_ns`"],
            ),
            (
                "a ratio to nobody",
                |text| {
                    text.replacen(
                        "\"control_cell_id\": \"setup",
                        "\"control_cell_id\": \"set",
                        1,
                    )
                },
                &[
                    "contradicts itself, in ratios[0].control_cell_id",
                    "there is no cell \"set/",
                ],
            ),
            (
                "a histogram of others",
                |text| text.replacen("\"count\": 1,", "\"count\": 7,", 1),
                &[
                    "contradicts itself, in cells[0].metrics.setup_latency_ns.histogram",
                    "count is 7, but there are 1",
                ],
            ),
        ];
        fn named(text: &str, schema: &str) -> String {
            text.replacen(SCHEMA, schema, 1)
        }
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("run.json");
        run().write(&path).unwrap();
        let text = fs::read_to_string(&path).unwrap();
        for (what, damage, expected) in CASES {
            let damaged = damage(&text);
            assert_ne!(damaged, text, "{what}");
            fs::write(&path, damaged).unwrap();
            let said = Run::read(&path).unwrap_err().to_string();
            assert!(
                said.starts_with(&path.display().to_string()),
                "{what}: {said}"
            );
            for part in expected {
                assert!(said.contains(part), "{what}: expected {part} in: {said}");
            }
        }
    }

    #[test]
    fn what_is_no_text_or_no_file_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("run.json");
        let said = || Run::read(&path).unwrap_err().to_string();
        let absent = said();
        let name = path.display();
        assert!(
            absent.starts_with(&format!("cannot read the run {name}: ")),
            "{absent}"
        );
        fs::write(&path, b"{\n \x89PNG").unwrap();
        let picture = said();
        assert!(
            picture.contains("found the byte 0x89 at line 2 column 2"),
            "{picture}"
        );
    }

    #[test]
    fn cells_that_contradict_themselves_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("run.json");
        let said = |spoil: fn(&mut Run)| {
            let mut run = run();
            spoil(&mut run);
            run.write(&path).unwrap();
            Run::read(&path).unwrap_err().to_string()
        };
        let twice = said(|run| run.cells[1] = run.cells[0].clone());
        assert!(
            twice.contains("in cells[1].id") && twice.contains("is there twice"),
            "{twice}"
        );
        let other = said(|run| run.cells[0].stack = "tcp".to_owned());
        assert!(
            other.contains("in cells[0].id: expected \"setup/register/tcp/"),
            "{other}"
        );
        let silent = said(|run| run.cells[1].reason = None);
        assert!(silent.contains("in cells[1].reason"), "{silent}");
        let garbled = said(|run| {
            let metric = run.cells[0].metrics.get_mut("setup_latency_ns");
            let histogram = metric.and_then(|metric| metric.histogram.as_mut()).unwrap();
            histogram.hdr_v2_base64.replace_range(20..24, "AAAA");
        });
        assert!(
            garbled.contains("setup_latency_ns.histogram: hdr_v2_base64: expected"),
            "{garbled}"
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
