//! What both ends of a connection hold on the heap is told part by part, on every stack.

#[path = "../benches/common/ends.rs"]
#[allow(dead_code)] // its other halves are for those who count and do not trace
mod ends;

use ends::{CONNECTIONS, Ends};
use hopbench::load::Stage;
use hopbench::measure::heap::{self, CountingAllocator, Part, PartBytes};
use hopbench::transport::{Settings, Stack, stacks};

#[global_allocator]
static ALLOCATOR: CountingAllocator = CountingAllocator;

/// Of each of [`CONNECTIONS`] more connections: the whole, and its parts.
fn per_connection(stack: &Stack, settings: &Settings, stage: Stage) -> (i64, PartBytes) {
    let ends = Ends::start(stack, settings);
    let reading = |users| {
        let live = ends.live_with(users, stage);
        let parts = heap::parts().expect("the allocator counts and traces");
        (live.client + live.server, parts)
    };
    let (fewer, fewer_parts) = reading(CONNECTIONS);
    let (more, more_parts) = reading(2 * CONNECTIONS);
    let each = i64::from(CONNECTIONS);
    let part = |part| (more_parts.of(part) - fewer_parts.of(part)) / each;
    ((more - fewer) / each, PartBytes::collect(part))
}

/// The parts that a stack has at all, besides those that every one has.
fn is_of_stack(part: Part, stack: &Stack) -> bool {
    match part {
        Part::TlsSession => stack.via_transport == "TLS",
        Part::Tunnel => stack.name.contains('@'),
        Part::InnerStack => stack.name.contains('@') && stack.is_stream(),
        Part::Buffers | Part::Task | Part::Binding | Part::Transaction | Part::Other => true,
    }
}

/// Counting covers the whole process, so the stacks have their turns in one test.
#[test]
fn the_parts_of_a_connection_are_all_that_it_holds() {
    heap::trace();
    let settings = Settings::generate(2 * CONNECTIONS).expect("random numbers");
    let registered = stacks().iter().map(|stack| (stack, Stage::Registered));
    let in_call = stacks().iter().take(2).map(|stack| (stack, Stage::InCall));
    for (stack, stage) in registered.chain(in_call) {
        let (whole, parts) = per_connection(stack, &settings, stage);
        let name = format!("{} {}: {parts:?} of {whole}", stack.name, stage.name());
        assert!((whole - parts.total()).abs() * 20 <= whole, "{name}");
        // Whatever a connection holds was allocated in a scope.
        assert!(parts.other * 100 <= whole, "{name}");
        for part in Part::ALL {
            let is_there = parts.of(part) > 0;
            assert!(!is_there || is_of_stack(part, stack), "{part:?} of {name}");
        }
        assert!(parts.task > 0 && parts.binding > 0, "{name}");
        if stage == Stage::InCall || !stack.is_stream() {
            assert!(parts.transaction > 0, "{name}");
        }
        for part in [Part::TlsSession, Part::Tunnel, Part::InnerStack] {
            let is_due = is_of_stack(part, stack);
            assert_eq!(parts.of(part) > 0, is_due, "{part:?} of {name}");
        }
    }
}
