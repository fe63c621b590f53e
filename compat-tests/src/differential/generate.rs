//! [`generate`]: random programs, weighted towards races.

mod acting;
mod objects;

use fastrand::Rng;

use super::program::{
    Block, Catch, Handler, Item, Program, QueueKind, QueueSpec, Slot, Stmt, Ticks, Version, WaitMode,
};
use objects::objects;

/// The program of a version that a seed stands for.
pub fn generate(seed: u64, version: Version) -> Program {
    let mut rng = Rng::with_seed(seed);
    loop {
        let mut program = Generator::new(&mut rng, version).program();
        if objects(&program) <= OBJECTS {
            program.seed = Some(seed);
            return program;
        }
    }
}

/// How many coroutine objects a program may make at most.
const OBJECTS: usize = 32;
/// How deep statements are nested.
const DEPTH: usize = 4;

/// What a program is about: the more there is of everything, the less of it meets.
#[derive(Clone, Copy, Default)]
struct Theme {
    waits: bool,
    scopes: bool,
    callbacks: bool,
    eager: bool,
    /// Callbacks that act. This and what follows is of version 2.
    acting: bool,
    /// Gathers and shields that are made now and awaited later.
    kept: bool,
    /// A loop that may be stopped.
    stops: bool,
}

struct Generator<'a> {
    rng: &'a mut Rng,
    program: Program,
    /// Which coroutine is spawned into each slot. Coroutines wait only for later ones, so that there are no circles.
    slots: Vec<usize>,
    theme: Theme,
    /// The coroutine that is being written.
    coro: usize,
    depth: usize,
    in_group: bool,
    in_timeout: bool,
    in_loop: bool,
}

/// What a statement is made of, drawn by weight.
#[derive(Clone, Copy)]
enum Kind {
    Sleep,
    Log,
    Spawn,
    Await,
    Cancel,
    Burst,
    Counting,
    State,
    Raise,
    Return,
    Loop,
    Try,
    Future,
    DoneCb,
    Gather,
    Wait,
    WaitFor,
    Shield,
    AsCompleted,
    Timeout,
    Reschedule,
    Group,
    Gspawn,
    Callback,
    Lock,
    Event,
    Cond,
    Sem,
    Barrier,
    Queue,
    Context,
    KeptGather,
    KeptShield,
    Acting,
    SemAcquire,
    CondWaitFor,
    States,
    Stop,
}

impl<'a> Generator<'a> {
    fn new(rng: &'a mut Rng, version: Version) -> Self {
        let mut theme = Theme {
            waits: rng.u8(..10) < 6,
            scopes: rng.u8(..10) < 7,
            callbacks: rng.u8(..10) < 4,
            eager: rng.u8(..10) < 3,
            ..Theme::default()
        };
        // A seed of version 1 stands for the same program as ever: nothing more is drawn for it.
        if version >= Version::Two {
            theme.acting = rng.u8(..10) < 7;
            theme.kept = rng.u8(..10) < 6;
            theme.stops = rng.u8(..10) < 2;
        }
        let mut some = |chance: u8, most: usize| if rng.u8(..100) < chance { rng.usize(1..=most) } else { 0 };
        let (futures, locks, events, conds, vars) = (some(60, 3), some(30, 2), some(25, 2), some(28, 2), some(15, 2));
        let (sems, barriers, queues) = (some(25, 2), some(22, 2), some(38, 2));
        let coros = rng.usize(2..=6);
        let program = Program {
            version,
            futures,
            locks,
            events,
            conds,
            vars,
            sems: (0..sems).map(|_| rng.usize(0..=2)).collect(),
            barriers: (0..barriers).map(|_| rng.usize(1..=3)).collect(),
            queues: (0..queues)
                .map(|_| QueueSpec {
                    kind: [QueueKind::Fifo, QueueKind::Lifo, QueueKind::Priority][rng.usize(..3)],
                    maxsize: rng.usize(0..=2),
                })
                .collect(),
            coros: vec![Vec::new(); coros],
            seed: None,
        };
        let slots =
            (0..rng.usize(coros - 1..=coros + 2)).map(|n| if n + 1 < coros { n + 1 } else { rng.usize(1..coros) });
        let slots = slots.collect();
        Generator { rng, program, slots, theme, coro: 0, depth: 0, in_group: false, in_timeout: false, in_loop: false }
    }

