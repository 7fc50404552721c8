//! A timer wheel: deadlines of everything that a worker, or a server, waits for. It reads no clock: instants
//! are compared with those that callers bring.
//!
//! Six levels of 64 slots each, the slots of a level 64 times as long as those of the one below: from about a
//! millisecond to 407 days. A deadline lies in the lowest level whose present turn reaches it, and comes down a level
//! whenever time reaches its slot, so that to insert it takes the same time however many wait. Wheels tell time
//! by their slots; this one tells it to the nanosecond: what is of the present slot lies in a heap, which is small, and
//! each slot knows its earliest deadline.

use std::cmp::Ordering;
use std::collections::BinaryHeap;
use std::time::{Duration, Instant};

use slab::Slab;

/// A slot of the lowest level lasts 2^20 ns, a little more than a millisecond.
const TICK_SHIFT: u32 = 20;
/// A level has 2^6 slots: as many as a word has bits.
const SLOT_SHIFT: u32 = 6;
const SLOTS: usize = 1 << SLOT_SHIFT;
const LEVELS: usize = 6;
/// What lies beyond, 2.3 years after the start, waits in the last slot and then in the heap.
const LAST_TICK: u64 = (1 << (SLOT_SHIFT * LEVELS as u32)) - 1;
/// Room for so many is kept even if none waits.
const LEAST_ENTRIES: usize = 64;
/// No entry.
const NONE: u32 = u32::MAX;

/// Deadlines and what they belong to, earliest first; equal deadlines in order of insertion.
///
/// There is no removal. The owner keeps at most one entry per key at a time: when an entry comes up it
/// asks the key's owner for its present deadline, and inserts again if that lies ahead. Keys of
/// things that come and go carry a generation, so that an entry that outlived its thing is told
/// from one of its successor. So the wheel holds one entry per thing, however often deadlines move.
#[derive(Debug)]
pub struct TimerWheel<K> {
    start: Instant,
    /// How far time has come. What is of this tick and of earlier ones is in `present`, the rest in `levels`.
    tick: u64,
    present: BinaryHeap<Due<K>>,
    levels: Box<[Level; LEVELS]>,
    /// The entries of all slots.
    waiting: Slab<Waiting<K>>,
    /// How many have been in `present`.
    serial: u64,
}

#[derive(Clone, Copy, Debug)]
struct Level {
    /// One bit a slot: whether anything is in it. All of them lie ahead of the present one.
    occupied: u64,
    slots: [Slot; SLOTS],
}

/// A list of entries in order of insertion.
#[derive(Clone, Copy, Debug)]
struct Slot {
    first: u32,
    last: u32,
    earliest_ns: u64,
}

#[derive(Debug)]
struct Waiting<K> {
    at_ns: u64,
    next: u32,
    key: K,
}

impl<K> TimerWheel<K> {
    /// An empty wheel. `start` is not after any deadline or `now` to come; what is counts as at `start`.
    #[must_use]
    pub fn new(start: Instant) -> Self {
        const EMPTY: Level = Level {
            occupied: 0,
            slots: [Slot::EMPTY; SLOTS],
        };
        Self {
            start,
            tick: 0,
            present: BinaryHeap::new(),
            levels: Box::new([EMPTY; LEVELS]),
            waiting: Slab::new(),
            serial: 0,
        }
    }

    /// Adds a deadline.
    pub fn insert(&mut self, at: Instant, key: K) {
        let at_ns = self.ns(at);
        if tick_of(at_ns) <= self.tick {
            self.bring(at_ns, key);
        } else {
            let next = NONE;
            let index = self.waiting.insert(Waiting { at_ns, next, key });
            self.append(u32::try_from(index).expect("fewer than 2^32 timers"), at_ns);
        }
    }

