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
//! ACK and BYE follow the dialog that the 200 made: its tag, its `Contact`, its `Record-Route`.
//! The called side is part of the [`server`](super::server).

use std::time::{Duration, Instant};

use super::agent::{Agent, Branch, ContactHost, mix};
use super::emit::{Value, Writer};
use super::header::{Header, Method};
use super::message::Message;
use super::outbox::Outbox;
use super::parse::Contact;
use super::sdp;
use super::text::Text;
use super::transaction::{ClientTransaction, Fired, Kind, OnResponse, earliest};

/// Port that offers name for audio. No media flows.
const MEDIA_PORT: u16 = 4000;

const INVITE_SEQUENCE: u32 = 1;
const BYE_SEQUENCE: u32 = 2;

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
    /// The call was answered and the ACK is in the outbox; the BYE as well if there is no talk.
    Answered {
        /// Whether no [`CallEvent::Progress`] came before, so that this is the first response.
        is_first_response: bool,
    },
    /// The talk is over, the BYE is in the outbox.
    ByeSent,
    /// The BYE was answered: the call is over.
    Completed,
    /// It failed. As long as there is a deadline, repeated responses are still taken care of.
    Failed(CallFailure),
}

/// Why a call failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CallFailure {
    /// A final response other than success.
    #[error("expected 200 to INVITE, found {status}")]
    Rejected {
        /// Its status.
        status: u16,
    },
    /// Timer B.
    #[error("expected a response to INVITE, found none in time")]
    TimedOut,
    /// The 200 has no tag or no contact: no dialog can be made of it.
    #[error("expected a 200 with a tag and a Contact, found one without")]
    NoDialog,
    /// The BYE was not answered with success.
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
        progressed: bool,
    },
    /// Answered; BYE is due at this time.
    Talking {
        bye_at: Instant,
    },
    /// BYE is under way.
    Ending,
    /// Over; repeated responses to INVITE are still acknowledged.
    Over {
        answered: bool,
    },
}

