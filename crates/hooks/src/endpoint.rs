//! One question to whoever answers, and what may come of it; asked again where that can help.

use std::time::Duration;

use aws_lc_rs::rand;
use tokio::time::sleep;

use crate::{exec::Exec, webhook::Webhook};

/// Longest answer that is read: some 100 bytes for each of 10,000 replicas.
pub(crate) const MAX_ANSWER: usize = 1024 * 1024;

/// How often one question is asked at most.
const ATTEMPTS: u32 = 3;
/// Before it is asked for the second time; each further time waits twice as long. Half of it is by chance, so that
/// controllers that failed together do not come back together.
const FIRST_PAUSE: Duration = Duration::from_millis(250);
/// A longer pause than this is not waited out here: the loop goes on without an answer.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// Whoever answers.
#[derive(Debug)]
pub(crate) enum Endpoint {
    Webhook(Webhook),
    Exec(Exec),
}

/// What came of one attempt.
#[derive(Debug)]
pub(crate) enum Attempt {
    /// An answer, to be read.
    Answer(Vec<u8>),
    /// A refusal, or a mistake of ours: the same again would be refused again.
    Refused {
        /// In words.
        why: String,
        /// What was said.
        body: Vec<u8>,
    },
    /// No answer: whether anything was done is not known.
    Silence {
        /// In words.
        why: String,
        /// When the endpoint wants to be asked again, if it said so.
        retry_after: Option<Duration>,
    },
}

/// Why there is no answer.
#[derive(Debug)]
pub(crate) enum CallError {
    Refused { why: String, body: Vec<u8> },
    Silence { why: String, retry_after: Option<Duration> },
}

impl Endpoint {
    /// Asks, and asks again where nobody answered.
    pub(crate) async fn call(&self, body: &[u8], key: Option<&str>) -> Result<Vec<u8>, CallError> {
        let mut attempt = 1;
        loop {
            let outcome = match self {
                Endpoint::Webhook(webhook) => webhook.post(body, key).await,
                Endpoint::Exec(exec) => exec.run(body).await,
            };
            match outcome {
                Attempt::Answer(answer) => return Ok(answer),
                Attempt::Refused { why, body } => return Err(CallError::Refused { why, body }),
                Attempt::Silence { why, retry_after } => {
                    let pause = retry_after.unwrap_or_else(|| jittered(FIRST_PAUSE * 2_u32.pow(attempt - 1)));
                    if attempt == ATTEMPTS || pause > LONGEST_PAUSE {
                        return Err(CallError::Silence { why, retry_after });
                    }
                    tracing::debug!(why, attempt, ?pause, "no answer, asked again");
                    sleep(pause).await;
                    attempt += 1;
                }
            }
        }
    }
}

/// Half of it, and up to half more.
fn jittered(pause: Duration) -> Duration {
    let [chance, ..] = random();
    pause / 2 + (pause / 2).mul_f64(f64::from(chance) / f64::from(u8::MAX))
}

/// A key that no other decision has.
pub(crate) fn new_key() -> String {
    crate::signature::hex(&random())
}

fn random() -> [u8; 16] {
    let mut bytes = [0; 16];
    // It fails only where the system has no randomness at all, and then TLS does not work either.
    if rand::fill(&mut bytes).is_err() {
        tracing::error!("the system gives no random numbers");
    }
    bytes
}
