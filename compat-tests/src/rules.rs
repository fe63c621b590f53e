//! [`Rule`]: what cases refer to. The list is `rules.txt`.

/// A law of aioli or a rule of asyncio.
#[derive(Clone, Copy, Debug)]
pub struct Rule {
    /// Its code.
    pub code: &'static str,
    /// What it says.
    pub says: &'static str,
    /// Whether and why no case can test it.
    pub bearing: Bearing,
}

/// Whether something of asyncio concerns aioli.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Bearing {
    /// It does.
    Here,
    /// It does not, and why.
    NotHere(&'static str),
    /// It does, but its tests are no cases, and where they are: they need a process of their own, say.
    Elsewhere(&'static str),
    /// What it is about does not exist yet.
    Later(&'static str),
}

impl Bearing {
    pub(crate) fn of(text: &'static str) -> Self {
        if let Some(why) = text.strip_prefix("not here: ") {
            Bearing::NotHere(why)
        } else if let Some(place) = text.strip_prefix("elsewhere: ") {
            Bearing::Elsewhere(place)
        } else if let Some(what) = text.strip_prefix("later: ") {
            Bearing::Later(what)
        } else {
            Bearing::Here
        }
    }
}

/// All laws and rules.
pub fn rules() -> Vec<Rule> {
    let lines = include_str!("../rules.txt").lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    lines
        .map(|line| {
            let (code, says) = line.split_once(" | ").unwrap_or_else(|| panic!("rules.txt: {line:?} has no \" | \""));
            Rule { code, says, bearing: Bearing::of(says) }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::all_cases;

    #[test]
    fn every_law_and_rule_has_a_case() {
        let tested: BTreeSet<_> = all_cases().iter().flat_map(|case| case.rules()).collect();
        let untested: Vec<_> =
            rules().into_iter().filter(|rule| rule.bearing == Bearing::Here && !tested.contains(rule.code)).collect();
        assert!(untested.is_empty(), "{untested:#?}");
    }

    #[test]
    fn every_case_refers_to_rules_that_concern_aioli() {
        let known: BTreeSet<_> =
            rules().iter().filter(|rule| rule.bearing == Bearing::Here).map(|rule| rule.code).collect();
        for case in all_cases() {
            assert!(case.rules().next().is_some(), "{} tests no rule", case.id());
            let strange: Vec<_> = case.rules().filter(|code| !known.contains(code)).collect();
            assert!(strange.is_empty(), "{} refers to {strange:?}", case.id());
        }
    }

    #[test]
    fn every_rule_stands_once() {
        let rules = rules();
        let codes: BTreeSet<_> = rules.iter().map(|rule| rule.code).collect();
        assert_eq!(codes.len(), rules.len());
    }
}
