//! SIP over TLS (RFC 3261 §26.2, RFC 5630) with rustls: `tls`, where only the server shows a
//! certificate, and `mtls`, where both ends do.
//!
//! Provider, key-exchange group and cipher suites are pinned, so that figures do not hinge on defaults
//! of a library's version: ring, X25519, and AES-256-GCM with SHA-384. [`security`] tells them.
//! Clients validate chain and name, always. Over TLS 1.3 a client's handshake ends before the
//! server has looked at its certificate: a refused certificate shows as a flow that breaks.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustls::client::{Resumption, WebPkiServerVerifier};
use rustls::crypto::ring::{self, cipher_suite, kx_group};
use rustls::crypto::{CryptoProvider, SupportedKxGroup};
use rustls::pki_types::ServerName;
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::{
    AlertDescription, CertificateError, ClientConfig, RootCertStore, ServerConfig, SignatureScheme,
    SupportedCipherSuite, SupportedProtocolVersion,
};
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::{TlsAcceptor, TlsConnector, TlsStream};

use super::acceptor::Security;
use super::credentials::certificates;
use super::tcp::Streams;
use super::{Identity, Settings, TlsSettings, TlsVersion, Transport, TransportError};
use crate::net::Kernel;

/// The key-exchange group. ring has no post-quantum one, other providers prefer one: pinned.
static KEY_EXCHANGE: &dyn SupportedKxGroup = kx_group::X25519;

/// The cipher suites: one for TLS 1.3, and its like in TLS 1.2 for each kind of server key.
static CIPHER_SUITES: [SupportedCipherSuite; 3] = [
    cipher_suite::TLS13_AES_256_GCM_SHA384,
    cipher_suite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,
    cipher_suite::TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
];

/// `tls`.
pub(super) fn open_server_authenticated(
    settings: &Settings,
) -> Result<Box<dyn Transport>, TransportError> {
    open(settings, Authentication::Server)
}

/// `mtls`.
pub(super) fn open_mutual(settings: &Settings) -> Result<Box<dyn Transport>, TransportError> {
    open(settings, Authentication::Mutual)
}

/// What `tls` negotiates, as [`super::Stack::security`] tells it.
pub(super) fn security_server_authenticated(settings: &Settings) -> Vec<(&'static str, Value)> {
    security(settings, Authentication::Server)
}

/// What `mtls` negotiates, as [`super::Stack::security`] tells it.
pub(super) fn security_mutual(settings: &Settings) -> Vec<(&'static str, Value)> {
    security(settings, Authentication::Mutual)
}

fn open(
    settings: &Settings,
    authentication: Authentication,
) -> Result<Box<dyn Transport>, TransportError> {
    let tls = Tls::new(settings.tls()?, authentication, settings.limits.handshake)?;
    let stack = Streams::new(Kernel::from(settings), tls, settings.limits);
    Ok(Box::new(stack))
}

/// A secured stream without a driver, for tests that end it in rude ways.
#[cfg(test)]
pub(super) async fn raw_client<S: AsyncRead + AsyncWrite + Unpin + 'static>(
    stack: &super::Stack,
    settings: &Settings,
    stream: S,
) -> Result<TlsStream<S>, TransportError> {
    let authentication = match stack.carrier {
        "mtls" => Authentication::Mutual,
        _ => Authentication::Server,
    };
    let tls = Tls::new(settings.tls()?, authentication, settings.limits.handshake)?;
    let peer = SocketAddr::from(([127, 0, 0, 1], 0));
    Ok(tls.connect(stream, peer).await?.0)
}

/// Who shows a certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Authentication {
    Server,
    Mutual,
}

/// Both sides' configuration; a side without credentials has none.
struct Tls {
    client: Option<TlsConnector>,
    server: Option<TlsAcceptor>,
    server_name: ServerName<'static>,
    handshake_limit: Duration,
}

