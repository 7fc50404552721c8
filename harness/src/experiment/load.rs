//! Questions that a load answers: `setup`, how long the phases of a user's coming take under a light
//! load; `throughput`, what operations at a given rate cost and how long they take.

use std::collections::BTreeMap;

use hopbench::load::{
    ArrivalLaw, BackOff, GeneratorConfig, Lifecycle, LoadPlan, LoadReport, Mix, Moment, Workload,
};
use hopbench::measure::histogram::LatencyHistogram;
use hopbench::measure::snapshot::{ProcessSnapshot, ProcessUsage};
use hopbench::measure::socket;
use hopbench::node::NodeConfig;
use hopbench::transport::Stack;
use serde_json::{Value, json};

use super::{Bench, Question, Sample, Subject, cell_id};
use crate::scenario::{Setup, Throughput};
use crate::testbed::{Failure, Outcome};

/// After the measurement, operations that began in it get this long to end: longer than a call whose
/// every message is lost once, shorter than SIP's own 32 s.
const DRAIN_SECONDS: f64 = 3.0;
/// More failed operations than this and a cell has failed.
const FAILED_SHARE_MAX: f64 = 0.01;
/// Less achieved than this share of what was offered and the server was saturated.
const ACHIEVED_SHARE_MIN: f64 = 0.95;
/// A worker that uses more of its processor than this is the bottleneck.
const BUSY_RATIO_MAX: f64 = 0.9;
/// A median lag beyond this, if it is also a tenth of the latency, means that the generator was late.
const LAG_NS_MAX: u64 = 1_000_000;

/// Phases that a connection goes through.
const PHASES: [Moment; 3] = [
    Moment::TransportConnect,
    Moment::SecurityHandshake,
    Moment::Setup,
];
/// Phases of a registration.
const REGISTRATION: [Moment; 4] = [
    Moment::FirstResponse,
    Moment::RegistrationDelay,
    Moment::Registered,
    Moment::RegisteredUncorrected,
];
/// Delays of a call.
const CALL: [Moment; 3] = [
    Moment::SessionRequestDelay,
    Moment::SessionRequestDelayUncorrected,
    Moment::SessionDisconnectDelay,
];

/// A load against a fresh node.
struct Load {
    plan: LoadPlan,
    /// Latencies that are published.
    moments: Vec<Moment>,
    /// Whether rates and processor time are published.
    has_rates: bool,
}

