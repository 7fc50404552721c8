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
    /// How users who come back continue their last session: off, ticket
    #[arg(long, default_value_t, value_name = "HOW", value_parser = by_name::<Resumption>)]
    resumption: Resumption,
    /// Library of cryptography: ring; with the feature aws-lc-rs also aws-lc-rs
    #[arg(long, default_value_t, value_name = "LIBRARY", value_parser = by_name::<CryptoProvider>)]
    crypto_provider: CryptoProvider,
    /// How keys are agreed on: X25519; with aws-lc-rs also X25519MLKEM768
    #[arg(long, default_value_t, value_name = "GROUP", value_parser = by_name::<KeyExchangeGroup>)]
    key_exchange_group: KeyExchangeGroup,
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
        }
    }
}
