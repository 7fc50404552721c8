//! The sessions that a client's users can resume.
//!
//! rustls files sessions under the server's name. To a generator all servers have one name and its
//! users many sessions, of which each may resume its own only: another user's would bring another
//! identity, and a stranger's ticket is nothing that a real user agent could have. So each user has a
//! store of one place, and each connection a configuration that refers to its user's.
//!
//! A user who never connected costs nothing. One who can resume keeps the last ticket with its secret,
//! and the server's certificate chain, which rustls keeps with each session: with ECDSA P-256 0.9 kB of
//! heap over `tls` and 1.3 kB over `mtls`, whose tickets hold the client's certificate. While connected
//! there are 0.4 kB more for the configuration.

use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use rustls::NamedGroup;
use rustls::client::{ClientSessionStore, Tls12ClientSessionValue, Tls13ClientSessionValue};
use rustls::pki_types::ServerName;

use crate::transport::User;

/// One worker's users and what each can resume.
#[derive(Debug, Default)]
pub(super) struct Sessions {
    by_user: RefCell<HashMap<User, Arc<LastSession>>>,
}

impl Sessions {
    /// The store of `user`.
    pub(super) fn of(&self, user: User) -> Arc<dyn ClientSessionStore> {
        let mut by_user = self.by_user.borrow_mut();
        Arc::clone(by_user.entry(user).or_default()) as Arc<dyn ClientSessionStore>
    }
}

/// The session that its user resumes next. Only one worker ever locks it.
#[derive(Debug, Default)]
struct LastSession(Mutex<Option<Session>>);

/// A connection speaks one version of TLS, so there is never one of each.
#[derive(Debug)]
enum Session {
    Tls12(Tls12ClientSessionValue),
    Tls13(Tls13ClientSessionValue),
}

impl LastSession {
    fn with<T>(&self, act: impl FnOnce(&mut Option<Session>) -> T) -> T {
        act(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl ClientSessionStore for LastSession {
    // There is one group to choose from.
    fn set_kx_hint(&self, _: ServerName<'static>, _: NamedGroup) {}

    fn kx_hint(&self, _: &ServerName<'_>) -> Option<NamedGroup> {
        None
    }

    fn set_tls12_session(&self, _: ServerName<'static>, value: Tls12ClientSessionValue) {
        self.with(|session| *session = Some(Session::Tls12(value)));
    }

    fn tls12_session(&self, _: &ServerName<'_>) -> Option<Tls12ClientSessionValue> {
        self.with(|session| match session {
            Some(Session::Tls12(value)) => Some(value.clone()),
            Some(Session::Tls13(_)) | None => None,
        })
    }

    fn remove_tls12_session(&self, _: &ServerName<'static>) {
        self.with(|session| session.take_if(|session| matches!(session, Session::Tls12(_))));
    }

    fn insert_tls13_ticket(&self, _: ServerName<'static>, value: Tls13ClientSessionValue) {
        self.with(|session| *session = Some(Session::Tls13(value)));
    }

    // A ticket of TLS 1.3 is used once (RFC 8446 §C.4). rustls asks for one before it asks for a
    // session of TLS 1.2, which must survive that.
    fn take_tls13_ticket(&self, _: &ServerName<'static>) -> Option<Tls13ClientSessionValue> {
        let taken =
            self.with(|session| session.take_if(|session| matches!(session, Session::Tls13(_))));
        match taken {
            Some(Session::Tls13(value)) => Some(value),
            Some(Session::Tls12(_)) | None => None,
        }
    }
}
