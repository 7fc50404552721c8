//! Tunnels against wireguard-go: either end is its, the other ours, and SIP goes through, by the kernel's
//! sockets at its end and by ours in user space at the other.
//!
//! Each test has a network of its own, in which the outer packets go over the loopback. The inner addresses
//! of our end are nobody's there, since it is a process.

#![allow(clippy::unwrap_used)]

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::thread;
use std::time::Duration;

use hopbench::load::LoadReport;
use hopbench::node::NodeCounters;
use hopbench::tunnel::{Drops, SERVER, SIP_PORT, user_address};
use support::datagrams::{Capture, DATA, Datagram};
use support::peers::{self, SIPP};
use support::sipp::{Calls, Sipp};
use support::tunnel_site::{Site, WIREGUARD_PORT};
use support::wireguard_go::WireguardGo;

/// What each part of a test does.
const CALLS: Calls = Calls {
    count: 1_000,
    per_second: 200,
};

/// [`CALLS`], or some registrations: over tunnels, each begins with a handshake.
fn args_of(workload: &str) -> [String; 3] {
    let (count, per_second) = match workload {
        "register" => (200, 50),
        _ => (CALLS.count, CALLS.per_second),
    };
    [
        format!("--workload={workload}"),
        format!("--rate={per_second}"),
        format!("--duration={}", count / per_second),
    ]
}

fn as_args(args: &[String]) -> Vec<&str> {
    args.iter().map(String::as_str).collect()
}

/// Asserts that nothing was lost; how many operations there were.
fn expect_whole(report: &LoadReport) -> u64 {
    assert_eq!(report.failures, BTreeMap::new());
    assert_eq!(report.succeeded, report.offered);
    assert!(report.offered > 0);
    report.offered
}

/// Asserts that a node saw nothing but what it should, and nothing was dropped on the way to it.
fn expect_clean(counters: &NodeCounters) {
    let sip = &counters.sip;
    assert_eq!((sip.malformed, sip.rejected), (0, 0), "{counters:?}");
    assert_eq!(sip.calls_answered, sip.calls_completed, "{counters:?}");
    assert_eq!(drops(counters), Drops::default(), "{counters:?}");
}

fn drops(counters: &NodeCounters) -> Drops {
    counters
        .datagrams
        .map(|found| found.tunnel)
        .unwrap_or_default()
}

/// wireguard-go initiates to our node: registrations and calls by our generator and by SIPp.
fn wireguard_go_opens(carrier: &str) {
    let Some(site) = Site::create() else { return };
    let _turn = peers::take_turn();
    let node = site.node(carrier);
    let wireguard_go = site.user(node.address, &[]);
    let registered = site.load_through(carrier, &as_args(&args_of("register")));
    expect_whole(&registered);
    let called = site.load_through(carrier, &as_args(&args_of("invite")));
    let mut calls = expect_whole(&called);
    if let Some(sipp) = peers::find(&SIPP).filter(|_| carrier != "tls") {
        let target = SocketAddr::from((SERVER, SIP_PORT));
        let command = site.namespace.command(sipp);
        Sipp::caller(command, carrier, user_address(0).into(), target, CALLS).finish();
        calls += CALLS.count;
    }
    let transfer = wireguard_go.transfer();
    let counters = node.stop();
    expect_clean(&counters);
    assert_eq!(counters.sip.calls_completed, calls);
    // What SIP took, and headers.
    assert!(
        transfer.sent + transfer.received > counters.sip_bytes,
        "{transfer:?}"
    );
}

#[test]
fn wireguard_go_opens_tunnels_to_the_node_over_udp() {
    wireguard_go_opens("udp");
}

#[test]
fn wireguard_go_opens_tunnels_to_the_node_over_tcp() {
    wireguard_go_opens("tcp");
}

#[test]
fn wireguard_go_opens_tunnels_to_the_node_over_tls() {
    wireguard_go_opens("tls");
}

/// Our users initiate to wireguard-go, each for itself.
fn users_open(carrier: &str) {
    let Some(site) = Site::create() else { return };
    let _turn = peers::take_turn();
    let server = site.server();
    let node = site.node_behind(&server, carrier);
    let registered = site.load_by_tunnels(carrier, &as_args(&args_of("register")));
    expect_whole(&registered);
    let called = site.load_by_tunnels(carrier, &as_args(&args_of("invite")));
    let calls = expect_whole(&called);
    let counters = node.stop();
    expect_clean(&counters);
    assert_eq!(counters.sip.calls_completed, calls);
    // Every user has called, by its own tunnel.
    let handshakes = server.latest_handshakes();
    assert!(handshakes.values().all(|&time| time > 0), "{handshakes:?}");
}

#[test]
fn users_open_tunnels_to_wireguard_go_over_udp() {
    users_open("udp");
}

#[test]
fn users_open_tunnels_to_wireguard_go_over_tcp() {
    users_open("tcp");
}

#[test]
fn users_open_tunnels_to_wireguard_go_over_tls() {
    users_open("tls");
}

