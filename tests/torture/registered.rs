//! REGISTERs of RFC 4475 whose outcome shows only behind authentication: their `Contact` in a REGISTER
//! of a user of ours.

use hopbench::sip::digest::{Challenge, Identity};
use hopbench::sip::emit::Value;
use hopbench::sip::{Contact, Header, Message, StartLine};

use crate::read;
use crate::server::{Peer, status};

/// Registers with the message's `Contact`s and credentials. Returns the response.
fn register(name: &str) -> Vec<u8> {
    let bytes = read("rfc4475", name);
    let contacts = Message::parse(&bytes).unwrap();
    let contacts = contacts.lines(Header::Contact);
    let contacts: String = contacts
        .map(|line| format!("Contact: {line}\r\n"))
        .collect();
    let mut peer = Peer::new();
    let user = peer.accounts.username(1).to_string();
    let request = |authorization: &str, number: u32| {
        format!(
            "REGISTER sip:example.com SIP/2.0\r\nVia: SIP/2.0/UDP a.example;branch=z9hG4bK{number}\r\n\
             From: <sip:{user}@example.com>;tag=1\r\nTo: <sip:{user}@example.com>\r\n\
             Call-ID: {name}\r\nCSeq: {number} REGISTER\r\n{authorization}{contacts}l: 0\r\n\r\n"
        )
    };
    let refused = peer.send(request("", 1).as_bytes()).pop().unwrap();
    let refused = Message::parse(&refused).unwrap();
    assert_eq!(refused.status(), Some(401), "{name}");
    let challenge = Challenge::choose(&refused, Header::WwwAuthenticate).unwrap();
    let password = peer.accounts.password(1);
    let identity = Identity {
        username: &user,
        password: &password,
        method: "REGISTER",
        uri: "sip:example.com",
    };
    let mut line = b"Authorization: ".to_vec();
    identity.write_credentials(&mut Value::new(&mut line), &challenge, 1, "00");
    let line = String::from_utf8(line).unwrap() + "\r\n";
    peer.send(request(&line, 2).as_bytes()).pop().unwrap()
}

/// URIs of the bindings in a response.
fn bindings(response: &[u8]) -> Vec<String> {
    let response = Message::parse(response).unwrap();
    assert!(matches!(
        response.start_line(),
        StartLine::Response { status: 200, .. }
    ));
    let address = |contact| match contact {
        Ok(Contact::Address(address)) => String::from(address.uri),
        contact => panic!("{contact:?}"),
    };
    response.contacts().map(address).collect()
}

#[test]
fn bindings_keep_their_uri_as_it_was() {
    for (name, expected) in [
        ("cparam01", &["sip:+19725552222@gw1.example.net"][..]),
        (
            "cparam02",
            &["sip:+19725552222@gw1.example.net;unknownparam"],
        ),
        (
            "regescrt",
            &["sip:user@example.com?Route=%3Csip:sip.example.com%3E"],
        ),
        (
            "escnull",
            &["sip:%00@host5.example.com", "sip:%00%00@host5.example.com"],
        ),
        ("dblreq", &["sip:j.user@host.example.com"]),
    ] {
        let mut found = bindings(&register(name));
        found.sort_by_key(String::len);
        assert_eq!(found, expected, "{name}");
    }
}

#[test]
fn a_contact_that_has_to_be_in_brackets_is_refused() {
    assert_eq!(status(&register("regbadct")), 400);
}

/// RFC 4475 §3.2.1: a branch that is nothing but the magic cookie names no transaction, so that other
/// header fields have to.
#[test]
fn requests_with_an_empty_branch_are_told_apart() {
    let bytes = read("rfc4475", "badbranch");
    let text = String::from_utf8(bytes).unwrap();
    let mut peer = Peer::new();
    let send = |peer: &mut Peer, text: &str| peer.send(text.as_bytes()).pop().unwrap();
    let first = send(&mut peer, &text);
    let other = send(&mut peer, &text.replace("badbranch.", "another."));
    let again = send(&mut peer, &text);
    let call_id = |bytes: &[u8]| Message::parse(bytes).unwrap().call_id().unwrap().to_owned();
    assert!(call_id(&first).starts_with("badbranch.") && call_id(&other).starts_with("another."));
    assert_eq!(first, again);
}
