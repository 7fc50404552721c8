//! The tunnels that carriers are put on, made from [`Settings`].

use super::{Settings, TransportError};
use crate::net::{TunnelLimits, Tunneled};
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
