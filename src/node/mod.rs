//! The server under test that ships with hopbench: registrar, answering user agent and proxy on one
//! worker.
//!
//! What it says is decided by [`crate::sip::Server`]; here are the flows it says it on and the clock
//! it says it by. Layer: above `sip`, `transport` and `measure`. Not here: processes and their
//! control, which are the harness'.

use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Instant;

use ring::rand::{SecureRandom, SystemRandom};
use serde::{Deserialize, Serialize};
use tokio::sync::Notify;

use crate::sip::{
    Accounts, Interface, Outbound, Reliability, Server, ServerConfig, ServerCounters, Service,
    Source,
};
use crate::transport::{
    self, CloseReason, DatagramCounters, Flow, Handler, Listening, Settings, Transport,
    TransportError, UnknownStack, WireCounters,
};

/// Where a node listens, over what, and for whom.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct NodeConfig {
    /// The sides that messages come and go by.
    pub interfaces: Vec<InterfaceConfig>,
    /// Certificates, keys and limits of the transports.
    pub settings: Settings,
    /// The users that may register.
    pub accounts: Accounts,
    /// What it is to those who call.
    pub service: Service,
    /// Where requests for other domains than its own go, as the DNS would say (RFC 3263).
    pub routes: Vec<RouteConfig>,
    /// Whether callers have to prove who they are: 407 from a proxy, 401 from who answers.
    pub authenticate_calls: bool,
    /// Whether `sips:` may cross a protected tunnel as it may cross TLS (RFC 5630 knows TLS only).
    pub tunnels_protect: bool,
    /// From INVITE to its 200; at least 0, at most what a [`std::time::Duration`] holds.
    pub ring_seconds: f64,
}

impl NodeConfig {
    /// A registrar and answering user agent on one interface.
    #[must_use]
    pub fn answering(
        stack: &str,
        listen: SocketAddr,
        settings: Settings,
        accounts: Accounts,
    ) -> Self {
        Self {
            interfaces: vec![InterfaceConfig {
                stack: stack.into(),
                listen: Some(listen),
            }],
            settings,
            accounts,
            service: Service::Answer,
            routes: Vec::new(),
            authenticate_calls: false,
            tunnels_protect: false,
            ring_seconds: 0.0,
        }
    }
}

/// One side of a node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InterfaceConfig {
    /// Name in the registry of stacks.
    pub stack: String,
    /// The address to listen on; over a tunnel, its outer address. Port 0 lets the kernel choose.
    /// `None` where only this node opens connections: towards the server side of a tunnel.
    pub listen: Option<SocketAddr>,
}

/// Where requests for a domain go.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RouteConfig {
    /// The domain; `None` for all that no other route names.
    pub domain: Option<String>,
    /// The way out, by its place in [`NodeConfig::interfaces`].
    pub interface: usize,
    /// The next hop; over a tunnel, its outer address.
    pub target: SocketAddr,
    /// Who this node is to the next hop: the number of its tunnel keys.
    pub user: u32,
}

/// What a node has seen since it started.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeCounters {
    /// Of the SIP server.
    pub sip: ServerCounters,
    /// Flows that peers opened (streams only).
    pub flows_opened: u64,
    /// Flows that have ended since.
    pub flows_closed: u64,
    /// Of these, those ended because the peer sent what is not SIP.
    pub flows_closed_for_garbage: u64,
    /// Peers that failed to open a flow, for example in the TLS handshake.
    pub flows_refused: u64,
    /// Responses that their flow no longer took.
    pub unsent: u64,
    /// Bytes of the SIP messages that it received and sent.
    #[serde(default)]
    pub sip_bytes: u64,
    /// Datagrams that the system did not take, or that the tunnel dropped (datagrams only).
    #[serde(default)]
    pub datagrams: Option<DatagramCounters>,
}

