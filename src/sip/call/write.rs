//! The caller's requests. Each follows from the state alone, so that a retransmission is the same
//! bytes.

use super::dialog::Dialog;
use super::{Caller, MEDIA_PORT};
use crate::sip::agent::{Agent, Branch, hex16, mix};
use crate::sip::digest::{Identity, Session};
use crate::sip::emit::{Value, Writer, hex_digits};
use crate::sip::form::{Addressed, Blanks};
use crate::sip::header::{Header, Method};
use crate::sip::outbox::Outbox;
use crate::sip::sdp;
use crate::sip::stationery::{Piece, Request};

/// What a request is, and what of it differs beside the call's identity.
struct Draft<'a> {
    request: Request,
    addressed: Addressed<'a>,
    branch: Branch,
    /// The session of an INVITE, the callee's tag within a dialog.
    last: &'a [u8],
}

impl Caller {
    /// The branch of the transaction of `method` in the call's own dialog. CANCEL and the ACK of a
    /// refusal have that of their INVITE (RFC 3261 §9.1, §17.1.1.3).
    pub(super) fn branch(&self, method: Method, sequence: u32) -> Branch {
        Branch::new(self.key, self.identity, sequence, method)
    }

    /// That of `method` in the dialog of a fork, by its place.
    pub(super) fn branch_of_fork(&self, method: Method, place: usize) -> Branch {
        let identity = mix(self.identity ^ (place as u64 + 1));
        Branch::new(self.key, identity, self.bye_sequence(), method)
    }

    /// The URI that is called.
    fn write_callee(&self, line: &mut Value<'_>, agent: &Agent<'_>) {
        match &self.callee {
            Some(uri) => line.text(uri),
            None => agent.stationery.write(agent, Piece::Callee, line),
        }
    }

    pub(super) fn write_invite(&self, agent: &Agent<'_>, outbox: &mut Outbox) {
        let branch = self.branch(Method::Invite, self.invite_sequence);
        // Ten digits always: INVITEs have one length.
        let session = mix(self.identity) as u32 | 1 << 31;
        let draft = Draft {
            request: Request::Invite,
            addressed: self.addressed(None),
            branch,
            last: &ten_digits(session),
        };
        self.write_usual(&draft, agent, outbox, |out| {
            let mut writer = Writer::request_with(out, Method::Invite.token(), |line| {
                self.write_callee(line, agent);
            });
            agent.write_via(&mut writer, branch);
            self.write_dialog(&mut writer, agent, None);
            writer.cseq(self.invite_sequence, Method::Invite.token());
            agent
                .stationery
                .write(agent, Piece::Contact, &mut writer.lines());
            self.write_credentials_of_invite(&mut writer, agent);
            let mut media = agent.sent_by;
            media.set_port(MEDIA_PORT);
            writer.body_with(sdp::CONTENT_TYPE, |out| sdp::write(out, session, media));
        });
    }

    /// Who and what a request is for: one within `dialog`, or an INVITE.
    fn addressed<'a>(&'a self, dialog: Option<&'a Dialog>) -> Addressed<'a> {
        Addressed {
            callee: self.callee.as_deref().unwrap_or_default(),
            target: dialog.map_or("", |dialog| &dialog.remote_target),
            routes: dialog
                .and_then(|dialog| dialog.route_set.as_deref())
                .unwrap_or_default(),
        }
    }

    /// Writes a request by its form, unless it has credentials.
    fn write_usual(
        &self,
        draft: &Draft<'_>,
        agent: &Agent<'_>,
        outbox: &mut Outbox,
        write: impl FnOnce(&mut Vec<u8>),
    ) {
        outbox.push_with(|out| {
            if self.session.is_some() || self.invite_sequence != 1 {
                return write(out);
            }
            let tag = hex_digits(mix(self.identity));
            let call_id = hex_digits(self.identity);
            let blanks: Blanks<'_> = [&draft.branch.digits(), &tag, &call_id, draft.last];
            let Draft {
                request, addressed, ..
            } = *draft;
            let stationery = agent.stationery;
            stationery.write_request(agent, request, addressed, blanks, out, write);
        });
    }

    /// CANCEL of the INVITE under way (RFC 3261 §9.1).
    pub(super) fn write_cancel(&self, agent: &Agent<'_>, outbox: &mut Outbox) {
        self.write_beside_invite(agent, Method::Cancel, self.invite_sequence, None, outbox);
    }

    /// The ACK that belongs to an INVITE's own transaction (RFC 3261 §17.1.1.3); `tag` is that of the
    /// refusal.
    pub(super) fn write_ack_of_failure(
        &self,
        agent: &Agent<'_>,
        sequence: u32,
        tag: &str,
        outbox: &mut Outbox,
    ) {
        self.write_beside_invite(agent, Method::Ack, sequence, Some(tag), outbox);
    }

