//! Those who submit and those who poll, a task of tokio's each.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use pingora::http::RequestHeader;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};
use url::form_urlencoded;

use super::connection::{Line, Site};
use crate::storm::Plan;
use crate::storm::answer::{Said, Trouble, read};
use crate::storm::schedule::Schedule;
use crate::storm::tally::{Tally, Times};

/// A task's id: `None` until its submit is over; then `None` inside where there is none.
type Id = Option<Option<Arc<str>>>;

/// What all of them share.
pub(super) struct Storm {
    pub(super) plan: Plan,
    pub(super) site: Site,
    pub(super) tally: Mutex<Tally>,
    key: String,
    start: Instant,
    ids: Vec<watch::Sender<Id>>,
    /// Set once everything shall stop.
    stop: watch::Sender<bool>,
}

impl Storm {
    /// Begins now.
    pub(super) fn new(plan: Plan, site: Site, key: String) -> Arc<Self> {
        #[expect(clippy::disallowed_methods, reason = "delays are what is measured")]
        let start = Instant::now();
        Arc::new(Self {
            tally: Mutex::new(Tally::new(plan.tasks)),
            ids: (0..plan.tasks).map(|_| watch::Sender::new(None)).collect(),
            stop: watch::Sender::new(false),
            plan,
            site,
            key,
            start,
        })
    }

    /// How long it has gone on.
    pub(super) fn elapsed(&self) -> Duration {
        self.start.elapsed()
    }

    /// Ends it before its time.
    pub(super) fn stop(&self) {
        self.stop.send_replace(true);
    }

    /// Whether it was.
    pub(super) fn is_stopped(&self) -> bool {
        *self.stop.borrow()
    }

    async fn stopped(&self) {
        // The sender lives as long as `self`, so there is no error.
        drop(self.stop.subscribe().wait_for(|stop| *stop).await);
    }

    /// Submits one task when it is due, once.
    pub(super) async fn submit(self: Arc<Self>, task: usize) {
        tokio::select! {
            biased;
            () = self.submit_when_due(task) => {}
            () = self.stopped() => {}
        }
        // For those who poll it.
        if let Some(id) = self.ids.get(task) {
            id.send_if_modified(|id| id.is_none() && id.replace(None).is_none());
        }
    }

    async fn submit_when_due(&self, task: usize) {
        let due = self.plan.submit_due(task);
        sleep_until(self.start + due).await;
        let begun = self.elapsed();
        let form = Bytes::from(self.plan.submit_body(task, &self.key));
        let told = match self.site.header("/in.php", Some(&form)) {
            Ok(header) => Line::default().ask(&self.site, &header, Some(&form)).await,
            Err(_) => Err(Trouble::Write),
        };
        let times = Times { due, begun, done: self.elapsed() };
        let sent = told.as_ref().map_or(begun, |told| told.sent.saturating_duration_since(self.start));
        let said = told.and_then(|told| read(&told.body));
        let ready = self.plan.solve_time(task).map(|time| sent + time);
        self.tally.lock().submitted(task, times, &said, ready);
        if let (Some(known), Ok(Said::Ok(id))) = (self.ids.get(task), said) {
            known.send_replace(Some(Some(Arc::from(id))));
        }
    }

    /// Polls until the end.
    pub(super) async fn poll(self: Arc<Self>, client: usize) {
        let mut client = Client::new(&self, client);
        tokio::select! {
            biased;
            () = client.run() => {}
            () = self.stopped() => {}
        }
        client.settle();
    }
}

/// A poll that is not answered yet.
struct Pending {
    due: Duration,
    /// When its client turned to it, and whether it was free until then.
    begun: Option<(Duration, bool)>,
}

/// One that polls.
struct Client<'a> {
    storm: &'a Storm,
    task: usize,
    schedule: Schedule,
    line: Line,
    pending: Option<Pending>,
    /// Whether further polls of its schedule count: it has an id, and not the final answer that it shall stop at.
    polls: bool,
}

impl<'a> Client<'a> {
    fn new(storm: &'a Storm, client: usize) -> Self {
        let task = client % storm.plan.tasks.max(1);
        let schedule = Schedule::new(&storm.plan, client);
        Self { storm, task, schedule, line: Line::default(), pending: None, polls: false }
    }

    async fn run(&mut self) {
        let (storm, length) = (self.storm, self.storm.plan.length);
        let Some(header) = self.header().await else { return };
        // Nobody can mean to poll what has no id; from now on every poll counts that becomes due.
        let known = storm.elapsed();
        self.polls = true;
        while let Some(due) = self.schedule.by_ref().find(|due| *due >= known).filter(|due| *due < length) {
            self.pending = Some(Pending { due, begun: None });
            let now = storm.elapsed();
            if now >= length {
                return;
            }
            let was_free = now <= due;
            sleep_until(storm.start + due).await;
            let begun = storm.elapsed();
            self.pending = Some(Pending { due, begun: Some((begun, was_free)) });
            let told = self.line.ask(&storm.site, &header, None).await;
            self.pending = None;
            let said = told.and_then(|told| read(&told.body));
            let times = Times { due, begun, done: storm.elapsed() };
            storm.tally.lock().polled(self.task, times, was_free, &said);
            if storm.plan.stop_when_answered && matches!(said, Ok(Said::Ok(_) | Said::Failed)) {
                self.polls = false;
                return;
            }
        }
    }

    /// The header of every poll, once the task has an id.
    async fn header(&self) -> Option<RequestHeader> {
        let mut id = self.storm.ids.get(self.task)?.subscribe();
        let id = id.wait_for(Option::is_some).await.ok()?.clone().flatten()?;
        let mut query = form_urlencoded::Serializer::new("/res.php?".to_owned());
        query.append_pair("key", &self.storm.key).append_pair("action", "get").append_pair("id", &id);
        self.storm.site.header(&query.finish(), None).ok()
    }

    /// Counts what was due and has no answer.
    fn settle(&mut self) {
        let now = self.storm.elapsed();
        let end = now.min(self.storm.plan.length);
        let mut tally = self.storm.tally.lock();
        if let Some(Pending { due, begun }) = self.pending.take() {
            match begun {
                Some((begun, was_free)) => tally.cut_short(Times { due, begun, done: now }, was_free),
                None if due < end => tally.unsent(due, now),
                None => {}
            }
        }
        if self.polls {
            for due in self.schedule.by_ref().take_while(|due| *due < end) {
                tally.unsent(due, now);
            }
        }
    }
}
