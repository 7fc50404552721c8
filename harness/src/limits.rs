//! What a run asks of the machine, and whether the machine has it: read before anything starts, so that
//! nothing dies half-way for want of descriptors, ports or memory.
//!
//! [`Demand`] is computed from a cell, [`Readings`] come from the system, and [`Demand::unmet`] compares
//! them; it is a pure function. What only slows a load down is not here: a full backlog
//! (`net.core.somaxconn`) lets newcomers try again, and `tcp_mem` bounds bytes on their way, of which
//! idle connections have none.

mod lines;

use std::fmt;
use std::fs;

use hopbench::load::{Lifecycle, LoadPlan, Workload};
use hopbench::transport::{InnerIp, Stack};
use nix::sys::resource::{RLIM_INFINITY, Resource, getrlimit, setrlimit};

use crate::topology::Site;

pub(crate) use lines::lines;

/// Descriptors of a process that are none of its users': pipes, timers, listeners, hops between nodes.
const OWN_DESCRIPTORS: u64 = 64;
/// Ephemeral ports where the system does not tell: Linux' default.
const PORTS: u32 = 28_232;
/// Memory of a process without users, more or less.
const PROCESS_BYTES: u64 = 16 << 20;

/// What the machine has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Readings {
    /// Descriptors that a process may hold (the hard `RLIMIT_NOFILE`); `None` without limit.
    pub(crate) descriptors: Option<u64>,
    /// Files that the system can still open (`fs.file-max` without those in use).
    pub(crate) files: Option<u64>,
    /// Ephemeral ports of one source address (`net.ipv4.ip_local_port_range`).
    pub(crate) ports: Option<u64>,
    /// Memory that can be had without swapping.
    pub(crate) memory_bytes: Option<u64>,
}

/// What something asks of the machine while it runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Demand {
    /// Who can be told to ask for less.
    asker: Asker,
    /// In the node process that holds most.
    node_descriptors: u64,
    /// In the generator process that holds most.
    generator_descriptors: u64,
    /// Of the source address that most users connect from.
    ports: u64,
    /// Of all processes.
    files: u64,
    /// Of all processes and of the kernel for them.
    memory_bytes: u64,
}

/// Where the figures come from that can be lowered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Asker {
    /// A scenario.
    Scenario,
    /// The command line of `hopbench load`.
    Load,
}

/// How users are spread over processes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Spread {
    /// Processes of the node that the users share by chance.
    pub(crate) node_processes: u32,
    /// Processes of the generator that the users share evenly.
    pub(crate) generator_processes: u32,
}

impl Spread {
    /// One node and one generator.
    pub(crate) const PAIR: Self = Self {
        node_processes: 1,
        generator_processes: 1,
    };
}

impl Demand {
    /// A cell whose `users` all connect to the same node over `stack`, each over a hop of its own.
    /// Where the generator is several processes, each has a source address.
    pub(crate) fn of_cell(hop: impl Into<UserHop>, users: u32, spread: Spread) -> Self {
        let hop = hop.into();
        let at_node = if hop.has_socket_at_node() {
            share_by_chance(users, spread.node_processes)
        } else {
            0
        };
        let processes = u64::from(spread.node_processes) + u64::from(spread.generator_processes);
        let node_sockets = if at_node > 0 { u64::from(users) } else { 0 };
        Self {
            asker: Asker::Scenario,
            node_descriptors: at_node + OWN_DESCRIPTORS,
            files: node_sockets + hop.sockets() * u64::from(users) + processes * OWN_DESCRIPTORS,
            memory_bytes: u64::from(users) * bytes_per_user(hop.stack) + processes * PROCESS_BYTES,
            ..Self::of_generator(hop, users, spread.generator_processes, true)
        }
    }

    /// A generator whose node is not ours. Its processes have a source address each where
    /// `has_sources`.
    pub(crate) fn of_generator(
        hop: impl Into<UserHop>,
        users: u32,
        processes: u32,
        has_sources: bool,
    ) -> Self {
        let hop = hop.into();
        let share = u64::from(users.div_ceil(processes.max(1)));
        let processes = u64::from(processes);
        Self {
            asker: Asker::Load,
            node_descriptors: 0,
            generator_descriptors: hop.sockets() * share + OWN_DESCRIPTORS,
            ports: if has_sources { share } else { users.into() },
            files: hop.sockets() * u64::from(users) + processes * OWN_DESCRIPTORS,
            memory_bytes: u64::from(users) * bytes_per_user(hop.stack) / 2
                + processes * PROCESS_BYTES,
        }
    }

