//! The report as a page, in a browser: it complains of nothing, loads nothing, reacts at once, and is there
//! for everybody.

#![allow(clippy::unwrap_used)]

mod support;

use std::path::{Path, PathBuf};

use support::browser::{Browser, assert_accessible, assert_quiet};
use support::full_run::full_run;
use support::stdout;

/// What a page may take until it reacts, of the best of some visits: the machine may be busy.
const INTERACTIVE_MS: f64 = 1_000.0;
/// No more of them are made once one was good.
const VISITS: usize = 12;
/// What a page may weigh.
const SIZE_BYTES: usize = 3_000_000;

fn reference(name: &str) -> PathBuf {
    let references = Path::new(env!("CARGO_MANIFEST_DIR")).join("../results/reference");
    references.join(name)
}

/// The page of a reference run, in `folder`.
fn page(name: &str, folder: &Path) -> PathBuf {
    page_of(&reference(name), folder)
}

/// The page of `run`, in `folder`.
fn page_of(run: &Path, folder: &Path) -> PathBuf {
    let output = support::run(&["report", run.to_str().unwrap(), "--format", "html"]);
    assert!(output.status.success(), "{}", support::stderr(&output));
    let page = folder.join("report.html");
    std::fs::write(&page, stdout(&output)).unwrap();
    page
}

#[test]
fn pages_of_reference_runs_are_small_and_always_the_same() {
    let references = std::fs::read_dir(reference("")).unwrap();
    for run in references.map(|entry| entry.unwrap().path()) {
        let rendered =
            || support::run(&["report", run.to_str().unwrap(), "--format", "html"]).stdout;
        let page = rendered();
        let run = run.file_name().unwrap().to_str().unwrap();
        assert!(page.ends_with(b"</html>"), "{run} is not rendered");
        assert!(page.len() < SIZE_BYTES, "{run}: {} bytes", page.len());
        if run == "scale" {
            assert!(page == rendered(), "{run} is rendered to other bytes");
        }
    }
}

#[test]
fn the_page_works_in_a_browser() {
    let Some(browser) = Browser::find() else {
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    // The run with the most sections.
    let page = page("quick", folder.path());
    assert_reacts_at_once(&browser, &page);
    let shot = folder.path().join("report.png");
    let shot = shot.to_str().unwrap();
    for options in [
        &["--axe", "--shot", shot][..],
        &["--axe", "--dark"],
        // A phone, on which the first stack is hidden, from its lines too.
        &["--axe", "--width", "390", "--choose", "label.s0"],
        &["--print", "--without-script"],
    ] {
        let told = browser.visit(&page, options);
        assert_quiet(&told);
        if options.contains(&"--axe") {
            assert_accessible(&told);
        }
    }
    let picture = std::fs::read(shot).unwrap();
    assert!(picture.starts_with(b"\x89PNG") && picture.len() > 20_000);
}

fn assert_reacts_at_once(browser: &Browser, page: &Path) {
    let visits = (0..VISITS).map(|_| browser.visit(page, &[]));
    let fastest = visits
        .inspect(assert_quiet)
        .map(|told| told["interactive_ms"].as_f64().unwrap())
        .inspect(|interactive_ms| println!("interactive after {interactive_ms:.0} ms"))
        .find(|interactive_ms| *interactive_ms <= INTERACTIVE_MS);
    assert!(
        fastest.is_some(),
        "the page takes more than {INTERACTIVE_MS} ms each time"
    );
}

#[test]
fn the_page_of_a_full_run_is_small_and_reacts_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let run = folder.path().join("run.json");
    full_run().write(&run).unwrap();
    let page = page_of(&run, folder.path());
    let size = std::fs::metadata(&page).unwrap().len();
    assert!(size < SIZE_BYTES as u64, "{size} bytes");
    let Some(browser) = Browser::find() else {
        return;
    };
    assert_reacts_at_once(&browser, &page);
    let told = browser.visit(&page, &["--axe", "--width", "390"]);
    assert_quiet(&told);
    assert_accessible(&told);
}

#[test]
fn a_page_of_crowds_is_there_for_everybody() {
    let Some(browser) = Browser::find() else {
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let page = page("scale", folder.path());
    let told = browser.visit(&page, &["--axe"]);
    assert_quiet(&told);
    assert_accessible(&told);
}
