//! What `tls` and `mtls` negotiate, told before any handshake: the parameters of a cell.

use rustls::{SignatureScheme, SupportedCipherSuite};
use serde_json::Value;

use super::options::{Resumption, TlsOptions, TlsVersion};
use super::{Authentication, provider};
use crate::transport::{Identity, Settings};

/// What `tls` negotiates, as [`crate::transport::Stack::security`] tells it.
pub(in crate::transport) fn server_authenticated(
    settings: &Settings,
) -> Vec<(&'static str, Value)> {
    security(settings, Authentication::Server)
}

/// What `mtls` negotiates, as [`crate::transport::Stack::security`] tells it.
pub(in crate::transport) fn mutual(settings: &Settings) -> Vec<(&'static str, Value)> {
    security(settings, Authentication::Mutual)
}

/// What two ends with `settings` negotiate in a full handshake; nothing if they cannot be opened.
fn security(settings: &Settings, authentication: Authentication) -> Vec<(&'static str, Value)> {
    let Some(tls) = &settings.tls else {
        return Vec::new();
    };
    let options = &tls.options;
    let Ok(provider) = provider::pinned(options) else {
        return Vec::new();
    };
    let key_type = |identity: &Identity| key_type(identity, options);
    let server_key = tls.server.as_ref().and_then(key_type);
    let mut security = vec![
        (
            "security_protocol",
            format!("TLS {}", options.version).into(),
        ),
        ("crypto_provider", options.provider.name().into()),
        (
            "key_exchange_group",
            options.key_exchange_group.name().into(),
        ),
        ("resumption", options.resumption.name().into()),
        (
            "tls_buffer_limit_bytes",
            options.tls_buffer_limit_bytes.into(),
        ),
        (
            "tls_max_fragment_bytes",
            options.tls_max_fragment_bytes.into(),
        ),
    ];
    if options.resumption != Resumption::Off {
        security.push((
            "session_tickets_count",
            options.session_tickets_count.into(),
        ));
    }
    if options.resumption == Resumption::Cache {
        security.push(("session_cache_count", options.session_cache_count.into()));
    }
    let is_used =
        |suite: &&SupportedCipherSuite| is_used(suite, options.version, server_key.as_ref());
    if let Some(suite) = provider.cipher_suites.iter().find(is_used) {
        security.push(("cipher_suite", registered_name(suite).into()));
    }
    if let Some(key) = server_key {
        security.push(("key_type", key.name.into()));
    }
    if authentication == Authentication::Mutual
        && let Some(key) = tls.client.as_ref().and_then(key_type)
    {
        security.push(("client_key_type", key.name.into()));
    }
    security
}

/// Whether `suite` is what that version chooses for a server with that key.
fn is_used(suite: &SupportedCipherSuite, version: TlsVersion, server_key: Option<&Key>) -> bool {
    match (version, suite) {
        (TlsVersion::V1_3, SupportedCipherSuite::Tls13(_)) => true,
        (TlsVersion::V1_2, SupportedCipherSuite::Tls12(suite)) => {
            server_key.is_some_and(|key| suite.sign.contains(&key.scheme))
        }
        (TlsVersion::V1_3, SupportedCipherSuite::Tls12(_))
        | (TlsVersion::V1_2, SupportedCipherSuite::Tls13(_)) => false,
    }
}

/// RFC 8446 calls TLS_… what rustls calls TLS13_…
fn registered_name(suite: &SupportedCipherSuite) -> String {
    format!("{:?}", suite.suite()).replacen("TLS13_", "TLS_", 1)
}

/// A key, and what it signs handshakes with.
struct Key {
    name: String,
    scheme: SignatureScheme,
}

/// How keys that are no RSA keys are called.
const NAMES: &[(SignatureScheme, &str)] = &[
    (SignatureScheme::ECDSA_NISTP256_SHA256, "ECDSA P-256"),
    (SignatureScheme::ECDSA_NISTP384_SHA384, "ECDSA P-384"),
    (SignatureScheme::ED25519, "Ed25519"),
];

/// The kind of an identity's key; `None` if it cannot be used, which opening the stack tells.
fn key_type(identity: &Identity, options: &TlsOptions) -> Option<Key> {
    let (_, key) = identity.decode("endpoint").ok()?;
    let provider = provider::pinned(options).ok()?;
    let modulus_bits = rsa_modulus_bits(&key);
    let signing = provider.key_provider.load_private_key(key).ok()?;
    let signs = |scheme| signing.choose_scheme(&[scheme]).is_some();
    if let Some(bits) = modulus_bits {
        let scheme = SignatureScheme::RSA_PSS_SHA256;
        let name = format!("RSA-{bits}");
        return signs(scheme).then_some(Key { name, scheme });
    }
    let &(scheme, name) = NAMES.iter().find(|&&(scheme, _)| signs(scheme))?;
    let name = name.to_owned();
    Some(Key { name, scheme })
}

/// Length of the modulus, if it is an RSA key.
fn rsa_modulus_bits(key: &rustls::pki_types::PrivateKeyDer<'_>) -> Option<usize> {
    use rustls::pki_types::PrivateKeyDer;

    let key = match key {
        PrivateKeyDer::Pkcs1(key) => ring::rsa::KeyPair::from_der(key.secret_pkcs1_der()),
        PrivateKeyDer::Pkcs8(key) => ring::rsa::KeyPair::from_pkcs8(key.secret_pkcs8_der()),
        // SEC 1 holds keys of elliptic curves.
        _ => return None,
    };
    Some(key.ok()?.public().modulus_len() * 8)
}
