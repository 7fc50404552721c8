//! TUN devices: network interfaces of the kernel whose packets a process reads and writes.
//!
//! This layer makes a device in the network namespace of the calling thread and hands out its descriptor;
//! what passes through it is the business of whoever holds that. By four ioctls rather than a crate: those
//! that make TUN devices bring queues, offloads and an asynchronous reader of their own along.

mod books;
mod queue;

use std::ffi::{CStr, CString};
use std::fs::File;
use std::io;
use std::mem;
use std::net::{Ipv4Addr, UdpSocket};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;

pub use books::InterfaceBooks;

/// Where the kernel hands them out.
const CLONE_DEVICE: &str = "/dev/net/tun";

/// What a device is to be like.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TunConfig {
    /// Name of at most 15 bytes; the kernel replaces `%d` by the next number that is free.
    pub name: String,
    /// This side's address.
    pub address: Ipv4Addr,
    /// Addresses that begin like it, in so many bits, are on the other side.
    pub prefix_bits: u8,
    /// The one address on the other side, if it does not begin like this side's.
    pub peer: Option<Ipv4Addr>,
    /// Largest IP packet.
    pub mtu_bytes: u32,
    /// Packets that the kernel keeps until they are read; further ones it drops. Its own choice, 500, is a
    /// burst of 750 kB.
    pub queue_packets: u32,
}

/// A device that is up. It goes with its descriptor.
#[derive(Debug)]
pub struct Tun {
    descriptor: OwnedFd,
    name: String,
}

/// Why there is no device.
#[derive(Debug, thiserror::Error)]
#[error("cannot {step} the TUN device {name}: {source}")]
pub struct TunError {
    /// What failed.
    step: &'static str,
    name: String,
    /// The system's words.
    pub source: io::Error,
}

impl Tun {
    /// Makes a device in the network namespace of the calling thread, and brings it up. Reading and
    /// writing never wait.
    ///
    /// # Errors
    /// Without `CAP_NET_ADMIN` there, where `/dev/net/tun` is missing or not this user's, and when the name
    /// or the address is taken.
    pub fn open(config: &TunConfig) -> Result<Self, TunError> {
        let failed = |step| {
            move |source| TunError {
                step,
                name: config.name.clone(),
                source,
            }
        };
        let descriptor = File::options()
            .read(true)
            .write(true)
            .custom_flags(libc::O_NONBLOCK)
            .open(CLONE_DEVICE)
            .map_err(failed("open /dev/net/tun for"))?;
        let mut request = named(&config.name).map_err(failed("name"))?;
        let flags = libc::IFF_TUN | libc::IFF_NO_PI;
        request.ifr_ifru.ifru_flags = libc::c_short::try_from(flags).expect("both are low bits");
        ioctl(&descriptor, libc::TUNSETIFF, &mut request).map_err(failed("make"))?;
        let tun = Self {
            descriptor: descriptor.into(),
            name: name_in(&request),
        };
        tun.configure(config).map_err(failed("configure"))?;
        queue::set(&tun.name, config.queue_packets).map_err(failed("set the queue of"))?;
        Ok(tun)
    }

