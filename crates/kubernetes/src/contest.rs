//! Somebody else writes the target's number of replicas: who, and for how long to stay out of the way.

use std::time::Duration;

use forewarm_core::Timestamp;

use crate::target::TargetView;

/// The first time to stay away after another wrote the number: a person who scales by hand is left alone for it…
const FIRST_BACKOFF: Duration = Duration::from_secs(60);
/// …and it doubles with each time, up to this.
const LONGEST_BACKOFF: Duration = Duration::from_secs(15 * 60);
/// After so long without another writer the next one is the first again.
const FORGET: Duration = Duration::from_secs(60 * 60);

/// What is known about other writers of one target.
#[derive(Clone, Debug, Default)]
pub struct Contest {
    /// The target and the number that was written to it, or that was there when we began.
    ours: Option<(Box<str>, u32)>,
    strikes: u32,
    last: Option<Timestamp>,
    until: Option<Timestamp>,
    who: String,
}

impl Contest {
    /// Takes in the number as it is, and who wrote it.
    pub fn sees(&mut self, target: &TargetView, now: Timestamp) {
        match &self.ours {
            // Nothing of ours was there to be overwritten.
            None => return,
            Some((uid, _)) if *uid != target.uid => {
                self.ours = None;
                return;
            }
            Some((_, replicas)) if *replicas == target.desired => return,
            Some(_) => {}
        }
        if self.last.is_some_and(|last| now.since(last) > FORGET) {
            self.strikes = 0;
        }
        self.strikes += 1;
        self.last = Some(now);
        let backoff = FIRST_BACKOFF * 2_u32.pow((self.strikes - 1).min(8));
        self.until = Some(now + backoff.min(LONGEST_BACKOFF));
        let who = target.writer.as_ref().map_or("somebody".to_owned(), ToString::to_string);
        self.who = format!("{who} set the number of replicas to {}", target.desired);
        self.ours = Some((target.uid.clone(), target.desired));
    }

    /// The number was written.
    pub fn wrote(&mut self, target: &TargetView, replicas: u32) {
        self.ours = Some((target.uid.clone(), replicas));
    }

    /// Who wrote last and until when to stay away, while that is so.
    pub fn standing(&self, now: Timestamp) -> Option<(&str, Timestamp)> {
        let until = self.until.filter(|until| now < *until)?;
        Some((&self.who, until))
    }
}
