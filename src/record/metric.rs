//! The metric keys that hopbench publishes, and how a metric is made.

use super::{Direction, Histogram, Metric, Unit};
use crate::measure::histogram::{LatencyHistogram, RateHistogram};

/// A metric key and what it stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Known {
    /// Key in [`super::Cell::metrics`].
    pub key: &'static str,
    /// Unit of its value; [`Unit::of_key`] of the key.
    pub unit: Unit,
    /// Which direction is better.
    pub direction: Direction,
    /// For the head of a column or the title of a chart.
    pub title: &'static str,
}

/// Every metric key, in the order of a connection's life; then those of single nodes and hops, of
/// kinds of operations, of what tunnels drop, of crowds of users, of lines over links, and of narrow hops.
pub const KNOWN: &[Known] = &{
    const AFTER_PLACES: usize = COMMON.len() + BY_PLACE.len();
    const AFTER_KINDS: usize = AFTER_PLACES + BY_KIND.len();
    const AFTER_DROPS: usize = AFTER_KINDS + BY_DROP.len();
    const AFTER_SCALE: usize = AFTER_DROPS + AT_SCALE.len();
    const AFTER_LINKS: usize = AFTER_SCALE + OVER_LINKS.len();
    let mut known = [COMMON[0]; AFTER_LINKS + OVER_NARROW_HOPS.len()];
    let mut index = 0;
    while index < known.len() {
        known[index] = if index < COMMON.len() {
            COMMON[index]
        } else if index < AFTER_PLACES {
            BY_PLACE[index - COMMON.len()]
        } else if index < AFTER_KINDS {
            BY_KIND[index - AFTER_PLACES]
        } else if index < AFTER_DROPS {
            BY_DROP[index - AFTER_KINDS]
        } else if index < AFTER_SCALE {
            AT_SCALE[index - AFTER_DROPS]
        } else if index < AFTER_LINKS {
            OVER_LINKS[index - AFTER_SCALE]
        } else {
            OVER_NARROW_HOPS[index - AFTER_LINKS]
        };
        index += 1;
    }
    known
};

