//! [`Gathered`]: a gather that may be kept.

use aioli_core::{Future, Result, gather, gather_results};

use super::trace::Value;

/// A gather, with or without `return_exceptions`.
#[derive(Clone)]
pub(super) enum Gathered {
    Values(Future<Vec<Value>>),
    Results(Future<Vec<Result<Value>>>),
}

impl Gathered {
    pub(super) fn new(children: &[Future<Value>], with_errors: bool) -> Self {
        let children: Vec<_> = children.iter().collect();
        if with_errors { Gathered::Results(gather_results(children)) } else { Gathered::Values(gather(children)) }
    }

    /// Its results, errors among them as values.
    pub(super) async fn values(self) -> Result<Value> {
        let value = |result: Result<Value>| result.unwrap_or_else(|error| Value::from(&error));
        Ok(Value::List(match self {
            Gathered::Values(outer) => (&outer).await?,
            Gathered::Results(outer) => (&outer).await?.into_iter().map(value).collect(),
        }))
    }

    pub(super) fn cancel(&self, message: Option<&str>) -> bool {
        match self {
            Gathered::Values(outer) => outer.cancel(message),
            Gathered::Results(outer) => outer.cancel(message),
        }
    }
}
