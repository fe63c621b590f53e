//! [`side_by_side`]: two traces, event by event.

use serde_json::Value;

/// Two traces in columns, aioli's on the left. Events that differ are marked.
pub fn side_by_side(ours: &str, theirs: &str) -> String {
    let (ours, theirs) = (events(ours), events(theirs));
    let width = ours.iter().map(String::len).max().unwrap_or(0).max(8);
    let mut text = format!("  {:width$}   CPython\n", "aioli");
    for at in 0..ours.len().max(theirs.len()) {
        let (left, right) = (ours.get(at), theirs.get(at));
        let mark = if left == right { " " } else { "≠" };
        let left = left.map_or("–", String::as_str);
        let right = right.map_or("–", String::as_str);
        text.push_str(&format!("{mark} {left:width$}   {right}\n"));
    }
    text
}

/// The events of a trace, each as `turn/tick instance name value`.
fn events(trace: &str) -> Vec<String> {
    let Ok(Value::Array(events)) = serde_json::from_str(trace) else { return vec![trace.to_owned()] };
    events.iter().map(|event| show(event).unwrap_or_else(|| event.to_string())).collect()
}

fn show(event: &Value) -> Option<String> {
    let [turn, tick, instance, name, value] = event.as_array()?.as_slice() else { return None };
    let name = name.as_str()?;
    Some(format!("{turn:>3} {tick:>3}t {instance:>3} {name} {value}"))
}
