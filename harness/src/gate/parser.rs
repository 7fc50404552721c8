//! From tokens to the tree of a gate, by recursive descent; the grammar is that of the module above.

use std::ops::Range;

use super::error::{GateError, Problem};
use super::figure::{Figure, Side};
use super::lexer::{Placed, Token, tokens};
use super::unit::{self, Dimension};

/// A gate as a tree.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Tree {
    /// Whether it is about every cell that the first figure names.
    pub(super) is_each: bool,
    /// The first figure, which others follow in what they do not name.
    pub(super) first: Figure,
    pub(super) left: Expression,
    pub(super) relation: Relation,
    pub(super) right: Expression,
    /// What both sides measure.
    pub(super) dimension: Dimension,
}

/// One side.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Expression {
    Quantity(f64),
    /// The first figure of the gate.
    First,
    /// The same of BASE.
    FirstOfBase,
    Figure(Figure),
    Pair(Box<Expression>, Operator, Box<Expression>),
}

/// How the left side has to stand to the right one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Relation {
    Below,
    AtMost,
    Above,
    AtLeast,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Operator {
    Plus,
    Minus,
    Times,
    Over,
}

/// Reads `text`.
pub(super) fn parse(text: &str) -> Result<Tree, GateError> {
    let mut parser = Parser {
        text,
        tokens: tokens(text)?,
        at: 0,
        first: None,
    };
    let is_each = parser.takes_word("each");
    let start = parser.place();
    let (left, measured) = parser.sum()?;
    let sign = parser.place();
    let relation = parser.relation()?;
    let (right, against) = parser.sum()?;
    if parser.at < parser.tokens.len() {
        return Err(parser.unexpected("the end of the gate, or one of + - * /"));
    }
    if measured != against {
        return Err(parser.mismatch(sign, measured, "compared with", against));
    }
    let no_figure = if is_each {
        Problem::EachWithoutFigure
    } else {
        Problem::Unexpected {
            expected: "a figure such as tls.setup_latency_ns",
            found: "numbers only".to_owned(),
        }
    };
    let first = parser.first.take();
    Ok(Tree {
        is_each,
        first: first.ok_or_else(|| GateError::new(text, start, no_figure))?,
        left,
        relation,
        right,
        dimension: measured,
    })
}

struct Parser<'t> {
    text: &'t str,
    tokens: Vec<Placed>,
    at: usize,
    first: Option<Figure>,
}

type Measured = (Expression, Dimension);

