//! Which daemons this machine has, and what to install for the others.

use std::fmt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use crate::beneath::Beneath;

/// Where daemons lie that an ordinary user's path does not lead to.
const SYSTEM: [&str; 4] = ["/usr/sbin", "/sbin", "/usr/lib/ipsec", "/usr/libexec/ipsec"];
/// Where distributions keep strongSwan's plug-ins.
const PLUGINS: [&str; 4] = [
    "/usr/lib/ipsec/plugins",
    "/usr/lib64/ipsec/plugins",
    "/usr/lib64/strongswan/plugins",
    "/usr/libexec/ipsec/plugins",
];
/// Those that do not come with the daemon, with Debian's packages.
const EXTRA_PLUGINS: [(&str, &str); 3] = [
    ("kernel-libipsec", "libcharon-extra-plugins"),
    ("gcm", "libstrongswan-standard-plugins"),
    ("openssl", "libstrongswan-standard-plugins"),
];
const TUN: &str = "/dev/net/tun";

/// What a daemon needs and this machine has not got.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Missing {
    /// What was looked for.
    what: String,
    remedy: String,
}

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.what, self.remedy)
    }
}

impl std::error::Error for Missing {}

/// The program of a daemon, if everything that it needs is there.
///
/// # Errors
/// For the first thing that is not, with what to install.
pub(crate) fn find(beneath: Beneath) -> Result<PathBuf, Missing> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders: Vec<PathBuf> = std::env::split_paths(&path)
        .chain(SYSTEM.map(PathBuf::from))
        .collect();
    let plugins = PLUGINS.map(PathBuf::from);
    let program = find_in(beneath, &folders, &plugins)?;
    openable(Path::new(TUN)).map_err(|error| Missing {
        what: format!("{TUN} cannot be opened ({error})"),
        remedy: "`modprobe tun`; or run as root; or give a container --device /dev/net/tun".into(),
    })?;
    Ok(program)
}

fn openable(device: &Path) -> std::io::Result<()> {
    let opened = std::fs::File::options().read(true).write(true).open(device);
    opened.map(drop)
}

fn find_in(beneath: Beneath, folders: &[PathBuf], plugins: &[PathBuf]) -> Result<PathBuf, Missing> {
    let (names, package): (&[&str], &str) = match beneath {
        Beneath::Strongswan | Beneath::StrongswanPsk => {
            (&["charon-systemd", "charon"], "charon-systemd")
        }
        Beneath::WireguardGo => (&["wireguard-go"], "wireguard-go"),
    };
    let mut places = names.iter().flat_map(|name| {
        let places = folders.iter();
        places.map(move |folder| folder.join(name))
    });
    let program = places.find(|file| is_executable(file));
    let program = program.ok_or_else(|| not_installed(names[0], package))?;
    if beneath != Beneath::WireguardGo {
        for (plugin, package) in EXTRA_PLUGINS {
            let file = format!("libstrongswan-{plugin}.so");
            if !plugins.iter().any(|folder| folder.join(&file).exists()) {
                return Err(not_installed(
                    &format!("strongSwan's plug-in {plugin}"),
                    package,
                ));
            }
        }
    }
    Ok(program)
}

fn not_installed(what: &str, package: &str) -> Missing {
    Missing {
        what: format!("{what} is not installed"),
        remedy: format!("`apt-get install {package}` on Debian provides it"),
    }
}

fn is_executable(file: &Path) -> bool {
    std::fs::metadata(file)
        .is_ok_and(|found| found.is_file() && found.permissions().mode() & 0o111 != 0)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn put(folder: &Path, name: &str) {
        let file = folder.join(name);
        std::fs::write(&file, "").unwrap();
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o755)).unwrap();
    }

    #[test]
    fn what_is_missing_is_named_with_its_package_one_by_one() {
        let folder = tempfile::tempdir().unwrap();
        let folders = [folder.path().to_owned()];
        let find = |beneath| find_in(beneath, &folders, &folders);
        let asks_for = |package: &str| {
            let missing = find(Beneath::Strongswan).unwrap_err().to_string();
            assert!(
                missing.contains(&format!("`apt-get install {package}`")),
                "{missing}"
            );
        };
        asks_for("charon-systemd");
        put(folder.path(), "charon-systemd");
        asks_for("libcharon-extra-plugins");
        put(folder.path(), "libstrongswan-kernel-libipsec.so");
        asks_for("libstrongswan-standard-plugins");
        put(folder.path(), "libstrongswan-gcm.so");
        put(folder.path(), "libstrongswan-openssl.so");
        let program = find(Beneath::Strongswan).unwrap();
        assert_eq!(program, folder.path().join("charon-systemd"));
        let missing = find(Beneath::WireguardGo).unwrap_err().to_string();
        assert_eq!(
            missing,
            "wireguard-go is not installed: `apt-get install wireguard-go` on Debian provides it"
        );
    }
}
