//! Which cell a figure means.

use std::collections::BTreeSet;
use std::ops::Range;

use hopbench::load::{Lifecycle, Stage, Workload};
use hopbench::record::{Cell, Run};
use hopbench::transport;

use super::error::{GateError, Problem};
use super::figure::Figure;

/// Words of a cell's name, beside the stages of memory: the seven of its id, and its parameters.
fn fields(cell: &Cell) -> [&str; 6] {
    [
        &cell.experiment,
        &cell.workload,
        &cell.stack,
        &cell.topology,
        &cell.lifecycle,
        &cell.path,
    ]
}

/// Whether the cell is called so.
fn matches(cell: &Cell, word: &str) -> bool {
    match word.split_once('=') {
        Some((key, value)) => parameter(cell, key).is_some_and(|found| found == value),
        None => fields(cell).contains(&word) || parameter(cell, "stage").is_some_and(|s| s == word),
    }
}

fn parameter(cell: &Cell, key: &str) -> Option<String> {
    let value = cell.parameters.get(key)?;
    Some(
        value
            .as_str()
            .map_or_else(|| value.to_string(), str::to_owned),
    )
}

/// Parameters in the name of the cell.
fn distinguishing(cell: &Cell) -> impl Iterator<Item = (&str, &str)> {
    let behind = cell.id.split_once('?').map_or("", |(_, behind)| behind);
    behind.split('&').filter_map(|pair| pair.split_once('='))
}

/// The cells that may be meant by `figure`: those that are called so and have the metric. A cell that
/// could not be measured has no metrics; it may be meant if others of its kind have this one.
pub(super) fn candidates<'r>(figure: &Figure, run: &'r Run) -> Vec<&'r Cell> {
    let key = figure.metric.key;
    let has = |cell: &Cell| cell.metrics.contains_key(key);
    let kinds: BTreeSet<(&str, &str)> = run
        .cells
        .iter()
        .filter(|cell| has(cell))
        .map(|cell| (cell.experiment.as_str(), cell.workload.as_str()))
        .collect();
    let may_have = |cell: &Cell| {
        let kind = (cell.experiment.as_str(), cell.workload.as_str());
        has(cell) || (cell.metrics.is_empty() && kinds.contains(&kind))
    };
    let is_called_so = |cell: &&Cell| figure.words.iter().all(|(word, _)| matches(cell, word));
    let cells = run.cells.iter().filter(is_called_so);
    cells.filter(|cell| may_have(cell)).collect()
}

/// Those of `candidates` that are as `cell` is in everything that `figure` does not name.
pub(super) fn like<'r>(candidates: Vec<&'r Cell>, figure: &Figure, cell: &Cell) -> Vec<&'r Cell> {
    let is_named = |text: &str| figure.words.iter().any(|(word, _)| word == text);
    let is_parameter_named = |key: &str, value: &str| {
        is_named(&format!("{key}={value}")) || (key == "stage" && is_named(value))
    };
    let is_like = |other: &&Cell| {
        let same = fields(other).into_iter().zip(fields(cell));
        let mut parameters = distinguishing(other);
        let shared = |(key, value): (&str, &str)| {
            is_parameter_named(key, value) || distinguishing(cell).any(|own| own == (key, value))
        };
        // A variant of the cell at hand that does not concern the other one is not in its name.
        same.into_iter()
            .all(|(theirs, own)| theirs == own || is_named(theirs))
            && parameters.all(shared)
    };
    let alike: Vec<&Cell> = candidates.into_iter().filter(is_like).collect();
    // Of those, the ones that share most: not the usual way where the same variant is there, too.
    let shared = |other: &Cell| distinguishing(other).count();
    let most = alike.iter().map(|cell| shared(cell)).max();
    alike
        .into_iter()
        .filter(|cell| Some(shared(cell)) == most)
        .collect()
}

/// Checks that words that name no cell of `runs` at least could name one.
///
/// # Errors
/// For a word that nothing is called.
pub(super) fn check_words(text: &str, figure: &Figure, cells: &[&Cell]) -> Result<(), GateError> {
    for (word, place) in &figure.words {
        if cells.iter().any(|cell| matches(cell, word)) || is_possible(word) {
            continue;
        }
        return Err(unknown(text, word, place, cells));
    }
    Ok(())
}

