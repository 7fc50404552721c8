//! Whatever becomes of a run's file: it is read as what it says, or refused with the file's name, and
//! nothing panics.

#![allow(clippy::unwrap_used)]

use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use hopbench::record::{FileError, Run};
use proptest::prelude::*;
use proptest::sample::Index;
use serde_json::Value;

/// The cells of a committed run that hold of everything something, few enough to be read often.
static TEXT: LazyLock<String> = LazyLock::new(|| {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("results/reference/scale/run.json");
    let mut run = Run::read(&path).unwrap();
    run.cells.truncate(2);
    for cell in &mut run.cells {
        let mut count = 0;
        cell.metrics.retain(|_, metric| {
            count += usize::from(metric.histogram.is_some());
            metric.histogram.is_none() || count <= 1
        });
    }
    run.cells[1].reason = Some("it was too slow".to_owned());
    run.cells[1].verdict = hopbench::record::Verdict::GeneratorBound;
    let (cell, control) = (run.cells[0].id.clone(), run.cells[1].id.clone());
    run.ratios.truncate(2);
    for ratio in &mut run.ratios {
        ratio.cell_id.clone_from(&cell);
        ratio.control_cell_id.clone_from(&control);
    }
    run.to_json()
});

fn read(bytes: &[u8]) -> (PathBuf, Result<Run, FileError>) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("run.json");
    std::fs::write(&path, bytes).unwrap();
    let run = Run::read(&path);
    (path, run)
}

/// Refused with words that name the file, or read as what the file says.
fn assert_refused_or_meant(bytes: &[u8]) {
    let (path, read) = read(bytes);
    match read {
        Err(error) => {
            let said = error.to_string();
            assert!(said.contains(&path.display().to_string()), "{said}");
        }
        Ok(run) => {
            let said: Value = serde_json::from_slice(bytes).unwrap();
            let understood = serde_json::to_value(&run).unwrap();
            assert_eq!(understood, as_floats(said, &understood));
        }
    }
}

/// JSON has one kind of number: where `like` has a fraction, `1` is meant as `1.0`.
fn as_floats(value: Value, like: &Value) -> Value {
    match (value, like) {
        (Value::Number(number), Value::Number(like)) if like.is_f64() => {
            number.as_f64().map_or(Value::Null, Value::from)
        }
        (Value::Array(values), Value::Array(like)) if values.len() == like.len() => {
            let pairs = values.into_iter().zip(like);
            Value::Array(pairs.map(|(value, like)| as_floats(value, like)).collect())
        }
        (Value::Object(values), Value::Object(like)) => {
            let entries = values.into_iter();
            let entries = entries.map(|(key, value)| match like.get(&key) {
                Some(like) => (key, as_floats(value, like)),
                None => (key, value),
            });
            Value::Object(entries.collect())
        }
        (value, _) => value,
    }
}

#[test]
fn the_run_itself_is_read_as_what_it_says() {
    let (_, read) = read(TEXT.as_bytes());
    assert_eq!(read.unwrap().to_json(), *TEXT);
}

#[test]
fn every_committed_run_is_read_as_what_it_says() {
    let reference = Path::new(env!("CARGO_MANIFEST_DIR")).join("results/reference");
    let mut runs = 0;
    for folder in std::fs::read_dir(reference).unwrap() {
        let path = folder.unwrap().path().join("run.json");
        let text = std::fs::read_to_string(&path).unwrap();
        let run = Run::read(&path).unwrap();
        assert!(
            run.to_json() == text,
            "{} is not what was read of it",
            path.display()
        );
        runs += 1;
    }
    assert!(runs >= 7, "{runs} runs");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 192, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_run_that_was_cut_off_is_refused(end in any::<Index>()) {
        let end = end.index(TEXT.trim_end().len());
        let (path, read) = read(&TEXT.as_bytes()[..end]);
        let said = read.expect_err("it is not whole").to_string();
        prop_assert!(said.starts_with(&format!("{} is cut off, ", path.display())), "{said}");
        prop_assert!(said.contains(" at line "), "{said}");
    }

    #[test]
    fn a_byte_that_was_changed_is_found_or_meant(place in any::<Index>(), byte in any::<u8>()) {
        let mut bytes = TEXT.as_bytes().to_vec();
        let place = place.index(bytes.len());
        bytes[place] = byte;
        assert_refused_or_meant(&bytes);
    }

    /// Printable characters get further than most bytes do.
    #[test]
    fn so_is_a_character(place in any::<Index>(), character in "[ -~]") {
        let mut bytes = TEXT.as_bytes().to_vec();
        let place = place.index(bytes.len());
        bytes[place] = character.as_bytes()[0];
        assert_refused_or_meant(&bytes);
    }

    #[test]
    fn so_are_lines_that_were_left_out_or_doubled(
        first in any::<Index>(),
        count in 1_usize..8,
        is_doubled in any::<bool>(),
    ) {
        let lines: Vec<&str> = TEXT.split_inclusive('\n').collect();
        let first = first.index(lines.len());
        let end = (first + count).min(lines.len());
        let repeated = if is_doubled { &lines[first..end] } else { &[] };
        let kept = if is_doubled { end } else { first };
        let text = [&lines[..kept], repeated, &lines[end..]].concat().concat();
        assert_refused_or_meant(text.as_bytes());
    }
}
