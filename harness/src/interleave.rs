//! Two builds of hopbench measured side by side: for each question of a scenario one block by one build,
//! one by the other, round after round, so that a machine that changes its speed changes it for both.
//!
//! Each block is a run of a whole binary, by its command line and its `run.json`, which are what versions
//! of hopbench keep between them; what is said between a run and its processes is not.

mod merge;

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, bail, ensure};
use hopbench::record::Run;
use toml::{Table, Value};

use crate::interrupt;
use crate::progress::{Progress, Step};

pub(crate) use merge::Session;

/// What is measured by two builds.
pub(crate) struct Interleaving<'a> {
    /// The builds: BASE, HEAD.
    pub(crate) binaries: [&'a Path; 2],
    /// Text of the scenario.
    pub(crate) scenario: &'a str,
    /// Which of its experiments; if none is named, all but searches, which take as long as all others, and find one rate
    /// for all their seconds.
    pub(crate) experiments: &'a [String],
    /// How often each question is asked of each build.
    pub(crate) rounds: u32,
    /// Round 0 has this seed, and each further one the next.
    pub(crate) seed: u64,
    /// More arguments for `hopbench run`, the same for both.
    pub(crate) arguments: Vec<String>,
}

/// Experiments that are measured if they are named.
const SEARCHES: [&str; 2] = ["search", "knee"];

/// What either build is called in messages.
const SIDES: [&str; 2] = ["BASE", "HEAD"];

/// A scenario with one question, for one block.
struct Part {
    name: String,
    text: String,
}

impl Interleaving<'_> {
    /// Measures, and returns the runs of BASE and of HEAD, their blocks in pairs.
    ///
    /// # Errors
    /// When a build cannot run the scenario, or the user asks to stop.
    pub(crate) fn measure(
        &self,
        progress: &Progress,
        session: &Session,
    ) -> anyhow::Result<[Run; 2]> {
        ensure!(
            self.rounds > 0,
            "`--rounds` is 0: a comparison needs at least three"
        );
        let parts = self.parts()?;
        let folder = tempfile::tempdir().context("cannot create a folder for the blocks")?;
        let mut blocks: [Vec<(u32, Run)>; 2] = [Vec::new(), Vec::new()];
        for round in 0..self.rounds {
            for (index, part) in (0..).zip(&parts) {
                // Who comes first alternates, so that a steady drift favours nobody.
                let is_base_first = (round + index) % 2 == 0;
                for side in if is_base_first { [0, 1] } else { [1, 0] } {
                    let name = format!("{} by {}", part.name, SIDES[side]);
                    progress.begin(Step::named(&name, round + 1, self.rounds), 1.0);
                    let run = self.block(side, part, round, folder.path());
                    blocks[side].push((round, run.with_context(|| name)?));
                    progress.end();
                }
            }
        }
        let [base, head] = blocks;
        Ok([
            session.merged(base, self.rounds),
            session.merged(head, self.rounds),
        ])
    }

    fn parts(&self) -> anyhow::Result<Vec<Part>> {
        let mut parts = parts(self.scenario)?;
        let names: Vec<&str> = parts.iter().map(|part| part.name.as_str()).collect();
        for wanted in self.experiments {
            ensure!(
                names.contains(&wanted.as_str()),
                "the scenario has no experiment {wanted}; it has {}",
                names.join(", ")
            );
        }
        parts.retain(|part| match self.experiments {
            [] => !SEARCHES.contains(&part.name.as_str()),
            named => named.contains(&part.name),
        });
        ensure!(
            !parts.is_empty(),
            "the scenario has nothing but searches: name them with `--experiments`"
        );
        Ok(parts)
    }

    /// How many blocks that are.
    pub(crate) fn steps(&self) -> anyhow::Result<f64> {
        let parts = u32::try_from(self.parts()?.len())?;
        Ok(2.0 * f64::from(self.rounds) * f64::from(parts))
    }

    fn block(&self, side: usize, part: &Part, round: u32, folder: &Path) -> anyhow::Result<Run> {
        let binary = self.binaries[side];
        let scenario = folder.join("block.toml");
        std::fs::write(&scenario, &part.text)?;
        let out: PathBuf = folder.join(SIDES[side]);
        let _ = std::fs::remove_dir_all(&out);
        let output = Command::new(binary)
            .arg("run")
            .arg(&scenario)
            .args(["--quiet", "--seed"])
            .arg(self.seed.wrapping_add(u64::from(round)).to_string())
            .arg("--out")
            .arg(&out)
            .args(&self.arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .output()
            .with_context(|| format!("cannot run {}", binary.display()))?;
        if interrupt::is_interrupted() {
            bail!("interrupted");
        }
        let file = out.join("run.json");
        // Failed cells (3) are in the file, with their reasons.
        if !matches!(output.status.code(), Some(0 | 3)) || !file.exists() {
            let said = String::from_utf8_lossy(&output.stderr);
            bail!(
                "{} run ended with {}: {}",
                binary.display(),
                output.status,
                said.trim()
            );
        }
        Ok(Run::read(&file)?)
    }
}

