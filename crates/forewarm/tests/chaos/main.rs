//! Chaos: a gateway under load while replicas and controllers die, hang, trickle and break connections, and an
//! account that has to balance to the request.
//!
//! `cargo xtask chaos` runs it for as long as one likes; `cargo test` runs a small one.

#![expect(clippy::print_stdout, reason = "it is a program that prints its findings")]

mod client;
mod ledger;
mod replica;
mod schedule;
mod stage;
mod verdict;
mod wire;

use std::{process::ExitCode, sync::Arc, time::Duration};

use anyhow::Result;
use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use tokio::{
    sync::{Semaphore, mpsc},
    time::Instant,
};
use tokio_util::sync::CancellationToken;

use crate::{
    client::{Ask, Client, End},
    stage::Stage,
    verdict::Verdict,
};

/// Replicas at least.
const REPLICAS: u32 = 4;
/// One client in so many hangs up before the end.
const LEAVES: u64 = 100;
/// Requests under way at most: a machine that is slower than the rate is not buried.
const UNDER_WAY: usize = 4_000;
/// Requests in 10,000 that meet each kind of fault at a replica.
const FAULTS: u64 = 20;

#[derive(Parser)]
struct Args {
    #[command(subcommand)]
    role: Option<Role>,
    /// How many requests are sent.
    #[arg(long, default_value_t = 2_000)]
    requests: u64,
    /// The same seed gives the same requests and the same order of faults.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Requests in a second, on average.
    #[arg(long, default_value_t = 200.0)]
    rate: f64,
    /// Seconds between two faults of processes, on average.
    #[arg(long, default_value_t = 1.0)]
    gap: f64,
    /// Prints JSON instead of the table.
    #[arg(long)]
    json: bool,
}

#[derive(Subcommand)]
enum Role {
    /// What the controller starts.
    Replica(replica::ReplicaArgs),
}

fn main() -> ExitCode {
    // The test runner's own options are none of these, and are passed over.
    let matches = Args::command().ignore_errors(true).get_matches();
    let run = Args::from_arg_matches(&matches).map_err(Into::into).and_then(|args| {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
        runtime.block_on(async {
            match args.role {
                Some(Role::Replica(replica)) => replica::run(replica).await.map(|()| true),
                None => chaos(&args).await,
            }
        })
    });
    match run {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            println!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Runs, prints, and says whether all is well.
async fn chaos(args: &Args) -> Result<bool> {
    let mut stage = Stage::start(args.seed, REPLICAS, FAULTS).await?;
    let began = Instant::now();
    let enough = CancellationToken::new();
    let load = tokio::spawn(load(args.requests, args.rate, args.seed, stage.listen.clone()));
    let faults = {
        let gap = Duration::from_secs_f64(args.gap);
        let schedule = schedule::run(&mut stage, args.seed, gap, enough.clone());
        tokio::pin!(schedule);
        tokio::pin!(load);
        let ends = tokio::select! {
            ends = &mut load => ends,
            early = &mut schedule => { early?; load.await }
        };
        enough.cancel();
        (schedule.await?, ends?)
    };
    let (faults, ends) = faults;
    let wall = began.elapsed();
    let report = stage.settled().await?;
    let deeds = ledger::read(&stage.ledgers())?;
    stage.stop().await?;
    let verdict = Verdict::new(args.seed, wall, faults, &ends, &deeds, &report);
    if args.json {
        println!("{}", verdict.json())
    } else {
        println!("{verdict}")
    }
    // As the test runner says it.
    println!("{} passed, {} failed", u32::from(verdict.is_well()), u32::from(!verdict.is_well()));
    Ok(verdict.is_well())
}

/// Sends requests when they are due, whatever becomes of those before, as long as not too many are under way;
/// returns the end of each.
async fn load(requests: u64, rate: f64, seed: u64, gateway: String) -> Vec<End> {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let client = Arc::new(Client::new(gateway));
    let (ended, mut endings) = mpsc::unbounded_channel();
    let room = Arc::new(Semaphore::new(UNDER_WAY));
    let mut due = Instant::now();
    for number in 0..requests {
        // Poisson arrivals.
        let pause = -(1.0 - random.random::<f64>()).ln() / rate;
        due += Duration::from_secs_f64(pause);
        let leaves = random.random_range(0..LEAVES) == 0;
        let ask = Ask {
            number,
            tokens: random.random_range(2..30),
            stream: random.random_range(0..5) > 0,
            leaves_after: leaves.then(|| Duration::from_micros(random.random_range(0..40_000))),
        };
        tokio::time::sleep_until(due).await;
        // The semaphore is never closed.
        let permit = Arc::clone(&room).acquire_owned().await.ok();
        let (client, ended) = (Arc::clone(&client), ended.clone());
        tokio::spawn(async move {
            drop(ended.send((number, client.send(ask).await)));
            drop(permit);
        });
    }
    drop(ended);
    let mut ends = vec![End::Lost("never heard of again".to_owned()); requests as usize];
    while let Some((number, end)) = endings.recv().await {
        ends[number as usize] = end;
    }
    ends
}

/// A number that looks random and is the same for the same two.
fn lot(seed: u64, number: u64) -> u64 {
    // The finaliser of SplitMix64.
    let mut mixed = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15).wrapping_add(number);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    mixed ^ (mixed >> 31)
}
