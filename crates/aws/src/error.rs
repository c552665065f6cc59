//! Calls that did not do what was asked.

use aws_credential_types::provider::error::CredentialsError;
use aws_sdk_autoscaling::{
    config::http::HttpResponse,
    error::{ProvideErrorMetadata, SdkError},
};

/// Codes by which the APIs say "too many calls".
const THROTTLED: [&str; 5] = [
    "Throttling",
    "ThrottlingException",
    "RequestLimitExceeded",
    "TooManyRequestsException",
    "RequestThrottled",
];

const NO_CREDENTIALS: &str = "there are no credentials: not in the environment (AWS_ACCESS_KEY_ID and \
     AWS_SECRET_ACCESS_KEY), a profile, a web identity, a container or an instance";

/// A call that did not do what was asked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CallError {
    /// Too many calls: nothing was done, and later it will be.
    #[error("{action} is throttled: {message}")]
    Throttled {
        /// The API's action.
        action: &'static str,
        /// In AWS' words.
        message: String,
    },
    /// AWS says no.
    #[error("{action} is refused: {code}: {message}")]
    Refused {
        /// The API's action.
        action: &'static str,
        /// Such as `AccessDenied`.
        code: String,
        /// In AWS' words.
        message: String,
    },
    /// Nobody knows whether it was done.
    #[error("{action} has no answer: {reason}")]
    NoAnswer {
        /// The API's action.
        action: &'static str,
        /// What happened instead.
        reason: String,
    },
}

impl CallError {
    /// What an error of the SDK means.
    pub(crate) fn of<E>(action: &'static str, error: &SdkError<E, HttpResponse>) -> Self
    where
        E: ProvideErrorMetadata + std::error::Error + 'static,
    {
        let meta = error.as_service_error().map(ProvideErrorMetadata::meta);
        if let Some((meta, code)) = meta.and_then(|meta| Some((meta, meta.code()?))) {
            return Self::answered(action, code, meta.message().unwrap_or("no reason given"));
        }
        // The URL and the headers of a request are in none of them.
        let reason = match (error.raw_response(), error) {
            (Some(answer), _) => format!("HTTP {}", answer.status()),
            (None, SdkError::DispatchFailure(failure)) if failure.is_io() => {
                // Which library noticed is on the way; why is at its end.
                causes(error).last().map(ToString::to_string).unwrap_or_default()
            }
            (None, _) if causes(error).any(is_without_credentials) => NO_CREDENTIALS.to_owned(),
            (None, _) => with_causes(error),
        };
        Self::NoAnswer { action, reason }
    }

    /// What an error code of the API means.
    pub(crate) fn answered(action: &'static str, code: &str, message: &str) -> Self {
        if THROTTLED.contains(&code) {
            return Self::Throttled { action, message: message.to_owned() };
        }
        Self::Refused { action, code: code.to_owned(), message: message.to_owned() }
    }
}

/// The SDK says of an error only what kind it is; why is in its causes.
fn with_causes(error: &(dyn std::error::Error + 'static)) -> String {
    let causes: Vec<String> = causes(error).map(ToString::to_string).collect();
    causes.join(": ").split_whitespace().collect::<Vec<_>>().join(" ")
}

/// The error, what caused it, what caused that, …
fn causes<'a>(
    error: &'a (dyn std::error::Error + 'static),
) -> impl Iterator<Item = &'a (dyn std::error::Error + 'static)> {
    std::iter::successors(Some(error), |error| error.source())
}

/// Whether every place was looked at, and none has any.
fn is_without_credentials(error: &(dyn std::error::Error + 'static)) -> bool {
    matches!(error.downcast_ref(), Some(CredentialsError::CredentialsNotLoaded(_)))
}
