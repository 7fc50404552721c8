//! The registrar's rules, seen through the server that answers with them, in virtual time.
#![allow(clippy::unwrap_used)]

use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::time::{Duration, Instant};

use super::{Lifetimes, Registered, Registrar};
use crate::sip::digest::{Algorithm, Challenge, Identity, Nonces};
use crate::sip::emit::Value;
use crate::sip::{
    Accounts, Header, Interface, Message, NextHop, Outbound, Server, ServerConfig, Source,
};

const PEER: SocketAddr = SocketAddr::V4(SocketAddrV4::new(Ipv4Addr::new(127, 0, 0, 2), 40_000));
const OWN: &str = "sip:u00000042@hopbench.test";
const DOMAIN_URI: &str = "sip:hopbench.test";
const INSTANCE: &str = "+sip.instance=\"<urn:uuid:00000000-0000-4000-8000-00000000000A>\"";

#[derive(Default)]
struct Sent(Vec<String>);

impl Outbound<u32> for Sent {
    fn send(&mut self, _: &u32, message: &[u8]) -> bool {
        self.0.push(String::from_utf8(message.to_vec()).unwrap());
        true
    }

    fn peer_of(&self, _: &u32) -> SocketAddr {
        PEER
    }

    fn send_to(&mut self, hop: NextHop, _: &[u8]) -> bool {
        panic!("a registrar answers on the flow, it does not send to {hop:?}");
    }
}

/// A server and the clock, and a client's next nonce count and CSeq.
struct Fixture {
    start: Instant,
    now: Instant,
    server: Server<u32>,
    nonce: String,
    count: u32,
    cseq: u32,
}

/// A REGISTER, and how its credentials differ from right ones of user 42.
struct Register<'a> {
    to: &'a str,
    call_id: &'a str,
    cseq: u32,
    /// `Via`s beneath the topmost one.
    vias: usize,
    flow: u32,
    headers: &'a str,
    authorization: Option<String>,
}

impl Register<'_> {
    fn write(&self) -> String {
        let mut text = format!("REGISTER {DOMAIN_URI} SIP/2.0\r\n");
        for via in 0..=self.vias {
            text += &format!("Via: SIP/2.0/TCP 127.0.0.2;branch=z9hG4bK{via}\r\n");
        }
        text += &format!(
            "From: <{OWN}>;tag=1\r\nTo: <{}>\r\nCall-ID: {}\r\nCSeq: {} REGISTER\r\n",
            self.to, self.call_id, self.cseq
        );
        if let Some(authorization) = &self.authorization {
            text += &format!("Authorization: {authorization}\r\n");
        }
        text += &format!("{}Content-Length: 0\r\n\r\n", self.headers);
        text
    }
}

struct Response(String);

impl Response {
    fn status(&self) -> u16 {
        self.message().status().unwrap()
    }

    fn message(&self) -> Message<'_> {
        Message::parse(self.0.as_bytes()).unwrap()
    }

    fn lines(&self, header: Header) -> Vec<&str> {
        self.message().lines(header).collect()
    }
}

impl Fixture {
    fn new(configure: impl FnOnce(&mut ServerConfig)) -> Self {
        Self::with_entropy([7; 32], configure)
    }

    fn with_entropy(entropy: [u8; 32], configure: impl FnOnce(&mut ServerConfig)) -> Self {
        let start = Instant::now();
        let accounts = Accounts::new("hopbench.test", "secret", 100);
        let address = "127.0.0.1:5060".parse().unwrap();
        let interface = Interface::unprotected("TCP", address);
        let mut config = ServerConfig::new(accounts, vec![interface]);
        configure(&mut config);
        let mut fixture = Self {
            start,
            now: start,
            server: Server::new(config, entropy, start),
            nonce: String::new(),
            count: 0,
            cseq: 0,
        };
        fixture.challenge();
        fixture
    }

    fn at(&mut self, seconds: u64) {
        self.now = self.start + Duration::from_secs(seconds);
        self.server.timeout(self.now, &mut Sent::default());
    }

