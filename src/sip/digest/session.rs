//! What a client keeps of a challenge, to authenticate this request and those that follow.

use super::{Algorithm, Challenge, Challenger, DigestError, Identity};
use crate::sip::emit::Writer;
use crate::sip::message::Message;
use crate::sip::text::Text;

/// The nonce of a 401 or 407 and how often it was used. What every server here sends fits inline.
///
/// ```text
/// let mut session = Session::open(&unauthorized, realm)?;
/// session.advance();                                    // each new request, not each retransmission
/// session.write_credentials(&mut writer, realm, &identity, cnonce);
/// ```
#[derive(Clone, Debug)]
pub struct Session {
    nonce: Text<32>,
    /// Realm if it is not the usual one, and opaque: what only foreign servers send.
    foreign: Option<Box<Foreign>>,
    nonce_count: u32,
    algorithm: Algorithm,
    challenger: Challenger,
    qop_auth: bool,
    stale: bool,
}

#[derive(Clone, Debug)]
struct Foreign {
    realm: Box<str>,
    opaque: Option<Box<str>>,
}

impl Session {
    /// Takes the first challenge of a 401 or 407 that can be answered. `realm` is the one that is
    /// expected: it is not kept, and has to be the same in [`Session::write_credentials`].
    ///
    /// # Errors
    /// When the response asks for no credentials, or for none that can be given.
    pub fn open(response: &Message<'_>, realm: &str) -> Result<Self, DigestError> {
        let challenger = response.status().and_then(Challenger::of_status);
        let challenger = challenger.ok_or(DigestError::Absent)?;
        let challenge = Challenge::choose(response, challenger.challenge_header())?;
        let usual = challenge.realm == realm && challenge.opaque.is_none();
        let foreign = (!usual).then(|| {
            Box::new(Foreign {
                realm: challenge.realm.into(),
                opaque: challenge.opaque.map(Into::into),
            })
        });
        Ok(Self {
            nonce: Text::from(challenge.nonce),
            foreign,
            nonce_count: 0,
            algorithm: challenge.algorithm,
            challenger,
            qop_auth: challenge.qop_auth,
            stale: challenge.stale,
        })
    }

    /// Who asked.
    #[must_use]
    pub fn challenger(&self) -> Challenger {
        self.challenger
    }

    /// The password was right, only the nonce was too old.
    #[must_use]
    pub fn is_stale(&self) -> bool {
        self.stale
    }

    /// Counts a request that will carry credentials, before they are written.
    pub fn advance(&mut self) {
        self.nonce_count += 1;
    }

    /// Writes `Authorization` or `Proxy-Authorization` for a request of `identity`. Writes the same
    /// until [`Session::advance`], as retransmissions need it.
    pub fn write_credentials(
        &self,
        writer: &mut Writer<'_>,
        realm: &str,
        identity: &Identity<'_>,
        cnonce: &str,
    ) {
        let foreign = self.foreign.as_deref();
        let challenge = Challenge {
            realm: foreign.map_or(realm, |foreign| &foreign.realm),
            nonce: &self.nonce,
            opaque: foreign.and_then(|foreign| foreign.opaque.as_deref()),
            algorithm: self.algorithm,
            qop_auth: self.qop_auth,
            stale: self.stale,
        };
        let header = self.challenger.credentials_header();
        writer.header_with(header.name(), |line| {
            identity.write_credentials(line, &challenge, self.nonce_count, cnonce);
        });
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::Credentials;
    use super::*;

    const IDENTITY: Identity<'_> = Identity {
        username: "alice",
        password: "secret",
        method: "INVITE",
        uri: "sip:bob@example.org",
    };

    fn credentials(session: &Session) -> String {
        let mut out = Vec::new();
        let mut writer = Writer::request(&mut out, IDENTITY.method, IDENTITY.uri);
        session.write_credentials(&mut writer, "usual", &IDENTITY, "cnonce");
        let text = String::from_utf8(out).unwrap();
        let line = text.lines().nth(1).unwrap();
        line.to_owned()
    }

    /// Response → header field that answers it, realm, opaque.
    #[test]
    fn both_kinds_of_challenge_are_answered() {
        for (status, asks, answers, realm, opaque) in [
            (401, "WWW-Authenticate", "Authorization", "usual", None),
            (
                407,
                "Proxy-Authenticate",
                "Proxy-Authorization",
                "usual",
                None,
            ),
            (
                407,
                "Proxy-Authenticate",
                "Proxy-Authorization",
                "other",
                Some("x"),
            ),
        ] {
            let opaque_param = opaque.map_or(String::new(), |text| format!(", opaque=\"{text}\""));
            let text = format!(
                "SIP/2.0 {status} No\r\n{asks}: Digest realm=\"{realm}\", nonce=\"n\"{opaque_param}, \
                 qop=\"auth\", algorithm=SHA-256\r\n\r\n"
            );
            let response = Message::parse(text.as_bytes()).unwrap();
            let mut session = Session::open(&response, "usual").unwrap();
            for count in [1, 2] {
                session.advance();
                let line = credentials(&session);
                assert_eq!(line, credentials(&session), "a retransmission is the same");
                let (name, value) = line.split_once(": ").unwrap();
                assert_eq!(name, answers);
                let parsed = Credentials::parse(value).unwrap();
                assert_eq!((parsed.realm, parsed.nonce_count), (realm, count));
                assert!(parsed.prove(IDENTITY.password, IDENTITY.method));
                assert_eq!(value.contains("opaque=\"x\""), opaque.is_some());
            }
        }
    }

    #[test]
    fn what_asks_for_no_credentials_opens_no_session() {
        for text in [
            "SIP/2.0 200 OK\r\nWWW-Authenticate: Digest realm=\"r\", nonce=\"n\"\r\n\r\n",
            "SIP/2.0 407 No\r\nWWW-Authenticate: Digest realm=\"r\", nonce=\"n\"\r\n\r\n",
            "SIP/2.0 401 No\r\n\r\n",
        ] {
            let response = Message::parse(text.as_bytes()).unwrap();
            let error = Session::open(&response, "r").unwrap_err();
            assert_eq!(error, DigestError::Absent, "{text}");
        }
    }
}
