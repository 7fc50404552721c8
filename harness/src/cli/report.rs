//! `hopbench report`: renders a run again.

use std::path::{Path, PathBuf};

use anyhow::{Context, anyhow};
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

    /// Reports and charts of the reference runs are those of their run.json, to the byte.
    #[test]
    fn reference_runs_are_committed_as_rendered() {
        for name in ["quick", "standard"] {
            let committed = root().join("results/reference").join(name);
            let run = Run::read(&committed.join("run.json")).expect("a reference run");
            let rendered = tempfile::tempdir().expect("a folder");
            report::write_all(&run, rendered.path()).expect("it can be written");
            // The page is not committed; that it is always the same is asserted in tests/report_html.rs.
            std::fs::remove_file(rendered.path().join(report::PAGE)).expect("it was rendered");
            for file in files(rendered.path()) {
                let relative = file
                    .strip_prefix(rendered.path())
                    .expect("it lies in there");
                assert!(
                    text(&committed.join(relative)) == text(&file),
                    "{name}/{} is not what its run.json renders to: run scripts/render",
                    relative.display()
                );
            }
            let is_page = |file: &PathBuf| file.ends_with(report::PAGE);
            let committed = files(&committed).into_iter().filter(|file| !is_page(file));
            assert_eq!(
                committed.count(),
                files(rendered.path()).len() + 1,
                "{name}"
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
