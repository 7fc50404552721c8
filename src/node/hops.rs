//! The ways from a proxy to its next hops: connections that it opened, that peers opened, and
//! datagram sockets that reach everybody. One is opened when something is to be sent, is kept, and is
//! opened anew when it has gone.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::rc::Rc;

use super::{Core, Port, RouteConfig};
use crate::sip::{NextHop, Outbox};
use crate::transport::{Connected, Flow, Listening, Transport, TransportError, User};

/// Messages that wait for a connection, at most: those of a second at any rate that one hop takes.
const WAITING_MAX: usize = 20_000;

/// Bytes of them: peers decide how long messages are.
const WAITING_BYTES_MAX: usize = 16 << 20;

/// Connections that are being opened at a time: any caller can name an address that takes long to fail.
const OPENING_MAX: usize = 1_024;

/// Where next hops are, and the ways there.
pub(super) struct Hops {
    /// Connections; datagrams need no entry.
    ways: HashMap<NextHop, Way>,
    /// How many of them are being opened.
    opening: usize,
    /// Addresses that peers want to be reached at over connections that they opened (RFC 5923).
    aliases: HashMap<NextHop, Flow>,
    /// What connections, by their peer, are an alias for: one address each.
    aliased: HashMap<NextHop, NextHop>,
    /// Per interface.
    sides: Vec<Side>,
    /// Who this node is to each next hop that it was told of.
    identities: Vec<(NextHop, User)>,
    /// Whether connections that peers open are ways back to them.
    keeps_accepted: bool,
}

/// One interface.
pub(super) struct Side {
    pub(super) transport: Rc<dyn Transport>,
    /// `None` where only this node opens connections.
    pub(super) listening: Option<Listening>,
}

enum Way {
    Open {
        flow: Flow,
        /// Whether it was asked for as a next hop: then its end concerns requests.
        carries_requests: bool,
    },
    /// What waits for it to be opened.
    Opening(Outbox),
}

/// What became of a message.
enum Sent {
    Yes,
    No,
    /// There is no way yet, and it is to be opened.
    Open,
}

impl Hops {
    pub(super) fn new(routes: &[RouteConfig], keeps_accepted: bool) -> Self {
        let identity = |route: &RouteConfig| {
            let hop = NextHop {
                interface: route.interface,
                address: route.target,
            };
            (hop, User(route.user))
        };
        Self {
            ways: HashMap::new(),
            opening: 0,
            aliases: HashMap::new(),
            aliased: HashMap::new(),
            sides: Vec::new(),
            identities: routes.iter().map(identity).collect(),
            keeps_accepted,
        }
    }

    /// Adds the next interface.
    pub(super) fn add(&mut self, side: Side) {
        self.sides.push(side);
    }

    pub(super) fn sides(&self) -> &[Side] {
        &self.sides
    }

    /// A peer opened a connection.
    pub(super) fn accepted(&mut self, interface: usize, flow: &Flow) {
        if self.keeps_accepted {
            let address = flow.peer();
            let hop = NextHop { interface, address };
            self.open(hop, flow);
        }
    }

    /// Puts a connection in its place, and sends what waited for one.
    fn open(&mut self, hop: NextHop, flow: &Flow) {
        let way = Way::Open {
            flow: flow.clone(),
            carries_requests: false,
        };
        if let Some(Way::Opening(waiting)) = self.ways.insert(hop, way) {
            self.opening -= 1;
            for message in waiting.iter() {
                // A flow that has just closed: whoever waits is told when that is noticed.
                let _ = flow.send(message);
            }
            if let Some(Way::Open {
                carries_requests, ..
            }) = self.ways.get_mut(&hop)
            {
                *carries_requests = true;
            }
        }
    }

    /// A connection has ended. Returns the next hops that requests went to over it.
    pub(super) fn closed(&mut self, interface: usize, flow: &Flow) -> [Option<NextHop>; 2] {
        let address = flow.peer();
        let hop = NextHop { interface, address };
        let mut told = [None; 2];
        if let Some(Way::Open {
            flow: open,
            carries_requests,
        }) = self.ways.get(&hop)
            && open.is_same_as(flow)
        {
            told[0] = carries_requests.then_some(hop);
            self.ways.remove(&hop);
        }
        if let Some(&alias) = self.aliased.get(&hop)
            && self
                .aliases
                .get(&alias)
                .is_some_and(|known| known.is_same_as(flow))
        {
            self.aliases.remove(&alias);
            self.aliased.remove(&hop);
            told[1] = Some(alias);
        }
        told
    }

