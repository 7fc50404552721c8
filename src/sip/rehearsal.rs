//! A user and the answering server in memory, message by message: what SIP alone takes of a registration
//! or a call. For floors and for counting instructions; the transports, and so everything that costs
//! time beside SIP, are left out. Nothing is lost, late or twice.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use super::account::Accounts;
use super::agent::Agent;
use super::call::{CallEvent, Caller};
use super::framing::{Frame, Framer};
use super::message::Message;
use super::outbox::Outbox;
use super::registration::{Registration, RegistrationEvent};
use super::response::Responses;
use super::server::{Interface, Outbound, Server, ServerConfig, Source};
use super::stationery::Stationery;
use super::timer::Timing;
use super::transaction::Reliability;

/// Both ends of a hop without the hop.
pub struct Rehearsal {
    accounts: Accounts,
    timing: Timing,
    stationery: Stationery,
    transport: &'static str,
    server: Server<()>,
    epoch: Instant,
    /// Who takes turns with each flow.
    users: u32,
    /// Of those who refresh theirs.
    registrations: BTreeMap<u32, Registration>,
    flows: u32,
    outbox: Outbox,
    replies: Replies,
    reader: Reader,
}

/// One message that was delivered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delivered {
    /// Which way it went.
    pub way: Way,
    /// The whole message.
    pub bytes: Vec<u8>,
}

/// A direction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// From the user to the server.
    ToServer,
    /// From the server to the user.
    ToClient,
}

/// What the server sends.
#[derive(Default)]
struct Replies(Outbox);

const CLIENT: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 40_000);
const SERVER: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 5_060);
const FIRST_USER: u32 = 7;
const EXPIRES_SECONDS: u32 = 3_600;

impl Outbound<()> for Replies {
    fn send(&mut self, (): &(), message: &[u8]) -> bool {
        self.0.push(message);
        true
    }

    fn peer_of(&self, (): &()) -> SocketAddr {
        CLIENT
    }
}

/// What the user's end remembers of what it has read.
#[derive(Default)]
struct Reader {
    framer: Framer,
    responses: Responses,
}

/// A flow of the user, and when it is over.
trait ClientFlow {
    fn start(&mut self, agent: &Agent<'_>, now: Instant, outbox: &mut Outbox);
    /// Whether that was what it waited for last.
    fn receive(
        &mut self,
        agent: &Agent<'_>,
        now: Instant,
        message: &[u8],
        responses: &mut Responses,
        outbox: &mut Outbox,
    ) -> bool;
}

impl ClientFlow for Caller {
    fn start(&mut self, agent: &Agent<'_>, now: Instant, outbox: &mut Outbox) {
        Caller::start(self, agent, now, outbox);
    }

    fn receive(
        &mut self,
        agent: &Agent<'_>,
        now: Instant,
        message: &[u8],
        responses: &mut Responses,
        outbox: &mut Outbox,
    ) -> bool {
        let response = responses.parse(message);
        let response = response.expect("the server's responses are sound");
        Caller::receive(self, agent, now, &response, outbox) == CallEvent::Completed
    }
}

impl ClientFlow for Registration {
    fn start(&mut self, agent: &Agent<'_>, now: Instant, outbox: &mut Outbox) {
        Registration::start(self, agent, now, outbox);
    }

    fn receive(
        &mut self,
        agent: &Agent<'_>,
        now: Instant,
        message: &[u8],
        _: &mut Responses,
        outbox: &mut Outbox,
    ) -> bool {
        let message = Message::parse(message).expect("the server's messages are sound");
        matches!(
            Registration::receive(self, agent, now, &message, outbox),
            RegistrationEvent::Registered { .. }
        )
    }
}

impl Rehearsal {
    /// One user. `transport` is `UDP`, `TCP` or `TLS`, as `Via` names it. All secrets are constant, so that the same
    /// calls at the same times since `epoch` are the same bytes.
    #[must_use]
    pub fn new(transport: &'static str, epoch: Instant) -> Self {
        Self::by_turns(transport, epoch, 1)
    }

