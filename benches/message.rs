//! What SIP costs before any transport: parsing, writing, framing, digest, and whole exchanges
//! between client flows and the server in memory. Each group has a floor, the mere copying of the same
//! bytes, which no implementation gets below.

use std::hint::black_box;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use hopbench::sip::digest::{Algorithm, Challenge, Credentials, Identity, write_challenge};
use hopbench::sip::emit::Value;
use hopbench::sip::reply::response_head;
use hopbench::sip::{
    Accounts, Agent, CallEvent, Caller, Contact, Header, Interface, Message, NextHop, Outbound,
    Outbox, Registration, RegistrationEvent, Reliability, Response, Route, Server, ServerConfig,
    Service, Source, StartLine, Stationery, Timing, Uri, Writer, framing, sdp,
};
use rsipstack::sip::prelude::{HeadersExt, ToTypedHeader};

/// An INVITE as it arrives at a second proxy.
fn invite(out: &mut Vec<u8>) {
    let mut writer = Writer::request(out, "INVITE", "sip:bob@biloxi.example.com;transport=tcp");
    writer
        .header(
            "Via",
            "SIP/2.0/TCP proxy.atlanta.example.com:5060;branch=z9hG4bK2d4790.1",
        )
        .header(
            "Via",
            "SIP/2.0/TCP 192.0.2.101:5060;branch=z9hG4bK74bf9;received=192.0.2.101",
        )
        .header("Max-Forwards", "69")
        .header("Route", "<sip:proxy.biloxi.example.com;transport=tcp;lr>")
        .header(
            "Record-Route",
            "<sip:proxy.atlanta.example.com;transport=tcp;lr>",
        )
        .header(
            "From",
            "\"Alice\" <sip:alice@atlanta.example.com>;tag=9fxced76sl",
        )
        .header("To", "\"Bob\" <sip:bob@biloxi.example.com>")
        .header("Call-ID", "3848276298220188511@atlanta.example.com")
        .cseq(314_159, "INVITE")
        .header("Contact", "<sip:alice@192.0.2.101:5060;transport=tcp>")
        .header("Supported", "outbound, path");
    let media = SocketAddr::from(([192, 0, 2, 101], 4000));
    writer.body_with(sdp::CONTENT_TYPE, |out| {
        sdp::write(out, 2_890_844_526, media)
    });
}

fn invite_bytes() -> Vec<u8> {
    let mut bytes = Vec::new();
    invite(&mut bytes);
    bytes
}

/// What a proxy reads of an INVITE: its Request-URI and, each found valid and taken apart, the header
/// fields that decide where it goes. Returns something that depends on all of it.
fn routing_headers(message: &Message<'_>) -> Option<usize> {
    let StartLine::Request { uri, .. } = message.start_line() else {
        return None;
    };
    let uri = Uri::parse(uri).ok()?;
    let (from, to) = (message.from().ok()?, message.to().ok()?);
    let mut sum = uri.host.len() + from.tag().map_or(0, str::len) + to.uri.len();
    for via in message.vias() {
        let via = via.ok()?;
        sum += via.host.len() + via.branch.map_or(0, str::len);
    }
    for header in [Header::Route, Header::RecordRoute] {
        for route in message.routes(header) {
            sum += route.ok()?.uri.len();
        }
    }
    for contact in message.contacts() {
        if let Contact::Address(contact) = contact.ok()? {
            sum += contact.uri.len();
        }
    }
    let hops = usize::from(message.max_forwards().ok()??);
    Some(sum + hops + message.cseq().ok()?.0 as usize + message.call_id().ok()?.len())
}

/// The URIs in these header fields as well, of which routing needs one at most.
fn routing_uris(message: &Message<'_>) -> Option<usize> {
    let mut sum = routing_headers(message)?;
    for address in [message.from().ok()?, message.to().ok()?] {
        sum += Uri::parse(address.uri).ok()?.host.len();
    }
    for header in [Header::Route, Header::RecordRoute] {
        for route in message.routes(header) {
            sum += Uri::parse(route.ok()?.uri).ok()?.host.len();
        }
    }
    for contact in message.contacts() {
        if let Contact::Address(contact) = contact.ok()? {
            sum += Uri::parse(contact.uri).ok()?.host.len();
        }
    }
    Some(sum)
}

