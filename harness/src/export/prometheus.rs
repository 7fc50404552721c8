//! The text format of Prometheus, version 0.0.4. An exporter; a textfile collector takes the file as it is.

use std::fmt::Write as _;

use hopbench::record::Run;

use super::exposition::{self, Kind};
use super::{ExportError, Exporter, File};

/// The exporter.
pub(super) struct Prometheus;

impl Exporter for Prometheus {
    fn export(&self, run: &Run) -> Result<Vec<File>, ExportError> {
        let mut text = String::new();
        for family in exposition::families(run)? {
            // There is no type for labels alone: by convention they are a gauge that is 1.
            let (suffix, kind) = match family.kind {
                Kind::Gauge => ("", "gauge"),
                Kind::Info => ("_info", "gauge"),
                Kind::Summary => ("", "summary"),
            };
            let name = &family.name;
            let help = family.help.replace('\\', "\\\\").replace('\n', "\\n");
            let _ = writeln!(text, "# HELP {name}{suffix} {help}");
            let _ = writeln!(text, "# TYPE {name}{suffix} {kind}");
            exposition::write_samples(&mut text, &family);
        }
        Ok(vec![File {
            name: "hopbench.prom".to_owned(),
            text,
        }])
    }
}
