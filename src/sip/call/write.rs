//! The caller's requests. Each follows from the state alone, so that a retransmission is the same
//! bytes.

use super::dialog::Dialog;
use super::{Caller, MEDIA_PORT};
use crate::sip::agent::{Agent, Branch, hex16, mix};
use crate::sip::digest::{Identity, Session};
use crate::sip::emit::{Value, Writer};
use crate::sip::header::{Header, Method};
use crate::sip::outbox::Outbox;
use crate::sip::sdp;
use crate::sip::stationery::Piece;

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
        outbox.push_with(|out| {
            let mut writer = Writer::request_with(out, Method::Invite.token(), |line| {
                self.write_callee(line, agent);
            });
            let branch = self.branch(Method::Invite, self.invite_sequence);
            agent.write_via(&mut writer, branch);
            self.write_dialog(&mut writer, agent, None);
            writer.cseq(self.invite_sequence, Method::Invite.token());
            agent
                .stationery
                .write(agent, Piece::Contact, &mut writer.lines());
            self.write_credentials_of_invite(&mut writer, agent);
            let mut media = agent.sent_by;
            media.set_port(MEDIA_PORT);
            writer.body_with(sdp::CONTENT_TYPE, |out| {
                sdp::write(out, mix(self.identity) as u32, media);
            });
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
        outbox.push_with(|out| {
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
        outbox.push_with(|out| {
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
