//! What is wrong is said, nothing is lost by it, and the loop goes on.

use std::io;
use std::net::TcpListener;
use std::process::Command;
use std::time::Duration;

use aioli::{
    Backend, Error, ErrorKind, Event, Lock, Queue, Result, Runner, Semaphore, StreamReader, StreamWriter, TaskBuilder,
    as_completed, create_task, gather, get_running_loop, open_connection, open_connection_to, shield, sleep,
    start_server, task_group, timeout, to_thread, wait, wait_for,
};
use futures::executor::block_on;

/// Runs a program, and shows after it that the loop is as good as before: tasks, timers, threads and sockets.
#[track_caller]
fn and_goes_on(main: impl Future<Output = Result<()>> + 'static) {
    let all = async {
        main.await?;
        let (reader, writer, server) = echo().await?;
        let line = create_task(async move {
            writer.write(b"still here\n")?;
            writer.drain().await?;
            reader.readline().await
        });
        assert_eq!(timeout(5.0, line).await?, "still here\n");
        assert_eq!(gather((to_thread(|| Ok(1)), async { sleep(0.001).await.map(|()| 2) })).await?, (1, 2));
        server.close();
        Ok(())
    };
    aioli::run(all).unwrap();
}

/// A connection to a server that sends back what it gets.
async fn echo() -> Result<(StreamReader, StreamWriter, aioli::Server)> {
    let serve = async |reader: StreamReader, writer: StreamWriter| {
        loop {
            let data = reader.read(1000).await?;
            if data.is_empty() {
                return Ok(());
            }
            writer.write(&data)?;
            writer.drain().await?;
        }
    };
    let server = start_server(serve, "127.0.0.1", 0).await?;
    let (reader, writer) = open_connection("127.0.0.1", server.local_addrs()[0].port()).await?;
    Ok((reader, writer, server))
}

/// The kind of an error, which has something to say.
#[track_caller]
fn kind<T>(result: Result<T>) -> ErrorKind {
    let error = result.err().expect("an error");
    assert!(error.to_string().len() > 8, "{error:?} says nothing");
    error.kind()
}

#[track_caller]
fn io_kind<T>(result: Result<T>) -> io::ErrorKind {
    result.err().expect("an error").as_io().expect("an error of the system").kind()
}

#[test]
fn a_negative_duration_is_over_at_once() {
    and_goes_on(async {
        let current = get_running_loop()?;
        let before = (current.turn(), current.time());
        sleep(-1.0).await?;
        assert_eq!(current.turn() - before.0, 1, "a bare yield");
        assert!(timeout(-5.0, sleep(60.0)).await.unwrap_err().is_timeout());
        assert!(wait_for(sleep(60.0), -5.0).await.unwrap_err().is_timeout());
        let (called, call) = (std::rc::Rc::new(std::cell::Cell::new(false)), current.create_future());
        let (seen, done) = (called.clone(), call.clone());
        current.call_later(-1.0, move || {
            seen.set(true);
            let _ = done.set_result(());
        })?;
        call.await?;
        assert!(called.get() && current.time() - before.1 < Duration::from_secs(5));
        Ok(())
    });
}

#[test]
fn a_duration_that_is_no_number_or_without_end_is_refused() {
    for seconds in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
        and_goes_on(async move {
            let queue = std::rc::Rc::new(Queue::new(0));
            queue.put_nowait(1)?;
            assert_eq!(kind(sleep(seconds).await), ErrorKind::Value);
            assert_eq!(kind(timeout(seconds, queue.get()).await), ErrorKind::Value);
            assert_eq!(kind(wait_for(queue.get(), seconds).await), ErrorKind::Value);
            let getter = queue.clone();
            let task = create_task(async move { getter.get().await });
            assert_eq!(kind(wait([&task]).timeout(seconds).await.map(drop)), ErrorKind::Value);
            assert_eq!(kind(as_completed([&task]).timeout(seconds).next().await.unwrap()), ErrorKind::Value);
            assert_eq!(kind(get_running_loop()?.call_later(seconds, || unreachable!())), ErrorKind::Value);
            assert_eq!(task.await?, 1, "the item is nobody else's");
            Ok(())
        });
    }
}

