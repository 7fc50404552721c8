//! The server under test that ships with hopbench: registrar, answering user agent and proxy on one
//! worker; or on several, each a [`Node`] of its own, perhaps in a process of its own.
//!
//! Workers bind the same address (`SO_REUSEPORT`), so the kernel spreads the users. Each has one more
//! interface, plain datagrams on the loopback, and what the user that it is for has reached by another
//! worker goes on to that one: a location directory in shared memory says which. Start all of them,
//! then [`Node::introduce`] each to the others.
//!
//! What it says is decided by [`crate::sip::Server`]; here are the flows it says it on and the clock
//! it says it by. Layer: above `sip`, `transport` and `measure`. Not here: processes and their
//! control, which are the harness'.

mod config;
mod directory;
mod hops;

use std::cell::{Cell, RefCell};
use std::net::{Ipv4Addr, SocketAddr};
use std::rc::{Rc, Weak};
use std::time::Instant;

use ring::rand::{SecureRandom, SystemRandom};
use serde::{Deserialize, Serialize};
use tokio::sync::Notify;

use crate::measure::heap::{self, Part};
use crate::sip::{NextHop, Outbound, Server, ServerCounters, Service, Source};
use crate::transport::{
    self, CloseReason, DatagramCounters, Flow, Handler, Listening, Settings, Stack, Transport,
    TransportError, WireCounters,
};
pub use config::{InterfaceConfig, NodeConfig, NodeError, RouteConfig, WORKERS_MAX, WorkerConfig};
use hops::{Hops, Side};

/// What workers of one node speak to each other: they are one host, and nothing is secured between them.
const INTERNAL_STACK: &str = "udp";

/// What a node has seen since it started.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeCounters {
    /// Of the SIP server.
    pub sip: ServerCounters,
    /// Users with a binding: how many there are now, not how many there were. Of a node's workers, the
    /// one that a user came to last counts it.
    #[serde(default)]
    pub registered_users: u64,
    /// Flows that peers opened (streams only).
    pub flows_opened: u64,
    /// Flows that have ended since.
    pub flows_closed: u64,
    /// Of these, those ended because the peer sent what is not SIP.
    pub flows_closed_for_garbage: u64,
    /// Peers that failed to open a flow, for example in the TLS handshake.
    pub flows_refused: u64,
    /// Connections to next hops that were opened (RFC 5923: one carries everything).
    #[serde(default)]
    pub hops_opened: u64,
    /// Messages that their flow no longer took.
    pub unsent: u64,
    /// Bytes of the SIP messages that it received and sent.
    #[serde(default)]
    pub sip_bytes: u64,
    /// Datagrams that the system did not take, or that the tunnel dropped (datagrams only).
    #[serde(default)]
    pub datagrams: Option<DatagramCounters>,
}

impl NodeCounters {
    /// The sum of both: of two workers of a node, what the node has seen.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        Self {
            sip: self.sip.plus(other.sip),
            registered_users: self.registered_users + other.registered_users,
            flows_opened: self.flows_opened + other.flows_opened,
            flows_closed: self.flows_closed + other.flows_closed,
            flows_closed_for_garbage: self.flows_closed_for_garbage
                + other.flows_closed_for_garbage,
            flows_refused: self.flows_refused + other.flows_refused,
            hops_opened: self.hops_opened + other.hops_opened,
            unsent: self.unsent + other.unsent,
            sip_bytes: self.sip_bytes + other.sip_bytes,
            datagrams: match (self.datagrams, other.datagrams) {
                (Some(one), Some(other)) => Some(one.plus(other)),
                (one, other) => one.or(other),
            },
        }
    }
}

/// A listening node. Lives inside a [`tokio::task::LocalSet`]; dropping it closes its flows.
pub struct Node {
    core: Rc<Core>,
    /// How many interfaces it was told to have: what is behind them is internal.
    interfaces: usize,
}

struct Core {
    server: RefCell<Server<Flow>>,
    hops: RefCell<Hops>,
    counters: RefCell<NodeCounters>,
    deadline_moved: Notify,
    alarm: Cell<Option<Instant>>,
}

/// What an interface's flows report to.
struct Port {
    /// Weak, since the listeners that hold it belong to the core.
    core: Weak<Core>,
    interface: usize,
}

