//! Who calls and who answers: one caller against one server, both started for it.

use hopbench::load::{
    ArrivalLaw, BackOff, Course, GATHERED_RECEIVE_BUFFER_BYTES, GeneratorConfig, Lifecycle,
    LoadPlan, Mix, Workload,
};
use hopbench::measure::histogram::LatencyHistogram;
use hopbench::sip::Accounts;
use hopbench::transport::Settings;
use std::net::SocketAddr;
use std::time::Duration;

use super::bare::pin;
use super::{Calls, DELAYS, Made, Sipp, starts};
use crate::experiment::Bench;
use crate::testbed::{Crew, Failure, Nodes, Outcome};
use crate::topology::Site;

/// One makes all calls.
const USERS: u32 = 1;
/// How long calls may take to end.
const DRAIN_SECONDS: f64 = 3.0;

/// Who calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Caller {
    /// As it comes.
    Sipp,
    /// It is told to look at its clock as often as it can be, which changes little: it starts calls in bursts all the same.
    SippPunctual,
    /// It gathers.
    Hopbench,
    /// It does not gather: starts as punctual as it can, each for a wake-up of its own.
    HopbenchAtOnce,
}

/// Who answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Server {
    /// SIPp's built-in scenario.
    Uas,
    Node,
}

impl Caller {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Sipp => "sipp",
            Self::SippPunctual => "sipp-punctual",
            Self::Hopbench => "hopbench",
            Self::HopbenchAtOnce => "hopbench-at-once",
        }
    }

    pub(super) fn is_sipp(self) -> bool {
        match self {
            Self::Sipp | Self::SippPunctual => true,
            Self::Hopbench | Self::HopbenchAtOnce => false,
        }
    }

    /// What SIPp is told beyond what calls it is to make.
    pub(super) fn sipp_options(self) -> &'static [&'static str] {
        match self {
            // In milliseconds; the default is 10.
            Self::SippPunctual => &["-timer_resol", "1"],
            Self::Sipp | Self::Hopbench | Self::HopbenchAtOnce => &[],
        }
    }

    /// How long the generator gathers that would gather for so long.
    pub(super) fn gather(self, gather: Duration) -> Duration {
        match self {
            Self::Hopbench => gather,
            Self::HopbenchAtOnce | Self::Sipp | Self::SippPunctual => Duration::ZERO,
        }
    }
}

impl Server {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Uas => "uas",
            Self::Node => "node",
        }
    }
}

/// Calls to SIPp's built-in callee.
pub(super) fn against_uas(
    caller: Caller,
    sipp: &Sipp,
    bench: &Bench<'_>,
    site: &Site,
    calls: Calls,
) -> Outcome<Made> {
    let uas = sipp.answer(bench.testbed, site.stack)?;
    let before = uas.process.cpu_ns()?;
    let user = User::of_uas(bench, site)?;
    let made = user.call(caller, sipp, bench, site, uas.address, calls)?;
    Ok(Made {
        server_cpu_ns: uas.process.cpu_ns()?.saturating_sub(before),
        ..made
    })
}

/// Calls to the node.
pub(super) fn against_node(
    caller: Caller,
    sipp: &Sipp,
    bench: &Bench<'_>,
    site: &Site,
    calls: Calls,
) -> Outcome<Made> {
    let (mut nodes, user) = node(bench, site, calls.seed)?;
    let before = nodes.usage()?;
    let made = user.call(caller, sipp, bench, site, nodes.target(), calls)?;
    let after = nodes.usage()?;
    let used = after.iter().zip(&before);
    Ok(Made {
        server_cpu_ns: used.map(|(after, before)| after.since(before).cpu_ns).sum(),
        ..made
    })
}