    fn program(mut self) -> Program {
        for number in 0..self.program.coros.len() {
            self.coro = number;
            let mut body = Vec::new();
            if number == 0 || self.chance(25) {
                self.begin_tasks(&mut body);
            }
            if number > 0 && self.chance(85) {
                self.suspend(&mut body);
            }
            let length = if number == 0 { self.rng.usize(2..=7) } else { self.rng.usize(0..=4) };
            for _ in 0..length {
                self.extend(&mut body);
            }
            self.program.coros[number] = body;
        }
        self.program
    }

    /// Spawns some tasks, and often cancels some of them soon.
    fn begin_tasks(&mut self, body: &mut Block) {
        let begun: Vec<_> = (0..self.rng.usize(1..=4)).filter_map(|_| self.spawn()).collect();
        let slots: Vec<_> = begun
            .iter()
            .filter_map(|stmt| if let Stmt::Spawn { slot, .. } = stmt { Some(*slot) } else { None })
            .collect();
        body.extend(begun);
        if slots.is_empty() || !self.chance(90) {
            return;
        }
        for _ in 0..self.pick(&[0usize, 1, 1, 1, 1, 1, 2]) {
            body.push(Stmt::Sleep(self.pick(&[0, 0, 1, 1, 2])));
        }
        if self.chance(30) {
            body.push(self.instant());
        }
        for _ in 0..self.rng.usize(1..=3) {
            body.push(Stmt::Cancel(Slot::Task(self.pick(&slots)), self.message()));
        }
        if self.chance(30) {
            body.push(self.instant());
        }
        if self.chance(60) {
            body.push(Stmt::Sleep(self.ticks()));
        }
    }

    /// Something that takes a while, with a cleanup around it as often as not.
    fn suspend(&mut self, body: &mut Block) {
        let stmt = match self.rng.u8(..10) {
            0..7 => Some(Stmt::Sleep(self.pick(&[1, 2, 2, 3, 5, 8]))),
            _ => self.wait_for_others(),
        };
        let Some(stmt) = stmt else { return };
        if self.chance(50) {
            return body.push(stmt);
        }
        let mut inside = vec![stmt];
        inside.extend(self.some_block(30, 1));
        let handlers = (0..self.rng.usize(0..=1)).map(|_| self.handler()).collect();
        body.push(Stmt::Try { body: inside, handlers, finally: self.some_block(40, 2) });
    }

    /// A wait for whatever the program has to wait for.
    fn wait_for_others(&mut self) -> Option<Stmt> {
        let Program { futures, locks, events, conds, sems, barriers, queues, .. } = &self.program;
        let mut choices: Vec<fn(&mut Self) -> Option<Stmt>> = vec![|this| this.item().map(Stmt::Await)];
        let mut offer = |there_is: bool, choice: fn(&mut Self) -> Option<Stmt>| {
            if there_is {
                choices.push(choice);
            }
        };
        offer(*futures > 0, |this| Some(Stmt::Await(Item::Slot(Slot::Future(this.rng.usize(..this.program.futures))))));
        offer(*locks > 0, |this| Some(this.lock()));
        offer(*events > 0, |this| Some(Stmt::EventWait(this.rng.usize(..this.program.events))));
        offer(*conds > 0, |this| Some(this.cond()));
        offer(!sems.is_empty(), |this| Some(this.sem()));
        offer(!barriers.is_empty(), |this| Some(Stmt::Barrier(this.rng.usize(..this.program.barriers.len()))));
        offer(!queues.is_empty(), |this| Some(Stmt::Get(this.rng.usize(..this.program.queues.len()))));
        offer(self.theme.waits, |this| Some(this.gather()));
        offer(self.theme.waits, |this| this.item().map(Stmt::Shield));
        offer(self.theme.scopes, |this| Some(this.timeout()));
        offer(self.theme.scopes, |this| Some(this.group()));
        self.pick(&choices)(self)
    }

    fn chance(&mut self, percent: u8) -> bool {
        self.rng.u8(..100) < percent
    }