    /// Takes a fresh nonce.
    fn challenge(&mut self) -> Response {
        let register = Register {
            authorization: None,
            ..self.next("")
        };
        let response = self.send(&register);
        let message = response.message();
        let challenge = Challenge::choose(&message, Header::WwwAuthenticate).unwrap();
        (self.nonce, self.count) = (challenge.nonce.to_owned(), 0);
        response
    }

    fn credentials(&self) -> Credentials {
        Credentials {
            username: "u00000042",
            password: Accounts::new("hopbench.test", "secret", 100)
                .password(42)
                .to_string(),
            realm: "hopbench.test",
            method: "REGISTER",
            uri: DOMAIN_URI,
            nonce: self.nonce.clone(),
            algorithm: Algorithm::Sha256,
            count: self.count,
        }
    }

    /// The next request of the one client that there is.
    fn next<'a>(&mut self, headers: &'a str) -> Register<'a> {
        self.count += 1;
        self.cseq += 1;
        Register {
            to: OWN,
            call_id: "c",
            cseq: self.cseq,
            vias: 0,
            flow: 9,
            headers,
            authorization: Some(self.credentials().write()),
        }
    }

    fn send(&mut self, register: &Register<'_>) -> Response {
        let text = register.write();
        let source = Source {
            flow: &register.flow,
            peer: PEER,
            interface: 0,
        };
        let mut sent = Sent::default();
        let server = &mut self.server;
        server.receive(self.now, source, text.as_bytes(), &mut sent);
        assert_eq!(sent.0.len(), 1, "{text}");
        Response(sent.0.remove(0))
    }

    /// Registers with these header fields, which has to succeed.
    fn register(&mut self, headers: &str) -> Response {
        let register = self.next(headers);
        let response = self.send(&register);
        assert_eq!(response.status(), 200, "{headers}");
        response
    }

    fn contacts(&self) -> Vec<String> {
        let bindings = self.server.registrar().bindings(42, self.now);
        bindings.map(|b| b.contact().to_owned()).collect()
    }
}

#[derive(Clone)]
struct Credentials {
    username: &'static str,
    password: String,
    realm: &'static str,
    method: &'static str,
    uri: &'static str,
    nonce: String,
    algorithm: Algorithm,
    count: u32,
}

impl Credentials {
    fn write(&self) -> String {
        let identity = Identity {
            username: self.username,
            password: &self.password,
            method: self.method,
            uri: self.uri,
        };
        let challenge = Challenge {
            realm: self.realm,
            nonce: &self.nonce,
            opaque: None,
            algorithm: self.algorithm,
            qop_auth: true,
            stale: false,
        };
        let mut line = Vec::new();
        identity.write_credentials(&mut Value::new(&mut line), &challenge, self.count, "cnonce");
        String::from_utf8(line).unwrap()
    }
}