/// Each call is a tunnel: a thousand handshakes.
#[test]
fn users_call_sipp_behind_wireguard_go() {
    let Some(site) = Site::create() else { return };
    let _turn = peers::take_turn();
    let Some(sipp) = peers::find(&SIPP) else {
        return peers::skip("sipp is not installed");
    };
    let _server = site.server();
    let address = SocketAddr::from((SERVER, SIP_PORT));
    let command = site.namespace.command(&sipp);
    let sockets = site.namespace.sockets();
    let callee = Sipp::callee(command, &sipp, "udp", address, &sockets, CALLS.count);
    let mut args = as_args(&[]);
    let calls = args_of("invite");
    args.extend(as_args(&calls));
    args.extend(["--lifecycle=per-call", "--callee=sip:service@callee.test"]);
    let report = site.load_by_tunnels("udp", &args);
    assert_eq!(expect_whole(&report), CALLS.count);
    callee.finish();
}

/// An association lives for 120 s (REKEY_AFTER_TIME); a call every 100 ms for longer than that.
const PAST_REKEY: &[&str] = &[
    "--workload=invite",
    "--users=2",
    "--rate=10",
    "--duration=127",
];

#[test]
fn rekeying_loses_no_call() {
    let initiated_by_wireguard_go = |carrier: &str| {
        let Some(site) = Site::create() else { return };
        let node = site.node(carrier);
        let wireguard_go = site.user(node.address, &[]);
        let (report, times) = observed(&wireguard_go, || site.load_through(carrier, PAST_REKEY));
        expect_whole(&report);
        expect_rekeyed(&times, 1);
        expect_clean(&node.stop());
    };
    let initiated_by_users = |carrier: &str| {
        let Some(site) = Site::create() else { return };
        let server = site.server();
        let node = site.node_behind(&server, carrier);
        let (report, times) = observed(&server, || site.load_by_tunnels(carrier, PAST_REKEY));
        expect_whole(&report);
        expect_rekeyed(&times, 2);
        expect_clean(&node.stop());
    };
    // At the same time, since they wait.
    thread::scope(|scope| {
        for carrier in ["udp", "tcp"] {
            scope.spawn(move || initiated_by_wireguard_go(carrier));
            scope.spawn(move || initiated_by_users(carrier));
        }
    });
}

/// Does `work`; the times of the handshakes with each peer meanwhile.
fn observed<T: Send>(
    wireguard_go: &WireguardGo<'_>,
    work: impl FnOnce() -> T + Send,
) -> (T, BTreeMap<String, BTreeSet<u64>>) {
    let mut times: BTreeMap<String, BTreeSet<u64>> = BTreeMap::new();
    thread::scope(|scope| {
        let worker = scope.spawn(work);
        loop {
            let is_over = worker.is_finished();
            for (peer, time) in wireguard_go.latest_handshakes() {
                if time > 0 {
                    times.entry(peer).or_default().insert(time);
                }
            }
            if is_over {
                break (worker.join().unwrap(), times);
            }
            thread::sleep(Duration::from_millis(500));
        }
    })
}

fn expect_rekeyed(times: &BTreeMap<String, BTreeSet<u64>>, peers: usize) {
    assert_eq!(times.len(), peers, "{times:?}");
    for times in times.values() {
        let (first, last) = (times.first().unwrap(), times.last().unwrap());
        // Whole seconds.
        assert!(times.len() >= 2 && last - first >= 119, "{times:?}");
    }
}

/// Calls go on over 20 s, and a call waits for 32 s (Timer B) while nothing arrives.
const THROUGH_TROUBLE: &[&str] = &[
    "--workload=invite",
    "--users=20",
    "--rate=10",
    "--duration=20",
];

/// The user's outer port changes, and then it forgets everything and comes back from yet another one.
#[test]
fn a_user_that_roams_and_restarts_loses_no_call() {
    let Some(site) = Site::create() else { return };
    let node = site.node("udp");
    let report = thread::scope(|scope| {
        let wireguard_go = site.user(node.address, &[]);
        let load = scope.spawn(|| site.load_through("udp", THROUGH_TROUBLE));
        thread::sleep(Duration::from_secs(4));
        let first = *wireguard_go.latest_handshakes().values().next().unwrap();
        wireguard_go.move_to(WIREGUARD_PORT);
        thread::sleep(Duration::from_secs(4));
        let moved = *wireguard_go.latest_handshakes().values().next().unwrap();
        assert!(first > 0 && first == moved, "roaming takes no handshake");
        drop(wireguard_go);
        let restarted = site.user(node.address, &[]);
        let report = load.join().unwrap();
        assert!(
            restarted
                .latest_handshakes()
                .values()
                .all(|&time| time > moved)
        );
        report
    });
    expect_whole(&report);
    expect_clean(&node.stop());
}

