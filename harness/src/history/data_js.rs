//! `data.js` of github-action-benchmark, from entries and back, so that a project can move either way.
//!
//! Its suites are lists of points in the order of time, each with a commit and figures of one direction. Of this
//! store there are two for each profile and machine class, named `hopbench PROFILE on CLASS (smaller is better)` and
//! `(bigger is better)`. What the file has no place for – machine, libraries, cells that were left out – does not
//! survive; figures, intervals, commits and times do. Suites of others become cells of that name, with a line a
//! benchmark.

use std::collections::BTreeMap;

use hopbench::record::Direction;
use serde::{Deserialize, Serialize};

use super::commit::{self, Commit};
use super::entry::{CellFigures, Entry, Estimate, Meaning, SCHEMA};
use crate::export::{Bench, bench_name};

const PREFIX: &str = "window.BENCHMARK_DATA = ";
/// Profile and class of what others have measured.
const FOREIGN_PROFILE: &str = "imported";
const FOREIGN_CLASS: &str = "unknown machine";

/// Why a text is no such file.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum DataJsError {
    /// It does not begin as it must.
    #[error(
        "expected a file of github-action-benchmark, which begins with `{PREFIX}`, found `{0}`"
    )]
    Prefix(String),
    /// What follows has another shape.
    #[error("expected the data of github-action-benchmark behind `{PREFIX}`: {0}")]
    Format(#[from] serde_json::Error),
    /// A time that is none.
    #[error(
        "suite {suite:?}, point {point}: expected a date in milliseconds since 1970, found {found}"
    )]
    Date {
        /// The suite.
        suite: String,
        /// Counted from 1.
        point: usize,
        /// What stands there.
        found: i64,
    },
    /// A tool whose direction is not known.
    #[error(
        "suite {suite:?}, point {point}: expected a tool of github-action-benchmark, such as customSmallerIsBetter, \
         found {found:?}"
    )]
    Tool {
        /// The suite.
        suite: String,
        /// Counted from 1.
        point: usize,
        /// What stands there.
        found: String,
    },
}

