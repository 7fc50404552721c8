//! What opening a flow costs, both ends on one core over loopback, and under it the bare
//! cryptography: the floor that no transport gets below.
//!
//! Rows are named as cells are: `tls?resumption=ticket` differs from `tls` in that alone.

use std::hint::black_box;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use boringtun::noise::{Tunn, TunnResult};
use boringtun::x25519::{PublicKey, StaticSecret};
use criterion::{Criterion, criterion_group, criterion_main};
use hopbench::transport::{
    CryptoProvider, Flow, Handler, HandshakeKind, Identity, KeyExchangeGroup, KeyType, Resumption,
    Settings, Stack, TlsOptions, TlsSettings, TlsVersion, Transport, User, stacks,
};
use rustls::crypto::CryptoProvider as Provider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::server::WebPkiClientVerifier;
use rustls::{
    CipherSuite, ClientConfig, ClientConnection, NamedGroup, RootCertStore, ServerConfig,
    ServerConnection,
};
use tokio::sync::Notify;
use tokio::task::LocalSet;

/// The ways to speak TLS that are compared: the default, and what differs from it in one thing.
fn variants() -> Vec<TlsOptions> {
    let default = TlsOptions::default();
    let mut variants = vec![
        default,
        TlsOptions {
            resumption: Resumption::Ticket,
            ..default
        },
        TlsOptions {
            version: TlsVersion::V1_2,
            ..default
        },
        TlsOptions {
            key_type: KeyType::Rsa2048,
            ..default
        },
    ];
    if cfg!(feature = "aws-lc-rs") {
        use KeyExchangeGroup::{X25519, X25519MlKem768};
        variants.extend(
            [X25519, X25519MlKem768].map(|key_exchange_group| TlsOptions {
                provider: CryptoProvider::AwsLcRs,
                key_exchange_group,
                ..default
            }),
        );
    }
    variants
}

fn row(name: &str, options: &TlsOptions) -> String {
    let parameters = options.distinguishing();
    let parameters = parameters.iter().enumerate().map(|(index, (key, value))| {
        let separator = if index == 0 { '?' } else { '&' };
        format!("{separator}{key}={}", value.as_str().expect("a name"))
    });
    parameters.fold(name.to_owned(), |row, parameter| row + &parameter)
}

const MESSAGE: &[u8] = b"OPTIONS sip:hopbench.test SIP/2.0\r\nContent-Length: 0\r\n\r\n";

/// A server that sends messages back.
struct Echo;

impl Handler for Echo {
    fn message(&self, flow: &Flow, message: &[u8]) {
        flow.send(message).expect("an open flow");
    }
}

/// A client that is told when its message is back.
#[derive(Default)]
struct Asking(Notify);

impl Handler for Asking {
    fn message(&self, _flow: &Flow, _message: &[u8]) {
        self.0.notify_one();
    }
}

/// Connect, secure, a short message there and back, close: each stack of the registry. The message
/// makes sure that the server is through with the handshake, and brings its ticket to the client.
fn stacks_over_loopback(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("handshake");
    for options in variants() {
        let settings = Settings::generate_with(1, &options).expect("random numbers");
        let differs = options != TlsOptions::default();
        let speaks_tls = |stack: &&Stack| matches!(stack.carrier, "tls" | "mtls");
        for stack in stacks()
            .iter()
            .filter(|stack| !differs || speaks_tls(stack))
        {
            group.bench_function(row(stack.name, &options), |bencher| {
                let runtime = tokio::runtime::Builder::new_current_thread()
                    .enable_all()
                    .build()
                    .expect("a runtime");
                bencher.iter_custom(|iterations| {
                    LocalSet::new().block_on(&runtime, open_flows(stack, &settings, iterations))
                });
            });
        }
    }
    group.finish();
}

