//! The examples that run other programs, as programs.

use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// An example, which cargo puts beside the directory of this test.
fn example(name: &str, arguments: &[&str]) -> Command {
    let mut path = std::env::current_exe().unwrap();
    path.pop();
    path.pop();
    let mut command = Command::new("env");
    // What a shell starts in the background ignores Ctrl-C otherwise.
    command.arg("--default-signal=INT").arg(path.join("examples").join(name));
    command.args(arguments).stdin(Stdio::null());
    command
}

/// An example that runs, ended when the test is.
struct Running {
    child: Child,
    output: BufReader<Box<dyn Read>>,
}

impl Running {
    fn start(name: &str, arguments: &[&str]) -> Self {
        let mut child = example(name, arguments).stdout(Stdio::piped()).spawn().unwrap();
        let output = BufReader::new(Box::new(child.stdout.take().unwrap()) as Box<dyn Read>);
        Running { child, output }
    }

    /// The next line with `text`, without what comes before the text.
    #[track_caller]
    fn expect(&mut self, text: &str) -> String {
        let mut line = String::new();
        loop {
            line.clear();
            assert!(self.output.read_line(&mut line).unwrap() > 0, "the end before {text:?}");
            if let Some(place) = line.find(text) {
                return line[place..].trim_end().to_owned();
            }
        }
    }

    fn signal(&self, signal: &str) {
        let status = Command::new("kill").args([signal, &self.child.id().to_string()]).status().unwrap();
        assert!(status.success());
    }

