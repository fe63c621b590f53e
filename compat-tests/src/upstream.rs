//! [`Upstream`]: CPython's own tests of asyncio, and which of them are cases here. The list is `upstream.txt`.

use std::collections::BTreeMap;

use crate::suite::all_cases;

/// A test of CPython's that could be carried over.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Upstream {
    /// Its name, as `file::Class::test`.
    pub name: &'static str,
    /// The version of CPython whose tests have it first, of those from 3.13 on.
    pub version: &'static str,
    /// Whether it was to be carried over as it is written, or had to be rewritten.
    pub as_written: bool,
    /// What became of it.
    pub status: Status,
}

/// What became of a test of CPython's.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Status {
    /// These cases were made after it.
    Ported(Vec<String>),
    /// A test that is no case was made after it, and where that is.
    Elsewhere(&'static str),
    /// It does not concern aioli, and why.
    NotHere(&'static str),
    /// It is missing, and why.
    Missing(&'static str),
}

/// All portable tests of CPython 3.13, and those that later versions added.
///
/// # Panics
/// `upstream.txt` is not in order.
pub fn upstream() -> Vec<Upstream> {
    let mut cases = BTreeMap::<&str, Vec<String>>::new();
    for case in all_cases() {
        for &name in case.upstream {
            cases.entry(name).or_default().push(case.id());
        }
    }
    let lines = include_str!("../upstream.txt").lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    lines
        .map(|line| {
            let (head, reason) = line.split_once(" | ").unwrap_or((line, ""));
            let (kind, name) = head.split_once(' ').unwrap_or_else(|| panic!("upstream.txt: {line:?}"));
            let status = match cases.get(name) {
                Some(cases) => Status::Ported(cases.clone()),
                None => reason_of(reason).unwrap_or_else(|| panic!("upstream.txt: {line:?} has no case and no reason")),
            };
            let version = match &kind[1..] {
                "" => "3.13",
                "14" => "3.14",
                "15" => "3.15",
                _ => panic!("upstream.txt: {line:?}"),
            };
            Upstream { name, version, as_written: kind.starts_with('P'), status }
        })
        .collect()
}

fn reason_of(text: &'static str) -> Option<Status> {
    let (kind, why) = text.split_once(": ")?;
    match kind {
        "elsewhere" => Some(Status::Elsewhere(why)),
        "not here" => Some(Status::NotHere(why)),
        "missing" => Some(Status::Missing(why)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_test_has_a_case_or_a_reason_and_stands_once() {
        let all = upstream();
        let names: BTreeSet<_> = all.iter().map(|test| test.name).collect();
        assert_eq!(names.len(), all.len());
    }

    #[test]
    fn every_test_that_a_case_names_is_known() {
        let names: BTreeSet<_> = upstream().iter().map(|test| test.name).collect();
        for case in all_cases() {
            let strange: Vec<_> = case.upstream.iter().filter(|name| !names.contains(*name)).collect();
            assert!(strange.is_empty(), "{} names {strange:?}", case.id());
        }
    }

    #[test]
    fn what_has_a_case_has_no_reason_why_it_has_none() {
        let named: BTreeSet<_> = all_cases().iter().flat_map(|case| case.upstream).collect();
        let lines = include_str!("../upstream.txt").lines();
        let both: Vec<_> = lines
            .filter(|line| {
                line.split_once(" | ").is_some_and(|(head, _)| {
                    head.split_once(' ').is_some_and(|(_, name)| named.iter().any(|named| **named == name))
                })
            })
            .collect();
        assert!(both.is_empty(), "{both:#?}");
    }
}
