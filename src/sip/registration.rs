//! A user agent's registration (RFC 3261 §10.2) with digest authentication:
//!
//! ```text
//! 1  REGISTER                →
//! 2                          ←  401, challenge
//! 3  REGISTER, credentials   →
//! 4                          ←  200, lifetime
//! ```
//! Later ones start at 3 with the same nonce and a higher count; if the nonce has become stale, they
//! go through 2 once more. A proxy on the way may ask for credentials of its own (407), and a registrar
//! for a longer lifetime (423). What is kept between requests is small, since a million idle users
//! keep it.
//!
//! Each registration is one flow of its user agent (RFC 5626, `reg-id` 1), over which calls come.
//! When that flow fails, its owner waits for [`backoff`] and starts it anew over another one.
//! `Service-Route` (RFC 3608) is not followed: calls leave over the flow anyway.

mod backoff;
mod response;

use std::time::Instant;

use super::agent::{Agent, Branch, ContactHost, hex16, mix};
use super::digest::{Challenger, DigestError, Identity, Session};
use super::emit::{Value, Writer};
use super::header::{Header, Method};
use super::message::Message;
use super::outbox::Outbox;
use super::stationery::Piece;
use super::transaction::{ClientTransaction, Fired, Kind, OnResponse};
use response::{failure, granted_seconds};

pub use backoff::{BACKOFF_BASE_ALL_FAILED, BACKOFF_BASE_SOME_WORK, BACKOFF_MAX, backoff};

/// Stale nonces that are accepted in a row before the server counts as unusable.
const STALE_LIMIT: u8 = 3;

/// What became of a registration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RegistrationEvent {
    /// Nothing that its owner has to know.
    Nothing,
    /// The server asked for credentials; they are in the outbox.
    Challenged,
    /// The server has a binding.
    Registered {
        /// For how long.
        expires_seconds: u32,
        /// Silence after which the first hop takes the flow for dead, if it says so (RFC 5626
        /// §4.4.1).
        flow_timer_seconds: Option<u32>,
    },
    /// The server has removed the binding.
    Unregistered,
    /// It failed; no request is under way any more.
    Failed(RegistrationFailure),
}

/// Why a registration failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RegistrationFailure {
    /// A final response other than success or challenge, and than those below.
    #[error("expected 200 to REGISTER, found {status}")]
    Rejected {
        /// Its status.
        status: u16,
    },
    /// 3xx: the registrar is elsewhere, and nobody follows.
    #[error("expected 200 to REGISTER, found the redirection {status}: register there instead")]
    Redirected {
        /// Its status.
        status: u16,
    },
    /// 439: the first proxy cannot find flows again (RFC 5626 §4.2.1), so that no call would arrive.
    #[error("expected 200 to REGISTER, found 439: the first hop does not support outbound")]
    FirstHopLacksOutbound,
    /// 503: too much to do.
    #[error("expected 200 to REGISTER, found 503")]
    Unavailable {
        /// The server wants to be left alone for so long (RFC 5626 §4.5).
        retry_after_seconds: Option<u32>,
    },
    /// Timer F.
    #[error("expected a final response to REGISTER, found none in time")]
    TimedOut,
    /// The credentials that answered a challenge were refused.
    #[error("expected 200 to the credentials, found another challenge: the password is wrong")]
    WrongCredentials,
    /// The challenge cannot be answered.
    #[error("cannot answer the challenge: {0}")]
    Challenge(#[from] DigestError),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Intent {
    Register,
    Unregister,
}

/// What has been answered since the owner asked for something: whose challenges, how many of them, and
/// 423.
#[derive(Clone, Copy, Debug, Default)]
struct Answered {
    count: u8,
    server: bool,
    proxy: bool,
    too_brief: bool,
}

impl Answered {
    fn contains(self, challenger: Challenger) -> bool {
        match challenger {
            Challenger::Server => self.server,
            Challenger::Proxy => self.proxy,
        }
    }

    fn insert(&mut self, challenger: Challenger) {
        self.count += 1;
        match challenger {
            Challenger::Server => self.server = true,
            Challenger::Proxy => self.proxy = true,
        }
    }
}

/// The registration of one user over one flow.
#[derive(Clone, Debug)]
pub struct Registration {
    key: u32,
    cseq: u32,
    /// Seed of Call-ID, tag and branches; stays the same for all requests, as their Call-ID must.
    identity: u64,
    transaction: Option<ClientTransaction>,
    intent: Intent,
    answered: Answered,
    /// With the registrar.
    session: Option<Session>,
    /// With a proxy on the way, which few ask for.
    proxy_session: Option<Box<Session>>,
    /// Shortest lifetime that the registrar grants, as far as it has said.
    min_seconds: u32,
}

impl Registration {
    /// Responses find their way back by `key`; see [`key_of_branch`](super::key_of_branch).
    #[must_use]
    pub fn new(key: u32) -> Self {
        Self {
            key,
            cseq: 0,
            identity: 0,
            transaction: None,
            intent: Intent::Register,
            answered: Answered::default(),
            session: None,
            proxy_session: None,
            min_seconds: 0,
        }
    }