/// What cells are called in general.
fn vocabulary() -> impl Iterator<Item = &'static str> {
    let stacks = transport::stacks().iter().map(|stack| stack.name);
    let experiments = crate::experiment::NAMES.iter().map(|(name, _)| *name);
    let workloads = Workload::ALL.into_iter().map(Workload::name);
    let lifecycles = Lifecycle::ALL.into_iter().map(Lifecycle::name);
    let stages = [
        Stage::Handshaken,
        Stage::Registered,
        Stage::Idle,
        Stage::InCall,
    ];
    stacks
        .chain(experiments)
        .chain(workloads)
        .chain(lifecycles)
        .chain(stages.into_iter().map(Stage::name))
        .chain(["direct", "edge", "trapezoid", "chain", "loopback"])
}

fn is_possible(word: &str) -> bool {
    word.contains('=') || word.starts_with("chain-") || vocabulary().any(|known| known == word)
}

fn unknown(text: &str, word: &str, place: &Range<usize>, cells: &[&Cell]) -> GateError {
    let mut known: BTreeSet<&str> = cells.iter().flat_map(|cell| fields(cell)).collect();
    for word in vocabulary() {
        known.insert(word);
    }
    let likeness = |known: &str| strsim::jaro_winkler(word, known);
    let nearest = known
        .into_iter()
        .max_by(|a, b| likeness(a).total_cmp(&likeness(b)))
        .filter(|nearest| likeness(nearest) > 0.6);
    let problem = Problem::UnknownWord {
        found: word.to_owned(),
        nearest: nearest.map(str::to_owned),
    };
    GateError::new(text, place.clone(), problem)
}

/// Each of `cells` as a gate can name it: what `figure` says, and what tells it from the others.
pub(super) fn names(figure: &Figure, cells: &[&Cell]) -> Vec<String> {
    let differs = |index: usize| {
        let of = |cell: &Cell| fields(cell)[index].to_owned();
        cells.iter().any(|cell| of(cell) != of(cells[0]))
    };
    let differing: Vec<usize> = (0..6).filter(|index| differs(*index)).collect();
    let name = |cell: &&Cell| {
        let mut words: Vec<String> = figure.words.iter().map(|(word, _)| word.clone()).collect();
        let mut add = |word: String| {
            if !words.contains(&word) {
                words.push(word);
            }
        };
        for index in &differing {
            add(fields(cell)[*index].to_owned());
        }
        for (key, value) in distinguishing(cell) {
            let is_shared = cells
                .iter()
                .all(|other| distinguishing(other).any(|pair| pair == (key, value)));
            if !is_shared {
                add(match key {
                    "stage" => value.to_owned(),
                    _ if value.contains('.') => format!("{key}=\"{value}\""),
                    _ => format!("{key}={value}"),
                });
            }
        }
        words.push(figure.metric.key.to_owned());
        words.join(".")
    };
    cells.iter().map(name).collect()
}

/// The one of `cells` that is run in the usual way, where the others are variants of it: it has no
/// parameter in its name that is neither named by `figure` nor shared by all.
pub(super) fn usual<'r>(figure: &Figure, cells: &[&'r Cell]) -> Option<&'r Cell> {
    let is_named = |key: &str, value: &str| {
        let pair = format!("{key}={value}");
        figure
            .words
            .iter()
            .any(|(word, _)| *word == pair || word == value)
    };
    let is_shared = |pair: (&str, &str)| {
        cells
            .iter()
            .all(|cell| distinguishing(cell).any(|other| other == pair))
    };
    let is_usual = |cell: &&&Cell| {
        distinguishing(cell).all(|(key, value)| is_named(key, value) || is_shared((key, value)))
    };
    let is_same_place = cells.iter().all(|cell| fields(cell) == fields(cells[0]));
    let mut usual = cells.iter().filter(is_usual);
    let found = usual.next().filter(|_| is_same_place)?;
    usual.next().is_none().then_some(*found)
}