    /// So many users, of whom each does what is done next.
    #[must_use]
    pub fn by_turns(transport: &'static str, epoch: Instant, users: u32) -> Self {
        let accounts = Accounts::new("hopbench.test", "hopbench", FIRST_USER + users);
        let interface = Interface::unprotected(transport, SERVER);
        let config = ServerConfig::new(accounts.clone(), vec![interface]);
        Self {
            accounts,
            timing: Timing::default(),
            stationery: Stationery::default(),
            transport,
            server: Server::new(config, [7; 32], epoch),
            epoch,
            users,
            registrations: BTreeMap::new(),
            flows: 0,
            outbox: Outbox::new(),
            replies: Replies::default(),
            reader: Reader::default(),
        }
    }

    /// One registration, challenge included: what was delivered, in order.
    ///
    /// # Panics
    /// When it does not succeed.
    pub fn register(&mut self, now: Instant) -> Vec<Delivered> {
        self.flows += 1;
        self.run(&mut Registration::new(self.flows), now)
    }

    /// A registration of who has none, and a refresh otherwise, with credentials right away: what was delivered, in
    /// order.
    ///
    /// # Panics
    /// When it does not succeed.
    pub fn refresh(&mut self, now: Instant) -> Vec<Delivered> {
        self.flows += 1;
        let flows = self.flows;
        let known = self.registrations.remove(&self.user());
        let mut registration = known.unwrap_or_else(|| Registration::new(flows));
        let delivered = self.run(&mut registration, now);
        self.registrations.insert(self.user(), registration);
        delivered
    }

    /// One call without talk, from INVITE to the 200 that ends it: what was delivered, in order.
    ///
    /// # Panics
    /// When it does not succeed.
    pub fn call(&mut self, now: Instant) -> Vec<Delivered> {
        self.flows += 1;
        self.run(&mut Caller::new(self.flows, Duration::ZERO), now)
    }

    /// Writes the INVITE of a call that goes no further. Returns how long it is.
    pub fn invite(&mut self, now: Instant) -> usize {
        self.flows += 1;
        let mut call = Caller::new(self.flows, Duration::ZERO);
        let agent = agent(
            &self.accounts,
            &self.timing,
            &self.stationery,
            self.transport,
            self.epoch,
            self.user(),
        );
        call.start(&agent, now, &mut self.outbox);
        let bytes = self.outbox.bytes();
        self.outbox.clear();
        bytes
    }

    /// Whose turn it is.
    fn user(&self) -> u32 {
        FIRST_USER + self.flows % self.users
    }

    fn run(&mut self, flow: &mut impl ClientFlow, now: Instant) -> Vec<Delivered> {
        let agent = agent(
            &self.accounts,
            &self.timing,
            &self.stationery,
            self.transport,
            self.epoch,
            self.user(),
        );
        let mut delivered = Vec::new();
        begin(flow, &agent, now, &mut self.outbox);
        loop {
            let requests = take(&mut self.outbox, Way::ToServer, &mut delivered);
            assert!(requests > 0, "somebody waits for ever: {delivered:?}");
            for request in &delivered[delivered.len() - requests..] {
                serve(&mut self.server, now, &request.bytes, &mut self.replies);
            }
            let replies = take(&mut self.replies.0, Way::ToClient, &mut delivered);
            let mut replies = delivered[delivered.len() - replies..].iter();
            let (reader, outbox) = (&mut self.reader, &mut self.outbox);
            if replies.any(|reply| receive(flow, &agent, now, &reply.bytes, reader, outbox)) {
                return delivered;
            }
        }
    }
}

fn agent<'a>(
    accounts: &'a Accounts,
    timing: &'a Timing,
    stationery: &'a Stationery,
    transport: &'static str,
    epoch: Instant,
    user: u32,
) -> Agent<'a> {
    Agent {
        accounts,
        user,
        transport,
        reliability: Reliability::of(transport != "UDP"),
        sent_by: CLIENT,
        timing,
        seed: 1,
        epoch,
        expires_seconds: EXPIRES_SECONDS,
        stationery,
    }
}