/// The cells of the experiment `setup`.
pub(crate) fn setup_subjects(setup: &Setup, stacks: &[&'static Stack]) -> Vec<Subject> {
    let plan = LoadPlan {
        workload: Workload::Register,
        lifecycle: Lifecycle::PerRegistration,
        arrivals: setup.arrivals,
        rate_per_second: setup.rate_per_second,
        warm_up_seconds: setup.warm_up_seconds,
        duration_seconds: setup.duration_seconds,
        drain_seconds: DRAIN_SECONDS,
        users: setup.users(),
        talk_seconds: 0.0,
        ring_seconds: 0.0,
        mix: Mix::default(),
        back_off: BackOff::default(),
        seed: 0,
    };
    let moments: Vec<Moment> = PHASES.into_iter().chain(REGISTRATION).collect();
    stacks
        .iter()
        .map(|stack| Subject {
            id: cell_id("setup", plan.workload.name(), stack, plan.lifecycle.name()),
            stack,
            parameters: parameters(&plan, setup.blocks),
            question: Box::new(Load {
                plan: plan.clone(),
                moments: moments.clone(),
                has_rates: false,
            }),
            blocks: setup.blocks,
        })
        .collect()
}

/// The cells of one `[[throughput]]` of a scenario.
pub(crate) fn throughput_subjects(
    throughput: &Throughput,
    stacks: &[&'static Stack],
) -> Vec<Subject> {
    let (workload, lifecycle) = (throughput.workload, throughput.lifecycle);
    let mut moments = match workload {
        Workload::Register | Workload::Reregister | Workload::Avalanche => REGISTRATION.to_vec(),
        Workload::Invite => CALL.to_vec(),
        Workload::Mixed => REGISTRATION.into_iter().chain(CALL).collect(),
    };
    if (workload, lifecycle) != (Workload::Invite, Lifecycle::PerRegistration) {
        moments.extend(PHASES);
    }
    let mut subjects = Vec::new();
    for rate in &throughput.rates_per_second {
        let plan = LoadPlan {
            workload,
            lifecycle,
            arrivals: throughput.arrivals,
            rate_per_second: *rate,
            warm_up_seconds: throughput.warm_up_seconds,
            duration_seconds: throughput.duration_seconds,
            drain_seconds: DRAIN_SECONDS,
            users: throughput.users,
            talk_seconds: throughput.talk_seconds,
            ring_seconds: 0.0,
            mix: Mix::default(),
            back_off: BackOff::default(),
            seed: 0,
        };
        for stack in stacks {
            let mut id = cell_id("throughput", workload.name(), stack, lifecycle.name());
            if throughput.rates_per_second.len() > 1 {
                id = id.with("rate", *rate);
            }
            subjects.push(Subject {
                id,
                stack,
                parameters: parameters(&plan, throughput.blocks),
                question: Box::new(Load {
                    plan: plan.clone(),
                    moments: moments.clone(),
                    has_rates: true,
                }),
                blocks: throughput.blocks,
            });
        }
    }
    subjects
}

fn parameters(plan: &LoadPlan, blocks: u32) -> BTreeMap<String, Value> {
    let law = match plan.arrivals {
        ArrivalLaw::Poisson | ArrivalLaw::Constant => plan.arrivals.name(),
    };
    [
        ("arrivals", json!(law)),
        ("rate_per_second", json!(plan.rate_per_second)),
        ("warm_up_seconds", json!(plan.warm_up_seconds)),
        ("duration_seconds", json!(plan.duration_seconds)),
        ("users", json!(plan.users)),
        ("talk_seconds", json!(plan.talk_seconds)),
        ("generator_workers", json!(1)),
        ("blocks", json!(blocks)),
    ]
    .into_iter()
    .map(|(key, value)| (key.to_owned(), value))
    .collect()
}

impl Question for Load {
    fn measure(&self, bench: &Bench<'_>, stack: &'static Stack, block: u32) -> Outcome<Sample> {
        let settings = bench.settings_for(self.plan.users);
        let mut node = bench.testbed.node(&NodeConfig::answering(
            stack.name,
            super::any_loopback_port(),
            settings.clone(),
            bench.accounts.clone(),
        ))?;
        let seed = bench.seed.wrapping_add(u64::from(block));
        let mut load = bench.testbed.load(&GeneratorConfig {
            stack: stack.name.into(),
            target: node.address(),
            settings,
            accounts: bench.accounts.clone(),
            callees: None,
            workers: 1,
            seed,
        })?;
        let drops_before = server_drops(stack, node.address().port());
        if let Some(stage) = self.plan.population() {
            load.populate(self.plan.users, stage, &node)?;
        }
        let mut edges: Vec<ProcessSnapshot> = Vec::with_capacity(2);
        let plan = LoadPlan {
            seed,
            ..self.plan.clone()
        };
        let report = load.run(&plan, &mut node, |node| {
            edges.push(node.usage()?);
            Ok(())
        })?;
        let drops = server_drops(stack, node.address().port())
            .zip(drops_before)
            .map(|(after, before)| after.saturating_sub(before) as f64);
        // The node must still be there, otherwise its share is not what it seems.
        node.usage()?;
        let [before, after] = edges.as_slice() else {
            return Err(Failure::Failed(
                "the load ended without a measurement".into(),
            ));
        };
        Ok(self.sample(&report, after.since(before), drops))
    }

    fn expected_seconds(&self) -> f64 {
        self.plan.warm_up_seconds + self.plan.duration_seconds + 0.15
    }
}

/// Datagrams that the kernel dropped because the server did not read in time.
fn server_drops(stack: &Stack, port: u16) -> Option<u64> {
    let is_datagram = stack.tunnel.is_some() || !stack.is_stream();
    is_datagram
        .then(|| socket::receive_drops_on_port(port).ok())
        .flatten()
}

/// Processor time per second ÷ operations per second. Each side is read by its own clock: the word
/// that the measurement begins or ends reaches the node later than the generator, and not equally
/// late. Infinite or not a number without operations.
fn cpu_ns_per_operation(usage: ProcessUsage, report: &LoadReport) -> f64 {
    let cpu_share = usage.cpu_ns as f64 / usage.elapsed_ns as f64;
    cpu_share * report.window_seconds * 1e9 / report.completed_in_window as f64
}

impl Load {
    fn sample(&self, report: &LoadReport, server: ProcessUsage, drops: Option<f64>) -> Sample {
        let mut sample = Sample {
            generator_bound: self.generator_bound(report),
            shortfall: self.shortfall(report),
            ..Sample::default()
        };
        let mut latencies = report.latencies.clone();
        for moment in self.moments.iter().copied().chain([Moment::SchedulingLag]) {
            sample
                .latencies
                .insert(moment.key().into(), latencies.remove(moment.key()));
        }
        let mut scalar = |key: &str, value: Option<f64>| {
            sample
                .scalars
                .insert(key.into(), value.filter(|value| value.is_finite()));
        };
        scalar(
            "offered_per_second",
            Some(report.offered as f64 / report.window_seconds),
        );
        scalar(
            "achieved_per_second",
            Some(report.completed_in_window as f64 / report.window_seconds),
        );
        scalar("failed_count", Some(report.failed() as f64));
        scalar("retransmissions_count", Some(report.retransmissions as f64));
        scalar("server_socket_drops_count", drops);
        scalar("generator_busy_ratio", Some(report.busiest_worker_ratio));
        if self.has_rates {
            let client = report.before.zip(report.after);
            let client = client.map(|(before, after)| after.since(&before));
            scalar(
                "client_cpu_ns_per_operation",
                client.map(|client| cpu_ns_per_operation(client, report)),
            );
            scalar(
                "server_cpu_ns_per_operation",
                Some(cpu_ns_per_operation(server, report)),
            );
            if self.plan.workload == Workload::Invite {
                let attempts = report.offered as f64;
                scalar(
                    "session_establishment_ratio",
                    Some(report.answered as f64 / attempts),
                );
                scalar(
                    "session_completion_ratio",
                    Some(report.succeeded as f64 / attempts),
                );
            }
            sample.rates = Some(report.windows.rates());
        }
        sample
    }

    /// What the user of this workload waits for.
    fn latency<'r>(&self, report: &'r LoadReport) -> Option<&'r LatencyHistogram> {
        let moment = match self.plan.workload {
            Workload::Register | Workload::Reregister | Workload::Avalanche => Moment::Registered,
            Workload::Invite | Workload::Mixed => Moment::SessionRequestDelay,
        };
        report.latencies.get(moment.key())
    }

    fn generator_bound(&self, report: &LoadReport) -> Option<String> {
        let busy = report.busiest_worker_ratio;
        if busy > BUSY_RATIO_MAX {
            return Some(format!(
                "a generator worker used {:.0} % of its processor: lower the rate or add workers",
                busy * 100.0
            ));
        }
        if report.never_started > 0 {
            return Some(format!(
                "the generator did not get to start {} of {} operations: lower the rate or add \
                 workers",
                report.never_started, report.offered
            ));
        }
        let lag_ns = report
            .latencies
            .get(Moment::SchedulingLag.key())?
            .median_ns()?;
        let latency_ns = self.latency(report)?.median_ns()?;
        (lag_ns > LAG_NS_MAX && lag_ns > latency_ns / 10).then(|| {
            format!(
                "half of the operations started more than {} µs late: the generator did not get \
                 its processor",
                lag_ns / 1_000
            )
        })
    }

    fn shortfall(&self, report: &LoadReport) -> Option<String> {
        let offered = report.offered as f64;
        if report.offered == 0 {
            return Some(
                "no operation fell into the measurement: raise the rate or the duration".into(),
            );
        }
        if report.failed() as f64 > offered * FAILED_SHARE_MAX {
            let (cause, count) = report
                .failures
                .iter()
                .max_by_key(|(_, count)| **count)
                .expect("something failed");
            return Some(format!(
                "{} of {} operations failed, {count} of them so: {cause}",
                report.failed(),
                report.offered
            ));
        }
        let achieved = report.completed_in_window as f64;
        // Of few operations, the ones under way at the edges are more than the margin.
        let margin = (offered * (1.0 - ACHIEVED_SHARE_MIN)).max(3.0 * offered.sqrt().min(10.0));
        (achieved < offered - margin).then(|| {
            format!(
                "the server was saturated: {:.0} of {:.0} operations a second were achieved",
                achieved / report.window_seconds,
                offered / report.window_seconds
            )
        })
    }
}
