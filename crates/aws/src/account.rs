//! Who asks, and where: credentials by the ordinary chain, region, limits of time.

use std::{sync::Arc, time::Duration};

use aws_config::{
    BehaviorVersion, Region, SdkConfig, retry::RetryConfig, sts::AssumeRoleProvider, timeout::TimeoutConfig,
};

use crate::ec2::Ec2;

/// A neighbour in the region answers in milliseconds.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// One attempt of a call.
const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(10);
/// A call with its attempts.
const CALL_TIMEOUT: Duration = Duration::from_secs(30);
/// Attempts of a call that was throttled or not answered; the SDK waits longer before each, with jitter.
const ATTEMPTS: u32 = 4;
/// How AWS shows our sessions in CloudTrail.
const SESSION: &str = "forewarm";

/// Why AWS cannot be asked at all.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AccountError {
    /// Nothing says where.
    #[error(
        "no region: set it in the manifest (`region` of a group, `awsRegion` of a signal), AWS_REGION, or `region` in \
         the AWS profile"
    )]
    NoRegion,
    /// TLS cannot be set up.
    #[error("cannot set up a client: {0}")]
    Client(String),
}

/// An account in one region, as one role.
#[derive(Clone, Debug)]
pub struct Account {
    region: String,
    sdk: SdkConfig,
    pub(crate) autoscaling: aws_sdk_autoscaling::Client,
    pub(crate) sqs: aws_sdk_sqs::Client,
    pub(crate) cloudwatch: aws_sdk_cloudwatch::Client,
    pub(crate) ec2: Arc<Ec2>,
}

impl Account {
    /// Credentials, region and endpoint as every AWS tool finds them: environment, profile, container, instance.
    /// Nothing is asked yet.
    ///
    /// # Errors
    /// When no region is known.
    pub async fn open(region: Option<&str>, role_arn: Option<&str>) -> Result<Self, AccountError> {
        let timeouts = TimeoutConfig::builder()
            .connect_timeout(CONNECT_TIMEOUT)
            .operation_attempt_timeout(ATTEMPT_TIMEOUT)
            .operation_timeout(CALL_TIMEOUT)
            .build();
        let mut loader = aws_config::defaults(BehaviorVersion::latest())
            .retry_config(RetryConfig::standard().with_max_attempts(ATTEMPTS))
            .timeout_config(timeouts);
        if let Some(region) = region {
            loader = loader.region(Region::new(region.to_owned()));
        }
        let sdk = loader.load().await;
        let Some(role) = role_arn else { return Self::with(sdk) };
        let provider = AssumeRoleProvider::builder(role).session_name(SESSION).configure(&sdk).build().await;
        let provider = aws_credential_types::provider::SharedCredentialsProvider::new(provider);
        Self::with(sdk.into_builder().credentials_provider(provider).build())
    }

    /// An account as a program has configured it itself.
    ///
    /// # Errors
    /// When no region is known.
    pub fn with(sdk: SdkConfig) -> Result<Self, AccountError> {
        let region = sdk.region().ok_or(AccountError::NoRegion)?.to_string();
        let ec2 = Arc::new(Ec2::new(&sdk, &region)?);
        Ok(Self {
            autoscaling: aws_sdk_autoscaling::Client::new(&sdk),
            sqs: aws_sdk_sqs::Client::new(&sdk),
            cloudwatch: aws_sdk_cloudwatch::Client::new(&sdk),
            ec2,
            region,
            sdk,
        })
    }

    /// Where.
    pub fn region(&self) -> &str {
        &self.region
    }

    pub(crate) fn sdk(&self) -> &SdkConfig {
        &self.sdk
    }
}
