//! The command line of hopbench.

mod environment;
mod statistics;

fn main() {}
