//! Reading a file through an io_uring by hand: what a runtime's reads are compared with.
#![allow(unsafe_code, reason = "there is no io_uring without")]

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;

use io_uring::{IoUring, cqueue, opcode, types};

/// What is read at once.
pub const BLOCK: usize = 4096;

/// Reads `count` blocks of a file of `blocks`, `depth` of them at a time, each into a buffer of its own that is used again.
///
/// # Errors
///
/// The kernel's, or if a read is short.
pub fn read_by_ring(file: &File, blocks: usize, count: usize, depth: usize) -> io::Result<()> {
    let mut uring = IoUring::builder().setup_single_issuer().setup_defer_taskrun().build(64)?;
    let fd = types::Fd(file.as_raw_fd());
    let mut buffers = vec![[0u8; BLOCK]; depth];
    let mut block = 0;
    for _ in 0..count / depth {
        for (n, buffer) in buffers.iter_mut().enumerate() {
            block = (block + 1) % blocks;
            let read = opcode::Read::new(fd, buffer.as_mut_ptr(), BLOCK as u32).offset((block * BLOCK) as u64);
            // SAFETY: the buffers live until the reads are completed, which is waited for.
            unsafe { uring.submission().push(&read.build().user_data(n as u64)) }.map_err(io::Error::other)?;
        }
        uring.submit_and_wait(depth)?;
        let mut results = uring.completion().map(|completion: cqueue::Entry| completion.result());
        if results.any(|result| result != BLOCK as i32) {
            return Err(io::Error::other("a short read"));
        }
    }
    Ok(())
}