    fn write_beside_invite(
        &self,
        agent: &Agent<'_>,
        method: Method,
        sequence: u32,
        tag: Option<&str>,
        outbox: &mut Outbox,
    ) {
        outbox.push_with(|out| {
            let mut writer = Writer::request_with(out, method.token(), |line| {
                self.write_callee(line, agent);
            });
            agent.write_via(&mut writer, self.branch(Method::Invite, sequence));
            self.write_dialog(&mut writer, agent, tag);
            writer.cseq(sequence, method.token());
            writer.finish();
        });
    }

    /// The ACK of a 200 (RFC 3261 §13.2.2.4), with the credentials of the INVITE (§22.1).
    pub(super) fn write_ack(&self, agent: &Agent<'_>, outbox: &mut Outbox) {
        let branch = self.branch(Method::Ack, self.invite_sequence);
        self.write_ack_in(&self.dialog, branch, agent, outbox);
    }

    pub(super) fn write_bye(&self, agent: &Agent<'_>, outbox: &mut Outbox) {
        let branch = self.branch(Method::Bye, self.bye_sequence());
        self.write_bye_in(&self.dialog, branch, agent, outbox);
    }

    pub(super) fn write_ack_of_fork(&self, place: usize, agent: &Agent<'_>, outbox: &mut Outbox) {
        let branch = self.branch_of_fork(Method::Ack, place);
        self.write_ack_in(&self.forks[place].dialog, branch, agent, outbox);
    }

    pub(super) fn write_bye_of_fork(&self, place: usize, agent: &Agent<'_>, outbox: &mut Outbox) {
        let branch = self.branch_of_fork(Method::Bye, place);
        self.write_bye_in(&self.forks[place].dialog, branch, agent, outbox);
    }

    fn write_ack_in(
        &self,
        dialog: &Dialog,
        branch: Branch,
        agent: &Agent<'_>,
        outbox: &mut Outbox,
    ) {
        let draft = self.draft_in(Request::Ack, dialog, branch);
        self.write_usual(&draft, agent, outbox, |out| {
            let mut writer = self.start_in(out, Method::Ack, dialog, branch, agent);
            writer.cseq(self.invite_sequence, Method::Ack.token());
            self.write_credentials_of_invite(&mut writer, agent);
            writer.finish();
        });
    }

    fn write_bye_in(
        &self,
        dialog: &Dialog,
        branch: Branch,
        agent: &Agent<'_>,
        outbox: &mut Outbox,
    ) {
        let draft = self.draft_in(Request::Bye, dialog, branch);
        self.write_usual(&draft, agent, outbox, |out| {
            let mut writer = self.start_in(out, Method::Bye, dialog, branch, agent);
            let sequence = self.bye_sequence();
            writer.cseq(sequence, Method::Bye.token());
            if let Some(session) = &self.session {
                // Counts once more than the INVITE did, however often the BYE is sent.
                let mut session = session.clone();
                session.advance();
                let uri = &dialog.remote_target;
                self.write_credentials(&mut writer, agent, &session, Method::Bye, sequence, uri);
            }
            writer.finish();
        });
    }

    fn draft_in<'a>(&'a self, request: Request, dialog: &'a Dialog, branch: Branch) -> Draft<'a> {
        Draft {
            request,
            addressed: self.addressed(Some(dialog)),
            branch,
            last: dialog.remote_tag.as_bytes(),
        }
    }

    /// A request within a dialog (RFC 3261 §12.2.1.1), as far as `Call-ID`.
    fn start_in<'b>(
        &self,
        out: &'b mut Vec<u8>,
        method: Method,
        dialog: &Dialog,
        branch: Branch,
        agent: &Agent<'_>,
    ) -> Writer<'b> {
        let mut writer = Writer::request(out, method.token(), &dialog.remote_target);
        agent.write_via(&mut writer, branch);
        if let Some(routes) = &dialog.route_set {
            writer.header(Header::Route.name(), routes);
        }
        self.write_dialog(&mut writer, agent, Some(&dialog.remote_tag));
        writer
    }

    /// `From`, `To`, `Call-ID`.
    fn write_dialog(&self, writer: &mut Writer<'_>, agent: &Agent<'_>, remote_tag: Option<&str>) {
        let line = &mut writer.lines();
        agent.stationery.write(agent, Piece::From, line);
        line.hex(mix(self.identity), 16);
        line.text("\r\nTo: <");
        self.write_callee(line, agent);
        match remote_tag.filter(|tag| !tag.is_empty()) {
            Some(tag) => {
                line.text(">;tag=");
                line.text(tag);
            }
            None => line.text(">"),
        }
        line.text("\r\nCall-ID: ");
        line.hex(self.identity, 16);
        line.text("\r\n");
    }

    fn write_credentials_of_invite(&self, writer: &mut Writer<'_>, agent: &Agent<'_>) {
        let Some(session) = &self.session else {
            return;
        };
        let mut uri = Vec::new();
        self.write_callee(&mut Value::new(&mut uri), agent);
        let uri = std::str::from_utf8(&uri).expect("URIs are written as text");
        let (method, sequence) = (Method::Invite, self.invite_sequence);
        self.write_credentials(writer, agent, session, method, sequence, uri);
    }

    fn write_credentials(
        &self,
        writer: &mut Writer<'_>,
        agent: &Agent<'_>,
        session: &Session,
        method: Method,
        sequence: u32,
        uri: &str,
    ) {
        let (username, password) = (
            agent.accounts.username(agent.user),
            agent.accounts.password(agent.user),
        );
        let identity = Identity {
            username: &username,
            password: &password,
            method: method.token(),
            uri,
        };
        let cnonce = hex16(mix(self.identity ^ u64::from(sequence)));
        session.write_credentials(writer, agent.accounts.realm(), &identity, &cnonce);
    }
}

