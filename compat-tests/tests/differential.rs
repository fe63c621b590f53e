//! Differential testing: with CPython where it is there, and without it, as its traces of the corpus are checked in.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};
use std::rc::Rc;

use aioli_compat_tests::differential::{
    Campaign, Program, Stmt, Version, driver, find_python, generate, run, shrink, side_by_side,
};
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
fn what_version_2_added_agrees_with_cpython() {
    agrees_with_cpython("version_2.jsonl");
}

#[test]
fn the_corpus_has_every_statement() {
    let mut names = BTreeSet::new();
    for file in ["chosen.jsonl", "version_2.jsonl"] {
        corpus(file).iter().for_each(|(program, _)| names.extend(statements_that_run(program)));
    }
    assert_eq!(names, BTreeSet::from(Stmt::NAMES));
}

fn statements_that_run(program: &Program) -> BTreeSet<&'static str> {
    run(&Rc::new(program.clone()), driver(&Sim).unwrap()).unwrap().statements
}

/// More of them: `aioli-compat-tests -- differential`.
#[test]
fn some_random_programs_agree_with_cpython() {
    let Some(python) = find_python() else {
        eprintln!("there is no CPython 3.13");
        return;
    };
    let backends: Vec<_> = backends().into_iter().filter(|backend| backend.driver().is_ok()).collect();
    for (version, programs) in [(Version::One, 200), (Version::Two, 600)] {
        let (python, backends) = (python.clone(), backends.clone());
        let campaign = Campaign { version, seed: 0, programs, backends, python, jobs: 2, messages: true, most: 1 };
        let findings = campaign.run().unwrap();
        if let Some(divergence) = findings.divergences.first() {
            panic!("{divergence}");
        }
        assert_eq!(findings.programs, programs);
    }
}

#[test]
fn a_thousand_runs_give_one_trace() {
    let (program, theirs) = corpus("chosen.jsonl").swap_remove(0);
    assert!((0..1000).all(|_| trace(&program, &Sim) == theirs));
}

#[test]
fn random_programs_are_varied() {
    const PROGRAMS: u64 = 3000;
    for version in Version::ALL {
        let mut cancelled = 0;
        let mut statements = BTreeMap::new();
        for seed in 0..PROGRAMS {
            let ran = run(&Rc::new(generate(seed, version)), driver(&Sim).unwrap()).unwrap();
            cancelled += u64::from(ran.trace.delivers_cancellation());
            for name in ran.statements {
                *statements.entry(name).or_insert(0) += 1;
            }
        }
        assert!(cancelled * 100 >= PROGRAMS * 60, "a cancellation is delivered in {cancelled} of {PROGRAMS}");
        for name in Stmt::names(version) {
            let ran = statements.remove(name).unwrap_or(0);
            assert!(ran * 100 >= PROGRAMS, "{name} runs in {ran} of {PROGRAMS}");
        }
        assert!(statements.is_empty(), "of a later version: {statements:?}");
    }
}

#[test]
fn a_seed_stands_for_one_program() {
    for version in Version::ALL {
        assert_eq!(generate(7, version), generate(7, version));
        assert_ne!(generate(7, version), generate(8, version));
    }
}

