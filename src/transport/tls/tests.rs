//! What is claimed of TLS is compared with real handshakes, over the whole matrix of options.

use std::collections::BTreeMap;

use rustls::SupportedCipherSuite;
use rustls::pki_types::CertificateDer;
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};

use super::*;
use crate::transport::find;

const VERSIONS: [TlsVersion; 2] = [TlsVersion::V1_2, TlsVersion::V1_3];
const KEY_TYPES: [KeyType; 2] = [KeyType::EcdsaP256, KeyType::Rsa2048];
const RESUMPTIONS: [Resumption; 3] = [Resumption::Off, Resumption::Ticket, Resumption::Cache];
const PROVIDERS: [CryptoProvider; 2] = [CryptoProvider::Ring, CryptoProvider::AwsLcRs];
const GROUPS: [KeyExchangeGroup; 2] = [KeyExchangeGroup::X25519, KeyExchangeGroup::X25519MlKem768];

const STACKS: [(&str, Authentication); 2] = [
    ("tls", Authentication::Server),
    ("mtls", Authentication::Mutual),
];

/// Two ends that have shaken hands.
struct Secured {
    client: TlsStream<DuplexStream>,
    server: TlsStream<DuplexStream>,
    kind: HandshakeKind,
}

/// One handshake, and a byte from the server, which brings its ticket along.
async fn handshake(client: &Tls, server: &Tls, user: User) -> Secured {
    let (near, far) = duplex(64 * 1024);
    let nowhere = SocketAddr::from(([127, 0, 0, 1], 0));
    let (connected, accepted) = tokio::join!(
        client.connect(near, nowhere, user),
        server.accept(far, nowhere)
    );
    let ((mut client, handshake), mut server) = (connected.unwrap(), accepted.unwrap());
    server.write_all(b"x").await.unwrap();
    server.flush().await.unwrap();
    client.read_exact(&mut [0]).await.unwrap();
    Secured {
        client: client.into_inner(),
        server: server.into_inner(),
        kind: handshake.unwrap().kind,
    }
}

async fn kind(client: &Tls, server: &Tls, user: u32) -> HandshakeKind {
    handshake(client, server, User(user)).await.kind
}

fn open_tls(settings: &TlsSettings, authentication: Authentication) -> Tls {
    Tls::new(settings, authentication, Duration::from_secs(10)).unwrap()
}

/// Settings with keys of one kind, as both ends have them.
fn generated(key_type: KeyType) -> TlsSettings {
    let options = TlsOptions {
        key_type,
        ..TlsOptions::default()
    };
    TlsSettings::generate(&options).unwrap()
}

fn resuming(version: TlsVersion) -> TlsSettings {
    let mut settings = generated(KeyType::EcdsaP256);
    settings.options.version = version;
    settings.options.resumption = Resumption::Ticket;
    settings
}

#[tokio::test]
async fn handshakes_negotiate_what_is_claimed() {
    let mut possible = 0;
    for key_type in KEY_TYPES {
        let keys = generated(key_type);
        for version in VERSIONS {
            for resumption in RESUMPTIONS {
                for provider in PROVIDERS {
                    for key_exchange_group in GROUPS {
                        let options = TlsOptions {
                            version,
                            key_type,
                            resumption,
                            provider,
                            key_exchange_group,
                            ..TlsOptions::default()
                        };
                        let keys = keys.clone();
                        let settings = TlsSettings { options, ..keys };
                        match options.check() {
                            Ok(()) => {
                                possible += 1;
                                assert_claim_holds(&settings).await;
                            }
                            Err(error) => assert_is_refused(&settings, &error),
                        }
                    }
                }
            }
        }
    }
    // Versions × kinds of keys × resumption, times ring; and aws-lc-rs, whose hybrid group is of
    // TLS 1.3 only.
    let expected = if cfg!(feature = "aws-lc-rs") { 30 } else { 12 };
    assert_eq!(possible, expected);
}

