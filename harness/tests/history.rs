//! `hopbench history` from end to end: a store grows run by run, a change is found and fails a check, the figures go
//! through another program's file, and the site works in a browser.

#![allow(clippy::unwrap_used)]

mod support;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use hopbench::record::Run;
use support::browser::{Browser, assert_accessible, assert_quiet};
use support::{run, stderr, stdout};

const RUNS: usize = 14;
/// The first run that is slower.
const CHANGED: usize = 10;

/// A folder with a store of [`RUNS`] runs, a day apart, of a commit each; from [`CHANGED`] on a registration over TLS
/// takes the server a tenth more.
struct Site {
    folder: tempfile::TempDir,
}

impl Site {
    fn new() -> Self {
        let site = Self {
            folder: tempfile::tempdir().unwrap(),
        };
        for number in 0..RUNS {
            let output = site.add(number);
            assert!(output.status.success(), "{}", stderr(&output));
        }
        site
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Adds the run of that number.
    fn add(&self, number: usize) -> Output {
        let path = self.path("run.json");
        a_run(number).write(&path).unwrap();
        let subject = format!("Change number {number}");
        self.history(&["add", path.to_str().unwrap(), "--subject", &subject])
    }

    /// `hopbench history …` on the store; outside any repository, so that git knows nothing.
    fn history(&self, args: &[&str]) -> Output {
        let mut command = support::hopbench();
        command
            .arg("history")
            .args(args)
            .arg("--store")
            .arg(self.path("store"));
        command.current_dir(self.folder.path()).output().unwrap()
    }
}

/// The registrations of the quick reference run, as if measured another day; times jitter by rule.
fn a_run(number: usize) -> Run {
    let reference =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../results/reference/quick/run.json");
    let mut run = Run::read(&reference).unwrap();
    run.cells
        .retain(|cell| cell.id.starts_with("throughput/register/"));
    run.run_id = format!("202601{:02}T000000Z-test", number + 1);
    run.started_at = format!("2026-01-{:02}T00:00:00Z", number + 1);
    run.finished_at = Some(format!("2026-01-{:02}T00:03:00Z", number + 1));
    run.build.git_commit = Some(format!("{:040x}", 0xabc_0000 + number));
    run.build.git_dirty = Some(false);
    for cell in &mut run.cells {
        for (key, metric) in &mut cell.metrics {
            let is_time = key.ends_with("_ns") || key.contains("_cpu_ns_");
            let jitter = if is_time {
                1.0 + 0.004 * ((number * 7) % 5) as f64
            } else {
                1.0
            };
            let is_slower =
                number >= CHANGED && cell.stack == "tls" && key == "server_cpu_ns_per_operation";
            let factor = jitter * if is_slower { 1.10 } else { 1.0 };
            for figure in [
                &mut metric.value,
                &mut metric.ci95_low,
                &mut metric.ci95_high,
            ] {
                *figure = figure.map(|figure| figure * factor);
            }
        }
    }
    run
}

#[test]
fn a_change_for_the_worse_fails_the_check_and_names_its_commit() {
    let site = Site::new();
    let check = site.history(&["check"]);
    let said = stdout(&check);
    assert_eq!(check.status.code(), Some(1), "{said}{}", stderr(&check));
    let told = said.lines().find(|line| line.starts_with("FAIL")).unwrap();
    let commit = &format!("{:040x}", 0xabc_0000 + CHANGED)[..7];
    for expected in ["worse", commit, "server_cpu_ns_per_operation of tls,"] {
        assert!(told.contains(expected), "{expected}: {said}");
    }
    assert_eq!(
        said.lines().filter(|line| line.starts_with("FAIL")).count(),
        1,
        "{said}"
    );

    // It is not new any more, or too small to matter, or not what is asked for.
    for fine in [
        &["check", "--newest", "3"][..],
        &["check", "--at-least", "0.5"],
        &["check", "--metric", "wire_bytes_per_operation"],
    ] {
        let check = site.history(fine);
        assert!(check.status.success(), "{fine:?}: {}", stdout(&check));
    }
    let list = stdout(&site.history(&["list"]));
    assert!(
        list.contains("14 runs, oldest first") && list.contains("Change number 13"),
        "{list}"
    );

    let unknown = site.history(&["check", "--metric", "server_cpu_ns_per_operatoin"]);
    assert_eq!(unknown.status.code(), Some(2));
    assert!(
        stderr(&unknown).contains("did you mean `server_cpu_ns_per_operation`?"),
        "{}",
        stderr(&unknown)
    );
}

#[test]
fn adding_twice_changes_nothing_and_damage_is_told() {
    let site = Site::new();
    let index = fs::read(site.path("store/index.json")).unwrap();
    let again = site.add(3);
    assert!(again.status.success());
    assert!(
        stdout(&again).starts_with("is there already: 20260104T000000Z-test"),
        "{}",
        stdout(&again)
    );
    assert!(fs::read(site.path("store/index.json")).unwrap() == index);

    let mut unfinished = a_run(20);
    unfinished.finished_at = None;
    unfinished.write(&site.path("run.json")).unwrap();
    let refused = site.history(&["add", "run.json"]);
    assert_eq!(refused.status.code(), Some(2));
    assert!(
        stderr(&refused).contains("run.json: expected a run that is complete"),
        "{}",
        stderr(&refused)
    );

    let file = site.path("store/runs/20260104T000000Z-test.json");
    let text = fs::read_to_string(&file).unwrap();
    fs::write(&file, &text[..text.len() / 3]).unwrap();
    for command in [
        &["list"][..],
        &["check"],
        &["render", "--out", "site"],
        &["index"],
    ] {
        let output = site.history(command);
        assert_eq!(output.status.code(), Some(2), "{command:?}");
        let said = stderr(&output);
        assert!(
            said.contains("20260104T000000Z-test.json") && said.contains(" line "),
            "{said}"
        );
    }
    let elsewhere = run(&["history", "list", "--store", "/nonexistent"]);
    assert_eq!(elsewhere.status.code(), Some(2));
    assert!(
        stderr(&elsewhere).contains("/nonexistent is no history"),
        "{}",
        stderr(&elsewhere)
    );
}

#[test]
fn figures_go_to_github_action_benchmark_and_come_back() {
    let site = Site::new();
    let exported = site.history(&["export", "--out", "data.js"]);
    assert!(exported.status.success(), "{}", stderr(&exported));
    let text = fs::read_to_string(site.path("data.js")).unwrap();
    let json = text.strip_prefix("window.BENCHMARK_DATA = ").unwrap();
    fs::write(site.path("data.json"), json).unwrap();
    let readers = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/readers");
    let valid = Command::new("/usr/bin/python3")
        .arg(readers.join("validate.py"))
        .arg(readers.join("data_js.schema.json"))
        .arg(site.path("data.json"))
        .output();
    match valid {
        Ok(output) if output.status.success() => {}
        Ok(output) if !stderr(&output).contains("ModuleNotFoundError") => {
            panic!("{}{}", stdout(&output), stderr(&output))
        }
        Ok(_) | Err(_) => {
            support::peers::skip("python3-jsonschema is not installed: `apt-get install` it")
        }
    }

    let back = site.path("back");
    let data = site.path("data.js");
    let import = |store: &Path| {
        run(&[
            "history",
            "import",
            data.to_str().unwrap(),
            "--store",
            store.to_str().unwrap(),
        ])
    };
    let imported = import(&back);
    assert!(
        stdout(&imported).starts_with("14 runs added, 0 were there already"),
        "{}",
        stderr(&imported)
    );
    // Into the store that it came from, nothing is added.
    let same = import(&site.path("store"));
    assert!(
        stdout(&same).starts_with("0 runs added, 14 were there already"),
        "{}{}",
        stdout(&same),
        stderr(&same)
    );
    let check = run(&["history", "check", "--store", back.to_str().unwrap()]);
    assert_eq!(
        check.status.code(),
        Some(1),
        "the change is in the figures: {}",
        stdout(&check)
    );

    fs::write(&data, "window.BENCHMARK_DATA = {\"lastUpdate\": 1,\n").unwrap();
    let damaged = import(&back);
    assert_eq!(damaged.status.code(), Some(2));
    assert!(
        stderr(&damaged).contains("data.js: ") && stderr(&damaged).contains("line 2"),
        "{}",
        stderr(&damaged)
    );
}

#[test]
fn the_site_is_whole_and_works_in_a_browser() {
    let site = Site::new();
    let mut elsewhere = a_run(20);
    elsewhere.environment.cpu_count = 64;
    elsewhere.write(&site.path("run.json")).unwrap();
    assert!(site.history(&["add", "run.json"]).status.success());
    let rendered = site.history(&["render", "--out", "site"]);
    assert!(rendered.status.success(), "{}", stderr(&rendered));
    let again = site.history(&["render", "--out", "again"]);
    assert!(again.status.success());
    let mut pages = Vec::new();
    for file in fs::read_dir(site.path("site")).unwrap() {
        let path = file.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        let text = fs::read_to_string(&path).unwrap();
        assert!(
            text == fs::read_to_string(site.path("again").join(&name)).unwrap(),
            "{name} differs"
        );
        // Every link of the site leads to a page that is there.
        for link in text
            .split("href=\"")
            .skip(1)
            .filter_map(|rest| rest.split(['"', '#']).next())
        {
            assert!(
                link.is_empty()
                    || link.starts_with("data:")
                    || site.path("site").join(link).is_file(),
                "{name}: {link}"
            );
        }
        pages.push(name);
    }
    pages.sort();
    assert_eq!(pages.last().map(String::as_str), Some("index.html"));
    assert!(pages.len() >= 3, "a page for each machine: {pages:?}");
    let index = fs::read_to_string(site.path("site/index.html")).unwrap();
    assert!(index.contains("Change number 10") && index.contains("64 processors"));

    let Some(browser) = Browser::find() else {
        return;
    };
    let charted = pages.iter().find(|page| {
        let text = fs::read_to_string(site.path("site").join(page)).unwrap();
        *page != "index.html" && text.contains("2026-01-14")
    });
    for page in ["index.html", charted.unwrap()] {
        for options in [&["--axe"][..], &["--axe", "--dark", "--width", "390"]] {
            let told = browser.visit(&site.path("site").join(page), options);
            assert_quiet(&told);
            assert_accessible(&told);
        }
    }
}
