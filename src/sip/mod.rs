//! SIP without I/O: no socket, no clock, no transport. Bytes and the time come in as arguments;
//! bytes, events and the next deadline go out.

pub mod account;
pub mod agent;
pub mod call;
mod callee;
pub mod digest;
pub mod emit;
pub mod framing;
pub mod message;
pub mod outbox;
pub mod parse;
pub mod registrar;
pub mod registration;
pub mod sdp;
pub mod server;
pub mod text;
pub mod timer;
pub mod transaction;

pub use account::Accounts;
pub use agent::{Agent, key_of_branch};
pub use call::{CallEvent, CallFailure, Caller};
pub use emit::Writer;
pub use message::{Header, Message, Method, ParseError, StartLine};
pub use outbox::Outbox;
pub use parse::{Contact, NameAddr, Params, Uri, Via};
pub use registration::{Registration, RegistrationEvent, RegistrationFailure};
pub use server::{Outbound, Server, ServerConfig, ServerCounters, Source};
pub use timer::{TimerQueue, Timing};
pub use transaction::Reliability;

#[cfg(test)]
mod message_tests;
#[cfg(test)]
mod pair_tests;
