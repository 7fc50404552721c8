//! What the server does as a proxy (RFC 3261 §16): it forwards requests with state, answers for
//! those who do not, and brings responses back.

use std::net::SocketAddr;
use std::time::Instant;

use super::transactions::Owner;
use super::{Exchange, Interface, NextHop, Outbound, Server, Service, Source, Timer};
use crate::sip::agent::{hex16, mix};
use crate::sip::digest::Challenger;
use crate::sip::emit::{Value, Writer, response_head};
use crate::sip::header::{Header, Method};
use crate::sip::message::{Message, StartLine};
use crate::sip::parse::{Contact, Elements, Uri, Via};
use crate::sip::proxy::branch::{ProxyBranch, route_hash};
use crate::sip::proxy::context::{
    Cancel, Context, ContextId, Destination, Due, OfBinding, Others, TIMER_C, Target, Upstream,
};
use crate::sip::proxy::rewrite::{self, Forwarded};
use crate::sip::proxy::route::{self, Routing};
use crate::sip::proxy::token::FlowToken;
use crate::sip::transaction::{ClientTransaction, Kind, OnResponse, Reliability};

/// Methods whose requests can create a dialog, which needs a recorded route.
const fn creates_dialog(method: Method) -> bool {
    matches!(
        method,
        Method::Invite | Method::Subscribe | Method::Refer | Method::Notify
    )
}

/// Why a request is not forwarded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Refusal {
    Status(u16),
    /// 480 with a warning of RFC 5630 §5.3.
    Insecure(Warning),
}

/// Warning codes of RFC 5630 §8.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Warning {
    SipsNotAllowed,
    SipsRequired,
}

/// A request on its way out: what of it is ours.
struct Passage<'a, F> {
    uri: &'a str,
    path: Option<&'a str>,
    routes_popped: usize,
    last_route: Option<&'a str>,
    destination: &'a Destination<F>,
    upstream: SocketAddr,
    upstream_interface: usize,
    branch: ProxyBranch,
}

impl<F: Clone> Server<F> {
    /// Handles a request that is for somebody else, or for this server's registrar.
    pub(super) fn proxy(&mut self, exchange: &Exchange<'_, F>, out: &mut impl Outbound<F>) {
        let request = &exchange.request;
        let uri = match Uri::parse(exchange.uri) {
            Ok(uri) => uri,
            Err(error) => return self.reject(exchange, error.status(), out, |_| {}),
        };
        let interfaces = &self.config.interfaces;
        if route::is_sips(&uri) && !interfaces.iter().any(|interface| interface.is_protected) {
            return self.reject(exchange, 416, out, |_| {});
        }
        if let Some(extension) = request.header(Header::ProxyRequire) {
            return self.reject(exchange, 420, out, |writer| {
                writer.header("Unsupported", extension);
            });
        }
        let secret = self.secret;
        let Some(routing) = Routing::of(request, exchange.uri, secret, interfaces) else {
            return self.reject(exchange, 400, out, |_| {});
        };
        // Within a dialog that went through here the Request-URI is the other end's, even if that has
        // the same address as this side, as far ends of different tunnels have.
        let is_routed = routing.next.is_some() || routing.token.is_some();
        let is_own = !is_routed && self.is_own_domain(&uri);
        if is_own && exchange.method == Method::Register {
            return self.register(exchange, out);
        }
        let received = request.header(Header::MaxForwards);
        let received = received.and_then(|value| value.parse().ok());
        let Some(max_forwards) = rewrite::max_forwards(received) else {
            return self.reject(exchange, 483, out, |_| {});
        };
        if is_own && exchange.method == Method::Options && uri.user.is_none() {
            return self.capabilities(exchange, out);
        }
        let hash = route_hash(secret, request, exchange.uri);
        if self.has_looped(request, hash) {
            return self.reject(exchange, 482, out, |_| {});
        }
        if !self.authenticated(exchange, out) {
            return;
        }
        let mut targets = match self.targets(exchange, &uri, &routing, is_own, out) {
            Ok(targets) => targets,
            Err(refusal) => return self.refuse_to_forward(exchange, refusal, out),
        };
        if self.contexts.is_full() || !self.opens_forward(exchange) {
            return self.overload(exchange, out);
        }
        if exchange.method == Method::Invite {
            self.provisional(exchange, 100, None, out);
        }
        let Some(target) = targets.pop() else {
            return self.reject(exchange, 480, out, |_| {});
        };
        self.begin_forward(exchange, &routing, target, targets, max_forwards, hash, out);
    }

