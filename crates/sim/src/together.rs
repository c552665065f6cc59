//! Several models at a time, each with a policy of its own, on GPUs that they share.

use forewarm_workload::Request;

use crate::{
    Arrivals, Decider, Moment, Report, Timeline, World,
    account::Account,
    run::{Running, begin},
};

/// A model with its requests, and what decides about its replicas.
#[derive(Clone, Copy, Debug)]
pub struct Model<'a> {
    /// Its name, which decisions in the timeline of the sum begin with.
    pub name: &'a str,
    /// Its world. Of [`World::provider_capacity`], the smaller of it and the shared GPUs counts.
    pub world: &'a World,
    /// What decides.
    pub decider: &'a Decider,
    /// Its requests, in the order of their arrival.
    pub requests: &'a [Request],
    /// GPUs of one of its replicas.
    pub gpus_per_replica: u32,
}

/// What came of a run of several models.
#[derive(Clone, Debug, PartialEq)]
pub struct Together {
    /// Each model's, in their order.
    pub models: Vec<Report>,
    /// All requests, and all replicas however many GPUs they have.
    pub sum: Report,
    /// The most GPUs that were held at once.
    pub most_gpus: u32,
}

/// Runs all models in the same virtual time. `gpus` are all that the provider has: a replica holds its GPUs from its
/// request until it has stopped, and a start for which none are left fails at once, whoever asked for it. Of starts at
/// the same moment, those of the model named first come first. A model's run ends with its last request, and its
/// GPUs are free from then on.
pub fn simulate_together(models: &[Model<'_>], gpus: Option<u32>, record_timeline: bool) -> Together {
    let mut runs: Vec<_> = models
        .iter()
        .map(|model| begin(model.world, model.decider, model.requests, record_timeline))
        .collect();
    let (mut most_gpus, mut most_replicas) = held(models, &runs);
    while let Some((_, index)) =
        runs.iter().enumerate().filter_map(|(index, run)| Some((run.next_at()?, index))).min()
    {
        let all = held(models, &runs).0;
        let (Some(run), Some(model)) = (runs.get_mut(index), models.get(index)) else { break };
        if let Some(gpus) = gpus {
            let others = all - run.replicas() * model.gpus_per_replica;
            let most = gpus.saturating_sub(others) / model.gpus_per_replica.max(1);
            run.limit(most.min(model.world.provider_capacity.unwrap_or(most)));
        }
        run.step();
        let (gpus, replicas) = held(models, &runs);
        most_gpus = most_gpus.max(gpus);
        most_replicas = most_replicas.max(replicas);
    }
    let mut account = Account::new();
    let mut sum = Report { max_replicas: most_replicas, ..Report::default() };
    let mut reports = Vec::with_capacity(models.len());
    for (model, run) in models.iter().zip(runs) {
        let (report, requests) = run.close();
        account.add(&requests);
        sum.add(model.name, &report);
        reports.push(report);
    }
    account.close(&mut sum);
    sum.timeline.decisions.sort_by(|left, right| left.0.total_cmp(&right.0));
    Together { models: reports, sum, most_gpus }
}

/// GPUs and replicas that are held.
fn held(models: &[Model<'_>], runs: &[Box<dyn Running + '_>]) -> (u32, u32) {
    let running = models.iter().zip(runs).filter(|(_, run)| run.next_at().is_some());
    running.fold((0, 0), |(gpus, replicas), (model, run)| {
        (gpus + run.replicas() * model.gpus_per_replica, replicas + run.replicas())
    })
}

impl Report {
    /// Adds what another run cost and did; its requests are the account's.
    fn add(&mut self, name: &str, other: &Report) {
        self.lost += other.lost;
        self.replica_hours += other.replica_hours;
        self.starting_hours += other.starting_hours;
        self.starts += other.starts;
        self.failed_starts += other.failed_starts;
        self.changes += other.changes;
        self.flaps += other.flaps;
        self.length_seconds = self.length_seconds.max(other.length_seconds);
        self.timeline.add(name, &other.timeline);
    }
}

impl Timeline {
    /// Adds another one with moments at the same times.
    fn add(&mut self, name: &str, other: &Timeline) {
        for (index, &theirs) in other.moments.iter().enumerate() {
            match self.moments.get_mut(index) {
                Some(mine) => mine.add(theirs),
                None => self.moments.push(theirs),
            }
        }
        self.arrivals.resize(self.arrivals.len().max(other.arrivals.len()), Arrivals::default());
        for (mine, theirs) in self.arrivals.iter_mut().zip(&other.arrivals) {
            mine.sent += theirs.sent;
            mine.missed += theirs.missed;
        }
        let named = |(at, decision): &(f64, String)| (*at, format!("{name}: {decision}"));
        self.decisions.extend(other.decisions.iter().map(named));
    }
}

impl Moment {
    fn add(&mut self, other: Moment) {
        self.target += other.target;
        self.ready += other.ready;
        self.coming += other.coming;
        self.in_flight += other.in_flight;
        self.queued += other.queued;
        self.anticipated = match (self.anticipated, other.anticipated) {
            (Some([recent, load]), Some([more, more_load])) => Some([recent + more, load + more_load]),
            (Some(_), None) | (None, _) => None,
        };
    }
}