const COMMON: &[Known] = &[
    lower_ns("tunnel_handshake_ns", "Tunnel handshake"),
    lower_ns(
        "tunnel_setup_ns",
        "Set-up of the tunnel that all users share, until a datagram has come back",
    ),
    lower(
        "tunnel_setup_wire_bytes",
        Unit::Bytes,
        "Bytes of IP packets of its key exchange",
    ),
    lower(
        "tunnel_setup_wire_packets",
        Unit::Count,
        "Packets of its key exchange",
    ),
    lower_ns("transport_connect_ns", "TCP connect"),
    lower_ns("security_handshake_ns", "Security handshake"),
    lower_ns("setup_latency_ns", "Hop set-up"),
    lower_ns("first_response_ns", "First response"),
    lower_ns("registration_delay_ns", "Registration delay (RRD)"),
    lower_ns("session_request_delay_ns", "Session request delay (SRD)"),
    lower_ns(
        "session_request_delay_uncorrected_ns",
        "Session request delay from the actual start",
    ),
    lower_ns(
        "session_disconnect_delay_ns",
        "Session disconnect delay (SDD)",
    ),
    lower_ns("hop_ready_to_registered_ns", "Registered"),
    lower_ns(
        "hop_ready_to_registered_uncorrected_ns",
        "Registered, from the actual start",
    ),
    lower_ns("outage_ns", "Outage of a user whose hop dropped"),
    lower_ns(
        "avalanche_recovery_ns",
        "Time until every user is back after all hops dropped",
    ),
    lower_ns("scheduling_lag_ns", "Scheduling lag of the generator"),
    higher(
        "session_establishment_ratio",
        Unit::Ratio,
        "Sessions established (SER)",
    ),
    higher(
        "session_completion_ratio",
        Unit::Ratio,
        "Sessions completed (SCR)",
    ),
    higher("offered_per_second", Unit::PerSecond, "Offered rate"),
    higher("achieved_per_second", Unit::PerSecond, "Achieved rate"),
    higher(
        "throughput_per_second",
        Unit::PerSecond,
        "Throughput in 100 ms windows",
    ),
    higher(
        "session_establishment_rate",
        Unit::PerSecond,
        "Session establishment rate",
    ),
    higher("registration_rate", Unit::PerSecond, "Registration rate"),
    higher(
        "reregistration_rate",
        Unit::PerSecond,
        "Re-registration rate",
    ),
    higher(
        "knee_per_second",
        Unit::PerSecond,
        "Knee of the latency curve",
    ),
    higher(
        "search_ceiling_per_second",
        Unit::PerSecond,
        "Lowest rate above what was held that was not",
    ),
    lower("search_steps_count", Unit::Count, "Loads of the search"),
    lower(
        "search_attempts_count",
        Unit::Count,
        "Operations attempted in all loads of the search",
    ),
    lower_ns(
        "lowest_rate_latency_p99_ns",
        "Latency at the lowest rate, 99th percentile",
    ),
    lower_ns(
        "knee_latency_p99_ns",
        "Latency at the knee, 99th percentile",
    ),
    lower_ns(
        "half_knee_lag_p99_ns",
        "Scheduling lag at half the knee, 99th percentile",
    ),
    lower("failed_count", Unit::Count, "Failed operations"),
    lower("retransmissions_count", Unit::Count, "Requests sent again"),
    lower(
        "unexpected_count",
        Unit::Count,
        "Messages to the generator that belonged to nothing",
    ),
    lower(
        "lost_hops_count",
        Unit::Count,
        "Hops that broke although nobody closed them",
    ),
    lower(
        "refused_count",
        Unit::Count,
        "Attempts to come back that failed",
    ),
    lower(
        "retried_count",
        Unit::Count,
        "Attempts to come back after a failed one",
    ),
    lower(
        "stale_nonces_count",
        Unit::Count,
        "Refreshes that a stale nonce cost another round",
    ),
    higher(
        "resumed_handshakes_count",
        Unit::Count,
        "Handshakes that resumed an earlier session",
    ),
    lower(
        "server_socket_drops_count",
        Unit::Count,
        "Datagrams that the server's socket dropped",
    ),
    lower(
        "generator_busy_ratio",
        Unit::Ratio,
        "Processor share of the busiest generator worker",
    ),
    lower_ns("client_cpu_ns_per_operation", "Client CPU per operation"),
    lower_ns("server_cpu_ns_per_operation", "Server CPU per operation"),
    lower_ns(
        "protection_cpu_ns_per_packet",
        "CPU of both sides for protecting a packet",
    ),
    lower_ns(
        "bare_protection_cpu_ns_per_packet",
        "CPU of boringtun alone for such a packet",
    ),
    lower(
        "protection_cost_ratio",
        Unit::Ratio,
        "CPU of protecting a packet ÷ that of boringtun alone",
    ),
    lower_ns(
        "bare_protection_paced_cpu_ns_per_packet",
        "CPU of boringtun alone for such a packet, at the pace of the cell's",
    ),
    lower(
        "protection_paced_cost_ratio",
        Unit::Ratio,
        "CPU of protecting a packet ÷ that of boringtun alone at its pace",
    ),
    lower(
        "client_cpu_sip_ratio",
        Unit::Ratio,
        "Share of client CPU in SIP",
    ),
    lower(
        "client_cpu_transport_ratio",
        Unit::Ratio,
        "Share of client CPU in transport",
    ),
    lower(
        "client_cpu_cryptography_ratio",
        Unit::Ratio,
        "Share of client CPU in cryptography",
    ),
    lower(
        "client_cpu_kernel_ratio",
        Unit::Ratio,
        "Share of client CPU in the kernel",
    ),
    lower(
        "client_cpu_runtime_ratio",
        Unit::Ratio,
        "Share of client CPU in the runtime",
    ),
    lower(
        "client_cpu_application_ratio",
        Unit::Ratio,
        "Share of client CPU in the application",
    ),
    lower(
        "client_cpu_other_ratio",
        Unit::Ratio,
        "Share of client CPU in anything else",
    ),
    lower(
        "server_cpu_sip_ratio",
        Unit::Ratio,
        "Share of server CPU in SIP",
    ),
    lower(
        "server_cpu_transport_ratio",
        Unit::Ratio,
        "Share of server CPU in transport",
    ),
    lower(
        "server_cpu_cryptography_ratio",
        Unit::Ratio,
        "Share of server CPU in cryptography",
    ),
    lower(
        "server_cpu_kernel_ratio",
        Unit::Ratio,
        "Share of server CPU in the kernel",
    ),
    lower(
        "server_cpu_runtime_ratio",
        Unit::Ratio,
        "Share of server CPU in the runtime",
    ),
    lower(
        "server_cpu_application_ratio",
        Unit::Ratio,
        "Share of server CPU in the application",
    ),
    lower(
        "server_cpu_other_ratio",
        Unit::Ratio,
        "Share of server CPU in anything else",
    ),
    lower(
        "instructions_count",
        Unit::Count,
        "Instructions of one operation in user space",
    ),
    lower_ns(
        "bare_records_cpu_ns_per_operation",
        "CPU of rustls alone for the client's records of an operation",
    ),
    lower(
        "client_cpu_to_floor_ratio",
        Unit::Ratio,
        "Client CPU over TLS ÷ that over TCP and of rustls alone",
    ),
    lower_ns(
        "bare_handshake_cpu_ns",
        "CPU of the bare handshake, both ends in memory",
    ),
    lower(
        "handshake_cost_ratio",
        Unit::Ratio,
        "CPU of a registration over a new hop ÷ that of the bare handshake and of the same without protection",
    ),
    lower_ns(
        "bare_handshake_paced_cpu_ns",
        "CPU of the bare handshake, both ends in memory, at the pace of the cell's",
    ),
    lower(
        "handshake_paced_cost_ratio",
        Unit::Ratio,
        "CPU of a registration over a new hop ÷ that of the bare handshake at its pace and of the same without \
         protection",
    ),
    lower_ns(
        "session_request_delay_fixed_ns",
        "Session request delay without a proxy, by the fit",
    ),
    lower_ns(
        "session_request_delay_per_hop_ns",
        "Session request delay that each further hop adds",
    ),
    higher(
        "session_request_delay_r_squared_ratio",
        Unit::Ratio,
        "Fit of session request delay over proxies (r²)",
    ),
    lower_ns(
        "server_cpu_fixed_ns",
        "Server CPU per call without a proxy, by the fit",
    ),
    lower_ns(
        "server_cpu_per_hop_ns",
        "Server CPU per call that each further hop adds",
    ),
    higher(
        "server_cpu_r_squared_ratio",
        Unit::Ratio,
        "Fit of server CPU over proxies (r²)",
    ),
    lower(
        "client_heap_bytes_per_connection",
        Unit::Bytes,
        "Client heap per connection",
    ),
    lower(
        "server_heap_bytes_per_connection",
        Unit::Bytes,
        "Server heap per connection",
    ),
    lower(
        "client_heap_fixed_bytes",
        Unit::Bytes,
        "Client heap without a connection, by the fit",
    ),
    lower(
        "server_heap_fixed_bytes",
        Unit::Bytes,
        "Server heap without a connection, by the fit",
    ),
    lower(
        "client_bare_heap_bytes_per_connection",
        Unit::Bytes,
        "Client heap of the bare cryptography per connection",
    ),
    lower(
        "client_tls_session_heap_bytes_per_connection",
        Unit::Bytes,
        "Client heap of TLS sessions per connection",
    ),
    lower(
        "client_tunnel_heap_bytes_per_connection",
        Unit::Bytes,
        "Client heap of tunnels per connection",
    ),
    lower(
        "client_inner_stack_heap_bytes_per_connection",
        Unit::Bytes,
        "Client heap of TCP within tunnels per connection",
    ),
    lower(
        "client_buffers_heap_bytes_per_connection",
        Unit::Bytes,
        "Client heap of buffers per connection",
    ),
    lower(
        "client_task_heap_bytes_per_connection",
        Unit::Bytes,
        "Client heap of tasks and streams per connection",
    ),
    lower(
        "client_binding_heap_bytes_per_connection",
        Unit::Bytes,
        "Client heap of registrations per connection",
    ),
    lower(
        "client_transaction_heap_bytes_per_connection",
        Unit::Bytes,
        "Client heap of transactions and calls per connection",
    ),
    lower(
        "client_other_heap_bytes_per_connection",
        Unit::Bytes,
        "Client heap that nobody claims per connection",
    ),
    lower(
        "client_unexplained_heap_bytes_per_connection",
        Unit::Bytes,
        "Client heap in none of the parts per connection",
    ),
    lower(
        "server_bare_heap_bytes_per_connection",
        Unit::Bytes,
        "Server heap of the bare cryptography per connection",
    ),
    lower(
        "server_tls_session_heap_bytes_per_connection",
        Unit::Bytes,
        "Server heap of TLS sessions per connection",
    ),
    lower(
        "server_tunnel_heap_bytes_per_connection",
        Unit::Bytes,
        "Server heap of tunnels per connection",
    ),
    lower(
        "server_inner_stack_heap_bytes_per_connection",
        Unit::Bytes,
        "Server heap of TCP within tunnels per connection",
    ),
    lower(
        "server_buffers_heap_bytes_per_connection",
        Unit::Bytes,
        "Server heap of buffers per connection",
    ),
    lower(
        "server_task_heap_bytes_per_connection",
        Unit::Bytes,
        "Server heap of tasks and streams per connection",
    ),
    lower(
        "server_binding_heap_bytes_per_connection",
        Unit::Bytes,
        "Server heap of registrations per connection",
    ),
    lower(
        "server_transaction_heap_bytes_per_connection",
        Unit::Bytes,
        "Server heap of transactions and calls per connection",
    ),
    lower(
        "server_other_heap_bytes_per_connection",
        Unit::Bytes,
        "Server heap that nobody claims per connection",
    ),
    lower(
        "server_unexplained_heap_bytes_per_connection",
        Unit::Bytes,
        "Server heap in none of the parts per connection",
    ),
    higher(
        "client_heap_r_squared_ratio",
        Unit::Ratio,
        "Fit of client heap over connections (r²)",
    ),
    higher(
        "server_heap_r_squared_ratio",
        Unit::Ratio,
        "Fit of server heap over connections (r²)",
    ),
    lower(
        "client_chunk_bytes_per_connection",
        Unit::Bytes,
        "Client heap in chunks of malloc per connection",
    ),
    lower(
        "server_chunk_bytes_per_connection",
        Unit::Bytes,
        "Server heap in chunks of malloc per connection",
    ),
    lower(
        "client_malloc_bytes_per_connection",
        Unit::Bytes,
        "Client memory from malloc per connection",
    ),
    lower(
        "server_malloc_bytes_per_connection",
        Unit::Bytes,
        "Server memory from malloc per connection",
    ),
    lower(
        "client_arena_bytes_per_connection",
        Unit::Bytes,
        "Client memory that malloc has, given out or free, per connection",
    ),
    lower(
        "server_arena_bytes_per_connection",
        Unit::Bytes,
        "Server memory that malloc has, given out or free, per connection",
    ),
    lower(
        "client_c_heap_bytes_per_connection",
        Unit::Bytes,
        "Client heap of C code per connection",
    ),
    lower(
        "server_c_heap_bytes_per_connection",
        Unit::Bytes,
        "Server heap of C code per connection",
    ),
    lower(
        "client_rss_bytes_per_connection",
        Unit::Bytes,
        "Client RSS per connection",
    ),
    lower(
        "server_rss_bytes_per_connection",
        Unit::Bytes,
        "Server RSS per connection",
    ),
    lower(
        "client_rss_fixed_bytes",
        Unit::Bytes,
        "Client RSS without a connection, by the fit",
    ),
    lower(
        "server_rss_fixed_bytes",
        Unit::Bytes,
        "Server RSS without a connection, by the fit",
    ),
    higher(
        "client_rss_r_squared_ratio",
        Unit::Ratio,
        "Fit of client RSS over connections (r²)",
    ),
    higher(
        "server_rss_r_squared_ratio",
        Unit::Ratio,
        "Fit of server RSS over connections (r²)",
    ),
    lower(
        "kernel_bytes_per_connection",
        Unit::Bytes,
        "Kernel memory per connection",
    ),
    higher(
        "kernel_r_squared_ratio",
        Unit::Ratio,
        "Fit of kernel memory over connections (r²)",
    ),
    lower(
        "handshake_wire_bytes",
        Unit::Bytes,
        "Bytes on the wire per set-up",
    ),
    lower("handshake_wire_packets", Unit::Count, "Packets per set-up"),
    lower(
        "wire_bytes_per_operation",
        Unit::Bytes,
        "Bytes on the wire per operation",
    ),
    lower(
        "wire_packets_per_operation",
        Unit::Count,
        "Packets per operation",
    ),
    lower("wire_overhead_ratio", Unit::Ratio, "Wire bytes ÷ SIP bytes"),
];

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

