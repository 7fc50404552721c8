//! What a proxy sends of its own accord for a request that it forwarded: again, ACK, CANCEL; and when
//! it gives up (RFC 3261 §16.8, §16.10).

use std::time::Instant;

use super::super::{Outbound, Server, Timer};
use super::send;
use crate::sip::emit::Writer;
use crate::sip::header::{Header, Method};
use crate::sip::message::{Message, StartLine};
use crate::sip::proxy::context::{Cancel, ContextId, Due};
use crate::sip::transaction::{ClientTransaction, Kind};

impl<F: Clone> Server<F> {
    /// Acknowledges a refused INVITE to who refused it (RFC 3261 §17.1.1.3).
    pub(super) fn acknowledge_failure(
        &mut self,
        id: ContextId,
        response: &Message<'_>,
        out: &mut impl Outbound<F>,
    ) {
        let to = response.header(Header::To);
        self.send_companion(id, Method::Ack, to, out);
    }

    /// A CANCEL came for a forwarded INVITE.
    pub(in crate::sip::server) fn cancel_forward(
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

    pub(super) fn send_cancel(&mut self, id: ContextId, now: Instant, out: &mut impl Outbound<F>) {
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
    pub(super) fn send_companion(
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

    /// Puts a context's deadline into the wheel, unless an earlier entry is there.
    pub(super) fn schedule(&mut self, id: ContextId) {
        if let Some(context) = self.contexts.find(id)
            && let Some(deadline) = context.deadline()
            && context.scheduled.is_none_or(|at| deadline < at)
        {
            context.scheduled = Some(deadline);
            self.timers.insert(deadline, Timer::Forward(id));
        }
    }

    /// A context's deadline has come.
    pub(in crate::sip::server) fn forward_timeout(
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

    pub(super) fn timed_out(&mut self, id: ContextId, now: Instant, out: &mut impl Outbound<F>) {
        let Some(context) = self.contexts.find(id) else {
            return;
        };
        match (context.method, &context.cancel) {
            (Method::Invite, Cancel::NotAsked) => self.failed(id, 408, None, now, out),
            (Method::Invite, Cancel::Asked | Cancel::Sent { .. }) => {
                self.failed(id, 487, None, now, out);
                self.contexts.remove(id);
            }
            // A late 408 helps nobody but a storm (RFC 4320 §4.2), and who asked has given up as well.
            (_, _) => {
                let transaction = context.upstream.transaction;
                self.transactions.remove(transaction);
                self.contexts.remove(id);
            }
        }
    }
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
