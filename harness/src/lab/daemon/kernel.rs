//! Whether the kernel protects packets itself, as WireGuard and as ESP: tried in a namespace that goes again. What
//! it has as a module it loads when it is asked.

use rtnetlink::sys::protocols::NETLINK_XFRM;

use super::programs::Missing;
use crate::lab::{LabError, Namespace, netlink};

/// Of the interface that is tried.
const INTERFACE: &str = "wg0";
/// Linux, `include/uapi/linux/xfrm.h`.
const XFRM_MSG_NEWSA: u16 = 0x10;
const XFRMA_ALG_AEAD: u16 = 18;
const XFRM_MODE_TUNNEL: u8 = 1;
/// What is set of `struct xfrm_usersa_info`: places in it, and its length.
const DESTINATION: usize = 56;
const SPI: usize = 72;
const PROTOCOL: usize = 76;
const SOURCE: usize = 80;
const LIMITS: std::ops::Range<usize> = 96..128;
const FAMILY: usize = 212;
const MODE: usize = 214;
const ASSOCIATION_BYTES: usize = 224;
/// `AF_INET`, `IPPROTO_ESP`.
const IPV4: u16 = 2;
const ESP: u8 = 50;
/// AES-128-GCM (RFC 4106): a key and a salt, a tag of 16 bytes.
const CIPHER: &[u8] = b"rfc4106(gcm(aes))";
const KEY_BYTES: usize = 16 + 4;
const TAG_BITS: u32 = 128;

/// # Errors
/// When it has no WireGuard, or cannot be asked.
pub(super) fn has_wireguard() -> Result<(), Missing> {
    let made = try_inside(|namespace| {
        namespace.interfaces(async |interfaces| interfaces.add_wireguard(INTERFACE).await)
    })?;
    made.map_err(|error| {
        Missing::new(
            format!("the kernel has no WireGuard ({error})"),
            "`modprobe wireguard`; or a kernel from 5.6 on with CONFIG_WIREGUARD",
        )
    })
}

/// # Errors
/// When it has no ESP with AES-GCM, or cannot be asked.
pub(super) fn has_esp() -> Result<(), Missing> {
    let made = try_inside(|namespace| {
        namespace.run(|| {
            let association = association();
            let made = netlink::change(NETLINK_XFRM, XFRM_MSG_NEWSA, 0, &association);
            made.map_err(LabError::step("make a security association"))
        })
    })?;
    made.map_err(|error| {
        Missing::new(
            format!("the kernel has no ESP with AES-GCM ({error})"),
            "`modprobe --all xfrm_user esp4`; or a kernel with CONFIG_XFRM_USER, CONFIG_INET_ESP and CONFIG_CRYPTO_GCM",
        )
    })
}

/// Does `attempt` where it is in nobody's way.
fn try_inside(
    attempt: impl FnOnce(&Namespace) -> Result<(), LabError>,
) -> Result<Result<(), LabError>, Missing> {
    match Namespace::create() {
        Ok(namespace) => Ok(attempt(&namespace)),
        Err(error) => Err(Missing::new(
            format!("the kernel cannot be asked what it has ({error})"),
            "run as root, or let users make namespaces",
        )),
    }
}

/// Of ESP between two addresses that nobody has.
fn association() -> Vec<u8> {
    let mut message = vec![0; ASSOCIATION_BYTES];
    message[DESTINATION..][..4].copy_from_slice(&[198, 18, 0, 2]);
    message[SPI..][..4].copy_from_slice(&0x1000_u32.to_be_bytes());
    message[PROTOCOL] = ESP;
    message[SOURCE..][..4].copy_from_slice(&[198, 18, 0, 1]);
    message[LIMITS].fill(u8::MAX);
    message[FAMILY..][..2].copy_from_slice(&IPV4.to_ne_bytes());
    message[MODE] = XFRM_MODE_TUNNEL;
    let mut algorithm = CIPHER.to_vec();
    algorithm.resize(64, 0);
    algorithm.extend((8 * KEY_BYTES as u32).to_ne_bytes());
    algorithm.extend(TAG_BITS.to_ne_bytes());
    algorithm.extend([1; KEY_BYTES]);
    netlink::put(&mut message, XFRMA_ALG_AEAD, &algorithm);
    message
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_is_told_with_what_brings_it() {
        for (asked, option) in [
            (has_wireguard(), "CONFIG_WIREGUARD"),
            (has_esp(), "CONFIG_INET_ESP"),
        ] {
            let Err(missing) = asked else {
                continue;
            };
            let told = missing.to_string();
            assert!(
                told.contains(option) || told.contains("run as root"),
                "{told}"
            );
        }
    }

    #[test]
    fn an_association_has_its_key_where_the_kernel_looks_for_it() {
        let message = association();
        let algorithm = netlink::find(&message[ASSOCIATION_BYTES..], XFRMA_ALG_AEAD).unwrap();
        assert_eq!(algorithm.len(), 64 + 4 + 4 + KEY_BYTES);
        assert!(algorithm.starts_with(CIPHER));
        assert_eq!(netlink::u32_at(algorithm, 64), Some(160));
        assert_eq!(&algorithm[72..], [1; KEY_BYTES]);
    }
}
