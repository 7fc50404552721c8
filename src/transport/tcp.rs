//! interim
pub(super) use super::udp::open;
