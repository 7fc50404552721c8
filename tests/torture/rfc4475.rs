//! The 49 messages of RFC 4475. Where the RFC leaves a choice, the stricter one was taken: what is
//! ambiguous is refused, and so never forwarded.

use std::collections::HashSet;

use hopbench::sip::parse::{unescaped, unquoted};
use hopbench::sip::{Contact, Header, Message, Method, NameAddr, ParseError, StartLine, Uri};

use crate::Answer::{Nothing, Status, Understood};
use crate::server::{Peer, addressed_to_us};
use crate::{Row, messages, play, read};

/// Length of the session description that many of the messages hold.
const SDP_BYTES: usize = 150;

#[test]
fn every_message() {
    let rows = [valid_syntax(), invalid_syntax(), semantics()].concat();
    let names: HashSet<_> = rows.iter().map(|row| row.name).collect();
    assert_eq!((rows.len(), names.len(), messages("rfc4475")), (49, 49, 49));
    play(rows, bytes);
}

#[test]
fn refusals_tell_what_would_be_accepted() {
    for (name, header, value) in [
        ("intmeth", Header::Allow, "INVITE, "),
        ("esc02", Header::Allow, "INVITE, "),
        (
            "bext01",
            Header::Unsupported,
            "nothingSupportsThis, nothingSupportsThisEither",
        ),
        ("invut", Header::Accept, "application/sdp"),
    ] {
        let sent = Peer::new()
            .send(&addressed_to_us(&bytes(name)))
            .pop()
            .unwrap();
        let response = Message::parse(&sent).unwrap();
        let found = response.header(header).unwrap_or_default();
        assert!(found.starts_with(value), "{name}: {found}");
    }
}

/// The archive's `baddn` lacks the empty line at its end, which says nothing about display names.
fn bytes(name: &str) -> Vec<u8> {
    let mut bytes = read("rfc4475", name);
    if name == "baddn" {
        assert_eq!(Message::parse(&bytes).unwrap_err(), ParseError::NoEnd);
        bytes.extend_from_slice(b"\r\n");
    }
    bytes
}

fn valid_syntax() -> Vec<Row> {
    vec![
        valid("wsinv", "3.1.1.1", Understood, wsinv),
        valid("intmeth", "3.1.1.2", Status(501), intmeth),
        valid("esc01", "3.1.1.3", Understood, esc01),
        valid("escnull", "3.1.1.4", Status(401), escnull),
        valid("esc02", "3.1.1.5", Status(501), esc02),
        valid("lwsdisp", "3.1.1.6", Status(200), |message| {
            let from = message.from().unwrap();
            assert_eq!(
                (from.display, from.uri),
                (Some("caller"), "sip:caller@example.com")
            );
            assert_eq!(from.tag(), Some("323"));
        }),
        valid("longreq", "3.1.1.7", Status(200), longreq),
        valid("dblreq", "3.1.1.8", Status(401), |message| {
            assert_eq!(message.cseq(), Ok((8, Method::Register)));
            assert_eq!((message.body(), message.headers().count()), (&b""[..], 8));
        }),
        valid("semiuri", "3.1.1.9", Understood, |message| {
            let uri = request_uri(message);
            assert_eq!(
                (uri.user, uri.host),
                (Some("user;par=u%40example.net"), "example.com")
            );
            assert!(unescaped(uri.user.unwrap()).eq(*b"user;par=u@example.net"));
            assert_eq!(message.elements(Header::Accept).count(), 6);
        }),
        valid("transports", "3.1.1.10", Status(200), |message| {
            let transports: Vec<_> = message.vias().map(|via| via.unwrap().transport).collect();
            assert_eq!(transports, ["UDP", "SCTP", "TLS", "UNKNOWN", "TCP"]);
        }),
        valid("mpart01", "3.1.1.11", Understood, |message| {
            assert_eq!(message.body().len(), 553);
            assert!(message.body().contains(&0) && message.body().ends_with(b"--\r\n"));
            assert_eq!(message.via().unwrap().rport, Some(None));
            assert_eq!(routes(message), ["sip:127.0.0.1:5080"]);
        }),
        valid("unreason", "3.1.1.12", Nothing, |message| {
            let reason = "= 2**3 * 5**2 но сто девяносто девять - простое";
            let start = StartLine::Response {
                status: 200,
                reason,
            };
            assert_eq!(message.start_line(), start);
            assert_eq!(message.cseq(), Ok((35, Method::Invite)));
        }),
        valid("noreason", "3.1.1.13", Nothing, |message| {
            let start = StartLine::Response {
                status: 100,
                reason: "",
            };
            assert_eq!(message.start_line(), start);
        }),
    ]
}

