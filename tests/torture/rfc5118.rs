//! The 12 messages of RFC 5118: IPv6 addresses wherever they may stand.

use hopbench::sip::{Contact, Message, ParseError, StartLine, Uri};

use crate::Answer::{self, Status, Understood};
use crate::{Row, messages, play, read};

#[test]
fn ipv6() {
    let anything: fn(&Message<'_>) = |_| {};
    let truncated = ParseError::BodyTruncated {
        expected: 268,
        found: 251,
    };
    let rows = vec![
        row("ipv6-good", "4.1", Ok(()), Understood, |message| {
            assert_eq!(host_and_port(message), ("[2001:db8::10]", None));
            assert_eq!(message.via().unwrap().host, "[2001:db8::9:1]");
            let Some(Ok(Contact::Address(contact))) = message.contacts().next() else {
                panic!("a contact is there");
            };
            assert_eq!(Uri::parse(contact.uri).unwrap().host, "[2001:db8::1]");
        }),
        row(
            "ipv6-bad",
            "4.2",
            Err(ParseError::Uri),
            Status(400),
            anything,
        ),
        row("port-ambiguous", "4.3", Ok(()), Understood, |message| {
            assert_eq!(host_and_port(message), ("[2001:db8::10:5070]", None));
        }),
        row("port-unambiguous", "4.4", Ok(()), Understood, |message| {
            assert_eq!(host_and_port(message), ("[2001:db8::10]", Some(5070)));
        }),
        row(
            "via-received-param-with-delim",
            "4.5",
            Ok(()),
            Status(481),
            received,
        ),
        row(
            "via-received-param-no-delim",
            "4.5",
            Ok(()),
            Status(200),
            received,
        ),
        // The RFC itself counts a body of 268 bytes, which it does not have.
        row(
            "ipv6-in-sdp",
            "4.6",
            Err(truncated),
            Status(400),
            |message| {
                let to = Uri::parse(message.to().unwrap().uri).unwrap();
                assert_eq!((to.user, to.host), (Some("user"), "[2001:db8::10]"));
                assert!(
                    message
                        .body()
                        .windows(20)
                        .any(|part| part == b"c=IN IP6 2001:db8::2")
                );
            },
        ),
        row("mult-ip-in-header", "4.7", Ok(()), Status(481), |message| {
            let vias: Vec<_> = message.vias().map(Result::unwrap).collect();
            let sent_by: Vec<_> = vias.iter().map(|via| (via.host, via.port)).collect();
            let expected = [
                ("[2001:db8::9:1]", Some(6050)),
                ("192.0.2.1", None),
                ("[2001:db8::9:255]", None),
            ];
            assert_eq!(sent_by, expected);
            assert_eq!(vias[2].received_ip(), Some([192, 0, 2, 200].into()));
        }),
        row("mult-ip-in-sdp", "4.8", Ok(()), Understood, |message| {
            assert_eq!(message.body().len(), 181);
        }),
        row("ipv4-mapped-ipv6", "4.9", Ok(()), Status(200), |message| {
            let vias: Vec<_> = message.vias().map(Result::unwrap).collect();
            let sent_by: Vec<_> = vias.iter().map(|via| (via.host, via.port)).collect();
            let expected = [
                ("[::ffff:192.0.2.10]", Some(19823)),
                ("[::ffff:192.0.2.2]", None),
            ];
            assert_eq!(sent_by, expected);
        }),
        row(
            "ipv6-bug-abnf-3-colons",
            "4.10",
            Ok(()),
            Status(200),
            |message| {
                let tolerated = Uri::parse(message.to().unwrap().uri).unwrap();
                let correct = Uri::parse("sip:user@[2001:db8::192.0.2.1]").unwrap();
                assert!(tolerated.equivalent(&correct));
            },
        ),
        row(
            "ipv6-correct-abnf-2-colons",
            "4.10",
            Ok(()),
            Status(200),
            |message| {
                assert_eq!(host_and_port(message), ("[2001:db8::192.0.2.1]", None));
            },
        ),
    ];
    assert_eq!(messages("rfc5118"), rows.len());
    play(rows, bytes);
}

/// The files of this RFC have the line ends of a text file, and not all have the empty line in front
/// of a body that there is not.
fn bytes(name: &str) -> Vec<u8> {
    let text = String::from_utf8(read("rfc5118", name)).unwrap();
    let end = if text.contains("\n\n") { "" } else { "\n" };
    (text + end).replace('\n', "\r\n").into_bytes()
}

#[test]
fn a_session_description_over_ipv6_is_accepted_with_the_right_length() {
    let text = String::from_utf8(bytes("ipv6-in-sdp")).unwrap();
    let text = text.replace("Content-Length: 268", "Content-Length: 251");
    let message = Message::parse(text.as_bytes()).unwrap();
    assert_eq!((message.check(), message.body().len()), (Ok(()), 251));
}

fn received(message: &Message<'_>) {
    let via = message.via().unwrap();
    assert_eq!(via.received_ip(), "2001:db8::9:255".parse().ok());
    assert_eq!(via.host, "[2001:db8::9:1]");
}

fn host_and_port<'a>(message: &Message<'a>) -> (&'a str, Option<u16>) {
    let StartLine::Request { uri, .. } = message.start_line() else {
        panic!("it is a request");
    };
    let uri = Uri::parse(uri).unwrap();
    (uri.host, uri.port)
}

fn row(
    name: &'static str,
    section: &'static str,
    verdict: Result<(), ParseError>,
    answer: Answer,
    says: fn(&Message<'_>),
) -> Row {
    Row {
        name,
        section,
        verdict,
        answer,
        says,
    }
}
