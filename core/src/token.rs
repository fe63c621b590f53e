//! [`CancelToken`]: cancels stretches of code in several tasks at once.

use std::cell::{Cell, OnceCell, RefCell};
use std::collections::BTreeMap;
use std::fmt;
use std::future::{Future, IntoFuture};
use std::pin::Pin;
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

use pin_project::pin_project;

use crate::await_point::{Token, Wait, WaitPoll};
use crate::awaited::Awaited;
use crate::cancel;
use crate::error::{self, Error, Message, Result};
use crate::event_loop::LoopCore;
use crate::registry::Entry;
use crate::remote::RemoteLoop;
use crate::scope::{BodyPoll, Scope, ScopeNode};
use crate::task::{LoopRef, home};

/// A switch that cancels whatever runs under it, once and for good. asyncio has no counterpart.
///
/// [`run`](Self::run) puts a stretch of code under the token. [`cancelled`](Self::cancelled) waits for it to fire, and
/// [`is_cancelled`](Self::is_cancelled) asks. A [`child`](Self::child) fires with its parent, but not the other way. Clones are the
/// same token. Dropping a token cancels nothing.
///
/// ```
/// # aioli_exec_sim::run(async {
/// use aioli_core::{CancelToken, create_task, sleep};
/// use std::time::Duration;
///
/// let token = CancelToken::new();
/// let switch = token.clone();
/// create_task(async move {
///     sleep(Duration::from_secs(1)).await?;
///     switch.cancel(Some("closing time"));
///     Ok(())
/// });
/// let cut = token.run(sleep(Duration::from_secs(60))).await.unwrap_err();
/// assert_eq!(cut.cancel_message(), Some("closing time"));
/// sleep(Duration::from_secs(1)).await // the task itself is not cancelled
/// # }).unwrap();
/// ```
#[derive(Clone)]
pub struct CancelToken {
    node: Rc<Node>,
}

/// One token. It keeps its ancestors, so that they reach it; they know it weakly.
pub(crate) struct Node {
    fired: Cell<bool>,
    message: RefCell<Message>,
    parent: Cell<Option<Rc<Node>>>,
    /// Its place among the parent's children.
    place: u64,
    /// Places given out, to children and to those that wait.
    places: Cell<u64>,
    children: RefCell<BTreeMap<u64, Weak<Node>>>,
    waiting: RefCell<BTreeMap<u64, Waiting>>,
    /// For other threads: whether it has fired, and what it is registered under.
    flag: OnceCell<Arc<AtomicBool>>,
    registered: RefCell<Option<Registered>>,
}

/// What happens when a token fires.
enum Waiting {
    /// An await point goes on.
    Await(Token),
    /// A body is cancelled.
    Body(Rc<Body>),
}

/// A body that runs under a token.
struct Body {
    scope: Rc<ScopeNode>,
    phase: Cell<Phase>,
}

#[derive(Clone, Copy, PartialEq)]
enum Phase {
    Running,
    /// The token has cancelled it.
    Cancelled,
    /// It has ended.
    Over,
}

struct Registered {
    owner: Weak<LoopCore>,
    loop_id: u64,
    number: u64,
}

impl CancelToken {
    /// A token that depends on nothing.
    pub fn new() -> Self {
        CancelToken { node: Rc::new(Node::new(None, 0)) }
    }

    /// A token that fires when this one does, and may fire before.
    pub fn child(&self) -> Self {
        let place = self.node.next_place();
        let node = Rc::new(Node::new(Some(Rc::clone(&self.node)), place));
        if self.is_cancelled() {
            node.fired.set(true);
            node.message.replace(self.node.message.borrow().clone());
        } else {
            self.node.children.borrow_mut().insert(place, Rc::downgrade(&node));
        }
        CancelToken { node }
    }

    /// Fires the token and its descendants. Returns whether it had not fired before; if it had, nothing happens.
    ///
    /// What runs under it gets Cancelled in the next turn, with the message; each body is asked once. Parents come before their
    /// children, and what belongs to one token is in the order in which it came.
    pub fn cancel(&self, message: Option<&str>) -> bool {
        fire(&self.node, error::message(message))
    }

    /// Whether the token has fired.
    pub fn is_cancelled(&self) -> bool {
        self.node.fired.get()
    }

