//! What the server does with calls: INVITE, ACK, CANCEL, BYE and the timers of the answering user
//! agent (RFC 3261 §9.2, §13.3, §15.1.2).

use std::net::IpAddr;
use std::time::Instant;

use super::transactions::Owner;
use super::{Exchange, Interface, Outbound, Server, Service, Timer};
use crate::sip::account::ANSWERING_USER;
use crate::sip::callee::{CallId, CallState, NewCall};
use crate::sip::header::{Header, Method};
use crate::sip::message::{Essentials, Message};
use crate::sip::parse::Uri;
use crate::sip::reply::response_head;
use crate::sip::sdp;
use crate::sip::transaction::{Kind, Reliability};

/// Longest INVITE that is served, since a call keeps it, or the 200 made of it, until ACK.
const INVITE_BYTES_MAX: usize = 8_192;

impl<F: Clone> Server<F> {
    pub(super) fn invite(&mut self, exchange: &Exchange<'_, F>, out: &mut impl Outbound<F>) {
        let essentials = &exchange.essentials;
        if essentials.to.tag().is_some() {
            // A session here cannot be changed: a re-INVITE is refused and the call goes on.
            let known = self.call_of(essentials).is_some();
            self.reject(exchange, if known { 488 } else { 481 }, out, |_| {});
            return;
        }
        if !self.is_answered_here(essentials.uri.as_ref()) {
            self.reject(exchange, 404, out, |_| {});
            return;
        }
        if !self.authenticated(exchange, false, out) {
            return;
        }
        if self.config.answer_status >= 300 {
            self.reject(exchange, self.config.answer_status, out, |_| {});
            return;
        }
        if exchange.bytes.len() > INVITE_BYTES_MAX {
            self.reject(exchange, 513, out, |_| {});
            return;
        }
        if !has_usual_body(&exchange.request) {
            self.reject(exchange, 415, out, |writer| {
                writer.header("Accept", sdp::CONTENT_TYPE);
            });
            return;
        }
        if !accepts_session_descriptions(&exchange.request) {
            self.reject(exchange, 406, out, |_| {});
            return;
        }
        let random = self.random() as u32;
        let Some(call) = self.calls.reserve(random) else {
            self.overload(exchange, out);
            return;
        };
        // Over a stream the INVITE cannot come again; only a CANCEL could ask for it.
        let ringing = !self.config.ring.is_zero();
        let keep = ringing || self.reliability(exchange) == Reliability::Datagram;
        if keep && !self.open_transaction(exchange, Kind::Invite, Owner::Call(call)) {
            self.overload(exchange, out);
            return;
        }
        let dialog = self.dialog_id(essentials);
        let answer_at = exchange.now + self.config.ring;
        let kept = self.calls.insert(
            call,
            NewCall {
                dialog,
                cseq: essentials.sequence,
                answer_at,
                transaction: exchange.id,
                flow: exchange.source.flow.clone(),
                peer: exchange.source.peer,
                interface: exchange.source.interface,
                local: self.config.interfaces[exchange.source.interface].address,
            },
        );
        if ringing {
            // The answer is made of the INVITE when its time has come.
            kept.message.extend_from_slice(exchange.bytes);
        }
        self.provisional(exchange, 100, None, out);
        self.provisional(exchange, 180, Some(call), out);
        let deadline = if ringing {
            Some(answer_at)
        } else {
            self.answer_at_once(call, exchange, out)
        };
        if let Some(at) = deadline {
            self.timers.insert(at, Timer::Call(call));
        }
    }

    /// Refuses for lack of room (RFC 3261 §21.5.4).
    pub(super) fn overload(&mut self, exchange: &Exchange<'_, F>, out: &mut impl Outbound<F>) {
        self.counters.overloads += 1;
        self.reject(exchange, 503, out, |writer| {
            writer.header(Header::RetryAfter.name(), "5");
        });
    }

    pub(super) fn provisional(
        &mut self,
        exchange: &Exchange<'_, F>,
        status: u16,
        call: Option<CallId>,
        out: &mut impl Outbound<F>,
    ) {
        let tag = call.map(CallId::tag);
        let source = &exchange.source;
        let mut scratch = std::mem::take(&mut self.scratch);
        let mut writer = self.begin(exchange, status, tag.as_deref(), &mut scratch);
        if call.is_some() {
            let place = source.interface;
            let ready = self.ready[place].of(&self.config.interfaces[place]);
            writer.lines().written(ready.ringing());
        } else {
            // So that the client can measure the round trip (RFC 3261 §8.2.6.1).
            if let Some(time) = exchange.request.header(Header::Timestamp) {
                writer.header(Header::Timestamp.name(), time);
            }
            writer.finish();
        }
        out.send(source.flow, &scratch);
        self.transactions.keep(exchange.id, &scratch);
        self.scratch = scratch;
    }

