//! [`refuse`]: the outcome of an op that is not carried out.

use std::io;

use aioli_core::op::{Op, Outcome};

/// Fails an op with the outcome of its kind. What it owned comes back, but for a descriptor to adopt, which is closed.
pub(crate) fn refuse(op: Op, error: io::Error) -> Outcome {
    match op {
        Op::Socket { .. } | Op::Adopt { .. } | Op::OpenFile { .. } => Outcome::Opened(Err(error)),
        Op::LocalAddress { .. } | Op::PeerAddress { .. } => Outcome::Address(Err(error)),
        Op::Accept { .. } => Outcome::Accepted(Err(error)),
        Op::Recv { buffer, .. } | Op::ReadFile { buffer, .. } => Outcome::Received { result: Err(error), buffer },
        Op::Send { data, .. } | Op::WriteFile { data, .. } => Outcome::Sent { result: Err(error), data },
        Op::Poll { .. } | Op::PollFd { .. } | Op::Watch { .. } => Outcome::Ready(Err(error)),
        Op::WaitProcess { .. } => Outcome::Exited(Err(error)),
        Op::FileStatus { .. } => Outcome::Status(Err(error)),
        _ => Outcome::Done(Err(error)),
    }
}
