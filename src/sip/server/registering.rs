//! What the server does with REGISTER: the [`registrar`](crate::sip::registrar) decides, this answers
//! (RFC 3261 §10.3).

use std::time::{Duration, Instant};

use super::{Exchange, Outbound, Server, Timer};
use crate::measure::heap::{self, Part};
use crate::sip::authenticator::Unauthenticated;
use crate::sip::digest::Challenger;
use crate::sip::emit::Writer;
use crate::sip::header::Header;
use crate::sip::registrar::{Binding, Registered, is_first_hop};

impl<F: Clone> Server<F> {
    pub(super) fn register(&mut self, exchange: &Exchange<'_, F>, out: &mut impl Outbound<F>) {
        let (now, source) = (exchange.now, &exchange.source);
        let (accounts, request) = (&self.config.accounts, &exchange.request);
        let registrar = &mut self.registrar;
        let registered = {
            let _scope = heap::part(Part::Binding);
            let registered =
                registrar.register(accounts, now, request, source.flow, source.interface);
            if let Some((user, at)) = registrar.take_timer() {
                self.timers.insert(at, Timer::User(user));
            }
            registered
        };
        match registered {
            Registered::Accepted { user, outbound } => {
                self.counters.registrations += 1;
                self.accept(exchange, user, outbound, out);
            }
            Registered::Challenge(reason) => {
                self.challenge(exchange, Challenger::Server, reason, out);
            }
            Registered::PathUnsupported => self.reject(exchange, 420, out, |writer| {
                writer.header("Unsupported", "path");
            }),
            Registered::TooBrief { min_seconds } => self.reject(exchange, 423, out, |writer| {
                writer.header_with(Header::MinExpires.name(), |line| {
                    line.decimal(min_seconds.into());
                });
            }),
            Registered::Refused { status } => self.reject(exchange, status, out, |_| {}),
        }
    }

    /// 200 with all bindings of the user (RFC 3261 §10.3, step 8), and the path that the request
    /// took (RFC 3327 §5.3).
    fn accept(
        &mut self,
        exchange: &Exchange<'_, F>,
        user: u32,
        outbound: bool,
        out: &mut impl Outbound<F>,
    ) {
        let (now, request) = (exchange.now, &exchange.request);
        self.respond_with(exchange, 200, out, |server, writer| {
            for binding in server.registrar.bindings(user, now) {
                write_binding(writer, binding, now);
            }
            for path in request.lines(Header::Path) {
                writer.header(Header::Path.name(), path);
            }
            if !outbound {
                return;
            }
            writer.header(Header::Require.name(), "outbound");
            // Only the hop that holds the flow can say how long it lives in silence (RFC 5626 §6).
            let flow_timer = server.config.flow_timer_seconds;
            if let Some(seconds) = flow_timer.filter(|_| is_first_hop(request)) {
                writer.header_with(Header::FlowTimer.name(), |line| {
                    line.decimal(seconds.into())
                });
            }
        });
    }

    /// Asks for credentials: 401 as a server, 407 as a proxy.
    pub(super) fn challenge(
        &mut self,
        exchange: &Exchange<'_, F>,
        challenger: Challenger,
        reason: Unauthenticated,
        out: &mut impl Outbound<F>,
    ) {
        self.counters.challenges += 1;
        match reason {
            Unauthenticated::Absent => {}
            Unauthenticated::Wrong | Unauthenticated::Stale | Unauthenticated::Replayed => {
                self.counters.credentials_refused += 1;
            }
        }
        let nonce = {
            let _scope = heap::part(Part::Binding);
            self.registrar.authenticator_mut().issue_nonce(exchange.now)
        };
        self.respond_with(exchange, challenger.status(), out, |server, writer| {
            let realm = server.config.accounts.realm();
            let authenticator = server.registrar.authenticator();
            let stale = reason.is_stale();
            authenticator.write_challenges(writer, challenger, realm, &nonce, stale);
        });
    }
}

fn write_binding<F>(writer: &mut Writer<'_>, binding: &Binding<F>, now: Instant) {
    writer.header_with(Header::Contact.name(), |line| {
        line.text(binding.address());
        line.text(";expires=");
        // Rounded up: a binding that lives has at least a second left.
        let left = binding.expires_at() - now + Duration::from_nanos(999_999_999);
        line.decimal(left.as_secs());
    });
}
