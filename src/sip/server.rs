//! The server under test as a sans-IO core: a registrar, and an answering user agent or a proxy, behind
//! server transactions.
//!
//! Messages come in with the flow that they arrived on; responses leave through [`Outbound`] on that
//! same flow (RFC 3261 §18.2.2). Over datagrams a transaction keeps its last response for as long as
//! the request may come again; over streams nothing comes again and nothing is kept. Everything
//! that a peer can make grow is bounded, and beyond the bound is 503.

mod admission;
mod answering;
mod calls;
mod config;
mod forwarding;
mod ready;
mod registering;
mod transactions;
mod worker;

use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::time::Instant;

use super::agent::MAGIC_COOKIE;
use super::callee::{CallId, Calls};
use super::digest::Nonces;
use super::header::{Header, Method};
use super::keyed::Keyed;
use super::message::{Essentials, Message, ParseError, StartLine};
use super::parse::Via;
use super::proxy::context::{ContextId, Contexts};
use super::registrar::Registrar;
use super::reply::Echo;
use super::sdp;
use super::transaction::{Fired, OnRequest};
use super::wheel::TimerWheel;
use admission::Admission;
use answering::allow;
pub use config::{DATAGRAM_BYTES_MAX, Interface, Route, ServerConfig, ServerCounters, Service};
use ready::Ready;
use transactions::Transactions;
pub use worker::Worker;

/// Methods that are served, as `Allow` lists them.
const ALLOW: &str = "INVITE, ACK, CANCEL, BYE, REGISTER, OPTIONS";

/// Where a message came from.
#[derive(Clone, Copy, Debug)]
pub struct Source<'a, F> {
    /// The flow; responses leave on it.
    pub flow: &'a F,
    /// The peer's address.
    pub peer: SocketAddr,
    /// Where it arrived: the place of the interface in [`ServerConfig::interfaces`].
    pub interface: usize,
}

/// A next hop: an address, and the interface by which it is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct NextHop {
    /// The place of the interface in [`ServerConfig::interfaces`].
    pub interface: usize,
    /// The address, as SIP sees it or as a route has it.
    pub address: SocketAddr,
}

/// Takes what a server sends.
pub trait Outbound<F> {
    /// Sends one whole message on a flow. `false` when the flow takes nothing more: the message is
    /// lost, as it may be on any network.
    fn send(&mut self, flow: &F, message: &[u8]) -> bool;

    /// The address that a flow leads to.
    fn peer_of(&self, flow: &F) -> SocketAddr;

    /// Sends one whole message to a next hop, over the connection there is, or else a new one.
    /// `false` when that is known to be impossible; when it turns out to be, the server is told by
    /// `Server::unreachable`. User agents have no next hops.
    fn send_to(&mut self, hop: NextHop, message: &[u8]) -> bool {
        let _ = (hop, message);
        false
    }

    /// Sends one whole message to a peer over the flow that it opened, if that lives (RFC 5626 §5.3).
    fn send_back(&mut self, peer: NextHop, message: &[u8]) -> bool {
        let _ = (peer, message);
        false
    }

    /// A peer that has proved who it is takes requests for its address over this flow as well
    /// (RFC 5923).
    fn alias(&mut self, address: NextHop, flow: &F) {
        let _ = (address, flow);
    }
}

#[derive(Clone, Copy, Debug)]
enum Timer {
    Transaction(u64),
    Call(CallId),
    User(u32),
    Forward(ContextId),
}

/// A registrar and answering user agent. `F` names a flow; it is cloned into what outlives a
/// message.
#[derive(Debug)]
pub struct Server<F> {
    config: ServerConfig,
    registrar: Registrar<F>,
    calls: Calls<F>,
    /// Present where calls are limited.
    admission: Option<Admission>,
    transactions: Transactions<F>,
    /// Requests that were forwarded.
    contexts: Contexts<F>,
    timers: TimerWheel<Timer>,
    counters: ServerCounters,
    keyed: Keyed,
    /// What flow tokens are sealed with.
    seal: u64,
    /// What tells loops from spirals.
    route_key: u64,
    serial: u64,
    scratch: Vec<u8>,
    /// What responses to the present request copy of it; empty until there is one.
    echo: Echo,
    /// Of each interface.
    ready: Vec<Ready>,
}

