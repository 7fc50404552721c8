//! How TLS is to be spoken, as plain data: what a cell or a command line selects.
//!
//! Every value is pinned, so that figures do not hinge on the defaults of a library's version. The
//! names that serde gives to fields and values are those of a cell's parameters.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::provider;

/// How two ends of hopbench speak TLS. The default is what a stack does unless told otherwise:
/// TLS 1.3, ECDSA P-256, full handshakes, ring, X25519.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TlsOptions {
    /// The one version that is offered and accepted.
    #[serde(rename = "tls_version")]
    pub version: TlsVersion,
    /// Kind of the keys that are generated, the authority's included. Keys that are read from files
    /// are what they are.
    pub key_type: KeyType,
    /// Whether sessions are resumed, and how.
    pub resumption: Resumption,
    /// The library that does the cryptography.
    #[serde(rename = "crypto_provider")]
    pub provider: CryptoProvider,
    /// How keys are agreed on.
    pub key_exchange_group: KeyExchangeGroup,
    /// What a connection may hold of data that is to be encrypted, or to be sent, before writing has
    /// to wait; rustls' own 64 KiB if it is `None`. From the handshake on, at both ends.
    pub tls_buffer_limit_bytes: Option<u32>,
    /// Largest record that is sent, with its header of 5 bytes; 16,389 if it is `None`. At both ends.
    pub tls_max_fragment_bytes: Option<u16>,
    /// Tickets that a server sends after a handshake of TLS 1.3 if sessions are resumed: more let a
    /// user come back over several connections at once.
    pub session_tickets_count: u8,
    /// Sessions that the server of each worker keeps with [`Resumption::Cache`].
    pub session_cache_count: u32,
}

impl Default for TlsOptions {
    fn default() -> Self {
        Self {
            version: TlsVersion::default(),
            key_type: KeyType::default(),
            resumption: Resumption::default(),
            provider: CryptoProvider::default(),
            key_exchange_group: KeyExchangeGroup::default(),
            tls_buffer_limit_bytes: None,
            tls_max_fragment_bytes: None,
            session_tickets_count: 1,
            // As rustls does.
            session_cache_count: 256,
        }
    }
}

impl TlsOptions {
    /// Whether this build can do it, and its values make sense.
    ///
    /// # Errors
    /// When the provider is not part of the build, or provider, group and version do not go together;
    /// and as [`Self::check_values`].
    pub fn check(&self) -> Result<(), TlsOptionsError> {
        self.check_values()?;
        provider::pinned(self).map(drop)
    }

    /// Whether its values make sense in any build.
    ///
    /// # Errors
    /// When a number is out of its range, or is about a resumption that is not chosen.
    pub fn check_values(&self) -> Result<(), TlsOptionsError> {
        let within = |name, found: u64, low: u64, high: u64| {
            if (low..=high).contains(&found) {
                Ok(())
            } else {
                Err(TlsOptionsError::OutOfRange {
                    name,
                    found,
                    low,
                    high,
                })
            }
        };
        if let Some(bytes) = self.tls_buffer_limit_bytes {
            within("tls_buffer_limit_bytes", bytes.into(), 512, 1 << 30)?;
        }
        if let Some(bytes) = self.tls_max_fragment_bytes {
            // What rustls takes.
            within("tls_max_fragment_bytes", bytes.into(), 32, 16_389)?;
        }
        within(
            "session_tickets_count",
            self.session_tickets_count.into(),
            1,
            16,
        )?;
        within(
            "session_cache_count",
            self.session_cache_count.into(),
            1,
            1 << 24,
        )?;
        let usual = Self::default();
        let (name, is_idle) = match self.resumption {
            Resumption::Off if self.session_tickets_count != usual.session_tickets_count => {
                ("session_tickets_count", true)
            }
            Resumption::Off | Resumption::Ticket => (
                "session_cache_count",
                self.session_cache_count != usual.session_cache_count,
            ),
            Resumption::Cache => ("", false),
        };
        if is_idle {
            let resumption = self.resumption;
            return Err(TlsOptionsError::NotResumed { name, resumption });
        }
        Ok(())
    }