    /// Registers. Of a registration that was authenticated before this is a refresh.
    pub fn start(&mut self, agent: &Agent<'_>, now: Instant, outbox: &mut Outbox) {
        if self.cseq == 0 {
            self.identity = agent.identity(self.key, now);
        }
        self.begin(Intent::Register, agent, now, outbox);
    }

    /// Registers again before the binding expires, with credentials right away if there is a nonce.
    pub fn refresh(&mut self, agent: &Agent<'_>, now: Instant, outbox: &mut Outbox) {
        self.start(agent, now, outbox);
    }

    /// Removes the binding.
    pub fn unregister(&mut self, agent: &Agent<'_>, now: Instant, outbox: &mut Outbox) {
        if self.cseq == 0 {
            self.identity = agent.identity(self.key, now);
        }
        self.begin(Intent::Unregister, agent, now, outbox);
    }

    /// Sends the present request as if for the first time, over `agent`'s flow: the one that it was
    /// written for has served its last transaction. The owner has let nothing of it out.
    pub fn send_anew(&mut self, agent: &Agent<'_>, now: Instant, outbox: &mut Outbox) {
        let (kind, timing) = (Kind::NonInvite, agent.timing);
        let transaction = ClientTransaction::new(kind, agent.reliability, timing, now);
        self.transaction = Some(transaction);
        self.write(agent, outbox);
    }

    fn begin(&mut self, intent: Intent, agent: &Agent<'_>, now: Instant, outbox: &mut Outbox) {
        self.intent = intent;
        self.answered = Answered::default();
        self.send_next(agent, now, outbox);
    }

    /// Sends the next request: new CSeq, new branch, next nonce count.
    fn send_next(&mut self, agent: &Agent<'_>, now: Instant, outbox: &mut Outbox) {
        self.cseq += 1;
        if let Some(session) = &mut self.session {
            session.advance();
        }
        if let Some(session) = &mut self.proxy_session {
            session.advance();
        }
        let (kind, timing) = (Kind::NonInvite, agent.timing);
        let transaction = ClientTransaction::new(kind, agent.reliability, timing, now);
        self.transaction = Some(transaction);
        self.write(agent, outbox);
    }

    /// A response arrived whose branch has this registration's key.
    pub fn receive(
        &mut self,
        agent: &Agent<'_>,
        now: Instant,
        message: &Message<'_>,
        outbox: &mut Outbox,
    ) -> RegistrationEvent {
        let (Some(status), Some(transaction)) = (message.status(), &mut self.transaction) else {
            return RegistrationEvent::Nothing;
        };
        let branch = Branch::new(self.key, self.identity, self.cseq, Method::Register);
        let is_ours = message
            .via()
            .is_ok_and(|via| via.branch.is_some_and(|text| branch.is(text)))
            && message.cseq() == Ok((self.cseq, Method::Register));
        if !is_ours {
            return RegistrationEvent::Nothing;
        }
        match transaction.on_response(status, agent.reliability, agent.timing, now) {
            OnResponse::Deliver => {}
            OnResponse::Absorb | OnResponse::Acknowledge | OnResponse::AcknowledgeAndDeliver => {
                return RegistrationEvent::Nothing;
            }
        }
        if transaction.is_terminated() {
            self.transaction = None;
        }
        match status {
            ..200 => RegistrationEvent::Nothing,
            200..300 => self.succeeded(agent, message),
            401 | 407 => self.challenged(agent, now, message, outbox),
            423 => self.too_brief(agent, now, message, outbox),
            _ => RegistrationEvent::Failed(failure(status, message)),
        }
    }

    fn succeeded(&self, agent: &Agent<'_>, message: &Message<'_>) -> RegistrationEvent {
        match self.intent {
            Intent::Unregister => RegistrationEvent::Unregistered,
            Intent::Register => RegistrationEvent::Registered {
                expires_seconds: granted_seconds(agent, message)
                    .unwrap_or(self.asked_seconds(agent)),
                flow_timer_seconds: message.seconds(Header::FlowTimer).ok().flatten(),
            },
        }
    }

    /// Asks for the lifetime that the registrar demands (RFC 3261 §10.2.8), if that is longer than
    /// what it was asked for.
    fn too_brief(
        &mut self,
        agent: &Agent<'_>,
        now: Instant,
        message: &Message<'_>,
        outbox: &mut Outbox,
    ) -> RegistrationEvent {
        let min_seconds = message.seconds(Header::MinExpires).ok().flatten();
        match min_seconds.filter(|&seconds| seconds > self.asked_seconds(agent)) {
            Some(seconds) if !self.answered.too_brief => {
                self.answered.too_brief = true;
                self.min_seconds = seconds;
                self.send_next(agent, now, outbox);
                RegistrationEvent::Nothing
            }
            Some(_) | None => RegistrationEvent::Failed(failure(423, message)),
        }
    }

