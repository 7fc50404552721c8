//! What a user and an operation cost, as the cells of runs tell it: which cells are asked, in which order,
//! and what is said where none can answer.
//!
//! Cells of the experiment `scale` come first, see [`super::scale`]: they were measured with as many users
//! as there were. Then come `memory` and `throughput`. Variants – cells whose stacks were run in another
//! than the usual way – are not asked.

use hopbench::record::{Cell, Metric, Run, Verdict};
use hopbench::transport::Stack;
use serde::Serialize;

use super::figure::Figure;
use super::finding::{Finding, Source};
use super::scale;
use crate::statistics;

/// A cell that would have been asked, had it been measured.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Unused {
    pub(crate) cell_id: String,
    pub(crate) verdict: Verdict,
    pub(crate) reason: Option<String>,
}

/// What one user more, and what a process without users, takes of the server's memory.
#[derive(Clone, Debug)]
pub(super) struct Memory {
    pub(super) per_user_bytes: Finding,
    pub(super) fixed_bytes: Finding,
}

/// What an operation takes.
#[derive(Clone, Debug)]
pub(super) struct Operation {
    /// Of the server's processor.
    pub(super) cpu_ns: Finding,
    /// On the wire, both directions, all hops.
    pub(super) wire_bytes: Finding,
}

/// What a stack costs.
#[derive(Clone, Debug)]
pub(super) struct Costs {
    pub(super) heap: Memory,
    pub(super) resident: Memory,
    /// Of the server's own sockets.
    pub(super) kernel: Memory,
    /// A user who comes over a new hop: set-up, handshakes, challenge.
    pub(super) registration: Operation,
    pub(super) refresh: Operation,
    pub(super) call: Operation,
    /// A second of a user who does nothing but keep the hop alive.
    pub(super) idle_second: Operation,
    /// How often it did so; `None` when that is not known.
    pub(super) keep_alive_seconds: Option<f64>,
    pub(super) unused: Vec<Unused>,
}

/// Where cells are looked for: runs in order of preference, and one stack.
#[derive(Clone, Copy)]
pub(super) struct Evidence<'a> {
    pub(super) runs: &'a [Run],
    pub(super) stack: &'static Stack,
}

/// What a cell is of.
pub(super) struct Wanted {
    pub(super) experiment: &'static str,
    pub(super) workload: Option<&'static str>,
    pub(super) topology: Option<&'static str>,
    pub(super) stage: Option<&'static str>,
}

/// Why the kernel's memory is halved.
pub(super) const HALF_OF_THE_KERNEL: &str =
    "the kernel's books are of both ends, which are alike: half of it is the server's";

/// The slopes of memory cells that a server has.
pub(super) const SLOPES: [&str; 3] = [
    "server_heap_bytes_per_connection",
    "server_rss_bytes_per_connection",
    "kernel_bytes_per_connection",
];

/// Parameters in a cell's name that make no variant of it.
const USUAL: [&str; 3] = ["rate", "stage", "users"];

impl Wanted {
    /// Memory, at every stage.
    pub(super) const MEMORY: Self = Self {
        experiment: "memory",
        workload: Some("register"),
        topology: Some("direct"),
        stage: None,
    };

    fn memory(stage: &'static str) -> Self {
        Self {
            stage: Some(stage),
            ..Self::MEMORY
        }
    }

    fn throughput(workload: &'static str, topology: &'static str) -> Self {
        Self {
            experiment: "throughput",
            workload: Some(workload),
            topology: Some(topology),
            stage: None,
        }
    }

    fn is(&self, cell: &Cell) -> bool {
        let is_named = |wanted: Option<&str>, found: &str| wanted.is_none_or(|name| name == found);
        let stage = cell
            .parameters
            .get("stage")
            .and_then(|stage| stage.as_str());
        self.experiment == cell.experiment
            && is_named(self.workload, &cell.workload)
            && is_named(self.topology, &cell.topology)
            && self.stage.is_none_or(|wanted| stage == Some(wanted))
            && cell.lifecycle == "per-registration"
            && is_usual(&cell.id)
    }
}

