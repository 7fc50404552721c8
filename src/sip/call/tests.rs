//! Calls against a callee, or a proxy, that a script plays.

use super::*;
use crate::sip::account::Accounts;
use crate::sip::digest::{Algorithm, Credentials, write_challenge};
use crate::sip::emit::Value;
use crate::sip::header::Header;
use crate::sip::message::Message;
use crate::sip::reply::response_head;
use crate::sip::stationery::Stationery;
use crate::sip::timer::Timing;
use crate::sip::transaction::Reliability;

const BOTH: [Reliability; 2] = [Reliability::Datagram, Reliability::Stream];

/// What a response adds: To tag, further header fields.
#[derive(Clone, Copy, Default)]
struct Adds<'a> {
    tag: Option<&'a str>,
    fields: &'a [(&'a str, &'a str)],
}

const ANSWER: Adds<'_> = Adds {
    tag: Some("callee"),
    fields: &[("Contact", "<sip:answer@192.0.2.1>")],
};
const FORK: Adds<'_> = Adds {
    tag: Some("fork"),
    fields: &[
        ("Contact", "<sip:answer@192.0.2.2>"),
        ("Record-Route", "<sip:192.0.2.8;lr>, <sip:192.0.2.9;lr>"),
    ],
};

struct Stage {
    accounts: Accounts,
    timing: Timing,
    reliability: Reliability,
    start: Instant,
    now: Instant,
    caller: Caller,
    /// Requests that the caller has sent and the script has not looked at.
    sent: Vec<String>,
}

impl Stage {
    fn new(reliability: Reliability, caller: Caller) -> Self {
        let start = Instant::now();
        let mut stage = Self {
            accounts: Accounts::new("hopbench.test", "secret", 100),
            timing: Timing::default(),
            reliability,
            start,
            now: start,
            caller,
            sent: Vec::new(),
        };
        stage.step(|caller, agent, now, outbox| caller.start(agent, now, outbox));
        stage
    }

    fn step<T>(
        &mut self,
        act: impl FnOnce(&mut Caller, &Agent<'_>, Instant, &mut Outbox) -> T,
    ) -> T {
        let agent = Agent {
            accounts: &self.accounts,
            user: 42,
            transport: "TCP",
            reliability: self.reliability,
            sent_by: "127.0.0.2:40000".parse().unwrap(),
            timing: &self.timing,
            seed: 1,
            epoch: self.start,
            expires_seconds: 600,
            stationery: &Stationery::default(),
        };
        let mut outbox = Outbox::new();
        let result = act(&mut self.caller, &agent, self.now, &mut outbox);
        for message in outbox.iter() {
            Message::parse(message).unwrap().check().unwrap();
            self.sent.push(String::from_utf8(message.to_vec()).unwrap());
        }
        result
    }

    /// What was sent since the last look; by method.
    fn take(&mut self, methods: &[&str]) -> Vec<String> {
        let sent = std::mem::take(&mut self.sent);
        let found: Vec<&str> = sent
            .iter()
            .map(|text| text.split(' ').next().unwrap())
            .collect();
        assert_eq!(found, methods);
        sent
    }

    fn answer(&mut self, request: &str, status: u16, adds: Adds<'_>) -> CallEvent {
        let parsed = Message::parse(request.as_bytes()).unwrap();
        let mut response = Vec::new();
        let mut writer = response_head(&mut response, &parsed, status, adds.tag, None);
        for (name, value) in adds.fields {
            writer.header(name, value);
        }
        writer.finish();
        self.step(|caller, agent, now, outbox| {
            let response = Response::parse(&response).unwrap();
            caller.receive(agent, now, &response, outbox)
        })
    }

    fn cancel(&mut self) {
        self.step(|caller, agent, now, outbox| caller.cancel(agent, now, outbox));
    }

    fn proceed(&mut self) {
        self.step(|caller, agent, now, outbox| caller.proceed(agent, now, outbox));
    }

    /// Goes from deadline to deadline until an event comes, at most `milliseconds`.
    fn wait(&mut self, milliseconds: u64) -> (u128, CallEvent) {
        let until = self.now + Duration::from_millis(milliseconds);
        while let Some(at) = self.caller.deadline().filter(|at| *at <= until) {
            self.now = self.now.max(at);
            let event = self.step(|caller, agent, now, outbox| caller.timeout(agent, now, outbox));
            if event != CallEvent::Nothing {
                return ((self.now - self.start).as_millis(), event);
            }
        }
        self.now = until;
        ((self.now - self.start).as_millis(), CallEvent::Nothing)
    }
}

fn caller() -> Caller {
    Caller::new(3, Duration::from_secs(10))
}

fn challenge(nonce: &str) -> String {
    let mut out = Vec::new();
    let (algorithm, realm) = (Algorithm::Sha256, "hopbench.test");
    write_challenge(&mut Value::new(&mut out), algorithm, realm, nonce, false);
    String::from_utf8(out).unwrap()
}

fn header<'a>(request: &'a str, name: &str) -> Option<&'a str> {
    let field = |line: &'a str| line.strip_prefix(name)?.strip_prefix(": ");
    request.lines().find_map(field)
}