/// The same with rsipstack, whose typed header fields include their URIs.
fn routing_uris_of_rsipstack(message: &rsipstack::sip::SipMessage) -> Option<usize> {
    let rsipstack::sip::SipMessage::Request(request) = message else {
        return None;
    };
    let from = request.from_header().ok()?.typed().ok()?;
    let to = request.to_header().ok()?.typed().ok()?;
    let mut sum = request.uri.host().to_string().len() + from.params.len() + to.params.len();
    for header in request.headers.iter() {
        if let rsipstack::sip::Header::Via(via) = header {
            sum += via.typed().ok()?.params.len();
        }
    }
    sum += request.typed_route_headers().ok()?.len();
    sum += request.typed_record_route_headers().ok()?.len();
    sum += request.typed_contact_headers().ok()?.len();
    let hops = request
        .max_forwards_header()
        .ok()?
        .value()
        .parse::<usize>()
        .ok()?;
    let cseq = request.cseq_header().ok()?.typed().ok()?;
    let call_id = request.call_id_header().ok()?.value().len();
    Some(sum + hops + cseq.seq as usize + call_id)
}

fn copy_floor(
    group: &mut criterion::BenchmarkGroup<'_, criterion::measurement::WallTime>,
    bytes: &[u8],
) {
    group.throughput(Throughput::Bytes(bytes.len() as u64));
    let mut copy = Vec::with_capacity(bytes.len());
    group.bench_function("floor: copy", |b| {
        b.iter(|| {
            copy.clear();
            copy.extend_from_slice(black_box(bytes));
            black_box(copy.as_slice());
        });
    });
}

fn parse(c: &mut Criterion) {
    let bytes = invite_bytes();
    let mut group = c.benchmark_group(format!("parse INVITE of {} bytes", bytes.len()));
    copy_floor(&mut group, &bytes);
    group.bench_function("framing", |b| b.iter(|| framing::next(black_box(&bytes))));
    group.bench_function("headers found", |b| {
        b.iter(|| Message::parse(black_box(&bytes)).map(|message| message.body().len()));
    });
    let ours = || routing_headers(&Message::parse(black_box(&bytes)).ok()?);
    assert!(ours().is_some(), "the message is valid");
    group.bench_function("routing headers typed", |b| b.iter(ours));
    let ours = || routing_uris(&Message::parse(black_box(&bytes)).ok()?);
    group.bench_function("and their URIs", |b| b.iter(ours));
    group.bench_function("checked as a server does", |b| {
        b.iter(|| Message::parse(black_box(&bytes)).map(|message| message.check()));
    });
    let found = || rsipstack::sip::parser::parse_message(black_box(&bytes)).ok();
    group.bench_function("rsipstack: headers found", |b| b.iter(found));
    let theirs = || routing_uris_of_rsipstack(&found()?);
    assert!(theirs().is_some(), "the message is valid");
    group.bench_function("rsipstack: routing headers and their URIs", |b| {
        b.iter(theirs)
    });
    group.finish();
}

fn emit(c: &mut Criterion) {
    let bytes = invite_bytes();
    let mut out = Vec::with_capacity(2 * bytes.len());
    let mut group = c.benchmark_group("emit");
    copy_floor(&mut group, &bytes);
    group.bench_function("INVITE", |b| {
        b.iter(|| {
            out.clear();
            invite(black_box(&mut out));
        });
    });
    let request = Message::parse(&bytes).expect("the message is valid");
    let source = Some(SocketAddr::from(([192, 0, 2, 1], 5060)));
    group.bench_function("180 to INVITE", |b| {
        b.iter(|| {
            out.clear();
            response_head(black_box(&mut out), &request, 180, Some("314159"), source).finish();
        });
    });
    // What it writes is parsed already: it writes what it holds, of the same message.
    let theirs = rsipstack::sip::parser::parse_message(&bytes).expect("the message is valid");
    group.bench_function("rsipstack: INVITE", |b| {
        b.iter(|| black_box(&theirs).to_bytes())
    });
    group.finish();
}

/// Takes what a proxy forwards.
#[derive(Default)]
struct NextHops(Vec<u8>);

impl Outbound<()> for NextHops {
    fn send(&mut self, (): &(), message: &[u8]) -> bool {
        self.send_to_anyone(message)
    }

    fn peer_of(&self, (): &()) -> SocketAddr {
        SocketAddr::from(([192, 0, 2, 101], 40_000))
    }

    fn send_to(&mut self, _hop: NextHop, message: &[u8]) -> bool {
        self.send_to_anyone(message)
    }
}

impl NextHops {
    fn send_to_anyone(&mut self, message: &[u8]) -> bool {
        self.0.clear();
        self.0.extend_from_slice(message);
        true
    }
}

