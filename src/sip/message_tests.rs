//! Tests of the parser as a whole by example: [`message`](super::message) over
//! [`parse`](super::parse). The torture messages are in `tests/torture.rs`.

#![allow(clippy::unwrap_used)]

use super::parse::{unescaped, unquoted};
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
        ("OPTIONS  SIP/2.0\r\n\r\n", ParseError::StartLine),
        ("SIP/2.0 +20 OK\r\n\r\n", ParseError::StartLine),
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
    assert_eq!(check(text), Err(ParseError::MethodMismatch { known: true }));
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
    for text in ["tel:+1234", "soap.beep://192.0.2.1:3002", "x:y"] {
        assert_eq!(Uri::parse(text), Err(ParseError::Scheme), "{text}");
    }
    for text in [
        "<sip:a@b>",
        "1st:a",
        "tel:",
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

#[test]
fn an_untidy_start_line_can_still_be_answered() {
    for start in [
        "OPTIONS  sip:a SIP/2.0",
        "OPTIONS sip:a  SIP/2.0",
        "OPTIONS sip:a SIP/2.0 ",
    ] {
        let text = format!("{start}\r\nl: 0\r\n\r\n");
        let message = Message::parse(text.as_bytes()).unwrap();
        let StartLine::Request { uri, .. } = message.start_line() else {
            panic!("{start}");
        };
        assert_eq!(
            (uri, message.check()),
            ("sip:a", Err(ParseError::StartLine))
        );
    }
}

#[test]
fn a_line_end_within_a_value_is_refused() {
    for subject in ["a\nVia: b", "a\rb", "a\r\r\n b", "a\n b", "\n"] {
        let text = format!("OPTIONS sip:a SIP/2.0\r\nSubject: {subject}\r\nl: 0\r\n\r\n");
        let message = Message::parse(text.as_bytes()).unwrap();
        assert_eq!(message.check(), Err(ParseError::HeaderLine), "{subject:?}");
        assert_eq!(message.header(Header::Via), None, "{subject:?}");
    }
}

#[test]
fn vias_in_every_spelling() {
    let via = "SIP / 2.0 / UDP\r\n first.example : 4000 ;ttl=16; maddr = [2001:db8::1] ;hidden;branch=z;RPORT = 7";
    let via = Via::parse(via).unwrap();
    assert_eq!((via.host, via.port), ("first.example", Some(4000)));
    assert_eq!((via.branch, via.rport), (Some("z"), Some(Some(7))));
    assert_eq!(via.params.value("TTL"), Some("16"));
    assert_eq!(via.params.value("maddr"), Some("[2001:db8::1]"));
    assert!(via.params.has("hidden") && via.is_sip());
    for (received, expected) in [
        ("2001:db8::9:255", Some("2001:db8::9:255")),
        ("[2001:db8::9:255]", Some("2001:db8::9:255")),
        ("192.0.2.1", Some("192.0.2.1")),
        ("name.example", None),
    ] {
        let text = format!("SIP/2.0/UDP a;received={received}");
        let ip = Via::parse(&text).unwrap().received_ip();
        assert_eq!(ip, expected.map(|ip| ip.parse().unwrap()), "{received}");
    }
    for text in [
        "SIP/2.0/UDP",
        "SIP/2.0/UDP ",
        "SIP/2.0UDP a",
        "SIP/2.0/UDPa:5060",
        "SIP/2.0/UDP a;",
        "SIP/2.0/UDP a;;branch=z",
        "SIP/2.0/UDP a;branch=",
        "SIP/2.0/UDP a;branch=z y",
        "SIP/2.0/UDP a;x=\"open",
        "SIP/2.0/UDP a;rport=65536",
        "SIP/2.0/UDP a:",
        "SIP/2.0/UDP a b",
        "SIP/2.0/UDP 2001:db8::1",
        "SIP/2.0/UDP [2001:db8::1",
    ] {
        assert_eq!(Via::parse(text), None, "{text}");
    }
}

#[test]
fn hosts() {
    for host in [
        "a",
        "a.b.",
        "xn--a.example",
        "under_score.example",
        "1.example",
        "192.0.2.255",
        "[::]",
        "[::ffff:192.0.2.1]",
        "[2001:db8:::192.0.2.1]",
    ] {
        let text = format!("sip:{host}");
        assert_eq!(Uri::parse(&text).unwrap().host, host);
    }
    for host in [
        "",
        ".",
        "a..b",
        ".a",
        "-a",
        "a-",
        "a-.b",
        "1",
        "1.2.3",
        "192.0.2.256",
        "192.077777777777.2.25",
        "1.2.3.4.5",
        "a.1b",
        "[]",
        "[:::]",
        "[1]",
        "[192.0.2.1]",
        "[2001:db8:::1]",
        "[::1",
        "::1",
        "a b",
        "\u{e9}",
    ] {
        let text = format!("sip:{host}");
        assert_eq!(Uri::parse(&text), Err(ParseError::Uri), "{host}");
    }
    let equivalent = |left: &str, right: &str| {
        let uri = |host: &str| format!("sip:{host}");
        let (left, right) = (uri(left), uri(right));
        Uri::parse(&left)
            .unwrap()
            .equivalent(&Uri::parse(&right).unwrap())
    };
    assert!(equivalent("[2001:DB8::0:1]", "[2001:db8:0::1]"));
    assert!(!equivalent("[2001:db8::1]", "[2001:db8::2]"));
}

#[test]
fn uris_with_all_parts() {
    let uri = Uri::parse("sip:a%40b;c?d:se%20cret@h.example:1;lr;p%3b=%41[1]?x=%20y&z=").unwrap();
    assert_eq!(
        (uri.user, uri.password),
        (Some("a%40b;c?d"), Some("se%20cret"))
    );
    assert_eq!((uri.host, uri.port), ("h.example", Some(1)));
    assert_eq!(uri.params.value("p%3b"), Some("%41[1]"));
    assert_eq!(uri.headers, Some("x=%20y&z="));
    assert!(unescaped("a%40%zz%4").eq(*b"a@%zz%4"));
    for text in [
        "sip:%4@b",
        "sip:%zz@b",
        "sip:a@b@c",
        "sip::pw@b",
        "sip:a:b:c@d",
        "sip:a\"@b",
        "sip:a@b;",
        "sip:a@b;=x",
        "sip:a@b;x=",
        "sip:a@b;x=\"y\"",
        "sip:a@b?x=<y>",
        "sip:a@b:65536",
        "sip:a@b:",
    ] {
        assert_eq!(Uri::parse(text), Err(ParseError::Uri), "{text}");
    }
}

#[test]
fn addresses_with_and_without_brackets() {
    for (text, display, uri, tag) in [
        ("sip:a@b;tag=1", None, "sip:a@b", Some("1")),
        ("sip:a@b ; tag = 1", None, "sip:a@b", Some("1")),
        (
            "<sip:a@b;tag=2?x=y,z>;tag=1",
            None,
            "sip:a@b;tag=2?x=y,z",
            Some("1"),
        ),
        (
            "tel:+1-201-555-0123;tag=1",
            None,
            "tel:+1-201-555-0123",
            Some("1"),
        ),
        ("a<sip:a@b>", Some("a"), "sip:a@b", None),
        (
            "a  b\r\n c <urn:x:y>;x=\"a;tag=3\\\";\";tag=1",
            Some("a  b\r\n c"),
            "urn:x:y",
            Some("1"),
        ),
        ("\"<\\\",;>\"<sip:a@b>", Some("<\\\",;>"), "sip:a@b", None),
        ("\"\" <sip:a@b>", Some(""), "sip:a@b", None),
    ] {
        let address = NameAddr::parse(text).unwrap();
        assert_eq!(
            (address.display, address.uri, address.tag()),
            (display, uri, tag),
            "{text}"
        );
    }
    for text in [
        "",
        "<>",
        "<sip:a@b",
        "sip:a@b>",
        "\"open <sip:a@b>",
        "a, b <sip:a@b>",
        "sip:a@b?x=y",
        "sip:a,b@c",
        "< sip:a@b>",
        "<sip:a@b >",
        "<sip:a@b> x",
        "<sip:a@b>;",
        "<sip:a@b>;;x",
        "<sip:a@b>;tag=",
        "\"a\" sip:a@b",
        "a",
        "<nothing>",
    ] {
        assert_eq!(NameAddr::parse(text), None, "{text}");
    }
    assert_eq!(unquoted("\"a \\\"b\\\\ \\c\""), "a \"b\\ c");
}

#[test]
fn scalars_and_their_bounds() {
    let parse = |header: &str| {
        let text = format!("OPTIONS sip:a SIP/2.0\r\n{header}\r\n\r\n");
        let message = Message::parse(text.as_bytes()).unwrap();
        (message.max_forwards(), message.expires())
    };
    let hops = |value: &str| parse(&format!("Max-Forwards: {value}")).0;
    assert_eq!(
        [hops("0"), hops("0070"), hops("255")],
        [Ok(Some(0)), Ok(Some(70)), Ok(Some(255))]
    );
    assert_eq!([hops("256"), hops("99999999999")], [Ok(None), Ok(None)]);
    for value in ["-1", "7 0", "ten", "", "+7"] {
        assert_eq!(
            hops(value),
            Err(ParseError::Malformed(Header::MaxForwards)),
            "{value}"
        );
    }
    let expires = |value: &str| parse(&format!("Expires: {value}")).1;
    assert_eq!(
        [expires("4294967296"), expires("7")],
        [Ok(Some(u32::MAX)), Ok(Some(7))]
    );
    assert_eq!(expires("soon"), Err(ParseError::Malformed(Header::Expires)));
}

#[test]
fn routes_have_to_be_in_brackets() {
    let text = "OPTIONS sip:a SIP/2.0\r\nRoute: <sip:p1;lr>,\r\n <sip:[2001:db8::1]:5;lr>;x=\",\"\r\n\
        Path: <sip:p2;lr;ob>\r\nroute: sip:p3;lr\r\n\r\n";
    let message = Message::parse(text.as_bytes()).unwrap();
    let uris = |header| {
        let routes = message.routes(header);
        routes
            .map(|route| route.map(|route| route.uri))
            .collect::<Vec<_>>()
    };
    let malformed = Err(ParseError::Malformed(Header::Route));
    assert_eq!(
        uris(Header::Route),
        [Ok("sip:p1;lr"), Ok("sip:[2001:db8::1]:5;lr"), malformed]
    );
    assert_eq!(uris(Header::Path), [Ok("sip:p2;lr;ob")]);
    assert_eq!(uris(Header::RecordRoute), []);
}
