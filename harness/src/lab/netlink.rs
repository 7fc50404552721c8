//! One request to the kernel over a netlink socket, and its answers, as bytes: for what rtnetlink has no words
//! for, which is what is special about netem, and IPsec.
//!
//! A socket is of the namespace of the thread that makes it.

use std::io;

use rtnetlink::packet_core::{
    NLM_F_ACK, NLM_F_DUMP, NLM_F_REQUEST, NLMSG_DONE, NLMSG_ERROR, NLMSG_OVERRUN,
};
use rtnetlink::sys::{Socket, SocketAddr};

/// Length, kind, flags, sequence, port (netlink(7)).
const HEADER_BYTES: usize = 16;
/// Everything is padded to this.
const ALIGNMENT: usize = 4;

/// Asks for something to be done, and waits until it is.
///
/// # Errors
/// The kernel's, and when it does not speak the protocol.
pub(super) fn change(protocol: isize, kind: u16, flags: u16, payload: &[u8]) -> io::Result<()> {
    ask(protocol, kind, NLM_F_ACK | flags, payload).map(drop)
}

/// Asks for a list: what each of its messages holds.
///
/// # Errors
/// As [`change`].
pub(super) fn list(protocol: isize, kind: u16, payload: &[u8]) -> io::Result<Vec<Vec<u8>>> {
    ask(protocol, kind, NLM_F_DUMP, payload)
}

fn ask(protocol: isize, kind: u16, flags: u16, payload: &[u8]) -> io::Result<Vec<Vec<u8>>> {
    let mut socket = Socket::new(protocol)?;
    socket.bind_auto()?;
    socket.connect(&SocketAddr::new(0, 0))?;
    let length = u32::try_from(HEADER_BYTES + payload.len()).map_err(io::Error::other)?;
    let mut request = length.to_ne_bytes().to_vec();
    request.extend(kind.to_ne_bytes());
    request.extend((NLM_F_REQUEST | flags).to_ne_bytes());
    request.extend([0; 8]);
    request.extend(payload);
    socket.send(&request, 0)?;
    let mut answers = Vec::new();
    loop {
        let (datagram, _) = socket.recv_from_full()?;
        let mut rest = datagram.as_slice();
        while let Some((kind, payload, further)) = message(rest) {
            match kind {
                NLMSG_DONE => return Ok(answers),
                NLMSG_ERROR => return acknowledged(payload).map(|()| answers),
                NLMSG_OVERRUN => return Err(io::Error::other("the kernel lost its answer")),
                _ => answers.push(payload.to_vec()),
            }
            rest = further;
        }
    }
}

/// The first message of several: its kind, what it holds, and the others.
fn message(bytes: &[u8]) -> Option<(u16, &[u8], &[u8])> {
    let length = u32_at(bytes, 0)? as usize;
    let kind = u16::from_ne_bytes(bytes.get(4..6)?.try_into().ok()?);
    let payload = bytes.get(HEADER_BYTES..length)?;
    let next = length.next_multiple_of(ALIGNMENT).min(bytes.len());
    Some((kind, payload, &bytes[next..]))
}

/// An acknowledgement is an error whose number is zero.
fn acknowledged(payload: &[u8]) -> io::Result<()> {
    match u32_at(payload, 0).map(u32::cast_signed) {
        Some(0) => Ok(()),
        Some(number) => Err(io::Error::from_raw_os_error(-number)),
        None => Err(io::ErrorKind::InvalidData.into()),
    }
}

/// Puts an attribute behind `message`.
pub(super) fn put(message: &mut Vec<u8>, kind: u16, value: &[u8]) {
    let length = u16::try_from(4 + value.len()).expect("attributes are short");
    message.extend(length.to_ne_bytes());
    message.extend(kind.to_ne_bytes());
    message.extend(value);
    message.resize(message.len().next_multiple_of(ALIGNMENT), 0);
}

/// The attribute of that kind among `attributes`.
pub(super) fn find(mut attributes: &[u8], wanted: u16) -> Option<&[u8]> {
    /// Of kinds whose value is attributes, and of numbers in network order.
    const FLAGS: u16 = 0xc000;
    loop {
        let length = usize::from(u16::from_ne_bytes(attributes.get(..2)?.try_into().ok()?));
        let kind = u16::from_ne_bytes(attributes.get(2..4)?.try_into().ok()?);
        let value = attributes.get(4..length)?;
        if kind & !FLAGS == wanted {
            return Some(value);
        }
        attributes = attributes.get(length.next_multiple_of(ALIGNMENT)..)?;
    }
}

/// The number that begins at `place`.
pub(super) fn u32_at(bytes: &[u8], place: usize) -> Option<u32> {
    let bytes = bytes.get(place..place + 4)?;
    Some(u32::from_ne_bytes(bytes.try_into().ok()?))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn attributes_are_found_again() {
        let mut message = Vec::new();
        put(&mut message, 1, b"netem\0");
        put(&mut message, 0x8002, &[]);
        put(&mut message, 7, &5_u32.to_ne_bytes());
        assert_eq!(message.len(), 12 + 4 + 8);
        assert_eq!(find(&message, 1).unwrap(), b"netem\0");
        assert_eq!(find(&message, 2).unwrap(), b"");
        assert_eq!(u32_at(find(&message, 7).unwrap(), 0), Some(5));
        assert_eq!(find(&message, 3), None);
        assert_eq!(find(&message[..7], 7), None);
    }

    #[test]
    fn the_kernel_answers() {
        use rtnetlink::sys::protocols::NETLINK_ROUTE;
        const RTM_GETLINK: u16 = 18;
        const IFLA_IFNAME: u16 = 3;
        // A header of interfaces is of 16 bytes, and so is what follows of each.
        let links = list(NETLINK_ROUTE, RTM_GETLINK, &[0; 16]).unwrap();
        let names = links
            .iter()
            .filter_map(|link| find(&link[16..], IFLA_IFNAME));
        assert!(names.into_iter().any(|name| name == b"lo\0"), "{links:?}");
        let refused = change(NETLINK_ROUTE, RTM_GETLINK, 0, &[0; 16]).unwrap_err();
        assert!(refused.raw_os_error().is_some(), "{refused}");
    }
}
