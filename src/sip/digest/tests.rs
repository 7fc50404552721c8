//! Digest against the examples of the RFCs and an independent implementation.
#![allow(clippy::unwrap_used)]

use std::time::{Duration, Instant};

use proptest::prelude::*;

use super::*;

struct Example {
    identity: Identity<'static>,
    realm: &'static str,
    nonce: &'static str,
    cnonce: &'static str,
    algorithm: Algorithm,
    response: &'static str,
}

const MUFASA: Identity<'_> = Identity {
    username: "Mufasa",
    password: "Circle of Life",
    method: "GET",
    uri: "/dir/index.html",
};

/// The examples of RFC 7616 §3.9 and RFC 2617 §3.5. The response that RFC 7616 §3.9.2 prints for
/// SHA-512-256 was computed with truncated SHA-512 (erratum); this one is Python's `hashlib`'s.
const EXAMPLES: [Example; 4] = [
    Example {
        identity: MUFASA,
        realm: "http-auth@example.org",
        nonce: "7ypf/xlj9XXwfDPEoM4URrv/xwf94BcCAzFZH4GiTo0v",
        cnonce: "f2/wE4q74E6zIJEtWaHKaf5wv/H5QzzpXusqGemxURZJ",
        algorithm: Algorithm::Md5,
        response: "8ca523f5e9506fed4657c9700eebdbec",
    },
    Example {
        identity: MUFASA,
        realm: "http-auth@example.org",
        nonce: "7ypf/xlj9XXwfDPEoM4URrv/xwf94BcCAzFZH4GiTo0v",
        cnonce: "f2/wE4q74E6zIJEtWaHKaf5wv/H5QzzpXusqGemxURZJ",
        algorithm: Algorithm::Sha256,
        response: "753927fa0e85d155564e2e272a28d1802ca10daf4496794697cf8db5856cb6c1",
    },
    Example {
        identity: Identity {
            username: "Jäsøn Doe",
            password: "Secret, or not?",
            method: "GET",
            uri: "/doe.json",
        },
        realm: "api@example.org",
        nonce: "5TsQWLVdgBdmrQ0XsxbDODV+57QdFR34I9HAbC/RVvkK",
        cnonce: "NTg6RKcb9boFIAS3KrFK9BGeh+niz/sm",
        algorithm: Algorithm::Sha512_256,
        response: "7a4e1192babbba02e91182d2895bfdbf7adafc6e48d4e517ca301974843d840c",
    },
    Example {
        identity: Identity {
            password: "Circle Of Life",
            ..MUFASA
        },
        realm: "testrealm@host.com",
        nonce: "dcd98b7102dd2f0e8b11d0f600bfb0c093",
        cnonce: "0a4f113b",
        algorithm: Algorithm::Md5,
        response: "6629fae49393a05397450978507c4ef1",
    },
];

#[test]
fn responses_are_those_of_the_examples() {
    for example in EXAMPLES {
        let qop = Some((1, example.cnonce));
        let response =
            example
                .identity
                .response(example.algorithm, example.realm, example.nonce, qop);
        assert_eq!(response.as_str(), example.response);
    }
}

fn credentials(identity: &Identity<'_>, challenge: &Challenge<'_>, count: u32) -> String {
    let mut out = Vec::new();
    identity.write_credentials(&mut Value::new(&mut out), challenge, count, "c");
    String::from_utf8(out).unwrap()
}

#[test]
fn credentials_prove_the_password_and_nothing_else() {
    for algorithm in [Algorithm::Md5, Algorithm::Sha256, Algorithm::Sha512_256] {
        let mut out = Vec::new();
        write_challenge(&mut Value::new(&mut out), algorithm, "realm", "nonce", true);
        let text = String::from_utf8(out).unwrap();
        let challenge = Challenge::parse(&text).unwrap();
        assert_eq!((challenge.algorithm, challenge.stale), (algorithm, true));
        assert_eq!((challenge.realm, challenge.nonce), ("realm", "nonce"));
        let text = credentials(&MUFASA, &challenge, 0x2a);
        let parsed = Credentials::parse(&text).unwrap();
        assert_eq!((parsed.nonce_count, parsed.cnonce), (0x2a, "c"));
        assert!(parsed.prove(MUFASA.password, "GET"));
        assert!(!parsed.prove("Circle of Lies", "GET"));
        assert!(!parsed.prove(MUFASA.password, "PUT"));
        for changed in [
            Credentials { uri: "/", ..parsed },
            Credentials {
                nonce_count: 1,
                ..parsed
            },
            Credentials {
                response: &parsed.response[1..],
                ..parsed
            },
            Credentials {
                response: "",
                ..parsed
            },
        ] {
            assert!(!changed.prove(MUFASA.password, "GET"));
        }
    }
}

