//! How TLS is spoken: the options that node and load share.

use hopbench::transport::{
    CryptoProvider, KeyExchangeGroup, KeyType, Resumption, Settings, TlsOptions, TlsVersion,
};

use super::{by_name, usage};

/// Options of the stacks that speak TLS.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "TLS")]
pub(crate) struct TlsArgs {
    /// Version, the only one that is offered and accepted: 1.2, 1.3
    #[arg(long, default_value_t, value_name = "VERSION", value_parser = by_name::<TlsVersion>)]
    tls_version: TlsVersion,
    /// How users who come back continue their last session: off, ticket, cache
    #[arg(long, default_value_t, value_name = "HOW", value_parser = by_name::<Resumption>)]
    resumption: Resumption,
    /// Library of cryptography: ring; with the feature aws-lc-rs also aws-lc-rs
    #[arg(long, default_value_t, value_name = "LIBRARY", value_parser = by_name::<CryptoProvider>)]
    crypto_provider: CryptoProvider,
    /// How keys are agreed on: X25519; with aws-lc-rs also X25519MLKEM768
    #[arg(long, default_value_t, value_name = "GROUP", value_parser = by_name::<KeyExchangeGroup>)]
    key_exchange_group: KeyExchangeGroup,
    /// What a connection may hold before writing waits; without it, 65536
    #[arg(long, value_name = "BYTES")]
    tls_buffer_limit_bytes: Option<u32>,
    /// Largest record that is sent, 32 to 16389; without it, the most
    #[arg(long, value_name = "BYTES")]
    tls_max_fragment_bytes: Option<u16>,
    /// Tickets after a handshake of TLS 1.3, if sessions are resumed
    #[arg(long, value_name = "COUNT", default_value_t = TlsOptions::default().session_tickets_count)]
    session_tickets_count: u8,
    /// Sessions that a worker's server keeps, with `--resumption cache`
    #[arg(long, value_name = "COUNT", default_value_t = TlsOptions::default().session_cache_count)]
    session_cache_count: u32,
}

impl TlsArgs {
    /// # Errors
    /// A wrong command line, when this build cannot do what it says.
    pub(crate) fn check(&self) -> anyhow::Result<()> {
        self.options(KeyType::default()).check().map_err(usage)
    }

    /// Has TLS spoken as the options say, if it is spoken.
    pub(crate) fn apply(&self, settings: &mut Settings) {
        if let Some(tls) = &mut settings.tls {
            tls.options = self.options(tls.options.key_type);
        }
    }

    fn options(&self, key_type: KeyType) -> TlsOptions {
        TlsOptions {
            version: self.tls_version,
            key_type,
            resumption: self.resumption,
            provider: self.crypto_provider,
            key_exchange_group: self.key_exchange_group,
            tls_buffer_limit_bytes: self.tls_buffer_limit_bytes,
            tls_max_fragment_bytes: self.tls_max_fragment_bytes,
            session_tickets_count: self.session_tickets_count,
            session_cache_count: self.session_cache_count,
        }
    }
}
