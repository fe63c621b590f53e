//! What the loop's exception handler does if nobody sets another: lines on stderr.

mod common;

use std::process::Command;

use aioli_core::*;
use common::*;

/// Runs one of this program's tests in a process of its own, as `name`, and gives what it wrote to stderr.
fn stderr_of(name: &str) -> String {
    let program = std::env::current_exe().unwrap();
    let child = Command::new(program).args(["--exact", name, "--nocapture"]).env("ALONE", "1").output().unwrap();
    assert!(child.status.success(), "{child:?}");
    String::from_utf8(child.stderr).unwrap()
}

fn is_alone() -> bool {
    std::env::var_os("ALONE").is_some()
}

#[test]
fn without_a_handler_a_report_is_one_line_on_stderr() {
    if !is_alone() {
        let lines = stderr_of("without_a_handler_a_report_is_one_line_on_stderr");
        let line = lines.lines().find(|line| line.starts_with("aioli: ")).unwrap();
        assert!(line.starts_with("aioli: task exception was never retrieved: v (task \"T\", created at "), "{line}");
        assert_eq!(lines.lines().filter(|line| line.starts_with("aioli: ")).count(), 1, "{lines}");
        return;
    }
    sim(async {
        TaskBuilder::new().name("T").create_task(fail::<()>("v"));
        pump(2).await
    });
}

#[test]
fn a_handler_that_panics_is_reported_with_what_it_was_given() {
    if !is_alone() {
        let lines = stderr_of("a_handler_that_panics_is_reported_with_what_it_was_given");
        assert!(
            lines.contains("aioli: unhandled error in exception handler: panicked: handler broke\naioli: msg\n"),
            "{lines}"
        );
        return;
    }
    sim(async {
        event_loop().set_exception_handler(Some(Box::new(|_| panic!("handler broke"))));
        event_loop().call_exception_handler(Report::new("msg"));
        event_loop().set_exception_handler(None);
        Ok(())
    });
}