/// Programs that were reported by their seeds can be had again.
#[test]
fn a_seed_stands_for_the_same_program_as_ever() {
    // FNV-1a over the programs as text.
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    for seed in 0..200 {
        for byte in generate(seed, Version::One).to_string().bytes() {
            hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }
    assert_eq!(hash, 0x9f0b_123c_5a99_91cc);
}

#[test]
fn programs_are_read_as_they_were_written() {
    for version in Version::ALL {
        for seed in 0..1000 {
            let program = generate(seed, version);
            assert_eq!(program.version, version);
            assert_eq!(program.to_string().parse::<Program>().unwrap(), program);
        }
    }
}

#[test]
fn what_is_no_program_is_refused_with_its_place() {
    let refused = |program: Value| Program::from_json(&program).unwrap_err().to_string();
    let main = |stmt: Value| refused(json!({"v": 1, "coros": [[["log", 1], stmt]]}));
    assert_eq!("{".parse::<Program>().unwrap_err().to_string().split(':').next(), Some("not JSON"));
    assert_eq!(refused(json!({"v": 3, "coros": [[]]})), "v: version 3 of the language is not known, only 1 and 2");
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
fn what_is_wrong_in_a_program_of_version_2_is_refused_with_its_place() {
    let refused = |program: Value| Program::from_json(&program).unwrap_err().to_string();
    let main = |stmt: Value| refused(json!({"v": 2, "coros": [[["log", 1], stmt]]}));
    for name in &Stmt::names(Version::Two)[Stmt::names(Version::One).len()..] {
        let earlier = refused(json!({"v": 1, "coros": [[["log", 1], [name]]]}));
        assert_eq!(earlier, format!("coros[0][1]: {name} needs version 2 of the language"));
    }
    assert_eq!(main(json!(["gather_to", 0, ["x", 1], false])), "coros[0][1][2][0]: a list is expected, not \"x\"");
    assert_eq!(main(json!(["gather_to", 0, []])), "coros[0][1]: something is missing at its end");
    assert_eq!(main(json!(["g_await", -1])), "coros[0][1][1]: a number from 0 on is expected, not -1");
    assert_eq!(main(json!(["g_cancel", 0, 1])), "coros[0][1][2]: a text or null is expected, not 1");
    assert_eq!(main(json!(["shield_to", 0, ["c", 1]])), "coros[0][1][2][1]: there is no coroutine 1: there are 1");
    assert_eq!(main(json!(["done_act", ["c", 0], []])), "coros[0][1][1]: a slot is expected, not a coroutine");
    assert_eq!(main(json!(["soon_act", 0, 1])), "coros[0][1][2]: a list is expected, not 1");
    assert_eq!(main(json!(["later_act", 0, null, []])), "coros[0][1][2]: a number is expected, not null");
    assert_eq!(main(json!(["sem_acquire", 0])), "coros[0][1][1]: there is no semaphore 0: there are 0");
    assert_eq!(main(json!(["cond_wait_for", 0, 0])), "coros[0][1][1]: there is no condition 0: there are 0");
    assert_eq!(
        refused(json!({"v": 2, "conds": 1, "coros": [[["cond_wait_for", 0, 0]]]})),
        "coros[0][0][2]: there is no event 0: there are 0"
    );
    assert_eq!(main(json!(["states", 1])), "coros[0][1]: states takes 0 parts, not 1");
    assert_eq!(main(json!(["stop", null])), "coros[0][1]: stop takes 0 parts, not 1");
    for stmt in [json!(["sleep", 1]), json!(["uncancel"]), json!(["return", 1]), json!(["loop", 1, []])] {
        let name = stmt[0].as_str().unwrap().to_owned();
        assert_eq!(
            main(json!(["soon_act", 0, [["done_act", ["x", 0], [stmt]]]])),
            format!("coros[0][1][2][0][2][0]: {name} stands in a coroutine only, not in a callback")
        );
    }
}

#[test]
fn the_interpreter_in_python_refuses_a_statement_of_a_later_version() {
    let Some(python) = find_python() else {
        eprintln!("there is no CPython 3.13");
        return;
    };
    let worker = Path::new(env!("CARGO_MANIFEST_DIR")).join("python/worker.py");
    let refused = |program: Value| {
        let mut command = Command::new(&python);
        command.arg("-B").arg(&worker).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut process = command.spawn().unwrap();
        writeln!(process.stdin.take().unwrap(), "1\n{program}").unwrap();
        let output = process.wait_with_output().unwrap();
        assert!(!output.status.success());
        String::from_utf8(output.stderr).unwrap().lines().last().unwrap_or_default().to_owned()
    };
    assert_eq!(
        refused(json!({"v": 1, "coros": [[], [["loop", 2, [["states"]]]]]})),
        "ValueError: states needs version 2 of the language"
    );
    assert_eq!(
        refused(json!({"v": 3, "coros": [[]]})),
        "ValueError: version 3 of the language is not known, only 1 and 2"
    );
}

#[test]
fn conditions_share_the_locks_from_version_2_on() {
    let ran = |version| {
        let text = json!({"v": version, "locks": 1, "conds": 2, "coros": [[["acquire", 0], ["notify", 0, 1], ["notify", 1, 1]]]});
        run(&Rc::new(Program::from_json(&text).unwrap()), driver(&Sim).unwrap()).unwrap().trace.to_json(false)
    };
    assert_eq!(ran(1).matches("notify!").count(), 2, "{}", ran(1));
    assert_eq!(ran(2).matches("notify!").count(), 1, "{}", ran(2));
}

#[test]
fn shrinking_keeps_what_is_interesting_and_little_else() {
    let sleeps = |program: &Program| {
        let mut ticks = 0;
        program.visit(|stmt| ticks += if let Stmt::Sleep(count) = stmt { *count } else { 0 });
        ticks
    };
    let programs = (0..).map(|seed| generate(seed, Version::One));
    let big = programs.into_iter().find(|program| sleeps(program) > 12 && program.len() > 30).unwrap();
    let small =
        shrink(&big, |candidates| Ok::<_, ()>(candidates.iter().position(|program| sleeps(program) >= 5))).unwrap();
    assert!(sleeps(&small) >= 5 && small.len() <= 2, "{small}");
    assert_eq!((small.futures, small.locks, small.queues.len()), (0, 0, 0), "{small}");
}

#[test]
fn shrinking_knows_what_version_2_added() {
    let names = |program: &Program| {
        let mut names = Vec::new();
        program.visit(|stmt| names.push(stmt.name()));
        names
    };
    let small = |program: Value, wanted: &[&str]| {
        let interesting = |program: &Program| wanted.iter().all(|name| names(program).contains(name));
        let program = Program::from_json(&program).unwrap();
        let first = |candidates: &[Program]| Ok::<_, ()>(candidates.iter().position(interesting));
        shrink(&program, first).unwrap().to_string()
    };
    let program = json!({
        "v": 2, "futures": 1, "locks": 1, "events": 1, "conds": 1, "sems": [1],
        "coros": [[
            ["gather_to", 1, [["c", 1], ["f", 0]], true],
            ["g_await", 1],
            ["g_cancel", 1, "m"],
            ["shield_to", 0, ["f", 0]],
            ["done_act", ["f", 0], [["log", 1], ["later_act", 0, 5, [["raise", 1], ["soon_act", 0, [["states"], ["stop"]]]]]]],
            ["cond", 0, [["cond_wait_for", 0, 0]]],
            ["sem_acquire", 0],
        ], []],
    });
    let is = |wanted: &[&str], expected: Value| {
        assert_eq!(small(program.clone(), wanted), expected.to_string());
    };
    is(&["gather_to"], json!({"v": 2, "coros": [[["gather_to", 1, [], false]]]}));
    is(&["g_await"], json!({"v": 2, "coros": [[["g_await", 1]]]}));
    is(&["g_cancel"], json!({"v": 2, "coros": [[["g_cancel", 1, null]]]}));
    is(&["shield_to"], json!({"v": 2, "futures": 1, "coros": [[["shield_to", 0, ["f", 0]]]]}));
    is(&["done_act"], json!({"v": 2, "futures": 1, "coros": [[["done_act", ["f", 0], []]]]}));
    is(&["later_act", "stop"], json!({"v": 2, "coros": [[["later_act", 0, 0, [["stop"]]]]]}));
    is(&["soon_act", "states"], json!({"v": 2, "coros": [[["soon_act", 0, [["states"]]]]]}));
    is(&["cond_wait_for"], json!({"v": 2, "events": 1, "conds": 1, "coros": [[["cond_wait_for", 0, 0]]]}));
    is(&["sem_acquire"], json!({"v": 2, "sems": [1], "coros": [[["sem_acquire", 0]]]}));
    // What is left needs version 1 only.
    is(&["cond_wait"], json!({"v": 1, "conds": 1, "coros": [[["cond_wait", 0]]]}));
    is(&["raise"], json!({"v": 1, "coros": [[["raise", 1]]]}));
}
