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
use std::process::Command;
use std::thread;
use std::time::Duration;

use hopbench::load::LoadReport;
use hopbench::node::NodeCounters;
use hopbench::tunnel::{Drops, SERVER, SIP_PORT, user_address};
use support::namespace::{Namespace, expect_success};
use support::node::CountingNode;
use support::peers::{self, DUMPCAP, Peer, SIPP, TSHARK};
use support::sipp::{Calls, Sipp};
use support::wireguard_go::{self, WireguardGo};
use support::{stderr, stdout};

/// Where a WireGuard of others listens: nobody else does, in a network of its own.
const WIREGUARD_PORT: u16 = 51_820;
/// Users that take turns: so many that none is busy when its turn comes, even if the machine stands still for
/// a second or two.
const USERS: &str = "--accounts=500";
/// What each part of a test does.
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
        let args = [&stack, "--credentials", &self.keys(), USERS];
        CountingNode::launch(self.namespace.hopbench(), "127.0.0.1:0", &args)
    }

    /// A node behind the server's end that is not ours.
    fn node_behind(&self, _server: &WireguardGo<'_>, carrier: &str) -> CountingNode {
        let stack = format!("--stack={carrier}");
        let args = [&stack, "--credentials", &self.keys(), USERS];
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
        let args = [USERS, &format!("--listen-port={WIREGUARD_PORT}")];
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
            .args([USERS, "--arrivals=constant", "--warm-up=0", "--drain=40"])
            .args(args)
            .output()
            .unwrap();
        let said = stdout(&output) + &stderr(&output);
        serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error} in: {said}"))
    }
}

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
        let Some(capture) = Capture::start(&site, node.address.port()) else {
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
    let Some(capture) = Capture::start(&site, node.address.port()) else {
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

/// Type of a WireGuard datagram that carries a packet, or as keep-alive none.
const DATA: u8 = 4;
/// Of such a datagram: type, receiver and counter in front of the payload, the authentication tag behind it.
const DATA_OVERHEAD_BYTES: usize = 32;
const UDP_HEADER_BYTES: usize = 8;

/// The datagram that says that nothing follows.
const END: &str = "hopbench: end of the capture";

/// What Wireshark's dissector says of a datagram.
#[derive(Debug)]
struct Datagram {
    source: u16,
    destination: u16,
    kind: u8,
    /// Encrypted; of other kinds than [`DATA`] meaningless.
    payload_bytes: usize,
}

/// A capture of what goes from and to one outer port, under way.
struct Capture<'s> {
    site: &'s Site,
    port: u16,
    dumpcap: Peer,
    folder: tempfile::TempDir,
}

impl<'s> Capture<'s> {
    fn start(site: &'s Site, port: u16) -> Option<Self> {
        let (Some(dumpcap), Some(_)) = (peers::find(&DUMPCAP), peers::find(&TSHARK)) else {
            peers::skip("tshark is not installed: `apt-get install tshark` on Debian provides it");
            return None;
        };
        let folder = tempfile::tempdir().unwrap();
        let mut command = site.namespace.command(dumpcap);
        let filter = format!("udp port {port} or udp port 9");
        command.args(["-q", "-i", "lo", "-w", "capture.pcapng", "-f", &filter]);
        let mut dumpcap = Peer::start(&mut command, folder.path());
        dumpcap.wait_until("a capture", |dumpcap| dumpcap.said().contains("File: "));
        Some(Self {
            site,
            port,
            dumpcap,
            folder,
        })
    }

    /// Ends the capture once everything has arrived.
    fn finish(mut self) -> Vec<Datagram> {
        let end = format!("printf '{END}' > /dev/udp/127.0.0.1/9");
        expect_success(self.site.namespace.command("bash").args(["-c", &end]));
        let file = self.folder.path().join("capture.pcapng");
        self.dumpcap.wait_until("the end of the capture", |_| {
            let bytes = std::fs::read(&file).unwrap_or_default();
            bytes
                .windows(END.len())
                .any(|window| window == END.as_bytes())
        });
        let tshark = peers::find(&TSHARK).expect("asked before");
        let mut command = Command::new(tshark);
        command.arg("-r").arg(&file);
        command.args(["-Y", "wg", "-d", &format!("udp.port=={},wg", self.port)]);
        command.args(["-T", "fields", "-E", "separator=/t"]);
        for field in ["udp.srcport", "udp.dstport", "wg.type", "udp.length"] {
            command.args(["-e", field]);
        }
        expect_success(&mut command)
            .lines()
            .map(Datagram::of)
            .collect()
    }
}

impl Datagram {
    /// Of a line with its fields separated by tabs.
    fn of(line: &str) -> Self {
        let fields: Vec<&str> = line.split('\t').collect();
        let [source, destination, kind, bytes] = fields[..] else {
            panic!("expected four fields, found: {line}");
        };
        let bytes: usize = bytes.parse().unwrap();
        Self {
            source: source.parse().unwrap(),
            destination: destination.parse().unwrap(),
            kind: kind.parse().unwrap(),
            payload_bytes: bytes.saturating_sub(UDP_HEADER_BYTES + DATA_OVERHEAD_BYTES),
        }
    }
}
