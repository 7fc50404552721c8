//! Keys of what is measured of any cell, in the order of a connection's life.

use super::{Known, Unit, higher, lower, lower_ns};

pub(super) const COMMON: &[Known] = &[
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
    lower_ns(
        "observed_lag_ns",
        "Lag of a generator's starts, seen in front of the server",
    ),
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
        "search_held_per_second",
        Unit::PerSecond,
        "Highest rate that was held",
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
