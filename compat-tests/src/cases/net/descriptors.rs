//! Callbacks for descriptors that are ready, with CPython's tests of `add_reader` and `add_writer`.

use std::cell::Cell;
use std::io::{self, Read, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::rc::Rc;

use aioli_core::{ContextVar, Error, ErrorKind, Result, get_running_loop, sleep};
use aioli_io::{LoopDescriptors, OpenConnection, Socket, connect_read_pipe, connect_write_pipe};

use super::super::support::{Trace, event_loop, pump, soon};
use super::support::{Reports, settle};
use crate::case::cases;
use crate::machine::Machine;

cases! {
    ($) "descriptors" in net_descriptors as __cases_net_descriptors;
    upstream_reader_callback: "SK1" = "test_events::EventLoopTestsMixin::test_reader_callback";
    upstream_writer_callback: "SK1" = "test_events::EventLoopTestsMixin::test_writer_callback";
    a_callback_is_called_in_every_turn_in_which_its_descriptor_is_ready: "SK1 LP6 LP18"
        = "test_selector_events::BaseSelectorEventLoopTests::test_add_reader",
          "test_selector_events::BaseSelectorEventLoopTests::test_add_writer",
          "test_selector_events::BaseSelectorEventLoopTests::test_process_events_read",
          "test_selector_events::BaseSelectorEventLoopTests::test_process_events_write";
    a_descriptor_that_becomes_ready: "SK1 LP6";
    a_callback_is_replaced: "SK1 LP9"
        = "test_selector_events::BaseSelectorEventLoopTests::test_add_reader_existing",
          "test_selector_events::BaseSelectorEventLoopTests::test_add_writer_existing";
    a_descriptor_has_a_callback_for_each_side: "SK1"
        = "test_selector_events::BaseSelectorEventLoopTests::test_add_reader_existing_writer",
          "test_selector_events::BaseSelectorEventLoopTests::test_remove_reader_read_write",
          "test_selector_events::BaseSelectorEventLoopTests::test_remove_writer_read_write";
    what_is_removed_in_the_same_turn_is_not_called: "SK2 LP9";
    removing_tells_whether_there_was_one: "SK1"
        = "test_selector_events::BaseSelectorEventLoopTests::test_remove_reader",
          "test_selector_events::BaseSelectorEventLoopTests::test_remove_reader_unknown",
          "test_selector_events::BaseSelectorEventLoopTests::test_remove_writer",
          "test_selector_events::BaseSelectorEventLoopTests::test_remove_writer_unknown";
    a_callback_that_panics_is_reported_and_stays: "L7 LP11 CV2 X3";
    what_others_read_in_the_same_turn_is_not_told: "SK1";
    a_callback_may_replace_and_remove_itself: "SK1 L11";
    upstream_remove_fds_after_closing: "SK1 L9 LP13" = "test_events::EventLoopTestsMixin::test_remove_fds_after_closing";
    upstream_add_fds_after_closing: "SK1 LP13" = "test_events::EventLoopTestsMixin::test_add_fds_after_closing";
    upstream_add_reader_or_writer_transport_fd: "SK1"
        = "test_unix_events::TestFunctional::test_add_reader_or_writer_transport_fd";
    a_pipe_that_a_stream_uses_is_not_watched: "SK1";
    descriptors_that_are_not_open: "SK1";
    a_descriptor_that_is_closed_too_early_is_reported: "SK1 L8";
    what_a_callback_holds_goes_with_it: "L6 L9 L11";
}

fn pair() -> Result<(Rc<UnixStream>, UnixStream)> {
    let (ours, theirs) = UnixStream::pair()?;
    ours.set_nonblocking(true)?;
    Ok((Rc::new(ours), theirs))
}

/// Reads at most so many bytes; `None` if there is nothing.
fn read(mut from: &UnixStream, count: usize) -> Option<String> {
    let mut buffer = vec![0; count];
    let count = from.read(&mut buffer).map_err(|error| assert_eq!(error.kind(), io::ErrorKind::WouldBlock)).ok()?;
    Some(String::from_utf8(buffer[..count].to_vec()).unwrap())
}

/// A callback that reads some bytes and marks them.
fn reads(trace: &Trace, from: &Rc<UnixStream>, count: usize) -> impl FnMut() + 'static {
    let (trace, from) = (trace.clone(), Rc::clone(from));
    move || trace.mark(format_args!("read {:?}", read(&from, count)))
}

