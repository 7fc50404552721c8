//! How a server answers: the response, and the transaction that may have to repeat it (RFC 3261 §8.2.6, §17.2).

use std::time::Instant;

use super::transactions::Owner;
use super::{ALLOW, Exchange, Outbound, Server, Service, Source, Timer};
use crate::sip::agent::hex16;
use crate::sip::emit::Writer;
use crate::sip::header::{Header, Method};
use crate::sip::message::Message;
use crate::sip::parse::decimal;
use crate::sip::reply::response_head;
use crate::sip::text::Text;
use crate::sip::transaction::{Kind, Reliability, ServerTransaction};

impl<F: Clone> Server<F> {
    /// Sends a final response without body.
    pub(super) fn respond(
        &mut self,
        exchange: &Exchange<'_, F>,
        status: u16,
        out: &mut impl Outbound<F>,
        fields: impl FnOnce(&mut Writer<'_>),
    ) {
        self.respond_with(exchange, status, out, |_, writer| fields(writer));
    }

    /// Sends a final response whose header fields need the server.
    pub(super) fn respond_with(
        &mut self,
        exchange: &Exchange<'_, F>,
        status: u16,
        out: &mut impl Outbound<F>,
        fields: impl FnOnce(&Self, &mut Writer<'_>),
    ) {
        let has_tag = exchange.essentials.to.tag().is_some();
        let tag = (!has_tag).then(|| self.own_tag(exchange.id));
        let mut scratch = std::mem::take(&mut self.scratch);
        let mut writer = self.begin(exchange, status, tag.as_deref(), &mut scratch);
        fields(self, &mut writer);
        writer.finish();
        out.send(exchange.source.flow, &scratch);
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

    /// Starts a response in `scratch`, which may hold anything. What it copies of the request is put together for the
    /// first of its responses.
    pub(super) fn begin<'b>(
        &mut self,
        exchange: &Exchange<'_, F>,
        status: u16,
        to_tag: Option<&str>,
        scratch: &'b mut Vec<u8>,
    ) -> Writer<'b> {
        if self.echo.is_empty() {
            let essentials = &exchange.essentials;
            self.echo.copy(
                &exchange.request,
                Some(&essentials.via),
                essentials.to.tag().is_some(),
                Some(exchange.source.peer),
            );
        }
        scratch.clear();
        self.echo.begin(scratch, &exchange.request, status, to_tag)
    }

    /// Sends an error response.
    pub(super) fn reject(
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
    pub(super) fn reliability(&self, exchange: &Exchange<'_, F>) -> Reliability {
        self.config.interfaces[exchange.source.interface].reliability
    }

    /// Opens the server transaction of a request unless it is open. `false` when there are too
    /// many; then the request is answered without one.
    pub(super) fn open_transaction(
        &mut self,
        exchange: &Exchange<'_, F>,
        kind: Kind,
        owner: Owner,
    ) -> bool {
        let machine = ServerTransaction::new(kind, self.reliability(exchange), exchange.now);
        let flow = exchange.source.flow;
        self.transactions.open(exchange.id, machine, flow, owner)
    }

    /// The final response of a transaction has been sent.
    pub(super) fn final_sent(&mut self, id: u64, status: u16, now: Instant) {
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

    /// The To tag of this server's own refusal in a transaction.
    pub(super) fn own_tag(&self, transaction: u64) -> Text<16> {
        hex16(self.keyed.outside("tag", transaction))
    }

    /// Whether a request answers such a refusal: only ACK does, and also where no transaction was
    /// left or could be opened (RFC 3261 §8.2.7).
    pub(super) fn has_own_tag(&self, exchange: &Exchange<'_, F>) -> bool {
        let tag = exchange.essentials.to.tag();
        tag.is_some_and(|tag| tag == &*self.own_tag(exchange.id))
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
    pub(super) fn refuse(
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
        let via = request.via();
        let id = via.map_or(0, |via| self.transaction_id(&via, request, method));
        let tag = self.own_tag(id);
        self.scratch.clear();
        let peer = Some(source.peer);
        response_head(&mut self.scratch, request, status, Some(&tag), peer).finish();
        out.send(source.flow, &self.scratch);
    }
}

pub(super) fn allow(writer: &mut Writer<'_>) {
    writer.header("Allow", ALLOW);
}
