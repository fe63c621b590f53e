//! That the echo comparison runs to its end with each server that is built in.

use std::process::Command;

use aioli_benches::echo;

#[test]
fn each_server_echoes() {
    let output = Command::new(env!("CARGO_BIN_EXE_echo"))
        .args(["--seconds", "0.01", "--reps", "2", "--filter", "64B/c64/"])
        .output()
        .unwrap();
    let table = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    for server in echo::servers() {
        assert!(table.contains(&format!("\n| {} |", server.name)), "{} is missing: {table}", server.name);
    }
}