/// Challenge → header field that answers it. INVITE, its ACK and the BYE carry credentials, each with
/// what proves it.
#[test]
fn a_challenged_invite_is_tried_once_with_credentials() {
    for reliability in BOTH {
        for (status, asks, answers) in [
            (401, "WWW-Authenticate", "Authorization"),
            (407, "Proxy-Authenticate", "Proxy-Authorization"),
        ] {
            let mut stage = Stage::new(reliability, caller());
            let value = challenge("first");
            let refusal = Adds {
                tag: Some("proxy"),
                fields: &[(asks, &value)],
            };
            let first = stage.take(&["INVITE"]).remove(0);
            assert_eq!(
                stage.answer(&first, 100, Adds::default()),
                CallEvent::Nothing
            );
            assert_eq!(stage.answer(&first, status, refusal), CallEvent::Challenged);
            let [ack, second] = <[String; 2]>::try_from(stage.take(&["ACK", "INVITE"])).unwrap();
            assert_eq!(header(&ack, "Via"), header(&first, "Via"));
            assert_ne!(header(&second, "Via"), header(&first, "Via"));
            assert_eq!(header(&second, "Call-ID"), header(&first, "Call-ID"));
            assert_eq!(header(&second, "From"), header(&first, "From"));
            assert_eq!(header(&second, "CSeq"), Some("2 INVITE"));
            assert!(!header(&second, "To").unwrap().contains("tag"));

            // The ACK was lost.
            assert_eq!(stage.answer(&first, status, refusal), CallEvent::Nothing);
            assert_eq!(stage.take(&["ACK"]), [ack]);

            let answered = CallEvent::Answered {
                is_first_response: true,
            };
            assert_eq!(stage.answer(&second, 200, ANSWER), answered);
            let ack = stage.take(&["ACK"]).remove(0);
            assert_eq!(header(&ack, answers), header(&second, answers));
            assert_eq!(stage.wait(10_000), (10_000, CallEvent::ByeSent));
            let bye = stage.take(&["BYE"]).remove(0);
            assert_eq!(header(&bye, "CSeq"), Some("3 BYE"));
            for (request, method, uri, count) in [
                (&second, "INVITE", "sip:answer@hopbench.test", 1),
                (&bye, "BYE", "sip:answer@192.0.2.1", 2),
            ] {
                let credentials = Credentials::parse(header(request, answers).unwrap()).unwrap();
                assert_eq!((credentials.nonce, credentials.uri), ("first", uri));
                assert_eq!(credentials.nonce_count, count);
                assert!(credentials.prove(&stage.accounts.password(42), method));
            }
            assert_eq!(
                stage.answer(&bye, 200, Adds::default()),
                CallEvent::Completed
            );
        }
    }
}

#[test]
fn credentials_that_are_refused_end_the_call() {
    let mut stage = Stage::new(Reliability::Stream, caller());
    let value = challenge("n");
    let refusal = Adds {
        tag: Some("proxy"),
        fields: &[("Proxy-Authenticate", &value)],
    };
    let first = stage.take(&["INVITE"]).remove(0);
    stage.answer(&first, 407, refusal);
    let second = stage.take(&["ACK", "INVITE"]).remove(1);
    let failed = CallEvent::Failed(CallFailure::WrongCredentials);
    assert_eq!(stage.answer(&second, 407, refusal), failed);
    stage.take(&["ACK"]);
    assert_eq!(stage.caller.deadline(), None);

    let mut stage = Stage::new(Reliability::Stream, caller());
    let first = stage.take(&["INVITE"]).remove(0);
    let failed = CallEvent::Failed(CallFailure::Challenge(DigestError::Absent));
    assert_eq!(stage.answer(&first, 407, Adds::default()), failed);
}

