//! `hopbench history`: runs kept beside each other, looked through for changes, and drawn.

use std::path::{Path, PathBuf};

use anyhow::{Context, anyhow};
use hopbench::record::Run;

use super::report::run_file;
use super::{EXIT_GATE, EXIT_OK, usage};
use crate::history::commit::{self, Commit};
use crate::history::data_js::DataJs;
use crate::history::entry::Entry;
use crate::history::series::{self, Line, LineChange};
use crate::history::site;
use crate::history::store::{Added, Store};
use crate::report::significant;

/// Options of the history.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "A store is a folder of plain JSON files, one a run, made to live in a git branch.\n\n\
    Example:\n  \
    hopbench run --profile quick --out bench\n  \
    hopbench history add bench --store history\n  \
    hopbench history check --store history\n  \
    hopbench history render --store history --out site"
)]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Keep a run's figures; a run that is there already changes nothing
    Add(Add),
    /// Show the runs, and where a level changed
    List(Look),
    /// Fail when a figure has lately changed for the worse
    Check(Check),
    /// Draw the history as a static site, which opens from disk as from a server
    Render(Render),
    /// Take over the figures of a data.js of github-action-benchmark
    Import(Import),
    /// Write the figures into a data.js of github-action-benchmark
    Export(Export),
    /// Make index.json anew, as after a merge of two branches
    Index(Where),
}

/// The store.
#[derive(Debug, clap::Args)]
struct Where {
    /// The folder with the history
    #[arg(long, value_name = "DIR")]
    store: PathBuf,
}

#[derive(Debug, clap::Args)]
struct Add {
    /// A run's folder, or its run.json
    run: PathBuf,
    #[command(flatten)]
    place: Where,
    /// The commit that was measured, if not the one that hopbench was built from
    #[arg(long, value_name = "SHA")]
    commit: Option<String>,
    /// When it was committed, as 2026-01-02T03:04:05Z; its place on the axis. Otherwise, and so for the subject,
    /// what git says in the working directory
    #[arg(long, value_name = "TIME")]
    committed_at: Option<String>,
    /// First line of its message
    #[arg(long, value_name = "TEXT")]
    subject: Option<String>,
    /// Where to look at it
    #[arg(long, value_name = "URL")]
    url: Option<String>,
}

/// What of a store is looked at.
#[derive(Debug, clap::Args)]
struct Look {
    #[command(flatten)]
    place: Where,
    /// Only these metrics; may be given several times. The fewer figures are looked at, the sooner a
    /// change is told from chance
    #[arg(long = "metric", value_name = "KEY", value_delimiter = ',')]
    metrics: Vec<String>,
}

#[derive(Debug, clap::Args)]
#[command(
    after_help = "A change is a new level that at least three runs have, and that chance makes in one of twenty of those that are \
    told. Single outliers and slow drift are none.\n\n\
    Exit codes: 0 nothing changed for the worse; 1 something did; 2 wrong usage, or a damaged store."
)]
struct Check {
    #[command(flatten)]
    look: Look,
    /// How many of the newest runs of a line a change may be in to count
    #[arg(long, value_name = "RUNS", default_value_t = 10)]
    newest: usize,
    /// A change by less than this share of the level before is told, but does not fail
    #[arg(long, value_name = "SHARE", default_value_t = 0.01)]
    at_least: f64,
}

#[derive(Debug, clap::Args)]
struct Render {
    #[command(flatten)]
    look: Look,
    /// The folder for the pages, which is made if need be; begin with index.html
    #[arg(long, value_name = "SITE")]
    out: PathBuf,
    /// What it is called
    #[arg(
        long,
        value_name = "TEXT",
        default_value = "What it costs to secure a SIP hop, over time"
    )]
    title: String,
}

#[derive(Debug, clap::Args)]
struct Import {
    #[command(flatten)]
    place: Where,
    /// The data.js
    file: PathBuf,
}

#[derive(Debug, clap::Args)]
struct Export {
    #[command(flatten)]
    place: Where,
    /// The data.js; if it is there, suites of others stay in it
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// Address of the repository, for links to commits
    #[arg(long, value_name = "URL")]
    repository: Option<String>,
}

