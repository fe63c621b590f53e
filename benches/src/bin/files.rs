//! Reads of 4 KiB from a file that is in the page cache: aioli's `File::read_at` beside an io_uring driven by hand, and `pread`.
//!
//! `files [--count N] [--reps N] [--filter PART]`: in each repetition the readers take turns, with the same number of reads. The
//! figures are the CPU time of this process. Those called `x32` read 32 blocks at a time.
#![forbid(unsafe_code)]

use std::env;
use std::error::Error;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::rc::Rc;
use std::time::Instant;

use aioli_benches::comparison::{median, short};
use aioli_benches::files::{BLOCK, read_by_ring};
use aioli_benches::machine;
use aioli_core::{Result, gather};

/// The file has so many blocks.
const BLOCKS: usize = 256;

/// Reads so many blocks of a file.
type Reader = (&'static str, fn(PathBuf, usize) -> Result<()>);

const READERS: [Reader; 7] = [
    ("ring", |path, count| Ok(read_by_ring(&File::open(path)?, BLOCKS, count, 1)?)),
    ("ring x32", |path, count| Ok(read_by_ring(&File::open(path)?, BLOCKS, count, 32)?)),
    ("pread", pread),
    ("aioli, epoll", |path, count| aioli_exec_single::run(read(path, count))),
    ("aioli, io_uring", |path, count| aioli_exec_uring::run(read(path, count))),
    ("aioli, epoll x32", |path, count| aioli_exec_single::run(read_at_once(path, count))),
    ("aioli, io_uring x32", |path, count| aioli_exec_uring::run(read_at_once(path, count))),
];

/// The place of the so-many-eth block to be read, in bytes.
fn place(n: usize) -> u64 {
    (n % BLOCKS * BLOCK) as u64
}

fn pread(path: PathBuf, count: usize) -> Result<()> {
    let file = File::open(path)?;
    let mut buffer = vec![0; BLOCK];
    for n in 0..count {
        file.read_exact_at(&mut buffer, place(n))?;
    }
    Ok(())
}

async fn read(path: PathBuf, count: usize) -> Result<()> {
    let file = aioli_io::File::open(path).await?;
    for n in 0..count {
        assert_eq!(file.read_at(place(n), BLOCK).await?.len(), BLOCK);
    }
    Ok(())
}

async fn read_at_once(path: PathBuf, count: usize) -> Result<()> {
    let file = Rc::new(aioli_io::File::open(path).await?);
    let part = |n: usize| {
        let file = Rc::clone(&file);
        async move {
            for k in 0..count / 32 {
                assert_eq!(file.read_at(place(k * 32 + n), BLOCK).await?.len(), BLOCK);
            }
            Ok(())
        }
    };
    gather((0..32).map(part).collect::<Vec<_>>()).await?;
    Ok(())
}

fn main() -> std::result::Result<(), Box<dyn Error>> {
    machine::pin_to(0);
    let (mut count, mut reps, mut filter) = (200_000, 5, String::new());
    let mut args = env::args().skip(1);
    while let Some(option) = args.next() {
        let value = args.next().ok_or_else(|| format!("{option} needs a value"))?;
        match option.as_str() {
            "--count" => count = value.parse()?,
            "--reps" => reps = value.parse()?,
            "--filter" => filter = value,
            _ => return Err(format!("no option {option}").into()),
        }
    }
    let path = env::temp_dir().join(format!("aioli-files-{}", std::process::id()));
    std::fs::write(&path, vec![7; BLOCKS * BLOCK])?;
    let readers = READERS.iter().filter(|(name, _)| name.contains(&filter)).collect::<Vec<_>>();
    let mut figures = vec![Vec::new(); readers.len()];
    for _ in 0..reps {
        for ((name, read), figures) in readers.iter().zip(&mut figures) {
            let (started, before) = (Instant::now(), machine::process_cpu()?);
            read(path.clone(), count).map_err(|error| format!("{name}: {error}"))?;
            let cpu = machine::process_cpu()?.saturating_sub(before);
            figures.push((started.elapsed().as_nanos() as f64 / count as f64, cpu.as_nanos() as f64 / count as f64));
        }
    }
    std::fs::remove_file(path)?;
    println!("{count} reads of 4 KiB, medians of {reps} repetitions\n");
    println!("| reader | ns a read | CPU ns | to the ring's, one at a time |\n|---|---:|---:|---:|");
    for ((name, _), own) in readers.iter().zip(&figures) {
        let of = |part: fn(&(f64, f64)) -> f64| median(&own.iter().map(part).collect::<Vec<_>>());
        let ratio = own.iter().zip(&figures[0]).map(|(one, ring)| one.1 / ring.1).collect::<Vec<_>>();
        println!("| {name} | {} | {} | {:.2} |", short(of(|f| f.0)), short(of(|f| f.1)), median(&ratio));
    }
    Ok(())
}
