//! What connections hold on the heap of a server beyond the cryptography that they cannot do without; both
//! are measured in this process. A figure is the same in every run.

#[path = "../benches/common/ends.rs"]
mod ends;

use ends::{CONNECTIONS, bytes_of_both, heap_bytes_per_connection};
use hopbench::bare::{TlsEnds, WireguardEnds};
use hopbench::load::Stage;
use hopbench::measure::heap::CountingAllocator;
use hopbench::transport::{Settings, find};

#[global_allocator]
static ALLOCATOR: CountingAllocator = CountingAllocator;

/// What a connection may hold on the server at `stage` beyond the `floor_bytes` of its cryptography.
/// Counting covers the whole process, so the stacks have their turns in one test.
fn assert_within(stack: &str, stage: Stage, floor_bytes: i64, beyond_bytes: i64) {
    let settings = Settings::generate(2 * CONNECTIONS).expect("random numbers");
    let row = find(stack).expect("a stack");
    let found = heap_bytes_per_connection(row, &settings, stage).server;
    assert!(
        (floor_bytes..=floor_bytes + beyond_bytes).contains(&found),
        "{stack} {}: {found} bytes for a connection, of which {floor_bytes} bare; expected at most \
         {beyond_bytes} beyond",
        stage.name()
    );
}

#[test]
fn a_connection_holds_little_beyond_its_cryptography() {
    // Task, registration with the reactor, binding.
    assert_within("tcp", Stage::Registered, 0, 2_048);

    let settings = Settings::generate(0).expect("random numbers");
    let settings = settings.tls.expect("generated");
    for (stack, is_mutual) in [("tls", false), ("mtls", true)] {
        let ends = TlsEnds::new(&settings, is_mutual);
        // The first one fills what all share.
        drop(ends.connect());
        let bare = bytes_of_both(|| {
            let (client, server) = ends.connect();
            (Box::new(client), Box::new(server))
        });
        assert_within(stack, Stage::Registered, bare.server, 2_048);
    }

    // Over datagrams, the transaction of a registration lasts 32 s longer than it.
    // Keys and limiter are the server's own, not a peer's.
    let ends = WireguardEnds::new();
    drop(ends.connect());
    let bare = bytes_of_both(|| ends.connect());
    assert_within("udp@wireguard", Stage::Handshaken, bare.server, 512);
    assert_within("udp@wireguard", Stage::Registered, bare.server, 1_536);
}