impl Node {
    /// Starts to listen.
    ///
    /// # Errors
    /// When a stack does not exist, the credentials do not suffice, an address cannot be bound or the
    /// server side of a tunnel cannot be reached.
    ///
    /// # Panics
    /// When [`NodeConfig::ring_seconds`] is no duration.
    pub async fn listen(config: &NodeConfig) -> Result<Self, NodeError> {
        config.check()?;
        let mut entropy = [0; 32];
        SystemRandom::new().fill(&mut entropy).map_err(|_| {
            TransportError::Credentials("the system's random generator failed".into())
        })?;
        let mut stacks = Vec::new();
        for interface in &config.interfaces {
            stacks.push(transport::find(&interface.stack)?);
        }
        let server = Server::new(config.server(&stacks)?, entropy, Instant::now());
        let core = Rc::new(Core {
            server: RefCell::new(server),
            hops: RefCell::new(Hops::new(&config.routes, config.service == Service::Proxy)),
            counters: RefCell::default(),
            deadline_moved: Notify::new(),
            alarm: Cell::new(None),
        });
        let settings = Settings {
            share_port: config.settings.share_port || config.worker.is_some(),
            ..config.settings.clone()
        };
        for (interface, stack) in stacks.into_iter().enumerate() {
            let address = config.interfaces[interface].listen;
            core.add_side(stack, &settings, address).await?;
        }
        if config.worker.is_some() {
            let own = Settings {
                share_port: false,
                ..settings
            };
            let address = (Ipv4Addr::LOCALHOST, 0).into();
            let stack = transport::find(INTERNAL_STACK)?;
            core.add_side(stack, &own, Some(address)).await?;
        }
        core.open_outward_sides(config).await?;
        Ok(Self {
            core,
            interfaces: config.interfaces.len(),
        })
    }

    /// Tells a worker where all workers of the node reach each other: what each says by
    /// [`Node::internal_address`], by place.
    pub fn introduce(&self, siblings: &[SocketAddr]) {
        self.core.server.borrow_mut().introduce(siblings);
    }

    /// Where its siblings reach a worker; `None` if it is not one of several.
    #[must_use]
    pub fn internal_address(&self) -> Option<SocketAddr> {
        let hops = self.core.hops.borrow();
        let internal = hops.sides().get(self.interfaces)?;
        internal.listening.as_ref().map(|bound| bound.local)
    }

    /// The address that each interface was bound to; `None` where it does not listen.
    #[must_use]
    pub fn addresses(&self) -> Vec<Option<SocketAddr>> {
        let hops = self.core.hops.borrow();
        let bound = |side: &Side| side.listening.as_ref().map(|bound| bound.local);
        let sides = hops.sides().iter().take(self.interfaces);
        sides.map(bound).collect()
    }

    /// The address of the first interface that listens.
    ///
    /// # Panics
    /// When none does.
    #[must_use]
    pub fn local(&self) -> SocketAddr {
        let bound = self.addresses().into_iter().flatten().next();
        bound.expect("an interface listens")
    }

    /// What it has seen so far.
    #[must_use]
    pub fn counters(&self) -> NodeCounters {
        let hops = self.core.hops.borrow();
        let listening = hops
            .sides()
            .iter()
            .filter_map(|side| side.listening.as_ref());
        let datagrams = listening.filter_map(Listening::counters);
        let server = self.core.server.borrow();
        NodeCounters {
            sip: *server.counters(),
            registered_users: server.registrar().registered(),
            datagrams: datagrams.reduce(DatagramCounters::plus),
            ..self.core.counters.borrow().clone()
        }
    }

    /// What each interface has put on the wire and taken from it, in both directions and whoever
    /// opened the connections. Asks the kernel for each open one; `None` where it does not tell. What
    /// workers say to each other is on no wire, and not in it.
    #[must_use]
    pub fn wire(&self) -> Vec<Option<WireCounters>> {
        let hops = self.core.hops.borrow();
        let sides = hops.sides().iter().take(self.interfaces);
        sides.map(|side| side.transport.wire()).collect()
    }

    /// Carries on what is due: retransmissions, ringing, expiry. Never ends; messages are answered
    /// without it.
    pub async fn run(&self) {
        loop {
            let deadline = self.core.server.borrow().deadline();
            self.core.alarm.set(deadline);
            let due = async {
                match deadline {
                    Some(deadline) => tokio::time::sleep_until(deadline.into()).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = due => self.core.fire(Instant::now()),
                () = self.core.deadline_moved.notified() => {}
            }
        }
    }
}

impl Core {
    /// Opens the next interface, which listens on `address` if there is one.
    async fn add_side(
        self: &Rc<Self>,
        stack: &Stack,
        settings: &Settings,
        address: Option<SocketAddr>,
    ) -> Result<(), NodeError> {
        let transport: Rc<dyn Transport> = stack.open(settings)?.into();
        let interface = self.hops.borrow().sides().len();
        let port = Rc::new(Port {
            core: Rc::downgrade(self),
            interface,
        });
        let listening = match address {
            Some(address) => Some(transport.listen(address, port).await?),
            None => None,
        };
        if let Some(listening) = &listening {
            let mut server = self.server.borrow_mut();
            server.set_address(interface, listening.local);
        }
        self.hops.borrow_mut().add(Side {
            transport,
            listening,
        });
        Ok(())
    }

    /// Opens the sides that do not listen: their address, which requests carry, is known only then.
    async fn open_outward_sides(self: &Rc<Self>, config: &NodeConfig) -> Result<(), NodeError> {
        for route in &config.routes {
            let interface = route.interface;
            if config.interfaces[interface].listen.is_none() {
                let address = route.target;
                let local = self.connect(NextHop { interface, address }).await?;
                self.server.borrow_mut().set_address(interface, local);
            }
        }
        Ok(())
    }