#[test]
fn a_duration_beyond_the_clock_lasts_for_ever() {
    and_goes_on(async {
        for seconds in [Duration::MAX, Duration::from_secs(u64::MAX / 4)] {
            assert!(timeout(0.01, sleep(seconds)).await.unwrap_err().is_timeout());
            assert_eq!(timeout(seconds, async { Ok(1) }).await?, 1);
            get_running_loop()?.call_later(seconds, || unreachable!())?.cancel();
        }
        assert!(timeout(0.01, sleep(1e300)).await.unwrap_err().is_timeout());
        Ok(())
    });
}

#[test]
fn a_reader_with_a_limit_of_zero_is_refused() {
    and_goes_on(async {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let port = listener.local_addr()?.port();
        assert_eq!(kind(open_connection("127.0.0.1", port).limit(0).await), ErrorKind::Value);
        assert_eq!(kind(start_server(async |_, _| Ok(()), "127.0.0.1", 0).limit(0).await), ErrorKind::Value);
        assert_eq!(kind(StreamReader::new(0)), ErrorKind::Value);
        listener.set_nonblocking(true)?;
        assert_eq!(listener.accept().unwrap_err().kind(), io::ErrorKind::WouldBlock, "nobody was called");
        Ok(())
    });
}

#[test]
fn a_second_reader_is_refused_and_the_first_gets_its_data() {
    and_goes_on(async {
        let (reader, writer, server) = echo().await?;
        let reader = std::rc::Rc::new(reader);
        let first = create_task({
            let reader = reader.clone();
            async move { reader.readexactly(6).await }
        });
        sleep(0.0).await?;
        assert_eq!(kind(reader.read(6).await), ErrorKind::Runtime);
        assert_eq!(kind(reader.readline().await), ErrorKind::Runtime);
        assert_eq!(kind(reader.read_to_end().await), ErrorKind::Runtime);
        writer.write(b"abcdef")?;
        assert_eq!(first.await?, "abcdef");
        server.close();
        Ok(())
    });
}

#[test]
fn a_write_after_close_is_refused_and_what_came_before_arrives() {
    and_goes_on(async {
        let received = get_running_loop()?.create_future();
        let sink = received.clone();
        let serve = move |reader: StreamReader, writer: StreamWriter| {
            let sink = sink.clone();
            async move {
                let _open = writer;
                sink.set_result(reader.read_to_end().await?)
            }
        };
        let server = start_server(serve, "127.0.0.1", 0).await?;
        let (_reader, writer) = open_connection("127.0.0.1", server.local_addrs()[0].port()).await?;
        writer.write(b"before")?;
        writer.close();
        assert_eq!(kind(writer.write(b"after")), ErrorKind::Runtime);
        assert_eq!(kind(writer.writelines(["one", "two"])), ErrorKind::Runtime);
        assert!(writer.drain().await.is_err());
        writer.wait_closed().await?;
        assert_eq!(received.await?, "before");
        server.close();
        Ok(())
    });
}

#[test]
fn a_write_after_the_end_was_written_is_refused_and_reading_goes_on() {
    and_goes_on(async {
        let (reader, writer, server) = echo().await?;
        writer.write(b"last")?;
        writer.write_eof();
        assert_eq!(kind(writer.write(b"more")), ErrorKind::Runtime);
        assert_eq!(reader.read_to_end().await?, "last");
        server.close();
        Ok(())
    });
}

#[test]
fn an_unknown_host_is_an_error_of_the_system() {
    // No resolver asks anybody for a label that is longer than 63 bytes.
    let host = format!("{}.invalid", "x".repeat(64));
    and_goes_on(async move {
        for error in [
            open_connection(&*host, 80).await.map(drop).unwrap_err(),
            start_server(async |_, _| Ok(()), &*host, 0).await.map(drop).unwrap_err(),
        ] {
            assert!(error.as_io().is_some());
            assert!(error.to_string().contains(&host), "{error} does not say which");
        }
        assert_eq!(kind(open_connection("zero\0byte", 80).await), ErrorKind::Value);
        Ok(())
    });
}

