//! From what a load and its nodes tell to the figures of one block, and whether they count.

use std::collections::BTreeMap;

use hopbench::load::{LoadReport, Moment, Workload};
use hopbench::measure::histogram::LatencyHistogram;
use hopbench::measure::snapshot::ProcessUsage;
use hopbench::transport::Drops;

use super::{Load, Readings};
use crate::experiment::Sample;
use crate::rate::ACHIEVED_SHARE_MIN;
use crate::testbed::TunnelSetups;

/// More failed operations than this and a cell has failed.
const FAILED_SHARE_MAX: f64 = 0.01;
/// With fewer resumed handshakes than this share, figures of resumption are figures of something else.
const RESUMED_SHARE_MIN: f64 = 0.9;
/// A worker that uses more of its processor than this is the bottleneck.
const BUSY_RATIO_MAX: f64 = 0.9;
/// A median lag beyond this, if it is also a tenth of the latency, means that the generator was late.
const LAG_NS_MAX: u64 = 1_000_000;

/// Processor time per second ÷ operations per second. Each side is read by its own clock: the word
/// that the measurement begins or ends reaches a node later than the generator, and not equally
/// late. Infinite or not a number without operations.
fn cpu_ns_per_operation(usage: ProcessUsage, report: &LoadReport) -> f64 {
    let cpu_share = usage.cpu_ns as f64 / usage.elapsed_ns as f64;
    cpu_share * report.window_seconds * 1e9 / report.completed_in_window as f64
}

/// Takes only what is a number.
fn put(sample: &mut Sample, key: &str, value: Option<f64>) {
    let value = value.filter(|value| value.is_finite());
    sample.scalars.insert(key.into(), value);
}

impl Load {
    pub(super) fn sample(&self, readings: &Readings) -> Sample {
        let report = &readings.report;
        let mut sample = Sample {
            generator_bound: readings
                .overwhelmed_links
                .clone()
                .or_else(|| generator_bound(report, latency(report, self.plan.workload))),
            users_short: Self::users_short(report),
            shortfall: self.shortfall(report).or_else(|| disorder(readings)),
            ..Sample::default()
        };
        for moment in self.moments.iter().copied().chain([Moment::SchedulingLag]) {
            let latencies = report.latencies.get(moment.key()).cloned();
            sample.latencies.insert(moment.key().into(), latencies);
        }
        let counts = [
            (
                "offered_per_second",
                report.offered as f64 / report.window_seconds,
            ),
            (
                "achieved_per_second",
                report.completed_in_window as f64 / report.window_seconds,
            ),
            ("failed_count", report.failed() as f64),
            ("retransmissions_count", report.retransmissions as f64),
            ("unexpected_count", unexpected(report) as f64),
            ("lost_hops_count", report.lost_hops as f64),
            ("generator_busy_ratio", report.busiest_worker_ratio),
        ];
        for (key, value) in counts {
            put(&mut sample, key, Some(value));
        }
        put(&mut sample, "server_socket_drops_count", readings.drops);
        put_tunnel_drops(&mut sample, readings);
        if let Some(setups) = &readings.tunnel_setups {
            put_tunnel_setups(&mut sample, setups);
        }
        self.put_workload(&mut sample, report);
        if self.has_rates {
            self.put_costs(&mut sample, readings);
            put_wire(&mut sample, readings);
            sample.windows = Some(report.windows.clone());
        }
        if readings.servers.len() > 1 {
            put_each_node(&mut sample, readings, self.has_rates);
        }
        sample
    }