const BY_PLACE: &[Known] = by_place!(1 2 3 4 5 6 7 8 9);

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

const BY_KIND: &[Known] = by_kind!(
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

const BY_DROP: &[Known] = by_drop!(
    "malformed" "malformed"
    "unknown_peer" "of an unknown peer"
    "not_authentic" "not authentic"
    "replayed" "replayed"
    "no_association" "without an association"
    "misrouted" "misrouted"
    "rate_limited" "beyond the limit of handshakes"
    "overrun" "the kernel's device was full"
);

/// What latencies tell together over links of several delays.
const OVER_LINKS: &[Known] = &[
    lower_ns(
        "setup_latency_at_no_distance_ns",
        "Set-up over a link without a delay, by the fit",
    ),
    lower(
        "setup_latency_per_round_trip_ratio",
        Unit::Ratio,
        "Set-up, in round trips of the link, by the fit",
    ),
    higher(
        "setup_latency_per_round_trip_r_squared_ratio",
        Unit::Ratio,
        "Fit of set-up over round-trip times (r²)",
    ),
    lower_ns(
        "registered_at_no_distance_ns",
        "Time to registered over a link without a delay, by the fit",
    ),
    lower(
        "registered_per_round_trip_ratio",
        Unit::Ratio,
        "Time to registered, in round trips of the link, by the fit",
    ),
    higher(
        "registered_per_round_trip_r_squared_ratio",
        Unit::Ratio,
        "Fit of time to registered over round-trip times (r²)",
    ),
    lower_ns(
        "session_request_delay_at_no_distance_ns",
        "Session request delay over a link without a delay, by the fit",
    ),
    lower(
        "session_request_delay_per_round_trip_ratio",
        Unit::Ratio,
        "Session request delay, in round trips of the link, by the fit",
    ),
    higher(
        "session_request_delay_per_round_trip_r_squared_ratio",
        Unit::Ratio,
        "Fit of session request delay over round-trip times (r²)",
    ),
];

/// What passes a hop of a given rate: operations alone, as many as fit, and more than that.
const OVER_NARROW_HOPS: &[Known] = &[
    lower(
        "onward_wire_bytes_per_operation",
        Unit::Bytes,
        "Bytes of IP packets per operation, from who opens hops",
    ),
    lower(
        "back_wire_bytes_per_operation",
        Unit::Bytes,
        "Bytes of IP packets per operation, to who opens hops",
    ),
    lower(
        "tcp_retransmissions_count",
        Unit::Count,
        "Segments that the kernel's TCP sent again although operations were alone on the hop",
    ),
    lower_ns(
        "serialised_ns",
        "Time that the hop takes to send all bytes of an operation, one after the other",
    ),
    higher(
        "predicted_per_second",
        Unit::PerSecond,
        "Operations that should fit, by the bytes of the fuller direction",
    ),
    higher(
        "fitting_per_second",
        Unit::PerSecond,
        "Highest rate tried at which all operations fitted",
    ),
    higher(
        "fitting_ratio",
        Unit::Ratio,
        "That rate ÷ the predicted one",
    ),
    lower_ns("fitting_latency_ns", "Latency at the rate that fits"),
    higher(
        "overload_offered_per_second",
        Unit::PerSecond,
        "More than should fit, as it was offered",
    ),
    higher(
        "overload_achieved_per_second",
        Unit::PerSecond,
        "What of that ended well",
    ),
    higher(
        "overload_achieved_ratio",
        Unit::Ratio,
        "What ended well when more was offered ÷ what should fit",
    ),
    lower(
        "overload_failed_count",
        Unit::Count,
        "Operations that failed, or had not ended, when more was offered than fits",
    ),
    lower(
        "overload_retransmissions_count",
        Unit::Count,
        "Requests sent again when more was offered than fits",
    ),
    lower(
        "overload_tcp_retransmissions_count",
        Unit::Count,
        "Segments that the kernel's TCP sent again when more was offered than fits",
    ),
    lower(
        "overload_link_queue_drops_count",
        Unit::Count,
        "Packets that found the hop's queue full when more was offered than fits",
    ),
];

/// A crowd of users at one node: their coming, their rest, what operations cost beside them, and how
/// that grows with the crowd.
const AT_SCALE: &[Known] = &[
    lower_ns("population_ns", "Time until the whole crowd had registered"),
    higher(
        "population_per_second",
        Unit::PerSecond,
        "Registrations while the crowd came",
    ),
    lower_ns(
        "population_server_cpu_ns_per_registration",
        "Server CPU per registration while the crowd came",
    ),
    lower_ns(
        "population_client_cpu_ns_per_registration",
        "Client CPU per registration while the crowd came",
    ),
    higher(
        "registered_count",
        Unit::Count,
        "Users of the crowd registered at the end of the hold",
    ),
    lower(
        "idle_server_cpu_ratio",
        Unit::Ratio,
        "Server processors that an idle crowd keeps busy",
    ),
    lower(
        "idle_client_cpu_ratio",
        Unit::Ratio,
        "Client processors that an idle crowd keeps busy",
    ),
    lower_ns(
        "server_cpu_ns_per_call",
        "Server CPU per call, beyond the idle crowd's",
    ),
    lower_ns(
        "server_cpu_ns_per_registration",
        "Server CPU per registration, beyond the idle crowd's",
    ),
    lower_ns(
        "server_cpu_ns_per_refresh",
        "Server CPU per refresh, beyond the idle crowd's",
    ),
    lower_ns(
        "client_cpu_ns_per_refresh",
        "Client CPU per refresh, beyond the idle crowd's",
    ),
    lower("server_heap_bytes", Unit::Bytes, "Server heap, all workers"),
    lower("server_rss_bytes", Unit::Bytes, "Server RSS, all workers"),
    lower(
        "client_heap_bytes",
        Unit::Bytes,
        "Client heap, all processes",
    ),
    lower("client_rss_bytes", Unit::Bytes, "Client RSS, all processes"),
    lower("kernel_bytes", Unit::Bytes, "Kernel memory of all sockets"),
    lower(
        "peak_memory_bytes",
        Unit::Bytes,
        "Peak memory of both sides, the kernel's included",
    ),
    lower(
        "server_cpu_per_call_growth_per_decade_ratio",
        Unit::Ratio,
        "Growth of server CPU per call for ten times the users",
    ),
    lower(
        "server_cpu_per_call_most_to_fewest_ratio",
        Unit::Ratio,
        "Server CPU per call with the most users ÷ with the fewest",
    ),
    lower(
        "session_request_delay_growth_per_decade_ratio",
        Unit::Ratio,
        "Growth of session request delay for ten times the users",
    ),
    lower(
        "session_request_delay_most_to_fewest_ratio",
        Unit::Ratio,
        "Session request delay with the most users ÷ with the fewest",
    ),
    lower(
        "server_cpu_per_registration_growth_per_decade_ratio",
        Unit::Ratio,
        "Growth of server CPU per registration for ten times the users",
    ),
    lower(
        "server_cpu_per_registration_most_to_fewest_ratio",
        Unit::Ratio,
        "Server CPU per registration with the most users ÷ with the fewest",
    ),
    lower(
        "registered_growth_per_decade_ratio",
        Unit::Ratio,
        "Growth of the time until registered for ten times the users",
    ),
    lower(
        "registered_most_to_fewest_ratio",
        Unit::Ratio,
        "Time until registered with the most users ÷ with the fewest",
    ),
];

/// The entry of `key` in [`KNOWN`].
#[must_use]
pub fn known(key: &str) -> Option<&'static Known> {
    KNOWN.iter().find(|known| known.key == key)
}

