//! The suite once more with the kernel's IP inside tunnels, in a network namespace of its own: this test has
//! its own program run there, and is none of the tests of that run.

use super::*;

/// Tells the run inside whose IP is to be in tunnels.
const INNER_IP: &str = "HOPBENCH_CONTRACT_INNER_IP";

/// What the kernel's IP inside takes of a namespace. The device is opened only to see whether that is allowed.
const ENTER: &str = "ip link set lo up && ip route add local 10.0.0.0/8 dev lo && \
    cd /proc/sys/net && \
    for scope in all default; do \
        echo 1 > ipv4/conf/$scope/accept_local; \
        echo 0 > ipv4/conf/$scope/rp_filter; \
        [ ! -e ipv6 ] || echo 1 > ipv6/conf/$scope/disable_ipv6; \
    done && \
    exec 3<>/dev/net/tun && exec 3>&- && echo entered && exec \"$0\" transport::contract::";

/// Whose IP is inside tunnels in this run.
pub(super) fn inner_ip() -> InnerIp {
    match std::env::var(INNER_IP) {
        Ok(_) => InnerIp::Kernel,
        Err(_) => InnerIp::User,
    }
}

#[test]
fn holds_with_the_kernels_ip_inside_tunnels_too() {
    if inner_ip() == InnerIp::Kernel {
        return;
    }
    let is_root =
        std::os::unix::fs::MetadataExt::uid(&std::fs::metadata("/proc/self").unwrap()) == 0;
    let namespaces: &[&str] = match is_root {
        true => &["--net"],
        false => &["--net", "--user", "--map-root-user"],
    };
    let output = std::process::Command::new("unshare")
        .args(namespaces)
        .args(["sh", "-c", ENTER])
        .arg(std::env::current_exe().unwrap())
        .env(INNER_IP, "kernel")
        .output();
    let (said, complaints, is_success) = match &output {
        Ok(output) => (
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr),
            output.status.success(),
        ),
        Err(error) => ("".into(), error.to_string().into(), false),
    };
    if !said.starts_with("entered") {
        let is_required = std::env::var("HOPBENCH_REQUIRE_PEERS").as_deref() == Ok("1");
        assert!(
            !is_required || !is_root,
            "no network namespace: {complaints}"
        );
        eprintln!(
            "skipped: no network namespace of our own with `unshare`, iproute2's `ip` and \
             /dev/net/tun: {complaints}"
        );
        return;
    }
    assert!(is_success, "{said}{complaints}");
}
