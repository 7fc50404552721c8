//! Tests of the parser as a whole: [`message`](super::message) over [`parse`](super::parse), and
//! against [`emit`](super::emit).

#![allow(clippy::unwrap_used)]

use proptest::prelude::*;

use super::emit::{Writer, response_head};
use super::*;

const INVITE: &str = "INVITE sip:bob@biloxi.example;transport=tcp SIP/2.0\r\n\
    Via: SIP/2.0/TCP client.atlanta.example:5062;branch=z9hG4bK74bf9;rport , SIP / 2.0 / UDP [2001:db8::9];branch=z1\r\n\
    v: SIP/2.0/TLS third\r\n\
    Max-Forwards: 70\r\n\
    From: \"Alice, \\\"the\\\" <first>\" <sip:alice@atlanta.example;lr>;tag=9fxced76sl\r\n\
    t: Bob Smith <sip:bob@biloxi.example>\r\n\
    i: 3848276298220188511@atlanta.example\r\n\
    cseq:\r\n 1\r\n\tINVITE\r\n\
    m: <sip:alice@client.atlanta.example;transport=tcp>;expires=7;q=\"0,5\", sip:alice@other;q=1, *\r\n\
    X-Unknown: yes\r\n\
    Content-Length: 4\r\n\
    \r\n\
    bodyrest";

#[test]
fn a_message_with_every_liberty_of_the_grammar() {
    let message = Message::parse(INVITE.as_bytes()).unwrap();
    message.check().unwrap();
    assert_eq!(message.method(), Some(Method::Invite));
    assert_eq!(message.status(), None);
    let via = message.via().unwrap();
    assert_eq!(
        (via.transport, via.host, via.port),
        ("TCP", "client.atlanta.example", Some(5062))
    );
    assert_eq!(
        (via.branch, via.rport, via.received),
        (Some("z9hG4bK74bf9"), Some(None), None)
    );
    let vias: Vec<_> = message
        .elements(Header::Via)
        .map(|via| Via::parse(via).unwrap().host)
        .collect();
    assert_eq!(vias, ["client.atlanta.example", "[2001:db8::9]", "third"]);
    let from = message.from().unwrap();
    assert_eq!(from.display, Some("Alice, \\\"the\\\" <first>"));
    assert_eq!(
        (from.uri, from.tag()),
        ("sip:alice@atlanta.example;lr", Some("9fxced76sl"))
    );
    let to = message.to().unwrap();
    assert_eq!(
        (to.display, to.uri, to.tag()),
        (Some("Bob Smith"), "sip:bob@biloxi.example", None)
    );
    assert_eq!(message.call_id(), Ok("3848276298220188511@atlanta.example"));
    assert_eq!(message.cseq(), Ok((1, Method::Invite)));
    assert_eq!(message.body(), b"body");
    assert_eq!(message.headers().count(), 10);
    assert!(
        message
            .headers()
            .any(|header| header == ("X-Unknown", "yes"))
    );
    let contacts: Vec<_> = message.contacts().collect::<Result<_, _>>().unwrap();
    let [
        Contact::Address(first),
        Contact::Address(second),
        Contact::Any,
    ] = contacts[..]
    else {
        panic!("{contacts:?}");
    };
    assert_eq!(
        (first.params.value("EXPIRES"), first.params.value("q")),
        (Some("7"), Some("\"0,5\""))
    );
    assert_eq!(
        (second.uri, second.params.value("q")),
        ("sip:alice@other", Some("1"))
    );
}

#[test]
fn every_header_is_known_by_its_name_in_any_case() {
    for name in [
        "Via",
        "WWW-AUTHENTICATE",
        "record-route",
        "Call-Id",
        "k",
        "L",
        "PROXY-AUTHORIZATION",
    ] {
        let header = Header::from_name(name).unwrap();
        assert!(name.len() == 1 || header.name().eq_ignore_ascii_case(name));
    }
    for name in ["", "x", "Vi", "Viaa", "Proxy-Authorizations-And-More"] {
        assert_eq!(Header::from_name(name), None, "{name}");
    }
}

#[test]
fn what_is_no_message_is_refused() {
    let many = format!("OPTIONS sip:a SIP/2.0\r\n{}\r\n", "a: b\r\n".repeat(129));
    for (bytes, error) in [
        ("", ParseError::NoEnd),
        ("OPTIONS sip:a SIP/2.0\r\n", ParseError::NoEnd),
        ("\r\n\r\n\r\n", ParseError::NoEnd),
        ("OPTIONS sip:a\r\n\r\n", ParseError::StartLine),
        ("OPTIONS  sip:a SIP/2.0\r\n\r\n", ParseError::StartLine),
        ("OPTIONS sip:a b SIP/2.0\r\n\r\n", ParseError::StartLine),
        ("OPT(IONS sip:a SIP/2.0\r\n\r\n", ParseError::StartLine),
        ("SIP/2.0 20 OK\r\n\r\n", ParseError::StartLine),
        ("SIP/2.0 0200 OK\r\n\r\n", ParseError::StartLine),
        ("SIP/2.0 700 OK\r\n\r\n", ParseError::StartLine),
        (many.as_str(), ParseError::TooManyHeaders),
    ] {
        assert_eq!(
            Message::parse(bytes.as_bytes()).unwrap_err(),
            error,
            "{bytes}"
        );
    }
    let bytes = b"OPTIONS sip:\xff SIP/2.0\r\n\r\n";
    assert_eq!(Message::parse(bytes).unwrap_err(), ParseError::NotUtf8);
}

