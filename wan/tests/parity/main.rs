//! Runs every case of a parity folder and compares with what the reference made.