    /// Waits until the token fires.
    ///
    /// # Errors
    /// Cancelled if the task that waits is cancelled; `Runtime` outside of a task.
    ///
    /// ```
    /// # aioli_exec_sim::run(async {
    /// use aioli_core::{CancelToken, create_task};
    ///
    /// let token = CancelToken::new();
    /// let watch = create_task(token.cancelled());
    /// token.child().cancel(None);
    /// assert!(!token.is_cancelled());
    /// token.cancel(None);
    /// watch.await
    /// # }).unwrap();
    /// ```
    pub fn cancelled(&self) -> TokenCancelled {
        TokenCancelled { node: Rc::clone(&self.node), wait: Wait::new(), place: None }
    }

    /// Runs `body` under the token: when it fires, what the body awaits returns Cancelled, and the body may clean up with further
    /// awaits. The body is polled in the caller's task, may borrow, and what is outside of it is not cancelled.
    ///
    /// If the token has fired already, the first await that suspends returns Cancelled. A body that swallows the request goes on, and
    /// is not asked again.
    ///
    /// # Errors
    /// What the body returns, which is Cancelled if it lets the request through. `Runtime` outside of a task.
    pub fn run<F, T>(&self, body: F) -> TokenRun<F::IntoFuture>
    where
        F: IntoFuture<Output = Result<T>>,
    {
        TokenRun { node: Rc::clone(&self.node), run: Run::default(), body: Some(body.into_future()) }
    }

    /// The token as other threads see it, for those who are to fire it, and for functions in a thread that are to notice.
    ///
    /// # Errors
    /// `Runtime` outside of a running loop.
    ///
    /// ```
    /// # aioli_exec_sim::run(async {
    /// use aioli_core::{CancelToken, to_thread};
    ///
    /// let token = CancelToken::new();
    /// let remote = token.remote()?;
    /// let other = std::thread::spawn(move || remote.cancel(Some("from outside")));
    /// assert_eq!(token.run(std::future::pending::<aioli_core::Result<()>>()).await.unwrap_err().cancel_message(), Some("from outside"));
    /// assert!(other.join().unwrap());
    /// # Ok(())
    /// # }).unwrap();
    /// ```
    pub fn remote(&self) -> Result<RemoteCancelToken> {
        let core = home::current()
            .ok_or_else(|| Error::runtime("no running event loop: a token is made remote inside of `run`"))?;
        let flag = self.node.flag.get_or_init(|| Arc::new(AtomicBool::new(self.is_cancelled())));
        let number = self.node.register(&core);
        Ok(RemoteCancelToken { remote: RemoteLoop::new(core.shared.clone()), number, fired: Arc::clone(flag) })
    }

    /// Whether both are the same token.
    pub fn same(&self, other: &CancelToken) -> bool {
        Rc::ptr_eq(&self.node, &other.node)
    }
}

impl Default for CancelToken {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for CancelToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CancelToken").field("cancelled", &self.is_cancelled()).finish_non_exhaustive()
    }
}

/// Fires a token and those below it. First all are marked, then each is heard: a foreign waker may do anything.
pub(crate) fn fire(root: &Rc<Node>, message: Message) -> bool {
    if root.fired.get() {
        return false;
    }
    let mut waiting = Vec::new();
    let mut stack = vec![Rc::clone(root)];
    while let Some(node) = stack.pop() {
        if node.fired.replace(true) {
            continue;
        }
        node.message.replace(message.clone());
        if let Some(flag) = node.flag.get() {
            flag.store(true, Ordering::Release);
        }
        waiting.extend(std::mem::take(&mut *node.waiting.borrow_mut()).into_values());
        let children = std::mem::take(&mut *node.children.borrow_mut());
        // In reverse, since the stack is worked off from its end.
        stack.extend(children.into_values().rev().filter_map(|child| child.upgrade()));
    }
    for waiting in waiting {
        match waiting {
            Waiting::Await(token) => {
                token.fire();
            }
            Waiting::Body(body) => body.cancel(&message),
        }
    }
    true
}

impl Body {
    fn cancel(&self, message: &Message) {
        if self.phase.get() == Phase::Running {
            self.phase.set(Phase::Cancelled);
            cancel::cancel_scope(&self.scope, message.clone());
        }
    }
}

