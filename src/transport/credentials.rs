//! Certificates: generated at run time for tests and benches, or read from PEM files.
//!
//! No key is ever committed. Generated keys are ECDSA P-256, what most SIP deployments use today,
//! unless RSA-2048 is asked for. A chain has keys of one kind, as public authorities issue them.

use std::path::Path;

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyPair, KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, PKCS_RSA_SHA256,
};
use rsa::pkcs8::EncodePrivateKey;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use serde::{Deserialize, Serialize};

use super::{KeyType, TlsOptions, TlsSettings, TransportError};

/// Who an endpoint is: its certificate chain and the key that belongs to it, in PEM.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Identity {
    /// The endpoint's certificate, then those that lead to the authority.
    pub chain_pem: String,
    /// Private key of the first certificate.
    pub key_pem: String,
}

impl std::fmt::Debug for Identity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Identity")
            .field("chain_pem", &self.chain_pem)
            .field("key_pem", &"(private)")
            .finish()
    }
}

impl Identity {
    /// Reads an identity from two PEM files.
    ///
    /// # Errors
    /// [`TransportError::Credentials`] naming the file that cannot be read or does not hold what
    /// it should.
    pub fn from_pem_files(chain: &Path, key: &Path) -> Result<Self, TransportError> {
        let identity = Self {
            chain_pem: read_pem(chain, "certificate chain")?,
            key_pem: read_pem(key, "private key")?,
        };
        certificates(&identity.chain_pem, &chain.display().to_string())?;
        private_key(&identity.key_pem, &key.display().to_string())?;
        Ok(identity)
    }

    /// Decodes both parts; `whose` names the identity in errors.
    pub(super) fn decode(
        &self,
        whose: &str,
    ) -> Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>), TransportError> {
        Ok((
            certificates(&self.chain_pem, &format!("the {whose}'s certificate chain"))?,
            private_key(&self.key_pem, &format!("the {whose}'s private key"))?,
        ))
    }
}

/// Reads trusted certificates from a PEM file.
///
/// # Errors
/// [`TransportError::Credentials`] naming the file.
pub fn authority_from_pem_file(path: &Path) -> Result<String, TransportError> {
    let pem = read_pem(path, "trusted certificates")?;
    certificates(&pem, &path.display().to_string())?;
    Ok(pem)
}

/// The certificates in `pem`, at least one; `what` names their origin in errors.
pub(super) fn certificates(
    pem: &str,
    what: &str,
) -> Result<Vec<CertificateDer<'static>>, TransportError> {
    let certificates = CertificateDer::pem_slice_iter(pem.as_bytes())
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| TransportError::Credentials(format!("{what}: not PEM: {error}")))?;
    if certificates.is_empty() {
        return Err(TransportError::Credentials(format!(
            "{what}: expected at least one PEM section \"CERTIFICATE\", found none"
        )));
    }
    Ok(certificates)
}

fn private_key(pem: &str, what: &str) -> Result<PrivateKeyDer<'static>, TransportError> {
    PrivateKeyDer::from_pem_slice(pem.as_bytes()).map_err(|error| {
        TransportError::Credentials(format!(
            "{what}: expected a PEM section \"PRIVATE KEY\": {error}"
        ))
    })
}

fn read_pem(path: &Path, what: &str) -> Result<String, TransportError> {
    std::fs::read_to_string(path).map_err(|error| {
        TransportError::Credentials(format!(
            "cannot read the {what} {}: {error}",
            path.display()
        ))
    })
}

/// A certificate authority that lives as long as a run.
pub struct TestAuthority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    key_type: KeyType,
}

/// What a certificate lets its owner be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// A server.
    Server,
    /// A client.
    Client,
}

/// When a certificate is valid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Validity {
    /// For as long as any run may take.
    Current,
    /// It was, in the year 2020: to see it refused.
    Expired,
}

impl TestAuthority {
    /// The DNS name in the server certificates that [`Self::settings`] makes.
    pub const SERVER_NAME: &'static str = "hopbench.test";

