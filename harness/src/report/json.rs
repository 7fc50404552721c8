//! The run as indented JSON: the same data as `run.json`. A renderer.

use hopbench::record::Run;

/// The run, as it would be written to `run.json`.
pub(super) fn render(run: &Run) -> String {
    run.to_json()
}
