//! A day of faults at random, from a seed.
