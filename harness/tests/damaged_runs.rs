//! Files that are no run, or no longer: every command that takes one says which file, where in it, and
//! what to do, and does nothing.

#![allow(clippy::unwrap_used)]

mod support;

use std::path::Path;

use support::{run, stderr, stdout};

/// A run that is committed.
const REFERENCE: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/../results/reference/rekey/run.json"
);

/// What is done to its text, and what is said then.
type Damage = (&'static str, fn(&str) -> String, &'static [&'static str]);

const DAMAGES: [Damage; 7] = [
    (
        "empty.json",
        |_| String::new(),
        &["cut off", "line 1 column 0", "copy it again"],
    ),
    (
        "cut-off.json",
        |text| text[..text.len() / 2].to_owned(),
        &[
            "cut off, in cells[0].metrics.",
            " at line ",
            "copy it again",
        ],
    ),
    (
        "foreign.json",
        |_| "{\"schema\": \"somebody.else/9\"}".to_owned(),
        &["no run", "\"hopbench.run/1\"", "\"somebody.else/9\""],
    ),
    (
        "older.json",
        |text| text.replacen("hopbench.run/1", "hopbench.run/0", 1),
        &[
            "hopbench.run/0",
            "hopbench.run/1",
            "use hopbench 0.1.0, which wrote it",
        ],
    ),
    (
        "newer.json",
        |text| {
            text.replacen(
                "\"environment\"",
                "\"weather\": \"fair\",\n  \"environment\"",
                1,
            )
        },
        &[
            "in weather",
            "unknown field `weather`",
            " at line ",
            "newer hopbench",
        ],
    ),
    (
        "edited.json",
        |text| text.replacen("\"unit\": \"ns\"", "\"unit\": \"ms\"", 1),
        &[
            "in cells[0].metrics.",
            ".unit",
            "unknown variant `ms`",
            " at line ",
        ],
    ),
    (
        "scenario.toml",
        |_| "name = \"mine\"\n".to_owned(),
        &["damaged, at its top", "line 1 column 2"],
    ),
];

/// The commands that take a run, with a place for it.
const COMMANDS: [&[&str]; 10] = [
    &["report", "RUN"],
    &["report", "RUN", "--format", "json"],
    &["report", "RUN", "--write", "OUT"],
    &["report", "RUN", "--insert-into", "OUT"],
    &["compare", "RUN", REFERENCE],
    &["compare", REFERENCE, "RUN"],
    &["gate", "RUN", "tcp.failed_count < 1"],
    &["gate", REFERENCE, "--base", "RUN", "failed_count <= base"],
    &["plan", "--users", "1000", "--run", "RUN"],
    &[
        "plan",
        "--validate",
        "largest",
        "--run",
        REFERENCE,
        "--run",
        "RUN",
    ],
];

#[test]
fn every_command_that_takes_a_run_names_the_file_and_the_place() {
    let folder = tempfile::tempdir().unwrap();
    let text = std::fs::read_to_string(REFERENCE).unwrap();
    for (name, damage, expected) in DAMAGES {
        let file = folder.path().join(name);
        std::fs::write(&file, damage(&text)).unwrap();
        for command in COMMANDS {
            assert_refused(command, &file, expected, folder.path());
        }
    }
}

fn assert_refused(command: &[&str], file: &Path, expected: &[&str], folder: &Path) {
    let out = folder.join("out");
    let args: Vec<&str> = command
        .iter()
        .map(|word| match *word {
            "RUN" => file.to_str().unwrap(),
            "OUT" => out.to_str().unwrap(),
            word => word,
        })
        .collect();
    let output = run(&args);
    let said = stderr(&output);
    assert_eq!(output.status.code(), Some(2), "{args:?}: {said}");
    assert_eq!(stdout(&output), "", "{args:?}");
    assert_eq!(said.lines().count(), 1, "{args:?}: {said}");
    let name = format!("hopbench: {} ", file.display());
    assert!(said.starts_with(&name), "{args:?}: {said}");
    for part in expected {
        assert!(said.contains(part), "{args:?}: expected {part} in: {said}");
    }
    assert!(!out.exists(), "{args:?} wrote something");
}

#[test]
fn a_folder_without_a_run_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let output = run(&["report", folder.path().to_str().unwrap()]);
    let said = stderr(&output);
    assert_eq!(output.status.code(), Some(2), "{said}");
    let file = folder.path().join("run.json");
    assert!(
        said.contains(&format!("cannot read the run {}: ", file.display())),
        "{said}"
    );
}