/// A server that has forgotten its users is silent, until they notice that and shake hands again
/// (KEEPALIVE_TIMEOUT + REKEY_TIMEOUT).
#[test]
fn a_server_that_restarts_loses_no_call() {
    let Some(site) = Site::create() else { return };
    let server = site.server();
    let node = site.node_behind(&server, "udp");
    let report = thread::scope(|scope| {
        let load = scope.spawn(|| site.load_by_tunnels("udp", THROUGH_TROUBLE));
        thread::sleep(Duration::from_secs(4));
        drop(server);
        let restarted = site.server();
        let report = load.join().unwrap();
        let handshakes = restarted.latest_handshakes();
        let count = handshakes.values().filter(|&&time| time > 0).count();
        assert_eq!(count, 20, "each user that calls");
        report
    });
    expect_whole(&report);
    expect_clean(&node.stop());
}

/// Who is not known, or does not know the server, and what the node's drops say of it.
#[test]
fn strangers_get_no_answer() {
    let Some(site) = Site::create() else { return };
    let keys = site.keys();
    for (is_server_known, cause) in [
        (true, (|drops| drops.unknown_peer) as fn(Drops) -> u64),
        (false, |drops| drops.not_authentic),
    ] {
        let node = site.node("udp");
        let Some(capture) = Capture::start(&site.namespace, node.address.port()) else {
            return;
        };
        // The folder of somebody else has other keys for everybody.
        let endpoint = ["--endpoint", &node.address.to_string()];
        let ours = site.configuration(&keys, "wireguard-user", &endpoint);
        let ours = std::fs::read_to_string(ours).unwrap();
        let theirs = site.configuration(&site.path("theirs"), "wireguard-user", &endpoint);
        let mut text = std::fs::read_to_string(&theirs).unwrap();
        if is_server_known {
            text = text.replace(value(&text, "PublicKey"), value(&ours, "PublicKey"));
        } else {
            text = text.replace(value(&text, "PrivateKey"), value(&ours, "PrivateKey"));
        }
        std::fs::write(&theirs, text + "PersistentKeepalive = 1\n").unwrap();
        let stranger = site.start(&theirs, "10.0.0.2");
        while stranger.transfer().sent == 0 {
            thread::sleep(Duration::from_millis(50));
        }
        // What a known user sends after it is answered, so the stranger's was looked at.
        let stack = "udp@wireguard";
        let once = ["--rate=1", "--duration=1"];
        expect_whole(&site.load(stack, node.address, &once));
        let handshakes = stranger.latest_handshakes();
        assert!(handshakes.values().all(|&time| time == 0), "{handshakes:?}");
        let datagrams = capture.finish();
        drop(stranger);
        let drops = drops(&node.stop());
        assert!(
            cause(drops) > 0 && drops.total() == cause(drops),
            "{drops:?}"
        );

        let sources: BTreeSet<u16> = datagrams
            .iter()
            .filter(|datagram| datagram.destination == node_port(&datagrams))
            .map(|datagram| datagram.source)
            .collect();
        let answered: BTreeSet<u16> = datagrams
            .iter()
            .filter(|datagram| datagram.source == node_port(&datagrams))
            .map(|datagram| datagram.destination)
            .collect();
        // The known user and the stranger.
        assert_eq!((sources.len(), answered.len()), (2, 1), "{datagrams:?}");
    }
}

/// The port that the first datagram went to.
fn node_port(datagrams: &[Datagram]) -> u16 {
    datagrams[0].destination
}

/// What stands behind `name = ` in a configuration.
fn value<'t>(configuration: &'t str, name: &str) -> &'t str {
    let mut lines = configuration.lines();
    lines
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(" = "))
        .unwrap()
}

/// Payloads are multiples of 16 bytes, whoever sends them, and a keep-alive is nothing to drop.
#[test]
fn packets_are_padded_and_keep_alives_are_welcome() {
    let Some(site) = Site::create() else { return };
    let node = site.node("udp");
    let Some(capture) = Capture::start(&site.namespace, node.address.port()) else {
        return;
    };
    let wireguard_go = site.user(node.address, &["--persistent-keepalive=1"]);
    let args = ["--workload=invite", "--rate=20", "--duration=1"];
    expect_whole(&site.load_through("udp", &args));
    let before = wireguard_go.said();
    // Two that have nothing to do with what the calls were followed by.
    let keep_alives = |said: &str| said.matches("Sending keepalive packet").count();
    while keep_alives(&wireguard_go.said()) < keep_alives(&before) + 2 {
        thread::sleep(Duration::from_millis(50));
    }
    let datagrams = capture.finish();
    drop(wireguard_go);
    expect_clean(&node.stop());
    let data: Vec<&Datagram> = datagrams
        .iter()
        .filter(|datagram| datagram.kind == DATA)
        .collect();
    let is_ours = |datagram: &&&Datagram| datagram.destination != node_port(&datagrams);
    assert!(data.iter().filter(is_ours).count() > 40, "{datagrams:?}");
    assert!(
        data.iter()
            .filter(|datagram| datagram.payload_bytes == 0)
            .count()
            >= 2
    );
    for datagram in data {
        assert_eq!(datagram.payload_bytes % 16, 0, "{datagram:?}");
    }
}
