//! `hopbench credentials`: the keys of a folder, written as other software reads them.

mod folder;
mod wireguard;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use hopbench::transport::WireguardKeys;
use hopbench::tunnel::MAX_USERS;

use super::EXIT_OK;
pub(crate) use folder::{open, open_or_create, trusting};

/// Options of the command.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "A WireGuard of others as the server, behind which a node listens:\n\n  \
    hopbench credentials wireguard-server --credentials keys --accounts 100 --out server.conf\n  \
    ip link add wg0 type wireguard        (or, in user space: wireguard-go wg0)\n  \
    wg setconf wg0 server.conf\n  \
    ip address add 10.0.0.1/8 dev wg0 && ip link set wg0 up\n  \
    hopbench node --stack udp --listen 10.0.0.1:5060\n  \
    hopbench load --stack udp@wireguard --target 192.0.2.1:51820 --credentials keys --accounts 100\n\n\
    A WireGuard of others as user 0 of a node:\n\n  \
    hopbench node --stack udp@wireguard --listen 192.0.2.1:51820 --credentials keys\n  \
    hopbench credentials wireguard-user --credentials keys --endpoint 192.0.2.1:51820 --out user.conf\n  \
    ip link add wg0 type wireguard && wg setconf wg0 user.conf\n  \
    ip address add 10.0.0.2 peer 10.0.0.1 dev wg0 && ip link set wg0 up\n  \
    hopbench load --stack udp --target 10.0.0.1:5060\n\n\
    Both ends need the same folder. Whoever has its wireguard.seed has the keys of the server and of \
    all users."
)]
pub(crate) struct Args {
    #[command(subcommand)]
    form: Form,
}

#[derive(Debug, clap::Subcommand)]
enum Form {
    /// Write what `wg setconf` reads at the server: its private key, and every user's public one
    WireguardServer(WireguardServer),
    /// Write what `wg setconf` reads at one user: its private key, and the server's public one
    WireguardUser(WireguardUser),
}

#[derive(Debug, clap::Args)]
struct WireguardServer {
    #[command(flatten)]
    files: Files,
    /// How many users there are, as --accounts of `hopbench load` says; user I has the inner address
    /// 10.0.0.(2 + I)
    #[arg(long, default_value_t = 1000, value_name = "COUNT", value_parser = clap::value_parser!(u32).range(1..=i64::from(MAX_USERS)))]
    accounts: u32,
    /// UDP port of the server
    #[arg(long, default_value_t = 51_820, value_name = "PORT", value_parser = clap::value_parser!(u16).range(1..))]
    listen_port: u16,
}

#[derive(Debug, clap::Args)]
struct WireguardUser {
    #[command(flatten)]
    files: Files,
    /// Number of the user, from 0; its inner address is 10.0.0.(2 + NUMBER)
    #[arg(long, default_value_t = 0, value_name = "NUMBER", value_parser = clap::value_parser!(u32).range(..i64::from(MAX_USERS)))]
    user: u32,
    /// Outer address of the server, where `hopbench node` listens
    #[arg(long, value_name = "IP:PORT")]
    endpoint: SocketAddr,
    /// Have the user send something at least this often (PersistentKeepalive); by default it is silent
    /// when it has nothing to say
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u16).range(1..))]
    persistent_keepalive: Option<u16>,
}

/// Where keys come from and go to.
#[derive(Debug, clap::Args)]
struct Files {
    /// Folder of certificates and keys, as `hopbench node` and `hopbench load` share it; made with fresh
    /// ones if it does not exist
    #[arg(long, value_name = "FOLDER")]
    credentials: PathBuf,
    /// File to write, for its owner's eyes only; it must not exist yet
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
}

/// Writes keys in the form that is asked for.
pub(crate) fn credentials(args: &Args) -> anyhow::Result<u8> {
    match &args.form {
        Form::WireguardServer(server) => server.files.write(|keys| {
            let peers = server.accounts;
            wireguard::server(&WireguardKeys { peers, ..keys }, server.listen_port)
        }),
        Form::WireguardUser(user) => user.files.write(|keys| {
            wireguard::user(&keys, user.user, user.endpoint, user.persistent_keepalive)
        }),
    }
}

impl Files {
    fn write(&self, text: impl FnOnce(WireguardKeys) -> String) -> anyhow::Result<u8> {
        let folder = &self.credentials;
        let Some(keys) = open_or_create(folder, 0, None)?.wireguard else {
            bail!(
                "there are no WireGuard keys in {}: choose another folder, which is made with such keys \
                 if it does not exist",
                folder.display()
            );
        };
        // As long as the file is in use, its keys must not change behind its owner's back.
        if self.out.exists() {
            bail!(
                "--out {}: it exists already; remove it first, or name another file",
                self.out.display()
            );
        }
        write_private(&self.out, &text(keys))?;
        Ok(EXIT_OK)
    }
}

/// Writes a new file: private keys are for their owner only; the certificates may as well be.
fn write_private(path: &Path, text: &str) -> anyhow::Result<()> {
    use std::io::Write;
    use std::os::unix::fs::OpenOptionsExt;

    let mut options = std::fs::OpenOptions::new();
    let file = options.write(true).create_new(true).mode(0o600).open(path);
    file.and_then(|mut file| file.write_all(text.as_bytes()))
        .with_context(|| format!("cannot write {}", path.display()))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_file_is_private_and_never_overwritten() {
        let parent = tempfile::tempdir().unwrap();
        let files = Files {
            credentials: parent.path().join("keys"),
            out: parent.path().join("user.conf"),
        };
        let text = |keys: WireguardKeys| keys.user_keys(0).private;
        files.write(text).unwrap();
        let written = std::fs::read_to_string(&files.out).unwrap();
        let mode = std::fs::metadata(&files.out).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);

        let error = files.write(text).unwrap_err().to_string();
        assert!(error.contains("exists already"), "{error}");
        assert!(!error.contains(&written), "a key is shown: {error}");

        // The same folder gives the same keys again.
        std::fs::remove_file(&files.out).unwrap();
        files.write(text).unwrap();
        assert_eq!(std::fs::read_to_string(&files.out).unwrap(), written);

        std::fs::remove_file(files.credentials.join("wireguard.seed")).unwrap();
        let error = files.write(text).unwrap_err().to_string();
        assert!(error.contains("no WireGuard keys"), "{error}");
    }
}
