//! A registration against scripted servers: what it sends and what it tells its owner.
#![allow(clippy::unwrap_used)]

use super::RegistrationFailure::{
    Challenge, FirstHopLacksOutbound, Redirected, Rejected, Unavailable, WrongCredentials,
};
use super::*;
use crate::sip::digest::Credentials;
use crate::sip::reply::response_head;
use crate::sip::stationery::Stationery;
use crate::sip::timer::Timing;
use crate::sip::{Accounts, Reliability};

const WWW: &str = "WWW-Authenticate: Digest realm=\"hopbench.test\", qop=\"auth\", \
                   algorithm=SHA-256, nonce=";
const PROXY: &str = "Proxy-Authenticate: Digest realm=\"edge.test\", qop=\"auth\", nonce=";

/// Registers as user 42 for 600 s and answers each request with the next of `script`, status and
/// header fields, until there is none left or the registration has ended. The requests, and what
/// came of the last response.
fn play(
    registration: &mut Registration,
    begin: fn(&mut Registration, &Agent<'_>, Instant, &mut Outbox),
    script: &[(u16, &str)],
) -> (Vec<String>, RegistrationEvent) {
    let now = Instant::now();
    let accounts = Accounts::new("hopbench.test", "secret", 100);
    let agent = Agent {
        accounts: &accounts,
        user: 42,
        transport: "TCP",
        reliability: Reliability::Stream,
        sent_by: "127.0.0.2:40000".parse().unwrap(),
        timing: &Timing::default(),
        seed: 1,
        epoch: now,
        expires_seconds: 600,
        stationery: &Stationery::default(),
    };
    let mut outbox = Outbox::new();
    begin(registration, &agent, now, &mut outbox);
    let (mut requests, mut event) = (Vec::new(), RegistrationEvent::Nothing);
    for (status, headers) in script {
        let request = outbox.iter().next().expect("the script fits").to_vec();
        outbox.clear();
        let mut response = Vec::new();
        let message = Message::parse(&request).unwrap();
        response_head(&mut response, &message, *status, Some("t"), None);
        response.extend_from_slice(format!("{headers}Content-Length: 0\r\n\r\n").as_bytes());
        let response = Message::parse(&response).unwrap();
        event = registration.receive(&agent, now, &response, &mut outbox);
        requests.push(String::from_utf8(request).unwrap());
    }
    let left = outbox.iter().map(|left| left.to_vec());
    requests.extend(left.map(|left| String::from_utf8(left).unwrap()));
    (requests, event)
}

fn registered(expires_seconds: u32) -> RegistrationEvent {
    RegistrationEvent::Registered {
        expires_seconds,
        flow_timer_seconds: None,
    }
}

/// Responses in turn → what the owner is told at last, and how many requests there were.
#[test]
fn each_answer_has_its_consequence() {
    use RegistrationEvent::{Challenged, Failed, Nothing};
    let own = "Contact: <sip:u00000042@u00000042.invalid;transport=tcp>";
    let (first, second) = (format!("{WWW}\"a\"\r\n"), format!("{WWW}\"b\"\r\n"));
    let stale = format!("{WWW}\"c\", stale=true\r\n");
    let proxy = format!("{PROXY}\"p\"\r\n");
    let granted = format!("{own};expires=300, <sip:other>;expires=7\r\n");
    let hour = format!("Min-Expires: 3600\r\n{own}\r\n");
    type Row<'a> = (Vec<(u16, &'a str)>, RegistrationEvent, usize);
    let table: Vec<Row<'_>> = vec![
        (vec![(100, "")], Nothing, 1),
        (vec![(200, "")], registered(600), 1),
        (vec![(200, "Expires: 500\r\n")], registered(500), 1),
        (vec![(200, &granted)], registered(300), 1),
        (vec![(401, &first)], Challenged, 2),
        (vec![(401, &first), (200, "")], registered(600), 2),
        (
            vec![(401, &first), (401, &second)],
            Failed(WrongCredentials),
            2,
        ),
        (
            vec![(401, &first), (401, &stale), (200, "")],
            registered(600),
            3,
        ),
        // Stale for ever.
        (
            vec![(401, &stale), (401, &stale), (401, &stale), (401, &stale)],
            Failed(WrongCredentials),
            4,
        ),
        (
            vec![(407, &proxy), (401, &first), (200, "")],
            registered(600),
            3,
        ),
        (
            vec![(401, &first), (407, &proxy), (200, "")],
            registered(600),
            3,
        ),
        (
            vec![(407, &proxy), (407, &proxy)],
            Failed(WrongCredentials),
            2,
        ),
        // The header field of the other status says nothing.
        (
            vec![(407, &first)],
            Failed(Challenge(DigestError::Absent)),
            1,
        ),
        (vec![(401, "")], Failed(Challenge(DigestError::Absent)), 1),
        (vec![(423, &hour)], Nothing, 2),
        (
            vec![(423, &hour), (401, &first), (200, "")],
            registered(3_600),
            3,
        ),
        (
            vec![(423, &hour), (423, "Min-Expires: 7200\r\n")],
            Failed(Rejected { status: 423 }),
            2,
        ),
        (
            vec![(423, "Min-Expires: 600\r\n")],
            Failed(Rejected { status: 423 }),
            1,
        ),
        (vec![(423, "")], Failed(Rejected { status: 423 }), 1),
        (
            vec![(302, "Contact: <sip:b>\r\n")],
            Failed(Redirected { status: 302 }),
            1,
        ),
        (vec![(403, "")], Failed(Rejected { status: 403 }), 1),
        (vec![(439, "")], Failed(FirstHopLacksOutbound), 1),
        (
            vec![(503, "")],
            Failed(Unavailable {
                retry_after_seconds: None,
            }),
            1,
        ),
        (
            vec![(503, "Retry-After: 120 (busy);duration=60\r\n")],
            Failed(Unavailable {
                retry_after_seconds: Some(120),
            }),
            1,
        ),
        (
            vec![(200, "Require: outbound\r\nFlow-Timer: 90\r\n")],
            RegistrationEvent::Registered {
                expires_seconds: 600,
                flow_timer_seconds: Some(90),
            },
            1,
        ),
    ];
    for (script, expected, count) in table {
        let mut registration = Registration::new(3);
        let (requests, event) = play(&mut registration, Registration::start, &script);
        assert_eq!((event, requests.len()), (expected, count), "{script:?}");
    }
}

