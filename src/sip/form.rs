//! A request that one user agent writes again and again: copied from an earlier one, with what differs filled in.
//!
//! Where that is, is not declared, but found: what is filled in occurs once in the request, and has the same
//! length in the next. A request of which that is not true is written piece by piece each time.

use std::ops::Range;

use memchr::memmem;

/// Places that differ.
pub(super) const BLANKS: usize = 4;

/// What is filled in, by place.
pub(super) type Blanks<'a> = [&'a [u8]; BLANKS];

/// What else the text depends on, beside its writer.
#[derive(Clone, Copy, Debug)]
pub(super) struct Addressed<'a> {
    /// Who is called, if not whom the accounts say.
    pub(super) callee: &'a str,
    /// The Request-URI within a dialog.
    pub(super) target: &'a str,
    /// The route set.
    pub(super) routes: &'a str,
}

/// One kind of request. `O` is who writes.
#[derive(Debug)]
pub(super) struct Form<O> {
    owner: Option<O>,
    callee: String,
    target: String,
    routes: String,
    state: State,
    text: Vec<u8>,
    places: [Range<usize>; BLANKS],
}

/// What is known of the latest occasion.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    /// It was there once: perhaps it does not come again, and whoever takes turns with others never has a form.
    #[default]
    Seen,
    /// The form is its.
    Kept,
    /// Its request cannot be one.
    Hopeless,
}

impl<O> Default for Form<O> {
    fn default() -> Self {
        Self {
            owner: None,
            callee: String::new(),
            target: String::new(),
            routes: String::new(),
            state: State::default(),
            text: Vec::new(),
            places: Default::default(),
        }
    }
}

impl<O: Copy + PartialEq> Form<O> {
    /// Appends the request to `out`, if there is a form for it.
    pub(super) fn fill(
        &self,
        owner: O,
        addressed: Addressed<'_>,
        blanks: Blanks<'_>,
        out: &mut Vec<u8>,
    ) -> bool {
        let fits = |(place, blank): (&Range<usize>, &[u8])| place.len() == blank.len();
        if self.state != State::Kept
            || !self.is_for(owner, addressed)
            || !self.places.iter().zip(blanks).all(fits)
        {
            return false;
        }
        let start = out.len();
        out.extend_from_slice(&self.text);
        let request = &mut out[start..];
        for (place, blank) in self.places.iter().zip(blanks) {
            request[place.clone()].copy_from_slice(blank);
        }
        true
    }

    /// `request` was written piece by piece: its second one on the same occasion makes the form.
    pub(super) fn learn(
        &mut self,
        owner: O,
        addressed: Addressed<'_>,
        blanks: Blanks<'_>,
        request: &[u8],
    ) {
        if !self.is_for(owner, addressed) {
            self.owner = Some(owner);
            for (kept, now) in [
                (&mut self.callee, addressed.callee),
                (&mut self.target, addressed.target),
                (&mut self.routes, addressed.routes),
            ] {
                kept.clear();
                kept.push_str(now);
            }
            self.state = State::Seen;
            return;
        }
        if self.state == State::Hopeless {
            return;
        }
        self.state = State::Hopeless;
        for (place, blank) in self.places.iter_mut().zip(blanks) {
            let Some(found) = only_place(request, blank) else {
                return;
            };
            *place = found;
        }
        self.text.clear();
        self.text.extend_from_slice(request);
        self.state = State::Kept;
    }

    fn is_for(&self, owner: O, addressed: Addressed<'_>) -> bool {
        self.owner == Some(owner)
            && is_same(&self.target, addressed.target)
            && is_same(&self.callee, addressed.callee)
            && is_same(&self.routes, addressed.routes)
    }
}

/// Whether two texts are the same. Nothing is not compared with nothing: it lies at no address, and where `memcmp`
/// loads by AVX-512 the processor takes hundreds of cycles to find that it need not load from there.
fn is_same(kept: &str, now: &str) -> bool {
    kept.len() == now.len() && (now.is_empty() || kept == now)
}

/// Where `blank` is in `request`, if it is there once.
fn only_place(request: &[u8], blank: &[u8]) -> Option<Range<usize>> {
    if blank.is_empty() {
        return None;
    }
    let mut found = memmem::find_iter(request, blank);
    let at = found.next()?;
    found.next().is_none().then_some(at..at + blank.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addressed(target: &str) -> Addressed<'_> {
        Addressed {
            callee: "",
            target,
            routes: "",
        }
    }

    fn filled(
        form: &Form<u32>,
        owner: u32,
        target: &str,
        blanks: [&str; BLANKS],
    ) -> Option<String> {
        let mut out = b"before ".to_vec();
        let blanks = blanks.map(str::as_bytes);
        form.fill(owner, addressed(target), blanks, &mut out)
            .then(|| String::from_utf8_lossy(&out).into_owned())
    }

    fn learn(
        form: &mut Form<u32>,
        owner: u32,
        target: &str,
        blanks: [&str; BLANKS],
        request: &str,
    ) {
        let blanks = blanks.map(str::as_bytes);
        form.learn(owner, addressed(target), blanks, request.as_bytes());
    }

    #[test]
    fn the_second_request_of_an_occasion_is_copied_from_then_on() {
        let mut form = Form::default();
        let blanks = ["11", "22", "3", "4"];
        learn(&mut form, 7, "a", blanks, "a 11 b 22 c 3 d 4");
        assert_eq!(
            filled(&form, 7, "a", blanks),
            None,
            "it may have been the only one"
        );
        learn(&mut form, 7, "a", blanks, "a 11 b 22 c 3 d 4");
        let next = ["55", "11", "7", "8"];
        let expected = Some("before a 55 b 11 c 7 d 8".to_owned());
        assert_eq!(filled(&form, 7, "a", next), expected);
        for (owner, target, other) in [
            (8, "a", next),
            (7, "b", next),
            (7, "a", ["555", "11", "7", "8"]),
        ] {
            assert_eq!(filled(&form, owner, target, other), None);
        }
        learn(&mut form, 8, "a", blanks, "another's 11 22 3 4");
        assert_eq!(filled(&form, 7, "a", next), None);
        assert_eq!(filled(&form, 8, "a", next), None);
    }

    #[test]
    fn what_occurs_twice_or_not_at_all_makes_no_form() {
        let blanks = ["11", "22", "3", "4"];
        for request in ["11 22 3 4 and 3", "11 22 3", "11 22 3 444"] {
            let mut form = Form::default();
            learn(&mut form, 7, "a", blanks, request);
            learn(&mut form, 7, "a", blanks, request);
            assert_eq!(filled(&form, 7, "a", blanks), None, "{request}");
            learn(&mut form, 7, "a", blanks, "11 22 3 4");
            assert_eq!(filled(&form, 7, "a", blanks), None, "it is not tried again");
        }
        let mut form = Form::default();
        for _ in 0..2 {
            learn(&mut form, 7, "a", ["11", "22", "3", ""], "11 22 3 4");
        }
        assert_eq!(filled(&form, 7, "a", ["11", "22", "3", ""]), None);
    }
}
