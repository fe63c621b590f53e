//! Differential testing without CPython: its traces of the corpus are checked in.

use std::collections::BTreeMap;
use std::path::Path;
use std::rc::Rc;

use aioli_compat_tests::differential::{Program, Stmt, driver, generate, run, shrink, side_by_side};
use aioli_compat_tests::{Backend, Sim, backends};
use serde_json::{Value, json};

/// What a program does on a backend, with the messages of cancellations.
fn trace(program: &Program, backend: &dyn Backend) -> String {
    run(&Rc::new(program.clone()), driver(backend).unwrap()).unwrap().trace.to_json(true)
}

/// The programs of a file of the corpus, each with CPython's trace.
fn corpus(file: &str) -> Vec<(Program, String)> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(file);
    let text = std::fs::read_to_string(path).unwrap();
    let entry = |line| {
        let entry: Value = serde_json::from_str(line).unwrap();
        (Program::from_json(&entry["program"]).unwrap(), entry["trace"].to_string())
    };
    text.lines().map(entry).collect()
}

fn agrees_with_cpython(file: &str) {
    let corpus = corpus(file);
    assert!(!corpus.is_empty());
    for backend in backends() {
        if let Err(error) = backend.driver() {
            eprintln!("{} is not there: {error}", backend.name());
            continue;
        }
        for (program, theirs) in &corpus {
            let ours = trace(program, backend);
            assert!(ours == *theirs, "{} on {program}\n{}", backend.name(), side_by_side(&ours, theirs));
        }
    }
}

#[test]
fn the_example_of_the_language_agrees_with_cpython() {
    agrees_with_cpython("page.jsonl");
}

#[test]
fn what_once_differed_agrees_with_cpython() {
    agrees_with_cpython("found.jsonl");
}

#[test]
fn programs_chosen_for_their_variety_agree_with_cpython() {
    agrees_with_cpython("chosen.jsonl");
}

#[test]
fn a_thousand_runs_give_one_trace() {
    let (program, theirs) = corpus("chosen.jsonl").swap_remove(0);
    assert!((0..1000).all(|_| trace(&program, &Sim) == theirs));
}

#[test]
fn random_programs_are_varied() {
    const PROGRAMS: u64 = 3000;
    let mut cancelled = 0;
    let mut statements = BTreeMap::new();
    for seed in 0..PROGRAMS {
        let ran = run(&Rc::new(generate(seed)), driver(&Sim).unwrap()).unwrap();
        cancelled += u64::from(ran.trace.delivers_cancellation());
        for name in ran.statements {
            *statements.entry(name).or_insert(0) += 1;
        }
    }
    assert!(cancelled * 100 >= PROGRAMS * 60, "a cancellation is delivered in {cancelled} of {PROGRAMS}");
    for name in Stmt::NAMES {
        let ran = statements.get(name).copied().unwrap_or(0);
        assert!(ran * 100 >= PROGRAMS, "{name} runs in {ran} of {PROGRAMS}");
    }
}

#[test]
fn a_seed_stands_for_one_program() {
    assert_eq!(generate(7), generate(7));
    assert_ne!(generate(7), generate(8));
}

#[test]
fn programs_are_read_as_they_were_written() {
    for seed in 0..1000 {
        let program = generate(seed);
        assert_eq!(program.to_string().parse::<Program>().unwrap(), program);
    }
}

#[test]
fn what_is_no_program_is_refused_with_its_place() {
    let refused = |program: Value| Program::from_json(&program).unwrap_err().to_string();
    let main = |stmt: Value| refused(json!({"v": 1, "coros": [[["log", 1], stmt]]}));
    assert_eq!("{".parse::<Program>().unwrap_err().to_string().split(':').next(), Some("not JSON"));
    assert_eq!(refused(json!({"v": 2, "coros": [[]]})), "v: version 2 of the language is not known, only 1");
    assert_eq!(refused(json!({"coros": [[]]})), "v: the version is missing");
    assert_eq!(refused(json!({"v": 1, "coros": []})), "coros: the main body is missing");
    assert_eq!(
        refused(json!({"v": 1, "coros": [[]], "barriers": [0]})),
        "barriers[0]: a barrier has at least one party"
    );
    assert_eq!(refused(json!({"v": 1, "coros": [[]], "fixtures": 1})), "fixtures: a program has no such part");
    assert_eq!(main(json!(["slep", 1])), "coros[0][1]: there is no statement \"slep\"");
    assert_eq!(main(json!(["sleep"])), "coros[0][1]: something is missing at its end");
    assert_eq!(main(json!(["sleep", 1, 2])), "coros[0][1]: sleep takes 1 parts, not 2");
    assert_eq!(main(json!(["sleep", null])), "coros[0][1][1]: a number is expected, not null");
    assert_eq!(main(json!(["await", ["f", 0]])), "coros[0][1][1][1]: there is no future 0: there are 0");
    assert_eq!(main(json!(["cancel", ["c", 0], null])), "coros[0][1][1]: a slot is expected, not a coroutine");
    assert_eq!(
        main(json!(["try", [["loop", 2, [["acquire", 3]]]], [], []])),
        "coros[0][1][1][0][2][0][1]: there is no lock 3: there are 0"
    );
    assert_eq!(
        main(json!(["group", [["timeout", 1, [["return", 1]]]]])),
        "coros[0][1][1][0][2][0]: no return stands in a group"
    );
}

#[test]
fn shrinking_keeps_what_is_interesting_and_little_else() {
    let sleeps = |program: &Program| {
        let mut ticks = 0;
        program.visit(|stmt| ticks += if let Stmt::Sleep(count) = stmt { *count } else { 0 });
        ticks
    };
    let big = (0..).map(generate).find(|program| sleeps(program) > 12 && program.len() > 30).unwrap();
    let small =
        shrink(&big, |candidates| Ok::<_, ()>(candidates.iter().position(|program| sleeps(program) >= 5))).unwrap();
    assert!(sleeps(&small) >= 5 && small.len() <= 2, "{small}");
    assert_eq!((small.futures, small.locks, small.queues.len()), (0, 0, 0), "{small}");
}
