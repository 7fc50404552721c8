//! Properties of the parser: it never panics, and what was parsed can be written anew.

#![allow(clippy::unwrap_used)]

use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;

use super::emit::Writer;
use super::framing::{self, Frame};
use super::reply::response_head;
use super::*;

const HEAD: &str = "INVITE sip:bob@biloxi.example;transport=tcp SIP/2.0\r\n\
    Via: SIP/2.0/TCP a.example:5062;branch=z9hG4bK74bf9;rport , SIP / 2.0 / UDP [2001:db8::9]\r\n\
    From: \"Alice, \\\"the\\\" <first>\" <sip:alice@atlanta.example;lr>;tag=9fxced76sl\r\n\
    t: Bob Smith <sip:bob@biloxi.example>\r\n\
    i: 3848276298220188511@atlanta.example\r\n\
    cseq:\r\n 1\r\n\tINVITE\r\n\
    m: <sip:alice@client.example>;expires=7;q=\"0,5\", sip:alice@other;q=1, *\r\n\
    Route: <sip:p1;lr>,<sip:p2;lr>\r\n\
    Content-Length: 0\r\n\r\n";

/// Touches every accessor; the point is that none of them panics.
fn touch(message: &Message<'_>) {
    let _ = (message.check(), message.via(), message.from(), message.to());
    let _ = (message.call_id(), message.cseq(), message.max_forwards());
    let _ = (message.expires(), message.body());
    let _ = message.contacts().count() + message.headers().count() + message.vias().count();
    for address in message.routes(Header::Route).flatten() {
        let _ = (address.params.has("lr"), Uri::parse(address.uri));
    }
    for address in [message.from(), message.to()].into_iter().flatten() {
        let _ = (address.tag(), Uri::parse(address.uri));
        let _ = address.display.map(parse::unquoted);
    }
    if let StartLine::Request { uri, .. } = message.start_line() {
        if let Ok(uri) = Uri::parse(uri) {
            assert!(uri.equivalent(&uri));
        }
        let mut out = Vec::new();
        let source = "192.0.2.1:5".parse().ok();
        response_head(&mut out, message, 200, Some("t"), source).finish();
        let response = Message::parse(&out).unwrap();
        if message.check().is_ok() {
            assert_eq!(response.check(), Ok(()));
        }
    }
}

/// White space that may stand where the grammar has any.
fn space() -> impl Strategy<Value = &'static str> {
    prop_oneof![
        Just(""),
        Just(" "),
        Just("\t "),
        Just("\r\n "),
        Just(" \r\n\t")
    ]
}

fn host() -> impl Strategy<Value = String> {
    prop_oneof![
        "[a-z]([a-z0-9-]{0,5}[a-z0-9])?(\\.[a-z][a-z0-9]{0,3}){0,2}",
        any::<std::net::Ipv4Addr>().prop_map(|ip| ip.to_string()),
        any::<std::net::Ipv6Addr>().prop_map(|ip| format!("[{ip}]")),
    ]
}

/// `host[:port]`.
fn hostport() -> impl Strategy<Value = String> {
    (host(), option::of(any::<u16>())).prop_map(|(host, port)| match port {
        Some(port) => format!("{host}:{port}"),
        None => host,
    })
}

fn uri() -> impl Strategy<Value = String> {
    let user = "([a-zA-Z0-9;?&=+$,/!~*'()_.-]|%[0-9a-fA-F]{2}){1,9}(:[a-z&=+$,]{0,4})?@";
    let params = "(;[a-z/]{1,5}(=([a-z0-9:&+$]|%4[0-9A-F]){1,5})?){0,3}";
    (
        prop_oneof!["sips?:", "SIP:"],
        option::of(user),
        hostport(),
        params,
    )
        .prop_map(|(scheme, user, hostport, params)| {
            format!("{scheme}{}{hostport}{params}", user.unwrap_or_default())
        })
}