    /// Answers a call whose INVITE has just come. Returns its next deadline.
    fn answer_at_once(
        &mut self,
        id: CallId,
        exchange: &Exchange<'_, F>,
        out: &mut impl Outbound<F>,
    ) -> Option<Instant> {
        let mut message = std::mem::take(&mut self.calls.find(id)?.message);
        self.begin(exchange, 200, Some(&id.tag()), &mut message);
        self.answer(id, message, exchange.now, out)
    }

    /// Answers a call with the 200 that `message` begins. Returns its next deadline.
    fn answer(
        &mut self,
        id: CallId,
        message: Vec<u8>,
        now: Instant,
        out: &mut impl Outbound<F>,
    ) -> Option<Instant> {
        let call = self.calls.find(id)?;
        let interface = Interface {
            address: call.local,
            ..self.config.interfaces[call.interface]
        };
        call.message = message;
        let ready = self.ready[call.interface].of(&interface);
        call.message.extend_from_slice(ready.answer());
        call.answered(&self.config.timing, now);
        out.send(&call.flow, &call.message);
        self.counters.calls_answered += 1;
        let (transaction, deadline) = (call.transaction, call.deadline());
        self.final_sent(transaction, 200, now);
        Some(deadline)
    }

    /// Answers a call that has rung long enough.
    fn answer_ringing(
        &mut self,
        id: CallId,
        now: Instant,
        out: &mut impl Outbound<F>,
    ) -> Option<Instant> {
        let call = self.calls.find(id)?;
        let peer = call.peer;
        // The INVITE's buffer becomes the scratch, and the scratch holds the 200 from now on.
        let bytes = std::mem::take(&mut call.message);
        let mut message = std::mem::take(&mut self.scratch);
        message.clear();
        let invite = Message::parse(&bytes).ok()?;
        response_head(&mut message, &invite, 200, Some(&id.tag()), Some(peer));
        self.scratch = bytes;
        self.answer(id, message, now, out)
    }

    pub(super) fn acknowledged(&mut self, exchange: &Exchange<'_, F>, out: &mut impl Outbound<F>) {
        let timing = &self.config.timing;
        if let Some(entry) = self.transactions.find(exchange.id)
            && !entry.machine.is_accepted()
        {
            // That of a refusal, for the first time or again, or of nothing.
            let _ = entry.machine.on_ack(timing, exchange.now);
            if entry.machine.is_terminated() {
                // Over a stream nothing comes again that would have to be absorbed.
                self.transactions.remove(exchange.id);
            }
            return;
        }
        match self.config.service {
            Service::Proxy if self.has_own_tag(exchange) => return,
            Service::Proxy => return self.forward_ack(exchange, out),
            Service::Answer | Service::UserAgent => {}
        }
        let forget_at = exchange.now + self.config.call_life;
        let Some(id) = self.call_of(&exchange.essentials) else {
            self.counters.ignored += 1;
            return;
        };
        let answered = self.calls.find(id).is_some_and(|call| match call.state {
            CallState::Answered { .. } => true,
            CallState::Ringing { .. } | CallState::Confirmed { .. } => false,
        });
        if answered {
            self.calls.confirm(id, forget_at);
        }
    }

    pub(super) fn bye(&mut self, exchange: &Exchange<'_, F>, out: &mut impl Outbound<F>) {
        let Some(id) = self.call_of(&exchange.essentials) else {
            self.reject(exchange, 481, out, |_| {});
            return;
        };
        let cseq = exchange.essentials.sequence;
        let call = self.calls.find(id);
        if !call.is_some_and(|call| call.is_in_order(cseq)) {
            self.reject(exchange, 500, out, |_| {});
            return;
        }
        self.terminate_ringing(id, exchange.now, out);
        self.calls.remove(id);
        self.counters.calls_completed += 1;
        self.respond(exchange, 200, out, |_| {});
    }

    pub(super) fn cancel(&mut self, exchange: &Exchange<'_, F>, out: &mut impl Outbound<F>) {
        let via = &exchange.essentials.via;
        let invite = self.transaction_id(via, &exchange.request, Method::Invite);
        let Some(entry) = self.transactions.find(invite) else {
            self.reject(exchange, 481, out, |_| {});
            return;
        };
        let owner = entry.owner;
        self.respond(exchange, 200, out, |_| {});
        // An INVITE that has its final response already is not affected (RFC 3261 §9.2).
        match owner {
            Owner::Call(id) if self.terminate_ringing(id, exchange.now, out) => {
                self.calls.remove(id);
                self.counters.calls_cancelled += 1;
            }
            Owner::Forward(id) => self.cancel_forward(id, exchange.now, out),
            Owner::Call(_) | Owner::None => {}
        }
    }

