//! How many packets the kernel keeps that are to leave by an interface.

use std::io;
use std::os::fd::AsRawFd;

use nix::net::if_::if_nametoindex;
use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, recv, send, socket,
};

/// Sets how many packets the kernel keeps that are to leave by the interface `name`. By netlink, since the
/// ioctl for it asks for root of the whole system.
pub(super) fn set(name: &str, packets: u32) -> io::Result<()> {
    let netlink = socket(
        AddressFamily::Netlink,
        SockType::Raw,
        SockFlag::SOCK_CLOEXEC,
        SockProtocol::NetlinkRoute,
    )?;
    send(
        netlink.as_raw_fd(),
        &request(if_nametoindex(name)?, packets),
        MsgFlags::empty(),
    )?;
    let mut answer = [0; 512];
    let bytes = recv(netlink.as_raw_fd(), &mut answer, MsgFlags::empty())?;
    match errno_in(&answer[..bytes]) {
        Some(0) => Ok(()),
        Some(errno) => Err(io::Error::from_raw_os_error(errno)),
        None => Err(io::ErrorKind::InvalidData.into()),
    }
}

/// `RTM_NEWLINK` with `IFLA_TXQLEN`, to be acknowledged (netlink(7), rtnetlink(7)).
fn request(index: u32, packets: u32) -> Vec<u8> {
    const HEADER_BYTES: u32 = 16;
    const INTERFACE_BYTES: u32 = 16;
    const ATTRIBUTE_BYTES: u16 = 8;
    let flags = libc::NLM_F_REQUEST | libc::NLM_F_ACK;
    let mut request = Vec::new();
    request.extend((HEADER_BYTES + INTERFACE_BYTES + u32::from(ATTRIBUTE_BYTES)).to_ne_bytes());
    request.extend(libc::RTM_NEWLINK.to_ne_bytes());
    request.extend(
        u16::try_from(flags)
            .expect("both are low bits")
            .to_ne_bytes(),
    );
    // Its number, and who asks: the kernel knows.
    request.extend([0; 8]);
    // Family and type are not asked for.
    request.extend([0; 4]);
    request.extend(index.to_ne_bytes());
    // No flags are to change.
    request.extend([0; 8]);
    request.extend(ATTRIBUTE_BYTES.to_ne_bytes());
    request.extend(libc::IFLA_TXQLEN.to_ne_bytes());
    request.extend(packets.to_ne_bytes());
    request
}

/// The number of the error that an answer by netlink tells, 0 if all is well.
fn errno_in(answer: &[u8]) -> Option<i32> {
    let kind = u16::from_ne_bytes(answer.get(4..6)?.try_into().ok()?);
    let errno = i32::from_ne_bytes(answer.get(16..20)?.try_into().ok()?);
    (i32::from(kind) == libc::NLMSG_ERROR).then_some(-errno)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_queue_is_asked_for_in_the_kernels_words() {
        let request = request(7, 10_000);
        assert_eq!(request.len(), 40);
        assert_eq!(request[..4], 40_u32.to_ne_bytes());
        assert_eq!(request[20..24], 7_u32.to_ne_bytes());
        assert_eq!(request[36..], 10_000_u32.to_ne_bytes());
        let mut answer = vec![0; 36];
        answer[4..6].copy_from_slice(&2_u16.to_ne_bytes());
        assert_eq!(errno_in(&answer), Some(0));
        answer[16..20].copy_from_slice(&(-libc::EPERM).to_ne_bytes());
        assert_eq!(errno_in(&answer), Some(libc::EPERM));
        assert_eq!(errno_in(&answer[..18]), None);
    }
}