/// Parameters of a header field, liberally spaced.
fn params() -> impl Strategy<Value = String> {
    let value = prop_oneof![
        "[a-zA-Z0-9.!%*_+`'~-]{1,6}",
        "\"([ !#-\\[\\]-~é]|\\\\[ -~]){0,6}\"",
    ];
    let param = (
        space(),
        "x[a-z0-9]{0,4}",
        space(),
        option::of((space(), value)),
    );
    vec(param, 0..3).prop_map(|params| {
        let param = |(a, name, b, value): (&str, String, &str, Option<(&str, String)>)| {
            let value = value.map(|(c, value)| format!("={c}{value}"));
            format!(";{a}{name}{b}{}", value.unwrap_or_default())
        };
        params.into_iter().map(param).collect()
    })
}

/// An address in angle brackets, behind any display name.
fn address() -> impl Strategy<Value = String> {
    let display = prop_oneof![
        Just(String::new()),
        "[a-z'~+-]{1,5}( [a-z]{1,5}){0,2}",
        "\"([ !#-\\[\\]-~é]|\\\\[ -~]){0,9}\"",
    ];
    (display, space(), uri(), space(), params()).prop_map(|(display, a, uri, b, params)| {
        let address = format!("{display}{a}<{uri}>{b}{params}");
        address.trim_end().to_owned()
    })
}

fn via() -> impl Strategy<Value = String> {
    let slash = || (space(), space()).prop_map(|(a, b)| format!("{a}/{b}"));
    (slash(), slash(), "[A-Z]{3,4}", hostport(), params()).prop_map(
        |(a, b, transport, hostport, params)| {
            format!("SIP{a}2.0{b}{transport} {hostport}{params};branch=z9hG4bK")
        },
    )
}

/// Header lines, in any case, compact or not, several elements to a line or not.
fn list(names: &'static [&'static str], elements: Vec<String>) -> impl Strategy<Value = String> {
    let ways = vec((any::<bool>(), 0..names.len(), space()), elements.len());
    ways.prop_map(move |ways| {
        let mut lines = String::new();
        for (element, (joined, name, space)) in elements.iter().zip(ways) {
            if joined && !lines.is_empty() {
                lines.insert_str(lines.len() - 2, &format!("{space},{space}{element}"));
            } else {
                lines += &format!("{} :{space}{element}\r\n", names[name]);
            }
        }
        lines
    })
}

/// What a generated message says.
#[derive(Clone, Debug)]
struct Parts {
    method: String,
    uri: String,
    vias: Vec<String>,
    routes: Vec<String>,
    contacts: Vec<String>,
    from: String,
    to: String,
    number: u32,
    hops: u8,
    unknown: String,
    body: Vec<u8>,
}

fn parts() -> impl Strategy<Value = (Parts, [String; 3])> {
    let addresses = || vec(address(), 0..4);
    let names = (
        "[A-Z]{3,9}",
        uri(),
        vec(via(), 1..4),
        addresses(),
        addresses(),
    );
    let unknown = "[!-~é]([ -~é]{0,30}[!-~])?";
    let body = vec(any::<u8>(), 0..200);
    let rest = (
        address(),
        address(),
        0..1_u32 << 31,
        any::<u8>(),
        unknown,
        body,
    );
    (names, rest)
        .prop_map(|((method, uri, vias, routes, contacts), rest)| {
            let (from, to, number, hops, unknown, body) = rest;
            Parts {
                method,
                uri,
                vias,
                routes,
                contacts,
                from,
                to,
                number,
                hops,
                unknown,
                body,
            }
        })
        .prop_flat_map(|parts| {
            let lists = (
                list(&["Via", "v", "VIA"], parts.vias.clone()),
                list(&["Route", "ROUTE"], parts.routes.clone()),
                list(&["Contact", "m"], parts.contacts.clone()),
            );
            (Just(parts), lists.prop_map(|(a, b, c)| [a, b, c]))
        })
}