    /// The options that differ from the default, by the name of the cell's parameter: what
    /// distinguishes a cell from others of its stack, and stands in its id.
    #[must_use]
    pub fn distinguishing(&self) -> BTreeMap<String, Value> {
        let default = Self::default().parameters();
        let mut parameters = self.parameters();
        parameters.retain(|name, value| default.get(name) != Some(value));
        parameters
    }

    fn parameters(&self) -> BTreeMap<String, Value> {
        match serde_json::to_value(self) {
            Ok(Value::Object(parameters)) => parameters.into_iter().collect(),
            other => unreachable!("options serialise to an object, not to {other:?}"),
        }
    }
}

/// Defines an enum whose values have one name everywhere: in files, on the command line, in results.
macro_rules! named {
    (
        $(#[$meta:meta])*
        $name:ident { $( $(#[$variant_meta:meta])* $variant:ident = $text:literal, )+ }
    ) => {
        $(#[$meta])*
        #[derive(
            Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
        )]
        pub enum $name {
            $( $(#[$variant_meta])* #[serde(rename = $text)] $variant, )+
        }

        impl $name {
            /// Its name in files, on the command line and in results.
            #[must_use]
            pub fn name(self) -> &'static str {
                match self {
                    $( Self::$variant => $text, )+
                }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.name())
            }
        }
    };
}

named! {
    /// A version of TLS.
    TlsVersion {
        /// RFC 5246.
        V1_2 = "1.2",
        /// RFC 8446.
        #[default]
        V1_3 = "1.3",
    }
}

named! {
    /// A kind of key that certificates are made for.
    KeyType {
        /// Elliptic curve P-256, signatures with SHA-256.
        #[default]
        EcdsaP256 = "ECDSA P-256",
        /// RSA with a modulus of 2048 bits.
        Rsa2048 = "RSA-2048",
    }
}

named! {
    /// Whether a user's next connection continues the session of the last one.
    Resumption {
        /// Every handshake is a full one: no end keeps anything, and a server sends no tickets.
        #[default]
        Off = "off",
        /// The server hands its state to the client, sealed: one ticket after each handshake of TLS
        /// 1.3 (RFC 8446 §4.6.1), or in each full one of TLS 1.2 (RFC 5077). It keeps nothing itself,
        /// so it resumes as many users as there are.
        Ticket = "ticket",
        /// The server keeps the sessions and hands out their names: as many as
        /// [`TlsOptions::session_cache_count`] says; beyond that the oldest are forgotten, and their
        /// users make full handshakes.
        Cache = "cache",
    }
}

named! {
    /// A library of cryptography below rustls.
    CryptoProvider {
        /// ring.
        #[default]
        Ring = "ring",
        /// AWS-LC; part of the build with the feature `aws-lc-rs` only, since it is built from C.
        AwsLcRs = "aws-lc-rs",
    }
}

named! {
    /// How the two ends agree on keys.
    KeyExchangeGroup {
        /// Elliptic-curve Diffie-Hellman (RFC 7748).
        #[default]
        X25519 = "X25519",
        /// X25519 and ML-KEM-768 together: safe as long as either is, against quantum computers too.
        /// Over TLS 1.3 with aws-lc-rs only.
        X25519MlKem768 = "X25519MLKEM768",
    }
}

/// Why TLS options cannot be had.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TlsOptionsError {
    /// The library was left out when hopbench was built.
    #[error(
        "the crypto provider {provider} is not part of this build; build with `--features {provider}`"
    )]
    NotBuilt {
        /// The library; the feature has its name.
        provider: CryptoProvider,
    },
    /// The library does not know the group.
    #[error(
        "expected a key-exchange group that the crypto provider {provider} has, found {group}; {} \
         has it{}",
        CryptoProvider::AwsLcRs,
        if cfg!(feature = "aws-lc-rs") { "" } else { " (build with `--features aws-lc-rs`)" }
    )]
    NoSuchGroup {
        /// The library.
        provider: CryptoProvider,
        /// The group that it lacks.
        group: KeyExchangeGroup,
    },
    /// A number that rustls would refuse, or that makes no sense.
    #[error("`{name}` is {found}; allowed is {low} to {high}")]
    OutOfRange {
        /// As serde calls the option.
        name: &'static str,
        /// What it is.
        found: u64,
        /// The least.
        low: u64,
        /// The most.
        high: u64,
    },
    /// An option of a resumption that is not the chosen one.
    #[error("`{name}` says nothing where `resumption` is \"{resumption}\"")]
    NotResumed {
        /// As serde calls the option.
        name: &'static str,
        /// What is chosen.
        resumption: Resumption,
    },
    /// The group exists in TLS 1.3 only.
    #[error("the key-exchange group {group} needs TLS 1.3, found TLS 1.2")]
    NeedsTls13 {
        /// The group.
        group: KeyExchangeGroup,
    },
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use serde_json::json;

    use super::*;

    fn options(value: Value) -> Result<TlsOptions, String> {
        serde_json::from_value(value).map_err(|error| error.to_string())
    }

    #[test]
    fn the_default_is_what_is_left_out() {
        assert_eq!(options(json!({})).unwrap(), TlsOptions::default());
        assert!(TlsOptions::default().distinguishing().is_empty());
    }

    #[test]
    fn what_differs_is_named_as_it_was_selected() {
        for selected in [
            json!({"tls_version": "1.2"}),
            json!({"key_type": "RSA-2048"}),
            json!({"resumption": "ticket"}),
            json!({"crypto_provider": "aws-lc-rs", "key_exchange_group": "X25519MLKEM768"}),
        ] {
            let distinguishing = options(selected.clone()).unwrap().distinguishing();
            assert_eq!(serde_json::to_value(distinguishing).unwrap(), selected);
        }
    }

    #[test]
    fn what_does_not_exist_is_refused_with_what_does() {
        let error = options(json!({"tls_version": "1.1"})).unwrap_err();
        assert!(error.contains("expected `1.2` or `1.3`"), "{error}");
        let error = options(json!({"cipher": "none"})).unwrap_err();
        assert!(error.contains("unknown field `cipher`"), "{error}");
    }

    #[test]
    fn values_are_refused_where_they_make_no_sense() {
        for (value, expected) in [
            (json!({"tls_buffer_limit_bytes": 100}), "512 to"),
            (json!({"tls_max_fragment_bytes": 31}), "32 to 16389"),
            (
                json!({"session_tickets_count": 0, "resumption": "ticket"}),
                "1 to 16",
            ),
            (
                json!({"session_tickets_count": 2}),
                "`resumption` is \"off\"",
            ),
            (json!({"session_cache_count": 2}), "`resumption` is \"off\""),
            (
                json!({"session_cache_count": 2, "resumption": "ticket"}),
                "\"ticket\"",
            ),
        ] {
            let error = options(value).unwrap().check().unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        }
        for value in [
            json!({"session_cache_count": 9, "session_tickets_count": 2, "resumption": "cache"}),
            json!({"tls_buffer_limit_bytes": 512, "tls_max_fragment_bytes": 16_389}),
        ] {
            options(value).unwrap().check().unwrap();
        }
    }

    #[test]
    fn options_that_do_not_go_together_are_refused() {
        let hybrid = TlsOptions {
            key_exchange_group: KeyExchangeGroup::X25519MlKem768,
            ..TlsOptions::default()
        };
        let error = hybrid.check().unwrap_err().to_string();
        assert!(error.contains("aws-lc-rs has it"), "{error}");
        let old = TlsOptions {
            version: TlsVersion::V1_2,
            provider: CryptoProvider::AwsLcRs,
            ..hybrid
        };
        let error = old.check().unwrap_err();
        if cfg!(feature = "aws-lc-rs") {
            let group = KeyExchangeGroup::X25519MlKem768;
            assert_eq!(error, TlsOptionsError::NeedsTls13 { group });
        } else {
            let text = error.to_string();
            assert!(text.contains("build with `--features aws-lc-rs`"), "{text}");
        }
        TlsOptions::default().check().unwrap();
    }
}