fn marks(trace: &Trace, text: &'static str) -> impl FnMut() + 'static {
    let trace = trace.clone();
    move || trace.mark(text)
}

/// Waits until something has happened that another thread, or the kernel, does in its own time.
async fn until(condition: impl Fn() -> bool) -> Result<()> {
    while !condition() {
        sleep(0.0001).await?;
    }
    Ok(())
}

fn upstream_reader_callback(on: &Machine) {
    let Some(on) = on.with_descriptors() else { return };
    on.net(|| async {
        let (r, w) = pair()?;
        let w = Rc::new(Cell::new(Some(w)));
        let (text, removed) = (Rc::new(Cell::new(String::new())), Rc::new(Cell::new(false)));
        let (reading, sink, ended) = (Rc::clone(&r), Rc::clone(&text), Rc::clone(&removed));
        event_loop().add_reader(&*r, move || match read(&reading, 1024).as_deref() {
            Some("") => {
                assert!(event_loop().remove_reader(&*reading));
                ended.set(true);
            }
            Some(data) => sink.set(sink.take() + data),
            None => (),
        })?;
        drop(r);
        let length = {
            let text = Rc::clone(&text);
            move || {
                let all = text.take();
                let length = all.len();
                text.set(all);
                length
            }
        };
        for (data, all) in [("abc", 3), ("def", 6)] {
            let sender = Rc::clone(&w);
            soon(move || {
                let mut socket = sender.take().unwrap();
                socket.write_all(data.as_bytes()).unwrap();
                sender.set(Some(socket));
            });
            until(|| length() >= all).await?;
        }
        soon(move || drop(w.take()));
        until(|| removed.get()).await?;
        assert_eq!(text.take(), "abcdef");
        Ok(())
    });
}

fn upstream_writer_callback(on: &Machine) {
    let Some(on) = on.with_descriptors() else { return };
    on.net(|| async {
        let (w, mut r) = pair()?;
        let called = event_loop().create_future();
        let (writing, tell) = (Rc::clone(&w), called.clone());
        event_loop().add_writer(&*w, move || {
            (&*writing).write_all(&[b'x'; 1024]).unwrap();
            if !tell.done() {
                tell.set_result(()).unwrap();
            }
        })?;
        called.await?;
        assert!(event_loop().remove_writer(&*w));
        assert!(!event_loop().remove_writer(&*w));
        drop(w);
        let mut all = Vec::new();
        r.read_to_end(&mut all)?;
        // It may have been called in the turn in which this learned of the first call.
        assert!(all.len() >= 1024 && all.iter().all(|byte| *byte == b'x'));
        Ok(())
    });
}

fn a_callback_is_called_in_every_turn_in_which_its_descriptor_is_ready(on: &Machine) {
    let Some(on) = on.with_descriptors() else { return };
    on.net_exact(|| async {
        let (ours, mut theirs) = pair()?;
        theirs.write_all(b"xyz")?;
        let trace = Trace::new();
        event_loop().add_reader(&*ours, reads(&trace, &ours, 1))?;
        let (marker, writing) = (trace.clone(), Rc::clone(&ours));
        event_loop().add_writer(&*ours, move || {
            marker.mark("write");
            assert!(event_loop().remove_writer(&*writing));
        })?;
        soon(trace.marker("called soon"));
        pump(6).await?;
        // What was ready before comes first; a call for each turn.
        assert_eq!(
            trace.take(),
            ["called soon+1", "read Some(\"x\")+1", "write+1", "read Some(\"y\")+2", "read Some(\"z\")+3"]
        );
        assert!(event_loop().remove_reader(&*ours));
        assert!(!event_loop().remove_writer(&*ours));
        Ok(())
    });
}

fn a_descriptor_that_becomes_ready(on: &Machine) {
    let Some(on) = on.with_descriptors() else { return };
    on.net_exact(|| async {
        let (ours, mut theirs) = pair()?;
        let trace = Trace::new();
        event_loop().add_reader(&*ours, reads(&trace, &ours, 9))?;
        pump(3).await?;
        trace.mark("sent");
        theirs.write_all(b"x")?;
        pump(3).await?;
        assert_eq!(trace.take(), ["sent+3", "read Some(\"x\")+4"]);
        trace.start();
        drop(theirs);
        pump(3).await?;
        // The end of the stream is ready for ever.
        assert_eq!(trace.take(), ["read Some(\"\")+1", "read Some(\"\")+2"]);
        assert!(event_loop().remove_reader(&*ours));
        pump(2).await?;
        assert_eq!(trace.take(), [""; 0]);
        Ok(())
    });
}

fn a_callback_is_replaced(on: &Machine) {
    let Some(on) = on.with_descriptors() else { return };
    on.net_exact(|| async {
        let (ours, mut theirs) = pair()?;
        theirs.write_all(b"x")?;
        let trace = Trace::new();
        event_loop().add_reader(&*ours, marks(&trace, "old"))?;
        event_loop().add_writer(&*ours, marks(&trace, "old writer"))?;
        pump(2).await?;
        event_loop().add_reader(&*ours, marks(&trace, "new"))?;
        event_loop().add_writer(&*ours, marks(&trace, "new writer"))?;
        pump(2).await?;
        assert!(event_loop().remove_reader(&*ours));
        assert!(event_loop().remove_writer(&*ours));
        // The old ones were ready again in the second turn, but it was before their turn that they were replaced.
        assert_eq!(trace.take(), ["old+1", "old writer+1", "new+3", "new writer+3"]);
        assert!(!event_loop().remove_reader(&*ours));
        pump(2).await?;
        assert_eq!(trace.take(), [""; 0]);
        Ok(())
    });
}

fn a_descriptor_has_a_callback_for_each_side(on: &Machine) {
    let Some(on) = on.with_descriptors() else { return };
    on.net_exact(|| async {
        let (ours, mut theirs) = pair()?;
        theirs.write_all(b"x")?;
        let trace = Trace::new();
        event_loop().add_writer(&*ours, marks(&trace, "writer"))?;
        event_loop().add_reader(&*ours, marks(&trace, "reader"))?;
        pump(2).await?;
        assert_eq!(trace.take(), ["writer+1", "reader+1"]);
        assert!(event_loop().remove_reader(&*ours));
        trace.start();
        pump(2).await?;
        assert_eq!(trace.take(), ["writer+0", "writer+1"]);
        event_loop().add_reader(&*ours, marks(&trace, "reader"))?;
        assert!(event_loop().remove_writer(&*ours));
        trace.start();
        pump(2).await?;
        assert_eq!(trace.take(), ["reader+1"]);
        assert!(event_loop().remove_reader(&*ours));
        Ok(())
    });
}

fn what_is_removed_in_the_same_turn_is_not_called(on: &Machine) {
    let Some(on) = on.with_descriptors() else { return };
    on.net_exact(|| async {
        let ((a, mut to_a), (b, mut to_b)) = (pair()?, pair()?);
        let trace = Trace::new();
        for (name, own, other) in [("a", &a, &b), ("b", &b, &a)] {
            let (trace, fd, other) = (trace.clone(), Rc::clone(own), Rc::clone(other));
            event_loop().add_reader(&**own, move || {
                trace.mark(name);
                assert!(event_loop().remove_reader(&*other));
                assert!(event_loop().remove_reader(&*fd));
            })?;
        }
        to_a.write_all(b"x")?;
        to_b.write_all(b"x")?;
        pump(4).await?;
        // Which of the two is the kernel's affair.
        assert!(matches!(&*trace.take(), [one] if one == "a+1" || one == "b+1"));
        Ok(())
    });
}

fn removing_tells_whether_there_was_one(on: &Machine) {
    let Some(on) = on.with_descriptors() else { return };
    on.net(|| async {
        let (ours, _theirs) = pair()?;
        let number = ours.as_raw_fd();
        assert!(!event_loop().remove_reader(&number));
        assert!(!event_loop().remove_writer(&number));
        // A descriptor and its number are the same.
        event_loop().add_reader(&*ours, || panic!("it has nothing to read"))?;
        assert!(!event_loop().remove_writer(&*ours));
        assert!(event_loop().remove_reader(&number));
        event_loop().add_writer(&number, || ())?;
        assert!(!event_loop().remove_reader(&*ours));
        assert!(event_loop().remove_writer(&*ours));
        assert!(!event_loop().remove_writer(&*ours));
        Ok(())
    });
}

fn a_callback_that_panics_is_reported_and_stays(on: &Machine) {
    let Some(on) = on.with_descriptors() else { return };
    on.net_exact(|| async {
        let (ours, mut theirs) = pair()?;
        theirs.write_all(b"x")?;
        let count = Rc::new(ContextVar::<u32>::new());
        count.set(10);
        let reports = Reports::new();
        let counting = Rc::clone(&count);
        event_loop().add_reader(&*ours, move || {
            let value = counting.get().unwrap() + 1;
            counting.set(value);
            panic!("no {value}");
        })?;
        count.set(100);
        pump(3).await?;
        assert!(event_loop().remove_reader(&*ours));
        // The context is a copy, and the same for each call.
        assert_eq!(
            reports.take(),
            ["exception in callback: panicked: no 11", "exception in callback: panicked: no 12"]
        );
        assert_eq!(count.get(), Some(100));
        Ok(())
    });
}

fn what_others_read_in_the_same_turn_is_not_told(on: &Machine) {
    let Some(on) = on.with_descriptors() else { return };
    on.net_exact(|| async {
        let (ours, mut theirs) = pair()?;
        theirs.write_all(b"x")?;
        let trace = Trace::new();
        event_loop().add_reader(&*ours, marks(&trace, "ready"))?;
        // Its step is in the turn of the first call, before it; the second is in the turn of the next.
        pump(1).await?;
        assert_eq!(trace.take(), [""; 0]);
        sleep(0.0).await?;
        assert_eq!(trace.take(), ["ready+1"]);
        assert_eq!(read(&ours, 9).as_deref(), Some("x"));
        pump(2).await?;
        assert_eq!(trace.take(), [""; 0]);
        theirs.write_all(b"y")?;
        pump(2).await?;
        assert_eq!(trace.take(), ["ready+5"]);
        assert!(event_loop().remove_reader(&*ours));
        Ok(())
    });
}

fn a_callback_may_replace_and_remove_itself(on: &Machine) {
    let Some(on) = on.with_descriptors() else { return };
    on.net_exact(|| async {
        let (ours, mut theirs) = pair()?;
        theirs.write_all(b"x")?;
        let trace = Trace::new();
        let (marker, fd) = (trace.clone(), Rc::clone(&ours));
        event_loop().add_reader(&*ours, move || {
            marker.mark("first");
            let (marker, removing) = (marker.clone(), Rc::clone(&fd));
            event_loop()
                .add_reader(&*fd, move || {
                    marker.mark("second");
                    assert!(event_loop().remove_reader(&*removing));
                    assert!(!event_loop().remove_reader(&*removing));
                })
                .unwrap();
        })?;
        pump(5).await?;
        assert_eq!(trace.take(), ["first+1", "second+2"]);
        Ok(())
    });
}

fn upstream_remove_fds_after_closing(on: &Machine) {
    if on.network().and_then(Machine::with_descriptors).is_none() {
        return;
    }
    let runner = on.plain_runner();
    let event_loop = runner.get_loop();
    let (r, w) = UnixStream::pair().unwrap();
    event_loop.add_reader(&r, || panic!("the loop never runs")).unwrap();
    event_loop.add_writer(&w, || panic!("the loop never runs")).unwrap();
    runner.close().unwrap();
    assert!(!event_loop.remove_reader(&r));
    assert!(!event_loop.remove_writer(&w));
}

fn upstream_add_fds_after_closing(on: &Machine) {
    if on.network().and_then(Machine::with_descriptors).is_none() {
        return;
    }
    let runner = on.plain_runner();
    let event_loop = runner.get_loop();
    let (r, w) = UnixStream::pair().unwrap();
    runner.close().unwrap();
    for refused in [event_loop.add_reader(&r, || ()), event_loop.add_writer(&w, || ())] {
        let error = refused.unwrap_err();
        assert_eq!((error.kind(), &*error.to_string()), (ErrorKind::Runtime, "the event loop is closed"));
    }
}

fn upstream_add_reader_or_writer_transport_fd(on: &Machine) {
    let Some(on) = on.with_descriptors() else { return };
    on.net(|| async {
        let (ours, mut theirs) = UnixStream::pair()?;
        let fd = ours.as_raw_fd();
        let event_loop = get_running_loop()?;
        let socket = Socket::from_fd(OwnedFd::from(ours))?;
        // A socket without streams may be watched.
        event_loop.add_writer(&fd, || ())?;
        assert!(event_loop.remove_writer(&fd));
        let (reader, writer) = OpenConnection::with_socket(socket).await?;
        let used = |refused: Result<()>| {
            let error = refused.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Runtime);
            assert_eq!(error.to_string(), format!("file descriptor {fd} is used by a stream"));
        };
        used(event_loop.add_reader(&fd, || ()));
        used(event_loop.add_writer(&fd, || ()));
        // asyncio refuses these as well; here they say that there is none.
        assert!(!event_loop.remove_reader(&fd));
        assert!(!event_loop.remove_writer(&fd));
        // The stream goes on.
        theirs.write_all(b"data")?;
        assert_eq!(reader.readexactly(4).await?, "data");
        // Whoever has the number then may be watched.
        writer.close();
        writer.wait_closed().await?;
        let (next, _other) = UnixStream::pair()?;
        event_loop.add_writer(&next, || ())?;
        assert!(event_loop.remove_writer(&next));
        Ok(())
    });
}

