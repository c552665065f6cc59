//! The one call of EC2 that is needed. Its SDK takes minutes to compile.

use std::{
    collections::BTreeMap,
    time::{Duration, SystemTime},
};

use aws_config::SdkConfig;
use aws_credential_types::provider::{ProvideCredentials, SharedCredentialsProvider};
use aws_sigv4::{
    http_request::{SignableBody, SignableRequest, SigningSettings, sign},
    sign::v4,
};
use reqwest::Client;
use roxmltree::{Document, Node};

use crate::{account::AccountError, error::CallError};

const ACTION: &str = "ec2:DescribeInstances";
const TIMEOUT: Duration = Duration::from_secs(10);
/// Instances in one call: an answer has some 5 KB for each.
const PER_CALL: usize = 100;
const FORM: &str = "application/x-www-form-urlencoded";

/// What is known of an instance.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct InstanceFacts {
    pub(crate) private_ip: Option<String>,
    pub(crate) public_ip: Option<String>,
    pub(crate) private_dns: Option<String>,
    pub(crate) launched: Option<jiff::Timestamp>,
    /// `spot` or `on-demand`.
    pub(crate) spot: bool,
}

impl InstanceFacts {
    /// The address that a template means; `None` while a part of it is not known.
    pub(crate) fn address(&self, template: &str, instance: &str) -> Option<String> {
        let mut address = template.replace("{instanceId}", instance);
        let parts = [
            ("{privateIp}", &self.private_ip),
            ("{publicIp}", &self.public_ip),
            ("{privateDns}", &self.private_dns),
        ];
        for (part, value) in parts {
            if address.contains(part) {
                address = address.replace(part, value.as_deref()?);
            }
        }
        Some(address)
    }
}

/// The API of EC2 in one region.
#[derive(Debug)]
pub(crate) struct Ec2 {
    client: Client,
    url: String,
    region: String,
    credentials: Option<SharedCredentialsProvider>,
}

impl Ec2 {
    pub(crate) fn new(sdk: &SdkConfig, region: &str) -> Result<Self, AccountError> {
        let client = Client::builder().timeout(TIMEOUT).build();
        let client = client.map_err(|error| AccountError::Client(error.to_string()))?;
        let own = std::env::var("AWS_ENDPOINT_URL_EC2").ok();
        let url = own.or_else(|| sdk.endpoint_url().map(str::to_owned)).unwrap_or_else(|| {
            let domain = if region.starts_with("cn-") { "amazonaws.com.cn" } else { "amazonaws.com" };
            format!("https://ec2.{region}.{domain}")
        });
        let url = format!("{}/", url.trim_end_matches('/'));
        Ok(Self { client, url, region: region.to_owned(), credentials: sdk.credentials_provider() })
    }

    /// What is known of these instances; those that EC2 does not know yet, or any more, are left out.
    pub(crate) async fn describe(
        &self,
        instances: &[String],
    ) -> Result<BTreeMap<String, InstanceFacts>, CallError> {
        let mut facts = BTreeMap::new();
        for instances in instances.chunks(PER_CALL) {
            let mut body = "Action=DescribeInstances&Version=2016-11-15".to_owned();
            // By a filter: an id that is not known yet is no error then.
            body.push_str("&Filter.1.Name=instance-id");
            for (index, instance) in instances.iter().enumerate() {
                body.push_str(&format!("&Filter.1.Value.{}={instance}", index + 1));
            }
            facts.extend(self.ask(body).await?);
        }
        Ok(facts)
    }

    async fn ask(&self, body: String) -> Result<BTreeMap<String, InstanceFacts>, CallError> {
        let no_answer = |reason: String| CallError::NoAnswer { action: ACTION, reason };
        let mut request = self.client.post(&self.url).header("content-type", FORM);
        for (name, value) in self.signature(&body).await? {
            request = request.header(name, value);
        }
        let answer = request.body(body).send().await;
        let answer = answer.map_err(|error| no_answer(error.without_url().to_string()))?;
        let status = answer.status();
        let text = answer.text().await.map_err(|error| no_answer(error.without_url().to_string()))?;
        match read(&text) {
            Ok(facts) if status.is_success() => Ok(facts),
            Ok(_) => Err(error_in(&text).unwrap_or_else(|| no_answer(format!("HTTP {status}")))),
            Err(_) if !status.is_success() => Err(no_answer(format!("HTTP {status}"))),
            Err(error) => Err(no_answer(format!("the answer is no XML: {error}"))),
        }
    }

