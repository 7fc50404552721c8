//! History: the sound figures of many runs, kept in plain files, looked through for change points and drawn.
//! Beside the reports, above [`crate::figures`]; the only I/O is in [`store`] and the files that a command names.
//!
//! ```text
//! site                            a static site, from lines and changes
//! series                          lines of an axis, and what changed on them
//! data_js                         the store's entries as another program's file, and back
//! store  json                     entries on disk
//! entry  commit                   what is kept of a run
//! change                          change points of one series; knows nothing of runs
//! ```

pub(crate) mod change;
pub(crate) mod commit;
pub(crate) mod data_js;
pub(crate) mod entry;
mod json;
pub(crate) mod series;
pub(crate) mod site;
pub(crate) mod store;