#[test]
fn a_look_up_that_is_given_up_ends_in_its_thread() {
    and_goes_on(async {
        let before = get_running_loop()?.time();
        let looking = create_task(open_connection("localhost", 1));
        sleep(0.0).await?;
        assert!(looking.cancel(None));
        assert!(looking.await.unwrap_err().is_cancelled());
        drop(timeout(0.0, open_connection("localhost", 1)).await);
        assert!(get_running_loop()?.time() - before < Duration::from_secs(5));
        Ok(())
    });
}

#[test]
fn a_refused_connection_is_an_error_of_the_system() {
    and_goes_on(async {
        let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        assert_eq!(io_kind(open_connection("127.0.0.1", port).await), io::ErrorKind::ConnectionRefused);
        let error = open_connection("localhost", port).all_errors(true).await.unwrap_err();
        assert!(error.kind() == ErrorKind::Group || error.as_io().is_some(), "{error:?}");
        let taken = TcpListener::bind("127.0.0.1:0")?;
        let result = start_server(async |_, _| Ok(()), "127.0.0.1", taken.local_addr()?.port()).await;
        let error = result.unwrap_err();
        assert_eq!(error.as_io().unwrap().kind(), io::ErrorKind::AddrInUse);
        assert!(error.to_string().contains("127.0.0.1"), "{error}");
        Ok(())
    });
}

#[test]
fn a_port_out_of_range_is_refused() {
    and_goes_on(async {
        for address in ["127.0.0.1:65536", "localhost:99999999999", "[::1]:70000", "127.0.0.1:-1", "h:http", "h:", "h"]
        {
            let error = open_connection_to(address).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Value);
            assert!(error.to_string().contains(address), "{error}");
        }
        Ok(())
    });
}

/// Runs this test alone in a process that has few descriptors. Returns whether this is that process.
fn with_few_descriptors(test: &str, limit: u32) -> bool {
    if std::env::var_os("AIOLI_TEST_ALONE").is_some() {
        return true;
    }
    let program = std::env::current_exe().unwrap();
    let script = format!("ulimit -n {limit}; exec \"$0\" --exact {test} --nocapture");
    let status = Command::new("sh").arg("-c").arg(script).arg(program).env("AIOLI_TEST_ALONE", "1").status();
    assert!(status.unwrap().success());
    false
}

#[test]
fn out_of_descriptors_is_an_error_and_passes() {
    if !with_few_descriptors("out_of_descriptors_is_an_error_and_passes", 40) {
        return;
    }
    and_goes_on(async {
        let (reader, writer, server) = echo().await?;
        let filling: Vec<_> = std::iter::from_fn(|| std::fs::File::open("/dev/null").ok()).collect();
        assert!(!filling.is_empty());
        let port = server.local_addrs()[0].port();
        let os_error = |error: Error| error.as_io().and_then(io::Error::raw_os_error);
        assert_eq!(open_connection("127.0.0.1", port).await.err().and_then(os_error), Some(24));
        assert_eq!(start_server(async |_, _| Ok(()), "", 0).await.err().and_then(os_error), Some(24));
        writer.write(b"a connection that is there works on")?;
        assert_eq!(reader.readexactly(35).await?.len(), 35);
        drop(filling);
        server.close();
        Ok(())
    });
    // Without descriptors there is no loop, and one when there are some again.
    let filling: Vec<_> = std::iter::from_fn(|| std::fs::File::open("/dev/null").ok()).collect();
    assert!(aioli::run(async { Ok(()) }).unwrap_err().as_io().is_some());
    drop(filling);
    and_goes_on(async { Ok(()) });
}

#[test]
fn a_backend_that_there_is_not_is_not_blamed_on_the_environment() {
    let error = "kqueue".parse::<Backend>().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Value);
    assert_eq!(error.to_string(), "\"kqueue\": there is no such backend; there are \"epoll\" and \"uring\"");
}

