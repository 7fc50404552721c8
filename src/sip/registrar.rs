//! The registrar (RFC 3261 §10.3): who may register, and where users can be reached.
//!
//! It decides and remembers; [`server`](super::server) writes the responses. A user is remembered
//! from the first binding until the last one has expired, so its memory is bounded by the number of
//! accounts.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::{Duration, Instant};

use super::account::Accounts;
use super::authenticator::{Authenticator, Unauthenticated};
use super::digest::{Algorithm, Challenger, Nonces};
use super::message::{Message, ParseError, StartLine};
use super::parse::{Contact, NameAddr, Uri};

/// Most bindings that a user can have at a time.
pub const MAX_BINDINGS: usize = 8;

/// What the registrar grants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lifetimes {
    /// Lifetime of a binding that does not ask for one.
    pub default_seconds: u32,
    /// Shorter ones are refused with 423.
    pub min_seconds: u32,
    /// Longer ones are shortened.
    pub max_seconds: u32,
}

impl Default for Lifetimes {
    fn default() -> Self {
        Self {
            default_seconds: 3_600,
            min_seconds: 10,
            max_seconds: 86_400,
        }
    }
}

/// What becomes of a REGISTER.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Registered {
    /// 200 with the bindings of `user`.
    Accepted {
        /// Index of the account.
        user: u32,
    },
    /// 401.
    Challenge(Unauthenticated),
    /// 423 with this `Min-Expires`.
    TooBrief {
        /// Shortest lifetime that is granted.
        min_seconds: u32,
    },
    /// Any other refusal.
    Refused {
        /// Its status.
        status: u16,
    },
}

/// Where a user can be reached.
#[derive(Clone, Debug)]
pub struct Binding<F> {
    /// URI of the `Contact`.
    pub contact: Box<str>,
    /// The flow that it was registered over.
    pub flow: F,
    /// End of its lifetime.
    pub expires_at: Instant,
    /// `+sip.instance` with its quotes, if there is one.
    pub instance: Option<Box<str>>,
    call_id: u64,
    cseq: u32,
}

#[derive(Debug)]
struct User<F> {
    bindings: Vec<Binding<F>>,
}

/// Accounts' bindings and what keeps them safe.
#[derive(Debug)]
pub struct Registrar<F> {
    authenticator: Authenticator,
    lifetimes: Lifetimes,
    users: HashMap<u32, User<F>>,
    /// A user that has become known and has no timer yet.
    unarmed: Option<u32>,
}

/// One `Contact` of a request, checked.
struct Update<'a> {
    address: NameAddr<'a>,
    seconds: u32,
}

impl<F: Clone> Registrar<F> {
    /// `algorithms` are offered in that order.
    #[must_use]
    pub fn new(nonces: Nonces, algorithms: Vec<Algorithm>, lifetimes: Lifetimes) -> Self {
        Self {
            authenticator: Authenticator::new(nonces, algorithms),
            lifetimes,
            users: HashMap::new(),
            unarmed: None,
        }
    }

    /// Who the users are; a proxy asks it as well.
    #[must_use]
    pub fn authenticator(&self) -> &Authenticator {
        &self.authenticator
    }

    /// The same, to issue nonces and to judge credentials.
    pub fn authenticator_mut(&mut self) -> &mut Authenticator {
        &mut self.authenticator
    }

    /// The bindings of a user that are alive.
    pub fn bindings(&self, user: u32, now: Instant) -> impl Iterator<Item = &Binding<F>> {
        let bindings = self.users.get(&user).map(|user| user.bindings.as_slice());
        let alive = move |binding: &&Binding<F>| binding.expires_at > now;
        bindings.unwrap_or_default().iter().filter(alive)
    }

    /// How many users are remembered.
    #[must_use]
    pub fn users(&self) -> usize {
        self.users.len()
    }

    /// Handles a REGISTER that arrived over `flow`.
    pub fn register(
        &mut self,
        accounts: &Accounts,
        now: Instant,
        request: &Message<'_>,
        flow: &F,
    ) -> Registered {
        let refused = |status| Registered::Refused { status };
        let StartLine::Request { uri, .. } = request.start_line() else {
            return refused(400);
        };
        let Ok(request_uri) = Uri::parse(uri) else {
            return refused(416);
        };
        if !request_uri.host.eq_ignore_ascii_case(accounts.domain()) {
            return refused(404);
        }
        let challenger = Challenger::Server;
        let authenticator = &mut self.authenticator;
        let user = match authenticator.authenticate(accounts, now, request, challenger) {
            Ok(user) => user,
            Err(reason) => return Registered::Challenge(reason),
        };
        if !is_own_address(accounts, user, request) {
            return refused(403);
        }
        match self.update(user, now, request, flow) {
            Ok(()) => Registered::Accepted { user },
            Err(outcome) => outcome,
        }
    }