/// Steps of one client: To, header fields → status, how many bindings there are then.
#[test]
fn what_is_asked_for_is_done_or_refused() {
    let first = "Contact: <sip:u00000042@192.0.2.1>\r\n";
    let second = "Contact: <sip:u00000042@192.0.2.2>;expires=60\r\n";
    let nine: String = (0..9)
        .map(|n| format!("m: <sip:a@192.0.2.{n}>\r\n"))
        .collect();
    let long = format!("Contact: <sip:{}@192.0.2.1>\r\n", "x".repeat(3_000));
    let mut fixture = Fixture::new(|_| {});
    for (to, headers, status, bindings) in [
        (OWN, "", 200, 0),
        (OWN, "Contact: *\r\nExpires: 0\r\n", 200, 0),
        (
            OWN,
            "Contact: <sip:u00000042@192.0.2.1>;expires=0\r\n",
            200,
            0,
        ),
        ("sip:u00000001@hopbench.test", first, 403, 0),
        ("sip:u00000100@hopbench.test", first, 404, 0),
        ("sip:u00000042@elsewhere.test", first, 404, 0),
        ("sip:hopbench.test", first, 404, 0),
        ("tel:+1", first, 404, 0),
        ("sip:u00000042@HOPBENCH.test;x=y", first, 200, 1),
        // An equivalent URI is the same binding.
        (OWN, "Contact: <SIP:u0000004%32@192.0.2.1>\r\n", 200, 1),
        (OWN, second, 200, 2),
        // Fetching changes nothing.
        (OWN, "", 200, 2),
        (OWN, "Contact: *\r\n", 400, 2),
        (OWN, "Contact: *\r\nExpires: 60\r\n", 400, 2),
        (OWN, "Contact: *, <sip:a@b>\r\nExpires: 0\r\n", 400, 2),
        // All or nothing.
        (OWN, "Contact: <sip:a@b>\r\nContact: <broken\r\n", 400, 2),
        (OWN, "Contact: <sip:a@b>, <sip:c@d>;expires=5\r\n", 423, 2),
        (OWN, "Contact: <sip:a@b>, <sip:c@d>;q=2\r\n", 400, 2),
        (OWN, &nine, 403, 2),
        (OWN, &long, 513, 2),
        // Twice in one request, the later counts.
        (OWN, "Contact: <sip:a@b>, <sip:a@b>;q=0.5\r\n", 200, 3),
        (OWN, "Contact: <sip:c@d>, <sip:c@d>;expires=0\r\n", 200, 3),
        (OWN, "Contact: <sip:a@b>\r\nExpires: 0\r\n", 200, 2),
        (
            OWN,
            "Contact: <sip:u00000042@192.0.2.2>;expires=0\r\n",
            200,
            1,
        ),
        (OWN, "Contact: *\r\nExpires: 0\r\n", 200, 0),
    ] {
        let register = Register {
            to,
            ..fixture.next(headers)
        };
        let response = fixture.send(&register);
        assert_eq!(response.status(), status, "{to} {headers}");
        assert_eq!(fixture.contacts().len(), bindings, "{to} {headers}");
        let listed = response.message().contacts().count();
        assert_eq!(listed, if status == 200 { bindings } else { 0 });
    }
    assert_eq!(fixture.server.counters().registrations, 12);
}

/// `Expires`, parameters of the contact → lifetime that is granted, or 423.
#[test]
fn lifetimes_are_granted_within_bounds() {
    let own = "Contact: <sip:a@b>";
    for (minimum, headers, granted) in [
        (10, format!("{own}\r\n"), Some(1_800)),
        (10, format!("{own}\r\nExpires: 60\r\n"), Some(60)),
        (10, format!("{own};expires=70\r\nExpires: 60\r\n"), Some(70)),
        (10, format!("{own};expires=10\r\n"), Some(10)),
        (10, format!("{own};expires=9\r\n"), None),
        (10, format!("{own}\r\nExpires: 1\r\n"), None),
        (10, format!("{own}\r\nExpires: 86401\r\n"), Some(7_200)),
        (10, format!("{own};expires=99999999999\r\n"), Some(7_200)),
        (10, format!("{own};expires=soon\r\n"), Some(3_600)),
        // A registrar may demand no more than an hour.
        (5_000, format!("{own};expires=3599\r\n"), None),
        (5_000, format!("{own};expires=3600\r\n"), Some(3_600)),
    ] {
        let mut fixture = Fixture::new(|config| {
            config.lifetimes.default_seconds = 1_800;
            config.lifetimes.min_seconds = minimum;
            config.lifetimes.max_seconds = 7_200;
        });
        let register = fixture.next(&headers);
        let response = fixture.send(&register);
        let Some(granted) = granted else {
            assert_eq!(response.status(), 423, "{headers}");
            let demanded = minimum.to_string();
            assert_eq!(response.lines(Header::MinExpires), [demanded]);
            continue;
        };
        let expected = format!("<sip:a@b>;expires={granted}");
        assert_eq!(response.lines(Header::Contact), [expected], "{headers}");
        fixture.at(granted - 1);
        assert_eq!(fixture.contacts(), ["sip:a@b"], "{headers}");
        fixture.at(granted);
        assert!(fixture.contacts().is_empty(), "{headers}");
        assert_eq!(fixture.server.registrar().users(), 0);
    }
}

