//! sip
pub mod framing;