    fn pick<T: Copy>(&mut self, all: &[T]) -> T {
        all[self.rng.usize(..all.len())]
    }

    /// A number for the program to log.
    fn k(&mut self) -> i64 {
        self.rng.i64(0..10)
    }

    /// Few different durations: things are to happen at the same time.
    fn ticks(&mut self) -> Ticks {
        self.pick(&[0, 0, 0, 1, 1, 2, 2, 3, 4, 6, 9])
    }

    fn limit(&mut self) -> Option<Ticks> {
        if self.chance(12) { None } else { Some(self.ticks()) }
    }

    fn message(&mut self) -> Option<String> {
        if self.chance(30) { Some(self.pick(&["a", "b", "c"]).into()) } else { None }
    }

    /// Any slot, whoever stores there.
    fn any_slot(&mut self) -> Slot {
        if self.program.futures > 0 && self.chance(20) {
            return Slot::Future(self.rng.usize(..self.program.futures));
        }
        if self.chance(3) {
            return Slot::Task(self.slots.len());
        }
        Slot::Task(self.rng.usize(..self.slots.len()))
    }

    /// Slots whose tasks this coroutine may wait for.
    fn later_slots(&self) -> Vec<usize> {
        let coro = self.coro;
        self.slots.iter().enumerate().filter(|(_, stored)| **stored > coro).map(|(slot, _)| slot).collect()
    }

    fn waited_slot(&mut self) -> Option<Slot> {
        let later = self.later_slots();
        if self.program.futures > 0 && (later.is_empty() || self.chance(30)) {
            return Some(Slot::Future(self.rng.usize(..self.program.futures)));
        }
        (!later.is_empty()).then(|| Slot::Task(self.pick(&later)))
    }

    fn waited_slots(&mut self) -> Vec<Slot> {
        let count = if self.chance(3) { 0 } else { self.rng.usize(1..=3) };
        (0..count).filter_map(|_| self.waited_slot()).collect()
    }

    fn later_coro(&mut self) -> Option<usize> {
        let first = self.coro + 1;
        (first < self.program.coros.len()).then(|| self.rng.usize(first..self.program.coros.len()))
    }

    fn item(&mut self) -> Option<Item> {
        if self.chance(40)
            && let Some(coro) = self.later_coro()
        {
            return Some(Item::Coro(coro));
        }
        self.waited_slot().map(Item::Slot)
    }

    fn spawn(&mut self) -> Option<Stmt> {
        let later = self.later_slots();
        if later.is_empty() {
            return None;
        }
        let slot = self.pick(&later);
        let coro = self.slots[slot];
        if self.in_group && self.chance(75) {
            return Some(Stmt::Gspawn { slot, coro });
        }
        let eager = self.theme.eager && self.chance(50);
        Some(Stmt::Spawn { slot, coro, eager })
    }

    fn block(&mut self, most: usize) -> Block {
        let mut block = Vec::new();
        self.depth += 1;
        for _ in 0..self.rng.usize(1..=most) {
            self.extend(&mut block);
        }
        self.depth -= 1;
        block
    }

    /// A block that may be empty.
    fn some_block(&mut self, percent: u8, most: usize) -> Block {
        if self.chance(percent) { self.block(most) } else { Vec::new() }
    }

