//! What the server does as a proxy (RFC 3261 §16): it forwards requests with state, answers for
//! those who do not, and brings responses back.
//!
//! Here is the way out; [`targets`] says where to, [`passage`] what is written on the way,
//! [`responses`] what comes back, and [`timers`] what time demands.

mod passage;
mod responses;
mod targets;
mod timers;

use std::time::Instant;

use super::transactions::Owner;
use super::{Exchange, Interface, NextHop, Outbound, Server, Service};
use crate::sip::digest::Challenger;
use crate::sip::header::{Header, Method};
use crate::sip::message::{Message, ParseError};
use crate::sip::proxy::branch::{ProxyBranch, route_hash};
use crate::sip::proxy::context::{
    Cancel, Context, ContextId, Destination, Others, Target, Upstream,
};
use crate::sip::proxy::route::{self, Routing};
use crate::sip::transaction::{ClientTransaction, Kind, Reliability};
use passage::Passage;

/// A request that may go on.
struct Departure<'a, F> {
    routing: Routing<'a>,
    /// Where to, the best last; at least one.
    targets: Vec<Target<F>>,
    max_forwards: u32,
    route_hash: u32,
}

impl<F: Clone> Server<F> {
    /// Handles a request that is for somebody else, or for this server's registrar.
    pub(super) fn proxy(&mut self, exchange: &Exchange<'_, F>, out: &mut impl Outbound<F>) {
        let request = &exchange.request;
        let Some(uri) = exchange.essentials.uri else {
            return self.reject(exchange, ParseError::Scheme.status(), out, |_| {});
        };
        let interfaces = &self.config.interfaces;
        if route::is_sips(&uri) && !interfaces.iter().any(|interface| interface.is_protected) {
            return self.reject(exchange, 416, out, |_| {});
        }
        if request.elements(Header::ProxyRequire).next().is_some() {
            return self.reject(exchange, 420, out, |writer| {
                // Of as many lines as it has.
                for extension in request.lines(Header::ProxyRequire) {
                    writer.header(Header::Unsupported.name(), extension);
                }
            });
        }
        let Some(routing) = Routing::of(request, exchange.uri, self.seal, interfaces) else {
            return self.reject(exchange, 400, out, |_| {});
        };
        // Within a dialog that went through here the Request-URI is the other end's, even if that has
        // the same address as this side, as far ends of different tunnels have.
        let is_routed = routing.next.is_some() || routing.token.is_some();
        let is_own = !is_routed && self.is_own_domain(&uri);
        if is_own && exchange.method == Method::Register {
            if !self.lacks_extension(exchange, out) {
                self.register(exchange, out);
            }
            return;
        }
        let Some(max_forwards) = self.hops_left(request, exchange.source.interface) else {
            return self.reject(exchange, 483, out, |_| {});
        };
        if is_own && exchange.method == Method::Options && uri.user.is_none() {
            return self.capabilities(exchange, out);
        }
        let hash = route_hash(self.route_key, request, exchange.uri);
        if self.has_looped(request, hash) {
            return self.reject(exchange, 482, out, |_| {});
        }
        // Its route is sealed: it belongs to a dialog whose INVITE was let through. A To tag alone, which
        // anybody can write, is no proof.
        let is_sealed = routing.token.is_some() || self.sibling_on_route(&routing).is_some();
        let is_in_dialog = is_sealed && exchange.essentials.to.tag().is_some();
        if !self.authenticated(exchange, is_in_dialog, out) {
            return;
        }
        let targets = match self.targets(exchange, &uri, &routing, is_own, out) {
            Ok(targets) => targets,
            Err(refusal) => return self.refuse_to_forward(exchange, refusal, out),
        };
        if self.contexts.is_full() || !self.opens_forward(exchange) {
            return self.overload(exchange, out);
        }
        if exchange.method == Method::Invite {
            self.provisional(exchange, 100, None, out);
        }
        let departure = Departure {
            routing,
            targets,
            max_forwards,
            route_hash: hash,
        };
        self.begin_forward(exchange, departure, out);
    }

    /// Whether a call may go on: challenges who has not proved who it is (RFC 3261 §22.3).
    pub(super) fn authenticated(
        &mut self,
        exchange: &Exchange<'_, F>,
        is_in_dialog: bool,
        out: &mut impl Outbound<F>,
    ) -> bool {
        let is_new_call = exchange.method == Method::Invite && !is_in_dialog;
        let was_asked = self.is_internal(exchange.source.interface);
        if !is_new_call || was_asked || !self.config.authenticate_calls {
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

    /// Opens the server transaction of a request that is to be forwarded, if it needs one: over a
    /// stream only INVITE does, for its CANCEL and ACK.
    fn opens_forward(&mut self, exchange: &Exchange<'_, F>) -> bool {
        let kind = Kind::of(exchange.method);
        let is_needed = kind == Kind::Invite || self.reliability(exchange) == Reliability::Datagram;
        !is_needed || self.open_transaction(exchange, kind, Owner::None)
    }

    fn begin_forward(
        &mut self,
        exchange: &Exchange<'_, F>,
        departure: Departure<'_, F>,
        out: &mut impl Outbound<F>,
    ) {
        let Departure {
            routing,
            targets: mut others,
            max_forwards,
            route_hash: hash,
        } = departure;
        let Some(mut target) = others.pop() else {
            return;
        };
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
            if routing.last_route.is_none() {
                // Should nobody listen there, a long datagram is better than nothing.
                others.push(Target {
                    is_other_way: true,
                    ..target.clone()
                });
            }
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
        let is_datagram = chosen.reliability == Reliability::Datagram && !chosen.is_internal;
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

    /// A connection to a next hop could not be had, or has ended: what went there and was not heard of
    /// has failed (RFC 3261 §17.1.4). What rings goes on: its answer may come over another one.
    pub fn unreachable(&mut self, now: Instant, hop: NextHop, out: &mut impl Outbound<F>) {
        for id in self.contexts.waiting_for(hop) {
            self.target_lost(id, now, out);
        }
    }

    /// Forwards the ACK of a 2xx, which belongs to no transaction (RFC 3261 §16.11).
    pub(super) fn forward_ack(&mut self, exchange: &Exchange<'_, F>, out: &mut impl Outbound<F>) {
        let request = &exchange.request;
        let interfaces = &self.config.interfaces;
        let routing = Routing::of(request, exchange.uri, self.seal, interfaces);
        let hash = route_hash(self.route_key, request, exchange.uri);
        let (Some(routing), Some(max_forwards), Some(uri)) = (
            routing,
            self.hops_left(request, exchange.source.interface),
            exchange.essentials.uri,
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
                nonce: self.keyed.outside("ACK", exchange.id),
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
            let hops = self.hops_left(&request, passage.upstream_interface);
            let hops = hops.unwrap_or_default();
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
}

fn send<F>(destination: &Destination<F>, message: &[u8], out: &mut impl Outbound<F>) -> bool {
    match destination {
        Destination::Flow { flow, .. } => out.send(flow, message),
        Destination::Peer(peer) => out.send_back(*peer, message),
        Destination::Hop(hop) => out.send_to(*hop, message),
    }
}
