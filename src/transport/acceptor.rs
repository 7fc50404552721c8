//! How stream carriers open connections, from either side: connect or accept, secure, drive.
//!
//! What differs between carriers is a [`Security`]; the rest is here.

use std::cell::{Cell, RefCell};
use std::future::{Future, poll_fn};
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use slab::Slab;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::task::AbortHandle;

use super::stream::{Connection, StreamLink};
use super::{
    Connected, DatagramCounters, Flow, Guard, Handler, HandshakeKind, Limits, Link, Listening,
    Phases, TransportError, User,
};
use crate::measure::heap::{self, Part};
use crate::net::{StreamListener, StreamNetwork, StreamPeer};

/// How long accepting pauses when the system refuses, usually for want of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(20);

/// What a carrier puts between a stream and SIP.
pub(super) trait Security<S>: 'static {
    /// A stream that SIP can be written to.
    type Secured: AsyncRead + AsyncWrite + Unpin + 'static;

    /// Whether there are credentials to accept with.
    ///
    /// # Errors
    /// [`TransportError::Credentials`] saying what is missing.
    fn can_accept(&self) -> Result<(), TransportError>;

    /// Secures a stream that was connected for `user`; `None` if that takes no handshake.
    fn connect(
        &self,
        stream: S,
        peer: SocketAddr,
        user: User,
    ) -> impl Future<Output = Result<(Self::Secured, Option<Handshake>), TransportError>>;

    /// What an error of a secured stream means, and what would mend it where that is known.
    fn explain(error: &io::Error) -> String {
        error.to_string()
    }

    /// Secures a stream that was accepted. It runs in the connection's own task.
    fn accept(
        &self,
        stream: S,
        peer: SocketAddr,
    ) -> impl Future<Output = Result<Self::Secured, TransportError>>;
}

/// What securing a stream took.
pub(super) struct Handshake {
    pub(super) duration: Duration,
    pub(super) kind: HandshakeKind,
}

/// Connects, secures and spawns the connection's task.
pub(super) async fn connect<N, C>(
    network: &N,
    security: &C,
    limits: Limits,
    user: User,
    target: SocketAddr,
    handler: Rc<dyn Handler>,
) -> Result<Connected, TransportError>
where
    N: StreamNetwork,
    C: Security<N::Stream>,
{
    let connected = network.connect(user.0, target).await?;
    let securing = security.connect(connected.stream, connected.peer, user);
    let (stream, handshake) = securing.await?;
    let of_tunnel = connected.tunnel_handshake.map(|duration| Handshake {
        duration,
        kind: HandshakeKind::Full,
    });
    let handshake = handshake.or(of_tunnel);
    let phases = Phases {
        tunnel_handshake: connected.tunnel_handshake,
        transport_connect: connected.transport_connect,
        security_handshake: handshake.as_ref().map(|handshake| handshake.duration),
        handshake_kind: handshake.map(|handshake| handshake.kind),
    };
    let (local, peer) = (connected.local, connected.peer);
    let id = user.0.into();
    let connection = Connection::new(stream, local, peer, id, handler, limits.close, C::explain);
    let flow = connection.flow().clone();
    tokio::task::spawn_local(connection);
    Ok(Connected { flow, phases })
}

/// Accepts from `listener` until the result is dropped.
pub(super) fn listen<L, C>(
    listener: L,
    security: Rc<C>,
    limits: Limits,
    handler: Rc<dyn Handler>,
) -> Listening
where
    L: StreamListener + 'static,
    L::Stream: 'static,
    C: Security<L::Stream>,
{
    let local = listener.bound();
    let local_port = listener.local_port();
    let acceptor = Rc::new(Acceptor {
        listener: RefCell::new(Some(listener)),
        security,
        handler,
        limits,
        accepted: Cell::new(0),
        flows: RefCell::default(),
    });
    let task = tokio::task::spawn_local(heap::within(Part::Task, Rc::clone(&acceptor).run()));
    Listening {
        local,
        is_stream: true,
        inner_port: local_port,
        guard: Box::new(CloseOnDrop {
            acceptor,
            task: task.abort_handle(),
        }),
    }
}

/// A listener and what its connections share.
struct Acceptor<L, C> {
    /// `None` once closed.
    listener: RefCell<Option<L>>,
    security: Rc<C>,
    handler: Rc<dyn Handler>,
    limits: Limits,
    /// How many were accepted, which numbers their flows.
    accepted: Cell<u64>,
    /// The flows that live, to be closed with the listener.
    flows: RefCell<Slab<Rc<StreamLink>>>,
}

impl<L, C> Acceptor<L, C>
where
    L: StreamListener + 'static,
    L::Stream: 'static,
    C: Security<L::Stream>,
{
    async fn run(self: Rc<Self>) {
        while let Some(accepted) = poll_fn(|cx| self.poll_accept(cx)).await {
            match accepted {
                Ok(peer) => {
                    tokio::task::spawn_local(Rc::clone(&self).serve(peer));
                }
                // That peer is gone; the next one may be there.
                Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
                Err(_) => tokio::time::sleep(ACCEPT_PAUSE).await,
            }
        }
    }

    fn poll_accept(&self, cx: &mut Context<'_>) -> Poll<Option<io::Result<StreamPeer<L::Stream>>>> {
        match &*self.listener.borrow() {
            Some(listener) => listener.poll_accept(cx).map(Some),
            None => Poll::Ready(None),
        }
    }

    /// One connection, from the handshake to its end. It is a task of its own, so that a slow
    /// handshake holds up nobody.
    async fn serve(self: Rc<Self>, accepted: StreamPeer<L::Stream>) {
        let (local, peer) = (accepted.local, accepted.peer);
        let stream = match self.security.accept(accepted.stream, peer).await {
            Ok(stream) => stream,
            Err(reason) => return self.handler.refused(peer, &reason),
        };
        if self.listener.borrow().is_none() {
            return;
        }
        let id = self.accepted.replace(self.accepted.get() + 1);
        let handler = Rc::clone(&self.handler);
        let limit = self.limits.close;
        let mut connection = Connection::new(stream, local, peer, id, handler, limit, C::explain);
        let key = self.keep(connection.link());
        self.handler.opened(connection.flow());
        // By reference: a task that moved it would have room for it twice, as long as it lives.
        (&mut connection).await;
        self.flows.borrow_mut().remove(key);
    }
}

impl<L, C> Acceptor<L, C> {
    fn keep(&self, link: Rc<StreamLink>) -> usize {
        let _scope = heap::part(Part::Task);
        self.flows.borrow_mut().insert(link)
    }
}

struct CloseOnDrop<L, C> {
    acceptor: Rc<Acceptor<L, C>>,
    task: AbortHandle,
}

impl<L: StreamListener, C> Guard for CloseOnDrop<L, C> {
    fn counters(&self) -> Option<DatagramCounters> {
        self.acceptor.listener.borrow().as_ref()?.counters()
    }

    fn flow_to(&self, _peer: SocketAddr) -> Option<Flow> {
        None
    }
}

impl<L, C> Drop for CloseOnDrop<L, C> {
    fn drop(&mut self) {
        self.task.abort();
        self.acceptor.listener.take();
        for (_, link) in self.acceptor.flows.borrow().iter() {
            link.close();
        }
    }
}
