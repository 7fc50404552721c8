//! The rules that users follow, as options: the same for `node` and `load`, so that both agree.

use std::fmt;
use std::path::PathBuf;

use anyhow::Context;
use hopbench::sip::account::{MAX_ACCOUNTS, MAX_FIRST_NUMBER, Passwords, Pattern};
use hopbench::sip::{Accounts, Uri};

/// Text that no message and no log shows.
#[derive(Clone)]
struct Secret(String);

impl From<&str> for Secret {
    fn from(text: &str) -> Self {
        Self(text.to_owned())
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret")
    }
}

/// Who the users are.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Users")]
pub(crate) struct Users {
    /// Domain of the users' addresses; the node's digest realm too. A load takes the realm that
    /// the server names
    #[arg(long, default_value = "hopbench.test", value_parser = domain)]
    domain: String,
    /// How many users exist
    #[arg(long, default_value_t = 1000, value_name = "COUNT", value_parser = clap::value_parser!(u32).range(1..=i64::from(MAX_ACCOUNTS)))]
    accounts: u32,
    /// Names of the users: {} is the user's number, {:04} the same with at least four digits
    #[arg(long, default_value = "u{:08}", value_name = "PATTERN")]
    user_pattern: Pattern,
    /// Number of the first user
    #[arg(long, default_value_t = 0, value_name = "NUMBER", value_parser = clap::value_parser!(u32).range(..=i64::from(MAX_FIRST_NUMBER)))]
    first_user: u32,
    /// What passwords are derived from, unless they are given otherwise: each is the first 32
    /// hexadecimal digits of SHA-256(SECRET:USER)
    #[arg(
        long,
        default_value = "hopbench",
        env = "HOPBENCH_SECRET",
        hide_env_values = true
    )]
    secret: Secret,
    /// The password of all users. Other users of this machine see command lines: prefer the
    /// environment variable or --password-file
    #[arg(
        long,
        value_name = "TEXT",
        env = "HOPBENCH_PASSWORD",
        hide_env_values = true,
        conflicts_with_all = ["password_file", "password_pattern"]
    )]
    password: Option<Secret>,
    /// File whose first line is the password of all users
    #[arg(long, value_name = "FILE", conflicts_with = "password_pattern")]
    password_file: Option<PathBuf>,
    /// Passwords with the user's number in them, like --user-pattern
    #[arg(
        long,
        value_name = "PATTERN",
        env = "HOPBENCH_PASSWORD_PATTERN",
        hide_env_values = true
    )]
    password_pattern: Option<Secret>,
}

impl Users {
    /// How many there are.
    pub(crate) fn count(&self) -> u32 {
        self.accounts
    }

    /// The accounts.
    ///
    /// # Errors
    /// When the names cannot be, or the password file cannot be read.
    pub(crate) fn accounts(&self) -> anyhow::Result<Accounts> {
        let accounts = Accounts::new(&self.domain, &self.secret.0, self.accounts)
            .with_names(self.user_pattern.clone(), self.first_user)
            .context("--user-pattern")?;
        Ok(match self.passwords()? {
            Some(passwords) => accounts.with_passwords(passwords),
            None => accounts,
        })
    }

    /// The rule of passwords, `None` for those derived from the secret.
    fn passwords(&self) -> anyhow::Result<Option<Passwords>> {
        if let Some(password) = &self.password {
            return Ok(Some(Passwords::Same(password.0.clone())));
        }
        if let Some(file) = &self.password_file {
            let text = std::fs::read_to_string(file)
                .with_context(|| format!("cannot read --password-file {}", file.display()))?;
            let password = text.lines().next().unwrap_or_default();
            anyhow::ensure!(
                !password.is_empty(),
                "--password-file {}: expected the password in the first line, found none",
                file.display()
            );
            return Ok(Some(Passwords::Same(password.to_owned())));
        }
        let Some(pattern) = &self.password_pattern else {
            return Ok(None);
        };
        match pattern.0.parse() {
            Ok(pattern) => Ok(Some(Passwords::Numbered(pattern))),
            // What was found is not for everybody's eyes.
            Err(_) => anyhow::bail!(
                "--password-pattern: expected at most one place for a number, {{}} or {{:04}}, and no \
                 other braces"
            ),
        }
    }
}

/// A domain as a SIP URI holds it: a name or an address, without port.
fn domain(text: &str) -> Result<String, String> {
    let uri = format!("sip:{text}");
    let is_host = |byte: u8| byte.is_ascii_alphanumeric() || b"-.[]:".contains(&byte);
    let is_domain = text.bytes().all(is_host)
        && Uri::parse(&uri).is_ok_and(|uri| uri.host == text && !text.is_empty());
    is_domain
        .then(|| text.to_owned())
        .ok_or_else(|| "expected a host name or an IP address without port".to_owned())
}
