//! How a cell's stacks are to be run where that is not the usual way: how TLS is spoken, how tunnels
//! are run, how datagrams pass the kernel, what a side is burdened with on purpose. Plain data; a scenario
//! lists variants, a site has one.
//!
//! Every key has an owner and concerns some stacks only. A listed variant is a cell of the sites that
//! *each* of its keys concerns: `{ resumption = "ticket", mtu_bytes = 1280 }` is one of TLS within a
//! tunnel, and of nothing else. `{}`, the usual way, is a cell of every site. A site that no listed
//! variant is a cell of has its usual one, so that it can be a control.

use std::collections::BTreeMap;

use hopbench::transport::{Batching, InnerIp, SocketBuffers, Stack, TlsOptions, TunnelOptions};
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Map, Value};

/// How a cell's stacks are run.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Variant {
    /// How stacks over TLS speak it.
    pub(crate) tls: TlsOptions,
    /// How stacks over tunnels run them.
    pub(crate) tunnel: TunnelOptions,
    /// Whose IP is inside tunnels; if it is `None`, the one that is usual on the path.
    pub(crate) inner_ip: Option<InnerIp>,
    /// Whether datagrams pass the kernel several at a time.
    pub(crate) batching: Batching,
    /// How much the kernel may keep for each socket.
    pub(crate) buffers: SocketBuffers,
    /// What either side burns on purpose.
    pub(crate) handicap: Handicap,
}

/// Processor time that a side burns on top of its own, as a share of it: a difference of known size, for
/// whoever wants to see it found. 0 burns nothing, but is a cell of its own beside the usual one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Handicap {
    /// Of each node.
    pub(crate) server_handicap_ratio: Option<f64>,
    /// Of each worker of the generator.
    pub(crate) generator_handicap_ratio: Option<f64>,
}

/// Whose a key is, and with that which stacks it concerns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Concern {
    /// Stacks over TLS.
    Tls,
    /// Streams within tunnels.
    InnerTcp,
    /// Everything within tunnels.
    InnerIp,
    /// Tunnels of WireGuard.
    Wireguard,
    /// Everything that the kernel sees as datagrams.
    Datagrams,
    /// Every stack: each has sockets of the kernel, tunnels below.
    Sockets,
    /// Every stack: each is spoken by processes.
    Processes,
}

/// Values by the key that a scenario, a command line and a cell have for them.
pub(crate) type Parameters = BTreeMap<String, Value>;

const BATCHING: &str = "batching";
pub(crate) const INNER_IP: &str = "inner_ip";
/// Of TCP in user space.
pub(crate) const TCP_BUFFER_BYTES: &str = "tcp_buffer_bytes";

impl Concern {
    fn of_key(key: &str) -> Self {
        match key {
            BATCHING => Self::Datagrams,
            INNER_IP => Self::InnerIp,
            "mtu_bytes" | TCP_BUFFER_BYTES => Self::InnerTcp,
            "handshakes_per_second_limit" | "keep_alive_seconds" => Self::Wireguard,
            "socket_send_buffer_bytes" | "socket_receive_buffer_bytes" => Self::Sockets,
            "server_handicap_ratio" | "generator_handicap_ratio" => Self::Processes,
            // `every_key_has_an_owner` holds the table against the types.
            _ => Self::Tls,
        }
    }

    fn is_of(self, stack: &Stack) -> bool {
        match self {
            Self::Tls => is_tls(stack),
            Self::InnerTcp => stack.is_stream() && stack.tunnel.is_some(),
            Self::InnerIp => stack.tunnel.is_some(),
            Self::Wireguard => stack.tunnel == Some("wireguard"),
            Self::Datagrams => is_datagram(stack),
            Self::Sockets | Self::Processes => true,
        }
    }
}

/// Whether it speaks TLS, within a tunnel or not.
pub(crate) fn is_tls(stack: &Stack) -> bool {
    stack.via_transport == "TLS"
}

/// Whether the kernel sees datagrams: of a carrier that has no stream, or of a tunnel.
pub(crate) fn is_datagram(stack: &Stack) -> bool {
    !stack.is_stream() || stack.tunnel.is_some()
}

/// Whether what `key` says makes any difference to `stack`.
pub(crate) fn concerns(key: &str, stack: &Stack) -> bool {
    Concern::of_key(key).is_of(stack)
}

