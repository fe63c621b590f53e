//! [`Trace`]: what happened while a program ran.

use std::fmt::{self, Write};

use aioli_core::{Error, ErrorKind};

/// The value of a task, a statement, or an event.
#[derive(Clone, PartialEq, Debug)]
pub enum Value {
    /// Nothing in particular.
    Null,
    /// A truth.
    Bool(bool),
    /// A number.
    Int(i64),
    /// A word.
    Text(&'static str),
    /// Several values.
    List(Vec<Value>),
    /// An error.
    Error(ErrorValue),
}

/// An error, as the trace shows it.
#[derive(Clone, PartialEq, Debug)]
pub enum ErrorValue {
    /// A kind that says all.
    Kind(&'static str),
    /// A cancellation, with its message.
    Cancelled(Option<String>),
    /// An error of the program's own.
    User(i64),
    /// The error of a task group.
    Group(Vec<ErrorValue>),
}

/// An error that a program raised by `raise` or `set_error`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct UserError(pub i64);

impl fmt::Display for UserError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "user error {}", self.0)
    }
}

impl std::error::Error for UserError {}

/// A slot was used in which nothing was ever stored.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct EmptySlot;

impl fmt::Display for EmptySlot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the slot is empty")
    }
}

impl std::error::Error for EmptySlot {}

impl From<&Error> for ErrorValue {
    fn from(error: &Error) -> Self {
        ErrorValue::Kind(match error.kind() {
            ErrorKind::Cancelled => return ErrorValue::Cancelled(error.cancel_message().map(Into::into)),
            ErrorKind::Group => return ErrorValue::Group(error.errors().iter().map(Into::into).collect()),
            ErrorKind::Timeout => "timeout",
            ErrorKind::InvalidState => "invalid_state",
            ErrorKind::QueueEmpty => "queue_empty",
            ErrorKind::QueueFull => "queue_full",
            ErrorKind::QueueShutDown => "queue_shutdown",
            ErrorKind::BrokenBarrier => "broken_barrier",
            ErrorKind::Runtime => "runtime",
            ErrorKind::Value => "value",
            _ if error.downcast_ref::<EmptySlot>().is_some() => "empty",
            _ => match error.downcast_ref::<UserError>() {
                Some(user) => return ErrorValue::User(user.0),
                None => "other",
            },
        })
    }
}

impl From<&Error> for Value {
    fn from(error: &Error) -> Self {
        Value::Error(error.into())
    }
}

impl From<()> for Value {
    fn from((): ()) -> Self {
        Value::Null
    }
}

impl From<bool> for Value {
    fn from(value: bool) -> Self {
        Value::Bool(value)
    }
}

impl From<i64> for Value {
    fn from(value: i64) -> Self {
        Value::Int(value)
    }
}

impl From<Vec<Value>> for Value {
    fn from(values: Vec<Value>) -> Self {
        Value::List(values)
    }
}

/// One thing that happened.
#[derive(Clone, PartialEq, Debug)]
pub struct Event {
    /// The loop's turn, counted from main's first step.
    pub turn: u64,
    /// The virtual time since then, in ticks.
    pub tick: i64,
    /// The coroutine object whose statement it is; -1 for none.
    pub instance: i64,
    /// The statement, or what else happened.
    pub name: &'static str,
    /// Whether the value is the error that the statement ended with.
    pub failed: bool,
    /// The result.
    pub value: Value,
}

/// What happened while a program ran.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Trace {
    /// In the order in which it happened.
    pub events: Vec<Event>,
}

impl Trace {
    /// The trace as one line of JSON. `messages`: with the messages of cancellations.
    pub fn to_json(&self, messages: bool) -> String {
        let mut text = String::with_capacity(self.events.len() * 32 + 2);
        text.push('[');
        for (index, event) in self.events.iter().enumerate() {
            if index > 0 {
                text.push(',');
            }
            event.write(&mut text, messages);
        }
        text.push(']');
        text
    }
}

impl Trace {
    /// Whether a statement ended with a cancellation before main's body did.
    pub fn delivers_cancellation(&self) -> bool {
        let inside = self.events.iter().take_while(|event| !(event.instance == 0 && event.name == "end"));
        inside.into_iter().any(|event| event.failed && matches!(event.value, Value::Error(ErrorValue::Cancelled(_))))
    }
}

impl Event {
    fn write(&self, text: &mut String, messages: bool) {
        let Event { turn, tick, instance, name, failed, value } = self;
        let mark = if *failed { "!" } else { "" };
        let _ = write!(text, "[{turn},{tick},{instance},\"{name}{mark}\",");
        value.write(text, messages);
        text.push(']');
    }
}

impl Value {
    fn write(&self, text: &mut String, messages: bool) {
        match self {
            Value::Null => text.push_str("null"),
            Value::Bool(value) => text.push_str(if *value { "true" } else { "false" }),
            Value::Int(value) => {
                let _ = write!(text, "{value}");
            }
            Value::Text(value) => {
                let _ = write!(text, "\"{value}\"");
            }
            Value::List(values) => write_list(text, values, |value, text| value.write(text, messages)),
            Value::Error(error) => error.write(text, messages),
        }
    }
}

impl ErrorValue {
    fn write(&self, text: &mut String, messages: bool) {
        match self {
            ErrorValue::Kind(kind) => {
                let _ = write!(text, "{{\"e\":\"{kind}\"}}");
            }
            ErrorValue::Cancelled(message) if messages => {
                let message = serde_json::Value::from(message.clone());
                let _ = write!(text, "{{\"e\":\"cancelled\",\"m\":{message}}}");
            }
            ErrorValue::Cancelled(_) => text.push_str("{\"e\":\"cancelled\"}"),
            ErrorValue::User(k) => {
                let _ = write!(text, "{{\"e\":\"user\",\"k\":{k}}}");
            }
            ErrorValue::Group(errors) => {
                text.push_str("{\"e\":\"group\",\"es\":");
                write_list(text, errors, |error, text| error.write(text, messages));
                text.push('}');
            }
        }
    }
}

fn write_list<T>(text: &mut String, values: &[T], write: impl Fn(&T, &mut String)) {
    text.push('[');
    for (index, value) in values.iter().enumerate() {
        if index > 0 {
            text.push(',');
        }
        write(value, text);
    }
    text.push(']');
}
