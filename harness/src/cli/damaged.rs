//! Tests: whatever a run says, as long as it can be read, every command that takes one can show it.

use std::path::Path;
use std::sync::LazyLock;

use clap::ValueEnum as _;
use hopbench::record::Run;
use hopbench::transport;
use proptest::prelude::*;
use proptest::sample::{Index, select};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::compare::Comparison;
use crate::export;
use crate::gate::{Gate, Runs};
use crate::history::commit::Commit;
use crate::history::entry::Entry;
use crate::history::{series, site};
use crate::plan::{self, Demand, HeldOut, Style};
use crate::report::{self, Format, fixture};

/// The places of all values that hold no other ones.
fn leaves(value: &Value, at: &str, found: &mut Vec<String>) {
    match value {
        Value::Object(entries) => {
            for (key, value) in entries {
                let key = key.replace('~', "~0").replace('/', "~1");
                leaves(value, &format!("{at}/{key}"), found);
            }
        }
        Value::Array(values) => {
            for (index, value) in values.iter().enumerate() {
                leaves(value, &format!("{at}/{index}"), found);
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {
            found.push(at.to_owned());
        }
    }
}

/// A run that has of everything something. To make it takes seconds in a test.
static SOUND: LazyLock<Run> = LazyLock::new(fixture::run);

/// What a run is held against.
const GATES: [&str; 2] = [
    "each memory.server_heap_bytes_per_connection <= 1.03 * base",
    "each setup.tls.setup_latency_ns.p99 < 10 * tcp.setup_latency_ns.p99",
];

/// Everything that is done with a run that was read; panics where one of them does.
fn show(run: &Run, folder: &Path) {
    for format in [Format::Markdown, Format::Json, Format::Table] {
        report::render(run, format, true);
    }
    report::excerpt(run, "results");
    report::write_all(run, folder).expect("it can be written");
    Comparison::of(&SOUND, run);
    Comparison::of(run, &SOUND);
    for format in export::Format::value_variants() {
        // A histogram that is none, or a time, may be refused.
        let _ = format.exporter().export(run);
    }
    for gate in GATES {
        // Words that name no cell any more may be refused.
        let gate: Gate = gate.parse().expect("the gates are sound");
        let _ = gate.check(Runs {
            base: Some(&SOUND),
            head: run,
        });
    }
    let entries = [
        Entry::of(&SOUND, Commit::default()),
        Entry::of(run, Commit::default()),
    ];
    let lines = series::lines(&entries, |_| true);
    site::render("odd", &entries, &lines);
    let stacks: Vec<_> = transport::stacks().iter().collect();
    let demand = Demand {
        users: 1_000_000,
        expires_seconds: 3600.0,
        refresh_fraction: 0.5,
        calls_per_user_hour: 2.0,
        keep_alive_seconds: None,
        utilisation: 0.7,
        descriptors: 20_000,
        back_off_seconds: 30.0,
    };
    let runs = std::slice::from_ref(run);
    plan::render(&plan::plan(runs, &stacks, &demand), Style::Text);
    let validation = plan::validate(runs, &stacks, HeldOut::Largest, 10.0);
    plan::render_validation(&validation, Style::Markdown);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2, failure_persistence: None, ..ProptestConfig::default() })]

    /// All of what has the shape of a run is shown, also what a file could not say without contradiction.
    #[test]
    fn a_run_that_says_something_odd_is_shown(
        places in proptest::collection::vec(any::<Index>(), 24),
        odd in proptest::collection::vec(select(vec![
            json!(null), json!(0), json!(-1), json!(1.5), json!(1e300), json!(-1e300), json!(u64::MAX),
            json!(""), json!("é".repeat(9)), json!("|`\u{1b}[31m\n"), json!("ok"), json!(true), json!([]),
        ]), 24),
    ) {
        let mut said = serde_json::to_value(&*SOUND).expect("a run serialises");
        let mut found = Vec::new();
        leaves(&said, "", &mut found);
        for (place, odd) in places.iter().zip(odd) {
            let pointer = &found[place.index(found.len())];
            let value = said.pointer_mut(pointer).expect("it was found");
            let kept = std::mem::replace(value, odd);
            // One that makes it no run would hide the others.
            if Run::deserialize(&said).is_err() {
                *said.pointer_mut(pointer).expect("it was found") = kept;
            }
        }
        let folder = tempfile::tempdir().expect("a folder");
        show(&Run::deserialize(&said).expect("it is one still"), folder.path());
    }
}