    /// The rest of the output, and the code it ends with.
    fn end(mut self) -> (String, Option<i32>) {
        let mut rest = String::new();
        self.output.read_to_string(&mut rest).unwrap();
        (rest, self.child.wait().unwrap().code())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn is_gone(pid: &str) -> bool {
    !std::fs::exists(format!("/proc/{pid}")).unwrap()
}

#[test]
fn a_pipeline_shows_what_each_program_writes() {
    let programs = ["printf 'a\\nb\\nc'", "sh -c 'tr a-z A-Z; echo done >&2'", "tail -n 1"];
    let output = example("pipeline", &programs).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let mut lines: Vec<_> = text.lines().collect();
    lines.sort_unstable();
    let expected =
        ["1 printf: a", "1 printf: b", "1 printf: c", "2 sh! done", "2 sh: A", "2 sh: B", "2 sh: C", "3 tail: C"];
    assert_eq!(lines, expected);
    assert_eq!(output.status.code(), Some(0));
}

#[test]
fn a_pipeline_ends_with_the_code_of_its_last_program() {
    let run = |programs: &[&str]| example("pipeline", programs).output().unwrap();
    assert_eq!(run(&["true", "sh -c 'cat; exit 7'"]).status.code(), Some(7));
    // The first learns that nobody reads any more.
    let output = run(&["yes", "head -n 2"]);
    assert_eq!(output.status.code(), Some(0));
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.ends_with("2 head: y\n") || text.contains("2 head: y\n"), "{text}");
    assert_eq!(run(&["sh -c 'kill -TERM $$'"]).status.code(), Some(143));
    assert_eq!(run(&[]).status.code(), Some(2));
    assert_eq!(run(&["--grace", "x", "true"]).status.code(), Some(2));
}

#[test]
fn ctrl_c_ends_a_pipeline_politely() {
    let polite = "sh -c 'trap \"echo bye; exit 3\" TERM; echo ready $$; while :; do sleep 0.02; done'";
    let mut pipeline = Running::start("pipeline", &[polite, "cat"]);
    let pid = pipeline.expect("ready").split(' ').nth(1).unwrap().to_owned();
    pipeline.signal("-INT");
    let (rest, _) = pipeline.end();
    assert!(rest.contains("1 sh: bye"), "{rest}");
    assert!(is_gone(&pid));
}

#[test]
fn ctrl_c_ends_a_pipeline_by_force_after_the_grace_time() {
    let deaf = "sh -c 'trap \"\" TERM; echo ready $$; while :; do sleep 0.02; done'";
    for second in [false, true] {
        let grace = if second { "60" } else { "0.2" };
        let mut pipeline = Running::start("pipeline", &["--grace", grace, deaf]);
        let pid = pipeline.expect("ready").split(' ').nth(1).unwrap().to_owned();
        let before = Instant::now();
        pipeline.signal("-INT");
        if second {
            std::thread::sleep(Duration::from_millis(100));
            assert!(!is_gone(&pid));
            pipeline.signal("-INT");
        }
        let (_, code) = pipeline.end();
        assert_eq!(code, Some(137));
        assert!(second || before.elapsed() >= Duration::from_millis(200));
        assert!(is_gone(&pid));
    }
}

#[test]
fn a_supervisor_starts_children_again_with_growing_pauses() {
    let script = ["--children", "1", "sh", "-c", "echo alive; exit 4"];
    let mut supervisor = Running::start("supervisor", &script);
    for pause in [100, 200, 400] {
        // That it was started may be told before or after what it writes.
        supervisor.expect("alive");
        supervisor.expect("ended with 4");
        assert_eq!(supervisor.expect("again"), format!("again in {pause} ms"));
    }
    supervisor.signal("-TERM");
    let (rest, code) = supervisor.end();
    // A slow machine may have got to the next child by then.
    assert!(rest.contains("SIGTERM: no child is started any more\n"), "{rest}");
    assert!(rest.ends_with("all children have ended\n"), "{rest}");
    assert_eq!(code, Some(0));
}

#[test]
fn a_supervisor_drains_on_sigterm() {
    let script = "trap 'echo last words; exit 0' TERM; echo alive $$; while :; do sleep 0.02; done";
    let mut supervisor = Running::start("supervisor", &["--children", "3", "sh", "-c", script]);
    let pids: Vec<_> = (0..3).map(|_| supervisor.expect("alive").split(' ').nth(1).unwrap().to_owned()).collect();
    supervisor.signal("-TERM");
    let (rest, code) = supervisor.end();
    assert_eq!(rest.matches("last words").count(), 3, "{rest}");
    assert_eq!(rest.matches("drained with 0").count(), 3, "{rest}");
    assert_eq!(code, Some(0));
    assert!(pids.iter().all(|pid| is_gone(pid)));
}

#[test]
fn a_supervisor_kills_what_does_not_drain() {
    let script = "trap '' TERM; echo alive $$; while :; do sleep 0.02; done";
    let mut supervisor = Running::start("supervisor", &["--children", "2", "--grace", "0.2", "sh", "-c", script]);
    let pids: Vec<_> = (0..2).map(|_| supervisor.expect("alive").split(' ').nth(1).unwrap().to_owned()).collect();
    supervisor.signal("-TERM");
    let (rest, code) = supervisor.end();
    assert_eq!(rest.matches("is killed").count(), 2, "{rest}");
    assert_eq!(code, Some(0));
    assert!(pids.iter().all(|pid| is_gone(pid)));
}

#[test]
fn a_supervisor_says_what_cannot_be_started() {
    let mut supervisor = Running::start("supervisor", &["--children", "1", "/no/such/program"]);
    assert!(supervisor.expect("cannot start").contains("\"/no/such/program\""));
    supervisor.signal("-INT");
    assert_eq!(supervisor.end().1, Some(0));
}

#[test]
fn a_supervisor_whose_output_nobody_reads_goes_on() {
    let script = ["--children", "1", "sh", "-c", "echo alive >&2"];
    let mut child = example("supervisor", &script).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    let mut running = Running { output: BufReader::new(Box::new(child.stderr.take().unwrap())), child };
    for _ in 0..3 {
        running.expect("alive");
    }
    running.signal("-TERM");
    assert_eq!(running.end().1, Some(0));
}

#[test]
fn a_pipeline_whose_output_nobody_reads_ends_and_tells_so_once() {
    let mut child = example("pipeline", &["seq 100000"]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    let mut told = String::new();
    child.stderr.take().unwrap().read_to_string(&mut told).unwrap();
    assert_eq!(told.lines().count(), 1, "{told}");
    assert_eq!(child.wait().unwrap().code(), Some(1));
}