    /// Answers the INVITE of a call with 487 if it still rings.
    fn terminate_ringing(&mut self, id: CallId, now: Instant, out: &mut impl Outbound<F>) -> bool {
        let Some(call) = self.calls.find(id) else {
            return false;
        };
        match call.state {
            CallState::Ringing { .. } => {}
            CallState::Answered { .. } | CallState::Confirmed { .. } => return false,
        }
        let mut scratch = std::mem::take(&mut self.scratch);
        scratch.clear();
        if let Ok(invite) = Message::parse(&call.message) {
            let (tag, peer) = (id.tag(), Some(call.peer));
            response_head(&mut scratch, &invite, 487, Some(&tag), peer).finish();
        }
        out.send(&call.flow, &scratch);
        let transaction = call.transaction;
        self.transactions.keep(transaction, &scratch);
        self.final_sent(transaction, 487, now);
        self.scratch = scratch;
        true
    }

    /// A call's deadline has come. Returns the next one.
    pub(super) fn call_timeout(
        &mut self,
        id: CallId,
        now: Instant,
        out: &mut impl Outbound<F>,
    ) -> Option<Instant> {
        let call = self.calls.find(id)?;
        if call.deadline() > now {
            // Looked at again well before it would be forgotten, so that the entry of a call that
            // ends does not stay in the wheel for the rest of the call's longest life.
            return Some(call.deadline().min(now + self.config.timing.timeout()));
        }
        match call.state {
            CallState::Ringing { .. } => self.answer_ringing(id, now, out),
            CallState::Answered { give_up_at, .. } if give_up_at > now => {
                while call.repeat(&self.config.timing, now) {
                    self.counters.retransmissions_sent += 1;
                    out.send(&call.flow, &call.message);
                }
                Some(call.deadline())
            }
            CallState::Answered { .. } | CallState::Confirmed { .. } => {
                self.calls.remove(id);
                self.counters.calls_abandoned += 1;
                None
            }
        }
    }

    /// The call that a request within a dialog belongs to.
    fn call_of(&mut self, essentials: &Essentials<'_>) -> Option<CallId> {
        let id = CallId::from_tag(essentials.to.tag()?)?;
        let dialog = self.dialog_id(essentials);
        self.calls.find_dialog(id, dialog).map(|_| id)
    }

    /// Keyed hash of Call-ID and the caller's tag.
    fn dialog_id(&self, essentials: &Essentials<'_>) -> u64 {
        self.keyed
            .inside((essentials.call_id, essentials.from.tag()))
    }

    /// Whether a Request-URI names somebody whose calls are answered here: anybody at an own address,
    /// users that exist at the domain.
    fn is_answered_here(&self, uri: Option<&Uri<'_>>) -> bool {
        let Some(uri) = uri else {
            return false;
        };
        match self.config.service {
            Service::UserAgent => return true,
            Service::Answer | Service::Proxy => {}
        }
        let accounts = &self.config.accounts;
        if uri.host.eq_ignore_ascii_case(accounts.domain()) {
            let is_user = |user| user == ANSWERING_USER || accounts.index(user).is_some();
            uri.user.is_some_and(is_user) || self.is_own_address(uri.host)
        } else {
            self.is_own_address(uri.host)
        }
    }

    /// Whether `host` is an address of this server.
    pub(super) fn is_own_address(&self, host: &str) -> bool {
        let host = host.trim_start_matches('[').trim_end_matches(']');
        host.parse::<IpAddr>().is_ok_and(|host| {
            // Behind a wildcard every address that brought the request here is our own.
            self.config.interfaces.iter().any(|interface| {
                let own = interface.address.ip().to_canonical();
                own.is_unspecified() || host.to_canonical() == own
            })
        })
    }
}

/// Whether a request has no body, or one that is carried here (RFC 3261 §8.2.3).
fn has_usual_body(request: &Message<'_>) -> bool {
    let media_type = request.header(Header::ContentType).unwrap_or_default();
    let (media_type, _) = media_type.split_once(';').unwrap_or((media_type, ""));
    request.body().is_empty() || media_type.trim().eq_ignore_ascii_case(sdp::CONTENT_TYPE)
}

/// Whether the answer may hold the only body that there is. Without `Accept` it may (RFC 3261 §20.1).
fn accepts_session_descriptions(request: &Message<'_>) -> bool {
    let is_accepted = |range: &str| {
        let (range, _) = range.split_once(';').unwrap_or((range, ""));
        let known = ["*/*", "application/*", sdp::CONTENT_TYPE];
        known
            .iter()
            .any(|known| range.trim().eq_ignore_ascii_case(known))
    };
    let is_absent = request.header(Header::Accept).is_none();
    is_absent || request.elements(Header::Accept).any(is_accepted)
}
