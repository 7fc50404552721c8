//! OpenMetrics 1.0. An exporter. Beside Prometheus' text it knows units and labels alone, and it says where it
//! ends, so that a reader notices half a file.

use std::fmt::Write as _;

use hopbench::record::Run;

use super::exposition::{self, Kind};
use super::{ExportError, Exporter, File};

/// The exporter.
pub(super) struct OpenMetrics;

impl Exporter for OpenMetrics {
    fn export(&self, run: &Run) -> Result<Vec<File>, ExportError> {
        let mut text = String::new();
        for family in exposition::families(run)? {
            let kind = match family.kind {
                Kind::Gauge => "gauge",
                Kind::Info => "info",
                Kind::Summary => "summary",
            };
            let name = &family.name;
            let help = family
                .help
                .replace('\\', "\\\\")
                .replace('\n', "\\n")
                .replace('"', "\\\"");
            let _ = writeln!(text, "# TYPE {name} {kind}");
            if let Some(unit) = family.unit {
                let _ = writeln!(text, "# UNIT {name} {unit}");
            }
            let _ = writeln!(text, "# HELP {name} {help}");
            exposition::write_samples(&mut text, &family);
        }
        text.push_str("# EOF\n");
        Ok(vec![File {
            name: "hopbench.om".to_owned(),
            text,
        }])
    }
}
