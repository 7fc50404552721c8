//! Where the processor time of an operation goes: SIP, transport, cryptography, kernel, runtime, and what is
//! left; of each side, by sampling both processes with perf while they work.
//!
//! A sample is of whatever function is on the processor, and a function is of the module that its name says
//! ([`attribution`]). Shares say where time goes, not how much there is: that is what the processor time of
//! the same cell says, which is the kernel's own figure.

mod attribution;
mod perf;

use std::collections::BTreeMap;

use hopbench::load::{
    ArrivalLaw, BackOff, Course, GeneratorConfig, Lifecycle, LoadPlan, Mix, Workload,
};
use hopbench::transport;
use serde_json::json;

use super::{Bench, Experiment, Question, Sample, Subject, Trial, cell_id};
use crate::limits::{self, Demand, Spread};
use crate::path::Path;
use crate::testbed::{Crew, Failure, Outcome};
use crate::topology::{Site, Topology};
use crate::variant::Variant;
use attribution::{PARTS, Part};
pub(crate) use perf::Perf;

/// As its cells name it.
const NAME: &str = "breakdown";
/// Fewer samples than this of one side are no distribution: a share of a half would be ± 7 points.
const SAMPLES_MIN: u64 = 200;
const DRAIN_SECONDS: f64 = 3.0;

/// How much is sampled.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
pub(crate) struct Effort {
    /// Interleaved repetitions.
    pub(crate) rounds: u32,
    /// Of each cell.
    pub(crate) seconds: f64,
    pub(crate) stacks: Vec<String>,
}

/// An operation, and how often it is done: often enough that most of what is sampled is the operation, seldom
/// enough that two processors serve both sides.
struct Operation {
    workload: Workload,
    lifecycle: Lifecycle,
    per_second: f64,
    users: u32,
}

const OPERATIONS: [Operation; 2] = [
    Operation {
        workload: Workload::Register,
        lifecycle: Lifecycle::PerRegistration,
        per_second: 400.0,
        users: 4_000,
    },
    Operation {
        workload: Workload::Invite,
        lifecycle: Lifecycle::PerRegistration,
        per_second: 2_500.0,
        users: 50,
    },
];

struct Sampling {
    perf: std::rc::Rc<Perf>,
    plan: LoadPlan,
}

/// The cells: registrations over new hops, and calls over kept ones, over each stack.
///
/// # Errors
/// When a stack does not exist.
pub(crate) fn experiment(perf: Perf, effort: &Effort) -> anyhow::Result<Experiment> {
    let perf = std::rc::Rc::new(perf);
    let mut trials = Vec::new();
    for operation in &OPERATIONS {
        for name in &effort.stacks {
            let stack = transport::find(name)?;
            let site = Site {
                topology: Topology::Direct,
                stack,
                core: stack,
                variant: Variant::default(),
                authenticate_calls: false,
                path: Path::Loopback,
                beneath: None,
            };
            let plan = operation.plan(effort.seconds);
            let parameters = BTreeMap::from([
                ("arrivals".to_owned(), json!(plan.arrivals.name())),
                ("rate_per_second".to_owned(), json!(plan.rate_per_second)),
                ("users".to_owned(), json!(plan.users)),
                ("duration_seconds".to_owned(), json!(plan.duration_seconds)),
                ("samples_per_second".to_owned(), json!(perf::PER_SECOND)),
                ("perf_version".to_owned(), json!(perf.version)),
                ("blocks".to_owned(), json!(effort.rounds)),
            ]);
            let (workload, lifecycle) = (plan.workload.name(), plan.lifecycle.name());
            trials.push(Trial {
                subject: Subject {
                    id: cell_id(NAME, workload, &site, lifecycle),
                    site,
                    parameters,
                    blocks: effort.rounds.into(),
                },
                question: Box::new(Sampling {
                    perf: std::rc::Rc::clone(&perf),
                    plan,
                }),
            });
        }
    }
    Ok(Experiment {
        // A share has no control.
        compare: |_| Vec::new(),
        ..Experiment::of(trials)
    })
}

impl Operation {
    fn plan(&self, seconds: f64) -> LoadPlan {
        LoadPlan {
            workload: self.workload,
            lifecycle: self.lifecycle,
            arrivals: ArrivalLaw::Poisson,
            rate_per_second: self.per_second,
            course: Course::Steady,
            warm_up_seconds: 0.5,
            duration_seconds: seconds,
            drain_seconds: DRAIN_SECONDS,
            users: self.users,
            talk_seconds: 0.0,
            ring_seconds: 0.0,
            mix: Mix::default(),
            back_off: BackOff::default(),
            seed: 0,
        }
    }
}