#[test]
fn a_run_inside_of_a_run_is_refused() {
    and_goes_on(async {
        assert_eq!(kind(aioli::run(async { Ok(()) })), ErrorKind::Runtime);
        let inner = create_task(async { aioli::run(async { Ok(()) }) });
        assert_eq!(kind(inner.await), ErrorKind::Runtime);
        let runner = Runner::new(aioli_exec_sim::SimDriver::new());
        assert_eq!(kind(runner.run(async { Ok(()) })), ErrorKind::Runtime);
        assert_eq!(kind(runner.run_forever()), ErrorKind::Runtime);
        // In another thread it is no run inside of a run.
        assert_eq!(to_thread(|| aioli::run(async { Ok(1) })).await?, 1);
        Ok(())
    });
}

#[test]
fn outside_of_a_loop_is_an_error_or_a_clear_panic() {
    assert_eq!(kind(get_running_loop()), ErrorKind::Runtime);
    assert_eq!(kind(block_on(sleep(0.1))), ErrorKind::Runtime);
    assert_eq!(kind(block_on(timeout(0.1, async { Ok(()) }))), ErrorKind::Runtime);
    assert_eq!(kind(block_on(task_group(async |_| Ok(())))), ErrorKind::Runtime);
    assert_eq!(kind(block_on(to_thread(|| Ok(())))), ErrorKind::Runtime);
    assert_eq!(kind(block_on(Event::new().wait())), ErrorKind::Runtime);
    assert_eq!(kind(block_on(open_connection("127.0.0.1", 1))), ErrorKind::Runtime);
    assert_eq!(kind(block_on(start_server(async |_, _| Ok(()), "127.0.0.1", 0))), ErrorKind::Runtime);
    assert_eq!(kind(StreamReader::new(10)), ErrorKind::Runtime);
    let panic = std::panic::catch_unwind(|| drop(create_task(async { Ok(()) }))).unwrap_err();
    assert!(panic.downcast_ref::<&str>().unwrap().starts_with("no running event loop"));
    and_goes_on(async { Ok(()) });
}

#[test]
fn a_future_of_another_loop_is_refused_and_waits_on() {
    let first = Runner::new(aioli_exec_sim::SimDriver::new());
    let future = first.get_loop().create_future::<u32>();
    let inside = future.clone();
    let task = first.get_loop().create_task(inside);
    let view = task.view();
    let stranger = future.clone();
    and_goes_on(async move {
        assert_eq!(kind((&stranger).await), ErrorKind::Runtime);
        assert_eq!(kind(wait_for(&stranger, 1.0).await), ErrorKind::Runtime);
        assert_eq!(kind(shield(stranger.clone()).await), ErrorKind::Runtime);
        assert_eq!(kind(gather([&stranger]).await), ErrorKind::Value);
        assert_eq!(kind(wait([&stranger]).await.map(drop)), ErrorKind::Value);
        Ok(())
    });
    assert!(!view.done() && view.cancelling() == 0);
    future.set_result(7).unwrap();
    assert_eq!(first.run(task).unwrap(), 7);
}

#[test]
fn numbers_that_make_no_sense_are_refused() {
    and_goes_on(async {
        assert_eq!(kind(aioli::Barrier::new(0)), ErrorKind::Value);
        assert_eq!(kind(Lock::new().release()), ErrorKind::Runtime);
        assert_eq!(kind(Queue::<u8>::new(1).task_done()), ErrorKind::Value);
        assert_eq!(kind(aioli::BoundedSemaphore::new(1).release()), ErrorKind::Value);
        assert_eq!(kind(aioli::ThreadPool::builder().max_workers(0).build()), ErrorKind::Value);
        assert_eq!(kind(wait(Vec::<aioli::Task<()>>::new()).await.map(drop)), ErrorKind::Value);
        let idle = Semaphore::new(0);
        assert!(timeout(0.001, idle.acquire()).await.unwrap_err().is_timeout());
        let named = TaskBuilder::new().name("").create_task(async { Ok(()) });
        assert_eq!(&*named.name(), "");
        named.await
    });
}
