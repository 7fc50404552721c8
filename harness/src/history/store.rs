//! The store: a folder of plain JSON files, made to live in a git branch.
//!
//! ```text
//! DIR/runs/RUN_ID.json     an entry, one figure a line; the only thing that is read
//! DIR/index.json           what runs there are, for other readers; made anew by every change
//! ```
//!
//! The same runs make the same bytes, whatever the order in which they were added. Two branches that added
//! different runs merge without conflict but for the index, of which either side will do: `history index` makes
//! it anew.

use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::entry::{Entry, SCHEMA};
use super::json;

/// Name and version of the format of `index.json`.
const INDEX_SCHEMA: &str = "hopbench.history-index/1";

/// Why a store cannot be read or changed. Each names the file.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum StoreError {
    /// A file or folder cannot be read.
    #[error("cannot read {}: {source}", path.display())]
    Read {
        /// Which one.
        path: PathBuf,
        /// The system's words.
        source: io::Error,
    },
    /// A file or folder cannot be written.
    #[error("cannot write {}: {source}", path.display())]
    Write {
        /// Which one.
        path: PathBuf,
        /// The system's words.
        source: io::Error,
    },
    /// There is no store.
    #[error(
        "{} is no history: expected the folder {}; `hopbench history add RUN --store {}` starts one",
        path.display(), path.join("runs").display(), path.display()
    )]
    NoStore {
        /// What was said to be one.
        path: PathBuf,
    },
    /// A file is damaged or foreign.
    #[error("{} is no entry of schema {SCHEMA}: {source}; take it from an earlier commit, or remove it", path.display())]
    Format {
        /// The file.
        path: PathBuf,
        /// What was expected, what was found, line and column.
        source: serde_json::Error,
    },
    /// A file is of another schema.
    #[error("{} is of schema {found:?}, expected {SCHEMA:?}: read it with the hopbench that wrote it", path.display())]
    Schema {
        /// The file.
        path: PathBuf,
        /// The schema that it names.
        found: String,
    },
    /// A file holds what cannot be.
    #[error("{}: {what}", path.display())]
    Content {
        /// The file.
        path: PathBuf,
        /// What was expected, and what was found.
        what: String,
    },
    /// The run is there, with other figures.
    #[error(
        "{} has other figures of the run {run_id}: expected those that are added; remove the file if it is wrong",
        path.display()
    )]
    Differs {
        /// The file.
        path: PathBuf,
        /// The run.
        run_id: String,
    },
    /// The name of a run cannot be a file's.
    #[error("expected a run_id of letters, digits and `-_.`, found {0:?}")]
    Name(String),
}

/// What came of adding a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Added {
    /// It is new.
    New,
    /// It was there already, and nothing was changed.
    Already,
}

/// A folder with a history.
#[derive(Debug)]
pub(crate) struct Store {
    folder: PathBuf,
}

/// `index.json`.
#[derive(Debug, Serialize)]
struct Index<'a> {
    schema: &'static str,
    runs: Vec<IndexRow<'a>>,
}

#[derive(Debug, Serialize)]
struct IndexRow<'a> {
    run_id: &'a str,
    file: String,
    commit: Option<&'a str>,
    committed_at: Option<&'a str>,
    started_at: &'a str,
    profile: &'a str,
    environment_class: &'a str,
}

impl Store {
    /// The store in `folder`, which need not exist yet.
    pub(crate) fn at(folder: &Path) -> Self {
        Self {
            folder: folder.to_owned(),
        }
    }

    /// Every entry, in the order of the axis.
    ///
    /// # Errors
    /// When there is no store, or one of its files is damaged or foreign.
    pub(crate) fn entries(&self) -> Result<Vec<Entry>, StoreError> {
        let mut entries = Vec::new();
        for path in self.files()? {
            entries.push(read(&path)?);
        }
        entries.sort_by(|a, b| a.place().cmp(&b.place()));
        Ok(entries)
    }

    /// Keeps `entry`; one whose figures are there already changes nothing.
    ///
    /// # Errors
    /// When its name cannot be a file's, when the run is there with other figures, or when the folder cannot be
    /// written.
    pub(crate) fn add(&self, entry: &Entry) -> Result<Added, StoreError> {
        if !is_name(&entry.run_id) {
            return Err(StoreError::Name(entry.run_id.clone()));
        }
        let runs = self.runs();
        fs::create_dir_all(&runs).map_err(at(&runs, write_error))?;
        let path = runs.join(format!("{}.json", entry.run_id));
        if path.exists() {
            let kept = read(&path)?;
            return if kept.has_figures_of(entry) {
                Ok(Added::Already)
            } else {
                Err(StoreError::Differs {
                    path,
                    run_id: entry.run_id.clone(),
                })
            };
        }
        write(&path, &json::pretty(entry))?;
        Ok(Added::New)
    }

