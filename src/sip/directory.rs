//! Which worker of a node holds which user, as the server of one worker sees it.
//!
//! Where the workers keep it is not known here; `node` maps a file into all of them.

use std::fmt;

/// The location directory that the workers of one node share: for each account the worker that
/// granted the user's latest registration. One worker a user, since whoever comes back over a new
/// connection may come to another worker, whose binding is then the one that counts.
///
/// Everything takes effect for all workers at once, and none waits for another.
pub trait Directory: fmt::Debug {
    /// The user has registered here.
    fn arrived(&self, user: u32);

    /// The last binding here has ended by itself. Of no effect if a sibling holds the user by now.
    fn ended(&self, user: u32);

    /// The user has removed its bindings, wherever they are.
    fn removed(&self, user: u32);

    /// The place of the worker that holds the user, unless it is this one or none.
    fn sibling_of(&self, user: u32) -> Option<u16>;

    /// How many users this worker holds.
    fn users(&self) -> u64;
}
