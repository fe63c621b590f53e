//! Files.

mod common;

use std::path::PathBuf;

use aioli_core::{ErrorKind, create_task, gather, get_running_loop, sleep, timeout};
use aioli_io::{File, FileOptions};

use common::run_everywhere as run;

/// A path of its own, which is gone when this is dropped.
struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("aioli-test-{}-{name}", std::process::id()));
        let _ = std::fs::remove_file(&path);
        Scratch(path)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

#[test]
fn reads_from_memory_let_others_run_and_hear_a_request() {
    run(|| async {
        let scratch = Scratch::new("busy");
        File::create(&scratch.0).await?.write_at(0, b"busy").await?;
        let file = File::open(&scratch.0).await?;
        let busy = create_task(async move {
            for _ in 0..10_000 {
                file.read_at(0, 1).await?;
            }
            Ok(())
        });
        sleep(0.0).await?;
        assert!(busy.cancel(None));
        assert!(busy.await.unwrap_err().is_cancelled());
        Ok(())
    });
}

#[test]
fn what_is_written_is_read() {
    run(|| async {
        let scratch = Scratch::new("written");
        let file = File::create(&scratch.0).await?;
        let data: Vec<u8> = (0..1_000_000u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
        file.write_at(0, &data).await?;
        file.write_at(10, b"ten").await?;
        file.sync_data().await?;
        file.sync_all().await?;
        let status = file.metadata().await?;
        assert_eq!(status.length, 1_000_000);
        assert!(status.is_file() && !status.is_dir());
        // A simulated machine has a time of day of its own.
        let real = get_running_loop()?.report().is_some_and(|report| report.name != "sim");
        assert!(!real || status.modified.elapsed()?.as_secs() < 100);

        let file = File::open(&scratch.0).await?;
        let all = file.read_to_end().await?;
        assert_eq!(&all[10..13], b"ten");
        assert!(all[..10] == data[..10] && all[13..] == data[13..]);
        assert_eq!(file.read_exact_at(999_990, 10).await?, &data[999_990..]);
        assert_eq!(file.read_at(1_000_000, 10).await?, "");
        let error = file.read_exact_at(999_995, 10).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::IncompleteRead);
        // It was opened to read.
        assert_eq!(file.write_at(0, b"x").await.unwrap_err().as_io().unwrap().raw_os_error(), Some(9));
        Ok(())
    });
}

#[test]
fn options_are_the_standard_library_s() {
    run(|| async {
        let scratch = Scratch::new("options");
        let error = File::open(&scratch.0).await.unwrap_err();
        assert_eq!(error.as_io().unwrap().kind(), std::io::ErrorKind::NotFound);
        assert!(error.to_string().contains("options"), "{error}");
        let new = FileOptions::new().write(true).create_new(true).mode(0o600);
        let file = File::open_with(&scratch.0, new.clone()).await?;
        assert_eq!(file.metadata().await?.mode & 0o777, 0o600);
        let error = File::open_with(&scratch.0, new).await.unwrap_err();
        assert_eq!(error.as_io().unwrap().kind(), std::io::ErrorKind::AlreadyExists);
        file.write_at(0, b"abc").await?;
        let append = File::open_with(&scratch.0, FileOptions::new().append(true)).await?;
        append.write_at(0, b"def").await?;
        assert_eq!(File::open(&scratch.0).await?.read_to_end().await?, "abcdef");
        for nonsense in [FileOptions::new(), FileOptions::new().read(true).truncate(true)] {
            let error = File::open_with(&scratch.0, nonsense).await.unwrap_err();
            assert_eq!(error.as_io().unwrap().kind(), std::io::ErrorKind::InvalidInput);
        }
        Ok(())
    });
}

#[test]
fn many_at_the_same_time() {
    run(|| async {
        let scratch = Scratch::new("many");
        let file = std::rc::Rc::new(File::create(&scratch.0).await?);
        let writes = (0..200u64).map(|n| {
            let file = file.clone();
            create_task(async move { file.write_at(n * 100, &[n as u8; 100]).await })
        });
        gather(writes.collect::<Vec<_>>()).await?;
        let all = File::open(&scratch.0).await?.read_to_end().await?;
        assert_eq!(all.len(), 20_000);
        assert!(all.chunks(100).zip(0..).all(|(chunk, n)| chunk == [n as u8; 100]));
        Ok(())
    });
}

#[test]
fn a_loop_that_closes_waits_for_what_the_kernel_has() {
    run(|| async {
        let scratch = Scratch::new("closes");
        let file = std::rc::Rc::new(File::create(&scratch.0).await?);
        for n in 0..50u64 {
            let file = file.clone();
            drop(create_task(async move { file.write_at(n * 100_000, &vec![1; 100_000]).await }));
        }
        sleep(0.0).await
    });
}

