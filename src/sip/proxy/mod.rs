//! The parts of a proxy (RFC 3261 §16) that need no server: how it names what it forwards
//! ([`branch`], [`token`]), what it changes ([`rewrite`]), where requests go ([`route`]), and what it
//! remembers ([`context`]). The server puts them together in `server/forwarding.rs`.
//!
//! Targets are tried one after the other, best first; requests are not forked in parallel.

pub(crate) mod branch;
pub(crate) mod context;
pub(crate) mod rewrite;
pub(crate) mod route;
pub(crate) mod token;

#[cfg(test)]
mod tests;