    /// Both at the same time, in processes of their own.
    pub(crate) fn beside(self, other: Self) -> Self {
        Self {
            asker: self.asker,
            node_descriptors: self.node_descriptors.max(other.node_descriptors),
            generator_descriptors: self.generator_descriptors.max(other.generator_descriptors),
            ports: self.ports + other.ports,
            files: self.files + other.files,
            memory_bytes: self.memory_bytes + other.memory_bytes,
        }
    }

    /// What it needs and the machine does not have, if anything.
    pub(crate) fn unmet(&self, has: &Readings) -> Option<Unmet> {
        let rows = [
            (
                Limit::NodeDescriptors,
                self.node_descriptors,
                has.descriptors,
            ),
            (
                Limit::GeneratorDescriptors,
                self.generator_descriptors,
                has.descriptors,
            ),
            (Limit::Ports, self.ports, has.ports),
            (Limit::Files, self.files, has.files),
            (Limit::Memory, self.memory_bytes, has.memory_bytes),
        ];
        let short = rows.into_iter().filter_map(|(limit, needs, has)| {
            let has = has.filter(|has| *has < needs)?;
            Some(Shortfall { limit, needs, has })
        });
        let shortfalls: Vec<Shortfall> = short.collect();
        (!shortfalls.is_empty()).then_some(Unmet {
            asker: self.asker,
            shortfalls,
        })
    }
}

/// Hops that a load holds at the same time, at most, or nearly so: of what comes by chance, what comes
/// beyond five standard deviations is not provided for.
pub(crate) fn hops_at_once(plan: &LoadPlan) -> u32 {
    let arriving = |seconds: f64| {
        let mean = plan.course.peak(plan.rate_per_second) * seconds;
        // Also of a load so slow that nothing is expected.
        let most = (mean + 5.0 * mean.sqrt()).ceil() as u32;
        most.saturating_add(16)
    };
    let load_seconds = plan.warm_up_seconds + plan.duration_seconds;
    match (plan.workload, plan.lifecycle) {
        (Workload::Register, Lifecycle::PerRegistration) => plan.users.min(arriving(load_seconds)),
        (_, Lifecycle::PerRegistration) => plan.users,
        (_, Lifecycle::PerCall | Lifecycle::PerTransaction) => {
            // Hops that have served linger a little before they are gone.
            let held_seconds = plan.talk_seconds + plan.ring_seconds + 1.0;
            plan.users.min(arriving(held_seconds.min(load_seconds)))
        }
    }
}

/// A user's hop, as far as the kernel has sockets for it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct UserHop {
    stack: &'static Stack,
    inner_ip: InnerIp,
}

impl From<&'static Stack> for UserHop {
    /// The kernel is not inside its tunnel.
    fn from(stack: &'static Stack) -> Self {
        Self {
            stack,
            inner_ip: InnerIp::User,
        }
    }
}

impl From<&Site> for UserHop {
    fn from(site: &Site) -> Self {
        Self {
            stack: site.stack,
            inner_ip: site.inner_ip(),
        }
    }
}

impl UserHop {
    /// Sockets of a user: outside of a tunnel, and inside if the kernel is there, too.
    fn sockets(self) -> u64 {
        let is_inside = self.stack.tunnel.is_some() && self.inner_ip == InnerIp::Kernel;
        1 + u64::from(is_inside)
    }

    /// Whether the node has a socket for each user: datagrams, of tunnels too, come to one.
    fn has_socket_at_node(self) -> bool {
        let is_in_user_space = self.stack.tunnel.is_some() && self.inner_ip == InnerIp::User;
        self.stack.is_stream() && !is_in_user_space
    }
}

/// What one of `processes` gets of `users` at most whom the kernel hands out by a hash
/// (`SO_REUSEPORT`): five standard deviations more than its share.
fn share_by_chance(users: u32, processes: u32) -> u64 {
    let (users, processes) = (f64::from(users), f64::from(processes.max(1)));
    let share = users / processes;
    let deviation = (share * (1.0 - 1.0 / processes)).sqrt();
    (share + 5.0 * deviation).ceil().min(users) as u64
}