    fn configure(&self, config: &TunConfig) -> io::Result<()> {
        // Interfaces are configured by way of any socket of their namespace.
        let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
        let set = |request, fill: &dyn Fn(&mut libc::ifreq)| {
            let mut message = named(&self.name)?;
            fill(&mut message);
            ioctl(&socket, request, &mut message)
        };
        let mtu_bytes = libc::c_int::try_from(config.mtu_bytes)
            .map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))?;
        let mask = Ipv4Addr::from(!u32::MAX.checked_shr(config.prefix_bits.into()).unwrap_or(0));
        set(libc::SIOCSIFMTU, &|message| {
            message.ifr_ifru.ifru_mtu = mtu_bytes;
        })?;
        set(libc::SIOCSIFADDR, &|message| {
            message.ifr_ifru.ifru_addr = socket_address(config.address);
        })?;
        set(libc::SIOCSIFNETMASK, &|message| {
            message.ifr_ifru.ifru_netmask = socket_address(mask);
        })?;
        if let Some(peer) = config.peer {
            set(libc::SIOCSIFDSTADDR, &|message| {
                message.ifr_ifru.ifru_dstaddr = socket_address(peer);
            })?;
        }
        set(libc::SIOCSIFFLAGS, &|message| {
            let flags = libc::IFF_UP | libc::IFF_RUNNING | libc::IFF_NOARP | libc::IFF_POINTOPOINT;
            message.ifr_ifru.ifru_flags = libc::c_short::try_from(flags).expect("all are low bits");
        })
    }

    /// What the kernel drops there, to be asked from the network namespace of the calling thread.
    ///
    /// # Errors
    /// The system's.
    pub fn books(&self) -> io::Result<InterfaceBooks> {
        InterfaceBooks::open(&self.name)
    }

    /// As the kernel calls it.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The next packet that the kernel routed to the device.
    ///
    /// # Errors
    /// [`io::ErrorKind::WouldBlock`] when there is none.
    pub fn receive(&self, packet: &mut [u8]) -> io::Result<usize> {
        // SAFETY: the pointer and the length are of one slice that is ours to write to.
        let bytes = unsafe {
            libc::read(
                self.descriptor.as_raw_fd(),
                packet.as_mut_ptr().cast(),
                packet.len(),
            )
        };
        usize::try_from(bytes).map_err(|_| io::Error::last_os_error())
    }

    /// Has the kernel receive `packet` from the device.
    ///
    /// # Errors
    /// The kernel's, of what is no IP packet.
    pub fn send(&self, packet: &[u8]) -> io::Result<()> {
        // SAFETY: the pointer and the length are of one slice.
        let bytes = unsafe {
            libc::write(
                self.descriptor.as_raw_fd(),
                packet.as_ptr().cast(),
                packet.len(),
            )
        };
        // It takes all or nothing.
        usize::try_from(bytes).map_err(|_| io::Error::last_os_error())?;
        Ok(())
    }
}

impl AsFd for Tun {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.descriptor.as_fd()
    }
}

impl AsRawFd for Tun {
    fn as_raw_fd(&self) -> std::os::fd::RawFd {
        self.descriptor.as_raw_fd()
    }
}

impl From<Tun> for OwnedFd {
    fn from(tun: Tun) -> Self {
        tun.descriptor
    }
}

/// A request about the interface `name`, with nothing in it yet.
fn named(name: &str) -> io::Result<libc::ifreq> {
    let invalid = || io::Error::from(io::ErrorKind::InvalidInput);
    let name = CString::new(name).map_err(|_| invalid())?;
    // SAFETY: the structure is plain data of the kernel's, for which all zeros are valid.
    let mut request: libc::ifreq = unsafe { mem::zeroed() };
    let bytes = name.as_bytes_with_nul();
    if bytes.len() > request.ifr_name.len() || bytes.len() < 2 {
        return Err(invalid());
    }
    for (place, byte) in request.ifr_name.iter_mut().zip(bytes) {
        *place = byte.cast_signed();
    }
    Ok(request)
}

/// The name that the kernel has written into a request.
fn name_in(request: &libc::ifreq) -> String {
    // SAFETY: the kernel ends names with a zero, and the array outlives the borrow.
    let name = unsafe { CStr::from_ptr(request.ifr_name.as_ptr()) };
    name.to_string_lossy().into_owned()
}

fn socket_address(address: Ipv4Addr) -> libc::sockaddr {
    let address = libc::sockaddr_in {
        sin_family: libc::sa_family_t::try_from(libc::AF_INET).expect("families are small"),
        sin_port: 0,
        sin_addr: libc::in_addr {
            s_addr: u32::from(address).to_be(),
        },
        sin_zero: [0; 8],
    };
    // SAFETY: both are plain data, and the kernel's addresses of IPv4 have the length of its generic ones.
    unsafe { mem::transmute::<libc::sockaddr_in, libc::sockaddr>(address) }
}

fn ioctl(
    descriptor: &impl AsRawFd,
    request: libc::c_ulong,
    message: &mut libc::ifreq,
) -> io::Result<()> {
    // SAFETY: every request that is made here takes an `ifreq`, which outlives the call.
    let outcome = unsafe {
        libc::ioctl(
            descriptor.as_raw_fd(),
            request as _,
            std::ptr::from_mut(message),
        )
    };
    if outcome < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_the_kernel_cannot_hold_is_refused() {
        for name in ["", "sixteen-letters-", "nul\0"] {
            assert!(named(name).is_err(), "{name:?}");
        }
        let request = named("fifteen-letters").expect("it fits with its zero");
        assert_eq!(name_in(&request), "fifteen-letters");
    }
}