impl Question for Sampling {
    fn measure(&self, bench: &Bench<'_>, site: &Site, block: u32) -> Outcome<Sample> {
        let settings = bench.settings_for(site, self.plan.users)?;
        let crew = Crew {
            users: self.plan.users,
            ring_seconds: 0.0,
            calls_per_second_limit: None,
            workers: 1,
            seed: bench.seed,
        };
        let mut nodes = bench.testbed.nodes(site, &settings, crew)?;
        let plan = LoadPlan {
            seed: bench.seed.wrapping_add(u64::from(block)),
            ..self.plan.clone()
        };
        let config = GeneratorConfig {
            seed: plan.seed,
            ..GeneratorConfig::new(site.stack.name, nodes.target(), settings, nodes.accounts())
        };
        let mut load = bench.testbed.load(&config, 1, nodes.users_namespace())?;
        if let Some(stage) = plan.population() {
            load.populate(plan.users, stage, &nodes)?;
        }
        let sides = [
            ("client", load.process_ids()),
            ("server", nodes.process_ids()),
        ];
        let all: Vec<u32> = sides.iter().flat_map(|(_, ids)| ids.clone()).collect();
        let mut recording = None;
        let mut server_ns = Vec::with_capacity(2);
        let mut samples = Vec::new();
        let report = load.run(&plan, &mut nodes, |nodes| {
            server_ns.push(nodes.usage()?.iter().map(|node| node.cpu_ns).sum::<u64>());
            match recording.take() {
                None => recording = Some(self.perf.record(bench.testbed, &all)?),
                Some(recording) => samples = self.perf.finish(recording)?,
            }
            Ok(())
        })?;
        let mut sample = Sample::default();
        let mut put = |key: String, value: Option<f64>| {
            sample.scalars.insert(key, value);
        };
        let each = |ns: u64| ns as f64 / report.completed_in_window as f64;
        let client = report.before.zip(report.after);
        let client = client.map(|(before, after)| each(after.since(&before).cpu_ns));
        put("client_cpu_ns_per_operation".into(), client);
        if let [before, after] = server_ns[..] {
            let server = each(after.saturating_sub(before));
            put("server_cpu_ns_per_operation".into(), Some(server));
        }
        put("failed_count".into(), Some(report.failed() as f64));
        for (side, ids) in &sides {
            let of_side = samples.iter().filter(|found| ids.contains(&found.pid));
            for (part, share) in shares(of_side, side)? {
                put(format!("{side}_cpu_{}_ratio", part.key()), Some(share));
            }
        }
        if report.failed() > 0 {
            sample.shortfall = Some(format!(
                "{} of {} operations failed",
                report.failed(),
                report.offered
            ));
        }
        Ok(sample)
    }

    fn demand(&self, site: &Site) -> Demand {
        Demand::of_cell(site, limits::hops_at_once(&self.plan), Spread::PAIR)
    }

    fn expected_seconds(&self, _: Topology) -> f64 {
        /// Starting and ending processes, perf's included, and reading what it wrote.
        const AROUND: f64 = 2.0;
        self.plan.warm_up_seconds + self.plan.duration_seconds + AROUND
    }
}

/// What part of the samples is whose.
fn shares<'s>(
    samples: impl Iterator<Item = &'s perf::Found>,
    side: &str,
) -> Outcome<Vec<(Part, f64)>> {
    let mut counts = BTreeMap::<Part, u64>::new();
    for found in samples {
        *counts.entry(attribution::part_of(found)).or_default() += 1;
    }
    let total: u64 = counts.values().sum();
    if total < SAMPLES_MIN {
        return Err(Failure::Failed(format!(
            "expected at least {SAMPLES_MIN} samples of the {side}, found {total}: let it work longer"
        )));
    }
    if !counts.contains_key(&Part::Kernel) {
        return Err(Failure::Unsupported(
            "perf may not sample the kernel here, without which no share is one: run as root, or set \
             kernel.perf_event_paranoid to 1"
                .to_owned(),
        ));
    }
    let share = |part: Part| counts.get(&part).copied().unwrap_or(0) as f64 / total as f64;
    Ok(PARTS.map(|part| (part, share(part))).into())
}