/// Whether the name tells of no other than the usual way to run a stack.
fn is_usual(id: &str) -> bool {
    let distinguishing = id.split_once('?').map_or("", |(_, parameters)| parameters);
    let keys = distinguishing.split('&').filter(|pair| !pair.is_empty());
    keys.map(|pair| pair.split_once('=').map_or(pair, |(key, _)| key))
        .all(|key| USUAL.contains(&key))
}

impl<'a> Evidence<'a> {
    /// Cells of the stack, whatever became of them.
    pub(super) fn cells(self, wanted: &Wanted) -> impl Iterator<Item = (&'a Run, &'a Cell)> {
        let of_run = |run: &'a Run| run.cells.iter().map(move |cell| (run, cell));
        let cells = self.runs.iter().flat_map(of_run);
        cells.filter(move |(_, cell)| cell.stack == self.stack.name && wanted.is(cell))
    }

    /// Of the cells that are sound those of the first run that has any, the busiest one first: its
    /// operations met a server that works as the planned one will.
    fn asked(self, wanted: &Wanted) -> Option<(&'a Run, &'a Cell)> {
        let sound = || self.sound(wanted);
        let (first, _) = sound().next()?;
        let offered = |cell: &Cell| {
            let metric = cell.metrics.get("offered_per_second");
            metric.and_then(|metric| metric.value).unwrap_or_default()
        };
        sound()
            .filter(|(run, _)| run.run_id == first.run_id)
            .reduce(|best, next| {
                if offered(next.1) > offered(best.1) {
                    next
                } else {
                    best
                }
            })
    }

    pub(super) fn sound(self, wanted: &Wanted) -> impl Iterator<Item = (&'a Run, &'a Cell)> {
        let cells = self.cells(wanted);
        cells.filter(|(_, cell)| cell.verdict == Verdict::Ok)
    }

    fn unused(self, wanted: &Wanted) -> impl Iterator<Item = Unused> {
        let cells = self.cells(wanted);
        cells
            .filter(|(_, cell)| cell.verdict != Verdict::Ok)
            .map(|(_, cell)| Unused {
                cell_id: cell.id.clone(),
                verdict: cell.verdict,
                reason: cell.reason.clone(),
            })
    }

    /// How to measure what is missing.
    pub(super) fn command(self, profile: &str, experiment: &str) -> String {
        let stack = self.stack.name;
        format!("hopbench run --profile {profile} --experiments {experiment} --stacks {stack}")
    }

    /// What the stack costs when it serves so many users.
    pub(super) fn costs(self, users: f64) -> Costs {
        let scale = scale::Crowd::of(self);
        let memory = |meter: Meter| {
            let small = self.memory(meter);
            scale.memory(meter).unwrap_or(small)
        };
        let at_scale = |key| scale.cpu_ns(key, users);
        let registration = self
            .registration()
            .with_cpu(at_scale(scale::REGISTRATION_CPU));
        let mut costs = Costs {
            heap: memory(Meter::Heap),
            resident: memory(Meter::Resident),
            kernel: memory(Meter::Kernel),
            refresh: self
                .refresh(&registration)
                .with_cpu(at_scale(scale::REFRESH_CPU)),
            registration,
            call: self.call().with_cpu(at_scale(scale::CALL_CPU)),
            idle_second: self.idle_second().with_cpu(scale.idle_cpu_ns(users)),
            keep_alive_seconds: scale.keep_alive_seconds(),
            unused: Vec::new(),
        };
        let asked = [
            Wanted::memory("idle"),
            Wanted::memory("registered"),
            Wanted::throughput("register", "direct"),
            Wanted::throughput("reregister", "direct"),
            Wanted::throughput("invite", "edge"),
            Wanted::throughput("invite", "direct"),
            scale::WANTED,
        ];
        costs.unused = asked
            .iter()
            .flat_map(|wanted| self.unused(wanted))
            .collect();
        costs
    }

