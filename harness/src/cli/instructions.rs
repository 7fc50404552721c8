//! `hopbench instructions`: what the hot paths take, counted by callgrind.

use std::path::PathBuf;

use super::run::{Undertaking, exit_code, measure};
use super::{EXIT_OK, usage};
use crate::experiment::instructions::{self, TASKS, Task, Valgrind};
use crate::limits::Readings;
use crate::report;
use crate::variant::Handicap;

/// Options of the count.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Nothing is installed: `apt-get install valgrind` on Debian provides callgrind. Counts are those of one \
    compiler, one valgrind, and the processor that it shows programs, all of which the cells name: hold them against \
    others of the same with\n\n  \
    hopbench compare results/reference/instructions FOLDER \\\n    --gate 'each instructions.instructions_count <= 1.05 * base'\n\n\
    Exit codes: 0 everything was counted; 1 valgrind is missing or it could not work; 2 wrong usage; 3 some cells \
    failed; 130 interrupted, what was counted is on disk."
)]
pub(crate) struct Args {
    /// How often each task is counted, each time in a process of its own: what differs was random
    #[arg(long, default_value_t = 2, value_name = "COUNT", value_parser = clap::value_parser!(u32).range(1..=100))]
    rounds: u32,
    /// Folder for the run's files; by default results/runs/RUN_ID, with results/latest pointing at it
    #[arg(long, value_name = "FOLDER")]
    out: Option<PathBuf>,
    /// No progress, no table; the files are written all the same
    #[arg(long)]
    quiet: bool,
    /// Do one of the tasks, uncounted: WORKLOAD/STACK/SIDE
    #[arg(long, hide = true, conflicts_with_all = ["rounds", "out", "quiet"])]
    task: Option<String>,
    /// Say what this process sees of the processor
    #[arg(long, hide = true, conflicts_with_all = ["rounds", "out", "quiet", "task"])]
    processor: bool,
    /// Say as JSON what the tasks are and how callgrind counts them
    #[arg(long, hide = true, conflicts_with_all = ["rounds", "out", "quiet", "task", "processor"])]
    tasks: bool,
}

/// Counts, and prints the table.
pub(crate) fn instructions(args: &Args) -> anyhow::Result<u8> {
    if let Some(name) = &args.task {
        return task(name);
    }
    if args.processor {
        super::print(&format!("{}\n", instructions::processor()));
        return Ok(EXIT_OK);
    }
    if args.tasks {
        let tasks: Vec<_> = TASKS.iter().map(Task::description).collect();
        super::print(&format!("{}\n", serde_json::Value::from(tasks)));
        return Ok(EXIT_OK);
    }
    let experiment = instructions::experiment(Valgrind::find()?, args.rounds)?;
    let names: Vec<String> = TASKS.iter().map(Task::name).collect();
    let undertaking = Undertaking {
        profile: "instructions",
        scenario_sha256: &crate::scenario::sha256(&names.join("\n")),
        seed: 1,
        out: args.out.as_deref(),
        is_quiet: args.quiet,
        handicap: Handicap::default(),
        budget: None,
        captures: None,
    };
    let machine = Readings::of_this_machine();
    let (run, folder, conduct) = measure(vec![experiment], machine, undertaking)?;
    if !args.quiet {
        super::print(&report::instructions(&run));
        super::print(&format!(
            "report: {}\n",
            folder.join(report::PAGE).display()
        ));
    }
    Ok(exit_code(&run, conduct, true))
}

/// What callgrind looks at.
fn task(name: &str) -> anyhow::Result<u8> {
    let task = TASKS.iter().find(|task| task.name() == name);
    let Some(task) = task else {
        let names: Vec<String> = TASKS.iter().map(Task::name).collect();
        return Err(usage(anyhow::anyhow!(
            "there is no task \"{name}\"; there are: {}",
            names.join(", ")
        )));
    };
    task.run();
    Ok(EXIT_OK)
}
