//! What belongs to one loop, in a task of another: asyncio's "attached to a different loop".

mod common;

use std::cell::RefCell;
use std::rc::Rc;

use aioli_core::driver::Driver;
use aioli_core::op::Domain;
use aioli_core::{ErrorKind, Result, Runner, sleep, timeout};
use aioli_exec_sim::SimDriver;
use aioli_exec_single::EpollDriver;
use aioli_exec_uring::UringDriver;
use aioli_io::{
    PIPE, Process, Server, Signal, Signals, Socket, StreamReader, StreamWriter, connect_read_pipe,
    create_subprocess_exec, open_connection, signals, start_server,
};

/// What the first loop leaves behind.
struct Kept {
    reader: StreamReader,
    writer: StreamWriter,
    server: Server,
    /// The other end of the connection, which stays open.
    accepted: Rc<RefCell<Option<(StreamReader, StreamWriter)>>>,
    socket: Socket,
    /// Not on the simulated machine.
    more: Option<(StreamReader, Process, Signals)>,
    /// The other end of the pipe.
    _pipe: Option<std::io::PipeWriter>,
}

async fn keep(has_descriptors: bool) -> Result<Kept> {
    let accepted = Rc::new(RefCell::new(None));
    let sink = Rc::clone(&accepted);
    let put = move |reader, writer| {
        *sink.borrow_mut() = Some((reader, writer));
        async { Ok(()) }
    };
    let server = start_server(put, "127.0.0.1", 0).await?;
    let (reader, writer) = open_connection("127.0.0.1", server.local_addrs()[0].port()).await?;
    let socket = Socket::stream(Domain::Ipv4)?;
    socket.bind(([127, 0, 0, 1], 0).into())?;
    socket.listen(1)?;
    while accepted.borrow().is_none() {
        sleep(0.001).await?;
    }
    let (mut more, mut pipe) = (None, None);
    if has_descriptors {
        let (ours, theirs) = std::io::pipe()?;
        let process = create_subprocess_exec("sleep", ["60"]).stdin(PIPE).await?;
        more = Some((connect_read_pipe(ours).await?, process, signals([Signal::USR2])?));
        pipe = Some(theirs);
    }
    Ok(Kept { reader, writer, server, accepted, socket, more, _pipe: pipe })
}

/// Awaits everything on a loop that is not its own.
async fn refused(kept: &Kept, text: &str) -> Result<()> {
    let told = |error: aioli_core::Error| assert_eq!((error.kind(), &*error.to_string()), (ErrorKind::Runtime, text));
    let at_once = 5.0;
    told(timeout(at_once, kept.reader.read(1)).await.unwrap_err());
    told(timeout(at_once, kept.reader.readline()).await.unwrap_err());
    told(timeout(at_once, kept.writer.wait_closed()).await.unwrap_err());
    told(timeout(at_once, kept.socket.accept()).await.unwrap_err());
    told(timeout(at_once, kept.socket.readable()).await.unwrap_err());
    if let Some((pipe, process, signals)) = &kept.more {
        told(timeout(at_once, pipe.read(1)).await.unwrap_err());
        told(timeout(at_once, process.wait()).await.unwrap_err());
        told(timeout(at_once, signals.recv()).await.unwrap_err());
    }
    Ok(())
}

fn each_backend(test: impl Fn(&dyn Fn() -> Runner, bool)) {
    fn runner(driver: impl Driver) -> Runner {
        Runner::new(driver)
    }
    test(&|| runner(SimDriver::new()), false);
    test(&|| runner(EpollDriver::new().unwrap()), true);
    if UringDriver::new().is_ok() {
        test(&|| runner(UringDriver::new().unwrap()), true);
    }
}

#[test]
fn what_belongs_to_another_loop_is_refused_and_does_not_wait_for_ever() {
    each_backend(|runner, has_descriptors| {
        let (one, two) = (runner(), runner());
        let kept = Rc::new(one.run(keep(has_descriptors)).unwrap());
        let elsewhere = Rc::clone(&kept);
        two.run(async move {
            let text = "this belongs to a different event loop: only tasks of the one that made it can wait for it";
            refused(&elsewhere, text).await?;
            assert_eq!(timeout(5.0, elsewhere.server.serve_forever()).await.unwrap_err().to_string(), text);
            assert!(elsewhere.server.is_serving());
            assert_eq!(timeout(5.0, elsewhere.server.wait_closed()).await.unwrap_err().to_string(), text);
            elsewhere.writer.write(&vec![0; 20_000_000])?;
            assert_eq!(timeout(5.0, elsewhere.writer.drain()).await.unwrap_err().to_string(), text);
            Ok(())
        })
        .unwrap();
        // At home all of it is as good as before.
        let home = Rc::clone(&kept);
        one.run(async move {
            let (theirs, writer) = home.accepted.take().unwrap();
            home.writer.write_eof();
            assert_eq!(timeout(60.0, theirs.read_to_end()).await?.len(), 20_000_000);
            timeout(5.0, home.writer.drain()).await?;
            writer.close();
            assert_eq!(timeout(5.0, home.reader.read(1)).await?, "");
            home.writer.close();
            timeout(5.0, home.writer.wait_closed()).await?;
            home.server.close();
            timeout(5.0, home.server.wait_closed()).await
        })
        .unwrap();
        drop(kept);
        one.close().unwrap();
        two.close().unwrap();
    });
}

#[test]
fn what_outlives_its_loop_tells_that_the_loop_is_closed() {
    each_backend(|runner, has_descriptors| {
        let one = runner();
        let kept = Rc::new(RefCell::new(None));
        let keeper = Rc::clone(&kept);
        one.run(async move {
            *keeper.borrow_mut() = Some(keep(has_descriptors).await?);
            Ok(())
        })
        .unwrap();
        one.close().unwrap();
        let kept = kept.take().unwrap();
        let two = runner();
        two.run(async move {
            refused(&kept, "the event loop is closed").await?;
            // It went with its loop.
            timeout(5.0, kept.server.wait_closed()).await
        })
        .unwrap();
        two.close().unwrap();
    });
}
