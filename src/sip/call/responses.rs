//! What a caller makes of responses: to its INVITE, to its BYE, and to the BYEs of forks.

use std::time::{Duration, Instant};

use super::dialog::{Dialog, Fork};
use super::{CallEvent, CallFailure, Caller, Cancellation, Heard, Phase, new_transaction};
use crate::sip::agent::Agent;
use crate::sip::digest::{DigestError, Session};
use crate::sip::header::Method;
use crate::sip::outbox::Outbox;
use crate::sip::response::Response;
use crate::sip::transaction::{Kind, OnResponse};

/// Dialogs beyond the first that are ended; no sane network makes so many.
const FORKS_MAX: usize = 8;

impl Caller {
    pub(super) fn receive_of_invite(
        &mut self,
        agent: &Agent<'_>,
        now: Instant,
        response: &Response<'_>,
        outbox: &mut Outbox,
    ) -> CallEvent {
        let status = response.status();
        if status < 200 {
            return self.receive_provisional(agent, now, status, outbox);
        }
        let heard = match self.phase {
            Phase::Inviting { heard } => heard,
            Phase::Talking { .. }
            | Phase::BeforeBye
            | Phase::Ending
            | Phase::Over { answered: true } => {
                if (200..300).contains(&status) {
                    self.answered_again(agent, now, response, outbox);
                }
                return CallEvent::Nothing;
            }
            Phase::Over { answered: false } => Heard::Progress,
            Phase::Idle | Phase::BeforeInvite => return CallEvent::Nothing,
        };
        let Some(transaction) = &mut self.transaction else {
            return CallEvent::Nothing;
        };
        let reaction = transaction.on_response(status, agent.reliability, agent.timing, now);
        let sequence = self.invite_sequence;
        let tag = || response.to_tag().unwrap_or_default();
        match reaction {
            OnResponse::Absorb => CallEvent::Nothing,
            OnResponse::Acknowledge => {
                self.write_ack_of_failure(agent, sequence, tag(), outbox);
                CallEvent::Nothing
            }
            OnResponse::AcknowledgeAndDeliver => {
                self.write_ack_of_failure(agent, sequence, tag(), outbox);
                self.refused(agent, now, response, outbox)
            }
            OnResponse::Deliver => self.answered(agent, now, response, heard, outbox),
        }
    }

    fn receive_provisional(
        &mut self,
        agent: &Agent<'_>,
        now: Instant,
        status: u16,
        outbox: &mut Outbox,
    ) -> CallEvent {
        let (Phase::Inviting { heard }, Some(transaction)) = (self.phase, &mut self.transaction)
        else {
            return CallEvent::Nothing;
        };
        match transaction.on_response(status, agent.reliability, agent.timing, now) {
            OnResponse::Deliver => {}
            OnResponse::Absorb | OnResponse::Acknowledge | OnResponse::AcknowledgeAndDeliver => {
                return CallEvent::Nothing;
            }
        }
        let hears = if status == 100 {
            Heard::Trying
        } else {
            Heard::Progress
        };
        self.phase = Phase::Inviting {
            heard: hears.max(heard),
        };
        if let Some(Cancellation::Wanted) = self.cancellation.as_deref() {
            self.send_cancel(agent, now, outbox);
        }
        if hears > heard && hears == Heard::Progress {
            CallEvent::Progress { status }
        } else {
            CallEvent::Nothing
        }
    }

    /// A final response that is no success was acknowledged.
    fn refused(
        &mut self,
        agent: &Agent<'_>,
        now: Instant,
        response: &Response<'_>,
        outbox: &mut Outbox,
    ) -> CallEvent {
        let status = response.status();
        let is_cancelled = self.cancellation.take().is_some();
        self.phase = Phase::Over { answered: false };
        let session = || {
            let message = response.whole().ok_or(DigestError::Absent)?;
            Session::open(&message, agent.accounts.realm())
        };
        match status {
            // Nobody wants a cancelled INVITE to be tried again.
            401 | 407 | 487 if is_cancelled => CallEvent::Cancelled,
            401 | 407 if self.session.is_some() => CallEvent::Failed(CallFailure::WrongCredentials),
            401 | 407 => match session() {
                Err(error) => CallEvent::Failed(error.into()),
                Ok(mut session) => {
                    session.advance();
                    self.session = Some(Box::new(session));
                    self.invite_sequence += 1;
                    if self.is_hop_per_transaction {
                        self.transaction = None;
                        self.phase = Phase::BeforeInvite;
                        return CallEvent::HopNeeded;
                    }
                    self.send_invite(agent, now, outbox);
                    CallEvent::Challenged
                }
            },
            300..=399 => CallEvent::Failed(CallFailure::Redirected { status }),
            _ => CallEvent::Failed(CallFailure::Rejected { status }),
        }
    }

