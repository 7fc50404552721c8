//! The server under test as a sans-IO core: a registrar, and an answering user agent or a proxy, behind
//! server transactions.
//!
//! Messages come in with the flow that they arrived on; responses leave through [`Outbound`] on that
//! same flow (RFC 3261 §18.2.2). Over datagrams a transaction keeps its last response for as long as
//! the request may come again; over streams nothing comes again and nothing is kept. Everything
//! that a peer can make grow is bounded, and beyond the bound is 503.

mod admission;
mod calls;
mod config;
mod forwarding;
mod registering;
mod transactions;
mod worker;

use std::hash::{DefaultHasher, Hash, Hasher};
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::time::Instant;

use super::agent::{MAGIC_COOKIE, hex16, mix};
use super::callee::{CallId, Calls};
use super::digest::Nonces;
use super::emit::{Writer, response_head};
use super::header::{Header, Method};
use super::message::{Message, ParseError, StartLine};
use super::parse::{Uri, decimal};
use super::proxy::context::{ContextId, Contexts};
use super::registrar::Registrar;
use super::sdp;
use super::text::Text;
use super::timer::TimerQueue;
use super::transaction::{Fired, Kind, OnRequest, Reliability, ServerTransaction};
use admission::Admission;
pub use config::{DATAGRAM_BYTES_MAX, Interface, Route, ServerConfig, ServerCounters, Service};
use transactions::{Owner, Transactions};
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
    timers: TimerQueue<Timer>,
    counters: ServerCounters,
    /// Secret that hashes of peers' texts and tags start from.
    secret: u64,
    /// What flow tokens are sealed with.
    seal: u64,
    serial: u64,
    scratch: Vec<u8>,
}

