//! Reads a predicate: by hand, bounded, and every refusal names the column.

use std::{fmt, str::FromStr};

use chrono::DateTime;
use domain::{
    event::Event,
    id::ActualLrpKey,
    log::{Owner, StreamId},
};

use super::{
    CellField, EventField, LrpField, Node, Operator, Predicate, SlotField, SlotState, Subject,
    TASK_STATES, TaskField, Value,
};

/// The longest predicate, in bytes.
pub const TEXT_BYTES_MAX: usize = 2_000;
/// The most comparisons in one predicate.
pub const COMPARISONS_MAX: usize = 50;
/// How deep `(` and `!` may be nested.
pub const DEPTH_MAX: usize = 20;

/// Why a text is no predicate.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("column {column}: {problem}")]
pub struct InvalidPredicate {
    /// Where, from 1, in characters.
    pub column: usize,
    /// What is wrong, and what may stand there.
    pub problem: String,
}

impl FromStr for Predicate {
    type Err = InvalidPredicate;

    fn from_str(text: &str) -> Result<Self, InvalidPredicate> {
        if text.len() > TEXT_BYTES_MAX {
            let problem = format!("the predicate has more than {TEXT_BYTES_MAX} bytes");
            return Err(InvalidPredicate { column: 1, problem });
        }
        let mut parser = Parser { tokens: tokens(text)?, next: 0, comparisons: 0 };
        let node = parser.any_of(0)?;
        let rest = parser.take();
        match rest.kind {
            Kind::End => Ok(Self(node)),
            Kind::Word(_) | Kind::Quoted(_) | Kind::Operator(_) | Kind::Symbol(_) => {
                Err(rest.refused("&&, || or the end"))
            }
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Kind {
    Word(String),
    Quoted(String),
    Operator(Operator),
    Symbol(&'static str),
    End,
}

#[derive(Debug, Clone)]
struct Token {
    kind: Kind,
    column: usize,
}

impl Token {
    fn refused(&self, expected: &str) -> InvalidPredicate {
        let problem = format!("expected {expected}, but found {}", self.kind);
        InvalidPredicate { column: self.column, problem }
    }

    fn wrong(&self, problem: impl Into<String>) -> InvalidPredicate {
        InvalidPredicate { column: self.column, problem: problem.into() }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Word(word) | Self::Quoted(word) => write!(f, "{word:?}"),
            Self::Operator(_) => f.write_str("a comparison"),
            Self::Symbol(symbol) => write!(f, "{symbol:?}"),
            Self::End => f.write_str("the end"),
        }
    }
}

/// Longer ones first: `<=` is not `<` and something.
const SYMBOLS: [(&str, Kind); 11] = [
    ("==", Kind::Operator(Operator::Equal)),
    ("!=", Kind::Operator(Operator::NotEqual)),
    ("<=", Kind::Operator(Operator::LessOrEqual)),
    (">=", Kind::Operator(Operator::GreaterOrEqual)),
    ("&&", Kind::Symbol("&&")),
    ("||", Kind::Symbol("||")),
    ("<", Kind::Operator(Operator::Less)),
    (">", Kind::Operator(Operator::Greater)),
    ("!", Kind::Symbol("!")),
    ("(", Kind::Symbol("(")),
    (")", Kind::Symbol(")")),
];

fn is_of_word(character: char) -> bool {
    character.is_ascii_alphanumeric() || "._-/:+@".contains(character)
}

fn tokens(text: &str) -> Result<Vec<Token>, InvalidPredicate> {
    let mut tokens = Vec::new();
    let (mut rest, mut column) = (text, 1);
    while let Some(first) = rest.chars().next() {
        let (kind, after) = if first.is_whitespace() {
            (None, rest.strip_prefix(first).unwrap_or_default())
        } else if let Some(quoted) = rest.strip_prefix('"') {
            let Some((inside, after)) = quoted.split_once('"') else {
                let problem = "the closing quote is missing".to_owned();
                return Err(InvalidPredicate { column, problem });
            };
            (Some(Kind::Quoted(inside.to_owned())), after)
        } else if let Some((symbol, kind)) =
            SYMBOLS.iter().find(|(symbol, _)| rest.starts_with(symbol))
        {
            (Some(kind.clone()), rest.strip_prefix(symbol).unwrap_or_default())
        } else if is_of_word(first) {
            let after = rest.trim_start_matches(is_of_word);
            let word = rest.strip_suffix(after).unwrap_or(rest);
            (Some(Kind::Word(word.to_owned())), after)
        } else {
            let problem = match first {
                '=' => "one = compares nothing; write ==".to_owned(),
                '&' => "write && for and".to_owned(),
                '|' => "write || for or".to_owned(),
                other => format!("{other:?} may stand in double quotes only"),
            };
            return Err(InvalidPredicate { column, problem });
        };
        tokens.extend(kind.map(|kind| Token { kind, column }));
        column += rest.chars().count() - after.chars().count();
        rest = after;
    }
    tokens.push(Token { kind: Kind::End, column });
    Ok(tokens)
}

struct Parser {
    tokens: Vec<Token>,
    next: usize,
    comparisons: usize,
}

impl Parser {
    fn take(&mut self) -> Token {
        let token = self.tokens.get(self.next).or_else(|| self.tokens.last()).cloned();
        self.next += 1;
        token.unwrap_or(Token { kind: Kind::End, column: 1 })
    }

    fn takes(&mut self, symbol: &'static str) -> bool {
        let is_next = self.tokens.get(self.next).is_some_and(|it| it.kind == Kind::Symbol(symbol));
        self.next += usize::from(is_next);
        is_next
    }

    fn any_of(&mut self, depth: usize) -> Result<Node, InvalidPredicate> {
        let mut parts = vec![self.all_of(depth)?];
        while self.takes("||") {
            parts.push(self.all_of(depth)?);
        }
        Ok(alone(parts, Node::Any))
    }

    fn all_of(&mut self, depth: usize) -> Result<Node, InvalidPredicate> {
        let mut parts = vec![self.one(depth)?];
        while self.takes("&&") {
            parts.push(self.one(depth)?);
        }
        Ok(alone(parts, Node::All))
    }

    fn one(&mut self, depth: usize) -> Result<Node, InvalidPredicate> {
        let token = self.take();
        if depth > DEPTH_MAX {
            return Err(token.wrong(format!("more than {DEPTH_MAX} ( and ! inside each other")));
        }
        match &token.kind {
            Kind::Symbol("!") => Ok(Node::Not(Box::new(self.one(depth + 1)?))),
            Kind::Symbol("(") => {
                let inner = self.any_of(depth + 1)?;
                let end = self.take();
                if end.kind == Kind::Symbol(")") { Ok(inner) } else { Err(end.refused("\")\"")) }
            }
            Kind::Word(path) => self.comparison(&token, path),
            Kind::Symbol(_) | Kind::Quoted(_) | Kind::Operator(_) | Kind::End => {
                Err(token.refused("what to look at, such as position or lrp.GUID.running"))
            }
        }
    }

    fn comparison(&mut self, at: &Token, path: &str) -> Result<Node, InvalidPredicate> {
        self.comparisons += 1;
        if self.comparisons > COMPARISONS_MAX {
            return Err(at.wrong(format!("more than {COMPARISONS_MAX} comparisons")));
        }
        let subject = subject(path).map_err(|problem| at.wrong(problem))?;
        let sign = self.take();
        let Kind::Operator(operator) = sign.kind else {
            return Err(sign.refused("==, !=, <, <=, > or >="));
        };
        let given = self.take();
        let (Kind::Word(text) | Kind::Quoted(text)) = &given.kind else {
            return Err(given.refused("a value"));
        };
        let value = subject.value(text).map_err(|problem| given.wrong(problem))?;
        let is_ordered = match (&subject, &value) {
            (Subject::Payload(_), _) | (_, Value::Number(_) | Value::Time(_)) => true,
            (_, Value::Text(_) | Value::Bool(_)) => false,
        };
        if !is_ordered && !matches!(operator, Operator::Equal | Operator::NotEqual) {
            return Err(sign.wrong(format!("{path} has no order: compare it with == or !=")));
        }
        Ok(Node::Comparison { subject, operator, value })
    }
}

fn alone(mut parts: Vec<Node>, join: fn(Vec<Node>) -> Node) -> Node {
    match (parts.pop(), parts.is_empty()) {
        (Some(only), true) => only,
        (last, _) => {
            parts.extend(last);
            join(parts)
        }
    }
}

/// The ids of cells hold dots: the kind stands before the first one, the field behind the last.
fn subject(path: &str) -> Result<Subject, String> {
    match path {
        "position" => return Ok(Subject::Position),
        "recorded_at" => return Ok(Subject::RecordedAt),
        _ => {}
    }
    let unknown = "must be position, recorded_at, event.FIELD, lrp.GUID.FIELD, \
                   slot.GUID.INDEX.FIELD, task.GUID.FIELD or cell.ID.FIELD";
    let (kind, rest) = path.split_once('.').ok_or_else(|| format!("{path:?} {unknown}"))?;
    match kind {
        "event" => event_subject(rest),
        "lrp" => {
            let (guid, field) = id_and_field(rest)?;
            Ok(Subject::Lrp(guid, one_of(field, &lrp_fields())?))
        }
        "slot" => {
            let (key, field) = rest.rsplit_once('.').ok_or_else(|| missing_field(rest))?;
            let (guid, index) = key.rsplit_once('.').ok_or("must be slot.GUID.INDEX.FIELD")?;
            let index = index.parse().map_err(|_| format!("{index:?} is not a slot's index"))?;
            let process_guid = parsed(guid)?;
            let key = ActualLrpKey { process_guid, index };
            Ok(Subject::Slot(key, one_of(field, &SLOT_FIELDS)?))
        }
        "task" => {
            let (guid, field) = id_and_field(rest)?;
            Ok(Subject::Task(guid, one_of(field, &TASK_FIELDS)?))
        }
        "cell" => {
            let (id, field) = id_and_field(rest)?;
            Ok(Subject::Cell(id, one_of(field, &CELL_FIELDS)?))
        }
        other => Err(format!("{other:?} {unknown}")),
    }
}

fn event_subject(rest: &str) -> Result<Subject, String> {
    match rest.strip_prefix("payload.") {
        Some(path) => Ok(Subject::Payload(path.split('.').map(str::to_owned).collect())),
        None => Ok(Subject::Event(one_of(rest, &EVENT_FIELDS)?)),
    }
}

const EVENT_FIELDS: [(&str, EventField); 6] = [
    ("type", EventField::Type),
    ("owner", EventField::Owner),
    ("stream", EventField::Stream),
    ("actor", EventField::Actor),
    ("actor_kind", EventField::ActorKind),
    ("command_id", EventField::CommandId),
];
const SLOT_FIELDS: [(&str, SlotField); 5] = [
    ("exists", SlotField::Exists),
    ("state", SlotField::State),
    ("cell", SlotField::Cell),
    ("crash_count", SlotField::CrashCount),
    ("stopping", SlotField::Stopping),
];
const TASK_FIELDS: [(&str, TaskField); 4] = [
    ("exists", TaskField::Exists),
    ("state", TaskField::State),
    ("cell", TaskField::Cell),
    ("rejection_count", TaskField::RejectionCount),
];
const CELL_FIELDS: [(&str, CellField); 5] = [
    ("exists", CellField::Exists),
    ("state", CellField::State),
    ("free_memory_mb", CellField::FreeMemoryMb),
    ("free_disk_mb", CellField::FreeDiskMb),
    ("free_containers", CellField::FreeContainers),
];

fn lrp_fields() -> Vec<(&'static str, LrpField)> {
    let mut fields = vec![("exists", LrpField::Exists), ("instances", LrpField::Instances)];
    fields.extend(SlotState::ALL.map(|state| (state.name(), LrpField::InState(state))));
    fields
}

fn one_of<F: Copy>(name: &str, fields: &[(&'static str, F)]) -> Result<F, String> {
    let found = fields.iter().find(|(known, _)| *known == name).map(|(_, field)| *field);
    found.ok_or_else(|| {
        let known: Vec<&str> = fields.iter().map(|(known, _)| *known).collect();
        format!("{name:?} is no field; there are {}", known.join(", "))
    })
}

fn id_and_field<T: FromStr<Err: fmt::Display>>(rest: &str) -> Result<(T, &str), String> {
    let (id, field) = rest.rsplit_once('.').ok_or_else(|| missing_field(rest))?;
    Ok((parsed(id)?, field))
}

fn missing_field(id: &str) -> String {
    format!("the field of {id:?} is missing, as in task.GUID.state")
}

fn parsed<T: FromStr<Err: fmt::Display>>(id: &str) -> Result<T, String> {
    id.parse().map_err(|problem| format!("{id:?} {problem}"))
}

impl Subject {
    /// Reads the value that it is compared with.
    fn value(&self, text: &str) -> Result<Value, String> {
        match self {
            Self::Position => number(text.strip_prefix('@').unwrap_or(text)),
            Self::RecordedAt => DateTime::parse_from_rfc3339(text)
                .ok()
                .and_then(|time| time.timestamp_nanos_opt())
                .map(Value::Time)
                .ok_or_else(|| format!("{text:?} is not a time such as 2026-01-31T12:00:00Z")),
            Self::Event(field) => event_value(*field, text),
            Self::Payload(_) => Ok(match text {
                "true" => Value::Bool(true),
                "false" => Value::Bool(false),
                other => number(other).unwrap_or_else(|_| Value::text(other)),
            }),
            Self::Lrp(_, LrpField::Exists)
            | Self::Slot(_, SlotField::Exists | SlotField::Stopping)
            | Self::Task(_, TaskField::Exists)
            | Self::Cell(_, CellField::Exists) => truth(text),
            Self::Slot(_, SlotField::State) => among(text, &SlotState::ALL.map(SlotState::name)),
            Self::Task(_, TaskField::State) => among(text, &TASK_STATES),
            Self::Cell(_, CellField::State) => among(text, &["present", "lost"]),
            Self::Slot(_, SlotField::Cell) | Self::Task(_, TaskField::Cell) => {
                Ok(Value::text(text))
            }
            Self::Lrp(_, LrpField::Instances | LrpField::InState(_))
            | Self::Slot(_, SlotField::CrashCount)
            | Self::Task(_, TaskField::RejectionCount)
            | Self::Cell(
                _,
                CellField::FreeMemoryMb | CellField::FreeDiskMb | CellField::FreeContainers,
            ) => number(text),
        }
    }
}

fn event_value(field: EventField, text: &str) -> Result<Value, String> {
    match field {
        EventField::Type => {
            let plain = |name: &str| name.replace('.', "_");
            let known = Event::type_names().into_iter().find(|known| plain(known) == plain(text));
            known.map(Value::text).ok_or_else(|| {
                format!("{text:?} is no event; there are {}", Event::type_names().join(", "))
            })
        }
        EventField::Owner => {
            text.parse().map(|owner: Owner| Value::text(owner)).map_err(|it| it.to_string())
        }
        EventField::Stream => {
            text.parse().map(|stream: StreamId| Value::text(stream)).map_err(|it| it.to_string())
        }
        EventField::ActorKind => among(text, &["user", "loop", "cell"]),
        EventField::Actor | EventField::CommandId => Ok(Value::text(text)),
    }
}

fn number(text: &str) -> Result<Value, String> {
    let is_plain = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let number = if is_plain { text.parse().ok() } else { None };
    number.map(Value::Number).ok_or_else(|| format!("{text:?} is not a whole number from 0 on"))
}

fn truth(text: &str) -> Result<Value, String> {
    match text {
        "true" => Ok(Value::Bool(true)),
        "false" => Ok(Value::Bool(false)),
        other => Err(format!("{other:?} must be true or false")),
    }
}

fn among(text: &str, known: &[&str]) -> Result<Value, String> {
    let lower = text.to_ascii_lowercase();
    if known.contains(&lower.as_str()) {
        return Ok(Value::Text(lower));
    }
    Err(format!("{text:?} must be one of {}", known.join(", ")))
}