/// How late the caller starts its calls to that server, which is told by a relay in front of it; `None` unless all went
/// well.
pub(super) fn observed_lags(
    (caller, server): (Caller, Server),
    sipp: &Sipp,
    bench: &Bench<'_>,
    site: &Site,
    calls: Calls,
) -> Outcome<Option<LatencyHistogram>> {
    let cpus = &bench.testbed.placement().node;
    let of_calls_to = |target, user: User| {
        let mut is_faultless = false;
        let call = |relay| {
            let made = user.call(caller, sipp, bench, site, relay, calls)?;
            // What is repeated would pass for a start.
            is_faultless = made.is_faultless();
            Ok(())
        };
        match starts::lags(site.stack, target, || pin(cpus), call) {
            Ok(lags) => Ok(lags.filter(|_| is_faultless)),
            Err(interrupted @ Failure::Interrupted) => Err(interrupted),
            // What was to be measured has been.
            Err(_) => Ok(None),
        }
    };
    match server {
        Server::Uas => {
            let uas = sipp.answer(bench.testbed, site.stack)?;
            of_calls_to(uas.address, User::of_uas(bench, site)?)
        }
        Server::Node => {
            let (nodes, user) = node(bench, site, calls.seed)?;
            of_calls_to(nodes.target(), user)
        }
    }
}

/// The one who makes all calls of the generator, as a server knows it.
struct User {
    settings: Settings,
    accounts: Accounts,
}

/// A node, and the user it knows.
fn node(bench: &Bench<'_>, site: &Site, seed: u64) -> Outcome<(Nodes, User)> {
    let settings = bench.settings_for(site, USERS)?;
    let crew = Crew {
        users: USERS,
        ring_seconds: 0.0,
        calls_per_second_limit: None,
        workers: 1,
        seed,
    };
    let nodes = bench.testbed.nodes(site, &settings, crew)?;
    let accounts = nodes.accounts();
    Ok((nodes, User { settings, accounts }))
}

impl User {
    /// SIPp's callee takes anybody.
    fn of_uas(bench: &Bench<'_>, site: &Site) -> Outcome<Self> {
        Ok(Self {
            settings: bench.settings_for(site, USERS)?,
            accounts: Accounts::new("hopbench.test", "hopbench", USERS),
        })
    }

    /// Calls by whoever it is. The server's processor time is left out.
    fn call(
        self,
        caller: Caller,
        sipp: &Sipp,
        bench: &Bench<'_>,
        site: &Site,
        target: SocketAddr,
        calls: Calls,
    ) -> Outcome<Made> {
        match caller {
            Caller::Sipp | Caller::SippPunctual => {
                let options = caller.sipp_options();
                sipp.call(bench.testbed, site.stack, target, options, calls)
            }
            Caller::Hopbench | Caller::HopbenchAtOnce => call(
                bench,
                site,
                target,
                self,
                caller.gather(calls.gather),
                calls,
            ),
        }
    }
}

/// Calls by the generator, over the one hop that its user registers on.
fn call(
    bench: &Bench<'_>,
    site: &Site,
    target: SocketAddr,
    User {
        mut settings,
        accounts,
    }: User,
    gather: Duration,
    calls: Calls,
) -> Outcome<Made> {
    if !site.stack.is_stream() {
        let room = Some(GATHERED_RECEIVE_BUFFER_BYTES);
        settings.socket_buffers.socket_receive_buffer_bytes = room;
    }
    let config = GeneratorConfig {
        seed: calls.seed,
        gather,
        ..GeneratorConfig::new(site.stack.name, target, settings, accounts)
    };
    let mut load = bench.testbed.load(&config, 1, None)?;
    let report = load.run_alone(&LoadPlan {
        workload: Workload::Invite,
        lifecycle: Lifecycle::PerRegistration,
        arrivals: ArrivalLaw::Constant,
        rate_per_second: calls.per_second,
        course: Course::Steady,
        warm_up_seconds: 0.0,
        duration_seconds: calls.seconds,
        drain_seconds: DRAIN_SECONDS,
        users: USERS,
        talk_seconds: 0.0,
        ring_seconds: 0.0,
        mix: Mix::default(),
        back_off: BackOff::default(),
        seed: calls.seed,
    })?;
    let latencies = DELAYS.iter().filter_map(|moment| {
        let histogram = report.latencies.get(moment.key())?;
        Some((moment.key().to_owned(), histogram.clone()))
    });
    Ok(Made {
        latencies: latencies.collect(),
        completed: report.completed,
        failed: report.failed(),
        retransmissions: report.retransmissions,
        achieved_per_second: report.completed_in_window as f64 / report.window_seconds,
        // Since the process started, which is SIPp's measure, too.
        caller_cpu_ns: load.snapshot()?.cpu_ns,
        server_cpu_ns: 0,
    })
}