/// The file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct DataJs {
    last_update: i64,
    #[serde(default)]
    repo_url: String,
    entries: BTreeMap<String, Vec<SuitePoint>>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct SuitePoint {
    commit: ForeignCommit,
    date: i64,
    tool: String,
    benches: Vec<Bench>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct ForeignCommit {
    #[serde(default)]
    author: User,
    #[serde(default)]
    committer: User,
    id: String,
    #[serde(default)]
    message: String,
    #[serde(default)]
    timestamp: Option<String>,
    #[serde(default)]
    url: String,
    /// `distinct`, `tree_id` and whatever comes.
    #[serde(flatten)]
    rest: BTreeMap<String, serde_json::Value>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct User {
    #[serde(default)]
    name: Option<String>,
    #[serde(default)]
    username: Option<String>,
    #[serde(flatten)]
    rest: BTreeMap<String, serde_json::Value>,
}

impl DataJs {
    /// Reads the text of a file.
    ///
    /// # Errors
    /// When it is none of github-action-benchmark; with line and column, counted behind its first words.
    pub(crate) fn parse(text: &str) -> Result<Self, DataJsError> {
        let Some(json) = text.trim_start_matches('\u{feff}').strip_prefix(PREFIX) else {
            return Err(DataJsError::Prefix(text.chars().take(40).collect()));
        };
        Ok(serde_json::from_str(json.trim_end().trim_end_matches(';'))?)
    }

    /// The text of the file, as the action writes it.
    pub(crate) fn text(&self) -> String {
        let json = serde_json::to_string_pretty(self).expect("keys are strings");
        format!("{PREFIX}{json}")
    }

    /// A file with the suites of `entries`, which are in the order of the axis. `before` is what the file was:
    /// suites of others stay as they are. `repository` is its address, for links.
    pub(crate) fn with_entries(
        before: Option<Self>,
        entries: &[Entry],
        repository: Option<&str>,
    ) -> Self {
        let mut data = before.unwrap_or(Self {
            last_update: 0,
            repo_url: String::new(),
            entries: BTreeMap::new(),
        });
        if let Some(repository) = repository {
            repository
                .trim_end_matches('/')
                .clone_into(&mut data.repo_url);
        }
        let mut suites: BTreeMap<String, Vec<SuitePoint>> = BTreeMap::new();
        for entry in entries {
            for (name, point) in points(entry, &data.repo_url) {
                data.last_update = data.last_update.max(point.date);
                suites.entry(name).or_default().push(point);
            }
        }
        data.entries.extend(suites);
        data
    }

    /// Every point as an entry. Two suites of one run make one entry.
    ///
    /// # Errors
    /// When a date or a tool is none.
    pub(crate) fn entries(&self) -> Result<Vec<Entry>, DataJsError> {
        let mut entries: BTreeMap<String, Entry> = BTreeMap::new();
        for (suite, points) in &self.entries {
            for (index, point) in points.iter().enumerate() {
                let place = Place {
                    suite,
                    point: index + 1,
                };
                let read = place.entry(point)?;
                match entries.get_mut(&read.run_id) {
                    None => {
                        entries.insert(read.run_id.clone(), read);
                    }
                    Some(entry) => join(entry, read),
                }
            }
        }
        Ok(entries.into_values().collect())
    }
}

/// What both have; a cell may have figures of either direction.
fn join(entry: &mut Entry, other: Entry) {
    entry.metrics.extend(other.metrics);
    for (id, figures) in other.cells {
        let cell = entry.cells.entry(id).or_default();
        cell.figures.extend(figures.figures);
        for (control, ratios) in figures.ratios {
            cell.ratios.entry(control).or_default().extend(ratios);
        }
    }
}

/// The suites that an entry has a point in.
fn points(entry: &Entry, repository: &str) -> Vec<(String, SuitePoint)> {
    let tools = [
        ("smaller", "customSmallerIsBetter", Direction::Lower),
        ("bigger", "customBiggerIsBetter", Direction::Higher),
    ];
    let date = commit::seconds(&entry.started_at).unwrap_or(0);
    let mut points = Vec::new();
    for (word, tool, direction) in tools {
        let mut by_suite: BTreeMap<String, Vec<Bench>> = BTreeMap::new();
        for (suite, bench) in benches(entry, direction) {
            let own = || {
                let (profile, class) = (&entry.profile, &entry.environment_class);
                format!("hopbench {profile} on {class} ({word} is better)")
            };
            by_suite
                .entry(suite.unwrap_or_else(own))
                .or_default()
                .push(bench);
        }
        points.extend(by_suite.into_iter().map(|(suite, benches)| {
            let point = SuitePoint {
                commit: foreign_commit(entry, repository),
                date: i64::try_from(date).unwrap_or(0) * 1000,
                tool: tool.to_owned(),
                benches,
            };
            (suite, point)
        }));
    }
    points
}

/// The figures of one direction, each with the name of its suite if that is another program's.
fn benches(entry: &Entry, direction: Direction) -> Vec<(Option<String>, Bench)> {
    let is_foreign = entry.profile == FOREIGN_PROFILE && entry.build.is_none();
    let mut benches = Vec::new();
    for (id, cell) in &entry.cells {
        let figures = cell
            .figures
            .iter()
            .map(|(metric, figure)| (None, metric, figure));
        let ratios = cell.ratios.iter().flat_map(|(control, ratios)| {
            ratios
                .iter()
                .map(move |(metric, ratio)| (Some(control), metric, ratio))
        });
        for (control, metric, figure) in figures.chain(ratios) {
            let meaning = &entry.metrics[metric];
            if meaning.direction != direction {
                continue;
            }
            let name = match control {
                None if is_foreign => metric.clone(),
                None => bench_name(id, metric),
                Some(control) => bench_name(&format!("{id} ÷ {control}"), metric),
            };
            let unit = control.map_or(meaning.unit.as_str(), |_| "ratio");
            let bench = Bench::new(
                name,
                unit.to_owned(),
                figure.0,
                figure.interval(),
                &entry.run_id,
            );
            benches.push((is_foreign.then(|| id.clone()), bench));
        }
    }
    benches
}

fn foreign_commit(entry: &Entry, repository: &str) -> ForeignCommit {
    let Commit {
        id,
        dirty: _,
        committed_at,
        subject,
        author,
        url,
    } = &entry.commit;
    let id = id.clone().unwrap_or_else(|| "unknown".to_owned());
    let linked = || match repository {
        "" => String::new(),
        repository => format!("{repository}/commit/{id}"),
    };
    let user = User {
        name: author.clone(),
        username: author.clone(),
        rest: BTreeMap::new(),
    };
    ForeignCommit {
        author: user.clone(),
        committer: user,
        message: subject.clone().unwrap_or_default(),
        timestamp: committed_at.clone(),
        url: url.clone().unwrap_or_else(linked),
        id,
        rest: BTreeMap::new(),
    }
}

/// Where in a file something is read.
struct Place<'a> {
    suite: &'a str,
    point: usize,
}

impl Place<'_> {
    fn entry(&self, point: &SuitePoint) -> Result<Entry, DataJsError> {
        let seconds = u64::try_from(point.date / 1000)
            .ok()
            .filter(|_| point.date >= 0);
        let started_at = seconds
            .and_then(commit::rfc3339)
            .ok_or_else(|| DataJsError::Date {
                suite: self.suite.to_owned(),
                point: self.point,
                found: point.date,
            })?;
        let direction = direction(&point.tool).ok_or_else(|| DataJsError::Tool {
            suite: self.suite.to_owned(),
            point: self.point,
            found: point.tool.clone(),
        })?;
        let own = own_suite(self.suite);
        let run_id = point
            .benches
            .iter()
            .find_map(run_id_of)
            .filter(|_| own.is_some());
        let (profile, class) = own.unwrap_or((FOREIGN_PROFILE, FOREIGN_CLASS));
        let mut entry = Entry {
            schema: SCHEMA.to_owned(),
            run_id: run_id.unwrap_or_else(|| self.run_id(point, &started_at)),
            started_at,
            commit: own_commit(&point.commit),
            profile: profile.to_owned(),
            scenario_sha256: None,
            environment_class: class.to_owned(),
            environment: None,
            build: None,
            metrics: BTreeMap::new(),
            cells: BTreeMap::new(),
            left_out: BTreeMap::new(),
        };
        for bench in &point.benches {
            self.add(&mut entry, bench, direction, own.is_some());
        }
        Ok(entry)
    }

    fn add(&self, entry: &mut Entry, bench: &Bench, direction: Direction, is_own: bool) {
        let estimate = Estimate::new(bench.value, interval(bench));
        let own = is_own.then(|| bench.name.rsplit_once(' ')).flatten();
        let Some((subject, metric)) = own else {
            let cell = entry.cells.entry(self.suite.to_owned()).or_default();
            cell.figures.insert(bench.name.clone(), estimate);
            let unit = bench.unit.clone();
            entry
                .metrics
                .insert(bench.name.clone(), Meaning { unit, direction });
            return;
        };
        let (id, control) = match subject.split_once(" ÷ ") {
            Some((id, control)) => (id, Some(control)),
            None => (subject, None),
        };
        let cell: &mut CellFigures = entry.cells.entry(id.to_owned()).or_default();
        let meaning = Meaning {
            unit: bench.unit.clone(),
            direction,
        };
        match control {
            Some(control) => {
                let ratios = cell.ratios.entry(control.to_owned()).or_default();
                ratios.insert(metric.to_owned(), estimate);
                // A ratio has its metric's direction; the unit is that of the figure, if that is there.
                entry.metrics.entry(metric.to_owned()).or_insert(meaning);
            }
            None => {
                cell.figures.insert(metric.to_owned(), estimate);
                entry.metrics.insert(metric.to_owned(), meaning);
            }
        }
    }

    /// A name that the same point always gets.
    fn run_id(&self, point: &SuitePoint, started_at: &str) -> String {
        let keep = |c: char| {
            if c.is_ascii_alphanumeric() {
                c.to_ascii_lowercase()
            } else {
                '-'
            }
        };
        let suite: String = self.suite.chars().map(keep).collect();
        let commit: String = point.commit.id.chars().map(keep).take(12).collect();
        let time: String = started_at
            .chars()
            .filter(char::is_ascii_alphanumeric)
            .collect();
        format!("{time}-{commit}-{suite}")
    }
}