fn take(outbox: &mut Outbox, way: Way, delivered: &mut Vec<Delivered>) -> usize {
    let count = outbox.len();
    delivered.extend(outbox.iter().map(|message| Delivered {
        way,
        bytes: message.to_vec(),
    }));
    outbox.clear();
    count
}

// The three functions in which the ends work are never inlined, so that callgrind tells them apart.

#[inline(never)]
fn begin(flow: &mut impl ClientFlow, agent: &Agent<'_>, now: Instant, outbox: &mut Outbox) {
    flow.start(agent, now, outbox);
}

#[inline(never)]
fn receive(
    flow: &mut impl ClientFlow,
    agent: &Agent<'_>,
    now: Instant,
    bytes: &[u8],
    reader: &mut Reader,
    outbox: &mut Outbox,
) -> bool {
    let framed = reader.framer.next(bytes);
    assert!(
        matches!(framed, Ok(Frame::Message { length }) if length == bytes.len()),
        "{framed:?}"
    );
    flow.receive(agent, now, bytes, &mut reader.responses, outbox)
}

#[inline(never)]
fn serve(server: &mut Server<()>, now: Instant, bytes: &[u8], replies: &mut Replies) {
    let source = Source {
        flow: &(),
        peer: CLIENT,
        interface: 0,
    };
    server.receive(now, source, bytes, replies);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn first_words(delivered: &[Delivered]) -> Vec<(Way, String)> {
        let word = |message: &Delivered| {
            let text = String::from_utf8_lossy(&message.bytes).into_owned();
            let text = text.strip_prefix("SIP/2.0 ").unwrap_or(&text);
            text.split(' ').next().unwrap_or_default().to_owned()
        };
        delivered.iter().map(|m| (m.way, word(m))).collect()
    }

    #[test]
    fn registers_and_calls_as_a_user_does() {
        use Way::{ToClient, ToServer};
        for transport in ["UDP", "TCP", "TLS"] {
            let epoch = Instant::now();
            let mut rehearsal = Rehearsal::new(transport, epoch);
            let now = epoch + Duration::from_secs(1);
            let registration = first_words(&rehearsal.register(now));
            let expected = [
                (ToServer, "REGISTER"),
                (ToClient, "401"),
                (ToServer, "REGISTER"),
                (ToClient, "200"),
            ];
            let named = |words: &[(Way, &str)]| -> Vec<(Way, String)> {
                words.iter().map(|(w, s)| (*w, (*s).to_owned())).collect()
            };
            assert_eq!(registration, named(&expected), "{transport}");
            let call = first_words(&rehearsal.call(now));
            let expected = [
                (ToServer, "INVITE"),
                (ToClient, "100"),
                (ToClient, "180"),
                (ToClient, "200"),
                (ToServer, "ACK"),
                (ToServer, "BYE"),
                (ToClient, "200"),
            ];
            assert_eq!(call, named(&expected), "{transport}");
        }
    }

    #[test]
    fn users_take_turns_and_refresh_without_a_challenge() {
        let epoch = Instant::now();
        let mut rehearsal = Rehearsal::by_turns("TCP", epoch, 3);
        let now = epoch + Duration::from_secs(1);
        let user = |delivered: &[Delivered]| {
            let text = String::from_utf8_lossy(&delivered[0].bytes).into_owned();
            let from = text.lines().find(|line| line.starts_with("From:"));
            let from = from.unwrap_or_default().split(";tag").next();
            from.unwrap_or_default().to_owned()
        };
        let first: Vec<String> = (0..3).map(|_| user(&rehearsal.refresh(now))).collect();
        assert!(first[0] != first[1] && first[1] != first[2] && first[2] != first[0]);
        for expected in &first {
            let refresh = rehearsal.refresh(now);
            assert_eq!(refresh.len(), 2, "{refresh:?}");
            assert_eq!(user(&refresh), *expected);
        }
        assert_eq!(user(&rehearsal.call(now)), first[0]);
    }

    #[test]
    fn the_same_call_is_the_same_bytes() {
        let call = || {
            let epoch = Instant::now();
            Rehearsal::new("TCP", epoch).call(epoch + Duration::from_secs(1))
        };
        assert_eq!(call(), call());
    }
}
