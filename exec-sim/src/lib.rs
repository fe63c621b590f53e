//! The simulated machine of aioli: a virtual clock, and run() on it.
