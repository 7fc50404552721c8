//! What every request of a user agent has in common at one end of one flow, written once: to put it together
//! anew for each takes longer than what differs. And whole requests of whom writes several in a row, as forms.

use std::cell::RefCell;
use std::net::SocketAddr;

use super::agent::{Agent, ContactHost, MAGIC_COOKIE};
use super::emit::Value;
use super::form::{Addressed, Blanks, Form};
use super::header::Header;

/// The stationery of the user agent that wrote last, among those of the same accounts. Another one that writes
/// makes it its own, without an allocation.
#[derive(Debug, Default)]
pub struct Stationery {
    sheet: RefCell<Sheet>,
    forms: RefCell<[Form<Owner>; REQUESTS]>,
}

#[derive(Debug, Default)]
struct Sheet {
    owner: Option<Owner>,
    text: Vec<u8>,
    /// Of each piece.
    ends: [usize; PIECES],
}

/// What the text depends on, the accounts apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Owner {
    user: u32,
    sent_by: SocketAddr,
    transport: &'static str,
}

/// A part of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Piece {
    /// The line of `Via` up to the magic cookie of its branch.
    Via,
    /// The line of `From` up to its tag.
    From,
    /// The line of `Contact` with the flow's address.
    Contact,
    /// The URI that is called, if the accounts say whom.
    Callee,
}

const PIECES: usize = 4;

/// A request that has a form.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Request {
    Invite,
    /// Of a 200.
    Ack,
    Bye,
}

const REQUESTS: usize = 3;

impl Stationery {
    /// Writes a piece of `agent`'s.
    pub(super) fn write(&self, agent: &Agent<'_>, piece: Piece, line: &mut Value<'_>) {
        let owner = Owner::of(agent);
        let sheet = &mut *self.sheet.borrow_mut();
        if sheet.owner != Some(owner) {
            sheet.print(agent);
            sheet.owner = Some(owner);
        }
        line.written(sheet.piece(piece));
    }

    /// Appends a request of `agent`'s: as a copy of an earlier one if there was one, else as `write` does it.
    pub(super) fn write_request(
        &self,
        agent: &Agent<'_>,
        request: Request,
        addressed: Addressed<'_>,
        blanks: Blanks<'_>,
        out: &mut Vec<u8>,
        write: impl FnOnce(&mut Vec<u8>),
    ) {
        let owner = Owner::of(agent);
        let form = &mut self.forms.borrow_mut()[request as usize];
        if !form.fill(owner, addressed, blanks, out) {
            let start = out.len();
            write(out);
            form.learn(owner, addressed, blanks, &out[start..]);
        }
    }
}

impl Owner {
    fn of(agent: &Agent<'_>) -> Self {
        Self {
            user: agent.user,
            sent_by: agent.sent_by,
            transport: agent.transport,
        }
    }
}

impl Sheet {
    fn piece(&self, piece: Piece) -> &[u8] {
        let place = piece as usize;
        let start = place.checked_sub(1).map_or(0, |before| self.ends[before]);
        &self.text[start..self.ends[place]]
    }

    fn print(&mut self, agent: &Agent<'_>) {
        self.text.clear();
        for piece in [Piece::Via, Piece::From, Piece::Contact, Piece::Callee] {
            print(piece, agent, &mut Value::new(&mut self.text));
            self.ends[piece as usize] = self.text.len();
        }
    }
}

