//! What is counted. Each task makes ready what it needs, does it a few times so that nothing is done for the
//! first time, and then so many times more in functions that callgrind counts in.

use std::hint::black_box;
use std::io::{Read, Write};
use std::time::{Duration, Instant};

use hopbench::bare::{TlsEnds, WireguardEnds};
use hopbench::sip::digest::{Algorithm, Challenge, Credentials, Identity, write_challenge};
use hopbench::sip::emit::Value;
use hopbench::sip::rehearsal::{Rehearsal, Way};
use hopbench::sip::{Accounts, Message, framing};
use hopbench::transport::Settings;

/// Something to be counted.
pub(crate) struct Task {
    /// As in its cell.
    pub(super) workload: &'static str,
    /// As in its cell.
    pub(super) stack: &'static str,
    /// `client` or `server`: whose work it is.
    pub(super) side: &'static str,
    /// Parts of the names of the functions within which instructions count.
    pub(super) functions: &'static [&'static str],
    /// Operations that are counted.
    pub(super) iterations: u32,
    work: fn(u32),
}

/// Where a task has no function of its own to count in.
const COUNTED: &[&str] = &["instructions::tasks::counted"];
const SIP_CLIENT: &[&str] = &["sip::rehearsal::begin", "sip::rehearsal::receive"];
const SIP_SERVER: &[&str] = &["sip::rehearsal::serve"];
const TLS_CLIENT: &[&str] = &[
    "hopbench::bare::client_begins",
    "hopbench::bare::client_reads",
    "hopbench::bare::client_writes",
];
const TLS_SERVER: &[&str] = &[
    "hopbench::bare::server_begins",
    "hopbench::bare::server_reads",
    "hopbench::bare::server_writes",
];
const WIREGUARD_CLIENT: &[&str] = &[
    "hopbench::bare::client_initiates",
    "hopbench::bare::client_confirms",
];
const WIREGUARD_SERVER: &[&str] = &[
    "hopbench::bare::server_answers",
    "hopbench::bare::server_is_confirmed",
];

/// Operations before those that are counted, where what is counted is said by the task; where it is all calls of
/// a function, the first ones are in the mean.
const WARM_UP: u32 = 3;

/// All tasks, the small ones first.
pub(crate) const TASKS: &[Task] = &[
    task("parse", "tcp", "server", COUNTED, 200, parse),
    task("emit", "tcp", "client", COUNTED, 200, emit),
    task("digest", "tcp", "client", COUNTED, 50, answer_challenge),
    task("digest", "tcp", "server", COUNTED, 50, verify_credentials),
    task(
        "registration",
        "tcp",
        "client",
        SIP_CLIENT,
        200,
        registration_over_tcp,
    ),
    task(
        "registration",
        "tcp",
        "server",
        SIP_SERVER,
        200,
        registration_over_tcp,
    ),
    task(
        "reregistration",
        "tcp",
        "client",
        SIP_CLIENT,
        1_000,
        refreshes_by_turns,
    ),
    task(
        "reregistration",
        "tcp",
        "server",
        SIP_SERVER,
        1_000,
        refreshes_by_turns,
    ),
    task("call", "tcp", "client", SIP_CLIENT, 200, call_over_tcp),
    task("call", "tcp", "server", SIP_SERVER, 200, call_over_tcp),
    task(
        "call-by-turns",
        "tcp",
        "client",
        SIP_CLIENT,
        200,
        calls_by_turns,
    ),
    task(
        "call-by-turns",
        "tcp",
        "server",
        SIP_SERVER,
        200,
        calls_by_turns,
    ),
    task("call", "udp", "client", SIP_CLIENT, 200, call_over_udp),
    task("call", "udp", "server", SIP_SERVER, 200, call_over_udp),
    task("seal", "tls", "client", COUNTED, 50, seal_record),
    task("open", "tls", "server", COUNTED, 50, open_record),
    task("seal", "udp@wireguard", "client", COUNTED, 50, seal_packet),
    task("open", "udp@wireguard", "server", COUNTED, 50, open_packet),
    task(
        "handshake",
        "tls",
        "client",
        TLS_CLIENT,
        8,
        handshake_of_tls,
    ),
    task(
        "handshake",
        "tls",
        "server",
        TLS_SERVER,
        8,
        handshake_of_tls,
    ),
    task(
        "handshake",
        "mtls",
        "client",
        TLS_CLIENT,
        8,
        handshake_of_mtls,
    ),
    task(
        "handshake",
        "mtls",
        "server",
        TLS_SERVER,
        8,
        handshake_of_mtls,
    ),
    task(
        "handshake",
        "udp@wireguard",
        "client",
        WIREGUARD_CLIENT,
        8,
        handshake_of_wireguard,
    ),
    task(
        "handshake",
        "udp@wireguard",
        "server",
        WIREGUARD_SERVER,
        8,
        handshake_of_wireguard,
    ),
];

