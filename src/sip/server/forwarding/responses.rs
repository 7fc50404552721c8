//! The way back: responses find their request, the best one goes upstream (RFC 3261 §16.7).

use std::time::Instant;

use super::super::{Outbound, Server, Source};
use crate::sip::header::{Header, Method};
use crate::sip::message::{Essentials, Message};
use crate::sip::proxy::branch::ProxyBranch;
use crate::sip::proxy::context::{Cancel, ContextId, TIMER_C, Target};
use crate::sip::proxy::rewrite;
use crate::sip::reply::response_head;
use crate::sip::transaction::{OnResponse, Reliability};

impl<F: Clone> Server<F> {
    /// Handles a response.
    pub(in crate::sip::server) fn response(
        &mut self,
        now: Instant,
        source: &Source<'_, F>,
        bytes: &[u8],
        (message, essentials): (&Message<'_>, &Essentials<'_>),
        out: &mut impl Outbound<F>,
    ) {
        let Some((id, status, method)) = self.context_of(message, essentials, source) else {
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

    /// The context that a response belongs to: by its branch, its method, and the interface that its
    /// request left by.
    fn context_of(
        &mut self,
        message: &Message<'_>,
        essentials: &Essentials<'_>,
        source: &Source<'_, F>,
    ) -> Option<(ContextId, u16, Method)> {
        let status = message.status()?;
        let branch = ProxyBranch::parse(essentials.via.branch?)?;
        let method = essentials.method;
        let id = ContextId {
            slot: branch.slot,
            nonce: branch.nonce,
        };
        let context = self.contexts.find(id)?;
        // A response without the Via of who asked could be brought to nobody, and must not end what it
        // does not answer; CANCEL is this proxy's own (RFC 3261 §16.7 step 3).
        let is_for_another =
            method == Method::Cancel || message.elements(Header::Via).nth(1).is_some();
        let is_expected = is_for_another
            && context.route_hash == branch.route_hash
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
    pub(super) fn failed(
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
        if let (Some(_), Some(others)) = (response, &mut context.others) {
            // Its other flows lead to the same user agent, which has answered.
            let refused = context.binding.map(|binding| binding.agent);
            let agent = |target: &Target<F>| target.binding.map(|binding| binding.agent);
            others.targets.retain(|target| {
                !target.is_other_way && (refused.is_none() || agent(target) != refused)
            });
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
            (Some((status, best)), _) if status != 503 => {
                self.fail_upstream(id, status, &best, now, out);
            }
            (None, Some(response)) if status != 503 => {
                self.fail_upstream(id, status, response, now, out);
            }
            // What one next hop lacks is not what this proxy lacks (RFC 3261 §16.7 step 6).
            (Some(_), _) | (None, Some(_)) => {
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
        let Some(context) = self.contexts.find(id) else {
            return;
        };
        // What it was to bring about has happened.
        context.cancel = Cancel::NotAsked;
        // Only the refusal of an INVITE may come again, and is then acknowledged again.
        let lingers = context.method == Method::Invite && !context.machine.is_waiting();
        if !lingers || context.machine.deadline().is_none() {
            self.contexts.remove(id);
        }
    }

    /// A response of this proxy's own, as if the next hop had given it.
    fn own_response(&mut self, id: ContextId, status: u16) -> Vec<u8> {
        let mut response = Vec::new();
        let transaction = self
            .contexts
            .find(id)
            .map(|context| context.upstream.transaction);
        let tag = self.own_tag(transaction.unwrap_or_default());
        if let Some(context) = self.contexts.find(id)
            && let Ok(request) = Message::parse(&context.sent)
        {
            response_head(&mut response, &request, status, Some(&tag), None).finish();
        }
        response
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
}