    /// Appends a statement, or some that belong together.
    fn extend(&mut self, block: &mut Block) {
        let kind = self.kind();
        let stmt = match kind {
            Kind::Burst => return self.burst(block),
            Kind::Acting => return self.act_later(block),
            Kind::Queue => self.queue_stmt(),
            Kind::Sleep => Some(Stmt::Sleep(self.ticks())),
            Kind::Log => Some(Stmt::Log(self.k())),
            Kind::Spawn => self.spawn(),
            Kind::Await => self.item().map(Stmt::Await),
            Kind::Cancel => Some(self.cancel()),
            Kind::Counting => Some(if self.chance(60) { Stmt::Uncancel } else { Stmt::Cancelling }),
            Kind::State => Some(Stmt::State(self.any_slot())),
            Kind::Raise => {
                Some(if self.chance(70) { Stmt::Raise(self.k()) } else { Stmt::RaiseCancelled(self.message()) })
            }
            Kind::Return => Some(Stmt::Return(self.k())),
            Kind::Loop => Some(self.repeat()),
            Kind::Try => Some(self.guarded()),
            Kind::Future => Some(self.set_future()),
            Kind::DoneCb => Some(Stmt::DoneCb(self.any_slot(), self.k())),
            Kind::Gather => Some(self.gather()),
            Kind::Wait => {
                let mode = self.pick(&[WaitMode::All, WaitMode::First, WaitMode::Exception]);
                Some(Stmt::Wait(self.waited_slots(), mode, self.limit()))
            }
            Kind::WaitFor => self.item().map(|item| Stmt::WaitFor(item, self.limit())),
            Kind::Shield => self.item().map(Stmt::Shield),
            Kind::AsCompleted => Some(Stmt::AsCompleted(self.waited_slots(), self.limit())),
            Kind::Timeout => Some(self.timeout()),
            Kind::Reschedule => Some(Stmt::Reschedule(self.limit())),
            Kind::Group => Some(self.group()),
            Kind::Gspawn => self.gspawn(),
            Kind::Callback => Some(self.callback()),
            Kind::Lock => Some(self.lock()),
            Kind::Event => Some(self.event()),
            Kind::Cond => Some(self.cond()),
            Kind::Sem => Some(self.sem()),
            Kind::Barrier => Some(self.barrier()),
            Kind::Context => Some(self.context()),
            Kind::KeptGather => Some(self.kept_gather()),
            Kind::KeptShield => self.kept_shield(),
            Kind::SemAcquire => Some(Stmt::SemAcquire(self.rng.usize(..self.program.sems.len()))),
            Kind::CondWaitFor => Some(self.cond_wait_for()),
            Kind::States => Some(Stmt::States),
            Kind::Stop => Some(Stmt::Stop),
        };
        block.extend(stmt);
    }

    fn kind(&mut self) -> Kind {
        let Theme { waits, scopes, callbacks, acting, kept, stops, .. } = self.theme;
        let second = self.program.version >= Version::Two;
        let Program { futures, locks, events, conds, vars, sems, barriers, queues, .. } = &self.program;
        let nested = self.depth < DEPTH;
        let if_some = |weight: u32, count: usize| if count > 0 { weight } else { 0 };
        let on = |weight: u32, condition: bool| if condition { weight } else { 0 };
        let table = [
            (14, Kind::Sleep),
            (4, Kind::Log),
            (10, Kind::Spawn),
            (8, Kind::Await),
            (14, Kind::Cancel),
            (6, Kind::Burst),
            (4, Kind::Counting),
            (3, Kind::State),
            (3, Kind::Raise),
            (on(3, !self.in_group), Kind::Return),
            (on(4, nested && !self.in_loop), Kind::Loop),
            (on(13, nested), Kind::Try),
            (if_some(9, *futures), Kind::Future),
            (on(4, callbacks), Kind::DoneCb),
            (on(6, waits), Kind::Gather),
            (on(4, waits), Kind::Wait),
            (on(5, waits), Kind::WaitFor),
            (on(5, waits), Kind::Shield),
            (on(4, waits), Kind::AsCompleted),
            (on(9, scopes && nested), Kind::Timeout),
            (if self.in_timeout { 5 } else { u32::from(scopes) }, Kind::Reschedule),
            (on(8, scopes && nested), Kind::Group),
            (if self.in_group { 10 } else { u32::from(scopes) }, Kind::Gspawn),
            (on(8, callbacks), Kind::Callback),
            (if_some(14, *locks), Kind::Lock),
            (if_some(12, *events), Kind::Event),
            (if_some(16, *conds), Kind::Cond),
            (if_some(12, sems.len()), Kind::Sem),
            (if_some(13, barriers.len()), Kind::Barrier),
            (if_some(20, queues.len()), Kind::Queue),
            (if_some(8, *vars), Kind::Context),
            (on(10, kept), Kind::KeptGather),
            (on(8, kept), Kind::KeptShield),
            (on(18, acting), Kind::Acting),
            (on(if_some(8, sems.len()), second), Kind::SemAcquire),
            (on(if_some(16, *events), second && *conds > 0), Kind::CondWaitFor),
            (on(5, second), Kind::States),
            (on(2, stops), Kind::Stop),
        ];
        let sum: u32 = table.iter().map(|(weight, _)| weight).sum();
        let mut drawn = self.rng.u32(..sum);
        for (weight, kind) in table {
            if drawn < weight {
                return kind;
            }
            drawn -= weight;
        }
        Kind::Sleep
    }

