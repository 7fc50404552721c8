//! SIP without I/O: no socket, no clock, no transport. Bytes and the time come in as arguments;
//! bytes, events and the next deadline go out.

pub mod framing;
