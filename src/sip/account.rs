//! Who may register, and whom they call: accounts that follow from rules, so that a million users
//! need no file and both ends agree without talking. By default user 42 is `u00000042`, and its
//! password is derived from a secret; the users of a server that is not ours follow its own rules.

mod pattern;

use std::fmt::{self, Write as _};

use ring::digest;
use serde::{Deserialize, Serialize};

pub use pattern::{Pattern, PatternError};

use super::emit::Value;
use super::parse::Uri;
use super::text::Text;

/// Accounts that there can be: what the eight digits of the default user names hold.
pub const MAX_ACCOUNTS: u32 = 100_000_000;

/// Highest number that the first user can have, so that the last one's fits 32 bits.
pub const MAX_FIRST_NUMBER: u32 = u32::MAX - MAX_ACCOUNTS;

/// User part of the address of whoever answers calls that are meant for nobody in particular.
pub const ANSWERING_USER: &str = "answer";

/// A user name; inline up to 16 bytes, since one is made for every message.
pub type Username = Text<16>;

/// A password; inline up to 32 bytes for the same reason.
pub type Password = Text<32>;

/// The rule that the users' passwords follow.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Passwords {
    /// The first 16 bytes of SHA-256(secret `:` user name), in hexadecimal digits. Who knows the
    /// secret knows every password.
    Derived {
        /// What they are derived from.
        secret: String,
    },
    /// All users have this one.
    Same(String),
    /// The user's number is in it.
    Numbered(Pattern),
}

impl fmt::Debug for Passwords {
    /// The rule, without what must not be shown.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Derived { .. } => "Derived",
            Self::Same(_) => "Same",
            Self::Numbered(_) => "Numbered",
        })
    }
}

/// Why accounts cannot follow a rule.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AccountError {
    /// The pattern of a rule cannot be read.
    #[error(transparent)]
    Pattern(#[from] PatternError),
    /// All users would have the same name.
    #[error(
        "expected a place for a number in the user pattern of {count} accounts, found none in \
         `{pattern}`: write {{}} or {{:04}} where it goes"
    )]
    OneName {
        /// The pattern.
        pattern: Pattern,
        /// How many accounts there are.
        count: u32,
    },
    /// A SIP URI would need escapes to hold the names.
    #[error(
        "expected a user name of letters, digits and -_.!~*'()&=+$,;?/ (RFC 3261 §25.1), found `{found}`"
    )]
    Username {
        /// The name of the first user.
        found: String,
    },
    /// The callee is nobody who can be called.
    #[error(
        "expected a user name or a SIP URI such as sip:echo@example.org to call, found `{found}`"
    )]
    Callee {
        /// Whom the first user would call.
        found: String,
    },
}

/// The accounts of one domain.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Accounts {
    domain: String,
    registrar_uri: String,
    names: Pattern,
    /// Number of the first user; those of the others follow.
    first: u32,
    passwords: Passwords,
    /// URI that calls go to, where a number is the caller's; `None` for whoever answers.
    callee: Option<Pattern>,
    count: u32,
}

impl Accounts {
    /// The first `count` accounts (at most [`MAX_ACCOUNTS`]) of `domain`, which is their realm too:
    /// `u00000000` and so on, with passwords derived from `secret`, who call [`ANSWERING_USER`].
    #[must_use]
    pub fn new(domain: impl Into<String>, secret: impl Into<String>, count: u32) -> Self {
        let domain = domain.into();
        let names = "u{:08}".parse().expect("this is a pattern");
        Self {
            registrar_uri: format!("sip:{domain}"),
            names,
            first: 0,
            passwords: Passwords::Derived {
                secret: secret.into(),
            },
            callee: None,
            domain,
            count: count.min(MAX_ACCOUNTS),
        }
    }

    /// The same accounts with other names: `names` with the numbers from `first` (at most
    /// [`MAX_FIRST_NUMBER`]).
    ///
    /// # Errors
    /// When several users would have the same name, or a SIP URI could not hold it as it is.
    pub fn with_names(self, names: Pattern, first: u32) -> Result<Self, AccountError> {
        if !names.is_numbered() && self.count > 1 {
            return Err(AccountError::OneName {
                pattern: names,
                count: self.count,
            });
        }
        let first = first.min(MAX_FIRST_NUMBER);
        let name: Username = names.text(first);
        if !is_user_part(&name) {
            return Err(AccountError::Username {
                found: name.as_str().into(),
            });
        }
        Ok(Self {
            names,
            first,
            ..self
        })
    }

    /// The same accounts with other passwords.
    #[must_use]
    pub fn with_passwords(self, passwords: Passwords) -> Self {
        Self { passwords, ..self }
    }

