//! Rust sources as tokens: enough of the language to tell what a module imports and mentions.
//!
//! Comments, literals and what is compiled for tests only are left out; everything else counts,
//! macro arguments included. What this does not see is a path that a macro puts together, and a call
//! through another module that may do what the caller may not.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// A source file of the library, without its tests.
pub(crate) struct Source {
    pub(crate) path: PathBuf,
    /// Path of the module from the crate's root: `["transport", "tls"]`.
    pub(crate) module: Vec<String>,
    pub(crate) tokens: Vec<String>,
}

/// All source files of the library, except those that are compiled for tests only.
pub(crate) fn sources() -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut test_modules = BTreeSet::new();
    let mut sources: Vec<_> = rust_files(&root)
        .into_iter()
        .map(|path| {
            let module = module_of(path.strip_prefix(&root).unwrap());
            let (tokens, for_tests) = without_tests(&tokens(&fs::read_to_string(&path).unwrap()));
            test_modules.extend(
                for_tests
                    .into_iter()
                    .map(|name| [&module[..], &[name]].concat()),
            );
            Source {
                path,
                module,
                tokens,
            }
        })
        .collect();
    sources.retain(|source| {
        let mut ancestors = (1..=source.module.len()).map(|length| &source.module[..length]);
        !ancestors.any(|ancestor| test_modules.contains(ancestor))
    });
    assert!(!sources.is_empty(), "no sources in {}", root.display());
    sources
}

