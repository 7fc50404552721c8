//! `hopbench run`: measures, writes the run's folder, and prints the comparison.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use anstream::{AutoStream, ColorChoice};
use anyhow::{Context, bail, ensure};
use clap::ValueHint;
use hopbench::record::{Cell, Run, SCHEMA, Verdict};
use hopbench::transport::{KeyType, Settings, TlsOptions, TlsSettings, WireguardKeys};

use super::gate::without_base;
use super::link::PathArgs;
use super::tunnel::TunnelArgs;
use super::{
    EXIT_ERROR, EXIT_FAILED_CELLS, EXIT_GATE, EXIT_INTERRUPTED, EXIT_OK, dry_run, names, usage,
};
use crate::environment;
use crate::experiment::{self, Bench, Conduct, Experiment, Trial};
use crate::gate::{self, Gate, Outcome, Runs};
use crate::interrupt;
use crate::lab;
use crate::limits::{self, Readings, Unmet};
use crate::progress::Progress;
use crate::report::{self, Format};
use crate::scenario::{PROFILES, Scenario};
use crate::testbed::{Captures, Placement, Testbed};
use crate::variant::{Handicap, Variant};

/// Options of a run.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  \
    hopbench run                                        a look: every stack, most questions\n  \
    hopbench run --profile standard                     figures to argue with: most of an hour\n  \
    hopbench run --stacks tcp,tls --experiments setup   one question, two stacks\n  \
    hopbench run scenario.toml --out results/mine       what you choose: harness/scenarios has examples\n  \
    hopbench run --profile full --dry-run               what that would measure, and how long it takes\n  \
    hopbench run --quiet --json | jq '.ratios[0]'       for programs\n\n\
    Ctrl-C stops a run and keeps what was measured; `hopbench report results/latest` shows it again, \
    `hopbench list` names all stacks, profiles, experiments and metrics.\n\n\
    Exit codes: 0 all cells ok; 1 the run could not be made, or every cell is unsupported, or a gate fails; 2 wrong usage or scenario; \
    3 some cells failed; 130 interrupted, what was measured is on disk.")]
pub(crate) struct Args {
    /// A scenario file; without one, the profile's built-in scenario
    #[arg(help_heading = WHAT, value_hint = ValueHint::FilePath)]
    scenario: Option<PathBuf>,
    /// Built-in scenario: quick takes a few minutes, standard most of an hour, full is for publication, scale takes
    /// an hour; `hopbench list profiles` says what is in them
    #[arg(long, help_heading = WHAT, default_value = "quick", value_parser = names::profiles(), conflicts_with = "scenario")]
    profile: String,
    /// Only these stacks; a ratio needs its control as well
    #[arg(long, help_heading = WHAT, value_delimiter = ',', value_name = "STACK,…", value_parser = names::measured_stacks())]
    stacks: Vec<String>,
    /// Between proxies, these stacks, each with every stack at the edge; without it, the same as at
    /// the edge
    #[arg(long = "core-stack", help_heading = WHAT, value_delimiter = ',', value_name = "STACK,…", value_parser = names::stacks(), hide_possible_values = true)]
    core_stacks: Vec<String>,
    /// Only these experiments
    #[arg(long, help_heading = WHAT, value_delimiter = ',', value_name = "EXPERIMENT,…", value_parser = names::experiments())]
    experiments: Vec<String>,
    /// Seed of arrivals and order
    #[arg(long, help_heading = WHAT, default_value_t = 1)]
    seed: u64,
    /// Folder for the run's files; by default results/runs/RUN_ID, with results/latest pointing at it
    #[arg(long, help_heading = OUTPUT, value_name = "FOLDER", value_hint = ValueHint::DirPath)]
    out: Option<PathBuf>,
    /// No progress, no table; the files are written all the same, and what fails is said
    #[arg(long, help_heading = OUTPUT)]
    quiet: bool,
    /// Go on measuring until the 95 % interval of every ratio is within ±5 %, or so long, for example 10m;
    /// the scenario's numbers of blocks are the least then
    #[arg(long, help_heading = WHAT, value_name = "DURATION", value_parser = humantime::parse_duration)]
    budget: Option<Duration>,
    /// Say which cells would be measured and about how long that takes, and measure nothing
    #[arg(long, help_heading = WHAT, conflicts_with_all = ["json", "out"])]
    dry_run: bool,
    /// Instead of the table, print the run: what is in its run.json, and nothing else
    #[arg(long, help_heading = OUTPUT)]
    json: bool,
    /// What must hold of the figures, beside the gates of the scenario; may be given several times.
    /// `hopbench gate --help` has the grammar
    #[arg(long = "gate", help_heading = OUTPUT, value_name = "EXPR")]
    gates: Vec<Gate>,
    /// Have every node burn this share of its own processor time on top, to see whether a comparison
    /// finds it; each cell records it
    #[arg(long, hide = true, value_name = "RATIO")]
    handicap_server: Option<f64>,
    /// The same of the generator
    #[arg(long, hide = true, value_name = "RATIO")]
    handicap_generator: Option<f64>,
    #[command(flatten)]
    path: PathArgs,
    #[command(flatten)]
    tunnel: TunnelArgs,
}