impl Tls {
    fn new(
        settings: &TlsSettings,
        authentication: Authentication,
        handshake_limit: Duration,
    ) -> Result<Self, TransportError> {
        let server_name = ServerName::try_from(settings.server_name.clone()).map_err(|_| {
            TransportError::Credentials(format!(
                "expected a DNS name or an address as server name, found \"{}\"",
                settings.server_name
            ))
        })?;
        Ok(Self {
            client: client_config(settings, authentication)?
                .map(|config| TlsConnector::from(Arc::new(config))),
            server: server_config(settings, authentication)?
                .map(|config| TlsAcceptor::from(Arc::new(config))),
            server_name,
            handshake_limit,
        })
    }

    fn acceptor(&self) -> Result<&TlsAcceptor, TransportError> {
        self.server.as_ref().ok_or_else(|| {
            TransportError::Credentials("a server needs a certificate, found none".to_owned())
        })
    }

    /// Waits for a handshake, no longer than the limit. It is boxed, so that its state does not
    /// stay part of a connection that lives on for hours.
    async fn complete<T>(
        &self,
        handshake: impl Future<Output = io::Result<T>>,
        peer: SocketAddr,
    ) -> Result<T, TransportError> {
        Box::pin(tokio::time::timeout(self.handshake_limit, handshake))
            .await
            .map_err(|_| TransportError::TimedOut {
                phase: "TLS handshake",
                peer,
                limit: self.handshake_limit,
            })?
            .map_err(|error| TransportError::Handshake {
                protocol: "TLS",
                peer,
                reason: explain_handshake(&error),
            })
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin + 'static> Security<S> for Tls {
    type Secured = TlsStream<S>;

    fn can_accept(&self) -> Result<(), TransportError> {
        self.acceptor().map(|_| ())
    }

    async fn connect(
        &self,
        stream: S,
        peer: SocketAddr,
    ) -> Result<(TlsStream<S>, Option<Duration>), TransportError> {
        let connector = self.client.as_ref().ok_or_else(|| {
            TransportError::Credentials("an mtls client needs a certificate, found none".to_owned())
        })?;
        let started = Instant::now();
        let handshake = connector.connect(self.server_name.clone(), stream);
        let stream = self.complete(handshake, peer).await?;
        Ok((TlsStream::Client(stream), Some(started.elapsed())))
    }

    fn explain(error: &io::Error) -> String {
        explain_flow(error)
    }

    async fn accept(&self, stream: S, peer: SocketAddr) -> Result<TlsStream<S>, TransportError> {
        let handshake = self.acceptor()?.accept(stream);
        Ok(TlsStream::Server(self.complete(handshake, peer).await?))
    }
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(CryptoProvider {
        kx_groups: vec![KEY_EXCHANGE],
        cipher_suites: CIPHER_SUITES.to_vec(),
        ..ring::default_provider()
    })
}

/// What two ends with `settings` negotiate; nothing if they cannot be opened.
fn security(settings: &Settings, authentication: Authentication) -> Vec<(&'static str, Value)> {
    let Some(tls) = &settings.tls else {
        return Vec::new();
    };
    // The highest version that both ends have.
    let version = if tls.versions.contains(&TlsVersion::V1_3) {
        TlsVersion::V1_3
    } else {
        TlsVersion::V1_2
    };
    let protocol = match version {
        TlsVersion::V1_2 => "TLS 1.2",
        TlsVersion::V1_3 => "TLS 1.3",
    };
    let server_key = tls.server.as_ref().and_then(key_type);
    let is_usable = |suite: &&SupportedCipherSuite| match (version, suite) {
        (TlsVersion::V1_3, suite) => suite.tls13().is_some(),
        (TlsVersion::V1_2, SupportedCipherSuite::Tls12(suite)) => {
            server_key.is_some_and(|key| suite.sign.contains(&key.scheme))
        }
        (TlsVersion::V1_2, _) => false,
    };
    // RFC 8446 calls TLS_… what rustls calls TLS13_…
    let registered = |suite: &SupportedCipherSuite| {
        let name = format!("{:?}", suite.suite());
        name.replacen("TLS13_", "TLS_", 1)
    };
    let mut security = vec![
        ("security_protocol", protocol.into()),
        ("crypto_provider", "ring".into()),
        (
            "key_exchange_group",
            format!("{:?}", KEY_EXCHANGE.name()).into(),
        ),
        // Sessions are resumed by ticket in TLS 1.3, by number in TLS 1.2.
        (
            "resumption",
            (tls.resumption && (version == TlsVersion::V1_2 || tls.tickets > 0)).into(),
        ),
    ];
    if let Some(suite) = CIPHER_SUITES.iter().find(is_usable) {
        security.push(("cipher_suite", registered(suite).into()));
    }
    if let Some(key) = server_key {
        security.push(("key_type", key.name.into()));
    }
    if authentication == Authentication::Mutual
        && let Some(key) = tls.client.as_ref().and_then(key_type)
    {
        security.push(("client_key_type", key.name.into()));
    }
    security
}

/// A kind of key and what it signs handshakes with.
#[derive(Clone, Copy)]
struct KeyType {
    name: &'static str,
    scheme: SignatureScheme,
}

const KEY_TYPES: &[KeyType] = &[
    KeyType {
        name: "ECDSA P-256",
        scheme: SignatureScheme::ECDSA_NISTP256_SHA256,
    },
    KeyType {
        name: "ECDSA P-384",
        scheme: SignatureScheme::ECDSA_NISTP384_SHA384,
    },
    KeyType {
        name: "Ed25519",
        scheme: SignatureScheme::ED25519,
    },
    KeyType {
        name: "RSA",
        scheme: SignatureScheme::RSA_PSS_SHA256,
    },
];

/// The kind of an identity's key; `None` if it cannot be used, which opening the stack tells.
fn key_type(identity: &Identity) -> Option<KeyType> {
    let (_, key) = identity.decode("endpoint").ok()?;
    let key = provider().key_provider.load_private_key(key).ok()?;
    let signs = |of: &&KeyType| key.choose_scheme(&[of.scheme]).is_some();
    KEY_TYPES.iter().find(signs).copied()
}

fn roots(settings: &TlsSettings) -> Result<Arc<RootCertStore>, TransportError> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(&settings.ca_pem, "the trusted certificates")? {
        roots
            .add(certificate)
            .map_err(|error| unusable("the trusted certificates", error))?;
    }
    Ok(Arc::new(roots))
}

