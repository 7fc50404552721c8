//! interim
pub(super) use super::udp::open as open_server_authenticated;
pub(super) use super::udp::open as open_mutual;
