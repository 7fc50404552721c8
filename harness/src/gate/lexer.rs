//! From the text of a gate to words, numbers and signs, each with its place. Beneath the parser.

use std::ops::Range;

use super::error::{GateError, Problem};

/// What a text consists of.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Token {
    /// A name, or `key=value`, whose value may be in quotes.
    Word(String),
    /// A number with what stands directly behind it: `20KiB` is 20 and `KiB`.
    Number(f64),
    /// One of the signs below.
    Sign(&'static str),
}

/// A token and where it stands, in bytes.
pub(super) type Placed = (Token, Range<usize>);

/// The longer ones first.
const SIGNS: [&str; 12] = [
    "<=", ">=", "/s", "<", ">", "+", "-", "*", "/", "(", ")", ".",
];

/// All tokens of `text`.
pub(super) fn tokens(text: &str) -> Result<Vec<Placed>, GateError> {
    let mut tokens: Vec<Placed> = Vec::new();
    let mut at = 0;
    while let Some(first) = text[at..].chars().next() {
        let rest = &text[at..];
        if first.is_whitespace() {
            at += first.len_utf8();
            continue;
        }
        let (token, length) = if first.is_ascii_digit() {
            number(text, at)?
        } else if begins_word(first) {
            word(text, at)?
        } else if let Some(sign) = sign(rest) {
            (Token::Sign(sign), sign.len())
        } else {
            let place = at..at + first.len_utf8();
            return Err(GateError::new(text, place, Problem::Character(first)));
        };
        tokens.push((token, at..at + length));
        at += length;
    }
    Ok(tokens)
}

/// `/s` is a unit only where no name goes on: `a /server` divides.
fn sign(rest: &str) -> Option<&'static str> {
    let is_unit = |sign: &str| {
        let behind = rest[sign.len()..].chars().next();
        sign != "/s" || !behind.is_some_and(goes_on)
    };
    SIGNS
        .into_iter()
        .find(|sign| rest.starts_with(sign) && is_unit(sign))
}

fn number(text: &str, at: usize) -> Result<(Token, usize), GateError> {
    let rest = &text[at..];
    let is_part = |c: char| c.is_ascii_digit() || c == '.' || c == '_';
    let length = rest.find(|c| !is_part(c)).unwrap_or(rest.len());
    let digits = rest[..length].replace('_', "");
    let value = digits.parse().ok().filter(|value: &f64| value.is_finite());
    let value = value.ok_or_else(|| {
        let found = rest[..length].to_owned();
        GateError::new(text, at..at + length, Problem::Number(found))
    })?;
    Ok((Token::Number(value), length))
}

fn begins_word(c: char) -> bool {
    c.is_alphabetic() || c == '%' || c == 'µ'
}

fn goes_on(c: char) -> bool {
    c.is_alphanumeric() || matches!(c, '_' | '-' | '@' | '=')
}

/// A `-` within a word is a part of it: `per-call`. To subtract, put spaces around it.
fn word(text: &str, at: usize) -> Result<(Token, usize), GateError> {
    let rest = &text[at..];
    let first = rest.chars().next().map_or(0, char::len_utf8);
    let length = rest[first..]
        .find(|c| !goes_on(c))
        .map_or(rest.len(), |end| first + end);
    let name = &rest[..length];
    let Some(quoted) = rest[length..]
        .strip_prefix('"')
        .filter(|_| name.ends_with('='))
    else {
        return Ok((Token::Word(name.to_owned()), length));
    };
    let end = quoted
        .find('"')
        .ok_or_else(|| GateError::new(text, at + length..text.len(), Problem::Unclosed))?;
    let word = format!("{name}{}", &quoted[..end]);
    Ok((Token::Word(word), length + end + 2))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn of(text: &str) -> Vec<Token> {
        let placed = tokens(text).unwrap();
        placed.into_iter().map(|(token, _)| token).collect()
    }

    #[test]
    fn words_numbers_and_signs() {
        let word = |word: &str| Token::Word(word.to_owned());
        let expected = [
            word("tls@wireguard"),
            Token::Sign("."),
            word("per-call"),
            Token::Sign("."),
            word("tls_version=1.2"),
            Token::Sign("<="),
            Token::Number(20.5),
            word("KiB"),
            Token::Sign("-"),
            Token::Number(1000.0),
            Token::Sign("/s"),
        ];
        let text = "tls@wireguard.per-call.tls_version=\"1.2\"<= 20.5KiB - 1_000/s";
        assert_eq!(of(text), expected);
        assert_eq!(of("a /sip"), [word("a"), Token::Sign("/"), word("sip")]);
        assert_eq!(
            of("5 % 3µs"),
            [
                Token::Number(5.0),
                word("%"),
                Token::Number(3.0),
                word("µs")
            ]
        );
    }

    #[test]
    fn what_is_no_token_is_pointed_at() {
        for (text, place) in [("a < 3 ° b", 6), ("1.2.3 < a", 0), ("k=\"x < 3", 2)] {
            assert_eq!(tokens(text).unwrap_err().place().start, place, "{text}");
        }
    }
}
