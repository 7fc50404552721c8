//! From what a user and an operation cost to what all users need: one estimate a line, each with the
//! formula that it follows.

use hopbench::transport::Stack;
use serde::Serialize;

use super::NS_PER_SECOND;
use super::demand::{DESCRIPTORS_BESIDE, Demand};
use super::evidence::{Costs, Memory, has_server_sockets};
use super::figure::Figure;
use super::finding::{Bound, Finding, Missing, Source};

/// What an estimate is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Topic {
    Memory,
    Connections,
    Processors,
    Avalanche,
    Bandwidth,
}

impl Topic {
    /// In the order of the report.
    pub(crate) const ALL: [Self; 5] = [
        Self::Memory,
        Self::Connections,
        Self::Processors,
        Self::Avalanche,
        Self::Bandwidth,
    ];

    pub(crate) fn title(self) -> &'static str {
        match self {
            Self::Memory => "Memory of the server",
            Self::Connections => "Connections and processes",
            Self::Processors => "Processors, steady state",
            Self::Avalanche => "Avalanche: all hops drop at once",
            Self::Bandwidth => "Bandwidth, both directions",
        }
    }
}

/// What an estimate is counted in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Quantity {
    Bytes,
    Count,
    PerSecond,
    Cores,
    Seconds,
    BitsPerSecond,
}

/// One line of a plan.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct Estimate {
    pub(crate) topic: Topic,
    /// Ends in its unit, as metric keys do.
    pub(crate) key: &'static str,
    pub(crate) title: &'static str,
    pub(crate) unit: Quantity,
    /// Null when nothing is known of it.
    pub(crate) figure: Option<Figure>,
    pub(crate) bound: Bound,
    /// In words.
    pub(crate) formula: String,
    /// How many times more users are planned than its sources have seen; null where nothing was
    /// measured for it, or at most as many.
    pub(crate) extrapolation_factor: Option<f64>,
    pub(crate) sources: Vec<Source>,
    pub(crate) missing: Vec<Missing>,
    pub(crate) notes: Vec<String>,
}

/// A line before its figure.
struct Line {
    topic: Topic,
    key: &'static str,
    title: &'static str,
    unit: Quantity,
}

const fn line(topic: Topic, key: &'static str, title: &'static str, unit: Quantity) -> Line {
    Line {
        topic,
        key,
        title,
        unit,
    }
}

/// All lines of a stack, in the order of [`Topic::ALL`]; every stack has the same ones.
pub(super) fn estimates(demand: &Demand, stack: &Stack, costs: &Costs) -> Vec<Estimate> {
    let busy = Busy::of(demand, costs);
    let cores = busy
        .all()
        .with_figure(|figure| figure.scaled(demand.utilisation.recip()).rounded_up());
    let mut sheet = Sheet {
        demand,
        estimates: Vec::new(),
    };
    let processes = sheet.processes(stack, &cores);
    sheet.memory(costs, processes);
    sheet.connections(stack, processes);
    sheet.processors(&busy, cores.clone());
    sheet.avalanche(costs, &cores);
    sheet.bandwidth(costs);
    sheet.estimates
}

/// What the processor does all the time, in cores.
struct Busy {
    refreshes: Finding,
    calls: Finding,
    keep_alives: Finding,
}

const BITS_PER_BYTE: f64 = 8.0;

impl Busy {
    fn of(demand: &Demand, costs: &Costs) -> Self {
        let cores =
            |cpu_ns: &Finding, per_second: f64| cpu_ns.clone().times(per_second / NS_PER_SECOND);
        Self {
            refreshes: cores(&costs.refresh.cpu_ns, demand.refreshes_per_second()),
            calls: cores(&costs.call.cpu_ns, demand.calls_per_second()),
            keep_alives: cores(&costs.idle_second.cpu_ns, idle_seconds(demand, costs)),
        }
    }

    fn all(&self) -> Finding {
        let both = self.refreshes.clone().plus(self.calls.clone());
        both.plus(self.keep_alives.clone())
    }
}

