//! interim
use super::*;
pub(super) fn open(_: &Settings) -> Result<Box<dyn Transport>, TransportError> {
    Err(TransportError::Credentials(String::new()))
}
pub(super) use open as open_clear;
pub(super) use open as open_wireguard;
