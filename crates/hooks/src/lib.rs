//! Fleets behind a webhook or a command of the user's.
