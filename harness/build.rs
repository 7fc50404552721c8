//! Tells the binary what it is built from: commit, compiler and the versions of the libraries that
//! the figures depend on. Read by `src/environment.rs`.

use std::env;
use std::fs;
use std::path::Path;
use std::process::Command;

/// The libraries whose versions change the figures.
const LIBRARIES: [&str; 8] = [
    "aws-lc-rs",
    "boringtun",
    "hdrhistogram",
    "ring",
    "rustls",
    "smoltcp",
    "tokio",
    "tokio-rustls",
];

/// What ends up in the binary: when any of it is edited, the binary is no longer the commit's.
const SOURCES: [&str; 7] = [
    "build.rs",
    "Cargo.toml",
    "scenarios",
    "src",
    "../Cargo.lock",
    "../Cargo.toml",
    "../src",
];

fn main() {
    // A path that does not exist would make every build run this.
    for source in SOURCES.iter().filter(|source| Path::new(source).exists()) {
        println!("cargo::rerun-if-changed={source}");
    }
    commit();
    set(
        "HOPBENCH_RUSTC",
        output(&env_of_cargo("RUSTC"), &["--version"]),
    );
    set(
        "HOPBENCH_LIBRARIES",
        fs::read_to_string("../Cargo.lock")
            .ok()
            .map(|lock| libraries(&lock)),
    );
}

/// The commit, unless this is not a checkout of the project itself: no git, an unpacked archive, or
/// a copy inside another repository. There it is what `HOPBENCH_COMMIT` says, for builds of images and
/// packages.
fn commit() {
    println!("cargo::rerun-if-env-changed=HOPBENCH_COMMIT");
    if git(&["rev-parse", "--show-prefix"]).as_deref() != Some("harness/") {
        let told = env::var("HOPBENCH_COMMIT").ok();
        set(
            "HOPBENCH_GIT_COMMIT",
            told.filter(|commit| !commit.is_empty()),
        );
        return;
    }
    // The first changes when another branch is checked out, the second when HEAD moves at all.
    for file in ["HEAD", "logs/HEAD"] {
        if let Some(path) = git(&["rev-parse", "--git-path", file])
            && Path::new(&path).exists()
        {
            println!("cargo::rerun-if-changed={path}");
        }
    }
    set("HOPBENCH_GIT_COMMIT", git(&["rev-parse", "HEAD"]));
    let status = ["--no-optional-locks", "status", "--porcelain", "--"];
    let changes = git(&[status.as_slice(), SOURCES.as_slice()].concat());
    set(
        "HOPBENCH_GIT_DIRTY",
        changes.map(|changes| (!changes.is_empty()).to_string()),
    );
}

/// `name=version` of each of [`LIBRARIES`] in the lock file, separated by `;`. Of a library that is
/// there twice each version is told.
fn libraries(lock: &str) -> String {
    let value = |line: &str, key: &str| {
        let quoted = line.strip_prefix(key)?.strip_prefix(" = ")?;
        Some(quoted.trim_matches('"').to_owned())
    };
    lock.split("[[package]]")
        .filter_map(|package| {
            let name = package.lines().find_map(|line| value(line, "name"))?;
            let version = package.lines().find_map(|line| value(line, "version"))?;
            LIBRARIES
                .contains(&name.as_str())
                .then(|| format!("{name}={version}"))
        })
        .collect::<Vec<_>>()
        .join(";")
}

fn set(variable: &str, value: Option<String>) {
    if let Some(value) = value {
        println!("cargo::rustc-env={variable}={value}");
    }
}

fn git(arguments: &[&str]) -> Option<String> {
    output("git", arguments)
}

/// What a program prints, if it is there and succeeds.
fn output(program: &str, arguments: &[&str]) -> Option<String> {
    let output = Command::new(program).args(arguments).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    output.status.success().then(|| text.trim().to_owned())
}

fn env_of_cargo(variable: &str) -> String {
    env::var(variable).expect("cargo sets the variables that it documents for build scripts")
}
