//! Which backend a program runs on, why, and what the kernel grants.
//!
//! `AIOLI_BACKEND=epoll` or `AIOLI_BACKEND=uring` asks for one by name.

use aioli::{Result, get_running_loop};

fn main() -> Result<()> {
    aioli::run(async {
        if let Some(report) = get_running_loop()?.report() {
            println!("{report}");
        }
        Ok(())
    })
}