/// Memory of one registered user on both sides, with the kernel's for its sockets: about twice what
/// the reference runs have measured, part by part.
fn bytes_per_user(stack: &Stack) -> u64 {
    const SIP_AND_SOCKETS: u64 = 16 << 10;
    const TLS: u64 = 32 << 10;
    const TUNNEL: u64 = 4 << 10;
    const WIREGUARD: u64 = 40 << 10;
    const INNER_TCP: u64 = 56 << 10;
    let parts = [
        (true, SIP_AND_SOCKETS),
        (stack.speaks_tls(), TLS),
        (stack.tunnel.is_some(), TUNNEL),
        (
            stack.tunnel.is_some_and(|tunnel| tunnel == "wireguard"),
            WIREGUARD,
        ),
        (stack.tunnel.is_some() && stack.is_stream(), INNER_TCP),
    ];
    let counts = parts.into_iter().filter(|(counts, _)| *counts);
    counts.map(|(_, bytes)| bytes).sum()
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Limit {
    NodeDescriptors,
    GeneratorDescriptors,
    Ports,
    Files,
    Memory,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Shortfall {
    limit: Limit,
    needs: u64,
    has: u64,
}

/// What the machine does not have, and what to do about it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) struct Unmet {
    asker: Asker,
    shortfalls: Vec<Shortfall>,
}

impl fmt::Display for Unmet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, shortfall) in self.shortfalls.iter().enumerate() {
            if place > 0 {
                f.write_str("; ")?;
            }
            shortfall.write(self.asker, f)?;
        }
        Ok(())
    }
}

impl Shortfall {
    fn write(&self, asker: Asker, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { limit, needs, has } = *self;
        let (fewer, more_generators) = match asker {
            Asker::Scenario => (
                "lower the number of users in the scenario",
                "raise `generator_processes` in it where there is that key",
            ),
            Asker::Load => ("lower --users", "raise --processes"),
        };
        match limit {
            Limit::NodeDescriptors => write!(
                f,
                "a node process needs {needs} descriptors, and the hard limit is {has}: {fewer}, raise \
                 `workers` in it where there is that key, or raise the limit (as root: `ulimit -n \
                 {needs}`; `sysctl fs.nr_open` is the most)"
            ),
            Limit::GeneratorDescriptors => write!(
                f,
                "a generator process needs {needs} descriptors, and the hard limit is {has}: {fewer}, \
                 {more_generators}, or raise the limit (as root: `ulimit -n {needs}`; `sysctl \
                 fs.nr_open` is the most)"
            ),
            Limit::Ports => write!(
                f,
                "{needs} hops from one source address need as many ephemeral ports, and there are \
                 {has}: {fewer}, {more_generators}, or `sysctl -w net.ipv4.ip_local_port_range=\"1024 \
                 65535\"`"
            ),
            Limit::Files => write!(
                f,
                "all processes together need {needs} open files, and the system can open {has} more: \
                 {fewer}, or `sysctl -w fs.file-max=…`"
            ),
            Limit::Memory => write!(
                f,
                "about {} MiB of memory are needed, and {} MiB are available: {fewer}, or end what \
                 holds memory",
                needs.div_ceil(1 << 20),
                has >> 20
            ),
        }
    }
}

impl Readings {
    /// What this machine says. What it does not say is no limit.
    pub(crate) fn of_this_machine() -> Self {
        let descriptors = getrlimit(Resource::RLIMIT_NOFILE).ok();
        let memory = [
            read("/proc/meminfo").and_then(|text| available_bytes(&text)),
            // Of a container: version 2 and version 1 of control groups.
            read("/sys/fs/cgroup/memory.max").and_then(|text| text.trim().parse().ok()),
            read("/sys/fs/cgroup/memory/memory.limit_in_bytes")
                .and_then(|text| text.trim().parse().ok()),
        ];
        Self {
            descriptors: descriptors
                .map(|(_, hard)| hard)
                .filter(|hard| *hard != RLIM_INFINITY),
            files: read("/proc/sys/fs/file-nr").and_then(|text| free_files(&text)),
            ports: port_range().map(u64::from),
            memory_bytes: memory.into_iter().flatten().min(),
        }
    }
}