/// Why a node cannot listen.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NodeError {
    /// An interface's stack does not exist.
    #[error(transparent)]
    Stack(#[from] UnknownStack),
    /// An interface cannot be opened.
    #[error(transparent)]
    Transport(#[from] TransportError),
}

/// A listening node. Lives inside a [`tokio::task::LocalSet`]; dropping it closes its flows.
pub struct Node {
    listening: Vec<Option<Listening>>,
    core: Rc<Core>,
    /// Their endpoints belong to them, and live as long as the node.
    transports: Vec<Box<dyn Transport>>,
}

struct Core {
    server: RefCell<Server<Flow>>,
    counters: RefCell<NodeCounters>,
    deadline_moved: Notify,
    alarm: Cell<Option<Instant>>,
}

/// What an interface's flows report to.
struct Port {
    core: Rc<Core>,
    interface: usize,
}

impl Node {
    /// Starts to listen.
    ///
    /// # Errors
    /// When a stack does not exist, the credentials do not suffice or an address cannot be bound.
    ///
    /// # Panics
    /// When [`NodeConfig::ring_seconds`] is no duration.
    pub async fn listen(config: &NodeConfig) -> Result<Self, NodeError> {
        let mut entropy = [0; 32];
        SystemRandom::new().fill(&mut entropy).map_err(|_| {
            TransportError::Credentials("the system's random generator failed".into())
        })?;
        let mut stacks = Vec::new();
        for interface in &config.interfaces {
            stacks.push(transport::find(&interface.stack)?);
        }
        let interfaces = config.interfaces.iter().zip(&stacks);
        let interfaces = interfaces.map(|(interface, stack)| Interface {
            transport: stack.via_transport,
            address: interface.listen.unwrap_or(([0, 0, 0, 0], 0).into()),
            reliability: Reliability::of(stack.is_stream()),
            is_protected: stack.protected && (stack.tunnel.is_none() || config.tunnels_protect),
            is_mutual: false,
        });
        let server_config = ServerConfig {
            ring: std::time::Duration::from_secs_f64(config.ring_seconds),
            service: config.service,
            ..ServerConfig::new(config.accounts.clone(), interfaces.collect())
        };
        let core = Rc::new(Core {
            server: RefCell::new(Server::new(server_config, entropy, Instant::now())),
            counters: RefCell::default(),
            deadline_moved: Notify::new(),
            alarm: Cell::new(None),
        });
        let (mut listening, mut transports) = (Vec::new(), Vec::new());
        for (interface, stack) in stacks.into_iter().enumerate() {
            let transport = stack.open(&config.settings)?;
            let port = Rc::new(Port {
                core: Rc::clone(&core),
                interface,
            });
            listening.push(match config.interfaces[interface].listen {
                Some(address) => Some(transport.listen(address, port).await?),
                None => None,
            });
            transports.push(transport);
        }
        Ok(Self {
            listening,
            core,
            transports,
        })
    }

    /// The address that each interface was bound to; `None` where it does not listen.
    #[must_use]
    pub fn addresses(&self) -> Vec<Option<SocketAddr>> {
        let bound = |listening: &Option<Listening>| listening.as_ref().map(|bound| bound.local);
        self.listening.iter().map(bound).collect()
    }

    /// The address of the first interface that listens.
    ///
    /// # Panics
    /// When none does.
    #[must_use]
    pub fn local(&self) -> SocketAddr {
        let mut bound = self.listening.iter().flatten();
        bound.next().expect("an interface listens").local
    }

    /// What it has seen so far.
    #[must_use]
    pub fn counters(&self) -> NodeCounters {
        let datagrams = self.listening.iter().flatten();
        let datagrams = datagrams.filter_map(Listening::counters);
        NodeCounters {
            sip: *self.core.server.borrow().counters(),
            datagrams: datagrams.reduce(DatagramCounters::plus),
            ..self.core.counters.borrow().clone()
        }
    }

    /// What each interface has put on the wire and taken from it, in both directions and whoever
    /// opened the connections. Asks the kernel for each open one; `None` where it does not tell.
    #[must_use]
    pub fn wire(&self) -> Vec<Option<WireCounters>> {
        self.transports.iter().map(|side| side.wire()).collect()
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
    fn receive(&self, interface: usize, flow: &Flow, message: &[u8]) {
        self.counters.borrow_mut().sip_bytes += message.len() as u64;
        let mut server = self.server.borrow_mut();
        // Known only now: behind port 0, a wildcard address or a tunnel it is not what was asked for.
        server.set_address(interface, flow.local());
        let source = Source {
            flow,
            peer: flow.peer(),
            interface,
        };
        server.receive(Instant::now(), source, message, &mut Sender(&self.counters));
        let is_sooner = match (server.deadline(), self.alarm.get()) {
            (None, _) => false,
            (Some(_), None) => true,
            (Some(deadline), Some(alarm)) => deadline < alarm,
        };
        if is_sooner {
            self.deadline_moved.notify_one();
        }
    }

    fn fire(&self, now: Instant) {
        self.server
            .borrow_mut()
            .timeout(now, &mut Sender(&self.counters));
    }
}

impl Handler for Port {
    fn opened(&self, _flow: &Flow) {
        self.core.counters.borrow_mut().flows_opened += 1;
    }

    fn message(&self, flow: &Flow, message: &[u8]) {
        self.core.receive(self.interface, flow, message);
    }

    fn closed(&self, _flow: &Flow, reason: &CloseReason) {
        let mut counters = self.core.counters.borrow_mut();
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
        self.core.counters.borrow_mut().flows_refused += 1;
    }
}

/// Sends on flows; one that has just closed is counted, and its client retransmits or has left.
struct Sender<'a>(&'a RefCell<NodeCounters>);

impl Outbound<Flow> for Sender<'_> {
    fn send(&mut self, flow: &Flow, message: &[u8]) -> bool {
        let is_sent = flow.send(message).is_ok();
        let mut counters = self.0.borrow_mut();
        if is_sent {
            counters.sip_bytes += message.len() as u64;
        } else {
            counters.unsent += 1;
        }
        is_sent
    }
}