    /// Whether a call may go on: challenges who has not proved who it is (RFC 3261 §22.3).
    pub(super) fn authenticated(
        &mut self,
        exchange: &Exchange<'_, F>,
        out: &mut impl Outbound<F>,
    ) -> bool {
        let is_new_call = exchange.method == Method::Invite
            && exchange.request.to().is_ok_and(|to| to.tag().is_none());
        if !is_new_call || !self.config.authenticate_calls {
            return true;
        }
        let challenger = match self.config.service {
            Service::Proxy => Challenger::Proxy,
            Service::Answer | Service::UserAgent => Challenger::Server,
        };
        let (now, accounts) = (exchange.now, &self.config.accounts);
        let authenticator = self.registrar.authenticator_mut();
        let judged = authenticator.authenticate(accounts, now, &exchange.request, challenger);
        let Err(reason) = judged else {
            return true;
        };
        self.challenge(exchange, challenger, reason, out);
        false
    }

    /// Whether a URI is of the domain whose users register here, or of this server itself.
    fn is_own_domain(&self, uri: &Uri<'_>) -> bool {
        let accounts = &self.config.accounts;
        (accounts.count() > 0 && uri.host.eq_ignore_ascii_case(accounts.domain()))
            || route::is_own(uri, &self.config.interfaces)
    }

    /// Whether a request has been here before, on the same way (RFC 3261 §16.3 step 4).
    fn has_looped(&self, request: &Message<'_>, hash: u32) -> bool {
        request.elements(Header::Via).any(|element| {
            let via = Via::parse(element);
            let branch = via.and_then(|via| ProxyBranch::parse(via.branch?));
            branch.is_some_and(|branch| branch.route_hash == hash)
        })
    }

    /// Where a request may go, the best last.
    fn targets(
        &self,
        exchange: &Exchange<'_, F>,
        uri: &Uri<'_>,
        routing: &Routing<'_>,
        is_own: bool,
        out: &impl Outbound<F>,
    ) -> Result<Vec<Target<F>>, Refusal> {
        if is_own {
            return self.bindings_of(exchange, uri, out);
        }
        let source = &exchange.source;
        let peer = routing.token.and_then(|token| {
            let peer = NextHop {
                interface: token.interface,
                address: token.peer?,
            };
            let is_source = (peer.interface, peer.address) == (source.interface, source.peer);
            (!is_source).then_some(peer)
        });
        let destination = match peer {
            Some(peer) => Destination::Peer(peer),
            None => {
                let hop = routing.hop(&self.config.interfaces, &self.config.routes);
                Destination::Hop(hop.ok_or(Refusal::Status(404))?)
            }
        };
        self.check_protection(uri, destination.interface())?;
        Ok(vec![Target {
            uri: routing.uri.into(),
            path: None,
            destination,
            binding: None,
        }])
    }

    /// A `sips:` request never leaves over a hop that is not protected.
    fn check_protection(&self, uri: &Uri<'_>, interface: usize) -> Result<(), Refusal> {
        let is_protected = self.config.interfaces[interface].is_protected;
        if route::is_sips(uri) && !is_protected {
            return Err(Refusal::Insecure(Warning::SipsNotAllowed));
        }
        Ok(())
    }

    /// Where the user that a URI of the own domain names can be reached.
    fn bindings_of(
        &self,
        exchange: &Exchange<'_, F>,
        uri: &Uri<'_>,
        out: &impl Outbound<F>,
    ) -> Result<Vec<Target<F>>, Refusal> {
        let user = uri.user.and_then(|user| self.config.accounts.index(user));
        let user = user.ok_or(Refusal::Status(404))?;
        let mut refusal = Refusal::Status(480);
        let mut targets = Vec::new();
        let bindings = || self.registrar.bindings(user, exchange.now);
        for binding in bindings() {
            let Ok(contact) = Uri::parse(binding.contact()) else {
                continue;
            };
            let destination = match binding.path() {
                None => Destination::Flow {
                    flow: binding.flow().clone(),
                    peer: out.peer_of(binding.flow()),
                    interface: binding.interface(),
                },
                Some(path) => match self.first_of_path(path, binding.interface()) {
                    Some(hop) => Destination::Hop(hop),
                    None => continue,
                },
            };
            let is_protected = self.config.interfaces[destination.interface()].is_protected;
            let uri = match (route::is_sips(uri), route::is_sips(&contact)) {
                (true, false) => Err(Warning::SipsNotAllowed),
                (true, true) if !is_protected => Err(Warning::SipsNotAllowed),
                (false, true) if !is_protected => Err(Warning::SipsRequired),
                // The scheme of the request stays (RFC 5630 §5.3).
                (false, true) => Ok(format!("sip{}", &binding.contact()[contact.scheme.len()..])),
                (true, true) | (false, false) => Ok(binding.contact().to_owned()),
            };
            let agent = bindings().position(|other| other.is_same_instance(binding));
            match uri {
                Ok(uri) => targets.push(Target {
                    uri: uri.into(),
                    path: binding.path().map(Into::into),
                    destination,
                    binding: Some(OfBinding {
                        user,
                        id: binding.id(),
                        agent: agent.unwrap_or(targets.len()),
                    }),
                }),
                Err(warning) => refusal = Refusal::Insecure(warning),
            }
        }
        if targets.is_empty() {
            return Err(refusal);
        }
        targets.reverse();
        Ok(targets)
    }