/// One request on its way through the server.
struct Exchange<'a, F> {
    now: Instant,
    source: Source<'a, F>,
    bytes: &'a [u8],
    request: Message<'a>,
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
        // The nonces' key must not follow from a tag: hash before use.
        let mut hasher = DefaultHasher::new();
        entropy.hash(&mut hasher);
        let secret = hasher.finish();
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
            timers: TimerQueue::new(),
            counters: ServerCounters::default(),
            secret,
            seal: worker.map_or(secret, Worker::seal),
            serial: 0,
            scratch: Vec::new(),
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
        let checked = request.check();
        let StartLine::Request { method, uri, .. } = request.start_line() else {
            match (self.config.service, checked) {
                (Service::Answer | Service::UserAgent, _) => self.counters.ignored += 1,
                (Service::Proxy, Err(_)) => self.counters.malformed += 1,
                (Service::Proxy, Ok(())) => self.response(now, &source, message, &request, out),
            }
            return;
        };
        let id = self.transaction_id(&request, method);
        let exchange = Exchange {
            now,
            source,
            bytes: message,
            request,
            method,
            uri,
            id,
        };
        if let Err(error) = checked {
            self.counters.malformed += 1;
            self.refuse_malformed(&exchange, &error, out);
            return;
        }
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
        if exchange.method != Method::Other
            && let Err(error) = Uri::parse(exchange.uri)
        {
            self.reject(exchange, error.status(), out, |_| {});
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
            && request.to().is_ok_and(|to| to.tag().is_none())
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
        let Ok(via) = exchange.request.via() else {
            return;
        };
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

    /// Answers what breaks the rules if there is enough of it to address an answer.
    fn refuse_malformed(
        &mut self,
        exchange: &Exchange<'_, F>,
        error: &ParseError,
        out: &mut impl Outbound<F>,
    ) {
        self.refuse(&exchange.source, &exchange.request, error.status(), out);
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

    /// Sends a final response without body.
    fn respond(
        &mut self,
        exchange: &Exchange<'_, F>,
        status: u16,
        out: &mut impl Outbound<F>,
        fields: impl FnOnce(&mut Writer<'_>),
    ) {
        self.respond_with(exchange, status, out, |_, writer| fields(writer));
    }

    /// Sends a final response whose header fields need the server.
    fn respond_with(
        &mut self,
        exchange: &Exchange<'_, F>,
        status: u16,
        out: &mut impl Outbound<F>,
        fields: impl FnOnce(&Self, &mut Writer<'_>),
    ) {
        let tag = self.own_tag(exchange.id);
        let (request, source) = (&exchange.request, &exchange.source);
        let mut scratch = std::mem::take(&mut self.scratch);
        scratch.clear();
        let mut writer =
            response_head(&mut scratch, request, status, Some(&tag), Some(source.peer));
        fields(self, &mut writer);
        writer.finish();
        out.send(source.flow, &scratch);
        let kind = Kind::of(exchange.method);
        // Who is not authenticated leaves nothing behind (RFC 3261 §8.2.7): a repeated request is
        // challenged anew, and its client takes either challenge.
        let is_stateless = kind == Kind::NonInvite && matches!(status, 401 | 407);
        let is_datagram = self.reliability(exchange) == Reliability::Datagram;
        let is_kept = (is_datagram && !is_stateless) || self.awaits_ack(kind, status);
        if is_kept && self.open_transaction(exchange, kind, Owner::None) {
            self.transactions.keep(exchange.id, &scratch);
            self.final_sent(exchange.id, status, exchange.now);
        }
        self.scratch = scratch;
    }

    /// Sends an error response.
    fn reject(
        &mut self,
        exchange: &Exchange<'_, F>,
        status: u16,
        out: &mut impl Outbound<F>,
        fields: impl FnOnce(&mut Writer<'_>),
    ) {
        self.counters.rejected += 1;
        self.respond(exchange, status, out, fields);
    }

    /// Whether who sent the request repeats it.
    fn reliability(&self, exchange: &Exchange<'_, F>) -> Reliability {
        self.config.interfaces[exchange.source.interface].reliability
    }

    /// Opens the server transaction of a request unless it is open. `false` when there are too
    /// many; then the request is answered without one.
    fn open_transaction(&mut self, exchange: &Exchange<'_, F>, kind: Kind, owner: Owner) -> bool {
        let machine = ServerTransaction::new(kind, self.reliability(exchange), exchange.now);
        let flow = exchange.source.flow;
        self.transactions.open(exchange.id, machine, flow, owner)
    }

    /// The final response of a transaction has been sent.
    fn final_sent(&mut self, id: u64, status: u16, now: Instant) {
        let Some(entry) = self.transactions.find(id) else {
            return;
        };
        entry.machine.on_sent(status, &self.config.timing, now);
        let (kind, deadline) = (entry.machine.kind(), entry.machine.deadline());
        let is_datagram = entry.machine.reliability() == Reliability::Datagram;
        match deadline {
            // Over a stream no request comes again, so little has to be remembered.
            Some(at) if is_datagram || self.awaits_ack(kind, status) => {
                self.timers.insert(at, Timer::Transaction(id));
            }
            Some(_) | None => self.transactions.remove(id),
        }
    }

    /// Whether an ACK must be told from those that a proxy sends on: that of a refusal ends here.
    fn awaits_ack(&self, kind: Kind, status: u16) -> bool {
        let is_proxy = match self.config.service {
            Service::Proxy => true,
            Service::Answer | Service::UserAgent => false,
        };
        is_proxy && kind == Kind::Invite && status >= 300
    }

    /// What identifies a server transaction: topmost branch, its sent-by, and the method, with ACK
    /// counting as INVITE (RFC 3261 §17.2.3). Branches without the magic cookie, or with nothing behind
    /// it, are those of RFC 2543; Call-ID, From tag and CSeq stand in for them.
    fn transaction_id(&self, request: &Message<'_>, method: Method) -> u64 {
        let mut hasher = DefaultHasher::new();
        self.secret.hash(&mut hasher);
        let Ok(via) = request.via() else {
            return 0;
        };
        let branch = via.branch.unwrap_or_default();
        branch.hash(&mut hasher);
        via.host.hash(&mut hasher);
        via.port.hash(&mut hasher);
        if !branch.starts_with(MAGIC_COOKIE) || branch == MAGIC_COOKIE {
            request.header(Header::CallId).hash(&mut hasher);
            request
                .from()
                .ok()
                .and_then(|from| from.tag())
                .hash(&mut hasher);
            request
                .cseq()
                .ok()
                .map(|(number, _)| number)
                .hash(&mut hasher);
        }
        match method {
            Method::Ack => Method::Invite.hash(&mut hasher),
            _ => method.hash(&mut hasher),
        }
        hasher.finish()
    }

    /// Not predictable without the secret, which does not follow from it; peers see it.
    fn random(&mut self) -> u64 {
        self.serial += 1;
        let mut hasher = DefaultHasher::new();
        (self.secret, "random", self.serial).hash(&mut hasher);
        hasher.finish()
    }

    /// The To tag of this server's own refusal in a transaction.
    fn own_tag(&self, transaction: u64) -> Text<16> {
        hex16(mix(self.secret ^ transaction))
    }

    /// Whether a request answers such a refusal: only ACK does, and also where no transaction was
    /// left or could be opened (RFC 3261 §8.2.7).
    fn has_own_tag(&self, exchange: &Exchange<'_, F>) -> bool {
        let own = self.own_tag(exchange.id);
        let to = exchange.request.to();
        to.is_ok_and(|to| to.tag() == Some(&own))
    }

    /// Handles the head of a message whose end cannot be found in its stream. A request is refused;
    /// the flow closes then (RFC 3261 §18.3).
    pub fn refuse_unframed(
        &mut self,
        source: Source<'_, F>,
        head: &[u8],
        out: &mut impl Outbound<F>,
    ) {
        self.counters.malformed += 1;
        let Ok(request) = Message::parse(head) else {
            return;
        };
        // A length that is a number is one that is too large.
        let length = request.lines(Header::ContentLength).last();
        let is_number = length.is_some_and(|length| decimal::<u64>(length).is_some());
        let is_repeated = request.lines(Header::ContentLength).nth(1).is_some();
        let status = if is_number && !is_repeated { 513 } else { 400 };
        self.refuse(&source, &request, status, out);
    }

    /// Answers a request that has no transaction, since it is not fit for one: what it lacks, the
    /// answer lacks as well.
    fn refuse(
        &mut self,
        source: &Source<'_, F>,
        request: &Message<'_>,
        status: u16,
        out: &mut impl Outbound<F>,
    ) {
        let method = request.method().filter(|&method| method != Method::Ack);
        let Some(method) = method.filter(|_| request.header(Header::Via).is_some()) else {
            return;
        };
        let tag = self.own_tag(self.transaction_id(request, method));
        self.scratch.clear();
        let peer = Some(source.peer);
        response_head(&mut self.scratch, request, status, Some(&tag), peer).finish();
        out.send(source.flow, &self.scratch);
    }
}

fn allow(writer: &mut Writer<'_>) {
    writer.header("Allow", ALLOW);
}