/// Call-ID, CSeq, header fields → status. A request that was overtaken has no effect.
#[test]
fn requests_of_one_call_id_count_in_order() {
    let contact = "Contact: <sip:a@b>\r\n";
    let other = "Contact: <sip:c@d>\r\n";
    let all = "Contact: *\r\nExpires: 0\r\n";
    let mut fixture = Fixture::new(|_| {});
    for (call_id, cseq, headers, status, bindings) in [
        ("c", 5, contact, 200, 1),
        ("c", 5, contact, 500, 1),
        ("c", 4, contact, 500, 1),
        ("c", 4, all, 500, 1),
        ("c", 4, "Contact: <sip:a@b>, <sip:c@d>\r\n", 500, 1),
        // Of what it does not concern nothing has to be newer.
        ("c", 4, other, 200, 2),
        ("d", 1, contact, 200, 2),
        ("c", 1, contact, 200, 2),
        ("c", 6, all, 200, 0),
    ] {
        let register = Register {
            call_id,
            cseq,
            ..fixture.next(headers)
        };
        assert_eq!(fixture.send(&register).status(), status, "{call_id} {cseq}");
        assert_eq!(fixture.contacts().len(), bindings, "{call_id} {cseq}");
    }
}

/// What is wrong with the credentials → whether the challenge says that only the nonce was, and
/// whether there were credentials for us at all.
#[test]
fn wrong_credentials_are_challenged_and_disturb_nothing() {
    let mut fixture = Fixture::new(|config| config.nonce_life = Duration::from_secs(30));
    let old_nonce = fixture.nonce.clone();
    let foreign_nonce = Fixture::with_entropy([8; 32], |_| {}).nonce;
    fixture.at(25);
    fixture.challenge();
    fixture.register("Contact: <sip:a@b>\r\n");
    fixture.at(31);
    fixture.count += 1;
    let right = fixture.credentials();
    let written = right.write();
    let with = |change: &dyn Fn(&mut Credentials)| {
        let mut credentials = right.clone();
        change(&mut credentials);
        credentials.write()
    };
    let replace = |from: &str, to: &str| {
        assert!(written.contains(from), "{from}");
        written.replace(from, to)
    };
    let table = [
        ("replayed", with(&|c| c.count = 1), true, true),
        ("not counted", with(&|c| c.count = 0), true, true),
        (
            "too old",
            with(&|c| c.nonce = old_nonce.clone()),
            true,
            true,
        ),
        (
            "another server's nonce",
            with(&|c| c.nonce = foreign_nonce.clone()),
            true,
            true,
        ),
        ("no nonce", with(&|c| c.nonce.clear()), true, true),
        ("wrong password", with(&|c| c.password.clear()), false, true),
        (
            "another user",
            with(&|c| c.username = "u00000041"),
            false,
            true,
        ),
        (
            "unknown user",
            with(&|c| c.username = "nobody"),
            false,
            true,
        ),
        (
            "another URI",
            with(&|c| c.uri = "sip:elsewhere.test"),
            false,
            true,
        ),
        ("no URI", with(&|c| c.uri = ""), false, true),
        (
            "another method",
            with(&|c| c.method = "INVITE"),
            false,
            true,
        ),
        (
            "not offered",
            with(&|c| c.algorithm = Algorithm::Md5),
            false,
            true,
        ),
        (
            "other count",
            replace("nc=00000002", "nc=00000003"),
            false,
            true,
        ),
        (
            "no response",
            replace("response=\"", "response=\"\", x=\""),
            false,
            true,
        ),
        (
            "another realm",
            with(&|c| c.realm = "elsewhere.test"),
            false,
            false,
        ),
        (
            "session algorithm",
            replace("SHA-256", "SHA-256-sess"),
            false,
            false,
        ),
        (
            "hidden user",
            format!("{written}, userhash=true"),
            false,
            false,
        ),
        ("no qop", replace("qop=auth, ", ""), false, false),
        (
            "another qop",
            replace("qop=auth", "qop=auth-int"),
            false,
            false,
        ),
        ("another scheme", replace("Digest", "Basic"), false, false),
        ("garbage", "Digest \"\\=,,=".into(), false, false),
        ("nothing", String::new(), false, false),
    ];
    for (what, authorization, stale, has_credentials) in table {
        let before = *fixture.server.counters();
        let response = fixture.send(&Register {
            authorization: Some(authorization),
            ..Register::take_over()
        });
        assert_eq!(response.status(), 401, "{what}");
        let message = response.message();
        let challenge = Challenge::choose(&message, Header::WwwAuthenticate).unwrap();
        assert_eq!(challenge.stale, stale, "{what}");
        assert_eq!(fixture.contacts(), ["sip:a@b"], "{what}");
        let after = fixture.server.counters();
        assert_eq!(after.challenges - before.challenges, 1, "{what}");
        let refused = after.credentials_refused - before.credentials_refused;
        assert_eq!(refused, u64::from(has_credentials), "{what}");
    }
    assert_eq!(fixture.server.registrar().authenticator().users(), 1);
    // The right ones have not been used up by all that.
    let response = fixture.send(&Register {
        authorization: Some(written),
        ..Register::take_over()
    });
    assert_eq!(response.status(), 200);
}