async fn assert_claim_holds(tls: &TlsSettings) {
    let options = &tls.options;
    println!("{options:?}");
    for (name, authentication) in STACKS {
        let stack = find(name).unwrap();
        let settings = Settings {
            tls: Some(tls.clone()),
            ..Settings::default()
        };
        let claim = stack.security(&settings);
        let is_mutual = authentication == Authentication::Mutual;
        assert_eq!(stack.mutual, is_mutual);
        assert_eq!(claim, expected_claim(options, is_mutual), "{name}");

        let tls = open_tls(tls, authentication);
        let first = handshake(&tls, &tls, User(0)).await;
        assert_eq!(first.kind, HandshakeKind::Full);
        let second = handshake(&tls, &tls, User(0)).await;
        let is_resumed = second.kind == HandshakeKind::Resumed;
        assert_eq!(is_resumed, claim["resumption"] != "off");
        for ends in [&first, &second] {
            assert_ends_are(ends, &claim, options);
        }
        let group = first.client.get_ref().1.negotiated_key_exchange_group();
        let group = format!("{:?}", group.unwrap().name());
        assert_eq!(claim["key_exchange_group"], group.as_str());
    }
}

/// The claim, written down a second time.
fn expected_claim(options: &TlsOptions, is_mutual: bool) -> BTreeMap<String, Value> {
    let suite = match (options.version, options.key_type) {
        (TlsVersion::V1_3, _) => "TLS_AES_256_GCM_SHA384",
        (TlsVersion::V1_2, KeyType::EcdsaP256) => "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384",
        (TlsVersion::V1_2, KeyType::Rsa2048) => "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384",
    };
    let protocol = match options.version {
        TlsVersion::V1_2 => "TLS 1.2",
        TlsVersion::V1_3 => "TLS 1.3",
    };
    let key_type = options.key_type.name();
    let mut claim = vec![
        ("security_protocol", protocol),
        ("cipher_suite", suite),
        ("crypto_provider", options.provider.name()),
        ("key_exchange_group", options.key_exchange_group.name()),
        ("key_type", key_type),
        ("resumption", options.resumption.name()),
    ];
    if is_mutual {
        claim.push(("client_key_type", key_type));
    }
    let owned = |(key, value): (&str, &str)| (key.to_owned(), Value::from(value));
    let mut claim: BTreeMap<String, Value> = claim.into_iter().map(owned).collect();
    let numbers = match options.resumption {
        Resumption::Off => vec![],
        Resumption::Ticket => vec![("session_tickets_count", 1)],
        Resumption::Cache => vec![("session_tickets_count", 1), ("session_cache_count", 256)],
    };
    claim.extend(
        numbers
            .into_iter()
            .map(|(key, number)| (key.to_owned(), number.into())),
    );
    for key in ["tls_buffer_limit_bytes", "tls_max_fragment_bytes"] {
        claim.insert(key.to_owned(), Value::Null);
    }
    claim
}

fn assert_ends_are(ends: &Secured, claim: &BTreeMap<String, Value>, options: &TlsOptions) {
    let (client, server) = (ends.client.get_ref().1, ends.server.get_ref().1);
    let version = format!("{:?}", client.protocol_version().unwrap());
    assert_eq!(
        claim["security_protocol"],
        version.replace("TLSv1_", "TLS 1.")
    );
    let suite = client.negotiated_cipher_suite().unwrap();
    let name = format!("{:?}", suite.suite()).replace("TLS13_", "TLS_");
    assert_eq!(claim["cipher_suite"], name);
    assert!(is_of(options.provider, suite), "{suite:?}");
    let shown = |certificates: Option<&[CertificateDer<'_>]>| {
        certificates.map(|chain| Value::from(kind_of_key(&chain[0])))
    };
    let (by_server, by_client) = (client.peer_certificates(), server.peer_certificates());
    assert_eq!(shown(by_server).as_ref(), claim.get("key_type"));
    assert_eq!(shown(by_client).as_ref(), claim.get("client_key_type"));
}

/// Whether it is that library's suite, and not another's of the same name.
fn is_of(provider: CryptoProvider, suite: SupportedCipherSuite) -> bool {
    let suites: &[SupportedCipherSuite] = match provider {
        CryptoProvider::Ring => rustls::crypto::ring::ALL_CIPHER_SUITES,
        #[cfg(feature = "aws-lc-rs")]
        CryptoProvider::AwsLcRs => rustls::crypto::aws_lc_rs::ALL_CIPHER_SUITES,
        #[cfg(not(feature = "aws-lc-rs"))]
        CryptoProvider::AwsLcRs => &[],
    };
    suites.iter().any(|&known| match (known, suite) {
        (SupportedCipherSuite::Tls12(known), SupportedCipherSuite::Tls12(suite)) => {
            std::ptr::eq(known, suite)
        }
        (SupportedCipherSuite::Tls13(known), SupportedCipherSuite::Tls13(suite)) => {
            std::ptr::eq(known, suite)
        }
        (SupportedCipherSuite::Tls12(_), SupportedCipherSuite::Tls13(_))
        | (SupportedCipherSuite::Tls13(_), SupportedCipherSuite::Tls12(_)) => false,
    })
}