const fn lower(key: &'static str, unit: Unit, title: &'static str) -> Known {
    Known {
        key,
        unit,
        direction: Direction::Lower,
        title,
    }
}

const fn lower_ns(key: &'static str, title: &'static str) -> Known {
    lower(key, Unit::Ns, title)
}

const fn higher(key: &'static str, unit: Unit, title: &'static str) -> Known {
    Known {
        key,
        unit,
        direction: Direction::Higher,
        title,
    }
}

impl Unit {
    /// The unit that `key` ends in, what it is counted per left aside (`_per_connection`,
    /// `_per_operation`, `_per_registration`, `_per_refresh`, `_per_call`, `_per_packet`); `None` when it
    /// ends in none. A rate of RFC 7501 is per second.
    #[must_use]
    pub fn of_key(key: &str) -> Option<Self> {
        const ENDINGS: [(&str, Unit); 7] = [
            ("_ns", Unit::Ns),
            ("_bytes", Unit::Bytes),
            ("_per_second", Unit::PerSecond),
            ("_rate", Unit::PerSecond),
            ("_ratio", Unit::Ratio),
            ("_count", Unit::Count),
            ("_packets", Unit::Count),
        ];
        const COUNTED_PER: [&str; 6] = [
            "_per_connection",
            "_per_operation",
            "_per_registration",
            "_per_refresh",
            "_per_call",
            "_per_packet",
        ];
        let quantity = COUNTED_PER
            .into_iter()
            .find_map(|per| key.strip_suffix(per))
            .unwrap_or(key);
        ENDINGS
            .into_iter()
            .find_map(|(ending, unit)| quantity.ends_with(ending).then_some(unit))
    }
}

