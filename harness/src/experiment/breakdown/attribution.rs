//! Which part of the work a function belongs to, by its name: the table, and nothing else.
//!
//! A name begins with the crate and the module that it was written in, or, of what a generic function was made
//! for, with those of the generic one. What was inlined is of the function that it was inlined into.

use super::perf::Found;

/// A part of the work.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Part {
    /// Parsing, writing, transactions, digest texts, bindings, calls.
    Sip,
    /// Framing, queues, sockets, tunnels, TCP within them, and what TLS does beside cryptography.
    Transport,
    /// Ciphers, signatures, key exchange, hashes; also the hash of a digest.
    Cryptography,
    /// System calls, and everything below them.
    Kernel,
    /// Tasks, wake-ups, memory, copies.
    Runtime,
    /// What makes a load or a node of the above: arrivals, histograms, tables of users.
    Application,
    /// Everything that the table does not know.
    Other,
}

/// All of them, in the order of tables and charts.
pub(super) const PARTS: [Part; 7] = [
    Part::Sip,
    Part::Transport,
    Part::Cryptography,
    Part::Kernel,
    Part::Runtime,
    Part::Application,
    Part::Other,
];

/// How names begin, the longer beginnings first where one is another's.
const BY_NAME: &[(&str, Part)] = &[
    ("hopbench::sip", Part::Sip),
    ("hopbench::transport", Part::Transport),
    ("hopbench::net", Part::Transport),
    ("hopbench::tunnel", Part::Transport),
    ("hopbench::measure::heap", Part::Runtime),
    ("hopbench::", Part::Application),
    ("memchr::", Part::Sip),
    ("foldhash::", Part::Sip),
    ("base64::", Part::Sip),
    ("smoltcp::", Part::Transport),
    ("managed::", Part::Transport),
    ("etherparse::", Part::Transport),
    ("socket2::", Part::Transport),
    ("rustix::", Part::Transport),
    ("nix::", Part::Transport),
    ("tokio_rustls::", Part::Transport),
    ("rustls::crypto::", Part::Cryptography),
    ("rustls::", Part::Transport),
    // Certificates: mostly the check of signatures.
    ("webpki::", Part::Cryptography),
    ("rustls_pki_types::", Part::Cryptography),
    ("boringtun::", Part::Cryptography),
    ("ring::", Part::Cryptography),
    ("ring_core_", Part::Cryptography),
    ("curve25519_dalek::", Part::Cryptography),
    ("x25519_dalek::", Part::Cryptography),
    ("chacha20poly1305::", Part::Cryptography),
    ("chacha20::", Part::Cryptography),
    ("poly1305::", Part::Cryptography),
    ("blake2::", Part::Cryptography),
    ("digest::", Part::Cryptography),
    ("hmac::", Part::Cryptography),
    ("sha2::", Part::Cryptography),
    ("md5::", Part::Cryptography),
    ("subtle::", Part::Cryptography),
    ("zeroize::", Part::Cryptography),
    ("aead::", Part::Cryptography),
    ("universal_hash::", Part::Cryptography),
    // Assembly and C of ring that keep names of their own.
    ("fiat_", Part::Cryptography),
    ("__bn_", Part::Cryptography),
    ("__ecp_nistz256_", Part::Cryptography),
    ("ecp_nistz256_", Part::Cryptography),
    ("p256_", Part::Cryptography),
    ("p384_", Part::Cryptography),
    ("table_select", Part::Cryptography),
    ("fe_", Part::Cryptography),
    ("fe4_", Part::Cryptography),
    ("ge_", Part::Cryptography),
    ("x25519_", Part::Cryptography),
    ("inline_x25519_", Part::Cryptography),
    ("aes_nohw_", Part::Cryptography),
    ("_aesni_", Part::Cryptography),
    ("_vpaes_", Part::Cryptography),
    ("poly_hash_", Part::Cryptography),
    ("tokio::", Part::Runtime),
    ("mio::", Part::Runtime),
    ("parking_lot", Part::Runtime),
    ("std::", Part::Runtime),
    ("core::", Part::Runtime),
    ("alloc::", Part::Runtime),
    ("hashbrown::", Part::Runtime),
    ("slab::", Part::Runtime),
    ("bytes::", Part::Runtime),
    ("futures_", Part::Runtime),
    ("__rust", Part::Runtime),
    ("__rdl", Part::Runtime),
    ("memcpy", Part::Runtime),
    ("memmove", Part::Runtime),
    ("memset", Part::Runtime),
    ("hopbench_harness::", Part::Application),
    ("hdrhistogram::", Part::Application),
    ("rand::", Part::Application),
    ("rand_core::", Part::Application),
    ("rand_chacha::", Part::Application),
];