impl Node {
    fn new(parent: Option<Rc<Node>>, place: u64) -> Self {
        Node {
            fired: Cell::new(false),
            message: RefCell::new(None),
            parent: Cell::new(parent),
            place,
            places: Cell::new(0),
            children: RefCell::default(),
            waiting: RefCell::default(),
            flag: OnceCell::new(),
            registered: RefCell::new(None),
        }
    }

    fn next_place(&self) -> u64 {
        let place = self.places.get();
        self.places.set(place + 1);
        place
    }

    /// Joins those that wait.
    fn enlist(&self, waiting: Waiting) -> u64 {
        let place = self.next_place();
        self.waiting.borrow_mut().insert(place, waiting);
        place
    }

    /// Leaves those that wait.
    fn delist(&self, place: &mut Option<u64>) {
        if let Some(place) = place.take() {
            let gone = self.waiting.borrow_mut().remove(&place);
            drop(gone);
        }
    }

    /// What the token is registered under with a loop.
    fn register(self: &Rc<Self>, core: &LoopRef) -> u64 {
        if let Some(known) = &*self.registered.borrow()
            && known.loop_id == core.id()
        {
            return known.number;
        }
        let number = core.register(Entry::Token(Rc::downgrade(self)));
        let fresh = Registered { owner: core.downgrade(), loop_id: core.id(), number };
        let old = self.registered.replace(Some(fresh));
        drop(old);
        number
    }
}

impl Drop for Registered {
    fn drop(&mut self) {
        if let Some(core) = self.owner.upgrade() {
            drop(core.registry.remove(self.number));
        }
    }
}

/// Leaves the parent. Ancestors that nobody else refers to go with it, one after the other: a long chain does not recurse.
impl Drop for Node {
    fn drop(&mut self) {
        let mut place = self.place;
        let mut next = self.parent.take();
        while let Some(parent) = next {
            let gone = parent.children.borrow_mut().remove(&place);
            drop(gone);
            place = parent.place;
            next = Rc::into_inner(parent).and_then(|last| last.parent.take());
        }
    }
}

/// The future of [`CancelToken::cancelled`].
///
/// Dropping it changes nothing for the token.
#[must_use = "it does not wait unless it is awaited"]
pub struct TokenCancelled {
    node: Rc<Node>,
    wait: Wait,
    place: Option<u64>,
}

impl Future for TokenCancelled {
    type Output = Result<()>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<()>> {
        let this = self.get_mut();
        if this.wait.is_registered() {
            match this.wait.poll(cx) {
                WaitPoll::Pending => return Poll::Pending,
                WaitPoll::Fired | WaitPoll::Moved(_) => this.node.delist(&mut this.place),
                WaitPoll::Cancelled(error) => {
                    this.node.delist(&mut this.place);
                    return Poll::Ready(Err(error));
                }
            }
        }
        if this.node.fired.get() {
            return Poll::Ready(Ok(()));
        }
        match this.wait.register_for(cx, Awaited::CancelToken) {
            Ok(token) => {
                this.place = Some(this.node.enlist(Waiting::Await(token)));
                Poll::Pending
            }
            Err(error) => Poll::Ready(Err(error)),
        }
    }
}

impl Drop for TokenCancelled {
    fn drop(&mut self) {
        self.node.delist(&mut self.place);
    }
}

impl fmt::Debug for TokenCancelled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TokenCancelled").field("cancelled", &self.node.fired.get()).finish_non_exhaustive()
    }
}

/// A body that runs under a token, see [`CancelToken::run`].
///
/// Dropping it drops the body, and takes back what was requested of it.
#[pin_project(PinnedDrop)]
#[must_use = "the body does not run unless this is awaited"]
pub struct TokenRun<F> {
    node: Rc<Node>,
    run: Run,
    #[pin]
    body: Option<F>,
}

/// The scope of the body, and its place among those that wait for the token.
#[derive(Default)]
struct Run {
    scope: Scope,
    entered: Option<Rc<Body>>,
    place: Option<u64>,
}