pub(crate) fn rust_files(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(folder) else {
        return Vec::new();
    };
    let mut files = Vec::new();
    for path in entries.map(|entry| entry.unwrap().path()) {
        if path.is_dir() {
            files.extend(rust_files(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    files.sort();
    files
}

fn module_of(file: &Path) -> Vec<String> {
    let mut module: Vec<_> = file
        .with_extension("")
        .iter()
        .map(|part| part.to_str().unwrap().to_owned())
        .collect();
    if module.last().is_some_and(|last| last == "mod") {
        module.pop();
    }
    module
}

/// Identifiers and single punctuation characters of `text`; comments are nothing, literals are `""`.
pub(crate) fn tokens(text: &str) -> Vec<String> {
    let mut tokens = Vec::new();
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let length = if rest.starts_with("//") {
            rest.find('\n').unwrap_or(rest.len())
        } else if rest.starts_with("/*") {
            block_comment_length(rest)
        } else if let Some(length) = literal_length(rest) {
            tokens.push("\"\"".to_owned());
            length
        } else if is_word(first) {
            let length = rest.find(|c| !is_word(c)).unwrap_or(rest.len());
            tokens.push(rest[..length].to_owned());
            length
        } else {
            if !first.is_whitespace() {
                tokens.push(first.to_string());
            }
            first.len_utf8()
        };
        rest = &rest[length..];
    }
    tokens
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

fn block_comment_length(text: &str) -> usize {
    let mut depth = 0;
    let mut at = 0;
    while at < text.len() {
        match &text.as_bytes()[at..] {
            [b'/', b'*', ..] => (depth, at) = (depth + 1, at + 2),
            [b'*', b'/', ..] => (depth, at) = (depth - 1, at + 2),
            [..] => at += 1,
        }
        if depth == 0 {
            return at;
        }
    }
    text.len()
}

/// The length of the string or character that `text` begins with; `None` when it begins with
/// neither (a lifetime is neither).
fn literal_length(text: &str) -> Option<usize> {
    let prefix = text.find(|c| !matches!(c, 'b' | 'c' | 'r')).unwrap_or(0);
    let raw = text[..prefix].contains('r');
    let hashes = text[prefix..]
        .bytes()
        .take_while(|byte| *byte == b'#')
        .count();
    let body = prefix + hashes;
    match text[body..].chars().next()? {
        '"' if raw => {
            let end = format!("\"{}", "#".repeat(hashes));
            let length = text[body + 1..].find(&end).unwrap_or(text.len() - body - 1);
            Some((body + 1 + length + end.len()).min(text.len()))
        }
        '"' if hashes == 0 => Some(body + quoted_length(&text[body..], '"')),
        '\'' if hashes == 0 && !raw => {
            let mut inside = text[body + 1..].chars();
            let is_character = inside.next()? == '\\' || inside.next()? == '\'';
            is_character.then(|| body + quoted_length(&text[body..], '\''))
        }
        _ => None,
    }
}

fn quoted_length(text: &str, quote: char) -> usize {
    let mut escaped = false;
    for (at, c) in text.char_indices().skip(1) {
        if !escaped && c == quote {
            return at + 1;
        }
        escaped = c == '\\' && !escaped;
    }
    text.len()
}

/// `tokens` without the items under `#[cfg(test)]` or `#[cfg(all(test, …))]`, and the names of
/// modules of that kind that live in files of their own.
fn without_tests(tokens: &[String]) -> (Vec<String>, Vec<String>) {
    let (mut kept, mut modules) = (Vec::new(), Vec::new());
    let mut rest = tokens;
    while let Some(first) = rest.first() {
        let attribute = attribute_length(rest);
        if attribute > 0 && is_for_tests(&rest[..attribute]) {
            let item = &rest[attribute..];
            let length = item_length(item);
            if let Some(at) = item[..length]
                .windows(3)
                .position(|w| w[0] == "mod" && w[2] == ";")
            {
                modules.push(item[at + 1].clone());
            }
            rest = &item[length..];
        } else {
            kept.push(first.clone());
            rest = &rest[1..];
        }
    }
    (kept, modules)
}

/// Tokens of the `#[…]` that `tokens` begins with; 0 when it begins with something else.
fn attribute_length(tokens: &[String]) -> usize {
    match tokens {
        [hash, bracket, ..] if hash == "#" && bracket == "[" => 1 + group_length(&tokens[1..]),
        [..] => 0,
    }
}

fn is_for_tests(attribute: &[String]) -> bool {
    let has = |word: &str| attribute.iter().any(|token| token == word);
    attribute.get(2).is_some_and(|name| name == "cfg") && has("test") && !has("not") && !has("any")
}

/// Tokens until the end of the item: its block or its semicolon, whichever comes first.
fn item_length(tokens: &[String]) -> usize {
    let mut at = 0;
    while let Some(token) = tokens.get(at) {
        match token.as_str() {
            ";" => return at + 1,
            "{" => return at + group_length(&tokens[at..]),
            "(" | "[" => at += group_length(&tokens[at..]),
            _ => at += 1,
        }
    }
    at
}

/// Tokens of the bracketed group that `tokens` begins with.
fn group_length(tokens: &[String]) -> usize {
    let mut depth = 0;
    for (at, token) in tokens.iter().enumerate() {
        match token.as_str() {
            "(" | "[" | "{" => depth += 1,
            ")" | "]" | "}" => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return at + 1;
        }
    }
    tokens.len()
}

pub(crate) fn mentions(tokens: &[String], mention: &[&str]) -> bool {
    tokens
        .windows(mention.len())
        .any(|window| window == mention)
}

/// Every path from the crate's root that `tokens` of `module` name, by `crate::` or `super::`, with
/// `{…}` taken apart. A `super` inside an inline module is taken for one of the file's module, that
/// is, for something higher than it means.
pub(crate) fn imports(tokens: &[String], module: &[String]) -> Vec<Vec<String>> {
    let mut found = Vec::new();
    for at in 0..tokens.len() {
        let continues_a_path = at > 0 && tokens[at - 1] == ":";
        match tokens[at].as_str() {
            "crate" => walk(&tokens[at + 1..], Vec::new(), &mut found),
            "super" if !continues_a_path => {
                let mut supers = 1;
                while mentions_at(tokens, at + 3 * supers - 2, &[":", ":", "super"]) {
                    supers += 1;
                }
                let base = module[..module.len().saturating_sub(supers)].to_vec();
                walk(&tokens[at + 3 * supers - 2..], base, &mut found);
            }
            _ => {}
        }
    }
    found
}

fn mentions_at(tokens: &[String], at: usize, mention: &[&str]) -> bool {
    tokens
        .get(at..at + mention.len())
        .is_some_and(|window| window == mention)
}

/// Follows `::a::b` or `::{…}` from `path` and notes where every branch ends.
fn walk(tokens: &[String], path: Vec<String>, found: &mut Vec<Vec<String>>) {
    if !mentions_at(tokens, 0, &[":", ":"]) || tokens.len() < 3 {
        found.push(path);
    } else if tokens[2] == "{" {
        let group = &tokens[3..2 + group_length(&tokens[2..])];
        let mut depth = 0;
        let starts = group.split(|token| {
            match token.as_str() {
                "{" => depth += 1,
                "}" => depth -= 1,
                _ => {}
            }
            depth == 0 && token == ","
        });
        for branch in starts.filter(|branch| !branch.is_empty()) {
            let rooted = [&[":".to_owned(), ":".to_owned()], branch].concat();
            walk(&rooted, path.clone(), found);
        }
    } else {
        walk(
            &tokens[3..],
            [path, vec![tokens[2].clone()]].concat(),
            found,
        );
    }
}

mod tests {
    use super::*;

    fn imports_of(text: &str, module: &[&str]) -> Vec<String> {
        let module: Vec<_> = module.iter().map(|&part| part.to_owned()).collect();
        let (tokens, _) = without_tests(&tokens(text));
        imports(&tokens, &module)
            .iter()
            .map(|path| path.join("::"))
            .collect()
    }

    #[test]
    fn takes_groups_apart_and_resolves_super() {
        let text = "use crate::{sip::{framing, digest::Nonce as N}, net};\n\
                    fn f() { super::super::tunnel::g(super::tls::h()); crate::units::k!() }";
        let found = imports_of(text, &["transport", "tcp"]);
        let expected = [
            "sip::framing",
            "sip::digest::Nonce",
            "net",
            "tunnel::g",
            "transport::tls::h",
            "units::k",
        ];
        assert_eq!(found, expected);
    }

    #[test]
    fn skips_comments_literals_and_tests() {
        let text = r##"
            //! [`crate::load`]
            /* crate::load /* crate::load */ crate::load */
            const A: &str = "crate::load \" crate::load";
            const B: (&str, char, &[u8]) = (r#"crate::load " "#, '"', b"crate::load");
            fn f<'a>(a: &'a str, c: char) -> bool { c == '\'' && crate::units::g(a) }
            #[cfg(test)]
            fn g(bytes: [u8; 4]) { crate::load::h() }
            #[cfg(all(test, unix))]
            #[allow(unused)]
            mod tests { use crate::load; mod inner { use crate::node; } }
            #[cfg(not(test))]
            use crate::node;
        "##;
        assert_eq!(imports_of(text, &["net"]), ["units::g", "node"]);
    }

    #[test]
    fn knows_test_modules_in_files_of_their_own() {
        let (kept, modules) = without_tests(&tokens("#[cfg(test)] mod tests; mod other;"));
        assert_eq!(kept.concat(), "modother;");
        assert_eq!(modules, ["tests"]);
    }
}
