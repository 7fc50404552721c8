//! Headless Chromium, driven by `tests/browser/visit.mjs`: what a page says of itself once it is loaded.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use super::peers::{Program, skip, turn};

const CHROMIUM: Program = Program {
    name: "chromium",
    packages: "chromium",
};
const NODE: Program = Program {
    name: "node",
    packages: "nodejs npm",
};

/// A browser that is there, and its driver.
pub struct Browser {
    chromium: PathBuf,
    folder: PathBuf,
}

impl Browser {
    /// `None` where something is missing and may be.
    pub fn find() -> Option<Self> {
        let (turn_of_node, _) = turn(&NODE)?;
        drop(turn_of_node);
        let (turn_of_chromium, chromium) = turn(&CHROMIUM)?;
        drop(turn_of_chromium);
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/browser");
        if !folder.join("node_modules/axe-core").is_dir() {
            skip(&format!(
                "playwright-core and axe-core are not installed: `npm ci --prefix {}` does it",
                folder.display()
            ));
            return None;
        }
        Some(Self { chromium, folder })
    }

    /// What `visit.mjs` tells of `page`, with its options.
    pub fn visit(&self, page: &Path, options: &[&str]) -> Value {
        let output = Command::new("node")
            .arg(self.folder.join("visit.mjs"))
            .arg(page)
            .args(options)
            .env("HOPBENCH_CHROMIUM", &self.chromium)
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{}: {said}", page.display());
        serde_json::from_slice(&output.stdout).unwrap()
    }
}

/// Asserts that the page complains of nothing, loads nothing, and is as wide as the window.
pub fn assert_quiet(told: &Value) {
    assert_eq!(told["complaints"], serde_json::json!([]), "{told}");
    assert_eq!(told["requests"], serde_json::json!([]), "{told}");
    assert_eq!(told["overflow_px"], 0, "{told}");
}

/// Asserts that axe-core found nothing serious.
pub fn assert_accessible(told: &Value) {
    let violations = told["violations"].as_array().unwrap();
    let serious: Vec<&Value> = violations
        .iter()
        .filter(|it| it["impact"] == "serious" || it["impact"] == "critical")
        .collect();
    assert!(serious.is_empty(), "{serious:#?}");
}