    /// The hop that a binding's `Path` begins with; it is reached by the way that the REGISTER came.
    fn first_of_path(&self, path: &str, interface: usize) -> Option<NextHop> {
        let first = Elements::new(path).next()?;
        let Contact::Address(address) = Contact::parse(first)? else {
            return None;
        };
        let routing = Routing {
            uri: address.uri,
            routes_popped: 0,
            token: Some(FlowToken {
                interface,
                peer: None,
            }),
            next: None,
            last_route: None,
        };
        routing.hop(&self.config.interfaces, &self.config.routes)
    }

    fn refuse_to_forward(
        &mut self,
        exchange: &Exchange<'_, F>,
        refusal: Refusal,
        out: &mut impl Outbound<F>,
    ) {
        match refusal {
            Refusal::Status(status) => self.reject(exchange, status, out, |_| {}),
            Refusal::Insecure(warning) => {
                let host = self.config.interfaces[exchange.source.interface].address;
                self.reject(exchange, 480, out, |writer| {
                    writer.header_with("Warning", |line| {
                        let (code, text) = match warning {
                            Warning::SipsNotAllowed => (380, "\"SIPS Not Allowed\""),
                            Warning::SipsRequired => (381, "\"SIPS Required\""),
                        };
                        line.decimal(code);
                        line.text(" ");
                        line.address(host);
                        line.text(" ");
                        line.text(text);
                    });
                });
            }
        }
    }

    /// Opens the server transaction of a request that is to be forwarded, if it needs one: over a
    /// stream only INVITE does, for its CANCEL and ACK.
    fn opens_forward(&mut self, exchange: &Exchange<'_, F>) -> bool {
        let kind = Kind::of(exchange.method);
        let is_needed = kind == Kind::Invite || self.reliability(exchange) == Reliability::Datagram;
        !is_needed || self.open_transaction(exchange, kind, Owner::None)
    }

    #[allow(clippy::too_many_arguments)]
    fn begin_forward(
        &mut self,
        exchange: &Exchange<'_, F>,
        routing: &Routing<'_>,
        mut target: Target<F>,
        others: Vec<Target<F>>,
        max_forwards: u32,
        hash: u32,
        out: &mut impl Outbound<F>,
    ) {
        let (source, now) = (&exchange.source, exchange.now);
        let branch = ProxyBranch {
            slot: self.contexts.vacant_slot(),
            nonce: self.random(),
            route_hash: hash,
        };
        let mut sent = self.contexts.buffer();
        loop {
            let passage = Passage {
                uri: &target.uri,
                path: target.path.as_deref(),
                routes_popped: routing.routes_popped,
                last_route: routing.last_route,
                destination: &target.destination,
                upstream: source.peer,
                upstream_interface: source.interface,
                branch,
            };
            let (bytes, request) = (exchange.bytes, &exchange.request);
            self.write_passage(&mut sent, bytes, request, max_forwards, &passage);
            let Some(stream) = self.stream_instead(&target.destination, sent.len()) else {
                break;
            };
            target.destination = Destination::Hop(stream);
            sent.clear();
        }
        let others = (!others.is_empty()).then(|| {
            Box::new(Others {
                request: exchange.bytes.into(),
                routes_popped: routing.routes_popped,
                targets: others,
            })
        });
        let reliability = self.config.interfaces[target.destination.interface()].reliability;
        let (kind, timing) = (Kind::of(exchange.method), &self.config.timing);
        let id = self.contexts.insert(Context {
            nonce: branch.nonce,
            route_hash: hash,
            method: exchange.method,
            upstream: Upstream {
                flow: source.flow.clone(),
                peer: source.peer,
                interface: source.interface,
                transaction: exchange.id,
            },
            machine: ClientTransaction::new(kind, reliability, timing, now),
            destination: target.destination,
            binding: target.binding,
            sent,
            others,
            best: None,
            cancel: Cancel::NotAsked,
            patience_ends_at: None,
            is_answered: false,
            scheduled: None,
        });
        self.transactions.own(exchange.id, Owner::Forward(id));
        self.counters.forwarded += 1;
        self.launch(id, now, out);
    }