/// Profile and class in the name of one of our suites.
fn own_suite(name: &str) -> Option<(&str, &str)> {
    let name = name.strip_prefix("hopbench ")?;
    let name = name
        .strip_suffix(" (smaller is better)")
        .or_else(|| name.strip_suffix(" (bigger is better)"))?;
    name.split_once(" on ")
}

/// Of the tools that the action knows.
fn direction(tool: &str) -> Option<Direction> {
    match tool {
        "customBiggerIsBetter" | "benchmarkjs" | "pytest" => Some(Direction::Higher),
        "customSmallerIsBetter"
        | "cargo"
        | "go"
        | "googlecpp"
        | "catch2"
        | "julia"
        | "jmh"
        | "benchmarkdotnet"
        | "benchmarkluau" => Some(Direction::Lower),
        _ => None,
    }
}

fn own_commit(commit: &ForeignCommit) -> Commit {
    let some = |text: &str| (!text.is_empty()).then(|| text.to_owned());
    Commit {
        id: some(&commit.id).filter(|id| id != "unknown"),
        dirty: None,
        committed_at: commit.timestamp.as_deref().and_then(commit::normalised),
        subject: commit.message.lines().next().and_then(some),
        author: commit
            .author
            .name
            .clone()
            .or_else(|| commit.author.username.clone()),
        url: some(&commit.url),
    }
}