/// An open that is given up may go on in a thread, for ever.
#[test]
fn opens_that_hang_hold_up_neither_other_files_nor_the_end() {
    common::run(|| async {
        let (fifo, plain) = (Scratch::new("fifo"), Scratch::new("plain"));
        rustix::fs::mknodat(rustix::fs::CWD, &fifo.0, rustix::fs::FileType::Fifo, rustix::fs::Mode::RWXU, 0)?;
        File::create(&plain.0).await?.write_at(0, b"here").await?;
        // Nobody has the other end.
        for _ in 0..6 {
            assert!(timeout(0.001, File::open(&fifo.0)).await.unwrap_err().is_timeout());
        }
        assert_eq!(File::open(&plain.0).await?.read_at(0, 10).await?, "here");

        // Also if that one is asked for in the same turn.
        let hanging: Vec<_> = (0..20).map(|_| create_task(File::open(fifo.0.clone()))).collect();
        timeout(5.0, File::open(&plain.0)).await?;
        for hang in hanging {
            hang.cancel(None);
            assert!(hang.await.unwrap_err().is_cancelled());
        }
        Ok(())
    });
}

/// The ring's first attempt does not wait: a FIFO opened for reading at once, and failed for writing.
#[test]
fn a_fifo_opens_when_its_other_end_does() {
    common::run(|| async {
        let fifo = Scratch::new("both-ends");
        rustix::fs::mknodat(rustix::fs::CWD, &fifo.0, rustix::fs::FileType::Fifo, rustix::fs::Mode::RWXU, 0)?;
        let to_write = || FileOptions { write: true, ..FileOptions::default() };
        let opening = create_task(File::open(fifo.0.clone()));
        sleep(0.02).await?;
        assert!(!opening.done());
        futures::try_join!(opening, File::open_with(&fifo.0, to_write()))?;

        let opening = create_task(File::open_with(fifo.0.clone(), to_write()));
        sleep(0.02).await?;
        assert!(!opening.done());
        futures::try_join!(opening, File::open(&fifo.0))?;
        Ok(())
    });
}

#[test]
fn what_has_no_length_is_read_whole() {
    common::run(|| async {
        for path in ["/proc/sys/kernel/pid_max", "/proc/sys/net/ipv4/tcp_rmem", "/proc/self/cmdline"] {
            let whole = std::fs::read(path)?;
            assert!(whole.len() > 1);
            assert_eq!(File::open(path).await?.read_to_end().await?, whole, "{path}");
        }
        Ok(())
    });
}

#[test]
fn a_file_longer_than_the_memory_is_an_error() {
    common::run(|| async {
        let scratch = Scratch::new("sparse");
        std::fs::File::create(&scratch.0)?.set_len(1 << 43)?;
        let file = File::open(&scratch.0).await?;
        let no_room =
            |error: aioli_core::Error| error.as_io().is_some_and(|e| e.kind() == std::io::ErrorKind::OutOfMemory);
        // Where the kernel promises memory that it does not have, it is not known that there is no room.
        if std::fs::read_to_string("/proc/sys/vm/overcommit_memory")?.trim() != "1" {
            assert!(no_room(file.read_to_end().await.unwrap_err()));
            assert!(no_room(file.read_exact_at(0, 1 << 46).await.unwrap_err()));
        }
        assert!(no_room(file.read_exact_at(0, usize::MAX).await.unwrap_err()));
        assert_eq!(file.read_at(1 << 42, usize::MAX).await?[0], 0);
        Ok(())
    });
}

#[test]
fn an_offset_that_is_none_is_an_error() {
    run(|| async {
        let scratch = Scratch::new("offset");
        let file = File::open_with(&scratch.0, FileOptions::new().read(true).write(true).create(true)).await?;
        file.write_at(0, b"as it was").await?;
        for offset in [u64::MAX, u64::MAX - 1, 1 << 63] {
            for error in [file.write_at(offset, b"XY").await.unwrap_err(), file.read_at(offset, 2).await.unwrap_err()] {
                assert_eq!(error.as_io().unwrap().raw_os_error(), Some(22), "{error}");
            }
        }
        assert_eq!(file.read_to_end().await?, "as it was");
        Ok(())
    });
}

#[test]
fn what_has_no_positions_is_not_written_to() {
    common::run(|| async {
        let (mut end, start) = std::io::pipe()?;
        let file = File::from_fd(start.into())?;
        let error = file.write_at(0, b"lost").await.unwrap_err();
        assert_eq!(error.as_io().unwrap().kind(), std::io::ErrorKind::NotSeekable);
        drop(file);
        aioli_core::sleep(0.0).await?;
        let mut text = String::new();
        std::io::Read::read_to_string(&mut end, &mut text)?;
        assert_eq!(text, "");
        Ok(())
    });
}

#[test]
fn locks_of_the_process_on_a_file_outlive_what_is_done_with_it() {
    common::run(|| async {
        let scratch = Scratch::new("locked");
        let file = std::fs::File::create(&scratch.0)?;
        let inode = std::os::unix::fs::MetadataExt::ino(&file.metadata()?);
        rustix::fs::fcntl_lock(&file, rustix::fs::FlockOperation::LockExclusive)?;
        let is_locked =
            || Ok::<_, std::io::Error>(std::fs::read_to_string("/proc/locks")?.contains(&format!(":{inode} ")));
        assert!(is_locked()?);
        let file = File::from_fd(file.into())?;
        file.write_at(0, b"locked").await?;
        file.metadata().await?;
        file.sync_all().await?;
        assert!(is_locked()?);
        drop(file);
        sleep(0.0).await?;
        assert!(!is_locked()?);
        Ok(())
    });
}