#[test]
fn each_request_names_its_flow_and_counts_up() {
    let (server, proxy) = (format!("{WWW}\"s\"\r\n"), format!("{PROXY}\"p\"\r\n"));
    let hour = "Min-Expires: 3600\r\n";
    let script = [(407, &*proxy), (401, &server), (423, hour), (200, "")];
    let mut registration = Registration::new(3);
    let (requests, _) = play(&mut registration, Registration::start, &script);
    let (removal, event) = play(&mut registration, Registration::unregister, &[(200, "")]);
    assert_eq!(event, RegistrationEvent::Unregistered);
    let all: Vec<&String> = requests.iter().chain(&removal).collect();
    // CSeq → lifetime, and the count of each nonce.
    for (place, (expires, of_proxy, of_server)) in [
        (600, None, None),
        (600, Some(1), None),
        (600, Some(2), Some(1)),
        (3_600, Some(3), Some(2)),
        (0, Some(4), Some(3)),
    ]
    .into_iter()
    .enumerate()
    {
        let message = Message::parse(all[place].as_bytes()).unwrap();
        assert_eq!(
            message.cseq().unwrap(),
            (place as u32 + 1, Method::Register)
        );
        assert_eq!(message.expires(), Ok(Some(expires)), "{place}");
        let first = Message::parse(all[0].as_bytes()).unwrap();
        assert_eq!(message.call_id(), first.call_id());
        assert_eq!(message.header(Header::Supported), Some("path, outbound"));
        let contact = message.header(Header::Contact).unwrap();
        assert!(
            contact.contains(";reg-id=1;+sip.instance=\"<urn:uuid:"),
            "{contact}"
        );
        for (header, realm, nonce, count) in [
            (Header::ProxyAuthorization, "edge.test", "p", of_proxy),
            (Header::Authorization, "hopbench.test", "s", of_server),
        ] {
            let line = message.header(header);
            let credentials = line.map(|line| Credentials::parse(line).unwrap());
            assert_eq!(
                credentials.map(|c| c.nonce_count),
                count,
                "{place} {header:?}"
            );
            if let Some(credentials) = credentials {
                assert_eq!((credentials.realm, credentials.nonce), (realm, nonce));
            }
        }
    }
}