fn versions(
    settings: &TlsSettings,
) -> Result<Vec<&'static SupportedProtocolVersion>, TransportError> {
    if settings.versions.is_empty() {
        return Err(TransportError::Credentials(
            "expected at least one version of TLS, found none".to_owned(),
        ));
    }
    let version = |version: &TlsVersion| match version {
        TlsVersion::V1_2 => &rustls::version::TLS12,
        TlsVersion::V1_3 => &rustls::version::TLS13,
    };
    Ok(settings.versions.iter().map(version).collect())
}

/// `None` when the client has to show a certificate and there is none.
fn client_config(
    settings: &TlsSettings,
    authentication: Authentication,
) -> Result<Option<ClientConfig>, TransportError> {
    let verifier = WebPkiServerVerifier::builder_with_provider(roots(settings)?, provider())
        .build()
        .map_err(|error| unusable("the trusted certificates", error))?;
    let builder = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&versions(settings)?)
        .map_err(|error| unusable("the versions of TLS", error))?
        .with_webpki_verifier(verifier);
    let mut config = match (authentication, &settings.client) {
        (Authentication::Server, _) => builder.with_no_client_auth(),
        (Authentication::Mutual, Some(identity)) => {
            let (chain, key) = identity.decode("client")?;
            builder
                .with_client_auth_cert(chain, key)
                .map_err(|error| unusable("the client's certificate and key", error))?
        }
        (Authentication::Mutual, None) => return Ok(None),
    };
    if !settings.resumption {
        config.resumption = Resumption::disabled();
    }
    Ok(Some(config))
}