const fn task(
    workload: &'static str,
    stack: &'static str,
    side: &'static str,
    functions: &'static [&'static str],
    iterations: u32,
    work: fn(u32),
) -> Task {
    Task {
        workload,
        stack,
        side,
        functions,
        iterations,
        work,
    }
}

impl Task {
    /// `workload/stack/side`.
    pub(crate) fn name(&self) -> String {
        format!("{}/{}/{}", self.workload, self.stack, self.side)
    }

    /// What callgrind must be told to count in this task's functions and nowhere else.
    pub(crate) fn callgrind_arguments(&self) -> Vec<String> {
        let toggles = self.functions.iter();
        let toggles = toggles.map(|function| format!("--toggle-collect=*{function}*"));
        std::iter::once("--collect-atstart=no".to_owned())
            .chain(toggles)
            .collect()
    }

    /// For those who count otherwise: `benches/instructions.rs`.
    pub(crate) fn description(&self) -> serde_json::Value {
        serde_json::json!({
            "name": self.name(),
            "callgrind_arguments": self.callgrind_arguments(),
        })
    }

    /// Does what is counted, whoever counts.
    pub(crate) fn run(&self) {
        (self.work)(self.iterations);
    }
}

/// Where callgrind counts, unless a task says otherwise.
#[inline(never)]
fn counted<T>(work: impl FnOnce() -> T) -> T {
    black_box(work())
}

/// `work` a few times, then as often as it counts.
fn repeat<T>(iterations: u32, mut work: impl FnMut() -> T) {
    for _ in 0..WARM_UP {
        black_box(work());
    }
    for _ in 0..iterations {
        counted(&mut work);
    }
}

/// A time that is the same in each run, as far as SIP sees: it counts from here.
fn epoch() -> (Instant, Instant) {
    let epoch = Instant::now();
    (epoch, epoch + Duration::from_secs(1))
}

/// The INVITE of a call.
fn invite() -> Vec<u8> {
    let (epoch, now) = epoch();
    let mut call = Rehearsal::new("TCP", epoch).call(now).into_iter();
    let first = call.next().expect("a call begins");
    assert_eq!(first.way, Way::ToServer);
    first.bytes
}

fn parse(iterations: u32) {
    let invite = invite();
    repeat(iterations, || {
        let invite = black_box(&invite[..]);
        let framed = framing::next(invite);
        assert!(framed.is_ok_and(|frame| frame != framing::Frame::Incomplete));
        let message = Message::parse(invite).expect("our INVITE is sound");
        message.check().expect("our INVITE is whole");
        black_box((message.via(), message.from(), message.to(), message.cseq()))
            .2
            .is_ok()
    });
}

fn emit(iterations: u32) {
    let (epoch, now) = epoch();
    let mut rehearsal = Rehearsal::new("TCP", epoch);
    repeat(iterations, || rehearsal.invite(now));
}

const NONCE: &str = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";

/// A challenge with SHA-256, its answer, and the password of who answers.
fn with_digest(work: impl FnOnce(&Identity<'_>, &Challenge<'_>, &str)) {
    let accounts = Accounts::new("hopbench.test", "secret", 1_000);
    let (username, password) = (accounts.username(42), accounts.password(42));
    let identity = Identity {
        username: &username,
        password: &password,
        method: "REGISTER",
        uri: "sip:hopbench.test",
    };
    let mut text = Vec::new();
    let line = &mut Value::new(&mut text);
    write_challenge(line, Algorithm::Sha256, accounts.realm(), NONCE, false);
    let text = String::from_utf8(text).expect("challenges are ASCII");
    let challenge = Challenge::parse(&text).expect("the challenge is ours");
    work(&identity, &challenge, &password);
}

fn answer(identity: &Identity<'_>, challenge: &Challenge<'_>, out: &mut Vec<u8>) {
    out.clear();
    identity.write_credentials(&mut Value::new(out), challenge, 1, "0123456789abcdef");
}

fn answer_challenge(iterations: u32) {
    with_digest(|identity, challenge, _| {
        let mut out = Vec::new();
        repeat(iterations, || {
            answer(black_box(identity), challenge, &mut out)
        });
    });
}

fn verify_credentials(iterations: u32) {
    with_digest(|identity, challenge, password| {
        let mut out = Vec::new();
        answer(identity, challenge, &mut out);
        let credentials = String::from_utf8(out).expect("credentials are ASCII");
        repeat(iterations, || {
            let credentials = Credentials::parse(black_box(&credentials)).expect("they are ours");
            assert!(credentials.prove(password, "REGISTER"));
        });
    });
}

fn registration_over_tcp(iterations: u32) {
    let (epoch, now) = epoch();
    let mut rehearsal = Rehearsal::new("TCP", epoch);
    for _ in 0..iterations {
        rehearsal.register(now);
    }
}