fn invalid_syntax() -> Vec<Row> {
    let malformed = ParseError::Malformed;
    let truncated = ParseError::BodyTruncated {
        expected: 9999,
        found: 154,
    };
    let anything: fn(&Message<'_>) = |_| {};
    vec![
        faulty(
            "badinv01",
            "3.1.2.1",
            malformed(Header::Via),
            400,
            |message| {
                let contacts: Vec<_> = message.contacts().collect();
                assert_eq!(contacts, [Err(ParseError::Malformed(Header::Contact))]);
            },
        ),
        faulty("clerr", "3.1.2.2", truncated, 400, anything),
        faulty(
            "ncl",
            "3.1.2.3",
            malformed(Header::ContentLength),
            400,
            anything,
        ),
        faulty(
            "scalar02",
            "3.1.2.4",
            malformed(Header::CSeq),
            400,
            |message| {
                assert_eq!(message.max_forwards(), Ok(None));
                assert_eq!(message.expires(), Ok(Some(u32::MAX)));
                let contact = contacts(message)[0];
                assert_eq!(contact.params.value("expires"), Some("280297596632815"));
            },
        ),
        Row {
            answer: Nothing,
            ..faulty(
                "scalarlg",
                "3.1.2.5",
                malformed(Header::CSeq),
                0,
                |message| {
                    assert_eq!(message.status(), Some(503));
                    assert_eq!(message.seconds(Header::RetryAfter), Ok(Some(u32::MAX)));
                },
            )
        },
        faulty("quotbal", "3.1.2.6", malformed(Header::To), 400, anything),
        faulty("ltgtruri", "3.1.2.7", ParseError::Uri, 400, anything),
        faulty("lwsruri", "3.1.2.8", ParseError::Uri, 400, anything),
        faulty(
            "lwsstart",
            "3.1.2.9",
            ParseError::StartLine,
            400,
            |message| {
                assert_eq!(request_uri(message).host, "example.com");
            },
        ),
        faulty("trws", "3.1.2.10", ParseError::StartLine, 400, |message| {
            assert_eq!(request_uri(message).user, Some("remote-target"));
        }),
        faulty("escruri", "3.1.2.11", ParseError::Uri, 400, |message| {
            assert_eq!(
                request_uri(message).headers,
                Some("Route=%3Csip:example.com%3E")
            );
            assert_eq!(routes(message), [""; 0]);
        }),
        // Nobody here looks at the date.
        valid("baddate", "3.1.2.12", Status(200), |message| {
            let date = message.headers().find(|(name, _)| *name == "Date");
            assert_eq!(date, Some(("Date", "Fri, 01 Jan 2010 16:00:00 EST")));
        }),
        // Its contact is looked at when the user has proven who it is: see `registered`.
        valid("regbadct", "3.1.2.13", Status(401), |message| {
            let contacts: Vec<_> = message.contacts().collect();
            assert_eq!(contacts, [Err(ParseError::Malformed(Header::Contact))]);
        }),
        faulty(
            "badaspec",
            "3.1.2.14",
            malformed(Header::To),
            400,
            |message| {
                assert_eq!(message.from().unwrap().display, Some("Bell, Alexander"));
            },
        ),
        faulty(
            "baddn",
            "3.1.2.15",
            malformed(Header::From),
            400,
            |message| {
                assert_eq!(message.to(), Err(ParseError::Malformed(Header::To)));
            },
        ),
        faulty("badvers", "3.1.2.16", ParseError::Version, 505, |message| {
            assert!(!message.via().unwrap().is_sip());
        }),
        faulty("mismatch01", "3.1.2.17", mismatch(true), 400, anything),
        faulty("mismatch02", "3.1.2.18", mismatch(false), 501, anything),
        Row {
            answer: Nothing,
            ..faulty("bigcode", "3.1.2.19", ParseError::StartLine, 0, anything)
        },
    ]
}

fn semantics() -> Vec<Row> {
    let anything: fn(&Message<'_>) = |_| {};
    vec![
        // Answered as a request of RFC 2543 is: see `registered`.
        valid("badbranch", "3.2.1", Status(200), |message| {
            assert_eq!(message.via().unwrap().branch, Some("z9hG4bK"));
        }),
        faulty(
            "insuf",
            "3.3.1",
            ParseError::Missing(Header::From),
            400,
            |message| {
                let missing = [Header::CallId, Header::From, Header::To];
                assert_eq!(missing.map(|header| message.header(header)), [None; 3]);
            },
        ),
        valid("unkscm", "3.3.2", Status(416), |message| {
            assert_eq!(uri_error(message), ParseError::Scheme);
        }),
        valid("novelsc", "3.3.3", Status(416), |message| {
            assert_eq!(uri_error(message), ParseError::Scheme);
        }),
        // A registrar that asks for no password would say 400.
        valid("unksm2", "3.3.4", Status(401), |message| {
            assert_eq!(message.to().unwrap().uri, "isbn:2983792873");
            assert_eq!(message.from().unwrap().uri, "http://www.example.com");
            assert_eq!(contacts(message)[0].uri, "name:John_Smith");
        }),
        valid("bext01", "3.3.5", Status(420), |message| {
            let required: Vec<_> = message.elements(Header::Require).collect();
            assert_eq!(
                required,
                ["nothingSupportsThis", "nothingSupportsThisEither"]
            );
            assert_eq!(message.elements(Header::ProxyRequire).count(), 2);
        }),
        valid("invut", "3.3.6", Status(415), |message| {
            assert_eq!(
                message.header(Header::ContentType),
                Some("application/unknownformat")
            );
            assert_eq!(message.body().len(), 40);
        }),
        valid("regaut01", "3.3.7", Status(401), anything),
        faulty(
            "multi01",
            "3.3.8",
            ParseError::Repeated(Header::CallId),
            400,
            |message| {
                let repeated = [
                    Header::CallId,
                    Header::To,
                    Header::From,
                    Header::MaxForwards,
                ];
                assert_eq!(repeated.map(|header| message.lines(header).count()), [2; 4]);
            },
        ),
        faulty(
            "mcl01",
            "3.3.9",
            ParseError::Repeated(Header::ContentLength),
            400,
            anything,
        ),
        valid("bcast", "3.3.10", Nothing, |message| {
            let hosts: Vec<_> = message.vias().map(|via| via.unwrap().host).collect();
            assert_eq!(hosts, ["192.0.2.198", "255.255.255.255"]);
        }),
        // Who it is for serves it; a proxy would say 483.
        valid("zeromf", "3.3.11", Status(200), |message| {
            assert_eq!(message.max_forwards(), Ok(Some(0)));
        }),
        valid("cparam01", "3.3.12", Status(401), |message| {
            let contact = contacts(message)[0];
            assert_eq!(contact.uri, "sip:+19725552222@gw1.example.net");
            assert!(contact.params.has("unknownparam"));
        }),
        valid("cparam02", "3.3.13", Status(401), |message| {
            let contact = contacts(message)[0];
            assert!(Uri::parse(contact.uri).unwrap().params.has("unknownparam"));
            assert!(!contact.params.has("unknownparam"));
        }),
        valid("regescrt", "3.3.14", Status(401), |message| {
            let uri = Uri::parse(contacts(message)[0].uri).unwrap();
            assert_eq!(uri.headers, Some("Route=%3Csip:sip.example.com%3E"));
            assert_eq!(routes(message), [""; 0]);
        }),
        valid("sdp01", "3.3.15", Status(406), anything),
        valid("inv2543", "3.4.1", Understood, |message| {
            assert_eq!(message.via().unwrap().branch, None);
            assert_eq!(
                (message.max_forwards(), message.from().unwrap().tag()),
                (Ok(None), None)
            );
            let uri = Uri::parse(message.from().unwrap().uri).unwrap();
            assert_eq!(uri.params.value("user"), Some("phone"));
            let to = message.to().unwrap();
            assert_eq!(to.uri, "sip:+16505552222@ss1.example.net");
            assert_eq!(to.params.value("user"), Some("phone"));
            assert!(message.header(Header::ContentLength).is_none() && !message.body().is_empty());
        }),
    ]
}

fn wsinv(message: &Message<'_>) {
    let uri = request_uri(message);
    assert_eq!(
        (uri.host, uri.params.has("unknownparam")),
        ("chair-dnrc.example.com", true)
    );
    let to = message.to().unwrap();
    assert_eq!(
        (to.uri, to.tag()),
        ("sip:vivekg@chair-dnrc.example.com", Some("1918181833n"))
    );
    let from = message.from().unwrap();
    assert_eq!(
        from.display.map(unquoted).as_deref(),
        Some("J Rosenberg \\\"")
    );
    assert_eq!(from.tag(), Some("98asjd8"));
    assert_eq!(message.max_forwards(), Ok(Some(68)));
    assert_eq!(message.cseq(), Ok((9, Method::Invite)));
    let vias: Vec<_> = message.vias().map(Result::unwrap).collect();
    let named: Vec<_> = vias
        .iter()
        .map(|via| (via.transport, via.host, via.branch))
        .collect();
    let expected = [
        ("UDP", "192.0.2.2", Some("390skdjuw")),
        ("TCP", "spindle.example.com", Some("z9hG4bK9ikj8")),
        ("UDP", "192.168.255.111", Some("z9hG4bK30239")),
    ];
    assert_eq!(named, expected);
    assert_eq!(message.header(Header::Subject), Some(""));
    let unknown: Vec<_> = message
        .headers()
        .filter(|(name, _)| name.len() > 15)
        .collect();
    assert_eq!(
        unknown[0].1,
        "newfangled value\r\n continued newfangled value"
    );
    assert_eq!(unknown[1], ("UnknownHeaderWithUnusualValue", ";;,,;;,;"));
    let route = message.routes(Header::Route).next().unwrap().unwrap();
    let params = Uri::parse(route.uri).unwrap().params;
    assert_eq!(
        (params.has("lr"), params.value("unknownwith")),
        (true, Some("value"))
    );
    let contact = contacts(message)[0];
    assert_eq!(
        contact.display.map(unquoted).as_deref(),
        Some("Quoted string \"\"")
    );
    assert_eq!(contact.params.value("newparam"), Some("newvalue"));
    assert_eq!(
        (contact.params.has("secondparam"), contact.params.value("q")),
        (true, Some("0.33"))
    );
    assert_eq!(message.body().len(), SDP_BYTES);
}

fn intmeth(message: &Message<'_>) {
    let StartLine::Request {
        method,
        method_text,
        ..
    } = message.start_line()
    else {
        panic!("it is a request");
    };
    let text = "!interesting-Method0123456789_*+`.%indeed'~";
    assert_eq!((method, method_text), (Method::Other, text));
    let uri = request_uri(message);
    assert_eq!(
        uri.user,
        Some("1_unusual.URI~(to-be!sure)&isn't+it$/crazy?,/;;*")
    );
    assert_eq!(
        uri.password,
        Some("&it+has=1,weird!*pas$wo~d_too.(doesn't-it)")
    );
    assert_eq!((uri.host, uri.headers), ("example.com", None));
    assert_eq!(message.via().unwrap().branch, Some("z9hG4bK-.!%66*_+`'~"));
    let to = message.to().unwrap();
    assert_eq!(
        to.display.map(unquoted).as_deref(),
        Some("BEL:\u{7} NUL:\0 DEL:\u{7f}")
    );
    let from = message.from().unwrap();
    assert_eq!(from.display, Some("token1~` token2'+_ token3*%!.-"));
    assert_eq!(
        from.params
            .value("fromParam''~+*_!.-%")
            .map(unquoted)
            .as_deref(),
        Some("работающий")
    );
    assert_eq!(from.tag(), Some("_token~1'+`*%!-."));
    assert_eq!(
        message.call_id(),
        Ok("intmeth.word%ZK-!.*_+'@word`~)(><:\\/\"][?}{")
    );
    assert_eq!(message.cseq(), Ok((139_122_385, Method::Other)));
    assert_eq!(message.max_forwards(), Ok(Some(255)));
    let unknown = message
        .headers()
        .find(|(name, _)| *name == "extensionHeader-!.%*+_`'~");
    assert_eq!(unknown.map(|(_, value)| value), Some("\u{feff}大停電"));
}

fn esc01(message: &Message<'_>) {
    let uri = request_uri(message);
    assert_eq!(
        (uri.user, uri.host),
        (Some("sips%3Auser%40example.com"), "example.net")
    );
    let same = |left: &str, right: &str| {
        Uri::parse(left)
            .unwrap()
            .equivalent(&Uri::parse(right).unwrap())
    };
    assert!(same(message.to().unwrap().uri, "sip:user@example.com"));
    let user = Uri::parse(message.from().unwrap().uri).unwrap().user;
    assert!(unescaped(user.unwrap()).eq(*b"I have spaces"));
    let contact = contacts(message)[0].uri;
    assert!(same(
        contact,
        "sip:caller@host5.example.net;%6C%72;n%61me=v%61lue%25%34%31"
    ));
    let params = Uri::parse(contact).unwrap().params;
    let value = params.value("n%61me").unwrap();
    // Decoded once, and never again.
    assert!(unescaped(value).eq(*b"value%41") && !unescaped(value).eq(*b"valueA"));
    assert_eq!(message.body().len(), SDP_BYTES);
}

fn escnull(message: &Message<'_>) {
    let user = Uri::parse(message.to().unwrap().uri).unwrap().user.unwrap();
    assert!(unescaped(user).eq(*b"null-\0-null"));
    let uris: Vec<_> = contacts(message)
        .iter()
        .map(|contact| contact.uri)
        .collect();
    assert_eq!(
        uris,
        ["sip:%00@host5.example.com", "sip:%00%00@host5.example.com"]
    );
    let [one, two] = [uris[0], uris[1]].map(|uri| Uri::parse(uri).unwrap());
    assert!(!one.equivalent(&two));
}

fn esc02(message: &Message<'_>) {
    assert_eq!(message.method(), Some(Method::Other));
    for address in [message.to().unwrap(), message.from().unwrap()] {
        assert_eq!(address.display.map(unquoted).as_deref(), Some("%Z%45"));
    }
    let uris: Vec<_> = contacts(message)
        .iter()
        .map(|contact| contact.uri)
        .collect();
    assert_eq!(
        uris,
        [
            "sip:alias1@host1.example.com",
            "sip:alias3@host3.example.com"
        ]
    );
    assert!(message.headers().any(|(name, _)| name == "C%6Fntact"));
}

fn longreq(message: &Message<'_>) {
    let vias: Vec<_> = message.vias().map(Result::unwrap).collect();
    assert_eq!(
        (vias.len(), vias[0].host, vias[32].host),
        (34, "sip33.example.com", "sip1.example.com")
    );
    let last = vias[33];
    assert_eq!(
        (last.host, last.received),
        ("host.example.com", Some("192.0.2.5"))
    );
    let branch = format!("very{}branchvalue", "long".repeat(50));
    assert_eq!(last.branch, Some(branch.as_str()));
    let tag = format!("12{}424", "982".repeat(50));
    assert_eq!(message.from().unwrap().tag(), Some(tag.as_str()));
    let uri = Uri::parse(message.to().unwrap().uri).unwrap();
    assert_eq!((uri.port, uri.params.iter().count()), (Some(6000), 3));
    let call_id = format!("longreq.one{}longcallid", "really".repeat(20));
    assert_eq!(message.call_id(), Ok(call_id.as_str()));
    assert_eq!(message.body().len(), SDP_BYTES);
}

fn valid(
    name: &'static str,
    section: &'static str,
    answer: crate::Answer,
    says: fn(&Message<'_>),
) -> Row {
    Row {
        name,
        section,
        verdict: Ok(()),
        answer,
        says,
    }
}

fn faulty(
    name: &'static str,
    section: &'static str,
    fault: ParseError,
    status: u16,
    says: fn(&Message<'_>),
) -> Row {
    Row {
        name,
        section,
        verdict: Err(fault),
        answer: Status(status),
        says,
    }
}

fn mismatch(known: bool) -> ParseError {
    ParseError::MethodMismatch { known }
}

fn request_uri<'a>(message: &Message<'a>) -> Uri<'a> {
    let StartLine::Request { uri, .. } = message.start_line() else {
        panic!("it is a request");
    };
    Uri::parse(uri).unwrap()
}

fn uri_error(message: &Message<'_>) -> ParseError {
    let StartLine::Request { uri, .. } = message.start_line() else {
        panic!("it is a request");
    };
    Uri::parse(uri).unwrap_err()
}

fn contacts<'a>(message: &Message<'a>) -> Vec<NameAddr<'a>> {
    let address = |contact| match contact {
        Ok(Contact::Address(address)) => address,
        contact => panic!("{contact:?}"),
    };
    message.contacts().map(address).collect()
}

fn routes<'a>(message: &Message<'a>) -> Vec<&'a str> {
    message
        .routes(Header::Route)
        .map(|route| route.unwrap().uri)
        .collect()
}
