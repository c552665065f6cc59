//! Who asks AWS, in the tests.

use std::{sync::Arc, time::Duration};

use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_credential_types::Credentials;
use forewarm_aws::{Account, AwsSources};
use forewarm_control::{Clock, ports::SignalSource as Source};
use forewarm_manifest::SignalSource;
use forewarm_signals::Sources;

/// What a program with credentials has.
pub(super) async fn sdk(endpoint: &str) -> SdkConfig {
    let credentials = Credentials::new("test", "test", None, None, "a test");
    let loader = aws_config::defaults(BehaviorVersion::latest()).region(Region::new("us-east-1"));
    loader.endpoint_url(endpoint).credentials_provider(credentials).load().await
}

/// The source that a manifest describes, asked as this account.
pub(super) fn described(
    source: &SignalSource,
    account: &Account,
    clock: Clock,
    timeout: Duration,
) -> Arc<dyn Source> {
    let sources = Sources::new(clock).with(AwsSources::with(account.clone()));
    sources.source(source, timeout, Duration::ZERO).unwrap().unwrap()
}
