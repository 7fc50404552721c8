//! Every relative link of every Markdown file leads to a file of the project, and every anchor to a
//! heading.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::path::{Component, Path, PathBuf};

use pulldown_cmark::{Event, Options, Parser, Tag, TagEnd};

/// Folders that hold nothing of ours, nothing that is committed, or what belongs elsewhere.
const SKIPPED: [&str; 6] = [
    "target",
    "node_modules",
    "corpus",
    "runs",
    "latest",
    "snapshots",
];

/// The Markdown files beneath `folder`.
fn documents(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        if name.starts_with('.') || SKIPPED.contains(&name.as_str()) {
            continue;
        }
        if path.is_dir() {
            documents(&path, found);
        } else if name.ends_with(".md") {
            found.push(path);
        }
    }
}

/// What a document links to, and the anchors of its headings.
fn links_and_anchors(text: &str) -> (Vec<String>, Vec<String>) {
    let (mut links, mut anchors) = (Vec::new(), Vec::new());
    let mut seen: BTreeMap<String, u32> = BTreeMap::new();
    let mut heading: Option<String> = None;
    for event in Parser::new_ext(text, Options::ENABLE_TABLES) {
        match event {
            Event::Start(Tag::Link { dest_url, .. } | Tag::Image { dest_url, .. }) => {
                links.push(dest_url.into_string());
            }
            Event::Start(Tag::Heading { .. }) => heading = Some(String::new()),
            Event::End(TagEnd::Heading(_)) => {
                let anchor = anchor(&heading.take().unwrap());
                let times = seen.entry(anchor.clone()).or_default();
                anchors.push(match *times {
                    0 => anchor,
                    earlier => format!("{anchor}-{earlier}"),
                });
                *times += 1;
            }
            Event::Text(text) | Event::Code(text) => {
                if let Some(heading) = &mut heading {
                    heading.push_str(&text);
                }
            }
            _ => {}
        }
    }
    (links, anchors)
}

/// As GitHub and GitLab make it of a heading.
fn anchor(heading: &str) -> String {
    let lower = heading.to_lowercase();
    let kept = lower
        .chars()
        .filter(|c| c.is_alphanumeric() || "-_ ".contains(*c));
    kept.map(|c| if c == ' ' { '-' } else { c }).collect()
}

/// `path` without `..` and `.`, which a symbolic link cannot lead elsewhere.
fn plain(path: &Path) -> PathBuf {
    let mut plain = PathBuf::new();
    for component in path.components() {
        match component {
            Component::ParentDir => {
                plain.pop();
            }
            Component::CurDir => {}
            other => plain.push(other),
        }
    }
    plain
}

/// What is wrong with a link of `document`, if anything is.
fn fault(root: &Path, document: &Path, link: &str) -> Option<String> {
    if link.contains("://") || link.starts_with("mailto:") {
        return None;
    }
    let (file, fragment) = link.split_once('#').unwrap_or((link, ""));
    let target = if file.is_empty() {
        document.to_owned()
    } else {
        plain(&document.parent().unwrap().join(file))
    };
    if !target.starts_with(root) {
        return Some("it leads out of the project".to_owned());
    }
    if !target.exists() {
        return Some("there is no such file".to_owned());
    }
    if fragment.is_empty() {
        return None;
    }
    let (_, anchors) = links_and_anchors(&std::fs::read_to_string(&target).ok()?);
    let is_there = anchors.iter().any(|anchor| anchor == fragment);
    (!is_there).then(|| format!("there is no such heading; there are {anchors:?}"))
}

#[test]
fn every_link_of_every_document_leads_somewhere() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let mut found = Vec::new();
    documents(root, &mut found);
    assert!(
        found.iter().any(|path| path.ends_with("README.md")),
        "{found:?}"
    );
    let (mut checked, mut faults) = (0, Vec::new());
    for document in &found {
        let (links, _) = links_and_anchors(&std::fs::read_to_string(document).unwrap());
        checked += links.len();
        let faulty = links.iter().filter_map(|link| {
            let fault = fault(root, document, link)?;
            let name = document.strip_prefix(root).unwrap().display();
            Some(format!("{name}: {link}: {fault}"))
        });
        faults.extend(faulty);
    }
    assert!(checked > 50, "{checked} links");
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn a_link_to_nowhere_is_found() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let readme = root.join("README.md");
    // A link, and what is said of it.
    let cases = [
        ("README.md", None),
        ("README.md#limits", None),
        ("#how-to-read-it", None),
        ("https://www.kamailio.org", None),
        ("README.md#limitz", Some("no such heading")),
        ("docs/nothing.md", Some("no such file")),
        ("../elsewhere.md", Some("out of the project")),
    ];
    for (link, expected) in cases {
        let found = fault(root, &readme, link);
        assert_eq!(found.is_some(), expected.is_some(), "{link}: {found:?}");
        if let Some((found, expected)) = found.zip(expected) {
            assert!(found.contains(expected), "{link}: {found}");
        }
    }
    let (links, anchors) =
        links_and_anchors("# A `b`, c!\n\n# A b c\n\n![x](y.svg) [z](#a) `[n](o)`\n");
    assert_eq!(links, ["y.svg", "#a"]);
    assert_eq!(anchors, ["a-b-c", "a-b-c-1"]);
}