/// One request on its way through the server.
struct Exchange<'a, F> {
    now: Instant,
    source: Source<'a, F>,
    bytes: &'a [u8],
    request: Message<'a>,
    /// What was taken apart of it.
    essentials: Essentials<'a>,
    method: Method,
    uri: &'a str,
    /// Identifies the transaction (RFC 3261 §17.2.3).
    id: u64,
}

impl<F: Clone> Server<F> {
    /// `entropy` is random and secret; `start` is not after any later `now`.
    #[must_use]
    pub fn new(config: ServerConfig, entropy: [u8; 32], start: Instant) -> Self {
        let nonces = Nonces::new(&entropy, start, config.nonce_life);
        let algorithms = config.algorithms.clone();
        let keyed = Keyed::new(&entropy);
        let worker = config.worker.as_ref();
        let directory = worker.map(|worker| Rc::clone(&worker.directory));
        Self {
            registrar: Registrar::new(nonces, algorithms, config.lifetimes, directory),
            calls: Calls::new(config.calls_max),
            admission: config
                .calls_per_second_limit
                .map(|limit| Admission::new(limit, start)),
            transactions: Transactions::new(config.transactions_max),
            contexts: Contexts::new(config.transactions_max),
            timers: TimerWheel::new(start),
            counters: ServerCounters::default(),
            seal: worker.map_or_else(|| keyed.outside("flow tokens", ()), Worker::seal),
            route_key: keyed.outside("routes", ()),
            keyed,
            serial: 0,
            scratch: Vec::new(),
            echo: Echo::default(),
            ready: config.interfaces.iter().map(|_| Ready::default()).collect(),
            config,
        }
    }

    /// Own address on an interface, once it is known: a server that lets the kernel choose learns it
    /// late.
    pub fn set_address(&mut self, interface: usize, address: SocketAddr) {
        self.config.interfaces[interface].address = address;
    }

    /// What was seen and done so far.
    #[must_use]
    pub fn counters(&self) -> &ServerCounters {
        &self.counters
    }

    /// Who is registered.
    #[must_use]
    pub fn registrar(&self) -> &Registrar<F> {
        &self.registrar
    }

    /// How many forwarded requests are remembered.
    #[must_use]
    pub fn forwards(&self) -> usize {
        self.contexts.len()
    }

    /// How many server transactions there are.
    #[must_use]
    pub fn transactions(&self) -> usize {
        self.transactions.len()
    }

    /// How many calls there are.
    #[must_use]
    pub fn calls(&self) -> usize {
        self.calls.len()
    }