/// Heading of the options that say what is measured.
const WHAT: &str = "What to measure";
/// Heading of the options that say where it goes, and what is expected of it.
const OUTPUT: &str = "Output";

/// Whether standard output wants colour: on terminals, unless `NO_COLOR` or `CLICOLOR=0` is set; with
/// `CLICOLOR_FORCE` everywhere.
pub(crate) fn wants_colour() -> bool {
    match AutoStream::choice(&std::io::stdout()) {
        ColorChoice::Never => false,
        ColorChoice::Auto | ColorChoice::AlwaysAnsi | ColorChoice::Always => true,
    }
}

/// Measures.
pub(crate) fn run(args: &Args) -> anyhow::Result<u8> {
    let scenario = args.scenario().map_err(usage)?;
    let handicap = args.handicap().map_err(usage)?;
    let experiments = experiment::experiments(&scenario.plan, &args.experiments).map_err(usage)?;
    if experiments.is_empty() {
        return Err(usage(anyhow::anyhow!(
            "nothing to measure: the scenario {} has none of the experiments asked for",
            scenario.plan.name
        )));
    }
    let gates = args.gates(&scenario, &experiments).map_err(usage)?;
    limits::raise_descriptor_limit();
    let machine = Readings::of_this_machine();
    if args.dry_run {
        super::print(&dry_run::text(&experiments, &machine, args.budget));
        return Ok(EXIT_OK);
    }
    check_limits(&experiments, &machine)?;
    let undertaking = Undertaking {
        profile: &scenario.plan.name,
        scenario_sha256: &scenario.sha256,
        seed: args.seed,
        out: args.out.as_deref(),
        is_quiet: args.quiet,
        handicap,
        budget: args.budget,
        captures: args.path.captures()?,
    };
    let (run, folder, conduct) = measure(experiments, machine, undertaking)?;
    if args.json {
        super::print(&report::render(&run, Format::Json, false));
    } else if !args.quiet {
        super::print(&report::render(&run, Format::Table, wants_colour()));
        super::print(&format!(
            "\nreport: {}\n",
            folder.join(report::PAGE).display()
        ));
    }
    let holds = conduct == Conduct::Interrupted || hold(&gates, &run, args);
    Ok(exit_code(&run, conduct, holds))
}

/// A run to be made: what its record says of it, and where it goes.
pub(super) struct Undertaking<'a> {
    pub(super) profile: &'a str,
    pub(super) scenario_sha256: &'a str,
    pub(super) seed: u64,
    /// Without one, `results/runs/RUN_ID`.
    pub(super) out: Option<&'a Path>,
    pub(super) is_quiet: bool,
    pub(super) handicap: Handicap,
    /// How long it may take, where experiments go on until their ratios are narrow.
    pub(super) budget: Option<Duration>,
    /// Of what passes the links of labs.
    pub(super) captures: Option<Captures>,
}