impl<F, T> Future for TokenRun<F>
where
    F: Future<Output = Result<T>>,
{
    type Output = Result<T>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<T>> {
        let mut this = self.project();
        let Some(body) = this.body.as_mut().as_pin_mut() else { return Poll::Pending };
        if let Err(error) = this.run.enter(this.node, cx) {
            return Poll::Ready(Err(error));
        }
        let result = match this.run.scope.poll_body(cx, body) {
            BodyPoll::Pending => return Poll::Pending,
            BodyPoll::Ready(result) => result,
            BodyPoll::Abandon => Err(this.run.scope.abandon()),
        };
        this.body.set(None);
        let requested = this.run.end(this.node);
        this.run.scope.leave(requested);
        Poll::Ready(result)
    }
}

impl Run {
    fn enter(&mut self, token: &Rc<Node>, cx: &Context<'_>) -> Result<()> {
        let scope = self.scope.enter(cx, &"a cancel token runs code inside of a task")?;
        if self.entered.is_none() {
            let body = Rc::new(Body { scope, phase: Cell::new(Phase::Running) });
            self.entered = Some(Rc::clone(&body));
            if token.fired.get() {
                let message = token.message.borrow().clone();
                body.cancel(&message);
            } else {
                self.place = Some(token.enlist(Waiting::Body(body)));
            }
        }
        Ok(())
    }

    /// The token has no hold of the body any more. Returns whether it cancelled it.
    fn end(&mut self, token: &Node) -> bool {
        token.delist(&mut self.place);
        let phase = self.entered.as_ref().map(|body| body.phase.replace(Phase::Over));
        phase == Some(Phase::Cancelled)
    }
}

#[pin_project::pinned_drop]
impl<F> PinnedDrop for TokenRun<F> {
    fn drop(self: Pin<&mut Self>) {
        let mut this = self.project();
        // Also if the body's destructor panics.
        let _given_up = GivenUp(this.node, this.run);
        this.body.set(None);
    }
}

/// Ends a run whose body is dropped.
struct GivenUp<'a>(&'a Node, &'a mut Run);

impl Drop for GivenUp<'_> {
    fn drop(&mut self) {
        let GivenUp(token, run) = self;
        run.end(token);
        run.scope.exit();
    }
}

impl<F> fmt::Debug for TokenRun<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TokenRun").field("cancelled", &self.node.fired.get()).finish_non_exhaustive()
    }
}

/// A [`CancelToken`] for other threads. It may outlive the loop, and does not keep the token. asyncio has no counterpart.
///
/// ```
/// # aioli_exec_sim::run(async {
/// use aioli_core::{CancelToken, to_thread};
///
/// let token = CancelToken::new();
/// let remote = token.remote()?;
/// let job = to_thread(move || {
///     let mut rounds = 0;
///     while !remote.is_cancelled() {
///         rounds += 1; // a piece of the work
///         if rounds == 3 {
///             remote.cancel(Some("three are enough"));
///         }
///     }
///     Ok(rounds)
/// });
/// assert_eq!(job.await?, 3);
/// token.cancelled().await?; // the loop has heard of it
/// # Ok(())
/// # }).unwrap();
/// ```
#[derive(Clone)]
pub struct RemoteCancelToken {
    remote: RemoteLoop,
    number: u64,
    fired: Arc<AtomicBool>,
}

impl RemoteCancelToken {
    /// Fires the token, from any thread: the loop does, in the turn after it learnt of this. Returns whether it had not fired before.
    ///
    /// If the loop is closed, only [`is_cancelled`](Self::is_cancelled) changes.
    pub fn cancel(&self, message: Option<&str>) -> bool {
        if self.fired.swap(true, Ordering::AcqRel) {
            return false;
        }
        let (number, message) = (self.number, error::message(message));
        // A closed loop runs nothing that could be cancelled.
        let _ = self.remote.call_soon_threadsafe(move || {
            let node = home::with(|core| core.registry.token(number)).flatten();
            if let Some(node) = node {
                fire(&node, message);
            }
        });
        true
    }

    /// Whether the token has fired, or is about to.
    pub fn is_cancelled(&self) -> bool {
        self.fired.load(Ordering::Acquire)
    }
}

impl fmt::Debug for RemoteCancelToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RemoteCancelToken").field("cancelled", &self.is_cancelled()).finish_non_exhaustive()
    }
}
