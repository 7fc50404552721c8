//! A client of vici, the protocol by which strongSwan's daemon is driven: a request at a time, over a socket
//! that the daemon listens at.

mod message;

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

pub(super) use message::Section;
use message::{MessageError, Packet, command, registration};

/// A packet of the daemon that is read; its own limit.
const PACKET_BYTES_MAX: u32 = 512 * 1024;

/// A daemon that listens.
#[derive(Debug)]
pub(super) struct Vici(UnixStream);

impl Vici {
    /// Connects to the daemon whose socket is at `path`. No answer may take longer than `limit`.
    ///
    /// # Errors
    /// When nobody listens there.
    pub(super) fn connect(path: &Path, limit: Duration) -> io::Result<Self> {
        let stream = UnixStream::connect(path)?;
        stream.set_read_timeout(Some(limit))?;
        stream.set_write_timeout(Some(limit))?;
        Ok(Self(stream))
    }

    /// Has the daemon do something; what it answers.
    ///
    /// # Errors
    /// When it cannot, in its own words.
    pub(super) fn request(&mut self, name: &str, message: &Section) -> Result<Section, ViciError> {
        self.0.write_all(&command(name, message)?)?;
        loop {
            match self.read()? {
                // What was listed before in vain, or a log line.
                Packet::Event(..) => {}
                Packet::Response(response) => return succeeded(name, response),
                Packet::UnknownCommand => return Err(ViciError::Unknown(name.to_owned())),
                other @ (Packet::EventConfirmed | Packet::UnknownEvent) => {
                    return Err(ViciError::OutOfTurn(format!("{other:?}")));
                }
            }
        }
    }

    /// Has the daemon list something: the events called `event` that it sends before it answers.
    ///
    /// # Errors
    /// When it cannot, in its own words.
    pub(super) fn list(&mut self, name: &str, event: &str) -> Result<Vec<Section>, ViciError> {
        self.0.write_all(&registration(event)?)?;
        match self.read()? {
            Packet::EventConfirmed => {}
            Packet::UnknownEvent => return Err(ViciError::Unknown(event.to_owned())),
            other @ (Packet::Event(..) | Packet::Response(_) | Packet::UnknownCommand) => {
                return Err(ViciError::OutOfTurn(format!("{other:?}")));
            }
        }
        self.0.write_all(&command(name, &Section::new())?)?;
        let mut found = Vec::new();
        loop {
            match self.read()? {
                Packet::Event(name, section) if name == event => found.push(section),
                Packet::Event(..) => {}
                Packet::Response(response) => {
                    return succeeded(name, response).map(|_| found);
                }
                Packet::UnknownCommand => return Err(ViciError::Unknown(name.to_owned())),
                other @ (Packet::EventConfirmed | Packet::UnknownEvent) => {
                    return Err(ViciError::OutOfTurn(format!("{other:?}")));
                }
            }
        }
    }

    fn read(&mut self) -> Result<Packet, ViciError> {
        let mut length = [0; 4];
        self.0.read_exact(&mut length)?;
        let length = u32::from_be_bytes(length);
        if length > PACKET_BYTES_MAX {
            return Err(ViciError::Large(length));
        }
        let mut packet = vec![0; length as usize];
        self.0.read_exact(&mut packet)?;
        Ok(Packet::decode(&packet)?)
    }
}

/// Commands that can fail say so in their answer; others say nothing of it.
fn succeeded(name: &str, response: Section) -> Result<Section, ViciError> {
    match response.text("success").as_deref() {
        None | Some("yes") => Ok(response),
        Some(_) => Err(ViciError::Refused {
            command: name.to_owned(),
            reason: response
                .text("errmsg")
                .unwrap_or_else(|| "it does not say why".to_owned()),
        }),
    }
}

/// Why the daemon did not do what was asked for.
#[derive(Debug, thiserror::Error)]
pub(super) enum ViciError {
    /// The socket broke, or there was no answer in time.
    #[error("strongSwan's daemon does not answer: {0}")]
    Io(#[from] io::Error),
    /// What came is no vici.
    #[error("strongSwan's daemon sent what is no message of vici: {0}")]
    Message(#[from] MessageError),
    /// Longer than the daemon's own limit.
    #[error("expected a packet of vici of at most {PACKET_BYTES_MAX} bytes, found {0}")]
    Large(u32),
    /// The daemon is too old, or lacks a plug-in.
    #[error("strongSwan's daemon does not know \"{0}\": expected version 5.9 or later")]
    Unknown(String),
    /// An answer to what was not asked.
    #[error("strongSwan's daemon answered out of turn: {0}")]
    OutOfTurn(String),
    /// It tried.
    #[error("strongSwan's daemon failed at {command}: {reason}")]
    Refused {
        /// What was asked for.
        command: String,
        /// In the daemon's words.
        reason: String,
    },
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    /// A client, and a daemon that has said all this already.
    fn client_of(said: &[&[u8]]) -> (Vici, UnixStream) {
        let (client, mut daemon) = UnixStream::pair().unwrap();
        for packet in said {
            let length = u32::try_from(packet.len()).unwrap();
            daemon.write_all(&length.to_be_bytes()).unwrap();
            daemon.write_all(packet).unwrap();
        }
        (Vici(client), daemon)
    }

    #[test]
    fn a_refusal_is_told_in_the_daemon_s_words() {
        let said = b"\x01\x03\x07success\x00\x02no\x03\x06errmsg\x00\x04full";
        let (mut vici, _daemon) = client_of(&[said]);
        let error = vici.request("load-conn", &Section::new()).unwrap_err();
        assert_eq!(
            error.to_string(),
            "strongSwan's daemon failed at load-conn: full"
        );
    }

    #[test]
    fn what_is_listed_are_the_events_before_the_answer() {
        let (mut vici, mut daemon) = client_of(&[
            b"\x05",
            b"\x07\x07list-sa\x03\x01a\x00\x011",
            b"\x07\x03log\x03\x01a\x00\x012",
            b"\x07\x07list-sa\x03\x01a\x00\x013",
            b"\x01",
        ]);
        let found = vici.list("list-sas", "list-sa").unwrap();
        let texts: Vec<_> = found.iter().map(|section| section.text("a")).collect();
        assert_eq!(texts, [Some("1".to_owned()), Some("3".to_owned())]);
        let mut asked = [0; 13 + 14];
        daemon.read_exact(&mut asked).unwrap();
        assert_eq!(
            &asked,
            b"\0\0\0\x09\x03\x07list-sa\0\0\0\x0a\x00\x08list-sas"
        );
    }

    #[test]
    fn what_is_not_known_or_ends_early_is_told() {
        let (mut vici, _daemon) = client_of(&[b"\x02"]);
        let error = vici.request("fly", &Section::new()).unwrap_err();
        assert!(matches!(error, ViciError::Unknown(name) if name == "fly"));
        let (mut vici, daemon) = client_of(&[]);
        drop(daemon);
        let error = vici.request("version", &Section::new()).unwrap_err();
        assert!(matches!(error, ViciError::Io(_)), "{error}");
    }
}