#[test]
fn what_can_be_answered_parses_and_fails_the_check() {
    let valid = [
        ("Via", "SIP/2.0/UDP a;branch=z9hG4bK1"),
        ("From", "<sip:a@b>;tag=1"),
        ("To", "sip:b@c"),
        ("Call-ID", "x"),
        ("CSeq", "1 OPTIONS"),
        ("Content-Length", "0"),
    ];
    let build = |version: &str, change: Option<(&str, &str)>, more: &str| {
        let mut text = format!("OPTIONS sip:a SIP/{version}\r\n");
        for (name, value) in valid {
            match change {
                Some((changed, "")) if changed == name => {}
                Some((changed, other)) if changed == name => {
                    text += &format!("{name}: {other}\r\n")
                }
                Some(_) | None => text += &format!("{name}: {value}\r\n"),
            }
        }
        text + more + "\r\n"
    };
    let check = |text: String| Message::parse(text.as_bytes()).unwrap().check();
    assert_eq!(check(build("2.0", None, "")), Ok(()));
    assert_eq!(check(build("7.0", None, "")), Err(ParseError::Version));
    assert_eq!(
        check(build("2.0", None, "no colon\r\n")),
        Err(ParseError::HeaderLine)
    );
    assert_eq!(
        check(build("2.0", None, "t: sip:x@y\r\n")),
        Err(ParseError::Repeated(Header::To))
    );
    for header in [
        Header::Via,
        Header::From,
        Header::To,
        Header::CallId,
        Header::CSeq,
    ] {
        let text = build("2.0", Some((header.name(), "")), "");
        assert_eq!(check(text), Err(ParseError::Missing(header)));
    }
    for (header, value) in [
        (Header::Via, "SIP/2.0/UDP"),
        (Header::Via, "SIP/2.0/UDP a:99999"),
        (Header::Via, "HTTP/2.0/UDP a"),
        (Header::From, "\"open <sip:a@b>"),
        (Header::From, "<sip:a@b"),
        (Header::From, "<sip:a b>"),
        (Header::To, "<sip:a@b> trailing"),
        (Header::CallId, "a b"),
        (Header::CSeq, "1"),
        (Header::CSeq, "2147483648 OPTIONS"),
        (Header::CSeq, "+1 OPTIONS"),
        (Header::ContentLength, "+0"),
        (Header::ContentLength, "many"),
    ] {
        let text = build("2.0", Some((header.name(), value)), "");
        assert_eq!(check(text), Err(ParseError::Malformed(header)), "{value}");
    }
    let text = build("2.0", Some(("CSeq", "1 INVITE")), "");
    assert_eq!(check(text), Err(ParseError::MethodMismatch));
    let text = build("2.0", Some(("Content-Length", "5")), "");
    assert_eq!(
        check(text),
        Err(ParseError::BodyTruncated {
            expected: 5,
            found: 0
        })
    );
}

#[test]
fn uris_compare_by_meaning() {
    let same = [
        (
            "sip:%61lice@atlanta.example;transport=TCP",
            "SIP:alice@AtLanTa.ExAmple;Transport=tcp",
        ),
        (
            "sip:carol@chicago.example",
            "sip:carol@chicago.example;newparam=5",
        ),
        (
            "sip:alice@atlanta.example?subject=x",
            "sip:alice@atlanta.example?subject=x",
        ),
    ];
    let different = [
        ("SIP:ALICE@AtLanTa.ExAmple", "sip:alice@AtLanTa.ExAmple"),
        ("sip:bob@biloxi.example", "sip:bob@biloxi.example:5060"),
        (
            "sip:bob@biloxi.example",
            "sip:bob@biloxi.example;transport=udp",
        ),
        (
            "sip:carol@chicago.example",
            "sip:carol@chicago.example?Subject=next",
        ),
        ("sip:a@b", "sips:a@b"),
        ("sip:b", "sip:a@b"),
    ];
    let equivalent = |(a, b): (&str, &str)| {
        let (a, b) = (Uri::parse(a).unwrap(), Uri::parse(b).unwrap());
        (a.equivalent(&b), b.equivalent(&a))
    };
    for pair in same {
        assert_eq!(equivalent(pair), (true, true), "{pair:?}");
    }
    for pair in different {
        assert_eq!(equivalent(pair), (false, false), "{pair:?}");
    }
    // Beyond a number of parameters only the same text is equivalent.
    let many = |name: char, count: usize| format!("sip:a@b{}", format!(";{name}").repeat(count));
    let (few, most, beyond) = (many('p', 1), many('q', 32), many('q', 33));
    assert_eq!(equivalent((&few, &most)), (true, true));
    assert_eq!(equivalent((&few, &beyond)), (false, false));
    assert_eq!(equivalent((&beyond, &beyond)), (true, true));
    for text in [
        "tel:+1234",
        "sip:",
        "sip:@b",
        "sip:a@",
        "sip:a@b:x",
        "sip:a@b c",
        "nothing",
    ] {
        assert_eq!(Uri::parse(text), Err(ParseError::Uri), "{text}");
    }
    let uri = Uri::parse("sips:user;x?y@[::1]:5061;lr;maddr=m?h=1").unwrap();
    assert_eq!(
        (uri.user, uri.host, uri.port),
        (Some("user;x?y"), "[::1]", Some(5061))
    );
    assert_eq!(
        (uri.params.has("LR"), uri.params.value("maddr"), uri.headers),
        (true, Some("m"), Some("h=1"))
    );
}

