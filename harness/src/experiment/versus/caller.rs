//! One caller against one server, both started for it.

use hopbench::load::{
    ArrivalLaw, BackOff, Course, GeneratorConfig, Lifecycle, LoadPlan, Mix, Workload,
};
use hopbench::measure::histogram::LatencyHistogram;
use hopbench::sip::Accounts;
use hopbench::transport::Settings;
use std::net::SocketAddr;

use super::bare::pin;
use super::{Caller, Calls, DELAYS, Made, Server, Sipp, starts};
use crate::experiment::Bench;
use crate::testbed::{Crew, Failure, Nodes, Outcome};
use crate::topology::Site;

/// The user who makes all calls.
const USERS: u32 = 1;
/// How long calls may take to end.
const DRAIN_SECONDS: f64 = 3.0;

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
    let made = match caller {
        Caller::Sipp => sipp.call(bench.testbed, site.stack, uas.address, calls)?,
        Caller::Hopbench => {
            let settings = bench.settings_for(site, USERS)?;
            let accounts = Accounts::new("hopbench.test", "hopbench", USERS);
            call(bench, site, uas.address, settings, accounts, calls)?
        }
    };
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
    let (mut nodes, settings) = node(bench, site, calls.seed)?;
    let before = nodes.usage()?;
    let target = nodes.target();
    let made = match caller {
        Caller::Sipp => sipp.call(bench.testbed, site.stack, target, calls)?,
        Caller::Hopbench => call(bench, site, target, settings, nodes.accounts(), calls)?,
    };
    let after = nodes.usage()?;
    let used = after.iter().zip(&before);
    Ok(Made {
        server_cpu_ns: used.map(|(after, before)| after.since(before).cpu_ns).sum(),
        ..made
    })
}

/// How late SIPp starts its calls to that server, which is told by a relay in front of it; `None` unless all went well.
pub(super) fn starts_of_sipp(
    server: Server,
    sipp: &Sipp,
    bench: &Bench<'_>,
    site: &Site,
    calls: Calls,
) -> Outcome<Option<LatencyHistogram>> {
    let cpus = &bench.testbed.placement().node;
    let of_calls_to = |target| {
        let mut is_clean = false;
        let call = |relay| {
            let made = sipp.call(bench.testbed, site.stack, relay, calls)?;
            // What is repeated would pass for a start.
            is_clean = made.completed > 0 && made.failed == 0 && made.retransmissions == 0;
            Ok(())
        };
        match starts::lags(site.stack, target, || pin(cpus), call) {
            Ok(lags) => Ok(lags.filter(|_| is_clean)),
            Err(interrupted @ Failure::Interrupted) => Err(interrupted),
            // What was to be measured has been.
            Err(_) => Ok(None),
        }
    };
    match server {
        Server::Uas => {
            let uas = sipp.answer(bench.testbed, site.stack)?;
            of_calls_to(uas.address)
        }
        Server::Node => {
            let (nodes, _) = node(bench, site, calls.seed)?;
            of_calls_to(nodes.target())
        }
    }
}

/// A node, and how it and who calls it are set.
fn node(bench: &Bench<'_>, site: &Site, seed: u64) -> Outcome<(Nodes, Settings)> {
    let settings = bench.settings_for(site, USERS)?;
    let crew = Crew {
        users: USERS,
        ring_seconds: 0.0,
        calls_per_second_limit: None,
        workers: 1,
        seed,
    };
    let nodes = bench.testbed.nodes(site, &settings, crew)?;
    Ok((nodes, settings))
}

/// Calls by the generator, over the one hop that its user registers on. The server's processor time is left
/// out.
fn call(
    bench: &Bench<'_>,
    site: &Site,
    target: SocketAddr,
    settings: Settings,
    accounts: Accounts,
    calls: Calls,
) -> Outcome<Made> {
    let config = GeneratorConfig {
        seed: calls.seed,
        gather: calls.gather,
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
