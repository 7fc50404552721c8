//! The dependency rule of `src/lib.rs`, asserted: who may import whom, and that the sans-IO cores
//! read no clock and open no socket.
//!
//! What is compiled for tests only may import as it likes.

#![allow(clippy::unwrap_used)]

#[path = "dependency_rule/source.rs"]
mod source;

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use source::{imports, mentions, rust_files, sources, tokens};

/// What each module may import, from the top of the crate down. `a::b` allows that module of `a`
/// alone.
///
/// `measure::heap` is for saying what allocations are for, which is known only where they are made.
const ALLOWED_IMPORTS: &[(&str, &[&str])] = &[
    (
        "load",
        &["transport", "net", "tunnel", "sip", "measure", "units"],
    ),
    (
        "node",
        &["transport", "net", "tunnel", "sip", "measure", "units"],
    ),
    ("bare", &["transport"]),
    (
        "transport",
        &["net", "tunnel", "sip::framing", "measure::heap", "units"],
    ),
    ("net", &["tunnel", "measure::heap", "units"]),
    ("sip", &["measure::heap", "units"]),
    ("record", &["measure", "units"]),
    ("tunnel", &["units"]),
    ("measure", &["units"]),
    ("units", &[]),
];

/// Modules that take the time as an argument and never do I/O.
const SANS_IO: &[&str] = &["sip", "tunnel", "net::link"];

/// What a sans-IO module must not mention, as tokens.
const IO: &[&[&str]] = &[
    &["Instant", ":", ":", "now"],
    &["SystemTime", ":", ":", "now"],
    &[".", "elapsed", "("],
    &["UdpSocket"],
    &["TcpListener"],
    &["TcpStream"],
    &["UnixDatagram"],
    &["UnixListener"],
    &["UnixStream"],
    &["socket2"],
    &["tokio"],
    &["thread", ":", ":", "spawn"],
    &["thread", ":", ":", "sleep"],
];

#[test]
fn modules_import_only_what_lies_below_them() {
    let mut violations = Vec::new();
    for source in sources() {
        let Some(allowed) = allowed_for(&source.module[0]) else {
            continue; // lib.rs, which names modules and imports none
        };
        for import in imports(&source.tokens, &source.module) {
            if is_violation(&source.module[0], &import, allowed) {
                violations.push(format!("{}: {}", source.path.display(), import.join("::")));
            }
        }
    }
    assert!(
        violations.is_empty(),
        "not allowed by src/lib.rs:\n{}",
        violations.join("\n")
    );
}

#[test]
fn sans_io_modules_read_no_clock_and_open_no_socket() {
    let mut violations = Vec::new();
    for source in sources() {
        if SANS_IO.iter().any(|core| is_within(core, &source.module)) {
            for mention in IO
                .iter()
                .filter(|mention| mentions(&source.tokens, mention))
            {
                violations.push(format!("{}: {}", source.path.display(), mention.concat()));
            }
        }
    }
    assert!(
        violations.is_empty(),
        "sans-IO modules do I/O:\n{}",
        violations.join("\n")
    );
}

#[test]
fn every_module_of_the_crate_is_in_the_table() {
    let found: BTreeSet<_> = sources()
        .into_iter()
        .map(|source| source.module[0].clone())
        .collect();
    let table = ALLOWED_IMPORTS
        .iter()
        .map(|(module, _)| (*module).to_owned());
    let expected: BTreeSet<_> = table.chain(["lib".to_owned()]).collect();
    assert_eq!(found, expected);
}

#[test]
fn the_table_points_downward_only() {
    for (index, (module, allowed)) in ALLOWED_IMPORTS.iter().enumerate() {
        for import in *allowed {
            let top = import.split("::").next().unwrap();
            let below = ALLOWED_IMPORTS[index + 1..]
                .iter()
                .any(|(lower, _)| *lower == top);
            assert!(
                below,
                "{module} may not import {import}: it is not further down"
            );
        }
    }
}

#[test]
fn every_source_file_opens_with_what_it_is_for() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let folders = [
        "src",
        "tests",
        "benches",
        "harness/src",
        "harness/tests",
        "harness/benches",
    ];
    let files: Vec<_> = folders
        .iter()
        .flat_map(|folder| rust_files(&root.join(folder)))
        .collect();
    assert!(files.len() > ALLOWED_IMPORTS.len(), "{} files", files.len());
    for file in files {
        let text = fs::read_to_string(&file).unwrap();
        assert!(
            text.starts_with("//! "),
            "{} does not open with `//!`",
            file.display()
        );
    }
}

fn allowed_for(module: &str) -> Option<&'static [&'static str]> {
    ALLOWED_IMPORTS
        .iter()
        .find_map(|(name, allowed)| (*name == module).then_some(*allowed))
}

/// Whether `module` is `core`, or lies in it.
fn is_within(core: &str, module: &[String]) -> bool {
    let mut path = module.iter().map(String::as_str);
    core.split("::").all(|segment| path.next() == Some(segment))
}

/// `import` is a path from the crate's root. Paths to anything but a module of the crate, such as a
/// macro at its root, are nobody's business here.
fn is_violation(module: &str, import: &[String], allowed: &[&str]) -> bool {
    let Some(top) = import.first().filter(|top| allowed_for(top).is_some()) else {
        return false;
    };
    top != module && !allowed.iter().any(|allowed| is_within(allowed, import))
}

#[test]
fn finds_what_is_not_allowed() {
    let violates = |module, path: &[&str]| {
        let path: Vec<_> = path.iter().map(|&part| part.to_owned()).collect();
        is_violation(module, &path, allowed_for(module).unwrap())
    };
    assert!(violates("sip", &["transport", "Flow"]));
    assert!(violates("transport", &["sip", "message"]));
    assert!(violates("transport", &["sip"]));
    assert!(violates("load", &["node"]));
    assert!(violates("measure", &["record", "Run"]));
    assert!(!violates("transport", &["sip", "framing", "Frame"]));
    assert!(!violates("transport", &["transport", "Flow"]));
    assert!(!violates("load", &["some_macro"]));
}

#[test]
fn finds_clocks_and_sockets() {
    let mentioned = |text: &str| IO.iter().any(|io| mentions(&tokens(text), io));
    assert!(mentioned("let now = std::time::Instant::now();"));
    assert!(mentioned("start.elapsed()"));
    assert!(mentioned("use std::net::{SocketAddr, UdpSocket};"));
    assert!(!mentioned(
        "fn f(now: Instant, elapsed: Duration) {} // Instant::now()"
    ));
}