    /// What only some workloads have.
    fn put_workload(&self, sample: &mut Sample, report: &LoadReport) {
        let count = |count: u64| Some(count as f64);
        match self.plan.workload {
            Workload::Reregister => {
                put(sample, "stale_nonces_count", count(report.stale_nonces));
            }
            Workload::Avalanche => {
                let recovery = report.recovery_ns.map(|ns| ns as f64);
                put(sample, "avalanche_recovery_ns", recovery);
                put(sample, "refused_count", count(report.refused));
                put(sample, "retried_count", count(report.retried));
            }
            Workload::Mixed => put_kinds(sample, report),
            Workload::Register | Workload::Invite => {}
        }
        if self.resumes {
            let resumed = count(report.resumed_handshakes);
            put(sample, "resumed_handshakes_count", resumed);
        }
    }

    fn put_costs(&self, sample: &mut Sample, readings: &Readings) {
        let report = &readings.report;
        let client = readings.client;
        let is_whole = readings.is_cpu_time_whole;
        let client = client.map(|client| cpu_ns_per_operation(client, report));
        let client = client.filter(|_| is_whole);
        put(sample, "client_cpu_ns_per_operation", client);
        let servers = readings.servers.iter();
        let server = servers.map(|node| cpu_ns_per_operation(*node, report));
        let server = is_whole.then(|| server.sum());
        put(sample, "server_cpu_ns_per_operation", server);
        if self.plan.workload == Workload::Invite {
            let attempts = report.offered as f64;
            let established = report.answered as f64 / attempts;
            put(sample, "session_establishment_ratio", Some(established));
            let completed = report.succeeded as f64 / attempts;
            put(sample, "session_completion_ratio", Some(completed));
        }
    }

