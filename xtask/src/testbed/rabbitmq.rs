//! RabbitMQ from Debian, with as much of Erlang as it needs.

use std::path::Path;

use anyhow::Result;

use crate::packages;

/// What `rabbitmq-server` depends on and a machine without Erlang lacks.
const PACKAGES: &[&str] = &[
    "rabbitmq-server",
    "erlang-asn1",
    "erlang-base",
    "erlang-crypto",
    "erlang-eldap",
    "erlang-ftp",
    "erlang-inets",
    "erlang-mnesia",
    "erlang-os-mon",
    "erlang-parsetools",
    "erlang-public-key",
    "erlang-runtime-tools",
    "erlang-snmp",
    "erlang-ssl",
    "erlang-syntax-tools",
    "erlang-tftp",
    "erlang-tools",
    "erlang-xmerl",
    "libsctp1",
];

/// Unpacks the packages, and lets Erlang start from where it lies.
pub(super) fn get(folder: &Path) -> Result<()> {
    packages::debian(folder, PACKAGES)?;
    let start = folder.join("usr/lib/erlang/bin/erl");
    let text = std::fs::read_to_string(&start)?;
    Ok(std::fs::write(start, text.replace("ROOTDIR=/usr/lib/erlang", "ROOTDIR=\"$ERL_ROOTDIR\""))?)
}
