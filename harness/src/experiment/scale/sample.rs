//! From what was read of a crowd to the figures of one block, and whether they count.

use hopbench::load::{LoadReport, Moment};
use hopbench::measure::snapshot::{ProcessSnapshot, ProcessUsage};

use super::{Crowd, Memory, Readings, Served};
use crate::experiment::Sample;
use crate::experiment::load::{PHASES, generator_bound};

/// What is told of a visitor's registration beside the phases of its hop.
const REGISTRATION: [Moment; 3] = [
    Moment::FirstResponse,
    Moment::RegistrationDelay,
    Moment::Registered,
];
/// What is told of a call.
const CALL: [Moment; 2] = [Moment::SessionRequestDelay, Moment::SessionDisconnectDelay];

pub(super) fn sample(crowd: &Crowd, readings: &Readings) -> Sample {
    let mut sample = Sample {
        generator_bound: bound(readings),
        shortfall: shortfall(crowd, readings),
        ..Sample::default()
    };
    put_population(&mut sample, crowd, readings);
    put_memory(&mut sample, crowd, readings);
    put_loads(&mut sample, crowd, readings);
    sample
}

fn put(sample: &mut Sample, key: &str, value: Option<f64>) {
    let value = value.filter(|value| value.is_finite());
    sample.scalars.insert(key.into(), value);
}

fn put_population(sample: &mut Sample, crowd: &Crowd, readings: &Readings) {
    let population = &readings.population;
    let users = f64::from(crowd.users);
    put(sample, "population_ns", Some(population.seconds * 1e9));
    put(
        sample,
        "population_per_second",
        Some(users / population.seconds),
    );
    for (side, usage) in [("server", population.server), ("client", population.client)] {
        let key = format!("population_{side}_cpu_ns_per_registration");
        put(sample, &key, Some(usage.cpu_ns as f64 / users));
    }
}

fn put_memory(sample: &mut Sample, crowd: &Crowd, readings: &Readings) {
    let Readings {
        before,
        settled,
        after,
        ..
    } = readings;
    let users = f64::from(crowd.users);
    type Side = fn(&Memory) -> &ProcessSnapshot;
    let sides: [(&str, Side); 2] = [
        ("server", |memory| &memory.server),
        ("client", |memory| &memory.client),
    ];
    for (side, of) in sides {
        type Bytes = fn(&ProcessSnapshot) -> Option<f64>;
        let meters: [(&str, Bytes); 2] = [
            ("heap", |process| {
                process.heap_live_bytes.map(|bytes| bytes as f64)
            }),
            ("rss", |process| process.rss_bytes.map(|bytes| bytes as f64)),
        ];
        for (meter, bytes) in meters {
            let now = bytes(of(settled));
            put(sample, &format!("{side}_{meter}_bytes"), now);
            let each = now
                .zip(bytes(of(before)))
                .map(|(now, before)| (now - before) / users);
            put(
                sample,
                &format!("{side}_{meter}_bytes_per_connection"),
                each,
            );
        }
    }
    let kernel = settled.kernel_bytes.map(|bytes| bytes as f64);
    put(sample, "kernel_bytes", kernel);
    let kernel_each = settled
        .kernel_bytes
        .zip(before.kernel_bytes)
        .map(|(now, before)| (now - before) as f64 / users);
    put(sample, "kernel_bytes_per_connection", kernel_each);
    put(sample, "peak_memory_bytes", peak_bytes(settled, after));
}

/// The most that both sides' processes ever held, each at its own time, and the kernel's memory of
/// sockets where it tells: never less than the most that was in use at one time.
fn peak_bytes(settled: &Memory, after: &Memory) -> Option<f64> {
    let processes = after.server.peak_rss_bytes? + after.client.peak_rss_bytes?;
    let kernel = settled.kernel_bytes.max(after.kernel_bytes);
    Some(processes as f64 + kernel.unwrap_or_default().max(0) as f64)
}