/// `None` when there is no certificate to show.
fn server_config(
    settings: &TlsSettings,
    authentication: Authentication,
) -> Result<Option<ServerConfig>, TransportError> {
    let Some(identity) = &settings.server else {
        return Ok(None);
    };
    let (chain, key) = identity.decode("server")?;
    let builder = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&versions(settings)?)
        .map_err(|error| unusable("the versions of TLS", error))?;
    let builder = match authentication {
        Authentication::Server => builder.with_no_client_auth(),
        Authentication::Mutual => {
            let verifier =
                WebPkiClientVerifier::builder_with_provider(roots(settings)?, provider())
                    .build()
                    .map_err(|error| unusable("the trusted certificates", error))?;
            builder.with_client_cert_verifier(verifier)
        }
    };
    let mut config = builder
        .with_single_cert(chain, key)
        .map_err(|error| unusable("the server's certificate and key", error))?;
    config.send_tls13_tickets = settings.tickets;
    if !settings.resumption {
        config.session_storage = Arc::new(NoServerSessionStorage {});
    }
    Ok(Some(config))
}

fn unusable(what: &str, error: impl std::fmt::Display) -> TransportError {
    TransportError::Credentials(format!("{what}: {error}"))
}

/// What went wrong in a handshake, and what would mend it where that is known.
fn explain_handshake(error: &io::Error) -> String {
    match meaning(error) {
        Some(meaning) => format!("{meaning} ({error})"),
        None if error.kind() == io::ErrorKind::UnexpectedEof => {
            format!("the peer closed the connection in the middle of it ({error})")
        }
        None => error.to_string(),
    }
}

/// What broke a flow. Over TLS 1.3 that can be what the peer found in the handshake.
fn explain_flow(error: &io::Error) -> String {
    match meaning(error) {
        Some(meaning) => format!("{meaning} ({error})"),
        None if error.kind() == io::ErrorKind::UnexpectedEof => {
            "the peer vanished without TLS's goodbye, close_notify".to_owned()
        }
        None => error.to_string(),
    }
}