impl Register<'_> {
    /// Would bind another contact if it were authenticated.
    fn take_over() -> Self {
        Self {
            to: OWN,
            call_id: "attack",
            cseq: 9,
            vias: 0,
            flow: 66,
            headers: "Contact: <sip:mallory@192.0.2.66>\r\n",
            authorization: None,
        }
    }
}

#[test]
fn algorithms_are_offered_in_order_and_each_is_taken() {
    let algorithms = [Algorithm::Sha512_256, Algorithm::Sha256, Algorithm::Md5];
    let mut fixture = Fixture::new(|config| config.algorithms = algorithms.to_vec());
    let response = fixture.challenge();
    let offered = response.lines(Header::WwwAuthenticate);
    let offered = offered.iter().map(|line| Challenge::parse(line).unwrap());
    let offered: Vec<_> = offered
        .map(|c| (c.algorithm, c.qop_auth, c.nonce))
        .collect();
    let nonce = fixture.nonce.clone();
    assert_eq!(
        offered,
        algorithms.map(|algorithm| (algorithm, true, &*nonce))
    );
    for algorithm in algorithms {
        let mut register = fixture.next("");
        let credentials = Credentials {
            algorithm,
            ..fixture.credentials()
        };
        register.authorization = Some(credentials.write());
        assert_eq!(fixture.send(&register).status(), 200, "{algorithm:?}");
    }
}

/// `Path` and `Supported` → status, path of the binding.
#[test]
fn the_path_is_kept_and_told() {
    let (near, far) = ("<sip:near.test;lr>", "<sip:t0k3n@far.test;lr;ob>");
    for (headers, status, path) in [
        (String::new(), 200, None),
        ("Supported: path\r\n".into(), 200, None),
        (
            format!("Path: {near}\r\nSupported: path\r\n"),
            200,
            Some(near.to_owned()),
        ),
        (
            format!("Path: {near},{far}\r\nk: gruu , PATH\r\n"),
            200,
            Some(format!("{near}, {far}")),
        ),
        (
            format!("Path: {near}\r\nSupported: gruu\r\nSupported: path\r\nPath: {far}\r\n"),
            200,
            Some(format!("{near}, {far}")),
        ),
        (format!("Path: {near}\r\n"), 420, None),
        (
            format!("Path: {near}\r\nSupported: pathology\r\n"),
            420,
            None,
        ),
        ("Path: <near\r\nSupported: path\r\n".into(), 400, None),
        ("Path: <tel:+1>\r\nSupported: path\r\n".into(), 400, None),
    ] {
        let mut fixture = Fixture::new(|_| {});
        let headers = format!("Contact: <sip:a@b>\r\n{headers}");
        let register = Register {
            vias: 2,
            ..fixture.next(&headers)
        };
        let response = fixture.send(&register);
        assert_eq!(response.status(), status, "{headers}");
        let bindings = fixture.server.registrar().bindings(42, fixture.now);
        let paths: Vec<_> = bindings.map(|b| b.path().map(str::to_owned)).collect();
        let told: Vec<_> = response
            .message()
            .elements(Header::Path)
            .map(str::to_owned)
            .collect();
        let told = Some(told.join(", ")).filter(|told| !told.is_empty());
        assert_eq!(told, path, "{headers}");
        assert_eq!(paths, if status == 200 { vec![path] } else { vec![] });
        if status == 420 {
            assert!(
                response.0.contains("\r\nUnsupported: path\r\n"),
                "{}",
                response.0
            );
        }
    }
}