    /// The way over a stream for what is too long for a datagram.
    fn stream_instead(&mut self, to: &Destination<F>, bytes: usize) -> Option<NextHop> {
        let Destination::Hop(hop) = to else {
            return None;
        };
        let chosen = self.config.interfaces[hop.interface];
        let is_datagram = chosen.reliability == Reliability::Datagram;
        if !is_datagram || bytes <= self.config.datagram_bytes_max {
            return None;
        }
        let is_like_it = |other: &Interface| {
            other.reliability == Reliability::Stream && other.is_protected == chosen.is_protected
        };
        let interface = self.config.interfaces.iter().position(is_like_it);
        self.counters.oversized += u64::from(interface.is_none());
        Some(NextHop {
            interface: interface?,
            address: hop.address,
        })
    }

    /// Sends what a context has to send for the first time.
    fn launch(&mut self, id: ContextId, now: Instant, out: &mut impl Outbound<F>) {
        if self.transmit(id, out) {
            self.schedule(id);
        } else {
            self.target_lost(id, now, out);
        }
    }

    /// Sends the request of a context. `false` when there is no way to its destination.
    fn transmit(&mut self, id: ContextId, out: &mut impl Outbound<F>) -> bool {
        self.contexts
            .find(id)
            .is_none_or(|context| send(&context.destination, &context.sent, out))
    }

    /// The way to a target does not exist any more.
    fn target_lost(&mut self, id: ContextId, now: Instant, out: &mut impl Outbound<F>) {
        self.counters.unreachable += 1;
        let Some(context) = self.contexts.find(id) else {
            return;
        };
        let status = match (&context.destination, context.binding) {
            (Destination::Flow { .. }, Some(binding)) => {
                // The registrar is here: nobody else need hear of the flow (RFC 5626 §5.3.1).
                self.registrar.flow_failed(binding.user, binding.id);
                480
            }
            (Destination::Flow { .. } | Destination::Peer(_), _) => 430,
            // Of 503, only the word gets upstream (RFC 3261 §16.7 step 6).
            (Destination::Hop(_), _) => 500,
        };
        self.failed(id, status, None, now, out);
    }

    /// A connection to a next hop could not be had: whatever was to go there has failed.
    pub fn unreachable(&mut self, now: Instant, hop: NextHop, out: &mut impl Outbound<F>) {
        for id in self.contexts.waiting_for(hop) {
            self.target_lost(id, now, out);
        }
    }

    /// Writes a request as it leaves.
    fn write_passage(
        &self,
        sent: &mut Vec<u8>,
        bytes: &[u8],
        request: &Message<'_>,
        max_forwards: u32,
        passage: &Passage<'_, F>,
    ) {
        let method = request.method().unwrap_or(Method::Other);
        let change = Forwarded {
            uri: passage.uri,
            source: passage.upstream,
            routes_popped: passage.routes_popped,
            max_forwards,
            last_route: passage.last_route,
        };
        rewrite::forward(sent, bytes, request, &change, |out| {
            let mut writer = Writer::further(out);
            let own = &self.config.interfaces[passage.destination.interface()];
            writer.header_with(Header::Via.name(), |line| {
                line.text("SIP/2.0/");
                line.text(own.transport);
                line.text(" ");
                line.address(own.address);
                line.text(";branch=");
                passage.branch.write(line);
                if own.reliability == Reliability::Datagram {
                    line.text(";rport");
                }
                if own.is_mutual && own.reliability == Reliability::Stream {
                    line.text(";alias");
                }
            });
            if creates_dialog(method) {
                self.write_record_routes(&mut writer, request, passage);
            } else if method == Method::Register && supports(request, "path") {
                self.write_path(&mut writer, request, passage);
            }
            if let Some(path) = passage.path {
                writer.header(Header::Route.name(), path);
            }
        });
    }

    /// `Record-Route`, twice unless both sides are one (RFC 5658): the way out is on top.
    fn write_record_routes(
        &self,
        writer: &mut Writer<'_>,
        request: &Message<'_>,
        passage: &Passage<'_, F>,
    ) {
        let way_out = FlowToken {
            interface: passage.destination.interface(),
            peer: passage.destination.peer(),
        };
        let way_back = self.way_back(request, passage);
        let is_sips = Uri::parse(passage.uri).is_ok_and(|uri| route::is_sips(&uri));
        if way_out != way_back {
            writer.header_with(Header::RecordRoute.name(), |line| {
                self.write_own_uri(line, way_out, way_out.interface, is_sips, ";lr>");
            });
        }
        writer.header_with(Header::RecordRoute.name(), |line| {
            self.write_own_uri(line, way_back, way_back.interface, is_sips, ";lr>");
        });
    }

