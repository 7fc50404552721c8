//! The main job under `cargo bench`: runs the quick profile and prints the comparison, with where the
//! report lies. A target of the harness package, so that Cargo builds the binary first.

use std::path::Path;
use std::process::{Command, ExitCode};

fn main() -> ExitCode {
    // `cargo bench` passes `--bench`. Without it somebody wants to know whether benches run at all
    // (`cargo test --benches`); a name that is not ours is somebody else's filter.
    let mut is_bench = false;
    let mut is_wanted = true;
    for argument in std::env::args().skip(1) {
        match argument.as_str() {
            "--bench" => is_bench = true,
            flag if flag.starts_with('-') => {}
            filter => is_wanted = "hops".contains(filter),
        }
    }
    if !(is_bench && is_wanted) {
        return ExitCode::SUCCESS;
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .unwrap_or(Path::new("."));
    let status = Command::new(env!("CARGO_BIN_EXE_hopbench"))
        .args(["run", "--profile", "quick"])
        .current_dir(root)
        .status();
    match status {
        Ok(status) => ExitCode::from(
            status
                .code()
                .and_then(|code| u8::try_from(code).ok())
                .unwrap_or(1),
        ),
        Err(error) => {
            eprintln!("cannot start hopbench: {error}");
            ExitCode::FAILURE
        }
    }
}
