//! The torture messages of RFC 4475 and RFC 5118: what a correct element makes of each.
//!
//! One row a message: the fault that the parser finds, what the server answers, and what the message
//! says once it is parsed.

#![allow(clippy::unwrap_used)]

mod registered;
mod rfc4475;
mod rfc5118;
mod server;

use hopbench::sip::{Message, ParseError};

use server::Peer;

/// What is to become of one message.
#[derive(Clone)]
struct Row {
    name: &'static str,
    section: &'static str,
    /// What parser and check say.
    verdict: Result<(), ParseError>,
    answer: Answer,
    /// Asserts what the message says; not called when nothing can be parsed.
    says: fn(&Message<'_>),
}

/// What the server sends.
#[derive(Clone, Copy)]
enum Answer {
    /// This status last.
    Status(u16),
    /// A status that tells that the request was understood: who it is for decides which.
    Understood,
    /// Nothing.
    Nothing,
}

/// Statuses of requests that were understood, though they may not be served.
const UNDERSTOOD: [u16; 8] = [200, 401, 403, 404, 405, 407, 480, 481];

/// Plays all rows, each against a server of its own.
fn play(rows: Vec<Row>, read: impl Fn(&str) -> Vec<u8>) {
    for row in rows {
        let at = format!("{} (section {})", row.name, row.section);
        let bytes = read(row.name);
        let message = Message::parse(&bytes);
        let verdict = message
            .as_ref()
            .map_err(Clone::clone)
            .and_then(Message::check);
        assert_eq!(verdict, row.verdict, "{at}");
        if let Ok(message) = &message {
            println!("{at}");
            (row.says)(message);
        }
        let sent = Peer::new().send(&server::addressed_to_us(&bytes));
        let status = sent.last().map(|sent| server::status(sent));
        match row.answer {
            Answer::Status(expected) => assert_eq!(status, Some(expected), "{at}"),
            Answer::Understood => assert!(
                status.is_some_and(|status| UNDERSTOOD.contains(&status)),
                "{at}: {status:?}"
            ),
            Answer::Nothing => assert_eq!(status, None, "{at}"),
        }
        for answer in &sent {
            let answer = Message::parse(answer).unwrap();
            assert!(row.verdict.is_err() || answer.check().is_ok(), "{at}");
        }
    }
}

fn read(folder: &str, name: &str) -> Vec<u8> {
    let root = env!("CARGO_MANIFEST_DIR");
    std::fs::read(format!("{root}/tests/torture/{folder}/{name}.dat")).unwrap()
}

/// How many messages a folder holds: no row is to be forgotten.
fn messages(folder: &str) -> usize {
    let root = env!("CARGO_MANIFEST_DIR");
    let folder = std::fs::read_dir(format!("{root}/tests/torture/{folder}"));
    folder.unwrap().count()
}
