//! hopbench measures what it costs to secure a SIP hop, and what that buys.
//!
//! This crate is the library: everything that can be benched in one process. The package
//! `hopbench-harness` adds processes, experiments, statistics, reports and the command line.
//!
//! The map, from the bottom up; a module imports only from the lines below its own, and modules on
//! one line never import each other (`tests/dependency_rule.rs` asserts it):
//!
//! ```text
//! load, node                 generator of workloads; the server under test
//! transport                  how SIP messages cross one hop; the registry of stacks
//! net        sip   record    where IP comes from; SIP without I/O; the run's data model
//! tunnel           measure   IP-layer protection without I/O; meters
//!                  units     quantities that a bare number would hide
//! ```
//!
//! `load`, `node` and `record` use `measure`; `load` and `node` use `sip` and `transport`;
//! `transport` uses of `sip` only `sip::framing`; `transport`, `net` and `sip` use of `measure` only
//! `measure::heap`, to say what they allocate for. [`sip`] and [`tunnel`] take bytes and the time as
//! arguments: they read no clock and open no socket.

pub mod bare;
pub mod load;
pub mod measure;
pub mod net;
pub mod node;
pub mod record;
pub mod sip;
pub mod transport;
pub mod tunnel;
pub mod units;