    /// The same accounts, whose users call somebody else: a user of the domain by name, or any SIP
    /// URI. With a place for a number each user calls the callee of its own number.
    ///
    /// # Errors
    /// When `callee` is no pattern, or what it makes is neither.
    pub fn with_callee(self, callee: &str) -> Result<Self, AccountError> {
        // The colon of a scheme; that of `{:04}` is none.
        let has_scheme = callee
            .split('{')
            .next()
            .is_some_and(|text| text.contains(':'));
        let callee: Pattern = if has_scheme || callee.contains('@') {
            callee.parse()?
        } else {
            format!("sip:{callee}@{}", self.domain).parse()?
        };
        let first: Text<64> = callee.text(self.first);
        let is_callable = Uri::parse(&first).is_ok_and(|uri| uri.user.is_some_and(is_user_part));
        if !is_callable {
            return Err(AccountError::Callee {
                found: first.as_str().into(),
            });
        }
        Ok(Self {
            callee: Some(callee),
            ..self
        })
    }

    /// Domain part of every address of record.
    #[must_use]
    pub fn domain(&self) -> &str {
        &self.domain
    }

    /// Request-URI of REGISTER (RFC 3261 §10.2): the domain.
    #[must_use]
    pub fn registrar_uri(&self) -> &str {
        &self.registrar_uri
    }

    /// Realm of digest authentication as our own registrar names it (RFC 3261 §22.1): the domain.
    /// Clients take the realm that the server's challenge names.
    #[must_use]
    pub fn realm(&self) -> &str {
        &self.domain
    }

    /// How many accounts there are.
    #[must_use]
    pub fn count(&self) -> u32 {
        self.count
    }

    /// The user name of an account. Meaningful for `index` below [`Accounts::count`].
    #[must_use]
    pub fn username(&self, index: u32) -> Username {
        self.names.text(self.number(index))
    }

    /// The account that a user name belongs to, if there is one.
    #[must_use]
    pub fn index(&self, username: &str) -> Option<u32> {
        if !self.names.is_numbered() {
            let is_the_one = self.count > 0 && *self.username(0) == *username;
            return is_the_one.then_some(0);
        }
        let index = self.names.number(username)?.checked_sub(self.first)?;
        (index < self.count).then_some(index)
    }

    /// The password of an account.
    #[must_use]
    pub fn password(&self, index: u32) -> Password {
        match &self.passwords {
            Passwords::Derived { secret } => derived(secret, &self.username(index)),
            Passwords::Same(password) => Password::from(password.as_str()),
            Passwords::Numbered(pattern) => pattern.text(self.number(index)),
        }
    }

    /// Address of record: `sip:u00000042@example.com`.
    #[must_use]
    pub fn aor(&self, index: u32) -> String {
        let mut aor = String::with_capacity(14 + self.domain.len());
        write!(aor, "sip:{}@{}", self.username(index), self.domain)
            .expect("writing to a String cannot fail");
        aor
    }

    /// Writes the URI that an account calls.
    pub(crate) fn write_callee(&self, line: &mut Value<'_>, caller: u32) {
        match &self.callee {
            Some(callee) => callee.write(line, self.number(caller)),
            None => {
                for part in ["sip:", ANSWERING_USER, "@", &self.domain] {
                    line.text(part);
                }
            }
        }
    }

    fn number(&self, index: u32) -> u32 {
        // Registrars ask for the account after the last one too, whose password fits nobody.
        self.first.saturating_add(index)
    }
}

/// A host label of a user, valid whatever the user's name is: `u` and eight decimal digits.
pub(crate) fn host_label(index: u32) -> Text<16> {
    let mut label = *b"u00000000";
    let mut rest = index;
    for digit in label[1..].iter_mut().rev() {
        *digit += (rest % 10) as u8;
        rest /= 10;
    }
    Text::from(std::str::from_utf8(&label).expect("the label is ASCII"))
}

fn derived(secret: &str, username: &str) -> Password {
    let mut context = digest::Context::new(&digest::SHA256);
    context.update(secret.as_bytes());
    context.update(b":");
    context.update(username.as_bytes());
    let hash = context.finish();
    let mut digits = [0; 32];
    for (pair, byte) in digits.chunks_exact_mut(2).zip(hash.as_ref()) {
        pair[0] = b"0123456789abcdef"[usize::from(byte >> 4)];
        pair[1] = b"0123456789abcdef"[usize::from(byte & 0xf)];
    }
    Password::from(std::str::from_utf8(&digits).expect("hexadecimal digits are ASCII"))
}