    fn users_short(report: &LoadReport) -> Option<String> {
        let is_short = report.without_user as f64 > report.offered as f64 * FAILED_SHARE_MAX;
        is_short.then(|| {
            format!(
                "{} of {} operations found no user of the generator free: raise the number of users",
                report.without_user, report.offered
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
        let (opened, resumed) = (report.hops_opened, report.resumed_handshakes);
        if self.resumes && (resumed as f64) < opened as f64 * RESUMED_SHARE_MIN {
            return Some(format!(
                "{resumed} of {opened} handshakes resumed a session: users have to come again, so \
                 lower their number or lengthen the warm-up"
            ));
        }
        let achieved = report.completed_in_window as f64;
        // Of few operations, the ones under way at the edges are more than the margin.
        let margin = (offered * (1.0 - ACHIEVED_SHARE_MIN)).max(3.0 * offered.sqrt().min(10.0));
        let is_short = achieved < offered - margin;
        if is_short && self.plan.workload == Workload::Avalanche {
            return Some(format!(
                "{achieved} of {offered} users were back when the measurement ended: lengthen it, or \
                 shorten the back-off"
            ));
        }
        is_short.then(|| {
            format!(
                "the server was saturated: {:.0} of {:.0} operations a second were achieved",
                achieved / report.window_seconds,
                offered / report.window_seconds
            )
        })
    }
}

/// What the user of a workload waits for.
pub(in crate::experiment) fn latency(
    report: &LoadReport,
    workload: Workload,
) -> Option<&LatencyHistogram> {
    let moment = match workload {
        Workload::Register | Workload::Reregister => Moment::Registered,
        Workload::Avalanche => Moment::Outage,
        Workload::Invite | Workload::Mixed => Moment::SessionRequestDelay,
    };
    report.latencies.get(moment.key())
}

/// Why the generator was the bottleneck of a load whose operations take `latency`, if it was.
pub(in crate::experiment) fn generator_bound(
    report: &LoadReport,
    latency: Option<&LatencyHistogram>,
) -> Option<String> {
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
    // A generator that was so late that nothing ended has no latency to be a part of, and of one that never slept
    // all latency may be its own.
    let latency_ns = latency.and_then(LatencyHistogram::median_ns);
    let is_much = latency_ns.is_none_or(|latency_ns| lag_ns > latency_ns / 10);
    let awake = report.most_awake_worker_ratio;
    let is_always_awake = awake > BUSY_RATIO_MAX;
    (lag_ns > LAG_NS_MAX && (is_much || is_always_awake)).then(|| {
        let why = if is_always_awake {
            format!(
                "a worker of the generator used its processor or waited for it {:.0} % of the time; lower the \
                 rate or add workers",
                awake * 100.0
            )
        } else {
            "the generator did not get its processor".to_owned()
        };
        format!(
            "half of the operations started more than {} µs late: {why}",
            lag_ns / 1_000
        )
    })
}

/// What setting up the tunnel took that all users share.
fn put_tunnel_setups(sample: &mut Sample, setups: &TunnelSetups) {
    let times = Some(setups.times.clone());
    sample.latencies.insert("tunnel_setup_ns".into(), times);
    let bytes = Some(setups.wire_bytes_each);
    put(sample, "tunnel_setup_wire_bytes", bytes);
    let packets = Some(setups.wire_packets_each);
    put(sample, "tunnel_setup_wire_packets", packets);
}

/// What tunnels dropped since the processes started, by cause. A tunnel that dropped nothing has
/// zeros; without a tunnel nothing is known of it.
fn put_tunnel_drops(sample: &mut Sample, readings: &Readings) {
    let of_nodes = readings.nodes.iter().filter_map(|node| node.datagrams);
    let of_nodes = of_nodes
        .map(|datagrams| datagrams.tunnel)
        .reduce(Drops::plus);
    let sides = [
        ("server", of_nodes),
        ("client", readings.report.tunnel_drops),
    ];
    for (side, drops) in sides {
        let drops = drops.filter(|_| readings.has_tunnel);
        for (cause, count) in by_cause(drops.unwrap_or_default()) {
            let count = drops.map(|_| count as f64);
            put(sample, &format!("{side}_tunnel_drops_{cause}_count"), count);
        }
    }
}

/// Causes as they are called in figures, and how often each was one.
fn by_cause(drops: Drops) -> BTreeMap<String, u64> {
    let named = serde_json::to_value(drops).and_then(serde_json::from_value);
    named.expect("drops are counts by cause")
}

/// What is offered and what fails of each kind of operation.
fn put_kinds(sample: &mut Sample, report: &LoadReport) {
    for (name, counts) in &report.operations_by_kind {
        let name = name.replace('-', "_");
        let figures = [("offered", counts.offered), ("failed", counts.failed)];
        for (what, count) in figures {
            put(sample, &format!("{name}_{what}_count"), Some(count as f64));
        }
    }
}

/// Messages that belonged to nothing, at the generator's users in either role.
fn unexpected(report: &LoadReport) -> u64 {
    let callees = report.callees.map_or(0, |callees| callees.unexpected);
    report.unexpected + callees
}

/// Why the figures do not count although the operations succeeded: somebody else took part, or
/// something was said that nobody should have said. That a machine is slow is no such thing: what is
/// sent again for want of an answer may belong to nothing by the time that it arrives.
fn disorder(readings: &Readings) -> Option<String> {
    let report = &readings.report;
    let allowed = report.offered as f64 * FAILED_SHARE_MAX;
    let malformed: u64 = readings.nodes.iter().map(|node| node.sip.malformed).sum();
    if malformed > 0 {
        return Some(format!(
            "expected valid messages only, but nodes found {malformed} malformed"
        ));
    }
    let of_callees = report.callees.unwrap_or_default();
    let of_nodes = readings.nodes.iter();
    let of_nodes: u64 = of_nodes.map(|node| node.sip.retransmissions_sent).sum();
    let repeats = report.retransmissions + of_callees.retransmissions + of_nodes;
    let strays = unexpected(report).saturating_sub(repeats);
    if strays as f64 > allowed {
        return Some(format!(
            "{strays} messages belonged to nothing, for {} operations",
            report.offered
        ));
    }
    if report.lost_hops as f64 > allowed {
        return Some(format!(
            "{} hops were lost, for {} operations",
            report.lost_hops, report.offered
        ));
    }
    let answered = of_callees.answered;
    (report.callees.is_some() && answered < report.answered).then(|| {
        format!(
            "{} calls were answered, but only {answered} of them by the callees",
            report.answered
        )
    })
}

/// Operations that the wire's figures are divided by: all of the load, warm-up and drain included.
/// `None` when some failed, since what they sent belongs to none that ended well.
fn operations(report: &LoadReport) -> Option<f64> {
    (report.failed() == 0 && report.completed > 0).then_some(report.completed as f64)
}

fn put_wire(sample: &mut Sample, readings: &Readings) {
    let wire = &readings.wire;
    let each = operations(&readings.report).zip(wire.total());
    let bytes = each.map(|(operations, total)| total.bytes as f64 / operations);
    put(sample, "wire_bytes_per_operation", bytes);
    let packets = each.map(|(operations, total)| total.packets as f64 / operations);
    put(sample, "wire_packets_per_operation", packets);
    let overhead = wire.interface_bytes;
    let overhead = overhead.map(|bytes| bytes as f64 / wire.sip_bytes as f64);
    put(sample, "wire_overhead_ratio", overhead);
}

/// The same by node and by hop, numbered from the caller on.
fn put_each_node(sample: &mut Sample, readings: &Readings, has_rates: bool) {
    let report = &readings.report;
    for (index, node) in readings.after.iter().enumerate() {
        let key = format!("node_{}_rss_bytes", index + 1);
        put(sample, &key, node.rss_bytes.map(|bytes| bytes as f64));
    }
    if !has_rates {
        return;
    }
    for (index, usage) in readings.servers.iter().copied().enumerate() {
        let key = format!("node_{}_cpu_ns_per_operation", index + 1);
        let each = readings.is_cpu_time_whole;
        let each = each.then(|| cpu_ns_per_operation(usage, report));
        put(sample, &key, each);
    }
    for (index, hop) in readings.wire.hops.iter().enumerate() {
        let each = operations(report).zip(*hop);
        let bytes = each.map(|(operations, hop)| hop.bytes as f64 / operations);
        put(
            sample,
            &format!("hop_{}_wire_bytes_per_operation", index + 1),
            bytes,
        );
        let packets = each.map(|(operations, hop)| hop.packets as f64 / operations);
        put(
            sample,
            &format!("hop_{}_wire_packets_per_operation", index + 1),
            packets,
        );
    }
}

#[cfg(test)]
mod tests {
    use hopbench::load::CalleeCounts;
    use hopbench::node::NodeCounters;
    use hopbench::transport::DatagramCounters;

    use super::*;
    use crate::testbed::Wire;

    /// A load of 200 calls in which nothing went wrong.
    fn readings() -> Readings {
        let callees = CalleeCounts {
            answered: 210,
            ..CalleeCounts::default()
        };
        Readings {
            report: LoadReport {
                offered: 200,
                succeeded: 200,
                answered: 200,
                callees: Some(callees),
                ..LoadReport::default()
            },
            client: None,
            servers: Vec::new(),
            after: Vec::new(),
            nodes: vec![NodeCounters::default(); 2],
            wire: Wire {
                hops: Vec::new(),
                interface_bytes: None,
                sip_bytes: 0,
            },
            link: None,
            retransmitted_segments: None,
            drops: None,
            overwhelmed_links: None,
            tunnel_setups: None,
            has_tunnel: true,
            is_cpu_time_whole: true,
        }
    }

    #[test]
    fn drops_are_told_by_cause_where_there_is_a_tunnel() {
        let mut readings = readings();
        let mut counters = DatagramCounters::default();
        counters.tunnel.replayed = 3;
        readings.nodes[1].datagrams = Some(counters);
        let mut sample = Sample::default();
        put_tunnel_drops(&mut sample, &readings);
        let figure = |key: &str| sample.scalars[key];
        assert_eq!(figure("server_tunnel_drops_replayed_count"), Some(3.0));
        assert_eq!(figure("server_tunnel_drops_misrouted_count"), Some(0.0));
        assert_eq!(figure("client_tunnel_drops_replayed_count"), None);
        for key in sample.scalars.keys() {
            assert!(hopbench::record::metric::known(key).is_some(), "{key}");
        }
        readings.has_tunnel = false;
        put_tunnel_drops(&mut sample, &readings);
        assert_eq!(sample.scalars["server_tunnel_drops_replayed_count"], None);
    }

    #[test]
    fn a_load_in_order_counts() {
        assert_eq!(disorder(&readings()), None);
    }

    #[test]
    fn what_nobody_should_have_said_spoils_a_load() {
        type Spoil = fn(&mut Readings);
        let spoils: [(&str, Spoil); 4] = [
            ("malformed", |readings| {
                readings.nodes[1].sip.malformed = 1;
            }),
            ("belonged to nothing", |readings| {
                readings.report.unexpected = 2;
                readings.report.callees = Some(CalleeCounts {
                    answered: 210,
                    unexpected: 1,
                    ..CalleeCounts::default()
                });
            }),
            ("hops were lost", |readings| readings.report.lost_hops = 3),
            ("only 199 of them", |readings| {
                readings.report.callees = Some(CalleeCounts {
                    answered: 199,
                    ..CalleeCounts::default()
                });
            }),
        ];
        for (expected, spoil) in spoils {
            let mut readings = readings();
            spoil(&mut readings);
            let reason = disorder(&readings);
            let reason = reason.unwrap_or_else(|| panic!("nothing found: {expected}"));
            assert!(reason.contains(expected), "{reason}");
        }
    }

    #[test]
    fn a_generator_that_is_late_and_never_sleeps_is_the_limit() {
        let of = |ns: u64| {
            let mut histogram = LatencyHistogram::new();
            histogram.record_ns(ns);
            histogram
        };
        let bound = |lag_ns, latency_ns, most_awake_worker_ratio| {
            let report = LoadReport {
                latencies: BTreeMap::from([(Moment::SchedulingLag.key().to_owned(), of(lag_ns))]),
                most_awake_worker_ratio,
                ..LoadReport::default()
            };
            generator_bound(&report, Some(&of(latency_ns))).is_some()
        };
        assert!(bound(2_000_000, 10_000_000, 0.5), "much of the latency");
        assert!(!bound(2_000_000, 100_000_000, 0.5), "hardly any of it");
        assert!(bound(2_000_000, 100_000_000, 0.95), "all may be its own");
        assert!(!bound(500_000, 1_000_000, 0.95), "it was in time");
    }

    #[test]
    fn what_is_sent_again_on_a_slow_machine_may_belong_to_nothing() {
        let mut readings = readings();
        readings.report.unexpected = 20;
        readings.report.retransmissions = 10;
        readings.nodes[0].sip.retransmissions_sent = 9;
        assert_eq!(disorder(&readings), None);
    }

    #[test]
    fn each_kind_of_a_mixture_has_figures() {
        let counts = hopbench::load::KindCounts {
            offered: 7,
            succeeded: 6,
            failed: 1,
        };
        let report = LoadReport {
            operations_by_kind: BTreeMap::from([("cancelled-call".to_owned(), counts)]),
            ..LoadReport::default()
        };
        let mut sample = Sample::default();
        put_kinds(&mut sample, &report);
        let expected = [
            ("cancelled_call_failed_count".to_owned(), Some(1.0)),
            ("cancelled_call_offered_count".to_owned(), Some(7.0)),
        ];
        assert_eq!(sample.scalars, BTreeMap::from(expected));
        for kind in hopbench::load::OperationKind::ALL {
            let key = format!("{}_failed_count", kind.name().replace('-', "_"));
            assert!(hopbench::record::metric::known(&key).is_some(), "{key}");
        }
    }
}