/// Status → how the call ends; all are acknowledged.
#[test]
fn refusals_are_told_apart() {
    for (status, failure) in [
        (302, CallFailure::Redirected { status: 302 }),
        (404, CallFailure::Rejected { status: 404 }),
        (487, CallFailure::Rejected { status: 487 }),
        (503, CallFailure::Rejected { status: 503 }),
        (603, CallFailure::Rejected { status: 603 }),
    ] {
        let mut stage = Stage::new(Reliability::Stream, caller());
        let invite = stage.take(&["INVITE"]).remove(0);
        let event = stage.answer(&invite, status, ANSWER);
        assert_eq!(event, CallEvent::Failed(failure));
        stage.take(&["ACK"]);
    }
}

#[test]
fn cancel_waits_for_a_provisional_response() {
    for reliability in BOTH {
        for status in [100, 180] {
            let mut stage = Stage::new(reliability, caller());
            let invite = stage.take(&["INVITE"]).remove(0);
            stage.cancel();
            stage.take(&[]);
            stage.answer(&invite, status, Adds::default());
            let cancel = stage.take(&["CANCEL"]).remove(0);
            for name in ["Via", "From", "To", "Call-ID"] {
                assert_eq!(header(&cancel, name), header(&invite, name), "{name}");
            }
            assert_eq!(header(&cancel, "CSeq"), Some("1 CANCEL"));
            // Asking twice changes nothing.
            stage.cancel();
            stage.take(&[]);
            stage.answer(&cancel, 200, ANSWER);
            assert_eq!(stage.answer(&invite, 487, ANSWER), CallEvent::Cancelled);
            let ack = stage.take(&["ACK"]).remove(0);
            assert_eq!(header(&ack, "Via"), header(&invite, "Via"));
            stage.wait(100_000);
            stage.take(&[]);
        }
    }
}

#[test]
fn an_answer_that_crosses_the_cancel_is_acknowledged_and_ended() {
    for sees_provisional in [false, true] {
        let mut stage = Stage::new(Reliability::Stream, caller());
        let invite = stage.take(&["INVITE"]).remove(0);
        if sees_provisional {
            stage.answer(&invite, 180, Adds::default());
        }
        stage.cancel();
        stage.take(if sees_provisional { &["CANCEL"] } else { &[] });
        let answered = CallEvent::Answered {
            is_first_response: !sees_provisional,
        };
        assert_eq!(stage.answer(&invite, 200, ANSWER), answered);
        let bye = stage.take(&["ACK", "BYE"]).remove(1);
        assert_eq!(
            stage.answer(&bye, 200, Adds::default()),
            CallEvent::Completed
        );
    }
}

#[test]
fn a_lost_cancel_is_sent_again_and_its_invite_not_waited_for_without_end() {
    let mut stage = Stage::new(Reliability::Datagram, caller());
    let invite = stage.take(&["INVITE"]).remove(0);
    stage.answer(&invite, 180, Adds::default());
    stage.cancel();
    assert_eq!(stage.wait(1_500), (1_500, CallEvent::Nothing));
    let cancels = stage.take(&["CANCEL", "CANCEL", "CANCEL"]);
    assert!(cancels.iter().all(|cancel| *cancel == cancels[0]));
    stage.answer(&cancels[0], 200, Adds::default());
    let failed = CallEvent::Failed(CallFailure::CancelTimedOut);
    assert_eq!(stage.wait(100_000), (32_000, failed));
    stage.take(&[]);
    assert_eq!(stage.caller.deadline(), None);
}

#[test]
fn a_cancelled_invite_is_not_tried_again_with_credentials() {
    let mut stage = Stage::new(Reliability::Stream, caller());
    let invite = stage.take(&["INVITE"]).remove(0);
    stage.cancel();
    let value = challenge("n");
    let refusal = Adds {
        tag: Some("proxy"),
        fields: &[("Proxy-Authenticate", &value)],
    };
    assert_eq!(stage.answer(&invite, 407, refusal), CallEvent::Cancelled);
    stage.take(&["ACK"]);
}

