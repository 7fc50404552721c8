//! SIP over TCP (RFC 3261 §18), over any network that has streams.

use std::future::{Future, ready};
use std::net::SocketAddr;
use std::rc::Rc;

use tokio::io::{AsyncRead, AsyncWrite};

use super::acceptor::{self, Handshake, Security};
use super::{
    Connected, Drops, Handler, Limits, Listening, LocalBoxFuture, Settings, Transport,
    TransportError, User, WireCounters, tunneled,
};
use crate::measure::heap::{self, Part};
use crate::net::{DatagramNetwork, Kernel, StreamNetwork};

/// `tcp`.
pub(super) fn open(settings: &Settings) -> Result<Box<dyn Transport>, TransportError> {
    Ok(plain(Kernel::from(settings), settings))
}

/// `tcp@clear`.
pub(super) fn open_clear(settings: &Settings) -> Result<Box<dyn Transport>, TransportError> {
    tunneled::carry(tunneled::clear(settings), settings, OnTunnels(settings))
}

/// `tcp@wireguard`.
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
        Ok(plain(network, self.0))
    }
}

fn plain<N: StreamNetwork + 'static>(network: N, settings: &Settings) -> Box<dyn Transport> {
    Box::new(Streams::new(network, Plain, settings.limits))
}

/// A stream carrier: a network, and what is put between its streams and SIP.
pub(super) struct Streams<N, C> {
    network: N,
    security: Rc<C>,
    limits: Limits,
}

impl<N, C> Streams<N, C> {
    pub(super) fn new(network: N, security: C, limits: Limits) -> Self {
        Self {
            network,
            security: Rc::new(security),
            limits,
        }
    }
}

impl<N: StreamNetwork, C: Security<N::Stream>> Transport for Streams<N, C> {
    fn listen(
        &self,
        address: SocketAddr,
        handler: Rc<dyn Handler>,
    ) -> LocalBoxFuture<'_, Result<Listening, TransportError>> {
        Box::pin(async move {
            self.security.can_accept()?;
            let listener = self.network.listen(address)?;
            let security = Rc::clone(&self.security);
            Ok(acceptor::listen(listener, security, self.limits, handler))
        })
    }

    fn connect(
        &self,
        user: User,
        target: SocketAddr,
        handler: Rc<dyn Handler>,
    ) -> LocalBoxFuture<'_, Result<Connected, TransportError>> {
        let (network, security) = (&self.network, &*self.security);
        Box::pin(heap::within(
            Part::Task,
            acceptor::connect(network, security, self.limits, user, target, handler),
        ))
    }

    fn wire(&self) -> Option<WireCounters> {
        self.network.meter().total()
    }

    fn tunnel_drops(&self) -> Option<Drops> {
        self.network.client_drops()
    }
}

/// Nothing between TCP and SIP.
struct Plain;

impl<S: AsyncRead + AsyncWrite + Unpin + 'static> Security<S> for Plain {
    type Secured = S;

    fn connect(
        &self,
        stream: S,
        _peer: SocketAddr,
        _user: User,
    ) -> impl Future<Output = Result<(S, Option<Handshake>), TransportError>> {
        ready(Ok((stream, None)))
    }

    fn accept(
        &self,
        stream: S,
        _peer: SocketAddr,
    ) -> impl Future<Output = Result<S, TransportError>> {
        ready(Ok(stream))
    }

    fn can_accept(&self) -> Result<(), TransportError> {
        Ok(())
    }
}
