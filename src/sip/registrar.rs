//! The registrar (RFC 3261 §10.3): who may register, and where users can be reached.
//!
//! It decides and remembers; [`server`](super::server) writes the responses. A user is remembered
//! from the first binding until the last one has expired, so its memory is bounded by the number of
//! accounts. Bindings keep the path to the user agent (RFC 3327), and of a user agent that
//! registers several flows each is a binding (RFC 5626 §6).

mod asked;
mod binding;

use std::collections::HashMap;
use std::rc::Rc;
use std::time::Instant;

use super::account::Accounts;
use super::authenticator::{Authenticator, Unauthenticated};
use super::digest::{Algorithm, Challenger, Nonces};
use super::directory::Directory;
use super::message::{Message, StartLine};
use super::parse::Uri;
use asked::Asked;

pub(in crate::sip) use asked::is_first_hop;
pub use binding::{Binding, BindingId};

/// Most bindings that a user can have at a time.
pub const MAX_BINDINGS: usize = 8;

/// What the registrar grants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lifetimes {
    /// Lifetime of a binding that does not ask for one.
    pub default_seconds: u32,
    /// Shorter ones are refused with 423, unless they are an hour or more.
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
    /// 200 with the bindings of `user`, and the request's `Path`.
    Accepted {
        /// Index of the account.
        user: u32,
        /// Outbound was used, which `Require` says.
        outbound: bool,
    },
    /// 401.
    Challenge(Unauthenticated),
    /// 420: a proxy added `Path`, which the user agent does not know.
    PathUnsupported,
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

/// Accounts' bindings and what keeps them safe.
#[derive(Debug)]
pub struct Registrar<F> {
    authenticator: Authenticator,
    lifetimes: Lifetimes,
    /// Bindings of each user in the order in which they are tried. Whoever is here has a timer.
    users: HashMap<u32, Vec<Binding<F>>>,
    /// A user that has become known and has no timer yet.
    unarmed: Option<u32>,
    /// How many users have a binding.
    bound: u64,
    /// Told of every user, where several workers serve them.
    directory: Option<Rc<dyn Directory>>,
    /// How many bindings were registered or refreshed so far.
    serial: u64,
}

