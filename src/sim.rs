//! Programs on a simulated machine, for tests: a virtual clock, a network in memory, and failures drawn from a seed.
//!
//! [`run`] has a program run on a machine where everything takes its time and comes in pieces, as on any network, but where nothing
//! fails; [`run_with`] on a machine of one's choice, a [hostile](Config::hostile) one for instance. The same seed gives the same run:
//! a test that tries many tells which one failed, and that one can be looked at again, with a [`Trace`].
//!
//! ```
//! use aioli::{Result, StreamReader, StreamWriter, open_connection, sim, start_server};
//!
//! async fn shout(reader: StreamReader, writer: StreamWriter) -> Result<()> {
//!     let line = reader.readline().await?;
//!     writer.write(&line.to_ascii_uppercase())?;
//!     writer.close();
//!     writer.wait_closed().await
//! }
//!
//! for seed in 0..20 {
//!     let answer = sim::run(seed, async {
//!         let server = start_server(shout, "127.0.0.1", 80).await?;
//!         let (reader, writer) = open_connection("localhost", 80).await?;
//!         writer.write(b"ciao\n")?;
//!         let answer = reader.readline().await?;
//!         server.close();
//!         Ok(answer)
//!     });
//!     assert_eq!(answer.unwrap(), "CIAO\n", "seed {seed}");
//! }
//! ```

use std::future::Future;

use aioli_core::Result;

pub use aioli_exec_sim::{Config, SimDriver, Trace, run_with};

/// Runs `main` on the [lively](Config::lively) machine of a seed, and leaves in good order.
///
/// # Errors
/// As [`aioli_core::run`]. `Deadlock` if nothing can go on, with the tree of what waits on what; tasks that are left are then
/// cancelled, and may clean up.
///
/// ```
/// use aioli::{create_task, get_running_loop, sim, sleep, timeout};
/// use std::time::Duration;
///
/// for seed in 0..10 {
///     sim::run(seed, async {
///         let begin = get_running_loop()?.time();
///         let job = create_task(async { sleep(Duration::from_secs(3600)).await.map(|()| "done") });
///         assert_eq!(timeout(Duration::from_secs(7200), job).await?, "done");
///         assert!(get_running_loop()?.time() - begin >= Duration::from_secs(3600)); // at once: the clock is virtual
///         Ok(())
///     })
///     .unwrap_or_else(|error| panic!("seed {seed}: {error}"));
/// }
/// ```
#[track_caller]
pub fn run<F, T>(seed: u64, main: F) -> Result<T>
where
    F: Future<Output = Result<T>> + 'static,
    T: 'static,
{
    run_with(Config::lively(seed), main)
}
