//! A breadth-first search: from each state every action, each state once, by what tells it apart.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    fmt::Debug,
    hash::Hash,
};

use domain::{
    aggregates::Aggregates,
    command::{Command, Envelope},
    decide::{Decision, decide},
    id::CommandId,
    log::{Actor, ActorKind, Position, Recorded, StreamVersion},
    rejection::Rejection,
    units::Timestamp,
};

/// Something that can be searched.
pub(crate) trait Model: Clone {
    /// One thing that can happen.
    type Action: Clone + Debug;
    /// What tells states apart: equal keys behave alike.
    type Key: Hash + Eq;

    fn key(&self) -> Self::Key;
    /// All that can happen now.
    fn actions(&self) -> Vec<Self::Action>;
    /// What is then; nothing when nothing changed.
    fn after(&self, action: &Self::Action) -> Option<Self>;
    /// What must hold in every state.
    fn check(&self) -> Result<(), String>;
    /// The state after the first thing that can happen when nothing breaks any more; none at the
    /// end.
    fn settling(&self) -> Option<Self>;
    /// Whether all is as it should be at that end, with what is not.
    fn check_settled(&self) -> Result<(), String>;
}

/// What a search came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Found {
    pub(crate) states: usize,
    pub(crate) steps: usize,
}

/// Searches everything that follows from a state.
///
/// # Panics
/// At the first state in which something does not hold, with the shortest way there.
pub(crate) fn search<M: Model>(first: M) -> Found {
    let mut seen: HashMap<M::Key, usize> = HashMap::new();
    // How each state was come to: from which other one, by what.
    let mut ways: Vec<Option<(usize, M::Action)>> = vec![None];
    let mut open = VecDeque::from([(0, first.clone())]);
    let mut steps = 0;
    let mut settling = HashSet::new();
    seen.insert(first.key(), 0);
    while let Some((number, state)) = open.pop_front() {
        let held = state.check().and_then(|()| settle(&state, &mut settling));
        if let Err(broken) = held {
            panic!("{broken}, after {:#?}", way(&ways, number));
        }
        for action in state.actions() {
            let Some(next) = state.after(&action) else { continue };
            steps += 1;
            let found = ways.len();
            if *seen.entry(next.key()).or_insert(found) == found {
                ways.push(Some((number, action)));
                open.push_back((found, next));
            }
        }
    }
    Found { states: seen.len(), steps }
}

/// Lets a state settle, up to one of which that was seen.
fn settle<M: Model>(state: &M, seen: &mut HashSet<M::Key>) -> Result<(), String> {
    let mut state = state.clone();
    let mut walk = HashSet::new();
    loop {
        let key = state.key();
        if seen.contains(&key) {
            break;
        }
        if !walk.insert(key) {
            return Err("it goes round for ever".to_owned());
        }
        match state.settling() {
            Some(next) => state = next,
            None => {
                state.check_settled()?;
                break;
            }
        }
    }
    seen.extend(walk);
    Ok(())
}

fn way<A: Clone>(ways: &[Option<(usize, A)>], mut number: usize) -> Vec<A> {
    let mut actions = Vec::new();
    while let Some((before, action)) = &ways[number] {
        actions.push(action.clone());
        number = *before;
    }
    actions.reverse();
    actions
}

/// The log and the state that it folds to.
#[derive(Debug, Clone)]
pub(crate) struct Log {
    pub(crate) aggregates: Aggregates,
    pub(crate) now: Timestamp,
    head: Position,
}

impl Log {
    pub(crate) fn new() -> Self {
        let now = domain::testing::START;
        Self { aggregates: Aggregates::default(), now, head: Position(0) }
    }

    /// Judges a command and folds what follows.
    pub(crate) fn submit(&mut self, command: impl Into<Command>) -> Result<Decision, Rejection> {
        let command_id = CommandId::new(&format!("model/{}", self.head)).unwrap();
        let actor = Actor { kind: ActorKind::Loop, name: "model".into(), via: "model".into() };
        let envelope = Envelope {
            command_id: command_id.clone(),
            actor: actor.clone(),
            seen: None,
            causation: None,
            correlation: command_id.clone(),
            command: command.into(),
        };
        let decision = decide(&self.aggregates, &envelope, self.now)?;
        for (stream, event) in &decision.events {
            self.head = self.head.next();
            self.aggregates.apply(&Recorded {
                position: self.head,
                stream: stream.clone(),
                version: StreamVersion(0),
                recorded_at: self.now,
                actor: actor.clone(),
                command_id: command_id.clone(),
                causation: None,
                correlation: command_id.clone(),
                event: event.clone(),
            });
        }
        Ok(decision)
    }
}