/// asyncio lets a pipe's stream be taken away in this way.
fn a_pipe_that_a_stream_uses_is_not_watched(on: &Machine) {
    let Some(on) = on.with_descriptors() else { return };
    on.net(|| async {
        let (ours, theirs) = io::pipe()?;
        let (reading, writing) = (ours.as_raw_fd(), theirs.as_raw_fd());
        let (reader, writer) = (connect_read_pipe(ours).await?, connect_write_pipe(theirs).await?);
        let used = |fd: i32, refused: Result<()>| {
            let error = refused.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Runtime);
            assert_eq!(error.to_string(), format!("file descriptor {fd} is used by a stream"));
        };
        used(reading, event_loop().add_reader(&reading, || ()));
        used(writing, event_loop().add_writer(&writing, || ()));
        assert!(!event_loop().remove_reader(&reading));
        assert!(!event_loop().remove_writer(&writing));
        writer.write(b"data")?;
        assert_eq!(reader.readexactly(4).await?, "data");
        Ok(())
    });
}

fn descriptors_that_are_not_open(on: &Machine) {
    if on.network().is_none() {
        return;
    }
    let has_descriptors = on.has_descriptors();
    let on_errno = move |error: &Error| error.as_io().and_then(io::Error::raw_os_error);
    on.net(move || async move {
        let number = 1_000_000;
        for refused in [event_loop().add_reader(&-1, || ()), event_loop().add_writer(&-1, || ())] {
            assert_eq!(refused.unwrap_err().kind(), ErrorKind::Value);
        }
        for refused in [event_loop().add_reader(&number, || ()), event_loop().add_writer(&number, || ())] {
            let error = refused.unwrap_err();
            match has_descriptors {
                true => assert_eq!(on_errno(&error), Some(9), "{error}"),
                false => assert_eq!(error.as_io().map(io::Error::kind), Some(io::ErrorKind::Unsupported), "{error}"),
            }
        }
        assert!(!event_loop().remove_reader(&number));
        assert!(!event_loop().remove_writer(&-1));
        Ok(())
    });
}

