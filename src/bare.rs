//! The bare cryptography below the stacks, both ends in memory: without sockets, tasks or SIP. The floor
//! that no transport gets below, in time or in memory, and so the control of what a stack adds.
//!
//! Everything here panics on what generated credentials cannot bring about.

use std::io;
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
        let client = ClientConnection::new(self.client.clone(), self.server_name.clone());
        let mut client = client.expect("a configuration");
        let mut server = ServerConnection::new(self.server.clone()).expect("a configuration");
        while client.is_handshaking() || server.is_handshaking() {
            carry(&mut client, &mut server).expect("the client's flight");
            carry(&mut server, &mut client).expect("the server's flight");
        }
        (client, server)
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
        let initiation = datagram(client.format_handshake_initiation(&mut first, false));
        let response = datagram(server.decapsulate(None, initiation, &mut second));
        let keep_alive = datagram(client.decapsulate(None, response, &mut third));
        let confirmed = server.decapsulate(None, keep_alive, &mut fourth);
        assert!(matches!(confirmed, TunnResult::Done), "{confirmed:?}");
        (client, server)
    }
}

fn datagram(result: TunnResult<'_>) -> &[u8] {
    match result {
        TunnResult::WriteToNetwork(datagram) => datagram,
        other => panic!("expected a datagram, found {other:?}"),
    }
}
