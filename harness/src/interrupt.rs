//! Ctrl-C and SIGTERM: noted, so that the run can write what it has and end its children.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

/// Exit code of what was interrupted: 128 + SIGINT, as shells have it.
pub(crate) const EXIT_CODE: u8 = 130;

static INTERRUPTED: AtomicBool = AtomicBool::new(false);
static ON_FIRST: OnceLock<Box<dyn Fn() + Send + Sync>> = OnceLock::new();

/// Starts to note signals. A second one ends the process at once; its children end with it.
///
/// # Errors
/// When the system refuses the handler.
pub(crate) fn watch() -> anyhow::Result<()> {
    ctrlc::set_handler(|| {
        if INTERRUPTED.swap(true, Ordering::SeqCst) {
            std::process::exit(EXIT_CODE.into());
        }
        if let Some(tell) = ON_FIRST.get() {
            tell();
        }
    })?;
    Ok(())
}

/// Calls `tell` when the first signal comes, at once and from another thread. Of several the first counts.
pub(crate) fn on_first(tell: impl Fn() + Send + Sync + 'static) {
    let _ = ON_FIRST.set(Box::new(tell));
}

/// Whether a signal has come.
pub(crate) fn is_interrupted() -> bool {
    INTERRUPTED.load(Ordering::SeqCst)
}
