//! When a loop looks for events before it sleeps.
#![allow(missing_docs)]

use std::cell::Cell;
use std::thread;
use std::time::{Duration, Instant};

use aioli_exec_linux::{Spin, Timeout};

/// No look of these tests takes as long, but for those that are to.
const LIMIT: Duration = Duration::from_millis(200);
const LONG: Duration = Duration::from_secs(3600);

/// One that has seen many short sleeps, and looks.
fn looking() -> Spin {
    let mut spin = Spin::new(LIMIT);
    let started = Instant::now();
    while !spin.is_on(Timeout::Forever) {
        assert!(started.elapsed() < Duration::from_secs(10), "it never looks");
        let before = spin.before_sleep();
        spin.after_sleep(before, true);
    }
    spin
}

/// Looks, and finds something at the look with this number.
fn find_at(spin: &mut Spin, number: u32) -> Option<Timeout> {
    let looks = Cell::new(0);
    let look = || {
        looks.set(looks.get() + 1);
        Ok(looks.get() == number)
    };
    let left = spin.look(Timeout::Forever, look).unwrap();
    assert_eq!(looks.get(), number);
    left
}

#[test]
fn what_is_found_ends_the_look_at_once() {
    let mut spin = looking();
    for number in 1..100 {
        assert_eq!(find_at(&mut spin, number), None);
        assert!(spin.is_on(Timeout::Forever));
    }
}

#[test]
fn what_is_never_found_ends_the_looking() {
    let mut spin = looking();
    let mut misses = 0;
    while spin.is_on(Timeout::Forever) {
        let left = spin.look(Timeout::For(LONG), || Ok(false)).unwrap();
        assert!(matches!(left, Some(Timeout::For(left)) if left < LONG - LIMIT), "{left:?}");
        misses += 1;
    }
    assert_eq!(misses, 2);
}

/// Another program has had the processor meanwhile: a sleeper would have got it back sooner.
#[test]
fn what_is_found_too_late_ends_the_looking() {
    let mut spin = looking();
    for _ in 0..2 {
        assert!(spin.is_on(Timeout::Forever));
        let looks = Cell::new(0);
        let look = || {
            looks.set(looks.get() + 1);
            if looks.get() == 2 {
                thread::sleep(LIMIT + Duration::from_millis(10));
            }
            Ok(looks.get() == 2)
        };
        assert_eq!(spin.look(Timeout::Forever, look).unwrap(), None);
    }
    assert!(!spin.is_on(Timeout::Forever));
}

/// Where nearly everything was found, the time is not taken always.
#[test]
fn what_is_found_too_late_ends_the_looking_of_one_that_was_right_for_long() {
    const SHORT_LIMIT: Duration = Duration::from_millis(20);
    let mut spin = Spin::new(SHORT_LIMIT);
    while !spin.is_on(Timeout::Forever) {
        let before = spin.before_sleep();
        spin.after_sleep(before, true);
    }
    for _ in 0..1000 {
        assert_eq!(find_at(&mut spin, 1), None);
    }
    let late = |spin: &mut Spin| {
        let look = || {
            thread::sleep(SHORT_LIMIT + Duration::from_millis(1));
            Ok(true)
        };
        spin.look(Timeout::Forever, look).unwrap()
    };
    let times = (1..=100).take_while(|_| spin.is_on(Timeout::Forever) && late(&mut spin).is_none()).count();
    assert!((2..=16).contains(&times), "{times}");
}

#[test]
fn what_is_never_found_ends_the_looking_of_one_that_was_right_for_long() {
    let mut spin = looking();
    for _ in 0..1000 {
        assert_eq!(find_at(&mut spin, 1), None);
    }
    let mut misses = 0;
    while spin.is_on(Timeout::Forever) {
        assert!(spin.look(Timeout::Forever, || Ok(false)).unwrap().is_some());
        misses += 1;
    }
    assert_eq!(misses, 8);
}

#[test]
fn an_error_of_a_look_is_that_of_the_looking() {
    let error = looking().look(Timeout::Forever, || Err(std::io::ErrorKind::Other.into())).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::Other);
}