impl<F: Clone> Registrar<F> {
    /// `algorithms` are offered in that order. `directory` is that of the workers of a node, if this
    /// is one of several.
    #[must_use]
    pub fn new(
        nonces: Nonces,
        algorithms: Vec<Algorithm>,
        lifetimes: Lifetimes,
        directory: Option<Rc<dyn Directory>>,
    ) -> Self {
        Self {
            authenticator: Authenticator::new(nonces, algorithms),
            lifetimes,
            users: HashMap::new(),
            unarmed: None,
            bound: 0,
            directory,
            serial: 0,
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

    /// The bindings of a user that are alive, in the order in which a proxy tries them: by falling
    /// `q`, of the same `q` the one refreshed last first. Of those of one user agent
    /// ([`Binding::is_same_instance`]) a proxy tries the next only after the flow of the one
    /// before has failed.
    pub fn bindings(&self, user: u32, now: Instant) -> impl Iterator<Item = &Binding<F>> {
        let bindings = self.users.get(&user).map(Vec::as_slice);
        let alive = move |binding: &&Binding<F>| binding.expires_at() > now;
        bindings.unwrap_or_default().iter().filter(alive)
    }

    /// Removes a binding whose flow takes nothing more (RFC 5626 §7). One that has been refreshed since
    /// has another id and stays. Returns whether it was there.
    pub fn flow_failed(&mut self, user: u32, binding: BindingId) -> bool {
        let failed = self.change(user, |bindings| {
            let place = bindings.iter().position(|known| known.id() == binding);
            place.map(|place| bindings.remove(place))
        });
        failed.flatten().is_some()
    }

    /// How many users are registered here: of those who came to several workers of one node, the one
    /// that they came to last counts them.
    #[must_use]
    pub fn registered(&self) -> u64 {
        let directory = self.directory.as_ref();
        directory.map_or(self.bound, |directory| directory.users())
    }

    /// Changes the bindings of a user who is remembered, and notes whether there are any left.
    fn change<R>(
        &mut self,
        user: u32,
        change: impl FnOnce(&mut Vec<Binding<F>>) -> R,
    ) -> Option<R> {
        let bindings = self.users.get_mut(&user)?;
        let was_bound = !bindings.is_empty();
        let result = change(bindings);
        match (was_bound, !bindings.is_empty()) {
            (false, true) => self.bound += 1,
            (true, false) => {
                self.bound -= 1;
                if let Some(directory) = &self.directory {
                    directory.ended(user);
                }
            }
            (false, false) | (true, true) => {}
        }
        Some(result)
    }

    /// Tells the directory what a REGISTER has brought about.
    fn tell_directory(&self, user: u32, asked: &Asked<'_>) {
        let Some(directory) = &self.directory else {
            return;
        };
        if asked.updates.iter().any(|update| update.seconds > 0) {
            directory.arrived(user);
        } else if asked.removes_any() && self.users.get(&user).is_none_or(Vec::is_empty) {
            // What it names may be bound at a sibling, to which it is no less removed.
            directory.removed(user);
        }
    }

    /// How many users are remembered.
    #[must_use]
    pub fn users(&self) -> usize {
        self.users.len()
    }

    /// Handles a REGISTER that arrived over `flow` on an interface of that number.
    pub fn register(
        &mut self,
        accounts: &Accounts,
        now: Instant,
        request: &Message<'_>,
        flow: &F,
        interface: usize,
    ) -> Registered {
        self.try_register(accounts, now, request, flow, interface)
            .unwrap_or_else(|refused| refused)
    }

    fn try_register(
        &mut self,
        accounts: &Accounts,
        now: Instant,
        request: &Message<'_>,
        flow: &F,
        interface: usize,
    ) -> Result<Registered, Registered> {
        check_request_uri(accounts, request)?;
        let challenger = Challenger::Server;
        let authenticator = &mut self.authenticator;
        let user = authenticator
            .authenticate(accounts, now, request, challenger)
            .map_err(Registered::Challenge)?;
        check_address_of_record(accounts, user, request)?;
        let asked = Asked::of(request, &self.lifetimes)?;
        let outbound = asked.is_outbound;
        self.update(user, now, &asked, flow, interface)?;
        self.tell_directory(user, &asked);
        Ok(Registered::Accepted { user, outbound })
    }

    /// Applies all that is asked for, or nothing (step 7).
    fn update(
        &mut self,
        user: u32,
        now: Instant,
        asked: &Asked<'_>,
        flow: &F,
        interface: usize,
    ) -> Result<(), Registered> {
        self.change(user, |bindings| {
            bindings.retain(|binding| binding.expires_at() > now);
        });
        let known = self.users.get(&user).map_or(&[][..], Vec::as_slice);
        check_order(known, asked)?;
        let added = asked.bindings(now, flow, interface, &mut self.serial)?;
        let stays = |known: &Binding<F>| !asked.concerns(known);
        let staying = known.iter().filter(|known| stays(known)).count();
        if staying + added.len() > MAX_BINDINGS {
            return Err(Registered::Refused { status: 403 });
        }
        if known.is_empty() && added.is_empty() {
            return Ok(());
        }
        self.users.entry(user).or_insert_with(|| {
            self.unarmed = Some(user);
            Vec::new()
        });
        self.change(user, |bindings| {
            bindings.retain(stays);
            // One binding is the rule: room for more would cost every user.
            bindings.reserve_exact(added.len());
            bindings.extend(added);
            bindings.sort_unstable_by_key(|binding| std::cmp::Reverse(binding.rank()));
        });
        Ok(())
    }

    /// The timer that the last REGISTER made necessary: user, and when to call
    /// [`Registrar::expire`]. `None` if a timer of that user is running already.
    pub fn take_timer(&mut self) -> Option<(u32, Instant)> {
        let user = self.unarmed.take()?;
        let at = next_expiry(self.users.get(&user)?);
        if at.is_none() {
            self.users.remove(&user);
        }
        Some((user, at?))
    }

    /// Forgets what of a user has expired. Returns when to look again.
    pub fn expire(&mut self, user: u32, now: Instant) -> Option<Instant> {
        self.authenticator.forget(now);
        let at = self.change(user, |bindings| {
            bindings.retain(|binding| binding.expires_at() > now);
            next_expiry(bindings)
        })?;
        if at.is_none() {
            self.users.remove(&user);
        }
        at
    }
}

/// The Request-URI names the domain (RFC 3261 §10.3, step 1).
fn check_request_uri(accounts: &Accounts, request: &Message<'_>) -> Result<(), Registered> {
    let refused = |status| Err(Registered::Refused { status });
    let StartLine::Request { uri, .. } = request.start_line() else {
        return refused(400);
    };
    match Uri::parse(uri) {
        Ok(uri) if uri.host.eq_ignore_ascii_case(accounts.domain()) => Ok(()),
        Ok(_) => refused(404),
        Err(_) => refused(416),
    }
}

/// `To` is an address of record of the domain (step 5), and that of the user who authenticated: nobody
/// registers for somebody else here (step 4).
fn check_address_of_record(
    accounts: &Accounts,
    user: u32,
    request: &Message<'_>,
) -> Result<(), Registered> {
    let refused = |status| Registered::Refused { status };
    let to = request.to().map_err(|_| refused(400))?;
    let aor = Uri::parse(to.uri).map_err(|_| refused(404))?;
    let is_local = aor.host.eq_ignore_ascii_case(accounts.domain());
    let owner = aor.user.filter(|_| is_local);
    match owner.and_then(|name| accounts.index(name)) {
        Some(owner) if owner == user => Ok(()),
        Some(_) => Err(refused(403)),
        None => Err(refused(404)),
    }
}

/// Of requests with one Call-ID the later one counts, by CSeq (step 7): an earlier one that arrives
/// after it has no effect at all.
fn check_order<F>(known: &[Binding<F>], asked: &Asked<'_>) -> Result<(), Registered> {
    let is_outdated = |binding: &Binding<F>| {
        asked.concerns(binding) && binding.call_id == asked.call_id && binding.cseq >= asked.cseq
    };
    if known.iter().any(is_outdated) {
        return Err(Registered::Refused { status: 500 });
    }
    Ok(())
}

fn next_expiry<F>(bindings: &[Binding<F>]) -> Option<Instant> {
    bindings.iter().map(Binding::expires_at).min()
}

#[cfg(test)]
mod tests;
