//! Programs that others wrote, for the tests against them: found, or said what to install.
//!
//! A test that lacks a program says so and passes, unless `HOPBENCH_REQUIRE_PEERS` is `1`, as it is
//! in CI: then it fails. Nothing is ever installed here.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Set to `1`, a missing program is a failure.
const REQUIRE: &str = "HOPBENCH_REQUIRE_PEERS";

/// A program of somebody else.
pub struct Program {
    /// As it is called on a command line.
    pub name: &'static str,
    /// The Debian packages that it takes.
    pub packages: &'static str,
}

pub const SIPP: Program = Program {
    name: "sipp",
    packages: "sip-tester",
};
pub const KAMAILIO: Program = Program {
    name: "kamailio",
    packages: "kamailio kamailio-tls-modules",
};
pub const TSHARK: Program = Program {
    name: "tshark",
    packages: "tshark",
};
pub const OPENSSL: Program = Program {
    name: "openssl",
    packages: "openssl",
};

/// Held by one test of a binary at a time: peers load the machine, and calls that wait for a
/// processor are repeated.
static TURN: Mutex<()> = Mutex::new(());

/// The turn of a test that needs `program`, and where it lies; `None` when it is missing and may be.
///
/// # Panics
/// When it is missing and `HOPBENCH_REQUIRE_PEERS` is `1`.
pub fn turn(program: &Program) -> Option<(MutexGuard<'static, ()>, PathBuf)> {
    let Some(path) = find(program) else {
        let Program { name, packages } = program;
        let advice =
            format!("{name} is not installed: `apt-get install {packages}` on Debian provides it");
        assert!(!is_required(), "{advice} ({REQUIRE} is 1)");
        eprintln!("skipped: {advice}");
        return None;
    };
    // A test that failed has ended what it started: its turn is over like any other.
    let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    Some((turn, path))
}

fn is_required() -> bool {
    std::env::var_os(REQUIRE).is_some_and(|value| value == "1")
}

/// Daemons lie where an ordinary user's path does not lead.
fn find(program: &Program) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let system = ["/usr/sbin", "/sbin"].map(PathBuf::from);
    std::env::split_paths(&path)
        .chain(system)
        .map(|folder| folder.join(program.name))
        .find(|file| is_executable(file))
}

fn is_executable(file: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    std::fs::metadata(file)
        .is_ok_and(|found| found.is_file() && found.permissions().mode() & 0o111 != 0)
}