/// Ephemeral ports of one source address.
pub(crate) fn ports_of_one_source() -> u32 {
    port_range().unwrap_or(PORTS)
}

fn port_range() -> Option<u32> {
    ports_in(&read("/proc/sys/net/ipv4/ip_local_port_range")?)
}

fn read(path: &str) -> Option<String> {
    fs::read_to_string(path).ok()
}

/// `first last`
fn ports_in(range: &str) -> Option<u32> {
    let mut bounds = range.split_whitespace().map(str::parse::<u32>);
    let (first, last) = (bounds.next()?.ok()?, bounds.next()?.ok()?);
    (last + 1).checked_sub(first)
}

/// `allocated unused maximum`
fn free_files(file_nr: &str) -> Option<u64> {
    let numbers: Result<Vec<u64>, _> = file_nr.split_whitespace().map(str::parse).collect();
    match numbers.ok()?.as_slice() {
        [allocated, unused, maximum] => Some((maximum + unused).saturating_sub(*allocated)),
        _ => None,
    }
}

fn available_bytes(meminfo: &str) -> Option<u64> {
    let mut lines = meminfo.lines();
    let value = lines.find_map(|line| line.strip_prefix("MemAvailable:"))?;
    let kibibytes: u64 = value.trim().strip_suffix(" kB")?.parse().ok()?;
    kibibytes.checked_mul(1_024)
}