/// Both make the same response of the same challenge, and what the other writes is understood here.
#[test]
fn an_independent_implementation_agrees() {
    use digest_auth::{AuthContext, HttpMethod};
    for algorithm in [Algorithm::Md5, Algorithm::Sha256, Algorithm::Sha512_256] {
        for (username, password, uri) in [
            ("user", "pass", "sip:example.com"),
            ("alice", "", "sips:bob@[2001:db8::1]:5061;transport=tcp?a=b"),
            ("Jäsøn Doe", "Secret, or not?", "tel:+1-201-555-0123"),
        ] {
            let mut out = Vec::new();
            let mut line = Value::new(&mut out);
            write_challenge(&mut line, algorithm, "realm", "nonce", false);
            let challenge = String::from_utf8(out).unwrap();
            let mut prompt = digest_auth::parse(&challenge).unwrap();
            let method = HttpMethod("REGISTER".into());
            let body = None::<&[u8]>;
            let mut context = AuthContext::new_with_method(username, password, uri, body, method);
            context.set_custom_cnonce("c");
            let answer = prompt.respond(&context).unwrap();
            let written = answer.to_header_string();
            let parsed = Credentials::parse(&written).unwrap();
            assert_eq!((parsed.algorithm, parsed.uri), (algorithm, uri));
            assert!(parsed.prove(password, "REGISTER"), "{written}");
            let identity = Identity {
                username,
                password,
                method: "REGISTER",
                uri,
            };
            let own = credentials(&identity, &Challenge::parse(&challenge).unwrap(), 1);
            let response = format!("response=\"{}\"", answer.response);
            assert!(own.contains(&response), "{own}: {response}");
        }
    }
}

#[test]
fn the_first_supported_challenge_is_chosen() {
    let choose = |lines: &str| {
        let text = format!("SIP/2.0 401 Unauthorized\r\n{lines}\r\n");
        let message = Message::parse(text.as_bytes()).unwrap();
        Challenge::choose(&message, Header::WwwAuthenticate).map(|chosen| chosen.algorithm)
    };
    let line = |rest: &str| format!("WWW-Authenticate: Digest realm=\"r\", nonce=\"n\"{rest}\r\n");
    let sha256 = line(", algorithm=sha-256, qop=\"auth-int, auth\"");
    let md5 = line("");
    let session = line(", algorithm=MD5-sess");
    let integrity = line(", qop=auth-int");
    assert_eq!(choose(&(sha256.clone() + &md5)), Ok(Algorithm::Sha256));
    assert_eq!(choose(&(md5.clone() + &sha256)), Ok(Algorithm::Md5));
    assert_eq!(
        choose(&(session.clone() + &integrity + &sha256)),
        Ok(Algorithm::Sha256)
    );
    let unsupported = Err(DigestError::Unsupported("a known algorithm"));
    assert_eq!(choose(&session), unsupported);
    assert_eq!(
        choose(&integrity),
        Err(DigestError::Unsupported("qop=auth"))
    );
    assert_eq!(
        choose("WWW-Authenticate: Basic realm=\"r\"\r\n"),
        Err(DigestError::Scheme)
    );
    assert_eq!(choose(""), Err(DigestError::Absent));
}

#[test]
fn challenges_without_qop_are_answered_the_old_way() {
    let challenge =
        Challenge::parse("Digest realm=\"a \\\"b\\\", c\",nonce=\"n\" , opaque=\"\"").unwrap();
    assert_eq!(
        (challenge.realm, challenge.opaque),
        ("a \\\"b\\\", c", Some(""))
    );
    let text = credentials(&MUFASA, &challenge, 1);
    assert!(
        !text.contains("nc=") && text.ends_with(", opaque=\"\""),
        "{text}"
    );
    // Servers here always offer qop and take nothing less.
    assert_eq!(Credentials::parse(&text), Err(DigestError::Missing("qop")));
}

/// What is returned within quotes must not be able to end them.
#[test]
fn quotes_within_bare_values_are_refused() {
    for realm in ["a\"", "a\"b", "a\\", "\\"] {
        let text = format!("Digest realm={realm}, nonce=n, qop=auth");
        assert_eq!(
            Challenge::parse(&text),
            Err(DigestError::Malformed),
            "{text}"
        );
    }
    let bare = Challenge::parse("Digest realm=a, nonce=n/+==, qop=auth").unwrap();
    assert_eq!((bare.realm, bare.nonce), ("a", "n/+=="));
}

#[test]
fn nonces_age_and_cannot_be_forged() {
    let start = Instant::now();
    let at = |seconds| start + Duration::from_secs(seconds);
    let mut nonces = Nonces::new(&[1; 32], start, Duration::from_secs(300));
    let (first, second) = (nonces.issue(at(10)), nonces.issue(at(10)));
    assert_ne!(first, second);
    let NonceState::Fresh(first_id) = nonces.judge(&first, at(310)) else {
        panic!("{:?}", nonces.judge(&first, at(310)));
    };
    assert!(matches!(nonces.judge(&second, at(11)), NonceState::Fresh(id) if id > first_id));
    assert_eq!(nonces.judge(&first, at(311)), NonceState::Stale);
    let others = Nonces::new(&[2; 32], start, Duration::from_secs(300));
    assert_eq!(others.judge(&first, at(11)), NonceState::Foreign);
    for index in 0..first.len() {
        let mut forged = first.as_bytes().to_vec();
        forged[index] = if forged[index] == b'A' { b'B' } else { b'A' };
        let forged = String::from_utf8(forged).unwrap();
        assert_eq!(
            nonces.judge(&forged, at(11)),
            NonceState::Foreign,
            "{index}"
        );
    }
    assert_eq!(nonces.judge("", at(11)), NonceState::Foreign);
}

proptest! {
    #[test]
    fn arbitrary_values_never_panic(value in "(Digest )?[ -~é\"\\\\,=]{0,80}") {
        let _ = (Challenge::parse(&value), Credentials::parse(&value));
        let _ = Nonces::new(&[1; 32], Instant::now(), Duration::ZERO).judge(&value, Instant::now());
    }
}