impl Metric {
    /// A latency: its value is the median, its histogram all of `latencies`. Without samples both
    /// are null.
    #[must_use]
    pub fn latency(latencies: &LatencyHistogram) -> Self {
        #[allow(clippy::cast_precision_loss)] // one hour in ns needs 42 of 53 bits
        let median = latencies.median_ns().map(|ns| ns as f64);
        Self {
            histogram: (!latencies.is_empty()).then(|| Histogram::from(latencies)),
            ..Self::scalar(median, None, Unit::Ns, Direction::Lower)
        }
    }

    /// A throughput: its value is the mean over the windows, its histogram all of `rates`. Without
    /// windows both are null.
    #[must_use]
    pub fn throughput(rates: &RateHistogram) -> Self {
        let values = rates.values();
        Self {
            histogram: (!values.is_empty()).then(|| Histogram::from(rates)),
            ..Self::scalar(
                (!values.is_empty()).then(|| values.mean()),
                None,
                Unit::PerSecond,
                Direction::Higher,
            )
        }
    }

    /// A single figure, with the ends of its 95 % interval where there is one. What is not a finite
    /// number, such as a quotient by zero, is missing: null.
    #[must_use]
    pub fn scalar(
        value: Option<f64>,
        ci95: Option<(f64, f64)>,
        unit: Unit,
        direction: Direction,
    ) -> Self {
        Self {
            value: value.filter(|value| value.is_finite()),
            ci95_low: None,
            ci95_high: None,
            unit,
            direction,
            histogram: None,
            fit: None,
            series: None,
            blocks: Vec::new(),
        }
        .with_interval(ci95)
    }

