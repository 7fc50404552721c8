//! A history from its runs to its pages: what changed is told, what did not is not, and everybody can look at it.

#![allow(clippy::unwrap_used)]

mod support;

use std::path::{Path, PathBuf};
use std::process::Output;

use hopbench::record::Run;
use support::browser::{Browser, assert_accessible, assert_quiet};
use support::readers::assert_valid;
use support::{run, stderr, stdout};
use tempfile::TempDir;

/// Enough that a level that begins in the middle is told from chance among all lines.
const RUNS: usize = 24;
const CHANGED_AT: usize = 13;

/// Stores of runs that are a few cells of the committed one, an hour apart.
struct History {
    folder: TempDir,
}

impl History {
    /// The heap of a `tls` server grows by `growth` at run [`CHANGED_AT`]; everything else varies a little,
    /// always in the same way.
    fn new(growth: f64) -> Self {
        let history = Self {
            folder: tempfile::tempdir().unwrap(),
        };
        let reference =
            Path::new(env!("CARGO_MANIFEST_DIR")).join("../results/reference/quick/run.json");
        let mut sound = Run::read(&reference).unwrap();
        sound.cells.retain(|cell| {
            let is_asked = cell.id.ends_with("stage=registered") || cell.experiment == "setup";
            is_asked && ["tcp", "tls"].contains(&cell.stack.as_str())
        });
        let kept: Vec<String> = sound.cells.iter().map(|cell| cell.id.clone()).collect();
        sound
            .ratios
            .retain(|ratio| kept.contains(&ratio.cell_id) && kept.contains(&ratio.control_cell_id));
        for place in 0..RUNS {
            history.add(&sound, place, growth);
        }
        history
    }

    fn add(&self, sound: &Run, place: usize, growth: f64) {
        let mut next = sound.clone();
        next.run_id = format!("20260101T{place:02}0000Z-0001");
        let commit = format!("{place:02x}{:038x}", 0);
        next.build.git_commit = Some(commit.clone());
        for (line, metric) in next
            .cells
            .iter_mut()
            .flat_map(|cell| cell.metrics.values_mut())
            .enumerate()
        {
            let wobble = 1.0 + 1e-3 * ((place * 7 + line * 3) % 11) as f64;
            metric.value = metric.value.map(|value| value * wobble);
        }
        let heaps = next.cells.iter_mut().filter(|cell| cell.stack == "tls");
        let heaps =
            heaps.filter_map(|cell| cell.metrics.get_mut("server_heap_bytes_per_connection"));
        for heap in heaps {
            let level = if place < CHANGED_AT { 1.0 } else { growth };
            heap.value = heap.value.map(|value| value * level);
        }
        let path = self.path("run.json");
        next.write(&path).unwrap();
        let time = format!("2026-01-01T{place:02}:00:00Z");
        let subject = format!("Change number {place}");
        let output = run(&[
            "history",
            "add",
            path.to_str().unwrap(),
            "--store",
            &self.store(),
            "--commit",
            &commit,
            "--committed-at",
            &time,
            "--subject",
            &subject,
        ]);
        assert!(output.status.success(), "{}", stderr(&output));
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn store(&self) -> String {
        self.path("store").to_str().unwrap().to_owned()
    }

    /// Whether something became worse within so many of the newest runs.
    fn check(&self, newest: &str) -> Output {
        run(&[
            "history",
            "check",
            "--store",
            &self.store(),
            "--newest",
            newest,
        ])
    }

    /// Renders the site; the first page, and that of the question about memory.
    fn render(&self) -> [PathBuf; 2] {
        let site = self.path("site");
        let output = run(&[
            "history",
            "render",
            "--store",
            &self.store(),
            "--out",
            site.to_str().unwrap(),
        ]);
        assert!(output.status.success(), "{}", stderr(&output));
        let pages = std::fs::read_dir(&site)
            .unwrap()
            .map(|entry| entry.unwrap().path());
        let memory = pages
            .into_iter()
            .find(|page| page.to_string_lossy().contains("-memory-"));
        [site.join("index.html"), memory.unwrap()]
    }
}

#[test]
fn a_new_level_is_told_with_its_commit_and_fails_a_check() {
    let history = History::new(1.05);
    let output = history.check("12");
    let said = stdout(&output);
    assert_eq!(output.status.code(), Some(1), "{said}{}", stderr(&output));
    for word in [
        "server_heap_bytes_per_connection",
        "tls",
        &format!("{CHANGED_AT:02x}00000"),
    ] {
        assert!(said.contains(word), "{word} is not in:\n{said}");
    }
    // Nothing else has changed.
    assert!(!said.contains("setup_latency_ns"), "{said}");

    let [first, memory] = history.render();
    let first = std::fs::read_to_string(first).unwrap();
    let subject = format!("Change number {CHANGED_AT}");
    assert!(
        first.contains(&subject) && first.contains("+5.0 %"),
        "{first}"
    );
    let name = memory.file_name().unwrap().to_str().unwrap();
    assert!(first.contains(&format!("href=\"{name}\"")), "{first}");
    let memory = std::fs::read_to_string(memory).unwrap();
    assert!(memory.contains(&subject), "{memory}");
}

#[test]
fn where_nothing_changes_nothing_is_told() {
    let history = History::new(1.0);
    let output = history.check("24");
    assert_eq!(
        output.status.code(),
        Some(0),
        "{}{}",
        stdout(&output),
        stderr(&output)
    );
    let [first, _] = history.render();
    let first = std::fs::read_to_string(first).unwrap();
    assert!(
        first.contains("Nowhere that could be told from chance."),
        "{first}"
    );
}

#[test]
fn its_pages_are_there_for_everybody() {
    let Some(browser) = Browser::find() else {
        return;
    };
    let history = History::new(1.05);
    for page in history.render() {
        for options in [
            &["--axe"][..],
            &["--axe", "--dark", "--width", "390"],
            &["--print", "--without-script"],
        ] {
            let told = browser.visit(&page, options);
            assert_quiet(&told);
            if options.contains(&"--axe") {
                assert_accessible(&told);
            }
        }
    }
}

#[test]
fn the_other_programs_file_is_what_that_program_reads_and_comes_back() {
    let history = History::new(1.0);
    let file = history.path("data.js");
    let file_name = file.to_str().unwrap();
    let output = run(&[
        "history",
        "export",
        "--store",
        &history.store(),
        "--out",
        file_name,
        "--repository",
        "https://example.org/hop/bench",
    ]);
    assert!(output.status.success(), "{}", stderr(&output));
    let script = std::fs::read_to_string(&file).unwrap();
    let json = script.strip_prefix("window.BENCHMARK_DATA = ").unwrap();
    let plain = history.path("data.json");
    std::fs::write(&plain, json.trim_end().trim_end_matches(';')).unwrap();
    assert_valid("data_js.schema.json", &[&plain]);

    let again = history.path("again");
    let again = again.to_str().unwrap();
    let output = run(&["history", "import", file_name, "--store", again]);
    assert!(output.status.success(), "{}", stderr(&output));
    let listed = |store: &str| {
        stdout(&run(&["history", "list", "--store", store]))
            .lines()
            .count()
    };
    assert!(listed(again) >= RUNS, "{} lines", listed(again));
}
