//! Tests of the timer queue: its rules one by one, and long random runs beside a plain model.

mod lockstep;
mod programs;
mod random;
mod rng;
mod rules;
