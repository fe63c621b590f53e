//! [`objects`]: how many coroutine objects a program makes.

use crate::differential::program::{Block, Item, Program, Stmt};

/// How many coroutine objects a program makes at most.
pub(super) fn objects(program: &Program) -> usize {
    // A coroutine makes only those after it.
    let mut counts = vec![0usize; program.coros.len()];
    for (number, body) in program.coros.iter().enumerate().rev() {
        counts[number] = 1 + block_objects(body, &counts);
    }
    counts[0]
}

fn block_objects(block: &Block, counts: &[usize]) -> usize {
    let mut sum = 0usize;
    for stmt in block {
        let inside: usize = stmt.blocks().into_iter().map(|block| block_objects(block, counts)).sum();
        let item = |item: &Item| if let Item::Coro(number) = item { counts[*number] } else { 0 };
        sum = sum.saturating_add(match stmt {
            Stmt::Loop(count, _) => count.saturating_mul(inside),
            Stmt::Spawn { coro, .. } | Stmt::Gspawn { coro, .. } => counts[*coro],
            Stmt::Await(given) | Stmt::WaitFor(given, _) | Stmt::Shield(given) | Stmt::ShieldTo(_, given) => {
                item(given)
            }
            Stmt::Gather(items, _) | Stmt::GatherTo(_, items, _) => items.iter().map(item).sum(),
            _ => inside,
        });
    }
    sum
}
