//! What hopbench sends, as Wireshark's dissector sees it: traffic is captured on the loopback, and no
//! SIP message in it may bear a mark: malformed, an error or a warning.

#![allow(clippy::unwrap_used)]

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::net::{SocketAddr, UdpSocket};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use hopbench::load::{
    ArrivalLaw, BackOff, Callees, Course, Generator, GeneratorConfig, Lifecycle, LoadPlan, Mix,
    OperationKind, Workload,
};
use hopbench::sip::Accounts;
use hopbench::transport::Settings;
use nix::sys::signal::Signal;
use support::peers::{self, DUMPCAP, Peer, TSHARK, turn};
use support::proxies::{start_edge, start_proxies};
use support::{signal, start_node, stderr, stdout};

/// Severity of a warning, as Wireshark counts; errors are above it.
const WARNING: u32 = 0x0060_0000;
/// The datagram that says that nothing follows.
const END: &[u8] = b"hopbench: end of the capture";

#[test]
fn direct_over_udp() {
    passes(&["udp"]);
}

#[test]
fn direct_over_tcp() {
    passes(&["tcp"]);
}

#[test]
fn through_a_proxy() {
    passes(&["udp", "tcp"]);
}

#[test]
fn through_a_trapezoid() {
    passes(&["tcp", "udp", "udp"]);
}

#[test]
fn through_a_chain() {
    // By the last hop the INVITE has outgrown a datagram (RFC 3261 §18.1.1).
    passes(&["udp", "udp", "tcp", "udp", "tcp"]);
}

#[test]
fn from_user_to_user_over_udp() {
    passes_edge("udp");
}

#[test]
fn from_user_to_user_over_tcp() {
    passes_edge("tcp");
}

/// Users call each other by the proxy that they are registered with, over the hops that they opened.
fn passes_edge(stack: &str) {
    let Some((_turn, tshark)) = turn(&TSHARK) else {
        return;
    };
    const USERS: u32 = 20;
    let accounts = Accounts::new("hopbench.test", "hopbench", 2 * USERS);
    let proxy = start_edge(stack, accounts.clone());
    let target = proxy.addresses[0];
    let Some(capture) = Capture::start(&[target]) else {
        return;
    };
    let generator = Generator::start(&GeneratorConfig {
        callees: Some(Callees {
            target,
            accounts: accounts.clone(),
        }),
        ..GeneratorConfig::new(stack, target, Settings::default(), accounts)
    });
    let report = generator.unwrap().run(&busy_second(USERS), |_| {}).unwrap();
    assert_eq!(report.failures, BTreeMap::new());
    let dissection = capture.dissect(&tshark);
    dissection.expect_unmarked();
    let seen: BTreeSet<&str> = dissection.messages.keys().map(String::as_str).collect();
    let expected = [
        "100", "180", "200", "401", "404", "487", "ACK", "BYE", "CANCEL", "INVITE", "REGISTER",
    ];
    assert_eq!(seen, BTreeSet::from(expected));

    let of_proxy = proxy.stop().sip;
    assert_eq!((of_proxy.malformed, of_proxy.unreachable), (0, 0));
    let of_callees = report.callees.unwrap();
    let of_kind = |kind: OperationKind| {
        let counts = report.operations_by_kind[kind.name()];
        usize::try_from(counts.offered).unwrap()
    };
    let answered = of_kind(OperationKind::Call);
    let cancelled = of_kind(OperationKind::CancelledCall);
    let to_nobody = of_kind(OperationKind::UnknownCallee);
    // What is for nobody ends at the proxy; everything else crosses both legs.
    let expected = [
        ("INVITE", 2 * (answered + cancelled) + to_nobody),
        ("CANCEL", 2 * cancelled),
        ("487", 2 * cancelled),
        ("404", to_nobody),
        ("BYE", 2 * answered),
    ];
    // On a machine that is very busy messages are sent again.
    let repeats = report.retransmissions
        + of_callees.retransmissions
        + of_proxy.retransmissions_sent
        + of_proxy.retransmissions_received;
    for (kind, count) in expected {
        let found = dissection.messages[kind];
        assert!(found >= count, "{kind}: {found} of {count}");
        assert!(found == count || repeats > 0, "{kind}: {found} of {count}");
    }
}

/// Operations of every kind that involves a call.
fn busy_second(users: u32) -> LoadPlan {
    LoadPlan {
        workload: Workload::Mixed,
        lifecycle: Lifecycle::PerRegistration,
        arrivals: ArrivalLaw::Constant,
        rate_per_second: 60.0,
        course: Course::Steady,
        warm_up_seconds: 0.0,
        duration_seconds: 1.0,
        drain_seconds: 60.0,
        users,
        talk_seconds: 0.0,
        ring_seconds: 0.05,
        mix: Mix {
            register: 0.0,
            reregister: 0.0,
            call: 1.0,
            cancelled_call: 0.5,
            unknown_callee: 0.5,
        },
        back_off: BackOff::default(),
        seed: 1,
    }
}

