//! From settings to what rustls asks for, for either end.

use std::sync::Arc;

use rustls::client::{Resumption as ClientResumption, WebPkiServerVerifier};
use rustls::crypto::CryptoProvider as Provider;
use rustls::server::{NoServerSessionStorage, ServerSessionMemoryCache, WebPkiClientVerifier};
use rustls::{ClientConfig, RootCertStore, ServerConfig, SupportedProtocolVersion};
use tokio_rustls::{TlsAcceptor, TlsConnector};

use super::options::{Resumption, TlsVersion};
use super::sessions::Sessions;
use super::{Authentication, provider};
use crate::transport::credentials::certificates;
use crate::transport::{TlsSettings, TransportError, User};

/// The client's end of a stack, for all of its users.
pub(super) struct Client {
    config: Arc<ClientConfig>,
    /// What the users can resume, if they may.
    sessions: Option<Sessions>,
}

impl Client {
    /// `None` when the client has to show a certificate and there is none.
    ///
    /// # Errors
    /// When credentials are unusable, or options cannot be had.
    pub(super) fn new(
        settings: &TlsSettings,
        authentication: Authentication,
    ) -> Result<Option<Self>, TransportError> {
        let provider = provider::pinned(&settings.options)?;
        let roots = roots(settings)?;
        let verifier = WebPkiServerVerifier::builder_with_provider(roots, provider.clone())
            .build()
            .map_err(|error| unusable("the trusted certificates", error))?;
        let builder = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[version(settings)])
            .map_err(|error| unusable("the version of TLS", error))?
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
        config.max_fragment_size = max_fragment_bytes(settings);
        // As other programs that speak TLS do: for whoever set it, to read captures. Otherwise nothing is derived twice.
        if std::env::var_os("SSLKEYLOGFILE").is_some() {
            config.key_log = Arc::new(rustls::KeyLogFile::new());
        }
        config.resumption = ClientResumption::disabled();
        let sessions = match settings.options.resumption {
            Resumption::Off => None,
            Resumption::Ticket | Resumption::Cache => Some(Sessions::default()),
        };
        let config = Arc::new(config);
        Ok(Some(Self { config, sessions }))
    }

    /// What opens a connection of `user`.
    pub(super) fn connector(&self, user: User) -> TlsConnector {
        let Some(sessions) = &self.sessions else {
            return TlsConnector::from(Arc::clone(&self.config));
        };
        let mut config = ClientConfig::clone(&self.config);
        config.resumption = ClientResumption::store(sessions.of(user));
        TlsConnector::from(Arc::new(config))
    }
}

/// The server's end of a stack; `None` when there is no certificate to show.
///
/// # Errors
/// When credentials are unusable, or options cannot be had.
pub(super) fn acceptor(
    settings: &TlsSettings,
    authentication: Authentication,
) -> Result<Option<TlsAcceptor>, TransportError> {
    let Some(identity) = &settings.server else {
        return Ok(None);
    };
    let (chain, key) = identity.decode("server")?;
    let provider = provider::pinned(&settings.options)?;
    let builder = ServerConfig::builder_with_provider(provider.clone())
        .with_protocol_versions(&[version(settings)])
        .map_err(|error| unusable("the version of TLS", error))?;
    let builder = match authentication {
        Authentication::Server => builder.with_no_client_auth(),
        Authentication::Mutual => {
            builder.with_client_cert_verifier(client_verifier(settings, provider)?)
        }
    };
    let mut config = builder
        .with_single_cert(chain, key)
        .map_err(|error| unusable("the server's certificate and key", error))?;
    let options = &settings.options;
    config.max_fragment_size = max_fragment_bytes(settings);
    // What rustls would keep of sessions holds 256 of them: far fewer than there are users.
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    match options.resumption {
        Resumption::Off => {}
        Resumption::Ticket => {
            config.send_tls13_tickets = options.session_tickets_count.into();
            config.ticketer = provider::ticketer(options.provider)
                .map_err(|error| unusable("a key for session tickets", error))?;
        }
        Resumption::Cache => {
            config.send_tls13_tickets = options.session_tickets_count.into();
            config.session_storage =
                ServerSessionMemoryCache::new(options.session_cache_count as usize);
        }
    }
    Ok(Some(TlsAcceptor::from(Arc::new(config))))
}

fn client_verifier(
    settings: &TlsSettings,
    provider: Arc<Provider>,
) -> Result<Arc<dyn rustls::server::danger::ClientCertVerifier>, TransportError> {
    WebPkiClientVerifier::builder_with_provider(roots(settings)?, provider)
        .build()
        .map_err(|error| unusable("the trusted certificates", error))
}

fn max_fragment_bytes(settings: &TlsSettings) -> Option<usize> {
    settings.options.tls_max_fragment_bytes.map(usize::from)
}

fn version(settings: &TlsSettings) -> &'static SupportedProtocolVersion {
    match settings.options.version {
        TlsVersion::V1_2 => &rustls::version::TLS12,
        TlsVersion::V1_3 => &rustls::version::TLS13,
    }
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

fn unusable(what: &str, error: impl std::fmt::Display) -> TransportError {
    TransportError::Credentials(format!("{what}: {error}"))
}
