//! The tunnels that carriers are put on, made from [`Settings`].

use super::{InnerIp, Settings, Transport, TransportError};
#[cfg(target_os = "linux")]
use crate::net::Routed;
use crate::net::{DatagramNetwork, StreamNetwork, TunnelLimits, Tunneled};
use crate::tunnel::{Clear, MAX_USERS, Protection, Wireguard};

/// What is below `@clear`.
pub(super) fn clear(settings: &Settings) -> Tunneled<Clear> {
    network(settings, Clear)
}

/// What is below `@wireguard`.
///
/// # Errors
/// [`TransportError::Credentials`] when there are no keys, or more than inner addresses.
pub(super) fn wireguard(settings: &Settings) -> Result<Tunneled<Wireguard>, TransportError> {
    let keys = settings.wireguard_keys()?;
    if keys.peers > MAX_USERS {
        return Err(TransportError::Credentials(format!(
            "expected WireGuard keys of at most {MAX_USERS} users, as many as have inner addresses, \
             found {}",
            keys.peers
        )));
    }
    Ok(network(
        settings,
        Wireguard::new(keys.clone(), &settings.tunnel),
    ))
}

fn network<P: Protection>(settings: &Settings, protection: P) -> Tunneled<P> {
    let limits = TunnelLimits {
        handshake: settings.limits.handshake,
        linger: settings.limits.close,
    };
    Tunneled::new(settings.into(), protection, limits, &settings.tunnel)
}

/// Puts a carrier on a network.
pub(super) trait Carry {
    /// What may go wrong is the carrier's own.
    ///
    /// # Errors
    /// When the settings lack what it needs.
    fn on<N: StreamNetwork + DatagramNetwork + 'static>(
        self,
        network: N,
    ) -> Result<Box<dyn Transport>, TransportError>;
}

/// Puts a carrier on tunnels, with the IP inside that the settings ask for.
///
/// # Errors
/// Those of the carrier, and where the kernel's IP cannot be inside.
pub(super) fn carry<P: Protection + 'static>(
    tunnels: Tunneled<P>,
    settings: &Settings,
    carrier: impl Carry,
) -> Result<Box<dyn Transport>, TransportError> {
    match settings.inner_ip {
        InnerIp::User => carrier.on(tunnels),
        #[cfg(target_os = "linux")]
        InnerIp::Kernel => carrier.on(Routed::new(tunnels)),
        #[cfg(not(target_os = "linux"))]
        InnerIp::Kernel => Err(TransportError::Credentials(
            "the kernel's IP can be inside tunnels on Linux only".to_owned(),
        )),
    }
}
