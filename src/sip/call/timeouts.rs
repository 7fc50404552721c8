//! What a caller does as time passes: retransmissions, the end of the talk, patience with a CANCEL.

use std::time::Instant;

use super::dialog::Fork;
use super::{CallEvent, CallFailure, Caller, Cancellation, Phase};
use crate::sip::agent::Agent;
use crate::sip::outbox::Outbox;
use crate::sip::transaction::{ClientTransaction, Fired, earliest};

impl Caller {
    /// A deadline has come. Called again as long as [`Caller::deadline`] is not ahead.
    pub fn timeout(&mut self, agent: &Agent<'_>, now: Instant, outbox: &mut Outbox) -> CallEvent {
        self.forks_timeout(agent, now, outbox);
        if let Some(failure) = self.cancellation_timeout(agent, now, outbox) {
            return CallEvent::Failed(failure);
        }
        match self.phase {
            Phase::Talking { bye_at } if bye_at > now => CallEvent::Nothing,
            Phase::Talking { .. } if self.is_hop_per_transaction => {
                self.phase = Phase::BeforeBye;
                CallEvent::HopNeeded
            }
            Phase::Talking { .. } => {
                self.send_bye(agent, now, outbox);
                CallEvent::ByeSent
            }
            Phase::Idle
            | Phase::Inviting { .. }
            | Phase::BeforeInvite
            | Phase::BeforeBye
            | Phase::Ending
            | Phase::Over { .. } => self.transaction_timeout(agent, now, outbox),
        }
    }

    fn transaction_timeout(
        &mut self,
        agent: &Agent<'_>,
        now: Instant,
        outbox: &mut Outbox,
    ) -> CallEvent {
        let Some(transaction) = &mut self.transaction else {
            return CallEvent::Nothing;
        };
        let is_bye = self.phase == Phase::Ending;
        match transaction.on_timeout(agent.timing, now) {
            Fired::Nothing => CallEvent::Nothing,
            Fired::Terminated => {
                self.transaction = None;
                CallEvent::Nothing
            }
            Fired::Retransmit => {
                if is_bye {
                    self.write_bye(agent, outbox);
                } else {
                    self.write_invite(agent, outbox);
                }
                CallEvent::Nothing
            }
            Fired::TimedOut => {
                self.transaction = None;
                self.phase = Phase::Over { answered: is_bye };
                CallEvent::Failed(if is_bye {
                    CallFailure::ByeTimedOut
                } else {
                    CallFailure::TimedOut
                })
            }
        }
    }

    /// Carries CANCEL on. Says so when its INVITE gets no final response.
    fn cancellation_timeout(
        &mut self,
        agent: &Agent<'_>,
        now: Instant,
        outbox: &mut Outbox,
    ) -> Option<CallFailure> {
        let Some(Cancellation::Sent {
            transaction,
            give_up_at,
        }) = self.cancellation.as_deref_mut()
        else {
            return None;
        };
        let is_given_up = *give_up_at <= now;
        match transaction.on_timeout(agent.timing, now) {
            Fired::Retransmit if !is_given_up => self.write_cancel(agent, outbox),
            Fired::Retransmit | Fired::Nothing | Fired::TimedOut | Fired::Terminated => {}
        }
        is_given_up.then(|| {
            self.cancellation = None;
            self.transaction = None;
            self.phase = Phase::Over { answered: false };
            CallFailure::CancelTimedOut
        })
    }

    fn forks_timeout(&mut self, agent: &Agent<'_>, now: Instant, outbox: &mut Outbox) {
        for place in 0..self.forks.len() {
            let Some(bye) = &mut self.forks[place].bye else {
                continue;
            };
            match bye.on_timeout(agent.timing, now) {
                Fired::Nothing => {}
                Fired::Retransmit => self.write_bye_of_fork(place, agent, outbox),
                Fired::TimedOut | Fired::Terminated => self.forks[place].bye = None,
            }
        }
    }

    /// When [`Caller::timeout`] wants to be called. An INVITE that got a provisional response waits
    /// for ever (RFC 3261 §17.1.1.2): how long callers are patient is their owner's decision.
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        let bye_at = match self.phase {
            Phase::Talking { bye_at } => Some(bye_at),
            Phase::Idle
            | Phase::Inviting { .. }
            | Phase::BeforeInvite
            | Phase::BeforeBye
            | Phase::Ending
            | Phase::Over { .. } => None,
        };
        let cancellation = match self.cancellation.as_deref() {
            None | Some(Cancellation::Wanted) => None,
            Some(Cancellation::Sent {
                transaction,
                give_up_at,
            }) => earliest(transaction.deadline(), Some(*give_up_at)),
        };
        let transaction = self.transaction.as_ref();
        let transaction = transaction.and_then(ClientTransaction::deadline);
        let forks = self.forks.iter().filter_map(Fork::deadline).min();
        [bye_at, transaction, cancellation, forks]
            .into_iter()
            .reduce(earliest)
            .flatten()
    }
}
