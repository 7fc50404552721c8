//! What answers to calls say of the interface that they leave by: the same each time, so it is written once.

use std::net::SocketAddr;

use super::Interface;
use super::answering::allow;
use crate::sip::account::ANSWERING_USER;
use crate::sip::emit::{Value, Writer};
use crate::sip::header::Header;
use crate::sip::sdp;
use crate::sip::transaction::Reliability;

/// Port that answers name for audio. No media flows.
const MEDIA_PORT: u16 = 4002;

/// The ends of responses that leave by one interface.
#[derive(Debug, Default)]
pub(super) struct Ready {
    /// The own address that they name. Behind a wildcard, and at a user agent, each flow may have another.
    address: Option<SocketAddr>,
    text: Vec<u8>,
    /// Where what belongs to an answer begins.
    ringing_end: usize,
}

impl Ready {
    /// Makes ready for `interface`, whose address may have changed.
    pub(super) fn of(&mut self, interface: &Interface) -> &Self {
        if self.address != Some(interface.address) {
            self.write(interface);
            self.address = Some(interface.address);
        }
        self
    }

    /// What follows in a provisional response that creates a dialog: `Contact`, and no body.
    pub(super) fn ringing(&self) -> &[u8] {
        &self.text[..self.ringing_end]
    }

    /// What follows in the 200 to an INVITE: `Contact`, `Allow` and the session description.
    pub(super) fn answer(&self) -> &[u8] {
        &self.text[self.ringing_end..]
    }

    fn write(&mut self, interface: &Interface) {
        self.text.clear();
        let mut writer = Writer::further(&mut self.text);
        write_contact(&mut writer, interface);
        writer.finish();
        self.ringing_end = self.text.len();
        let mut writer = Writer::further(&mut self.text);
        write_contact(&mut writer, interface);
        allow(&mut writer);
        let mut media = interface.address;
        media.set_port(MEDIA_PORT);
        writer.body_with(sdp::CONTENT_TYPE, |out| sdp::write(out, 1, media));
    }
}

fn write_contact(writer: &mut Writer<'_>, interface: &Interface) {
    writer.header_with(Header::Contact.name(), |line: &mut Value<'_>| {
        line.text("<sip:");
        line.text(ANSWERING_USER);
        line.text("@");
        line.address(interface.address);
        line.text(match interface.reliability {
            Reliability::Datagram => ">",
            Reliability::Stream => ";transport=tcp>",
        });
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn follows_the_address() {
        let mut ready = Ready::default();
        for address in ["192.0.2.1:5060", "[2001:db8::1]:5060", "192.0.2.1:5060"] {
            let address: SocketAddr = address.parse().expect("an address");
            let interface = Interface::unprotected("TCP", address);
            let ready = ready.of(&interface);
            let contact = format!("Contact: <sip:answer@{address};transport=tcp>\r\n");
            let ringing = String::from_utf8_lossy(ready.ringing());
            assert_eq!(ringing, format!("{contact}Content-Length: 0\r\n\r\n"));
            let answer = String::from_utf8_lossy(ready.answer());
            assert!(answer.starts_with(&contact), "{answer}");
            assert!(
                answer.contains(&format!(" {}\r\n", address.ip())),
                "{answer}"
            );
        }
    }
}
