//! Instructions instead of time: what the hot paths take of a processor, counted by valgrind's callgrind. The
//! figures do not depend on what else the machine does, so that a change of a percent shows at once, in CI too.
//!
//! Each task is a process of this very binary under callgrind, which counts within the functions that the task
//! names and nowhere else: one side of a hop, without what surrounds it. It counts user space; what the
//! kernel does, caches and branches are not in it, so that a count is no time.

mod processor;
mod tasks;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, anyhow};
use hopbench::record::CellId;
use hopbench::transport;
use serde_json::json;

use super::{Bench, Experiment, Question, Sample, Subject, Trial};
use crate::limits::{Demand, Spread};
use crate::testbed::{Failure, Outcome};
use crate::topology::{Site, Topology};
use crate::variant::Variant;
pub(crate) use processor::description as processor;
pub(crate) use tasks::{TASKS, Task};

/// As its cells name it.
const NAME: &str = "instructions";
const COUNT: &str = "instructions_count";

/// valgrind, and a folder for what it writes.
pub(crate) struct Valgrind {
    program: PathBuf,
    version: String,
    /// What it shows programs.
    processor: String,
    folder: tempfile::TempDir,
}

impl Valgrind {
    /// The `valgrind` on the path.
    ///
    /// # Errors
    /// When there is none.
    pub(crate) fn find() -> anyhow::Result<Self> {
        let program = super::on_path("valgrind").ok_or_else(|| {
            anyhow!("valgrind is not installed: `apt-get install valgrind` on Debian provides it")
        })?;
        let output = Command::new(&program).arg("--version").output();
        let output = output.with_context(|| format!("cannot run {}", program.display()))?;
        let said = String::from_utf8_lossy(&output.stdout);
        let version = said.trim().trim_start_matches("valgrind-").to_owned();
        let processor = Self::processor(&program)?;
        Ok(Self {
            program,
            version,
            processor,
            folder: tempfile::tempdir().context("no folder for valgrind's files")?,
        })
    }

    /// What a process sees that runs under it.
    fn processor(program: &Path) -> anyhow::Result<String> {
        let executable = std::env::current_exe().context("this binary cannot be found")?;
        let output = Command::new(program)
            .args(["--tool=none", "--quiet"])
            .arg(&executable)
            .args(["instructions", "--processor"])
            .stdin(Stdio::null())
            .output();
        let output = output.with_context(|| format!("cannot run {}", program.display()))?;
        let said = String::from_utf8_lossy(&output.stdout);
        match said.trim() {
            processor if output.status.success() && !processor.is_empty() => {
                Ok(processor.to_owned())
            }
            _ => {
                let said = String::from_utf8_lossy(&output.stderr);
                anyhow::bail!("valgrind ended with {}: {}", output.status, said.trim())
            }
        }
    }

    /// Instructions of each iteration of `task`.
    fn count(&self, task: &Task) -> Outcome<f64> {
        let failed = |reason: String| Failure::Failed(reason);
        let file = self.folder.path().join("callgrind.out");
        let executable = std::env::current_exe()
            .map_err(|error| failed(format!("this binary cannot be found: {error}")))?;
        let mut command = Command::new(&self.program);
        let output = command
            .arg("--tool=callgrind")
            .arg(format!("--callgrind-out-file={}", file.display()))
            .args(task.callgrind_arguments())
            .arg(&executable)
            .args(["instructions", "--task", &task.name()])
            .stdin(Stdio::null())
            .output()
            .map_err(|error| failed(format!("cannot run valgrind: {error}")))?;
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr);
            let last: Vec<&str> = said.lines().rev().take(3).collect();
            return Err(failed(format!(
                "valgrind ended with {}: {}",
                output.status,
                last.join(" / ")
            )));
        }
        let instructions = read_total(&file).map_err(failed)?;
        if instructions == 0 {
            return Err(failed(format!(
                "callgrind met none of the functions {:?}: they were renamed or inlined",
                task.functions
            )));
        }
        Ok(instructions as f64 / f64::from(task.iterations))
    }
}

