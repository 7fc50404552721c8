//! What the server does with REGISTER: the [`registrar`](crate::sip::registrar) decides, this answers
//! (RFC 3261 §10.3).

use std::time::Duration;

use super::{Exchange, Outbound, Server, Timer};
use crate::sip::digest::Challenger;
use crate::sip::header::Header;
use crate::sip::registrar::Registered;

impl<F: Clone> Server<F> {
    pub(super) fn register(&mut self, exchange: &Exchange<'_, F>, out: &mut impl Outbound<F>) {
        let (now, flow) = (exchange.now, exchange.source.flow);
        let accounts = &self.config.accounts;
        let registered = self
            .registrar
            .register(accounts, now, &exchange.request, flow);
        if let Some((user, at)) = self.registrar.take_timer() {
            self.timers.insert(at, Timer::User(user));
        }
        match registered {
            Registered::Accepted { user } => {
                self.counters.registrations += 1;
                self.respond_with(exchange, 200, out, |server, writer| {
                    for binding in server.registrar.bindings(user, now) {
                        writer.header_with(Header::Contact.name(), |line| {
                            line.text("<");
                            line.text(&binding.contact);
                            line.text(">;expires=");
                            // Rounded up: a binding that lives has at least a second left.
                            let left = binding.expires_at - now + Duration::from_nanos(999_999_999);
                            line.decimal(left.as_secs());
                            if let Some(instance) = &binding.instance {
                                line.text(";+sip.instance=");
                                line.text(instance);
                            }
                        });
                    }
                });
            }
            Registered::Challenge(reason) => {
                self.counters.challenges += 1;
                let nonce = self.registrar.authenticator_mut().issue_nonce(now);
                self.respond_with(exchange, 401, out, |server, writer| {
                    let realm = server.config.accounts.realm();
                    let (asker, stale) = (Challenger::Server, reason.is_stale());
                    let authenticator = server.registrar.authenticator();
                    authenticator.write_challenges(writer, asker, realm, &nonce, stale);
                });
            }
            Registered::TooBrief { min_seconds } => self.reject(exchange, 423, out, |writer| {
                writer.header_with(Header::MinExpires.name(), |line| {
                    line.decimal(min_seconds.into());
                });
            }),
            Registered::Refused { status } => self.reject(exchange, status, out, |_| {}),
        }
    }
}