    fn answered(
        &mut self,
        agent: &Agent<'_>,
        now: Instant,
        response: &Response<'_>,
        heard: Heard,
        outbox: &mut Outbox,
    ) -> CallEvent {
        // Who repeats the 200 is the callee, not a transaction: Timer M has nothing to absorb here.
        self.transaction = None;
        let is_cancelled = self.cancellation.take().is_some();
        let Some(dialog) = Dialog::of(response) else {
            self.phase = Phase::Over { answered: false };
            return CallEvent::Failed(CallFailure::NoDialog);
        };
        self.dialog = dialog;
        self.write_ack(agent, outbox);
        let talk = if is_cancelled {
            Duration::ZERO
        } else {
            self.talk
        };
        self.phase = Phase::Talking { bye_at: now + talk };
        if talk.is_zero() && !self.is_hop_per_transaction {
            self.send_bye(agent, now, outbox);
        }
        CallEvent::Answered {
            is_first_response: heard < Heard::Progress,
        }
    }

    /// Another 200: of the same callee, whose ACK was lost, or of another one, whose dialog is not
    /// wanted (RFC 3261 §13.2.2.4).
    fn answered_again(
        &mut self,
        agent: &Agent<'_>,
        now: Instant,
        response: &Response<'_>,
        outbox: &mut Outbox,
    ) {
        let tag = response.to_tag();
        if tag == Some(&self.dialog.remote_tag) {
            return self.write_ack(agent, outbox);
        }
        let known = self
            .forks
            .iter()
            .position(|fork| tag == Some(&fork.dialog.remote_tag));
        if let Some(place) = known {
            return self.write_ack_of_fork(place, agent, outbox);
        }
        let Some(dialog) = Dialog::of(response).filter(|_| self.forks.len() < FORKS_MAX) else {
            return;
        };
        let place = self.forks.len();
        let bye = new_transaction(Kind::NonInvite, agent, now);
        self.forks.push(Fork { dialog, bye });
        self.write_ack_of_fork(place, agent, outbox);
        self.write_bye_of_fork(place, agent, outbox);
    }

    pub(super) fn receive_of_bye(
        &mut self,
        agent: &Agent<'_>,
        now: Instant,
        status: u16,
    ) -> CallEvent {
        let Some(transaction) = &mut self.transaction else {
            return CallEvent::Nothing;
        };
        let reaction = transaction.on_response(status, agent.reliability, agent.timing, now);
        if reaction != OnResponse::Deliver || status < 200 {
            return CallEvent::Nothing;
        }
        // Nothing is sent any more, and a repeated 200 needs no absorbing: it finds no call.
        self.transaction = None;
        self.phase = Phase::Over { answered: true };
        if status < 300 {
            CallEvent::Completed
        } else {
            CallEvent::Failed(CallFailure::ByeRejected { status })
        }
    }

    pub(super) fn receive_of_fork(
        &mut self,
        agent: &Agent<'_>,
        now: Instant,
        status: u16,
        branch: &str,
    ) {
        let place =
            (0..self.forks.len()).find(|&at| self.branch_of_fork(Method::Bye, at).is(branch));
        let Some(fork) = place.map(|place| &mut self.forks[place]) else {
            return;
        };
        if let Some(bye) = &mut fork.bye {
            bye.on_response(status, agent.reliability, agent.timing, now);
        }
        if status >= 200 {
            fork.bye = None;
        }
    }
}
