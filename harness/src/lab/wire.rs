//! A link between two namespaces on which something is emulated: a TUN device at each end, and a thread that
//! carries packets between them.

use hopbench::net::link::LinkConditions;

use super::LabError;
use super::veth::End;

/// Carries packets between two devices as long as it is there.
pub(super) struct Carrier;

pub(super) fn join(
    _near: End<'_>,
    _far: End<'_>,
    _prefix_bits: u8,
    _conditions: &LinkConditions,
    _seed: u64,
    _cpus: &[usize],
) -> Result<Carrier, LabError> {
    Err(LabError::step("emulate")(
        std::io::ErrorKind::Unsupported.into(),
    ))
}