/// Measures `experiments` and writes the run's folder, whose path it returns.
pub(super) fn measure(
    experiments: Vec<Experiment>,
    machine: Readings,
    undertaking: Undertaking<'_>,
) -> anyhow::Result<(Run, PathBuf, Conduct)> {
    // Before there is a second thread.
    let lab = wants_lab(&experiments).then(lab::acquire);
    let lab = lab.map(|lab| lab.map_err(|error| error.to_string()));
    if let Some(Err(reason)) = &lab {
        eprintln!("unsupported: every cell of the lab: {reason}");
    }
    interrupt::watch()?;
    let settings = Settings {
        wireguard: Some(WireguardKeys::generate(0)),
        ..Settings::default()
    };
    let certificates = certificates(&experiments)?;
    let testbed = Testbed::new(Placement::of_this_machine())?
        .handicapped(undertaking.handicap)
        .with_lab(lab)
        .capturing(undertaking.captures);
    let trials = experiments.iter().flat_map(|experiment| &experiment.trials);
    let seconds: f64 = trials.map(Trial::expected_seconds).sum();
    let seconds = undertaking
        .budget
        .map_or(seconds, |budget| seconds.min(budget.as_secs_f64()));
    let progress = Progress::new(seconds, undertaking.is_quiet);
    let bench = Bench {
        testbed: &testbed,
        settings: &settings,
        certificates: &certificates,
        machine,
        progress: &progress,
        seed: undertaking.seed,
        budget: undertaking.budget,
    };
    let mut run = Run {
        schema: SCHEMA.into(),
        run_id: run_id(),
        started_at: now(),
        finished_at: None,
        profile: undertaking.profile.to_owned(),
        seed: undertaking.seed,
        scenario_sha256: undertaking.scenario_sha256.to_owned(),
        interleaving: None,
        build: environment::build(),
        environment: environment::environment(),
        cells: Vec::new(),
        ratios: Vec::new(),
    };
    let folder = Folder::create(undertaking.out, &run.run_id)?;
    run.write(&folder.run_file())?;
    let conduct = experiment::conduct(experiments, &bench, |cells, ratios| {
        run.cells = cells.to_vec();
        run.ratios = ratios.to_vec();
        Ok(run.write(&folder.run_file())?)
    })?;
    progress.finish();
    if conduct == Conduct::Complete {
        run.finished_at = Some(now());
        run.write(&folder.run_file())?;
    }
    report::write_all(&run, &folder.path)?;
    folder.point_latest()?;
    Ok((run, folder.path, conduct))
}

/// Whether packets of one of them go through the lab.
fn wants_lab(experiments: &[Experiment]) -> bool {
    let mut trials = experiments.iter().flat_map(|experiment| &experiment.trials);
    trials.any(|trial| trial.subject.site.path.links().is_some())
}

/// Whether the gates hold of the run; says so, with what fails even when `quiet`. A gate that does not say
/// which cell it means holds of none.
fn hold(gates: &[Gate], run: &Run, args: &Args) -> bool {
    let runs = Runs {
        head: run,
        base: None,
    };
    let mut outcomes = Vec::new();
    let mut are_clear = true;
    for gate in gates {
        match gate.check(runs) {
            Ok(outcome) => outcomes.push(outcome),
            Err(error) => {
                are_clear = false;
                eprintln!("hopbench: {error}");
            }
        }
    }
    let all_hold = outcomes.iter().all(Outcome::holds);
    let is_told = !args.quiet || !all_hold;
    if is_told && !outcomes.is_empty() {
        let table = format!("\n{}", gate::table(&outcomes));
        if args.json {
            eprint!("{table}");
        } else {
            super::print(&table);
        }
    }
    are_clear && all_hold
}

/// Says before anything starts which cells the machine cannot run; they become `unsupported`.
///
/// # Errors
/// When it can run none.
fn check_limits(experiments: &[Experiment], machine: &Readings) -> anyhow::Result<()> {
    let trials = experiments.iter().flat_map(|experiment| &experiment.trials);
    let unmet: Vec<(String, Unmet)> = trials
        .clone()
        .filter_map(|trial| Some((trial.subject.id.to_string(), trial.unmet(machine)?)))
        .collect();
    let lines = limits::lines(&unmet);
    if unmet.len() == trials.count() {
        bail!("this machine does not suffice\n{}", lines.join("\n"));
    }
    for line in lines {
        eprintln!("unsupported: {line}");
    }
    Ok(())
}

/// Certificates for each kind of key that is asked for, made now and never stored.
pub(super) fn certificates(
    experiments: &[Experiment],
) -> anyhow::Result<BTreeMap<KeyType, TlsSettings>> {
    let trials = experiments.iter().flat_map(|experiment| &experiment.trials);
    let kinds: BTreeSet<KeyType> = trials
        .map(|trial| trial.subject.site.variant.tls.key_type)
        .collect();
    let generated = kinds.into_iter().map(|key_type| {
        let options = TlsOptions {
            key_type,
            ..TlsOptions::default()
        };
        Ok((key_type, TlsSettings::generate(&options)?))
    });
    generated.collect()
}

/// RFC 3339, UTC.
fn now() -> String {
    humantime::format_rfc3339_seconds(SystemTime::now()).to_string()
}

/// Sorts by time, and differs between runs that start in the same second.
pub(super) fn run_id() -> String {
    let digits: String = now().chars().filter(char::is_ascii_alphanumeric).collect();
    let suffix: u16 = rand::random();
    format!("{digits}-{suffix:04x}")
}