    /// Makes `index.json` anew from the entries.
    ///
    /// # Errors
    /// As [`Store::entries`], and when it cannot be written.
    pub(crate) fn index(&self) -> Result<Vec<Entry>, StoreError> {
        let entries = self.entries()?;
        let rows = entries.iter().map(|entry| IndexRow {
            run_id: &entry.run_id,
            file: format!("runs/{}.json", entry.run_id),
            commit: entry.commit.id.as_deref(),
            committed_at: entry.commit.committed_at.as_deref(),
            started_at: &entry.started_at,
            profile: &entry.profile,
            environment_class: &entry.environment_class,
        });
        let index = Index {
            schema: INDEX_SCHEMA,
            runs: rows.collect(),
        };
        let text = serde_json::to_string_pretty(&index).expect("keys are strings") + "\n";
        write(&self.folder.join("index.json"), &text)?;
        Ok(entries)
    }

    fn runs(&self) -> PathBuf {
        self.folder.join("runs")
    }

    fn files(&self) -> Result<Vec<PathBuf>, StoreError> {
        let runs = self.runs();
        let listed = match fs::read_dir(&runs) {
            Ok(listed) => listed,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let path = self.folder.clone();
                return Err(StoreError::NoStore { path });
            }
            Err(source) => return Err(StoreError::Read { path: runs, source }),
        };
        let mut files = Vec::new();
        for found in listed {
            let path = found.map_err(at(&runs, read_error))?.path();
            if path
                .extension()
                .is_some_and(|extension| extension == "json")
            {
                files.push(path);
            }
        }
        files.sort();
        Ok(files)
    }
}

/// Reads an entry and looks whether it can be.
fn read(path: &Path) -> Result<Entry, StoreError> {
    /// The one key that every version of the schema has.
    #[derive(Deserialize)]
    struct Named {
        schema: String,
    }

    let format = |source| StoreError::Format {
        path: path.to_owned(),
        source,
    };
    let text = fs::read_to_string(path).map_err(at(path, read_error))?;
    let Named { schema } = serde_json::from_str(&text).map_err(format)?;
    if schema != SCHEMA {
        return Err(StoreError::Schema {
            path: path.to_owned(),
            found: schema,
        });
    }
    let entry: Entry = serde_json::from_str(&text).map_err(format)?;
    match fault(&entry, path) {
        None => Ok(entry),
        Some(what) => Err(StoreError::Content {
            path: path.to_owned(),
            what,
        }),
    }
}

/// What of an entry that has the right shape cannot be.
fn fault(entry: &Entry, path: &Path) -> Option<String> {
    let stem = path.file_stem().unwrap_or_default();
    if stem != entry.run_id.as_str() {
        return Some(format!(
            "expected the run that the file is named after, found {:?}",
            entry.run_id
        ));
    }
    let times = [
        ("started_at", Some(&entry.started_at)),
        ("commit.committed_at", entry.commit.committed_at.as_ref()),
    ];
    for (key, time) in times {
        if let Some(time) = time
            && super::commit::normalised(time).as_ref() != Some(time)
        {
            return Some(format!(
                "{key}: expected a time such as 2026-01-02T03:04:05Z, found {time:?}"
            ));
        }
    }
    let unknown = entry.cells.iter().find_map(|(id, cell)| {
        let ratios = cell.ratios.values().flat_map(|ratios| ratios.keys());
        let mut keys = cell.figures.keys().chain(ratios);
        let key = keys.find(|key| !entry.metrics.contains_key(*key))?;
        Some((id, key))
    });
    let (id, key) = unknown?;
    Some(format!(
        "expected unit and direction of {key}, which {id} has, in `metrics`; found none"
    ))
}

/// Writes a file so that a reader sees the old one or the new one.
fn write(path: &Path, text: &str) -> Result<(), StoreError> {
    let beside = path.with_extension(format!("{}.partial", std::process::id()));
    let written = fs::File::create(&beside)
        .and_then(|mut file| {
            file.write_all(text.as_bytes())?;
            file.sync_all()
        })
        .and_then(|()| fs::rename(&beside, path));
    written.map_err(|source| {
        // The first error is the one to tell; a file left over harms nobody.
        let _ = fs::remove_file(&beside);
        write_error(path.to_owned(), source)
    })
}

fn is_name(run_id: &str) -> bool {
    let is_safe = |b: u8| b.is_ascii_alphanumeric() || b"-_.".contains(&b);
    !run_id.is_empty() && !run_id.starts_with('.') && run_id.bytes().all(is_safe)
}

fn at(
    path: &Path,
    error: fn(PathBuf, io::Error) -> StoreError,
) -> impl Fn(io::Error) -> StoreError {
    let path = path.to_owned();
    move |source| error(path.clone(), source)
}

fn read_error(path: PathBuf, source: io::Error) -> StoreError {
    StoreError::Read { path, source }
}

