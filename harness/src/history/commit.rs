//! Commits: what a point of the history is called on its axis. What is not said is asked of git.

use std::path::Path;
use std::process::Command;

use serde::{Deserialize, Serialize};

/// What is known of a commit.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Commit {
    /// Its hash; null where the run was not built from a checkout.
    pub(crate) id: Option<String>,
    /// Whether what was built differed from it; null when unknown, as are all others here.
    pub(crate) dirty: Option<bool>,
    /// RFC 3339, UTC.
    pub(crate) committed_at: Option<String>,
    /// First line of its message.
    pub(crate) subject: Option<String>,
    /// Name of its author.
    pub(crate) author: Option<String>,
    /// Where to look at it.
    pub(crate) url: Option<String>,
}

impl Commit {
    /// The same, with time, subject and author as the git repository around `folder` has them, where it has
    /// the commit. Without git, or in a shallow clone, they stay unknown.
    pub(crate) fn with_words_of_git(mut self, folder: &Path) -> Self {
        let Some(id) = &self.id else { return self };
        let show = Command::new("git")
            .arg("-C")
            .arg(folder)
            .args(["show", "--no-patch", "--no-show-signature"])
            .args(["--format=%ct%n%an%n%s", &format!("{id}^{{commit}}")])
            .output();
        let Some(shown) = show.ok().filter(|output| output.status.success()) else {
            return self;
        };
        let shown = String::from_utf8_lossy(&shown.stdout);
        let mut lines = shown.lines();
        let seconds = lines.next().and_then(|line| line.parse().ok());
        let committed_at = seconds.and_then(rfc3339);
        self.committed_at = self.committed_at.or(committed_at);
        let author = lines.next().map(str::to_owned);
        self.author = self.author.or(author);
        let subject = lines.next().map(str::to_owned);
        self.subject = self.subject.or(subject);
        self
    }

    /// As it is written on an axis: seven letters, and a `+` where something else was built; `–` if unknown.
    pub(crate) fn short(&self) -> String {
        let id = self.id.as_deref().unwrap_or("–");
        let short: String = id.chars().take(7).collect();
        let mark = if self.dirty == Some(true) { "+" } else { "" };
        short + mark
    }
}

/// A time since 1970, in words; `None` of what is beyond the year 9999.
pub(crate) fn rfc3339(seconds: u64) -> Option<String> {
    const LAST: u64 = 253_402_300_799;
    let since = std::time::Duration::from_secs(seconds);
    (seconds <= LAST)
        .then(|| humantime::format_rfc3339_seconds(std::time::UNIX_EPOCH + since).to_string())
}

/// The same time in UTC: what sorts as text. `None` of what is no time.
pub(crate) fn normalised(time: &str) -> Option<String> {
    rfc3339(seconds(time)?)
}

/// Seconds since 1970 of a time of RFC 3339, whose offset may be any.
pub(crate) fn seconds(time: &str) -> Option<u64> {
    // humantime reads UTC only: what stands behind the seconds is taken off first.
    let (local, offset) = match time.strip_suffix(['Z', 'z']) {
        Some(local) => (local, 0),
        None => {
            let at = time.len().checked_sub(6)?;
            (time.get(..at)?, offset_seconds(time.get(at..)?)?)
        }
    };
    let parsed = humantime::parse_rfc3339(&format!("{local}Z")).ok()?;
    let since = parsed.duration_since(std::time::UNIX_EPOCH).ok()?;
    since.as_secs().checked_add_signed(-offset)
}

/// Of `+01:30`, 5400.
fn offset_seconds(offset: &str) -> Option<i64> {
    let (sign, rest) = match offset.split_at_checked(1)? {
        ("+", rest) => (1, rest),
        ("-", rest) => (-1, rest),
        _ => return None,
    };
    let (hours, minutes) = rest.split_once(':')?;
    let (hours, minutes): (i64, i64) = (hours.parse().ok()?, minutes.parse().ok()?);
    (hours < 24 && minutes < 60).then_some(sign * (hours * 3600 + minutes * 60))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_of_any_offset_sort_as_text() {
        let table = [
            ("2022-12-06T15:18:29-08:00", Some("2022-12-06T23:18:29Z")),
            ("2019-11-10T00:06:58+09:00", Some("2019-11-09T15:06:58Z")),
            ("2026-01-02T03:04:05Z", Some("2026-01-02T03:04:05Z")),
            ("2026-01-02T03:04:05.750Z", Some("2026-01-02T03:04:05Z")),
            ("yesterday", None),
            ("ü", None),
            ("", None),
        ];
        for (time, expected) in table {
            assert_eq!(normalised(time).as_deref(), expected, "{time}");
        }
    }

    #[test]
    fn what_git_does_not_know_stays_unknown() {
        let folder = tempfile::tempdir().expect("a folder");
        let commit = Commit {
            id: Some("0123456789".to_owned()),
            dirty: Some(true),
            ..Commit::default()
        };
        assert_eq!(commit.clone().with_words_of_git(folder.path()), commit);
        assert_eq!(commit.short(), "0123456+");
        assert_eq!(Commit::default().short(), "–");
    }
}