    /// A connection could not be opened.
    fn failed(&mut self, hop: NextHop) {
        if let Some(Way::Opening(_)) = self.ways.get(&hop) {
            self.ways.remove(&hop);
            self.opening -= 1;
        }
    }

    /// A peer takes requests for `address` over `flow`: the first that says so, for the first address
    /// that it names, as long as the connection lives.
    pub(super) fn alias(&mut self, address: NextHop, flow: &Flow) {
        let peer = NextHop {
            interface: address.interface,
            address: flow.peer(),
        };
        if !self.aliased.contains_key(&peer) && !self.aliases.contains_key(&address) {
            self.aliased.insert(peer, address);
            self.aliases.insert(address, flow.clone());
        }
    }

    /// Sends over the flow that a peer opened, if it lives.
    pub(super) fn send_back(&mut self, peer: NextHop, message: &[u8]) -> bool {
        match self.ways.get(&peer) {
            Some(Way::Open { flow, .. }) => flow.send(message).is_ok(),
            Some(Way::Opening(_)) | None => self
                .datagram_flow(peer)
                .is_some_and(|flow| flow.send(message).is_ok()),
        }
    }

    fn datagram_flow(&self, hop: NextHop) -> Option<Flow> {
        let listening = self.sides[hop.interface].listening.as_ref()?;
        listening.flow_to(hop.address)
    }

    fn send(&mut self, hop: NextHop, message: &[u8]) -> Sent {
        if let Some(flow) = self.aliases.get(&hop)
            && flow.send(message).is_ok()
        {
            return Sent::Yes;
        }
        match self.ways.get_mut(&hop) {
            Some(Way::Open {
                flow,
                carries_requests,
            }) if flow.send(message).is_ok() => {
                *carries_requests = true;
                return Sent::Yes;
            }
            Some(Way::Opening(waiting)) => {
                let bytes = waiting.bytes() + message.len();
                if waiting.len() >= WAITING_MAX || bytes > WAITING_BYTES_MAX {
                    return Sent::No;
                }
                waiting.push(message);
                return Sent::Yes;
            }
            Some(Way::Open { .. }) | None => {}
        }
        if let Some(flow) = self.datagram_flow(hop) {
            let is_sent = flow.send(message).is_ok();
            return if is_sent { Sent::Yes } else { Sent::No };
        }
        if self.opening >= OPENING_MAX {
            return Sent::No;
        }
        self.opening += 1;
        let mut waiting = Outbox::new();
        waiting.push(message);
        self.ways.insert(hop, Way::Opening(waiting));
        Sent::Open
    }

    fn user_towards(&self, hop: NextHop) -> User {
        let known = self.identities.iter().find(|(known, _)| *known == hop);
        known.map_or(User(0), |(_, user)| *user)
    }

    /// A connection that this node opened is there.
    fn opened(&mut self, hop: NextHop, flow: &Flow) {
        let inner = NextHop {
            address: flow.peer(),
            ..hop
        };
        self.open(hop, flow);
        // Inside a tunnel the next hop has an address of its own, by which it is named in routes.
        if inner != hop {
            self.open(inner, flow);
        }
    }
}

impl Core {
    /// Sends to a next hop; opens the way if there is none.
    pub(super) fn send_to(self: &Rc<Self>, hop: NextHop, message: &[u8]) -> bool {
        let sent = self.hops.borrow_mut().send(hop, message);
        match sent {
            Sent::Yes => true,
            Sent::No => false,
            Sent::Open => {
                let core = Rc::clone(self);
                tokio::task::spawn_local(async move {
                    if core.connect(hop).await.is_err() {
                        core.hops.borrow_mut().failed(hop);
                        core.unreachable(hop);
                    }
                });
                true
            }
        }
    }

    /// Opens a connection to a next hop.
    pub(super) async fn connect(
        self: &Rc<Self>,
        hop: NextHop,
    ) -> Result<SocketAddr, TransportError> {
        let (transport, user) = {
            let hops = self.hops.borrow();
            let transport = Rc::clone(&hops.sides[hop.interface].transport);
            (transport, hops.user_towards(hop))
        };
        let port = Rc::new(Port {
            core: Rc::downgrade(self),
            interface: hop.interface,
        });
        let Connected { flow, .. } = transport.connect(user, hop.address, port).await?;
        let local = flow.local();
        self.counters.borrow_mut().hops_opened += 1;
        self.hops.borrow_mut().opened(hop, &flow);
        Ok(local)
    }
}