/// Touches every accessor; the point is that none of them panics.
fn touch(message: &Message<'_>) {
    let _ = (message.check(), message.via(), message.from(), message.to());
    let _ = (
        message.call_id(),
        message.cseq(),
        message.expires(),
        message.body(),
    );
    let _ = message.contacts().count() + message.headers().count();
    for address in [message.from(), message.to()].into_iter().flatten() {
        let _ = (address.tag(), Uri::parse(address.uri));
    }
    if let StartLine::Request { uri, .. } = message.start_line() {
        if let Ok(uri) = Uri::parse(uri) {
            let _ = uri.equivalent(&uri);
        }
        let mut out = Vec::new();
        let source = "192.0.2.1:5".parse().ok();
        response_head(&mut out, message, 200, Some("t"), source).finish();
    }
}

proptest! {
    #[test]
    fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        if let Ok(message) = Message::parse(&bytes) {
            touch(&message);
        }
    }

    #[test]
    fn damaged_messages_never_panic(
        at in 0..INVITE.len(),
        length in 0..20_usize,
        insert in "[ -~\r\n\"<>;,é\\\\]{0,12}",
    ) {
        let end = (at + length).min(INVITE.len());
        let bytes = [&INVITE.as_bytes()[..at], insert.as_bytes(), &INVITE.as_bytes()[end..]].concat();
        if let Ok(message) = Message::parse(&bytes) {
            touch(&message);
        }
    }

    /// parse → emit → parse: what is emitted anew from a parsed message parses to the same.
    #[test]
    fn emitting_what_was_parsed_changes_nothing(
        method in "[A-Z]{3,9}",
        user in "[a-z0-9%;?&=+$,/!~*'()_.-]{1,20}",
        display in "[ -!#-\\[\\]-~]{0,20}",
        number in 0..1_u32 << 31,
        unknown in "[!-~]([ -~]{0,30}[!-~])?",
        body in proptest::collection::vec(any::<u8>(), 0..200),
    ) {
        let uri = format!("sip:{user}@example.com");
        let mut bytes = Vec::new();
        let mut writer = Writer::request(&mut bytes, &method, &uri);
        writer
            .header("Via", "SIP/2.0/TCP [2001:db8::1]:5060;branch=z9hG4bK1;rport")
            .header("From", &format!("\"{display}\" <{uri}>;tag=a"))
            .header("To", &format!("<{uri}>"))
            .header("Call-ID", "c@d")
            .cseq(number, &method)
            .header("X-Unknown", &unknown);
        writer.body("application/octet-stream", &body);

        let first = Message::parse(&bytes).unwrap();
        prop_assert_eq!(first.check(), Ok(()));
        prop_assert_eq!(first.cseq(), Ok((number, Method::from_token(&method))));
        prop_assert_eq!(first.from().unwrap().display, Some(display.as_str()));
        prop_assert_eq!(first.from().unwrap().uri, &uri);
        prop_assert_eq!(first.body(), &body[..]);
        let length = bytes.len();
        prop_assert_eq!(framing::next(&bytes), Ok(framing::Frame::Message { length }));

        let StartLine::Request { method_text, uri, .. } = first.start_line() else {
            return Err(TestCaseError::fail("a request became a response"));
        };
        let mut again = Vec::new();
        let mut writer = Writer::request(&mut again, method_text, uri);
        for (name, value) in first.headers() {
            if !matches!(Header::from_name(name), Some(Header::ContentLength | Header::ContentType)) {
                writer.header(name, value);
            }
        }
        writer.body("application/octet-stream", first.body());
        prop_assert_eq!(again, bytes);
    }
}
