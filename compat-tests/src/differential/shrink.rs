//! [`shrink`]: a smaller program that shows the same.

use super::program::{Block, Program, Slot, Stmt};

/// Makes a program smaller as long as it stays `interesting`: the function is given several candidates, and tells which is the first
/// that is.
///
/// # Errors
/// What `interesting` returns.
pub fn shrink<E>(
    program: &Program,
    mut interesting: impl FnMut(&[Program]) -> Result<Option<usize>, E>,
) -> Result<Program, E> {
    let mut best = program.clone();
    best.seed = None;
    loop {
        let mut candidates = candidates(&best);
        match interesting(&candidates)? {
            Some(first) => best = candidates.swap_remove(first),
            None => return Ok(best),
        }
    }
}

/// Programs that are one step smaller, the greatest steps first.
fn candidates(program: &Program) -> Vec<Program> {
    let mut found = Vec::new();
    for coro in 0..program.coros.len() {
        let mut smaller = program.clone();
        if !smaller.coros[coro].is_empty() {
            smaller.coros[coro].clear();
            found.push(smaller);
        }
    }
    for place in 0..program.len() {
        found.push(edited(program, place, |block, at| drop(block.remove(at))));
    }
    for place in 0..program.len() {
        let mut count = 0;
        edited(program, place, |block, at| count = simpler(&block[at]).len());
        for choice in 0..count {
            found.push(edited(program, place, |block, at| {
                let replacement = simpler(&block[at]).swap_remove(choice);
                block.splice(at..=at, replacement);
            }));
        }
    }
    found.extend(without_last(program));
    found.extend(of_earlier_version(program));
    found
}

/// The program with a change at the statement that comes `place`th.
fn edited(program: &Program, place: usize, mut edit: impl FnMut(&mut Block, usize)) -> Program {
    fn find(block: &mut Block, place: &mut usize, edit: &mut dyn FnMut(&mut Block, usize)) -> bool {
        for at in 0..block.len() {
            if *place == 0 {
                edit(block, at);
                return true;
            }
            *place -= 1;
            if block[at].blocks_mut().into_iter().any(|inner| find(inner, place, edit)) {
                return true;
            }
        }
        false
    }
    let mut program = program.clone();
    let mut place = place;
    let _ = program.coros.iter_mut().any(|body| find(body, &mut place, &mut edit));
    program
}

/// What a statement might be replaced by.
fn simpler(stmt: &Stmt) -> Vec<Block> {
    let mut found: Vec<Block> = stmt.blocks().into_iter().filter(|block| !block.is_empty()).cloned().collect();
    let mut one = |stmt: Stmt| found.push(vec![stmt]);
    let mut fewer = |ticks: i64, with: &dyn Fn(i64) -> Stmt| {
        for less in [0, 1, ticks / 2, ticks - 1].into_iter().filter(|less| *less >= 0 && *less < ticks) {
            one(with(less));
        }
    };
    match stmt {
        Stmt::Sleep(ticks) => fewer(*ticks, &Stmt::Sleep),
        Stmt::CallLater(handle, ticks, k) => fewer(*ticks, &|less| Stmt::CallLater(*handle, less, *k)),
        Stmt::Timeout(Some(ticks), body) => fewer(*ticks, &|less| Stmt::Timeout(Some(less), body.clone())),
        Stmt::Reschedule(Some(ticks)) => fewer(*ticks, &|less| Stmt::Reschedule(Some(less))),
        Stmt::WaitFor(item, Some(ticks)) => fewer(*ticks, &|less| Stmt::WaitFor(*item, Some(less))),
        Stmt::Wait(slots, mode, limit) => {
            if let Some(ticks) = limit {
                fewer(*ticks, &|less| Stmt::Wait(slots.clone(), *mode, Some(less)));
                one(Stmt::Wait(slots.clone(), *mode, None));
            }
            without_one(slots).for_each(|fewer| one(Stmt::Wait(fewer, *mode, *limit)));
        }
        Stmt::AsCompleted(slots, limit) => {
            if let Some(ticks) = limit {
                fewer(*ticks, &|less| Stmt::AsCompleted(slots.clone(), Some(less)));
                one(Stmt::AsCompleted(slots.clone(), None));
            }
            without_one(slots).for_each(|fewer| one(Stmt::AsCompleted(fewer, *limit)));
        }
        Stmt::Gather(items, with_errors) => {
            without_one(items).for_each(|fewer| one(Stmt::Gather(fewer, *with_errors)));
            if *with_errors {
                one(Stmt::Gather(items.clone(), false));
            }
        }
        Stmt::GatherTo(number, items, with_errors) => {
            without_one(items).for_each(|fewer| one(Stmt::GatherTo(*number, fewer, *with_errors)));
            if *with_errors {
                one(Stmt::GatherTo(*number, items.clone(), false));
            }
        }
        Stmt::GCancel(number, Some(_)) => one(Stmt::GCancel(*number, None)),
        Stmt::LaterAct(handle, ticks, body) => {
            fewer(*ticks, &|less| Stmt::LaterAct(*handle, less, body.clone()));
            one(Stmt::SoonAct(*handle, body.clone()));
        }
        Stmt::CondWaitFor(cond, _) => one(Stmt::CondWait(*cond)),
        Stmt::Loop(count, body) if *count > 1 => one(Stmt::Loop(count - 1, body.clone())),
        Stmt::Spawn { slot, coro, eager: true } => one(Stmt::Spawn { slot: *slot, coro: *coro, eager: false }),
        Stmt::Cancel(slot, Some(_)) => one(Stmt::Cancel(*slot, None)),
        Stmt::RaiseCancelled(Some(_)) => one(Stmt::RaiseCancelled(None)),
        Stmt::Try { body, handlers, finally } => {
            let with = |handlers, finally| Stmt::Try { body: body.clone(), handlers, finally };
            without_one(handlers).for_each(|fewer| one(with(fewer, finally.clone())));
            for at in 0..handlers.len() {
                if handlers[at].reraise {
                    let mut handlers = handlers.clone();
                    handlers[at].reraise = false;
                    one(with(handlers, finally.clone()));
                }
            }
        }
        _ => (),
    }
    found
}

