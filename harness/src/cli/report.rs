//! `hopbench report`: renders a run again.

use std::path::{Path, PathBuf};

use hopbench::record::Run;

use super::{EXIT_OK, usage};
use crate::report::{self, Format};

/// Options of the report.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// A run's folder, or its run.json
    run: PathBuf,
    /// What to print
    #[arg(long, value_enum, default_value_t = Format::Table)]
    format: Format,
    /// Instead of printing, write report.md and the charts into this folder
    #[arg(long, value_name = "FOLDER", conflicts_with = "format")]
    write: Option<PathBuf>,
}

/// Renders a run.
pub(crate) fn report(args: &Args) -> anyhow::Result<u8> {
    let run = Run::read(&run_file(&args.run)).map_err(usage)?;
    match &args.write {
        Some(folder) => report::write_all(&run, folder)?,
        None => super::print(&report::render(
            &run,
            args.format,
            super::run::wants_colour(),
        )),
    }
    Ok(EXIT_OK)
}

/// The run.json of a run's folder.
fn run_file(path: &Path) -> PathBuf {
    if path.is_dir() {
        path.join("run.json")
    } else {
        path.to_owned()
    }
}
