//! Digest: no challenge and no credentials make the parser panic, and what answers a challenge that it
//! accepts are credentials that it accepts.

#![no_main]

use hopbench::sip::digest::{Challenge, Credentials, Identity};
use hopbench::sip::emit::Value;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    if let Ok(credentials) = Credentials::parse(text) {
        let _ = credentials.prove("secret", "REGISTER");
    }
    let Ok(challenge) = Challenge::parse(text) else {
        return;
    };
    let identity = Identity {
        username: "alice",
        password: "secret",
        method: "REGISTER",
        uri: "sip:example.com",
    };
    let mut answer = Vec::new();
    identity.write_credentials(
        &mut Value::new(&mut answer),
        &challenge,
        1,
        "0123456789abcdef",
    );
    let answer = String::from_utf8(answer).expect("it was made of text");
    match Credentials::parse(&answer) {
        Ok(credentials) => {
            assert!(credentials.prove("secret", "REGISTER"));
            assert!(!credentials.prove("guess", "REGISTER"));
            assert_eq!(credentials.realm, challenge.realm);
        }
        // Servers here take nothing less than `qop=auth`.
        Err(error) => assert!(!challenge.qop_auth, "{error}: {answer}"),
    }
});
