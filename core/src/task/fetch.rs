//! [`fetch`]: tells the processor of memory that will be needed soon.

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
