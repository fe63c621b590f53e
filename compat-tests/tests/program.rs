//! The suite as a program.

use std::io::Read;
use std::process::{Command, Stdio};

#[test]
fn a_list_that_nobody_reads_on_is_no_failure() {
    for list in ["laws", "upstream"] {
        let mut program = Command::new(env!("CARGO_BIN_EXE_aioli-compat-tests"));
        let mut child = program.arg(list).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        drop(child.stdout.take());
        let mut said = String::new();
        child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
        assert_eq!(said, "", "{list}");
        assert!(child.wait().unwrap().success(), "{list}");
    }
}
