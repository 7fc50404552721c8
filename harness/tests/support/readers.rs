//! Readers of our files that others wrote, in Python: `tests/readers`.

use std::path::Path;
use std::process::Command;

use super::peers::skip;
use super::{stderr, stdout};

/// Debian's own, which finds Debian's modules.
const PYTHON: &str = "/usr/bin/python3";
const PYTHON_PACKAGES: &str = "python3-jsonschema python3-prometheus-client";

/// Runs a Python program of `tests/readers`; `None` when Python or its modules are missing and may be.
pub fn python(script: &str, args: &[&Path]) -> Option<std::process::Output> {
    let modules = [
        "-c",
        "import jsonschema, prometheus_client.openmetrics.parser",
    ];
    let has_modules = Command::new(PYTHON).args(modules).output();
    if !has_modules.is_ok_and(|output| output.status.success()) {
        skip(&format!(
            "{PYTHON} or a module is missing: `apt-get install {PYTHON_PACKAGES}` on Debian provides them"
        ));
        return None;
    }
    let script = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/readers")
        .join(script);
    Some(
        Command::new(PYTHON)
            .arg(script)
            .args(args)
            .output()
            .unwrap(),
    )
}

/// Asserts that `files` are JSON of `schema`, a file beside the programs.
pub fn assert_valid(schema: &str, files: &[&Path]) {
    let schema = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/readers")
        .join(schema);
    let mut args = vec![schema.as_path()];
    args.extend(files);
    if let Some(output) = python("validate.py", &args) {
        assert!(
            output.status.success(),
            "{}{}",
            stdout(&output),
            stderr(&output)
        );
    }
}