/// Lets this process and its children hold as many descriptors as the system allows them: the soft
/// limit is for programs that use select(2).
pub(crate) fn raise_descriptor_limit() {
    if let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE)
        && soft < hard
    {
        // Where that is refused, the limit stays what it was, and is told like any other.
        let _ = setrlimit(Resource::RLIMIT_NOFILE, hard, hard);
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use hopbench::load::{ArrivalLaw, BackOff, Course, Mix};
    use hopbench::transport::find;

    use super::*;

    /// The machine that the reference runs were made on.
    const HAS: Readings = Readings {
        descriptors: Some(20_000),
        files: Some(2_400_000),
        ports: Some(28_232),
        memory_bytes: Some(24 << 30),
    };

    fn limits(stack: &str, users: u32, node: u32, generator: u32, has: &Readings) -> Vec<Limit> {
        let spread = Spread {
            node_processes: node,
            generator_processes: generator,
        };
        let unmet = Demand::of_cell(find(stack).unwrap(), users, spread).unmet(has);
        let shortfalls = unmet.map(|unmet| unmet.shortfalls).unwrap_or_default();
        shortfalls.iter().map(|short| short.limit).collect()
    }

    #[test]
    fn what_is_too_much_is_told() {
        use Limit::{Files, GeneratorDescriptors, Memory, NodeDescriptors, Ports};
        let has_ports = Readings {
            ports: Some(1_000),
            ..HAS
        };
        let has_files = Readings {
            files: Some(5_000),
            ..HAS
        };
        let both = [NodeDescriptors, GeneratorDescriptors];
        // Stack, users, node processes, generator processes.
        let cell = |stack, users, node, generator| (stack, users, node, generator);
        // A cell, the machine; what it lacks.
        let cases = [
            (cell("tcp", 19_000, 1, 1), HAS, &[][..]),
            (cell("tcp", 20_000, 1, 1), HAS, &both),
            (cell("tls", 100_000, 6, 6), HAS, &[]),
            (cell("tls", 100_000, 5, 6), HAS, &[NodeDescriptors]),
            (cell("tls", 100_000, 6, 5), HAS, &[GeneratorDescriptors]),
            // Datagrams come to one socket, also those of tunnels.
            (cell("udp", 100_000, 1, 6), HAS, &[]),
            (cell("udp@wireguard", 100_000, 1, 6), HAS, &[]),
            (cell("tcp@wireguard", 100_000, 1, 6), HAS, &[]),
            (cell("tcp", 2_000, 1, 1), has_ports, &[Ports]),
            (cell("tcp", 2_000, 1, 2), has_ports, &[]),
            (cell("tcp", 2_500, 1, 1), has_files, &[Files]),
            (cell("udp@wireguard", 1_000_000, 60, 60), HAS, &[Memory]),
            // What the system does not tell is no limit.
            (cell("tls", 1_000_000, 1, 1), Readings::default(), &[]),
        ];
        for ((stack, users, node, generator), has, expected) in cases {
            let found = limits(stack, users, node, generator, &has);
            assert_eq!(found, expected, "{stack} {users} {node} {generator}");
        }
    }

    #[test]
    fn it_is_said_what_is_needed_what_there_is_and_what_to_do() {
        let has = Readings {
            descriptors: Some(256),
            memory_bytes: Some(8 << 20),
            ..HAS
        };
        let tcp = find("tcp").unwrap();
        let unmet = Demand::of_cell(tcp, 1_000, Spread::PAIR).unmet(&has);
        let text = unmet.unwrap().to_string();
        for part in [
            "a node process needs 1064 descriptors",
            "the hard limit is 256",
            "`ulimit -n 1064`",
            "`workers`",
            "`generator_processes`",
            "MiB of memory are needed, and 8 MiB are available",
        ] {
            assert!(text.contains(part), "{part}: {text}");
        }
        let unmet = Demand::of_generator(tcp, 1_000, 1, false).unmet(&has);
        let text = unmet.unwrap().to_string();
        for part in ["lower --users", "raise --processes"] {
            assert!(text.contains(part), "{part}: {text}");
        }
        assert!(!text.contains("node"), "{text}");
    }

    #[test]
    fn chance_is_provided_for() {
        assert_eq!(share_by_chance(100, 1), 100);
        // 16,667 and five times 118.
        assert_eq!(share_by_chance(100_000, 6), 17_256);
        assert_eq!(share_by_chance(3, 2), 3);
    }

    #[test]
    fn what_runs_side_by_side_adds_up_but_for_what_each_process_has() {
        let tcp = find("tcp").unwrap();
        let demand = |users| Demand::of_cell(tcp, users, Spread::PAIR);
        let both = demand(100).beside(demand(200));
        assert_eq!(both.node_descriptors, demand(200).node_descriptors);
        assert_eq!(both.ports, 300);
        assert_eq!(both.files, demand(100).files + demand(200).files);
    }

    #[test]
    fn only_what_is_held_at_once_counts() {
        let plan = LoadPlan {
            workload: Workload::Invite,
            lifecycle: Lifecycle::PerRegistration,
            arrivals: ArrivalLaw::Poisson,
            rate_per_second: 100.0,
            course: Course::Steady,
            warm_up_seconds: 1.0,
            duration_seconds: 3.0,
            drain_seconds: 1.0,
            users: 50_000,
            talk_seconds: 0.0,
            ring_seconds: 0.0,
            mix: Mix::default(),
            back_off: BackOff::default(),
            seed: 1,
        };
        // Workload, lifecycle, users; hops.
        let cases = [
            (Workload::Invite, Lifecycle::PerRegistration, 50_000, 50_000),
            // A hundred, five deviations of ten, and a few.
            (Workload::Invite, Lifecycle::PerCall, 50_000, 166),
            (Workload::Register, Lifecycle::PerTransaction, 50_000, 166),
            (Workload::Register, Lifecycle::PerRegistration, 50_000, 516),
            (Workload::Register, Lifecycle::PerRegistration, 500, 500),
            (Workload::Avalanche, Lifecycle::PerRegistration, 500, 500),
        ];
        for (workload, lifecycle, users, expected) in cases {
            let plan = LoadPlan {
                workload,
                lifecycle,
                users,
                ..plan.clone()
            };
            assert_eq!(hops_at_once(&plan), expected, "{workload:?} {lifecycle:?}");
        }
    }

    #[test]
    fn reads_what_the_kernel_prints() {
        assert_eq!(ports_in("32768\t60999\n"), Some(28_232));
        assert_eq!(ports_in("60999 1"), None);
        assert_eq!(free_files("521\t0\t2466170\n"), Some(2_465_649));
        assert_eq!(free_files("521"), None);
        let meminfo = "MemTotal: 9 kB\nMemAvailable:   24047372 kB\n";
        assert_eq!(available_bytes(meminfo), Some(24_624_508_928));
        assert_eq!(available_bytes("MemAvailable: much\n"), None);
    }
}
