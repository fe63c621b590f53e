//! [`next`]: numbers for what is in use at a time.

/// The numbers from here on are given out again and again; those below once.
const AGAIN: u32 = 1 << 30;

/// All numbers are below: there is room for a mark.
pub(crate) const END: u32 = 1 << 31;

/// The number after the last one that was given out, 0 at first. It is none that is in use, however long that has been.
///
/// Whether one is in use is asked only after the first billion: so nearly never.
#[inline]
pub(crate) fn next(last: u32, in_use: impl Fn(u32) -> bool) -> u32 {
    match next_plainly(last) {
        Some(number) => number,
        None => next_unused(last, in_use),
    }
}

/// The number after the last one, if it is one of those that are given out once.
#[inline]
pub(crate) fn next_plainly(last: u32) -> Option<u32> {
    (last < AGAIN - 1).then_some(last + 1)
}

#[cold]
fn next_unused(last: u32, in_use: impl Fn(u32) -> bool) -> u32 {
    let after = |number| if number < END - 1 { number + 1 } else { AGAIN };
    let mut number = after(last);
    while in_use(number) {
        number = after(number);
    }
    number
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_ascend_from_one() {
        assert_eq!(next(0, |_| unreachable!("asked without need")), 1);
        assert_eq!(next(AGAIN - 2, |_| unreachable!("asked without need")), AGAIN - 1);
    }

    #[test]
    fn a_number_that_is_in_use_is_not_given_out_again() {
        assert_eq!(next(AGAIN - 1, |_| false), AGAIN);
        assert_eq!(next(END - 1, |_| false), AGAIN);
        assert_eq!(next(END - 3, |number| number > END - 3 || number == AGAIN), AGAIN + 1);
    }

    #[test]
    fn a_number_of_the_first_round_is_never_given_out_again() {
        let mut last = END - 10;
        for _ in 0..100 {
            last = next(last, |_| false);
            assert!((AGAIN..END).contains(&last));
        }
    }
}