/// Keeps, shows, checks.
pub(crate) fn history(args: &Args) -> anyhow::Result<u8> {
    match &args.command {
        Command::Add(args) => add(args),
        Command::List(args) => list(args),
        Command::Check(args) => check(args),
        Command::Render(args) => render(args),
        Command::Import(args) => import(args),
        Command::Export(args) => export(args),
        Command::Index(place) => {
            Store::at(&place.store).index().map_err(usage)?;
            Ok(EXIT_OK)
        }
    }
}

fn add(args: &Add) -> anyhow::Result<u8> {
    let path = run_file(&args.run);
    let run = Run::read(&path).map_err(usage)?;
    if run.finished_at.is_none() {
        return Err(usage(anyhow!(
            "{}: expected a run that is complete, found one that was interrupted or goes on \
             (finished_at is null)",
            path.display()
        )));
    }
    let entry = Entry::of(&run, commit_of(args, &run)?);
    if entry.cells.is_empty() {
        return Err(usage(anyhow!(
            "{}: expected a cell that is ok, found none",
            path.display()
        )));
    }
    super::export::tell_left_out(&run);
    let store = Store::at(&args.place.store);
    let added = store.add(&entry).map_err(usage)?;
    let kept = store.index().map_err(usage)?.len();
    let word = match added {
        Added::New => "added",
        Added::Already => "is there already:",
    };
    super::print(&format!(
        "{word} {} of commit {}; {kept} runs in {}\n",
        entry.run_id,
        entry.commit.short(),
        args.place.store.display()
    ));
    Ok(EXIT_OK)
}

/// What the command line says of the commit, then what git says, then what the run says.
fn commit_of(args: &Add, run: &Run) -> anyhow::Result<Commit> {
    let is_built = args.commit.is_none() || args.commit == run.build.git_commit;
    let committed_at = args.committed_at.as_ref().map(|time| {
        commit::normalised(time).ok_or_else(|| {
            usage(anyhow!(
                "--committed-at: expected a time such as 2026-01-02T03:04:05Z, found {time:?}"
            ))
        })
    });
    let commit = Commit {
        id: args.commit.clone().or_else(|| run.build.git_commit.clone()),
        dirty: run.build.git_dirty.filter(|_| is_built),
        committed_at: committed_at.transpose()?,
        subject: args.subject.clone(),
        author: None,
        url: args.url.clone(),
    };
    Ok(commit.with_words_of_git(Path::new(".")))
}

/// The lines that are asked for, of all entries.
fn look(args: &Look) -> anyhow::Result<(Vec<Entry>, Vec<Line>)> {
    let entries = Store::at(&args.place.store).entries().map_err(usage)?;
    for metric in &args.metrics {
        if !entries
            .iter()
            .any(|entry| entry.metrics.contains_key(metric))
        {
            return Err(usage(unknown_metric(&entries, metric)));
        }
    }
    let is_wanted =
        |key: &series::Key| args.metrics.is_empty() || args.metrics.contains(&key.metric);
    let lines = series::lines(&entries, is_wanted);
    Ok((entries, lines))
}

fn unknown_metric(entries: &[Entry], asked: &str) -> anyhow::Error {
    let keys = entries.iter().flat_map(|entry| entry.metrics.keys());
    let near = |key: &&String| (strsim::jaro_winkler(key, asked) * 1e6) as u64;
    match keys.max_by_key(near) {
        Some(nearest) => {
            anyhow!("no run of the history has a metric `{asked}`; did you mean `{nearest}`?")
        }
        None => anyhow!("no run of the history has a metric `{asked}`: there are no runs"),
    }
}

fn list(args: &Look) -> anyhow::Result<u8> {
    let (entries, lines) = look(args)?;
    let mut text = format!("{} runs, oldest first\n", entries.len());
    for entry in &entries {
        let subject = entry.commit.subject.as_deref().unwrap_or_default();
        let line = format!(
            "{:8}  {}  {:28}  {}  {}  {subject}",
            entry.commit.short(),
            entry.place().0,
            entry.run_id,
            entry.profile,
            entry.environment_class
        );
        text += &format!("{}\n", line.trim_end());
    }
    let changes = newest_first(&entries, &lines);
    text += &format!(
        "\n{} changes on {} lines, newest first\n",
        changes.len(),
        lines.len()
    );
    for told in &changes {
        text += &told.words(&entries);
    }
    super::print(&text);
    Ok(EXIT_OK)
}