impl Variant {
    /// What differs from the usual way; it distinguishes a cell from others of its stack, and stands
    /// in its id.
    pub(crate) fn distinguishing(&self) -> Parameters {
        let usual = Self::default().parameters();
        let mut parameters = self.parameters();
        parameters.retain(|key, value| usual.get(key) != Some(value));
        parameters
    }

    /// Every option, by its key.
    fn parameters(&self) -> Parameters {
        let mut parameters = BTreeMap::from([
            (BATCHING.to_owned(), value(&self.batching)),
            (INNER_IP.to_owned(), value(&self.inner_ip)),
        ]);
        for options in [
            value(&self.tls),
            value(&self.tunnel),
            value(&self.buffers),
            value(&self.handicap),
        ] {
            let Value::Object(options) = options else {
                unreachable!("options serialise to an object, not to {options:?}");
            };
            parameters.extend(options);
        }
        parameters
    }

    /// # Errors
    /// When a key does not exist, with the nearest that does, or a value is not allowed.
    fn from_parameters(parameters: Parameters) -> Result<Self, String> {
        let usual = Self::default().parameters();
        let mut owners: [Map<String, Value>; 6] = Default::default();
        for (key, value) in parameters {
            if !usual.contains_key(&key) {
                return Err(unknown(&key, usual.keys().map(String::as_str)));
            }
            let owner = match Concern::of_key(&key) {
                Concern::Tls => 0,
                Concern::InnerTcp | Concern::Wireguard => 1,
                Concern::Datagrams => 2,
                Concern::Sockets => 3,
                Concern::Processes => 4,
                Concern::InnerIp => 5,
            };
            owners[owner].insert(key, value);
        }
        let [tls, tunnel, mut batching, buffers, handicap, mut inner_ip] = owners;
        let variant = Self {
            tls: read(Value::Object(tls))?,
            tunnel: read(Value::Object(tunnel))?,
            inner_ip: match inner_ip.remove(INNER_IP) {
                Some(value) => read(value)?,
                None => None,
            },
            batching: match batching.remove(BATCHING) {
                Some(value) => read(value)?,
                None => Batching::default(),
            },
            buffers: read(Value::Object(buffers))?,
            handicap: read(Value::Object(handicap))?,
        };
        variant.check()?;
        Ok(variant)
    }

    /// # Errors
    /// When a value makes no sense in any stack. What this build cannot do is told by the cell.
    pub(crate) fn check(&self) -> Result<(), String> {
        let TunnelOptions {
            mtu_bytes,
            tcp_buffer_bytes,
            handshakes_per_second_limit,
            keep_alive_seconds,
        } = self.tunnel;
        let within = |key: &str, value: u64, low: u64, high: u64| {
            if (low..=high).contains(&value) {
                Ok(())
            } else {
                Err(format!("`{key}` is {value}; allowed is {low} to {high}"))
            }
        };
        // RFC 791: every host takes packets of 576 bytes.
        within("mtu_bytes", mtu_bytes.into(), 576, 65_000)?;
        // A buffer holds a packet at least.
        let room = u64::from(mtu_bytes);
        within("tcp_buffer_bytes", tcp_buffer_bytes.into(), room, 1 << 20)?;
        if let Some(limit) = handshakes_per_second_limit {
            within(
                "handshakes_per_second_limit",
                limit.into(),
                1,
                u32::MAX.into(),
            )?;
        }
        if let Some(seconds) = keep_alive_seconds {
            within("keep_alive_seconds", seconds.into(), 1, u16::MAX.into())?;
        }
        let SocketBuffers {
            socket_send_buffer_bytes,
            socket_receive_buffer_bytes,
        } = self.buffers;
        for (key, bytes) in [
            ("socket_send_buffer_bytes", socket_send_buffer_bytes),
            ("socket_receive_buffer_bytes", socket_receive_buffer_bytes),
        ] {
            // Less than Linux' least would be that all the same, and say something else.
            if let Some(bytes) = bytes {
                within(key, bytes.into(), 2_304, 1 << 30)?;
            }
        }
        self.handicap.check()?;
        self.tls.check_values().map_err(|error| error.to_string())?;
        Ok(())
    }

    /// Whether it is a cell of a site of these stacks: whether each of its keys concerns one of them.
    pub(crate) fn is_of(&self, stacks: [&Stack; 2]) -> bool {
        let concerned = |key: &String| stacks.iter().any(|stack| concerns(key, stack));
        self.distinguishing().keys().all(concerned)
    }