/// Who is the first hop and what it says, parameters of the contact, `Supported` → status, whether the
/// response requires outbound, whether the binding is one of a flow.
#[test]
fn outbound_is_used_if_the_first_hop_keeps_flows() {
    let direct = (0, "");
    let keeps = (1, "Path: <sip:e@edge.test;lr;ob>\r\n");
    let keeps_beyond_core = (2, "Path: <sip:core.test;lr>, <sip:e@edge.test;lr;ob>\r\n");
    let only_core = (2, "Path: <sip:core.test;lr;ob>, <sip:edge.test;lr>\r\n");
    let no_path = (1, "");
    let flow = &*format!(";reg-id=1;{INSTANCE}");
    let instance_only = &*format!(";{INSTANCE}");
    let zero = &*format!(";reg-id=0;{INSTANCE}");
    let (both, path) = ("path, outbound", "path");
    for ((vias, via_path), params, supported, status, required, is_flow) in [
        (direct, flow, both, 200, true, true),
        (direct, flow, path, 200, false, true),
        (direct, "", both, 200, false, false),
        (direct, instance_only, both, 200, false, false),
        (direct, ";reg-id=1", both, 200, false, false),
        (direct, zero, both, 200, false, false),
        (keeps, flow, both, 200, true, true),
        (keeps_beyond_core, flow, both, 200, true, true),
        (only_core, flow, both, 439, false, false),
        (no_path, flow, both, 439, false, false),
        // Who does not know outbound is not told, and registers as ever.
        (no_path, flow, path, 200, false, false),
        (no_path, instance_only, both, 200, false, false),
        (no_path, ";reg-id=1", both, 200, false, false),
    ] {
        let what = format!("{vias} {via_path} {params} {supported}");
        let mut fixture = Fixture::new(|config| config.flow_timer_seconds = Some(90));
        let headers = format!("Contact: <sip:a@b>{params}\r\nSupported: {supported}\r\n{via_path}");
        let register = Register {
            vias,
            ..fixture.next(&headers)
        };
        let response = fixture.send(&register);
        assert_eq!(response.status(), status, "{what}");
        let require = response.lines(Header::Require);
        assert_eq!(require, vec!["outbound"; required.into()], "{what}");
        let timer = response.lines(Header::FlowTimer);
        assert_eq!(timer, vec!["90"; (required && vias == 0).into()], "{what}");
        let mut bindings = fixture.server.registrar().bindings(42, fixture.now);
        let reg_id = bindings.next().and_then(|binding| binding.reg_id());
        assert_eq!(reg_id.is_some(), is_flow, "{what}");
    }
}

/// Steps of user agents: contact → URIs that are bound then, in the order in which they are tried.
#[test]
fn flows_are_told_by_instance_and_reg_id_and_the_best_comes_first() {
    let instance = |last: &str| INSTANCE.replace("00A>", &format!("{last}>"));
    let (a, a_small, b) = (instance("00A"), instance("00a"), instance("00b"));
    let mut fixture = Fixture::new(|_| {});
    for (contact, expected) in [
        (format!("<sip:a@1>;reg-id=1;{a}"), vec!["sip:a@1"]),
        // The same flow with another URI, and its UUID in lower case: one binding still.
        (format!("<sip:a@2>;reg-id=1;{a_small}"), vec!["sip:a@2"]),
        // The same URI, but another flow.
        (
            format!("<sip:a@2>;reg-id=2;{a}"),
            vec!["sip:a@2", "sip:a@2"],
        ),
        (
            format!("<sip:b@1>;reg-id=1;{b}"),
            vec!["sip:b@1", "sip:a@2", "sip:a@2"],
        ),
        (
            "<sip:c@1>;q=0.5".into(),
            vec!["sip:b@1", "sip:a@2", "sip:a@2", "sip:c@1"],
        ),
        // Refreshed, and so the most recent.
        (
            format!("<sip:a@3>;reg-id=1;{a}"),
            vec!["sip:a@3", "sip:b@1", "sip:a@2", "sip:c@1"],
        ),
        (
            format!("<sip:b@1>;q=0.25;reg-id=1;{b}"),
            vec!["sip:a@3", "sip:a@2", "sip:c@1", "sip:b@1"],
        ),
        (
            format!("<sip:whatever>;expires=0;reg-id=2;{a}"),
            vec!["sip:a@3", "sip:c@1", "sip:b@1"],
        ),
        ("<sip:c@1>;expires=0".into(), vec!["sip:a@3", "sip:b@1"]),
        // Without reg-id the URI tells.
        ("<sip:b@1>".into(), vec!["sip:b@1", "sip:a@3"]),
    ] {
        fixture.register(&format!("Contact: {contact}\r\nSupported: outbound\r\n"));
        assert_eq!(fixture.contacts(), expected, "{contact}");
    }
    // A flow is registered alone, but others may end with it.
    let two = format!("Contact: <sip:a@4>;reg-id=1;{a}, <sip:d@1>\r\n");
    let register = fixture.next(&two);
    assert_eq!(fixture.send(&register).status(), 400);
    fixture.register(&format!(
        "Contact: <sip:a@4>;reg-id=1;{a}, <sip:b@1>;expires=0\r\n"
    ));
    assert_eq!(fixture.contacts(), ["sip:a@4"]);
}