fn put_loads(sample: &mut Sample, crowd: &Crowd, readings: &Readings) {
    let Readings {
        registrations,
        calls,
        calm,
        standings,
        ..
    } = readings;
    for (served, moments) in [
        (registrations, [&PHASES[..], &REGISTRATION].concat()),
        (calls, CALL.to_vec()),
    ] {
        for moment in moments {
            let latencies = served.report.latencies.get(moment.key()).cloned();
            sample.latencies.insert(moment.key().into(), latencies);
        }
    }
    let server_idle = calm.map(|calm| processors(calm.server));
    let client_idle = calm.map(|calm| processors(calm.client));
    // Visitors are not of the crowd: only before they come it is alone.
    put(sample, "idle_server_cpu_ratio", Some(server_idle[0]));
    put(sample, "idle_client_cpu_ratio", Some(client_idle[0]));
    // What the crowd takes without a load is what it took just before and just after that.
    let [alone, joined, rested, called] = server_idle;
    let costs = [
        ("registration", Some(registrations), [alone, joined]),
        ("refresh", readings.refreshes.as_ref(), [joined, rested]),
        ("call", Some(calls), [rested, called]),
    ];
    for (operation, served, idle) in costs {
        let key = format!("server_cpu_ns_per_{operation}");
        let cost = served.and_then(|served| cost_ns(&served.report, served.server, idle));
        put(sample, &key, cost);
    }
    let refreshing = readings.refreshes.as_ref().and_then(|served| {
        let report = &served.report;
        let client = report.after?.since(&report.before?);
        cost_ns(report, client, [client_idle[1], client_idle[2]])
    });
    put(sample, "client_cpu_ns_per_refresh", refreshing);
    let registered = u32::try_from(registered(crowd, readings)).unwrap_or(crowd.users);
    let mut counts = vec![
        ("registered_count", f64::from(registered)),
        ("call_offered_count", calls.report.offered as f64),
        ("call_failed_count", calls.report.failed() as f64),
        (
            "register_offered_count",
            registrations.report.offered as f64,
        ),
        (
            "register_failed_count",
            registrations.report.failed() as f64,
        ),
        ("lost_hops_count", lost_hops(readings) as f64),
    ];
    if let Some(Served {
        report: refreshes, ..
    }) = &readings.refreshes
    {
        counts.push(("reregister_offered_count", refreshes.offered as f64));
        counts.push(("reregister_failed_count", refreshes.failed() as f64));
    }
    let of_loads = |count: fn(&LoadReport) -> u64| -> f64 {
        let loads = [registrations, calls].into_iter();
        let loads = loads.chain(&readings.refreshes);
        loads.map(|served| count(&served.report)).sum::<u64>() as f64
    };
    let answering = standings.iter().filter_map(|standing| standing.callees);
    let strays: u64 = answering.map(|callees| callees.unexpected).sum();
    counts.extend([
        ("failed_count", of_loads(LoadReport::failed)),
        (
            "unexpected_count",
            of_loads(|report| report.unexpected) + strays as f64,
        ),
        (
            "retransmissions_count",
            of_loads(|report| report.retransmissions),
        ),
    ]);
    for (key, count) in counts {
        put(sample, key, Some(count));
    }
    put(sample, "server_socket_drops_count", readings.drops);
}

/// How many processors were busy on average.
fn processors(usage: ProcessUsage) -> f64 {
    usage.cpu_ns as f64 / usage.elapsed_ns as f64
}

/// What one operation cost a side, which had this `usage` meanwhile, beyond the share that everybody takes
/// at rest, just before and just after it: the middle of these two. `None` when the operations took no more
/// than rest differs from rest: then nothing tells what is theirs.
fn cost_ns(report: &LoadReport, usage: ProcessUsage, [before, after]: [f64; 2]) -> Option<f64> {
    let busy = processors(usage) - f64::midpoint(before, after);
    let doubt = (after - before).abs() / 2.0;
    let each = busy * report.window_seconds * 1e9 / report.completed_in_window as f64;
    (busy > doubt).then_some(each)
}

/// Users of the crowd who were registered at the end of the hold: all users but the visitors, who have
/// all registered by then.
fn registered(crowd: &Crowd, readings: &Readings) -> u64 {
    let visitors = u64::from(crowd.scale.visitors);
    readings.held.registered_users.saturating_sub(visitors)
}

fn lost_hops(readings: &Readings) -> u64 {
    let standings = readings.standings.iter();
    standings.map(|standing| standing.lost_hops).sum()
}

fn bound(readings: &Readings) -> Option<String> {
    let loads = [
        (Some(&readings.registrations), Moment::Registered),
        (readings.refreshes.as_ref(), Moment::RegistrationDelay),
        (Some(&readings.calls), Moment::SessionRequestDelay),
    ];
    let loads = loads.into_iter();
    let loads = loads.filter_map(|(served, moment)| Some((served?, moment)));
    loads.into_iter().find_map(|(served, moment)| {
        let report = &served.report;
        generator_bound(report, report.latencies.get(moment.key()))
    })
}

/// Why the figures do not count: everybody has to stay, to come, and to be reached.
fn shortfall(crowd: &Crowd, readings: &Readings) -> Option<String> {
    let (registered, wanted) = (registered(crowd, readings), u64::from(crowd.users));
    if registered != wanted {
        return Some(format!(
            "{registered} of {wanted} users were registered at the end of the hold"
        ));
    }
    let lost = lost_hops(readings);
    if lost > 0 {
        return Some(format!(
            "{lost} hops were lost, of {wanted} users and {} visitors",
            crowd.scale.visitors
        ));
    }
    let calls = &readings.calls.report;
    if calls.answered < calls.offered || calls.offered == 0 {
        let (answered, offered) = (calls.answered, calls.offered);
        let cause = cause(calls);
        return Some(format!(
            "{answered} of {offered} calls were answered{cause}"
        ));
    }
    let loads = [
        ("refreshes", readings.refreshes.as_ref()),
        ("registrations", Some(&readings.registrations)),
        ("calls", Some(&readings.calls)),
    ];
    loads.into_iter().find_map(|(operations, served)| {
        let report = &served.filter(|served| served.report.failed() > 0)?.report;
        let (failed, offered) = (report.failed(), report.offered);
        let cause = cause(report);
        Some(format!("{failed} of {offered} {operations} failed{cause}"))
    })
}

/// The most frequent cause of failures.
fn cause(report: &LoadReport) -> String {
    let most = report.failures.iter().max_by_key(|(_, count)| **count);
    most.map_or(String::new(), |(cause, count)| {
        format!(", {count} of them so: {cause}")
    })
}

#[cfg(test)]
mod tests;
