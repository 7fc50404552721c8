//! SIP over TLS (RFC 3261 §26.2, RFC 5630) with rustls: `tls`, where only the server shows a
//! certificate, and `mtls`, where both ends do.
//!
//! How TLS is spoken is data ([`TlsOptions`]) and pinned; [`security`] tells what comes of it.
//! Clients validate chain and name, always. Over TLS 1.3 a client's handshake ends before the
//! server has looked at its certificate: a refused certificate shows as a flow that breaks.

mod config;
mod explain;
mod options;
mod provider;
pub(super) mod security;
mod sessions;
mod stream;
#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;

use std::io;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::{TlsAcceptor, TlsStream};

pub use self::options::{
    CryptoProvider, KeyExchangeGroup, KeyType, Resumption, TlsOptions, TlsOptionsError, TlsVersion,
};
use self::stream::SessionStream;
use super::acceptor::{Handshake, Security};
use super::tcp::Streams;
use super::{HandshakeKind, Settings, TlsSettings, Transport, TransportError, User, tunneled};
use crate::measure::heap::{self, Part};
use crate::net::{DatagramNetwork, Kernel, StreamNetwork};

/// `tls`.
pub(super) fn open_server_authenticated(
    settings: &Settings,
) -> Result<Box<dyn Transport>, TransportError> {
    open(Kernel::from(settings), settings, Authentication::Server)
}

/// `mtls`.
pub(super) fn open_mutual(settings: &Settings) -> Result<Box<dyn Transport>, TransportError> {
    open(Kernel::from(settings), settings, Authentication::Mutual)
}

/// `tls@wireguard`.
pub(super) fn open_wireguard(settings: &Settings) -> Result<Box<dyn Transport>, TransportError> {
    tunneled::carry(
        tunneled::wireguard(settings)?,
        settings,
        OnTunnels(settings),
    )
}

/// The carrier with these settings.
struct OnTunnels<'s>(&'s Settings);

impl tunneled::Carry for OnTunnels<'_> {
    fn on<N: StreamNetwork + DatagramNetwork + 'static>(
        self,
        network: N,
    ) -> Result<Box<dyn Transport>, TransportError> {
        open(network, self.0, Authentication::Server)
    }
}

fn open<N: StreamNetwork + 'static>(
    network: N,
    settings: &Settings,
    authentication: Authentication,
) -> Result<Box<dyn Transport>, TransportError> {
    let tls = Tls::new(settings.tls()?, authentication, settings.limits.handshake)?;
    Ok(Box::new(Streams::new(network, tls, settings.limits)))
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
    let (stream, _handshake) = tls.connect(stream, peer, User(0)).await?;
    Ok(stream.into_inner())
}

/// Who shows a certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Authentication {
    Server,
    Mutual,
}

/// Both ends; one without credentials is absent.
struct Tls {
    client: Option<config::Client>,
    server: Option<TlsAcceptor>,
    server_name: ServerName<'static>,
    handshake_limit: Duration,
    buffer_limit_bytes: Option<usize>,
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
            client: config::Client::new(settings, authentication)?,
            server: config::acceptor(settings, authentication)?,
            server_name,
            handshake_limit,
            buffer_limit_bytes: settings
                .options
                .tls_buffer_limit_bytes
                .map(|bytes| bytes as usize),
        })
    }

    fn acceptor(&self) -> Result<&TlsAcceptor, TransportError> {
        self.server.as_ref().ok_or_else(|| {
            TransportError::Credentials("a server needs a certificate, found none".to_owned())
        })
    }

    /// Waits for a handshake, no longer than the limit.
    async fn complete<T>(
        &self,
        handshake: impl Future<Output = io::Result<T>>,
        peer: SocketAddr,
    ) -> Result<T, TransportError> {
        let limited = tokio::time::timeout(self.handshake_limit, handshake);
        Box::pin(heap::within(Part::TlsSession, limited))
            .await
            .map_err(|_| TransportError::TimedOut {
                phase: "TLS handshake",
                peer,
                limit: self.handshake_limit,
            })?
            .map_err(|error| TransportError::Handshake {
                protocol: "TLS",
                peer,
                reason: explain::handshake(&error),
            })
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin + 'static> Security<S> for Tls {
    type Secured = SessionStream<S>;

    fn can_accept(&self) -> Result<(), TransportError> {
        self.acceptor().map(|_| ())
    }

    async fn connect(
        &self,
        stream: S,
        peer: SocketAddr,
        user: User,
    ) -> Result<(SessionStream<S>, Option<Handshake>), TransportError> {
        let client = self.client.as_ref().ok_or_else(|| {
            TransportError::Credentials("an mtls client needs a certificate, found none".to_owned())
        })?;
        let started = Instant::now();
        let connecting = {
            let _scope = heap::part(Part::TlsSession);
            let connector = client.connector(user);
            connector.connect(self.server_name.clone(), stream)
        };
        let mut stream = self.complete(connecting, peer).await?;
        if let Some(limit) = self.buffer_limit_bytes {
            stream.get_mut().1.set_buffer_limit(Some(limit));
        }
        let handshake = Handshake {
            duration: started.elapsed(),
            kind: match stream.get_ref().1.handshake_kind() {
                Some(rustls::HandshakeKind::Resumed) => HandshakeKind::Resumed,
                Some(
                    rustls::HandshakeKind::Full | rustls::HandshakeKind::FullWithHelloRetryRequest,
                )
                | None => HandshakeKind::Full,
            },
        };
        let stream = SessionStream::new(TlsStream::Client(stream));
        Ok((stream, Some(handshake)))
    }

    fn explain(error: &io::Error) -> String {
        explain::flow(error)
    }

    /// Boxed as a whole: a connection's task has room for whatever it ever holds, as long as it lives,
    /// and a handshake is a kilobyte that is over soon.
    fn accept(
        &self,
        stream: S,
        peer: SocketAddr,
    ) -> impl Future<Output = Result<SessionStream<S>, TransportError>> {
        let accepting = async move {
            let handshake = self.acceptor()?.accept(stream);
            let mut stream = self.complete(handshake, peer).await?;
            if let Some(limit) = self.buffer_limit_bytes {
                stream.get_mut().1.set_buffer_limit(Some(limit));
            }
            Ok(SessionStream::new(TlsStream::Server(stream)))
        };
        Box::pin(heap::within(Part::TlsSession, accepting))
    }
}