    /// The headers that prove who asks (Signature Version 4).
    async fn signature(&self, body: &str) -> Result<Vec<(String, String)>, CallError> {
        let failed = |reason: String| CallError::NoAnswer { action: ACTION, reason };
        let provider = self.credentials.as_ref().ok_or_else(|| failed("there are no credentials".into()))?;
        let credentials = provider
            .provide_credentials()
            .await
            .map_err(|error| failed(format!("no credentials: {error}")))?;
        let identity = credentials.into();
        let params = v4::SigningParams::builder()
            .identity(&identity)
            .region(&self.region)
            .name("ec2")
            .time(SystemTime::now())
            .settings(SigningSettings::default())
            .build()
            .map_err(|error| failed(error.to_string()))?
            .into();
        let headers = std::iter::once(("content-type", FORM));
        let body = SignableBody::Bytes(body.as_bytes());
        let request = SignableRequest::new("POST", &self.url, headers, body);
        let request = request.map_err(|error| failed(error.to_string()))?;
        let (instructions, _) =
            sign(request, &params).map_err(|error| failed(error.to_string()))?.into_parts();
        Ok(instructions.headers().map(|(name, value)| (name.to_owned(), value.to_owned())).collect())
    }
}

/// The instances of an answer.
fn read(text: &str) -> Result<BTreeMap<String, InstanceFacts>, roxmltree::Error> {
    let document = Document::parse(text)?;
    let sets = document.descendants().filter(|node| node.has_tag_name_in_any("instancesSet"));
    let items = sets.flat_map(|set| set.children().filter(|node| node.has_tag_name_in_any("item")));
    Ok(items.filter_map(|item| Some((text_of(item, "instanceId")?, facts(item)))).collect())
}

fn facts(item: Node<'_, '_>) -> InstanceFacts {
    InstanceFacts {
        private_ip: text_of(item, "privateIpAddress"),
        public_ip: text_of(item, "ipAddress"),
        private_dns: text_of(item, "privateDnsName"),
        launched: text_of(item, "launchTime").and_then(|time| time.parse().ok()),
        spot: text_of(item, "instanceLifecycle").as_deref() == Some("spot"),
    }
}

/// The text of a child; empty is none.
fn text_of(item: Node<'_, '_>, name: &str) -> Option<String> {
    let child = item.children().find(|node| node.has_tag_name_in_any(name))?;
    child.text().filter(|text| !text.is_empty()).map(str::to_owned)
}

fn error_in(text: &str) -> Option<CallError> {
    let document = Document::parse(text).ok()?;
    let error = document.descendants().find(|node| node.has_tag_name_in_any("Error"))?;
    let code = text_of(error, "Code")?;
    Some(CallError::answered(ACTION, &code, &text_of(error, "Message").unwrap_or_default()))
}

/// The namespace has the API's version in it, and proxies leave it out.
trait InAnyNamespace {
    fn has_tag_name_in_any(&self, name: &str) -> bool;
}

impl InAnyNamespace for Node<'_, '_> {
    fn has_tag_name_in_any(&self, name: &str) -> bool {
        self.tag_name().name() == name
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ANSWER: &str = "<DescribeInstancesResponse xmlns='http://ec2.amazonaws.com/doc/2016-11-15/'>\
        <reservationSet><item><instancesSet><item><instanceId>i-1</instanceId>\
        <privateIpAddress>10.0.0.7</privateIpAddress><ipAddress/><privateDnsName>ip-10-0-0-7.internal</privateDnsName>\
        <launchTime>2026-11-25T19:22:57.000Z</launchTime><instanceLifecycle>spot</instanceLifecycle>\
        <networkInterfaceSet><item><privateIpAddress>10.9.9.9</privateIpAddress></item></networkInterfaceSet>\
        </item></instancesSet></item><item><instancesSet><item><instanceId>i-2</instanceId></item></instancesSet>\
        </item></reservationSet></DescribeInstancesResponse>";

    #[test]
    fn an_answer_is_read_by_instance() {
        let facts = read(ANSWER).expect("XML");
        assert_eq!(facts.len(), 2);
        let first = &facts["i-1"];
        assert!(first.spot);
        assert_eq!(first.launched, "2026-11-25T19:22:57Z".parse().ok());
        let address = |template: &str| first.address(template, "i-1");
        assert_eq!(address("{privateIp}:8000").as_deref(), Some("10.0.0.7:8000"));
        assert_eq!(address("{instanceId}.llm:80").as_deref(), Some("i-1.llm:80"));
        assert_eq!(address("{privateDns}:80").as_deref(), Some("ip-10-0-0-7.internal:80"));
        assert_eq!(address("{publicIp}:80"), None, "an address that is not known yet is none");
        assert_eq!(facts["i-2"], InstanceFacts::default());
    }

    #[test]
    fn an_error_has_its_code() {
        let text = "<Response><Errors><Error><Code>RequestLimitExceeded</Code><Message>slow</Message></Error></Errors>\
                    </Response>";
        assert!(matches!(error_in(text), Some(CallError::Throttled { .. })));
        let text = text.replace("RequestLimitExceeded", "UnauthorizedOperation");
        assert!(matches!(error_in(&text), Some(CallError::Refused { .. })));
        assert_eq!(error_in("<html/>"), None);
    }
}
