//! SIP over TLS (RFC 3261 §26.2, RFC 5630) with rustls: `tls`, where only the server shows a
//! certificate, and `mtls`, where both ends do.
//!
//! The provider is ring and the key-exchange group X25519, so that figures do not hinge on defaults
//! of a library's version; the cipher suite is then negotiated as AES-256-GCM in TLS 1.3.
//! Clients validate chain and name, always. Over TLS 1.3 a client's handshake ends before the
//! server has looked at its certificate: a refused certificate shows as a flow that breaks.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustls::client::{Resumption, WebPkiServerVerifier};
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::ServerName;
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::{
    AlertDescription, CertificateError, ClientConfig, RootCertStore, ServerConfig,
    SupportedProtocolVersion,
};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::{TlsAcceptor, TlsConnector, TlsStream};

use super::acceptor::Security;
use super::credentials::certificates;
use super::tcp::Streams;
use super::{Settings, TlsSettings, TlsVersion, Transport, TransportError};
use crate::net::Kernel;

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
                reason: explain(&error),
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

    async fn accept(&self, stream: S, peer: SocketAddr) -> Result<TlsStream<S>, TransportError> {
        let handshake = self.acceptor()?.accept(stream);
        Ok(TlsStream::Server(self.complete(handshake, peer).await?))
    }
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(CryptoProvider {
        kx_groups: vec![ring::kx_group::X25519],
        ..ring::default_provider()
    })
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
fn explain(error: &io::Error) -> String {
    let tls = error
        .get_ref()
        .and_then(|inner| inner.downcast_ref::<rustls::Error>());
    let meaning = match tls {
        Some(rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer)) => {
            "the peer's certificate was not signed by a trusted authority; check the CA"
        }
        Some(rustls::Error::InvalidCertificate(
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
        )) => "the server's certificate is for another name; check the server name",
        Some(rustls::Error::NoCertificatesPresented) => {
            "the client showed no certificate; mtls needs one"
        }
        Some(rustls::Error::AlertReceived(AlertDescription::UnknownCA)) => {
            "the peer does not trust the authority that signed our certificate"
        }
        Some(rustls::Error::AlertReceived(AlertDescription::CertificateRequired)) => {
            "the server requires a client certificate; use mtls"
        }
        Some(rustls::Error::InvalidMessage(_)) => "the peer does not speak TLS",
        Some(_) | None if error.kind() == io::ErrorKind::UnexpectedEof => {
            "the peer closed the connection in the middle of it"
        }
        Some(_) | None => return error.to_string(),
    };
    format!("{meaning} ({error})")
}
