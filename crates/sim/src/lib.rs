//! Virtual time: drives the same core over a modelled fleet.
