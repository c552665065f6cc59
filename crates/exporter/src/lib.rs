//! Engine and GPU metrics in one normalised form.