/// Whether a URI holds this as its user part without escapes: `unreserved` and `user-unreserved` of
/// RFC 3261 §25.1.
fn is_user_part(text: &str) -> bool {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.!~*'()&=+$,;?/".contains(&byte);
    !text.is_empty() && text.bytes().all(is_plain)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn foreign(names: &str, first: u32, count: u32) -> Result<Accounts, AccountError> {
        Accounts::new("example.org", "secret", count).with_names(names.parse().unwrap(), first)
    }

    fn callee_of(accounts: &Accounts, caller: u32) -> String {
        let mut out = Vec::new();
        accounts.write_callee(&mut Value::new(&mut out), caller);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn names_and_indices_are_inverse() {
        let accounts = Accounts::new("hopbench.test", "secret", u32::MAX);
        assert_eq!(accounts.count(), MAX_ACCOUNTS);
        for index in [0, 42, 99_999_999] {
            assert_eq!(accounts.index(&accounts.username(index)), Some(index));
            assert_eq!(accounts.username(index), host_label(index));
        }
        assert_eq!(accounts.aor(42), "sip:u00000042@hopbench.test");
        let few = Accounts::new("hopbench.test", "secret", 42);
        for name in ["u00000042", "u0000041", "u000000041", "v00000041", "", "u"] {
            assert_eq!(few.index(name), None, "{name}");
        }
        assert_eq!(few.index("u00000041"), Some(41));
    }

    #[test]
    fn names_follow_the_rule_of_a_foreign_server() {
        let extensions = foreign("{}", 1000, 500).unwrap();
        assert_eq!(extensions.username(7).as_str(), "1007");
        assert_eq!(extensions.index("1007"), Some(7));
        for name in ["999", "1500", "01007"] {
            assert_eq!(extensions.index(name), None, "{name}");
        }
        let alone = foreign("alice", 0, 1).unwrap();
        assert_eq!(alone.username(0).as_str(), "alice");
        assert_eq!(alone.index("alice"), Some(0));
        assert_eq!(alone.index("bob"), None);
        let last = foreign("{}", u32::MAX, MAX_ACCOUNTS).unwrap();
        let highest = last.username(MAX_ACCOUNTS - 1);
        assert_eq!(last.index(&highest), Some(MAX_ACCOUNTS - 1));
    }

    #[test]
    fn names_that_cannot_be_are_told() {
        let one_name = foreign("alice", 0, 2).unwrap_err();
        assert_eq!(
            one_name.to_string(),
            "expected a place for a number in the user pattern of 2 accounts, found none in `alice`: \
             write {} or {:04} where it goes"
        );
        for names in ["al ice{}", "alice@home{}", "\"{}", "al\u{ef}ce{}"] {
            assert!(
                matches!(foreign(names, 0, 2), Err(AccountError::Username { .. })),
                "{names}"
            );
        }
    }

    #[test]
    fn passwords_follow_from_the_secret() {
        let accounts = Accounts::new("hopbench.test", "secret", 100);
        // printf 'secret:u00000042' | sha256sum
        assert_eq!(
            accounts.password(42).as_str(),
            "04dc6c6e9c358930253e4c9ff8b1a990"
        );
        assert_ne!(accounts.password(42), accounts.password(43));
        let others = Accounts::new("hopbench.test", "other", 100);
        assert_ne!(accounts.password(42), others.password(42));
    }

    #[test]
    fn passwords_follow_the_rule_of_a_foreign_server_and_are_not_shown() {
        let same = Passwords::Same("hunter2".into());
        let accounts = foreign("{}", 1000, 10).unwrap().with_passwords(same);
        assert_eq!(accounts.password(0).as_str(), "hunter2");
        assert_eq!(accounts.password(9).as_str(), "hunter2");
        let numbered = Passwords::Numbered("hunter{:06}".parse().unwrap());
        let accounts = accounts.with_passwords(numbered);
        assert_eq!(accounts.password(9).as_str(), "hunter001009");
        let derived = Passwords::Derived {
            secret: "hunter".into(),
        };
        for passwords in [
            Passwords::Same("hunter2".into()),
            Passwords::Numbered("hunter{}".parse().unwrap()),
            derived,
        ] {
            let shown = format!("{:?}", accounts.clone().with_passwords(passwords));
            assert!(!shown.contains("hunter"), "{shown}");
        }
    }

    #[test]
    fn whom_users_call_is_one_for_all_or_one_for_each() {
        let accounts = foreign("{}", 1000, 10).unwrap();
        assert_eq!(callee_of(&accounts, 3), "sip:answer@example.org");
        // As asked for, whom user 3 calls.
        for (callee, expected) in [
            ("echo", "sip:echo@example.org"),
            ("echo{}", "sip:echo1003@example.org"),
            ("e{:05}", "sip:e01003@example.org"),
            ("sip:echo@192.0.2.1:5080", "sip:echo@192.0.2.1:5080"),
            ("sips:e{:05}@example.net", "sips:e01003@example.net"),
        ] {
            let accounts = accounts.clone().with_callee(callee).unwrap();
            assert_eq!(callee_of(&accounts, 3), expected, "{callee}");
        }
        for callee in ["", "echo@example.org", "sip:example.org", "tel:1", "a b"] {
            assert!(
                matches!(
                    accounts.clone().with_callee(callee),
                    Err(AccountError::Callee { .. })
                ),
                "{callee}"
            );
        }
    }

    #[test]
    fn travels_as_plain_data() {
        let accounts = foreign("{}", 1000, 10)
            .and_then(|accounts| accounts.with_callee("sip:echo@example.net"))
            .unwrap()
            .with_passwords(Passwords::Same("hunter2".into()));
        let json = serde_json::to_string(&accounts).unwrap();
        assert_eq!(serde_json::from_str::<Accounts>(&json).unwrap(), accounts);
    }
}
