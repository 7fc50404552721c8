//! Tunnels against wireguard-go: either end is its, the other ours, and SIP goes through, by the kernel's
//! sockets at its end and by ours in user space at the other.
//!
//! Each test has a network of its own, in which the outer packets go over the loopback. The inner addresses
//! of our end are nobody's there, since it is a process.

#![allow(clippy::unwrap_used)]

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use hopbench::load::LoadReport;
use hopbench::node::NodeCounters;
use hopbench::tunnel::{Drops, SERVER, SIP_PORT, user_address};
use support::namespace::{Namespace, expect_success};
use support::node::CountingNode;
use support::peers::{self, SIPP};
use support::sipp::{Calls, Sipp};
use support::wireguard_go::{self, WireguardGo};
use support::{stderr, stdout};

/// Where a WireGuard of others listens: nobody else does, in a network of its own.
const WIREGUARD_PORT: u16 = 51_820;
/// Users of a load, and what it does within its duration.
const USERS: u64 = 20;
const CALLS: Calls = Calls {
    count: 1_000,
    per_second: 200,
};

/// A network with keys for both ends.
struct Site {
    namespace: Namespace,
    folder: tempfile::TempDir,
}

impl Site {
    /// `None` where tests with wireguard-go cannot be made.
    fn create() -> Option<Self> {
        Some(Self {
            namespace: wireguard_go::is_available().then(Namespace::create)??,
            folder: tempfile::tempdir().unwrap(),
        })
    }

    fn path(&self, name: &str) -> String {
        self.folder.path().join(name).to_str().unwrap().to_owned()
    }

    /// Folder of the keys of both ends.
    fn keys(&self) -> String {
        self.path("keys")
    }

    /// A node that others reach through tunnels.
    fn node(&self, carrier: &str) -> CountingNode {
        let stack = format!("--stack={carrier}@wireguard");
        let args = [&stack, "--credentials", &self.keys(), "--accounts=20"];
        CountingNode::launch(self.namespace.hopbench(), "127.0.0.1:0", &args)
    }

    /// A node behind the server's end that is not ours.
    fn node_behind(&self, _server: &WireguardGo<'_>, carrier: &str) -> CountingNode {
        let stack = format!("--stack={carrier}");
        let args = [&stack, "--credentials", &self.keys(), "--accounts=20"];
        let listen = format!("{SERVER}:{SIP_PORT}");
        CountingNode::launch(self.namespace.hopbench(), &listen, &args)
    }

    /// Writes a configuration with the keys in the folder `keys`.
    fn configuration(&self, keys: &str, form: &str, args: &[&str]) -> PathBuf {
        let file = self.path(&format!("{form}.conf"));
        if Path::new(&file).exists() {
            std::fs::remove_file(&file).unwrap();
        }
        let mut command = support::hopbench();
        command.args(["credentials", form, "--credentials", keys, "--out", &file]);
        expect_success(command.args(args));
        file.into()
    }

    /// wireguard-go in the place of the first user of the node at `server`.
    fn user(&self, server: SocketAddr, args: &[&str]) -> WireguardGo<'_> {
        let endpoint = server.to_string();
        let args = [&["--endpoint", &endpoint], args].concat();
        let configuration = self.configuration(&self.keys(), "wireguard-user", &args);
        self.start(&configuration, &user_address(0).to_string())
    }

    /// wireguard-go in the place of the server.
    fn server(&self) -> WireguardGo<'_> {
        let args = ["--accounts=20", &format!("--listen-port={WIREGUARD_PORT}")];
        let configuration = self.configuration(&self.keys(), "wireguard-server", &args);
        self.start(&configuration, &SERVER.to_string())
    }

    fn start(&self, configuration: &Path, address: &str) -> WireguardGo<'_> {
        WireguardGo::start(&self.namespace, configuration, &format!("{address}/8"))
    }

    /// Loads the node through wireguard-go, by the kernel's sockets.
    fn load_through(&self, carrier: &str, args: &[&str]) -> LoadReport {
        self.load(carrier, SocketAddr::from((SERVER, SIP_PORT)), args)
    }

    /// Loads the node behind wireguard-go, each user by a tunnel of its own.
    fn load_by_tunnels(&self, carrier: &str, args: &[&str]) -> LoadReport {
        let target = SocketAddr::from((Ipv4Addr::LOCALHOST, WIREGUARD_PORT));
        self.load(&format!("{carrier}@wireguard"), target, args)
    }

    fn load(&self, stack: &str, target: SocketAddr, args: &[&str]) -> LoadReport {
        let output = self
            .namespace
            .hopbench()
            .args(["load", "--json", "--stack", stack, "--target"])
            .args([&target.to_string(), "--credentials", &self.keys()])
            .args([
                "--accounts=20",
                "--arrivals=constant",
                "--warm-up=0",
                "--drain=40",
            ])
            .args(args)
            .output()
            .unwrap();
        let said = stdout(&output) + &stderr(&output);
        serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error} in: {said}"))
    }
}

/// [`CALLS`], or as many registrations.
fn args_of(workload: &str) -> [String; 3] {
    let seconds = CALLS.count / CALLS.per_second;
    [
        format!("--workload={workload}"),
        format!("--rate={}", CALLS.per_second),
        format!("--duration={seconds}"),
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

/// Our users initiate to wireguard-go, each for itself.
fn users_open(carrier: &str) {
    let Some(site) = Site::create() else { return };
    let _turn = peers::take_turn();
    let registered = expect_clean_server(&site, carrier);
    assert_eq!(registered, USERS);
}

/// Registrations and calls to a node behind wireguard-go; how many users have shaken hands.
fn expect_clean_server(site: &Site, carrier: &str) -> u64 {
    let server = site.server();
    let node = site.node_behind(&server, carrier);
    let registered = site.load_by_tunnels(carrier, &as_args(&args_of("register")));
    expect_whole(&registered);
    let called = site.load_by_tunnels(carrier, &as_args(&args_of("invite")));
    let calls = expect_whole(&called);
    let counters = node.stop();
    expect_clean(&counters);
    assert_eq!(counters.sip.calls_completed, calls);
    let handshakes = server.latest_handshakes();
    handshakes.values().filter(|&&time| time > 0).count() as u64
}

#[test]
fn users_open_tunnels_to_wireguard_go_over_udp() {
    users_open("udp");
}

/// Behind wireguard-go answers SIPp, and each call is a tunnel: a thousand handshakes.
fn users_call_sipp(carrier: &str) {
    let Some(site) = Site::create() else { return };
    let _turn = peers::take_turn();
    let Some(sipp) = peers::find(&SIPP) else {
        return peers::skip("sipp is not installed");
    };
    let _server = site.server();
    let address = SocketAddr::from((SERVER, SIP_PORT));
    let command = site.namespace.command(&sipp);
    let sockets = site.namespace.sockets();
    let callee = Sipp::callee(command, &sipp, carrier, address, &sockets, CALLS.count);
    let mut args = as_args(&[]);
    let calls = args_of("invite");
    args.extend(as_args(&calls));
    args.extend(["--lifecycle=per-call", "--callee=sip:service@callee.test"]);
    let report = site.load_by_tunnels(carrier, &args);
    assert_eq!(expect_whole(&report), CALLS.count);
    callee.finish();
}

#[test]
fn users_call_sipp_behind_wireguard_go_over_udp() {
    users_call_sipp("udp");
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
        for carrier in ["udp"] {
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