    /// Applies all `Contact`s or none.
    fn update(
        &mut self,
        user: u32,
        now: Instant,
        request: &Message<'_>,
        flow: &F,
    ) -> Result<(), Registered> {
        let bad = |_: ParseError| Registered::Refused { status: 400 };
        let header_seconds = request.expires().map_err(bad)?;
        let (cseq, _) = request.cseq().map_err(bad)?;
        let call_id = hash(request.call_id().map_err(bad)?);
        let (updates, all) = self.updates(request, header_seconds)?;
        if updates.is_empty() && !self.users.contains_key(&user) {
            return Ok(());
        }
        let known = self.users.entry(user).or_insert_with(|| {
            self.unarmed = Some(user);
            User {
                bindings: Vec::new(),
            }
        });
        known.bindings.retain(|binding| binding.expires_at > now);
        let outdated = |binding: &Binding<F>| binding.call_id == call_id && binding.cseq >= cseq;
        if all {
            if known.bindings.iter().any(outdated) {
                return Err(Registered::Refused { status: 500 });
            }
            known.bindings = Vec::new();
        }
        let place = |bindings: &[Binding<F>], update: &Update<'_>| {
            let same = |binding: &Binding<F>| same_uri(&binding.contact, update.address.uri);
            bindings.iter().position(same)
        };
        for update in &updates {
            let place = place(&known.bindings, update);
            if place.is_some_and(|place| outdated(&known.bindings[place])) {
                return Err(Registered::Refused { status: 500 });
            }
        }
        let added = updates
            .iter()
            .filter(|update| update.seconds > 0 && place(&known.bindings, update).is_none());
        if known.bindings.len() + added.count() > MAX_BINDINGS {
            return Err(Registered::Refused { status: 403 });
        }
        for update in &updates {
            let place = place(&known.bindings, update);
            let binding = update.binding(now, flow, call_id, cseq);
            known.apply(place, binding);
        }
        Ok(())
    }

    /// The request's `Contact`s, and whether it removes all bindings.
    fn updates<'a>(
        &self,
        request: &Message<'a>,
        header_seconds: Option<u32>,
    ) -> Result<(Vec<Update<'a>>, bool), Registered> {
        let bad = Registered::Refused { status: 400 };
        let mut updates = Vec::new();
        let mut all = false;
        for contact in request.contacts() {
            let address = match contact.map_err(|_| bad)? {
                Contact::Any => {
                    all = true;
                    continue;
                }
                Contact::Address(address) => address,
            };
            let own = address.params.value("expires");
            let seconds = own
                .and_then(super::parse::delta_seconds)
                .or(header_seconds)
                .unwrap_or(self.lifetimes.default_seconds)
                .min(self.lifetimes.max_seconds);
            let min_seconds = self.lifetimes.min_seconds;
            if seconds > 0 && seconds < min_seconds {
                return Err(Registered::TooBrief { min_seconds });
            }
            if updates.len() == MAX_BINDINGS {
                return Err(Registered::Refused { status: 403 });
            }
            updates.push(Update { address, seconds });
        }
        if all && (!updates.is_empty() || header_seconds != Some(0)) {
            return Err(bad);
        }
        Ok((updates, all))
    }

    /// The timer that the last REGISTER made necessary: user, and when to call
    /// [`Registrar::expire`]. `None` if a timer of that user is running already.
    pub fn take_timer(&mut self) -> Option<(u32, Instant)> {
        let user = self.unarmed.take()?;
        let at = self.users.get(&user)?.expires_at();
        if at.is_none() {
            self.users.remove(&user);
        }
        Some((user, at?))
    }

    /// Forgets what of a user has expired. Returns when to look again.
    pub fn expire(&mut self, user: u32, now: Instant) -> Option<Instant> {
        self.authenticator.forget(now);
        let known = self.users.get_mut(&user)?;
        known.bindings.retain(|binding| binding.expires_at > now);
        let at = known.expires_at();
        if at.is_none() {
            self.users.remove(&user);
        }
        at
    }
}

impl Update<'_> {
    /// The binding that it asks for, `None` if it asks for removal.
    fn binding<F: Clone>(
        &self,
        now: Instant,
        flow: &F,
        call_id: u64,
        cseq: u32,
    ) -> Option<Binding<F>> {
        let instance = self.address.params.value("+sip.instance");
        (self.seconds > 0).then(|| Binding {
            contact: self.address.uri.into(),
            flow: flow.clone(),
            expires_at: now + Duration::from_secs(self.seconds.into()),
            instance: instance.map(Into::into),
            call_id,
            cseq,
        })
    }
}

impl<F> User<F> {
    /// Puts a binding in its place, adds it if it has none, or removes what is there.
    fn apply(&mut self, place: Option<usize>, binding: Option<Binding<F>>) {
        match (place, binding) {
            (Some(place), Some(binding)) => self.bindings[place] = binding,
            (Some(place), None) => {
                self.bindings.remove(place);
            }
            (None, Some(binding)) => {
                // One binding is the rule: room for more would cost every user.
                self.bindings.reserve_exact(1);
                self.bindings.push(binding);
            }
            (None, None) => {}
        }
    }

    /// When the next binding expires.
    fn expires_at(&self) -> Option<Instant> {
        self.bindings.iter().map(|binding| binding.expires_at).min()
    }
}

/// Whether `To` is the address of record of the user who authenticated.
fn is_own_address(accounts: &Accounts, user: u32, request: &Message<'_>) -> bool {
    request.to().is_ok_and(|to| {
        Uri::parse(to.uri).is_ok_and(|uri| {
            uri.host.eq_ignore_ascii_case(accounts.domain())
                && uri.user == Some(&accounts.username(user))
        })
    })
}

fn same_uri(left: &str, right: &str) -> bool {
    left == right
        || match (Uri::parse(left), Uri::parse(right)) {
            (Ok(left), Ok(right)) => left.equivalent(&right),
            (Ok(_) | Err(_), Ok(_) | Err(_)) => false,
        }
}

fn hash(text: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    text.hash(&mut hasher);
    hasher.finish()
}