fn check(args: &Check) -> anyhow::Result<u8> {
    let (entries, lines) = look(&args.look)?;
    let is_new = |told: &&Told<'_>| told.change.at + args.newest >= told.line.points.len();
    let all = newest_first(&entries, &lines);
    let new: Vec<&Told<'_>> = all.iter().filter(is_new).collect();
    let fails =
        |told: &Told<'_>| told.change.is_worse && told.change.relative().abs() >= args.at_least;
    let mut text = format!(
        "{} runs, {} lines, {} changes within the newest {} runs\n",
        entries.len(),
        lines.len(),
        new.len(),
        args.newest
    );
    for told in &new {
        text += if fails(told) { "FAIL" } else { "    " };
        text += &told.words(&entries);
    }
    let failed = new.iter().filter(|told| fails(told)).count();
    text += &match failed {
        0 => "nothing has changed for the worse\n".to_owned(),
        count => format!("{count} have changed for the worse\n"),
    };
    super::print(&text);
    Ok(if failed == 0 { EXIT_OK } else { EXIT_GATE })
}

/// A change with its line.
struct Told<'a> {
    line: &'a Line,
    change: &'a LineChange,
}

fn newest_first<'a>(entries: &[Entry], lines: &'a [Line]) -> Vec<Told<'a>> {
    let changes_of = |line: &'a Line| line.changes.iter().map(move |change| Told { line, change });
    let mut told: Vec<Told<'a>> = lines.iter().flat_map(changes_of).collect();
    let place = |told: &Told<'_>| entries[told.first_run()].place();
    told.sort_by(|a, b| {
        let by_size = |told: &Told<'_>| told.change.relative().abs();
        place(b)
            .cmp(&place(a))
            .then(by_size(b).total_cmp(&by_size(a)))
    });
    told
}

impl Told<'_> {
    /// The first run of the new level.
    fn first_run(&self) -> usize {
        self.line.points[self.change.at].run
    }

    fn words(&self, entries: &[Entry]) -> String {
        let Self { line, change } = self;
        let first = &entries[self.first_run()];
        let before = &entries[line.points[change.at - 1].run];
        let kind = if line.key.is_ratio { " ratio" } else { "" };
        let mut words = format!(
            "  {} {:+.1} % ({} → {} {}) since {}: {}{kind} of {}, {}\n",
            if change.is_worse { "worse " } else { "better" },
            100.0 * change.relative(),
            significant(change.change.before),
            significant(change.change.after),
            line.unit,
            first.commit.short(),
            line.key.metric,
            line.key.stack,
            line.key.question,
        );
        let differences = series::differences(before, first);
        if !differences.is_empty() {
            words += &format!("         with it changed {}\n", differences.join(", "));
        }
        words
    }
}

fn render(args: &Render) -> anyhow::Result<u8> {
    let (entries, lines) = look(&args.look)?;
    std::fs::create_dir_all(&args.out)
        .with_context(|| format!("cannot make the folder {}", args.out.display()))?;
    for file in site::render(&args.title, &entries, &lines) {
        let path = args.out.join(&file.name);
        std::fs::write(&path, &file.text)
            .with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(EXIT_OK)
}

fn import(args: &Import) -> anyhow::Result<u8> {
    let data = read_data_js(&args.file)?;
    let named = |error| usage(anyhow!("{}: {error}", args.file.display()));
    let entries = data.entries().map_err(named)?;
    let store = Store::at(&args.place.store);
    let mut new = 0;
    for entry in &entries {
        new += usize::from(store.add(entry).map_err(usage)? == Added::New);
    }
    let kept = store.index().map_err(usage)?.len();
    super::print(&format!(
        "{new} runs added, {} were there already; {kept} runs in {}\n",
        entries.len() - new,
        args.place.store.display()
    ));
    Ok(EXIT_OK)
}

fn export(args: &Export) -> anyhow::Result<u8> {
    let entries = Store::at(&args.place.store).entries().map_err(usage)?;
    let before = args
        .out
        .exists()
        .then(|| read_data_js(&args.out))
        .transpose()?;
    let data = DataJs::with_entries(before, &entries, args.repository.as_deref());
    std::fs::write(&args.out, data.text())
        .with_context(|| format!("cannot write {}", args.out.display()))?;
    Ok(EXIT_OK)
}

fn read_data_js(path: &Path) -> anyhow::Result<DataJs> {
    let text = std::fs::read_to_string(path)
        .map_err(|error| usage(anyhow!("cannot read {}: {error}", path.display())))?;
    DataJs::parse(&text).map_err(|error| usage(anyhow!("{}: {error}", path.display())))
}
