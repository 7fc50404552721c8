//! What opening a flow costs, both ends on one core over loopback, and under it the bare
//! cryptography: the floor that no transport gets below.
//!
//! Rows are named as cells are: `tls?resumption=ticket` differs from `tls` in that alone.

use std::hint::black_box;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::{Duration, Instant};

use criterion::{Criterion, criterion_group, criterion_main};
use hopbench::bare::{TlsEnds, WireguardEnds};
use hopbench::transport::{
    CryptoProvider, Flow, Handler, HandshakeKind, KeyExchangeGroup, KeyType, Resumption, Settings,
    Stack, TlsOptions, TlsSettings, TlsVersion, Transport, User, stacks,
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
    fn message(&self, flow: &Flow, message: &[u8], _now: Instant) {
        flow.send(message).expect("an open flow");
    }
}

/// A client that is told when its message is back.
#[derive(Default)]
struct Asking(Notify);

impl Handler for Asking {
    fn message(&self, _flow: &Flow, _message: &[u8], _now: Instant) {
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
        let is_resumed = options.resumption == Resumption::Ticket;
        for (carrier, is_mutual) in [("tls", false), ("mtls", true)] {
            let ends = TlsEnds::new(&settings, is_mutual);
            let handshake = || {
                let (client, _server) = ends.connect();
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

/// Both ends of a WireGuard handshake in memory, the keep-alive that confirms it included.
fn wireguard_floor(criterion: &mut Criterion) {
    let ends = WireguardEnds::new();
    let mut group = criterion.benchmark_group("handshake");
    group.bench_function("floor: WireGuard in memory", |bencher| {
        bencher.iter(|| black_box(ends.connect()));
    });
    group.finish();
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
