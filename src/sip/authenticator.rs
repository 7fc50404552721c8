//! Who sent a request (RFC 3261 §22): what a registrar (401) and a proxy (407) ask for, and how they
//! judge the answer. One [`Authenticator`] serves both, so that credentials for calls and for
//! registrations share nonces and one memory of what was used.
//!
//! It decides; writing the response that a challenge goes into is its owner's.

use std::collections::{HashMap, hash_map};
use std::time::Instant;

use super::account::Accounts;
use super::digest::{
    Algorithm, Challenger, Credentials, NonceId, NonceState, Nonces, Replay, write_challenge,
};
use super::emit::Writer;
use super::message::{Message, StartLine};
use super::parse::Uri;
use super::text::Text;

/// Users that are forgotten for each request that is judged: more than one, so that those of a
/// period are gone before its successor's follow.
const FORGOTTEN_AT_ONCE: usize = 4;

/// Why a request is not authenticated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unauthenticated {
    /// It has no credentials for this realm, or none that can be read.
    #[error("expected digest credentials for this realm, found none")]
    Absent,
    /// Wrong user, password, Request-URI or algorithm.
    #[error("expected credentials that prove a user, found wrong ones")]
    Wrong,
    /// The password is right, the nonce is too old, or another worker's, or from before a restart.
    #[error("expected a recent nonce of this server, found none")]
    Stale,
    /// The password is right, but this use of the nonce has been seen, or may have been.
    #[error("expected a nonce count that was not used before, found one that was")]
    Replayed,
}

impl Unauthenticated {
    /// Whether the challenge says `stale=true`, so that the client tries again without asking its
    /// user.
    #[must_use]
    pub fn is_stale(self) -> bool {
        match self {
            Self::Absent | Self::Wrong => false,
            Self::Stale | Self::Replayed => true,
        }
    }
}

/// Issues challenges and judges what answers them.
///
/// Requests without valid credentials leave no trace. A user who has authenticated is remembered
/// for one to two lives of a nonce, which is as long as there is something to replay.
#[derive(Debug)]
pub struct Authenticator {
    nonces: Nonces,
    algorithms: Vec<Algorithm>,
    /// Users who authenticated in this period, which is as long as a nonce lives.
    recent: HashMap<u32, Replay>,
    /// Users who authenticated in the period before, and not in this one.
    earlier: HashMap<u32, Replay>,
    /// Users of the period before that one, forgotten a few at a time.
    forgotten: hash_map::IntoIter<u32, Replay>,
    /// End of this period.
    ends_at: Option<Instant>,
}

impl Authenticator {
    /// `algorithms` are offered in that order, and no others are taken.
    #[must_use]
    pub fn new(nonces: Nonces, algorithms: Vec<Algorithm>) -> Self {
        Self {
            nonces,
            algorithms,
            recent: HashMap::new(),
            earlier: HashMap::new(),
            forgotten: HashMap::new().into_iter(),
            ends_at: None,
        }
    }

    /// A nonce for the challenges of one response.
    pub fn issue_nonce(&mut self, now: Instant) -> Text<32> {
        self.nonces.issue(now)
    }

    /// Writes a challenge for each algorithm, the preferred one first (RFC 8760 §2.4).
    pub fn write_challenges(
        &self,
        writer: &mut Writer<'_>,
        challenger: Challenger,
        realm: &str,
        nonce: &str,
        stale: bool,
    ) {
        for &algorithm in &self.algorithms {
            writer.header_with(challenger.challenge_header().name(), |line| {
                write_challenge(line, algorithm, realm, nonce, stale);
            });
        }
    }

    /// The account that the credentials of `request` for `challenger` prove. Steps and answers are the
    /// same for users that exist and users that do not.
    ///
    /// # Errors
    /// Why it is to be challenged.
    pub fn authenticate(
        &mut self,
        accounts: &Accounts,
        now: Instant,
        request: &Message<'_>,
        challenger: Challenger,
    ) -> Result<u32, Unauthenticated> {
        self.forget(now);
        let StartLine::Request {
            method_text, uri, ..
        } = request.start_line()
        else {
            return Err(Unauthenticated::Absent);
        };
        // Proxies on the way have credentials of their own realms beside ours.
        let mut lines = request.lines(challenger.credentials_header());
        let credentials = lines.find_map(|line| {
            let credentials = Credentials::parse(line).ok()?;
            (credentials.realm == accounts.realm()).then_some(credentials)
        });
        let credentials = credentials.ok_or(Unauthenticated::Absent)?;
        let nonce = self.nonces.judge(credentials.nonce, now);
        let offered = self.algorithms.contains(&credentials.algorithm);
        if !offered || !same_uri(credentials.uri, uri) {
            return Err(Unauthenticated::Wrong);
        }
        let account = accounts.index(credentials.username);
        let password = accounts.password(account.unwrap_or(accounts.count()));
        let proven = credentials.prove(&password, method_text);
        let user = account.filter(|_| proven).ok_or(Unauthenticated::Wrong)?;
        match nonce {
            NonceState::Fresh(nonce) => self.use_nonce(user, nonce, credentials.nonce_count, now),
            NonceState::Stale | NonceState::Foreign => Err(Unauthenticated::Stale),
        }
    }

    fn use_nonce(
        &mut self,
        user: u32,
        nonce: NonceId,
        count: u32,
        now: Instant,
    ) -> Result<u32, Unauthenticated> {
        let earlier = &mut self.earlier;
        let replay = self
            .recent
            .entry(user)
            .or_insert_with(|| earlier.remove(&user).unwrap_or_default());
        if replay.accept(nonce, count, self.nonces.oldest_fresh(now)) {
            Ok(user)
        } else {
            Err(Unauthenticated::Replayed)
        }
    }

    /// How many users are remembered.
    #[must_use]
    pub fn users(&self) -> usize {
        self.recent.len() + self.earlier.len()
    }

    /// Forgets users whose nonces have all expired. There is nothing to call it for but memory:
    /// [`Authenticator::authenticate`] does it too.
    pub fn forget(&mut self, now: Instant) {
        // Freeing a million users at once would hold up whoever comes next.
        self.forgotten
            .by_ref()
            .take(FORGOTTEN_AT_ONCE)
            .for_each(drop);
        let life = self.nonces.life();
        let ends_at = *self.ends_at.get_or_insert(now + life);
        if now < ends_at {
            return;
        }
        let ended = std::mem::take(&mut self.recent);
        let before = std::mem::replace(&mut self.earlier, ended);
        self.forgotten = before.into_iter();
        self.ends_at = Some(now + life);
        if now >= ends_at + life {
            // Nobody came for a whole period: those of the last one have nothing left to replay.
            self.forgotten = std::mem::take(&mut self.earlier).into_iter();
        }
    }
}

/// Whether credentials were made for the Request-URI (RFC 7616 §3.4.6), which proxies may have
/// written differently.
fn same_uri(claimed: &str, requested: &str) -> bool {
    claimed == requested
        || match (Uri::parse(claimed), Uri::parse(requested)) {
            (Ok(claimed), Ok(requested)) => claimed.equivalent(&requested),
            (Ok(_) | Err(_), Ok(_) | Err(_)) => false,
        }
}

#[cfg(test)]
mod tests;