    /// The earliest deadline.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Instant> {
        let earliest_ns = match self.present.peek() {
            Some(due) => due.at_ns,
            None => {
                let (level, slot) = self.first_slot()?;
                self.levels[level].slots[slot].earliest_ns
            }
        };
        Some(self.start + Duration::from_nanos(earliest_ns))
    }

    /// Takes the earliest entry if its deadline has come.
    pub fn pop_due(&mut self, now: Instant) -> Option<K> {
        let now_ns = self.ns(now);
        self.turn_to(tick_of(now_ns));
        let due = self.present.peek_mut()?;
        if due.at_ns > now_ns {
            return None;
        }
        let key = std::collections::binary_heap::PeekMut::pop(due).key;
        self.give_back();
        Some(key)
    }

    /// How many entries wait.
    #[must_use]
    pub fn len(&self) -> usize {
        self.present.len() + self.waiting.len()
    }

    /// Whether nothing waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn ns(&self, at: Instant) -> u64 {
        let since = at.saturating_duration_since(self.start);
        u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
    }

    /// Turns the wheel until something is in `present`, but not beyond `now`.
    fn turn_to(&mut self, now: u64) {
        while self.present.is_empty() && self.tick < now {
            let next = self.first_slot();
            let begin = next.map(|(level, slot)| self.begin_of(level, slot));
            match next.zip(begin) {
                Some(((level, slot), begin)) if begin <= now => {
                    self.tick = begin;
                    self.empty_slot(level, slot);
                }
                _ => self.tick = now,
            }
        }
    }

    /// The slot that the earliest deadline is in: what is in a level lies before all that is in those above.
    fn first_slot(&self) -> Option<(usize, usize)> {
        let mut levels = self.levels.iter().enumerate();
        let (level, occupied) = levels.find_map(|(index, level)| {
            let is_occupied = level.occupied != 0;
            is_occupied.then_some((index, level.occupied))
        })?;
        Some((level, occupied.trailing_zeros() as usize))
    }

    /// The first tick of a slot that lies ahead.
    fn begin_of(&self, level: usize, slot: usize) -> u64 {
        let shift = SLOT_SHIFT * level as u32;
        let turn = self.tick >> (shift + SLOT_SHIFT) << (shift + SLOT_SHIFT);
        turn | (slot as u64) << shift
    }

    /// Brings the entries of a slot, whose time has come, to where they belong now.
    fn empty_slot(&mut self, level: usize, slot: usize) {
        let level = &mut self.levels[level];
        level.occupied &= !(1 << slot);
        let mut next = std::mem::replace(&mut level.slots[slot], Slot::EMPTY).first;
        while next != NONE {
            let index = next;
            let entry = &mut self.waiting[index as usize];
            next = std::mem::replace(&mut entry.next, NONE);
            let at_ns = entry.at_ns;
            if tick_of(at_ns) <= self.tick {
                let key = self.waiting.remove(index as usize).key;
                self.bring(at_ns, key);
            } else {
                self.append(index, at_ns);
            }
        }
    }

    fn bring(&mut self, at_ns: u64, key: K) {
        let serial = self.serial;
        self.serial += 1;
        self.present.push(Due { at_ns, serial, key });
    }

    /// Puts an entry, which lies ahead, at the end of its slot.
    fn append(&mut self, index: u32, at_ns: u64) {
        let tick = tick_of(at_ns);
        let level = (tick ^ self.tick).ilog2() / SLOT_SHIFT;
        let slot = (tick >> (SLOT_SHIFT * level)) as usize % SLOTS;
        let level = &mut self.levels[level as usize];
        level.occupied |= 1 << slot;
        let slot = &mut level.slots[slot];
        slot.earliest_ns = slot.earliest_ns.min(at_ns);
        let last = std::mem::replace(&mut slot.last, index);
        if last == NONE {
            slot.first = index;
        } else {
            self.waiting[last as usize].next = index;
        }
    }

    /// What a crowd has left behind goes back; under a steady load this hardly ever happens.
    fn give_back(&mut self) {
        let wanted = self.present.len().max(LEAST_ENTRIES);
        if self.present.capacity() / 8 > wanted {
            self.present.shrink_to(2 * wanted);
        }
        let wanted = self.waiting.len().max(LEAST_ENTRIES);
        if self.waiting.capacity() / 8 > wanted {
            self.resettle(2 * wanted);
        }
        if self.is_empty() {
            // Nothing waits: an empty wheel keeps the same room, whoever was there.
            self.present.shrink_to(LEAST_ENTRIES);
            if self.waiting.capacity() > LEAST_ENTRIES {
                self.waiting = Slab::with_capacity(LEAST_ENTRIES);
            }
        }
    }

    /// Moves the entries of all slots to a place with room for so many.
    fn resettle(&mut self, room: usize) {
        let mut left = std::mem::replace(&mut self.waiting, Slab::with_capacity(room));
        for level in 0..LEVELS {
            for slot in 0..SLOTS {
                let mut next =
                    std::mem::replace(&mut self.levels[level].slots[slot], Slot::EMPTY).first;
                while next != NONE {
                    let entry = left.remove(next as usize);
                    next = entry.next;
                    let at_ns = entry.at_ns;
                    let index = self.waiting.insert(Waiting {
                        next: NONE,
                        ..entry
                    });
                    self.append(index as u32, at_ns);
                }
            }
        }
    }
}

impl Slot {
    const EMPTY: Self = Self {
        first: NONE,
        last: NONE,
        earliest_ns: u64::MAX,
    };
}

fn tick_of(at_ns: u64) -> u64 {
    (at_ns >> TICK_SHIFT).min(LAST_TICK)
}