#[test]
fn a_binding_tells_what_a_proxy_needs() {
    let mut fixture = Fixture::new(|_| {});
    let address =
        format!("<sip:a@b;transport=tcp>;q=0.7;{INSTANCE};methods=\"INVITE;BYE\";reg-id=2");
    let response = fixture.register(&format!("Contact: \"A\" {address};expires=60\r\n"));
    let listed = response.lines(Header::Contact);
    assert_eq!(listed, [format!("{address};expires=60")]);
    let bindings = fixture.server.registrar().bindings(42, fixture.now);
    let binding = bindings.last().unwrap();
    assert_eq!(binding.contact(), "sip:a@b;transport=tcp");
    assert_eq!((*binding.flow(), binding.interface()), (9, 0));
    assert_eq!((binding.q_thousandths(), binding.path()), (700, None));
    assert_eq!(
        binding.instance(),
        INSTANCE.split_once('=').map(|(_, value)| value)
    );
    assert_eq!(binding.reg_id().map(u32::from), Some(2));
    assert_eq!(
        binding.expires_at(),
        fixture.start + Duration::from_secs(60)
    );
    assert!(binding.is_same_instance(binding));
}

/// A refresh over a new flow and the news that the old one is dead may come in any order.
#[test]
fn a_failed_flow_takes_only_its_own_registration_along() {
    let mut fixture = Fixture::new(|_| {});
    let accounts = Accounts::new("hopbench.test", "secret", 100);
    let nonces = Nonces::new(&[7; 32], fixture.start, Duration::from_secs(300));
    let lifetimes = Lifetimes::default();
    let mut registrar = Registrar::new(nonces, vec![Algorithm::Sha256], lifetimes, None);
    let now = fixture.now;
    let ids = [1, 2].map(|flow| {
        let register = fixture.next("Contact: <sip:a@b>\r\n");
        let text = register.write();
        let message = Message::parse(text.as_bytes()).unwrap();
        let registered = registrar.register(&accounts, now, &message, &flow, 3);
        let accepted = Registered::Accepted {
            user: 42,
            outbound: false,
        };
        assert_eq!(registered, accepted);
        let binding = registrar.bindings(42, now).next().unwrap();
        assert_eq!((*binding.flow(), binding.interface()), (flow, 3));
        binding.id()
    });
    let (user, at) = registrar.take_timer().unwrap();
    let again = registrar.take_timer();
    assert_eq!((user, again), (42, None), "one timer for a user");
    for (user, id, removed, left) in [
        (42, ids[0], false, 1),
        (41, ids[1], false, 1),
        (42, ids[1], true, 0),
        (42, ids[1], false, 0),
    ] {
        assert_eq!(registrar.flow_failed(user, id), removed, "{user} {id:?}");
        assert_eq!(registrar.bindings(42, now).count(), left, "{user} {id:?}");
    }
    assert_eq!((registrar.expire(user, at), registrar.users()), (None, 0));
}