fn write_error(path: PathBuf, source: io::Error) -> StoreError {
    StoreError::Write { path, source }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::history::commit::Commit;
    use crate::report::fixture;

    fn entry(name: &str) -> Entry {
        let mut run = fixture::run();
        run.run_id = name.to_owned();
        Entry::of(&run, Commit::default())
    }

    fn bytes(folder: &Path) -> Vec<(PathBuf, Vec<u8>)> {
        let mut files = Vec::new();
        for folder in [folder.to_owned(), folder.join("runs")] {
            for file in fs::read_dir(&folder).unwrap() {
                let path = file.unwrap().path();
                if path.is_file() {
                    let relative = path.strip_prefix(&folder).unwrap().to_owned();
                    files.push((relative, fs::read(&path).unwrap()));
                }
            }
        }
        files.sort();
        files
    }

    #[test]
    fn the_order_of_adding_leaves_no_trace() {
        let stores = [["a", "b", "c"], ["c", "a", "b"]].map(|order| {
            let folder = tempfile::tempdir().unwrap();
            let store = Store::at(folder.path());
            for name in order {
                assert_eq!(store.add(&entry(name)).unwrap(), Added::New);
                store.index().unwrap();
            }
            bytes(folder.path())
        });
        assert_eq!(stores[0].len(), 4);
        assert!(stores[0] == stores[1]);
    }

    #[test]
    fn a_run_that_is_there_changes_nothing_and_other_figures_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::at(folder.path());
        store.add(&entry("a")).unwrap();
        store.index().unwrap();
        let before = bytes(folder.path());
        assert_eq!(store.add(&entry("a")).unwrap(), Added::Already);
        assert!(bytes(folder.path()) == before);

        let mut other = entry("a");
        let cell = other.cells.values_mut().next().unwrap();
        cell.figures.values_mut().next().unwrap().0 += 1.0;
        let error = store.add(&other).unwrap_err().to_string();
        assert!(
            error.contains("a.json has other figures of the run a"),
            "{error}"
        );
        assert!(bytes(folder.path()) == before);
    }

    #[test]
    fn what_is_written_is_read_and_a_figure_is_a_line() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::at(folder.path());
        store.add(&entry("a")).unwrap();
        assert_eq!(store.entries().unwrap(), [entry("a")]);
        let text = fs::read_to_string(folder.path().join("runs/a.json")).unwrap();
        let line = text
            .lines()
            .find(|line| line.contains("\"setup_latency_ns\": ["));
        assert!(
            line.is_some_and(|line| line.trim_end_matches(',').ends_with(']')),
            "{line:?}"
        );
    }

    #[test]
    fn a_name_that_leads_elsewhere_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["../x", "a/b", "", ".hidden", "ü"] {
            let error = Store::at(folder.path()).add(&entry(name)).unwrap_err();
            assert!(matches!(error, StoreError::Name(_)), "{error}");
        }
    }

    /// Each error names the file, what was expected, and the place where there is one.
    #[test]
    fn damaged_truncated_and_foreign_files_are_told() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::at(folder.path());
        let absent = store.entries().unwrap_err().to_string();
        assert!(
            absent.contains("is no history: expected the folder"),
            "{absent}"
        );

        store.add(&entry("a")).unwrap();
        let path = folder.path().join("runs/a.json");
        let sound = fs::read_to_string(&path).unwrap();
        let replaced = |from: &str, to: &str| {
            assert!(sound.contains(from), "{from}");
            sound.replacen(from, to, 1)
        };
        let started = format!("\"started_at\": {:?}", entry("a").started_at);
        let table = [
            (sound[..sound.len() / 2].to_owned(), "EOF while parsing"),
            (
                String::new(),
                "EOF while parsing a value at line 1 column 0",
            ),
            ("[1, 2]".to_owned(), "invalid type"),
            (
                "{\"schema\": \"hopbench.run/1\"}".to_owned(),
                "is of schema \"hopbench.run/1\", expected \"hopbench.history/1\"",
            ),
            (
                replaced("\"profile\"", "\"profil\""),
                "unknown field `profil`",
            ),
            (
                replaced("\"direction\": \"lower\"", "\"direction\": \"down\""),
                "unknown variant `down`",
            ),
            (
                replaced("\"run_id\": \"a\"", "\"run_id\": \"b\""),
                "expected the run that the file is named after, found \"b\"",
            ),
            (
                replaced(&started, "\"started_at\": \"soon\""),
                "started_at: expected a time",
            ),
            (
                replaced("    \"setup_latency_ns\": {", "    \"other_ns\": {"),
                "expected unit and direction of setup_latency_ns",
            ),
            (
                sound.replacen('\n', "\n<<<<<<< ours\n", 1),
                "line 2 column 1",
            ),
        ];
        for (text, expected) in table {
            fs::write(&path, &text).unwrap();
            let error = store.entries().unwrap_err().to_string();
            assert!(
                error.contains("a.json") && error.contains(expected),
                "{expected}: {error}"
            );
        }
        fs::write(&path, b"\xff\xfe").unwrap();
        let error = store.entries().unwrap_err().to_string();
        assert!(
            error.starts_with("cannot read ") && error.contains("a.json"),
            "{error}"
        );
    }
}