/// How long opening `iterations` flows takes, one after the other.
async fn open_flows(stack: &Stack, settings: &Settings, iterations: u64) -> Duration {
    let transport = stack.open(settings).expect("complete settings");
    let any_port = SocketAddr::from(([127, 0, 0, 1], 0));
    let listening = transport.listen(any_port, Rc::new(Echo)).await;
    let target = listening.as_ref().expect("a free port").local;
    let handler = Rc::new(Asking::default());
    // The first handshake is always a full one.
    open_flow(&*transport, target, &handler).await;
    let tls = settings.tls.as_ref().expect("generated");
    let is_resumed = tls.options.resumption == Resumption::Ticket;
    let started = Instant::now();
    for _ in 0..iterations {
        let kind = open_flow(&*transport, target, &handler).await;
        assert_eq!(kind == Some(HandshakeKind::Resumed), is_resumed);
    }
    started.elapsed()
}

async fn open_flow(
    transport: &dyn Transport,
    target: SocketAddr,
    handler: &Rc<Asking>,
) -> Option<HandshakeKind> {
    let connected = transport.connect(User(0), target, handler.clone()).await;
    let connected = connected.expect("the server listens");
    connected.flow.send(MESSAGE).expect("an open flow");
    handler.0.notified().await;
    connected.flow.close();
    connected.phases.handshake_kind
}

/// Both ends of a TLS handshake in memory, without and with a client certificate.
fn tls_floor(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("handshake");
    for options in variants() {
        let settings = TlsSettings::generate(&options).expect("random numbers");
        let name = ServerName::try_from(settings.server_name.clone()).expect("a DNS name");
        let is_resumed = options.resumption == Resumption::Ticket;
        for (carrier, is_mutual) in [("tls", false), ("mtls", true)] {
            let (client, server) = in_memory(&settings, is_mutual);
            let handshake = || {
                let mut client = ClientConnection::new(client.clone(), name.clone());
                let client = client.as_mut().expect("a configuration");
                let mut server = ServerConnection::new(server.clone()).expect("a configuration");
                while client.is_handshaking() || server.is_handshaking() {
                    carry(client, &mut server).expect("the client's flight");
                    carry(&mut server, client).expect("the server's flight");
                }
                client.handshake_kind() == Some(rustls::HandshakeKind::Resumed)
            };
            handshake();
            assert_eq!(handshake(), is_resumed);
            let id = row(&format!("floor: {carrier} in memory"), &options);
            group.bench_function(id, |bencher| bencher.iter(handshake));
        }
    }
    group.finish();
}

/// What the stacks negotiate, asked of rustls without them.
fn in_memory(settings: &TlsSettings, is_mutual: bool) -> (Arc<ClientConfig>, Arc<ServerConfig>) {
    let options = &settings.options;
    let provider = Arc::new(pinned(options));
    let version = match options.version {
        TlsVersion::V1_2 => &rustls::version::TLS12,
        TlsVersion::V1_3 => &rustls::version::TLS13,
    };
    let mut roots = RootCertStore::empty();
    let authority = CertificateDer::from_pem_slice(settings.ca_pem.as_bytes());
    let authority = authority.expect("a generated certificate");
    roots.add(authority).expect("a certificate");
    let roots = Arc::new(roots);
    let client = ClientConfig::builder_with_provider(provider.clone())
        .with_protocol_versions(&[version])
        .expect("suites of that version")
        .with_root_certificates(roots.clone());
    let server = ServerConfig::builder_with_provider(provider.clone())
        .with_protocol_versions(&[version])
        .expect("suites of that version");
    let (mut client, server) = if is_mutual {
        let (chain, key) = decode(settings.client.as_ref());
        let client = client.with_client_auth_cert(chain, key);
        let verifier = WebPkiClientVerifier::builder_with_provider(roots, provider).build();
        let verifier = verifier.expect("trusted certificates");
        (
            client.expect("an identity"),
            server.with_client_cert_verifier(verifier),
        )
    } else {
        (client.with_no_client_auth(), server.with_no_client_auth())
    };
    let (chain, key) = decode(settings.server.as_ref());
    let mut server = server.with_single_cert(chain, key).expect("an identity");
    match options.resumption {
        Resumption::Off => {
            client.resumption = rustls::client::Resumption::disabled();
            server.send_tls13_tickets = 0;
        }
        Resumption::Ticket => {
            server.send_tls13_tickets = 1;
            server.ticketer = rustls::crypto::ring::Ticketer::new().expect("random numbers");
        }
    }
    (Arc::new(client), Arc::new(server))
}

