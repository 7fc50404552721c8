//! The cryptography below TLS: a provider that is pinned to one key-exchange group and to one cipher
//! suite (AES-256-GCM with SHA-384) for each version and kind of key.

use std::sync::Arc;

use rustls::crypto::{CryptoProvider as Provider, ring};
use rustls::server::ProducesTickets;
use rustls::{CipherSuite, NamedGroup};

use super::options::{CryptoProvider, KeyExchangeGroup, TlsOptions, TlsOptionsError, TlsVersion};

/// The cipher suites: that of TLS 1.3, and its like in TLS 1.2 for each kind of server key.
const CIPHER_SUITES: [CipherSuite; 3] = [
    CipherSuite::TLS13_AES_256_GCM_SHA384,
    CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,
    CipherSuite::TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
];

/// The provider that does what `options` say and nothing else.
///
/// # Errors
/// When there is none in this build.
pub(super) fn pinned(options: &TlsOptions) -> Result<Arc<Provider>, TlsOptionsError> {
    let (provider, group) = (options.provider, options.key_exchange_group);
    let mut pinned = of_library(provider)?;
    let name = match group {
        KeyExchangeGroup::X25519 => NamedGroup::X25519,
        KeyExchangeGroup::X25519MlKem768 => NamedGroup::X25519MLKEM768,
    };
    pinned.kx_groups.retain(|group| group.name() == name);
    let Some(found) = pinned.kx_groups.first() else {
        return Err(TlsOptionsError::NoSuchGroup { provider, group });
    };
    let version = match options.version {
        TlsVersion::V1_2 => rustls::ProtocolVersion::TLSv1_2,
        TlsVersion::V1_3 => rustls::ProtocolVersion::TLSv1_3,
    };
    if !found.usable_for_version(version) {
        return Err(TlsOptionsError::NeedsTls13 { group });
    }
    let is_pinned = |suite: &rustls::SupportedCipherSuite| CIPHER_SUITES.contains(&suite.suite());
    pinned.cipher_suites.retain(is_pinned);
    Ok(Arc::new(pinned))
}

fn of_library(provider: CryptoProvider) -> Result<Provider, TlsOptionsError> {
    match provider {
        CryptoProvider::Ring => Ok(ring::default_provider()),
        #[cfg(feature = "aws-lc-rs")]
        CryptoProvider::AwsLcRs => Ok(rustls::crypto::aws_lc_rs::default_provider()),
        #[cfg(not(feature = "aws-lc-rs"))]
        CryptoProvider::AwsLcRs => Err(TlsOptionsError::NotBuilt { provider }),
    }
}

/// What seals and opens a server's tickets, with a key of its own that changes every 6 hours:
/// tickets of another server, or of another worker, lead to full handshakes.
///
/// # Errors
/// When the system's random generator fails.
///
/// # Panics
/// When the provider is not part of this build, which [`pinned`] has refused.
pub(super) fn ticketer(
    provider: CryptoProvider,
) -> Result<Arc<dyn ProducesTickets>, rustls::Error> {
    match provider {
        CryptoProvider::Ring => ring::Ticketer::new(),
        #[cfg(feature = "aws-lc-rs")]
        CryptoProvider::AwsLcRs => rustls::crypto::aws_lc_rs::Ticketer::new(),
        #[cfg(not(feature = "aws-lc-rs"))]
        CryptoProvider::AwsLcRs => {
            unreachable!("no server is made with a provider that is not there")
        }
    }
}