/// The decimal digits of a number that has so many.
fn ten_digits(mut number: u32) -> [u8; 10] {
    let mut digits = [b'0'; 10];
    for digit in digits.iter_mut().rev() {
        *digit += (number % 10) as u8;
        number /= 10;
    }
    digits
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;
    use crate::sip::message::Message;
    use crate::sip::reply::response_head;
    use crate::sip::response::Response;
    use crate::sip::stationery::Stationery;
    use crate::sip::text::Text;
    use crate::sip::{Accounts, Reliability, Timing};

    /// What the calls say, one after the other: calls that differ in who answers.
    fn said(
        answers: &[[&str; 3]],
        callee: Option<&str>,
        stationery: impl Fn() -> &'static Stationery,
    ) -> Vec<String> {
        let (accounts, timing) = (
            Accounts::new("example.com", "secret", 10),
            Timing::default(),
        );
        let epoch = Instant::now();
        let mut said = Vec::new();
        for (place, [tag, contact, route]) in answers.iter().enumerate() {
            let agent = Agent {
                accounts: &accounts,
                user: 3,
                transport: "TCP",
                reliability: Reliability::Stream,
                sent_by: "192.0.2.1:7".parse().unwrap(),
                timing: &timing,
                seed: 1,
                epoch,
                expires_seconds: 60,
                stationery: stationery(),
            };
            let now = epoch + Duration::from_millis(place as u64);
            let mut call = Caller::new(place as u32, Duration::ZERO);
            if let Some(callee) = callee {
                call = call.to(Text::from(callee));
            }
            let mut outbox = Outbox::new();
            call.start(&agent, now, &mut outbox);
            let invite = outbox.iter().next().unwrap().to_vec();
            let mut answer = Vec::new();
            let invite = Message::parse(&invite).unwrap();
            let mut writer = response_head(&mut answer, &invite, 200, Some(tag), None);
            writer.header("Contact", contact);
            if !route.is_empty() {
                writer.header("Record-Route", route);
            }
            writer.finish();
            let answer = Response::parse(&answer).unwrap();
            call.receive(&agent, now, &answer, &mut outbox);
            let text = |message: &[u8]| String::from_utf8(message.to_vec()).unwrap();
            said.extend(outbox.iter().map(text));
        }
        said
    }

    #[test]
    fn requests_by_form_are_those_that_are_written_piece_by_piece() {
        let near = "<sip:answer@192.0.2.2>";
        let answers = [
            ["a0000001", near, ""],
            ["a0000002", near, ""],
            ["a0000003", near, ""],
            ["a0000004", near, ""],
            ["longer-than-before", near, ""],
            ["a0000005", near, ""],
            ["a0000006", "<sip:answer@192.0.2.3>", ""],
            ["a0000007", "<sip:answer@192.0.2.3>", ""],
            ["a0000008", "<sip:answer@192.0.2.3>", ""],
            ["a0000009", near, "<sip:192.0.2.9;lr>"],
            ["a0000010", near, "<sip:192.0.2.9;lr>"],
            ["a0000011", near, "<sip:192.0.2.9;lr>"],
            ["1", near, ""],
            ["2", near, ""],
            ["3", near, ""],
        ];
        for callee in [None, Some("sip:other@example.com")] {
            let shared: &Stationery = Box::leak(Box::default());
            let by_form = said(&answers, callee, || shared);
            let piece_by_piece = said(&answers, callee, || Box::leak(Box::default()));
            // Times since each one's own epoch are the same, and so are identities.
            assert_eq!(by_form, piece_by_piece);
            assert_eq!(by_form.len(), 3 * answers.len());
        }
    }
}
