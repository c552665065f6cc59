//! The answers.

use std::{pin::Pin, time::Duration};

use tokio::sync::mpsc;
use tokio_stream::{Stream, wrappers::ReceiverStream};
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status};

use crate::{
    externalscaler::{
        GetMetricSpecResponse, GetMetricsRequest, GetMetricsResponse, IsActiveResponse, MetricSpec,
        MetricValue, ScaledObjectRef, external_scaler_server::ExternalScaler,
    },
    readings::{Reading, Readings},
    trigger::{Metric, Trigger},
};

/// News that a slow client may be behind; older news is worth nothing.
const NEWS: usize = 1;

/// Answers KEDA from [`Readings`].
pub(crate) struct Service {
    pub(crate) readings: Readings,
    pub(crate) namespaced: bool,
    pub(crate) max_age: Duration,
    pub(crate) shutdown: CancellationToken,
}

impl Service {
    /// The trigger, and the key of its scaler among the readings.
    fn trigger(&self, asks: &ScaledObjectRef) -> Result<(Trigger, String), Status> {
        let trigger = Trigger::read(&asks.scaler_metadata)
            .map_err(|error| Status::invalid_argument(error.to_string()))?;
        let key = match self.namespaced {
            true => format!("{}/{}", asks.namespace, trigger.scaler),
            false => trigger.scaler.clone(),
        };
        Ok((trigger, key))
    }

    fn reading(&self, key: &str) -> Result<Reading, Status> {
        let reading = self.readings.get(key).ok_or_else(|| {
            Status::not_found(format!("there is no InferenceScaler `{key}`; the trigger's `scaler` names it"))
        })?;
        match self.readings.age(&reading) {
            Some(age) if age <= self.max_age => Ok(reading),
            Some(age) => Err(Status::unavailable(format!(
                "what is known of `{key}` is {} s old; {} s are allowed",
                age.as_secs(),
                self.max_age.as_secs()
            ))),
            None => Err(Status::unavailable(format!(
                "nobody said yet that what is known of `{key}` is so still: is the controller there?"
            ))),
        }
    }
}

/// The value of a metric.
fn value(reading: &Reading, metric: Metric) -> Option<f64> {
    match metric {
        Metric::Desired => reading.desired.map(f64::from),
        Metric::Queued => reading.queued,
        Metric::InFlight => reading.in_flight,
    }
}

/// Whether a replica is needed: one was decided on, or there is a request. Work is seen with either half of it alone;
/// that there is none needs both.
fn active(reading: &Reading, metric: Metric) -> Option<bool> {
    match metric {
        Metric::Desired => reading.desired.map(|desired| desired > 0),
        Metric::Queued | Metric::InFlight => match (reading.queued, reading.in_flight) {
            (Some(queued), Some(in_flight)) => Some(queued + in_flight > 0.0),
            (Some(some), None) | (None, Some(some)) => (some > 0.0).then_some(true),
            (None, None) => None,
        },
    }
}

fn unknown(metric: Metric, key: &str) -> Status {
    Status::unavailable(format!("`{}` of `{key}` is not known", metric.word()))
}

#[tonic::async_trait]
impl ExternalScaler for Service {
    async fn is_active(
        &self,
        request: Request<ScaledObjectRef>,
    ) -> Result<Response<IsActiveResponse>, Status> {
        let (trigger, key) = self.trigger(request.get_ref())?;
        let result =
            active(&self.reading(&key)?, trigger.metric).ok_or_else(|| unknown(trigger.metric, &key))?;
        Ok(Response::new(IsActiveResponse { result }))
    }

    type StreamIsActiveStream = Pin<Box<dyn Stream<Item = Result<IsActiveResponse, Status>> + Send>>;

    async fn stream_is_active(
        &self,
        request: Request<ScaledObjectRef>,
    ) -> Result<Response<Self::StreamIsActiveStream>, Status> {
        let (trigger, key) = self.trigger(request.get_ref())?;
        let (news, stream) = mpsc::channel(NEWS);
        let (readings, max_age, shutdown) = (self.readings.clone(), self.max_age, self.shutdown.clone());
        tokio::spawn(async move {
            tokio::select! {
                () = tell(&readings, &key, trigger.metric, max_age, &news) => {}
                () = news.closed() => {}
                // Ends the stream in order, so that KEDA comes again soon.
                () = shutdown.cancelled() => {}
            }
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(stream))))
    }

    async fn get_metric_spec(
        &self,
        request: Request<ScaledObjectRef>,
    ) -> Result<Response<GetMetricSpecResponse>, Status> {
        // Of the trigger alone: KEDA makes its HPA of this, which should not wait for the scaler's first decision.
        let (trigger, _) = self.trigger(request.get_ref())?;
        let spec = MetricSpec {
            metric_name: trigger.metric.name().to_owned(),
            target_size: whole(trigger.target),
            target_size_float: trigger.target,
        };
        Ok(Response::new(GetMetricSpecResponse { metric_specs: vec![spec] }))
    }

    async fn get_metrics(
        &self,
        request: Request<GetMetricsRequest>,
    ) -> Result<Response<GetMetricsResponse>, Status> {
        let GetMetricsRequest { scaled_object_ref, metric_name } = request.into_inner();
        let asks = scaled_object_ref
            .ok_or_else(|| Status::invalid_argument("`scaledObjectRef` is missing: who asks is not known"))?;
        let (trigger, key) = self.trigger(&asks)?;
        let metric = trigger.metric;
        if metric_name != metric.name() {
            return Err(Status::invalid_argument(format!(
                "`metricName: {metric_name}` is not the metric of this trigger, which is `{}`",
                metric.name()
            )));
        }
        let value = value(&self.reading(&key)?, metric).ok_or_else(|| unknown(metric, &key))?;
        let value = MetricValue { metric_name, metric_value: whole(value), metric_value_float: value };
        Ok(Response::new(GetMetricsResponse { metric_values: vec![value] }))
    }
}

/// The next whole number, within the range: who cannot read fractions should not have too little.
fn whole(number: f64) -> i64 {
    number.ceil() as i64
}

/// Tells whether the scaler is active, first now and then at each change. One that is not there yet is waited for.
async fn tell(
    readings: &Readings,
    key: &str,
    metric: Metric,
    max_age: Duration,
    news: &mpsc::Sender<Result<IsActiveResponse, Status>>,
) {
    let (mut arrivals, mut confirmed) = (readings.arrivals(), readings.confirmed());
    let mut told = None;
    loop {
        let Some(mut scaler) = readings.follow(key) else {
            if arrivals.changed().await.is_err() {
                return;
            }
            continue;
        };
        loop {
            confirmed.mark_unchanged();
            let reading = scaler.borrow_and_update().clone();
            let fresh = readings.age(&reading).is_some_and(|age| age <= max_age);
            let now = active(&reading, metric).filter(|_| fresh);
            if let Some(result) = now.filter(|_| now != told) {
                if news.send(Ok(IsActiveResponse { result })).await.is_err() {
                    return;
                }
                told = now;
            }
            let changed = tokio::select! {
                changed = scaler.changed() => changed,
                changed = confirmed.changed(), if !fresh => changed,
            };
            if changed.is_err() {
                break;
            }
        }
    }
}