/// The list without each of its members.
fn without_one<T: Clone>(list: &[T]) -> impl Iterator<Item = Vec<T>> + '_ {
    (0..list.len()).map(|at| {
        let mut fewer = list.to_vec();
        fewer.remove(at);
        fewer
    })
}

/// The program without the last of each kind of thing, where it is not used.
fn without_last(program: &Program) -> Vec<Program> {
    let mut used = Used::default();
    program.visit(|stmt| used.note(stmt));
    let mut found = Vec::new();
    let mut attempt = |unused: bool, change: fn(&mut Program)| {
        if unused {
            let mut smaller = program.clone();
            change(&mut smaller);
            found.push(smaller);
        }
    };
    attempt(program.coros.len() > used.coros.max(1), |program| drop(program.coros.pop()));
    attempt(program.futures > used.futures, |program| program.futures -= 1);
    attempt(program.locks > used.locks, |program| program.locks -= 1);
    attempt(program.events > used.events, |program| program.events -= 1);
    attempt(program.conds > used.conds, |program| program.conds -= 1);
    attempt(program.vars > used.vars, |program| program.vars -= 1);
    attempt(program.sems.len() > used.sems, |program| program.sems.truncate(program.sems.len() - 1));
    attempt(program.barriers.len() > used.barriers, |program| program.barriers.truncate(program.barriers.len() - 1));
    attempt(program.queues.len() > used.queues, |program| program.queues.truncate(program.queues.len() - 1));
    found
}

/// The program in the first version that has its statements, where it is in a later one.
fn of_earlier_version(program: &Program) -> Option<Program> {
    let version = program.needs();
    (version < program.version).then(|| Program { version, ..program.clone() })
}

/// How many there are at least of everything that statements name.
#[derive(Default)]
struct Used {
    coros: usize,
    futures: usize,
    locks: usize,
    events: usize,
    conds: usize,
    vars: usize,
    sems: usize,
    barriers: usize,
    queues: usize,
}

impl Used {
    fn note(&mut self, stmt: &Stmt) {
        use super::program::Item;
        let raise = |count: &mut usize, number: usize| *count = (*count).max(number + 1);
        let mut item = |given: &Item| match given {
            Item::Slot(Slot::Future(n)) => raise(&mut self.futures, *n),
            Item::Coro(n) => raise(&mut self.coros, *n),
            Item::Slot(Slot::Task(_)) => (),
        };
        match stmt {
            Stmt::Await(given) | Stmt::WaitFor(given, _) | Stmt::Shield(given) | Stmt::ShieldTo(_, given) => {
                item(given)
            }
            Stmt::Gather(items, _) | Stmt::GatherTo(_, items, _) => items.iter().for_each(item),
            Stmt::Wait(slots, ..) | Stmt::AsCompleted(slots, _) => {
                slots.iter().for_each(|slot| item(&Item::Slot(*slot)))
            }
            Stmt::Cancel(slot, _) | Stmt::State(slot) | Stmt::DoneCb(slot, _) | Stmt::DoneAct(slot, _) => {
                item(&Item::Slot(*slot))
            }
            Stmt::Spawn { coro, .. } | Stmt::Gspawn { coro, .. } => raise(&mut self.coros, *coro),
            Stmt::SetResult(n, _) | Stmt::SetError(n, _) => raise(&mut self.futures, *n),
            Stmt::Lock(n, _) | Stmt::Acquire(n) | Stmt::Release(n) => raise(&mut self.locks, *n),
            Stmt::EventWait(n) | Stmt::EventSet(n) | Stmt::EventClear(n) => raise(&mut self.events, *n),
            Stmt::Cond(n, _) | Stmt::CondWait(n) | Stmt::Notify(n, _) | Stmt::NotifyAll(n) => {
                raise(&mut self.conds, *n)
            }
            Stmt::CondWaitFor(n, event) => {
                raise(&mut self.conds, *n);
                raise(&mut self.events, *event);
            }
            Stmt::Sem(n, _) | Stmt::SemRelease(n) | Stmt::SemAcquire(n) => raise(&mut self.sems, *n),
            Stmt::Barrier(n) | Stmt::BarrierReset(n) | Stmt::BarrierAbort(n) => raise(&mut self.barriers, *n),
            Stmt::Put(n, _)
            | Stmt::Get(n)
            | Stmt::Join(n)
            | Stmt::PutNowait(n, _)
            | Stmt::GetNowait(n)
            | Stmt::TaskDone(n)
            | Stmt::Shutdown(n, _) => raise(&mut self.queues, *n),
            Stmt::CtxSet(n, _) | Stmt::CtxGet(n) => raise(&mut self.vars, *n),
            _ => (),
        }
    }
}
