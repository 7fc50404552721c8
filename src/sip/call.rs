//! The caller's side of a call (RFC 3261 §13.2, §15):
//!
//! ```text
//! 1  INVITE, offer  →
//! 2                 ←  100, 180
//! 3                 ←  200, answer
//! 4  ACK            →
//!    … talk …
//! 5  BYE            →
//! 6                 ←  200
//! ```
//! A 401 or 407 to the INVITE is acknowledged and answered once, with credentials in a new INVITE; a
//! call that is given up while it rings ends with CANCEL and 487. ACK and BYE follow the dialog that
//! the 200 made: its tag, its `Contact`, its `Record-Route`. Further dialogs that a forking proxy let
//! through are acknowledged and ended. The called side is part of the [`server`](super::server).

mod dialog;
mod responses;
mod timeouts;
mod write;

use std::time::{Duration, Instant};

use super::agent::Agent;
use super::digest::{DigestError, Session};
use super::header::Method;
use super::outbox::Outbox;
use super::response::Response;
use super::text::Text;
use super::transaction::{ClientTransaction, Kind};
use dialog::{Dialog, Fork};

/// Port that offers name for audio. No media flows.
const MEDIA_PORT: u16 = 4000;

/// What became of a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CallEvent {
    /// Nothing that its owner has to know.
    Nothing,
    /// The first response other than 100 arrived, a provisional one.
    Progress {
        /// Its status.
        status: u16,
    },
    /// The INVITE was challenged; the ACK and an INVITE with credentials are in the outbox.
    Challenged,
    /// The call was answered and the ACK is in the outbox; the BYE as well if there is no talk.
    Answered {
        /// Whether no [`CallEvent::Progress`] came before, so that this is the first response.
        is_first_response: bool,
    },
    /// Only of a call whose every transaction has a hop of its own: what is in the outbox belongs on
    /// the present one. [`Caller::proceed`] wants the next, for the INVITE with credentials or the
    /// BYE.
    HopNeeded,
    /// The talk is over, the BYE is in the outbox.
    ByeSent,
    /// The BYE was answered: the call is over.
    Completed,
    /// It was given up before it was answered, and the callee has agreed.
    Cancelled,
    /// It failed. As long as there is a deadline, repeated responses are still taken care of.
    Failed(CallFailure),
}

/// Why a call failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CallFailure {
    /// A final response other than success, challenge or redirection.
    #[error("expected 200 to INVITE, found {status}")]
    Rejected {
        /// Its status.
        status: u16,
    },
    /// The callee is elsewhere (RFC 3261 §21.3). Nobody here goes after it.
    #[error("expected 200 to INVITE, found the redirection {status}")]
    Redirected {
        /// Its status.
        status: u16,
    },
    /// The credentials that answered a challenge were refused.
    #[error("expected 200 to the credentials, found another challenge: the password is wrong")]
    WrongCredentials,
    /// The challenge cannot be answered.
    #[error("cannot answer the challenge: {0}")]
    Challenge(#[from] DigestError),
    /// Timer B.
    #[error("expected a response to INVITE, found none in time")]
    TimedOut,
    /// No final response came within 64·T1 of the CANCEL (RFC 3261 §9.1).
    #[error("expected 487 after CANCEL, found no final response in time")]
    CancelTimedOut,
    /// The 200 has no tag or no contact: no dialog can be made of it.
    #[error("expected a 200 with a tag and a Contact, found one without")]
    NoDialog,
    /// The BYE was not answered with success. Of 408 and 481 the dialog has ended all the same (RFC
    /// 3261 §15.1.1); of others nothing more is tried.
    #[error("expected 200 to BYE, found {status}")]
    ByeRejected {
        /// Its status.
        status: u16,
    },
    /// Timer F of the BYE.
    #[error("expected a response to BYE, found none in time")]
    ByeTimedOut,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Idle,
    /// INVITE is under way.
    Inviting {
        heard: Heard,
    },
    /// A hop is needed for the INVITE with credentials.
    BeforeInvite,
    /// Answered; BYE is due at this time.
    Talking {
        bye_at: Instant,
    },
    /// A hop is needed for the BYE.
    BeforeBye,
    /// BYE is under way.
    Ending,
    /// Over; repeated responses to INVITE are still acknowledged.
    Over {
        answered: bool,
    },
}

/// What has come back of an INVITE under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Heard {
    Nothing,
    /// 100.
    Trying,
    /// Another provisional response.
    Progress,
}

/// A call that its owner has given up.
#[derive(Clone, Copy, Debug)]
enum Cancellation {
    /// CANCEL waits for a provisional response, without which it could overtake its INVITE.
    Wanted,
    /// It was sent.
    Sent {
        transaction: ClientTransaction,
        /// When the INVITE's final response is not waited for any longer.
        give_up_at: Instant,
    },
}

/// The caller's side of one call.
#[derive(Clone, Debug)]
pub struct Caller {
    key: u32,
    talk: Duration,
    /// URI that is called, `None` for whom the accounts say.
    callee: Option<Text<32>>,
    is_hop_per_transaction: bool,
    /// Seed of Call-ID, tag and branches.
    identity: u64,
    /// CSeq of the latest INVITE; the BYE's is the next.
    invite_sequence: u32,
    phase: Phase,
    transaction: Option<ClientTransaction>,
    cancellation: Option<Box<Cancellation>>,
    /// There once a challenge was answered.
    session: Option<Box<Session>>,
    dialog: Dialog,
    forks: Vec<Fork>,
}