/// A proxy on the way, which knows where everything goes.
fn proxy(epoch: Instant) -> Server<()> {
    let address = SocketAddr::from(([192, 0, 2, 1], 5060));
    let config = ServerConfig {
        service: Service::Proxy,
        routes: vec![Route {
            domain: None,
            hop: NextHop {
                interface: 0,
                address: SocketAddr::from(([192, 0, 2, 2], 5060)),
            },
        }],
        ..ServerConfig::new(
            Accounts::new("proxy.test", "", 0),
            vec![Interface::unprotected("TCP", address)],
        )
    };
    Server::new(config, [7; 32], epoch)
}

/// What a proxy does with one message. An ACK is forwarded without state: parse, route, rewrite, emit.
/// An INVITE makes a transaction and a context besides, is answered with 100, and its 200 comes back.
fn route(c: &mut Criterion) {
    let bytes = invite_bytes();
    let ack = String::from_utf8(bytes.clone()).expect("ASCII");
    let ack = ack
        .replacen("INVITE", "ACK", 1)
        .replace("314159 INVITE", "314159 ACK");
    let epoch = Instant::now();
    let source = Source {
        flow: &(),
        peer: SocketAddr::from(([192, 0, 2, 101], 40_000)),
        interface: 0,
    };
    let mut group = c.benchmark_group(format!("route a request of {} bytes", ack.len()));
    copy_floor(&mut group, ack.as_bytes());
    let mut out = NextHops::default();
    let mut server = proxy(epoch);
    group.bench_function("parse, route, rewrite, emit", |b| {
        b.iter(|| server.receive(epoch, source, black_box(ack.as_bytes()), &mut out));
    });
    assert!(server.counters().forwarded > 0, "the request was forwarded");
    let mut server = proxy(epoch);
    let mut now = epoch;
    let mut serial = 0_u64;
    let mut request = bytes.clone();
    let branch = request.windows(7).position(|text| text == b"2d4790.");
    let branch = branch.expect("the topmost branch");
    let mut answer = Vec::new();
    group.bench_function("INVITE and its 200, with state", |b| {
        b.iter(|| {
            serial += 1;
            // Time passes, so that no more contexts linger than at 30 calls a second.
            now += Duration::from_millis(33);
            let digits = format!("{:06x}", serial & 0xff_ffff);
            request[branch..branch + 6].copy_from_slice(digits.as_bytes());
            server.receive(now, source, black_box(&request), &mut out);
            answer.clear();
            let forwarded = Message::parse(&out.0).expect("a proxy sends valid messages");
            response_head(&mut answer, &forwarded, 200, Some("314159"), None).finish();
            server.receive(now, source, &answer, &mut out);
            server.timeout(now, &mut out);
        });
    });
    assert_eq!(server.counters().stray_responses, 0);
    // The least that a proxy on that library does: parse, put a Via on top, write.
    group.bench_function("rsipstack: parse, add Via, emit", |b| {
        b.iter(|| {
            let parsed = rsipstack::sip::parser::parse_message(black_box(ack.as_bytes()));
            let Ok(rsipstack::sip::SipMessage::Request(mut request)) = parsed else {
                unreachable!("the message is a valid request");
            };
            let via = rsipstack::sip::headers::Via::new(
                "SIP/2.0/TCP 192.0.2.1:5060;branch=z9hG4bK00000000000000000000000000000000",
            );
            request.headers.push_front(via.into());
            rsipstack::sip::SipMessage::Request(request).to_bytes()
        });
    });
    group.finish();
}

fn digest(c: &mut Criterion) {
    let accounts = Accounts::new("hopbench.test", "secret", 1_000);
    let (username, password) = (accounts.username(42), accounts.password(42));
    let identity = Identity {
        username: &username,
        password: &password,
        method: "REGISTER",
        uri: "sip:hopbench.test",
    };
    let mut group = c.benchmark_group("digest");
    group.bench_function("password of an account", |b| {
        b.iter(|| accounts.password(black_box(42)))
    });
    for algorithm in [Algorithm::Md5, Algorithm::Sha256, Algorithm::Sha512_256] {
        let mut text = Vec::new();
        let nonce = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";
        write_challenge(
            &mut Value::new(&mut text),
            algorithm,
            accounts.realm(),
            nonce,
            false,
        );
        let text = String::from_utf8(text).expect("challenges are ASCII");
        let challenge = Challenge::parse(&text).expect("the challenge is ours");
        let mut out = Vec::new();
        let token = algorithm.token();
        group.bench_function(format!("answer a challenge, {token}"), |b| {
            b.iter(|| {
                out.clear();
                let line = &mut Value::new(&mut out);
                black_box(&identity).write_credentials(line, &challenge, 1, "0123456789abcdef");
            });
        });
        let credentials = String::from_utf8(out.clone()).expect("credentials are ASCII");
        group.bench_function(format!("verify credentials, {token}"), |b| {
            b.iter(|| {
                let credentials = Credentials::parse(black_box(&credentials));
                credentials.is_ok_and(|credentials| credentials.prove(&password, "REGISTER"))
            });
        });
    }
    group.finish();
}