/// Ordered so that the greatest is the earliest: the heap has its maximum on top.
#[derive(Debug)]
struct Due<K> {
    at_ns: u64,
    serial: u64,
    key: K,
}

impl<K> Ord for Due<K> {
    fn cmp(&self, other: &Self) -> Ordering {
        (other.at_ns, other.serial).cmp(&(self.at_ns, self.serial))
    }
}

impl<K> PartialOrd for Due<K> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<K> PartialEq for Due<K> {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl<K> Eq for Due<K> {}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_crowd_leaves_little_room_behind() {
        let start = Instant::now();
        for spread_ns in [0, 1_000_000] {
            let mut wheel = TimerWheel::new(start);
            for key in 0..10_000 {
                wheel.insert(start + Duration::from_nanos(key * spread_ns), key);
            }
            let end = start + Duration::from_secs(10);
            let mut due = std::iter::from_fn(|| wheel.pop_due(end));
            assert!((0..9_990).eq(due.by_ref().take(9_990)));
            assert!((9_990..10_000).eq(due));
            assert!(wheel.present.capacity() <= 64, "{wheel:?}");
            assert!(wheel.waiting.capacity() <= 64, "{wheel:?}");
        }
    }

    #[test]
    fn pops_by_deadline_then_by_insertion() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut wheel = TimerWheel::new(start);
        for (seconds, key) in [(3, 'c'), (1, 'a'), (3, 'd'), (2, 'b')] {
            wheel.insert(at(seconds), key);
        }
        assert_eq!(wheel.next_deadline(), Some(at(1)));
        assert_eq!(wheel.pop_due(start), None);
        let due: String = std::iter::from_fn(|| wheel.pop_due(at(3))).collect();
        assert_eq!(due, "abcd");
        assert!(wheel.is_empty() && wheel.next_deadline().is_none());
    }

    #[test]
    fn nothing_is_due_a_nanosecond_early() {
        let start = Instant::now();
        let mut wheel = TimerWheel::new(start);
        for seconds in [0.000_1, 0.5, 32.0, 3_600.0, 3.2e7, 3e8] {
            let at = start + Duration::from_secs_f64(seconds);
            wheel.insert(at, seconds);
            assert_eq!(wheel.next_deadline(), Some(at));
            assert_eq!(wheel.pop_due(at - Duration::from_nanos(1)), None);
            assert_eq!(wheel.pop_due(at), Some(seconds));
        }
    }

    #[test]
    fn what_is_before_the_start_counts_as_at_the_start() {
        let early = Instant::now();
        let start = early + Duration::from_secs(1);
        let mut wheel = TimerWheel::new(start);
        wheel.insert(early, 'a');
        assert_eq!(wheel.next_deadline(), Some(start));
        assert_eq!(wheel.pop_due(start), Some('a'));
    }

    /// What is done with a wheel.
    #[derive(Clone, Debug)]
    enum Step {
        Insert { ahead_ns: u64 },
        Pass { ns: u64 },
    }

    /// Of every order of magnitude, to more than the wheel reaches.
    fn duration_ns() -> impl Strategy<Value = u64> {
        (0..58_u32, any::<u64>()).prop_map(|(bits, any)| any & ((1 << bits) - 1))
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            3 => duration_ns().prop_map(|ahead_ns| Step::Insert { ahead_ns }),
            1 => duration_ns().prop_map(|ns| Step::Pass { ns }),
            1 => Just(Step::Pass { ns: 500_000 }),
        ]
    }

    proptest! {
        #[test]
        fn is_a_sorted_map_of_deadlines(steps in proptest::collection::vec(step(), 1..300)) {
            let start = Instant::now();
            let mut now = start;
            let mut wheel = TimerWheel::new(start);
            let mut map = BTreeMap::new();
            for (key, step) in steps.into_iter().enumerate() {
                match step {
                    Step::Insert { ahead_ns } => {
                        let at = now + Duration::from_nanos(ahead_ns);
                        wheel.insert(at, key);
                        map.insert((at, key), key);
                    }
                    Step::Pass { ns } => {
                        now += Duration::from_nanos(ns);
                        while map.first_key_value().is_some_and(|((at, _), _)| *at <= now) {
                            prop_assert_eq!(wheel.pop_due(now), map.pop_first().map(|(_, key)| key));
                        }
                        prop_assert_eq!(wheel.pop_due(now), None);
                    }
                }
                let earliest = map.first_key_value().map(|((at, _), _)| *at);
                prop_assert_eq!(wheel.next_deadline(), earliest);
                prop_assert_eq!(wheel.len(), map.len());
            }
        }
    }
}
