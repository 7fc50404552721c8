//! `hopbench export`: a run in the formats of other programs.

use std::path::PathBuf;

use anyhow::{Context, anyhow};
use hopbench::record::Run;

use super::report::run_file;
use super::{EXIT_OK, usage};
use crate::export::Format;
use crate::figures;
use crate::report::verdict_word;

/// Options of the export.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Figures keep the unit that their metric's key ends in. Cells that are not ok (generator-bound, failed) \
    are in no file whose reader would take them for sound; standard error says which ones were left out.\n\n\
    Examples:\n  \
    hopbench export results/latest --format csv > metrics.csv\n  \
    hopbench export results/latest --format github-action-benchmark --out bench\n  \
    hopbench export results/latest --format prometheus --out /var/lib/node_exporter"
)]
pub(crate) struct Args {
    /// A run's folder, or its run.json
    run: PathBuf,
    /// What to write
    #[arg(long, value_enum)]
    format: Format,
    /// Write the format's files into this folder, which is made if need be; without it, print the
    /// file, of formats that have one
    #[arg(long, value_name = "FOLDER")]
    out: Option<PathBuf>,
}

/// Exports a run.
pub(crate) fn export(args: &Args) -> anyhow::Result<u8> {
    let path = run_file(&args.run);
    let run = Run::read(&path).map_err(usage)?;
    let files = args.format.exporter().export(&run);
    let files = files.map_err(|error| usage(anyhow!("{}: {error}", path.display())))?;
    if let Some(folder) = &args.out {
        std::fs::create_dir_all(folder)
            .with_context(|| format!("cannot make the folder {}", folder.display()))?;
        for file in &files {
            let path = folder.join(&file.name);
            std::fs::write(&path, &file.text)
                .with_context(|| format!("cannot write {}", path.display()))?;
        }
    } else if let [file] = files.as_slice() {
        super::print(&file.text);
    } else {
        let count = files.len();
        return Err(usage(anyhow!(
            "this run is {count} files in this format: name a folder for them with --out FOLDER"
        )));
    }
    if !args.format.tells_verdicts() {
        tell_left_out(&run);
    }
    Ok(EXIT_OK)
}

/// Says which cells have no figure because of their verdict.
pub(super) fn tell_left_out(run: &Run) {
    for cell in figures::left_out(run) {
        let verdict = verdict_word(cell.verdict);
        eprintln!("hopbench: left out, since it is {verdict}: {}", cell.id);
    }
}
