//! A timer queue for event loops: a pure data structure without clock, threads or I/O.
//!
//! [`TimerQueue`] keeps timers with absolute deadlines, in nanoseconds of whatever clock its owner reads. Arming and cancelling take
//! constant time and, once the memory has grown to the number of live timers, allocate nothing. Deadlines are exact: a timer is never
//! rounded to a tick, [`expire`](TimerQueue::expire) reports it when its deadline has come and not before, in the order of the
//! deadlines, and those with equal deadlines in the order in which they were armed.
//!
//! # A timer's life
//!
//! ```text
//!            insert              arm
//!   (nothing) ────► idle ─────────────────► armed ◄─┐ arm
//!                    │ make_due   make_due or │  └──┘
//!                    │              expire    │
//!                    └────────► due ◄─────────┘
//!                                │ take: the slot is free again
//!                                ▼
//!                            (nothing)
//! ```
//!
//! [`cancel`](TimerQueue::cancel) hands the value back at any point. An idle or armed timer is gone then. A due timer was announced
//! already, and whoever was told still holds its key: its slot stays, without the value, until [`take`](TimerQueue::take) asks for it.
//!
//! A [`TimerKey`] names one timer for good: after the timer is gone the key is stale, every operation on it does nothing and says so,
//! also when the memory serves another timer by then.
//!
//! # Example
//!
//! ```
//! use aioli_timers::TimerQueue;
//!
//! let mut timers = TimerQueue::new(0); // the clock reads 0 ns
//! let tea = timers.insert("tea");
//! let egg = timers.insert("egg");
//! timers.arm(tea, 180_000);
//! timers.arm(egg, 360_000);
//! assert_eq!(timers.next_wake(), Some(180_000)); // how long the loop may sleep
//!
//! let mut due = Vec::new();
//! timers.expire(200_000, |key| due.push(key));
//! assert_eq!(due, [tea]);
//! assert_eq!(timers.take(tea), Some("tea"));
//! assert_eq!(timers.take(tea), None); // the key is stale now
//!
//! assert_eq!(timers.cancel(egg), Some("egg"));
//! assert!(timers.is_empty());
//! ```
//!
//! # Compared to asyncio
//!
//! asyncio's loop keeps a heap of `TimerHandle`s: `call_at` is [`insert`](TimerQueue::insert) and [`arm`](TimerQueue::arm) here, and
//! `TimerHandle.cancel` is [`cancel`](TimerQueue::cancel), which removes the timer where asyncio only marks it. asyncio leaves the order
//! of equal deadlines open; here it is the arming order.
//!
//! # What runs inside
//!
//! No value is ever dropped by the queue but when the queue itself is dropped: values are handed out, after the queue is whole again.
//! The one piece of foreign code that runs inside is the closure given to `expire`; should it panic, the queue stays consistent, and
//! the timers it was not given yet stay armed.
#![forbid(unsafe_code)]

mod chunk;
mod key;
mod queue;
mod run;
mod slab;
mod wheel;

pub use key::TimerKey;
pub use queue::TimerQueue;
