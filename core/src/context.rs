//! Context variables: values that a task inherits from whoever created it.

use std::any::Any;
use std::cell::{Cell, RefCell};
use std::fmt;
use std::marker::PhantomData;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::own_context::{self, Outer};
use crate::report::discard;
use crate::task::home;

/// An immutable set of values, shared until somebody changes it. No map at all is the empty one.
#[derive(Clone)]
pub(crate) struct ContextMap(Arc<Entries>);

#[derive(Clone, Default)]
struct Entries(Vec<(u64, Value)>);

type Value = Arc<dyn Any + Send + Sync>;

/// Contexts end in the middle of steps, which must not unwind.
impl Drop for Entries {
    fn drop(&mut self) {
        self.0.drain(..).for_each(discard);
    }
}

impl ContextMap {
    fn get(&self, key: u64) -> Option<&Value> {
        self.0.0.iter().find(|(known, _)| *known == key).map(|(_, value)| value)
    }

    /// The map with one value changed, and what has to be dropped.
    fn with(map: Option<ContextMap>, key: u64, value: Option<Value>) -> (Option<ContextMap>, Option<Value>) {
        let mut entries = map.map(|map| map.0).unwrap_or_default();
        let changed = &mut Arc::make_mut(&mut entries).0;
        let at = changed.iter().position(|(known, _)| *known == key);
        let old = match (at, value) {
            (Some(at), Some(value)) => Some(std::mem::replace(&mut changed[at].1, value)),
            (Some(at), None) => Some(changed.remove(at).1),
            (None, Some(value)) => {
                changed.push((key, value));
                None
            }
            (None, None) => None,
        };
        ((!entries.0.is_empty()).then_some(ContextMap(entries)), old)
    }
}

thread_local! {
    /// The values of code on this thread that runs outside of a loop: before `run`, or in a thread of the pool.
    static OUTSIDE: RefCell<Option<ContextMap>> = const { RefCell::new(None) };
}

/// The values that code running now sees.
pub(crate) fn current() -> Option<ContextMap> {
    match home::with(|core| core.context()) {
        Some(map) => map,
        None => OUTSIDE.try_with(|map| map.borrow().clone()).unwrap_or_default(),
    }
}

fn set_current(map: Option<ContextMap>) {
    let old = match home::with(|core| core.replace_context(map.clone())) {
        Some(old) => old,
        None => replace_outside(map),
    };
    drop(old);
}

/// A thread that ends, and runs the destructors of its own variables, has no values any more.
fn replace_outside(map: Option<ContextMap>) -> Option<ContextMap> {
    OUTSIDE.try_with(|known| known.replace(map)).unwrap_or_default()
}

/// Calls `f` on this thread, outside of a loop, with other values.
pub(crate) fn run_outside<R>(map: Option<ContextMap>, f: impl FnOnce() -> R) -> R {
    struct Restore(Option<ContextMap>);
    impl Drop for Restore {
        fn drop(&mut self) {
            let inner = replace_outside(self.0.take());
            drop(inner);
        }
    }
    let _restore = Restore(replace_outside(map));
    f()
}

/// A variable with a value for each context: Python's `contextvars.ContextVar`.
///
/// A task inherits the values that hold where it is created. What it sets is seen by itself and by what it creates, not by its
/// creator. Values are cloned out, and must be `Send + Sync` since [`to_thread`](crate::to_thread) takes them along.
///
/// ```
/// use aioli_core::ContextVar;
///
/// let user = ContextVar::<String>::new();
/// assert_eq!(user.get(), None);
/// let before = user.set("ada".into());
/// assert_eq!(user.get().as_deref(), Some("ada"));
/// user.reset(before);
/// assert_eq!(user.get(), None);
/// ```
pub struct ContextVar<T> {
    key: u64,
    value: PhantomData<fn() -> T>,
}

/// The value that a variable had before it was set, for [`ContextVar::reset`]: Python's `contextvars.Token`. Dropping it leaves the
/// variable as it is.
///
/// ```
/// use aioli_core::ContextVar;
///
/// let verbose = ContextVar::<bool>::new();
/// verbose.set(true);
/// let outer = verbose.set(false); // holds `true`
/// verbose.reset(outer);
/// assert_eq!(verbose.get(), Some(true));
/// ```
pub struct ContextToken<T> {
    key: u64,
    old: Option<Value>,
    value: PhantomData<fn() -> T>,
}