    /// `Path` (RFC 3327): what comes from the registrar finds its way to who registers.
    fn write_path(&self, writer: &mut Writer<'_>, request: &Message<'_>, passage: &Passage<'_, F>) {
        let way_back = self.way_back(request, passage);
        let facing = passage.destination.interface();
        writer.header_with(Header::Path.name(), |line| {
            // Its first hop keeps the flow of who registers (RFC 5626 §5.1).
            let end = if way_back.peer.is_some() {
                ";lr;ob>"
            } else {
                ";lr>"
            };
            self.write_own_uri(line, way_back, facing, false, end);
        });
    }

    /// The side that a request came by. A user agent, whose request has no other `Via` than its own,
    /// can be reached over its flow only.
    fn way_back(&self, request: &Message<'_>, passage: &Passage<'_, F>) -> FlowToken {
        let is_from_agent = request.elements(Header::Via).nth(1).is_none();
        FlowToken {
            interface: passage.upstream_interface,
            peer: is_from_agent.then_some(passage.upstream),
        }
    }

    fn write_own_uri(
        &self,
        line: &mut Value<'_>,
        token: FlowToken,
        facing: usize,
        is_sips: bool,
        end: &str,
    ) {
        let interface = &self.config.interfaces[facing];
        line.text(if is_sips { "<sips:" } else { "<sip:" });
        token.write(self.secret, line);
        line.text("@");
        line.address(interface.address);
        if interface.transport == "TCP" {
            line.text(";transport=tcp");
        }
        line.text(end);
    }

    /// Forwards the ACK of a 2xx, which belongs to no transaction (RFC 3261 §16.11).
    pub(super) fn forward_ack(&mut self, exchange: &Exchange<'_, F>, out: &mut impl Outbound<F>) {
        let request = &exchange.request;
        let interfaces = &self.config.interfaces;
        let routing = Routing::of(request, exchange.uri, self.secret, interfaces);
        let received = request.header(Header::MaxForwards);
        let received = received.and_then(|value| value.parse().ok());
        let hash = route_hash(self.secret, request, exchange.uri);
        let (Some(routing), Some(max_forwards), Ok(uri)) = (
            routing,
            rewrite::max_forwards(received),
            Uri::parse(exchange.uri),
        ) else {
            self.counters.ignored += 1;
            return;
        };
        let targets = self.targets(exchange, &uri, &routing, false, out);
        let Some(target) = targets.ok().and_then(|mut targets| targets.pop()) else {
            self.counters.ignored += 1;
            return;
        };
        let mut sent = self.contexts.buffer();
        let passage = Passage {
            uri: &target.uri,
            path: None,
            routes_popped: routing.routes_popped,
            last_route: routing.last_route,
            destination: &target.destination,
            upstream: exchange.source.peer,
            upstream_interface: exchange.source.interface,
            // The same for an ACK that comes again, and no context's.
            branch: ProxyBranch {
                slot: u32::MAX,
                nonce: mix(self.secret ^ exchange.id),
                route_hash: hash,
            },
        };
        self.write_passage(&mut sent, exchange.bytes, request, max_forwards, &passage);
        self.counters.forwarded += 1;
        if !send(&target.destination, &sent, out) {
            self.counters.unreachable += 1;
        }
        self.contexts.give_back(sent);
    }

    /// Handles a response.
    pub(super) fn response(
        &mut self,
        now: Instant,
        source: &Source<'_, F>,
        bytes: &[u8],
        message: &Message<'_>,
        out: &mut impl Outbound<F>,
    ) {
        let Some((id, status, method)) = self.context_of(message, source) else {
            // Nobody waits for it, and nobody else may have sent it (RFC 6026 §7.3).
            self.counters.stray_responses += 1;
            return;
        };
        let timing = self.config.timing;
        let reliability = self.config.interfaces[source.interface].reliability;
        let Some(context) = self.contexts.find(id) else {
            return;
        };
        if method == Method::Cancel {
            if let Cancel::Sent { machine, .. } = &mut context.cancel {
                machine.on_response(status, reliability, &timing, now);
            }
            return;
        }
        match context
            .machine
            .on_response(status, reliability, &timing, now)
        {
            OnResponse::Absorb => {}
            OnResponse::Acknowledge => self.acknowledge_failure(id, message, out),
            OnResponse::AcknowledgeAndDeliver => {
                self.acknowledge_failure(id, message, out);
                self.failed(id, status, Some(bytes), now, out);
            }
            OnResponse::Deliver if status < 200 => {
                self.progressed(id, status, bytes, message, now, out);
            }
            OnResponse::Deliver if status < 300 => {
                self.succeeded(id, status, bytes, message, now, out)
            }
            OnResponse::Deliver => self.failed(id, status, Some(bytes), now, out),
        }
        self.schedule(id);
    }