proptest! {
    #[test]
    fn arbitrary_bytes_never_panic(bytes in vec(any::<u8>(), 0..300)) {
        if let Ok(message) = Message::parse(&bytes) {
            touch(&message);
        }
    }

    #[test]
    fn damaged_messages_never_panic(
        at in 0..HEAD.len(),
        length in 0..20_usize,
        insert in "[ -~\r\n\"<>;,é\\\\]{0,12}",
    ) {
        let end = (at + length).min(HEAD.len());
        let bytes = [&HEAD.as_bytes()[..at], insert.as_bytes(), &HEAD.as_bytes()[end..]].concat();
        if let Ok(message) = Message::parse(&bytes) {
            touch(&message);
        }
    }

    /// parse → emit → parse: whatever spelling a message has, its values come out as they went in,
    /// and written anew from what was parsed it parses to the same.
    #[test]
    fn what_was_parsed_can_be_written_anew((parts, lists) in parts()) {
        let Parts { method, uri, number, hops, from, to, unknown, body, .. } = &parts;
        let [vias, routes, contacts] = &lists;
        let mut bytes = format!(
            "{method} {uri} SIP/2.0\r\n{vias}{routes}{contacts}f:{from};tag=a\r\nTO : {to}\r\n\
             Call-ID:c@d\r\ncSeQ: {number}\r\n {method}\r\nMax-Forwards: 00{hops}\r\n\
             X-Unknown:{unknown}\r\nl: {}\r\n\r\n", body.len()
        ).into_bytes();
        bytes.extend_from_slice(body);
        let length = bytes.len();
        prop_assert_eq!(framing::next(&bytes), Ok(Frame::Message { length }));

        let first = Message::parse(&bytes).unwrap();
        check_parts(&first, &parts)?;
        touch(&first);

        let mut again = Vec::new();
        let mut writer = Writer::request(&mut again, method, uri);
        for (name, value) in first.headers() {
            if !matches!(Header::from_name(name), Some(Header::ContentLength | Header::ContentType)) {
                writer.header(name, value);
            }
        }
        writer.body("application/octet-stream", first.body());
        check_parts(&Message::parse(&again).unwrap(), &parts)?;
    }
}

fn check_parts(message: &Message<'_>, parts: &Parts) -> Result<(), TestCaseError> {
    prop_assert_eq!(message.check(), Ok(()));
    let method = Method::from_token(&parts.method);
    let start = StartLine::Request {
        method,
        method_text: &parts.method,
        uri: &parts.uri,
    };
    prop_assert_eq!(message.start_line(), start);
    let vias: Vec<_> = message.vias().collect::<Result<_, _>>().unwrap();
    let expected: Vec<_> = parts
        .vias
        .iter()
        .map(|via| Via::parse(via).unwrap())
        .collect();
    prop_assert_eq!(vias, expected);
    let parsed = |address: &String| format!("{:?}", NameAddr::parse(address).unwrap());
    let shown = |address: Result<NameAddr<'_>, ParseError>| format!("{:?}", address.unwrap());
    let routes: Vec<_> = message.routes(Header::Route).map(shown).collect();
    prop_assert_eq!(routes, parts.routes.iter().map(parsed).collect::<Vec<_>>());
    let contacts: Vec<_> = message.contacts().collect::<Result<_, _>>().unwrap();
    let address =
        |address: &'_ String| format!("{:?}", Contact::Address(NameAddr::parse(address).unwrap()));
    let contacts: Vec<_> = contacts
        .iter()
        .map(|contact| format!("{contact:?}"))
        .collect();
    prop_assert_eq!(
        contacts,
        parts.contacts.iter().map(address).collect::<Vec<_>>()
    );
    let from = message.from().unwrap();
    prop_assert_eq!(
        (from.uri, from.tag()),
        (NameAddr::parse(&parts.from).unwrap().uri, Some("a"))
    );
    prop_assert_eq!(message.to().unwrap(), NameAddr::parse(&parts.to).unwrap());
    prop_assert_eq!(message.call_id(), Ok("c@d"));
    prop_assert_eq!(message.cseq(), Ok((parts.number, method)));
    prop_assert_eq!(message.max_forwards(), Ok(Some(parts.hops)));
    let unknown = message.headers().find(|(name, _)| *name == "X-Unknown");
    prop_assert_eq!(
        unknown.map(|(_, value)| value),
        Some(parts.unknown.as_str())
    );
    prop_assert_eq!(message.body(), &parts.body[..]);
    Ok(())
}