fn run_id_of(bench: &Bench) -> Option<String> {
    let first = bench.extra.as_deref()?.lines().next()?;
    first.strip_prefix("run ").map(str::to_owned)
}

/// The exact interval that we have written, or else what `± x` or `+/- x` says.
fn interval(bench: &Bench) -> Option<(f64, f64)> {
    let exact = || {
        let line = bench.extra.as_deref()?.lines().nth(1)?;
        let ends = line.strip_prefix("95 % interval [")?.strip_suffix(']')?;
        let (low, high) = ends.split_once(", ")?;
        low.parse().ok().zip(high.parse().ok())
    };
    let half = || {
        let range = bench.range.as_deref()?;
        let half = range
            .strip_prefix('±')
            .or_else(|| range.strip_prefix("+/-"))?;
        let half: f64 = half.trim().replace(',', "").parse().ok()?;
        Some((bench.value - half, bench.value + half))
    };
    exact().or_else(half)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::history::series::tests::history;

    /// As the action writes it.
    const FOREIGN: &str = r#"window.BENCHMARK_DATA = {
  "lastUpdate": 1573312301293,
  "repoUrl": "https://forge.example/somebody/something",
  "entries": {
    "Rust Benchmark": [
      {
        "commit": {
          "author": {"email": "a@b.example", "name": "A. Uthor", "username": "author"},
          "committer": {"email": "a@b.example", "name": "A. Uthor", "username": "author"},
          "distinct": true,
          "id": "45d78258e495044a551046f50604da3c893052ce",
          "message": "add an example\n\nwith a body",
          "timestamp": "2019-11-10T00:06:58+09:00",
          "tree_id": "59cf1e78101c09beef06aa1832e1caa09ec52246",
          "url": "https://forge.example/somebody/something/commit/45d7825"
        },
        "date": 1573312140323,
        "tool": "cargo",
        "benches": [
          {"name": "bench_fib_10", "value": 254, "range": "+/- 35", "unit": "ns/iter"},
          {"name": "bench_fib_20", "value": 34001, "range": "± 2,802", "unit": "ns/iter"}
        ]
      }
    ]
  }
}"#;

    #[test]
    fn a_history_goes_there_and_comes_back() {
        let entries = history(3, 2, 1.5);
        let data = DataJs::with_entries(None, &entries, Some("https://forge.example/a/b/"));
        let read = DataJs::parse(&data.text()).unwrap();
        assert_eq!(read, data);
        let back = read.entries().unwrap();
        assert_eq!(back.len(), entries.len());
        for (back, entry) in back.iter().zip(&entries) {
            assert!(back.has_figures_of(entry), "{}", back.run_id);
            assert_eq!(
                (
                    &back.run_id,
                    &back.started_at,
                    &back.profile,
                    &back.environment_class
                ),
                (
                    &entry.run_id,
                    &entry.started_at,
                    &entry.profile,
                    &entry.environment_class
                )
            );
            assert_eq!(back.commit.id, entry.commit.id);
        }
        let again = DataJs::with_entries(None, &back, None);
        let suites = |data: &DataJs| data.entries.keys().cloned().collect::<Vec<_>>();
        assert_eq!(suites(&again), suites(&data));
        assert_eq!(suites(&data).len(), 2);
    }

    #[test]
    fn what_others_measured_is_read_and_written_back() {
        let data = DataJs::parse(FOREIGN).unwrap();
        let entries = data.entries().unwrap();
        assert_eq!(entries.len(), 1);
        let entry = &entries[0];
        assert_eq!(
            entry.commit.committed_at.as_deref(),
            Some("2019-11-09T15:06:58Z")
        );
        assert_eq!(entry.commit.subject.as_deref(), Some("add an example"));
        let figures = &entry.cells["Rust Benchmark"].figures;
        assert_eq!(
            figures["bench_fib_10"],
            Estimate(254.0, Some(219.0), Some(289.0))
        );
        assert_eq!(
            figures["bench_fib_20"],
            Estimate(34_001.0, Some(31_199.0), Some(36_803.0))
        );
        assert_eq!(entry.metrics["bench_fib_10"].unit, "ns/iter");

        let written = DataJs::with_entries(None, &entries, None);
        assert_eq!(
            written.entries.keys().collect::<Vec<_>>(),
            ["Rust Benchmark"]
        );
        let benches = &written.entries["Rust Benchmark"][0].benches;
        assert_eq!(
            (benches[0].name.as_str(), benches[0].value),
            ("bench_fib_10", 254.0)
        );
    }

    #[test]
    fn suites_of_others_stay_as_they_are() {
        let before = DataJs::parse(FOREIGN).unwrap();
        let after = DataJs::with_entries(Some(before.clone()), &history(2, 9, 1.0), None);
        assert_eq!(after.entries.len(), 3);
        assert_eq!(
            after.entries["Rust Benchmark"],
            before.entries["Rust Benchmark"]
        );
        assert_eq!(after.repo_url, before.repo_url);
        assert!(after.last_update > before.last_update);
        // What is written twice is the same.
        let again = DataJs::with_entries(Some(after.clone()), &history(2, 9, 1.0), None);
        assert_eq!(again.text(), after.text());
    }

    #[test]
    fn what_is_no_such_file_is_told_with_its_place() {
        let error = |text: &str| {
            let data = DataJs::parse(text).and_then(|data| data.entries());
            data.unwrap_err().to_string()
        };
        assert!(error("{}").contains("begins with `window.BENCHMARK_DATA = `, found `{}`"));
        let cut = error(&FOREIGN[..200]);
        assert!(cut.contains("EOF") && cut.contains("line"), "{cut}");
        let tool = error(&FOREIGN.replace("\"cargo\"", "\"abacus\""));
        assert!(
            tool.contains("\"Rust Benchmark\", point 1") && tool.contains("\"abacus\""),
            "{tool}"
        );
        let date = error(&FOREIGN.replace("1573312140323", "-5"));
        assert!(date.contains("milliseconds since 1970, found -5"), "{date}");
        let unit = error(&FOREIGN.replace("\"unit\": \"ns/iter\"", "\"unit\": 7"));
        assert!(unit.contains("expected a string at line"), "{unit}");
    }
}