/// The caller's side of one call.
#[derive(Clone, Debug)]
pub struct Caller {
    key: u32,
    talk: Duration,
    /// Index of the called user, `None` for whom the accounts say.
    callee: Option<u32>,
    /// Seed of Call-ID, tag and branches.
    identity: u64,
    phase: Phase,
    transaction: Option<ClientTransaction>,
    remote_tag: Text<40>,
    /// Contact of the other side.
    remote_target: Text<64>,
    /// Value of `Route`: `Record-Route` of the 200 in reverse; empty without proxies.
    route_set: Text<16>,
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
            identity: 0,
            phase: Phase::Idle,
            transaction: None,
            remote_tag: Text::new(),
            remote_target: Text::new(),
            route_set: Text::new(),
        }
    }

    /// Calls the user of that index instead of whom the accounts say.
    #[must_use]
    pub fn to_user(mut self, user: u32) -> Self {
        self.callee = Some(user);
        self
    }

    /// Calls.
    pub fn start(&mut self, agent: &Agent<'_>, now: Instant, outbox: &mut Outbox) {
        self.identity = agent.identity(self.key, now);
        self.phase = Phase::Inviting { progressed: false };
        let (kind, timing) = (Kind::Invite, agent.timing);
        let transaction = ClientTransaction::new(kind, agent.reliability, timing, now);
        self.transaction = Some(transaction);
        self.write_invite(agent, outbox);
    }

    /// A response arrived whose branch has this call's key.
    pub fn receive(
        &mut self,
        agent: &Agent<'_>,
        now: Instant,
        message: &Message<'_>,
        outbox: &mut Outbox,
    ) -> CallEvent {
        let (Some(status), Ok(via)) = (message.status(), message.via()) else {
            return CallEvent::Nothing;
        };
        let (Some(branch), Ok(cseq)) = (via.branch, message.cseq()) else {
            return CallEvent::Nothing;
        };
        match cseq {
            (INVITE_SEQUENCE, Method::Invite) if self.branch(Method::Invite).is(branch) => {
                self.receive_of_invite(agent, now, message, status, outbox)
            }
            (BYE_SEQUENCE, Method::Bye) if self.branch(Method::Bye).is(branch) => {
                self.receive_of_bye(agent, now, status)
            }
            _ => CallEvent::Nothing,
        }
    }

    fn receive_of_invite(
        &mut self,
        agent: &Agent<'_>,
        now: Instant,
        message: &Message<'_>,
        status: u16,
        outbox: &mut Outbox,
    ) -> CallEvent {
        let tag = message.to().ok().and_then(|to| to.tag());
        let progressed = match self.phase {
            Phase::Inviting { progressed } => progressed,
            Phase::Talking { .. } | Phase::Ending | Phase::Over { answered: true } => {
                // The 200 again: its ACK was lost (RFC 3261 §13.2.2.4).
                if (200..300).contains(&status) && tag == Some(&self.remote_tag) {
                    self.write_in_dialog(agent, Method::Ack, outbox);
                }
                return CallEvent::Nothing;
            }
            Phase::Over { answered: false } => true,
            Phase::Idle => return CallEvent::Nothing,
        };
        let Some(transaction) = &mut self.transaction else {
            return CallEvent::Nothing;
        };
        match transaction.on_response(status, agent.reliability, agent.timing, now) {
            OnResponse::Absorb => CallEvent::Nothing,
            OnResponse::Acknowledge => {
                self.write_ack_of_failure(agent, outbox);
                CallEvent::Nothing
            }
            OnResponse::AcknowledgeAndDeliver => {
                self.remote_tag = Text::from(tag.unwrap_or_default());
                self.write_ack_of_failure(agent, outbox);
                self.phase = Phase::Over { answered: false };
                CallEvent::Failed(CallFailure::Rejected { status })
            }
            OnResponse::Deliver if status < 200 => {
                if status == 100 || progressed {
                    return CallEvent::Nothing;
                }
                self.phase = Phase::Inviting { progressed: true };
                CallEvent::Progress { status }
            }
            OnResponse::Deliver => self.answered(agent, now, message, !progressed, outbox),
        }
    }

    fn answered(
        &mut self,
        agent: &Agent<'_>,
        now: Instant,
        message: &Message<'_>,
        is_first_response: bool,
        outbox: &mut Outbox,
    ) -> CallEvent {
        // Who repeats the 200 is the callee, not a transaction: Timer M has nothing to absorb here.
        self.transaction = None;
        let tag = message.to().ok().and_then(|to| to.tag());
        let target = message.contacts().next().and_then(Result::ok);
        let (Some(tag), Some(Contact::Address(target))) = (tag, target) else {
            self.phase = Phase::Over { answered: false };
            return CallEvent::Failed(CallFailure::NoDialog);
        };
        self.remote_tag = Text::from(tag);
        self.remote_target = Text::from(target.uri);
        self.route_set = route_set(message);
        self.write_in_dialog(agent, Method::Ack, outbox);
        self.phase = Phase::Talking {
            bye_at: now + self.talk,
        };
        if self.talk.is_zero() {
            self.send_bye(agent, now, outbox);
        }
        CallEvent::Answered { is_first_response }
    }

    fn send_bye(&mut self, agent: &Agent<'_>, now: Instant, outbox: &mut Outbox) {
        self.phase = Phase::Ending;
        let (kind, timing) = (Kind::NonInvite, agent.timing);
        let transaction = ClientTransaction::new(kind, agent.reliability, timing, now);
        self.transaction = Some(transaction);
        self.write_in_dialog(agent, Method::Bye, outbox);
    }

    fn receive_of_bye(&mut self, agent: &Agent<'_>, now: Instant, status: u16) -> CallEvent {
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

    /// A deadline has come.
    pub fn timeout(&mut self, agent: &Agent<'_>, now: Instant, outbox: &mut Outbox) -> CallEvent {
        if let Phase::Talking { bye_at } = self.phase {
            if bye_at > now {
                return CallEvent::Nothing;
            }
            self.send_bye(agent, now, outbox);
            return CallEvent::ByeSent;
        }
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
                    self.write_in_dialog(agent, Method::Bye, outbox);
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

    /// When [`Caller::timeout`] wants to be called. An INVITE that got a provisional response waits
    /// for ever (RFC 3261 §17.1.1.2): how long callers are patient is their owner's decision.
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        let bye_at = match self.phase {
            Phase::Talking { bye_at } => Some(bye_at),
            Phase::Idle | Phase::Inviting { .. } | Phase::Ending | Phase::Over { .. } => None,
        };
        let transaction = self.transaction.as_ref();
        earliest(bye_at, transaction.and_then(ClientTransaction::deadline))
    }

    fn branch(&self, method: Method) -> Branch {
        let sequence = if method == Method::Bye {
            BYE_SEQUENCE
        } else {
            INVITE_SEQUENCE
        };
        Branch::new(self.key, self.identity, sequence, method)
    }

    /// The URI that is called.
    fn write_callee(&self, line: &mut Value<'_>, agent: &Agent<'_>) {
        match self.callee {
            Some(user) => agent.write_aor(line, &agent.accounts.username(user)),
            None => agent.accounts.write_callee(line, agent.user),
        }
    }

    fn write_invite(&self, agent: &Agent<'_>, outbox: &mut Outbox) {
        outbox.push_with(|out| {
            let mut writer = Writer::request_with(out, Method::Invite.token(), |line| {
                self.write_callee(line, agent);
            });
            agent.write_via(&mut writer, self.branch(Method::Invite));
            self.write_dialog(&mut writer, agent, false);
            writer
                .cseq(INVITE_SEQUENCE, Method::Invite.token())
                .header_with(Header::Contact.name(), |line| {
                    agent.write_contact_uri(line, ContactHost::Address);
                });
            let mut media = agent.sent_by;
            media.set_port(MEDIA_PORT);
            writer.body_with(sdp::CONTENT_TYPE, |out| {
                sdp::write(out, mix(self.identity) as u32, media);
            });
        });
    }

    /// The ACK that belongs to the INVITE's own transaction (RFC 3261 §17.1.1.3).
    fn write_ack_of_failure(&self, agent: &Agent<'_>, outbox: &mut Outbox) {
        outbox.push_with(|out| {
            let mut writer = Writer::request_with(out, Method::Ack.token(), |line| {
                self.write_callee(line, agent);
            });
            agent.write_via(&mut writer, self.branch(Method::Invite));
            self.write_dialog(&mut writer, agent, true);
            writer.cseq(INVITE_SEQUENCE, Method::Ack.token());
            writer.finish();
        });
    }

    /// ACK of the 200, or BYE (RFC 3261 §12.2.1.1).
    fn write_in_dialog(&self, agent: &Agent<'_>, method: Method, outbox: &mut Outbox) {
        let sequence = if method == Method::Bye {
            BYE_SEQUENCE
        } else {
            INVITE_SEQUENCE
        };
        outbox.push_with(|out| {
            let mut writer = Writer::request(out, method.token(), &self.remote_target);
            agent.write_via(&mut writer, self.branch(method));
            if !self.route_set.is_empty() {
                writer.header(Header::Route.name(), &self.route_set);
            }
            self.write_dialog(&mut writer, agent, true);
            writer.cseq(sequence, method.token());
            writer.finish();
        });
    }

    /// `From`, `To`, `Call-ID`.
    fn write_dialog(&self, writer: &mut Writer<'_>, agent: &Agent<'_>, with_tag: bool) {
        let username = agent.accounts.username(agent.user);
        writer.header_with(Header::From.name(), |line| {
            line.text("<");
            agent.write_aor(line, &username);
            line.text(">;tag=");
            line.hex(mix(self.identity), 16);
        });
        writer.header_with(Header::To.name(), |line| {
            line.text("<");
            self.write_callee(line, agent);
            line.text(">");
            if with_tag && !self.remote_tag.is_empty() {
                line.text(";tag=");
                line.text(&self.remote_tag);
            }
        });
        writer.header_with(Header::CallId.name(), |line| line.hex(self.identity, 16));
    }
}

/// `Record-Route` in reverse order, as a caller uses it (RFC 3261 §12.1.2).
fn route_set(message: &Message<'_>) -> Text<16> {
    if message.header(Header::RecordRoute).is_none() {
        return Text::new();
    }
    let mut routes: Vec<&str> = message.elements(Header::RecordRoute).collect();
    routes.reverse();
    Text::from(routes.join(", ").as_str())
}
