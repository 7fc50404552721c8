//! The bare cryptography below the stacks, both ends in memory: without sockets, tasks or SIP. The floor
//! that no transport gets below, in time or in memory, and so the control of what a stack adds.
//!
//! Everything here panics on what generated credentials cannot bring about.

use std::sync::Arc;

use crate::transport::{
    CryptoProvider, Identity, KeyExchangeGroup, Resumption, TlsOptions, TlsSettings, TlsVersion,
};
use boringtun::noise::rate_limiter::RateLimiter;
use boringtun::noise::{Tunn, TunnResult};
use boringtun::x25519::{PublicKey, StaticSecret};
use rustls::crypto::CryptoProvider as Provider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::server::WebPkiClientVerifier;
use rustls::{
    CipherSuite, ClientConfig, ClientConnection, NamedGroup, RootCertStore, ServerConfig,
    ServerConnection,
};

/// What the stacks negotiate, asked of rustls without them.
pub struct TlsEnds {
    client: Arc<ClientConfig>,
    server: Arc<ServerConfig>,
    server_name: ServerName<'static>,
}

impl TlsEnds {
    /// `is_mutual` has the client show a certificate, too.
    ///
    /// # Panics
    /// When `settings` are not generated ones: both identities are needed, and must be sound.
    #[must_use]
    pub fn new(settings: &TlsSettings, is_mutual: bool) -> Self {
        let (client, server) = configure(settings, is_mutual);
        let server_name = ServerName::try_from(settings.server_name.clone());
        Self {
            client,
            server,
            server_name: server_name.expect("a DNS name"),
        }
    }

    /// Both ends of a connection after their handshake.
    ///
    /// # Panics
    /// When the ends do not agree, which both having one configuration excludes.
    #[must_use]
    pub fn connect(&self) -> (ClientConnection, ServerConnection) {
        let mut client = client_begins(self);
        let mut server = server_begins(self);
        let mut flight = Vec::new();
        while client.is_handshaking() || server.is_handshaking() {
            client_writes(&mut client, &mut flight);
            server_reads(&mut server, &flight);
            flight.clear();
            server_writes(&mut server, &mut flight);
            client_reads(&mut client, &flight);
            flight.clear();
        }
        (client, server)
    }
}

// What either side does is in functions of its own that are never inlined, so that callgrind tells sides apart.

#[inline(never)]
fn client_begins(ends: &TlsEnds) -> ClientConnection {
    ClientConnection::new(ends.client.clone(), ends.server_name.clone()).expect("a configuration")
}

#[inline(never)]
fn server_begins(ends: &TlsEnds) -> ServerConnection {
    ServerConnection::new(ends.server.clone()).expect("a configuration")
}

#[inline(never)]
fn client_writes(client: &mut ClientConnection, flight: &mut Vec<u8>) {
    write(client, flight);
}

#[inline(never)]
fn client_reads(client: &mut ClientConnection, flight: &[u8]) {
    read(client, flight);
}

#[inline(never)]
fn server_writes(server: &mut ServerConnection, flight: &mut Vec<u8>) {
    write(server, flight);
}

#[inline(never)]
fn server_reads(server: &mut ServerConnection, flight: &[u8]) {
    read(server, flight);
}

/// What `end` has to say.
fn write<Data>(end: &mut rustls::ConnectionCommon<Data>, flight: &mut Vec<u8>) {
    while end.wants_write() {
        end.write_tls(flight).expect("a vector takes everything");
    }
}

/// Hands `end` what the other one said.
fn read<Data>(end: &mut rustls::ConnectionCommon<Data>, mut flight: &[u8]) {
    while !flight.is_empty() {
        end.read_tls(&mut flight).expect("a slice is readable");
        end.process_new_packets().expect("the other end's flight");
    }
}

fn configure(settings: &TlsSettings, is_mutual: bool) -> (Arc<ClientConfig>, Arc<ServerConfig>) {
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
            server.send_tls13_tickets = options.session_tickets_count.into();
            server.ticketer = rustls::crypto::ring::Ticketer::new().expect("random numbers");
        }
        Resumption::Cache => {
            server.send_tls13_tickets = options.session_tickets_count.into();
            server.session_storage =
                rustls::server::ServerSessionMemoryCache::new(options.session_cache_count as usize);
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
                | CipherSuite::TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384
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

/// Two peers of WireGuard.
pub struct WireguardEnds {
    client: Peer,
    server: Peer,
}

struct Peer {
    secret: StaticSecret,
    public: PublicKey,
    limiter: Arc<RateLimiter>,
}

impl Default for WireguardEnds {
    fn default() -> Self {
        Self::new()
    }
}

impl WireguardEnds {
    /// With keys that are always the same.
    #[must_use]
    pub fn new() -> Self {
        let peer = |secret: [u8; 32]| {
            let secret = StaticSecret::from(secret);
            let public = PublicKey::from(&secret);
            let limiter = Arc::new(RateLimiter::new(&public, u64::MAX));
            Peer {
                secret,
                public,
                limiter,
            }
        };
        Self {
            client: peer([1; 32]),
            server: peer([2; 32]),
        }
    }

    /// Both ends of a tunnel after their handshake and the keep-alive that confirms it.
    ///
    /// # Panics
    /// When boringtun answers a handshake message by anything but the next one.
    #[must_use]
    pub fn connect(&self) -> (Box<Tunn>, Box<Tunn>) {
        let end = |own: &Peer, peer: &Peer| {
            let limiter = Some(Arc::clone(&own.limiter));
            Box::new(Tunn::new(
                own.secret.clone(),
                peer.public,
                None,
                None,
                0,
                limiter,
            ))
        };
        let mut client = end(&self.client, &self.server);
        let mut server = end(&self.server, &self.client);
        let [mut first, mut second, mut third, mut fourth] = [[0; 256]; 4];
        let initiation = client_initiates(&mut client, &mut first);
        let response = server_answers(&mut server, initiation, &mut second);
        let keep_alive = client_confirms(&mut client, response, &mut third);
        server_is_confirmed(&mut server, keep_alive, &mut fourth);
        (client, server)
    }
}

#[inline(never)]
fn client_initiates<'a>(client: &mut Tunn, buffer: &'a mut [u8]) -> &'a [u8] {
    datagram(client.format_handshake_initiation(buffer, false))
}

#[inline(never)]
fn server_answers<'a>(server: &mut Tunn, initiation: &[u8], buffer: &'a mut [u8]) -> &'a [u8] {
    datagram(server.decapsulate(None, initiation, buffer))
}

#[inline(never)]
fn client_confirms<'a>(client: &mut Tunn, response: &[u8], buffer: &'a mut [u8]) -> &'a [u8] {
    datagram(client.decapsulate(None, response, buffer))
}

#[inline(never)]
fn server_is_confirmed(server: &mut Tunn, keep_alive: &[u8], buffer: &mut [u8]) {
    let confirmed = server.decapsulate(None, keep_alive, buffer);
    assert!(matches!(confirmed, TunnResult::Done), "{confirmed:?}");
}

fn datagram(result: TunnResult<'_>) -> &[u8] {
    match result {
        TunnResult::WriteToNetwork(datagram) => datagram,
        other => panic!("expected a datagram, found {other:?}"),
    }
}