/// One scenario for each question. What is compared within a question, such as the lengths of a chain or
/// the sizes of crowds, stays together.
fn parts(scenario: &str) -> anyhow::Result<Vec<Part>> {
    let mut common: Table = scenario.parse().context("the scenario is no TOML")?;
    // Thresholds are for the whole.
    common.remove("gates");
    let mut questions: Vec<(String, Value)> = Vec::new();
    let names: Vec<String> = common.keys().cloned().collect();
    for name in names {
        let is_list = |list: &[Value]| !list.is_empty() && list.iter().all(Value::is_table);
        let question = match &common[&name] {
            Value::Table(_) => common.remove(&name).into_iter().collect(),
            Value::Array(list) if name == "throughput" && is_list(list) => {
                let list = list
                    .iter()
                    .map(|one| Value::Array(vec![one.clone()]))
                    .collect();
                common.remove(&name);
                list
            }
            Value::Array(list) if is_list(list) => common.remove(&name).into_iter().collect(),
            _ => Vec::new(),
        };
        questions.extend(question.into_iter().map(|value| (name.clone(), value)));
    }
    ensure!(!questions.is_empty(), "the scenario asks no question");
    let part = |(name, mut question): (String, Value)| {
        single_block(&mut question);
        let mut scenario = common.clone();
        scenario.insert(name.clone(), question);
        let text = toml::to_string(&scenario)?;
        Ok(Part { name, text })
    };
    questions.into_iter().map(part).collect()
}

/// Sets each `blocks` within `value` to one.
fn single_block(value: &mut Value) {
    match value {
        Value::Table(table) => {
            for (key, value) in table {
                if key == "blocks" && (value.is_integer() || value.is_table()) {
                    *value = Value::Integer(1);
                } else {
                    single_block(value);
                }
            }
        }
        Value::Array(list) => list.iter_mut().for_each(single_block),
        _ => {}
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::scenario::{PROFILES, Scenario};

    #[test]
    fn every_built_in_scenario_falls_into_scenarios_of_one_block() {
        for (name, text) in PROFILES {
            let folder = tempfile::tempdir().unwrap();
            let parts = parts(text).unwrap();
            for part in &parts {
                let file = folder.path().join("part.toml");
                std::fs::write(&file, &part.text).unwrap();
                let plan = Scenario::read(&file).unwrap().plan;
                let setup = plan.setup.iter().map(|setup| setup.blocks.most());
                let memory = plan.memory.iter().map(|memory| memory.blocks.most());
                let idle = plan.memory.iter().filter_map(|memory| memory.idle.as_ref());
                let throughput = plan.throughput.iter();
                let throughput = throughput.map(|throughput| throughput.blocks.most());
                let chain = plan.chain.iter().map(|chain| chain.blocks.most());
                let blocks = setup.chain(memory).chain(idle.map(|idle| idle.blocks));
                let blocks: Vec<u32> = blocks.chain(throughput).chain(chain).collect();
                assert!(
                    blocks.iter().all(|blocks| *blocks == 1),
                    "{name}: {blocks:?}"
                );
                assert!(plan.throughput.len() <= 1, "{name}");
            }
            let whole = Scenario::profile(name).unwrap().plan;
            assert!(parts.len() >= whole.throughput.len(), "{name}");
        }
    }

    #[test]
    fn only_the_experiments_that_are_named_are_measured() {
        let names = |experiments: &[&str]| {
            let experiments: Vec<String> =
                experiments.iter().map(|&name| name.to_owned()).collect();
            let interleaving = Interleaving {
                binaries: [Path::new("base"), Path::new("head")],
                scenario: "name = \"x\"\n[[search]]\na = 1\n[setup]\nblocks = 3\n",
                experiments: &experiments,
                rounds: 1,
                seed: 1,
                arguments: Vec::new(),
            };
            let parts = interleaving.parts();
            parts.map(|parts| parts.into_iter().map(|part| part.name).collect::<Vec<_>>())
        };
        assert_eq!(names(&[]).unwrap(), ["setup"]);
        assert_eq!(names(&["search"]).unwrap(), ["search"]);
        let error = names(&["setup", "knee"]).unwrap_err().to_string();
        let expected = "the scenario has no experiment knee; it has search, setup";
        assert_eq!(error, expected);
    }

    #[test]
    fn thresholds_are_not_those_of_a_block() {
        let text =
            "name = \"x\"\nsummary = \"x\"\nstacks = [\"tcp\"]\ngates = [\"x\"]\n[a]\nblocks = 7\n";
        let parts = parts(text).unwrap();
        assert_eq!(parts.len(), 1);
        assert!(!parts[0].text.contains("gates"), "{}", parts[0].text);
        assert!(parts[0].text.contains("blocks = 1"), "{}", parts[0].text);
    }
}
