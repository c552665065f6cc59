//! One file a command: its arguments, its help, what it does.

pub(crate) mod aws;
pub(crate) mod completion;
pub(crate) mod contender;
pub(crate) mod decide;
pub(crate) mod demo;
mod edge;
pub(crate) mod engine;
mod engine_access;
pub(crate) mod exporter;
mod external_scaler;
pub(crate) mod gateway;
pub(crate) mod hook;
pub(crate) mod kube;
pub(crate) mod lint;
pub(crate) mod load;
mod named;
mod output;
pub(crate) mod pause;
pub(crate) mod replay;
pub(crate) mod run;
pub(crate) mod scenario;
pub(crate) mod signal;
pub(crate) mod simulate;
pub(crate) mod table;
pub(crate) mod tune;
pub(crate) mod values;
pub(crate) mod what_if;
