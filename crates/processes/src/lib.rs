//! A fleet of engine processes on this machine.
