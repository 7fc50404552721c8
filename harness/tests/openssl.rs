//! OpenSSL's client against the node's TLS: who is let in, who is turned away, and by which side.
//!
//! Each case starts a `hopbench node` of its own and asserts three tellings of what happened: OpenSSL's
//! verdict on the node's certificate, the alert that the node sent, and the node's counters.

#![allow(clippy::unwrap_used)]

mod support;

use std::fs;
use std::io::{BufRead, BufReader, Write, pipe};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use hopbench::transport::{Identity, KeyType, Role, TestAuthority, Validity};
use support::node::CountingNode;
use support::peers::{OPENSSL, turn};

const NAME: &str = TestAuthority::SERVER_NAME;

/// A client of OpenSSL's, and what becomes of it.
struct Case {
    what: &'static str,
    /// Options of the node, its folder of credentials included.
    node: &'static [&'static str],
    /// Whom the client trusts.
    ca: &'static str,
    /// The name that it expects in the node's certificate.
    name: &'static str,
    /// Its further options.
    client: &'static [&'static str],
    expected: Expected,
}

#[derive(Debug)]
enum Expected {
    /// OpenSSL finds the node's certificate good, and its OPTIONS gets a 200. OpenSSL says so of the
    /// session.
    Answered(&'static str),
    /// OpenSSL refuses the node's certificate, for this reason (`X509_V_ERR_…`).
    CertificateRefused(u32),
    /// The node refuses with this alert, before it has shown a certificate.
    HelloRefused(&'static str),
    /// The node refuses with this alert what OpenSSL shows; OpenSSL found the node's certificate good.
    ClientRefused(&'static str),
}

const EXPIRED: u32 = 10;
const NO_ISSUER: u32 = 20;
const OTHER_NAME: u32 = 62;

const TLS: &[&str] = &["--stack", "tls", "--credentials", "good"];
const MTLS: &[&str] = &["--stack", "mtls", "--credentials", "good"];
const MTLS_1_2: &[&str] = &[
    "--stack",
    "mtls",
    "--credentials",
    "good",
    "--tls-version",
    "1.2",
];
const RSA: &[&str] = &["--stack", "mtls", "--credentials", "rsa"];
const GOOD_CLIENT: &[&str] = &["-cert", "good/client.pem", "-key", "good/client.key"];

/// A client that trusts the right authority and expects the right name.
const fn case(
    what: &'static str,
    node: &'static [&'static str],
    client: &'static [&'static str],
    expected: Expected,
) -> Case {
    Case {
        what,
        node,
        ca: "good/ca.pem",
        name: NAME,
        client,
        expected,
    }
}

const CASES: &[Case] = &[
    case(
        "the right authority and name",
        TLS,
        &[],
        Expected::Answered("New, TLSv1.3, Cipher is TLS_AES_256_GCM_SHA384"),
    ),
    Case {
        ca: "stranger/ca.pem",
        ..case(
            "another authority is trusted",
            TLS,
            &[],
            Expected::CertificateRefused(NO_ISSUER),
        )
    },
    Case {
        name: "another.test",
        ..case(
            "another name is expected",
            TLS,
            &[],
            Expected::CertificateRefused(OTHER_NAME),
        )
    },
    case(
        "the server's certificate has expired",
        &["--stack", "tls", "--credentials", "expired"],
        &[],
        Expected::CertificateRefused(EXPIRED),
    ),
    // The node does not get as far as the version: a client of TLS 1.1 does not name signatures.
    case(
        "TLS 1.1",
        TLS,
        &["-tls1_1", "-cipher", "DEFAULT@SECLEVEL=0"],
        Expected::HelloRefused("alert handshake failure"),
    ),
    case(
        "TLS 1.2 where 1.3 is spoken",
        TLS,
        &["-tls1_2"],
        Expected::HelloRefused("alert protocol version"),
    ),
    case(
        "TLS 1.2 where it is spoken",
        MTLS_1_2,
        GOOD_CLIENT,
        Expected::Answered("New, TLSv1.2, Cipher is ECDHE-ECDSA-AES256-GCM-SHA384"),
    ),
    case(
        "TLS 1.3 where 1.2 is spoken",
        MTLS_1_2,
        &["-tls1_3"],
        Expected::HelloRefused("alert protocol version"),
    ),
    case(
        "TLS 1.1 where 1.2 is spoken",
        MTLS_1_2,
        &["-tls1_1", "-cipher", "DEFAULT@SECLEVEL=0"],
        Expected::HelloRefused("alert handshake failure"),
    ),
    case(
        "a client certificate",
        MTLS,
        GOOD_CLIENT,
        Expected::Answered("New, TLSv1.3, Cipher is TLS_AES_256_GCM_SHA384"),
    ),
    case(
        "no client certificate",
        MTLS,
        &[],
        Expected::ClientRefused("alert certificate required"),
    ),
    case(
        "no client certificate, over TLS 1.2",
        MTLS_1_2,
        &[],
        Expected::ClientRefused("alert certificate required"),
    ),
    case(
        "a client certificate of another authority",
        MTLS,
        &[
            "-cert",
            "stranger/client.pem",
            "-key",
            "stranger/client.key",
        ],
        Expected::ClientRefused("alert unknown ca"),
    ),
    case(
        "a client certificate that has expired",
        MTLS,
        &["-cert", "expired/client.pem", "-key", "expired/client.key"],
        Expected::ClientRefused("alert certificate expired"),
    ),
    case(
        "a server certificate for a client's",
        MTLS,
        &["-cert", "good/server.pem", "-key", "good/server.key"],
        Expected::ClientRefused("alert unsupported certificate"),
    ),
    Case {
        ca: "rsa/ca.pem",
        ..case(
            "RSA keys at both ends",
            RSA,
            &["-cert", "rsa/client.pem", "-key", "rsa/client.key"],
            Expected::Answered("Peer signature type: RSA-PSS"),
        )
    },
];

#[test]
fn clients_are_let_in_and_turned_away_as_the_table_says() {
    let Some((_turn, openssl)) = turn(&OPENSSL) else {
        return;
    };
    let folder = credentials();
    for case in CASES {
        println!("{}", case.what);
        let node = start_node(folder.path(), case.node);
        let client = Client {
            openssl: &openssl,
            folder: folder.path(),
            ca: case.ca,
            name: case.name,
        };
        let told = client.ask(node.address, case.client);
        case.expected.assert(&told);

        // Whoever is turned away disturbs nobody. Its end is behind the node then, too.
        let (ca, options) = if case.node == RSA {
            ("rsa/ca.pem", ["rsa/client.pem", "rsa/client.key"])
        } else {
            ("good/ca.pem", ["good/client.pem", "good/client.key"])
        };
        let other = Client {
            ca,
            name: NAME,
            ..client
        };
        let [certificate, key] = options;
        let other_told = other.ask(node.address, &["-cert", certificate, "-key", key]);
        let serves = case.node[3] != "expired";
        assert_eq!(is_answered(&other_told), serves, "{other_told}");

        let counters = node.stop();
        let answered = u64::from(is_answered(&told)) + u64::from(serves);
        assert_eq!(counters.flows_opened, answered, "{counters:?}");
        assert_eq!(counters.flows_refused, 2 - answered, "{counters:?}");
        assert_eq!(counters.sip.requests, answered, "{counters:?}");
        assert_eq!(counters.flows_closed_for_garbage, 0, "{counters:?}");
    }
}

impl Expected {
    fn assert(&self, told: &str) {
        let says = |text: &str| assert!(told.contains(text), "expected {text:?} in: {told}");
        let is_verified = told.contains("Verification: OK") && told.contains("Server certificate");
        match self {
            Self::Answered(session) => {
                says(session);
                assert!(!told.contains("alert"), "{told}");
                assert!(is_verified && is_answered(told), "{told}");
            }
            Self::CertificateRefused(reason) => {
                says(&format!("verify error:num={reason}:"));
                assert!(!is_answered(told), "{told}");
            }
            Self::HelloRefused(alert) => {
                says(alert);
                says("no peer certificate available");
                assert!(!is_answered(told), "{told}");
            }
            Self::ClientRefused(alert) => {
                says(alert);
                assert!(is_verified && !is_answered(told), "{told}");
            }
        }
    }
}

#[test]
fn openssl_resumes_by_ticket_where_the_node_lets_it() {
    let Some((_turn, openssl)) = turn(&OPENSSL) else {
        return;
    };
    let folder = credentials();
    let client = Client {
        openssl: &openssl,
        folder: folder.path(),
        ca: "good/ca.pem",
        name: NAME,
    };
    for (version, resumption, second) in [
        ("1.3", "ticket", "Reused, TLSv1.3"),
        ("1.2", "ticket", "Reused, TLSv1.2"),
        ("1.3", "off", "New, TLSv1.3"),
        ("1.2", "off", "New, TLSv1.2"),
    ] {
        let options = ["--tls-version", version, "--resumption", resumption];
        let node = start_node(folder.path(), &[MTLS, &options].concat());
        let session = folder.path().join("session");
        let keep = ["-sess_out", "session"];
        let told = client.ask(node.address, &[GOOD_CLIENT, &keep].concat());
        assert!(is_answered(&told) && told.contains("New, "), "{told}");
        // Without a ticket there is nothing to keep.
        assert_eq!(session.exists(), resumption == "ticket", "{told}");
        let resume: &[&str] = match resumption {
            "ticket" => &["-sess_in", "session"],
            _ => &[],
        };
        let told = client.ask(node.address, &[GOOD_CLIENT, resume].concat());
        assert!(is_answered(&told) && told.contains(second), "{told}");
        let counters = node.stop();
        assert_eq!((counters.flows_opened, counters.flows_refused), (2, 0));
        let _ = fs::remove_file(session);
    }
}

/// A folder of folders of credentials: `good`, `expired` (of the same authority), `stranger` (of
/// another one), `rsa`.
fn credentials() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let good = TestAuthority::generate().unwrap();
    let stranger = TestAuthority::generate().unwrap();
    let rsa = TestAuthority::generate_for(KeyType::Rsa2048).unwrap();
    for (name, authority, validity) in [
        ("good", &good, Validity::Current),
        ("expired", &good, Validity::Expired),
        ("stranger", &stranger, Validity::Current),
        ("rsa", &rsa, Validity::Current),
    ] {
        let folder = folder.path().join(name);
        fs::create_dir(&folder).unwrap();
        fs::write(folder.join("ca.pem"), authority.ca_pem()).unwrap();
        for (file, role, certified) in [
            ("server", Role::Server, NAME),
            ("client", Role::Client, "client.hopbench.test"),
        ] {
            let Identity { chain_pem, key_pem } =
                authority.issue(certified, role, validity).unwrap();
            fs::write(folder.join(file).with_extension("pem"), chain_pem).unwrap();
            fs::write(folder.join(file).with_extension("key"), key_pem).unwrap();
        }
    }
    folder
}

