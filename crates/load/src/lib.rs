//! Open-loop load and the account of every request.