impl<T: Clone + Send + Sync + 'static> ContextVar<T> {
    /// A new variable without a value: Python's `ContextVar(…)`.
    pub fn new() -> Self {
        static KEYS: AtomicU64 = AtomicU64::new(0);
        ContextVar { key: KEYS.fetch_add(1, Ordering::Relaxed), value: PhantomData }
    }

    /// The value in the current context, if one is set: Python's `ContextVar.get`, which raises `LookupError` where this gives
    /// `None`.
    pub fn get(&self) -> Option<T> {
        let value = current()?.get(self.key)?.clone();
        value.downcast_ref::<T>().cloned()
    }

    /// Sets the value in the current context: Python's `ContextVar.set`. The context is the running task's, or callback's, or the
    /// thread's where neither runs.
    pub fn set(&self, value: T) -> ContextToken<T> {
        let (map, old) = ContextMap::with(current(), self.key, Some(Arc::new(value)));
        set_current(map);
        ContextToken { key: self.key, old, value: PhantomData }
    }

    /// Sets the value back to what it was before [`set`](Self::set): Python's `ContextVar.reset`. A token is used once, since it is
    /// taken.
    ///
    /// # Panics
    /// If the token is another variable's.
    pub fn reset(&self, token: ContextToken<T>) {
        assert!(token.key == self.key, "the token belongs to another context variable");
        let (map, old) = ContextMap::with(current(), self.key, token.old);
        set_current(map);
        drop(old);
    }
}

impl<T: Clone + Send + Sync + 'static> Default for ContextVar<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T> fmt::Debug for ContextVar<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ContextVar").field("key", &self.key).finish()
    }
}

impl<T> fmt::Debug for ContextToken<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ContextToken").field("key", &self.key).finish_non_exhaustive()
    }
}

/// The values of all context variables, as an object to give to tasks: Python's `contextvars.Context`.
///
/// Clones are the same context: tasks that are created with it see what the others set. It belongs to one thread.
///
/// ```
/// # aioli_exec_sim::run(async {
/// use aioli_core::{Context, ContextVar, TaskBuilder};
/// use std::sync::LazyLock;
///
/// static USER: LazyLock<ContextVar<&str>> = LazyLock::new(ContextVar::new);
///
/// let session = Context::copy_current();
/// let login = TaskBuilder::new().context(session.clone()).create_task(async {
///     USER.set("ada");
///     Ok(())
/// });
/// login.await?;
/// assert_eq!(USER.get(), None); // the task had a context of its own
/// assert_eq!(session.run(|| USER.get()), Some("ada"));
/// # Ok(())
/// # }).unwrap();
/// ```
#[derive(Clone, Default)]
pub struct Context {
    map: Rc<Cell<Option<ContextMap>>>,
}

impl Context {
    /// A context without values.
    pub fn new() -> Self {
        Self::default()
    }

    /// A context with the values that hold now; Python's `copy_context`.
    pub fn copy_current() -> Self {
        Context { map: Rc::new(Cell::new(current())) }
    }

    /// Calls `f` in this context: Python's `Context.run`. What `f` sets stays in the context, also if `f` panics.
    ///
    /// ```
    /// use aioli_core::{Context, ContextVar};
    ///
    /// let depth = ContextVar::<u32>::new();
    /// let context = Context::new();
    /// context.run(|| { depth.set(1); });
    /// assert_eq!(depth.get(), None);
    /// assert_eq!(context.run(|| depth.get()), Some(1));
    /// ```
    pub fn run<R>(&self, f: impl FnOnce() -> R) -> R {
        struct Leave<'a> {
            context: &'a Context,
            outer: Around,
        }
        enum Around {
            Loop(Option<Outer>),
            /// No loop runs.
            Outside(Option<ContextMap>),
        }
        impl Drop for Leave<'_> {
            fn drop(&mut self) {
                let inner = match &mut self.outer {
                    Around::Loop(outer) => {
                        outer.take().and_then(|outer| home::with(|core| core.leave_context(outer))).flatten()
                    }
                    Around::Outside(outer) => replace_outside(outer.take()),
                };
                self.context.store(inner);
            }
        }
        let outer = match home::with(|core| core.enter_context(self.load())) {
            Some(outer) => Around::Loop(Some(outer)),
            None => Around::Outside(replace_outside(self.load())),
        };
        let _leave = Leave { context: self, outer };
        f()
    }

    #[inline]
    pub(crate) fn load(&self) -> Option<ContextMap> {
        own_context::copy(&self.map)
    }

    pub(crate) fn store(&self, map: Option<ContextMap>) {
        drop(self.replace(map));
    }

    pub(crate) fn replace(&self, map: Option<ContextMap>) -> Option<ContextMap> {
        self.map.replace(map)
    }
}

impl fmt::Debug for Context {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let len = self.load().map_or(0, |map| map.0.0.len());
        f.debug_struct("Context").field("variables", &len).finish()
    }
}
