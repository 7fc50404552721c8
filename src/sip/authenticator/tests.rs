//! Registrations and calls of one user, who answer challenges of their own at the same time.
#![allow(clippy::unwrap_used)]

use std::time::Duration;

use super::*;
use crate::sip::digest::Session;
use crate::sip::digest::{Challenge, Identity};

const LIFE: Duration = Duration::from_secs(300);

struct Fixture {
    start: Instant,
    accounts: Accounts,
    authenticator: Authenticator,
}

impl Fixture {
    fn new() -> Self {
        let start = Instant::now();
        let nonces = Nonces::new(&[7; 32], start, LIFE);
        Self {
            start,
            accounts: Accounts::new("hopbench.test", "secret", 10_000),
            authenticator: Authenticator::new(nonces, vec![Algorithm::Sha256]),
        }
    }

    /// A session of a client who was challenged so many seconds after the start.
    fn challenge(&mut self, challenger: Challenger, seconds: u64) -> Session {
        let now = self.start + Duration::from_secs(seconds);
        let nonce = self.authenticator.issue_nonce(now);
        let mut response = Vec::new();
        let mut writer = Writer::response(&mut response, challenger.status());
        let realm = self.accounts.realm();
        self.authenticator
            .write_challenges(&mut writer, challenger, realm, &nonce, false);
        writer.finish();
        Session::open(&Message::parse(&response).unwrap(), realm).unwrap()
    }

    /// A request with the session's credentials.
    fn request(&self, user: u32, method: &str, session: &Session) -> Vec<u8> {
        let username = self.accounts.username(user);
        let password = self.accounts.password(user);
        let identity = Identity {
            username: &username,
            password: &password,
            method,
            uri: "sip:hopbench.test",
        };
        let mut request = Vec::new();
        let mut writer = Writer::request(&mut request, method, identity.uri);
        session.write_credentials(&mut writer, self.accounts.realm(), &identity, "cnonce");
        writer.finish();
        request
    }

    fn judge(
        &mut self,
        challenger: Challenger,
        request: &[u8],
        seconds: u64,
    ) -> Result<u32, Unauthenticated> {
        let now = self.start + Duration::from_secs(seconds);
        let message = Message::parse(request).unwrap();
        self.authenticator
            .authenticate(&self.accounts, now, &message, challenger)
    }
}

#[test]
fn calls_and_registrations_of_a_user_do_not_disturb_each_other() {
    let mut fixture = Fixture::new();
    let mut register = fixture.challenge(Challenger::Server, 0);
    let mut call = fixture.challenge(Challenger::Proxy, 1);
    for second in 2..40 {
        for (challenger, method, session) in [
            (Challenger::Proxy, "INVITE", &mut call),
            (Challenger::Server, "REGISTER", &mut register),
        ] {
            session.advance();
            let request = fixture.request(42, method, session);
            assert_eq!(fixture.judge(challenger, &request, second), Ok(42));
            // Neither header field is good again, nor in the place of the other.
            let replayed = Err(Unauthenticated::Replayed);
            assert_eq!(fixture.judge(challenger, &request, second), replayed);
            let other = match challenger {
                Challenger::Server => Challenger::Proxy,
                Challenger::Proxy => Challenger::Server,
            };
            let absent = Err(Unauthenticated::Absent);
            assert_eq!(fixture.judge(other, &request, second), absent);
        }
    }
    assert_eq!(fixture.authenticator.users(), 1);
}

/// Requests of one nonce that overtake each other on the way are all good.
#[test]
fn order_does_not_matter_within_the_window() {
    let mut fixture = Fixture::new();
    let mut session = fixture.challenge(Challenger::Proxy, 0);
    let requests: Vec<_> = (0..8)
        .map(|_| {
            session.advance();
            fixture.request(42, "INVITE", &session)
        })
        .collect();
    for place in [3, 0, 1, 7, 5, 2, 6, 4] {
        let judged = fixture.judge(Challenger::Proxy, &requests[place], 1);
        assert_eq!(judged, Ok(42), "{place}");
    }
}

