//! Where a request may go: by its routes, by the routes of this proxy, or to who registered here; and
//! where it must not.

use super::super::{Exchange, NextHop, Outbound, Server};
use crate::sip::header::Header;
use crate::sip::message::Message;
use crate::sip::parse::{Contact, Elements, Uri, Via};
use crate::sip::proxy::branch::ProxyBranch;
use crate::sip::proxy::context::{Destination, OfBinding, Target};
use crate::sip::proxy::route::{self, Routing};
use crate::sip::proxy::token::FlowToken;

/// Why a request is not forwarded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    Status(u16),
    /// 480 with a warning of RFC 5630 §5.3.
    Insecure(Warning),
}

/// Warning codes of RFC 5630 §8.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Warning {
    SipsNotAllowed,
    SipsRequired,
}

impl<F: Clone> Server<F> {
    /// Whether a URI is of the domain whose users register here, or of this server itself.
    pub(super) fn is_own_domain(&self, uri: &Uri<'_>) -> bool {
        let accounts = &self.config.accounts;
        (accounts.count() > 0 && uri.host.eq_ignore_ascii_case(accounts.domain()))
            || route::is_own(uri, &self.config.interfaces)
    }

    /// Whether a request has been here before, on the same way (RFC 3261 §16.3 step 4).
    pub(super) fn has_looped(&self, request: &Message<'_>, hash: u32) -> bool {
        request.elements(Header::Via).any(|element| {
            let via = Via::parse(element);
            let branch = via.and_then(|via| ProxyBranch::parse(via.branch?));
            branch.is_some_and(|branch| branch.route_hash == hash)
        })
    }

    /// Where a request may go, the best last.
    pub(super) fn targets(
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
                let (interfaces, routes) = (&self.config.interfaces, &self.config.routes);
                let sibling = self.sibling_on_route(routing);
                let hop = sibling.or_else(|| routing.hop(interfaces, routes));
                Destination::Hop(hop.ok_or(Refusal::Status(404))?)
            }
        };
        self.check_protection(uri, destination.interface())?;
        // A route may ask for protection as well (RFC 3261 §26.2.2).
        if let Some(Ok(next)) = routing.next.map(Uri::parse) {
            self.check_protection(&next, destination.interface())?;
        }
        Ok(vec![Target {
            uri: routing.uri.into(),
            path: None,
            destination,
            binding: None,
            is_other_way: false,
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
        if let Some(sibling) = self.sibling_with(user, &exchange.source) {
            let hop = sibling.map_err(Refusal::Status)?;
            self.check_protection(uri, hop.interface)?;
            return Ok(vec![Target {
                uri: exchange.uri.into(),
                path: None,
                destination: Destination::Hop(hop),
                binding: None,
                is_other_way: false,
            }]);
        }
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
                    is_other_way: false,
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

    pub(super) fn refuse_to_forward(
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
}