/// Users who take turns: none writes the same request twice in a row.
const TURNS: u32 = 20;

/// One of fifty is the first registration of its user.
fn refreshes_by_turns(iterations: u32) {
    let (epoch, now) = epoch();
    let mut rehearsal = Rehearsal::by_turns("TCP", epoch, TURNS);
    for _ in 0..iterations {
        rehearsal.refresh(now);
    }
}

fn calls_by_turns(iterations: u32) {
    let (epoch, now) = epoch();
    let mut rehearsal = Rehearsal::by_turns("TCP", epoch, TURNS);
    for _ in 0..iterations {
        rehearsal.call(now);
    }
}

fn call_over_tcp(iterations: u32) {
    calls("TCP", iterations);
}

fn call_over_udp(iterations: u32) {
    calls("UDP", iterations);
}

fn calls(transport: &'static str, iterations: u32) {
    let (epoch, now) = epoch();
    let mut rehearsal = Rehearsal::new(transport, epoch);
    for _ in 0..iterations {
        rehearsal.call(now);
    }
}

fn tls_ends(is_mutual: bool) -> TlsEnds {
    let settings = Settings::generate(0).expect("credentials can be made");
    TlsEnds::new(settings.tls.as_ref().expect("they were made"), is_mutual)
}

fn handshake_of_tls(iterations: u32) {
    handshakes(&tls_ends(false), iterations);
}

fn handshake_of_mtls(iterations: u32) {
    handshakes(&tls_ends(true), iterations);
}

fn handshakes(ends: &TlsEnds, iterations: u32) {
    for _ in 0..iterations {
        black_box(ends.connect());
    }
}

fn handshake_of_wireguard(iterations: u32) {
    let ends = WireguardEnds::new();
    for _ in 0..iterations {
        black_box(ends.connect());
    }
}

fn seal_record(iterations: u32) {
    let invite = invite();
    let (mut client, _server) = tls_ends(false).connect();
    let mut wire = Vec::with_capacity(1 << 16);
    repeat(iterations, || {
        wire.clear();
        client
            .writer()
            .write_all(&invite)
            .expect("a buffer takes it");
        client.write_tls(&mut wire).expect("a vector takes it")
    });
}

fn open_record(iterations: u32) {
    let invite = invite();
    let (mut client, mut server) = tls_ends(false).connect();
    let mut opened = vec![0; invite.len()];
    let mut wire = Vec::new();
    let mut one = |is_counted: bool| {
        wire.clear();
        client
            .writer()
            .write_all(&invite)
            .expect("a buffer takes it");
        client.write_tls(&mut wire).expect("a vector takes it");
        let mut open = || {
            server
                .read_tls(&mut &wire[..])
                .expect("a slice is readable");
            server.process_new_packets().expect("the record is sound");
            server
                .reader()
                .read_exact(&mut opened)
                .expect("it is whole");
        };
        if is_counted { counted(open) } else { open() }
    };
    (0..WARM_UP).for_each(|_| one(false));
    (0..iterations).for_each(|_| one(true));
}

/// An IPv4 packet with an INVITE, as far as boringtun looks at it.
fn packet() -> Vec<u8> {
    const HEADERS: usize = 28;
    let invite = invite();
    let mut packet = vec![0; HEADERS];
    packet.extend_from_slice(&invite);
    packet[0] = 0x45;
    let length = u16::try_from(packet.len()).expect("an INVITE is short");
    packet[2..4].copy_from_slice(&length.to_be_bytes());
    packet
}

fn seal_packet(iterations: u32) {
    let packet = packet();
    let (mut client, _server) = WireguardEnds::new().connect();
    let mut sealed = vec![0; packet.len() + 256];
    repeat(iterations, || {
        black_box(client.encapsulate(black_box(&packet), &mut sealed));
    });
}

fn open_packet(iterations: u32) {
    use boringtun::noise::TunnResult;
    let packet = packet();
    let (mut client, mut server) = WireguardEnds::new().connect();
    let (mut sealed, mut opened) = (vec![0; packet.len() + 256], vec![0; packet.len() + 256]);
    let mut one = |is_counted: bool| {
        let TunnResult::WriteToNetwork(datagram) = client.encapsulate(&packet, &mut sealed) else {
            unreachable!("the keys are fresh");
        };
        let mut open = || match server.decapsulate(None, datagram, &mut opened) {
            TunnResult::WriteToTunnelV4(packet, _) => packet.len(),
            other => unreachable!("it was sealed a moment ago, and is {other:?}"),
        };
        let length = if is_counted { counted(open) } else { open() };
        assert_eq!(length, packet.len());
    };
    (0..WARM_UP).for_each(|_| one(false));
    (0..iterations).for_each(|_| one(true));
}