#[test]
fn a_second_answer_with_another_tag_is_acknowledged_and_ended() {
    let mut stage = Stage::new(Reliability::Datagram, caller());
    let invite = stage.take(&["INVITE"]).remove(0);
    stage.answer(&invite, 200, ANSWER);
    stage.take(&["ACK"]);
    assert_eq!(stage.answer(&invite, 200, FORK), CallEvent::Nothing);
    let [ack, bye] = <[String; 2]>::try_from(stage.take(&["ACK", "BYE"])).unwrap();
    for request in [&ack, &bye] {
        assert!(
            request.split(' ').nth(1) == Some("sip:answer@192.0.2.2"),
            "{request}"
        );
        assert!(header(request, "To").unwrap().ends_with(";tag=fork"));
        let routes = Some("<sip:192.0.2.9;lr>, <sip:192.0.2.8;lr>");
        assert_eq!(header(request, "Route"), routes);
    }
    // Its ACK was lost, and so was the BYE.
    stage.answer(&invite, 200, FORK);
    assert_eq!(stage.take(&["ACK"]), [ack]);
    stage.wait(500);
    assert_eq!(stage.take(&["BYE"]), std::slice::from_ref(&bye));
    assert_eq!(stage.answer(&bye, 200, Adds::default()), CallEvent::Nothing);
    // The call that was answered first goes on.
    stage.answer(&invite, 200, ANSWER);
    let ack = stage.take(&["ACK"]).remove(0);
    assert!(header(&ack, "To").unwrap().ends_with(";tag=callee"));
    assert_eq!(stage.wait(100_000), (10_000, CallEvent::ByeSent));
    let own = stage.take(&["BYE"]).remove(0);
    assert_ne!(header(&own, "Via"), header(&bye, "Via"));
    assert_eq!(
        stage.answer(&own, 200, Adds::default()),
        CallEvent::Completed
    );
}

/// Status of the BYE → the dialog has ended whatever it is.
#[test]
fn a_bye_that_is_refused_ends_the_call_all_the_same() {
    for status in [408, 481, 500] {
        let mut stage = Stage::new(Reliability::Stream, Caller::new(3, Duration::ZERO));
        let invite = stage.take(&["INVITE"]).remove(0);
        stage.answer(&invite, 200, ANSWER);
        let bye = stage.take(&["ACK", "BYE"]).remove(1);
        let failed = CallEvent::Failed(CallFailure::ByeRejected { status });
        assert_eq!(stage.answer(&bye, status, Adds::default()), failed);
        assert_eq!(stage.caller.deadline(), None);
    }
}

#[test]
fn each_transaction_waits_for_a_hop_of_its_own() {
    let caller = Caller::new(3, Duration::from_secs(1)).with_hop_per_transaction();
    let mut stage = Stage::new(Reliability::Stream, caller);
    let first = stage.take(&["INVITE"]).remove(0);
    let value = challenge("n");
    let refusal = Adds {
        tag: Some("proxy"),
        fields: &[("WWW-Authenticate", &value)],
    };
    assert_eq!(stage.answer(&first, 401, refusal), CallEvent::HopNeeded);
    stage.take(&["ACK"]);
    assert_eq!(stage.wait(5_000), (5_000, CallEvent::Nothing));
    stage.proceed();
    let second = stage.take(&["INVITE"]).remove(0);
    stage.answer(&second, 200, ANSWER);
    stage.take(&["ACK"]);
    assert_eq!(stage.wait(5_000), (6_000, CallEvent::HopNeeded));
    stage.take(&[]);
    stage.proceed();
    let bye = stage.take(&["BYE"]).remove(0);
    assert_eq!(
        stage.answer(&bye, 200, Adds::default()),
        CallEvent::Completed
    );
    // Nobody asked for anything more.
    stage.proceed();
    stage.take(&[]);
}

#[test]
fn the_contact_asks_for_the_flow_and_the_callee_is_who_was_named() {
    let caller = caller().to(Text::from("sip:u00000007@callee.test"));
    let mut stage = Stage::new(Reliability::Stream, caller);
    let invite = stage.take(&["INVITE"]).remove(0);
    assert!(invite.starts_with("INVITE sip:u00000007@callee.test SIP/2.0\r\n"));
    let to = "<sip:u00000007@callee.test>";
    assert_eq!(header(&invite, Header::To.name()), Some(to));
    let contact = "<sip:u00000042@127.0.0.2:40000;transport=tcp;ob>";
    assert_eq!(header(&invite, "Contact"), Some(contact));
}