    fn memory(self, meter: Meter) -> Memory {
        if meter == Meter::Kernel && !has_server_sockets(self.stack) {
            let none = Finding::exact(0.0);
            return Memory {
                per_user_bytes: none.clone().noted(format!(
                    "a server has no socket of its own for a user of {}",
                    self.stack.name
                )),
                fixed_bytes: none,
            };
        }
        let command = self.command("quick", "memory");
        let stages = [Wanted::memory("idle"), Wanted::memory("registered")];
        let cells = stages.iter().filter_map(|wanted| self.asked(wanted));
        let slopes = cells.filter_map(|(run, cell)| Some((run, cell, slope(run, cell, meter)?)));
        let Some((run, cell, slope)) = slopes.into_iter().next() else {
            let what = format!("{} per user", meter.words());
            return Memory {
                per_user_bytes: Finding::missing(what, command.clone()),
                fixed_bytes: Finding::exact(0.0),
            };
        };
        let mut per_user_bytes = slope;
        if Wanted::memory("registered").is(cell) && !self.stack.is_stream() {
            per_user_bytes = per_user_bytes.at_most().noted(
                "read while the transactions of registrations were still held (Timer J), which \
                 idle users have left behind",
            );
        }
        if meter == Meter::Kernel {
            per_user_bytes = per_user_bytes.times(0.5).noted(HALF_OF_THE_KERNEL);
        }
        let fixed = meter.fixed_key().and_then(|key| source(run, cell, key));
        let fixed_bytes = match (fixed, meter) {
            (Some(fixed), _) => Finding::measured(fixed).with_figure(|figure| figure.at_least(0.0)),
            (None, Meter::Kernel) => Finding::exact(0.0),
            (None, Meter::Heap | Meter::Resident) => Finding::missing(
                format!("{} of a process without users", meter.words()),
                command,
            ),
        };
        Memory {
            per_user_bytes,
            fixed_bytes,
        }
    }

    fn operation(self, wanted: &[Wanted]) -> Option<Operation> {
        let (run, cell) = wanted.iter().find_map(|wanted| self.asked(wanted))?;
        let cpu = source(run, cell, "server_cpu_ns_per_operation")?;
        let wire = source(run, cell, "wire_bytes_per_operation");
        let what = format!("bytes on the wire of {}", cell.id);
        let profile = format!("hopbench run --profile {}", run.profile);
        Some(Operation {
            cpu_ns: Finding::measured(cpu),
            wire_bytes: wire.map_or(Finding::missing(what, profile), Finding::measured),
        })
    }

    fn registration(self) -> Operation {
        let found = self.operation(&[Wanted::throughput("register", "direct")]);
        found.unwrap_or_else(|| {
            Operation::missing("a registration", self.command("quick", "throughput"))
        })
    }

    /// Where no refresh was measured, a registration over a new hop is the most that it may cost.
    fn refresh(self, registration: &Operation) -> Operation {
        if let Some(refresh) = self.operation(&[Wanted::throughput("reregister", "direct")]) {
            return refresh;
        }
        let command = self.command("workloads", "throughput");
        let missing = Operation::missing("a refresh", command);
        let note =
            "no refresh was measured: the cost of a registration over a new hop stands for it";
        let most = |registration: &Finding, missing: Finding| match registration.figure {
            Some(_) => {
                let registration = registration.clone();
                registration.at_most().noted(note).beside(missing)
            }
            None => missing,
        };
        Operation {
            cpu_ns: most(&registration.cpu_ns, missing.cpu_ns),
            wire_bytes: most(&registration.wire_bytes, missing.wire_bytes),
        }
    }

    fn call(self) -> Operation {
        let passed = [Wanted::throughput("invite", "edge")];
        let answered = [Wanted::throughput("invite", "direct")];
        if let Some(call) = self.operation(&passed) {
            return call;
        }
        let command = self.command("workloads", "throughput");
        let missing = Operation::missing("a call from user to user", command);
        let Some(call) = self.operation(&answered) else {
            return missing;
        };
        let note = "the calls that were measured end at the node: a proxy that brings them to \
                    another user does more";
        let least =
            |finding: Finding, missing: Finding| finding.at_least().noted(note).beside(missing);
        Operation {
            cpu_ns: least(call.cpu_ns, missing.cpu_ns),
            wire_bytes: least(call.wire_bytes, missing.wire_bytes),
        }
    }

