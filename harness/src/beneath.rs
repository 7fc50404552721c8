//! Tunnels that others make beneath the kernel's sockets, daemons or the kernel itself, and the stacks over them.
//! Plain data.
//!
//! The library's registry has the stacks whose tunnels are in its own process. A site over a tunnel of
//! others has a row of that registry all the same: of the carrier alone, since that is all that its
//! processes speak; what is beneath is the lab's business.

use hopbench::transport::{self, Stack, UnknownStack};

/// Who makes a tunnel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Beneath {
    /// strongSwan: IKEv2, and ESP in UDP by its plug-in `kernel-libipsec`, in user space over TUN.
    Strongswan,
    /// The same, authenticated by a shared secret instead of certificates.
    StrongswanPsk,
    /// strongSwan for IKEv2, by certificates, and the kernel for ESP.
    StrongswanKernel,
    /// The same, authenticated by a shared secret instead of certificates.
    StrongswanKernelPsk,
    /// wireguard-go: WireGuard in user space over TUN, by its authors.
    WireguardGo,
    /// The kernel's WireGuard.
    WireguardKernel,
}

impl Beneath {
    /// What stands behind `@`.
    #[cfg(test)]
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Strongswan => "strongswan",
            Self::StrongswanPsk => "strongswan-psk",
            Self::StrongswanKernel => "strongswan-kernel",
            Self::StrongswanKernelPsk => "strongswan-kernel-psk",
            Self::WireguardGo => "wireguard-go",
            Self::WireguardKernel => "wireguard-kernel",
        }
    }

    /// Whether all that it does is in the time of the processes of either side, over links that are emulated or not.
    pub(crate) fn is_cpu_time_whole(self, is_emulated: bool) -> bool {
        match self {
            // Threads of the kernel do it.
            Self::WireguardKernel => false,
            // Who brings a packet decrypts it: its sender, or a link's emulator.
            Self::StrongswanKernel | Self::StrongswanKernelPsk => !is_emulated,
            Self::Strongswan | Self::StrongswanPsk | Self::WireguardGo => true,
        }
    }
}

/// A carrier over a tunnel of others.
#[derive(Debug)]
pub(crate) struct Over {
    /// `carrier@tunnel`, as on the command line and in results.
    pub(crate) name: &'static str,
    /// The carrier's row in the registry.
    pub(crate) carrier: &'static str,
    /// Who makes the tunnel.
    pub(crate) beneath: Beneath,
    /// The same carrier over the tunnel of our own that stands in for such ones, if there is one.
    pub(crate) stand_in: Option<&'static str>,
    /// One line for lists.
    pub(crate) summary: &'static str,
}

/// All of them, in the order in which lists have them.
pub(crate) const STACKS: [Over; 12] = [
    Over {
        name: "udp@strongswan",
        carrier: "udp",
        beneath: Beneath::Strongswan,
        stand_in: Some("udp@wireguard"),
        summary: "SIP over UDP in an IPsec tunnel of strongSwan (IKEv2, ESP in user space)",
    },
    Over {
        name: "tcp@strongswan",
        carrier: "tcp",
        beneath: Beneath::Strongswan,
        stand_in: Some("tcp@wireguard"),
        summary: "SIP over TCP in an IPsec tunnel of strongSwan (IKEv2, ESP in user space)",
    },
    Over {
        name: "tcp@strongswan-psk",
        carrier: "tcp",
        beneath: Beneath::StrongswanPsk,
        stand_in: Some("tcp@wireguard"),
        summary: "The same, both ends authenticated by a shared secret instead of certificates",
    },
    Over {
        name: "tls@strongswan",
        carrier: "tls",
        beneath: Beneath::Strongswan,
        stand_in: Some("tls@wireguard"),
        summary: "SIP over TLS inside an IPsec tunnel of strongSwan: protected twice",
    },
    Over {
        name: "udp@strongswan-kernel",
        carrier: "udp",
        beneath: Beneath::StrongswanKernel,
        stand_in: Some("udp@wireguard"),
        summary: "SIP over UDP in an IPsec tunnel of strongSwan (IKEv2) and the kernel (ESP)",
    },
    Over {
        name: "tcp@strongswan-kernel",
        carrier: "tcp",
        beneath: Beneath::StrongswanKernel,
        stand_in: Some("tcp@wireguard"),
        summary: "SIP over TCP in an IPsec tunnel of strongSwan (IKEv2) and the kernel (ESP)",
    },
    Over {
        name: "tcp@strongswan-kernel-psk",
        carrier: "tcp",
        beneath: Beneath::StrongswanKernelPsk,
        stand_in: Some("tcp@wireguard"),
        summary: "The same, both ends authenticated by a shared secret instead of certificates",
    },
    Over {
        name: "tls@strongswan-kernel",
        carrier: "tls",
        beneath: Beneath::StrongswanKernel,
        stand_in: Some("tls@wireguard"),
        summary: "SIP over TLS inside such a tunnel: protected twice",
    },
    Over {
        name: "tcp@wireguard-go",
        carrier: "tcp",
        beneath: Beneath::WireguardGo,
        stand_in: Some("tcp@wireguard"),
        summary: "SIP over TCP in a WireGuard tunnel of wireguard-go (user space)",
    },
    Over {
        name: "udp@wireguard-kernel",
        carrier: "udp",
        beneath: Beneath::WireguardKernel,
        stand_in: Some("udp@wireguard"),
        summary: "SIP over UDP in a tunnel of the kernel's WireGuard",
    },
    Over {
        name: "tcp@wireguard-kernel",
        carrier: "tcp",
        beneath: Beneath::WireguardKernel,
        stand_in: Some("tcp@wireguard"),
        summary: "SIP over TCP in a tunnel of the kernel's WireGuard",
    },
    Over {
        name: "tls@wireguard-kernel",
        carrier: "tls",
        beneath: Beneath::WireguardKernel,
        stand_in: Some("tls@wireguard"),
        summary: "SIP over TLS in a tunnel of the kernel's WireGuard: protected twice",
    },
];

/// The stack called `name`: its row in the registry, or its carrier's and what is beneath it.
///
/// # Errors
/// When there is none.
pub(crate) fn find(name: &str) -> Result<(&'static Stack, Option<Beneath>), UnknownStack> {
    match STACKS.iter().find(|over| over.name == name) {
        Some(over) => Ok((transport::find(over.carrier)?, Some(over.beneath))),
        None => Ok((transport::find(name)?, None)),
    }
}

/// The stack of a carrier over a tunnel.
pub(crate) fn over(stack: &Stack, beneath: Beneath) -> Option<&'static Over> {
    let mut stacks = STACKS.iter();
    stacks.find(|over| over.carrier == stack.name && over.beneath == beneath)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn each_stack_is_a_carrier_of_the_registry_and_none_of_its_rows() {
        for row in &STACKS {
            let (carrier, tunnel) = row.name.split_once('@').unwrap();
            assert_eq!(carrier, row.carrier);
            assert!(transport::find(row.name).is_err(), "{}", row.name);
            let (stack, beneath) = find(row.name).unwrap();
            assert_eq!((stack.name, stack.tunnel), (carrier, None));
            let beneath = beneath.unwrap();
            assert_eq!(beneath.name(), tunnel);
            assert_eq!(over(stack, beneath).unwrap().name, row.name);
            let stand_in = transport::find(row.stand_in.unwrap()).unwrap();
            assert_eq!(stand_in.carrier, carrier);
        }
        assert_eq!(find("tls").unwrap().1, None);
        assert!(find("tcp@ipsec").is_err());
    }
}