    fn cancel(&mut self) -> Stmt {
        Stmt::Cancel(self.any_slot(), self.message())
    }

    /// Several things in one step, a cancellation among them.
    fn burst(&mut self, block: &mut Block) {
        let at = self.rng.usize(..=2);
        for step in 0..=2 {
            let stmt = if step == at { self.cancel() } else { self.instant() };
            block.push(stmt);
        }
    }

    /// A statement that wakes others and does not await.
    fn instant(&mut self) -> Stmt {
        let Program { futures, locks, events, conds, sems, barriers: _, queues, .. } = &self.program;
        let (futures, locks, events, conds) = (*futures, *locks, *events, *conds);
        let (sems, queues) = (sems.len(), queues.len());
        let mut choices: Vec<fn(&mut Self) -> Stmt> = vec![Self::cancel, |this| Stmt::State(this.any_slot())];
        if futures > 0 {
            choices.extend([Self::set_future as fn(&mut Self) -> Stmt; 2]);
        }
        if locks > 0 {
            choices.push(|this| Stmt::Release(this.rng.usize(..this.program.locks)));
        }
        if events > 0 {
            choices.push(|this| Stmt::EventSet(this.rng.usize(..this.program.events)));
            choices.push(|this| Stmt::EventClear(this.rng.usize(..this.program.events)));
        }
        if conds > 0 {
            choices.push(|this| Stmt::Notify(this.rng.usize(..this.program.conds), this.rng.usize(1..=2)));
            choices.push(|this| Stmt::NotifyAll(this.rng.usize(..this.program.conds)));
        }
        if sems > 0 {
            choices.push(|this| Stmt::SemRelease(this.rng.usize(..this.program.sems.len())));
        }
        if queues > 0 {
            choices.push(|this| Stmt::PutNowait(this.rng.usize(..this.program.queues.len()), this.k()));
            choices.push(|this| Stmt::GetNowait(this.rng.usize(..this.program.queues.len())));
        }
        if self.theme.callbacks {
            choices.push(Self::callback);
        }
        if self.theme.kept {
            choices.push(Self::cancel_gather);
        }
        self.pick(&choices)(self)
    }

    fn repeat(&mut self) -> Stmt {
        let outer = std::mem::replace(&mut self.in_loop, true);
        let body = self.block(3);
        self.in_loop = outer;
        Stmt::Loop(self.rng.usize(2..=3), body)
    }

    fn guarded(&mut self) -> Stmt {
        let body = self.block(3);
        let handlers = (0..self.pick(&[0usize, 1, 1, 1, 1, 2])).map(|_| self.handler()).collect();
        let percent = if self.chance(50) { 0 } else { 70 };
        Stmt::Try { body, handlers, finally: self.some_block(percent, 2) }
    }

    fn handler(&mut self) -> Handler {
        let catch = self.pick(&[
            Catch::Cancelled,
            Catch::Cancelled,
            Catch::Cancelled,
            Catch::Any,
            Catch::Any,
            Catch::Error,
            Catch::Timeout,
            Catch::User,
            Catch::Group,
        ]);
        Handler { catch, body: self.some_block(80, 3), reraise: self.chance(45) }
    }

    fn set_future(&mut self) -> Stmt {
        let future = self.rng.usize(..self.program.futures);
        if self.chance(75) { Stmt::SetResult(future, self.k()) } else { Stmt::SetError(future, self.k()) }
    }

    fn gather(&mut self) -> Stmt {
        let count = self.pick(&[0usize, 1, 2, 2, 3, 3, 4]);
        Stmt::Gather((0..count).filter_map(|_| self.item()).collect(), self.chance(40))
    }

    fn timeout(&mut self) -> Stmt {
        let outer = std::mem::replace(&mut self.in_timeout, true);
        let body = self.block(3);
        self.in_timeout = outer;
        Stmt::Timeout(self.limit(), body)
    }

