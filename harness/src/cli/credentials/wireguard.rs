//! Configuration of a WireGuard of others, as `wg setconf` reads it: text, from the keys that the rules
//! of `hopbench::tunnel` give to everybody.

use std::fmt::Write;
use std::net::SocketAddr;

use hopbench::transport::WireguardKeys;
use hopbench::tunnel::{SERVER, user_address};

/// The server's side, which knows all users of `keys`.
pub(super) fn server(keys: &WireguardKeys, listen_port: u16) -> String {
    let mut text = format!(
        "# Give {SERVER}/8 to this interface.\n\
         [Interface]\n\
         PrivateKey = {}\n\
         ListenPort = {listen_port}\n",
        keys.server_keys().private
    );
    for user in 0..keys.peers {
        let _ = write!(
            text,
            "\n[Peer]\nPublicKey = {}\nAllowedIPs = {}/32\n",
            keys.user_keys(user).public,
            user_address(user)
        );
    }
    text
}

/// One user's side, which knows the server at `endpoint`.
pub(super) fn user(
    keys: &WireguardKeys,
    user: u32,
    endpoint: SocketAddr,
    persistent_keepalive_seconds: Option<u16>,
) -> String {
    let mut text = format!(
        "# Give {}/32 to this interface, and a route to {SERVER}.\n\
         [Interface]\n\
         PrivateKey = {}\n\
         \n\
         [Peer]\n\
         PublicKey = {}\n\
         Endpoint = {endpoint}\n\
         AllowedIPs = {SERVER}/32\n",
        user_address(user),
        keys.user_keys(user).private,
        keys.server_keys().public,
    );
    if let Some(seconds) = persistent_keepalive_seconds {
        let _ = writeln!(text, "PersistentKeepalive = {seconds}");
    }
    text
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    const KEYS: WireguardKeys = WireguardKeys {
        seed: [7; 32],
        peers: 300,
    };

    #[test]
    fn the_server_has_one_private_key_and_each_user_a_place() {
        let text = server(&KEYS, 51_820);
        let server = KEYS.server_keys();
        assert!(text.contains(&format!(
            "PrivateKey = {}\nListenPort = 51820\n",
            server.private
        )));
        let last = KEYS.user_keys(299);
        let peer = format!("PublicKey = {}\nAllowedIPs = 10.0.1.45/32\n", last.public);
        assert!(text.ends_with(&peer), "{text}");
        assert_eq!(text.matches("[Peer]").count(), 300);
        assert!(!text.contains(&last.private));
    }

    #[test]
    fn a_user_knows_the_server_only() {
        let endpoint = "192.0.2.1:51820".parse().unwrap();
        let silent = user(&KEYS, 3, endpoint, None);
        let expected = format!(
            "[Peer]\nPublicKey = {}\nEndpoint = {endpoint}\nAllowedIPs = 10.0.0.1/32\n",
            KEYS.server_keys().public
        );
        assert!(silent.ends_with(&expected), "{silent}");
        assert!(silent.contains("10.0.0.5/32") && silent.contains(&KEYS.user_keys(3).private));
        assert!(!silent.contains(&KEYS.server_keys().private));
        let talkative = user(&KEYS, 3, endpoint, Some(25));
        assert_eq!(talkative, silent + "PersistentKeepalive = 25\n");
    }
}