fn pinned(options: &TlsOptions) -> Provider {
    let mut provider = match options.provider {
        CryptoProvider::Ring => rustls::crypto::ring::default_provider(),
        #[cfg(feature = "aws-lc-rs")]
        CryptoProvider::AwsLcRs => rustls::crypto::aws_lc_rs::default_provider(),
        #[cfg(not(feature = "aws-lc-rs"))]
        CryptoProvider::AwsLcRs => unreachable!("variants are those of this build"),
    };
    provider.cipher_suites.retain(|suite| {
        matches!(
            suite.suite(),
            CipherSuite::TLS13_AES_256_GCM_SHA384
                | CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384
        )
    });
    let group = match options.key_exchange_group {
        KeyExchangeGroup::X25519 => NamedGroup::X25519,
        KeyExchangeGroup::X25519MlKem768 => NamedGroup::X25519MLKEM768,
    };
    provider.kx_groups.retain(|known| known.name() == group);
    provider
}

fn decode(identity: Option<&Identity>) -> (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>) {
    let identity = identity.expect("a generated identity");
    let chain = CertificateDer::pem_slice_iter(identity.chain_pem.as_bytes())
        .collect::<Result<_, _>>()
        .expect("a generated chain");
    let key = PrivateKeyDer::from_pem_slice(identity.key_pem.as_bytes());
    (chain, key.expect("a generated key"))
}

/// Moves what `from` has to say to `to`.
fn carry<A, B>(
    from: &mut rustls::ConnectionCommon<A>,
    to: &mut rustls::ConnectionCommon<B>,
) -> io::Result<()> {
    let mut flight = Vec::new();
    while from.wants_write() {
        from.write_tls(&mut flight)?;
    }
    let mut rest = &flight[..];
    while !rest.is_empty() {
        to.read_tls(&mut rest)?;
        to.process_new_packets().map_err(io::Error::other)?;
    }
    Ok(())
}

/// Both ends of a WireGuard handshake in memory, the keep-alive that confirms it included.
fn wireguard_floor(criterion: &mut Criterion) {
    let (client, server) = (StaticSecret::from([1; 32]), StaticSecret::from([2; 32]));
    let (client_public, server_public) = (PublicKey::from(&client), PublicKey::from(&server));
    let limiter = |key| {
        Arc::new(boringtun::noise::rate_limiter::RateLimiter::new(
            key,
            u64::MAX,
        ))
    };
    let (client_limiter, server_limiter) = (limiter(&client_public), limiter(&server_public));
    let end = |own: &StaticSecret, peer, limiter: &Arc<_>| {
        Box::new(Tunn::new(
            own.clone(),
            peer,
            None,
            None,
            0,
            Some(Arc::clone(limiter)),
        ))
    };
    let mut group = criterion.benchmark_group("handshake");
    group.bench_function("floor: WireGuard in memory", |bencher| {
        let mut buffers = [[0; 256]; 3];
        bencher.iter(|| {
            let mut client = end(&client, server_public, &client_limiter);
            let mut server = end(&server, client_public, &server_limiter);
            let [initiation, response, keep_alive] = &mut buffers;
            let initiation = datagram(client.format_handshake_initiation(initiation, false));
            let response = datagram(server.decapsulate(None, initiation, response));
            let keep_alive = datagram(client.decapsulate(None, response, keep_alive));
            black_box(server.decapsulate(None, keep_alive, &mut [0; 256]));
        });
    });
    group.finish();
}

fn datagram(result: TunnResult<'_>) -> &[u8] {
    match result {
        TunnResult::WriteToNetwork(datagram) => datagram,
        other => panic!("expected a datagram, found {other:?}"),
    }
}

criterion_group! {
    name = benches;
    config = Criterion::default()
        .warm_up_time(Duration::from_millis(500))
        .measurement_time(Duration::from_millis(1_500))
        .sample_size(20);
    targets = stacks_over_loopback, tls_floor, wireguard_floor
}
criterion_main!(benches);