impl Caller {
    /// Responses find their way back by `key`; see [`key_of_branch`](super::key_of_branch). The
    /// BYE follows `talk` after the answer.
    #[must_use]
    pub fn new(key: u32, talk: Duration) -> Self {
        Self {
            key,
            talk,
            callee: None,
            is_hop_per_transaction: false,
            identity: 0,
            invite_sequence: 1,
            phase: Phase::Idle,
            transaction: None,
            cancellation: None,
            session: None,
            dialog: Dialog::default(),
            forks: Vec::new(),
        }
    }

    /// Calls that URI instead of whom the accounts say.
    #[must_use]
    pub fn to(mut self, uri: Text<32>) -> Self {
        self.callee = Some(uri);
        self
    }

    /// Gives each transaction a hop of its own; see [`CallEvent::HopNeeded`].
    #[must_use]
    pub fn with_hop_per_transaction(mut self) -> Self {
        self.is_hop_per_transaction = true;
        self
    }

    /// Calls.
    pub fn start(&mut self, agent: &Agent<'_>, now: Instant, outbox: &mut Outbox) {
        self.identity = agent.identity(self.key, now);
        self.send_invite(agent, now, outbox);
    }

    /// Carries on over the hop that [`CallEvent::HopNeeded`] asked for, which is `agent`'s now.
    pub fn proceed(&mut self, agent: &Agent<'_>, now: Instant, outbox: &mut Outbox) {
        match self.phase {
            Phase::BeforeInvite => self.send_invite(agent, now, outbox),
            Phase::BeforeBye => self.send_bye(agent, now, outbox),
            Phase::Idle
            | Phase::Inviting { .. }
            | Phase::Talking { .. }
            | Phase::Ending
            | Phase::Over { .. } => {}
        }
    }

    /// Gives the call up. CANCEL leaves as soon as a provisional response allows it (RFC 3261 §9.1);
    /// should an answer cross it, BYE follows the ACK at once. Without effect once the call was
    /// answered or is over.
    pub fn cancel(&mut self, agent: &Agent<'_>, now: Instant, outbox: &mut Outbox) {
        let heard = match self.phase {
            Phase::Inviting { heard } => heard,
            Phase::BeforeInvite => Heard::Nothing,
            Phase::Idle
            | Phase::Talking { .. }
            | Phase::BeforeBye
            | Phase::Ending
            | Phase::Over { .. } => return,
        };
        if self.cancellation.is_none() {
            self.cancellation = Some(Box::new(Cancellation::Wanted));
            if heard > Heard::Nothing {
                self.send_cancel(agent, now, outbox);
            }
        }
    }

    /// A response arrived whose branch has this call's key.
    pub fn receive(
        &mut self,
        agent: &Agent<'_>,
        now: Instant,
        response: &Response<'_>,
        outbox: &mut Outbox,
    ) -> CallEvent {
        let (status, branch) = (response.status(), response.branch());
        let sequence = response.sequence();
        match response.method() {
            Method::Invite if self.branch(Method::Invite, sequence).is(branch) => {
                if sequence == self.invite_sequence {
                    return self.receive_of_invite(agent, now, response, outbox);
                }
                // The challenge again: its ACK was lost.
                if status >= 300 && sequence < self.invite_sequence {
                    let tag = response.to_tag();
                    self.write_ack_of_failure(agent, sequence, tag.unwrap_or_default(), outbox);
                }
                CallEvent::Nothing
            }
            Method::Cancel if self.branch(Method::Invite, sequence).is(branch) => {
                if let Some(Cancellation::Sent { transaction, .. }) =
                    self.cancellation.as_deref_mut()
                {
                    // Whatever it is, the INVITE's own final response tells how the call ended.
                    transaction.on_response(status, agent.reliability, agent.timing, now);
                }
                CallEvent::Nothing
            }
            Method::Bye if sequence == self.bye_sequence() => {
                if self.branch(Method::Bye, sequence).is(branch) {
                    return self.receive_of_bye(agent, now, status);
                }
                self.receive_of_fork(agent, now, status, branch);
                CallEvent::Nothing
            }
            _ => CallEvent::Nothing,
        }
    }

    fn send_invite(&mut self, agent: &Agent<'_>, now: Instant, outbox: &mut Outbox) {
        self.phase = Phase::Inviting {
            heard: Heard::Nothing,
        };
        self.transaction = new_transaction(Kind::Invite, agent, now);
        self.write_invite(agent, outbox);
    }

    fn send_bye(&mut self, agent: &Agent<'_>, now: Instant, outbox: &mut Outbox) {
        self.phase = Phase::Ending;
        self.transaction = new_transaction(Kind::NonInvite, agent, now);
        self.write_bye(agent, outbox);
    }

    fn send_cancel(&mut self, agent: &Agent<'_>, now: Instant, outbox: &mut Outbox) {
        let (kind, timing) = (Kind::NonInvite, agent.timing);
        self.cancellation = Some(Box::new(Cancellation::Sent {
            transaction: ClientTransaction::new(kind, agent.reliability, timing, now),
            give_up_at: now + timing.timeout(),
        }));
        self.write_cancel(agent, outbox);
    }

    fn bye_sequence(&self) -> u32 {
        self.invite_sequence + 1
    }
}

fn new_transaction(kind: Kind, agent: &Agent<'_>, now: Instant) -> Option<ClientTransaction> {
    let (reliability, timing) = (agent.reliability, agent.timing);
    Some(ClientTransaction::new(kind, reliability, timing, now))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