/// An error of TLS in words, if it is one of those that wrong credentials lead to.
fn meaning(error: &io::Error) -> Option<&'static str> {
    use AlertDescription as Alert;
    use rustls::Error::{
        AlertReceived, InvalidCertificate, InvalidMessage, NoCertificatesPresented,
    };

    let error = error.get_ref()?.downcast_ref::<rustls::Error>()?;
    Some(match error {
        InvalidCertificate(CertificateError::UnknownIssuer) => {
            "the peer's certificate was not signed by a trusted authority; check the CA"
        }
        InvalidCertificate(
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
        ) => "the server's certificate is for another name; check the server name",
        NoCertificatesPresented => "the client showed no certificate; mtls needs one",
        AlertReceived(Alert::UnknownCA) => {
            "the peer does not trust the authority that signed our certificate"
        }
        AlertReceived(Alert::CertificateRequired) => {
            "the server requires a client certificate; use mtls"
        }
        AlertReceived(Alert::CertificateExpired) => "the peer finds our certificate expired",
        AlertReceived(Alert::ProtocolVersion) => "the peer speaks another version of TLS",
        InvalidMessage(_) => "the peer does not speak TLS",
        _ => return None,
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::collections::BTreeMap;

    use rustls::HandshakeKind;
    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

    use super::*;
    use crate::transport::find;

    type Both<S> = (TlsStream<S>, TlsStream<S>);

    /// Two handshakes of one client, one after the other; the second as it ended up at the client.
    async fn second_handshake(tls: &Tls) -> Both<tokio::io::DuplexStream> {
        let mut last = None;
        for _ in 0..2 {
            let (near, far) = duplex(64 * 1024);
            let nowhere = SocketAddr::from(([127, 0, 0, 1], 0));
            let (client, server) =
                tokio::join!(tls.connect(near, nowhere), tls.accept(far, nowhere));
            let (mut client, mut server) = (client.unwrap().0, server.unwrap());
            // Tickets come with the first data.
            server.write_all(b"x").await.unwrap();
            server.flush().await.unwrap();
            client.read_exact(&mut [0]).await.unwrap();
            last = Some((client, server));
        }
        last.unwrap()
    }

    #[tokio::test]
    async fn handshakes_negotiate_what_is_claimed() {
        use TlsVersion::{V1_2, V1_3};
        let generated = Settings::generate(1).unwrap();
        // Versions, resumption, tickets; protocol, suite, whether sessions are resumed.
        type Case<'a> = (&'a [TlsVersion], bool, usize, &'a str, &'a str, bool);
        let (new, old) = (
            "TLS_AES_256_GCM_SHA384",
            "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384",
        );
        let cases: &[Case<'_>] = &[
            (&[V1_3], false, 0, "TLS 1.3", new, false),
            (&[V1_3], false, 2, "TLS 1.3", new, false),
            (&[V1_3], true, 0, "TLS 1.3", new, false),
            (&[V1_3], true, 2, "TLS 1.3", new, true),
            (&[V1_2, V1_3], false, 0, "TLS 1.3", new, false),
            (&[V1_2], false, 0, "TLS 1.2", old, false),
            (&[V1_2], true, 0, "TLS 1.2", old, true),
        ];
        for (name, authentication) in [
            ("tls", Authentication::Server),
            ("mtls", Authentication::Mutual),
        ] {
            for &(versions, resumption, tickets, protocol, suite, resumed) in cases {
                let mut settings = generated.clone();
                let tls = settings.tls.as_mut().unwrap();
                (tls.versions, tls.resumption, tls.tickets) =
                    (versions.to_vec(), resumption, tickets);
                let mut claim: BTreeMap<String, Value> = [
                    ("security_protocol", Value::from(protocol)),
                    ("cipher_suite", suite.into()),
                    ("crypto_provider", "ring".into()),
                    ("key_exchange_group", "X25519".into()),
                    ("key_type", "ECDSA P-256".into()),
                    ("resumption", resumed.into()),
                ]
                .map(|(key, value)| (key.to_owned(), value))
                .into();
                if authentication == Authentication::Mutual {
                    claim.insert("client_key_type".to_owned(), "ECDSA P-256".into());
                }
                assert_eq!(find(name).unwrap().security(&settings), claim);

                let limit = Duration::from_secs(10);
                let tls = Tls::new(settings.tls().unwrap(), authentication, limit).unwrap();
                let (client, server) = second_handshake(&tls).await;
                let (client, server) = (client.get_ref().1, server.get_ref().1);
                let version = format!("{:?}", client.protocol_version().unwrap());
                assert_eq!(version.replace("TLSv1_", "TLS 1."), protocol);
                let negotiated = client.negotiated_cipher_suite().unwrap().suite();
                let negotiated = format!("{negotiated:?}").replace("TLS13_", "TLS_");
                assert_eq!(negotiated, suite);
                let kind = client.handshake_kind().unwrap();
                assert_eq!(kind == HandshakeKind::Resumed, resumed, "{kind:?}");
                // A session that is resumed in TLS 1.2 exchanges no keys.
                let group = client.negotiated_key_exchange_group();
                if !(resumed && protocol == "TLS 1.2") {
                    assert_eq!(group.unwrap().name(), rustls::NamedGroup::X25519);
                }
                let shown = server.peer_certificates().is_some();
                assert_eq!(shown, authentication == Authentication::Mutual);
            }
        }
    }

    #[test]
    fn without_credentials_nothing_is_claimed() {
        let nothing = find("tls").unwrap().security(&Settings::default());
        assert!(nothing.is_empty(), "{nothing:?}");
    }
}