    /// When [`Server::timeout`] wants to be called.
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        self.timers.next_deadline()
    }

    /// Handles one whole message.
    pub fn receive(
        &mut self,
        now: Instant,
        source: Source<'_, F>,
        message: &[u8],
        out: &mut impl Outbound<F>,
    ) {
        if self.is_intrusion(&source) {
            self.counters.ignored += 1;
            return;
        }
        let Ok(request) = Message::parse(message) else {
            self.counters.malformed += 1;
            return;
        };
        let essentials = request.essentials();
        let StartLine::Request { method, uri, .. } = request.start_line() else {
            match (self.config.service, essentials) {
                (Service::Answer | Service::UserAgent, _) => self.counters.ignored += 1,
                (Service::Proxy, Err(_)) => self.counters.malformed += 1,
                (Service::Proxy, Ok(essentials)) => {
                    self.response(now, &source, message, (&request, &essentials), out);
                }
            }
            return;
        };
        let essentials = match essentials {
            Ok(essentials) => essentials,
            Err(error) => {
                self.counters.malformed += 1;
                return self.refuse(&source, &request, error.status(), out);
            }
        };
        self.echo.clear();
        let exchange = Exchange {
            now,
            source,
            bytes: message,
            id: self.transaction_id(&essentials.via, &request, method),
            request,
            essentials,
            method,
            uri,
        };
        if method == Method::Ack {
            self.acknowledged(&exchange, out);
            return;
        }
        if self.repeated(&exchange, out) {
            self.counters.retransmissions_received += 1;
            return;
        }
        self.counters.requests += 1;
        self.note_alias(&exchange, out);
        if self.is_beyond_limit(&exchange) {
            self.overload(&exchange, out);
            return;
        }
        match (self.config.service, method) {
            (_, Method::Cancel) => self.cancel(&exchange, out),
            (Service::Proxy, _) => self.proxy(&exchange, out),
            (Service::Answer | Service::UserAgent, _) => self.serve(&exchange, out),
        }
    }

    /// Handles a request that ends here.
    fn serve(&mut self, exchange: &Exchange<'_, F>, out: &mut impl Outbound<F>) {
        // What is done is looked at before whom it is done to (RFC 3261 §8.2.1).
        if exchange.method != Method::Other && exchange.essentials.uri.is_none() {
            self.reject(exchange, ParseError::Scheme.status(), out, |_| {});
            return;
        }
        if self.lacks_extension(exchange, out) {
            return;
        }
        match exchange.method {
            Method::Register => self.register(exchange, out),
            Method::Invite => self.invite(exchange, out),
            Method::Bye => self.bye(exchange, out),
            Method::Cancel => self.cancel(exchange, out),
            Method::Options => self.capabilities(exchange, out),
            Method::Other => self.reject(exchange, 501, out, allow),
            Method::Ack
            | Method::Prack
            | Method::Subscribe
            | Method::Notify
            | Method::Publish
            | Method::Info
            | Method::Refer
            | Method::Message
            | Method::Update => self.reject(exchange, 405, out, allow),
        }
    }

    /// Refuses a request that requires what this server does not know, and lists that (RFC 3261 §8.2.2.3).
    fn lacks_extension(&mut self, exchange: &Exchange<'_, F>, out: &mut impl Outbound<F>) -> bool {
        if exchange.request.header(Header::Require).is_none() {
            return false;
        }
        let known: &[&str] = match exchange.method {
            Method::Register => &["path", "outbound"],
            _ => &[],
        };
        let is_unknown = |option: &&str| !known.iter().any(|it| it.eq_ignore_ascii_case(option));
        let required = || {
            exchange
                .request
                .elements(Header::Require)
                .filter(is_unknown)
        };
        if required().next().is_none() {
            return false;
        }
        self.reject(exchange, 420, out, |writer| {
            writer.header_with(Header::Unsupported.name(), |line| {
                for (index, option) in required().enumerate() {
                    line.text(if index > 0 { ", " } else { "" });
                    line.text(option);
                }
            });
        });
        true
    }

    /// Whether a request begins one call more than are let in. One that comes again with credentials, as
    /// it was asked to, is no further call.
    fn is_beyond_limit(&mut self, exchange: &Exchange<'_, F>) -> bool {
        let Some(admission) = &mut self.admission else {
            return false;
        };
        let request = &exchange.request;
        let has = |header| request.lines(header).next().is_some();
        let begins_call = exchange.method == Method::Invite
            && exchange.essentials.to.tag().is_none()
            && !has(Header::Authorization)
            && !has(Header::ProxyAuthorization);
        begins_call && !admission.admits(exchange.now)
    }

    fn capabilities(&mut self, exchange: &Exchange<'_, F>, out: &mut impl Outbound<F>) {
        self.respond(exchange, 200, out, |writer| {
            writer.header("Allow", ALLOW);
            writer.header("Accept", sdp::CONTENT_TYPE);
        });
    }

    /// A peer that proved who it is can be reached for its `Via` address over this flow, if it says so
    /// (RFC 5923 §5). Only for its own IP address: the proof is of a name, not of any address.
    fn note_alias(&mut self, exchange: &Exchange<'_, F>, out: &mut impl Outbound<F>) {
        let source = &exchange.source;
        if !self.config.interfaces[source.interface].is_mutual {
            return;
        }
        let via = &exchange.essentials.via;
        let host = via.host.trim_start_matches('[').trim_end_matches(']');
        if let Ok(ip) = host.parse::<IpAddr>()
            && via.params.has("alias")
            && ip.to_canonical() == source.peer.ip().to_canonical()
        {
            let address = SocketAddr::new(ip, via.port.unwrap_or(5061));
            let interface = source.interface;
            out.alias(NextHop { interface, address }, source.flow);
        }
    }

    /// A deadline has come.
    pub fn timeout(&mut self, now: Instant, out: &mut impl Outbound<F>) {
        while let Some(timer) = self.timers.pop_due(now) {
            let next = match timer {
                Timer::Transaction(id) => self.transaction_timeout(id, now, out),
                Timer::Call(call) => self.call_timeout(call, now, out),
                Timer::User(user) => self.registrar.expire(user, now),
                Timer::Forward(id) => {
                    self.forward_timeout(id, now, out);
                    None
                }
            };
            if let Some(at) = next {
                self.timers.insert(at, timer);
            }
        }
    }

    fn transaction_timeout(
        &mut self,
        id: u64,
        now: Instant,
        out: &mut impl Outbound<F>,
    ) -> Option<Instant> {
        loop {
            let entry = self.transactions.find(id)?;
            match entry.machine.on_timeout(&self.config.timing, now) {
                Fired::Nothing => return entry.machine.deadline(),
                Fired::Retransmit => {
                    if let Some(response) = entry.response() {
                        self.counters.retransmissions_sent += 1;
                        out.send(&entry.flow, response);
                    }
                }
                Fired::Terminated | Fired::TimedOut => {
                    self.transactions.remove(id);
                    return None;
                }
            }
        }
    }

    /// Answers a request that came again from its transaction. Returns whether it was one.
    fn repeated(&mut self, exchange: &Exchange<'_, F>, out: &mut impl Outbound<F>) -> bool {
        let Some(entry) = self.transactions.find(exchange.id) else {
            return false;
        };
        match (entry.machine.on_request(), entry.response()) {
            (OnRequest::Retransmit, Some(response)) => {
                out.send(&entry.flow, response);
            }
            (OnRequest::Retransmit | OnRequest::Absorb | OnRequest::Acknowledged, _) => {}
        }
        true
    }

    /// What identifies a server transaction: topmost branch, its sent-by, and the method, with ACK
    /// counting as INVITE (RFC 3261 §17.2.3). Branches without the magic cookie, or with nothing behind
    /// it, are those of RFC 2543; Call-ID, From tag and CSeq stand in for them.
    fn transaction_id(&self, via: &Via<'_>, request: &Message<'_>, method: Method) -> u64 {
        let method = match method {
            Method::Ack => Method::Invite,
            _ => method,
        };
        let branch = via.branch.unwrap_or_default();
        let by_branch = (branch, via.host, via.port, method as u8);
        if branch.starts_with(MAGIC_COOKIE) && branch != MAGIC_COOKIE {
            return self.keyed.inside(by_branch);
        }
        let from_tag = request.from().ok().and_then(|from| from.tag());
        let sequence = request.cseq().ok().map(|(number, _)| number);
        let call_id = request.header(Header::CallId);
        self.keyed.inside((by_branch, call_id, from_tag, sequence))
    }

    /// Not predictable, whatever peers have seen of it before.
    fn random(&mut self) -> u64 {
        self.serial += 1;
        self.keyed.outside("random", self.serial)
    }
}
