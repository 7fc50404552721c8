//! Inner addresses by rule, so that neither end needs a table: the server is 10.0.0.1, user `i` is
//! 10.0.0.2 + `i`, and SIP is on port 5060 of both.

use std::net::Ipv4Addr;

/// Inner address of the server.
pub const SERVER: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);

/// Inner port of SIP, at both ends (RFC 3261 §18).
pub const SIP_PORT: u16 = 5060;

const FIRST_USER: u32 = u32::from_be_bytes([10, 0, 0, 2]);

/// Users that 10.0.0.0/8 has room for.
pub const MAX_USERS: u32 = (1 << 24) - 3;

/// Inner address of `user`.
///
/// # Panics
/// When `user` is not below [`MAX_USERS`].
#[must_use]
pub fn user_address(user: u32) -> Ipv4Addr {
    assert!(
        user < MAX_USERS,
        "expected a user below {MAX_USERS}, found {user}"
    );
    Ipv4Addr::from(FIRST_USER + user)
}

/// The user whose inner address this is, if it is one's.
#[must_use]
pub fn user_of(address: Ipv4Addr) -> Option<u32> {
    u32::from(address)
        .checked_sub(FIRST_USER)
        .filter(|&user| user < MAX_USERS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_and_users_correspond() {
        let cases = [
            (0, Ipv4Addr::new(10, 0, 0, 2)),
            (254, Ipv4Addr::new(10, 0, 1, 0)),
            (MAX_USERS - 1, Ipv4Addr::new(10, 255, 255, 254)),
        ];
        for (user, address) in cases {
            assert_eq!(user_address(user), address);
            assert_eq!(user_of(address), Some(user));
        }
        for nobody in [
            SERVER,
            Ipv4Addr::new(10, 255, 255, 255),
            Ipv4Addr::LOCALHOST,
        ] {
            assert_eq!(user_of(nobody), None, "{nobody}");
        }
    }
}
