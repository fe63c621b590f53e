//! Figures of several runtimes side by side, smaller being better.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use crate::workload::disqualified;

/// Runtimes whose name starts so are ours; the others are peers.
const OURS: &str = "aioli";

/// A table of figures with, for each workload, the ratio of aioli's to the best peer's.
///
/// Shown as Markdown: medians of what was added, the best peer in bold, a figure that does not count in parentheses, and `LOSES`
/// where aioli's is larger than the best peer's.
#[derive(Debug, Default)]
pub struct Comparison {
    rows: Vec<Row>,
}

#[derive(Debug)]
struct Row {
    label: String,
    workload: String,
    figures: BTreeMap<String, Vec<f64>>,
}

impl Comparison {
    /// Adds one repetition's figure. `what` is the workload's name, and after a space whatever tells rows of one workload apart, such as
    /// the unit. Rows appear in the order in which they were first added.
    pub fn add(&mut self, what: &str, runtime: &str, figure: f64) {
        let index = self.rows.iter().position(|row| row.label == what).unwrap_or_else(|| {
            let workload = what.split(' ').next().unwrap_or_default().to_owned();
            self.rows.push(Row { label: what.to_owned(), workload, figures: BTreeMap::new() });
            self.rows.len() - 1
        });
        self.rows[index].figures.entry(runtime.to_owned()).or_default().push(figure);
    }
}

impl Row {
    fn median(&self, runtime: &str) -> Option<f64> {
        self.figures.get(runtime).map(|figures| median(figures))
    }

    fn best_peer(&self) -> Option<(&str, f64)> {
        let peers = self.figures.iter().map(|(runtime, figures)| (runtime.as_str(), median(figures)));
        peers
            .filter(|(runtime, _)| !runtime.starts_with(OURS) && disqualified(&self.workload, runtime).is_none())
            .min_by(|a, b| a.1.total_cmp(&b.1))
    }
}

impl fmt::Display for Comparison {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let runtimes: BTreeSet<&str> =
            self.rows.iter().flat_map(|row| row.figures.keys().map(String::as_str)).collect();
        let (ours, peers): (Vec<&str>, Vec<&str>) = runtimes.into_iter().partition(|runtime| runtime.starts_with(OURS));

        write!(f, "| workload |")?;
        ours.iter().chain(&peers).try_for_each(|runtime| write!(f, " {runtime} |"))?;
        write!(f, " best peer |")?;
        ours.iter().try_for_each(|runtime| write!(f, " {runtime} / best |"))?;
        write!(f, "\n|---|{}", "---:|".repeat(2 * ours.len() + peers.len() + 1))?;

        let mut notes = BTreeSet::new();
        for row in &self.rows {
            let best = row.best_peer();
            write!(f, "\n| {} |", row.label)?;
            for runtime in ours.iter().chain(&peers) {
                match (row.median(runtime), disqualified(&row.workload, runtime)) {
                    (None, _) => write!(f, " – |")?,
                    (Some(figure), Some(reason)) => {
                        notes.insert(format!("({}: {reason}.)", row.workload));
                        write!(f, " ({}) |", short(figure))?;
                    }
                    (Some(figure), None) if best.is_some_and(|(name, _)| name == *runtime) => {
                        write!(f, " **{}** |", short(figure))?;
                    }
                    (Some(figure), None) => write!(f, " {} |", short(figure))?,
                }
            }
            write!(f, " {} |", best.map_or("–", |(name, _)| name))?;
            for runtime in &ours {
                match row.median(runtime).zip(best).map(|(figure, (_, best))| figure / best) {
                    None => write!(f, " – |")?,
                    Some(ratio) if ratio > 1.0 => write!(f, " {ratio:.2} LOSES |")?,
                    Some(ratio) => write!(f, " {ratio:.2} |")?,
                }
            }
        }
        writeln!(f)?;
        notes.iter().try_for_each(|note| write!(f, "\n{note}\n"))
    }
}

/// The middle of `figures`; of an even number, the mean of the two in the middle.
///
/// # Panics
///
/// If there is none.
pub fn median(figures: &[f64]) -> f64 {
    let mut sorted = figures.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    if sorted.len().is_multiple_of(2) { sorted[middle - 1].midpoint(sorted[middle]) } else { sorted[middle] }
}

/// Three digits where there are that many.
pub fn short(figure: f64) -> String {
    let decimals = if figure.abs() >= 100.0 { 0 } else { 1 + usize::from(figure.abs() < 10.0) };
    format!("{figure:.decimals$}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians() {
        assert_eq!(median(&[3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(&[4.0, 1.0, 2.0, 3.0]), 2.5);
    }

    #[test]
    fn ratios_are_to_the_best_peer_that_counts() {
        let mut comparison = Comparison::default();
        for (runtime, figure) in [("tokio", 40.0), ("monoio-uring", 10.0), ("glommio", 20.0), ("aioli-epoll", 25.0)] {
            comparison.add("yield_rr_wake", runtime, figure);
            comparison.add("ring ns", runtime, figure);
        }
        comparison.add("ring ns", "aioli-uring", 5.0);
        let table = comparison.to_string();
        let row = |label: &str| table.lines().find(|line| line.starts_with(&format!("| {label} |"))).unwrap();
        assert_eq!(
            row("yield_rr_wake"),
            "| yield_rr_wake | 25.0 | – | **20.0** | (10.0) | 40.0 | glommio | 1.25 LOSES | – |"
        );
        assert_eq!(
            row("ring ns"),
            "| ring ns | 25.0 | 5.00 | 20.0 | **10.0** | 40.0 | monoio-uring | 2.50 LOSES | 0.50 |"
        );
        assert!(table.contains("(yield_rr_wake: monoio puts"), "the reason stands below: {table}");
    }
}
