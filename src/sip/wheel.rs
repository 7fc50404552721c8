//! A timer wheel: deadlines of everything that a worker, or a server, waits for. It reads no clock: instants
//! are compared with those that callers bring.
//!
//! Five levels of 256 slots each, the slots of a level 256 times as long as those of the one below: of a
//! millisecond, a quarter of a second, a minute, five hours, 52 days. How far ahead a deadline lies says its level; it comes down
//! whenever time reaches its slot. So to insert it takes the same time however many wait, and what comes down at once
//! is what is due within a slot: of transactions, a quarter of a second's. Wheels tell time by their slots; this
//! one tells it to the nanosecond: what is of the present slot lies in a heap, which is small, and each slot knows its
//! earliest deadline.

use std::cmp::Ordering;
use std::collections::BinaryHeap;
use std::time::{Duration, Instant};

use slab::Slab;

/// A slot of the lowest level lasts 2^20 ns, a little more than a millisecond: a tick.
const TICK_SHIFT: u32 = 20;
const SLOT_SHIFT: u32 = 8;
const SLOTS: usize = 1 << SLOT_SHIFT;
const LEVELS: usize = 5;
/// What lies farther ahead than the wheel reaches, 36 years, counts as that far ahead.
const FARTHEST: u64 = (1 << (SLOT_SHIFT * LEVELS as u32)) - 1;
/// Room for so many is kept even if none waits.
const LEAST_ENTRIES: usize = if cfg!(test) { 4 } else { 64 };
/// No tick, or no deadline.
const NEVER: u64 = u64::MAX;
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
    present: BinaryHeap<Entry<K>>,
    levels: Box<[Level; LEVELS]>,
    /// The entries of all slots.
    waiting: Slab<Waiting<K>>,
    /// The tick that the next slot begins at that something is in, or [`NEVER`]: asked far more often than it changes, as
    /// is the following.
    next_slot: u64,
    /// The earliest deadline, or [`NEVER`].
    earliest_ns: u64,
    inserted: u64,
}

/// A turn of 256 slots. The present one is empty: what is in the slot that time is in has come down.
#[derive(Clone, Copy, Debug)]
struct Level {
    /// Whether anything is in a slot, one bit each.
    occupied: [u64; SLOTS / 64],
    /// The first entry of each slot.
    first: [u32; SLOTS],
    earliest_ns: [u64; SLOTS],
}

/// An entry in the list of a slot.
#[derive(Debug)]
struct Waiting<K> {
    entry: Entry<K>,
    next: u32,
}

impl<K> TimerWheel<K> {
    /// An empty wheel. What is due before `start` counts as due at `start`.
    #[must_use]
    pub fn new(start: Instant) -> Self {
        Self {
            start,
            tick: 0,
            present: BinaryHeap::new(),
            levels: Box::new([Level::EMPTY; LEVELS]),
            waiting: Slab::new(),
            next_slot: NEVER,
            earliest_ns: NEVER,
            inserted: 0,
        }
    }

    /// Adds a deadline.
    pub fn insert(&mut self, at: Instant, key: K) {
        let at_ns = ns(at.saturating_duration_since(self.start));
        let at_ns = at_ns.min((self.tick + FARTHEST) << TICK_SHIFT);
        self.earliest_ns = self.earliest_ns.min(at_ns);
        let serial = self.inserted;
        self.inserted += 1;
        self.place(Entry { at_ns, serial, key });
    }

