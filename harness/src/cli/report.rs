//! `hopbench report`: renders a run again.

use std::path::{Path, PathBuf};

use anyhow::{Context, anyhow};
use hopbench::record::Run;

use super::{EXIT_OK, usage};
use crate::report::{self, Format};

/// Options of the report.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  \
    hopbench report results/latest                      the tables, for a terminal\n  \
    hopbench report results/latest --format markdown > report.md\n  \
    hopbench report results/reference/quick --write results/reference/quick\n\n\
    Exit codes: 0 rendered; 1 it could not be written; 2 wrong usage, or a file that is no run.")]
pub(crate) struct Args {
    /// A run's folder, or its run.json
    run: PathBuf,
    /// What to print
    #[arg(long, value_enum, default_value_t = Format::Table)]
    format: Format,
    /// Instead of printing, write report.md, report.html and the charts into this folder
    #[arg(long, value_name = "FOLDER", conflicts_with = "format")]
    write: Option<PathBuf>,
    /// Instead of printing, replace the excerpt in a Markdown document, between the lines that begin
    /// with `<!-- hopbench:begin` and `<!-- hopbench:end`; name the run's folder as the document does
    #[arg(long, value_name = "DOCUMENT", conflicts_with_all = ["format", "write"])]
    insert_into: Option<PathBuf>,
}

/// Renders a run.
pub(crate) fn report(args: &Args) -> anyhow::Result<u8> {
    let run = Run::read(&run_file(&args.run)).map_err(usage)?;
    if let Some(folder) = &args.write {
        report::write_all(&run, folder)?;
    } else if let Some(document) = &args.insert_into {
        insert(&run, &args.run, document)?;
    } else {
        super::print(&report::render(
            &run,
            args.format,
            super::run::wants_colour(),
        ));
    }
    Ok(EXIT_OK)
}

/// The run.json of a run's folder.
pub(super) fn run_file(path: &Path) -> PathBuf {
    if path.is_dir() {
        path.join("run.json")
    } else {
        path.to_owned()
    }
}

const BEGIN: &str = "<!-- hopbench:begin";
const END: &str = "<!-- hopbench:end";

fn insert(run: &Run, folder: &Path, document: &Path) -> anyhow::Result<()> {
    let text = std::fs::read_to_string(document)
        .with_context(|| format!("cannot read {}", document.display()))?;
    let excerpt = report::excerpt(run, folder.to_string_lossy().trim_end_matches('/'));
    let text = replaced(&text, &excerpt).ok_or_else(|| {
        usage(anyhow!(
            "{} has no place for the excerpt: expected a line that begins with `{BEGIN}` and after \
             it one that begins with `{END}`",
            document.display()
        ))
    })?;
    std::fs::write(document, text).with_context(|| format!("cannot write {}", document.display()))
}

/// `text` with `excerpt` between the marks; `None` without marks.
fn replaced(text: &str, excerpt: &str) -> Option<String> {
    let begin = text.find(BEGIN)?;
    let after_begin = begin + text[begin..].find('\n')? + 1;
    let end = after_begin + text[after_begin..].find(END)?;
    Some(format!(
        "{}\n{excerpt}\n{}",
        &text[..after_begin],
        &text[end..]
    ))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn root() -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
    }

    fn text(path: &Path) -> String {
        std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
    }

    /// Every file of a folder and of the folders in it.
    fn files(folder: &Path) -> Vec<PathBuf> {
        let entries = std::fs::read_dir(folder)
            .expect("a folder")
            .map(|entry| entry.expect("it is readable").path());
        entries
            .flat_map(|path| {
                if path.is_dir() {
                    files(&path)
                } else {
                    vec![path]
                }
            })
            .collect()
    }

    /// Reports and charts of all reference runs are those of their run.json, to the byte.
    #[test]
    fn reference_runs_are_committed_as_rendered() {
        let reference = std::fs::read_dir(root().join("results/reference")).expect("a folder");
        let committed: Vec<PathBuf> = reference
            .map(|entry| entry.expect("it is readable").path())
            .collect();
        assert!(committed.len() >= 7, "{committed:?}");
        std::thread::scope(|scope| {
            for folder in &committed {
                scope.spawn(|| assert_rendered(folder));
            }
        });
    }

    fn assert_rendered(committed: &Path) {
        let run = Run::read(&committed.join("run.json")).expect("a reference run");
        let rendered = tempfile::tempdir().expect("a folder");
        report::write_all(&run, rendered.path()).expect("it can be written");
        let names = |folder: &Path| -> BTreeSet<PathBuf> {
            let files = files(folder).into_iter();
            let relative = files.map(|file| file.strip_prefix(folder).expect("beneath").to_owned());
            // The page is not committed; that it is always the same is asserted in tests/report_html.rs.
            relative
                .filter(|name| name != Path::new("run.json") && name != Path::new(report::PAGE))
                .collect()
        };
        let of_run = names(rendered.path());
        assert_eq!(
            names(committed),
            of_run,
            "{}: run scripts/render",
            committed.display()
        );
        for name in of_run {
            assert!(
                text(&committed.join(&name)) == text(&rendered.path().join(&name)),
                "{} of {} is not what its run.json renders to: run scripts/render",
                name.display(),
                committed.display()
            );
        }
    }

    /// So are the figures in README.
    #[test]
    fn readme_is_committed_as_rendered() {
        let folder = "results/reference/tunnels";
        let run = Run::read(&root().join(folder).join("run.json")).expect("a reference run");
        let readme = text(&root().join("README.md"));
        assert!(
            replaced(&readme, &report::excerpt(&run, folder)).as_ref() == Some(&readme),
            "README.md is not what {folder} renders to: run scripts/render"
        );
    }

    #[test]
    fn an_excerpt_replaces_what_stood_between_the_marks() {
        let text = "a\n<!-- hopbench:begin x -->\nold\n<!-- hopbench:end -->\nb\n";
        let once = replaced(text, "new\n").expect("there are marks");
        assert_eq!(
            once,
            "a\n<!-- hopbench:begin x -->\n\nnew\n\n<!-- hopbench:end -->\nb\n"
        );
        assert_eq!(replaced(&once, "new\n").as_ref(), Some(&once));
        assert_eq!(replaced("no marks", "new"), None);
        assert_eq!(
            replaced("<!-- hopbench:end -->\n<!-- hopbench:begin -->\n", "new"),
            None
        );
    }
}
