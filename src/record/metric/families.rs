//! Keys of which there is one for each of a kind of thing: places in a topology, operations, causes of drops.

use super::{Known, Unit, higher, lower, lower_ns};

/// The figures of each node and of each hop, numbered from the caller on.
macro_rules! by_place {
    ($($place:literal)*) => {
        &[
            $(
                lower_ns(
                    concat!("node_", $place, "_cpu_ns_per_operation"),
                    concat!("CPU of node ", $place, " per operation"),
                ),
                lower(
                    concat!("node_", $place, "_rss_bytes"),
                    Unit::Bytes,
                    concat!("Resident memory of node ", $place),
                ),
                lower(
                    concat!("hop_", $place, "_wire_bytes_per_operation"),
                    Unit::Bytes,
                    concat!("Bytes on the wire of hop ", $place, " per operation"),
                ),
                lower(
                    concat!("hop_", $place, "_wire_packets_per_operation"),
                    Unit::Count,
                    concat!("Packets on hop ", $place, " per operation"),
                ),
            )*
        ]
    };
}

pub(super) const BY_PLACE: &[Known] = by_place!(1 2 3 4 5 6 7 8 9);

/// What is done of each kind of operation in a mixture.
macro_rules! by_kind {
    ($($key:literal $name:literal)*) => {
        &[
            $(
                higher(
                    concat!($key, "_offered_count"),
                    Unit::Count,
                    concat!($name, ", offered"),
                ),
                lower(
                    concat!($key, "_failed_count"),
                    Unit::Count,
                    concat!($name, ", failed"),
                ),
            )*
        ]
    };
}

pub(super) const BY_KIND: &[Known] = by_kind!(
    "register" "Registrations over a new hop"
    "reregister" "Refreshes"
    "call" "Answered calls"
    "cancelled_call" "Cancelled calls"
    "unknown_callee" "Calls to nobody"
    "comeback" "Returns after a drop"
);

/// What tunnels drop, by cause, on each side.
macro_rules! by_drop {
    ($($cause:literal $name:literal)*) => {
        &[
            $(
                lower(
                    concat!("server_tunnel_drops_", $cause, "_count"),
                    Unit::Count,
                    concat!("Datagrams that the server's tunnels dropped: ", $name),
                ),
                lower(
                    concat!("client_tunnel_drops_", $cause, "_count"),
                    Unit::Count,
                    concat!("Datagrams that the users' tunnels dropped: ", $name),
                ),
            )*
        ]
    };
}

pub(super) const BY_DROP: &[Known] = by_drop!(
    "malformed" "malformed"
    "unknown_peer" "of an unknown peer"
    "not_authentic" "not authentic"
    "replayed" "replayed"
    "no_association" "without an association"
    "misrouted" "misrouted"
    "rate_limited" "beyond the limit of handshakes"
    "overrun" "the kernel's device was full"
);