    /// The context that a response belongs to: by its branch, its method, and over a stream by the
    /// flow that its request left by.
    fn context_of(
        &mut self,
        message: &Message<'_>,
        source: &Source<'_, F>,
    ) -> Option<(ContextId, u16, Method)> {
        let status = message.status()?;
        let branch = ProxyBranch::parse(message.via().ok()?.branch?)?;
        let (_, method) = message.cseq().ok()?;
        let id = ContextId {
            slot: branch.slot,
            nonce: branch.nonce,
        };
        let context = self.contexts.find(id)?;
        let is_expected = context.route_hash == branch.route_hash
            && (method == context.method
                || (method == Method::Cancel && context.method == Method::Invite))
            && context.destination.interface() == source.interface;
        is_expected.then_some((id, status, method))
    }

    fn progressed(
        &mut self,
        id: ContextId,
        status: u16,
        bytes: &[u8],
        message: &Message<'_>,
        now: Instant,
        out: &mut impl Outbound<F>,
    ) {
        let Some(context) = self.contexts.find(id) else {
            return;
        };
        if context.method == Method::Invite {
            let asked = matches!(context.cancel, Cancel::Asked);
            if context.patience_ends_at.is_none() || status > 100 {
                context.patience_ends_at = Some(now + TIMER_C);
            }
            if asked {
                self.send_cancel(id, now, out);
            }
        }
        if status > 100 {
            self.answer_upstream(id, status, bytes, message, now, out);
        }
    }

    fn succeeded(
        &mut self,
        id: ContextId,
        status: u16,
        bytes: &[u8],
        message: &Message<'_>,
        now: Instant,
        out: &mut impl Outbound<F>,
    ) {
        self.answer_upstream(id, status, bytes, message, now, out);
        let Some(context) = self.contexts.find(id) else {
            return;
        };
        if context.method != Method::Invite {
            return self.contexts.remove(id);
        }
        context.patience_ends_at = None;
        context.cancel = Cancel::NotAsked;
        context.others = None;
        context.best = None;
        let sent = std::mem::take(&mut context.sent);
        self.contexts.give_back(sent);
    }

    /// A target refused (`response` is what it said) or was not there: the next one is tried, or the
    /// best refusal goes upstream.
    fn failed(
        &mut self,
        id: ContextId,
        status: u16,
        response: Option<&[u8]>,
        now: Instant,
        out: &mut impl Outbound<F>,
    ) {
        let Some(context) = self.contexts.find(id) else {
            return;
        };
        context.patience_ends_at = None;
        let is_better = match &context.best {
            // 6xx before all others, then the lowest class (RFC 3261 §16.7 step 6).
            Some((best, _)) => (status >= 600 && *best < 600) || status / 100 < *best / 100,
            None => true,
        };
        if let (Some(_), Some(refused), Some(others)) =
            (response, context.binding, &mut context.others)
        {
            // Its other flows lead to the same user agent, which has answered.
            let is_other = |target: &Target<F>| {
                target
                    .binding
                    .is_none_or(|other| other.agent != refused.agent)
            };
            others.targets.retain(is_other);
            if others.targets.is_empty() {
                context.others = None;
            }
        }
        let is_last = context.others.is_none()
            || status >= 600
            || !matches!(context.cancel, Cancel::NotAsked);
        if !is_last {
            let response = match response {
                Some(response) => response.into(),
                None => self.own_response(id, status).into(),
            };
            if let Some(context) = self.contexts.find(id)
                && is_better
            {
                context.best = Some((status, response));
            }
            return self.try_next(id, now, out);
        }
        let best = if is_better { None } else { context.best.take() };
        match (best, response) {
            (Some((status, best)), _) => self.fail_upstream(id, status, &best, now, out),
            (None, Some(response)) if status != 503 => {
                self.fail_upstream(id, status, response, now, out);
            }
            (None, Some(_)) => {
                let response = self.own_response(id, 500);
                self.fail_upstream(id, 500, &response, now, out);
            }
            (None, None) => {
                let response = self.own_response(id, status);
                self.fail_upstream(id, status, &response, now, out);
            }
        }
    }

    fn fail_upstream(
        &mut self,
        id: ContextId,
        status: u16,
        response: &[u8],
        now: Instant,
        out: &mut impl Outbound<F>,
    ) {
        if let Ok(message) = Message::parse(response) {
            self.answer_upstream(id, status, response, &message, now, out);
        }
        let is_over = self
            .contexts
            .find(id)
            .is_some_and(|context| context.machine.deadline().is_none());
        let lingers = self.contexts.find(id).is_some_and(|context| {
            context.method == Method::Invite && !context.machine.is_waiting()
        });
        if is_over || !lingers {
            self.contexts.remove(id);
        }
    }