/// Both ends in one process, with nothing between them.
struct Exchange {
    accounts: Accounts,
    timing: Timing,
    stationery: Stationery,
    server: Server<()>,
    epoch: Instant,
    now: Instant,
    outbox: Outbox,
    responses: Responses,
}

#[derive(Default)]
struct Responses(Outbox);

impl Outbound<()> for Responses {
    fn send(&mut self, (): &(), message: &[u8]) -> bool {
        self.0.push(message);
        true
    }

    fn peer_of(&self, (): &()) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], 40_000))
    }
}

impl Exchange {
    fn new() -> Self {
        let epoch = Instant::now();
        let accounts = Accounts::new("hopbench.test", "secret", 1_000);
        let address = SocketAddr::from(([127, 0, 0, 1], 5060));
        let interface = Interface::unprotected("TCP", address);
        let config = ServerConfig::new(accounts.clone(), vec![interface]);
        Self {
            accounts,
            timing: Timing::default(),
            stationery: Stationery::default(),
            server: Server::new(config, [7; 32], epoch),
            epoch,
            now: epoch,
            outbox: Outbox::new(),
            responses: Responses::default(),
        }
    }

    /// Carries messages to and fro until nobody has anything to say.
    fn run(
        &mut self,
        mut client: impl FnMut(&Agent<'_>, Instant, Option<&Response<'_>>, &mut Outbox),
    ) {
        self.now += Duration::from_micros(100);
        let agent = Agent {
            accounts: &self.accounts,
            user: 42,
            transport: "TCP",
            reliability: Reliability::Stream,
            sent_by: SocketAddr::from(([127, 0, 0, 1], 40_000)),
            timing: &self.timing,
            seed: 1,
            epoch: self.epoch,
            expires_seconds: 3_600,
            stationery: &self.stationery,
        };
        let source = Source {
            flow: &(),
            peer: agent.sent_by,
            interface: 0,
        };
        client(&agent, self.now, None, &mut self.outbox);
        while !self.outbox.is_empty() {
            for message in self.outbox.iter() {
                self.server
                    .receive(self.now, source, message, &mut self.responses);
            }
            self.outbox.clear();
            for message in self.responses.0.iter() {
                let response = Response::parse(message).expect("the server writes valid messages");
                client(&agent, self.now, Some(&response), &mut self.outbox);
            }
            self.responses.0.clear();
        }
        self.server.timeout(self.now, &mut self.responses);
    }
}

fn exchanges(c: &mut Criterion) {
    let mut group = c.benchmark_group("exchange in memory");
    let mut exchange = Exchange::new();
    group.bench_function("register with 401, 4 messages", |b| {
        b.iter(|| {
            let mut registration = Registration::new(1);
            let mut registered = false;
            exchange.run(|agent, now, response, outbox| match response {
                None => registration.start(agent, now, outbox),
                Some(response) => {
                    let message = response.whole().expect("the server writes valid messages");
                    let event = registration.receive(agent, now, &message, outbox);
                    registered = matches!(event, RegistrationEvent::Registered { .. });
                }
            });
            assert!(registered);
        });
    });
    let mut exchange = Exchange::new();
    group.bench_function("call, 7 messages", |b| {
        b.iter(|| {
            let mut caller = Caller::new(1, Duration::ZERO);
            let mut completed = false;
            exchange.run(|agent, now, response, outbox| match response {
                None => caller.start(agent, now, outbox),
                Some(response) => {
                    let event = caller.receive(agent, now, response, outbox);
                    completed = event == CallEvent::Completed;
                }
            });
            assert!(completed);
        });
    });
    group.finish();
}

fn well_known_headers(c: &mut Criterion) {
    let names = ["Via", "From", "WWW-Authenticate", "X-Unknown", "l"];
    c.bench_function("5 header names recognised", |b| {
        b.iter(|| black_box(names).map(Header::from_name));
    });
}

criterion_group! {
    name = benches;
    config = Criterion::default()
        .sample_size(30)
        .warm_up_time(Duration::from_millis(500))
        .measurement_time(Duration::from_millis(1_500));
    targets = parse, emit, route, digest, exchanges, well_known_headers
}
criterion_main!(benches);