    fn receive(self: &Rc<Self>, interface: usize, flow: &Flow, message: &[u8], now: Instant) {
        let _scope = heap::part(Part::Transaction);
        self.counters.borrow_mut().sip_bytes += message.len() as u64;
        {
            let mut server = self.server.borrow_mut();
            if let Some(address) = self.own_address(interface, flow) {
                server.set_address(interface, address);
            }
            let source = Source {
                flow,
                peer: flow.peer(),
                interface,
            };
            server.receive(now, source, message, &mut Sender(self));
        }
        self.note_deadline();
    }

    /// The own address that a flow tells. Behind a wildcard address or a tunnel it is not what was
    /// bound; but a connection that this node opened comes from a port that nobody listens on.
    fn own_address(&self, interface: usize, flow: &Flow) -> Option<SocketAddr> {
        let hops = self.hops.borrow();
        let listening = hops.sides()[interface].listening.as_ref()?;
        listening.is_local_end_of(flow).then(|| flow.local())
    }

    fn unreachable(self: &Rc<Self>, hop: NextHop) {
        let _scope = heap::part(Part::Transaction);
        {
            let mut server = self.server.borrow_mut();
            server.unreachable(Instant::now(), hop, &mut Sender(self));
        }
        self.note_deadline();
    }

    fn note_deadline(&self) {
        let deadline = self.server.borrow().deadline();
        let is_sooner = match (deadline, self.alarm.get()) {
            (None, _) => false,
            (Some(_), None) => true,
            (Some(deadline), Some(alarm)) => deadline < alarm,
        };
        if is_sooner {
            self.deadline_moved.notify_one();
        }
    }

    fn fire(self: &Rc<Self>, now: Instant) {
        let _scope = heap::part(Part::Transaction);
        let mut server = self.server.borrow_mut();
        server.timeout(now, &mut Sender(self));
    }
}

impl Handler for Port {
    fn opened(&self, flow: &Flow) {
        let Some(core) = self.core.upgrade() else {
            return;
        };
        let _scope = heap::part(Part::Binding);
        core.counters.borrow_mut().flows_opened += 1;
        core.hops.borrow_mut().accepted(self.interface, flow);
    }

    fn message(&self, flow: &Flow, message: &[u8], now: Instant) {
        if let Some(core) = self.core.upgrade() {
            core.receive(self.interface, flow, message, now);
        }
    }

    fn closed(&self, flow: &Flow, reason: &CloseReason) {
        let Some(core) = self.core.upgrade() else {
            return;
        };
        let ended = core.hops.borrow_mut().closed(self.interface, flow);
        for hop in ended.into_iter().flatten() {
            core.unreachable(hop);
        }
        let mut counters = core.counters.borrow_mut();
        counters.flows_closed += 1;
        match reason {
            CloseReason::Garbage(_) => counters.flows_closed_for_garbage += 1,
            CloseReason::Peer
            | CloseReason::Local
            | CloseReason::NoPong
            | CloseReason::Broken(_) => {}
        }
    }

    fn refused(&self, _peer: SocketAddr, _reason: &TransportError) {
        if let Some(core) = self.core.upgrade() {
            core.counters.borrow_mut().flows_refused += 1;
        }
    }

    fn unframed(&self, flow: &Flow, head: &[u8]) {
        let Some(core) = self.core.upgrade() else {
            return;
        };
        let source = Source {
            flow,
            peer: flow.peer(),
            interface: self.interface,
        };
        let mut server = core.server.borrow_mut();
        server.refuse_unframed(source, head, &mut Sender(&core));
    }
}

/// Sends on flows; one that has just closed is counted, and its client retransmits or has left.
struct Sender<'a>(&'a Rc<Core>);

impl Sender<'_> {
    fn counted(&self, is_sent: bool, message: &[u8]) -> bool {
        let mut counters = self.0.counters.borrow_mut();
        if is_sent {
            counters.sip_bytes += message.len() as u64;
        } else {
            counters.unsent += 1;
        }
        is_sent
    }
}

impl Outbound<Flow> for Sender<'_> {
    fn send(&mut self, flow: &Flow, message: &[u8]) -> bool {
        self.counted(flow.send(message).is_ok(), message)
    }

    fn peer_of(&self, flow: &Flow) -> SocketAddr {
        flow.peer()
    }

    fn send_to(&mut self, hop: NextHop, message: &[u8]) -> bool {
        self.counted(self.0.send_to(hop, message), message)
    }

    fn send_back(&mut self, peer: NextHop, message: &[u8]) -> bool {
        let is_sent = self.0.hops.borrow_mut().send_back(peer, message);
        self.counted(is_sent, message)
    }

    fn alias(&mut self, address: NextHop, flow: &Flow) {
        self.0.hops.borrow_mut().alias(address, flow);
    }
}