/// Measured seconds of idle users in a second of the planned ones: keep-alives that come half as often
/// cost half.
fn idle_seconds(demand: &Demand, costs: &Costs) -> f64 {
    let both = demand.keep_alive_seconds.zip(costs.keep_alive_seconds);
    let faster = both.map_or(1.0, |(planned, measured)| measured / planned);
    demand.users() * faster
}

struct Sheet<'a> {
    demand: &'a Demand,
    estimates: Vec<Estimate>,
}

impl Sheet<'_> {
    fn add(&mut self, line: &Line, formula: impl Into<String>, finding: Finding) {
        let measured = finding.measured_users();
        let factor = measured.map(|measured| self.demand.users() / measured);
        self.estimates.push(Estimate {
            topic: line.topic,
            key: line.key,
            title: line.title,
            unit: line.unit,
            figure: finding.figure,
            bound: finding.bound,
            formula: formula.into(),
            extrapolation_factor: factor.filter(|factor| *factor > 1.0),
            sources: finding.sources,
            missing: finding.missing,
            notes: finding.notes,
        });
    }

    /// Processes that the node must be, so that none holds too many descriptors and none is busier than
    /// a core.
    fn processes(&self, stack: &Stack, cores: &Finding) -> f64 {
        let of_each = f64::from(self.demand.descriptors - DESCRIPTORS_BESIDE);
        let for_descriptors = (connections(stack, self.demand) / of_each).ceil();
        let for_cores = cores.value().unwrap_or_default();
        for_descriptors.max(for_cores).max(1.0)
    }

    fn memory(&mut self, costs: &Costs, processes: f64) {
        let total = |memory: &Memory| {
            let users = memory.per_user_bytes.clone().times(self.demand.users());
            let fixed = memory.fixed_bytes.clone().times(processes);
            // Without its slope the fixed cost says nothing.
            match users.figure {
                Some(_) => users.plus(fixed),
                None => users,
            }
        };
        let heap = total(&costs.heap);
        let resident = resident(total(&costs.resident), &heap);
        let kernel = total(&costs.kernel);
        let of = |key, title| line(Topic::Memory, key, title, Quantity::Bytes);
        let formula = |what: &str| {
            format!("{what} per user × users + {what} of a process without users × processes")
        };
        self.add(&of("server_heap_bytes", "heap"), formula("heap"), heap);
        let all = match (&resident.figure, &kernel.figure) {
            (None, None) => resident.clone(),
            _ => resident.clone().plus(kernel.clone()),
        };
        self.add(
            &of("server_resident_bytes", "resident, heap included"),
            formula("resident memory"),
            resident,
        );
        self.add(
            &of("server_kernel_bytes", "kernel, for sockets"),
            "kernel memory of the server's sockets per user × users",
            kernel,
        );
        self.add(
            &of("server_memory_bytes", "memory in all"),
            "resident + kernel; users at rest: calls and handshakes in progress come on top",
            all,
        );
    }

    fn connections(&mut self, stack: &Stack, processes: f64) {
        let of = |key, title| line(Topic::Connections, key, title, Quantity::Count);
        let connections = connections(stack, self.demand);
        let hops = match (stack.is_stream(), stack.tunnel) {
            (true, None) => "a connection of the kernel for each user",
            (true, Some(_)) => {
                "a tunnel and a connection within it for each user, none of the kernel"
            }
            (false, Some(_)) => "a tunnel for each user, no connection",
            (false, None) => "no connection: all users share the sockets of the processes",
        };
        self.add(
            &of("connections_count", "kernel connections"),
            hops,
            Finding::exact(connections),
        );
        let beside = f64::from(DESCRIPTORS_BESIDE);
        self.add(
            &of("descriptors_count", "descriptors"),
            format!("kernel connections + {beside} × processes"),
            Finding::exact(connections + beside * processes),
        );
        self.add(
            &of("processes_count", "processes"),
            format!(
                "as many as keep each within {} descriptors, and at least as many as cores",
                self.demand.descriptors
            ),
            Finding::exact(processes),
        );
    }

    fn processors(&mut self, busy: &Busy, cores: Finding) {
        let demand = self.demand;
        let of = |key, title, unit| line(Topic::Processors, key, title, unit);
        self.add(
            &of("refreshes_per_second", "refreshes", Quantity::PerSecond),
            format!(
                "users ÷ ({} s × {}): refreshed after that share of the expiry",
                demand.expires_seconds, demand.refresh_fraction
            ),
            Finding::exact(demand.refreshes_per_second()),
        );
        self.add(
            &of("calls_per_second", "calls", Quantity::PerSecond),
            format!("users × {} an hour", demand.calls_per_user_hour),
            Finding::exact(demand.calls_per_second()),
        );
        let parts = [
            (
                "refresh_cores",
                "CPU of refreshes",
                "CPU per refresh × refreshes a second",
                &busy.refreshes,
            ),
            (
                "call_cores",
                "CPU of calls",
                "CPU per call × calls a second",
                &busy.calls,
            ),
            (
                "keep_alive_cores",
                "CPU of keep-alives",
                "CPU of an idle user a second × users",
                &busy.keep_alives,
            ),
        ];
        for (key, title, formula, finding) in parts {
            self.add(&of(key, title, Quantity::Cores), formula, finding.clone());
        }
        self.add(
            &of("busy_cores", "CPU in all", Quantity::Cores),
            "refreshes + calls + keep-alives",
            busy.all(),
        );
        self.add(
            &of("planned_cores", "cores to plan", Quantity::Cores),
            format!("CPU in all ÷ {}, rounded up", demand.utilisation),
            cores,
        );
    }

    fn avalanche(&mut self, costs: &Costs, cores: &Finding) {
        let demand = self.demand;
        let window = demand.return_window_seconds();
        let of = |key, title, unit| line(Topic::Avalanche, key, title, unit);
        let wanted = demand.users() / window;
        self.add(
            &of("comeback_per_second", "handshakes wanted", Quantity::PerSecond),
            format!(
                "users ÷ {window} s: everybody comes back between {window} s and {} s (RFC 5626 §4.5)",
                demand.back_off_seconds
            ),
            Finding::exact(wanted),
        );
        let cpu_ns = &costs.registration.cpu_ns;
        self.add(
            &of(
                "handshakes_per_core_per_second",
                "handshakes that a core makes",
                Quantity::PerSecond,
            ),
            "1 ÷ CPU per registration over a new hop; the core does nothing else",
            cpu_ns.clone().dividing(NS_PER_SECOND),
        );
        let work = cpu_ns.clone().times(demand.users() / NS_PER_SECOND);
        let back = |cores: f64| {
            let served = work.clone().times(cores.recip());
            served.with_figure(|figure| {
                figure
                    .plus(Figure::exact(window))
                    .at_least(demand.back_off_seconds)
            })
        };
        let formula = |cores: &str| {
            format!(
                "{window} s + users × CPU per registration ÷ {cores}, at least {} s; attempts that \
                 give up while they wait come on top",
                demand.back_off_seconds
            )
        };
        self.add(
            &of(
                "recovery_on_one_core_seconds",
                "everybody back, one core",
                Quantity::Seconds,
            ),
            formula("one core"),
            back(1.0).at_least(),
        );
        let planned = match cores.value() {
            Some(planned) => back(planned.max(1.0)).beside(cores.clone()).at_least(),
            None => Finding {
                figure: None,
                ..cores.clone()
            },
        };
        self.add(
            &of(
                "recovery_on_planned_cores_seconds",
                "everybody back, planned cores",
                Quantity::Seconds,
            ),
            formula("cores to plan, all of them"),
            planned,
        );
        self.add(
            &of(
                "avalanche_cores",
                "cores that nobody waits for",
                Quantity::Cores,
            ),
            "handshakes wanted × CPU per registration, rounded up",
            work.times(window.recip()).with_figure(Figure::rounded_up),
        );
    }

    fn bandwidth(&mut self, costs: &Costs) {
        let demand = self.demand;
        let of = |key, title| line(Topic::Bandwidth, key, title, Quantity::BitsPerSecond);
        let bits =
            |bytes: &Finding, per_second: f64| bytes.clone().times(BITS_PER_BYTE * per_second);
        let refreshes = bits(&costs.refresh.wire_bytes, demand.refreshes_per_second());
        let calls = bits(&costs.call.wire_bytes, demand.calls_per_second());
        let idle = bits(&costs.idle_second.wire_bytes, idle_seconds(demand, costs));
        let all = refreshes.clone().plus(calls.clone()).plus(idle.clone());
        let window = demand.return_window_seconds();
        let comeback = bits(&costs.registration.wire_bytes, demand.users() / window);
        let lines = [
            (
                "refresh_bits_per_second",
                "refreshes",
                "bytes on the wire per refresh × refreshes a second",
                refreshes,
            ),
            (
                "call_bits_per_second",
                "calls, without media",
                "bytes on the wire per call, all its hops × calls a second",
                calls,
            ),
            (
                "keep_alive_bits_per_second",
                "keep-alives",
                "bytes on the wire of an idle user a second × users",
                idle,
            ),
            (
                "steady_bits_per_second",
                "in all, steady state",
                "refreshes + calls + keep-alives",
                all,
            ),
            (
                "avalanche_bits_per_second",
                "avalanche",
                "bytes on the wire per registration over a new hop × handshakes wanted",
                comeback,
            ),
        ];
        for (key, title, formula, finding) in lines {
            self.add(&of(key, title), formula, finding);
        }
    }
}

