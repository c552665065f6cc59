//! Why a scaler has the number that it has, from its object and its Events: as text for people, and for machines.

use k8s_openapi::api::events::v1::Event;
use kube::{
    Api, Client, ResourceExt as _,
    api::{ApiResource, DynamicObject, ListParams},
};

use serde::Serialize;

use crate::resource::{DecisionLine, InferenceScaler, InferenceScalerStatus};

/// The stages of a start in their order; some may be over in the same second.
const STAGES: [&str; 4] = ["scheduled", "pulled", "started", "ready"];
/// Events that are shown at most.
const EVENTS: usize = 8;

/// A scaler and what was told about it.
#[derive(Clone, Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Told {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// What is scaled: `Deployment vllm-llama3`.
    pub target: String,
    /// Its status.
    pub status: InferenceScalerStatus,
    /// Its Events, the oldest first.
    pub events: Vec<EventLine>,
}

/// An Event.
#[derive(Clone, Debug, Default, Serialize)]
pub struct EventLine {
    /// When it was seen last, as RFC 3339 has it.
    pub at: String,
    /// How serious it is: `Normal` or `Warning`.
    #[serde(rename = "type")]
    pub kind: String,
    /// A word for machines.
    pub reason: String,
    /// What happened.
    pub note: String,
}

/// Asks the API server about a scaler.
///
/// # Errors
/// When it cannot be asked, or there is no such scaler.
pub async fn ask(client: Client, namespace: &str, name: &str) -> Result<Told, kube::Error> {
    let resource = ApiResource::erase::<InferenceScaler>(&());
    let scalers: Api<DynamicObject> = Api::namespaced_with(client.clone(), namespace, &resource);
    let scaler = scalers.get(name).await?;
    let target = &scaler.data["spec"]["target"]["kubernetes"];
    let word = |field: &str| target[field].as_str().unwrap_or("?").to_owned();
    let about = scaler.uid().unwrap_or_default();
    let events: Api<Event> = Api::namespaced(client, namespace);
    let mut events =
        events.list(&ListParams::default().fields(&format!("regarding.uid={about}"))).await?.items;
    let moment = |event: &Event| {
        let last = event.series.as_ref().map(|series| series.last_observed_time.0);
        last.or(event.event_time.as_ref().map(|time| time.0))
    };
    events.sort_by_key(|event| moment(event));
    let skipped = events.len().saturating_sub(EVENTS);
    let lines = events.iter().skip(skipped).map(|event| {
        let at = moment(event).map_or_else(String::new, |at| format!("{at:.0}"));
        let text = |text: &Option<String>| text.clone().unwrap_or_default();
        EventLine { at, kind: text(&event.type_), reason: text(&event.reason), note: text(&event.note) }
    });
    Ok(Told {
        namespace: namespace.to_owned(),
        name: name.to_owned(),
        target: format!("{} {}", word("kind"), word("name")),
        status: scaler
            .data
            .get("status")
            .and_then(|status| serde_json::from_value(status.clone()).ok())
            .unwrap_or_default(),
        events: lines.collect(),
    })
}

impl Told {
    /// The text.
    pub fn text(&self) -> String {
        let Told { namespace, name, target, status, events } = self;
        let mut lines = vec![format!("{namespace}/{name} scales {target}")];
        let number = |number: Option<i32>| number.map_or_else(|| "?".to_owned(), |number| number.to_string());
        lines.push(format!(
            "  {} wanted, {} asked for, {} serve",
            number(status.desired_replicas),
            number(status.replicas),
            number(status.ready_replicas)
        ));
        if let Some(cold_start) = &status.cold_start {
            let learned = match cold_start.samples {
                0 => "not seen yet".to_owned(),
                1 => "1 was seen".to_owned(),
                samples => format!("{samples} were seen"),
            };
            let mut stages: Vec<(&String, &i64)> = cold_start.stages.iter().collect();
            stages
                .sort_by_key(|(stage, seconds)| (**seconds, STAGES.iter().position(|known| known == stage)));
            let stages: Vec<String> =
                stages.into_iter().map(|(stage, seconds)| format!("{stage} after {seconds} s")).collect();
            let last =
                if stages.is_empty() { String::new() } else { format!("; the last: {}", stages.join(", ")) };
            lines.push(format!(
                "  a start is expected to take {} s ({learned}){last}",
                cold_start.expected_seconds
            ));
        }
        for condition in &status.conditions {
            lines.push(format!(
                "  {} is {} ({}): {}",
                condition.type_, condition.status, condition.reason, condition.message
            ));
        }
        lines.push(String::new());
        if status.decisions.is_empty() {
            lines.push("Nothing was decided that changed anything.".to_owned());
        } else {
            lines.push("Decisions, the last one first:".to_owned());
        }
        status.decisions.iter().for_each(|decision| decision_lines(decision, &mut lines));
        if !events.is_empty() {
            lines.push(String::new());
            lines.push("Events:".to_owned());
            lines.extend(events.iter().map(|event| {
                let EventLine { at, kind, reason, note } = event;
                format!("  {at}  {kind:<7}  {reason}: {note}")
            }));
        }
        lines.join("\n")
    }
}

fn decision_lines(decision: &DecisionLine, lines: &mut Vec<String>) {
    lines.push(format!("  {}  {}", decision.at, decision.summary));
    for step in &decision.steps {
        lines.push(format!("      {:<10} {:>4}  {}", step.stage, step.replicas, step.reason));
    }
}
