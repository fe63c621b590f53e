//! What can be gathered: tuples and collections of awaitables.

use crate::awaitable::{Awaitable, Child};
use crate::error::Result;
use crate::task::RawFuture;

/// A tuple of up to twelve awaitables, or a vector or array of them: what [`gather`](crate::gather) takes.
///
/// There is nothing to implement. The values have the shape of what was given: a tuple for a tuple, a vector for a vector or an
/// array.
///
/// ```
/// # aioli_exec_sim::run(async {
/// use aioli_core::{GatherSet, Result, gather_results, sleep, timeout};
///
/// /// All results, within a time.
/// async fn within<S: GatherSet>(seconds: f64, set: S) -> Result<impl Sized> {
///     timeout(seconds, gather_results(set)).await
/// }
///
/// within(3.0, (sleep(1.0), async { Ok("two") })).await?;
/// within(3.0, [1.0, 2.0].map(|seconds| sleep(seconds))).await?;
/// assert!(within(3.0, vec![sleep(60.0)]).await.is_err());
/// # Ok(())
/// # }).unwrap();
/// ```
pub trait GatherSet {
    /// The futures to wait for.
    #[doc(hidden)]
    type Children: Children;

    #[doc(hidden)]
    #[track_caller]
    fn into_children(self) -> Result<Self::Children>;
}

/// The futures of a gather.
pub trait Children: 'static {
    /// All values.
    type Values: 'static;
    /// All results.
    type Results: 'static;

    #[doc(hidden)]
    fn each(&self, visit: &mut dyn FnMut(RawChild));

    #[doc(hidden)]
    fn values(&self) -> Result<Self::Values>;

    #[doc(hidden)]
    fn results(&self) -> Self::Results;
}

/// A future whose type does not matter.
#[doc(hidden)]
#[derive(Debug)]
pub struct RawChild(pub(crate) RawFuture);

impl<A: Awaitable> GatherSet for Vec<A> {
    type Children = Vec<Child<A::Value>>;

    #[track_caller]
    fn into_children(self) -> Result<Self::Children> {
        self.into_iter().map(Awaitable::into_child).collect()
    }
}

impl<A: Awaitable, const N: usize> GatherSet for [A; N] {
    type Children = Vec<Child<A::Value>>;

    #[track_caller]
    fn into_children(self) -> Result<Self::Children> {
        self.into_iter().map(Awaitable::into_child).collect()
    }
}

impl<T: 'static> Children for Vec<Child<T>> {
    type Values = Vec<T>;
    type Results = Vec<Result<T>>;

    fn each(&self, visit: &mut dyn FnMut(RawChild)) {
        self.iter().for_each(|child| visit(RawChild(child.raw().clone())));
    }

    fn values(&self) -> Result<Vec<T>> {
        self.iter().map(Child::read).collect()
    }

    fn results(&self) -> Vec<Result<T>> {
        self.iter().map(Child::entry).collect()
    }
}

/// Each tuple is gathered member by member, left to right.
macro_rules! tuples {
    ($($member:ident $index:tt),+) => {
        impl<$($member: Awaitable),+> GatherSet for ($($member,)+) {
            type Children = ($(Child<$member::Value>,)+);

            #[track_caller]
            fn into_children(self) -> Result<Self::Children> {
                Ok(($(self.$index.into_child()?,)+))
            }
        }

        impl<$($member: 'static),+> Children for ($(Child<$member>,)+) {
            type Values = ($($member,)+);
            type Results = ($(Result<$member>,)+);

            fn each(&self, visit: &mut dyn FnMut(RawChild)) {
                $(visit(RawChild(self.$index.raw().clone()));)+
            }

            fn values(&self) -> Result<Self::Values> {
                Ok(($(self.$index.read()?,)+))
            }

            fn results(&self) -> Self::Results {
                ($(self.$index.entry(),)+)
            }
        }
    };
}

tuples!(A 0);
tuples!(A 0, B 1);
tuples!(A 0, B 1, C 2);
tuples!(A 0, B 1, C 2, D 3);
tuples!(A 0, B 1, C 2, D 3, E 4);
tuples!(A 0, B 1, C 2, D 3, E 4, F 5);
tuples!(A 0, B 1, C 2, D 3, E 4, F 5, G 6);
tuples!(A 0, B 1, C 2, D 3, E 4, F 5, G 6, H 7);
tuples!(A 0, B 1, C 2, D 3, E 4, F 5, G 6, H 7, I 8);
tuples!(A 0, B 1, C 2, D 3, E 4, F 5, G 6, H 7, I 8, J 9);
tuples!(A 0, B 1, C 2, D 3, E 4, F 5, G 6, H 7, I 8, J 9, K 10);
tuples!(A 0, B 1, C 2, D 3, E 4, F 5, G 6, H 7, I 8, J 9, K 10, L 11);
