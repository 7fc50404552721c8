//! What a node is told: its sides, its users, its routes.

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use ring::rand::{SecureRandom, SystemRandom};
use serde::{Deserialize, Serialize};

use crate::sip::{
    Accounts, DATAGRAM_BYTES_MAX, Interface, NextHop, Reliability, Route, ServerConfig, Service,
    Worker,
};
use crate::transport::{Settings, Stack, TransportError, UnknownStack};

use super::directory::LocationDirectory;

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
    /// Longer requests leave a proxy over a stream if it has one beside the datagrams (RFC 3261 §18.1.1).
    pub datagram_bytes_max: usize,
    /// From INVITE to its 200; at least 0, at most what a [`std::time::Duration`] holds.
    pub ring_seconds: f64,
    /// Calls beyond that many a second are refused with 503, as servers do that protect themselves; of
    /// several workers, each has this limit.
    #[serde(default)]
    pub calls_per_second_limit: Option<u32>,
    /// Its place, if it is one of several workers of a node; they bind the same address.
    #[serde(default)]
    pub worker: Option<WorkerConfig>,
    /// Share of its own processor time that its thread burns on top, for whoever makes the node's runtime
    /// ([`crate::measure::handicap`]).
    #[serde(default)]
    pub handicap_ratio: f64,
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
            datagram_bytes_max: DATAGRAM_BYTES_MAX,
            ring_seconds: 0.0,
            calls_per_second_limit: None,
            worker: None,
            handicap_ratio: 0.0,
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

/// Most workers that a node may have.
pub const WORKERS_MAX: u16 = 256;

/// One worker of a node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorkerConfig {
    /// Its number, from 0.
    pub place: u16,
    /// How many workers there are, at most [`WORKERS_MAX`].
    pub count: u16,
    /// File of the location directory, two bytes an account. Once all workers listen it may be
    /// unlinked.
    pub directory: PathBuf,
    /// Known to the workers of this node only: by it they know each other's recorded routes.
    pub secret: [u8; 32],
}

impl WorkerConfig {
    /// Makes the location directory of `count` workers for `accounts` users, and what the first of the
    /// workers is told: the others are told the same but for [`Self::place`].
    ///
    /// # Errors
    /// When there is such a file already, it cannot be made, or the system's random generator fails.
    pub fn first(directory: &Path, count: u16, accounts: u32) -> Result<Self, NodeError> {
        let mut secret = [0; 32];
        let random = SystemRandom::new().fill(&mut secret);
        random.map_err(|_| io::Error::other("the system's random generator failed"))?;
        LocationDirectory::create(directory, count, accounts)?;
        Ok(Self {
            place: 0,
            count,
            directory: directory.to_owned(),
            secret,
        })
    }

    fn check(&self) -> Result<(), NodeError> {
        let &Self { place, count, .. } = self;
        if place < count && count <= WORKERS_MAX {
            Ok(())
        } else {
            Err(NodeError::Worker { place, count })
        }
    }

    /// Opens the location directory.
    fn open(&self, accounts: u32, interface: usize) -> Result<Worker, NodeError> {
        let directory = LocationDirectory::open(&self.directory, self.place, self.count, accounts)?;
        Ok(Worker {
            place: self.place,
            interface,
            siblings: Vec::new(),
            secret: self.secret,
            directory: Rc::new(directory),
        })
    }
}

impl NodeConfig {
    /// Whether its parts refer to each other.
    pub(super) fn check(&self) -> Result<(), NodeError> {
        if let Some(worker) = &self.worker {
            worker.check()?;
        }
        let interfaces = self.interfaces.len();
        if self
            .interfaces
            .iter()
            .all(|interface| interface.listen.is_none())
        {
            return Err(NodeError::Silent);
        }
        let of_nowhere = |route: &&RouteConfig| route.interface >= interfaces;
        match self.routes.iter().find(of_nowhere) {
            Some(route) => Err(NodeError::Interface {
                place: route.interface,
                interfaces,
            }),
            None => Ok(()),
        }
    }

    /// What the server has to know of it.
    pub(super) fn server(&self, stacks: &[&'static Stack]) -> Result<ServerConfig, NodeError> {
        let interfaces = self.interfaces.iter().zip(stacks);
        let interfaces = interfaces.map(|(interface, stack)| Interface {
            transport: stack.via_transport,
            address: interface.listen.unwrap_or(([0, 0, 0, 0], 0).into()),
            reliability: Reliability::of(stack.is_stream()),
            is_protected: stack.protected && (stack.speaks_tls() || self.tunnels_protect),
            is_mutual: stack.mutual,
            is_internal: false,
        });
        let mut interfaces: Vec<Interface> = interfaces.collect();
        let worker = self.worker.as_ref();
        let worker = worker.map(|worker| worker.open(self.accounts.count(), interfaces.len()));
        if self.worker.is_some() {
            // The workers are one host: what may come to one of them may go on to another.
            let is_protected = interfaces.iter().any(|interface| interface.is_protected);
            interfaces.push(Interface {
                is_protected,
                is_internal: true,
                ..Interface::unprotected("UDP", ([127, 0, 0, 1], 0).into())
            });
        }
        let routes = self.routes.iter().map(|route| Route {
            domain: route.domain.clone(),
            hop: NextHop {
                interface: route.interface,
                address: route.target,
            },
        });
        Ok(ServerConfig {
            service: self.service,
            routes: routes.collect(),
            authenticate_calls: self.authenticate_calls,
            datagram_bytes_max: self.datagram_bytes_max,
            ring: std::time::Duration::from_secs_f64(self.ring_seconds),
            worker: worker.transpose()?,
            calls_per_second_limit: self.calls_per_second_limit,
            ..ServerConfig::new(self.accounts.clone(), interfaces)
        })
    }
}

/// Why a node cannot listen.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NodeError {
    /// An interface's stack does not exist.
    #[error(transparent)]
    Stack(#[from] UnknownStack),
    /// A worker cannot be of that place.
    #[error(
        "expected a worker's place below the number of workers, at most {WORKERS_MAX}, found {place} of {count}"
    )]
    Worker {
        /// The place.
        place: u16,
        /// How many there are.
        count: u16,
    },
    /// The location directory of the workers cannot be had.
    #[error("cannot use the location directory: {0}")]
    Directory(#[from] io::Error),
    /// An interface cannot be opened.
    #[error(transparent)]
    Transport(#[from] TransportError),
    /// No interface listens.
    #[error("expected an interface with an address to listen on, found none")]
    Silent,
    /// A route leaves by an interface that is not there.
    #[error("expected a route by one of {interfaces} interfaces, found one by number {place}")]
    Interface {
        /// The place that the route names.
        place: usize,
        /// How many interfaces there are.
        interfaces: usize,
    },
}