    /// A response of this proxy's own, as if the next hop had given it.
    fn own_response(&mut self, id: ContextId, status: u16) -> Vec<u8> {
        let mut response = Vec::new();
        let secret = self.secret;
        if let Some(context) = self.contexts.find(id)
            && let Ok(request) = Message::parse(&context.sent)
        {
            let tag = hex16(mix(secret ^ context.upstream.transaction));
            response_head(&mut response, &request, status, Some(&tag), None).finish();
        }
        response
    }

    /// Sends a context's request to its next target.
    fn try_next(&mut self, id: ContextId, now: Instant, out: &mut impl Outbound<F>) {
        let nonce = self.random();
        let Some(context) = self.contexts.find(id) else {
            return;
        };
        let Some(mut others) = context.others.take() else {
            return;
        };
        let Some(target) = others.targets.pop() else {
            return;
        };
        let mut sent = std::mem::take(&mut context.sent);
        let branch = ProxyBranch {
            slot: id.slot,
            nonce,
            route_hash: context.route_hash,
        };
        let passage = Passage {
            uri: &target.uri,
            path: target.path.as_deref(),
            routes_popped: others.routes_popped,
            last_route: None,
            destination: &target.destination,
            upstream: context.upstream.peer,
            upstream_interface: context.upstream.interface,
            branch,
        };
        sent.clear();
        if let Ok(request) = Message::parse(&others.request) {
            let received = request.header(Header::MaxForwards);
            let received = received.and_then(|value| value.parse().ok());
            let hops = rewrite::max_forwards(received).unwrap_or_default();
            self.write_passage(&mut sent, &others.request, &request, hops, &passage);
        }
        let reliability = self.config.interfaces[target.destination.interface()].reliability;
        let timing = self.config.timing;
        let Some(context) = self.contexts.find(id) else {
            return;
        };
        context.nonce = nonce;
        context.machine =
            ClientTransaction::new(Kind::of(context.method), reliability, &timing, now);
        context.destination = target.destination;
        context.binding = target.binding;
        context.sent = sent;
        context.scheduled = None;
        context.others = (!others.targets.is_empty()).then_some(others);
        let transaction = context.upstream.transaction;
        let id = ContextId {
            slot: id.slot,
            nonce,
        };
        self.transactions.own(transaction, Owner::Forward(id));
        self.launch(id, now, out);
    }

    /// Brings a response to who asked.
    fn answer_upstream(
        &mut self,
        id: ContextId,
        status: u16,
        bytes: &[u8],
        message: &Message<'_>,
        now: Instant,
        out: &mut impl Outbound<F>,
    ) {
        let mut scratch = std::mem::take(&mut self.scratch);
        scratch.clear();
        if rewrite::backward(&mut scratch, bytes, message)
            && let Some(context) = self.contexts.find(id)
        {
            context.is_answered |= status >= 200;
            let transaction = context.upstream.transaction;
            let upstream = context.upstream.interface;
            out.send(&context.upstream.flow, &scratch);
            if self.config.interfaces[upstream].reliability == Reliability::Datagram {
                self.transactions.keep(transaction, &scratch);
            }
            if status >= 200 {
                self.final_sent(transaction, status, now);
            }
        }
        self.scratch = scratch;
    }

    /// Acknowledges a refused INVITE to who refused it (RFC 3261 §17.1.1.3).
    fn acknowledge_failure(
        &mut self,
        id: ContextId,
        response: &Message<'_>,
        out: &mut impl Outbound<F>,
    ) {
        let to = response.header(Header::To);
        self.send_companion(id, Method::Ack, to, out);
    }

    /// A CANCEL came for a forwarded INVITE.
    pub(super) fn cancel_forward(
        &mut self,
        id: ContextId,
        now: Instant,
        out: &mut impl Outbound<F>,
    ) {
        let Some(context) = self.contexts.find(id) else {
            return;
        };
        if context.is_answered || !matches!(context.cancel, Cancel::NotAsked) {
            return;
        }
        self.counters.calls_cancelled += 1;
        context.others = None;
        context.cancel = Cancel::Asked;
        if context.patience_ends_at.is_some() {
            self.send_cancel(id, now, out);
        }
        self.schedule(id);
    }

