//! The server under test that ships with hopbench: registrar and answering UA on one worker.
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

use crate::sip::{Accounts, Outbound, Reliability, Server, ServerConfig, ServerCounters, Source};
use crate::transport::{
    CloseReason, DatagramCounters, Flow, Handler, Listening, Settings, Stack, Transport,
    TransportError,
};

/// Where a node listens, over what, and for whom.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct NodeConfig {
    /// Name in the registry of stacks.
    pub stack: String,
    /// The address to listen on; over a tunnel, its outer address. Port 0 lets the kernel choose.
    pub listen: SocketAddr,
    /// Certificates, keys and limits of the transport.
    pub settings: Settings,
    /// The users that may register.
    pub accounts: Accounts,
    /// From INVITE to its 200; at least 0, at most what a [`std::time::Duration`] holds.
    pub ring_seconds: f64,
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
    /// Datagrams that the system did not take, or that the tunnel dropped (datagrams only).
    #[serde(default)]
    pub datagrams: Option<DatagramCounters>,
}

/// A listening node. Lives inside a [`tokio::task::LocalSet`]; dropping it closes its flows.
pub struct Node {
    listening: Listening,
    core: Rc<Core>,
    // The transport's endpoints belong to it, and live as long as the node.
    _transport: Box<dyn Transport>,
}

struct Core {
    server: RefCell<Server<Flow>>,
    reliability: Reliability,
    counters: RefCell<NodeCounters>,
    deadline_moved: Notify,
    alarm: Cell<Option<Instant>>,
}

impl Node {
    /// Starts to listen.
    ///
    /// # Errors
    /// When the credentials do not suffice or the address cannot be bound.
    ///
    /// # Panics
    /// When [`NodeConfig::ring_seconds`] is no duration.
    pub async fn listen(stack: &Stack, config: &NodeConfig) -> Result<Self, TransportError> {
        let transport = stack.open(&config.settings)?;
        let mut entropy = [0; 32];
        SystemRandom::new().fill(&mut entropy).map_err(|_| {
            TransportError::Credentials("the system's random generator failed".into())
        })?;
        let server_config = ServerConfig {
            ring: std::time::Duration::from_secs_f64(config.ring_seconds),
            ..ServerConfig::new(config.accounts.clone(), config.listen)
        };
        let core = Rc::new(Core {
            server: RefCell::new(Server::new(server_config, entropy, Instant::now())),
            reliability: Reliability::of(stack.is_stream()),
            counters: RefCell::default(),
            deadline_moved: Notify::new(),
            alarm: Cell::new(None),
        });
        let listening = transport
            .listen(config.listen, Rc::clone(&core) as Rc<dyn Handler>)
            .await?;
        Ok(Self {
            listening,
            core,
            _transport: transport,
        })
    }

    /// The address that was bound.
    #[must_use]
    pub fn local(&self) -> SocketAddr {
        self.listening.local
    }

    /// What it has seen so far.
    #[must_use]
    pub fn counters(&self) -> NodeCounters {
        NodeCounters {
            sip: *self.core.server.borrow().counters(),
            datagrams: self.listening.counters(),
            ..self.core.counters.borrow().clone()
        }
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
    fn fire(&self, now: Instant) {
        self.server
            .borrow_mut()
            .timeout(now, &mut Sender(&self.counters));
    }
}

impl Handler for Core {
    fn opened(&self, _flow: &Flow) {
        self.counters.borrow_mut().flows_opened += 1;
    }

    fn message(&self, flow: &Flow, message: &[u8]) {
        let mut server = self.server.borrow_mut();
        // Known only now: behind port 0, a wildcard address or a tunnel it is not what was asked for.
        server.set_address(flow.local());
        let source = Source {
            flow,
            peer: flow.peer(),
            reliability: self.reliability,
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

    fn closed(&self, _flow: &Flow, reason: &CloseReason) {
        let mut counters = self.counters.borrow_mut();
        counters.flows_closed += 1;
        match reason {
            CloseReason::Garbage(_) => counters.flows_closed_for_garbage += 1,
            CloseReason::Peer | CloseReason::Local | CloseReason::Broken(_) => {}
        }
    }

    fn refused(&self, _peer: SocketAddr, _reason: &TransportError) {
        self.counters.borrow_mut().flows_refused += 1;
    }

    fn unframed(&self, flow: &Flow, head: &[u8]) {
        let source = Source {
            flow,
            peer: flow.peer(),
            reliability: self.reliability,
        };
        let mut server = self.server.borrow_mut();
        server.refuse_unframed(source, head, &mut Sender(&self.counters));
    }
}

/// Sends on flows; one that has just closed is counted, and its client retransmits or has left.
struct Sender<'a>(&'a RefCell<NodeCounters>);

impl Outbound<Flow> for Sender<'_> {
    fn send(&mut self, flow: &Flow, message: &[u8]) {
        if flow.send(message).is_err() {
            self.0.borrow_mut().unsent += 1;
        }
    }
}