    fn idle_second(self) -> Operation {
        let what = "keep-alives of an idle user";
        Operation {
            wire_bytes: Finding::missing(format!("bytes on the wire of {what}"), None),
            ..Operation::missing(what, self.command("scale", "scale"))
        }
    }
}

impl Operation {
    fn missing(what: &str, command: String) -> Self {
        Self {
            cpu_ns: Finding::missing(format!("CPU of {what}"), command.clone()),
            wire_bytes: Finding::missing(format!("bytes on the wire of {what}"), command),
        }
    }

    /// With another figure of the processor, if there is one.
    fn with_cpu(self, cpu_ns: Option<Finding>) -> Self {
        Self {
            cpu_ns: cpu_ns.unwrap_or(self.cpu_ns),
            ..self
        }
    }
}

/// Whether a server has a kernel socket for each user.
pub(super) fn has_server_sockets(stack: &Stack) -> bool {
    stack.is_stream() && stack.tunnel.is_none()
}

/// Which of a server's memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Meter {
    Heap,
    Resident,
    Kernel,
}

impl Meter {
    pub(super) fn words(self) -> &'static str {
        match self {
            Self::Heap => "server heap",
            Self::Resident => "resident memory of the server",
            Self::Kernel => "kernel memory of sockets",
        }
    }

    /// The slope, and how straight its line is.
    fn keys(self) -> (&'static str, &'static str) {
        match self {
            Self::Heap => (
                "server_heap_bytes_per_connection",
                "server_heap_r_squared_ratio",
            ),
            Self::Resident => (
                "server_rss_bytes_per_connection",
                "server_rss_r_squared_ratio",
            ),
            Self::Kernel => ("kernel_bytes_per_connection", "kernel_r_squared_ratio"),
        }
    }

    /// What all users of a cell of the experiment `scale` take together.
    pub(super) fn scale_key(self) -> &'static str {
        match self {
            Self::Heap => "server_heap_bytes",
            Self::Resident => "server_rss_bytes",
            Self::Kernel => "kernel_bytes",
        }
    }

    fn fixed_key(self) -> Option<&'static str> {
        match self {
            Self::Heap => Some("server_heap_fixed_bytes"),
            Self::Resident => Some("server_rss_fixed_bytes"),
            Self::Kernel => None,
        }
    }
}

/// A figure of a cell; `None` when it is missing.
pub(super) fn source(run: &Run, cell: &Cell, key: &str) -> Option<Source> {
    let metric = cell.metrics.get(key)?;
    Some(Source {
        run_id: run.run_id.clone(),
        cell_id: cell.id.clone(),
        metric: key.to_owned(),
        figure: Figure::of(metric)?,
        unit: metric.unit,
        users: users(cell),
    })
}

/// The slope of a memory cell, with the interval over blocks and that of the regression: each knows of
/// errors that the other does not see.
fn slope(run: &Run, cell: &Cell, meter: Meter) -> Option<Finding> {
    let (key, r_squared_key) = meter.keys();
    let mut source = source(run, cell, key)?;
    let r_squared = cell.metrics.get(r_squared_key);
    let recorded = recorded_interval(&cell.metrics[key]);
    let of_regression = recorded.or_else(|| {
        let r_squared = r_squared?.value?;
        statistics::slope_interval(source.figure.value, r_squared, connections(cell).count())
    });
    source.figure = source.figure.or_within(of_regression);
    Some(Finding::measured(source).with_figure(|figure| figure.at_least(0.0)))
}

fn recorded_interval(metric: &Metric) -> Option<statistics::Interval> {
    let fit = metric.fit.as_ref()?;
    let (low, high) = fit.ci95_low.zip(fit.ci95_high)?;
    Some(statistics::Interval { low, high })
}

/// The most users of a cell.
pub(super) fn users(cell: &Cell) -> Option<f64> {
    let users = cell
        .parameters
        .get("users")
        .and_then(serde_json::Value::as_f64);
    connections(cell).reduce(f64::max).or(users)
}

fn connections(cell: &Cell) -> impl Iterator<Item = f64> {
    let connections = cell.parameters.get("connections");
    let connections = connections.and_then(|connections| connections.as_array());
    connections
        .into_iter()
        .flatten()
        .filter_map(serde_json::Value::as_f64)
}