/// A node whose credentials are named relative to `folder`.
fn start_node(folder: &Path, options: &[&str]) -> CountingNode {
    let mut options: Vec<String> = options.iter().map(|&option| option.to_owned()).collect();
    let credentials = options.iter().position(|option| option == "--credentials");
    let path = &mut options[credentials.unwrap() + 1];
    *path = folder.join(&*path).to_str().unwrap().to_owned();
    let options: Vec<&str> = options.iter().map(String::as_str).collect();
    CountingNode::start(&options)
}

/// `openssl s_client`.
struct Client<'a> {
    openssl: &'a PathBuf,
    folder: &'a Path,
    ca: &'a str,
    name: &'a str,
}

impl Client<'_> {
    /// Sends OPTIONS to `target`, waits for the answer or for the end, and returns all that was said.
    fn ask(&self, target: SocketAddr, options: &[&str]) -> String {
        let (output, input) = pipe().unwrap();
        let mut command = Command::new("timeout");
        command
            .arg("10")
            .arg(self.openssl)
            .args(["s_client", "-connect", &target.to_string()])
            .args(["-CAfile", self.ca, "-servername", self.name])
            .args(["-verify_hostname", self.name, "-verify_return_error"])
            .args(options)
            .current_dir(self.folder)
            .stdin(Stdio::piped())
            .stdout(input.try_clone().unwrap())
            .stderr(input);
        let mut child = support::Guard(command.spawn().unwrap());
        // Its copies of the pipe's other end would keep it open.
        drop(command);
        let mut stdin = child.0.stdin.take();
        // Who was turned away has perhaps gone.
        let _ = stdin.as_mut().unwrap().write_all(OPTIONS.as_bytes());
        let mut told = String::new();
        let mut output = BufReader::new(output);
        while output.read_line(&mut told).unwrap() > 0 {
            if is_answered(&told) {
                // The end of its input is what it takes for goodbye.
                stdin = None;
            }
        }
        drop(stdin);
        child.0.wait().unwrap();
        told
    }
}

const OPTIONS: &str = "OPTIONS sip:hopbench.test SIP/2.0\r\n\
    Via: SIP/2.0/TLS 127.0.0.1:9;branch=z9hG4bKopenssl\r\n\
    Max-Forwards: 70\r\n\
    From: <sip:openssl@hopbench.test>;tag=1\r\n\
    To: <sip:hopbench.test>\r\n\
    Call-ID: 1@openssl\r\n\
    CSeq: 1 OPTIONS\r\n\
    Content-Length: 0\r\n\
    \r\n";

/// Whether the whole answer has come.
fn is_answered(told: &str) -> bool {
    let answer = told.find("SIP/2.0 200 ");
    answer.is_some_and(|start| told[start..].contains("Content-Length: 0\r\n\r\n"))
}