    /// A new authority with a new key of the default kind.
    ///
    /// # Errors
    /// When the system's random generator fails.
    pub fn generate() -> Result<Self, TransportError> {
        Self::generate_for(KeyType::default())
    }

    /// A new authority whose key, and those of all whom it certifies, are of a kind. RSA takes some
    /// 50 ms a key.
    ///
    /// # Errors
    /// When the system's random generator fails.
    pub fn generate_for(key_type: KeyType) -> Result<Self, TransportError> {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        // A name of its own, so that a certificate of another run's authority is reported as one
        // of an unknown issuer and not as one with a bad signature.
        let name = format!("hopbench run-time authority {:016x}", rand::random::<u64>());
        params.distinguished_name.push(DnType::CommonName, name);
        let key = generate_key(key_type)?;
        let issuer = CertifiedIssuer::self_signed(params, key).map_err(generation)?;
        Ok(Self { issuer, key_type })
    }

    /// The authority's own certificate, in PEM: what peers must trust.
    #[must_use]
    pub fn ca_pem(&self) -> String {
        self.issuer.pem()
    }

    /// A server's identity whose certificate carries `name`.
    ///
    /// # Errors
    /// When `name` is no DNS name or address.
    pub fn server(&self, name: &str) -> Result<Identity, TransportError> {
        self.issue(name, Role::Server, Validity::Current)
    }

    /// A client's identity whose certificate carries `name`.
    ///
    /// # Errors
    /// When `name` is no DNS name or address.
    pub fn client(&self, name: &str) -> Result<Identity, TransportError> {
        self.issue(name, Role::Client, Validity::Current)
    }

    /// Everything that both ends of `tls` and `mtls` need, with the default options but for the kind
    /// of keys.
    ///
    /// # Errors
    /// When the system's random generator fails.
    pub fn settings(&self) -> Result<TlsSettings, TransportError> {
        Ok(TlsSettings {
            ca_pem: self.ca_pem(),
            server_name: Self::SERVER_NAME.to_owned(),
            server: Some(self.server(Self::SERVER_NAME)?),
            client: Some(self.client("client.hopbench.test")?),
            options: TlsOptions {
                key_type: self.key_type,
                ..TlsOptions::default()
            },
        })
    }

    /// An identity with a new key, whose certificate carries `name`.
    ///
    /// # Errors
    /// When `name` is no DNS name or address.
    pub fn issue(
        &self,
        name: &str,
        role: Role,
        validity: Validity,
    ) -> Result<Identity, TransportError> {
        let mut params = CertificateParams::new(vec![name.to_owned()]).map_err(generation)?;
        params.distinguished_name.push(DnType::CommonName, name);
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![match role {
            Role::Server => ExtendedKeyUsagePurpose::ServerAuth,
            Role::Client => ExtendedKeyUsagePurpose::ClientAuth,
        }];
        match validity {
            Validity::Current => {}
            Validity::Expired => {
                params.not_before = rcgen::date_time_ymd(2020, 1, 1);
                params.not_after = rcgen::date_time_ymd(2020, 12, 31);
            }
        }
        let key = generate_key(self.key_type)?;
        let certificate = params.signed_by(&key, &self.issuer).map_err(generation)?;
        Ok(Identity {
            chain_pem: certificate.pem(),
            key_pem: key.serialize_pem(),
        })
    }
}

fn generate_key(key_type: KeyType) -> Result<KeyPair, TransportError> {
    match key_type {
        KeyType::EcdsaP256 => KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(generation),
        KeyType::Rsa2048 => generate_rsa_key(2048),
    }
}

/// ring signs with RSA keys but makes none.
fn generate_rsa_key(modulus_bits: usize) -> Result<KeyPair, TransportError> {
    let key = rsa::PrivateKey::new(&mut getrandom::SysRng, modulus_bits).map_err(generation)?;
    let key = key.to_pkcs8_der().map_err(generation)?;
    KeyPair::from_pkcs8_der_and_sign_algo(&key.as_bytes().into(), &PKCS_RSA_SHA256)
        .map_err(generation)
}

fn generation(error: impl std::fmt::Display) -> TransportError {
    TransportError::Credentials(format!("cannot generate a certificate: {error}"))
}