/// Users register and call over the hops that `stacks` names, with a proxy between each two.
fn passes(stacks: &[&str]) {
    let Some((_turn, tshark)) = turn(&TSHARK) else {
        return;
    };
    let stack = |name: &str| format!("--stack={name}");
    let domain = match stacks.len() {
        1 => "hopbench.test",
        _ => "callee.test",
    };
    let last = stacks[stacks.len() - 1];
    let (_node, address) = start_node(&[&stack(last), "--domain", domain]);
    let proxies = start_proxies(stacks, address);
    let mut addresses: Vec<SocketAddr> = proxies
        .iter()
        .flat_map(|proxy| proxy.addresses.iter().copied())
        .collect();
    addresses.push(address);
    let Some(capture) = Capture::start(&addresses) else {
        return;
    };
    for (workload, callee) in [
        ("register", "answer"),
        ("invite", "answer"),
        ("invite", "nobody"),
    ] {
        let output = support::hopbench()
            .args(["load", "--target", &addresses[0].to_string()])
            .args(["--rate=50", "--warm-up=0", "--duration=0.5", "--users=10"])
            .args([&stack(stacks[0]), "--workload", workload])
            .args(["--callee", &format!("sip:{callee}@{domain}")])
            .output()
            .unwrap();
        let said = stdout(&output) + &stderr(&output);
        // Calls to nobody fail.
        let expected = if callee == "nobody" { 3 } else { 0 };
        assert_eq!(output.status.code(), Some(expected), "{said}");
    }
    let dissection = capture.dissect(&tshark);
    dissection.expect_unmarked();
    let seen: BTreeSet<&str> = dissection.messages.keys().map(String::as_str).collect();
    let expected = [
        "100", "180", "200", "401", "404", "ACK", "BYE", "INVITE", "REGISTER",
    ];
    assert_eq!(seen, BTreeSet::from(expected));
    // On each hop there is one of each call.
    let hops = stacks.len();
    assert!(
        dissection.messages["INVITE"] >= 2 * 25 * hops,
        "{dissection:?}"
    );
    assert!(dissection.messages["BYE"] >= 25 * hops, "{dissection:?}");
    for proxy in proxies {
        let sip = proxy.stop().sip;
        assert_eq!((sip.malformed, sip.unreachable), (0, 0), "{sip:?}");
    }
}

/// Requests that are refused: start line, further header fields, and the status that answers it.
const REFUSED: &[(&str, &str, &str, &str)] = &[
    ("OPTIONS", "answer", "", "200"),
    ("REGISTER", "", "", "401"),
    ("INVITE", "nobody", "", "404"),
    ("SUBSCRIBE", "answer", "Event: presence\r\n", "405"),
    ("INVITE", "answer", "Content-Type: text/plain\r\n", "415"),
    ("INVITE", "answer", "Require: 100rel, foo\r\n", "420"),
    ("BYE", "answer", "", "481"),
    ("CANCEL", "answer", "", "481"),
    ("DANCE", "answer", "", "501"),
];

#[test]
fn refusals() {
    let Some((_turn, tshark)) = turn(&TSHARK) else {
        return;
    };
    let (_node, address) = start_node(&["--stack=udp"]);
    let Some(capture) = Capture::start(&[address]) else {
        return;
    };
    for (number, (method, user, headers, status)) in REFUSED.iter().enumerate() {
        let body = if headers.contains("text/plain") {
            "hello"
        } else {
            ""
        };
        let at = if user.is_empty() { "" } else { "@" };
        let request = format!(
            "{method} sip:{user}{at}hopbench.test SIP/2.0\r\n\
             Via: SIP/2.0/UDP 192.0.2.1;branch=z9hG4bKtest{number};rport\r\n\
             Max-Forwards: 70\r\n\
             From: <sip:u00000001@hopbench.test>;tag=a\r\n\
             To: <sip:u00000001@hopbench.test>\r\n\
             Call-ID: test-{number}\r\n\
             CSeq: 1 {method}\r\n\
             Contact: <sip:u00000001@192.0.2.1>\r\n\
             {headers}Content-Length: {}\r\n\r\n{body}",
            body.len()
        );
        let response = exchange(address, &request);
        let expected = format!("SIP/2.0 {status} ");
        assert!(response.starts_with(&expected), "{request}{response}");
    }
    let dissection = capture.dissect(&tshark);
    dissection.expect_unmarked();
    for (method, _, _, status) in REFUSED {
        assert!(dissection.messages.contains_key(*method), "{method}");
        assert!(dissection.messages.contains_key(*status), "{status}");
    }
}

/// Sends a request in a datagram of its own; the response to it.
fn exchange(server: SocketAddr, request: &str) -> String {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket
        .set_read_timeout(Some(Duration::from_secs(10)))
        .unwrap();
    socket.send_to(request.as_bytes(), server).unwrap();
    let mut response = [0; 2_048];
    let length = socket.recv(&mut response).expect("an answer");
    String::from_utf8(response[..length].to_vec()).unwrap()
}

