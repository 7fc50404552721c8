//! A folder of certificates and keys that a node makes and a generator reads: so that both can be
//! started by hand, and a foreign server or client can use the same files.

use std::fs;
use std::path::Path;

use anyhow::{Context, bail};
use hopbench::transport::{
    Identity, KeyType, Settings, TestAuthority, TlsOptions, TlsSettings, WireguardKeys,
    authority_from_pem_file, find,
};

use super::write_private;

const CA: &str = "ca.pem";
const SERVER: (&str, &str) = ("server.pem", "server.key");
const CLIENT: (&str, &str) = ("client.pem", "client.key");
const WIREGUARD_SEED: &str = "wireguard.seed";

/// Reads the folder, or makes it with fresh keys if it does not exist. The server's key must be of
/// the kind that is asked for, if one is.
pub(crate) fn open_or_create(
    folder: &Path,
    users: u32,
    key_type: Option<KeyType>,
) -> anyhow::Result<Settings> {
    if folder.join(CA).exists() {
        let settings = open(folder, users)?;
        if let Some(expected) = key_type {
            check_key_type(folder, &settings, expected)?;
        }
        return Ok(settings);
    }
    let options = TlsOptions {
        key_type: key_type.unwrap_or_default(),
        ..TlsOptions::default()
    };
    let settings = Settings::generate_with(users, &options)?;
    let tls = settings
        .tls
        .as_ref()
        .context("generated settings hold certificates")?;
    let wireguard = settings
        .wireguard
        .as_ref()
        .context("generated settings hold tunnel keys")?;
    fs::create_dir_all(folder).with_context(|| format!("cannot create {}", folder.display()))?;
    write_private(&folder.join(CA), &tls.ca_pem)?;
    for ((chain, key), identity) in [(SERVER, &tls.server), (CLIENT, &tls.client)] {
        if let Some(identity) = identity {
            write_private(&folder.join(chain), &identity.chain_pem)?;
            write_private(&folder.join(key), &identity.key_pem)?;
        }
    }
    let seed: String = wireguard
        .seed
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    write_private(&folder.join(WIREGUARD_SEED), &seed)?;
    Ok(settings)
}

fn check_key_type(folder: &Path, settings: &Settings, expected: KeyType) -> anyhow::Result<()> {
    let security = find("tls")?.security(settings);
    let found = security.get("key_type").and_then(|name| name.as_str());
    if found != Some(expected.name()) {
        bail!(
            "expected a server key of the kind {expected} in {}, found {}: choose another folder, \
             which is made with such keys if it does not exist",
            folder.display(),
            found.unwrap_or("one that cannot be used")
        );
    }
    Ok(())
}

/// Reads the folder. It may have been made by other means, and then holds what its stacks need: the
/// authority, and the server's or the client's certificate and key.
pub(crate) fn open(folder: &Path, users: u32) -> anyhow::Result<Settings> {
    if !folder.join(CA).exists() {
        bail!(
            "there are no credentials in {}: start `hopbench node --credentials {0}` first, or \
             point --credentials to the folder that the node uses",
            folder.display()
        );
    }
    let identity = |(chain, key): (&str, &str)| {
        let (chain, key) = (folder.join(chain), folder.join(key));
        let is_there = chain.exists() || key.exists();
        is_there
            .then(|| Identity::from_pem_files(&chain, &key))
            .transpose()
    };
    Ok(Settings {
        tls: Some(TlsSettings {
            server: identity(SERVER)?,
            client: identity(CLIENT)?,
            ..trusting(&folder.join(CA), TestAuthority::SERVER_NAME)?
        }),
        wireguard: wireguard_keys(&folder.join(WIREGUARD_SEED), users)?,
        ..Settings::default()
    })
}

fn wireguard_keys(file: &Path, peers: u32) -> anyhow::Result<Option<WireguardKeys>> {
    if !file.exists() {
        return Ok(None);
    }
    let seed =
        fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
    let seed = parse_seed(seed.trim())
        .with_context(|| format!("{} must hold 64 hexadecimal digits", file.display()))?;
    Ok(Some(WireguardKeys { seed, peers }))
}

/// TLS settings of a client that shows no certificate.
pub(crate) fn trusting(ca: &Path, server_name: &str) -> anyhow::Result<TlsSettings> {
    Ok(TlsSettings {
        ca_pem: authority_from_pem_file(ca)?,
        server_name: server_name.to_owned(),
        server: None,
        client: None,
        options: TlsOptions::default(),
    })
}

fn parse_seed(digits: &str) -> Option<[u8; 32]> {
    let mut seed = [0; 32];
    if digits.len() != 64 || !digits.is_ascii() {
        return None;
    }
    for (index, byte) in seed.iter_mut().enumerate() {
        *byte = u8::from_str_radix(&digits[2 * index..2 * index + 2], 16).ok()?;
    }
    Some(seed)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_that_was_made_is_read_again() {
        let parent = tempfile::tempdir().unwrap();
        let folder = parent.path().join("made");
        let made = open_or_create(&folder, 7, Some(KeyType::Rsa2048)).unwrap();
        for key_type in [None, Some(KeyType::Rsa2048)] {
            let read = open_or_create(&folder, 7, key_type).unwrap();
            let keys = |settings: &Settings| {
                let tls = settings.tls.as_ref().unwrap();
                let [server, client] = [&tls.server, &tls.client].map(|end| end.clone().unwrap());
                (tls.ca_pem.clone(), server.key_pem, client.key_pem)
            };
            assert_eq!(keys(&read), keys(&made));
            assert_eq!(
                read.wireguard.unwrap().seed,
                made.wireguard.as_ref().unwrap().seed
            );
        }
        let error = open_or_create(&folder, 7, Some(KeyType::EcdsaP256)).unwrap_err();
        let error = error.to_string();
        assert!(error.contains("ECDSA P-256") && error.contains("found RSA-2048"));
    }

    #[test]
    fn a_folder_may_hold_what_its_stacks_need_and_no_more() {
        let folder = tempfile::tempdir().unwrap();
        let error = open(folder.path(), 1).unwrap_err().to_string();
        assert!(error.contains("there are no credentials in"), "{error}");

        let authority = TestAuthority::generate().unwrap();
        write_private(&folder.path().join(CA), &authority.ca_pem()).unwrap();
        let settings = open(folder.path(), 1).unwrap();
        let tls = settings.tls.unwrap();
        assert!(tls.server.is_none() && tls.client.is_none() && settings.wireguard.is_none());

        let client = authority.client("client.test").unwrap();
        write_private(&folder.path().join(CLIENT.0), &client.chain_pem).unwrap();
        let error = open(folder.path(), 1).unwrap_err().to_string();
        assert!(
            error.contains(CLIENT.1),
            "half an identity is none: {error}"
        );
    }
}