    /// The single figure of a key in [`KNOWN`].
    ///
    /// # Panics
    /// When `key` is not in the table.
    #[must_use]
    pub fn of(key: &str, value: Option<f64>) -> Self {
        let known = known(key).unwrap_or_else(|| panic!("{key} is not in metric::KNOWN"));
        Self::scalar(value, None, known.unit, known.direction)
    }

    /// The metric of a key in [`KNOWN`] that could not be measured, or that the stack does not have.
    ///
    /// # Panics
    /// When `key` is not in the table.
    #[must_use]
    pub fn missing(key: &str) -> Self {
        Self::of(key, None)
    }

    /// The same metric with the ends of its 95 % interval over blocks; an interval that is not
    /// finite is none.
    #[must_use]
    pub fn with_interval(mut self, ci95: Option<(f64, f64)>) -> Self {
        let ci95 = ci95.filter(|(low, high)| low.is_finite() && high.is_finite());
        self.ci95_low = ci95.map(|(low, _)| low);
        self.ci95_high = ci95.map(|(_, high)| high);
        self
    }

    /// The same metric with the figures of its blocks, by their numbers. Blocks without one are null,
    /// and so are figures that are not finite.
    #[must_use]
    pub fn with_blocks(mut self, figures: impl IntoIterator<Item = (u32, f64)>) -> Self {
        self.blocks.clear();
        for (block, figure) in figures.into_iter().filter(|(_, figure)| figure.is_finite()) {
            let place = block as usize;
            if self.blocks.len() <= place {
                self.blocks.resize(place + 1, None);
            }
            self.blocks[place] = Some(figure);
        }
        self
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_key_ends_in_its_unit_and_stands_once() {
        let mut keys = BTreeSet::new();
        for known in KNOWN {
            assert_eq!(Unit::of_key(known.key), Some(known.unit), "{}", known.key);
            assert!(keys.insert(known.key), "{} stands twice", known.key);
        }
        assert_eq!(Unit::of_key("wire"), None);
    }

    #[test]
    fn every_latency_has_the_unit_that_the_constructor_gives() {
        let latency = Metric::latency(&LatencyHistogram::new());
        let delay = known("registration_delay_ns").unwrap();
        assert_eq!(
            (latency.unit, latency.direction),
            (delay.unit, delay.direction)
        );
        let throughput = Metric::throughput(&RateHistogram::new());
        let rate = known("throughput_per_second").unwrap();
        assert_eq!(
            (throughput.unit, throughput.direction),
            (rate.unit, rate.direction)
        );
    }

    #[test]
    fn what_was_not_measured_is_null() {
        let empty = Metric::latency(&LatencyHistogram::new());
        assert_eq!((empty.value, empty.histogram), (None, None));
        let empty = Metric::throughput(&RateHistogram::new());
        assert_eq!((empty.value, empty.histogram), (None, None));
        let quotient = Metric::of("wire_overhead_ratio", Some(f64::NAN))
            .with_interval(Some((f64::NEG_INFINITY, 1.0)));
        assert_eq!(quotient, Metric::missing("wire_overhead_ratio"));
    }

    #[test]
    fn blocks_stand_at_their_numbers() {
        let metric = Metric::of("failed_count", Some(3.0));
        assert!(metric.blocks.is_empty());
        let metric = metric.with_blocks([(2, 3.0), (0, 1.0), (3, f64::NAN)]);
        assert_eq!(metric.blocks, [Some(1.0), None, Some(3.0)]);
        let written = serde_json::to_string(&metric).unwrap();
        assert!(written.contains("\"blocks\":[1.0,null,3.0]"), "{written}");
        assert_eq!(serde_json::from_str::<Metric>(&written).unwrap(), metric);
        // Runs of earlier versions have no such key.
        let earlier = written.replace(",\"blocks\":[1.0,null,3.0]", "");
        let read = serde_json::from_str::<Metric>(&earlier).unwrap();
        assert_eq!(read, metric.with_blocks([]));
    }

    #[test]
    fn a_latency_is_its_median_and_a_throughput_its_mean() {
        let mut latencies = LatencyHistogram::new();
        [10, 20, 900]
            .into_iter()
            .for_each(|ns| latencies.record_ns(ns));
        let metric = Metric::latency(&latencies).with_interval(Some((12.0, 30.0)));
        assert_eq!(metric.value, Some(20.0));
        assert_eq!(
            (metric.ci95_low, metric.ci95_high),
            (Some(12.0), Some(30.0))
        );
        assert_eq!(metric.histogram.unwrap().count, 3);

        let mut rates = RateHistogram::new();
        [0, 10, 80].into_iter().for_each(|rate| rates.record(rate));
        assert_eq!(Metric::throughput(&rates).value, Some(30.0));
    }
}