/// Credentials of a realm beside those of others, as a proxy on the way leaves them.
#[test]
fn credentials_of_other_realms_are_passed_over() {
    let mut fixture = Fixture::new();
    let mut session = fixture.challenge(Challenger::Proxy, 0);
    session.advance();
    let request = String::from_utf8(fixture.request(42, "INVITE", &session)).unwrap();
    let line = request.lines().nth(1).unwrap();
    let other = line.replace("hopbench.test\", nonce", "elsewhere.test\", nonce");
    assert_ne!(line, other);
    let garbage = "Proxy-Authorization: Digest garbage";
    let both = request.replace(line, &format!("{garbage}\r\n{other}\r\n{line}"));
    assert_eq!(fixture.judge(Challenger::Proxy, both.as_bytes(), 1), Ok(42));
}

/// A user is remembered for as long as a nonce of theirs could be replayed, and not much longer.
#[test]
fn users_are_forgotten_when_nothing_of_theirs_can_be_replayed() {
    let mut fixture = Fixture::new();
    let mut session = fixture.challenge(Challenger::Server, 0);
    session.advance();
    let requests: Vec<_> = (0..1_000)
        .map(|user| fixture.request(user, "REGISTER", &session))
        .collect();
    for (user, request) in requests.iter().enumerate() {
        let judged = fixture.judge(Challenger::Server, request, 200);
        assert_eq!(judged, Ok(user as u32));
    }
    for (second, reason) in [
        (300, Unauthenticated::Replayed),
        (301, Unauthenticated::Stale),
        (600, Unauthenticated::Stale),
    ] {
        for request in &requests {
            let judged = fixture.judge(Challenger::Server, request, second);
            assert_eq!(judged, Err(reason), "{second}");
        }
    }
    // The period of their requests lasted from 200 s to 500 s, and that after it is over too.
    fixture
        .judge(Challenger::Server, &requests[0], 901)
        .unwrap_err();
    assert_eq!(fixture.authenticator.users(), 0);
}

#[test]
fn whoever_fails_leaves_no_trace() {
    let mut fixture = Fixture::new();
    let mut session = fixture.challenge(Challenger::Server, 0);
    session.advance();
    for user in [10_000, 12_345] {
        let request = fixture.request(user, "REGISTER", &session);
        let judged = fixture.judge(Challenger::Server, &request, 1);
        assert_eq!(judged, Err(Unauthenticated::Wrong));
    }
    assert_eq!(fixture.authenticator.users(), 0);
    // A response asks for nothing that could be judged.
    let judged = fixture.judge(Challenger::Server, b"SIP/2.0 200 OK\r\n\r\n", 1);
    assert_eq!(judged, Err(Unauthenticated::Absent));
}

#[test]
fn challenges_name_the_preferred_algorithm_first() {
    let fixture = Fixture::new();
    let algorithms = vec![Algorithm::Sha512_256, Algorithm::Md5];
    let nonces = Nonces::new(&[7; 32], fixture.start, LIFE);
    let authenticator = Authenticator::new(nonces, algorithms.clone());
    let mut response = Vec::new();
    let mut writer = Writer::response(&mut response, 407);
    authenticator.write_challenges(&mut writer, Challenger::Proxy, "r", "n", true);
    writer.finish();
    let message = Message::parse(&response).unwrap();
    let lines = message.lines(Challenger::Proxy.challenge_header());
    let offered = lines.map(|line| Challenge::parse(line).unwrap());
    let offered: Vec<_> = offered.map(|c| (c.algorithm, c.stale)).collect();
    let expected: Vec<_> = algorithms.into_iter().map(|a| (a, true)).collect();
    assert_eq!(offered, expected);
}

#[test]
fn a_nonce_of_another_worker_costs_a_round_and_a_wrong_password_is_still_wrong() {
    let mut fixture = Fixture::new();
    let mut elsewhere = Fixture::new();
    elsewhere.authenticator = Authenticator::new(
        Nonces::new(&[8; 32], elsewhere.start, LIFE),
        vec![Algorithm::Sha256],
    );
    let mut session = elsewhere.challenge(Challenger::Server, 0);
    session.advance();
    let request = fixture.request(7, "REGISTER", &session);
    let judged = fixture.judge(Challenger::Server, &request, 1);
    assert_eq!(judged, Err(Unauthenticated::Stale));
    assert_eq!(fixture.authenticator.users(), 0);
    let text = String::from_utf8(request).unwrap();
    let wrong = text.replace("u00000007", "u00000008");
    let judged = fixture.judge(Challenger::Server, wrong.as_bytes(), 1);
    assert_eq!(judged, Err(Unauthenticated::Wrong));
}
