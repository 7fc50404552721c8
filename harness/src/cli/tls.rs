//! How TLS is spoken: the options that node and load share.

use hopbench::transport::{
    CryptoProvider, KeyExchangeGroup, Resumption, TlsOptions, TlsSettings, TlsVersion,
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
    /// Has TLS spoken as the options say, if it is spoken.
    ///
    /// # Errors
    /// A wrong command line, when this build cannot do it.
    pub(crate) fn apply(&self, settings: Option<&mut TlsSettings>) -> anyhow::Result<()> {
        let options = TlsOptions {
            version: self.tls_version,
            key_type: settings
                .as_ref()
                .map(|tls| tls.options.key_type)
                .unwrap_or_default(),
            resumption: self.resumption,
            provider: self.crypto_provider,
            key_exchange_group: self.key_exchange_group,
        };
        options.check().map_err(usage)?;
        if let Some(tls) = settings {
            tls.options = options;
        }
        Ok(())
    }
}