    /// The same where `base` is the usual way, as far as that concerns one of `stacks`.
    pub(crate) fn over(&self, base: &Self, stacks: [&Stack; 2]) -> Self {
        let mut parameters = base.distinguishing();
        parameters.retain(|key, _| stacks.iter().any(|stack| concerns(key, stack)));
        parameters.extend(self.distinguishing());
        Self::from_parameters(parameters).expect("both were sound, and their keys are apart")
    }

    /// What a cell records beside how the hop is secured: of a tunnel all options, of datagrams
    /// whether they are batched, of a handicap its size.
    pub(crate) fn recorded(&self, stacks: [&Stack; 2]) -> Parameters {
        let mut parameters = self.parameters();
        parameters.retain(|key, value| {
            stacks.iter().any(|stack| match Concern::of_key(key) {
                Concern::Tls => false,
                Concern::InnerTcp | Concern::Wireguard => stack.tunnel.is_some(),
                // The site knows whose it is.
                Concern::InnerIp => false,
                Concern::Datagrams => is_datagram(stack),
                Concern::Sockets => true,
                Concern::Processes => !value.is_null(),
            })
        });
        parameters
    }
}

/// A worker that burns more than this is of no use even to show that it is of none.
const HANDICAP_RATIO_MAX: f64 = 10_000.0;

impl Handicap {
    /// # Errors
    /// When a ratio is none.
    pub(crate) fn check(&self) -> Result<(), String> {
        for (key, ratio) in [
            ("server_handicap_ratio", self.server_handicap_ratio),
            ("generator_handicap_ratio", self.generator_handicap_ratio),
        ] {
            if let Some(ratio) = ratio
                && !(0.0..=HANDICAP_RATIO_MAX).contains(&ratio)
            {
                return Err(format!(
                    "`{key}` is {ratio}; allowed is 0 to {HANDICAP_RATIO_MAX}"
                ));
            }
        }
        Ok(())
    }

    /// This one, and where it says nothing `base`.
    pub(crate) fn over(self, base: Self) -> Self {
        Self {
            server_handicap_ratio: self.server_handicap_ratio.or(base.server_handicap_ratio),
            generator_handicap_ratio: self
                .generator_handicap_ratio
                .or(base.generator_handicap_ratio),
        }
    }
}

impl<'de> Deserialize<'de> for Variant {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::from_parameters(Parameters::deserialize(deserializer)?).map_err(D::Error::custom)
    }
}

fn value(options: &impl serde::Serialize) -> Value {
    serde_json::to_value(options).expect("options are plain data")
}

fn read<T: serde::de::DeserializeOwned>(value: Value) -> Result<T, String> {
    serde_json::from_value(value).map_err(|error| error.to_string())
}

