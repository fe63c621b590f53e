//! asyncio for Rust.