/// What callgrind counted altogether.
fn read_total(file: &Path) -> Result<u64, String> {
    let text = std::fs::read_to_string(file)
        .map_err(|error| format!("callgrind left nothing in {}: {error}", file.display()))?;
    parse_total(&text)
}

fn parse_total(text: &str) -> Result<u64, String> {
    let line = text.lines().find_map(|line| {
        line.strip_prefix("totals:")
            .or(line.strip_prefix("summary:"))
    });
    let total = line.and_then(|line| line.trim().parse().ok());
    total.ok_or_else(|| "expected a line `totals: N` of callgrind, found none".to_owned())
}

/// One task under valgrind.
struct Counting {
    valgrind: std::rc::Rc<Valgrind>,
    task: &'static Task,
}

/// All tasks, each counted in so many processes: what differs between them was random.
///
/// # Errors
/// When a task names a stack that does not exist.
pub(crate) fn experiment(valgrind: Valgrind, rounds: u32) -> anyhow::Result<Experiment> {
    let valgrind = std::rc::Rc::new(valgrind);
    let trials = TASKS.iter().map(|task| {
        let stack = transport::find(task.stack)?;
        let site = Site {
            topology: Topology::Direct,
            stack,
            core: stack,
            variant: Variant::default(),
            authenticate_calls: false,
            path: crate::path::Path::Loopback,
            beneath: None,
        };
        let parameters = BTreeMap::from([
            ("iterations".to_owned(), json!(task.iterations)),
            ("functions".to_owned(), json!(task.functions)),
            ("side".to_owned(), json!(task.side)),
            ("valgrind_version".to_owned(), json!(valgrind.version)),
            ("processor".to_owned(), json!(valgrind.processor)),
            ("blocks".to_owned(), json!(rounds)),
        ]);
        Ok(Trial {
            subject: Subject {
                id: id(task),
                site,
                parameters,
                blocks: rounds.into(),
            },
            question: Box::new(Counting {
                valgrind: std::rc::Rc::clone(&valgrind),
                task,
            }),
        })
    });
    Ok(Experiment {
        // A count has no control: what it is held against is an earlier one.
        compare: |_| Vec::new(),
        ..Experiment::of(trials.collect::<anyhow::Result<_>>()?)
    })
}

/// There is no path and nothing lives: everything is in memory.
fn id(task: &Task) -> CellId {
    CellId {
        experiment: NAME.to_owned(),
        workload: task.workload.to_owned(),
        stack: task.stack.to_owned(),
        topology: "direct".to_owned(),
        lifecycle: "per-operation".to_owned(),
        path: "memory".to_owned(),
        distinguishing: BTreeMap::from([("side".to_owned(), json!(task.side))]),
    }
}

impl Question for Counting {
    fn measure(&self, _: &Bench<'_>, _: &Site, _: u32) -> Outcome<Sample> {
        let count = self.valgrind.count(self.task)?;
        Ok(Sample {
            scalars: BTreeMap::from([(COUNT.to_owned(), Some(count))]),
            ..Sample::default()
        })
    }

    fn demand(&self, site: &Site) -> Demand {
        Demand::of_cell(site, 1, Spread::PAIR)
    }

    fn expected_seconds(&self, _: Topology) -> f64 {
        /// Mostly valgrind's own start.
        const PROCESS: f64 = 1.5;
        PROCESS
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn reads_what_callgrind_writes() {
        let text = "# callgrind format\nevents: Ir\nfn=(1) f\n+1 2\n\ntotals: 4711\n";
        assert_eq!(parse_total(text), Ok(4_711));
        assert!(parse_total("events: Ir\n").unwrap_err().contains("totals"));
    }

    #[test]
    fn every_task_has_a_name_of_its_own_and_runs_to_its_end() {
        let mut names = BTreeSet::new();
        for task in TASKS {
            assert!(transport::find(task.stack).is_ok(), "{}", task.stack);
            assert!(names.insert(id(task).to_string()), "{}", id(task));
            task.run();
        }
    }
}