/// How the names of shared objects begin, for functions whose own names say nothing.
const BY_OBJECT: &[(&str, Part)] = &[
    ("[kernel", Part::Kernel),
    // The clock that the kernel has in user space.
    ("[vdso]", Part::Kernel),
    ("libc.so", Part::Runtime),
    ("libc-", Part::Runtime),
    ("libm.so", Part::Runtime),
    ("libgcc", Part::Runtime),
    ("libpthread", Part::Runtime),
    ("ld-linux", Part::Runtime),
];

impl Part {
    /// As in metric keys.
    pub(super) fn key(self) -> &'static str {
        match self {
            Self::Sip => "sip",
            Self::Transport => "transport",
            Self::Cryptography => "cryptography",
            Self::Kernel => "kernel",
            Self::Runtime => "runtime",
            Self::Application => "application",
            Self::Other => "other",
        }
    }
}

/// Whose a sample is.
pub(super) fn part_of(found: &Found) -> Part {
    let object = found.object.rsplit('/').next().unwrap_or_default();
    let of = |table: &[(&str, Part)], name: &str| {
        let row = table.iter().find(|(start, _)| name.starts_with(start));
        row.map(|(_, part)| *part)
    };
    of(BY_OBJECT, object)
        .or_else(|| of(BY_NAME, path_of(&found.symbol)))
        .unwrap_or(Part::Other)
}

/// `<&mut hopbench::sip::Caller as core::fmt::Debug>::fmt` begins with `hopbench::sip`: what a trait is implemented
/// for says more than the trait.
fn path_of(symbol: &str) -> &str {
    let mut path = symbol;
    loop {
        let shorter = [
            "_<", "<", "&", "mut ", "dyn ", "[", "(", "*const ", "*mut ", "impl ",
        ]
        .iter()
        .find_map(|noise| path.strip_prefix(noise));
        match shorter {
            Some(shorter) => path = shorter,
            None => return path,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_attributed_by_where_they_were_written() {
        let cases = [
            (
                "hopbench::sip::message::Message::parse",
                "hopbench",
                Part::Sip,
            ),
            (
                "<hopbench::transport::udp::Udp as hopbench::transport::Transport>::open",
                "hopbench",
                Part::Transport,
            ),
            (
                "ring_core_0_17_14__x25519_sc_reduce",
                "hopbench",
                Part::Cryptography,
            ),
            ("__ecp_nistz256_mul_montx", "hopbench", Part::Cryptography),
            ("fe_loose_invert", "hopbench", Part::Cryptography),
            (
                "rustls::crypto::ring::tls13::expand",
                "hopbench",
                Part::Cryptography,
            ),
            (
                "rustls::conn::ConnectionCore<T>::process",
                "hopbench",
                Part::Transport,
            ),
            ("tokio::runtime::task::raw::poll", "hopbench", Part::Runtime),
            (
                "_<&mut core::str::Chars as T>::next",
                "hopbench",
                Part::Runtime,
            ),
            (
                "malloc",
                "/usr/lib/x86_64-linux-gnu/libc.so.6",
                Part::Runtime,
            ),
            ("tcp_sendmsg", "[kernel.kallsyms]", Part::Kernel),
            (
                "hopbench::load::worker::Worker::pulse",
                "hopbench",
                Part::Application,
            ),
            ("something_else", "hopbench", Part::Other),
            ("[unknown]", "[unknown]", Part::Other),
        ];
        for (symbol, object, expected) in cases {
            let found = Found {
                pid: 1,
                symbol: symbol.to_owned(),
                object: object.to_owned(),
            };
            assert_eq!(part_of(&found), expected, "{symbol} of {object}");
        }
    }

    /// A row below a shorter one that is its beginning would never be reached.
    #[test]
    fn no_row_hides_another() {
        for (index, (start, part)) in BY_NAME.iter().enumerate() {
            for (later, _) in &BY_NAME[index + 1..] {
                assert!(
                    !later.starts_with(start),
                    "{start} ({part:?}) hides {later}"
                );
            }
        }
    }
}
