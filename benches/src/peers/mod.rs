//! The runtimes aioli is measured against, each behind the feature of its name and configured as its users would.

#[cfg(feature = "glommio")]
pub mod glommio;
#[cfg(feature = "monoio")]
pub mod monoio;
#[cfg(feature = "smol")]
pub mod smol;
#[cfg(feature = "tokio")]
pub mod tokio;
