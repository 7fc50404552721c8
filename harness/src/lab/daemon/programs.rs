//! Which daemons this machine has, and what to install for the others.

use std::fmt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use super::kernel;
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
const EXTRA_PLUGINS: [(&str, &str); 2] = [
    ("gcm", "libstrongswan-standard-plugins"),
    ("openssl", "libstrongswan-standard-plugins"),
];
/// What does ESP in user space, and in which package it is.
const USER_ESP: (&str, &str) = ("kernel-libipsec", "libcharon-extra-plugins");
const TUN: &str = "/dev/net/tun";

/// What a tunnel needs and this machine has not got.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Missing {
    /// What was looked for.
    what: String,
    remedy: String,
}

impl Missing {
    pub(super) fn new(what: String, remedy: impl Into<String>) -> Self {
        let remedy = remedy.into();
        Self { what, remedy }
    }
}

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.what, self.remedy)
    }
}

impl std::error::Error for Missing {}

/// The program that makes a tunnel, if everything that it needs is there.
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
    match beneath {
        Beneath::Strongswan | Beneath::StrongswanPsk | Beneath::WireguardGo => {
            openable(Path::new(TUN))?;
        }
        Beneath::StrongswanKernel | Beneath::StrongswanKernelPsk => kernel::has_esp()?,
        Beneath::WireguardKernel => kernel::has_wireguard()?,
    }
    Ok(program)
}

fn openable(device: &Path) -> Result<(), Missing> {
    let opened = std::fs::File::options().read(true).write(true).open(device);
    let opened = opened.map_err(|error| {
        Missing::new(
            format!("{} cannot be opened ({error})", device.display()),
            "`modprobe tun`; or run as root; or give a container --device /dev/net/tun",
        )
    });
    opened.map(drop)
}

fn find_in(beneath: Beneath, folders: &[PathBuf], plugins: &[PathBuf]) -> Result<PathBuf, Missing> {
    let charon: (&[&str], &str) = (&["charon-systemd", "charon"], "charon-systemd");
    let ((names, package), needed) = match beneath {
        Beneath::Strongswan | Beneath::StrongswanPsk => {
            (charon, [&[USER_ESP], EXTRA_PLUGINS.as_slice()].concat())
        }
        Beneath::StrongswanKernel | Beneath::StrongswanKernelPsk => {
            (charon, EXTRA_PLUGINS.to_vec())
        }
        Beneath::WireguardGo => ((["wireguard-go"].as_slice(), "wireguard-go"), Vec::new()),
        Beneath::WireguardKernel => ((["wg"].as_slice(), "wireguard-tools"), Vec::new()),
    };
    let mut places = names.iter().flat_map(|name| {
        let places = folders.iter();
        places.map(move |folder| folder.join(name))
    });
    let program = places.find(|file| is_executable(file));
    let program = program.ok_or_else(|| not_installed(names[0], package))?;
    for (plugin, package) in needed {
        let file = format!("libstrongswan-{plugin}.so");
        if !plugins.iter().any(|folder| folder.join(&file).exists()) {
            return Err(not_installed(
                &format!("strongSwan's plug-in {plugin}"),
                package,
            ));
        }
    }
    Ok(program)
}

fn not_installed(what: &str, package: &str) -> Missing {
    Missing::new(
        format!("{what} is not installed"),
        format!("`apt-get install {package}` on Debian provides it"),
    )
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
        let missing = find(Beneath::WireguardKernel).unwrap_err().to_string();
        assert!(
            missing.contains("`apt-get install wireguard-tools`"),
            "{missing}"
        );
    }

    #[test]
    fn where_the_kernel_does_esp_no_plug_in_has_to() {
        let folder = tempfile::tempdir().unwrap();
        let folders = [folder.path().to_owned()];
        for name in ["charon", "libstrongswan-gcm.so", "libstrongswan-openssl.so"] {
            put(folder.path(), name);
        }
        let found = find_in(Beneath::StrongswanKernelPsk, &folders, &folders);
        assert_eq!(found.unwrap(), folder.path().join("charon"));
        assert!(find_in(Beneath::StrongswanPsk, &folders, &folders).is_err());
    }
}
