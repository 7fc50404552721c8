//! The parser: no message makes it panic, what it borrows lies within the message, and a message that
//! it accepts can be answered by one that it accepts.

#![no_main]

use hopbench::sip::parse::{Elements, unescaped, unquoted};
use hopbench::sip::reply::response_head;
use hopbench::sip::{Contact, Header, Message, NameAddr, ParseError, StartLine, Uri, Via};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(text) = std::str::from_utf8(bytes) {
        values(text);
    }
    if let Ok(message) = Message::parse(bytes) {
        accessors(&message);
        answer(&message);
    }
});

/// The input as the value of each kind of header field.
fn values(text: &str) {
    for element in Elements::new(text) {
        assert!(!element.is_empty() && text.contains(element));
    }
    uri(text);
    if let Some(Contact::Address(found)) = Contact::parse(text) {
        address(&found);
    }
    if let Some(via) = Via::parse(text) {
        let _ = (via.is_sip(), via.received_ip());
        assert_eq!(
            via.params.has("branch") && via.branch.is_some(),
            via.branch.is_some()
        );
        assert!(via.params.iter().all(|(name, _)| !name.is_empty()));
    }
    let _ = unquoted(text);
    assert!(unescaped(text).count() <= text.len());
}

fn address(address: &NameAddr<'_>) {
    uri(address.uri);
    assert!(address.params.iter().all(|(name, _)| !name.is_empty()));
    assert_eq!(address.tag().is_some(), address.params.iter().any(is_tag));
}

fn is_tag((name, value): (&str, Option<&str>)) -> bool {
    name.eq_ignore_ascii_case("tag") && value.is_some()
}

fn uri(text: &str) {
    if let Ok(uri) = Uri::parse(text) {
        assert!(uri.equivalent(&uri));
        assert!(!uri.host.is_empty());
        assert!(uri.params.iter().all(|(name, _)| !name.is_empty()));
    }
}

fn accessors(message: &Message<'_>) {
    let _ = (
        message.check(),
        message.call_id(),
        message.cseq(),
        message.expires(),
    );
    let _ = (message.max_forwards(), message.body(), message.via());
    let _ = message.vias().count() + message.headers().count();
    for found in message.contacts().flatten() {
        if let Contact::Address(found) = found {
            address(&found);
        }
    }
    for header in [Header::Route, Header::RecordRoute, Header::Path] {
        message
            .routes(header)
            .flatten()
            .for_each(|found| address(&found));
    }
    for found in [message.from(), message.to()].into_iter().flatten() {
        address(&found);
    }
    if let StartLine::Request { uri: text, .. } = message.start_line() {
        uri(text);
    }
}

fn answer(request: &Message<'_>) {
    let mut bytes = Vec::new();
    let source = "192.0.2.1:5060".parse().ok();
    response_head(&mut bytes, request, 200, Some("tag"), source).finish();
    match Message::parse(&bytes) {
        Ok(response) if request.check().is_ok() => assert_eq!(response.check(), Ok(())),
        // The answer may have a header field more than the request.
        Ok(_) | Err(ParseError::TooManyHeaders) => {}
        Err(error) => panic!("{error}"),
    }
}