/// The kind of a certificate's key, by what its encoding must contain.
fn kind_of_key(certificate: &[u8]) -> &'static str {
    /// The object identifier of curve P-256.
    const P256: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07];
    /// The head of a public key whose modulus has 256 bytes.
    const RSA_2048: &[u8] = &[
        0x03, 0x82, 0x01, 0x0f, 0x00, 0x30, 0x82, 0x01, 0x0a, 0x02, 0x82, 0x01, 0x01, 0x00,
    ];
    let holds = |part: &[u8]| memchr::memmem::find(certificate, part).is_some();
    match (holds(P256), holds(RSA_2048)) {
        (true, false) => "ECDSA P-256",
        (false, true) => "RSA-2048",
        both_or_none => panic!("a certificate of an unknown kind of key: {both_or_none:?}"),
    }
}

fn assert_is_refused(tls: &TlsSettings, error: &TlsOptionsError) {
    for (name, _) in STACKS {
        let stack = find(name).unwrap();
        let settings = Settings {
            tls: Some(tls.clone()),
            ..Settings::default()
        };
        let refused = stack.open(&settings).err().unwrap();
        assert_eq!(refused.to_string(), error.to_string());
        assert!(stack.security(&settings).is_empty());
    }
}

#[test]
fn without_credentials_nothing_is_claimed() {
    let nothing = find("tls").unwrap().security(&Settings::default());
    assert!(nothing.is_empty(), "{nothing:?}");
}

#[tokio::test]
async fn a_user_resumes_its_own_session_and_nobody_elses() {
    for version in VERSIONS {
        let tls = open_tls(&resuming(version), Authentication::Mutual);
        // More users than rustls keeps tickets for one server.
        let users = 0..20;
        for user in users.clone() {
            assert_eq!(kind(&tls, &tls, user).await, HandshakeKind::Full);
        }
        for user in users.clone().chain(users) {
            assert_eq!(kind(&tls, &tls, user).await, HandshakeKind::Resumed);
        }
        assert_eq!(kind(&tls, &tls, 20).await, HandshakeKind::Full);
    }
}

#[tokio::test]
async fn resuming_takes_two_ends_that_agree_to() {
    for version in VERSIONS {
        let willing = resuming(version);
        let mut unwilling = willing.clone();
        unwilling.options.resumption = Resumption::Off;
        for (client, server) in [(&willing, &unwilling), (&unwilling, &willing)] {
            let client = open_tls(client, Authentication::Server);
            let server = open_tls(server, Authentication::Server);
            for _ in 0..2 {
                assert_eq!(kind(&client, &server, 0).await, HandshakeKind::Full);
            }
        }
    }
}

/// A cache that is full forgets whose turn it is not.
#[tokio::test]
async fn a_server_that_keeps_sessions_keeps_so_many() {
    for version in VERSIONS {
        let mut settings = resuming(version);
        settings.options.resumption = Resumption::Cache;
        settings.options.session_cache_count = 16;
        let tls = open_tls(&settings, Authentication::Server);
        for user in 0..200 {
            assert_eq!(kind(&tls, &tls, user).await, HandshakeKind::Full);
        }
        assert_eq!(kind(&tls, &tls, 199).await, HandshakeKind::Resumed);
        assert_eq!(kind(&tls, &tls, 0).await, HandshakeKind::Full);
    }
}

#[tokio::test]
async fn a_ticket_of_another_worker_leads_to_a_full_handshake() {
    for version in VERSIONS {
        let settings = resuming(version);
        let client = open_tls(&settings, Authentication::Server);
        let [one, other] = [(); 2].map(|()| open_tls(&settings, Authentication::Server));
        assert_eq!(kind(&client, &one, 0).await, HandshakeKind::Full);
        assert_eq!(kind(&client, &other, 0).await, HandshakeKind::Full);
        assert_eq!(kind(&client, &other, 0).await, HandshakeKind::Resumed);
    }
}
