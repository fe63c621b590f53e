//! [`prefetch`]: tells the processor of memory that will be needed soon.

/// What the processor fetches at once.
const LINE: usize = 64;

/// Has the processor fetch so many lines of memory, from `start` on.
#[inline(always)]
pub(crate) fn fetch<const LINES: usize>(start: *const u8) {
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        for line in 0..LINES {
            // SAFETY: a prefetch is a hint: it may name any address, and reads nothing.
            unsafe { _mm_prefetch::<_MM_HINT_T0>(start.wrapping_add(line * LINE).cast()) };
        }
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = (start, LINE);
}

/// Has the processor fetch what a reference leads to, without waiting for it: what a driver knows of a socket whose turn comes soon,
/// say. With many connections the kernel's work for one of them pushes the others out of the caches.
///
/// ```
/// use aioli_core::driver::prefetch;
///
/// let entries = vec![[1u64; 8]; 1000];
/// let mut sum = 0;
/// for n in [700, 3, 512, 44] {
///     entries.get(n + 4).inspect(|next| prefetch(*next));
///     sum += entries[n][0];
/// }
/// assert_eq!(sum, 4); // it changes nothing but the time this takes
/// ```
#[inline(always)]
pub fn prefetch<T>(value: &T) {
    let start = std::ptr::from_ref(value).cast::<u8>();
    for line in 0..size_of::<T>().div_ceil(LINE) {
        fetch::<1>(start.wrapping_add(line * LINE));
    }
}
