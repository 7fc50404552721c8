//! What makes a server one of several workers of a node: users find one of them by chance, and are
//! to find each other all the same.
//!
//! Workers pass requests to each other like proxies in a row, over an interface of their own, with
//! recorded routes, so that ACK and BYE follow. To the outside they are one hop: a request is
//! challenged, and its `Max-Forwards` counted, by the worker that it entered the node by. That
//! worker looks into the [`Directory`]; the next one does not, so a request for a user
//! crosses between workers once.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::net::SocketAddr;
use std::rc::Rc;

use super::{NextHop, Server, Source};
use crate::sip::directory::Directory;
use crate::sip::header::Header;
use crate::sip::message::Message;
use crate::sip::parse::Uri;
use crate::sip::proxy::rewrite;
use crate::sip::proxy::route::Routing;
use crate::sip::proxy::token::FlowToken;

/// A server's place among the workers of its node.
#[derive(Clone, Debug)]
pub struct Worker {
    /// Its number, from 0.
    pub place: u16,
    /// The interface by which workers reach each other; its [`Interface::is_internal`] is set.
    ///
    /// [`Interface::is_internal`]: super::Interface::is_internal
    pub interface: usize,
    /// Where each worker listens there, by place. Empty until that is known: requests for users of
    /// others are refused so long.
    pub siblings: Vec<SocketAddr>,
    /// Random, and known to the workers of this node only: by it they know each other's flow tokens.
    pub secret: [u8; 32],
    /// Who holds which user.
    pub directory: Rc<dyn Directory>,
}

impl Worker {
    /// What a worker seals its flow tokens with.
    fn seal_of(&self, place: u16) -> u64 {
        let mut hasher = DefaultHasher::new();
        (self.secret, "worker", place).hash(&mut hasher);
        hasher.finish()
    }

    /// What this one seals its flow tokens with.
    pub(super) fn seal(&self) -> u64 {
        self.seal_of(self.place)
    }

    fn hop(&self, place: usize) -> Option<NextHop> {
        let address = *self.siblings.get(place)?;
        Some(NextHop {
            interface: self.interface,
            address,
        })
    }
}

impl<F: Clone> Server<F> {
    /// Where the workers of the node reach each other, by place: known only when all of them listen.
    /// Of no effect on a server that is not one of several.
    pub fn introduce(&mut self, siblings: &[SocketAddr]) {
        if let Some(worker) = &mut self.config.worker {
            worker.siblings = siblings.to_vec();
        }
    }

    /// Whether a message came from outside by the interface that only siblings use.
    pub(super) fn is_intrusion(&self, source: &Source<'_, F>) -> bool {
        self.config.worker.as_ref().is_some_and(|worker| {
            worker.interface == source.interface && !worker.siblings.contains(&source.peer)
        })
    }

    /// Whether only siblings are on that interface.
    pub(super) fn is_internal(&self, interface: usize) -> bool {
        self.config.interfaces[interface].is_internal
    }

    /// Where a request for a user goes on to, if a sibling holds the user. The latest registration
    /// counts: older bindings here are passed over.
    pub(super) fn sibling_with(
        &self,
        user: u32,
        source: &Source<'_, F>,
    ) -> Option<Result<NextHop, u16>> {
        let worker = self.config.worker.as_ref()?;
        if worker.interface == source.interface {
            return None;
        }
        let place = worker.directory.sibling_of(user)?;
        Some(worker.hop(place.into()).ok_or(480))
    }

    /// The sibling that the topmost route was recorded by: it knows the flow that the route names, even
    /// if who sends the request has come to another worker meanwhile.
    pub(super) fn sibling_on_route(&self, routing: &Routing<'_>) -> Option<NextHop> {
        let worker = self.config.worker.as_ref()?;
        let route = Uri::parse(routing.next?).ok()?;
        let sealed = |place: &usize| {
            let place = u16::try_from(*place).expect("a node has few workers");
            place != worker.place && FlowToken::of(worker.seal_of(place), &route).is_some()
        };
        let place = (0..worker.siblings.len()).find(sealed)?;
        worker.hop(place)
    }

    /// `Max-Forwards` of what follows from a request that came by `interface`; `None` when it must
    /// not be forwarded. A sibling has counted it already.
    pub(super) fn hops_left(&self, request: &Message<'_>, interface: usize) -> Option<u32> {
        let received = request.header(Header::MaxForwards);
        let received = received.and_then(|value| value.parse().ok());
        match received {
            Some(_) if self.is_internal(interface) => received,
            Some(_) | None => rewrite::max_forwards(received),
        }
    }
}
