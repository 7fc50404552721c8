//! Pairs of virtual Ethernet interfaces: a wire between two namespaces on which nothing is emulated.

use std::net::Ipv4Addr;

use super::LabError;
use super::namespace::Namespace;

/// One end of a pair.
#[derive(Clone, Copy, Debug)]
pub(crate) struct End<'a> {
    /// Where it is.
    pub(crate) namespace: &'a Namespace,
    /// Name of the interface.
    pub(crate) name: &'a str,
    /// Its address.
    pub(crate) address: Ipv4Addr,
}

/// Joins two namespaces. The pair goes with either of them.
///
/// # Errors
/// When a name is taken, or the kernel has no such interfaces.
pub(crate) fn join(
    one: End<'_>,
    other: End<'_>,
    prefix_bits: u8,
    mtu_bytes: u32,
) -> Result<(), LabError> {
    let elsewhere = std::os::fd::AsFd::as_fd(other.namespace);
    one.namespace.interfaces(async |interfaces| {
        interfaces.add_veth(one.name, other.name, elsewhere).await
    })?;
    for end in [one, other] {
        end.namespace.interfaces(async |interfaces| {
            interfaces.set_mtu(end.name, mtu_bytes).await?;
            interfaces
                .add_address(end.name, end.address, prefix_bits)
                .await?;
            interfaces.bring_up(end.name).await
        })?;
    }
    Ok(())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::io::Read;
    use std::net::{TcpListener, TcpStream};

    use super::super::tests::lab_is_possible;
    use super::*;

    #[test]
    fn what_is_sent_at_one_end_arrives_at_the_other() {
        if !lab_is_possible() {
            return;
        }
        let [one, other] = [(); 2].map(|()| Namespace::create().unwrap());
        let [here, there] = [1, 2].map(|host| Ipv4Addr::new(198, 18, 0, host));
        let end = |namespace, name, address| End {
            namespace,
            name,
            address,
        };
        join(
            end(&one, "hop0", here),
            end(&other, "hop0", there),
            30,
            1_500,
        )
        .unwrap();
        let listener = other
            .run(|| Ok(TcpListener::bind((there, 0)).unwrap()))
            .unwrap();
        let address = listener.local_addr().unwrap();
        let mut stream = one
            .run(|| Ok(TcpStream::connect(address).unwrap()))
            .unwrap();
        let (accepted, peer) = listener.accept().unwrap();
        assert_eq!(peer.ip(), here);
        // The wire goes with either namespace: nothing is left of it that could be in the way of another.
        drop(accepted);
        assert_eq!(stream.read(&mut [0; 1]).unwrap(), 0);
    }
}
