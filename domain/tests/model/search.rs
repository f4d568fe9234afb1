//! A breadth-first search: from each state every action, each state once, by what tells it apart.
//!
//! A state that was seen is known by a hash of 128 bits, and how it was come to by its predecessor
//! and the number of an action there: some dozens of bytes each, so that millions fit. Two different
//! states with one hash would hide one of them: among ten million states the chance is one in 10^24.

use std::{
    collections::{HashMap, VecDeque, hash_map},
    fmt::Debug,
    hash::{DefaultHasher, Hash as _, Hasher as _},
};

use crate::tell;

/// Something that can be searched.
pub(crate) trait Model: Clone {
    /// One thing that can happen.
    type Action: Clone + Debug;

    /// What tells states apart: those with equal keys behave alike.
    fn key(&self) -> Vec<u8>;
    /// All that can happen now, always in the same order.
    fn actions(&self) -> Vec<Self::Action>;
    /// What is then, nothing when nothing changed; or what must not be.
    fn after(&self, action: &Self::Action) -> Result<Option<Self>, String>;
    /// What must hold in every state.
    fn check(&self) -> Result<(), String>;
    /// Whether something may happen when nothing breaks any more.
    fn is_calm(&self, action: &Self::Action) -> bool;
    /// Whether all is as it should be once nothing calm is left to happen, with what is not.
    fn check_settled(&self) -> Result<(), String>;
}

/// What a search came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Found {
    pub(crate) states: usize,
    pub(crate) steps: usize,
    /// The most states that were open at once.
    pub(crate) open_max: usize,
}

/// Something that does not hold, with a shortest way there.
#[derive(Debug)]
pub(crate) struct Broken<A> {
    pub(crate) what: String,
    pub(crate) way: Vec<A>,
}

/// After so many states a search says how far it is.
const TELL_EVERY: usize = 100_000;
/// The end of settling, in the place of a next state.
const END: u32 = u32::MAX;

/// The states that were found, by number.
struct States {
    seen: HashMap<u128, u32>,
    /// From which other one, by which of its actions.
    from: Vec<(u32, u16)>,
    /// What follows when the first thing that is calm happens.
    settling: Vec<u32>,
}

/// Searches everything that follows from a state.
///
/// # Errors
/// The first thing that does not hold.
pub(crate) fn search<M: Model>(first: &M) -> Result<Found, Broken<M::Action>> {
    let mut states = States { seen: HashMap::new(), from: vec![(0, 0)], settling: Vec::new() };
    let mut open = VecDeque::from([first.clone()]);
    let (mut steps, mut open_max) = (0, 1);
    states.seen.insert(hash(&first.key()), 0);
    let broken = |states: &States, number, what| {
        let way = states.way(first, number);
        Broken { what, way }
    };
    while let Some(state) = open.pop_front() {
        // Breadth first: states are taken in the order of their numbers.
        let number = u32::try_from(states.settling.len()).unwrap();
        state.check().map_err(|what| broken(&states, number, what))?;
        let mut settling = None;
        for (nth, action) in state.actions().iter().enumerate() {
            let next = state.after(action).map_err(|what| {
                let what = format!("{what}, by {action:?}");
                broken(&states, number, what)
            })?;
            let Some(next) = next else { continue };
            steps += 1;
            let (found, is_new) = states.find(hash(&next.key()), (number, nth));
            if settling.is_none() && state.is_calm(action) {
                settling = Some(found);
            }
            if is_new {
                open.push_back(next);
            }
        }
        if settling.is_none() {
            state.check_settled().map_err(|what| broken(&states, number, what))?;
        }
        states.settling.push(settling.unwrap_or(END));
        open_max = open_max.max(open.len());
        if states.settling.len().is_multiple_of(TELL_EVERY) {
            let (done, open) = (states.settling.len(), open.len());
            tell(&format!("{done} states are done, {open} open"));
        }
    }
    if let Some(number) = states.goes_round() {
        return Err(broken(&states, number, "it goes round for ever".to_owned()));
    }
    Ok(Found { states: states.from.len(), steps, open_max })
}

impl States {
    /// The number of a state, and whether it was not seen before.
    fn find(&mut self, key: u128, (from, nth): (u32, usize)) -> (u32, bool) {
        match self.seen.entry(key) {
            hash_map::Entry::Occupied(known) => (*known.get(), false),
            hash_map::Entry::Vacant(place) => {
                let number = u32::try_from(self.from.len()).unwrap();
                place.insert(number);
                self.from.push((from, u16::try_from(nth).unwrap()));
                (number, true)
            }
        }
    }

    /// A state from which settling never comes to an end.
    fn goes_round(&self) -> Option<u32> {
        let mut ends = vec![false; self.settling.len()];
        let mut walked_from = vec![END; self.settling.len()];
        for first in 0..self.settling.len() {
            let (mut at, mut walk) = (first, Vec::new());
            while !ends[at] {
                if walked_from[at] == u32::try_from(first).unwrap() {
                    return u32::try_from(at).ok();
                }
                walked_from[at] = u32::try_from(first).unwrap();
                walk.push(at);
                match self.settling[at] {
                    END => break,
                    next => at = usize::try_from(next).unwrap(),
                }
            }
            for at in walk {
                ends[at] = true;
            }
        }
        None
    }

    /// What happened up to a state: only the numbers were kept, so it happens once more.
    fn way<M: Model>(&self, first: &M, number: u32) -> Vec<M::Action> {
        let (mut numbers, mut at) = (Vec::new(), number);
        while at != 0 {
            let (from, nth) = self.from[usize::try_from(at).unwrap()];
            numbers.push(nth);
            at = from;
        }
        let (mut state, mut way) = (first.clone(), Vec::new());
        for nth in numbers.into_iter().rev() {
            let action = state.actions().remove(nth.into());
            state = state.after(&action).unwrap().unwrap();
            way.push(action);
        }
        way
    }
}

fn hash(key: &[u8]) -> u128 {
    let half = |which: u8| {
        let mut hasher = DefaultHasher::new();
        which.hash(&mut hasher);
        key.hash(&mut hasher);
        u128::from(hasher.finish())
    };
    half(0) << 64 | half(1)
}
