//! A policy for each of several models, on the same GPUs.

use forewarm_sim::{
    DataPlane, Decider, Timeline, Together,
    compare::{ALL_MODELS, Row, Subject},
};

use crate::{
    commands::{
        contender::Contender,
        scenario::Scenario,
        simulate::{Measures, SimulateArgs, planes},
    },
    exit::Failure,
};

/// One policy as each model's.
pub(super) struct Mix<'a> {
    pub(super) plane: DataPlane,
    /// One for each model, in the order of the traces.
    contenders: Vec<&'a Contender>,
}

/// A mix for each policy. `contenders` has a list of them for each model.
pub(super) fn mixes<'a>(args: &SimulateArgs, contenders: &'a [Vec<Contender>]) -> Vec<Mix<'a>> {
    let policies = contenders.first().map_or(0, Vec::len);
    let of_policy = |policy: usize| -> Vec<&Contender> {
        contenders.iter().filter_map(|of_model| of_model.get(policy)).collect()
    };
    (0..policies)
        .flat_map(|policy| {
            let contenders = of_policy(policy);
            let planes = contenders.first().map_or_else(Vec::new, |contender| planes(args, contender));
            planes.into_iter().map(move |plane| Mix { plane, contenders: contenders.clone() })
        })
        .collect()
}

impl Mix<'_> {
    /// What decides for each model, and its replicas at the beginning; `None` where that has to be planned first.
    pub(super) fn deciders(&self) -> Option<Vec<(Decider, u32)>> {
        self.contenders.iter().map(|contender| contender.decider()).collect()
    }

    /// The same when plans are made.
    pub(super) fn planned(
        &self,
        scenario: &Scenario,
        measures: &Measures<'_>,
    ) -> Result<Vec<(Decider, u32)>, Failure> {
        let each = scenario.traces.iter().zip(&self.contenders);
        each.map(|(trace, contender)| measures.decider(trace, contender)).collect()
    }

    /// A row for each model, and their sum.
    pub(super) fn rows(
        &self,
        scenario: &Scenario,
        measures: &Measures<'_>,
        together: Together,
    ) -> Vec<(Row, Timeline)> {
        let mut rows = Vec::new();
        for ((trace, contender), report) in scenario.traces.iter().zip(&self.contenders).zip(together.models)
        {
            let subject = scenario.subject(trace, self.plane, &contender.name);
            let references = measures.references(trace, contender);
            rows.push((Row::new(subject, &report, references, scenario.price(trace)), report.timeline));
        }
        let subject = Subject {
            policy: self.contenders.first().map_or_else(String::new, |contender| contender.name.clone()),
            trace: String::new(),
            model: Some(ALL_MODELS.to_owned()),
            data_plane: self.plane,
            objective: scenario.objective,
        };
        let of_models: Vec<Row> = rows.iter().map(|(row, _)| row.clone()).collect();
        let sum = Row::sum(&of_models, subject, &together.sum);
        rows.push((sum, together.sum.timeline));
        rows
    }
}