    /// The earliest deadline.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Instant> {
        let is_any = self.earliest_ns != NEVER;
        is_any.then(|| self.start + Duration::from_nanos(self.earliest_ns))
    }

    /// Takes the earliest entry if its deadline has come.
    pub fn pop_due(&mut self, now: Instant) -> Option<K> {
        let now_ns = ns(now.checked_duration_since(self.start)?);
        let now = now_ns >> TICK_SHIFT;
        if now_ns < self.earliest_ns {
            // Nearer to what is inserted next.
            self.tick = now.min(self.next_slot - 1).max(self.tick);
            return None;
        }
        while self.present.is_empty() {
            self.enter(self.next_slot);
        }
        let key = self.present.pop()?.key;
        self.earliest_ns = self.find_earliest();
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

    fn find_earliest(&self) -> u64 {
        let in_slots = || {
            let first = self
                .next_slots()
                .map(|(slots, _, slot)| slots.earliest_ns[slot]);
            first.min().unwrap_or(NEVER)
        };
        self.present
            .peek()
            .map_or_else(in_slots, |entry| entry.at_ns)
    }

    /// Of each level the next slot that something is in, and when it begins.
    fn next_slots(&self) -> impl Iterator<Item = (&Level, u64, usize)> {
        let levels = self.levels.iter().enumerate();
        levels.filter_map(|(level, slots)| {
            let turn = self.tick >> shift(level);
            let ahead = slots.next_after(turn as usize % SLOTS)?;
            let next = turn + ahead as u64;
            Some((slots, next << shift(level), next as usize % SLOTS))
        })
    }

    /// Brings down what is in the slots that begin at `tick`; nothing lies between the present and it.
    fn enter(&mut self, tick: u64) {
        self.tick = tick;
        for level in 0..LEVELS {
            if tick & ((1 << shift(level)) - 1) != 0 {
                break;
            }
            let mut next = self.levels[level].take(slot_of(tick, level));
            while next != NONE {
                let waiting = self.waiting.remove(next as usize);
                next = waiting.next;
                self.place(waiting.entry);
            }
        }
        let begins = self.next_slots().map(|(_, begin, _)| begin);
        self.next_slot = begins.min().unwrap_or(NEVER);
    }

    fn place(&mut self, entry: Entry<K>) {
        let at_ns = entry.at_ns;
        let tick = at_ns >> TICK_SHIFT;
        let ahead = tick.saturating_sub(self.tick);
        if ahead == 0 {
            self.present.push(entry);
            return;
        }
        let level = (ahead.ilog2() / SLOT_SHIFT) as usize;
        let slot = slot_of(tick, level);
        self.next_slot = self.next_slot.min(tick >> shift(level) << shift(level));
        let next = self.levels[level].first[slot];
        let index = self.waiting.insert(Waiting { entry, next });
        let index = u32::try_from(index).expect("fewer than 2^32 timers");
        self.levels[level].put(slot, index, at_ns);
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
        *self.levels = [Level::EMPTY; LEVELS];
        self.next_slot = NEVER;
        let left = std::mem::replace(&mut self.waiting, Slab::with_capacity(room));
        for (_, waiting) in left {
            self.place(waiting.entry);
        }
    }
}

impl Level {
    const EMPTY: Self = Self {
        occupied: [0; SLOTS / 64],
        first: [NONE; SLOTS],
        earliest_ns: [NEVER; SLOTS],
    };

    /// How many slots after `slot`, round and round, the first is that something is in.
    fn next_after(&self, slot: usize) -> Option<usize> {
        let begin = (slot + 1) % SLOTS;
        let (word, bit) = (begin / 64, begin % 64);
        let ahead = (self.occupied[word] >> bit).trailing_zeros() as usize;
        if ahead < 64 {
            return Some(ahead + 1);
        }
        // Last the bits of that word before `bit`.
        let words = self.occupied.len();
        let found = (1..=words).find(|after| self.occupied[(word + after) % words] != 0)?;
        let bits = self.occupied[(word + found) % words];
        Some(64 * found + bits.trailing_zeros() as usize - bit + 1)
    }

    fn put(&mut self, slot: usize, index: u32, at_ns: u64) {
        self.occupied[slot / 64] |= 1 << (slot % 64);
        self.first[slot] = index;
        self.earliest_ns[slot] = self.earliest_ns[slot].min(at_ns);
    }

    /// Empties a slot; its first entry.
    fn take(&mut self, slot: usize) -> u32 {
        self.occupied[slot / 64] &= !(1 << (slot % 64));
        self.earliest_ns[slot] = NEVER;
        std::mem::replace(&mut self.first[slot], NONE)
    }
}

/// Ticks of a slot, as a power of two.
fn shift(level: usize) -> u32 {
    SLOT_SHIFT * level as u32
}

fn slot_of(tick: u64, level: usize) -> usize {
    (tick >> shift(level)) as usize % SLOTS
}

fn ns(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// Ordered so that the greatest is the earliest: the heap has its maximum on top.
#[derive(Debug)]
struct Entry<K> {
    at_ns: u64,
    serial: u64,
    key: K,
}

impl<K> Ord for Entry<K> {
    fn cmp(&self, other: &Self) -> Ordering {
        (other.at_ns, other.serial).cmp(&(self.at_ns, self.serial))
    }
}

impl<K> PartialOrd for Entry<K> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<K> PartialEq for Entry<K> {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl<K> Eq for Entry<K> {}

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
        assert_eq!(wheel.pop_due(early), None);
        assert_eq!(wheel.pop_due(start), Some('a'));
    }

    /// What is done with a wheel.
    #[derive(Clone, Debug)]
    enum Step {
        Insert {
            ahead_ns: u64,
        },
        /// The latest deadline once more.
        Repeat,
        Pass {
            ns: u64,
        },
    }

    /// Of every order of magnitude, to two years.
    fn duration_ns() -> impl Strategy<Value = u64> {
        (16..56_u32, any::<u64>()).prop_map(|(bits, any)| any & ((1 << bits) - 1))
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            4 => duration_ns().prop_map(|ahead_ns| Step::Insert { ahead_ns }),
            1 => Just(Step::Repeat),
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
            let mut latest = start;
            for (key, step) in steps.into_iter().enumerate() {
                match step {
                    Step::Insert { ahead_ns } => {
                        latest = now + Duration::from_nanos(ahead_ns);
                        wheel.insert(latest, key);
                        map.insert((latest, key), key);
                    }
                    Step::Repeat => {
                        wheel.insert(latest, key);
                        map.insert((latest, key), key);
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