pub(super) fn exit_code(run: &Run, conduct: Conduct, gates_hold: bool) -> u8 {
    let is_unsupported = |cell: &Cell| cell.verdict == Verdict::Unsupported;
    let has_failed = run.cells.iter().any(|cell| cell.verdict == Verdict::Failed);
    match conduct {
        Conduct::Interrupted => EXIT_INTERRUPTED,
        Conduct::Complete if !gates_hold => EXIT_GATE,
        Conduct::Complete if has_failed => EXIT_FAILED_CELLS,
        Conduct::Complete if run.cells.iter().all(is_unsupported) => EXIT_ERROR,
        Conduct::Complete => EXIT_OK,
    }
}

impl Args {
    /// The scenario's gates and those of the command line, as far as can be told before anything is
    /// measured: they need no other run, and name cells that may come to be.
    fn gates(&self, scenario: &Scenario, experiments: &[Experiment]) -> anyhow::Result<Vec<Gate>> {
        let mut gates = scenario.plan.gates()?;
        gates.extend(self.gates.iter().cloned());
        without_base(&gates, "`hopbench compare` has one")?;
        let trials = experiments.iter().flat_map(|experiment| &experiment.trials);
        let planned: Vec<Cell> = trials
            .map(|trial| trial.subject.id.measured(0, BTreeMap::new()))
            .collect();
        for gate in &gates {
            gate.check_names(&planned)?;
        }
        Ok(gates)
    }

    fn handicap(&self) -> anyhow::Result<Handicap> {
        let handicap = Handicap {
            server_handicap_ratio: self.handicap_server,
            generator_handicap_ratio: self.handicap_generator,
        };
        handicap.check().map_err(anyhow::Error::msg)?;
        Ok(handicap)
    }

    fn scenario(&self) -> anyhow::Result<Scenario> {
        let mut scenario = match &self.scenario {
            Some(path) => {
                let profiles = PROFILES.iter().map(|(name, _)| Path::new(name));
                ensure!(
                    path.exists() || !profiles.into_iter().any(|profile| profile == path),
                    "there is no file {path}; the profile of that name is run by: hopbench run \
                     --profile {path}",
                    path = path.display()
                );
                Scenario::read(path)?
            }
            None => Scenario::profile(&self.profile)?,
        };
        if !self.stacks.is_empty() {
            scenario.plan.stacks.clone_from(&self.stacks);
        }
        if !self.core_stacks.is_empty() {
            scenario.plan.core_stacks.clone_from(&self.core_stacks);
        }
        self.path.apply(&mut scenario.plan)?;
        if self.budget.is_some() {
            scenario.plan.until_narrow();
        }
        scenario.plan.usual = Variant {
            inner_ip: self.path.inner_ip(&scenario.plan)?,
            ..self.tunnel.variant()?
        };
        Ok(scenario)
    }
}

/// Where a run's files go.
struct Folder {
    path: PathBuf,
    /// `results/latest`, for runs without a folder of their own.
    latest: Option<PathBuf>,
}

impl Folder {
    fn create(out: Option<&Path>, run_id: &str) -> anyhow::Result<Self> {
        let results = Path::new("results");
        let folder = match out {
            Some(path) => Self {
                path: path.to_owned(),
                latest: None,
            },
            None => Self {
                path: results.join("runs").join(run_id),
                latest: Some(results.join("latest")),
            },
        };
        std::fs::create_dir_all(&folder.path)
            .with_context(|| format!("cannot create the folder {}", folder.path.display()))?;
        folder.keep_earlier_run()?;
        Ok(folder)
    }

    fn run_file(&self) -> PathBuf {
        self.path.join("run.json")
    }

    /// Nothing measured is lost: an earlier run in the same folder is moved aside.
    fn keep_earlier_run(&self) -> anyhow::Result<()> {
        let file = self.run_file();
        if !file.exists() {
            return Ok(());
        }
        let mut aside = self.path.join("run.earlier.json");
        for number in 2.. {
            if !aside.exists() {
                break;
            }
            aside = self.path.join(format!("run.earlier-{number}.json"));
        }
        std::fs::rename(&file, &aside)
            .with_context(|| format!("cannot move {} aside", file.display()))?;
        eprintln!(
            "the folder held a run already; it is kept as {}",
            aside.display()
        );
        Ok(())
    }

    fn point_latest(&self) -> anyhow::Result<()> {
        let Some(latest) = &self.latest else {
            return Ok(());
        };
        let target = Path::new("runs").join(self.path.file_name().unwrap_or_default());
        let fresh = latest.with_extension("new");
        let _ = std::fs::remove_file(&fresh);
        std::os::unix::fs::symlink(&target, &fresh)
            .and_then(|()| std::fs::rename(&fresh, latest))
            .with_context(|| format!("cannot point {} at the run", latest.display()))
    }
}