fn unknown<'k>(key: &str, known: impl Iterator<Item = &'k str>) -> String {
    let known: Vec<&str> = known.collect();
    let likeness = |other: &&str| strsim::jaro_winkler(key, other);
    let nearest = known
        .iter()
        .copied()
        .max_by(|a, b| likeness(a).total_cmp(&likeness(b)))
        .expect("there are options");
    format!(
        "a variant has no key `{key}`; did you mean `{nearest}`? There are: {}",
        known.join(", ")
    )
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use hopbench::transport::{self, find};

    use super::*;

    fn variant(text: &str) -> Variant {
        toml::from_str(text).unwrap()
    }

    /// Names of the stacks without a tunnel's TCP that a variant is a cell of.
    fn stacks_of(text: &str) -> Vec<&'static str> {
        let variant = variant(text);
        let stacks = transport::stacks().iter();
        stacks
            .filter(|stack| variant.is_of([stack, stack]))
            .map(|stack| stack.name)
            .collect()
    }

    #[test]
    fn every_key_has_an_owner() {
        let tls = value(&TlsOptions::default());
        for key in Variant::default().parameters().keys() {
            let is_tls = tls.as_object().unwrap().contains_key(key);
            assert_eq!(Concern::of_key(key) == Concern::Tls, is_tls, "{key}");
        }
        // What is written is read again.
        let selected = "batching = \"on\"\nkeep_alive_seconds = 25\nmtu_bytes = 1280\n\
                        resumption = \"ticket\"\n";
        let read = variant(selected);
        assert_eq!(toml::to_string(&read.distinguishing()).unwrap(), selected);
    }

    #[test]
    fn a_variant_is_a_cell_of_the_stacks_that_each_key_concerns() {
        let all: Vec<&str> = transport::stacks().iter().map(|stack| stack.name).collect();
        assert_eq!(stacks_of(""), all);
        let carriers = |names: &[&'static str], wanted: &dyn Fn(&Stack) -> bool| {
            let mut found: Vec<&str> = all.clone();
            found.retain(|name| wanted(find(name).unwrap()));
            for name in names {
                assert!(found.contains(name), "{name} in {found:?}");
            }
            found
        };
        let datagrams = carriers(&["udp", "udp@clear", "udp@wireguard"], &is_datagram);
        assert_eq!(stacks_of("batching = \"on\""), datagrams);
        assert_eq!(stacks_of("socket_receive_buffer_bytes = 4096"), all);
        assert_eq!(stacks_of("server_handicap_ratio = 0.1"), all);
        let tls = carriers(&["tls", "mtls"], &is_tls);
        assert_eq!(stacks_of("tls_max_fragment_bytes = 1024"), tls);
        assert_eq!(stacks_of("resumption = \"ticket\""), tls);
        let wireguard = carriers(&["udp@wireguard"], &|stack| {
            stack.tunnel == Some("wireguard")
        });
        assert_eq!(stacks_of("keep_alive_seconds = 25"), wireguard);
        let tunnels = carriers(&["udp@clear", "tcp@wireguard"], &|stack| {
            stack.tunnel.is_some()
        });
        assert_eq!(stacks_of("inner_ip = \"user\""), tunnels);
        let both = stacks_of("keep_alive_seconds = 25\nresumption = \"ticket\"");
        assert!(both.iter().all(|name| name.starts_with("tls@")), "{both:?}");
    }

    #[test]
    fn a_core_stack_counts_as_well() {
        let tcp = find("tcp").unwrap();
        let batched = variant("batching = \"on\"");
        assert!(!batched.is_of([tcp, tcp]));
        assert!(batched.is_of([tcp, find("udp@wireguard").unwrap()]));
    }

    #[test]
    fn the_command_line_lies_beneath_what_a_scenario_says() {
        let udp = find("udp").unwrap();
        let base = variant("batching = \"on\"\nresumption = \"ticket\"");
        let usual = Variant::default().over(&base, [udp, udp]);
        assert_eq!(usual, variant("batching = \"on\""));
    }

    /// In the null test a cell is held against itself, so its twin needs a name.
    #[test]
    fn a_handicap_of_nothing_is_a_cell_of_its_own() {
        let udp = find("udp").unwrap();
        let twin = variant("server_handicap_ratio = 0.0");
        assert_eq!(twin.distinguishing()["server_handicap_ratio"], 0.0);
        assert_eq!(twin.recorded([udp, udp])["server_handicap_ratio"], 0.0);
        let usual = Variant::default().recorded([udp, udp]);
        assert!(!usual.contains_key("server_handicap_ratio"), "{usual:?}");
    }

    #[test]
    fn errors_say_what_there_is() {
        let cases = [
            ("mtu = 1280", "did you mean `mtu_bytes`?"),
            ("batchin = \"on\"", "did you mean `batching`?"),
            (
                "batching = \"maybe\"",
                "expected one of `off`, `on`, `segments`",
            ),
            ("inner_ip = \"nobody\"", "expected `user` or `kernel`"),
            ("tls_version = \"1.1\"", "expected `1.2` or `1.3`"),
            ("mtu_bytes = 100", "allowed is 576 to 65000"),
            ("tcp_buffer_bytes = 999", "allowed is 1420 to 1048576"),
            ("keep_alive_seconds = 0", "allowed is 1 to 65535"),
            (
                "socket_send_buffer_bytes = 1",
                "allowed is 2304 to 1073741824",
            ),
            ("tls_max_fragment_bytes = 1", "allowed is 32 to 16389"),
            ("server_handicap_ratio = -0.1", "allowed is 0 to 10000"),
            ("session_cache_count = 9", "`resumption` is \"off\""),
        ];
        for (text, expected) in cases {
            let error = toml::from_str::<Variant>(text).unwrap_err().to_string();
            assert!(error.contains(expected), "{text}: {error}");
        }
    }
}