#[test]
fn the_dissector_marks_what_is_wrong() {
    let Some((_turn, tshark)) = turn(&TSHARK) else {
        return;
    };
    let receiver = UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = receiver.local_addr().unwrap();
    let Some(capture) = Capture::start(&[address]) else {
        return;
    };
    let message = "OPTIONS sip:a@192.0.2.1 SIP/2.0\r\nVia: SIP/2.0/UDP 192.0.2.1:99999;branch=z9hG4bKa\r\n\
                   From: <sip:a@192.0.2.1>;tag=a\r\nTo: <sip:a@192.0.2.1>\r\nCall-ID: a\r\n\
                   CSeq: 1 OPTIONS\r\nMax-Forwards: 70\r\nContent-Length: many\r\n\r\n";
    receiver.send_to(message.as_bytes(), address).unwrap();
    let dissection = capture.dissect(&tshark);
    assert_eq!(dissection.messages["OPTIONS"], 1);
    assert_eq!(dissection.marks.len(), 1, "{:?}", dissection.marks);
}

/// A capture on the loopback, under way.
struct Capture {
    dumpcap: Peer,
    folder: tempfile::TempDir,
    ports: Vec<u16>,
    /// Sends to itself what ends the capture.
    end: UdpSocket,
}

/// What the dissector found in a capture.
#[derive(Debug)]
struct Dissection {
    /// How many there are of each method, and of each status code.
    messages: BTreeMap<String, usize>,
    /// Malformed ones, and those that bear a warning or an error, as text.
    marks: Vec<String>,
}

impl Capture {
    /// Captures what goes from and to `addresses`; `None` where that is not permitted.
    fn start(addresses: &[SocketAddr]) -> Option<Self> {
        let dumpcap = peers::find(&DUMPCAP).expect("dumpcap comes with tshark");
        let folder = tempfile::tempdir().unwrap();
        let end = UdpSocket::bind("127.0.0.1:0").unwrap();
        let ports: Vec<u16> = addresses.iter().map(SocketAddr::port).collect();
        let mut filter = format!("udp port {}", end.local_addr().unwrap().port());
        for port in &ports {
            filter.push_str(&format!(" or port {port}"));
        }
        let mut command = Command::new(dumpcap);
        command.args(["-q", "-i", "lo", "-w", "capture.pcapng", "-f", &filter]);
        let mut dumpcap = Peer::start(&mut command, folder.path());
        dumpcap.wait_until("a capture", |dumpcap| {
            let said = dumpcap.said();
            said.contains("File: ") || said.contains("permission")
        });
        if dumpcap.said().contains("permission") {
            peers::skip("only root and members of the group wireshark may capture packets");
            return None;
        }
        Some(Self {
            dumpcap,
            folder,
            ports,
            end,
        })
    }

    /// Ends the capture once everything has arrived, and dissects the SIP messages in it.
    fn dissect(mut self, tshark: &Path) -> Dissection {
        self.end
            .send_to(END, self.end.local_addr().unwrap())
            .unwrap();
        let file = self.folder.path().join("capture.pcapng");
        self.dumpcap.wait_until("the end of the capture", |_| {
            let bytes = std::fs::read(&file).unwrap_or_default();
            bytes.windows(END.len()).any(|window| window == END)
        });
        signal(&self.dumpcap.child, Signal::SIGINT);
        self.dumpcap.child.wait().unwrap();

        let mut command = Command::new(tshark);
        command.arg("-r").arg(&file).args(["-Y", "sip"]);
        for port in &self.ports {
            for transport in ["udp", "tcp"] {
                command.args(["-d", &format!("{transport}.port=={port},sip")]);
            }
        }
        command.args(["-T", "fields", "-E", "separator=/t", "-E", "aggregator=;"]);
        for field in [
            "frame.number",
            "sip.Method",
            "sip.Status-Code",
            "_ws.malformed",
            "_ws.expert.severity",
            "_ws.expert.message",
        ] {
            command.args(["-e", field]);
        }
        let output = command.output().unwrap();
        assert!(output.status.success(), "{}", stderr(&output));
        Dissection::of(&stdout(&output))
    }
}

impl Dissection {
    /// One frame a line, its fields separated by tabs, several values of one by semicolons.
    fn of(lines: &str) -> Self {
        let (mut messages, mut marks) = (BTreeMap::new(), Vec::new());
        for line in lines.lines() {
            let fields: Vec<&str> = line.split('\t').collect();
            let [_, methods, statuses, malformed, severities, _] = fields[..] else {
                panic!("expected six fields, found: {line}");
            };
            let kinds = methods.split(';').chain(statuses.split(';'));
            for kind in kinds.filter(|kind| !kind.is_empty()) {
                *messages.entry(kind.to_owned()).or_default() += 1;
            }
            let mut severities = severities.split(';').filter(|text| !text.is_empty());
            let is_severe = severities.any(|severity| severity.parse::<u32>().unwrap() >= WARNING);
            if is_severe || !malformed.is_empty() {
                marks.push(line.to_owned());
            }
        }
        Self { messages, marks }
    }

    fn expect_unmarked(&self) {
        let marks = &self.marks;
        assert!(marks.is_empty(), "{} marks: {marks:#?}", marks.len());
    }
}