    fn asked_seconds(&self, agent: &Agent<'_>) -> u32 {
        match self.intent {
            Intent::Register => agent.expires_seconds.max(self.min_seconds),
            Intent::Unregister => 0,
        }
    }

    fn challenged(
        &mut self,
        agent: &Agent<'_>,
        now: Instant,
        message: &Message<'_>,
        outbox: &mut Outbox,
    ) -> RegistrationEvent {
        let session = match Session::open(message, agent.accounts.realm()) {
            Ok(session) => session,
            Err(error) => return RegistrationEvent::Failed(error.into()),
        };
        // A nonce from earlier may be unknown by now, but one that we were just given is not.
        let asker = session.challenger();
        let is_repeated = self.answered.contains(asker);
        if is_repeated && !(session.is_stale() && self.answered.count < STALE_LIMIT) {
            return RegistrationEvent::Failed(RegistrationFailure::WrongCredentials);
        }
        self.answered.insert(asker);
        match asker {
            Challenger::Server => self.session = Some(session),
            Challenger::Proxy => self.proxy_session = Some(Box::new(session)),
        }
        self.send_next(agent, now, outbox);
        RegistrationEvent::Challenged
    }

    /// A deadline has come.
    pub fn timeout(
        &mut self,
        agent: &Agent<'_>,
        now: Instant,
        outbox: &mut Outbox,
    ) -> RegistrationEvent {
        let Some(transaction) = &mut self.transaction else {
            return RegistrationEvent::Nothing;
        };
        match transaction.on_timeout(agent.timing, now) {
            Fired::Nothing => {}
            Fired::Retransmit => self.write(agent, outbox),
            Fired::Terminated => self.transaction = None,
            Fired::TimedOut => {
                self.transaction = None;
                return RegistrationEvent::Failed(RegistrationFailure::TimedOut);
            }
        }
        RegistrationEvent::Nothing
    }

    /// When [`Registration::timeout`] wants to be called. The owner decides when to refresh.
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        self.transaction.as_ref()?.deadline()
    }

    /// Writes the present request. It follows from the state alone, so that a retransmission is
    /// the same bytes.
    fn write(&self, agent: &Agent<'_>, outbox: &mut Outbox) {
        let username = agent.accounts.username(agent.user);
        outbox.push_with(|out| {
            let uri = agent.accounts.registrar_uri();
            let mut writer = Writer::request(out, Method::Register.token(), uri);
            let branch = Branch::new(self.key, self.identity, self.cseq, Method::Register);
            agent.write_via(&mut writer, branch);
            let mut line = writer.lines();
            agent.stationery.write(agent, Piece::From, &mut line);
            line.hex(mix(self.identity), 16);
            line.text("\r\n");
            writer
                .header_with(Header::To.name(), |line| {
                    line.text("<");
                    agent.write_aor(line, &username);
                    line.text(">");
                })
                .header_with(Header::CallId.name(), |line| line.hex(self.identity, 16))
                .cseq(self.cseq, Method::Register.token())
                .header_with(Header::Contact.name(), |line| {
                    agent.write_contact_uri(line, ContactHost::Flow);
                    line.text(";reg-id=1");
                    write_instance(line, agent.user);
                })
                .header_with(Header::Expires.name(), |line| {
                    line.decimal(self.asked_seconds(agent).into());
                })
                .header(Header::Supported.name(), "path, outbound");
            self.write_credentials(&mut writer, agent, &username);
            writer.finish();
        });
    }

    fn write_credentials(&self, writer: &mut Writer<'_>, agent: &Agent<'_>, username: &str) {
        let sessions = [self.session.as_ref(), self.proxy_session.as_deref()];
        if sessions.iter().all(Option::is_none) {
            return;
        }
        let password = agent.accounts.password(agent.user);
        let cnonce = hex16(mix(self.identity ^ u64::from(self.cseq)));
        let identity = Identity {
            username,
            password: &password,
            method: Method::Register.token(),
            uri: agent.accounts.registrar_uri(),
        };
        for session in sessions.into_iter().flatten() {
            session.write_credentials(writer, agent.accounts.realm(), &identity, &cnonce);
        }
    }
}

/// `;+sip.instance="<urn:uuid:…>"` (RFC 5626 §4.1), the same for a user always.
fn write_instance(line: &mut Value<'_>, user: u32) {
    let (high, low) = (mix(u64::from(user)), mix(!u64::from(user)));
    line.text(";+sip.instance=\"<urn:uuid:");
    line.hex(high >> 32, 8);
    line.text("-");
    line.hex(high >> 16, 4);
    line.text("-4");
    line.hex(high, 3);
    line.text("-8");
    line.hex(low >> 48, 3);
    line.text("-");
    line.hex(low, 12);
    line.text(">\"");
}

#[cfg(test)]
mod tests;