impl Parser<'_> {
    fn sum(&mut self) -> Result<Measured, GateError> {
        let (mut left, dimension) = self.product()?;
        loop {
            let place = self.place();
            let (operator, verb) = match self.takes_sign(&["+", "-"]) {
                Some("+") => (Operator::Plus, "added to"),
                Some(_) => (Operator::Minus, "reduced by"),
                None => return Ok((left, dimension)),
            };
            let (right, other) = self.product()?;
            if dimension != other {
                return Err(self.mismatch(place, dimension, verb, other));
            }
            left = Expression::Pair(Box::new(left), operator, Box::new(right));
        }
    }

    fn product(&mut self) -> Result<Measured, GateError> {
        let (mut left, mut dimension) = self.factor()?;
        loop {
            let (operator, sign) = match self.takes_sign(&["*", "/"]) {
                Some("*") => (Operator::Times, 1),
                Some(_) => (Operator::Over, -1),
                None => return Ok((left, dimension)),
            };
            let (right, other) = self.factor()?;
            dimension = dimension.times(other, sign);
            left = Expression::Pair(Box::new(left), operator, Box::new(right));
        }
    }

    fn factor(&mut self) -> Result<Measured, GateError> {
        const EXPECTED: &str =
            "a figure such as tls.setup_latency_ns.p99, a quantity such as 20 KiB, or `(`";
        match self.tokens.get(self.at).cloned() {
            Some((Token::Number(number), _)) => {
                self.at += 1;
                let (size, dimension) = self.unit()?;
                Ok((Expression::Quantity(number * size), dimension))
            }
            Some((Token::Word(_), _)) => self.figure(),
            Some((Token::Sign("("), _)) => {
                self.at += 1;
                let inner = self.sum()?;
                match self.takes_sign(&[")"]) {
                    Some(_) => Ok(inner),
                    None => Err(self.unexpected("`)`")),
                }
            }
            _ => Err(self.unexpected(EXPECTED)),
        }
    }

    /// The unit behind a number, if there is one.
    fn unit(&mut self) -> Result<(f64, Dimension), GateError> {
        let (name, place) = match self.tokens.get(self.at) {
            Some((Token::Word(name), place)) => (name.clone(), place.clone()),
            Some((Token::Sign("/s"), place)) => ("/s".to_owned(), place.clone()),
            _ => return Ok((1.0, Dimension::PLAIN)),
        };
        self.at += 1;
        unit::unit(&name)
            .ok_or_else(|| GateError::new(self.text, place, Problem::UnknownUnit { found: name }))
    }

    fn figure(&mut self) -> Result<Measured, GateError> {
        let mut path = Vec::new();
        loop {
            match self.tokens.get(self.at) {
                Some((Token::Word(word), place)) => path.push((word.clone(), place.clone())),
                _ => return Err(self.unexpected("a name behind the dot")),
            }
            self.at += 1;
            if self.takes_sign(&["."]).is_none() {
                break;
            }
        }
        if let [(word, place)] = path.as_slice()
            && word == "base"
        {
            let first = self.first.as_ref().filter(|first| first.side == Side::Head);
            let first = first
                .ok_or_else(|| GateError::new(self.text, place.clone(), Problem::NothingBefore))?;
            return Ok((Expression::FirstOfBase, Dimension::of(first.metric.unit)));
        }
        let figure = Figure::of(self.text, path)?;
        let dimension = Dimension::of(figure.metric.unit);
        if self.first.is_none() {
            self.first = Some(figure);
            return Ok((Expression::First, dimension));
        }
        Ok((Expression::Figure(figure), dimension))
    }

    fn relation(&mut self) -> Result<Relation, GateError> {
        match self.takes_sign(&["<=", ">=", "<", ">"]) {
            Some("<") => Ok(Relation::Below),
            Some("<=") => Ok(Relation::AtMost),
            Some(">") => Ok(Relation::Above),
            Some(_) => Ok(Relation::AtLeast),
            None => Err(self.unexpected("`<`, `<=`, `>` or `>=`")),
        }
    }

    fn takes_word(&mut self, word: &str) -> bool {
        let is_there =
            matches!(self.tokens.get(self.at), Some((Token::Word(found), _)) if found == word);
        self.at += usize::from(is_there);
        is_there
    }

    fn takes_sign(&mut self, signs: &[&'static str]) -> Option<&'static str> {
        match self.tokens.get(self.at) {
            Some((Token::Sign(sign), _)) if signs.contains(sign) => {
                self.at += 1;
                Some(sign)
            }
            _ => None,
        }
    }

    fn place(&self) -> Range<usize> {
        let end = self.text.len();
        let token = self.tokens.get(self.at);
        token.map_or(end..end, |(_, place)| place.clone())
    }

    fn unexpected(&self, expected: &'static str) -> GateError {
        let place = self.place();
        let found = match &self.text[place.clone()] {
            "" => "the end of the gate".to_owned(),
            found => format!("`{found}`"),
        };
        GateError::new(self.text, place, Problem::Unexpected { expected, found })
    }

    fn mismatch(
        &self,
        place: Range<usize>,
        left: Dimension,
        verb: &'static str,
        right: Dimension,
    ) -> GateError {
        GateError::new(self.text, place, Problem::Dimensions { left, verb, right })
    }
}
