//! SIP without I/O: no socket, no clock, no transport. Bytes and the time come in as arguments;
//! bytes, events and the next deadline go out. So everything here is tested in virtual time, and
//! benched without noise.
//!
//! ```text
//! registration  call │ server ─ registrar, callee,   flows of a user agent; the server
//!                    │          proxy, directory
//! agent, stationery  │ authenticator                 what a flow knows of its user; who sent a request
//! transaction  timer │ digest  account  sdp          retransmission; identity
//! message  header  emit  reply  outbox               a view of a buffer; writing into one
//! framing  parse  text  keyed                        where messages end; grammar; short strings; hashes
//! ```
//! A client flow ([`Registration`], [`Caller`]) is driven so: `start` it, send what is in the
//! [`Outbox`]; hand it each response whose branch has its key ([`key_of_branch`]); call `timeout`
//! at its `deadline`; act upon the events. A [`Server`] is driven likewise, with whole messages and
//! the flow that they came on. Transports use only [`framing`].

pub mod account;
pub mod agent;
pub mod authenticator;
pub mod call;
pub mod digest;
pub mod directory;
pub mod emit;
pub mod framing;
pub mod header;
pub mod message;
pub mod outbox;
pub mod parse;
pub mod registrar;
pub mod registration;
pub mod rehearsal;
pub mod reply;
pub mod response;
pub mod sdp;
pub mod server;
pub mod text;
pub mod timer;
pub mod transaction;
pub mod wheel;

mod callee;
mod familiar;
mod form;
mod keyed;
mod proxy;
mod stationery;

pub use account::Accounts;
pub use agent::{Agent, key_of_branch};
pub use call::{CallEvent, CallFailure, Caller};
pub use directory::Directory;
pub use emit::Writer;
pub use header::{Header, Method};
pub use message::{Essentials, Message, ParseError, StartLine};
pub use outbox::Outbox;
pub use parse::{Contact, NameAddr, Params, Uri, Via};
pub use registration::{Registration, RegistrationEvent, RegistrationFailure};
pub use response::{Response, Responses};
pub use server::{
    DATAGRAM_BYTES_MAX, Interface, NextHop, Outbound, Route, Server, ServerConfig, ServerCounters,
    Service, Source, Worker,
};
pub use stationery::Stationery;
pub use timer::Timing;
pub use transaction::Reliability;
pub use wheel::TimerWheel;

#[cfg(test)]
mod message_properties;
#[cfg(test)]
mod message_tests;
#[cfg(test)]
mod pair_tests;
