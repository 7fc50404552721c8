//! What opening a flow costs, both ends on one core over loopback, and under it the bare
//! cryptography: the floor that no transport gets below.

use std::hint::black_box;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use boringtun::noise::{Tunn, TunnResult};
use boringtun::x25519::{PublicKey, StaticSecret};
use criterion::{Criterion, criterion_group, criterion_main};
use hopbench::transport::{Flow, Handler, Settings, User, stacks};
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, ServerConfig, ServerConnection};
use tokio::task::LocalSet;

struct Ignore;

impl Handler for Ignore {
    fn message(&self, _flow: &Flow, _message: &[u8]) {}
}

/// Connect, secure, close: each stack of the registry.
fn stacks_over_loopback(criterion: &mut Criterion) {
    let settings = Settings::generate(1).expect("random numbers");
    let mut group = criterion.benchmark_group("handshake");
    for stack in stacks() {
        group.bench_function(stack.name, |bencher| {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .expect("a runtime");
            bencher.iter_custom(|iterations| {
                LocalSet::new().block_on(&runtime, async {
                    let transport = stack.open(&settings).expect("complete settings");
                    let any_port = SocketAddr::from(([127, 0, 0, 1], 0));
                    let handler = Rc::new(Ignore);
                    let listening = transport.listen(any_port, handler.clone()).await;
                    let target = listening.as_ref().expect("a free port").local;
                    let started = std::time::Instant::now();
                    for _ in 0..iterations {
                        let connected = transport.connect(User(0), target, handler.clone()).await;
                        connected.expect("the server listens").flow.close();
                    }
                    started.elapsed()
                })
            });
        });
    }
    group.finish();
}

/// Both ends of a TLS 1.3 handshake in memory, without and with a client certificate.
fn tls_floor(criterion: &mut Criterion) {
    let settings = Settings::generate(1)
        .expect("random numbers")
        .tls
        .expect("generated");
    // What the stacks negotiate.
    let provider = Arc::new(CryptoProvider {
        kx_groups: vec![ring::kx_group::X25519],
        cipher_suites: vec![ring::cipher_suite::TLS13_AES_256_GCM_SHA384],
        ..ring::default_provider()
    });
    let identity = |identity: &hopbench::transport::Identity| {
        let chain = CertificateDer::pem_slice_iter(identity.chain_pem.as_bytes())
            .collect::<Result<Vec<_>, _>>()
            .expect("a generated chain");
        let key = PrivateKeyDer::from_pem_slice(identity.key_pem.as_bytes());
        (chain, key.expect("a generated key"))
    };
    let mut roots = RootCertStore::empty();
    let authority = CertificateDer::from_pem_slice(settings.ca_pem.as_bytes());
    roots
        .add(authority.expect("generated"))
        .expect("a certificate");
    let roots = Arc::new(roots);
    let name = ServerName::try_from(settings.server_name.clone()).expect("a DNS name");

    let mut group = criterion.benchmark_group("handshake");
    for mutual in [false, true] {
        let client = ClientConfig::builder_with_provider(provider.clone())
            .with_protocol_versions(&[&rustls::version::TLS13])
            .expect("TLS 1.3")
            .with_root_certificates(roots.clone());
        let server = ServerConfig::builder_with_provider(provider.clone())
            .with_protocol_versions(&[&rustls::version::TLS13])
            .expect("TLS 1.3");
        let (server_chain, server_key) = identity(settings.server.as_ref().expect("generated"));
        let (mut client, server) = if mutual {
            let (chain, key) = identity(settings.client.as_ref().expect("generated"));
            let verifier = rustls::server::WebPkiClientVerifier::builder_with_provider(
                roots.clone(),
                provider.clone(),
            );
            let verifier = verifier.build().expect("trusted certificates");
            (
                client
                    .with_client_auth_cert(chain, key)
                    .expect("an identity"),
                server.with_client_cert_verifier(verifier),
            )
        } else {
            (client.with_no_client_auth(), server.with_no_client_auth())
        };
        let mut server = server
            .with_single_cert(server_chain, server_key)
            .expect("an identity");
        client.resumption = rustls::client::Resumption::disabled();
        server.send_tls13_tickets = 0;
        let (client, server) = (Arc::new(client), Arc::new(server));
        let id = if mutual {
            "floor: mutual TLS in memory"
        } else {
            "floor: TLS in memory"
        };
        group.bench_function(id, |bencher| {
            bencher.iter(|| {
                let mut client = ClientConnection::new(client.clone(), name.clone());
                let client = client.as_mut().expect("a configuration");
                let mut server = ServerConnection::new(server.clone()).expect("a configuration");
                while client.is_handshaking() || server.is_handshaking() {
                    carry(client, &mut server).expect("the client's flight");
                    carry(&mut server, client).expect("the server's flight");
                }
            });
        });
    }
    group.finish();
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