fn print(piece: Piece, agent: &Agent<'_>, line: &mut Value<'_>) {
    let mut field = |header: Header| {
        line.text(header.name());
        line.text(": ");
    };
    match piece {
        Piece::Via => {
            field(Header::Via);
            line.text("SIP/2.0/");
            line.text(agent.transport);
            line.text(" ");
            line.address(agent.sent_by);
            line.text(";branch=");
            line.text(MAGIC_COOKIE);
        }
        Piece::From => {
            field(Header::From);
            line.text("<");
            agent.write_aor(line, &agent.accounts.username(agent.user));
            line.text(">;tag=");
        }
        Piece::Contact => {
            field(Header::Contact);
            agent.write_contact_uri(line, ContactHost::Address);
            line.text("\r\n");
        }
        Piece::Callee => agent.accounts.write_callee(line, agent.user),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::time::Instant;

    use super::*;
    use crate::sip::{Accounts, Reliability, Timing};

    #[test]
    fn whoever_writes_writes_its_own() {
        let accounts = Accounts::new("example.com", "secret", 10);
        let (timing, stationery) = (Timing::default(), Stationery::default());
        let written = |user, sent_by: &str, transport, piece| {
            let agent = Agent {
                accounts: &accounts,
                user,
                transport,
                reliability: Reliability::of(transport != "UDP"),
                sent_by: sent_by.parse().unwrap(),
                timing: &timing,
                seed: 1,
                epoch: Instant::now(),
                expires_seconds: 60,
                stationery: &stationery,
            };
            let mut out = Vec::new();
            stationery.write(&agent, piece, &mut Value::new(&mut out));
            String::from_utf8(out).unwrap()
        };
        let table = [
            (
                3,
                "192.0.2.1:7",
                "TCP",
                Piece::Via,
                "Via: SIP/2.0/TCP 192.0.2.1:7;branch=z9hG4bK",
            ),
            (
                3,
                "192.0.2.1:7",
                "TCP",
                Piece::From,
                "From: <sip:u00000003@example.com>;tag=",
            ),
            (
                3,
                "192.0.2.1:7",
                "TCP",
                Piece::Callee,
                "sip:answer@example.com",
            ),
            (
                4,
                "192.0.2.1:7",
                "TCP",
                Piece::From,
                "From: <sip:u00000004@example.com>;tag=",
            ),
            (
                4,
                "192.0.2.1:8",
                "TCP",
                Piece::Via,
                "Via: SIP/2.0/TCP 192.0.2.1:8;branch=z9hG4bK",
            ),
            (
                4,
                "192.0.2.1:8",
                "UDP",
                Piece::Via,
                "Via: SIP/2.0/UDP 192.0.2.1:8;branch=z9hG4bK",
            ),
            (
                4,
                "192.0.2.1:8",
                "UDP",
                Piece::Contact,
                "Contact: <sip:u00000004@192.0.2.1:8;ob>\r\n",
            ),
        ];
        for (user, sent_by, transport, piece, expected) in table {
            assert_eq!(written(user, sent_by, transport, piece), expected);
        }
    }

    #[test]
    fn who_writes_alone_writes_a_request_twice() {
        let accounts = Accounts::new("example.com", "secret", 10);
        let (timing, stationery) = (Timing::default(), Stationery::default());
        let written = |user, blanks: [&str; 4]| {
            let agent = Agent {
                accounts: &accounts,
                user,
                transport: "TCP",
                reliability: Reliability::Stream,
                sent_by: "192.0.2.1:7".parse().unwrap(),
                timing: &timing,
                seed: 1,
                epoch: Instant::now(),
                expires_seconds: 60,
                stationery: &stationery,
            };
            let addressed = Addressed {
                callee: "",
                target: "sip:a",
                routes: "",
            };
            let (mut out, mut is_written) = (Vec::new(), false);
            let bytes = blanks.map(str::as_bytes);
            stationery.write_request(&agent, Request::Bye, addressed, bytes, &mut out, |out| {
                is_written = true;
                out.extend_from_slice(format!("{user}: {}", blanks.concat()).as_bytes());
            });
            assert_eq!(
                String::from_utf8(out).unwrap(),
                format!("{user}: {}", blanks.concat())
            );
            is_written
        };
        let (one, other) = (["ab", "cd", "ef", "gh"], ["ij", "kl", "mn", "op"]);
        assert_eq!(
            [one, other, one, other].map(|blanks| written(1, blanks)),
            [true, true, false, false]
        );
        // Who takes turns with others writes every time.
        assert!((0..6).all(|place| written(2 + place % 2, one)));
    }
}
