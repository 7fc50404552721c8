//! SIP over UDP (RFC 3261 §18): one message per datagram, over any network that has datagrams.
//!
//! A server has one socket for all peers; a user has one of its own. There is no connection: a
//! flow is an address, and only closing it ends it.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::net::SocketAddr;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Instant;

use super::{
    Connected, DatagramCounters, Drops, Flow, Guard, Handler, HandshakeKind, Link, Listening,
    LocalBoxFuture, Phases, SendError, Settings, Transport, TransportError, User, WireCounters,
    tunneled,
};
use crate::measure::heap::{self, Part};
use crate::net::{DatagramNetwork, DatagramSocket, Kernel, StreamNetwork};

/// `udp`.
pub(super) fn open(settings: &Settings) -> Result<Box<dyn Transport>, TransportError> {
    Ok(Box::new(Udp::new(Kernel::from(settings))))
}

/// `udp@clear`.
pub(super) fn open_clear(settings: &Settings) -> Result<Box<dyn Transport>, TransportError> {
    tunneled::carry(tunneled::clear(settings), settings, Plain)
}

/// `udp@wireguard`.
pub(super) fn open_wireguard(settings: &Settings) -> Result<Box<dyn Transport>, TransportError> {
    tunneled::carry(tunneled::wireguard(settings)?, settings, Plain)
}

/// Nothing but datagrams.
struct Plain;

impl tunneled::Carry for Plain {
    fn on<N: StreamNetwork + DatagramNetwork + 'static>(
        self,
        network: N,
    ) -> Result<Box<dyn Transport>, TransportError> {
        Ok(Box::new(Udp::new(network)))
    }
}

struct Udp<N> {
    network: N,
    listeners: Cell<u64>,
}

impl<N> Udp<N> {
    fn new(network: N) -> Self {
        Self {
            network,
            listeners: Cell::new(0),
        }
    }
}

impl<N: DatagramNetwork> Transport for Udp<N> {
    fn listen(
        &self,
        address: SocketAddr,
        handler: Rc<dyn Handler>,
    ) -> LocalBoxFuture<'_, Result<Listening, TransportError>> {
        Box::pin(async move {
            let socket = self.network.bind(address)?;
            let local = socket.bound();
            let id = self.listeners.replace(self.listeners.get() + 1);
            let link = SocketLink::drive(socket, id, true, handler);
            Ok(Listening {
                local,
                is_stream: false,
                inner_port: link.local.port(),
                guard: Box::new(CloseOnDrop(link)),
            })
        })
    }

    fn connect(
        &self,
        user: User,
        target: SocketAddr,
        handler: Rc<dyn Handler>,
    ) -> LocalBoxFuture<'_, Result<Connected, TransportError>> {
        let connecting = async move {
            let connected = self.network.connect(user.0, target).await?;
            let link = SocketLink::drive(connected.socket, user.0.into(), false, handler);
            Ok(Connected {
                flow: Flow::new(link, connected.peer),
                phases: Phases {
                    tunnel_handshake: connected.tunnel_handshake,
                    transport_connect: None,
                    security_handshake: connected.tunnel_handshake,
                    // A tunnel has nothing to resume.
                    handshake_kind: connected.tunnel_handshake.map(|_| HandshakeKind::Full),
                },
            })
        };
        Box::pin(heap::within(Part::Task, connecting))
    }

    fn wire(&self) -> Option<WireCounters> {
        self.network.meter().total()
    }

    fn tunnel_drops(&self) -> Option<Drops> {
        self.network.client_drops()
    }
}

/// A socket and the task that drives it, until it is closed.
struct SocketLink<S> {
    /// `None` once closed, so that the port is free however long a [`Flow`] is kept.
    socket: RefCell<Option<Rc<S>>>,
    driver: RefCell<Option<Waker>>,
    id: u64,
    local: SocketAddr,
    /// Whether it is a listener's, which no single flow closes.
    shared: bool,
}

impl<S: DatagramSocket + 'static> SocketLink<S> {
    fn drive(socket: S, id: u64, shared: bool, handler: Rc<dyn Handler>) -> Rc<Self> {
        let _scope = heap::part(Part::Task);
        let link = Rc::new(Self {
            id,
            shared,
            local: socket.local(),
            socket: RefCell::new(Some(Rc::new(socket))),
            driver: RefCell::new(None),
        });
        let driven = Rc::clone(&link);
        tokio::task::spawn_local(poll_fn(move |cx| driven.poll(cx, &*handler)));
        link
    }

    fn poll(self: &Rc<Self>, cx: &mut Context<'_>, handler: &dyn Handler) -> Poll<()> {
        let _scope = heap::part(Part::Task);
        let Some(socket) = self.socket.borrow().clone() else {
            return Poll::Ready(());
        };
        *self.driver.borrow_mut() = Some(cx.waker().clone());
        let mut receive = |peer, payload: &[u8]| {
            if !is_keep_alive(payload) && self.socket.borrow().is_some() {
                handler.message(&Flow::new(self.clone(), peer), payload, Instant::now());
            }
        };
        // An error of the system, such as a peer that is not there, is for SIP's timers to notice.
        while socket.poll_drive(cx, &mut receive).is_ready() {}
        if self.socket.borrow().is_some() {
            Poll::Pending
        } else {
            Poll::Ready(())
        }
    }
}

/// Empty lines keep address translations alive (RFC 5626 §3.5.1 knows them on streams only, but
/// many user agents send them on UDP); they are no message and get no answer.
fn is_keep_alive(payload: &[u8]) -> bool {
    payload.iter().all(|byte| matches!(byte, b'\r' | b'\n' | 0))
}

impl<S: DatagramSocket> Link for SocketLink<S> {
    fn send(&self, peer: SocketAddr, message: &[u8]) -> Result<(), SendError> {
        let socket = self.socket.borrow().clone().ok_or(SendError::Closed)?;
        if message.len() > socket.max_payload_bytes() {
            return Err(SendError::TooLarge {
                bytes: message.len(),
            });
        }
        socket.send(peer, message);
        Ok(())
    }

    fn close(&self) {
        if !self.shared {
            self.shut();
        }
    }

    fn id(&self) -> u64 {
        self.id
    }

    fn local(&self) -> SocketAddr {
        self.local
    }
}

impl<S> SocketLink<S> {
    fn shut(&self) {
        self.socket.borrow_mut().take();
        if let Some(driver) = self.driver.borrow_mut().take() {
            driver.wake();
        }
    }
}

struct CloseOnDrop<S: DatagramSocket>(Rc<SocketLink<S>>);

impl<S: DatagramSocket + 'static> Guard for CloseOnDrop<S> {
    fn counters(&self) -> Option<DatagramCounters> {
        let socket = self.0.socket.borrow();
        socket.as_ref().map(|socket| socket.counters())
    }

    fn flow_to(&self, peer: SocketAddr) -> Option<Flow> {
        Some(Flow::new(self.0.clone(), peer))
    }
}

impl<S: DatagramSocket> Drop for CloseOnDrop<S> {
    fn drop(&mut self) {
        self.0.shut();
    }
}