fn a_descriptor_that_is_closed_too_early_is_reported(on: &Machine) {
    let Some(on) = on.with_descriptors() else { return };
    on.net(|| async {
        let reports = Reports::new();
        let (ours, _theirs) = pair()?;
        let number = ours.as_raw_fd();
        event_loop().add_writer(&number, move || drop(Rc::clone(&ours)))?;
        settle().await?;
        assert_eq!(reports.take(), [""; 0]);
        let (ours, _theirs) = pair()?;
        let number = ours.as_raw_fd();
        let mut ours = Some(ours);
        event_loop().add_writer(&number, move || drop(ours.take()))?;
        settle().await?;
        let told = format!("file descriptor {number} cannot be watched any more: Bad file descriptor (os error 9)");
        assert_eq!(reports.take(), [told]);
        assert!(!event_loop().remove_writer(&number));
        Ok(())
    });
}

fn what_a_callback_holds_goes_with_it(on: &Machine) {
    let Some(on) = on.with_descriptors() else { return };
    /// Adds and removes callbacks of the same descriptor as it is dropped.
    struct Busy(UnixStream, Rc<Cell<u32>>);
    impl Drop for Busy {
        fn drop(&mut self) {
            self.1.set(self.1.get() + 1);
            if let Ok(running) = get_running_loop() {
                let added = running.add_reader(&self.0, || ());
                assert_eq!(running.remove_reader(&self.0), added.is_ok());
            }
        }
    }
    let dropped = Rc::new(Cell::new(0));
    let counting = Rc::clone(&dropped);
    on.net(move || {
        let dropped = Rc::clone(&counting);
        async move {
            let before = dropped.get();
            let (ours, mut theirs) = pair()?;
            theirs.write_all(b"x")?;
            let busy = || Ok::<_, Error>(Busy(ours.try_clone()?, Rc::clone(&dropped)));
            let hold = |busy: Busy| move || _ = &busy;
            event_loop().add_reader(&*ours, hold(busy()?))?;
            // Replaced, removed by itself, removed while it waits.
            event_loop().add_reader(&*ours, hold(busy()?))?;
            assert_eq!(dropped.get(), before + 1);
            settle().await?;
            let (held, removing) = (busy()?, Rc::clone(&ours));
            event_loop().add_reader(&*ours, move || {
                assert!(event_loop().remove_reader(&*removing));
                assert_eq!(held.1.get(), before + 2);
            })?;
            assert_eq!(dropped.get(), before + 2);
            settle().await?;
            assert_eq!(dropped.get(), before + 3);
            event_loop().add_writer(&*ours, hold(busy()?))?;
            assert!(event_loop().remove_writer(&*ours));
            assert_eq!(dropped.get(), before + 4);
            // These go with the loop: one whose poll is in flight, and one that is called in the next turn.
            let (silent, other) = pair()?;
            let (fd, held) = (silent.as_raw_fd(), busy()?);
            event_loop().add_reader(&fd, move || _ = (&held, &silent, &other))?;
            let (held, open) = (busy()?, Rc::clone(&ours));
            event_loop().add_writer(&*ours, move || _ = (&held, &open))?;
            Ok(())
        }
    });
    // Two loops ran.
    assert_eq!(dropped.get(), 2 * 6);
}