/// What is resident holds the heap: where it was measured as less, since its pages were there before, the
/// heap is the least that it can be.
fn resident(resident: Finding, heap: &Finding) -> Finding {
    match (resident.value(), heap.value()) {
        (Some(measured), Some(least)) if measured < least => heap
            .clone()
            .with_figure(|heap| {
                let low = heap.ci95.map_or(heap.value, |ci95| ci95.low);
                let both = heap.or_within(resident.figure.and_then(|resident| resident.ci95));
                both.at_least(low)
            })
            .at_least()
            .noted(
                "resident memory was measured as less than the heap in it, since pages that were free \
                 before were used: the heap stands for it",
            )
            .beside(resident),
        (Some(_), _) | (None, _) => resident,
    }
}

/// Sockets that the node's kernel holds for users.
fn connections(stack: &Stack, demand: &Demand) -> f64 {
    if has_server_sockets(stack) {
        demand.users()
    } else {
        0.0
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use hopbench::transport;

    use super::super::demand::demand;
    use super::super::evidence::Operation;
    use super::*;

    fn operation(cpu_ns: f64, wire_bytes: f64) -> Operation {
        Operation {
            cpu_ns: Finding::exact(cpu_ns),
            wire_bytes: Finding::exact(wire_bytes),
        }
    }

    fn memory(per_user: f64, fixed: f64) -> Memory {
        Memory {
            per_user_bytes: Finding::exact(per_user),
            fixed_bytes: Finding::exact(fixed),
        }
    }

    fn costs() -> Costs {
        Costs {
            heap: memory(8_000.0, 1e6),
            resident: memory(9_000.0, 4e6),
            kernel: memory(3_000.0, 0.0),
            registration: operation(500_000.0, 4_000.0),
            refresh: operation(60_000.0, 1_500.0),
            call: operation(200_000.0, 6_000.0),
            idle_second: operation(100.0, 2.0),
            keep_alive_seconds: Some(120.0),
            unused: Vec::new(),
        }
    }

    fn figure(demand: &Demand, stack: &str, costs: &Costs, key: &str) -> Option<f64> {
        let estimates = estimates(demand, transport::find(stack).unwrap(), costs);
        let estimate = estimates.iter().find(|estimate| estimate.key == key);
        estimate.unwrap().figure.map(|figure| figure.value)
    }

    /// By hand: 1.8 million users refresh 1,000 times and call 1,000 times a second.
    #[test]
    fn every_line_follows_from_the_costs() {
        let demand = demand(1_800_000);
        for (key, expected) in [
            // 1,800,000 ÷ (20,000 − 64) is 90.3.
            ("processes_count", 91.0),
            ("connections_count", 1_800_000.0),
            ("descriptors_count", 1_800_000.0 + 91.0 * 64.0),
            ("server_heap_bytes", 1_800_000.0 * 8_000.0 + 91.0 * 1e6),
            ("server_resident_bytes", 1_800_000.0 * 9_000.0 + 91.0 * 4e6),
            ("server_kernel_bytes", 5.4e9),
            ("server_memory_bytes", 1_800_000.0 * 12_000.0 + 91.0 * 4e6),
            ("refresh_cores", 0.06),
            ("call_cores", 0.2),
            ("keep_alive_cores", 0.18),
            ("busy_cores", 0.44),
            ("planned_cores", 1.0),
            ("comeback_per_second", 120_000.0),
            ("handshakes_per_core_per_second", 2_000.0),
            ("recovery_on_one_core_seconds", 15.0 + 900.0),
            ("avalanche_cores", 60.0),
            ("refresh_bits_per_second", 12e6),
            ("call_bits_per_second", 48e6),
            ("keep_alive_bits_per_second", 28.8e6),
            ("steady_bits_per_second", 88.8e6),
            ("avalanche_bits_per_second", 3.84e9),
        ] {
            let found = figure(&demand, "tls", &costs(), key).unwrap();
            assert!((found / expected - 1.0).abs() < 1e-9, "{key}: {found}");
        }
    }

    #[test]
    fn a_few_users_are_back_when_the_last_has_waited() {
        let demand = demand(100);
        let seconds = figure(&demand, "tls", &costs(), "recovery_on_one_core_seconds");
        assert_eq!(seconds, Some(30.0));
    }

    #[test]
    fn keep_alives_that_come_half_as_often_cost_half() {
        let mut demand = demand(1_800_000);
        demand.keep_alive_seconds = Some(240.0);
        let cores = figure(&demand, "tls", &costs(), "keep_alive_cores").unwrap();
        assert!((cores - 0.09).abs() < 1e-12);
    }

    #[test]
    fn users_of_datagrams_and_tunnels_take_no_descriptor() {
        for stack in ["udp", "udp@wireguard", "tcp@wireguard", "tls@wireguard"] {
            let demand = demand(1_800_000);
            let found = |key| figure(&demand, stack, &costs(), key);
            assert_eq!(found("connections_count"), Some(0.0), "{stack}");
            assert_eq!(found("processes_count"), Some(1.0), "{stack}");
        }
    }

    #[test]
    fn resident_memory_holds_the_heap() {
        let mut costs = costs();
        costs.resident = memory(7_000.0, 0.0);
        let estimates = estimates(&demand(1_000), transport::find("tcp").unwrap(), &costs);
        let of = |key| {
            estimates
                .iter()
                .find(|estimate| estimate.key == key)
                .unwrap()
        };
        let (heap, resident) = (of("server_heap_bytes"), of("server_resident_bytes"));
        assert_eq!(resident.figure.unwrap().value, heap.figure.unwrap().value);
        assert_eq!(resident.bound, Bound::AtLeast);
    }

    #[test]
    fn what_is_not_known_is_no_zero() {
        let mut costs = costs();
        let unknown = || Finding::missing("CPU", "hopbench run".to_owned());
        costs.refresh.cpu_ns = unknown();
        costs.call.cpu_ns = unknown();
        costs.idle_second.cpu_ns = unknown();
        for key in [
            "refresh_cores",
            "busy_cores",
            "planned_cores",
            "recovery_on_planned_cores_seconds",
        ] {
            assert_eq!(figure(&demand(1_000), "tls", &costs, key), None, "{key}");
        }
        costs.call = operation(200_000.0, 6_000.0);
        let estimates = estimates(&demand(1_000), transport::find("tls").unwrap(), &costs);
        let busy = estimates
            .iter()
            .find(|estimate| estimate.key == "busy_cores")
            .unwrap();
        assert_eq!(busy.bound, Bound::AtLeast);
        assert_eq!(busy.missing.len(), 1);
    }
}