    fn send_cancel(&mut self, id: ContextId, now: Instant, out: &mut impl Outbound<F>) {
        let timing = self.config.timing;
        let Some(context) = self.contexts.find(id) else {
            return;
        };
        let reliability = self.config.interfaces[context.destination.interface()].reliability;
        context.cancel = Cancel::Sent {
            machine: ClientTransaction::new(Kind::NonInvite, reliability, &timing, now),
            give_up_at: now + timing.timeout(),
        };
        context.patience_ends_at = None;
        self.send_companion(id, Method::Cancel, None, out);
    }

    /// Sends the request that shares the INVITE's branch: ACK of a refusal, or CANCEL.
    fn send_companion(
        &mut self,
        id: ContextId,
        method: Method,
        to: Option<&str>,
        out: &mut impl Outbound<F>,
    ) {
        let mut scratch = std::mem::take(&mut self.scratch);
        scratch.clear();
        if let Some(context) = self.contexts.find(id)
            && let Ok(invite) = Message::parse(&context.sent)
        {
            write_companion(&mut scratch, &invite, method, to);
            send(&context.destination, &scratch, out);
        }
        self.scratch = scratch;
    }

    /// Puts a context's deadline into the queue, unless an earlier entry is there.
    fn schedule(&mut self, id: ContextId) {
        if let Some(context) = self.contexts.find(id)
            && let Some(deadline) = context.deadline()
            && context.scheduled.is_none_or(|at| deadline < at)
        {
            context.scheduled = Some(deadline);
            self.timers.insert(deadline, Timer::Forward(id));
        }
    }

    /// A context's deadline has come.
    pub(super) fn forward_timeout(
        &mut self,
        id: ContextId,
        now: Instant,
        out: &mut impl Outbound<F>,
    ) {
        let timing = self.config.timing;
        let Some(context) = self.contexts.find(id) else {
            return;
        };
        if context.scheduled.take_if(|at| *at <= now).is_none() {
            // An entry that an earlier one made superfluous.
            return;
        }
        while let Some(context) = self.contexts.find(id) {
            match context.on_timeout(&timing, now) {
                Due::Nothing => break,
                Due::RetransmitRequest => {
                    self.counters.retransmissions_sent += 1;
                    self.transmit(id, out);
                }
                Due::RetransmitCancel => {
                    self.counters.retransmissions_sent += 1;
                    self.send_companion(id, Method::Cancel, None, out);
                }
                Due::LostPatience => self.send_cancel(id, now, out),
                Due::Over => return self.contexts.remove(id),
                Due::TimedOut => return self.timed_out(id, now, out),
            }
        }
        self.schedule(id);
    }

    fn timed_out(&mut self, id: ContextId, now: Instant, out: &mut impl Outbound<F>) {
        let Some(context) = self.contexts.find(id) else {
            return;
        };
        match (context.method, &context.cancel) {
            (Method::Invite, Cancel::NotAsked) => self.failed(id, 408, None, now, out),
            (Method::Invite, Cancel::Asked | Cancel::Sent { .. }) => {
                self.failed(id, 487, None, now, out);
                self.contexts.remove(id);
            }
            // A late 408 helps nobody but a storm (RFC 4320 §4.2).
            (_, _) => self.contexts.remove(id),
        }
    }
}

fn send<F>(destination: &Destination<F>, message: &[u8], out: &mut impl Outbound<F>) -> bool {
    match destination {
        Destination::Flow { flow, .. } => out.send(flow, message),
        Destination::Peer(peer) => out.send_back(*peer, message),
        Destination::Hop(hop) => out.send_to(*hop, message),
    }
}

/// Whether `Supported` lists an option tag.
fn supports(request: &Message<'_>, option: &str) -> bool {
    let mut options = request.elements(Header::Supported);
    options.any(|supported| supported.eq_ignore_ascii_case(option))
}

/// ACK of a refusal or CANCEL of `invite`, as it was sent (RFC 3261 §9.1, §17.1.1.3).
fn write_companion(out: &mut Vec<u8>, invite: &Message<'_>, method: Method, to: Option<&str>) {
    let StartLine::Request { uri, .. } = invite.start_line() else {
        return;
    };
    let mut writer = Writer::request(out, method.token(), uri);
    if let Some(via) = invite.header(Header::Via) {
        writer.header(Header::Via.name(), via);
    }
    writer.header(Header::MaxForwards.name(), "70");
    for route in invite.lines(Header::Route) {
        writer.header(Header::Route.name(), route);
    }
    for header in [Header::From, Header::To, Header::CallId] {
        let value = match header {
            Header::To => to.or(invite.header(header)),
            _ => invite.header(header),
        };
        if let Some(value) = value {
            writer.header(header.name(), value);
        }
    }
    if let Ok((number, _)) = invite.cseq() {
        writer.cseq(number, method.token());
    }
    writer.finish();
}