    fn group(&mut self) -> Stmt {
        let outer = std::mem::replace(&mut self.in_group, true);
        let mut body: Vec<_> = (0..self.rng.usize(0..=2)).filter_map(|_| self.gspawn()).collect();
        body.extend(self.block(3));
        self.in_group = outer;
        Stmt::Group(body)
    }

    fn gspawn(&mut self) -> Option<Stmt> {
        let later = self.later_slots();
        let slot = (!later.is_empty()).then(|| self.pick(&later))?;
        Some(Stmt::Gspawn { slot, coro: self.slots[slot] })
    }

    fn callback(&mut self) -> Stmt {
        let handle = self.rng.usize(..3);
        match self.rng.u8(..10) {
            0..3 => Stmt::CallSoon(handle, self.k()),
            3..7 => Stmt::CallLater(handle, self.ticks(), self.k()),
            _ => Stmt::Hcancel(handle),
        }
    }

    fn context(&mut self) -> Stmt {
        let var = self.rng.usize(..self.program.vars);
        if self.chance(50) { Stmt::CtxSet(var, self.k()) } else { Stmt::CtxGet(var) }
    }

    fn lock(&mut self) -> Stmt {
        let lock = self.rng.usize(..self.program.locks);
        match self.rng.u8(..10) {
            0..3 => Stmt::Acquire(lock),
            3..6 => Stmt::Release(lock),
            _ if self.depth < DEPTH => Stmt::Lock(lock, self.block(2)),
            _ => Stmt::Acquire(lock),
        }
    }

    fn event(&mut self) -> Stmt {
        let event = self.rng.usize(..self.program.events);
        match self.rng.u8(..10) {
            0..5 => Stmt::EventWait(event),
            5..8 => Stmt::EventSet(event),
            _ => Stmt::EventClear(event),
        }
    }

    fn cond(&mut self) -> Stmt {
        let cond = self.rng.usize(..self.program.conds);
        match self.rng.u8(..10) {
            0 => Stmt::CondWait(cond),
            1 => Stmt::Notify(cond, self.rng.usize(1..=2)),
            2 => Stmt::NotifyAll(cond),
            _ if self.depth < DEPTH => {
                let mut body = self.some_block(30, 1);
                body.push(match self.rng.u8(..10) {
                    0..6 => Stmt::CondWait(cond),
                    6..8 => Stmt::Notify(cond, self.rng.usize(1..=2)),
                    _ => Stmt::NotifyAll(cond),
                });
                body.extend(self.some_block(30, 1));
                Stmt::Cond(cond, body)
            }
            _ => Stmt::CondWait(cond),
        }
    }

    fn cond_wait_for(&mut self) -> Stmt {
        let (cond, event) = (self.rng.usize(..self.program.conds), self.rng.usize(..self.program.events));
        let wait = Stmt::CondWaitFor(cond, event);
        if self.depth == DEPTH || self.chance(10) {
            return wait;
        }
        let mut body = self.some_block(20, 1);
        body.push(wait);
        body.extend(self.some_block(30, 1));
        Stmt::Cond(cond, body)
    }

    fn sem(&mut self) -> Stmt {
        let sem = self.rng.usize(..self.program.sems.len());
        if self.depth < DEPTH && self.chance(70) { Stmt::Sem(sem, self.block(2)) } else { Stmt::SemRelease(sem) }
    }

    fn barrier(&mut self) -> Stmt {
        let barrier = self.rng.usize(..self.program.barriers.len());
        match self.rng.u8(..10) {
            0..6 => Stmt::Barrier(barrier),
            6..8 => Stmt::BarrierReset(barrier),
            _ => Stmt::BarrierAbort(barrier),
        }
    }

    fn queue_stmt(&mut self) -> Option<Stmt> {
        let queue = self.rng.usize(..self.program.queues.len());
        Some(match self.rng.u8(..20) {
            0..5 => Stmt::Put(queue, self.k()),
            5..10 => Stmt::Get(queue),
            10..12 => Stmt::PutNowait(queue, self.k()),
            12..14 => Stmt::GetNowait(queue),
            14..16 => Stmt::Join(queue),
            16..19 => Stmt::TaskDone(queue),
            _ => Stmt::Shutdown(queue, self.chance(40)),
        })
    }
}
